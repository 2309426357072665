"""The trace digest of what the loop logged (`network.trace`), in bulk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.memory import (
    B_DIGEST,
    B_ROOT,
    B_STATE,
    CHECKPOINT,
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
    KEY_BITS,
    LANE,
    PROCESS,
    Q_OPERATION,
    Q_REPLIED,
    Q_RESULT,
    Q_SEQUENCE,
    REPLY,
    REQUEST,
    ROWS,
    TIMER,
    Memory,
)
from tradebft.network.trace import GOLDEN, LANES

_GOLDEN, _FIRST, _SECOND = np.uint64(GOLDEN), np.uint64(LANES[0]), np.uint64(LANES[1])
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_HALF = np.uint64(0xFFFFFFFF)
_MASK = (1 << KEY_BITS) - 1

Sums = NDArray[np.uint64]  # of the high halves, and of the two quarters of the low ones


@inner
def _fold(h: int, field: int) -> int:
    x = (h ^ np.uint64(field)) + _GOLDEN
    x = (x ^ (x >> _30)) * _A
    x = (x ^ (x >> _27)) * _B
    return x ^ (x >> _31)


@inner
def _add(sums: Sums, high: int, low: int) -> None:
    sums[0] += high
    sums[1] += low >> _32
    sums[2] += low & _HALF


@inner
def _digest_of(m: Memory, kind: int, seq: int, about: int) -> int:
    """The digest that an event of that kind bears."""
    if kind == REPLY:
        return m.request[Q_RESULT, about]
    if kind == EXECUTED:
        return m.batch[B_ROOT, seq]
    if kind == CHECKPOINT:
        return m.batch[B_STATE, seq]
    if kind == TIMER:
        return m.timer_digest[about]
    if kind == REQUEST:
        return m.request[Q_OPERATION, about]
    return m.batch[B_DIGEST, seq]


@compiled
def mix(m: Memory) -> Sums:
    """The sum over everything in the log; the log is empty afterwards."""
    sums = np.zeros(3, dtype=np.uint64)
    for i in range(m.now[EVENTS]):
        kind, sender, seq, about = m.event[i, 0], m.event[i, 1], m.event[i, 2], m.event[i, 3]
        _one(m, sums, kind, sender, seq, about, m.event[i, 4], m.event[i, 5])
    m.now[EVENTS] = 0
    for i in range(m.now[ROWS]):
        kind, seq, keys = m.log[0, i], m.log[2, i], m.log_keys[i]
        high, low = _head(m, kind, m.log[1, i], seq, seq)
        _deliveries(sums, high, low, keys, 0, m.log[3, i])
    m.now[ROWS] = 0
    return sums


@compiled
def in_flight(m: Memory) -> Sums:
    """The sum over what was announced and has not arrived."""
    sums = np.zeros(3, dtype=np.uint64)
    for i in range(m.now[LANE]):
        made = m.lane[2, i]
        kind, seq = m.flight[F_WHAT, made], m.flight[F_ABOUT, made]
        if kind >= PROCESS:
            continue
        if m.flight[F_ROW, made] >= 0:
            high, low = _head(m, kind, m.flight[F_SENDER, made], seq, seq)
            keys = m.arrivals[m.flight[F_ROW, made], : m.flight[F_COUNT, made]]
            _deliveries(sums, high, low, keys, m.flight[F_PLACE, made], m.flight[F_START, made])
        elif kind == REPLY:
            _one(
                m,
                sums,
                kind,
                m.flight[F_SENDER, made],
                m.request[Q_REPLIED, seq],
                seq,
                m.flight[F_TO, made],
                m.lane[0, i],
            )
        else:
            _one(
                m,
                sums,
                kind,
                m.flight[F_SENDER, made],
                m.request[Q_SEQUENCE, seq],
                seq,
                m.flight[F_TO, made],
                m.lane[0, i],
            )
    return sums


@inner
def _head(m: Memory, kind: int, sender: int, seq: int, about: int) -> tuple[int, int]:
    digest = _digest_of(m, kind, seq, about)
    trace_seq = 0 if kind == TIMER else seq
    high, low = _fold(_FIRST, kind), _fold(_SECOND, kind)
    high, low = _fold(high, sender), _fold(low, sender)
    high, low = _fold(high, 0), _fold(low, 0)  # the view
    high, low = _fold(high, trace_seq), _fold(low, trace_seq)
    return _fold(high, digest), _fold(low, digest)


@inner
def _one(
    m: Memory, sums: Sums, kind: int, sender: int, seq: int, about: int, receiver: int, time: int
) -> None:
    high, low = _head(m, kind, sender, seq, about)
    high, low = _fold(high, receiver), _fold(low, receiver)
    _add(sums, _fold(high, time), _fold(low, time))


@inner
def _deliveries(sums: Sums, high: int, low: int, keys: Sums, first: int, start: int) -> None:
    for j in range(first, len(keys)):
        receiver, time = keys[j] & _MASK, start + (keys[j] >> KEY_BITS)
        above, below = _fold(high, receiver), _fold(low, receiver)
        _add(sums, _fold(above, time), _fold(below, time))


def total(sums: Sums) -> int:
    """The sum as one number, to be taken modulo 2^128."""
    high, upper, lower = (int(part) for part in sums)
    return (high << 64) + (upper << 32) + lower
