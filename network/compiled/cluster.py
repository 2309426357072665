"""A compiled run as a `Cluster`: the same clients, the same records, the same clock for whoever else lives in it."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import numpy as np
import simpy
from simpy.core import EmptySchedule
from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate, make_identities
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Address
from tradebft.consensus.invariants import Violation
from tradebft.consensus.messages import (
    NULL_BATCH,
    Checkpoint,
    Commit,
    Decided,
    FetchReply,
    Message,
    Prepare,
    PrePrepare,
    Request,
    Status,
    size,
)
from tradebft.network.chance import Chance
from tradebft.network.cluster import Settings, Timeline
from tradebft.network.compiled import digest, drawing, kernel, lane, memory
from tradebft.network.compiled.memory import Memory
from tradebft.network.compiled.rounds import Round
from tradebft.network.compiled.scribe import RepliesAhead, Scribe
from tradebft.network.delays import Alone
from tradebft.network.engines import Uncovered
from tradebft.network.inbox import inbox_of
from tradebft.network.node import ClientNode, Shared
from tradebft.network.recorder import Decision, Recorder
from tradebft.network.timers import Timers
from tradebft.network.trace import short

FOREVER: Final = 1 << 62
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
INVARIANTS: Final = ("exactly-once", "liveness")


class _Numbers:
    """SimPy's numbering of events, which alarms of the kernel share."""

    def __init__(self) -> None:
        self.next = 0

    def __next__(self) -> int:
        self.next += 1
        return self.next - 1


class CompiledTime(simpy.Environment):
    """SimPy's clock, and beside its queue the kernel. Time is integer nanoseconds from 0."""

    def __init__(self, cluster: CompiledCluster) -> None:
        super().__init__(initial_time=0)
        self.numbers = _Numbers()
        self._eid: Any = self.numbers
        self._cluster = cluster

    @property
    def time(self) -> int:
        """The current time in ns."""
        return int(self._now)

    @property
    def delivered(self) -> int:
        """Messages so far."""
        return self._cluster.delivered

    def reached(self, now: int) -> None:
        """The kernel stands at *now*, and somebody is told of it."""
        self._now = now

    def step(self) -> None:
        """Let the kernel run up to SimPy's next event or to an answer; then process that event."""
        until, number = FOREVER, 0
        if self._queue:
            time, priority, number, _ = self._queue[0]
            until = int(time)
            if not priority:
                number = -1  # an urgent event: no alarm at its instant comes first
        if self._cluster.advance(until, number):
            return
        if not self._queue:
            raise EmptySchedule
        super().step()


class CompiledClient(ClientNode):
    """A client whose replies the kernel counts."""

    def answered(self, now: int, sequence: int, result: bytes, seq: int) -> None:
        """f+1 replies agree."""
        self.perform(now, self.client.believe(now, sequence, result, seq, 0))


