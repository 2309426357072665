"""Bank hours on China's working days: 09:00 to 17:00 [S67], with statutory holidays and make-up days.

Time is integer nanoseconds since 00:00 of the first day, on the wall clock of the province (China has no daylight
saving time). Business time runs only while the bank is open: a business day is 8 hours. The days come from the State
Council's yearly notices as `chinesecalendar` carries them; a year that has not been announced is refused, not guessed.
"""

from __future__ import annotations

import datetime
from bisect import bisect_right
from functools import lru_cache
from typing import Final

import chinese_calendar
import numpy as np
from chinese_calendar import constants
from numpy.typing import NDArray
from tradebft.scenarios.units import DAY_NS, HOUR_NS

OPENS_NS: Final = 9 * HOUR_NS
"""Opening of the counter, in ns since midnight [S67]."""
CLOSES_NS: Final = 17 * HOUR_NS
"""Closing of the counter, in ns since midnight [S67]."""
BUSINESS_DAY_NS: Final = CLOSES_NS - OPENS_NS

FIRST_YEAR: Final[int] = min(constants.holidays).year
LAST_YEAR: Final[int] = max(constants.holidays).year

RUN_OFF_DAYS: Final = 140
"""How long after the last arrival applications are followed; what is not over by then counts as unfinished."""
CALENDAR_AHEAD_DAYS: Final = RUN_OFF_DAYS + 110
"""How far beyond a run's days the calendar must be known: the run-off, and the longest stage begun at its end."""

Times = NDArray[np.int64]


@lru_cache(maxsize=4096)
def works(date: datetime.date) -> bool:
    """Whether banks work on that date. ValueError for a year without an announced calendar."""
    if not FIRST_YEAR <= date.year <= LAST_YEAR:
        raise ValueError(
            f"no calendar of working days for {date.isoformat()}: years {FIRST_YEAR} to {LAST_YEAR} are known, "
            f"the last is {LAST_YEAR}"
        )
    return bool(chinese_calendar.is_workday(date))


def makes_up(date: datetime.date) -> bool:
    """Whether that date is a Saturday or Sunday worked in exchange for a holiday."""
    return works(date) and date.weekday() >= 5


def rests(date: datetime.date) -> bool:
    """Whether that date lies in a statutory holiday; weekends inside the holiday count, other weekends do not."""
    return not works(date) and date in constants.holidays


class Workdays:
    """The opening hours of a run. Days are numbered from 0; what lies past the horizon is added when asked for."""

    def __init__(self, start: datetime.date, days: int) -> None:
        """`days` from `start` are computed at once. ValueError unless days >= 0 and their years are known."""
        if days < 0:
            raise ValueError(f"days must be 0 or more, got {days}")
        self.start = start
        self._known = 0  # days computed so far
        self._opens: list[int] = []  # openings of the working days among them, ascending
        self._array: Times = np.empty(0, dtype=np.int64)
        works(start)
        self._know(days)

    def date(self, day: int) -> datetime.date:
        """The date of a day."""
        return self.start + datetime.timedelta(days=day)

    def is_workday(self, day: int) -> bool:
        """Whether the bank opens on that day."""
        return works(self.date(day))

    def is_makeup(self, day: int) -> bool:
        """Whether that day is a weekend day worked in exchange for a holiday."""
        return makes_up(self.date(day))

    def is_holiday(self, day: int) -> bool:
        """Whether that day lies in a statutory holiday (a plain weekend does not)."""
        return rests(self.date(day))

    def workdays(self, days: int) -> int:
        """How many of the first `days` days are working days."""
        self._know(days)
        return bisect_right(self._opens, days * DAY_NS)

    def is_open(self, at_ns: int) -> bool:
        """Whether the bank is open; at 09:00 it is, at 17:00 no longer."""
        self._check(at_ns)
        self._know(at_ns // DAY_NS + 1)
        k = bisect_right(self._opens, at_ns) - 1
        return k >= 0 and at_ns < self._opens[k] + BUSINESS_DAY_NS

    def next_open(self, at_ns: int) -> int:
        """`at_ns` itself while the bank is open, the next opening otherwise."""
        return max(at_ns, self._opens[self._interval(at_ns)])

    def add_business(self, start_ns: int, business_ns: int) -> int:
        """When work of that much business time is done that may begin at `start_ns`.

        It begins at `next_open(start_ns)`; work done exactly at closing time ends there, not on the next morning.
        """
        if business_ns < 0:
            raise ValueError(f"business time must be 0 or more, got {business_ns}")
        k = self._interval(start_ns)
        begin = max(start_ns, self._opens[k])
        if business_ns == 0:
            return begin
        skipped, rest = divmod(begin - self._opens[k] + business_ns - 1, BUSINESS_DAY_NS)
        while len(self._opens) <= k + skipped:
            self._know(self._known + 1)
        return self._opens[k + skipped] + rest + 1

    def add_business_each(self, starts_ns: Times, business_ns: Times) -> Times:
        """`add_business` of two arrays, element by element."""
        if not len(starts_ns):
            return np.empty(0, dtype=np.int64)
        if int(business_ns.min()) < 0:
            raise ValueError(f"business time must be 0 or more, got {int(business_ns.min())}")
        self._check(int(starts_ns.min()))
        self.add_business(
            int(starts_ns.max()), int(business_ns.max())
        )  # knows every day needed, and one opening more
        opens = self._openings()
        k = np.searchsorted(opens + BUSINESS_DAY_NS, starts_ns, side="right")
        begin = np.maximum(starts_ns, opens[k])
        skipped, rest = np.divmod(begin - opens[k] + business_ns - 1, BUSINESS_DAY_NS)
        ends: Times = np.where(business_ns == 0, begin, opens[k + np.maximum(skipped, 0)] + rest + 1)
        return ends

    def business_between(self, a_ns: int, b_ns: int) -> int:
        """Business time from a to b, 0 or more. ValueError if b is before a."""
        if b_ns < a_ns:
            raise ValueError(f"expected a <= b, got {a_ns} and {b_ns}")
        return self._business_until(b_ns) - self._business_until(a_ns)

    def _business_until(self, at_ns: int) -> int:
        self._check(at_ns)
        self._know(at_ns // DAY_NS + 1)
        k = bisect_right(self._opens, at_ns)
        return (k - 1) * BUSINESS_DAY_NS + min(at_ns - self._opens[k - 1], BUSINESS_DAY_NS) if k else 0

    def _interval(self, at_ns: int) -> int:
        """Number of the first opening interval that ends after `at_ns`."""
        self._check(at_ns)
        while not self._opens or self._opens[-1] + BUSINESS_DAY_NS <= at_ns:
            self._know(self._known + 1)
        return bisect_right(self._opens, at_ns - BUSINESS_DAY_NS)

    def _know(self, days: int) -> None:
        for day in range(self._known, days):
            if self.is_workday(day):
                self._opens.append(day * DAY_NS + OPENS_NS)
            self._known = day + 1

    def _openings(self) -> Times:
        if len(self._array) != len(self._opens):
            self._array = np.array(self._opens, dtype=np.int64)
        return self._array

    @staticmethod
    def _check(at_ns: int) -> None:
        if at_ns < 0:
            raise ValueError(f"times count from the first day, got {at_ns} ns")
