"""What a replica does with one input: `consensus.pbft` in view 0, among honest replicas that lose nothing.

Each function names the method whose rule it is. Effects are performed where that method would have listed them; a
replica's own state never depends on how they are performed, so the order of what leaves it is the same.
"""

from __future__ import annotations

from tradebft.consensus.round_trip import LEAST_NS
from tradebft.network.compiled import lane
from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.memory import (
    ANSWER_LAST,
    ANSWER_NEXT,
    ANSWERER,
    ARRIVED,
    ASKED,
    B_ALL_NS,
    B_COMMITTERS,
    B_COUNT,
    B_FIRST,
    B_PROPOSED_NS,
    B_QUORUM_NS,
    B_SIZE,
    B_TIME,
    BANDWIDTH,
    BATCH,
    BATCH_BYTES,
    BATCH_DUE,
    BATCH_SET,
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BEYOND_WINDOW,
    BYTES_SENT,
    CHECKPOINT,
    CHECKPOINT_SIZE,
    CHECKS,
    CLIENT_WINDOW,
    COMMIT,
    COMMIT_SIZE,
    COMMITTED,
    CPU,
    CROWDED,
    DRY,
    EVENTS,
    EXECUTE_NS,
    EXECUTED,
    FAULTS,
    FRESH_BYTES,
    HIGH_VOTE,
    KEY_BITS,
    KILOBYTE_NS,
    LAST_COMMIT,
    MESSAGE_NS,
    NEXT_SEQ,
    NODES,
    OLD_CHECKPOINT,
    OLD_VOTE,
    PRE_PREPARE,
    PRE_PREPARE_SIZE,
    PREPARE,
    PREPARE_SIZE,
    PROCESS,
    Q_CLIENT,
    Q_OPERATION,
    Q_PLACE,
    Q_REPLY_SIZE,
    Q_SEQUENCE,
    Q_SIZE,
    QUORUM,
    R_ANSWERED,
    R_ASKED_EXECUTED,
    R_ASKED_IN_VAIN,
    R_ASKED_LOW,
    R_ASKING,
    R_DEVIATION,
    R_EXECUTED,
    R_FREE_AT,
    R_HEARD_OF,
    R_INTERFACE_FREE,
    R_LEFT_BEHIND,
    R_LOW,
    R_SMOOTHED,
    R_TOP,
    R_WATCHED,
    R_WEATHER_AT,
    R_WEATHER_END,
    REPLY,
    REQUEST,
    REQUESTS_WAITING,
    ROWS,
    S_ACCEPTED,
    S_ACCEPTED_NS,
    S_COMMITS,
    S_DECIDED,
    S_PREPARED,
    S_PREPARES,
    SIGN_NS,
    STATUS,
    STATUS_FIXED,
    STATUS_NS,
    T_ALARM_AT,
    T_DEADLINE,
    TAKEN,
    TIMER,
    VERIFY_NS,
    VIEW,
    VIEW_CHANGE,
    VIEW_TIMEOUT,
    WAITING,
    WHY,
    WINDOW,
    K,
    L,
    Memory,
    intlen,
)

_MASK = (1 << KEY_BITS) - 1
_length = inner(intlen)


# --- what leaves a replica ---


@inner
def note(
    m: Memory, kind: int, sender: int, seq: int, about: int, receiver: int, time: int, sent: int
) -> None:
    """One event for the trace."""
    at = m.now[EVENTS]
    event = m.event[at]
    event[0], event[1], event[2], event[3] = kind, sender, seq, about
    event[4], event[5], event[6] = receiver, time, sent
    m.now[EVENTS] = at + 1


@inner
def _signed(m: Memory, now: int, r: int, size: int) -> int:
    """`ReplicaNode._signed`."""
    if not m.rule[CPU]:
        return now
    cost = m.rule[MESSAGE_NS] + size * m.rule[KILOBYTE_NS] // 1000 + m.rule[SIGN_NS]
    m.replica[R_FREE_AT, r] = max(now, m.replica[R_FREE_AT, r]) + cost
    return m.replica[R_FREE_AT, r]


