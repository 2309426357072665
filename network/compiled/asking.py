"""When a replica asks its peers what it misses: the first part of `consensus.pbft.recovery`."""

from __future__ import annotations

from tradebft.consensus.round_trip import LEAST_NS
from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.leaving import alone, broadcast, set_timer
from tradebft.network.compiled.memory import (
    ASKERS,
    AT_STATUS,
    BATCH_SET,
    CROWD_ASKED,
    FAULTS,
    LONGEST_NS,
    NODES,
    PRIMARY,
    R_ASKED_AT,
    R_ASKED_IN_VAIN,
    R_ASKED_NS,
    R_ASKING,
    R_DEVIATION,
    R_EXECUTED,
    R_HEARD_OF,
    R_LEFT_BEHIND,
    R_LOW,
    R_MOVED_NS,
    R_NONCE,
    R_SMOOTHED,
    R_SOONEST,
    R_TOP,
    S_ACCEPTED,
    S_ACCEPTED_NS,
    S_COMMITS,
    S_PREPARES,
    SAID,
    SLOT_MASK,
    STATUS,
    STATUS_FIXED,
    STATUS_NS,
    STATUS_SIZE,
    STATUS_TIMER,
    WAITING,
    WHY,
    Numbers,
)
from tradebft.network.compiled.places import length, of_replica, of_slot


@inner
def _ask_in(m: Numbers, now: int, r: int, delay: int) -> None:
    """`Recovery._ask_in`."""
    m[of_replica(m, R_ASKING, r)], m[of_replica(m, R_ASKED_AT, r)] = 1, now
    set_timer(m, now, r, STATUS_TIMER, delay)


@inner
def _patience(m: Numbers, r: int) -> int:
    """`Recovery._patience`."""
    interval, usual = m[STATUS_NS], m[of_replica(m, R_SMOOTHED, r)]
    if not m[STATUS_FIXED] and usual:
        patience = min(interval, max(LEAST_NS, 2 * (usual + 4 * m[of_replica(m, R_DEVIATION, r)])))
        interval = min(interval, patience << m[of_replica(m, R_ASKED_IN_VAIN, r)])
    return interval + interval // 3 if r == m[PRIMARY] else interval


@inner
def ask_later(m: Numbers, now: int, r: int) -> None:
    """`Recovery.ask_later`."""
    if not m[of_replica(m, R_ASKING, r)]:
        _ask_in(m, now, r, _patience(m, r))


@inner
def _status(m: Numbers, r: int) -> int:
    """Where *r* stands, said as the last; bytes."""
    m[of_replica(m, R_NONCE, r)] += 1
    low, executed = m[of_replica(m, R_LOW, r)], m[of_replica(m, R_EXECUTED, r)]
    nonce, at = m[of_replica(m, R_NONCE, r)], m[AT_STATUS] + 3 * m[SAID]
    m[at], m[at + 1], m[at + 2] = low, executed, nonce
    m[SAID] += 1
    return m[STATUS_SIZE] + length(low) + length(executed) + length(nonce) + length(r)


@inner
def tell(m: Numbers, now: int, r: int) -> None:
    """Where *r* stands, to everybody."""
    if m[NODES] > ASKERS:
        m[WHY] = CROWD_ASKED
        return
    size = _status(m, r)
    broadcast(m, now, r, STATUS, m[SAID] - 1, size)


@inner
def ask_alone(m: Numbers, now: int, r: int, peer: int) -> None:
    """`Recovery._ask_alone`."""
    nonce = of_replica(m, R_NONCE, r)
    m[nonce] += ((peer - r) % m[NODES] - m[nonce] - 1) % (m[NODES] - 1)
    size = _status(m, r)
    alone(m, now, r, peer, STATUS, m[SAID] - 1, size)


@inner
def ask(m: Numbers, now: int, r: int) -> None:
    """`Recovery.ask_now`."""
    tell(m, now, r)
    ask_later(m, now, r)


@inner
def _outstanding(m: Numbers, r: int) -> bool:
    executed, low = m[of_replica(m, R_EXECUTED, r)], m[of_replica(m, R_LOW, r)]
    if (r == m[PRIMARY] and m[WAITING] > 0 and not m[BATCH_SET]) or executed < low:
        return True
    if m[of_replica(m, R_LEFT_BEHIND, r)] or m[of_replica(m, R_HEARD_OF, r)] > executed:
        return True
    for seq in range(executed + 1, m[of_replica(m, R_TOP, r)] + 1):
        slot = seq & m[SLOT_MASK]
        votes = max(m[of_slot(m, S_PREPARES, r, slot)], m[of_slot(m, S_COMMITS, r, slot)])
        if m[of_slot(m, S_ACCEPTED, r, slot)] or votes > m[FAULTS]:
            return True
    return False


@inner
def on_status_timer(m: Numbers, now: int, r: int) -> bool:
    """`Recovery.on_status_timer`, up to `_propose_again`. Whether *r* is stuck."""
    m[of_replica(m, R_ASKING, r)] = 0
    if not _outstanding(m, r):
        return False
    if m[of_replica(m, R_MOVED_NS, r)] > m[of_replica(m, R_ASKED_AT, r)]:
        m[of_replica(m, R_ASKED_IN_VAIN, r)] = 0
    stuck, patience = now - m[of_replica(m, R_MOVED_NS, r)], _patience(m, r)
    if stuck < patience:
        _ask_in(m, now, r, patience - stuck)
        return False
    m[of_replica(m, R_ASKED_IN_VAIN, r)] = min(m[of_replica(m, R_ASKED_IN_VAIN, r)] + 1, 20)
    m[of_replica(m, R_ASKED_NS, r)] = now
    m[of_replica(m, R_LEFT_BEHIND, r)] = m[of_replica(m, R_HEARD_OF, r)] = 0
    ask(m, now, r)
    return True


@inner
def took(m: Numbers, now: int, r: int, slot: int) -> None:
    """`Recovery.took` and `RoundTrip.sample`."""
    accepted = m[of_slot(m, S_ACCEPTED_NS, r, slot)]
    m[of_slot(m, S_ACCEPTED_NS, r, slot)] = -1
    if accepted < 0:
        return
    usual, deviation, sample = of_replica(m, R_SMOOTHED, r), of_replica(m, R_DEVIATION, r), now - accepted
    if r == m[PRIMARY]:
        soonest = of_replica(m, R_SOONEST, r)
        m[soonest] = min(max(1, sample), m[soonest] if m[soonest] else LONGEST_NS)
    if not m[usual]:
        m[usual], m[deviation] = max(1, sample), sample // 2
        if m[of_replica(m, R_ASKING, r)] and not m[STATUS_FIXED]:
            m[of_replica(m, R_ASKING, r)] = 0
            ask_later(m, now, r)
        return
    if m[of_replica(m, R_ASKED_NS, r)] >= accepted and sample >= m[usual]:
        return
    error = sample - m[usual]
    m[usual] = max(1, m[usual] + error // 8)
    m[deviation] += (abs(error) - m[deviation]) // 4
