"""The trace digest of what the loop logged (`network.trace`), in bulk."""

from __future__ import annotations

import numpy as np
from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.lane import free, item_of, push
from tradebft.network.compiled.memory import (
    AT_EVENT,
    AT_LANE,
    AT_LOG,
    AT_LOG_KEYS,
    B_DIGEST,
    B_ROOT,
    B_STATE,
    CHECKPOINT,
    COMMIT,
    CRASHED,
    EVENTS,
    EXECUTED,
    F_ABOUT,
    F_COUNT,
    F_PLACE,
    F_ROW,
    F_SENDER,
    F_START,
    F_TO,
    F_WHAT,
    FETCH_REPLY,
    I64,
    KEY_BITS,
    LANE,
    MISHAPS,
    NODES,
    PRE_PREPARE,
    PROCESS,
    Q_OPERATION,
    Q_RESULT,
    REPLY,
    REQUEST,
    ROWS,
    STATUS,
    TIMER,
    TIMER_DIGESTS,
    VIEW,
    WITHDRAWN,
    Numbers,
)
from tradebft.network.compiled.mixing import FIRST, SECOND, Table, Word, Words, add, fold
from tradebft.network.compiled.places import of_batch, of_flight, of_request, row_of, seq_of
from tradebft.network.compiled.pointers import begin, part

_MASK = (1 << KEY_BITS) - 1


@inner
def _fold(h: Word, field: int) -> Word:
    return fold(h, np.uint64(field))


@inner
def _digest_of(m: Numbers, kind: int, seq: int, about: int) -> int:
    """The digest that an event of that kind bears."""
    if kind == REPLY:
        return m[of_request(m, Q_RESULT, about)]
    if kind == EXECUTED:
        return m[of_batch(m, B_ROOT, seq)]
    if kind == CHECKPOINT:
        return m[of_batch(m, B_STATE, seq)]
    if kind == TIMER:
        return m[TIMER_DIGESTS + about]
    if kind == REQUEST:
        return m[of_request(m, Q_OPERATION, about)]
    if kind in (STATUS, FETCH_REPLY):
        return 0
    return m[of_batch(m, B_DIGEST, seq)]


@inner
def _head(m: Numbers, kind: int, sender: int, seq: int, about: int) -> tuple[Word, Word]:
    digest = _digest_of(m, kind, seq, about)
    view = m[VIEW] if PRE_PREPARE <= kind <= COMMIT or kind in (REPLY, STATUS) else 0
    trace_seq = 0 if kind == TIMER else seq
    high, low = _fold(FIRST, kind), _fold(SECOND, kind)
    high, low = _fold(high, sender), _fold(low, sender)
    high, low = _fold(high, view), _fold(low, view)
    high, low = _fold(high, trace_seq), _fold(low, trace_seq)
    return _fold(high, digest), _fold(low, digest)


@inner
def _one(
    m: Numbers, sums: Words, kind: int, sender: int, seq: int, about: int, receiver: int, time: int
) -> None:
    high, low = _head(m, kind, sender, seq, about)
    high, low = _fold(high, receiver), _fold(low, receiver)
    add(sums, _fold(high, time), _fold(low, time))


@inner
def _deliveries(m: Numbers, sums: Words, high: Word, low: Word, first: int, end: int, start: int) -> None:
    for at in range(first, end):
        receiver, time = m[at] & _MASK, start + (m[at] >> KEY_BITS)
        above, below = _fold(high, receiver), _fold(low, receiver)
        add(sums, _fold(above, time), _fold(below, time))


@compiled
def mix(buffer: I64) -> Table:
    """(2, 3): the sum over everything in the log, and over what is withdrawn; the log is empty afterwards."""
    m, sums = begin(buffer), np.zeros((2, 3), dtype=np.uint64)
    for i in range(m[EVENTS]):
        at = m[AT_EVENT] + 7 * i
        kind, gone = m[at] & ~WITHDRAWN, 1 if m[at] & WITHDRAWN else 0
        _one(m, sums[gone], kind, m[at + 1], m[at + 2], m[at + 3], m[at + 4], m[at + 5])
    m[EVENTS] = 0
    others = m[NODES] - 1
    for i in range(m[ROWS]):
        at = m[AT_LOG] + 6 * i
        high, low = _head(m, m[at], m[at + 1], m[at + 2], m[at + 2])
        keys = m[AT_LOG_KEYS] + others * i
        _deliveries(m, sums[0], high, low, keys, keys + m[at + 4], m[at + 3])
    m[ROWS] = 0
    return sums


@inner
def _on_its_way(m: Numbers, sums: Words, time: int, made: int) -> None:
    """What of a flight has not arrived; *time*: when the next of it does."""
    kind, sender, about = (
        m[of_flight(m, F_WHAT, made)],
        m[of_flight(m, F_SENDER, made)],
        m[of_flight(m, F_ABOUT, made)],
    )
    if kind >= PROCESS:
        return
    row, seq = m[of_flight(m, F_ROW, made)], seq_of(m, kind, about)
    if row >= 0:
        high, low = _head(m, kind, sender, seq, about)
        first = row_of(m, row)
        place, count = m[of_flight(m, F_PLACE, made)], m[of_flight(m, F_COUNT, made)]
        _deliveries(m, sums, high, low, first + place, first + count, m[of_flight(m, F_START, made)])
    else:
        _one(m, sums, kind, sender, seq, about, m[of_flight(m, F_TO, made)], time)


@compiled
def in_flight(buffer: I64) -> Words:
    """The sum over what was announced and has not arrived."""
    m, sums = begin(buffer), np.zeros(3, dtype=np.uint64)
    for i in range(m[LANE]):
        at = m[AT_LANE] + 2 * i
        _on_its_way(m, sums, m[at], item_of(m[at + 1]))
    return sums


@compiled
def recall(buffer: I64, r: int, now: int) -> Words:
    """Take out what *r* was to send after *now*: the sum over it."""
    m, sums = begin(buffer), np.zeros(3, dtype=np.uint64)
    kept, lane, count = 0, m[AT_LANE], m[LANE]
    entries = part(m, lane, 2 * count).copy()
    for i in range(count):
        time, order = entries[2 * i], entries[2 * i + 1]
        made = item_of(order)
        own = m[of_flight(m, F_SENDER, made)] == r and m[of_flight(m, F_WHAT, made)] < PROCESS
        if own and m[of_flight(m, F_START, made)] > now:
            _on_its_way(m, sums, time, made)
            m[MISHAPS + CRASHED] += m[of_flight(m, F_COUNT, made)]
            free(m, made)
            continue
        push(m, lane, kept, time, order)
        kept += 1
    m[LANE] = kept
    return sums