@inner
def _broadcast(m: Memory, now: int, r: int, what: int, seq: int, size: int) -> None:
    """`SimulatedBus.broadcast` of a message whose signature holds."""
    at = _signed(m, now, r, size)
    others = m.rule[NODES] - 1
    m.messages[what] += others
    if what == PRE_PREPARE:
        m.batch[B_PROPOSED_NS, seq] = at
    if not others:
        return
    m.now[BYTES_SENT] += size * others
    made = lane.flight(m, what, r, -1, seq, at)
    row = lane.row(m, made, others)
    keys, drawn = m.arrivals[row], m.weather[r, m.replica[R_WEATHER_AT, r]]
    m.replica[R_WEATHER_AT, r] += 1
    if m.replica[R_WEATHER_END, r] - m.replica[R_WEATHER_AT, r] < m.rule[WINDOW] + 4:
        m.now[DRY] = r + 1
    if m.rule[BANDWIDTH]:
        depart = max(at, m.replica[R_INTERFACE_FREE, r])
        copy = size * 8 * 1_000_000_000 // m.rule[BANDWIDTH]
        m.replica[R_INTERFACE_FREE, r] = depart + copy * others
        for i in range(others):  # the interface sends copy after copy, by the receivers' numbers
            depart += copy
            keys[i] = drawn[i] + ((depart - at) << KEY_BITS)
        keys.sort()
    else:
        keys[:] = drawn
    place = m.now[ROWS]
    m.log[0, place], m.log[1, place], m.log[2, place], m.log[3, place] = what, r, seq, at
    m.log_keys[place, :] = keys
    m.now[ROWS] = place + 1
    lane.launch(m, at + (keys[0] >> KEY_BITS), made)


@inner
def _reply(m: Memory, now: int, r: int, place: int, seq: int) -> None:
    """`SimulatedBus.send` of the reply to the request at *place* in the order."""
    rid = m.request[Q_PLACE, place]
    size = m.request[Q_REPLY_SIZE, rid] + _length(r)
    at = _signed(m, now, r, size)
    m.messages[REPLY] += 1
    depart = at
    if m.rule[BANDWIDTH]:
        depart = max(at, m.replica[R_INTERFACE_FREE, r]) + size * 8 * 1_000_000_000 // m.rule[BANDWIDTH]
        m.replica[R_INTERFACE_FREE, r] = depart
    m.now[BYTES_SENT] += size
    arrival = depart + m.reply_ns[place % len(m.reply_ns), r]
    note(m, REPLY, r, seq, rid, m.request[Q_CLIENT, rid], arrival, at)
    lane.launch(m, arrival, lane.flight(m, REPLY, r, m.request[Q_CLIENT, rid], rid, at))


# --- timers (`SimulatedBus.set_timer`) ---


@inner
def _set_timer(m: Memory, now: int, r: int, timer: int, delay: int) -> None:
    m.timer[T_DEADLINE, r, timer] = now + delay
    if m.timer[T_ALARM_AT, r, timer] < 0 or m.timer[T_ALARM_AT, r, timer] > now + delay:
        m.timer[T_ALARM_AT, r, timer] = now + delay
        lane.alarm(m, now + delay, r * 3 + timer)


@inner
def ring(m: Memory, due: int, what: int) -> None:
    """An alarm went off."""
    r, timer = what // 3, what % 3
    if m.timer[T_ALARM_AT, r, timer] != due:
        return  # an earlier alarm took its place
    m.timer[T_ALARM_AT, r, timer] = -1
    deadline = m.timer[T_DEADLINE, r, timer]
    if deadline < 0:
        return
    if deadline > due:
        m.timer[T_ALARM_AT, r, timer] = deadline
        lane.alarm(m, deadline, what)
        return
    m.timer[T_DEADLINE, r, timer] = -1
    note(m, TIMER, r, 0, timer, 0, due, due)
    if timer == VIEW:
        m.now[WHY] = VIEW_CHANGE
    elif timer == BATCH:
        m.now[BATCH_SET], m.now[BATCH_DUE] = 0, 1
        propose(m, due)
    else:
        _on_status_timer(m, due, r)


