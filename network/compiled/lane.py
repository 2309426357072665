"""What is to come, in the order of `VirtualTime`: messages by time and launching, alarms by time and number.

Both queues are binary heaps of two numbers an entry: the time; and the order among those of that time, whose last bits
are the item.
"""

from __future__ import annotations

from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.memory import (
    ALARMS,
    AT_ALARM,
    AT_FREE,
    AT_LANE,
    F_ABOUT,
    F_COUNT,
    F_NEXT,
    F_ORDER,
    F_PLACE,
    F_ROW,
    F_SENDER,
    F_START,
    F_TO,
    F_WHAT,
    FLYING,
    FREE_FLIGHT,
    FREE_ROW,
    ITEM_BITS,
    ITEMS,
    LANE,
    LAUNCHED,
    NUMBER,
    PROCESS,
    R_LINE,
    ROWS_USED,
    Numbers,
)
from tradebft.network.compiled.places import of_flight, of_replica


@inner
def item_of(order: int) -> int:
    """What the second number of an entry stands for."""
    return order & ITEMS


@inner
def push(m: Numbers, heap: int, hole: int, time: int, order: int) -> None:
    """An entry comes to the *hole* of the heap that begins at *heap*, or to where it belongs above that."""
    while hole > 0:
        up = heap + 2 * ((hole - 1) >> 1)
        if m[up] < time or (m[up] == time and m[up + 1] < order):
            break
        here = heap + 2 * hole
        m[here], m[here + 1] = m[up], m[up + 1]
        hole = (hole - 1) >> 1
    here = heap + 2 * hole
    m[here], m[here + 1] = time, order


@inner
def _sink(m: Numbers, heap: int, size: int, time: int, order: int) -> None:
    """Put an entry in the place of the first of *size*.

    The hole goes down to a leaf and the entry, which nearly always belongs there, up from it: comparing it on the way
    down would be guessed wrong by the processor, as often as not, and so would a branch between two children.
    """
    hole = 0
    while 2 * hole + 2 < size:
        here, down = heap + 2 * hole, heap + 2 * (2 * hole + 1)
        right = (m[down + 2] < m[down]) | ((m[down + 2] == m[down]) & (m[down + 3] < m[down + 1]))
        down += 2 * right
        m[here], m[here + 1] = m[down], m[down + 1]
        hole = 2 * hole + 1 + right
    if 2 * hole + 1 < size:
        here, down = heap + 2 * hole, heap + 2 * (2 * hole + 1)
        m[here], m[here + 1] = m[down], m[down + 1]
        hole = 2 * hole + 1
    push(m, heap, hole, time, order)


@inner
def pop(m: Numbers, heap: int, size: int) -> None:
    """Take the first of *size* entries away."""
    last = heap + 2 * (size - 1)
    if size > 1:
        _sink(m, heap, size - 1, m[last], m[last + 1])


@inner
def launch(m: Numbers, time: int, flight: int) -> None:
    """*flight* is on its way; its first arrival is at *time*."""
    m[LAUNCHED] += 1
    push(m, m[AT_LANE], m[LANE], time, m[LAUNCHED] << ITEM_BITS | flight)
    m[LANE] += 1


@inner
def move_on(m: Numbers, time: int) -> None:
    """The first flight in the lane arrives next at *time*."""
    heap = m[AT_LANE]
    _sink(m, heap, m[LANE], time, m[heap + 1])


@inner
def free(m: Numbers, flight: int) -> None:
    """The room of *flight* is for others."""
    row = m[of_flight(m, F_ROW, flight)]
    if row >= 0:
        m[m[AT_FREE] + row] = m[FREE_ROW]
        m[FREE_ROW] = row
        m[ROWS_USED] -= 1
    m[of_flight(m, F_WHAT, flight)] = -1
    m[of_flight(m, F_PLACE, flight)] = m[FREE_FLIGHT]
    m[FREE_FLIGHT] = flight
    m[FLYING] -= 1


@inner
def leave(m: Numbers) -> None:
    """The first flight in the lane has arrived everywhere."""
    flight = item_of(m[m[AT_LANE] + 1])
    pop(m, m[AT_LANE], m[LANE])
    m[LANE] -= 1
    free(m, flight)


@inner
def flight(m: Numbers, what: int, sender: int, to: int, about: int, start: int) -> int:
    """A flight with one receiver."""
    made = m[FREE_FLIGHT]
    m[FREE_FLIGHT] = m[of_flight(m, F_PLACE, made)]
    m[FLYING] += 1
    m[of_flight(m, F_WHAT, made)] = what
    m[of_flight(m, F_SENDER, made)] = sender
    m[of_flight(m, F_TO, made)] = to
    m[of_flight(m, F_ABOUT, made)] = about
    m[of_flight(m, F_START, made)] = start
    m[of_flight(m, F_PLACE, made)] = 0
    m[of_flight(m, F_COUNT, made)] = 1
    m[of_flight(m, F_ROW, made)] = -1
    return made


@inner
def line_up(m: Numbers, time: int, what: int, sender: int, r: int, about: int) -> None:
    """`VirtualTime.line_up`: the processor of *r* is done with that at *time*, and with all else before. Only the first
    in line is in the lane: a processor that has more to do than it can has a long one."""
    made, last = flight(m, what | PROCESS, sender, r, about, time), m[of_replica(m, R_LINE, r)]
    m[LAUNCHED] += 1
    order = m[LAUNCHED] << ITEM_BITS | made
    m[of_flight(m, F_NEXT, made)], m[of_flight(m, F_ORDER, made)] = -1, order
    m[of_replica(m, R_LINE, r)] = made
    if last >= 0:
        m[of_flight(m, F_NEXT, last)] = made
    else:
        push(m, m[AT_LANE], m[LANE], time, order)
        m[LANE] += 1


@inner
def work_done(m: Numbers, r: int, made: int) -> None:
    """The first in the lane was work for the processor of *r*: whatever stood in line behind it is there now."""
    following = m[of_flight(m, F_NEXT, made)]
    if following < 0:
        if m[of_replica(m, R_LINE, r)] == made:
            m[of_replica(m, R_LINE, r)] = -1
        leave(m)
        return
    time, order = m[of_flight(m, F_START, following)], m[of_flight(m, F_ORDER, following)]
    _sink(m, m[AT_LANE], m[LANE], time, order)
    free(m, made)


@inner
def row(m: Numbers, made: int, count: int) -> int:
    """Room for the arrivals of a flight with *count* receivers."""
    found = m[FREE_ROW]
    m[FREE_ROW] = m[m[AT_FREE] + found]
    m[ROWS_USED] += 1
    m[of_flight(m, F_ROW, made)], m[of_flight(m, F_COUNT, made)] = found, count
    return found


@inner
def alarm(m: Numbers, time: int, what: int) -> None:
    """A timer's alarm; it takes the number that an event of SimPy would."""
    push(m, m[AT_ALARM], m[ALARMS], time, m[NUMBER] << ITEM_BITS | what)
    m[NUMBER] += 1
    m[ALARMS] += 1


@inner
def quieten(m: Numbers) -> None:
    """The first alarm has rung."""
    pop(m, m[AT_ALARM], m[ALARMS])
    m[ALARMS] -= 1
