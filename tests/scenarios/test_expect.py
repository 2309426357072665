"""Expectations are judged against the result document, and what cannot be judged has failed."""

import math

import pytest
from tradebft.scenarios.expect import evaluate, failures, flatten, parse

DOCUMENT = {
    "consensus": {"client_ms": {"p99": 412.5, "count": 3}, "view_changes": 0, "protocol": "pbft"},
    "processes": {"paper": {"existing_customer_days": {"p50": 15.0}}, "nothing": None},
    "places": {"commercial_bank.2": {"city": "Zunyi"}},
    "coverage": [{"missed": 4}, {"missed": 2}],
    "complete": True,
    "odd": math.nan,
    "invariants": {"checked": ["agreement"], "violations": []},
}


def holds(path, condition):
    return evaluate({path: condition}, DOCUMENT) == []


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        ("consensus.client_ms.p99", "< 412.6"),
        ("consensus.client_ms.p99", "<= 412.5"),
        ("consensus.client_ms.p99", ">= 412.5"),
        ("consensus.client_ms.p99", "> 4.1e2"),
        ("consensus.client_ms.p99", "within 412.5..413"),
        ("consensus.client_ms.p99", "within -5 .. 412.5"),
        ("consensus.view_changes", 0),
        ("consensus.view_changes", "== 0"),
        ("consensus.view_changes", "!= 1"),
        ("consensus.protocol", "pbft"),
        ("consensus.protocol", "== pbft"),
        ("consensus.protocol", "!= raft"),
        ("complete", True),
        ("complete", "== true"),
        ("places.commercial_bank.2.city", "Zunyi"),
        ("coverage.1.missed", "< 3"),
        ("agreement", True),
    ],
)
def test_what_holds(path, condition):
    assert holds(path, condition)


@pytest.mark.parametrize(
    ("path", "condition", "line"),
    [
        ("consensus.client_ms.p99", "< 400", "expected consensus.client_ms.p99 < 400, measured 412.5"),
        (
            "consensus.client_ms.p99",
            "within 13..17",
            "expected consensus.client_ms.p99 within 13..17, measured 412.5",
        ),
        ("consensus.view_changes", ">= 1", "expected consensus.view_changes >= 1, measured 0"),
        ("consensus.view_changes", False, "expected consensus.view_changes == false, measured 0"),
        ("consensus.view_changes", "== 0.5", "expected consensus.view_changes == 0.5, measured 0"),
        ("complete", 1, "expected complete == 1, measured true"),
        ("complete", "> 0", "expected complete > 0, measured true"),
        ("consensus.protocol", "raft", "expected consensus.protocol == 'raft', measured 'pbft'"),
        ("odd", "< 400", "expected odd < 400, measured nan"),
        ("odd", "!= 400", "expected odd != 400, measured nan"),
        ("odd", "within 0..400", "expected odd within 0..400, measured nan"),
        ("processes.nothing", "< 400", "expected processes.nothing < 400, measured None"),
        ("consensus.cleint_ms.p99", "< 4", "expected consensus.cleint_ms.p99 < 4, measured nothing"),
        ("coverage.2.missed", "< 4", "expected coverage.2.missed < 4, measured nothing"),
        ("coverage.x", "< 4", "expected coverage.x < 4, measured nothing"),
        ("consensus.view_changes.x", "< 4", "expected consensus.view_changes.x < 4, measured nothing"),
        ("agreement", False, "expected agreement == false, measured no violation"),
    ],
)
def test_what_does_not_hold_says_so(path, condition, line):
    (failure,) = failures({path: condition}, DOCUMENT)
    assert failure.startswith(line)


def test_agreement_fails_on_a_violation_and_where_nothing_was_checked():
    violated = {"invariants": {"checked": ["agreement"], "violations": [{"name": "agreement", "seq": 4}]}}
    (failure,) = failures({"agreement": True}, violated)
    assert failure.startswith(
        "expected agreement == true, measured 1 violation(s), first: {'name': 'agreement'"
    )
    for unchecked in ({}, {"invariants": {"checked": [], "violations": []}}):
        (failure,) = failures({"agreement": True}, unchecked)
        assert "no invariant was checked" in failure


@pytest.mark.parametrize(
    "condition", ["<< 4", "< four", "<", "within 4", "within 4..3", "=4", "!4", "> true"]
)
def test_conditions_that_make_no_sense(condition):
    with pytest.raises(ValueError, match="expected a value, a comparison"):
        parse(condition)


def test_unquoted_dotted_keys_are_paths_too():
    assert flatten({"a": {"b": {"c": "< 4"}, "d": 1}, "e.f": True}) == {"a.b.c": "< 4", "a.d": 1, "e.f": True}


def test_the_order_of_the_file_is_kept():
    found = evaluate({"x": 1, "complete": False, "a": 2}, DOCUMENT)
    assert [failure.path for failure in found] == ["x", "complete", "a"]
