"""All that a compiled run remembers: arrays, and the names of the places in them. Times in ns; -1: never."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.interface import Config
from tradebft.network.costs import CpuCosts

I64 = NDArray[np.int64]

# Kinds of message and event, as they enter the trace digest; PROCESS: the receiver's processor is done with it.
REQUEST, PRE_PREPARE, PREPARE, COMMIT, REPLY, CHECKPOINT = 1, 2, 3, 4, 5, 6
KINDS: Final = 7
COMMITTED, EXECUTED, TIMER = 64, 65, 66
PROCESS = 128

# Timers of a replica.
VIEW, BATCH, STATUS = 0, 1, 2

# Places in `Memory.now`: one number each.
(
    NOW,
    LAUNCHED,
    NUMBER,  # of SimPy's next event: alarms and events at one instant go by it
    LANE,
    ALARMS,
    DELIVERED,
    NEXT_SEQ,
    BATCH_SET,
    BATCH_DUE,
    ARRIVED,  # requests at the primary, proposed or not
    TAKEN,  # and proposed
    FRESH_BYTES,
    WAITING,
    KNOWN,  # batches whose execution is known
    ANSWERER,  # the replica whose application answers next, where computing takes no time
    ANSWER_NEXT,
    ANSWER_LAST,
    FREE_FLIGHT,
    FREE_ROW,
    EVENTS,
    ROWS,
    ROWS_USED,
    DRY,  # a sender whose delays are nearly used up, plus one; 0: none
    BYTES_SENT,
    LAST_COMMIT,
    RID,  # what the loop stopped for
    WHY,
    PLACES,
) = range(28)

# Places in `Memory.rule`: what does not change during a run.
(
    NODES,
    FAULTS,
    QUORUM,
    K,
    L,
    WINDOW,
    BATCH_SIZE,
    BATCH_BYTES,
    BATCH_TIMEOUT,
    VIEW_TIMEOUT,
    STATUS_NS,
    STATUS_FIXED,
    CPU,
    MESSAGE_NS,
    KILOBYTE_NS,
    SIGN_NS,
    VERIFY_NS,
    EXECUTE_NS,
    CHECKS,
    BANDWIDTH,
    INBOX,
    PRE_PREPARE_SIZE,
    PREPARE_SIZE,
    COMMIT_SIZE,
    CHECKPOINT_SIZE,
    REQUESTS_WAITING,
    CLIENT_WINDOW,
    ROOM_NEEDED,  # flights and events that one input may need
    RULES,
) = range(29)

# Places in `Memory.ignored`.
OLD_VOTE, HIGH_VOTE, OLD_CHECKPOINT, REASONS = range(4)
IGNORED: Final = (
    "vote at or below the low watermark",
    "vote above the high watermark",
    "checkpoint at or below the low watermark",
)

# Why the loop stops.
LIMIT, ANSWERED, EXECUTE, WEATHER, ROOM, FLUSH, UNCOVERED = range(7)
REASON: Final = (
    "",
    "a view change",
    "a replica that asks its peers what it misses",
    "a full inbox",
    "a request beyond its client's window",
    "a primary with too many requests",
    "a replica that is far behind the others",
)
VIEW_CHANGE, ASKED, INBOX_FULL, BEYOND_WINDOW, CROWDED, FAR_BEHIND = range(1, 7)

KEY_BITS = 10  # a receiver's share of a key; delays have the other 53
LONGEST_NS: Final = 1 << 52
LOGGED: Final = 1 << 18  # deliveries in the log
REPLIES_KEPT: Final = 4  # log windows of requests whose replies may still be sent


# Rows of `Memory.replica`.
(
    R_LOW,
    R_EXECUTED,
    R_ANSWERED,  # by the application
    R_TOP,
    R_ASKING,
    R_ASKED_EXECUTED,
    R_ASKED_LOW,
    R_ASKED_IN_VAIN,
    R_SMOOTHED,
    R_DEVIATION,
    R_WATCHED,  # the sequence that the view-change timer waits for; 0: none
    R_LEFT_BEHIND,
    R_HEARD_OF,
    R_FREE_AT,  # the processor
    R_INTERFACE_FREE,
    R_WEATHER_AT,  # the next row of delays, and how many there are
    R_WEATHER_END,
    REPLICA_ROWS,
) = range(18)

# Rows of `Memory.slot`.
S_ACCEPTED, S_ACCEPTED_NS, S_PREPARES, S_COMMITS, S_PREPARED, S_DECIDED, SLOT_ROWS = range(7)

T_DEADLINE, T_ALARM_AT = range(2)  # of `Memory.timer`

# Rows of `Memory.flight`: *about* is a sequence or a request; *place* the next receiver's in the row of arrivals, and
# of a free flight the next free one.
F_WHAT, F_SENDER, F_TO, F_ABOUT, F_START, F_PLACE, F_COUNT, F_ROW, FLIGHT_ROWS = range(9)

# Rows of `Memory.batch`. Digests are their first 8 bytes, as the trace has them.
(
    B_FIRST,  # in `order`
    B_COUNT,
    B_TIME,
    B_SIZE,  # bytes
    B_PROPOSED_NS,
    B_COMMITTERS,
    B_QUORUM_NS,
    B_ALL_NS,
    B_DIGEST,
    B_ROOT,
    B_STATE,  # of a checkpoint
    BATCH_ROWS,
) = range(12)

# Rows of `Memory.request`.
(
    Q_SIZE,
    Q_OPERATION,  # bytes of it
    Q_SEQUENCE,  # as its client numbers it
    Q_CLIENT,  # endpoint
    Q_REPLIES,
    Q_REPLIED,  # the sequence that it was executed at
    Q_REPLY_SIZE,
    Q_RESULT,  # its digest
    Q_PLACE,  # no property of the request: the k-th to arrive at the primary was the one that stands at k
    REQUEST_ROWS,
) = range(10)


class Memory(NamedTuple):
    """One run. n replicas, L slots each, S sequences, R requests; arrays that are full are made anew, larger.

    Few arrays of many rows: each argument of a compiled function costs time to compile.
    """

    now: I64  # see above
    rule: I64
    messages: I64  # sent, by kind
    ignored: I64
    replica: I64  # (rows, n)
    slot: I64  # (rows, n, L), by seq % L
    votes: I64  # for checkpoints (n, 8), by seq / K
    inbox: I64  # (n, endpoints)
    timer: I64  # (rows, n, 3)
    alarm: I64  # the queue of alarms: time, number, replica * 3 + timer
    lane: I64  # the queue of flights: time, number of launching, flight
    flight: I64  # (rows, F)
    arrivals: I64  # (A, n - 1): keys, nearest first
    free: I64  # the next free row of arrivals
    weather: I64  # delays drawn ahead (n, rows, n - 1), keys
    batch: I64  # (rows, S), by seq
    request: I64  # (rows, R), by number
    client: I64  # (2, endpoints): its last sequence sent; executed at the primary up to here
    done: I64  # (endpoints, 2 windows): and beyond it, by sequence
    reply_ns: I64  # (ring, n), by place in the order: how long each replica's reply takes
    timer_digest: I64
    log: I64  # until it is mixed into the trace digest: kind, sender, seq, start of broadcasts
    log_keys: I64  # (N, n - 1)
    event: I64  # (M, 7): kind, sender, seq, about, receiver, time, sent


def intlen(value: int) -> int:
    """Bytes of a whole number as MessagePack writes it."""
    return 1 if value < 128 else 2 if value < 256 else 3 if value < 65536 else 5 if value < 1 << 32 else 9


def rules_of(config: Config, costs: CpuCosts | None, checks: int) -> dict[int, int]:
    """What does not change, of `Memory.rule`; sizes and bounds that need an encoding are the cluster's."""
    found = {
        NODES: config.nodes,
        FAULTS: config.faults,
        QUORUM: config.quorum,
        K: config.checkpoint_interval,
        L: config.log_window,
        WINDOW: config.window,
        BATCH_SIZE: config.batch_size,
        BATCH_BYTES: config.batch_bytes,
        BATCH_TIMEOUT: config.batch_timeout_ns,
        VIEW_TIMEOUT: config.view_change_timeout_ns,
        STATUS_NS: config.status_ns,
        STATUS_FIXED: int(config.status_interval_ns > 0),
        CHECKS: checks,
        REQUESTS_WAITING: config.max_requests_waiting,
        CLIENT_WINDOW: config.client_window,
        ROOM_NEEDED: 2 * config.log_window + config.batch_size + 4 * config.window + 64,
    }
    if costs is not None:
        found |= {
            CPU: 1,
            MESSAGE_NS: costs.message_ns,
            KILOBYTE_NS: costs.kilobyte_ns,
            SIGN_NS: costs.sign_ns,
            VERIFY_NS: costs.verify_ns,
            EXECUTE_NS: costs.execute_ns,
        }
    return found


