"""A month of trade finance: anchors it must hit, frauds it must and must not catch, one workload for all arms."""

import numpy as np
import polars as pl
import pytest
from tradebft.lab import metrics
from tradebft.scenarios.demand import FRAUD_CASES
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import ScenarioError, load
from tradebft.scenarios.trade.frauds import CODES, SCRIPTS
from tradebft.scenarios.trade.mix import OUT_OF_SCOPE, rates
from tradebft.scenarios.trade.paper_arm import run_paper
from tradebft.scenarios.trade.workload import generate

QUIET = {"workload.coverage_points": [], "workload.sensitivity": False}


def scenario(seed=1, **changes):
    return load("guizhou", {**QUIET, **{k.replace("__", "."): v for k, v in changes.items()}}, seed)


def run(seed=1, **changes):
    return execute(scenario(seed, **changes), lambda *_: None)


@pytest.fixture(scope="module")
def everything():
    """Every kind of fraud, three in a hundred each, on the chain."""
    kinds = dict.fromkeys(FRAUD_CASES, 0.03)
    return run(
        days=12,
        workload__arms=["chain"],
        workload__default_fraud=False,
        workload__fraud=kinds,
        workload__anchor_all_declarations=False,
    )


def days(rows, new):
    return [r[11] for r in rows.applications.values() if r[5] == new and r[12] == "disbursed" and not r[14]]


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_paper_arm_lands_on_the_published_anchors(seed):
    """Existing customers "two weeks or more" [S28], new ones a month [S3]; docs/domain.md."""
    loaded = scenario(seed)
    rows = run_paper(generate(loaded, loaded.workload))
    assert 13 <= np.median(days(rows, new=False)) <= 17
    assert 26 <= np.median(days(rows, new=True)) <= 33


def test_the_database_arm_is_within_five_per_cent_of_the_chain_arm():
    document = metrics.document(run(days=10, workload__arms=["database", "chain"]))
    database, chain = document["processes"]["database"], document["processes"]["chain"]
    for key in ("new_customer_days", "existing_customer_days"):
        for quantile in ("mean", "p50", "p90"):
            assert database[key][quantile] == pytest.approx(chain[key][quantile], rel=0.05)
    assert chain["within_7_days"] >= 0.75  # 86 % are expected; some thirty newcomers here, so a wide bound
    assert document["invariants"]["violations"] == []


def test_the_arms_see_the_same_applications():
    applications = run(days=6).applications
    columns = [
        "application",
        "firm",
        "bank",
        "new_customer",
        "currency",
        "amount_minor",
        "submitted_ns",
        "kind",
    ]
    arms = [
        applications.filter(pl.col("arm") == arm).select(columns) for arm in ("paper", "database", "chain")
    ]
    assert arms[0].equals(arms[1])
    assert arms[1].equals(arms[2])
    assert len(arms[0]) > 50
    assert set(applications["outcome"]) == {"disbursed", "rejected"}  # everybody is followed to the end


def test_every_kind_of_fraud_in_scope_is_caught_with_its_code(everything):
    assert set(everything.fraud) == set(FRAUD_CASES)
    for kind, row in everything.fraud.items():
        assert row["injected"] == row["caught"] + row["missed"] > 0
        assert row["in_scope"] == (kind not in OUT_OF_SCOPE)
        assert row["missed" if row["in_scope"] else "caught"] == 0, (kind, row)
    frauds = everything.applications.filter(pl.col("kind") != "")
    for kind, code, outcome in frauds.select("kind", "code", "outcome").iter_rows():
        if kind in CODES:
            assert code in CODES[kind]
            assert outcome == "rejected"
        else:
            assert (code, outcome) == ("", "disbursed")


def test_no_honest_application_is_refused(everything):
    honest = everything.applications.filter(pl.col("kind") == "")
    assert len(honest) > 30
    assert set(honest["outcome"]) == {"disbursed"}
    assert everything.false_alarms == 0


def test_whose_reservation_lapses_over_night_applies_once_more():
    """A day is over after four hours here, as a National Day week is after ten days: the officer finds it lapsed in the
    morning, and the file, which is done with, is financed at once."""
    records = run(
        days=7, workload__arms=["database"], workload__default_fraud=False,
        workload__policy__reservation_ttl="4 h",
    )  # fmt: skip
    assert records.false_alarms == 0
    assert records.ledger["rejected"]["E_TTL"] >= 5
    assert set(records.applications["outcome"]) == {"disbursed"}
    reviews = records.stages.filter(pl.col("stage") == "D4")["application"]
    assert reviews.is_unique().all()


