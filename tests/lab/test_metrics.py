"""The result document: the issue of every figure is arithmetic that can be done by hand on a few rows."""

from __future__ import annotations

import json
import math
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from tradebft.lab import metrics
from tradebft.scenarios.records import (
    APPLICATION_COLUMNS,
    DECISION_COLUMNS,
    REQUEST_COLUMNS,
    Records,
    table,
)

KEYS = """
scenario seed protocol bus engine nodes quorum faults_tolerated virtual_seconds wall_seconds trace_digest
consensus throughput processes ledger fraud false_alarms invariants
"""
MS = 10**6
DAY = 86_400 * 10**9


def bare(**changes: Any) -> Records:
    named = {
        "scenario": {"title": "bare"},
        "name": "bare",
        "seed": 3,
        "protocol": "pbft",
        "bus": "simulated",
        "engine": "reference",
        "nodes": ["replica.0", "replica.1", "replica.2", "replica.3"],
        "quorum": 3,
        "faults_tolerated": 1,
    }
    return Records(**(named | changes))


def application(arm: str = "chain", days: float | None = 2.0, **changes: Any) -> tuple[Any, ...]:
    row = {
        "arm": arm,
        "application": 1,
        "firm": "firm.1",
        "bank": "commercial_bank.1",
        "on_platform": True,
        "new_customer": True,
        "currency": "USD",
        "amount_minor": 100,
        "declarations": 1,
        "submitted_ns": 0,
        "finished_ns": -1 if days is None else int(days * DAY),
        "days": days,
        "outcome": "disbursed",
        "code": "",
        "kind": "",
        "ledger_ms": None,
    }
    return tuple((row | changes)[column] for column in APPLICATION_COLUMNS)


def test_every_key_of_version_1_is_there(fake: ModuleType) -> None:
    document = metrics.document(fake.trade_records(applications=150))
    assert document["schema_version"] == 1
    assert document.keys() >= set(KEYS.split())
    distributions = [document["consensus"][key] for key in ("decision_ms", "all_commit_ms", "client_ms")]
    for arm in ("paper", "database", "chain"):
        entry = document["processes"][arm]
        distributions += [entry["new_customer_days"], entry["existing_customer_days"]]
        assert 0 <= entry["within_7_days"] <= 1
    for entry in distributions:
        assert list(entry) == ["count", "mean", "std", "p10", "p50", "p90", "p99", "max"]
    assert document["processes"]["sensitivity"]["paper"]["low"]["new_customer_days"] == 21.4
    assert set(document["ledger"]) == {"height", "state_root", "accepted", "rejected"}
    assert document["fraud"]["F1"] == {"injected": 9, "caught": 9, "missed": 0, "in_scope": True}
    assert document["invariants"]["violations"] == []


def test_a_run_without_applications_has_the_same_keys_with_nulls(fake: ModuleType) -> None:
    document = metrics.document(fake.synthetic_records(transactions=20))
    chain = document["processes"]["chain"]
    assert chain["new_customer_days"] == {
        "count": 0,
        **dict.fromkeys(("mean", "std", "p10", "p50", "p90", "p99", "max")),
    }
    assert chain["within_7_days"] is None
    assert document["processes"]["sensitivity"] == {}


def test_the_document_is_strict_json_even_where_records_hold_nan() -> None:
    records = bare(wall_seconds=math.nan, sensitivity={"paper": {"low": {"new_customer_days": float("inf")}}})
    document = metrics.document(records)
    assert document["wall_seconds"] is None
    assert document["processes"]["sensitivity"]["paper"]["low"]["new_customer_days"] is None
    json.dumps(document, allow_nan=False)


def test_percentiles_interpolate_and_std_is_the_populations() -> None:
    found = metrics.distribution([1.0, 2.0, 3.0, 4.0])
    assert found == {
        "count": 4,
        "mean": 2.5,
        "std": round(math.sqrt(1.25), 6),
        "p10": 1.3,
        "p50": 2.5,
        "p90": 3.7,
        "p99": 3.97,
        "max": 4.0,
    }
    assert metrics.distribution([5.0])["std"] == 0.0


def test_latencies_are_subtracted_as_integers_and_unfinished_ones_are_left_out() -> None:
    late = 2**53  # beyond it a float no longer tells one nanosecond from the next
    decisions = table(
        DECISION_COLUMNS,
        [
            (1, 0, 3, 9, late, late + 7 * MS, late + 9 * MS),
            (2, 0, 1, 9, 0, 11 * MS, -1),
            (3, 0, 1, 9, 0, -1, -1),
        ],
    )
    consensus = metrics.document(bare(decisions=decisions))["consensus"]
    assert (consensus["decided_batches"], consensus["transactions"]) == (2, 4)
    assert (consensus["decision_ms"]["count"], consensus["decision_ms"]["mean"]) == (2, 9.0)
    assert (consensus["all_commit_ms"]["count"], consensus["all_commit_ms"]["max"]) == (1, 9.0)


