"""What leaves a replica, and the timers that it sets: `ReplicaNode`'s effects, `SimulatedBus`'s sending."""

from __future__ import annotations

from tradebft.network.compiled import lane
from tradebft.network.compiled.compiling import inner
from tradebft.network.compiled.memory import (
    AHEAD,
    AHEAD_OTHERS,
    ALONE_ROW,
    AT_ALONE,
    AT_ALONE_LUCK,
    AT_BROADCAST_LUCK,
    AT_CUT,
    AT_EVENT,
    AT_LOG,
    AT_LOG_KEYS,
    AT_LOSS,
    AT_PAIR,
    AT_REPLY_LUCK,
    AT_REPLY_NS,
    AT_SLOW,
    AT_WEATHER,
    B_PROPOSED_NS,
    B_SIZE,
    BANDWIDTH,
    BUFFER_NS,
    BYTES_SENT,
    CHECKPOINT,
    CHECKPOINT_SIZE,
    CLIENT_PAIRS,
    COMMIT,
    COMMIT_SIZE,
    CPU,
    DRY,
    EVENTS,
    FULL,
    KEY_BITS,
    KILOBYTE_NS,
    LONGEST_NS,
    LOSSY,
    LOST,
    MESSAGE_NS,
    MESSAGES,
    MISHAPS,
    NODES,
    PRE_PREPARE,
    PRE_PREPARE_SIZE,
    PREPARE,
    PREPARE_SIZE,
    PRIMARY,
    Q_CLIENT,
    Q_PLACE,
    Q_REPLY_SIZE,
    R_FREE_AT,
    R_INTERFACE_FREE,
    R_MUTE,
    R_WEATHER_AT,
    R_WEATHER_END,
    REPLIES_KEPT,
    REPLY,
    ROUGH,
    ROWS,
    SIGN_NS,
    SLOWED,
    STATUS,
    T_ALARM_AT,
    T_DEADLINE,
    WEEKS,
    WHY,
    Numbers,
)
from tradebft.network.compiled.places import (
    length,
    of_batch,
    of_link,
    of_replica,
    of_request,
    of_timer,
    row_of,
)
from tradebft.network.compiled.pointers import fractions, part

_MASK = (1 << KEY_BITS) - 1


@inner
def proposal_size(m: Numbers, seq: int) -> int:
    """Of the PrePrepare of *seq*."""
    return m[PRE_PREPARE_SIZE] + length(seq) + m[of_batch(m, B_SIZE, seq)]


@inner
def vote_size(m: Numbers, what: int, r: int, seq: int) -> int:
    """Of a Prepare, Commit or Checkpoint of *r*."""
    kind = PREPARE_SIZE if what == PREPARE else COMMIT_SIZE if what == COMMIT else CHECKPOINT_SIZE
    return m[kind] + length(seq) + length(r)


@inner
def note(
    m: Numbers, kind: int, sender: int, seq: int, about: int, receiver: int, time: int, sent: int
) -> None:
    """One event for the trace."""
    at = m[AT_EVENT] + 7 * m[EVENTS]
    m[at], m[at + 1], m[at + 2], m[at + 3] = kind, sender, seq, about
    m[at + 4], m[at + 5], m[at + 6] = receiver, time, sent
    m[EVENTS] += 1


@inner
def take(m: Numbers, now: int, r: int, cost: int) -> int:
    """`Processor.take`: queue *cost* ns of work; when it is done."""
    if m[ROUGH]:
        cost = int(cost * fractions(m)[of_link(m, AT_SLOW, r, m[NODES])])
    free = of_replica(m, R_FREE_AT, r)
    m[free] = max(now, m[free]) + cost
    return m[free]


