"""All that a compiled run remembers: arrays, and the names of the places in them. Times in ns; -1: never."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.interface import Config
from tradebft.consensus.pbft import state
from tradebft.network.engines import HANDED_OVER, Uncovered

I64 = NDArray[np.int64]
Numbers = NDArray[np.int64]  # a buffer, to compiled functions where it begins (`pointers`)

# Kinds of message and event, as they enter the trace digest; PROCESS: the receiver's processor is done with it.
REQUEST, PRE_PREPARE, PREPARE, COMMIT, REPLY, CHECKPOINT, STATUS, FETCH_REPLY = 1, 2, 3, 4, 5, 6, 9, 11
KINDS: Final = 12
COMMITTED, EXECUTED, TIMER, PROCESS = 64, 65, 66, 128
WITHDRAWN = 256  # it reached a member that was down

# Timers of a replica.
VIEW_TIMER, BATCH_TIMER, STATUS_TIMER = 0, 1, 2
TIMERS: Final = (state.VIEW_TIMER, state.BATCH_TIMER, state.STATUS_TIMER)  # as the reference calls them

# Numbers at the beginning of the buffer: what changes during a run,
(
    NOW,
    LAUNCHED,
    NUMBER,  # of SimPy's next event: alarms and events at one instant go by it
    LANE,  # flights in the lane
    FLYING,  # and with those that wait behind them, in line for a processor
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
    PAIR,  # whose delays are nearly used up, as a place in `pair`
    SAID,  # Statuses so far
    SHOWN,  # FetchReplies so far
    DRY,  # a sender whose delays are nearly used up, plus one; 0: none
    BYTES_SENT,
    LAST_COMMIT,
    RID,  # what the loop stopped for
    WHY,
    ROUGH,  # messages or processors are meddled with now
    VIEW,  # in which everybody is, below 128
    PRIMARY,
    # and what does not.
    LOSSY,  # messages may be lost at some time
    NODES,
    FAULTS,
    QUORUM,
    K,
    L,
    SLOT_MASK,  # slots are a power of two, L or more
    AHEAD,  # rows of delays that must be left, of the primary, and of others
    AHEAD_OTHERS,
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
    BUFFER_NS,
    INBOX,
    PRE_PREPARE_SIZE,
    PREPARE_SIZE,
    COMMIT_SIZE,
    CHECKPOINT_SIZE,
    STATUS_SIZE,
    ANSWER_SIZE,  # a FetchReply with nothing in it
    BLOCK_SIZE,  # a block without its batch
    PROOF_SIZE,  # a checkpoint's certificate
    SNAPSHOTS,  # sequences from one to the next; 0: none
    CLIENT_PAIRS,  # where those of the primary and each endpoint begin in `pair`
    ALONE_ROW,  # delays in a row of `alone`
    REQUESTS_WAITING,
    CLIENT_WINDOW,
    CLIENT_RING,
    ENDPOINTS,
    ROOM_NEEDED,  # flights and events that one input may need
    # How much room there is.
    FLIGHTS,
    FLIGHTS_IN_LANE,
    ALARMS_KEPT,
    ARRIVALS,
    BATCHES,
    EVENTS_KEPT,
    BROADCASTS_KEPT,
    REPLIES_KEPT,
    STATUSES,
    ANSWERS,
    # Where each region begins.
    AT_REPLICA,
    AT_SLOT,
    AT_VOTES,
    AT_INBOX,
    AT_TIMER,
    AT_ALARM,
    AT_LANE,
    AT_FLIGHT,
    AT_ARRIVALS,
    AT_FREE,
    AT_WEATHER,
    AT_BATCH,
    AT_REQUEST,
    AT_CLIENT,
    AT_DONE,
    AT_TOP,
    AT_REPLY_NS,
    AT_LOG,
    AT_LOG_KEYS,
    AT_EVENT,
    AT_HEARD,
    AT_STATUS,
    AT_ANSWER,
    AT_PAIR,
    AT_ALONE,
    AT_CUT,
    AT_SLOW,
    AT_LOSS,
    AT_BROADCAST_LUCK,
    AT_ALONE_LUCK,
    AT_REPLY_LUCK,
    NUMBERS,
) = range(118)

# Then counts: messages sent by kind, inputs that changed nothing by reason, and the digests of the timers' names.
MESSAGES = NUMBERS
IGNORED = MESSAGES + KINDS
TIMER_DIGESTS = IGNORED + 12
# Then what became of messages: how many met a crash, a partition, a one-way link, a slow one, chance, a full interface.
MISHAPS = TIMER_DIGESTS + 3
CRASHED, PARTED, ONE_WAY, SLOWED, LOST, FULL = range(6)
HEADER = MISHAPS + 6
(
    OLD_VOTE,
    HIGH_VOTE,
    OLD_CHECKPOINT,
    SECOND_VOTE,
    SECOND_PROPOSAL,
    EXECUTED_PROPOSAL,
    NOTHING_NEW,
    SECOND_STATUS,
    MANY_STATUSES,
    KNOWN_REQUEST,
    BEING_EXECUTED,
    SECOND_REPLY,
) = range(12)
REASONS_IGNORED: Final = (
    "vote at or below the low watermark",
    "vote above the high watermark",
    "checkpoint at or below the low watermark",
    "vote seen before",
    "proposal seen before",
    "proposal with a request that was executed",
    "nothing in it that this replica lacked",
    "status seen before",
    "status beyond its sender's quota",
    "request known or no room for it",
    "request in execution, or executed so long ago that its reply is gone",
    "reply seen before",
)

# Why the loop stops.
LIMIT, ANSWERED, EXECUTE, WEATHER, ALONE, ROOM, FLUSH, UNCOVERED = range(8)
REASON: Final = (
    "",
    "a view change",
    "a replica that asks more than 126 peers what it misses",
    "a full inbox",
    "a request beyond its client's window",
    "a primary with too many requests",
    "a replica that is far behind the others",
    "delays of weeks",
    "a replica that fetches a snapshot",
    "a replica that more than four checkpoints ran away from",
)
VIEW_CHANGE, CROWD_ASKED, INBOX_FULL, BEYOND_WINDOW, CROWDED, FAR_BEHIND, WEEKS, FETCHED, OUTRUN = range(
    1, 10
)

MIDWAY: Final = (CROWD_ASKED, WEEKS)  # too late for anybody to go on from there

KEY_BITS = 10  # a receiver's share of a key; delays have the other 53
ITEM_BITS = 24  # an item's share of its order in a queue
ITEMS = (1 << ITEM_BITS) - 1
LONGEST_NS: Final = 1 << 52
LOGGED: Final = 1 << 18  # deliveries in the log
INPUTS: Final = 16  # about so many are handled before somebody looks how much room is left
LOG_WINDOWS: Final = 4  # of requests whose replies may still be sent
NUMBERS_MOST: Final = 1 << 27  # at the beginning: 1 GiB; a thousand members as they are by default need 0.2
CHECKPOINTS_COUNTED: Final = 8  # sequences with votes for a checkpoint
ASKERS: Final = HANDED_OVER  # members, if any of them may ask: whose votes came is kept in two words
ALONE_AHEAD: Final = 512  # delays drawn ahead from one replica to another alone
ALONE_NEEDED: Final = 256  # that an answer to a Status may take
ALONE_FIRST: Final = 32  # of these, at first
CLIENTS_SPOKEN_TO: Final = 256  # that there is room for at once
BLOCKS_A_REPLY: Final = 64
STATUS_BURST: Final = 32

# Fields of a replica.
(
    R_LOW,
    R_EXECUTED,
    R_ANSWERED,  # by the application
    R_TOP,
    R_ASKING,
    R_ASKED_AT,
    R_MOVED_NS,
    R_ASKED_IN_VAIN,
    R_ASKED_NS,
    R_NONCE,
    R_PROOF,  # the newest snapshot that it can prove, and the one before
    R_PROOF_BEFORE,
    R_SMOOTHED,
    R_DEVIATION,
    R_SOONEST,
    R_WATCHED,  # the sequence that the view-change timer waits for; 0: none
    R_SPARED,  # that it was set for a second time
    R_LEFT_BEHIND,
    R_HEARD_OF,
    R_FREE_AT,  # the processor
    R_LINE,  # the last flight in line for it
    R_INTERFACE_FREE,
    R_WEATHER_AT,  # the next row of delays, and how many there are
    R_WEATHER_END,
    R_DOWN,
    R_MUTE,  # it says nothing to anybody
    REPLICA,
) = range(27)

# Of a slot.
S_ACCEPTED, S_ACCEPTED_NS, S_PREPARES, S_COMMITS, S_PREPARED, S_DECIDED, S_CLOSED = range(7)
S_PREPARES_OF, S_COMMITS_OF, SLOT = 7, 9, 11  # whose votes are counted: two words of 63 bits each

T_DEADLINE, T_ALARM_AT = range(2)  # of a timer

# Of a flight: *about* is a sequence or a request; *place* the next receiver's in the row of arrivals, and
# of a free flight, whose *what* is -1, the next free one. What a processor is busy with has instead: the next in line,
# and its order in the lane.
F_WHAT, F_SENDER, F_TO, F_ABOUT, F_START, F_PLACE, F_COUNT, F_ROW, FLIGHT = range(9)
F_NEXT, F_ORDER = F_PLACE, F_COUNT

# Of a batch, by sequence. Digests are their first 8 bytes, as the trace has them.
(
    B_FIRST,  # in `order`
    B_COUNT,
    B_TIME,
    B_SIZE,  # bytes
    B_PROPOSED_NS,
    B_COMMITTERS,
    B_QUORUM_NS,
    B_MISSING,  # of those that were up when the quorum committed, who have not yet
    B_ALL_NS,
    B_DIGEST,
    B_ROOT,
    B_STATE,  # of a checkpoint
    BATCH_FIELDS,
) = range(13)

# Of a request, by number.
(
    Q_SIZE,
    Q_OPERATION,  # bytes of it
    Q_SEQUENCE,  # as its client numbers it
    Q_CLIENT,  # endpoint
    Q_REPLIES,
    Q_REPLIED,  # the sequence that it was executed at
    Q_REPLY_SIZE,
    Q_RESULT,  # its digest
    Q_ARRIVED,  # at the primary
    Q_PROPOSED,  # at which sequence
    Q_TOLD,  # the primary's reply is with its client
    Q_REPLIES_OF,  # whose are: two words
    Q_REPLIES_OF_OTHERS,
    Q_PLACE,  # no property of the request: the k-th to arrive at the primary was the one that stands at k
    REQUEST_FIELDS,
) = range(15)


class Memory:
    """One run, in one buffer of 64-bit numbers: compiled code is handed nothing else, and is compiled ten times as fast
    as with an array for each region. Here each region is an attribute, a view of it; those that are full are made anew,
    larger, and so are all views.

    n replicas:

    replica (n, fields); slot (n, 2^k, fields) by the last bits of seq; timer (n, 3, fields); inbox (n, endpoints)
    votes     (n, 8, 3) for checkpoints, by seq / K: how many, and whose
    alarm, lane  (entries, 2) the two queues; flight (F, fields)
    arrivals  (A, n - 1) keys, nearest first; free (A) the next free row of those
    weather   (rows, n - 1) delays drawn ahead, so many rows for each sender
    batch     (S, fields); request (R, fields)
    client    (endpoints) whose requests are executed at the primary up to here
    done      (endpoints, 2 windows) and beyond it, by sequence
    top       (endpoints) the highest that the primary has answered; what lies a window behind it is forgotten
    reply_ns  (ring, n) by place in the order
    log       (N, 5) of broadcasts, until they are mixed into the trace digest: kind, sender, seq, start, arrivals
    log_keys  (N, n - 1) when each arrives
    event     (M, 7) of all else: kind, sender, seq, about, receiver, time, sent
    heard     (n, n, 4) of each peer's Statuses: the last nonce, used of its quota, since when, last sent a proposal
    status    (S, 3) of each Status: low, executed, nonce
    answer    (A, 3) of each FetchReply: first and last block, checkpoint
    pair      (n * n and endpoints, 3) a row of alone, the next delay in it, how many there are: from each replica to
              each other, and from the primary to each client, who may have an answer repeated
    alone     (P, delays) drawn ahead
    cut       (n, n + 1) why nothing that one sends reaches the other, `PARTED` or `ONE_WAY`; 0: it does. The last
              column of this and the next two is for all clients
    slow      (n, n + 1) floats: what delays are multiplied by; to clients: processor times as well
    loss      (n, n + 1) floats: the share of messages that vanishes
    broadcast_luck, alone_luck, reply_luck  floats, uniform draws that decide which, as `weather` (but by receiver),
              `alone` and `reply_ns`; empty where nothing is ever lost
    """

    replica: I64
    slot: I64
    votes: I64
    inbox: I64
    timer: I64
    alarm: I64
    lane: I64
    flight: I64
    arrivals: I64
    free: I64
    weather: I64
    batch: I64
    request: I64
    client: I64
    done: I64
    top: I64
    reply_ns: I64
    log: I64
    log_keys: I64
    event: I64
    heard: I64
    status: I64
    answer: I64
    pair: I64
    alone: I64
    cut: I64
    slow: I64
    loss: I64
    broadcast_luck: I64
    alone_luck: I64
    reply_luck: I64

    def __init__(
        self,
        config: Config,
        endpoints: int,
        ahead: list[int],
        margin: int,
        faulty: bool = False,
        lossy: bool = False,
    ) -> None:
        n = config.nodes
        others, slots = max(1, n - 1), 1 << (config.log_window - 1).bit_length()
        kept = max(8, LOGGED // others, 2 * (config.window + 4))
        pairs, alone = n * n if n <= ASKERS else 0, max(ALONE_AHEAD, 2 * config.batch_size + 64)
        # What is never touched costs nothing; to grow, all is copied.
        spoken_to = n + min(endpoints - n, CLIENTS_SPOKEN_TO)
        flights, events = INPUTS * margin + 8 * n, max(1 << 14, INPUTS * margin)
        ring = LOG_WINDOWS * config.log_window + config.batch_size
        self._shapes: dict[str, tuple[int, ...]] = {
            "replica": (n, REPLICA),
            "slot": (n, slots, SLOT),
            "votes": (n, CHECKPOINTS_COUNTED, 3),
            "inbox": (n, endpoints),
            "timer": (n, 3, 2),
            "alarm": (flights, 2),
            "lane": (flights, 2),
            "flight": (flights, FLIGHT),
            "arrivals": (4 * n + 64, others),
            "free": (4 * n + 64,),
            "weather": (sum(ahead), others),
            "batch": (1024, BATCH_FIELDS),
            "request": (1024, REQUEST_FIELDS),
            "client": (endpoints,),
            "done": (endpoints, 2 * config.client_window),
            "top": (endpoints,),
            "reply_ns": (ring, n),
            "log": (kept, 6),
            "log_keys": (kept, others),
            "event": (events, 7),
            "heard": (n if n <= ASKERS else 1, n, 4),
            "status": (64, 3),
            "answer": (64, 3),
            "pair": (pairs + endpoints, 3),
            "alone": (1 + spoken_to, alone),
            "cut": (n if faulty else 0, n + 1),
            "slow": (n if faulty else 0, n + 1),
            "loss": (n if faulty else 0, n + 1),
            "broadcast_luck": (sum(ahead) if lossy else 0, others),
            "alone_luck": (1 + spoken_to if lossy else 0, alone),
            "reply_luck": (ring if lossy else 0, n),
        }
        if (most := self._total()) > NUMBERS_MOST:
            raise Uncovered(
                f"logs, windows and batches of {most >> 27:,} GiB (consensus.checkpoint_interval, log_window, window, "
                "batch_size or client_window is too large)"
            )
        self.numbers: I64 = np.zeros(0, dtype=np.int64)  # the buffer
        self._lay_out()
        self.numbers[[NEXT_SEQ, ENDPOINTS, CLIENT_RING]] = 1, endpoints, 2 * config.client_window
        self.numbers[SLOT_MASK], self.numbers[CLIENT_PAIRS], self.numbers[ALONE_ROW] = slots - 1, pairs, alone
        self.begin()

    def begin(self) -> None:
        """What is not zero where nothing has happened."""
        self.numbers[ANSWERER] = self.timer[:] = -1
        self.slot[:, :, S_ACCEPTED_NS] = self.replica[:, [R_ASKED_NS, R_LINE]] = -1
        self.free_flights(0)
        self.free[:] = np.arange(1, len(self.free) + 1)

    def free_flights(self, first: int) -> None:
        """From that on each is free, and names the next."""
        self.flight[first:, F_WHAT] = -1
        self.flight[first:, F_PLACE] = np.arange(first + 1, len(self.flight) + 1)

    def grow(self, name: str, room: int) -> None:
        """At least *room* entries in that region, what it holds kept."""
        if self._shapes[name][0] < room:
            have, *rest = self._shapes[name]
            self._shapes[name] = (max(room, 2 * have), *rest)
            self._lay_out()

    def _total(self) -> int:
        return HEADER + sum(math.prod(shape) for shape in self._shapes.values())

    def _lay_out(self) -> None:
        before, at = {name: vars(self).get(name) for name in self._shapes}, HEADER
        made = np.zeros(self._total(), dtype=np.int64)
        made[: min(HEADER, len(self.numbers))] = self.numbers[:HEADER]
        for place, (name, shape) in enumerate(self._shapes.items(), start=AT_REPLICA):
            made[place] = at
            view = made[at : at + math.prod(shape)].reshape(shape)
            if (old := before[name]) is not None:
                view[: len(old)] = old
            setattr(self, name, view)
            at += math.prod(shape)
        for place, name in _ROOM.items():
            made[place] = self._shapes[name][0]
        self.numbers = made


_ROOM: Final = {
    FLIGHTS: "flight",
    FLIGHTS_IN_LANE: "lane",
    ALARMS_KEPT: "alarm",
    ARRIVALS: "arrivals",
    BATCHES: "batch",
    EVENTS_KEPT: "event",
    BROADCASTS_KEPT: "log",
    REPLIES_KEPT: "reply_ns",
    STATUSES: "status",
    ANSWERS: "answer",
}
