"""A compiled run as a `Cluster`: the same clients, the same records, the same clock for whoever else lives in it."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.messages import Request
from tradebft.network.arrays import ArrayCluster
from tradebft.network.bookkeeping import message_sizes
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.compiled import digest, drawing, kernel, memory
from tradebft.network.compiled.continued import Continued
from tradebft.network.compiled.memory import Memory
from tradebft.network.compiled.mishaps import Mishaps
from tradebft.network.compiled.rounds import Round
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.delays import Alone, LuckAhead, ahead
from tradebft.network.engines import Uncovered
from tradebft.network.inbox import inbox_of
from tradebft.network.recorder import Decision
from tradebft.network.trace import short, total

DRAWS: Final = 1 << 14
FIRST_ROWS: Final = 64  # of delays; more with use
REPLIES_MOST: Final = 1 << 23  # delays that are kept
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
        super().__init__(settings, drawing.delays)
        config, n = settings.config, settings.config.nodes
        self._scribe = Scribe(self._book)
        self._outstanding: dict[tuple[int, int], int] = {}  # endpoint and sequence -> number
        self._unanswered = (
            0  # the first request in the order that a replica has not answered, when last looked at
        )
        self._round = Round(config)
        self._streams = [self._chance.stream("link", r) for r in range(n)]
        self._drawn = [0] * n
        self._alone_drawn: dict[int, int] = {}
        self._pairs = 0
        self._lossy = settings.wire.lossy
        self._luck = [self._chance.stream("loss", r) for r in range(n)] if self._lossy else []
        clients = range(n, n + len(self.clients))
        self._reply_luck = [LuckAhead(self._chance, n, c) for c in clients] if self._lossy else []
        self._m = self._memory()
        self._mishaps = Mishaps(settings, self.env, self.recorder, self._m, self._recall, self.hand_over)
        for r in range(n):
            self._draw(r)

    def _memory(self) -> Memory:
        settings, config, n = self.settings, self.config, self.config.nodes
        known = memory.rules_of(config, settings.costs, self._book.checks)
        known |= {
            getattr(memory, f"{name.upper()}_SIZE"): value
            for name, value in message_sizes(config)._asdict().items()
        }
        known |= {
            memory.BANDWIDTH: settings.wire.bandwidth_bps or 0,
            memory.INBOX: inbox_of(config),
            memory.LOSSY: int(self._lossy),
        }
        if settings.faults or settings.wire.loss or settings.byzantine:
            known[memory.BLOCKS_KEPT] = memory.LONGEST_NS  # all are
        margin = known[memory.ROOM_NEEDED]
        many = DRAWS // max(1, n - 1)
        self._ahead = [max(2 * (config.window + 4), many), *[max(8, many)] * (n - 1)]
        self._first_row = [0, *accumulate(self._ahead)]
        faulty = bool(settings.faults or settings.wire.loss)
        m = Memory(config, n + len(self.clients), self._ahead, margin, faulty, self._lossy)
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
        if self._rest is not None:
            self._rest.finish()
            self._exactly_once()
            self.violations += self._rest.checker.violations
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
        self.recorder.keep(message, sender, 0, at, arrival)
        if m.numbers[memory.LANE] + 1 > len(m.flight):
            self._more_flights()
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
                self._refill()
            elif stop == memory.ALONE:
                self._draw_alone(int(m.numbers[memory.PAIR]))
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
        client.answered(
            now, request.sequence, self._scribe.results[rid], int(m.request[rid, memory.Q_REPLIED])
        )

    def _execute(self) -> None:
        m, n = self._m, self.config.nodes
        numbers = self._scribe.execute(m)
        self._round.choose(m, self.recorder, self._scribe)
        first = int(m.batch[m.numbers[memory.KNOWN], memory.B_FIRST])
        self._keep_replies(first, first + len(numbers))
        ring = len(m.reply_ns)
        for place, rid in enumerate(numbers, start=first):
            client = int(m.request[rid, memory.Q_CLIENT]) - n
            m.reply_ns[place % ring] = self._replies[client].next()
            if self._lossy:
                m.reply_luck.view(np.float64)[place % ring] = self._reply_luck[client].next()

    def _keep_replies(self, start: int, end: int) -> None:
        """Room for the delays of replies to the requests from *start* to before *end* in the order, beside those that a
        replica has not answered yet."""
        m, ring = self._m, len(self._m.reply_ns)
        if end - self._unanswered <= ring:
            return
        up = m.replica[m.replica[:, memory.R_DOWN] == 0]
        first = self._unanswered = int(m.batch[int(up[:, memory.R_ANSWERED].min()) + 1, memory.B_FIRST])
        if end - first <= ring:
            return
        if 2 * (end - first) * self.config.nodes > REPLIES_MOST:
            raise Uncovered(memory.REASON[memory.FAR_BEHIND])
        places = np.arange(max(0, start - ring), start)
        for name in ("reply_ns", "reply_luck") if self._lossy else ("reply_ns",):
            before = getattr(m, name)[places % ring].copy()
            m.grow(name, 2 * (end - first))
            kept = getattr(m, name)
            kept[places % len(kept)] = before

    def _draw(self, r: int) -> None:
        """Delays of the next broadcasts of *r*, behind those that are left."""
        m, wire = self._m, self.settings.wire
        at, end = m.replica[r, [memory.R_WEATHER_AT, memory.R_WEATHER_END]].tolist()
        first = self._first_row[r]
        fewest = max(2 * int(m.numbers[memory.AHEAD]), FIRST_ROWS)
        count = ahead(self._drawn[r], fewest, self._ahead[r] - (end - at))
        others = np.delete(np.arange(self.config.nodes, dtype=np.int64), r)
        delays = drawing.delays(wire.links, self._streams[r], self._drawn[r], count, r, others)
        if delays.max() >= memory.LONGEST_NS:
            raise Uncovered("delays of weeks")
        keys = delays << memory.KEY_BITS | others
        if wire.bandwidth_bps is None:
            keys.sort(axis=1)
        if self._lossy:
            luck = self._luck[r].uniform_block(self._drawn[r], count, len(others))
            _behind(m.broadcast_luck.view(np.float64), first, at, end, luck)
        self._drawn[r] += count
        fields = [memory.R_WEATHER_AT, memory.R_WEATHER_END]
        m.replica[r, fields] = first, _behind(m.weather, first, at, end, keys)

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
            if self._lossy:
                m.grow("alone_luck", len(m.alone))
            m.pair[place, 0] = self._pairs
        number, at, end = m.pair[place].tolist()
        row, drawn = m.alone[number], self._alone_drawn.get(place, 0)
        count = ahead(drawn, memory.ALONE_FIRST, len(row) - (end - at))
        u = self._chance.stream("alone", r, to).uniforms(drawn, count)
        delays = self.settings.wire.links.delays(r, np.array([to], dtype=np.int64), u[:, None])
        if self._lossy:
            luck = self._chance.stream("loss", r, to).uniforms(drawn, count)
            _behind(m.alone_luck.view(np.float64)[number], 0, at, end, luck)
        self._alone_drawn[place] = drawn + count
        m.pair[place, 1:] = 0, _behind(row, 0, at, end, delays[:, 0])

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

    # --- where the reference goes on ---

    @property
    def _may_hand_over(self) -> bool:
        return self.config.nodes <= memory.ASKERS

    def hand_over(self, why: str) -> Cluster:
        """Have the reference go on with the run from this moment, as if it had been there from the beginning."""
        if not self._may_hand_over:
            return super().hand_over(why)
        m, wire = self._m, self.settings.wire
        self._flush()
        self._record()
        self._round.hand_over(self.recorder)
        rest = Continued(
            self.settings, self.env, self.recorder, m, self._scribe, self._book, self.clients, self._mishaps
        )
        left = (m.replica[:, memory.R_WEATHER_END] - m.replica[:, memory.R_WEATHER_AT]).tolist()
        said = [drawn - rows for drawn, rows in zip(self._drawn, left, strict=True)]
        alone = {
            pair: Alone(self._chance, wire.links, *pair, wire.lossy, used)
            for pair, used in self._used_alone().items()
        }
        alone |= {(self.config.nodes + k, 0): own for k, own in enumerate(self._to_primary)}
        rest.resume(self._timers, said, alone, self._links_free, self._outstanding)
        self._mishaps.finish()
        self._mishaps.rest = rest
        self._rest = rest
        self.handed_over = f"the reference from {self.env.time / 1e9:g} s on, for {why}"
        return rest

    def _used_alone(self) -> dict[tuple[int, int], int]:
        """How many delays were used of each link from one replica to one other or to a client, by its ends."""
        m, n = self._m, self.config.nodes
        clients, used = int(m.numbers[memory.CLIENT_PAIRS]), {}
        for place, drawn in self._alone_drawn.items():
            ends = divmod(place, n) if place < clients else (0, place - clients)
            used[ends] = drawn - int(m.pair[place, 2] - m.pair[place, 1])
        answered = m.replica[:, memory.R_ANSWERED].tolist()
        order = m.request[: m.numbers[memory.TAKEN], memory.Q_PLACE]
        asked = m.request[order, memory.Q_CLIENT]
        for r in range(1, n):
            if m.replica[r, memory.R_MUTE]:
                continue
            end = int(m.batch[answered[r], [memory.B_FIRST, memory.B_COUNT]].sum())
            told = np.bincount(asked[:end], minlength=m.numbers[memory.ENDPOINTS])
            used |= {(r, int(client)): int(told[client]) for client in np.flatnonzero(told)}
        return used

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
        m, kept = self._m, self.settings.blocks_kept
        up = m.replica[m.replica[:, memory.R_DOWN] == 0]
        proven = np.where(up[:, memory.R_PROOF_BEFORE], up[:, memory.R_PROOF_BEFORE], up[:, memory.R_PROOF])
        oldest = int(proven.min())
        floor = oldest - 1
        if kept is not None:
            floor = max(floor, int(m.numbers[memory.KNOWN]) - kept)
        behind = int(up[:, [memory.R_LOW, memory.R_ANSWERED]].min())
        self._book.forget(min(floor, behind, self._earliest_on_its_way() - 1), oldest)

    def _earliest_on_its_way(self) -> int:
        """The lowest sequence that a message or a processor is busy with, if only for a member that is down."""
        m = self._m
        flights = m.flight[m.lane[: m.numbers[memory.LANE], 1] & memory.ITEMS]
        kind, about = flights[:, memory.F_WHAT] & ~memory.PROCESS, flights[:, memory.F_ABOUT]
        fetched = m.answer[about[kind == memory.FETCH_REPLY], 0]
        voted = about[np.isin(kind, (memory.PRE_PREPARE, memory.PREPARE, memory.COMMIT, memory.EXECUTED))]
        return int(min(fetched.min(initial=memory.LONGEST_NS), voted.min(initial=memory.LONGEST_NS)))

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
            if committers >= self.config.quorum and not m.batch[seq, memory.B_MISSING]:
                decision.all_ns = int(m.batch[seq, memory.B_ALL_NS])


def _behind(kept: NDArray[Any], first: int, at: int, end: int, drawn: NDArray[Any]) -> int:
    """Move what is left of *kept*, *at* to *end*, to *first*, and put what was drawn behind it; where that ends."""
    left = first + end - at
    kept[first:left] = kept[at:end].copy()
    kept[left : left + len(drawn)] = drawn
    return left + len(drawn)