@inner
def _signed(m: Numbers, now: int, r: int, size: int) -> int:
    """When the processor has signed it."""
    if not m[CPU]:
        return now
    return take(m, now, r, m[MESSAGE_NS] + size * m[KILOBYTE_NS] // 1000 + m[SIGN_NS])


@inner
def _meet(m: Numbers, r: int, to: int, delay: int, luck: int) -> int:
    """The delay of a copy that nothing cuts off, `SimulatedBus._arrivals`; -1: lost. *luck*: where its draw is."""
    f = fractions(m)
    factor = f[of_link(m, AT_SLOW, r, to)]
    if factor != 1.0:
        m[MISHAPS + SLOWED] += 1
        if delay * factor >= LONGEST_NS:
            m[WHY] = WEEKS
            return delay
        delay = int(delay * factor)
    if m[LOSSY] and f[luck] < f[of_link(m, AT_LOSS, r, to)]:
        m[MISHAPS + LOST] += 1
        return -1
    return delay


@inner
def _full(m: Numbers, at: int, r: int) -> bool:
    """Whether so much waits at the interface of *r* that what it is to send at *at* is lost."""
    return m[BANDWIDTH] > 0 and m[of_replica(m, R_INTERFACE_FREE, r)] - at > m[BUFFER_NS]


@inner
def _sending_ns(m: Numbers, size: int) -> int:
    """`Wire.sending_ns`."""
    return size * 8 * 1_000_000_000 // m[BANDWIDTH] if m[BANDWIDTH] else 0


@inner
def _copies(m: Numbers, at: int, r: int, size: int, row: int, keys: int) -> int:
    """How many copies of a broadcast arrive, and their *keys*, where messages are meddled with. *row*: of its draws."""
    others = m[NODES] - 1
    drawn, luck = m[AT_WEATHER] + row * others, m[AT_BROADCAST_LUCK] + row * others
    copy = _sending_ns(m, size)
    free = of_replica(m, R_INTERFACE_FREE, r)
    depart, full = max(at, m[free]) if m[BANDWIDTH] else at, _full(m, at, r)
    count = 0
    for i in range(others):
        to = m[drawn + i] & _MASK
        cut = m[of_link(m, AT_CUT, r, to)]
        if cut:
            m[MISHAPS + cut] += 1
            continue
        if full:
            m[MISHAPS + FULL] += 1
            continue
        depart += copy
        m[BYTES_SENT] += size
        delay = _meet(m, r, to, m[drawn + i] >> KEY_BITS, luck + to - (1 if to > r else 0))
        if delay >= 0:
            m[keys + count] = (depart - at + delay) << KEY_BITS | to
            count += 1
    if m[BANDWIDTH]:
        m[free] = depart
    part(m, keys, count).sort()
    return count


@inner
def _all_copies(m: Numbers, at: int, r: int, size: int, row: int, keys: int) -> int:
    """The same where all is calm."""
    others = m[NODES] - 1
    drawn = m[AT_WEATHER] + row * others
    if _full(m, at, r):
        m[MISHAPS + FULL] += others
        return 0
    m[BYTES_SENT] += size * others
    if m[BANDWIDTH]:
        free = of_replica(m, R_INTERFACE_FREE, r)
        depart = max(at, m[free])
        copy = _sending_ns(m, size)
        m[free] = depart + copy * others
        for i in range(others):  # the interface sends copy after copy, by the receivers' numbers
            depart += copy
            m[keys + i] = m[drawn + i] + ((depart - at) << KEY_BITS)
        part(m, keys, others).sort()
    else:
        for i in range(others):
            m[keys + i] = m[drawn + i]
    return others


@inner
def broadcast(m: Numbers, now: int, r: int, what: int, about: int, size: int) -> None:
    """To all others: a message about a sequence, or the Status of that number."""
    if m[of_replica(m, R_MUTE, r)]:
        return
    at = _signed(m, now, r, size)
    others = m[NODES] - 1
    m[MESSAGES + what] += others
    if what == PRE_PREPARE:
        m[of_batch(m, B_PROPOSED_NS, about)] = at
    at_row = of_replica(m, R_WEATHER_AT, r)
    row = m[at_row]
    m[at_row] += 1
    if m[of_replica(m, R_WEATHER_END, r)] - m[at_row] < m[AHEAD if r == m[PRIMARY] else AHEAD_OTHERS]:
        m[DRY] = r + 1
    head, log = m[AT_LOG] + 6 * m[ROWS], m[AT_LOG_KEYS] + others * m[ROWS]
    count = _copies(m, at, r, size, row, log) if m[ROUGH] else _all_copies(m, at, r, size, row, log)
    m[head], m[head + 1], m[head + 2], m[head + 3] = what, r, 0 if what == STATUS else about, at
    m[head + 4], m[head + 5] = count, m[EVENTS]
    m[ROWS] += 1
    if not count:
        return
    made = lane.flight(m, what, r, -1, about, at)
    keys = row_of(m, lane.row(m, made, count))
    for i in range(count):
        m[keys + i] = m[log + i]
    lane.launch(m, at + (m[keys] >> KEY_BITS), made)


@inner
def _depart(m: Numbers, at: int, r: int, size: int) -> int:
    """When one copy has left the interface of *r*; -1: it never does."""
    if _full(m, at, r):
        m[MISHAPS + FULL] += 1
        return -1
    m[BYTES_SENT] += size
    if not m[BANDWIDTH]:
        return at
    free = of_replica(m, R_INTERFACE_FREE, r)
    m[free] = max(at, m[free]) + _sending_ns(m, size)
    return m[free]


@inner
def _next_drawn(m: Numbers, pair: int) -> int:
    """Where the next of what was drawn for a pair is. The loop has seen to it that there is one."""
    place = m[pair] * m[ALONE_ROW] + m[pair + 1]
    m[pair + 1] += 1
    return place


@inner
def alone(m: Numbers, now: int, r: int, to: int, what: int, about: int, size: int) -> None:
    """To one other replica. The loop has seen to it that there are delays enough for this pair."""
    if m[of_replica(m, R_MUTE, r)]:
        return
    at = _signed(m, now, r, size)
    m[MESSAGES + what] += 1
    if m[ROUGH]:
        cut = m[of_link(m, AT_CUT, r, to)]
        if cut:
            m[MISHAPS + cut] += 1
            return
    place = _next_drawn(m, m[AT_PAIR] + 3 * (r * m[NODES] + to))
    arrival = _arrival(m, at, r, to, size, m[m[AT_ALONE] + place], m[AT_ALONE_LUCK] + place)
    if arrival < 0:
        return
    note(m, what, r, about if what <= COMMIT or what == CHECKPOINT else 0, about, to, arrival, at)
    lane.launch(m, arrival, lane.flight(m, what, r, to, about, at))


@inner
def _arrival(m: Numbers, at: int, r: int, to: int, size: int, delay: int, luck: int) -> int:
    """When one copy that is sent at *at* arrives; -1: it does not. *luck*: where its draw is."""
    departs = _depart(m, at, r, size)
    if departs < 0:
        return -1
    if m[ROUGH]:
        delay = _meet(m, r, to, delay, luck)
        if delay < 0:
            return -1
    return departs + delay


@inner
def _reply(m: Numbers, now: int, r: int, rid: int, seq: int, delay: int, luck: int) -> None:
    client, size = m[of_request(m, Q_CLIENT, rid)], m[of_request(m, Q_REPLY_SIZE, rid)] + length(r)
    at = _signed(m, now, r, size)
    m[MESSAGES + REPLY] += 1
    arrival = _arrival(m, at, r, client, size, delay, luck)
    if arrival < 0:
        return
    note(m, REPLY, r, seq, rid, client, arrival, at)
    lane.launch(m, arrival, lane.flight(m, REPLY, r, client, rid, at))


@inner
def answer(m: Numbers, now: int, rid: int, seq: int) -> None:
    """The primary's reply to a request, the first or once more."""
    r = m[PRIMARY]
    if m[of_replica(m, R_MUTE, r)]:
        return
    place = _next_drawn(m, m[AT_PAIR] + 3 * (m[CLIENT_PAIRS] + m[of_request(m, Q_CLIENT, rid)]))
    _reply(m, now, r, rid, seq, m[m[AT_ALONE] + place], m[AT_ALONE_LUCK] + place)


@inner
def reply(m: Numbers, now: int, r: int, place: int, seq: int) -> None:
    """To the client of the request at *place* in the order."""
    rid = m[of_request(m, Q_PLACE, place)]
    if r == m[PRIMARY]:
        answer(m, now, rid, seq)
        return
    if m[of_replica(m, R_MUTE, r)]:
        return
    drawn = place % m[REPLIES_KEPT] * m[NODES] + r
    _reply(m, now, r, rid, seq, m[m[AT_REPLY_NS] + drawn], m[AT_REPLY_LUCK] + drawn)


@inner
def set_timer(m: Numbers, now: int, r: int, timer: int, delay: int) -> None:
    """`Timers.set`."""
    m[of_timer(m, T_DEADLINE, r, timer)] = now + delay
    alarm = of_timer(m, T_ALARM_AT, r, timer)
    if m[alarm] < 0 or m[alarm] > now + delay:
        m[alarm] = now + delay
        lane.alarm(m, now + delay, r * 3 + timer)


@inner
def cancel_timer(m: Numbers, r: int, timer: int) -> None:
    """`Timers.cancel`."""
    m[of_timer(m, T_DEADLINE, r, timer)] = -1
