"""Arrivals have the means, the profile and the over-dispersion they are said to have."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
from tradebft import scenarios
from tradebft.network.chance import Chance
from tradebft.scenarios.trade.arrivals import (
    BIN_NS,
    arrival_counts,
    arrival_times,
    bin_means,
    published_profile,
)
from tradebft.scenarios.trade.workdays import Workdays
from tradebft.scenarios.units import DAY_NS, HOUR_NS

YEAR = Workdays(datetime.date(2020, 1, 1), 366)
PUBLISHED = json.loads((Path(scenarios.__file__).parent / "data" / "workload.json").read_text())


def day(month: int, number: int) -> int:
    return (datetime.date(2020, month, number) - YEAR.start).days


def test_the_mean_ordinary_working_day_has_the_rate_asked_for() -> None:
    daily = bin_means(YEAR, 366, 30.0).sum(axis=1)
    ordinary = [d for d in range(366) if YEAR.is_workday(d) and not YEAR.is_makeup(d)]
    assert daily[ordinary].mean() == pytest.approx(30.0)


def test_factors_stand_in_the_ratios_of_the_published_table() -> None:
    daily = bin_means(YEAR, 366, 30.0).sum(axis=1)
    week, months = PUBLISHED["weekday_factor"], PUBLISHED["monthly_factor"]
    assert daily[day(9, 8)] / daily[day(9, 7)] == pytest.approx(week["Tue"] / week["Mon"])
    assert daily[day(9, 12)] / daily[day(9, 7)] == pytest.approx(week["Sat"] / week["Mon"])
    assert daily[day(10, 1)] / daily[day(10, 12)] == pytest.approx(week["holiday"] / week["Mon"])
    assert daily[day(10, 3)] == pytest.approx(daily[day(10, 1)])  # the Saturday inside the holiday
    assert daily[day(10, 10)] / daily[day(10, 12)] == pytest.approx(week["makeup_workday"] / week["Mon"])
    assert daily[day(12, 7)] / daily[day(8, 3)] == pytest.approx(months[11] / months[7])  # both Mondays
    # 28, 29 and 30 September are the last working days of the month and the quarter
    assert daily[day(9, 28)] / daily[day(9, 21)] == pytest.approx(1.3)
    assert daily[day(9, 25)] / daily[day(9, 18)] == pytest.approx(1.0)


def test_months_are_relative_to_the_mean_month_and_hours_share_one_day() -> None:
    profile = published_profile()
    assert sum(profile.months) / 12 == pytest.approx(1.0)
    assert sum(profile.hours) == pytest.approx(1.0)
    assert profile.months[1] == min(profile.months)


def test_a_year_of_arrivals_has_the_expected_total_and_hours() -> None:
    rate = 200.0
    times = arrival_times(YEAR, 366, Chance(7), "applications", rate)
    means = bin_means(YEAR, 366, rate)
    deviation = np.sqrt((means + means**2 / 4).sum())
    assert abs(len(times) - means.sum()) < 4 * deviation
    shares = np.bincount((times % DAY_NS) // HOUR_NS, minlength=24) / len(times)
    for hour in range(24):
        assert shares[hour] == pytest.approx(PUBLISHED["hour_profile"].get(str(hour), 0.0), abs=0.01)


def test_counts_are_over_dispersed_as_a_gamma_mixture_is() -> None:
    means = bin_means(YEAR, 366, 500.0)
    counts = arrival_counts(YEAR, 366, Chance(3), "declarations", 500.0)
    busy = means > 5
    excess = ((counts - means) ** 2)[busy] - means[busy]
    assert (excess / means[busy] ** 2).mean() == pytest.approx(1 / 4, rel=0.1)
    assert (((counts - means) ** 2)[busy] / means[busy]).mean() > 3  # a Poisson process has index 1


def test_arrivals_lie_evenly_within_a_bin_and_in_order() -> None:
    times = arrival_times(YEAR, 100, Chance(5), "x", 300.0)
    assert times.dtype == np.int64
    assert (np.diff(times) >= 0).all()
    assert ((times % BIN_NS) / BIN_NS).mean() == pytest.approx(0.5, abs=0.01)
    assert ((times % BIN_NS) / BIN_NS).std() == pytest.approx(12**-0.5, abs=0.01)


def test_arrivals_depend_on_seed_and_name_only() -> None:
    first = arrival_times(YEAR, 40, Chance(1), "a", 30.0)
    longer = arrival_times(YEAR, 80, Chance(1), "a", 30.0)
    assert np.array_equal(longer[: len(first)], first)
    assert not np.array_equal(arrival_times(YEAR, 40, Chance(2), "a", 30.0), first)
    assert not np.array_equal(arrival_times(YEAR, 40, Chance(1), "b", 30.0), first)


def test_a_higher_rate_never_has_fewer_arrivals_in_a_bin() -> None:
    low, high = (arrival_counts(YEAR, 60, Chance(1), "a", rate) for rate in (30.0, 31.0))
    assert (high >= low).all()


def test_nothing_arrives_at_rate_zero_or_in_no_days() -> None:
    assert len(arrival_times(YEAR, 30, Chance(1), "a", 0.0)) == 0
    assert len(arrival_times(YEAR, 0, Chance(1), "a", 30.0)) == 0


def test_mistaken_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="per_workday"):
        arrival_times(YEAR, 1, Chance(1), "a", -1.0)
    with pytest.raises(ValueError, match="start on 2020-01-01"):
        arrival_times(YEAR, 1, Chance(1), "a", 1.0, datetime.date(2020, 1, 2))
