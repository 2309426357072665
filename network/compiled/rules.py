"""What a replica does in the normal case: `consensus.pbft.replica` in an open view, among honest replicas.

Each function names the method whose rule it is. Effects are performed where that method would have listed them; a
replica's own state never depends on how they are performed, so the order of what leaves it is the same.
"""

from __future__ import annotations

from tradebft.network.compiled import lane
from tradebft.network.compiled.asking import ask, ask_later, took
from tradebft.network.compiled.clients import answered, kept, mark
from tradebft.network.compiled.compiling import inlined, inner
from tradebft.network.compiled.leaving import (
    answer,
    broadcast,
    cancel_timer,
    note,
    proposal_size,
    reply,
    set_timer,
    take,
    vote_size,
)
from tradebft.network.compiled.memory import (
    ANSWER_LAST,
    ANSWER_NEXT,
    ANSWERER,
    ARRIVED,
    B_ALL_NS,
    B_COMMITTERS,
    B_COUNT,
    B_FIRST,
    B_MISSING,
    B_QUORUM_NS,
    B_SIZE,
    B_TIME,
    BATCH_BYTES,
    BATCH_DUE,
    BATCH_SET,
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BATCH_TIMER,
    BEING_EXECUTED,
    CHECKPOINT,
    CHECKS,
    COMMIT,
    COMMITTED,
    CPU,
    EXECUTE_NS,
    EXECUTED,
    EXECUTED_PROPOSAL,
    FAULTS,
    FRESH_BYTES,
    HIGH_VOTE,
    IGNORED,
    KNOWN_REQUEST,
    LAST_COMMIT,
    NEXT_SEQ,
    NODES,
    OLD_CHECKPOINT,
    OLD_VOTE,
    PRE_PREPARE,
    PREPARE,
    PRIMARY,
    Q_ARRIVED,
    Q_OPERATION,
    Q_PLACE,
    Q_PROPOSED,
    Q_SIZE,
    QUORUM,
    R_ANSWERED,
    R_DOWN,
    R_EXECUTED,
    R_HEARD_OF,
    R_LEFT_BEHIND,
    R_LOW,
    R_MOVED_NS,
    R_PROOF,
    R_PROOF_BEFORE,
    R_TOP,
    R_WATCHED,
    S_ACCEPTED,
    S_ACCEPTED_NS,
    S_CLOSED,
    S_COMMITS,
    S_COMMITS_OF,
    S_DECIDED,
    S_PREPARED,
    S_PREPARES,
    S_PREPARES_OF,
    SECOND_PROPOSAL,
    SECOND_VOTE,
    SLOT,
    SLOT_MASK,
    SNAPSHOTS,
    TAKEN,
    VERIFY_NS,
    VIEW_TIMEOUT,
    VIEW_TIMER,
    WAITING,
    WINDOW,
    K,
    L,
    Numbers,
)
from tradebft.network.compiled.places import (
    length,
    newly,
    of_batch,
    of_replica,
    of_request,
    of_slot,
    votes_for,
)


@inner
def _high(m: Numbers, r: int) -> int:
    return min(m[of_replica(m, R_LOW, r)], m[of_replica(m, R_EXECUTED, r)]) + m[L]


@inner
def _may_propose(m: Numbers) -> bool:
    r, seq = m[PRIMARY], m[NEXT_SEQ]
    executed = m[of_replica(m, R_EXECUTED, r)]
    # `caught_up`: every proposal here has its batch.
    caught_up = executed >= m[of_replica(m, R_LOW, r)]
    return seq <= _high(m, r) and seq - executed <= m[WINDOW] and caught_up


@inner
def reach(m: Numbers, r: int, seq: int) -> None:
    """`State.slot`: there is one for *seq*."""
    top = of_replica(m, R_TOP, r)
    m[top] = max(m[top], seq)


@inner
def _learnt(m: Numbers, now: int, r: int, seq: int) -> None:
    """`Recovery.learnt`."""
    if seq == m[of_replica(m, R_EXECUTED, r)] + 1:
        m[of_replica(m, R_MOVED_NS, r)] = now