def test_the_clients_latency_counts_from_when_it_meant_to_submit() -> None:
    requests = table(
        REQUEST_COLUMNS, [("c", 1, 0, 80 * MS, 100 * MS, 1, "", ""), ("c", 2, 0, 0, -1, -1, "", "")]
    )
    consensus = metrics.document(bare(requests=requests))["consensus"]
    assert consensus["client_ms"]["mean"] == 100.0
    assert consensus["unanswered"] == 1


def test_messages_are_totalled_and_kinds_never_sent_read_zero() -> None:
    counts = metrics.document(bare(messages={"PrePrepare": 3, "Prepare": 9}))["consensus"]["messages"]
    assert (counts["total"], counts["Prepare"], counts["ViewChange"]) == (12, 9, 0)
    other = metrics.document(bare(protocol="mylab.fast:Replica", messages={"Vote": 4}))["consensus"][
        "messages"
    ]
    assert other == {"total": 4, "Vote": 4}


def test_throughput_of_an_even_open_load_is_its_rate_and_silence_is_not_speed() -> None:
    rows = [("c", i, i * MS, i * MS, i * MS + 500_000, i, "", "") for i in range(1001)]
    found = metrics.document(bare(requests=table(REQUEST_COLUMNS, rows)))["throughput"]
    assert found["offered_per_second"] == 1000.0
    assert found["committed_per_second"] == pytest.approx(1000.0, rel=0.001)
    stalled = [row if i < 500 else (*row[:4], -1, -1, "", "") for i, row in enumerate(rows)]
    records = bare(requests=table(REQUEST_COLUMNS, stalled), virtual_ns=10 * 10**9)
    assert metrics.document(records)["throughput"]["committed_per_second"] == 50.0


def test_days_are_of_honest_applications_that_were_paid_out() -> None:
    rows = [
        application(days=2.0),
        application(days=6.0),
        application(days=1.0, kind="F3"),
        application(days=None, outcome="rejected"),
        application(days=3.0, new_customer=False),
    ]
    chain = metrics.document(bare(applications=table(APPLICATION_COLUMNS, rows)))["processes"]["chain"]
    assert (chain["new_customer_days"]["count"], chain["new_customer_days"]["mean"]) == (2, 4.0)
    assert chain["existing_customer_days"]["mean"] == 3.0
    assert (chain["honest"], chain["rejected"], chain["frauds_disbursed"]) == (4, 1, 1)
    assert chain["within_7_days"] == pytest.approx(2 / 3)


def test_who_waits_longer_than_a_week_counts_against_the_share_and_who_came_yesterday_does_not() -> None:
    end = 10 * DAY
    rows = [
        application(days=7.0),
        application(days=7.001),
        application(days=None, outcome="unfinished", submitted_ns=0),
        application(days=None, outcome="unfinished", submitted_ns=9 * DAY),
    ]
    records = bare(applications=table(APPLICATION_COLUMNS, rows), virtual_ns=end)
    chain = metrics.document(records)["processes"]["chain"]
    assert chain["within_7_days"] == pytest.approx(1 / 3)
    assert chain["unfinished"] == 2


@pytest.mark.parametrize("n", [4, 7, 16, 31])
def test_the_closed_form_counts_a_broadcast_to_everybody_else(n: int) -> None:
    backups = range(1, n)
    prepares = sum(1 for sender in backups for receiver in range(n) if receiver != sender)
    commits = sum(1 for sender in range(n) for receiver in range(n) if receiver != sender)
    assert metrics.closed_form(n, 1, 2) == {
        "PrePrepare": len(backups),
        "Prepare": prepares,
        "Commit": commits,
        "Reply": 2 * n,
    }


def test_kinds_of_fraud_are_in_the_order_of_their_numbers() -> None:
    row = {"injected": 1, "caught": 1, "missed": 0, "in_scope": True}
    document = metrics.document(bare(fraud={"F10": row, "F2": row, "other": row, "F1": row}))
    assert list(document["fraud"]) == ["F1", "F2", "F10", "other"]


def test_numpy_and_polars_values_do_not_leak_into_the_document() -> None:
    found = metrics.strict({1: np.int64(3), "a": (np.float32(0.5),), "b": [True, None, "x"]})
    assert found == {"1": 3, "a": [0.5], "b": [True, None, "x"]}
    assert type(found["1"]) is int
    assert metrics.distribution(pl.Series([1, 2, 3]))["mean"] == 2.0
