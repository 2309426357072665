"""What is to come, in the order of `VirtualTime`: messages by time and launching, alarms by time and number."""

from __future__ import annotations

from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.memory import (
    ALARMS,
    F_ABOUT,
    F_COUNT,
    F_PLACE,
    F_ROW,
    F_SENDER,
    F_START,
    F_TO,
    F_WHAT,
    FREE_FLIGHT,
    FREE_ROW,
    I64,
    LANE,
    LAUNCHED,
    NUMBER,
    ROWS_USED,
    Memory,
)


@inner
def _push(times: I64, numbers: I64, items: I64, size: int, time: int, number: int, item: int) -> None:
    """A binary heap over three arrays."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if times[above] < time or (times[above] == time and numbers[above] < number):
            break
        times[at], numbers[at], items[at] = times[above], numbers[above], items[above]
        at = above
    times[at], numbers[at], items[at] = time, number, item


@inner
def _sink(times: I64, numbers: I64, items: I64, size: int, time: int, number: int, item: int) -> None:
    """Put an entry in the place of the first."""
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        right = below + 1
        if right < size and (
            times[right] < times[below] or (times[right] == times[below] and numbers[right] < numbers[below])
        ):
            below = right
        if time < times[below] or (time == times[below] and number < numbers[below]):
            break
        times[at], numbers[at], items[at] = times[below], numbers[below], items[below]
        at = below
    times[at], numbers[at], items[at] = time, number, item


@compiled
def launch(m: Memory, time: int, flight: int) -> None:
    """*flight* is on its way; its first arrival is at *time*."""
    m.now[LAUNCHED] += 1
    size = m.now[LANE]
    _push(m.lane[0], m.lane[1], m.lane[2], size, time, m.now[LAUNCHED], flight)
    m.now[LANE] = size + 1


@inner
def move_on(m: Memory, time: int) -> None:
    """The first flight in the lane arrives next at *time*."""
    number, flight = m.lane[1, 0], m.lane[2, 0]
    _sink(m.lane[0], m.lane[1], m.lane[2], m.now[LANE], time, number, flight)


@inner
def leave(m: Memory) -> None:
    """The first flight in the lane has arrived everywhere."""
    flight = m.lane[2, 0]
    size = m.now[LANE] - 1
    m.now[LANE] = size
    if size:
        _sink(
            m.lane[0],
            m.lane[1],
            m.lane[2],
            size,
            m.lane[0, size],
            m.lane[1, size],
            m.lane[2, size],
        )
    if m.flight[F_ROW, flight] >= 0:
        m.free[m.flight[F_ROW, flight]] = m.now[FREE_ROW]
        m.now[FREE_ROW] = m.flight[F_ROW, flight]
        m.now[ROWS_USED] -= 1
    m.flight[F_PLACE, flight] = m.now[FREE_FLIGHT]
    m.now[FREE_FLIGHT] = flight


@compiled
def flight(m: Memory, what: int, sender: int, to: int, about: int, start: int) -> int:
    """A flight with one receiver."""
    made = m.now[FREE_FLIGHT]
    m.now[FREE_FLIGHT] = m.flight[F_PLACE, made]
    m.flight[F_WHAT, made], m.flight[F_SENDER, made], m.flight[F_TO, made], m.flight[F_ABOUT, made] = (
        what,
        sender,
        to,
        about,
    )
    m.flight[F_START, made], m.flight[F_PLACE, made], m.flight[F_COUNT, made], m.flight[F_ROW, made] = (
        start,
        0,
        1,
        -1,
    )
    return made


@inner
def row(m: Memory, made: int, count: int) -> int:
    """Room for the arrivals of a flight with *count* receivers."""
    found = m.now[FREE_ROW]
    m.now[FREE_ROW] = m.free[found]
    m.now[ROWS_USED] += 1
    m.flight[F_ROW, made], m.flight[F_COUNT, made] = found, count
    return found


@inner
def alarm(m: Memory, time: int, what: int) -> None:
    """A timer's alarm; it takes the number that an event of SimPy would."""
    size = m.now[ALARMS]
    _push(m.alarm[0], m.alarm[1], m.alarm[2], size, time, m.now[NUMBER], what)
    m.now[NUMBER] += 1
    m.now[ALARMS] = size + 1


@inner
def quieten(m: Memory) -> None:
    """The first alarm has rung."""
    size = m.now[ALARMS] - 1
    m.now[ALARMS] = size
    if size:
        _sink(
            m.alarm[0],
            m.alarm[1],
            m.alarm[2],
            size,
            m.alarm[0, size],
            m.alarm[1, size],
            m.alarm[2, size],
        )