@inner
def _accept(m: Numbers, now: int, r: int, seq: int, slot: int) -> None:
    m[of_slot(m, S_ACCEPTED, r, slot)], m[of_slot(m, S_ACCEPTED_NS, r, slot)] = 1, now
    reach(m, r, seq)
    _learnt(m, now, r, seq)


@inner
def _committed(m: Numbers, now: int, r: int, seq: int) -> None:
    """`Recorder.committed`."""
    note(m, COMMITTED, r, seq, seq, 0, now, now)
    note(m, EXECUTED, r, seq, seq, 0, now, now)
    m[LAST_COMMIT] = now
    committers = of_batch(m, B_COMMITTERS, seq)
    m[committers] += 1
    missing = of_batch(m, B_MISSING, seq)
    if m[committers] == m[QUORUM]:
        m[of_batch(m, B_QUORUM_NS, seq)] = now
        for other in range(m[NODES]):
            up = not m[of_replica(m, R_DOWN, other)]
            m[missing] += up and m[of_replica(m, R_EXECUTED, other)] < seq
    elif m[committers] > m[QUORUM]:
        m[missing] -= 1
    if m[committers] >= m[QUORUM] and not m[missing] and not m[of_batch(m, B_ALL_NS, seq)]:
        m[of_batch(m, B_ALL_NS, seq)] = now


@inner
def hand_out(m: Numbers, now: int, r: int) -> None:
    """`Replica.hand_out` of the next in the order, and `ReplicaNode._execute`."""
    m[of_replica(m, R_EXECUTED, r)] += 1
    m[of_replica(m, R_MOVED_NS, r)] = now
    seq = m[of_replica(m, R_EXECUTED, r)]
    count = m[of_batch(m, B_COUNT, seq)]
    if r == m[PRIMARY]:
        m[WAITING] -= count
        for at in range(m[of_batch(m, B_FIRST, seq)], m[of_batch(m, B_FIRST, seq)] + count):
            mark(m, m[of_request(m, Q_PLACE, at)])
    _committed(m, now, r, seq)
    if m[CPU]:
        done = take(m, now, r, count * m[EXECUTE_NS] + m[CHECKS] * count * m[VERIFY_NS])
        lane.line_up(m, done, EXECUTED, -1, r, seq)
        return
    if m[ANSWERER] < 0:
        m[ANSWERER], m[ANSWER_NEXT] = r, seq
    m[ANSWER_LAST] = seq


@inner
def _oldest(m: Numbers, r: int) -> int:
    """`Changing._oldest` at a backup that knows no requests but those proposed; 0: none."""
    first = max(m[of_replica(m, R_EXECUTED, r)], m[of_replica(m, R_LOW, r)]) + 1
    for seq in range(first, m[of_replica(m, R_TOP, r)] + 1):
        if m[of_slot(m, S_ACCEPTED, r, seq & m[SLOT_MASK])]:
            return seq
    return 0


@inner
def progressed(m: Numbers, now: int, r: int) -> None:
    """`Changing.progressed`."""
    watched = of_replica(m, R_WATCHED, r)
    if not m[watched] or m[watched] > m[of_replica(m, R_EXECUTED, r)]:
        return
    m[watched] = _oldest(m, r)
    if m[watched]:
        set_timer(m, now, r, VIEW_TIMER, m[VIEW_TIMEOUT])
    else:
        cancel_timer(m, r, VIEW_TIMER)


@inner
def execute_in_order(m: Numbers, now: int, r: int) -> bool:
    """`Replica.execute_in_order`. Whether anything was executed."""
    executed, done = of_replica(m, R_EXECUTED, r), False
    while m[executed] < m[of_replica(m, R_TOP, r)] and m[executed] >= m[of_replica(m, R_LOW, r)]:
        if not m[of_slot(m, S_DECIDED, r, (m[executed] + 1) & m[SLOT_MASK])]:
            break
        hand_out(m, now, r)
        done = True
    if done:
        progressed(m, now, r)
    return done