@inner
def _ask_later(m: Memory, now: int, r: int) -> None:
    """`Recovery.ask_later`."""
    if m.replica[R_ASKING, r]:
        return
    m.replica[R_ASKING, r], m.replica[R_ASKED_EXECUTED, r], m.replica[R_ASKED_LOW, r] = (
        1,
        m.replica[R_EXECUTED, r],
        m.replica[R_LOW, r],
    )
    interval = m.rule[STATUS_NS]
    if not m.rule[STATUS_FIXED] and m.replica[R_SMOOTHED, r]:
        patience = min(
            interval, max(LEAST_NS, 2 * (m.replica[R_SMOOTHED, r] + 4 * m.replica[R_DEVIATION, r]))
        )
        interval = min(interval, patience << m.replica[R_ASKED_IN_VAIN, r])
    _set_timer(m, now, r, STATUS, interval + interval // 3 if r == 0 else interval)


@inner
def _on_status_timer(m: Memory, now: int, r: int) -> None:
    """`Recovery.on_status_timer`."""
    m.replica[R_ASKING, r] = 0
    if not _outstanding(m, r):
        return
    if (
        m.replica[R_ASKED_EXECUTED, r] != m.replica[R_EXECUTED, r]
        or m.replica[R_ASKED_LOW, r] != m.replica[R_LOW, r]
    ):
        m.replica[R_ASKED_IN_VAIN, r] = 0
        _ask_later(m, now, r)
    else:
        m.now[WHY] = ASKED


@inner
def _outstanding(m: Memory, r: int) -> bool:
    if (r == 0 and m.now[WAITING] > 0) or m.replica[R_EXECUTED, r] < m.replica[R_LOW, r]:
        return True
    if m.replica[R_LEFT_BEHIND, r] or m.replica[R_HEARD_OF, r] > m.replica[R_EXECUTED, r]:
        return True
    for seq in range(m.replica[R_EXECUTED, r] + 1, m.replica[R_TOP, r] + 1):
        slot = seq % m.rule[L]
        if m.slot[S_ACCEPTED, r, slot] or m.slot[S_COMMITS, r, slot] > m.rule[FAULTS]:
            return True
    return False


@inner
def _took(m: Memory, now: int, r: int, slot: int) -> None:
    """`Recovery.took` and `RoundTrip.sample`: nobody has asked, so every sample counts."""
    if m.slot[S_ACCEPTED_NS, r, slot] < 0:
        return
    took = now - m.slot[S_ACCEPTED_NS, r, slot]
    m.slot[S_ACCEPTED_NS, r, slot] = -1
    if not m.replica[R_SMOOTHED, r]:
        m.replica[R_SMOOTHED, r], m.replica[R_DEVIATION, r] = max(1, took), took // 2
        return
    error = took - m.replica[R_SMOOTHED, r]
    m.replica[R_SMOOTHED, r] = max(1, m.replica[R_SMOOTHED, r] + error // 8)
    m.replica[R_DEVIATION, r] += (abs(error) - m.replica[R_DEVIATION, r]) // 4


# --- requests and proposals ---


@inner
def on_request(m: Memory, now: int, rid: int) -> None:
    """`Replica._on_request` at the primary."""
    if m.now[WAITING] >= m.rule[REQUESTS_WAITING]:
        m.now[WHY] = CROWDED
        return
    if m.request[Q_SEQUENCE, rid] > m.client[1, m.request[Q_CLIENT, rid]] + m.rule[CLIENT_WINDOW]:
        m.now[WHY] = BEYOND_WINDOW
        return
    m.request[Q_PLACE, m.now[ARRIVED]] = rid
    m.now[ARRIVED] += 1
    m.now[WAITING] += 1
    m.now[FRESH_BYTES] += m.request[Q_OPERATION, rid]
    propose(m, now)


@inner
def propose(m: Memory, now: int) -> None:
    """`Replica.propose`."""
    while m.now[ARRIVED] > m.now[TAKEN] and _may_propose(m):
        fresh = m.now[ARRIVED] - m.now[TAKEN]
        full = fresh >= m.rule[BATCH_SIZE] or m.now[FRESH_BYTES] >= m.rule[BATCH_BYTES]
        if not full and m.rule[BATCH_TIMEOUT] and not m.now[BATCH_DUE]:
            if not m.now[BATCH_SET]:
                m.now[BATCH_SET] = 1
                _set_timer(m, now, 0, BATCH, m.rule[BATCH_TIMEOUT])
            return
        m.now[BATCH_DUE] = 0
        if m.now[BATCH_SET]:
            m.now[BATCH_SET] = 0
            m.timer[T_DEADLINE, 0, BATCH] = -1
        _propose_batch(m, now)


@inner
def _may_propose(m: Memory) -> bool:
    seq = m.now[NEXT_SEQ]
    return (
        seq <= _high(m, 0)
        and seq - m.replica[R_EXECUTED, 0] <= m.rule[WINDOW]
        and m.replica[R_EXECUTED, 0] >= m.replica[R_LOW, 0]  # `caught_up`: every proposal here has its batch
    )


@inner
def _propose_batch(m: Memory, now: int) -> None:
    """`Waiting.take` and `Replica._propose_batch`."""
    first = m.now[TAKEN]
    count, room, size = 0, m.rule[BATCH_BYTES], 0
    while first + count < m.now[ARRIVED] and count < m.rule[BATCH_SIZE]:
        rid = m.request[Q_PLACE, first + count]
        room -= m.request[Q_OPERATION, rid]
        if count and room < 0:
            break
        size += m.request[Q_SIZE, rid]
        m.now[FRESH_BYTES] -= m.request[Q_OPERATION, rid]
        count += 1
    m.now[TAKEN] += count
    seq = m.now[NEXT_SEQ]
    m.now[NEXT_SEQ] = seq + 1
    m.batch[B_FIRST, seq], m.batch[B_COUNT, seq], m.batch[B_TIME, seq] = first, count, now
    # The tag, the time, how many, and the requests.
    m.batch[B_SIZE, seq] = 7 + _length(now) + (1 if count < 16 else 3 if count < 65536 else 5) + size
    slot = seq % m.rule[L]
    _accept(m, now, 0, seq, slot)
    _broadcast(m, now, 0, PRE_PREPARE, seq, proposal_size(m, seq))
    _ask_later(m, now, 0)
    _advance(m, now, 0, seq, slot)


@inner
def proposal_size(m: Memory, seq: int) -> int:
    """Bytes of the proposal of *seq*."""
    return m.rule[PRE_PREPARE_SIZE] + _length(seq) + m.batch[B_SIZE, seq]


@inner
def vote_size(m: Memory, what: int, r: int, seq: int) -> int:
    """Bytes of a Prepare, Commit or Checkpoint."""
    kind = PREPARE_SIZE if what == PREPARE else COMMIT_SIZE if what == COMMIT else CHECKPOINT_SIZE
    return m.rule[kind] + _length(seq) + _length(r)


# --- the three phases ---


@inner
def _high(m: Memory, r: int) -> int:
    return min(m.replica[R_LOW, r], m.replica[R_EXECUTED, r]) + m.rule[L]


@inner
def _fits(m: Memory, now: int, r: int, seq: int) -> bool:
    """Whether *seq* lies between the watermarks; if not, `Replica._misfit`."""
    if seq <= m.replica[R_LOW, r]:
        m.ignored[OLD_VOTE] += 1
        return False
    high = _high(m, r)
    if seq <= high:
        return True
    m.replica[R_LEFT_BEHIND, r] = 1
    if seq <= high + m.rule[L]:
        m.replica[R_HEARD_OF, r] = max(m.replica[R_HEARD_OF, r], seq)
    m.ignored[HIGH_VOTE] += 1
    _ask_later(m, now, r)
    return False


@inner
def _accept(m: Memory, now: int, r: int, seq: int, slot: int) -> None:
    m.slot[S_ACCEPTED, r, slot], m.slot[S_ACCEPTED_NS, r, slot] = 1, now
    m.replica[R_TOP, r] = max(m.replica[R_TOP, r], seq)


@inner
def on_pre_prepare(m: Memory, now: int, r: int, seq: int) -> None:
    """`Replica._on_pre_prepare` and `prepare`."""
    if not _fits(m, now, r, seq):
        return
    slot = seq % m.rule[L]
    _accept(m, now, r, seq, slot)
    m.slot[S_PREPARES, r, slot] += 1
    _broadcast(m, now, r, PREPARE, seq, vote_size(m, PREPARE, r, seq))
    if not m.replica[R_WATCHED, r]:
        m.replica[R_WATCHED, r] = _oldest(m, r)
        _set_timer(m, now, r, VIEW, m.rule[VIEW_TIMEOUT])
        _ask_later(m, now, r)
    _advance(m, now, r, seq, slot)


@inner
def on_prepare(m: Memory, now: int, r: int, seq: int) -> None:
    """`Replica._on_prepare`. Votes that come before their proposal are counted, and count when it comes."""
    if not _fits(m, now, r, seq):
        return
    slot = seq % m.rule[L]
    if m.slot[S_DECIDED, r, slot] and m.slot[S_PREPARED, r, slot]:
        return
    m.replica[R_TOP, r] = max(m.replica[R_TOP, r], seq)
    m.slot[S_PREPARES, r, slot] += 1
    if m.slot[S_ACCEPTED, r, slot] and m.slot[S_PREPARES, r, slot] == m.rule[QUORUM] - 1:
        _advance(m, now, r, seq, slot)


@inner
def on_commit(m: Memory, now: int, r: int, seq: int) -> None:
    """`Replica._on_commit`."""
    if not _fits(m, now, r, seq):
        return
    slot = seq % m.rule[L]
    if m.slot[S_DECIDED, r, slot] and m.slot[S_PREPARED, r, slot]:
        return
    m.replica[R_TOP, r] = max(m.replica[R_TOP, r], seq)
    m.slot[S_COMMITS, r, slot] += 1
    if not m.slot[S_ACCEPTED, r, slot]:
        if m.slot[S_COMMITS, r, slot] > m.rule[FAULTS]:
            _ask_later(m, now, r)
        return
    if m.slot[S_COMMITS, r, slot] < m.rule[QUORUM] or m.slot[S_DECIDED, r, slot]:
        return
    if _advance(m, now, r, seq, slot) and r == 0:
        propose(m, now)


@inner
def _advance(m: Memory, now: int, r: int, seq: int, slot: int) -> bool:
    """`Replica.advance`: everything that the votes gathered so far allow. Whether that was anything."""
    done = False
    if not m.slot[S_PREPARED, r, slot] and m.slot[S_PREPARES, r, slot] >= m.rule[QUORUM] - 1:
        m.slot[S_PREPARED, r, slot] = 1
        m.slot[S_COMMITS, r, slot] += 1
        _broadcast(m, now, r, COMMIT, seq, vote_size(m, COMMIT, r, seq))
        done = True
    if (
        m.slot[S_PREPARED, r, slot]
        and not m.slot[S_DECIDED, r, slot]
        and m.slot[S_COMMITS, r, slot] >= m.rule[QUORUM]
    ):
        m.slot[S_DECIDED, r, slot] = 1
        done = _execute_in_order(m, now, r) or done
    return done


# --- execution, replies, checkpoints ---


@inner
def _execute_in_order(m: Memory, now: int, r: int) -> bool:
    """`Replica.execute_in_order`, `hand_out` and `progressed`; `ReplicaNode._execute`."""
    progress = False
    while (
        m.replica[R_EXECUTED, r] < m.replica[R_TOP, r]
        and m.slot[S_DECIDED, r, (m.replica[R_EXECUTED, r] + 1) % m.rule[L]]
    ):
        seq = m.replica[R_EXECUTED, r] + 1
        m.replica[R_EXECUTED, r] = seq
        if r == 0:
            m.now[WAITING] -= m.batch[B_COUNT, seq]
            for at in range(m.batch[B_FIRST, seq], m.batch[B_FIRST, seq] + m.batch[B_COUNT, seq]):
                _mark(m, m.request[Q_PLACE, at])
        _committed(m, now, r, seq)
        if m.rule[CPU]:
            count = m.batch[B_COUNT, seq]
            cost = count * m.rule[EXECUTE_NS] + m.rule[CHECKS] * count * m.rule[VERIFY_NS]
            m.replica[R_FREE_AT, r] = max(now, m.replica[R_FREE_AT, r]) + cost
            lane.launch(
                m,
                m.replica[R_FREE_AT, r],
                lane.flight(m, EXECUTED | PROCESS, -1, r, seq, m.replica[R_FREE_AT, r]),
            )
        else:
            if m.now[ANSWERER] < 0:
                m.now[ANSWERER], m.now[ANSWER_NEXT] = r, seq
            m.now[ANSWER_LAST] = seq
        progress = True
    if progress and m.replica[R_WATCHED, r] and m.replica[R_WATCHED, r] <= m.replica[R_EXECUTED, r]:
        m.replica[R_WATCHED, r] = _oldest(m, r)
        if m.replica[R_WATCHED, r]:
            _set_timer(m, now, r, VIEW, m.rule[VIEW_TIMEOUT])
        else:
            m.timer[T_DEADLINE, r, VIEW] = -1
    return progress


@inner
def _mark(m: Memory, rid: int) -> None:
    """`ClientTable.mark` at the primary."""
    client, ring_of = m.request[Q_CLIENT, rid], m.done[m.request[Q_CLIENT, rid]]
    ring_of[m.request[Q_SEQUENCE, rid] % len(ring_of)] = 1
    while ring_of[(m.client[1, client] + 1) % len(ring_of)]:
        m.client[1, client] += 1
        ring_of[m.client[1, client] % len(ring_of)] = 0


@inner
def _oldest(m: Memory, r: int) -> int:
    """`Changing._oldest` at a backup that knows no requests but those proposed; 0: none."""
    for seq in range(m.replica[R_EXECUTED, r] + 1, m.replica[R_TOP, r] + 1):
        if m.slot[S_ACCEPTED, r, seq % m.rule[L]]:
            return seq
    return 0


@inner
def _committed(m: Memory, now: int, r: int, seq: int) -> None:
    """`Recorder.committed`."""
    note(m, COMMITTED, r, seq, seq, 0, now, now)
    note(m, EXECUTED, r, seq, seq, 0, now, now)
    m.now[LAST_COMMIT] = now
    m.batch[B_COMMITTERS, seq] += 1
    if m.batch[B_COMMITTERS, seq] == m.rule[QUORUM]:
        m.batch[B_QUORUM_NS, seq] = now
    if m.batch[B_COMMITTERS, seq] == m.rule[NODES]:
        m.batch[B_ALL_NS, seq] = now


@inner
def on_executed(m: Memory, now: int, r: int, seq: int) -> None:
    """`Replica._on_executed`, and `vote_checkpoint` where one is due."""
    if seq > m.replica[R_LOW, r]:
        _took(m, now, r, seq % m.rule[L])
    first = m.batch[B_FIRST, seq]
    for place in range(first, first + m.batch[B_COUNT, seq]):
        _reply(m, now, r, place, seq)
    m.replica[R_ANSWERED, r] = seq
    if seq % m.rule[K] == 0 and seq > m.replica[R_LOW, r]:
        _broadcast(m, now, r, CHECKPOINT, seq, vote_size(m, CHECKPOINT, r, seq))
        on_checkpoint(m, now, r, seq)


@inner
def on_checkpoint(m: Memory, now: int, r: int, seq: int) -> None:
    """`Replica._on_checkpoint` and `stabilise`."""
    if seq <= m.replica[R_LOW, r]:
        m.ignored[OLD_CHECKPOINT] += 1
        return
    place = seq // m.rule[K] % m.votes.shape[1]
    m.votes[r, place] += 1
    if m.votes[r, place] < m.rule[QUORUM]:
        return
    if m.replica[R_EXECUTED, r] < seq:
        m.now[WHY] = ASKED  # the others are further: it asks for blocks
        return
    for gone in range(m.replica[R_LOW, r] + 1, seq + 1):
        slot = gone % m.rule[L]
        m.slot[S_ACCEPTED, r, slot] = m.slot[S_PREPARES, r, slot] = m.slot[S_COMMITS, r, slot] = 0
        m.slot[S_PREPARED, r, slot] = m.slot[S_DECIDED, r, slot] = 0
        m.slot[S_ACCEPTED_NS, r, slot] = -1
        m.votes[r, gone // m.rule[K] % m.votes.shape[1]] = 0
    m.replica[R_LOW, r] = seq
    m.replica[R_LEFT_BEHIND, r] = 0
    if r == 0:
        m.now[NEXT_SEQ] = max(m.now[NEXT_SEQ], seq + 1)
        propose(m, now)


# --- what arrives ---


@inner
def cost_of(m: Memory, what: int, sender: int, about: int) -> int:
    """`CpuCosts.receive`."""
    checks, size = 1, 0
    if what == PRE_PREPARE:
        checks, size = 1 + m.batch[B_COUNT, about], proposal_size(m, about)
    elif what == REQUEST:
        size = m.request[Q_SIZE, about]
    else:
        size = vote_size(m, what, sender, about)
    return m.rule[MESSAGE_NS] + size * m.rule[KILOBYTE_NS] // 1000 + checks * m.rule[VERIFY_NS]


@inner
def receive(m: Memory, now: int, what: int, r: int, about: int) -> None:
    """`Replica.step`."""
    if what == PREPARE:
        on_prepare(m, now, r, about)
    elif what == COMMIT:
        on_commit(m, now, r, about)
    elif what == PRE_PREPARE:
        on_pre_prepare(m, now, r, about)
    elif what == CHECKPOINT:
        on_checkpoint(m, now, r, about)
    elif what == EXECUTED:
        on_executed(m, now, r, about)
    else:
        on_request(m, now, about)
