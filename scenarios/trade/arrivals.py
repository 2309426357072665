"""When applications and declarations arrive: by month, weekday, hour and holiday, and burstier than Poisson.

The rate of a 15-minute bin is `base x month x weekday x hour x period end`, where a holiday or a make-up day has its
own factor in place of the weekday's. The rate of each bin is then mixed with a Gamma of shape 4, so that counts are
negative binomial with variance `mean + mean^2 / 4`. Months are China's exports of 2019 (background series, checked
against the customs total [S108]); weekday, hour, shape and the uplift at the end of a month are assumptions.

A limit of this model: the dip of the lunar new year is in the factor of February and again in the holidays
themselves, so that this month comes out lower than its share of the year's exports.
"""

from __future__ import annotations

import calendar
import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Chance, negative_binomial
from tradebft.scenarios.trade.workdays import Workdays, makes_up, rests, works
from tradebft.scenarios.units import DAY_NS, HOUR_NS, MINUTE_NS

BIN_NS: Final = 15 * MINUTE_NS
BINS_PER_DAY: Final = DAY_NS // BIN_NS
PERIOD_END_WORKDAYS: Final = 3
PERIOD_END_UPLIFT: Final = 1.3
"""On the last 3 working days of a month, and so of a quarter (assumption; payments peak at period ends [S100b])."""

_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """The shape of demand over time; every factor is relative, months have mean 1 and hours sum to 1."""

    months: tuple[float, ...]  # January first
    weekdays: tuple[float, ...]  # Monday first
    holiday: float
    makeup: float
    hours: tuple[float, ...]  # share of a day's arrivals in each of its 24 hours
    shape: float  # of the Gamma that a bin's rate is mixed with

    def day_factor(self, date: datetime.date) -> float:
        """Month x weekday (or holiday, or make-up day) x period end. ValueError for a year without calendar."""
        if rests(date):
            kind = self.holiday
        elif makes_up(date):
            kind = self.makeup
        else:
            kind = self.weekdays[date.weekday()]
        uplift = PERIOD_END_UPLIFT if date in _period_end(date.year, date.month) else 1.0
        return self.months[date.month - 1] * kind * uplift

    def ordinary_mean(self, year: int) -> float:
        """Mean of `day_factor` over the year's ordinary working days, make-up days left out."""
        days = (datetime.date(year, 1, 1) + datetime.timedelta(days=d) for d in range(366))
        return _mean(self.day_factor(d) for d in days if d.year == year and works(d) and not makes_up(d))


@lru_cache(maxsize=1)
def published_profile() -> Profile:
    """The profile of `data/workload.json`."""
    text = (resources.files("tradebft.scenarios") / "data" / "workload.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    months = [float(x) for x in data["monthly_factor"]]
    kinds: dict[str, float] = data["weekday_factor"]
    hours = [float(data["hour_profile"].get(str(hour), 0.0)) for hour in range(24)]
    return Profile(
        months=tuple(x / _mean(months) for x in months),
        weekdays=tuple(kinds[name] for name in _WEEKDAYS),
        holiday=kinds["holiday"],
        makeup=kinds["makeup_workday"],
        hours=tuple(x / sum(hours) for x in hours),
        shape=float(data["overdispersion"]["shape"]),
    )


def bin_means(workdays: Workdays, days: int, per_workday: float) -> Floats:
    """Expected arrivals of each 15-minute bin of the first `days` days, shape (days, 96).

    `per_workday` is the mean over the ordinary working days of the calendar year in which the run starts: a single
    day has more or less, by its month and weekday.
    """
    if not (0 <= per_workday < np.inf):
        raise ValueError(f"per_workday must be 0 or more and finite, got {per_workday}")
    profile = published_profile()
    base = per_workday / profile.ordinary_mean(workdays.start.year)
    factors = np.array([profile.day_factor(workdays.date(day)) for day in range(days)], dtype=np.float64)
    shares = np.repeat(np.array(profile.hours), HOUR_NS // BIN_NS) / (HOUR_NS // BIN_NS)
    means: Floats = base * factors.reshape(days, 1) * shares
    return means


def arrival_counts(
    workdays: Workdays, days: int, chance: Chance, name: str, per_workday: float
) -> NDArray[np.int64]:
    """Arrivals of each bin, shape (days, 96): one uniform a bin, so a higher rate never has fewer of them."""
    means = bin_means(workdays, days, per_workday)
    uniforms = chance.stream("arrivals", name, "count").uniforms(0, means.size).reshape(means.shape)
    shape = published_profile().shape
    counts = np.zeros(means.shape, dtype=np.int64)
    levels, level = np.unique(means, return_inverse=True)
    level = level.reshape(means.shape)
    for k, mean in enumerate(levels):  # far fewer levels than bins: the days of a month repeat themselves
        if mean > 0:
            here = level == k
            counts[here] = negative_binomial(uniforms[here], float(mean), shape).astype(np.int64)
    return counts


def arrival_times(
    workdays: Workdays,
    days: int,
    chance: Chance,
    name: str,
    per_workday: float,
    start_date: datetime.date | None = None,
) -> NDArray[np.int64]:
    """Ascending times of arrival in the first `days` days, in ns since 00:00 of the first; uniform within a bin.

    `name` chooses the stream: the same name gives the same arrivals, a longer run begins with those of a shorter one.
    `start_date` may be given as a safeguard: ValueError unless it is the day on which `workdays` starts.
    """
    if start_date is not None and start_date != workdays.start:
        raise ValueError(f"the working days start on {workdays.start}, the arrivals on {start_date}")
    counts = arrival_counts(workdays, days, chance, name, per_workday)
    places = chance.stream("arrivals", name, "place")
    times = [np.empty(0, dtype=np.int64)]
    for day, row in enumerate(counts):
        most = int(row.max())
        if most == 0:
            continue
        # the k-th arrival of a bin has lane k, whatever the other bins hold
        block = places.uniform_block(day * BINS_PER_DAY, BINS_PER_DAY, most)
        offsets = np.minimum((block * BIN_NS).astype(np.int64), BIN_NS - 1)
        starts = day * DAY_NS + np.arange(BINS_PER_DAY, dtype=np.int64) * BIN_NS
        times.append((starts[:, None] + offsets)[np.arange(most) < row[:, None]])
    return np.sort(np.concatenate(times))


@lru_cache(maxsize=1024)
def _period_end(year: int, month: int) -> frozenset[datetime.date]:
    """The last working days of a month."""
    dates = [datetime.date(year, month, d + 1) for d in range(calendar.monthrange(year, month)[1])]
    return frozenset([date for date in dates if works(date)][-PERIOD_END_WORKDAYS:])


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