@inner
def _advance(m: Numbers, now: int, r: int, seq: int, slot: int) -> bool:
    """`Replica.advance`: everything that the votes gathered so far allow. Whether that was anything."""
    done = False
    if not m[of_slot(m, S_PREPARED, r, slot)] and m[of_slot(m, S_PREPARES, r, slot)] >= m[QUORUM] - 1:
        m[of_slot(m, S_PREPARED, r, slot)] = 1
        m[of_slot(m, S_COMMITS, r, slot)] += 1
        newly(m, of_slot(m, S_COMMITS_OF, r, slot), r)
        broadcast(m, now, r, COMMIT, seq, vote_size(m, COMMIT, r, seq))
        done = True
    decided = of_slot(m, S_DECIDED, r, slot)
    if (
        m[of_slot(m, S_PREPARED, r, slot)]
        and not m[decided]
        and m[of_slot(m, S_COMMITS, r, slot)] >= m[QUORUM]
    ):
        m[decided] = 1
        done = execute_in_order(m, now, r) or done
        took(m, now, r, slot)
    m[of_slot(m, S_CLOSED, r, slot)] = m[decided] and m[of_slot(m, S_PREPARED, r, slot)]
    return done


@inner
def _propose_batch(m: Numbers, now: int) -> None:
    """`Waiting.take` and `Replica._propose_batch`."""
    first = m[TAKEN]
    count, room, size = 0, m[BATCH_BYTES], 0
    seq = m[NEXT_SEQ]
    while first + count < m[ARRIVED] and count < m[BATCH_SIZE]:
        rid = m[of_request(m, Q_PLACE, first + count)]
        room -= m[of_request(m, Q_OPERATION, rid)]
        if count and room < 0:
            break
        size += m[of_request(m, Q_SIZE, rid)]
        m[FRESH_BYTES] -= m[of_request(m, Q_OPERATION, rid)]
        m[of_request(m, Q_PROPOSED, rid)] = seq
        count += 1
    m[TAKEN] += count
    m[NEXT_SEQ] = seq + 1
    m[of_batch(m, B_FIRST, seq)], m[of_batch(m, B_COUNT, seq)] = first, count
    m[of_batch(m, B_TIME, seq)] = now
    # The tag, the time, how many, and the requests.
    head = 7 + length(now) + (1 if count < 16 else 3 if count < 65536 else 5)
    m[of_batch(m, B_SIZE, seq)] = head + size
    r, slot = m[PRIMARY], seq & m[SLOT_MASK]
    _accept(m, now, r, seq, slot)
    broadcast(m, now, r, PRE_PREPARE, seq, proposal_size(m, seq))
    ask_later(m, now, r)
    _advance(m, now, r, seq, slot)


@inner
def propose(m: Numbers, now: int) -> bool:
    """`Replica.propose`. Whether it had any effect."""
    before = m[BATCH_SET]
    done = False
    while m[ARRIVED] > m[TAKEN] and _may_propose(m):
        fresh = m[ARRIVED] - m[TAKEN]
        full = fresh >= m[BATCH_SIZE] or m[FRESH_BYTES] >= m[BATCH_BYTES]
        if not full and m[BATCH_TIMEOUT] and not m[BATCH_DUE]:
            if not m[BATCH_SET]:
                m[BATCH_SET] = 1
                set_timer(m, now, m[PRIMARY], BATCH_TIMER, m[BATCH_TIMEOUT])
            break
        m[BATCH_DUE] = 0
        if m[BATCH_SET]:
            m[BATCH_SET] = 0
            cancel_timer(m, m[PRIMARY], BATCH_TIMER)
        _propose_batch(m, now)
        done = True
    return done or m[BATCH_SET] != before


