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
    AT_CLIENT,
    AT_DONE,
    AT_EVENT,
    AT_LOG,
    AT_LOG_KEYS,
    AT_REPLY_NS,
    AT_WEATHER,
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
    CLIENT_RING,
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
    I64,
    IGNORED,
    KEY_BITS,
    KILOBYTE_NS,
    LAST_COMMIT,
    MESSAGE_NS,
    MESSAGES,
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
    REPLIES_KEPT,
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
    WEATHER_ROWS,
    WHY,
    WINDOW,
    K,
    L,
    intlen,
)
from tradebft.network.compiled.places import (
    of_batch,
    of_replica,
    of_request,
    of_slot,
    of_timer,
    row_of,
    votes_for,
)

_MASK = (1 << KEY_BITS) - 1
_length = inner(intlen)


# --- what leaves a replica ---


@inner
def note(m: I64, kind: int, sender: int, seq: int, about: int, receiver: int, time: int, sent: int) -> None:
    """One event for the trace."""
    at = m[AT_EVENT] + 7 * m[EVENTS]
    m[at], m[at + 1], m[at + 2], m[at + 3] = kind, sender, seq, about
    m[at + 4], m[at + 5], m[at + 6] = receiver, time, sent
    m[EVENTS] += 1


@inner
def _signed(m: I64, now: int, r: int, size: int) -> int:
    """`ReplicaNode._signed`."""
    if not m[CPU]:
        return now
    cost = m[MESSAGE_NS] + size * m[KILOBYTE_NS] // 1000 + m[SIGN_NS]
    m[of_replica(m, R_FREE_AT, r)] = max(now, m[of_replica(m, R_FREE_AT, r)]) + cost
    return m[of_replica(m, R_FREE_AT, r)]


@inner
def _broadcast(m: I64, now: int, r: int, what: int, seq: int, size: int) -> None:
    """`SimulatedBus.broadcast` of a message whose signature holds."""
    at = _signed(m, now, r, size)
    others = m[NODES] - 1
    m[MESSAGES + what] += others
    if what == PRE_PREPARE:
        m[of_batch(m, B_PROPOSED_NS, seq)] = at
    if not others:
        return
    m[BYTES_SENT] += size * others
    made = lane.flight(m, what, r, -1, seq, at)
    row = lane.row(m, made, others)
    keys = row_of(m, row)
    at_row = of_replica(m, R_WEATHER_AT, r)
    drawn = m[AT_WEATHER] + (r * m[WEATHER_ROWS] + m[at_row]) * others
    m[at_row] += 1
    if m[of_replica(m, R_WEATHER_END, r)] - m[at_row] < m[WINDOW] + 4:
        m[DRY] = r + 1
    if m[BANDWIDTH]:
        free = of_replica(m, R_INTERFACE_FREE, r)
        depart = max(at, m[free])
        copy = size * 8 * 1_000_000_000 // m[BANDWIDTH]
        m[free] = depart + copy * others
        for i in range(others):  # the interface sends copy after copy, by the receivers' numbers
            depart += copy
            m[keys + i] = m[drawn + i] + ((depart - at) << KEY_BITS)
        m[keys : keys + others].sort()
    else:
        for i in range(others):
            m[keys + i] = m[drawn + i]
    head = m[AT_LOG] + 4 * m[ROWS]
    m[head], m[head + 1], m[head + 2], m[head + 3] = what, r, seq, at
    log = m[AT_LOG_KEYS] + others * m[ROWS]
    for i in range(others):
        m[log + i] = m[keys + i]
    m[ROWS] += 1
    lane.launch(m, at + (m[keys] >> KEY_BITS), made)


@inner
def _reply(m: I64, now: int, r: int, place: int, seq: int) -> None:
    """`SimulatedBus.send` of the reply to the request at *place* in the order."""
    rid = m[of_request(m, Q_PLACE, place)]
    size = m[of_request(m, Q_REPLY_SIZE, rid)] + _length(r)
    at = _signed(m, now, r, size)
    m[MESSAGES + REPLY] += 1
    depart = at
    if m[BANDWIDTH]:
        depart = max(at, m[of_replica(m, R_INTERFACE_FREE, r)]) + size * 8 * 1_000_000_000 // m[BANDWIDTH]
        m[of_replica(m, R_INTERFACE_FREE, r)] = depart
    m[BYTES_SENT] += size
    arrival = depart + m[m[AT_REPLY_NS] + place % m[REPLIES_KEPT] * m[NODES] + r]
    note(m, REPLY, r, seq, rid, m[of_request(m, Q_CLIENT, rid)], arrival, at)
    lane.launch(m, arrival, lane.flight(m, REPLY, r, m[of_request(m, Q_CLIENT, rid)], rid, at))


