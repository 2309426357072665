"""What leaves a replica, and the timers that it sets: `ReplicaNode`'s effects, `SimulatedBus`'s sending."""

from __future__ import annotations

from tradebft.network.compiled import lane
from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.memory import (
    AHEAD,
    AHEAD_OTHERS,
    ALONE_ROW,
    AT_ALONE,
    AT_EVENT,
    AT_LOG,
    AT_LOG_KEYS,
    AT_PAIR,
    AT_REPLY_NS,
    AT_WEATHER,
    B_PROPOSED_NS,
    B_SIZE,
    BANDWIDTH,
    BYTES_SENT,
    CHECKPOINT,
    CHECKPOINT_SIZE,
    CLIENT_PAIRS,
    COMMIT,
    COMMIT_SIZE,
    CPU,
    DRY,
    EVENTS,
    I64,
    KEY_BITS,
    KILOBYTE_NS,
    MESSAGE_NS,
    MESSAGES,
    NODES,
    PRE_PREPARE,
    PRE_PREPARE_SIZE,
    PREPARE,
    PREPARE_SIZE,
    Q_CLIENT,
    Q_PLACE,
    Q_REPLY_SIZE,
    R_FREE_AT,
    R_INTERFACE_FREE,
    R_WEATHER_AT,
    R_WEATHER_END,
    REPLIES_KEPT,
    REPLY,
    ROWS,
    SIGN_NS,
    STATUS,
    T_ALARM_AT,
    T_DEADLINE,
)
from tradebft.network.compiled.places import (
    length,
    of_batch,
    of_replica,
    of_request,
    of_timer,
    row_of,
)


@inner
def proposal_size(m: I64, seq: int) -> int:
    """Of the PrePrepare of *seq*."""
    return m[PRE_PREPARE_SIZE] + length(seq) + m[of_batch(m, B_SIZE, seq)]


@inner
def vote_size(m: I64, what: int, r: int, seq: int) -> int:
    """Of a Prepare, Commit or Checkpoint of *r*."""
    kind = PREPARE_SIZE if what == PREPARE else COMMIT_SIZE if what == COMMIT else CHECKPOINT_SIZE
    return m[kind] + length(seq) + length(r)


@inner
def note(m: I64, kind: int, sender: int, seq: int, about: int, receiver: int, time: int, sent: int) -> None:
    """One event for the trace."""
    at = m[AT_EVENT] + 7 * m[EVENTS]
    m[at], m[at + 1], m[at + 2], m[at + 3] = kind, sender, seq, about
    m[at + 4], m[at + 5], m[at + 6] = receiver, time, sent
    m[EVENTS] += 1


@inner
def take(m: I64, now: int, r: int, cost: int) -> int:
    """`Processor.take`: queue *cost* ns of work; when it is done."""
    free = of_replica(m, R_FREE_AT, r)
    m[free] = max(now, m[free]) + cost
    return m[free]