def blank(config: Config, endpoints: int, ahead: int, flights: int, events: int) -> Memory:
    """The arrays of a run that has not begun. *ahead*: rows of delays drawn ahead; *flights* and *events*: that there is
    room for."""
    n = config.nodes
    others = max(1, n - 1)
    kept = max(8, LOGGED // others)

    def zeros(*shape: int) -> I64:
        return np.zeros(shape, dtype=np.int64)

    made = Memory(
        now=zeros(PLACES),
        rule=zeros(RULES),
        messages=zeros(KINDS),
        ignored=zeros(REASONS),
        replica=zeros(REPLICA_ROWS, n),
        slot=zeros(SLOT_ROWS, n, config.log_window),
        votes=zeros(n, 8),
        inbox=zeros(n, endpoints),
        timer=np.full((2, n, 3), -1, dtype=np.int64),
        alarm=zeros(3, flights),
        lane=zeros(3, flights),
        flight=zeros(FLIGHT_ROWS, flights),
        arrivals=zeros(4 * n + 64, others),
        free=np.arange(1, 4 * n + 65, dtype=np.int64),
        weather=zeros(n, ahead, others),
        batch=zeros(BATCH_ROWS, 64),
        request=zeros(REQUEST_ROWS, 64),
        client=zeros(2, endpoints),
        done=zeros(endpoints, 2 * config.client_window),
        reply_ns=zeros(REPLIES_KEPT * config.log_window + config.batch_size, n),
        timer_digest=zeros(3),
        log=zeros(4, kept),
        log_keys=zeros(kept, others),
        event=zeros(events, 7),
    )
    made.flight[F_PLACE] = np.arange(1, flights + 1)  # every flight is free, and names the next
    made.now[ANSWERER], made.now[NEXT_SEQ] = -1, 1
    return made


def grown(array: I64, room: int) -> I64:
    """*array* with at least *room* columns, what it holds kept."""
    have = array.shape[1]
    if have >= room:
        return array
    made = np.zeros((array.shape[0], max(room, 2 * have), *array.shape[2:]), dtype=np.int64)
    made[:, :have] = array
    return made
