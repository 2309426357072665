"""The loop: what is next, until somebody outside is needed."""

from __future__ import annotations

from tradebft.network.compiled import catching_up, lane, rules
from tradebft.network.compiled.asking import on_status_timer
from tradebft.network.compiled.beyond import beyond, suspects
from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.leaving import note, proposal_size, set_timer, take, vote_size
from tradebft.network.compiled.memory import (
    ALARMS,
    ALARMS_KEPT,
    ALONE,
    ALONE_NEEDED,
    ANSWER_LAST,
    ANSWER_NEXT,
    ANSWERED,
    ANSWERER,
    ANSWERS,
    ARRIVALS,
    AT_ALARM,
    AT_INBOX,
    AT_LANE,
    AT_PAIR,
    AT_STATUS,
    B_COUNT,
    B_FIRST,
    BATCH_DUE,
    BATCH_SET,
    BATCH_TIMER,
    BATCHES,
    BROADCASTS_KEPT,
    CHECKPOINT,
    CLIENT_PAIRS,
    COMMIT,
    CPU,
    CRASHED,
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
    FETCH_REPLY,
    FLIGHTS,
    FLIGHTS_IN_LANE,
    FLUSH,
    FLYING,
    I64,
    IGNORED,
    INBOX,
    INBOX_FULL,
    ITEM_BITS,
    KEY_BITS,
    KILOBYTE_NS,
    KNOWN,
    LANE,
    LIMIT,
    MESSAGE_NS,
    MISHAPS,
    NEXT_SEQ,
    NODES,
    NOW,
    PAIR,
    PRE_PREPARE,
    PREPARE,
    PRIMARY,
    PROCESS,
    Q_CLIENT,
    Q_PLACE,
    Q_REPLIES,
    Q_REPLIES_OF,
    Q_SIZE,
    Q_TOLD,
    QUORUM,
    R_DOWN,
    R_EXECUTED,
    R_LOW,
    R_SPARED,
    R_WATCHED,
    REPLY,
    REQUEST,
    RID,
    ROOM,
    ROOM_NEEDED,
    ROWS,
    ROWS_USED,
    SAID,
    SECOND_REPLY,
    SHOWN,
    STATUS,
    STATUS_SIZE,
    STATUS_TIMER,
    STATUSES,
    T_ALARM_AT,
    T_DEADLINE,
    TIMER,
    UNCOVERED,
    VERIFY_NS,
    VIEW_CHANGE,
    VIEW_TIMEOUT,
    VIEW_TIMER,
    WEATHER,
    WHY,
    WINDOW,
    WITHDRAWN,
    Numbers,
)
from tradebft.network.compiled.places import (
    length,
    newly,
    of_batch,
    of_flight,
    of_replica,
    of_request,
    of_timer,
    row_of,
    seq_of,
)
from tradebft.network.compiled.pointers import begin

_MASK = (1 << KEY_BITS) - 1


