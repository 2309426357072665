"""What a replica answers to one that asks, and what that one does with it: the rest of `consensus.pbft.recovery`."""

from __future__ import annotations

from tradebft.network.compiled.asking import ask_alone, ask_later
from tradebft.network.compiled.beyond import helps
from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.leaving import alone, proposal_size, vote_size
from tradebft.network.compiled.memory import (
    ANSWER_SIZE,
    AT_ANSWER,
    AT_HEARD,
    AT_STATUS,
    B_SIZE,
    BLOCK_SIZE,
    BLOCKS_A_REPLY,
    CHECKPOINT,
    COMMIT,
    FETCH_REPLY,
    IGNORED,
    MANY_STATUSES,
    NEXT_SEQ,
    NODES,
    NOTHING_NEW,
    PRE_PREPARE,
    PREPARE,
    PRIMARY,
    PROOF_SIZE,
    R_ANSWERED,
    R_ASKED_NS,
    R_EXECUTED,
    R_LEFT_BEHIND,
    R_LOW,
    R_SMOOTHED,
    R_SOONEST,
    R_TOP,
    S_ACCEPTED,
    S_ACCEPTED_NS,
    S_CLOSED,
    S_COMMITS,
    S_COMMITS_OF,
    S_DECIDED,
    S_PREPARED,
    S_PREPARES,
    S_PREPARES_OF,
    SECOND_STATUS,
    SHOWN,
    SLOT_MASK,
    STATUS_BURST,
    VIEW_TIMEOUT,
    K,
    L,
    Numbers,
)
from tradebft.network.compiled.places import among, length, of_batch, of_replica, of_slot
from tradebft.network.compiled.rules import execute_in_order, hand_out, progressed, propose, reach, stabilise


@inner
def _heard(m: Numbers, r: int, peer: int) -> int:
    """What *r* knows of the Statuses of *peer*."""
    return m[AT_HEARD] + 4 * (r * m[NODES] + peer)


