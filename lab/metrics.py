"""From records to the result document, version 1 (`result.json`, `--json`). docs/results.md describes every
key.

Three rules. Time is subtracted as integer nanoseconds and only then becomes milliseconds. A distribution of
nothing is null, never zero. Ledger latency (milliseconds) and process latency (days) are never mixed in one
number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import polars as pl
from tradebft.scenarios.records import Records

SCHEMA_VERSION = 1
ARMS = ("paper", "database", "chain")
PERCENTILES = {"p10": 10, "p50": 50, "p90": 90, "p99": 99}
WITHIN_DAYS = 7.0
DAY_NS = 86_400 * 10**9

# The names of Castro and Liskov's messages, so that a count of none reads 0 and not as a missing key.
PBFT_KINDS = (
    "Request",
    "PrePrepare",
    "Prepare",
    "Commit",
    "Reply",
    "Checkpoint",
    "ViewChange",
    "NewView",
    "Fetch",
    "FetchReply",
    "Status",
)


def distribution(values: Iterable[float] | np.ndarray[Any, Any] | pl.Series) -> dict[str, float | int | None]:
    """Count, mean, std, percentiles and maximum, in the unit of the values.

    Percentiles interpolate linearly between order statistics (Hyndman and Fan's type 7, numpy's default).
    std is the population's (divided by count): the values are all the events of the run, not a sample of
    them. Figures are rounded to six decimals, so that the last bit of a platform's floating point does not
    show.
    """
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    array = array[np.isfinite(array)]
    if array.size == 0:
        return {"count": 0, **dict.fromkeys(("mean", "std", *PERCENTILES, "max"))}
    percentiles = np.percentile(array, list(PERCENTILES.values()), method="linear")
    return {
        "count": int(array.size),
        "mean": _rounded(array.mean()),
        "std": _rounded(array.std()),
        **{name: _rounded(value) for name, value in zip(PERCENTILES, percentiles, strict=True)},
        "max": _rounded(array.max()),
    }


def document(records: Records) -> dict[str, Any]:
    """The result document, ready for strict JSON: no NaN, no infinity, string keys only."""
    made: dict[str, Any] = strict(
        {
            "schema_version": SCHEMA_VERSION,
            "version": tradebft_version(),
            "scenario": records.name,
            "title": records.scenario.get("title", ""),
            "seed": records.seed,
            "complete": records.complete,
            "protocol": records.protocol,
            "bus": records.bus,
            "engine": records.engine,
            "nodes": len(records.nodes),
            "quorum": records.quorum,
            "faults_tolerated": records.faults_tolerated,
            "virtual_seconds": records.virtual_ns / 1e9,
            "wall_seconds": records.wall_seconds,
            "trace_digest": records.trace_digest,
            "consensus": consensus(records),
            "throughput": throughput(records),
            "processes": processes(records),
            "ledger": {
                "height": records.ledger.get("height", 0),
                "state_root": records.ledger.get("state_root", ""),
                "accepted": records.ledger.get("accepted", 0),
                "rejected": dict(sorted(dict(records.ledger.get("rejected", {})).items())),
            },
            "fraud": {kind: dict(records.fraud[kind]) for kind in sorted(records.fraud, key=kind_order)},
            "false_alarms": records.false_alarms,
            "invariants": {
                "checked": list(records.invariants_checked),
                "violations": list(records.violations),
            },
            "coverage": list(records.coverage),
            "points": list(records.points),
            "faults": [
                {
                    "begin_seconds": begin / 1e9,
                    "end_seconds": None if end < 0 else end / 1e9,
                    "what": what,
                    "who": who,
                }
                for begin, end, what, who in records.faults
            ],
            "evidence": list(records.evidence),
            "network": {
                "members": list(records.nodes),
                "places": {node: list(place) for node, place in records.places.items()},
                "edges": [list(edge) for edge in records.edges],
            },
            "settings": records.scenario,
            **({"live": dict(records.live)} if records.live else {}),
        }
    )
    return made


def consensus(records: Records) -> dict[str, Any]:
    """What the protocol did: batches, messages, bytes, view changes and three latencies in milliseconds."""
    decisions, requests = records.decisions, records.requests
    decided = decisions.filter(pl.col("quorum_ns") >= 0)
    everywhere = decisions.filter(pl.col("all_ns") >= 0)
    answered = requests.filter(pl.col("replied_ns") >= 0)
    known = dict.fromkeys(PBFT_KINDS, 0) if records.protocol == "pbft" else {}
    kinds = known | records.messages
    return {
        "decided_batches": decided.height,
        "transactions": int(decided["transactions"].sum()),
        "messages": {"total": sum(kinds.values()), **kinds},
        "bytes": records.bytes_sent,
        "view_changes": records.view_changes,
        "decision_ms": _milliseconds(decided, "proposed_ns", "quorum_ns"),
        "all_commit_ms": _milliseconds(everywhere, "proposed_ns", "all_ns"),
        # Counted from when the client meant to submit: a client that could not is not excused.
        "client_ms": _milliseconds(answered, "intended_ns", "replied_ns"),
        "unanswered": requests.height - answered.height,
        "ignored": dict(sorted(records.ignored.items())),
        "dropped": dict(sorted(records.dropped.items())),
    }


def throughput(records: Records) -> dict[str, float | None]:
    """Requests a second of virtual time, offered and committed.

    Offered: (count - 1) / (last intended - first intended). Committed: answered requests / (end - first
    intended), where the end is the last reply or the last intended submission, whichever is later, and the
    end of the run if a request stayed unanswered: a system that stops answering must not look fast.
    """
    requests = records.requests
    if requests.height == 0:
        return {"offered_per_second": None, "committed_per_second": None}
    first, last = _integer(requests["intended_ns"].min()), _integer(requests["intended_ns"].max())
    answered = requests.filter(pl.col("replied_ns") >= 0)
    end = max(last, _integer(answered["replied_ns"].max()) if answered.height else last)
    if answered.height < requests.height:
        end = max(end, records.virtual_ns)
    return {
        "offered_per_second": _per_second(requests.height - 1, last - first),
        "committed_per_second": _per_second(answered.height, end - first),
    }


def processes(records: Records) -> dict[str, Any]:
    """Calendar days from application to money, an entry an arm, and the sensitivity of their medians."""
    found = [str(arm) for arm in records.applications["arm"].unique().to_list()]
    arms = [*ARMS, *sorted(set(found) - set(ARMS))]
    entries: dict[str, Any] = {
        arm: _arm(records.applications.filter(pl.col("arm") == arm), records.virtual_ns) for arm in arms
    }
    entries["sensitivity"] = {arm: dict(records.sensitivity[arm]) for arm in sorted(records.sensitivity)}
    return entries


def _arm(applications: pl.DataFrame, end_ns: int) -> dict[str, Any]:
    honest = applications.filter(pl.col("kind") == "")
    paid = honest.filter((pl.col("outcome") == "disbursed") & pl.col("days").is_not_null())
    return {
        "new_customer_days": distribution(paid.filter(pl.col("new_customer"))["days"]),
        "existing_customer_days": distribution(paid.filter(~pl.col("new_customer"))["days"]),
        "within_7_days": _share_within(honest.filter(pl.col("new_customer")), end_ns),
        "applications": applications.height,
        "honest": honest.height,
        "disbursed": paid.height,
        "rejected": honest.filter(pl.col("outcome") == "rejected").height,
        # Right-censored: where these are many, the days above are too kind to the slow arm.
        "unfinished": honest.filter(pl.col("outcome") == "unfinished").height,
        "frauds": applications.height - honest.height,
        "frauds_disbursed": applications.filter(
            (pl.col("kind") != "") & (pl.col("outcome") == "disbursed")
        ).height,
        "ledger_ms": distribution(paid["ledger_ms"].drop_nulls()),
    }


def _share_within(honest: pl.DataFrame, end_ns: int) -> float | None:
    """Share paid within seven days, of those whose fate is known: decided, or already open for longer than
    that.
    """
    decided = pl.col("outcome") != "unfinished"
    overdue = (pl.lit(end_ns) - pl.col("submitted_ns")) > int(WITHIN_DAYS * DAY_NS)
    known = honest.filter(decided | overdue)
    if known.height == 0:
        return None
    quick = known.filter((pl.col("outcome") == "disbursed") & (pl.col("days") <= WITHIN_DAYS))
    return _rounded(quick.height / known.height)


def closed_form(nodes: int, batches: int, transactions: int) -> dict[str, int]:
    """Messages that PBFT's normal case sends without faults (Castro and Liskov 1999, section 4.2).

    A batch: one PrePrepare to each backup, a Prepare from each backup to everybody else, a Commit from
    everybody to everybody else. A client request: one Reply from every replica.
    """
    return {
        "PrePrepare": batches * (nodes - 1),
        "Prepare": batches * (nodes - 1) ** 2,
        "Commit": batches * nodes * (nodes - 1),
        "Reply": transactions * nodes,
    }


def strict(value: Any) -> Any:
    """The same value with NaN and infinities as None, numpy scalars as Python's, and string keys."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def kind_order(kind: str) -> tuple[int, str]:
    """F2 before F10; names without a number last, by the alphabet."""
    digits = kind[1:]
    return (int(digits), kind) if digits.isdigit() else (10**6, kind)


def tradebft_version() -> str:
    """The installed version, "unknown" when run from a tree that was never installed."""
    try:
        return version("tradebft")
    except PackageNotFoundError:
        return "unknown"


def _milliseconds(rows: pl.DataFrame, begin: str, end: str) -> dict[str, float | int | None]:
    nanoseconds = rows[end].to_numpy() - rows[begin].to_numpy()
    return distribution(nanoseconds / 1e6)


def _per_second(count: int, interval_ns: int) -> float | None:
    return _rounded(count * 1e9 / interval_ns) if interval_ns > 0 else None


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def _integer(value: Any) -> int:
    return int(value)