@inner
def on_request(m: Numbers, now: int, rid: int) -> None:
    """`Replica._on_request` at the primary."""
    seq = m[of_request(m, Q_PROPOSED, rid)]
    if seq and m[of_replica(m, R_EXECUTED, m[PRIMARY])] >= seq:
        if m[of_replica(m, R_ANSWERED, m[PRIMARY])] >= seq and kept(m, rid):
            answer(m, now, rid, seq)
        else:
            m[IGNORED + BEING_EXECUTED] += 1
        return
    if m[of_request(m, Q_ARRIVED, rid)]:
        m[IGNORED + KNOWN_REQUEST] += 1
        return
    m[of_request(m, Q_ARRIVED, rid)] = 1
    m[of_request(m, Q_PLACE, m[ARRIVED])] = rid
    m[ARRIVED] += 1
    m[WAITING] += 1
    m[FRESH_BYTES] += m[of_request(m, Q_OPERATION, rid)]
    propose(m, now)


@inner
def _fits(m: Numbers, now: int, r: int, seq: int) -> bool:
    """Whether *seq* lies between the watermarks; if not, `Replica._misfit`."""
    if seq <= m[of_replica(m, R_LOW, r)]:
        m[IGNORED + OLD_VOTE] += 1
        return False
    high = _high(m, r)
    if seq <= high:
        return True
    m[of_replica(m, R_LEFT_BEHIND, r)] = 1
    if seq <= high + m[L]:
        heard = of_replica(m, R_HEARD_OF, r)
        m[heard] = max(m[heard], seq)
    m[IGNORED + HIGH_VOTE] += 1
    ask_later(m, now, r)
    return False


@inner
def is_news(m: Numbers, r: int, seq: int) -> bool:
    """Whether *r* would look into the batch of this proposal as it stands."""
    if seq <= max(m[of_replica(m, R_LOW, r)], m[of_replica(m, R_EXECUTED, r)]):
        return False
    return seq > _high(m, r) or not m[of_slot(m, S_ACCEPTED, r, seq & m[SLOT_MASK])]


@inner
def on_pre_prepare(m: Numbers, now: int, r: int, seq: int) -> None:
    """`Replica._on_pre_prepare` and `prepare`."""
    if not _fits(m, now, r, seq):
        return
    slot = seq & m[SLOT_MASK]
    if m[of_slot(m, S_ACCEPTED, r, slot)]:
        m[IGNORED + SECOND_PROPOSAL] += 1
        return
    reach(m, r, seq)
    if m[of_slot(m, S_DECIDED, r, slot)] or seq <= m[of_replica(m, R_EXECUTED, r)]:
        m[IGNORED + EXECUTED_PROPOSAL] += (
            1  # it was fetched, perhaps when it was above the high watermark still
        )
        return
    _accept(m, now, r, seq, slot)
    m[of_slot(m, S_PREPARES, r, slot)] += 1
    newly(m, of_slot(m, S_PREPARES_OF, r, slot), r)
    broadcast(m, now, r, PREPARE, seq, vote_size(m, PREPARE, r, seq))
    if not m[of_replica(m, R_WATCHED, r)]:
        m[of_replica(m, R_WATCHED, r)] = _oldest(m, r)
        set_timer(m, now, r, VIEW_TIMER, m[VIEW_TIMEOUT])
        ask_later(m, now, r)
    _advance(m, now, r, seq, slot)


@inlined
def _counts(m: Numbers, now: int, r: int, sender: int, seq: int, voters: int) -> bool:
    """Whether a Prepare or Commit of *sender* is the first and may still change something; *voters*: whose came before,
    a field of the slot."""
    if not _fits(m, now, r, seq):
        return False
    slot = seq & m[SLOT_MASK]
    if m[of_slot(m, S_CLOSED, r, slot)]:
        return False
    reach(m, r, seq)
    if newly(m, of_slot(m, voters, r, slot), sender):
        _learnt(m, now, r, seq)
        return True
    m[IGNORED + SECOND_VOTE] += 1
    return False


@inner
def _go_on(m: Numbers, now: int, r: int, seq: int, slot: int) -> None:
    """`Replica._go_on`."""
    if _advance(m, now, r, seq, slot) and r == m[PRIMARY]:
        propose(m, now)


