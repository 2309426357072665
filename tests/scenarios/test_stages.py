"""Stage durations follow their published distributions; officers keep bank hours and their queue."""

from __future__ import annotations

import datetime
import math
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import simpy
from tradebft.network.chance import Chance
from tradebft.scenarios.trade.officers import Desk
from tradebft.scenarios.trade.stages import DIGITAL, PAPER, STAGES, UNITS_NS, Lengths, Stage, draws
from tradebft.scenarios.trade.workdays import BUSINESS_DAY_NS, Workdays
from tradebft.scenarios.units import DAY_NS, HOUR_NS, MINUTE_NS

MANY = np.arange(40_000, dtype=np.int64)
ALL = [pytest.param(stage, id=stage.id) for stage in PAPER + DIGITAL]


def closed_form_mean(stage: Stage) -> float:
    if stage.dist == "tri":
        return sum(stage.params) / 3
    if stage.dist == "unif":
        return sum(stage.params) / 2
    median, sigma, cap = stage.params  # E min(X, cap) of a lognormal
    z = math.log(cap / median) / sigma

    def phi(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    return median * math.exp(sigma**2 / 2) * phi(z - sigma) + cap * (1 - phi(z))


def test_the_processes_have_the_stages_of_the_published_tables() -> None:
    assert [stage.id for stage in PAPER] == [f"B{k}" for k in range(1, 11)]
    assert [stage.id for stage in DIGITAL] == ["D1", "D2", "D4", "D5", "D6"]
    assert [stage.id for stage in STAGES.values() if stage.new_customers_only] == ["B1", "D1"]
    assert [stage.id for stage in STAGES.values() if not stage.bank_hours] == ["D2"]


@pytest.mark.parametrize("stage", ALL)
def test_means_are_those_of_the_distribution(stage: Stage) -> None:
    durations, occurs = draws(stage, Chance(11), MANY)
    assert occurs.mean() == pytest.approx(stage.probability, abs=0.015)
    assert (durations[occurs] / UNITS_NS[stage.unit]).mean() == pytest.approx(
        closed_form_mean(stage), rel=0.02
    )


@pytest.mark.parametrize("stage", ALL)
def test_durations_stay_within_the_bounds(stage: Stage) -> None:
    durations, occurs = draws(stage, Chance(12), MANY)
    lowest = 0.0 if stage.dist == "logn" else stage.params[0]
    units = durations[occurs] / UNITS_NS[stage.unit]
    assert units.min() >= lowest - 1e-9
    assert units.max() <= stage.params[-1] + 1e-9
    assert (durations[~occurs] == 0).all()


@pytest.mark.parametrize("stage", ALL)
def test_the_ends_move_the_median_to_the_tenth_and_ninetieth_percentile(stage: Stage) -> None:
    base, occurs = draws(stage, Chance(13), MANY)
    p10, p50, p90 = np.quantile(base[occurs], [0.1, 0.5, 0.9])
    for end, target in (("low", p10), ("high", p90)):
        moved, still = draws(stage, Chance(13), MANY, end)  # type: ignore[arg-type]
        assert np.array_equal(still, occurs)
        expected = target if "low" in stage.confidence else p50
        assert np.median(moved[still]) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("stage", ALL)
def test_one_draw_is_the_arrays_element(stage: Stage) -> None:
    numbers = np.array([0, 1, 2, 3, 10**6, 77], dtype=np.int64)
    durations, occurs = draws(stage, Chance(14), numbers, "high")
    backwards, _ = draws(stage, Chance(14), np.arange(100, 40, -1, dtype=np.int64), "high")
    for k, number in enumerate(numbers.tolist()):
        alone, there = draws(stage, Chance(14), np.array([number], dtype=np.int64), "high")
        assert (alone[0], there[0]) == (durations[k], occurs[k])
    as_it_is, occurs = draws(stage, Chance(14), numbers)
    for k in (1, 5):
        drawn = Lengths(Chance(14), 78).draw(stage, int(numbers[k]))
        assert drawn == (as_it_is[k] if occurs[k] else None)
    assert durations[5] == backwards[100 - 77]


def test_minutes_are_plain_time_and_days_are_bank_days() -> None:
    lengths = Lengths(Chance(1), 1)
    assert 5 * MINUTE_NS <= (lengths.draw(STAGES["D4"], 0) or 0) <= 45 * MINUTE_NS
    assert BUSINESS_DAY_NS <= (lengths.draw(STAGES["B4"], 0) or 0) <= 3 * BUSINESS_DAY_NS


def test_an_unknown_end_is_refused() -> None:
    with pytest.raises(ValueError, match="low, base, high"):
        draws(STAGES["B4"], Chance(1), MANY, "worst")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ officers

MONDAY = 5 * DAY_NS  # 20 July 2020
CALENDAR = Workdays(datetime.date(2020, 7, 15), 60)


def run_desk(files: list[tuple[int, int, bool]], officers: int, files_each: int) -> list[tuple[int, int]]:
    env = simpy.Environment()
    desk = Desk(env, CALENDAR, officers, files_each)
    results: list[tuple[int, int]] = [(0, 0)] * len(files)

    def file(k: int, at: int, length: int, counts: bool) -> Generator[Any, Any, None]:
        yield env.timeout(at)
        results[k] = yield from desk.work(length, counts_now=counts)
        assert env.now == results[k][0]
        assert isinstance(env.now, int)

    for k, (at, length, counts) in enumerate(files):
        env.process(file(k, at, length, counts))
    env.run()
    return results


def test_a_free_officer_begins_when_the_bank_opens() -> None:
    assert run_desk([(MONDAY + 8 * HOUR_NS, 2 * HOUR_NS, True)], 1, 1) == [(MONDAY + 11 * HOUR_NS, HOUR_NS)]
    assert run_desk([(MONDAY + 12 * HOUR_NS, 0, True)], 1, 1) == [(MONDAY + 12 * HOUR_NS, 0)]


def test_work_is_interrupted_by_the_night_and_that_is_not_waiting() -> None:
    assert run_desk([(MONDAY + 16 * HOUR_NS, 2 * HOUR_NS, True)], 1, 1) == [(MONDAY + 34 * HOUR_NS, 0)]


def test_files_queue_for_a_place_first_come_first_served() -> None:
    at = MONDAY + 9 * HOUR_NS
    files = [(at + k, HOUR_NS, True) for k in range(3)]
    one = run_desk(files, 1, 1)
    assert [end for end, _ in one] == [at + HOUR_NS, at + 2 * HOUR_NS, at + 3 * HOUR_NS]
    assert [waited for _, waited in one] == [0, HOUR_NS - 1, 2 * HOUR_NS - 2]
    assert [waited for _, waited in run_desk(files, 3, 1)] == [0, 0, 0]
    assert [waited for _, waited in run_desk(files, 1, 3)] == [0, 0, 0]


def test_a_file_out_of_the_house_takes_no_place() -> None:
    at = MONDAY + 9 * HOUR_NS
    assert run_desk([(at, 4 * HOUR_NS, False), (at + 1, HOUR_NS, True)], 1, 1)[1] == (at + 1 + HOUR_NS, 0)


def test_a_desk_without_officers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 officer"):
        Desk(simpy.Environment(), CALENDAR, 0, 10)
