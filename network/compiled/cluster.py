"""A compiled run as a `Cluster`: the same clients, the same records, the same clock for whoever else lives in it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, cast

import numpy as np
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Request
from tradebft.network.arrays import ArrayCluster
from tradebft.network.bookkeeping import message_sizes
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.compiled import digest, kernel, memory
from tradebft.network.compiled.ahead import Ahead
from tradebft.network.compiled.continued import Continued
from tradebft.network.compiled.fixed import numbers_of
from tradebft.network.compiled.memory import Memory
from tradebft.network.compiled.mishaps import Mishaps
from tradebft.network.compiled.returning import Returning
from tradebft.network.compiled.rounds import Round
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.compiled.settled import Settled, Unsettled
from tradebft.network.compiled.turns import Turns
from tradebft.network.delays import Alone
from tradebft.network.engines import Uncovered
from tradebft.network.inbox import inbox_of
from tradebft.network.recorder import Decision
from tradebft.network.trace import short, total

DRAWS: Final = 1 << 14
NAMES: Final = {
    memory.REQUEST: "Request",
    memory.PRE_PREPARE: "PrePrepare",
    memory.PREPARE: "Prepare",
    memory.COMMIT: "Commit",
    memory.REPLY: "Reply",
    memory.CHECKPOINT: "Checkpoint",
    memory.STATUS: "Status",
    memory.FETCH_REPLY: "FetchReply",
}


class CompiledCluster(ArrayCluster):
    """Builds the network at time 0; `run` moves it on. `Uncovered` where the run leaves what is covered."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        config = settings.config
        self._scribe = Scribe(self._book)
        self._outstanding: dict[tuple[int, int], int] = {}  # endpoint and sequence -> number
        self._round = Round(config)
        rows = _rows_ahead(config)
        self._m = self._memory(rows)
        self._ahead = Ahead(self._m, settings.wire, self._chance, rows, len(self.clients))
        self._mishaps = Mishaps(settings, self.env, self.recorder, self._m, self._recall, self.hand_over)
        self._turns = Turns(config.nodes)
        self._rest: Continued | None = None  # the reference, which goes on where this engine stops

    def _memory(self, rows: list[int]) -> Memory:
        settings, config, n = self.settings, self.config, self.config.nodes
        known = numbers_of(config, settings.costs, self._book.checks)
        known |= {
            getattr(memory, f"{name.upper()}_SIZE"): value
            for name, value in message_sizes(config)._asdict().items()
        }
        known |= {
            memory.BANDWIDTH: settings.wire.bandwidth_bps or 0,
            memory.BUFFER_NS: settings.wire.buffer_ns,
            memory.INBOX: inbox_of(config),
            memory.LOSSY: int(settings.wire.lossy),
        }
        margin = known[memory.ROOM_NEEDED]
        faulty = bool(settings.faults or settings.wire.loss)
        m = Memory(config, n + len(self.clients), rows, margin, faulty, settings.wire.lossy)
        for place, number in known.items():
            m.numbers[place] = number
        digests = m.numbers.view(np.uint64)
        for timer, name in enumerate(memory.TIMERS, start=memory.TIMER_DIGESTS):
            digests[timer] = short(name.encode())
        return m

    # --- what scenarios ask for ---

    @property
    def delivered(self) -> int:
        """Messages so far."""
        return int(self._m.numbers[memory.DELIVERED])

    def finish(self) -> None:
        """The run is over: take what never arrived out of the trace, and hand over the records."""
        if self.elsewhere:
            assert self._rest is not None
            self._rest.finish()
            self._exactly_once()
        if self._rest is not None:
            self.violations += self._rest.checker.violations
        if self.elsewhere:
            return
        self._flush()
        self.recorder.trace.add(-total(digest.in_flight(self._m.numbers)))
        self._judge(int(self._m.numbers[memory.LAST_COMMIT]))
        self._mishaps.finish()
        self._record()

    # --- what clients ask for ---

    def _sent(self, length: int) -> None:
        self._m.numbers[memory.MESSAGES + memory.REQUEST] += 1
        self._m.numbers[memory.BYTES_SENT] += length

    def _met(self, delay: int, draw: float) -> int:
        return self._mishaps.request(delay, draw) if self._mishaps.present else delay

    @property
    def _calm_since(self) -> int | None:
        return self._mishaps.calm_since

    def _recall(self, r: int) -> None:
        """Take out of the trace what *r* has announced and will never send."""
        self._scribe.close(self._m)  # with what digests?
        gone = digest.recall(self._m.numbers, r, self.env.time)
        self.recorder.trace.add(-total(gone))

    def _take(self, message: Request, sender: int, at: int, length: int, arrival: int) -> None:
        m, key = self._m, (sender, message.sequence)
        rid = self._outstanding.get(key, -1)
        if rid < 0:
            rid = self._outstanding[key] = self._scribe.add(message)
            m.grow("request", rid + 1)
            m.request[rid, memory.Q_CLIENT], m.request[rid, memory.Q_SEQUENCE] = sender, message.sequence
            m.request[rid, memory.Q_SIZE] = length
            m.request[rid, memory.Q_OPERATION] = len(message.operation)
        self._round.choose(m, self.recorder, self._scribe)  # of what was asked before a proposal it is made
        self.recorder.keep(message, sender, self.primary, at, arrival)
        self._more_flights(1)
        kernel.take_request(m.numbers, sender, rid, at, arrival)

    # --- the kernel, and whom it needs ---

    def advance(self, until: int, number: int) -> bool:
        """Run up to SimPy's event at *until* with that *number*. True: a request was answered before."""
        numbers = self.env.numbers
        while True:
            m = self._m
            m.numbers[memory.NUMBER] = numbers.next
            stop = kernel.run(m.numbers, until, number)
            numbers.next = int(m.numbers[memory.NUMBER])
            if stop == memory.LIMIT:
                return False
            if stop == memory.ANSWERED:
                self._answered(int(m.numbers[memory.RID]))
                return True
            if stop == memory.EXECUTE:
                self._execute()
            elif stop == memory.WEATHER:
                self._ahead.refill()
            elif stop == memory.ALONE:
                self._ahead.alone(int(m.numbers[memory.PAIR]))
            elif stop == memory.ROOM:
                self._more_room()
            elif stop == memory.FLUSH:
                self._flush()
            elif (why := int(m.numbers[memory.WHY])) in memory.MIDWAY:
                raise Uncovered(memory.REASON[why])
            else:
                self.hand_over(memory.REASON[why])
                return True

    def _answered(self, rid: int) -> None:
        m, request = self._m, self._scribe.requests[rid]
        now = int(m.numbers[memory.NOW])
        self.env.reached(now)
        del self._outstanding[int(m.request[rid, memory.Q_CLIENT]), request.sequence]
        client = self._by_endpoint[int(m.request[rid, memory.Q_CLIENT]) - self.config.nodes]
        seq, view = int(m.request[rid, memory.Q_REPLIED]), int(m.numbers[memory.VIEW])
        client.answered(now, request.sequence, self._scribe.results[rid], seq, view)

    def _execute(self) -> None:
        m = self._m
        numbers = self._scribe.execute(m)
        self._round.choose(m, self.recorder, self._scribe)
        self._ahead.replies(int(m.batch[m.numbers[memory.KNOWN], memory.B_FIRST]), numbers)

    def _more_room(self) -> None:
        m, proposals = self._m, self.config.window + 4
        margin = int(m.numbers[memory.ROOM_NEEDED])
        self._more_flights(margin)
        before, room = len(m.arrivals), int(m.numbers[memory.ROWS_USED]) + proposals
        if room > before:
            m.grow("arrivals", room)
            m.grow("free", len(m.arrivals))
            # The last of the free rows named the first that there was no room for: now there is.
            m.free[before:] = np.arange(before + 1, len(m.arrivals) + 1)
        m.grow("batch", int(m.numbers[memory.NEXT_SEQ]) + proposals)
        m.grow("status", int(m.numbers[memory.SAID]) + 4)
        m.grow("answer", int(m.numbers[memory.SHOWN]) + 4)
        m.grow("alarm", int(m.numbers[memory.ALARMS]) + margin)

    def _more_flights(self, count: int) -> None:
        m, before = self._m, len(self._m.flight)
        flying = int(m.numbers[memory.FLYING]) + count
        if flying > memory.ITEMS:
            raise Uncovered("more messages under way than it has numbers for")
        m.grow("lane", int(m.numbers[memory.LANE]) + count)
        if flying > before:
            m.grow("flight", flying)
            m.free_flights(before)

    # --- where the reference goes on ---

    @property
    def _may_hand_over(self) -> bool:
        return self.config.nodes <= memory.ASKERS

    def hand_over(self, why: str) -> Cluster:
        """Have the reference go on with the run from this moment, as if it had been there from the beginning."""
        if not self._may_hand_over:
            return super().hand_over(why)
        self._flush()
        self._record()
        self._round.hand_over(self.recorder)
        self._mishaps.finish()
        rest = self._continued()
        self.elsewhere, self._rest, self._mishaps.rest = True, rest, rest
        used = {ends: self._alone(*ends, count) for ends, count in self._ahead.used().items()}
        n = self.config.nodes
        used |= {(n + k, self.primary): own for k, own in enumerate(self._to_primary)}
        rest.resume(self._timers, self._ahead.said(), used, self._links_free, self._outstanding)
        self._turns.reference(self.env.time, self.env.delivered, why)
        self.handed_over = str(self._turns)
        return rest

    def _continued(self) -> Continued:
        """The reference's network."""
        if self._rest is not None:
            return self._rest
        whose = self._scribe, self._book, self.clients, self._mishaps
        return Continued(self.settings, self.env, self.recorder, self._m, *whose)

    def _alone(self, sender: int, receiver: int, used: int) -> Alone:
        wire = self.settings.wire
        return Alone(self._chance, wire.links, sender, receiver, wire.lossy, used)

    def look(self, delivered: int) -> None:
        """See `ArrayCluster.look`."""
        rest = self._rest
        if rest is None or not self._turns.look(delivered):
            return
        with suppress(Unsettled):
            now = Settled(rest)
            self._take_back(rest, now, Returning(now, rest))

    def _take_back(self, rest: Continued, now: Settled, back: Returning) -> None:
        """Go on where the reference stands."""
        m, n, env = self._m, self.config.nodes, self.env
        rest.leave(now.base)
        delivered = env.delivered
        self._outstanding = back.write(m, self._scribe, self._book)
        self.primary, self.elsewhere = now.primary, False
        m.numbers[memory.NOW], m.numbers[memory.DELIVERED] = env.time, delivered
        m.numbers[memory.LAUNCHED] = env.suspend()
        m.numbers[memory.LAST_COMMIT] = self.recorder.last_commit_ns
        m.numbers[memory.BYTES_SENT] = self.recorder.bytes_sent
        back.alarms(self._timers.withdraw(range(n)))
        self._links_free = rest.bus.interface_free[n:]
        self._to_primary = [rest.bus.pair(n + k, now.primary) for k in range(len(self.clients))]
        said, alone = rest.bus.used()
        self._ahead.start(said, alone, back.place)
        for seq in range(now.base + 1, back.known + 1):
            first, count = m.batch[seq, [memory.B_FIRST, memory.B_COUNT]].tolist()
            self._ahead.replies(first, m.request[first : first + count, memory.Q_PLACE].tolist())
        self._round.resume(self.recorder, int(m.numbers[memory.NEXT_SEQ]))
        self._mishaps.resume(rest.changed_ns, [node.index for node in rest.nodes if not node.up])
        for client in self.clients.values():
            client.speak_by(cast(Any, self))
        self._turns.engine(env.time, delivered)
        self.handed_over = str(self._turns)

    # --- records ---

    def _flush(self) -> None:
        self._scribe.close(self._m)
        while self._m.numbers[memory.KNOWN] < self._m.replica[:, memory.R_EXECUTED].max():
            self._execute()  # it is in the log that somebody committed it: with what root?
        self._round.keep(self._m, self.recorder, self._scribe)
        self._forget()
        happened, withdrawn = digest.mix(self._m.numbers)
        self.recorder.trace.add(total(happened) - total(withdrawn))

    def _forget(self) -> None:
        """Blocks that nobody would ask for, whoever goes on with the run."""
        m = self._m
        up = m.replica[m.replica[:, memory.R_DOWN] == 0]
        proven = np.where(up[:, memory.R_PROOF_BEFORE], up[:, memory.R_PROOF_BEFORE], up[:, memory.R_PROOF])
        oldest = int(proven.min())
        behind = int(up[:, [memory.R_LOW, memory.R_ANSWERED]].min())
        self._book.forget(min(oldest - 1, behind, self._earliest_on_its_way() - 1), oldest)

    def _earliest_on_its_way(self) -> int:
        """The lowest sequence that a message or a processor is busy with, if only for a member that is down."""
        m = self._m
        flights = m.flight[m.flight[:, memory.F_WHAT] >= 0]
        kind, about = flights[:, memory.F_WHAT] & ~memory.PROCESS, flights[:, memory.F_ABOUT]
        fetched = m.answer[about[kind == memory.FETCH_REPLY], 0]
        voted = about[np.isin(kind, (memory.PRE_PREPARE, memory.PREPARE, memory.COMMIT, memory.EXECUTED))]
        return int(min(fetched.min(initial=memory.LONGEST_NS), voted.min(initial=memory.LONGEST_NS)))

    def _record(self) -> None:
        m, recorder = self._m, self.recorder
        sent, ignored = m.numbers[memory.MESSAGES :], m.numbers[memory.IGNORED :]
        recorder.messages.update({name: int(sent[kind]) for kind, name in NAMES.items() if sent[kind]})
        for reason, name in enumerate(memory.REASONS_IGNORED):
            if ignored[reason]:
                recorder.ignored[name] += int(ignored[reason])
        m.numbers[memory.MESSAGES : memory.TIMER_DIGESTS] = 0
        recorder.bytes_sent = int(m.numbers[memory.BYTES_SENT])
        recorder.last_commit_ns = int(m.numbers[memory.LAST_COMMIT])
        since = self._rest.since if self._rest is not None else 0
        for seq in range(since + 1, int(m.numbers[memory.NEXT_SEQ])):
            committers = int(m.batch[seq, memory.B_COMMITTERS])
            if not committers:
                continue
            decision = recorder.decisions.setdefault(seq, Decision(seq))
            decision.view = int(m.numbers[memory.VIEW])
            decision.transactions, decision.bytes = (
                int(m.batch[seq, memory.B_COUNT]),
                int(m.batch[seq, memory.B_SIZE]),
            )
            decision.proposed_ns = int(m.batch[seq, memory.B_PROPOSED_NS])
            if committers >= self.config.quorum:
                decision.quorum_ns = int(m.batch[seq, memory.B_QUORUM_NS])
            if committers >= self.config.quorum and not m.batch[seq, memory.B_MISSING]:
                decision.all_ns = int(m.batch[seq, memory.B_ALL_NS])


def _rows_ahead(config: Config) -> list[int]:
    """How many broadcasts of each sender there is room for; whoever may come to lead needs as many as the first."""
    others = max(1, config.nodes - 1)
    many = DRAWS // others
    leads = max(2 * (config.window + 4), many)
    return [leads, *[leads if config.nodes <= memory.ASKERS else max(8, many)] * others][: config.nodes]