@inner
def on_prepare(m: Numbers, now: int, r: int, sender: int, seq: int) -> None:
    """`Replica._on_prepare`. Votes that come before their proposal are counted, and count when it comes."""
    if not _counts(m, now, r, sender, seq, S_PREPARES_OF):
        return
    slot = seq & m[SLOT_MASK]
    prepares = of_slot(m, S_PREPARES, r, slot)
    m[prepares] += 1
    if not m[of_slot(m, S_ACCEPTED, r, slot)]:
        if m[prepares] > m[FAULTS]:
            ask_later(m, now, r)
    elif m[prepares] == m[QUORUM] - 1:
        _go_on(m, now, r, seq, slot)


@inner
def on_commit(m: Numbers, now: int, r: int, sender: int, seq: int) -> None:
    """`Replica._on_commit`."""
    if not _counts(m, now, r, sender, seq, S_COMMITS_OF):
        return
    slot = seq & m[SLOT_MASK]
    commits = of_slot(m, S_COMMITS, r, slot)
    m[commits] += 1
    if not m[of_slot(m, S_ACCEPTED, r, slot)]:
        if m[commits] > m[FAULTS]:
            ask_later(m, now, r)
        return
    if m[commits] < m[QUORUM] or m[of_slot(m, S_DECIDED, r, slot)]:
        return
    _go_on(m, now, r, seq, slot)


@inner
def _prove_snapshot(m: Numbers, r: int, seq: int) -> None:
    """`Snapshots.prove_snapshot`: it was taken, and is stable."""
    if m[SNAPSHOTS] and seq % m[SNAPSHOTS] == 0:
        m[of_replica(m, R_PROOF_BEFORE, r)] = m[of_replica(m, R_PROOF, r)]
        m[of_replica(m, R_PROOF, r)] = seq


@inner
def stabilise(m: Numbers, now: int, r: int, seq: int) -> None:
    """`Replica.stabilise`."""
    for gone in range(m[of_replica(m, R_LOW, r)] + 1, seq + 1):
        first = of_slot(m, 0, r, gone & m[SLOT_MASK])
        for at in range(first, first + SLOT):
            m[at] = 0
        m[first + S_ACCEPTED_NS] = -1
        votes = votes_for(m, r, gone)
        m[votes] = m[votes + 1] = m[votes + 2] = 0
    m[of_replica(m, R_LOW, r)], m[of_replica(m, R_MOVED_NS, r)] = seq, now
    m[of_replica(m, R_LEFT_BEHIND, r)] = 0
    if r == m[PRIMARY]:
        m[NEXT_SEQ] = max(m[NEXT_SEQ], seq + 1)
    if m[of_replica(m, R_ANSWERED, r)] >= seq:
        _prove_snapshot(m, r, seq)
    if m[of_replica(m, R_EXECUTED, r)] < seq:
        ask(m, now, r)


@inner
def on_checkpoint(m: Numbers, now: int, r: int, sender: int, seq: int) -> None:
    """`Replica._on_checkpoint`."""
    low = m[of_replica(m, R_LOW, r)]
    if seq <= low:
        m[IGNORED + OLD_CHECKPOINT] += 1
        return
    votes = votes_for(m, r, seq)
    if newly(m, votes + 1, sender):
        m[votes] += 1
        if m[votes] >= m[QUORUM]:
            stabilise(m, now, r, seq)
            if r == m[PRIMARY]:
                propose(m, now)


@inner
def on_executed(m: Numbers, now: int, r: int, seq: int) -> None:
    """`Replica._on_executed`, and `vote_checkpoint` where one is due."""
    first = m[of_batch(m, B_FIRST, seq)]
    for place in range(first, first + m[of_batch(m, B_COUNT, seq)]):
        reply(m, now, r, place, seq)
        if r == m[PRIMARY]:
            answered(m, place)
    m[of_replica(m, R_ANSWERED, r)] = seq
    if seq == m[of_replica(m, R_LOW, r)]:
        _prove_snapshot(m, r, seq)
    if seq % m[K] == 0 and seq > m[of_replica(m, R_LOW, r)]:
        broadcast(m, now, r, CHECKPOINT, seq, vote_size(m, CHECKPOINT, r, seq))
        on_checkpoint(m, now, r, r, seq)
