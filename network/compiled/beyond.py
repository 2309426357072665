"""What is not covered, noticed before it happens: then the reference goes on from there (`Continued`)."""

from __future__ import annotations

from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.memory import (
    AT_CLIENT,
    AT_STATUS,
    BEYOND_WINDOW,
    CHECKPOINT,
    CLIENT_WINDOW,
    CROWDED,
    FAULTS,
    FETCHED,
    NODES,
    OUTRUN,
    Q_ARRIVED,
    Q_CLIENT,
    Q_SEQUENCE,
    R_EXECUTED,
    R_LOW,
    R_PROOF,
    R_PROOF_BEFORE,
    R_SPARED,
    R_TOP,
    R_WATCHED,
    REQUEST,
    REQUESTS_WAITING,
    S_COMMITS,
    SLOT_MASK,
    STATUS,
    T_ALARM_AT,
    T_DEADLINE,
    VIEW_TIMER,
    WAITING,
    K,
    Numbers,
)
from tradebft.network.compiled.places import of_replica, of_request, of_slot, of_timer

CHECKPOINTS_AHEAD = 4  # that a replica may be behind: more would push votes out (`CheckpointVotes`)


@inner
def helps(m: Numbers, r: int, peer: int, nonce: int) -> bool:
    """`Recovery._is_helper`."""
    return m[NODES] <= 3 or ((r - peer) % m[NODES] - nonce) % (m[NODES] - 1) <= m[FAULTS]


@inner
def _beyond_checkpoints(m: Numbers, r: int, seq: int) -> int:
    """`OUTRUN`: a vote so far ahead that others would go (`CheckpointVotes`). Its own never are: a log is no longer."""
    return OUTRUN if seq > m[of_replica(m, R_LOW, r)] + CHECKPOINTS_AHEAD * m[K] else 0


@inner
def _beyond_requests(m: Numbers, rid: int) -> int:
    """`BEYOND_WINDOW` or `CROWDED`: the primary would not take that request."""
    if m[of_request(m, Q_ARRIVED, rid)]:
        return 0
    executed = m[m[AT_CLIENT] + m[of_request(m, Q_CLIENT, rid)]]
    if m[of_request(m, Q_SEQUENCE, rid)] > executed + m[CLIENT_WINDOW]:
        return BEYOND_WINDOW
    return CROWDED if m[WAITING] >= m[REQUESTS_WAITING] else 0


@inner
def _beyond_blocks(m: Numbers, r: int, peer: int, number: int) -> int:
    """`FETCHED`: what *peer* asks for by that Status, *r* has in a snapshot only."""
    at = m[AT_STATUS] + 3 * number
    stable, executed, nonce = m[at], m[at + 1], m[at + 2]
    blocks_above = m[of_replica(m, R_PROOF_BEFORE, r)] or m[of_replica(m, R_PROOF, r)]
    if executed >= blocks_above:
        return 0
    lacks = executed < m[of_replica(m, R_EXECUTED, r)] or stable < m[of_replica(m, R_LOW, r)]
    return FETCHED if lacks and helps(m, r, peer, nonce) else 0


@inner
def beyond(m: Numbers, what: int, r: int, sender: int, about: int) -> int:
    """Why nobody here knows what *r* would do about that; 0: somebody does."""
    if what == CHECKPOINT:
        return _beyond_checkpoints(m, r, about)
    if what == REQUEST:
        return _beyond_requests(m, about)
    if what == STATUS:
        return _beyond_blocks(m, r, sender, about)
    return 0


@inner
def _spares(m: Numbers, r: int) -> bool:
    """`Changing._spares`, before anything is changed."""
    seq = m[of_replica(m, R_EXECUTED, r)] + 1
    if m[of_replica(m, R_SPARED, r)] == m[of_replica(m, R_WATCHED, r)] or seq > m[of_replica(m, R_TOP, r)]:
        return False
    return m[of_slot(m, S_COMMITS, r, seq & m[SLOT_MASK])] > m[FAULTS]


@inner
def suspects(m: Numbers, due: int, what: int) -> bool:
    """Whether that alarm is of a replica that wants another view."""
    r, timer = what // 3, what % 3
    if timer != VIEW_TIMER or m[of_timer(m, T_ALARM_AT, r, timer)] != due:
        return False
    deadline = m[of_timer(m, T_DEADLINE, r, timer)]
    if not 0 <= deadline <= due or m[of_replica(m, R_EXECUTED, r)] < m[of_replica(m, R_LOW, r)]:
        return False
    return not _spares(m, r)