def test_who_cheats_is_caught_for_it_where_reservations_lapse_within_hours():
    """A fraud that ends for another reason than its own would be missed: they, too, apply once more."""
    records = run(
        days=7, workload__arms=["database"], workload__default_fraud=False,
        workload__fraud=dict.fromkeys(FRAUD_CASES, 0.03), workload__policy__reservation_ttl="4 h",
    )  # fmt: skip
    assert records.ledger["rejected"]["E_TTL"] >= 5
    assert records.false_alarms == 0
    assert all(row["missed"] == 0 for row in records.fraud.values() if row["in_scope"]), records.fraud


@pytest.mark.parametrize(("firms", "banks", "new"), [(1, 1, 0), (1, 3, 0), (2, 1, 0.5)])
def test_a_province_of_one_firm_or_one_bank_has_its_frauds_too(firms: int, banks: int, new: float) -> None:
    """Nobody else's papers to borrow, no second bank to go to; and whoever squats again and again is granted nothing
    more, so that what it tries next fails for that reason: no money is paid out, and no rule of its own caught it."""
    records = run(
        days=12, workload__arms=["database"], workload__default_fraud=False,
        workload__fraud=dict.fromkeys(FRAUD_CASES, 0.045), workload__anchor_all_declarations=False,
        workload__firms=firms, workload__banks=banks, workload__new_customer_share=new,
    )  # fmt: skip
    assert set(records.fraud) == set(FRAUD_CASES)
    assert records.false_alarms == 0
    assert records.violations == []
    frauds = records.applications.filter(pl.col("kind") != "")
    refused = frauds.filter(pl.col("code").str.contains("E_"))
    assert set(refused["outcome"]) == {"rejected"}
    for kind, row in records.fraud.items():
        codes = frauds.filter(pl.col("kind") == kind)["code"]
        assert row["caught"] == sum(code in CODES.get(kind, ()) for code in codes)
    if firms == 1:
        barred = frauds.filter(pl.col("code") == "E_TTL")
        assert {"F3", "F16"} <= set(barred["kind"])
        assert records.fraud["F16"]["missed"] == 0


def test_an_application_whose_reservations_last_too_short_to_be_used_is_given_up():
    records = run(
        days=1, workload__arms=["database"], workload__default_fraud=False,
        workload__policy__reservation_ttl="1 ms",
    )  # fmt: skip
    assert records.false_alarms == records.applications.height > 10
    assert set(records.applications["code"]) == {"E_TTL"}
    assert records.ledger["rejected"]["E_TTL"] < 10 * records.applications.height


def test_two_concurrent_financings_of_one_declaration_commit_exactly_one(everything):
    reserves = everything.requests.filter(pl.col("type") == "FIN_RESERVE")
    races = reserves.group_by("intended_ns").agg(pl.col("code").sort(), pl.len().alias("count"))
    races = races.filter(pl.col("count") == 2)
    assert len(races) >= everything.fraud["F2"]["injected"] > 0
    assert all(codes.to_list() == ["E_HEADROOM", "OK"] for codes in races["code"])


def test_ledger_and_consensus_invariants_hold_throughout(everything):
    assert everything.violations == []
    assert {"agreement", "exactly-once", "I1", "I2", "I12"} <= set(everything.invariants_checked)
    assert everything.ledger["accepted"] == len(everything.requests.filter(pl.col("code") == "OK"))


def test_the_wider_the_coverage_the_more_is_caught():
    records = run(
        days=12,
        workload__arms=["database"],
        workload__coverage_points=[0.0, 0.5, 1.0],
        workload__fraud={"duplicate_cross_bank": 0.2},
    )
    caught = {}
    for row in records.coverage:
        if row["in_scope"]:
            caught[row["coverage"]] = caught.get(row["coverage"], 0) + row["caught"]
    assert caught[0.0] == 0 < caught[0.5] < caught[1.0]
    both = [row for row in records.coverage if row["kind"] in ("F1", "F2") and row["coverage"] == 0.5]
    share = sum(row["caught"] for row in both) / sum(row["injected"] for row in both)
    assert share < 0.5  # both banks must be members: about a quarter of the pairs at half the banks