# --- timers (`SimulatedBus.set_timer`) ---


@inner
def _set_timer(m: I64, now: int, r: int, timer: int, delay: int) -> None:
    m[of_timer(m, T_DEADLINE, r, timer)] = now + delay
    if m[of_timer(m, T_ALARM_AT, r, timer)] < 0 or m[of_timer(m, T_ALARM_AT, r, timer)] > now + delay:
        m[of_timer(m, T_ALARM_AT, r, timer)] = now + delay
        lane.alarm(m, now + delay, r * 3 + timer)


@inner
def ring(m: I64, due: int, what: int) -> None:
    """An alarm went off."""
    r, timer = what // 3, what % 3
    if m[of_timer(m, T_ALARM_AT, r, timer)] != due:
        return  # an earlier alarm took its place
    m[of_timer(m, T_ALARM_AT, r, timer)] = -1
    deadline = m[of_timer(m, T_DEADLINE, r, timer)]
    if deadline < 0:
        return
    if deadline > due:
        m[of_timer(m, T_ALARM_AT, r, timer)] = deadline
        lane.alarm(m, deadline, what)
        return
    m[of_timer(m, T_DEADLINE, r, timer)] = -1
    note(m, TIMER, r, 0, timer, 0, due, due)
    if timer == VIEW:
        m[WHY] = VIEW_CHANGE
    elif timer == BATCH:
        m[BATCH_SET], m[BATCH_DUE] = 0, 1
        propose(m, due)
    else:
        _on_status_timer(m, due, r)


