"""The loop: what is next, until somebody outside is needed."""

from __future__ import annotations

from tradebft.network.compiled import lane, rules
from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.memory import (
    ALARMS,
    ALARMS_KEPT,
    ANSWER_LAST,
    ANSWER_NEXT,
    ANSWERED,
    ANSWERER,
    ARRIVALS,
    AT_ALARM,
    AT_INBOX,
    AT_LANE,
    BATCHES,
    BROADCASTS_KEPT,
    CPU,
    DELIVERED,
    DRY,
    ENDPOINTS,
    EVENTS,
    EVENTS_KEPT,
    EXECUTE,
    EXECUTED,
    F_ABOUT,
    F_COUNT,
    F_PLACE,
    F_ROW,
    F_SENDER,
    F_START,
    F_TO,
    F_WHAT,
    FAULTS,
    FLIGHTS,
    FLUSH,
    I64,
    INBOX,
    INBOX_FULL,
    KEY_BITS,
    KNOWN,
    LANE,
    LIMIT,
    NEXT_SEQ,
    NOW,
    PROCESS,
    Q_REPLIES,
    R_FREE_AT,
    REPLY,
    RID,
    ROOM,
    ROOM_NEEDED,
    ROWS,
    ROWS_USED,
    UNCOVERED,
    WEATHER,
    WHY,
    WINDOW,
)
from tradebft.network.compiled.places import of_flight, of_replica, of_request, row_of

_MASK = (1 << KEY_BITS) - 1


@compiled
def run(m: I64, until: int, number: int) -> int:
    """Go on up to the event of SimPy at *until* with that *number*; why it stopped (`LIMIT` and those beside it)."""
    while True:
        stop = _needed(m)
        if stop != LIMIT:
            return stop
        if m[ANSWERER] >= 0:
            if m[ANSWER_NEXT] > m[KNOWN]:
                return EXECUTE
            _answer(m)
            continue
        first, bell = m[AT_LANE], m[AT_ALARM]
        quiet = m[ALARMS] == 0
        if m[LANE] and m[first] <= until and (quiet or m[first] <= m[bell]):
            made = m[first + 2]
            if (
                m[of_flight(m, F_WHAT, made)] == EXECUTED | PROCESS
                and m[of_flight(m, F_ABOUT, made)] > m[KNOWN]
            ):
                return EXECUTE
            if _arrive(m, m[first], made):
                return ANSWERED
        elif quiet or m[bell] > until or (m[bell] == until and m[bell + 1] > number):
            return LIMIT
        else:
            due, what = m[bell], m[bell + 2]
            lane.quieten(m)
            m[NOW] = due
            rules.ring(m, due, what)


@inner
def _needed(m: I64) -> int:
    """Whether the next input could find too little room, or cannot be handled at all."""
    if m[WHY]:
        return UNCOVERED
    if m[DRY]:
        return WEATHER
    margin, proposals = m[ROOM_NEEDED], m[WINDOW] + 4
    if m[EVENTS] + margin > m[EVENTS_KEPT] or m[ROWS] + proposals > m[BROADCASTS_KEPT]:
        return FLUSH
    if m[LANE] + margin > m[FLIGHTS] or m[ROWS_USED] + proposals > m[ARRIVALS]:
        return ROOM
    if m[NEXT_SEQ] + proposals > m[BATCHES] or m[ALARMS] + margin > m[ALARMS_KEPT]:
        return ROOM
    return LIMIT


@inner
def _answer(m: I64) -> None:
    """The application answers, where that takes no time."""
    r, seq = m[ANSWERER], m[ANSWER_NEXT]
    if seq == m[ANSWER_LAST]:
        m[ANSWERER] = -1
    else:
        m[ANSWER_NEXT] = seq + 1
    rules.on_executed(m, m[NOW], r, seq)


@inner
def _arrive(m: I64, now: int, made: int) -> bool:
    """The first flight arrives, at one receiver. True if it is the reply that a client was waiting for."""
    m[NOW] = now
    m[DELIVERED] += 1
    what, sender = m[of_flight(m, F_WHAT, made)], m[of_flight(m, F_SENDER, made)]
    about, r = m[of_flight(m, F_ABOUT, made)], m[of_flight(m, F_TO, made)]
    row, place = m[of_flight(m, F_ROW, made)], m[of_flight(m, F_PLACE, made)]
    if row >= 0:
        key = row_of(m, row) + place
        r = m[key] & _MASK
    if place + 1 < m[of_flight(m, F_COUNT, made)]:
        m[of_flight(m, F_PLACE, made)] = place + 1
        lane.move_on(m, m[of_flight(m, F_START, made)] + (m[key + 1] >> KEY_BITS))
    else:
        lane.leave(m)
    if what == REPLY:
        m[of_request(m, Q_REPLIES, about)] += 1
        m[RID] = about
        return bool(m[of_request(m, Q_REPLIES, about)] == m[FAULTS] + 1)
    if what >= PROCESS:
        if what != EXECUTED | PROCESS:
            m[_inbox(m, r, sender)] -= 1
        rules.receive(m, now, what - PROCESS, r, about)
    elif m[CPU]:
        _queue(m, now, what, r, sender, about)
    else:
        rules.receive(m, now, what, r, about)
    return False


@inner
def _inbox(m: I64, r: int, sender: int) -> int:
    return m[AT_INBOX] + r * m[ENDPOINTS] + sender


@inner
def _queue(m: I64, now: int, what: int, r: int, sender: int, about: int) -> None:
    """`ReplicaNode.queue`: the processor gets to it when it has done what came before."""
    if m[_inbox(m, r, sender)] >= m[INBOX]:
        m[WHY] = INBOX_FULL
        return
    m[_inbox(m, r, sender)] += 1
    free = of_replica(m, R_FREE_AT, r)
    m[free] = max(now, m[free]) + rules.cost_of(m, what, sender, about)
    lane.launch(m, m[free], lane.flight(m, what | PROCESS, sender, r, about, m[free]))
