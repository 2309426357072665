"""Quantities as a reader writes them, in the integer units the simulator computes with.

A scenario says `"250 ms"`, `"100 Mbit/s"`, `"64 KiB"` or `"day 3 10:15"`; the code sees nanoseconds, bits a
second, bytes and nanoseconds since the run began. Every quantity carries its unit: a bare number is
refused, because nobody remembers whether it was seconds. Arithmetic is exact (Fraction); what falls between
two units is rounded down.
"""

from __future__ import annotations

import re
from fractions import Fraction

MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS

_DURATIONS = {
    "ns": 1,
    "us": MICROSECOND_NS,
    "µs": MICROSECOND_NS,
    "ms": MILLISECOND_NS,
    "s": SECOND_NS,
    "min": MINUTE_NS,
    "h": HOUR_NS,
    "day": DAY_NS,
    "days": DAY_NS,
}
_RATES = {
    "bit/s": 1,
    "kbit/s": 10**3,
    "Mbit/s": 10**6,
    "Gbit/s": 10**9,
    "B/s": 8,
    "kB/s": 8 * 10**3,
    "MB/s": 8 * 10**6,
    "GB/s": 8 * 10**9,
}
_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_QUANTITY = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-zµ/]+)\s*", re.ASCII | re.IGNORECASE)
_CLOCK = re.compile(r"\s*(?:day\s+([0-9]{1,5})\s*)?(?:([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?\s*", re.ASCII)

DURATION_EXAMPLE = "a duration with its unit, such as '250 ms', '2 h' or '30 days'"
MOMENT_EXAMPLE = "a duration since the start such as '30 s', or a day and time such as 'day 3 10:15'"
BANDWIDTH_EXAMPLE = "a bandwidth with its unit, such as '100 Mbit/s' or '1 Gbit/s'"
SIZE_EXAMPLE = "a size with its unit, such as '512 B', '64 KiB' or '1 MiB'"

MAXIMUM_NS = 10**17  # three years, as much as a link may take: no sum of a few of them leaves 64 bits


def _quantity(value: object, units: dict[str, int], expected: str) -> int:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {expected}; found {value!r}")
    number, unit = match.groups()
    if unit not in units:
        raise ValueError(f"expected {expected}; found {value!r}, whose unit is none of {', '.join(units)}")
    amount = int(Fraction(number.replace("_", "")) * units[unit])
    if amount > MAXIMUM_NS:
        raise ValueError(f"expected {expected}; found {value!r}, which is too large")
    return amount


def duration_ns(value: object) -> int:
    """Nanoseconds in a text such as "250 ms". ValueError says what was expected."""
    return _quantity(value, _DURATIONS, DURATION_EXAMPLE)


def period_ns(value: object) -> int:
    """A duration longer than zero."""
    duration = duration_ns(value)
    if duration == 0:
        raise ValueError(f"expected {DURATION_EXAMPLE}, longer than 0; found {value!r}")
    return duration


def bandwidth_bps(value: object) -> int:
    """Bits a second in a text such as "100 Mbit/s"; zero is refused, since nothing would ever arrive."""
    rate = _quantity(value, _RATES, BANDWIDTH_EXAMPLE)
    if rate == 0:
        raise ValueError(f"expected {BANDWIDTH_EXAMPLE}; found {value!r} (leave the key out for no limit)")
    return rate


def size_bytes(value: object) -> int:
    """Bytes in a text such as "64 KiB" (1024) or "64 kB" (1000); zero is refused."""
    size = _quantity(value, _SIZES, SIZE_EXAMPLE)
    if size == 0:
        raise ValueError(f"expected {SIZE_EXAMPLE}, more than 0; found {value!r}")
    return size


def moment_ns(value: object) -> int:
    """Nanoseconds since the run began at 00:00 of day 1: "30 s", "10:15" (day 1), "day 3", "day 3 10:15"."""
    match = _CLOCK.fullmatch(value) if isinstance(value, str) and value.strip() else None
    if match is None:
        return _quantity(value, _DURATIONS, MOMENT_EXAMPLE)
    day, hour, minute, second = (int(part or 0) for part in match.groups())
    if match.group(1) is not None and day == 0:
        raise ValueError(f"expected {MOMENT_EXAMPLE}; found {value!r} (days count from 1)")
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"expected {MOMENT_EXAMPLE}; found {value!r} (no such time of day)")
    return max(day - 1, 0) * DAY_NS + hour * HOUR_NS + minute * MINUTE_NS + second * SECOND_NS


def _largest_unit(amount: int, units: list[tuple[str, int]]) -> str:
    """The same quantity as text, in the largest unit that divides it, so that reading it back is exact."""
    for name, size in units:
        if amount % size == 0:
            return f"{amount // size} {name}"
    raise AssertionError(f"{amount} is not a whole number of {units[-1][0]}")


def duration_text(ns: int) -> str:
    """Nanoseconds as a scenario file would write them."""
    if ns == 0:
        return "0 ms"
    units = [("days", DAY_NS), ("h", HOUR_NS), ("min", MINUTE_NS), ("s", SECOND_NS)]
    return _largest_unit(ns, [*units, ("ms", MILLISECOND_NS), ("us", MICROSECOND_NS), ("ns", 1)])


def bandwidth_text(bps: int) -> str:
    """Bits a second as a scenario file would write them."""
    return _largest_unit(bps, [("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3), ("bit/s", 1)])


def size_text(size: int) -> str:
    """Bytes as a scenario file would write them."""
    return _largest_unit(size, [("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1)])
