"""The loop: what is next, until somebody outside is needed."""

from __future__ import annotations

from tradebft.network.compiled import lane, rules
from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.memory import (
    ALARMS,
    ANSWER_LAST,
    ANSWER_NEXT,
    ANSWERED,
    ANSWERER,
    CPU,
    DELIVERED,
    DRY,
    EVENTS,
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
    FLUSH,
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
    Memory,
)

_MASK = (1 << KEY_BITS) - 1


@compiled
def run(m: Memory, until: int, number: int) -> int:
    """Go on up to the event of SimPy at *until* with that *number*; why it stopped (`LIMIT` and those beside it)."""
    while True:
        stop = _needed(m)
        if stop != LIMIT:
            return stop
        if m.now[ANSWERER] >= 0:
            if m.now[ANSWER_NEXT] > m.now[KNOWN]:
                return EXECUTE
            _answer(m)
            continue
        quiet = m.now[ALARMS] == 0
        if m.now[LANE] and m.lane[0, 0] <= until and (quiet or m.lane[0, 0] <= m.alarm[0, 0]):
            what = m.flight[F_WHAT, m.lane[2, 0]]
            if what == EXECUTED | PROCESS and m.flight[F_ABOUT, m.lane[2, 0]] > m.now[KNOWN]:
                return EXECUTE
            if _arrive(m):
                return ANSWERED
        elif quiet or m.alarm[0, 0] > until or (m.alarm[0, 0] == until and m.alarm[1, 0] > number):
            return LIMIT
        else:
            due, what = m.alarm[0, 0], m.alarm[2, 0]
            lane.quieten(m)
            m.now[NOW] = due
            rules.ring(m, due, what)


@inner
def _needed(m: Memory) -> int:
    """Whether the next input could find too little room, or cannot be handled at all."""
    if m.now[WHY]:
        return UNCOVERED
    if m.now[DRY]:
        return WEATHER
    margin, proposals = m.rule[ROOM_NEEDED], m.rule[WINDOW] + 4
    if m.now[EVENTS] + margin > len(m.event) or m.now[ROWS] + proposals > m.log.shape[1]:
        return FLUSH
    if m.now[LANE] + margin > m.flight.shape[1] or m.now[ROWS_USED] + proposals > len(m.arrivals):
        return ROOM
    if m.now[NEXT_SEQ] + proposals > m.batch.shape[1] or m.now[ALARMS] + margin > m.alarm.shape[1]:
        return ROOM
    return LIMIT


@inner
def _answer(m: Memory) -> None:
    """The application answers, where that takes no time."""
    r, seq = m.now[ANSWERER], m.now[ANSWER_NEXT]
    if seq == m.now[ANSWER_LAST]:
        m.now[ANSWERER] = -1
    else:
        m.now[ANSWER_NEXT] = seq + 1
    rules.on_executed(m, m.now[NOW], r, seq)


@inner
def _arrive(m: Memory) -> bool:
    """One delivery. True if it is the reply that a client was waiting for."""
    now, made = m.lane[0, 0], m.lane[2, 0]
    m.now[NOW] = now
    m.now[DELIVERED] += 1
    what, sender, about, r = (
        m.flight[F_WHAT, made],
        m.flight[F_SENDER, made],
        m.flight[F_ABOUT, made],
        m.flight[F_TO, made],
    )
    if m.flight[F_ROW, made] >= 0:
        keys, place = m.arrivals[m.flight[F_ROW, made]], m.flight[F_PLACE, made]
        r = keys[place] & _MASK
        if place + 1 < m.flight[F_COUNT, made]:
            m.flight[F_PLACE, made] = place + 1
            lane.move_on(m, m.flight[F_START, made] + (keys[place + 1] >> KEY_BITS))
        else:
            lane.leave(m)
    else:
        lane.leave(m)
    if what == REPLY:
        m.request[Q_REPLIES, about] += 1
        m.now[RID] = about
        return bool(m.request[Q_REPLIES, about] == m.rule[FAULTS] + 1)
    if what >= PROCESS:
        if what != EXECUTED | PROCESS:
            m.inbox[r, sender] -= 1
        rules.receive(m, now, what - PROCESS, r, about)
    elif m.rule[CPU]:
        _queue(m, now, what, r, sender, about)
    else:
        rules.receive(m, now, what, r, about)
    return False


@inner
def _queue(m: Memory, now: int, what: int, r: int, sender: int, about: int) -> None:
    """`ReplicaNode.queue`: the processor gets to it when it has done what came before."""
    if m.inbox[r, sender] >= m.rule[INBOX]:
        m.now[WHY] = INBOX_FULL
        return
    m.inbox[r, sender] += 1
    m.replica[R_FREE_AT, r] = max(now, m.replica[R_FREE_AT, r]) + rules.cost_of(m, what, sender, about)
    lane.launch(
        m, m.replica[R_FREE_AT, r], lane.flight(m, what | PROCESS, sender, r, about, m.replica[R_FREE_AT, r])
    )