def test_the_point_at_the_scenarios_own_coverage_is_the_database_arm():
    """With that arm it is read off it; without, a run of its own. What else customs feeds makes no difference."""
    settings = {"days": 12, "workload__bank_coverage": 0.5, "workload__coverage_points": [0.0, 0.5]}
    with_arm, without = (run(workload__arms=[arm], **settings) for arm in ("database", "paper"))
    assert with_arm.coverage == without.coverage
    own = {row["kind"]: row["caught"] for row in with_arm.coverage if row["coverage"] == 0.5}
    assert own == {kind: row["caught"] for kind, row in with_arm.fraud.items()}
    assert sum(own.values()) > 0


def test_off_the_platform_it_is_paper():
    applications = run(days=5, workload__arms=["paper", "chain"], workload__bank_coverage=0.0).applications
    paper, chain = (
        applications.filter((pl.col("arm") == arm) & (pl.col("kind") == "")).select("application", "days")
        for arm in ("paper", "chain")
    )
    assert paper.equals(chain)


def test_the_mix_is_the_published_one_and_can_be_set():
    loaded = scenario()
    by_kind = rates(loaded.workload)
    assert by_kind["F1"] + by_kind["F2"] == pytest.approx(0.01)  # duplicates [S57][S80]
    assert by_kind["F3"] + by_kind["F4"] + by_kind["F15"] == pytest.approx(0.01)
    only = scenario(workload__default_fraud=False, workload__fraud={"F5": 0.5})
    assert {kind: rate for kind, rate in rates(only.workload).items() if rate} == {"F5": 0.5}
    assert set(SCRIPTS) == set(FRAUD_CASES)


def test_a_month_of_the_province_is_of_the_expected_size():
    loaded = scenario()
    workload = generate(loaded, loaded.workload)
    workdays = workload.workdays.workdays(30)
    assert len(workload.applications) / workdays == pytest.approx(30, rel=0.15)
    assert len(workload.feed) / workdays == pytest.approx(670, rel=0.1)
    usd = [a.amount / 100 for a in workload.applications if a.currency == "USD" and a.kind != "F1"]
    assert np.median(usd) == pytest.approx(170_000, rel=0.2)
    declared = [len(a.declarations) for a in workload.applications]
    assert np.mean(declared) == pytest.approx(6, rel=0.15)
    assert all(sum(a.allocations) == a.amount for a in workload.applications)
    assert sum(a.currency == "USD" for a in workload.applications) / len(declared) == pytest.approx(
        0.8, abs=0.05
    )


def test_other_consensus_settings_meet_the_same_weather_and_the_same_firms():
    first = run(days=3, workload__arms=["chain"])
    second = run(days=3, workload__arms=["chain"], consensus__batch_size=1)
    assert first.trace_digest != second.trace_digest
    same = ["application", "firm", "bank", "amount_minor", "submitted_ns"]
    assert first.applications.select(same).equals(second.applications.select(same))


def test_real_signatures_lead_to_the_same_decisions():
    modelled = run(days=1, workload__arms=["chain"], nodes__cpu="none")
    real = run(days=1, workload__arms=["chain"], nodes__cpu="none", nodes__crypto="real")
    assert modelled.ledger["accepted"] == real.ledger["accepted"]
    assert modelled.decisions["quorum_ns"].to_list() == real.decisions["quorum_ns"].to_list()
    assert real.violations == []


@pytest.mark.parametrize("start", ["1999-01-01", "2003-12-31", "2026-12-01"])
def test_without_a_calendar_no_run(start):
    with pytest.raises(ScenarioError, match=r"^--set start: start: expected a date from 2004-01-01 to 20"):
        load("guizhou", {"start": start})


def test_whoever_queues_for_ever_is_unfinished_and_not_forgotten():
    document = metrics.document(
        run(
            days=3,
            workload__arms=["paper"],
            workload__officers_per_bank=1,
            workload__financings_per_workday=600,
        )
    )
    paper = document["processes"]["paper"]
    assert paper["unfinished"] > 10
    assert paper["honest"] == paper["disbursed"] + paper["rejected"] + paper["unfinished"]


def test_a_run_waits_for_a_batch_that_waits_to_be_filled():
    """The last declaration is alone in its batch, and a batch waits for longer than views do."""
    changes = {
        "days": 1,
        "consensus.batch_size": 2,
        "consensus.batch_timeout": "60 s",
        "consensus.view_change_timeout": "2 s",
        "consensus.client_timeout": "300 s",
        "workload.arms": ["chain"],
        "workload.anchor_all_declarations": True,
        "workload.declarations_per_workday": 60,
    }
    records = execute(load("guizhou-pilot", changes, 30), lambda *_: None)
    assert metrics.document(records)["consensus"]["unanswered"] == 0
    assert records.requests["replied_ns"].max() > 59_408 * 10**9  # it did wait
