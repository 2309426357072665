"""Days from application to money against what has been published about them."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from tradebft.lab import metrics
from tradebft.network.chance import Chance
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import load
from tradebft.scenarios.trade.arrivals import arrival_times
from tradebft.scenarios.trade.sensitivity import Arm, band, finished, medians
from tradebft.scenarios.trade.stages import DIGITAL, PAPER, STAGES, Lengths, draws
from tradebft.scenarios.trade.workdays import Workdays
from tradebft.scenarios.units import DAY_NS

CALENDAR = Workdays(datetime.date(2020, 7, 15), 180)
CHANCE = Chance(20200729)
SUBMITTED = arrival_times(CALENDAR, 30, CHANCE, "applications", 150.0)
NUMBERS = np.arange(len(SUBMITTED), dtype=np.int64)
NEW = CHANCE.stream("new customers").uniforms(0, len(SUBMITTED)) < 0.2


def test_paper_takes_two_weeks_and_a_month_for_a_newcomer() -> None:
    """ "Two weeks or more" [S28], "month-long" [S3]."""
    paper = medians(CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, "paper")
    assert 13 <= (paper["existing_customer_days"] or 0) <= 17
    assert 26 <= (paper["new_customer_days"] or 0) <= 33


def test_most_newcomers_to_the_platform_have_their_money_within_a_week() -> None:
    """ "In many cases seven days or under" [S3]: about 85 % are onboarded by then, about 80 % have their money."""
    everybody = np.ones(len(SUBMITTED), dtype=np.bool_)
    lengths, _ = draws(STAGES["D1"], CHANCE, NUMBERS)
    onboarded = CALENDAR.add_business_each(SUBMITTED, lengths) - SUBMITTED
    assert (onboarded <= 7 * DAY_NS).mean() == pytest.approx(0.89, abs=0.03)
    paid = finished(CALENDAR, SUBMITTED, everybody, NUMBERS, CHANCE, "digital") - SUBMITTED
    assert (paid <= 7 * DAY_NS).mean() == pytest.approx(0.86, abs=0.03)


def test_existing_customers_of_the_platform_have_their_money_within_a_day() -> None:
    platform = medians(CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, "digital")
    assert (platform["existing_customer_days"] or 9) < 1


def test_the_chain_of_stages_is_the_one_a_process_would_walk() -> None:
    lengths = Lengths(CHANCE, len(NUMBERS))
    for arm, process in (("paper", PAPER), ("digital", DIGITAL)):
        ends = finished(CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, arm)  # type: ignore[arg-type]
        for k in range(0, len(NUMBERS), 97):
            now = int(SUBMITTED[k])
            for stage in process:
                duration = lengths.draw(stage, k)
                if duration is not None and (NEW[k] or not stage.new_customers_only):
                    now = CALENDAR.add_business(now, duration) if stage.bank_hours else now + duration
            assert ends[k] == now


@pytest.mark.parametrize("arm", ["paper", "digital"])
def test_the_band_encloses_the_base(arm: Arm) -> None:
    ends = band(CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, arm)
    assert list(ends) == ["low", "base", "high"]
    assert ends["base"] == medians(CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, arm)
    for group in ("new_customer_days", "existing_customer_days"):
        low, base, high = (ends[end][group] for end in ("low", "base", "high"))
        assert low is not None
        assert base is not None
        assert high is not None
        assert low < base < high


def test_a_group_without_applications_has_no_median() -> None:
    nobody = np.zeros(len(SUBMITTED), dtype=np.bool_)
    result = medians(CALENDAR, SUBMITTED, nobody, NUMBERS, CHANCE, "digital")
    assert result["new_customer_days"] is None
    assert result["existing_customer_days"] is not None
    empty = np.empty(0, dtype=np.int64)
    assert set(medians(CALENDAR, empty, nobody[:0], empty, CHANCE, "paper").values()) == {None}


def test_whose_bank_is_off_the_platform_is_served_on_paper() -> None:
    """At no coverage every arm is paper; at half of it, the run's own medians are those of the band."""
    outside = np.ones(len(SUBMITTED), dtype=np.bool_)
    assert band(CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, "digital", outside) == band(
        CALENDAR, SUBMITTED, NEW, NUMBERS, CHANCE, "paper"
    )
    changes = {"days": 20, "workload.bank_coverage": 0.5, "workload.arms": ["paper", "database"]}
    processes = metrics.document(
        execute(load("guizhou", {**changes, "workload.coverage_points": []}, 1), lambda *_: None)
    )["processes"]
    inside, paper = (processes["sensitivity"][arm]["base"] for arm in ("database", "paper"))
    for group in ("new_customer_days", "existing_customer_days"):
        assert inside[group] == pytest.approx(processes["database"][group]["p50"], rel=0.1)
        assert inside[group] < 0.9 * paper[group]
