"""What a run leaves behind: the one contract between running (`scenarios`) and learning (`lab`).

Records are plain data. `lab` computes every metric, figure and report from them and never touches a replica, a ledger
or a clock. Times are integer nanoseconds, of virtual time or since the load began on a real bus; days are calendar days
as floats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

DECISION_COLUMNS = {
    "seq": pl.Int64,
    "view": pl.Int64,
    "transactions": pl.Int64,
    "bytes": pl.Int64,
    "proposed_ns": pl.Int64,  # the PrePrepare left the primary
    "quorum_ns": pl.Int64,  # the q-th replica had committed it
    "all_ns": pl.Int64,  # the last live honest replica had committed it; -1 if some never did
}

REQUEST_COLUMNS = {
    "client": pl.Utf8,
    "sequence": pl.Int64,
    "intended_ns": pl.Int64,  # when the client meant to submit (no coordinated omission)
    "submitted_ns": pl.Int64,
    "replied_ns": pl.Int64,  # f+1 matching replies; -1 if never
    "seq": pl.Int64,  # the consensus sequence that executed it; -1 if unknown
    "type": pl.Utf8,  # transaction type, "" in synthetic workloads
    "code": pl.Utf8,  # receipt code, "" in synthetic workloads
}

APPLICATION_COLUMNS = {
    "arm": pl.Utf8,  # paper | database | chain
    "application": pl.Int64,
    "firm": pl.Utf8,
    "bank": pl.Utf8,
    "on_platform": pl.Boolean,
    "new_customer": pl.Boolean,
    "currency": pl.Utf8,
    "amount_minor": pl.Int64,
    "declarations": pl.Int64,
    "submitted_ns": pl.Int64,
    "finished_ns": pl.Int64,  # -1 while unfinished when the run ended
    "days": pl.Float64,  # calendar days from application to money, null unless paid out
    "outcome": pl.Utf8,  # disbursed | rejected | unfinished
    "code": pl.Utf8,  # rejection code, "" where none
    "kind": pl.Utf8,  # "" for an honest application, else the fraud or error kind F1..F23
    "ledger_ms": pl.Float64,  # time spent waiting for the ledger, summed over its steps; null in the paper arm
}

STAGE_COLUMNS = {
    "arm": pl.Utf8,
    "application": pl.Int64,
    "stage": pl.Utf8,  # B1..B10, D1..D6
    "begin_ns": pl.Int64,
    "end_ns": pl.Int64,
    "waiting_ns": pl.Int64,  # of it: queue for an officer or closed hours before work began
}

ROUND_COLUMNS = {
    "kind": pl.Utf8,
    "sender": pl.Utf8,
    "receiver": pl.Utf8,
    "sent_ns": pl.Int64,
    "arrived_ns": pl.Int64,
    "view": pl.Int64,
    "seq": pl.Int64,
}


def table(columns: dict[str, Any], rows: list[tuple[Any, ...]] | None = None) -> pl.DataFrame:
    """A data frame with exactly these columns and types, also when there are no rows."""
    return pl.DataFrame(rows or [], schema=columns, orient="row")


@dataclass(slots=True)
class Records:
    """Everything a finished (or interrupted) run knows about itself."""

    scenario: dict[str, Any]  # the resolved scenario, JSON-ready
    name: str
    seed: int
    protocol: str
    bus: str
    engine: str
    nodes: list[str]  # replica i is nodes[i]
    quorum: int
    faults_tolerated: int
    engine_why: str = ""  # none of the faster ones, or another from some moment on
    complete: bool = True  # False after Ctrl-C
    places: dict[str, tuple[str, float, float]] = field(default_factory=dict)  # node -> (city, lat, lon)
    edges: list[tuple[str, str]] = field(default_factory=list)
    virtual_ns: int = 0
    wall_seconds: float = 0.0
    trace_digest: str = ""
    messages: dict[str, int] = field(default_factory=dict)  # sent, by kind (names of the protocol's messages)
    bytes_sent: int = 0
    view_changes: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)  # messages lost by cause: loss, crash, partition
    evidence: list[dict[str, Any]] = field(default_factory=list)
    # begin_ns, end_ns (-1: to the end of the run), what, who
    faults: list[tuple[int, int, str, str]] = field(default_factory=list)
    decisions: pl.DataFrame = field(default_factory=lambda: table(DECISION_COLUMNS))
    requests: pl.DataFrame = field(default_factory=lambda: table(REQUEST_COLUMNS))
    applications: pl.DataFrame = field(default_factory=lambda: table(APPLICATION_COLUMNS))
    stages: pl.DataFrame = field(default_factory=lambda: table(STAGE_COLUMNS))
    round: pl.DataFrame = field(
        default_factory=lambda: table(ROUND_COLUMNS)
    )  # one PBFT round, message by message
    sensitivity: dict[str, Any] = field(
        default_factory=dict
    )  # arm -> {"low"|"base"|"high": {...medians in days}}
    ledger: dict[str, Any] = field(
        default_factory=dict
    )  # height, state_root (hex), accepted, rejected {code: n}
    fraud: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # kind -> injected, caught, missed, in_scope
    false_alarms: int = 0
    coverage: list[dict[str, Any]] = field(
        default_factory=list
    )  # rows of coverage, kind, injected, caught, missed
    points: list[dict[str, Any]] = field(default_factory=list)  # of a scenario that varies: a row a run
    invariants_checked: list[str] = field(default_factory=list)
    violations: list[dict[str, Any]] = field(default_factory=list)
    live: dict[str, Any] = field(default_factory=dict)  # of a run over a real bus only: docs/results.md

    def ran_by(self, engine: str, why: str) -> None:
        """*engine* did the run; *why*: none of the faster ones. `collect` has told of another that went on with it."""
        self.engine = engine
        self.engine_why = "; ".join(filter(None, [why, self.engine_why]))