@inner
def _allowed(m: Numbers, now: int, heard: int) -> bool:
    """`Quota.allows`, of Statuses: tokens that are used up, and since when they grow back."""
    every = max(1, m[VIEW_TIMEOUT] // 100)
    left, since = STATUS_BURST - m[heard + 1], m[heard + 2] if m[heard + 1] else now
    more = max(0, now - since) // every
    if left + more >= STATUS_BURST:
        left, since = STATUS_BURST, now
    else:
        left, since = left + more, since + more * every
    allowed = left > 0
    m[heard + 1], m[heard + 2] = STATUS_BURST - left + (1 if allowed else 0), since
    return allowed


@inner
def _checkpoints_above(m: Numbers, now: int, r: int, peer: int, stable: int) -> None:
    """`State.own_checkpoints`: what it voted for since its last stable one, within a window."""
    last = m[of_replica(m, R_ANSWERED, r)] // m[K] * m[K]
    first = max(m[of_replica(m, R_LOW, r)], last - m[L] - 1)
    for seq in range(first // m[K] * m[K] + m[K], last + 1, m[K]):
        if seq > stable:
            alone(m, now, r, peer, CHECKPOINT, seq, vote_size(m, CHECKPOINT, r, seq))


@inner
def answer_size(m: Numbers, number: int) -> int:
    """Bytes of a FetchReply, but for its sender's number."""
    at = m[AT_ANSWER] + 3 * number
    first, last, proof = m[at], m[at + 1], m[at + 2]
    size = m[ANSWER_SIZE]
    if proof:
        size += m[PROOF_SIZE] + length(proof) - 1  # in place of a nil
    for seq in range(first, last + 1):
        size += m[BLOCK_SIZE] + 2 * length(seq) + m[of_batch(m, B_SIZE, seq)]
    return size + (2 if last - first + 1 >= 16 else 0)


@inner
def certificates(m: Numbers, r: int, number: int) -> int:
    """How many *r* would check in a FetchReply as it stands: of blocks that are next, of a later checkpoint."""
    at, executed = m[AT_ANSWER] + 3 * number, m[of_replica(m, R_EXECUTED, r)]
    first, last, proof = m[at], m[at + 1], m[at + 2]
    blocks = max(0, last - executed) if first <= executed + 1 else 0
    return blocks + (1 if proof > m[of_replica(m, R_LOW, r)] else 0)


@inner
def _history_after(m: Numbers, now: int, r: int, peer: int, executed: int) -> None:
    """`Recovery._history_after` and `ReplicaNode._send_blocks`."""
    mine, low = m[of_replica(m, R_EXECUTED, r)], m[of_replica(m, R_LOW, r)]
    last = min(mine, executed + BLOCKS_A_REPLY)
    at = m[AT_ANSWER] + 3 * m[SHOWN]
    m[at], m[at + 1], m[at + 2] = executed + 1, last, low
    m[SHOWN] += 1
    alone(m, now, r, peer, FETCH_REPLY, m[SHOWN] - 1, answer_size(m, m[SHOWN] - 1) + length(r))


@inner
def _voted(m: Numbers, r: int, slot: int, peer: int) -> bool:
    """Whether *r* has a vote of *peer*."""
    prepares, commits = of_slot(m, S_PREPARES_OF, r, slot), of_slot(m, S_COMMITS_OF, r, slot)
    return among(m, prepares, peer) or among(m, commits, peer)


@inner
def _overdue(m: Numbers, now: int, r: int, sent: int) -> bool:
    """`Recovery._overdue`."""
    soonest = m[of_replica(m, R_SOONEST, r)]
    return soonest == 0 or now - max(0, sent) >= m[of_replica(m, R_SMOOTHED, r)] - soonest


@inner
def _missed(m: Numbers, now: int, r: int, peer: int, seq: int) -> bool:
    """Whether `Recovery._repeat` sends anything."""
    slot = seq & m[SLOT_MASK]
    if not m[of_slot(m, S_ACCEPTED, r, slot)] or _voted(m, r, slot, peer):
        return False
    return _overdue(m, now, r, m[of_slot(m, S_ACCEPTED_NS, r, slot)])


@inner
def owed(m: Numbers, now: int, r: int, peer: int) -> bool:
    """Whether the primary *r*, if it is stuck, sends its next proposal to *peer* once more."""
    seq = m[of_replica(m, R_EXECUTED, r)] + 1
    if peer == r or seq > m[of_replica(m, R_TOP, r)] or m[NEXT_SEQ] > seq + 1:
        return False
    return _overdue(m, now, r, m[_heard(m, r, peer) + 3]) and _missed(m, now, r, peer, seq)


@inner
def propose_again(m: Numbers, now: int, r: int) -> None:
    """`Recovery._propose_again`."""
    seq = m[of_replica(m, R_EXECUTED, r)] + 1
    for peer in range(m[NODES]):
        if owed(m, now, r, peer):
            m[_heard(m, r, peer) + 3] = now
            alone(m, now, r, peer, PRE_PREPARE, seq, proposal_size(m, seq))


@inner
def _votes_above(m: Numbers, now: int, r: int, peer: int, seq: int) -> None:
    """`Recovery._votes_above`."""
    shown, repeated = 0, _heard(m, r, peer) + 3
    repeats = r == m[PRIMARY] and _overdue(m, now, r, m[repeated])
    first = max(seq, m[of_replica(m, R_LOW, r)]) + 1
    for number in range(first, m[of_replica(m, R_TOP, r)] + 1):
        slot = number & m[SLOT_MASK]
        accepted, prepared = m[of_slot(m, S_ACCEPTED, r, slot)], m[of_slot(m, S_PREPARED, r, slot)]
        decided = m[of_slot(m, S_DECIDED, r, slot)]
        votes = m[of_slot(m, S_PREPARES, r, slot)] + m[of_slot(m, S_COMMITS, r, slot)]
        if not (accepted or decided or votes):
            continue  # there is no slot
        if shown == BLOCKS_A_REPLY:
            return
        shown += 1
        if m[of_slot(m, S_CLOSED, r, slot)]:
            continue
        if repeats and _missed(m, now, r, peer, number):
            m[repeated] = now
            alone(m, now, r, peer, PRE_PREPARE, number, proposal_size(m, number))
        if r != m[PRIMARY] and accepted:
            alone(m, now, r, peer, PREPARE, number, vote_size(m, PREPARE, r, number))
        if prepared:
            alone(m, now, r, peer, COMMIT, number, vote_size(m, COMMIT, r, number))


@inner
def on_status(m: Numbers, now: int, r: int, peer: int, number: int) -> None:
    """`Recovery.on_status`: send what *peer* misses."""
    at = m[AT_STATUS] + 3 * number
    stable, executed, nonce = m[at], m[at + 1], m[at + 2]
    heard = _heard(m, r, peer)
    if nonce <= m[heard]:
        m[IGNORED + SECOND_STATUS] += 1
        return
    m[heard] = nonce
    if not _allowed(m, now, heard):
        m[IGNORED + MANY_STATUSES] += 1
        return
    m[of_replica(m, R_ASKED_NS, r)] = now
    low, mine = m[of_replica(m, R_LOW, r)], m[of_replica(m, R_EXECUTED, r)]
    if stable > low or executed > mine:
        m[of_replica(m, R_LEFT_BEHIND, r)] = 1
        ask_later(m, now, r)
    _checkpoints_above(m, now, r, peer, stable)
    if (executed < mine or stable < low) and helps(m, r, peer, nonce):
        _history_after(m, now, r, peer, executed)
    _votes_above(m, now, r, peer, max(executed, stable))


@inner
def on_fetch_reply(m: Numbers, now: int, r: int, peer: int, number: int) -> None:
    """`Recovery.on_fetch_reply`."""
    at = m[AT_ANSWER] + 3 * number
    first, last, proof = m[at], m[at + 1], m[at + 2]
    executed = of_replica(m, R_EXECUTED, r)
    before = m[executed]
    for seq in range(first, last + 1):
        if seq != m[executed] + 1:
            continue
        low = m[of_replica(m, R_LOW, r)]
        if low < seq <= min(low, m[executed]) + m[L]:
            reach(m, r, seq)
            m[of_slot(m, S_DECIDED, r, seq & m[SLOT_MASK])] = 1
        hand_out(m, now, r)
    done = m[executed] > before
    if done:
        execute_in_order(m, now, r)
        progressed(m, now, r)
    if proof > m[of_replica(m, R_LOW, r)]:
        stabilise(m, now, r, proof)
        done = True
    if last - first + 1 >= BLOCKS_A_REPLY and m[executed] > before:
        ask_alone(m, now, r, peer)  # there is more where this came from
    if r == m[PRIMARY]:
        done = propose(m, now) or done
    if not done:
        m[IGNORED + NOTHING_NEW] += 1