@inner
def _inputs(m: Numbers) -> int:
    """How many inputs there is room for, whatever comes of them; less than 1: what is needed (`-stop`)."""
    margin, proposals = m[ROOM_NEEDED], m[WINDOW] + 4
    flush = min((m[EVENTS_KEPT] - m[EVENTS]) // margin, (m[BROADCASTS_KEPT] - m[ROWS]) // proposals)
    if flush < 1:
        return -FLUSH
    flights = min(m[FLIGHTS] - m[FLYING], m[FLIGHTS_IN_LANE] - m[LANE]) // margin
    arrivals = (m[ARRIVALS] - m[ROWS_USED]) // proposals
    asked = min((m[STATUSES] - m[SAID]) >> 2, (m[ANSWERS] - m[SHOWN]) >> 2)
    batches, alarms = (m[BATCHES] - m[NEXT_SEQ]) // proposals, (m[ALARMS_KEPT] - m[ALARMS]) // margin
    room = min(min(flights, arrivals), min(asked, min(batches, alarms)))
    return min(flush, room) if room >= 1 else -ROOM


@inner
def _answer(m: Numbers) -> None:
    """The application answers, where that takes no time."""
    r, seq = m[ANSWERER], m[ANSWER_NEXT]
    if seq == m[ANSWER_LAST]:
        m[ANSWERER] = -1
    else:
        m[ANSWER_NEXT] = seq + 1
    rules.on_executed(m, m[NOW], r, seq)


@inner
def _inbox(m: Numbers, r: int, sender: int) -> int:
    return m[AT_INBOX] + r * m[ENDPOINTS] + sender


@inner
def _cost_of(m: Numbers, what: int, r: int, sender: int, about: int) -> int:
    """`CpuCosts.receive`, and what *r* checks (`consensus.pbft.looking`)."""
    checks = 1
    if what == PRE_PREPARE:
        size = proposal_size(m, about)
        checks += m[of_batch(m, B_COUNT, about)] if rules.is_news(m, r, about) else 0
    elif what == REQUEST:
        size = m[of_request(m, Q_SIZE, about)]
    elif what == STATUS:
        at = m[AT_STATUS] + 3 * about
        size = m[STATUS_SIZE] + length(m[at]) + length(m[at + 1]) + length(m[at + 2]) + length(sender)
    elif what == FETCH_REPLY:
        size = catching_up.answer_size(m, about) + length(sender)
        checks += m[QUORUM] * catching_up.certificates(m, r, about)
    else:
        size = vote_size(m, what, sender, about)
    return m[MESSAGE_NS] + size * m[KILOBYTE_NS] // 1000 + checks * m[VERIFY_NS]


@inner
def _queue(m: Numbers, now: int, what: int, r: int, sender: int, about: int) -> None:
    """`ReplicaNode.queue`: the processor gets to it when it has done what came before."""
    m[_inbox(m, r, sender)] += 1
    done = take(m, now, r, _cost_of(m, what, r, sender, about))
    lane.line_up(m, done, what, sender, r, about)


@inner
def _receive(m: Numbers, now: int, what: int, r: int, sender: int, about: int) -> None:
    """`Replica.step`."""
    if what == PREPARE:
        rules.on_prepare(m, now, r, sender, about)
    elif what == COMMIT:
        rules.on_commit(m, now, r, sender, about)
    elif what == PRE_PREPARE:
        rules.on_pre_prepare(m, now, r, about)
    elif what == CHECKPOINT:
        rules.on_checkpoint(m, now, r, sender, about)
    elif what == EXECUTED:
        rules.on_executed(m, now, r, about)
    elif what == REQUEST:
        rules.on_request(m, now, about)
    elif what == STATUS:
        catching_up.on_status(m, now, r, sender, about)
    else:
        catching_up.on_fetch_reply(m, now, r, sender, about)


@inner
def _told(m: Numbers, sender: int, rid: int) -> bool:
    """`Client._on_reply`: whether that makes f+1."""
    replies, told = of_request(m, Q_REPLIES, rid), of_request(m, Q_TOLD, rid)
    primary = sender == m[PRIMARY]
    if primary and m[told]:
        m[IGNORED + SECOND_REPLY] += m[replies] <= m[FAULTS]
        return False
    m[told] += primary
    newly(m, of_request(m, Q_REPLIES_OF, rid), sender)
    m[replies] += 1
    m[RID] = rid
    return m[replies] == m[FAULTS] + 1


@inner
def _arrive(m: Numbers, now: int, made: int) -> bool:
    """The first flight arrives, at one receiver. True if it is the reply that a client was waiting for."""
    m[NOW] = now
    m[DELIVERED] += 1
    what, sender = m[of_flight(m, F_WHAT, made)], m[of_flight(m, F_SENDER, made)]
    about, r = m[of_flight(m, F_ABOUT, made)], m[of_flight(m, F_TO, made)]
    row, place = m[of_flight(m, F_ROW, made)], m[of_flight(m, F_PLACE, made)]
    if row >= 0:
        key = row_of(m, row) + place
        r = m[key] & _MASK
    if what >= PROCESS:
        lane.work_done(m, r, made)
    elif place + 1 < m[of_flight(m, F_COUNT, made)]:
        m[of_flight(m, F_PLACE, made)] = place + 1
        lane.move_on(m, m[of_flight(m, F_START, made)] + (m[key + 1] >> KEY_BITS))
    else:
        lane.leave(m)
    if what == REPLY:
        return _told(m, sender, about)
    if m[of_replica(m, R_DOWN, r)]:
        if what < PROCESS:
            m[MISHAPS + CRASHED] += 1
            note(m, what | WITHDRAWN, sender, seq_of(m, what, about), about, r, now, now)
        return False
    if what >= PROCESS:
        if what != EXECUTED | PROCESS:
            m[_inbox(m, r, sender)] -= 1
        _receive(m, now, what - PROCESS, r, sender, about)
    elif m[CPU]:
        _queue(m, now, what, r, sender, about)
    else:
        _receive(m, now, what, r, sender, about)
    return False


@inner
def _ring(m: Numbers, due: int, what: int) -> None:
    """An alarm went off."""
    r, timer = what // 3, what % 3
    alarm, deadline = of_timer(m, T_ALARM_AT, r, timer), of_timer(m, T_DEADLINE, r, timer)
    if m[alarm] != due:
        return  # an earlier alarm took its place
    m[alarm] = -1
    if m[deadline] < 0:
        return
    if m[deadline] > due:
        m[alarm] = m[deadline]
        lane.alarm(m, m[deadline], what)
        return
    m[deadline] = -1
    note(m, TIMER, r, 0, timer, 0, due, due)
    if timer == BATCH_TIMER:
        m[BATCH_SET], m[BATCH_DUE] = 0, 1
        rules.propose(m, due)
    elif timer == VIEW_TIMER:  # of one that waits on: others would have gone to the reference (`suspects`)
        if m[of_replica(m, R_EXECUTED, r)] >= m[of_replica(m, R_LOW, r)]:
            m[of_replica(m, R_SPARED, r)] = m[of_replica(m, R_WATCHED, r)]
        set_timer(m, due, r, VIEW_TIMER, m[VIEW_TIMEOUT])
    elif on_status_timer(m, due, r) and r == m[PRIMARY]:
        catching_up.propose_again(m, due, r)


@inner
def _dry(m: Numbers, pair: int, needed: int) -> bool:
    """Whether there are too few delays at hand of that pair."""
    at = m[AT_PAIR] + 3 * pair
    m[PAIR] = pair
    return m[at + 2] - m[at + 1] < needed


@inner
def _dry_clients(m: Numbers, seq: int) -> bool:
    """Whether the primary could not answer the requests of that batch."""
    first, count = m[of_batch(m, B_FIRST, seq)], m[of_batch(m, B_COUNT, seq)]
    for place in range(first, first + count):
        client = m[of_request(m, Q_CLIENT, m[of_request(m, Q_PLACE, place)])]
        if _dry(m, m[CLIENT_PAIRS] + client, count):
            return True
    return False


@inner
def _needed(m: Numbers, what: int, r: int, sender: int, about: int) -> int:
    """What *r* needs before it gets that: `ALONE`, delays enough to answer it; `EXECUTE`; or nothing (-1)."""
    if what == EXECUTED:
        if about > m[KNOWN]:
            return EXECUTE
        return ALONE if r == m[PRIMARY] and _dry_clients(m, about) else -1
    if what == REQUEST:
        return ALONE if _dry(m, m[CLIENT_PAIRS] + sender, 1) else -1
    if what == STATUS:
        return ALONE if _dry(m, r * m[NODES] + sender, ALONE_NEEDED) else -1
    if what == FETCH_REPLY:
        return ALONE if _dry(m, r * m[NODES] + sender, 1) else -1
    return -1


@inner
def _before(m: Numbers, made: int) -> int:
    """Why the loop stops before the first flight arrives; -1: it does not."""
    what, sender = m[of_flight(m, F_WHAT, made)], m[of_flight(m, F_SENDER, made)]
    kind, about, row = what & ~PROCESS, m[of_flight(m, F_ABOUT, made)], m[of_flight(m, F_ROW, made)]
    queued = m[CPU] and what < PROCESS and what != REPLY
    if not queued and kind in (PREPARE, COMMIT, REPLY):
        return -1
    r = m[of_flight(m, F_TO, made)]
    if row >= 0:
        r = m[row_of(m, row) + m[of_flight(m, F_PLACE, made)]] & _MASK
    if m[of_replica(m, R_DOWN, r)]:
        return -1
    m[WHY] = beyond(m, kind, r, sender, about)
    if queued and m[_inbox(m, r, sender)] >= m[INBOX]:
        m[WHY] = INBOX_FULL
    return UNCOVERED if m[WHY] else _needed(m, kind, r, sender, about)


@inner
def _owes(m: Numbers, due: int, what: int) -> bool:
    """Whether too few delays are at hand for what the primary would send if that alarm is its status timer's."""
    r = m[PRIMARY]
    if what != 3 * r + STATUS_TIMER:
        return False
    for peer in range(m[NODES]):
        if not catching_up.owed(m, due, r, peer):
            continue
        if _dry(m, r * m[NODES] + peer, 1):
            return True
    return False


@compiled
def take_request(buffer: I64, sender: int, rid: int, at: int, arrival: int) -> None:
    """The request of that number left *sender* at *at* and will be at the primary at *arrival*."""
    m = begin(buffer)
    lane.launch(m, arrival, lane.flight(m, REQUEST, sender, m[PRIMARY], rid, at))


@compiled
def run(buffer: I64, until: int, number: int) -> int:
    """Go on up to the event of SimPy at *until* with that *number*; why it stopped (`LIMIT` and those beside it)."""
    m, inputs = begin(buffer), 0
    while True:
        if m[WHY]:
            return UNCOVERED
        if m[DRY]:
            return WEATHER
        if not inputs:
            inputs = _inputs(m)
            if inputs < 1:
                return -inputs
        inputs -= 1
        if m[ANSWERER] >= 0:
            if m[ANSWER_NEXT] > m[KNOWN]:
                return EXECUTE
            if m[ANSWERER] == m[PRIMARY] and _dry_clients(m, m[ANSWER_NEXT]):
                return ALONE
            _answer(m)
            continue
        first, bell = m[AT_LANE], m[AT_ALARM]
        quiet = m[ALARMS] == 0
        if m[LANE] and m[first] <= until and (quiet or m[first] <= m[bell]):
            made = lane.item_of(m[first + 1])
            stop = _before(m, made)
            if stop >= 0:
                return stop
            if _arrive(m, m[first], made):
                return ANSWERED
        elif quiet or m[bell] > until or (m[bell] == until and m[bell + 1] >> ITEM_BITS > number):
            return LIMIT
        else:
            due, what = m[bell], lane.item_of(m[bell + 1])
            m[NOW] = due
            if suspects(m, due, what):
                m[WHY] = VIEW_CHANGE
                return UNCOVERED
            if _owes(m, due, what):
                return ALONE
            lane.quieten(m)
            _ring(m, due, what)