@inner
def _ask_later(m: I64, now: int, r: int) -> None:
    """`Recovery.ask_later`."""
    if m[of_replica(m, R_ASKING, r)]:
        return
    m[of_replica(m, R_ASKING, r)], m[of_replica(m, R_ASKED_EXECUTED, r)], m[of_replica(m, R_ASKED_LOW, r)] = (
        1,
        m[of_replica(m, R_EXECUTED, r)],
        m[of_replica(m, R_LOW, r)],
    )
    interval = m[STATUS_NS]
    if not m[STATUS_FIXED] and m[of_replica(m, R_SMOOTHED, r)]:
        patience = min(
            interval,
            max(LEAST_NS, 2 * (m[of_replica(m, R_SMOOTHED, r)] + 4 * m[of_replica(m, R_DEVIATION, r)])),
        )
        interval = min(interval, patience << m[of_replica(m, R_ASKED_IN_VAIN, r)])
    _set_timer(m, now, r, STATUS, interval + interval // 3 if r == 0 else interval)


@inner
def _on_status_timer(m: I64, now: int, r: int) -> None:
    """`Recovery.on_status_timer`."""
    m[of_replica(m, R_ASKING, r)] = 0
    if not _outstanding(m, r):
        return
    if (
        m[of_replica(m, R_ASKED_EXECUTED, r)] != m[of_replica(m, R_EXECUTED, r)]
        or m[of_replica(m, R_ASKED_LOW, r)] != m[of_replica(m, R_LOW, r)]
    ):
        m[of_replica(m, R_ASKED_IN_VAIN, r)] = 0
        _ask_later(m, now, r)
    else:
        m[WHY] = ASKED


@inner
def _outstanding(m: I64, r: int) -> bool:
    if (r == 0 and m[WAITING] > 0) or m[of_replica(m, R_EXECUTED, r)] < m[of_replica(m, R_LOW, r)]:
        return True
    if (
        m[of_replica(m, R_LEFT_BEHIND, r)]
        or m[of_replica(m, R_HEARD_OF, r)] > m[of_replica(m, R_EXECUTED, r)]
    ):
        return True
    for seq in range(m[of_replica(m, R_EXECUTED, r)] + 1, m[of_replica(m, R_TOP, r)] + 1):
        slot = seq % m[L]
        if m[of_slot(m, S_ACCEPTED, r, slot)] or m[of_slot(m, S_COMMITS, r, slot)] > m[FAULTS]:
            return True
    return False


@inner
def _took(m: I64, now: int, r: int, slot: int) -> None:
    """`Recovery.took` and `RoundTrip.sample`: nobody has asked, so every sample counts."""
    if m[of_slot(m, S_ACCEPTED_NS, r, slot)] < 0:
        return
    took = now - m[of_slot(m, S_ACCEPTED_NS, r, slot)]
    m[of_slot(m, S_ACCEPTED_NS, r, slot)] = -1
    if not m[of_replica(m, R_SMOOTHED, r)]:
        m[of_replica(m, R_SMOOTHED, r)], m[of_replica(m, R_DEVIATION, r)] = max(1, took), took // 2
        return
    error = took - m[of_replica(m, R_SMOOTHED, r)]
    m[of_replica(m, R_SMOOTHED, r)] = max(1, m[of_replica(m, R_SMOOTHED, r)] + error // 8)
    m[of_replica(m, R_DEVIATION, r)] += (abs(error) - m[of_replica(m, R_DEVIATION, r)]) // 4


# --- requests and proposals ---


@inner
def on_request(m: I64, now: int, rid: int) -> None:
    """`Replica._on_request` at the primary."""
    if m[WAITING] >= m[REQUESTS_WAITING]:
        m[WHY] = CROWDED
        return
    if (
        m[of_request(m, Q_SEQUENCE, rid)]
        > m[m[AT_CLIENT] + 2 * m[of_request(m, Q_CLIENT, rid)] + 1] + m[CLIENT_WINDOW]
    ):
        m[WHY] = BEYOND_WINDOW
        return
    m[of_request(m, Q_PLACE, m[ARRIVED])] = rid
    m[ARRIVED] += 1
    m[WAITING] += 1
    m[FRESH_BYTES] += m[of_request(m, Q_OPERATION, rid)]
    propose(m, now)


@inner
def propose(m: I64, now: int) -> None:
    """`Replica.propose`."""
    while m[ARRIVED] > m[TAKEN] and _may_propose(m):
        fresh = m[ARRIVED] - m[TAKEN]
        full = fresh >= m[BATCH_SIZE] or m[FRESH_BYTES] >= m[BATCH_BYTES]
        if not full and m[BATCH_TIMEOUT] and not m[BATCH_DUE]:
            if not m[BATCH_SET]:
                m[BATCH_SET] = 1
                _set_timer(m, now, 0, BATCH, m[BATCH_TIMEOUT])
            return
        m[BATCH_DUE] = 0
        if m[BATCH_SET]:
            m[BATCH_SET] = 0
            m[of_timer(m, T_DEADLINE, 0, BATCH)] = -1
        _propose_batch(m, now)


@inner
def _may_propose(m: I64) -> bool:
    seq = m[NEXT_SEQ]
    return (
        seq <= _high(m, 0)
        and seq - m[of_replica(m, R_EXECUTED, 0)] <= m[WINDOW]
        and m[of_replica(m, R_EXECUTED, 0)]
        >= m[of_replica(m, R_LOW, 0)]  # `caught_up`: every proposal here has its batch
    )


@inner
def _propose_batch(m: I64, now: int) -> None:
    """`Waiting.take` and `Replica._propose_batch`."""
    first = m[TAKEN]
    count, room, size = 0, m[BATCH_BYTES], 0
    while first + count < m[ARRIVED] and count < m[BATCH_SIZE]:
        rid = m[of_request(m, Q_PLACE, first + count)]
        room -= m[of_request(m, Q_OPERATION, rid)]
        if count and room < 0:
            break
        size += m[of_request(m, Q_SIZE, rid)]
        m[FRESH_BYTES] -= m[of_request(m, Q_OPERATION, rid)]
        count += 1
    m[TAKEN] += count
    seq = m[NEXT_SEQ]
    m[NEXT_SEQ] = seq + 1
    m[of_batch(m, B_FIRST, seq)], m[of_batch(m, B_COUNT, seq)], m[of_batch(m, B_TIME, seq)] = (
        first,
        count,
        now,
    )
    # The tag, the time, how many, and the requests.
    m[of_batch(m, B_SIZE, seq)] = 7 + _length(now) + (1 if count < 16 else 3 if count < 65536 else 5) + size
    slot = seq % m[L]
    _accept(m, now, 0, seq, slot)
    _broadcast(m, now, 0, PRE_PREPARE, seq, proposal_size(m, seq))
    _ask_later(m, now, 0)
    _advance(m, now, 0, seq, slot)


@inner
def proposal_size(m: I64, seq: int) -> int:
    """Bytes of the proposal of *seq*."""
    return m[PRE_PREPARE_SIZE] + _length(seq) + m[of_batch(m, B_SIZE, seq)]


@inner
def vote_size(m: I64, what: int, r: int, seq: int) -> int:
    """Bytes of a Prepare, Commit or Checkpoint."""
    kind = PREPARE_SIZE if what == PREPARE else COMMIT_SIZE if what == COMMIT else CHECKPOINT_SIZE
    return m[kind] + _length(seq) + _length(r)


# --- the three phases ---


@inner
def _high(m: I64, r: int) -> int:
    return min(m[of_replica(m, R_LOW, r)], m[of_replica(m, R_EXECUTED, r)]) + m[L]


@inner
def _fits(m: I64, now: int, r: int, seq: int) -> bool:
    """Whether *seq* lies between the watermarks; if not, `Replica._misfit`."""
    if seq <= m[of_replica(m, R_LOW, r)]:
        m[IGNORED + OLD_VOTE] += 1
        return False
    high = _high(m, r)
    if seq <= high:
        return True
    m[of_replica(m, R_LEFT_BEHIND, r)] = 1
    if seq <= high + m[L]:
        m[of_replica(m, R_HEARD_OF, r)] = max(m[of_replica(m, R_HEARD_OF, r)], seq)
    m[IGNORED + HIGH_VOTE] += 1
    _ask_later(m, now, r)
    return False


@inner
def _accept(m: I64, now: int, r: int, seq: int, slot: int) -> None:
    m[of_slot(m, S_ACCEPTED, r, slot)], m[of_slot(m, S_ACCEPTED_NS, r, slot)] = 1, now
    m[of_replica(m, R_TOP, r)] = max(m[of_replica(m, R_TOP, r)], seq)


@inner
def on_pre_prepare(m: I64, now: int, r: int, seq: int) -> None:
    """`Replica._on_pre_prepare` and `prepare`."""
    if not _fits(m, now, r, seq):
        return
    slot = seq % m[L]
    _accept(m, now, r, seq, slot)
    m[of_slot(m, S_PREPARES, r, slot)] += 1
    _broadcast(m, now, r, PREPARE, seq, vote_size(m, PREPARE, r, seq))
    if not m[of_replica(m, R_WATCHED, r)]:
        m[of_replica(m, R_WATCHED, r)] = _oldest(m, r)
        _set_timer(m, now, r, VIEW, m[VIEW_TIMEOUT])
        _ask_later(m, now, r)
    _advance(m, now, r, seq, slot)


@inner
def on_prepare(m: I64, now: int, r: int, seq: int) -> None:
    """`Replica._on_prepare`. Votes that come before their proposal are counted, and count when it comes."""
    if not _fits(m, now, r, seq):
        return
    slot = seq % m[L]
    if m[of_slot(m, S_DECIDED, r, slot)] and m[of_slot(m, S_PREPARED, r, slot)]:
        return
    m[of_replica(m, R_TOP, r)] = max(m[of_replica(m, R_TOP, r)], seq)
    m[of_slot(m, S_PREPARES, r, slot)] += 1
    if m[of_slot(m, S_ACCEPTED, r, slot)] and m[of_slot(m, S_PREPARES, r, slot)] == m[QUORUM] - 1:
        _advance(m, now, r, seq, slot)


@inner
def on_commit(m: I64, now: int, r: int, seq: int) -> None:
    """`Replica._on_commit`."""
    if not _fits(m, now, r, seq):
        return
    slot = seq % m[L]
    if m[of_slot(m, S_DECIDED, r, slot)] and m[of_slot(m, S_PREPARED, r, slot)]:
        return
    m[of_replica(m, R_TOP, r)] = max(m[of_replica(m, R_TOP, r)], seq)
    m[of_slot(m, S_COMMITS, r, slot)] += 1
    if not m[of_slot(m, S_ACCEPTED, r, slot)]:
        if m[of_slot(m, S_COMMITS, r, slot)] > m[FAULTS]:
            _ask_later(m, now, r)
        return
    if m[of_slot(m, S_COMMITS, r, slot)] < m[QUORUM] or m[of_slot(m, S_DECIDED, r, slot)]:
        return
    if _advance(m, now, r, seq, slot) and r == 0:
        propose(m, now)


@inner
def _advance(m: I64, now: int, r: int, seq: int, slot: int) -> bool:
    """`Replica.advance`: everything that the votes gathered so far allow. Whether that was anything."""
    done = False
    if not m[of_slot(m, S_PREPARED, r, slot)] and m[of_slot(m, S_PREPARES, r, slot)] >= m[QUORUM] - 1:
        m[of_slot(m, S_PREPARED, r, slot)] = 1
        m[of_slot(m, S_COMMITS, r, slot)] += 1
        _broadcast(m, now, r, COMMIT, seq, vote_size(m, COMMIT, r, seq))
        done = True
    if (
        m[of_slot(m, S_PREPARED, r, slot)]
        and not m[of_slot(m, S_DECIDED, r, slot)]
        and m[of_slot(m, S_COMMITS, r, slot)] >= m[QUORUM]
    ):
        m[of_slot(m, S_DECIDED, r, slot)] = 1
        done = _execute_in_order(m, now, r) or done
    return done


# --- execution, replies, checkpoints ---


@inner
def _execute_in_order(m: I64, now: int, r: int) -> bool:
    """`Replica.execute_in_order`, `hand_out` and `progressed`; `ReplicaNode._execute`."""
    progress = False
    while (
        m[of_replica(m, R_EXECUTED, r)] < m[of_replica(m, R_TOP, r)]
        and m[of_slot(m, S_DECIDED, r, (m[of_replica(m, R_EXECUTED, r)] + 1) % m[L])]
    ):
        seq = m[of_replica(m, R_EXECUTED, r)] + 1
        m[of_replica(m, R_EXECUTED, r)] = seq
        if r == 0:
            m[WAITING] -= m[of_batch(m, B_COUNT, seq)]
            for at in range(
                m[of_batch(m, B_FIRST, seq)], m[of_batch(m, B_FIRST, seq)] + m[of_batch(m, B_COUNT, seq)]
            ):
                _mark(m, m[of_request(m, Q_PLACE, at)])
        _committed(m, now, r, seq)
        if m[CPU]:
            count = m[of_batch(m, B_COUNT, seq)]
            cost = count * m[EXECUTE_NS] + m[CHECKS] * count * m[VERIFY_NS]
            m[of_replica(m, R_FREE_AT, r)] = max(now, m[of_replica(m, R_FREE_AT, r)]) + cost
            lane.launch(
                m,
                m[of_replica(m, R_FREE_AT, r)],
                lane.flight(m, EXECUTED | PROCESS, -1, r, seq, m[of_replica(m, R_FREE_AT, r)]),
            )
        else:
            if m[ANSWERER] < 0:
                m[ANSWERER], m[ANSWER_NEXT] = r, seq
            m[ANSWER_LAST] = seq
        progress = True
    if (
        progress
        and m[of_replica(m, R_WATCHED, r)]
        and m[of_replica(m, R_WATCHED, r)] <= m[of_replica(m, R_EXECUTED, r)]
    ):
        m[of_replica(m, R_WATCHED, r)] = _oldest(m, r)
        if m[of_replica(m, R_WATCHED, r)]:
            _set_timer(m, now, r, VIEW, m[VIEW_TIMEOUT])
        else:
            m[of_timer(m, T_DEADLINE, r, VIEW)] = -1
    return progress


@inner
def _mark(m: I64, rid: int) -> None:
    """`ClientTable.mark` at the primary."""
    client, size = m[of_request(m, Q_CLIENT, rid)], m[CLIENT_RING]
    done, low = m[AT_DONE] + client * size, m[AT_CLIENT] + 2 * client + 1
    m[done + m[of_request(m, Q_SEQUENCE, rid)] % size] = 1
    while m[done + (m[low] + 1) % size]:
        m[low] += 1
        m[done + m[low] % size] = 0


@inner
def _oldest(m: I64, r: int) -> int:
    """`Changing._oldest` at a backup that knows no requests but those proposed; 0: none."""
    for seq in range(m[of_replica(m, R_EXECUTED, r)] + 1, m[of_replica(m, R_TOP, r)] + 1):
        if m[of_slot(m, S_ACCEPTED, r, seq % m[L])]:
            return seq
    return 0


@inner
def _committed(m: I64, now: int, r: int, seq: int) -> None:
    """`Recorder.committed`."""
    note(m, COMMITTED, r, seq, seq, 0, now, now)
    note(m, EXECUTED, r, seq, seq, 0, now, now)
    m[LAST_COMMIT] = now
    m[of_batch(m, B_COMMITTERS, seq)] += 1
    if m[of_batch(m, B_COMMITTERS, seq)] == m[QUORUM]:
        m[of_batch(m, B_QUORUM_NS, seq)] = now
    if m[of_batch(m, B_COMMITTERS, seq)] == m[NODES]:
        m[of_batch(m, B_ALL_NS, seq)] = now


@inner
def on_executed(m: I64, now: int, r: int, seq: int) -> None:
    """`Replica._on_executed`, and `vote_checkpoint` where one is due."""
    if seq > m[of_replica(m, R_LOW, r)]:
        _took(m, now, r, seq % m[L])
    first = m[of_batch(m, B_FIRST, seq)]
    for place in range(first, first + m[of_batch(m, B_COUNT, seq)]):
        _reply(m, now, r, place, seq)
    m[of_replica(m, R_ANSWERED, r)] = seq
    if seq % m[K] == 0 and seq > m[of_replica(m, R_LOW, r)]:
        _broadcast(m, now, r, CHECKPOINT, seq, vote_size(m, CHECKPOINT, r, seq))
        on_checkpoint(m, now, r, seq)


@inner
def on_checkpoint(m: I64, now: int, r: int, seq: int) -> None:
    """`Replica._on_checkpoint` and `stabilise`."""
    if seq <= m[of_replica(m, R_LOW, r)]:
        m[IGNORED + OLD_CHECKPOINT] += 1
        return
    m[votes_for(m, r, seq)] += 1
    if m[votes_for(m, r, seq)] < m[QUORUM]:
        return
    if m[of_replica(m, R_EXECUTED, r)] < seq:
        m[WHY] = ASKED  # the others are further: it asks for blocks
        return
    for gone in range(m[of_replica(m, R_LOW, r)] + 1, seq + 1):
        slot = gone % m[L]
        m[of_slot(m, S_ACCEPTED, r, slot)] = m[of_slot(m, S_PREPARES, r, slot)] = m[
            of_slot(m, S_COMMITS, r, slot)
        ] = 0
        m[of_slot(m, S_PREPARED, r, slot)] = m[of_slot(m, S_DECIDED, r, slot)] = 0
        m[of_slot(m, S_ACCEPTED_NS, r, slot)] = -1
        m[votes_for(m, r, gone)] = 0
    m[of_replica(m, R_LOW, r)] = seq
    m[of_replica(m, R_LEFT_BEHIND, r)] = 0
    if r == 0:
        m[NEXT_SEQ] = max(m[NEXT_SEQ], seq + 1)
        propose(m, now)


# --- what arrives ---


@inner
def cost_of(m: I64, what: int, sender: int, about: int) -> int:
    """`CpuCosts.receive`."""
    checks, size = 1, 0
    if what == PRE_PREPARE:
        checks, size = 1 + m[of_batch(m, B_COUNT, about)], proposal_size(m, about)
    elif what == REQUEST:
        size = m[of_request(m, Q_SIZE, about)]
    else:
        size = vote_size(m, what, sender, about)
    return m[MESSAGE_NS] + size * m[KILOBYTE_NS] // 1000 + checks * m[VERIFY_NS]


@inner
def receive(m: I64, now: int, what: int, r: int, about: int) -> None:
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