@inner
def _signed(m: I64, now: int, r: int, size: int) -> int:
    """When the processor has signed it."""
    if not m[CPU]:
        return now
    return take(m, now, r, m[MESSAGE_NS] + size * m[KILOBYTE_NS] // 1000 + m[SIGN_NS])


@inner
def broadcast(m: I64, now: int, r: int, what: int, about: int, size: int) -> None:
    """To all others: a message about a sequence, or the Status of that number."""
    at = _signed(m, now, r, size)
    others = m[NODES] - 1
    m[MESSAGES + what] += others
    if what == PRE_PREPARE:
        m[of_batch(m, B_PROPOSED_NS, about)] = at
    m[BYTES_SENT] += size * others
    made = lane.flight(m, what, r, -1, about, at)
    keys = row_of(m, lane.row(m, made, others))
    at_row = of_replica(m, R_WEATHER_AT, r)
    drawn = m[AT_WEATHER] + m[at_row] * others
    m[at_row] += 1
    if m[of_replica(m, R_WEATHER_END, r)] - m[at_row] < m[AHEAD_OTHERS if r else AHEAD]:
        m[DRY] = r + 1
    head, log = m[AT_LOG] + 4 * m[ROWS], m[AT_LOG_KEYS] + others * m[ROWS]
    m[head], m[head + 1], m[head + 2], m[head + 3] = what, r, 0 if what == STATUS else about, at
    m[ROWS] += 1
    if m[BANDWIDTH]:
        free = of_replica(m, R_INTERFACE_FREE, r)
        depart = max(at, m[free])
        copy = size * 8 * 1_000_000_000 // m[BANDWIDTH]
        m[free] = depart + copy * others
        for i in range(others):  # the interface sends copy after copy, by the receivers' numbers
            depart += copy
            m[keys + i] = m[drawn + i] + ((depart - at) << KEY_BITS)
        m[keys : keys + others].sort()
        for i in range(others):
            m[log + i] = m[keys + i]
    else:
        for i in range(others):
            m[keys + i] = m[log + i] = m[drawn + i]
    lane.launch(m, at + (m[keys] >> KEY_BITS), made)


@inner
def _depart(m: I64, at: int, r: int, size: int) -> int:
    """When one copy has left the interface of *r*."""
    m[BYTES_SENT] += size
    if not m[BANDWIDTH]:
        return at
    free = of_replica(m, R_INTERFACE_FREE, r)
    m[free] = max(at, m[free]) + size * 8 * 1_000_000_000 // m[BANDWIDTH]
    return m[free]


@inner
def _next_delay(m: I64, pair: int) -> int:
    """The loop has seen to it that there is one."""
    delay = m[m[AT_ALONE] + m[pair] * m[ALONE_ROW] + m[pair + 1]]
    m[pair + 1] += 1
    return delay


@inner
def alone(m: I64, now: int, r: int, to: int, what: int, about: int, size: int) -> None:
    """To one other replica. The loop has seen to it that there are delays enough for this pair."""
    at = _signed(m, now, r, size)
    m[MESSAGES + what] += 1
    pair = m[AT_PAIR] + 3 * (r * m[NODES] + to)
    arrival = _depart(m, at, r, size) + _next_delay(m, pair)
    note(m, what, r, about if what <= COMMIT or what == CHECKPOINT else 0, about, to, arrival, at)
    lane.launch(m, arrival, lane.flight(m, what, r, to, about, at))


@inner
def _reply(m: I64, now: int, r: int, rid: int, seq: int, delay: int) -> None:
    client, size = m[of_request(m, Q_CLIENT, rid)], m[of_request(m, Q_REPLY_SIZE, rid)] + length(r)
    at = _signed(m, now, r, size)
    m[MESSAGES + REPLY] += 1
    arrival = _depart(m, at, r, size) + delay
    note(m, REPLY, r, seq, rid, client, arrival, at)
    lane.launch(m, arrival, lane.flight(m, REPLY, r, client, rid, at))


@inner
def answer(m: I64, now: int, rid: int, seq: int) -> None:
    """The primary's reply to a request, the first or once more."""
    delay = _next_delay(m, m[AT_PAIR] + 3 * (m[CLIENT_PAIRS] + m[of_request(m, Q_CLIENT, rid)]))
    _reply(m, now, 0, rid, seq, delay)


@inner
def reply(m: I64, now: int, r: int, place: int, seq: int) -> None:
    """To the client of the request at *place* in the order."""
    rid = m[of_request(m, Q_PLACE, place)]
    if r == 0:
        answer(m, now, rid, seq)
        return
    _reply(m, now, r, rid, seq, m[m[AT_REPLY_NS] + place % m[REPLIES_KEPT] * m[NODES] + r])


@inner
def set_timer(m: I64, now: int, r: int, timer: int, delay: int) -> None:
    """`Timers.set`."""
    m[of_timer(m, T_DEADLINE, r, timer)] = now + delay
    alarm = of_timer(m, T_ALARM_AT, r, timer)
    if m[alarm] < 0 or m[alarm] > now + delay:
        m[alarm] = now + delay
        lane.alarm(m, now + delay, r * 3 + timer)


@inner
def cancel_timer(m: I64, r: int, timer: int) -> None:
    """`Timers.cancel`."""
    m[of_timer(m, T_DEADLINE, r, timer)] = -1
