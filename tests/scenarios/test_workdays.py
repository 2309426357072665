"""Bank hours: the published calendar of 2020, and arithmetic against an implementation that walks hour by hour."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradebft.scenarios.trade.workdays import BUSINESS_DAY_NS, LAST_YEAR, Workdays
from tradebft.scenarios.units import DAY_NS, HOUR_NS

START = datetime.date(2020, 9, 20)  # make-up days and the holiday of 2020's National Day lie ahead
DAYS = Workdays(START, 60)
HOURS = 60 * 24


def day(month: int, number: int) -> int:
    return (datetime.date(2020, month, number) - START).days


def open_in_that_hour(hour: int) -> bool:
    return DAYS.is_workday(hour // 24) and 9 <= hour % 24 < 17


def naive_end(start: int, hours: int) -> int:
    """Both in whole hours."""
    at = start
    while not open_in_that_hour(at):
        at += 1
    while hours:
        hours -= open_in_that_hour(at)
        at += 1
    return at


def test_national_day_2020_closes_the_banks_for_eight_days() -> None:
    closed = [n for n in range(day(9, 28), day(10, 12)) if not DAYS.is_workday(n)]
    assert closed == [*range(day(10, 1), day(10, 9)), day(10, 11)]
    assert all(DAYS.is_holiday(n) for n in range(day(10, 1), day(10, 9)))
    assert not DAYS.is_holiday(day(10, 11))  # a Sunday like any other
    assert not DAYS.is_open(day(10, 1) * DAY_NS + 10 * HOUR_NS)


def test_make_up_days_are_worked() -> None:
    for n in (day(9, 27), day(10, 10)):  # a Sunday and a Saturday
        assert DAYS.is_makeup(n)
        assert DAYS.is_workday(n)
        assert not DAYS.is_holiday(n)
        assert DAYS.is_open(n * DAY_NS + 10 * HOUR_NS)
    assert not DAYS.is_makeup(day(9, 28))


def test_working_days_of_a_year_are_those_announced() -> None:
    assert Workdays(datetime.date(2019, 1, 1), 400).workdays(365) == 250
    # 251 were announced; the spring festival was then extended over 31 January and the make-up day 1 February
    assert Workdays(datetime.date(2020, 1, 1), 0).workdays(366) == 249


def test_the_counter_opens_at_nine_and_closes_at_five() -> None:
    monday = day(9, 21) * DAY_NS
    assert not DAYS.is_open(monday + 9 * HOUR_NS - 1)
    assert DAYS.is_open(monday + 9 * HOUR_NS)
    assert DAYS.is_open(monday + 17 * HOUR_NS - 1)
    assert not DAYS.is_open(monday + 17 * HOUR_NS)
    assert DAYS.next_open(monday + 17 * HOUR_NS) == monday + DAY_NS + 9 * HOUR_NS
    assert DAYS.next_open(0) == monday + 9 * HOUR_NS


def test_work_done_at_closing_time_ends_there() -> None:
    monday = day(9, 21) * DAY_NS
    closing = monday + 17 * HOUR_NS
    assert DAYS.add_business(monday, BUSINESS_DAY_NS) == closing
    assert DAYS.add_business(monday, BUSINESS_DAY_NS + 1) == closing + 16 * HOUR_NS + 1
    assert DAYS.add_business(closing, 0) == closing + 16 * HOUR_NS
    evening_before_the_holiday = day(9, 30) * DAY_NS + 16 * HOUR_NS
    assert DAYS.add_business(evening_before_the_holiday, 2 * HOUR_NS) == day(10, 9) * DAY_NS + 10 * HOUR_NS


@given(st.integers(0, HOURS // 3), st.integers(1, 150))
def test_adding_business_time_agrees_with_walking_hour_by_hour(start: int, hours: int) -> None:
    assert DAYS.add_business(start * HOUR_NS, hours * HOUR_NS) == naive_end(start, hours) * HOUR_NS


@given(st.integers(0, HOURS - 1), st.integers(0, HOURS - 1))
def test_business_time_between_two_hours_counts_the_open_ones(a: int, b: int) -> None:
    a, b = min(a, b), max(a, b)
    opened = sum(open_in_that_hour(h) for h in range(a, b))
    assert DAYS.business_between(a * HOUR_NS, b * HOUR_NS) == opened * HOUR_NS


@given(
    st.integers(0, 40 * DAY_NS), st.integers(0, 20 * BUSINESS_DAY_NS), st.integers(0, 20 * BUSINESS_DAY_NS)
)
def test_business_time_adds_up_to_the_nanosecond(at: int, first: int, second: int) -> None:
    end = DAYS.add_business(at, first)
    assert DAYS.business_between(at, end) == first
    assert DAYS.add_business(end, second) == DAYS.add_business(at, first + second) or second == 0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 90 * DAY_NS), st.integers(0, 50 * BUSINESS_DAY_NS)), max_size=20))
def test_arrays_give_what_single_calls_give(rows: list[tuple[int, int]]) -> None:
    fresh = Workdays(START, 3)
    starts, lengths = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    ends = fresh.add_business_each(starts, lengths)
    assert ends.tolist() == [DAYS.add_business(a, b) for a, b in rows]


def test_the_horizon_extends_itself_and_ends_with_the_announced_years() -> None:
    late = Workdays(datetime.date(LAST_YEAR, 12, 20), 1)
    assert late.add_business(0, 5 * BUSINESS_DAY_NS) < 12 * DAY_NS
    with pytest.raises(ValueError, match=f"the last is {LAST_YEAR}"):
        late.add_business(0, 30 * BUSINESS_DAY_NS)
    with pytest.raises(ValueError, match=f"the last is {LAST_YEAR}"):
        Workdays(datetime.date(LAST_YEAR + 1, 3, 1), 0)


def test_impossible_times_are_refused() -> None:
    with pytest.raises(ValueError, match="first day"):
        DAYS.next_open(-1)
    with pytest.raises(ValueError, match="0 or more"):
        DAYS.add_business(0, -1)
    with pytest.raises(ValueError, match="a <= b"):
        DAYS.business_between(2, 1)
    with pytest.raises(ValueError, match="0 or more"):
        Workdays(START, -1)