class CompiledCluster(Timeline):
    """Builds the network at time 0; `run` moves it on. `Uncovered` where the run leaves what is covered."""

    def __init__(self, settings: Settings) -> None:
        config, wire = settings.config, settings.wire
        n = config.nodes
        self.settings, self.config, self.nodes = settings, config, list(range(n))
        self.env = CompiledTime(self)
        self.recorder = Recorder(config)
        self.violations: list[Violation] = []
        self.invariants = INVARIANTS
        signers, keyring = make_identities([*range(n), *settings.clients], settings.crypto, settings.seed)
        self._scribe = Scribe(config, signers[0], keyring, settings.application)
        self._chance = Chance(settings.seed)
        self._timers = Timers(self.env, self._ring)
        shared = Shared(self, self.recorder, None, None, None)  # type: ignore[arg-type]
        self.clients = {
            name: CompiledClient(
                n + k, Client(name, config, signers[name], keyring, settings.client_timeout_ns), shared
            )
            for k, name in enumerate(settings.clients)
        }
        self._by_endpoint = list(self.clients.values())
        self._to_primary = [Alone(self._chance, wire.links, n + k, 0) for k in range(len(self.clients))]
        self._replies = [RepliesAhead(self._chance, wire.links, n, n + k) for k in range(len(self.clients))]
        self._outstanding: dict[tuple[int, int], int] = {}  # endpoint and sequence -> number
        self._links_free = [0] * len(self.clients)  # of each client's interface
        self._round = Round(config)
        self._streams = [self._chance.stream("link", r) for r in range(n)]
        self._drawn = [0] * n
        self._alone_drawn: dict[int, int] = {}
        self._pairs = 0
        self._m = self._memory()
        for r in range(n):
            self._draw(r)

    def _memory(self) -> Memory:
        settings, config, n = self.settings, self.config, self.config.nodes
        known = memory.rules_of(config, settings.costs, self._scribe.checks)
        signature, value = bytes(64), bytes(32)

        def votes(kind: str) -> QuorumCertificate:
            return QuorumCertificate(kind, 0, 0, value, tuple((0, signature) for _ in range(config.quorum)))

        known |= {
            memory.BANDWIDTH: settings.wire.bandwidth_bps or 0,
            memory.INBOX: inbox_of(config),
            memory.PRE_PREPARE_SIZE: len(encode(PrePrepare(0, 0, value, 0, None, signature))) - 2,
            memory.PREPARE_SIZE: len(encode(Prepare(0, 0, value, 0, signature))) - 2,
            memory.COMMIT_SIZE: len(encode(Commit(0, 0, value, 0, signature))) - 2,
            memory.CHECKPOINT_SIZE: len(encode(Checkpoint(0, value, 0, signature))) - 2,
            memory.STATUS_SIZE: len(encode(Status(0, False, 0, 0, 0, 0, 0, signature))) - 4,
            memory.ANSWER_SIZE: len(encode(FetchReply((), (), None, 0, signature))) - 1,
            memory.BLOCK_SIZE: len(encode(Decided(0, NULL_BATCH, votes("Commit"))))
            - len(NULL_BATCH.encoded)
            - 2,
            memory.PROOF_SIZE: len(encode(votes("Checkpoint"))) - 1,
        }
        margin = known[memory.ROOM_NEEDED]
        many = DRAWS // max(1, n - 1)
        self._ahead = [max(2 * (config.window + 4), many), *[max(8, many)] * (n - 1)]
        self._first_row = [0, *accumulate(self._ahead)]
        m = Memory(config, n + len(self.clients), self._ahead, margin)
        for place, number in known.items():
            m.numbers[place] = number
        digests = m.numbers.view(np.uint64)
        for timer, name in (
            (memory.VIEW_TIMER, b"view-change"),
            (memory.BATCH_TIMER, b"batch"),
            (memory.STATUS_TIMER, b"status"),
        ):
            digests[memory.TIMER_DIGESTS + timer] = short(name)
        return m

    # --- what scenarios ask for ---

    @property
    def delivered(self) -> int:
        """Messages so far."""
        return int(self._m.numbers[memory.DELIVERED])

    @property
    def checker(self) -> CompiledCluster:
        """Whoever has `violations`."""
        return self

    def finish(self) -> None:
        """The run is over: take what never arrived out of the trace, and hand over the records."""
        self._flush()
        self.recorder.trace.add(-digest.total(digest.in_flight(self._m.numbers)))
        self._judge()
        self._record()

    # --- the bus, as clients see it ---

    def send(self, at: int, sender: int, to: Address, message: Message) -> None:
        """A request to the primary."""
        assert isinstance(message, Request)
        m, client = self._m, sender - self.config.nodes
        length, key = size(message), (sender, message.sequence)
        rid = self._outstanding.get(key, -1)
        if rid < 0:
            rid = self._outstanding[key] = self._scribe.add(message)
            m.grow("request", rid + 1)
            m.request[rid, memory.Q_CLIENT], m.request[rid, memory.Q_SEQUENCE] = sender, message.sequence
            m.request[rid, memory.Q_SIZE] = length
            m.request[rid, memory.Q_OPERATION] = len(message.operation)
        delay, _ = self._to_primary[client].next()
        arrival = at + delay
        bandwidth = self.settings.wire.bandwidth_bps
        if bandwidth is not None:
            depart = max(at, self._links_free[client]) + length * 8 * 1_000_000_000 // bandwidth
            self._links_free[client] = depart
            arrival = depart + delay
        m.numbers[memory.MESSAGES + memory.REQUEST] += 1
        m.numbers[memory.BYTES_SENT] += length
        self.recorder.trace.event(
            memory.REQUEST, sender, 0, message.sequence, len(message.operation), 0, arrival
        )
        self._round.asked(rid, message, sender, at, arrival)
        if m.numbers[memory.LANE] + 1 > len(m.flight):
            self._more_flights()
        lane.launch(m.numbers, arrival, lane.flight(m.numbers, memory.REQUEST, sender, 0, rid, at))

    def broadcast(self, at: int, sender: int, message: Message, to: Any = None) -> None:
        """A client asks everybody."""
        raise Uncovered("a client that asks everybody")

    def set_timer(self, now: int, endpoint: int, name: str, delay_ns: int) -> None:
        """See `Timers.set`."""
        self._timers.set(now, endpoint, name, delay_ns)

    def _ring(self, due: int, endpoint: int, name: str) -> None:
        self._by_endpoint[endpoint - self.config.nodes].timer(due, name)

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
                self._refill()
            elif stop == memory.ALONE:
                self._draw_alone(int(m.numbers[memory.PAIR]))
            elif stop == memory.ROOM:
                self._more_room()
            elif stop == memory.FLUSH:
                self._flush()
            else:
                raise Uncovered(memory.REASON[int(m.numbers[memory.WHY])])

    def _answered(self, rid: int) -> None:
        m, request = self._m, self._scribe.requests[rid]
        now = int(m.numbers[memory.NOW])
        self.env.reached(now)
        del self._outstanding[int(m.request[rid, memory.Q_CLIENT]), request.sequence]
        client = self._by_endpoint[int(m.request[rid, memory.Q_CLIENT]) - self.config.nodes]
        client.answered(
            now, request.sequence, self._scribe.results[rid], int(m.request[rid, memory.Q_REPLIED])
        )

    def _execute(self) -> None:
        m, n, ring = self._m, self.config.nodes, len(self._m.reply_ns)
        numbers = self._scribe.execute(m)
        self._round.choose(m, self.recorder)
        first = int(m.batch[m.numbers[memory.KNOWN], memory.B_FIRST])
        for place, rid in enumerate(numbers, start=first):
            m.reply_ns[place % ring] = self._replies[int(m.request[rid, memory.Q_CLIENT]) - n].next()
        if (
            first
            + len(numbers)
            - int(m.batch[int(m.replica[:, memory.R_ANSWERED].min()) + 1, memory.B_FIRST])
            > ring
        ):
            raise Uncovered(memory.REASON[memory.FAR_BEHIND])

    def _draw(self, r: int) -> None:
        """Delays of the next broadcasts of *r*, behind those that are left."""
        m, wire = self._m, self.settings.wire
        at, end = m.replica[r, [memory.R_WEATHER_AT, memory.R_WEATHER_END]].tolist()
        first, size = self._first_row[r], self._ahead[r]
        rows = m.weather[first : first + size]
        rows[: end - at] = m.weather[at:end].copy()
        count = size - (end - at)
        others = np.delete(np.arange(self.config.nodes, dtype=np.int64), r)
        u = drawing.uniform_block(self._streams[r], self._drawn[r], count, len(others))
        delays = wire.links.delays(r, others, u)
        if delays.max() >= memory.LONGEST_NS:
            raise Uncovered("delays of weeks")
        keys = delays << memory.KEY_BITS | others
        if wire.bandwidth_bps is None:
            keys.sort(axis=1)
        rows[end - at :] = keys
        self._drawn[r] += count
        m.replica[r, [memory.R_WEATHER_AT, memory.R_WEATHER_END]] = first, first + size

    def _refill(self) -> None:
        m = self._m
        for r in range(self.config.nodes):
            left = m.replica[r, memory.R_WEATHER_END] - m.replica[r, memory.R_WEATHER_AT]
            if left < m.numbers[memory.AHEAD_OTHERS if r else memory.AHEAD]:
                self._draw(r)
        m.numbers[memory.DRY] = 0

    def _draw_alone(self, place: int) -> None:
        """Delays of what one replica sends to one other or to a client alone, behind those that are left."""
        m, n = self._m, self.config.nodes
        clients = int(m.numbers[memory.CLIENT_PAIRS])
        r, to = divmod(place, n) if place < clients else (0, place - clients)
        if not m.pair[place, 0]:
            self._pairs += 1
            m.grow("alone", self._pairs + 1)
            m.pair[place, 0] = self._pairs
        number, at, end = m.pair[place].tolist()
        row = m.alone[number]
        row[: end - at] = row[at:end].copy()
        count = len(row) - (end - at)
        drawn = self._alone_drawn.get(place, 0)
        u = self._chance.stream("alone", r, to).uniforms(drawn, count)
        delays = self.settings.wire.links.delays(r, np.array([to], dtype=np.int64), u[:, None])
        row[end - at :] = delays[:, 0]
        self._alone_drawn[place] = drawn + count
        m.pair[place, 1:] = 0, len(row)

    def _more_room(self) -> None:
        m, proposals = self._m, self.config.window + 4
        margin = int(m.numbers[memory.ROOM_NEEDED])
        if m.numbers[memory.LANE] + margin > len(m.flight):
            self._more_flights()
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

    def _more_flights(self) -> None:
        m, before = self._m, len(self._m.flight)
        m.grow("flight", max(int(m.numbers[memory.LANE] + m.numbers[memory.ROOM_NEEDED]), before + 1))
        m.grow("lane", len(m.flight))
        m.flight[before:, memory.F_PLACE] = np.arange(before + 1, len(m.flight) + 1)

    # --- records ---

    def _flush(self) -> None:
        self._scribe.close(self._m)
        while self._m.numbers[memory.KNOWN] < self._m.replica[:, memory.R_EXECUTED].max():
            self._execute()  # it is in the log that somebody committed it: with what root?
        self._round.keep(self._m, self.recorder, self._scribe)
        self.recorder.trace.add(digest.total(digest.mix(self._m.numbers)))

    def _judge(self) -> None:
        now = self.env.time
        if self._scribe.repeated:
            what = f"{self._scribe.repeated} requests were executed a second time"
            self.violations.append(Violation("exactly-once", now, -1, what))
        patience = self.settings.patience_ns
        waiting = [c.client.waiting_since() for c in self._by_endpoint]
        stuck = [since for since in waiting if since is not None and now - since > patience]
        if stuck and now - int(self._m.numbers[memory.LAST_COMMIT]) > patience:
            what = f"requests of {len(stuck)} clients wait and nothing is committed"
            self.violations.append(Violation("liveness", now, -1, what))

    def _record(self) -> None:
        m, recorder = self._m, self.recorder
        recorder.messages.update(
            {
                name: int(m.numbers[memory.MESSAGES + kind])
                for kind, name in NAMES.items()
                if m.numbers[memory.MESSAGES + kind]
            }
        )
        for reason, name in enumerate(memory.REASONS_IGNORED):
            if m.numbers[memory.IGNORED + reason]:
                recorder.ignored[name] += int(m.numbers[memory.IGNORED + reason])
        recorder.bytes_sent = int(m.numbers[memory.BYTES_SENT])
        recorder.last_commit_ns = int(m.numbers[memory.LAST_COMMIT])
        for seq in range(1, int(m.numbers[memory.NEXT_SEQ])):
            committers = int(m.batch[seq, memory.B_COMMITTERS])
            if not committers:
                continue
            decision = recorder.decisions[seq] = Decision(seq)
            decision.transactions, decision.bytes = (
                int(m.batch[seq, memory.B_COUNT]),
                int(m.batch[seq, memory.B_SIZE]),
            )
            decision.proposed_ns = int(m.batch[seq, memory.B_PROPOSED_NS])
            if committers >= self.config.quorum:
                decision.quorum_ns = int(m.batch[seq, memory.B_QUORUM_NS])
            if committers == self.config.nodes:
                decision.all_ns = int(m.batch[seq, memory.B_ALL_NS])
