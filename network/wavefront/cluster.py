"""A run of waves as a `Cluster`: the same clients, the same records, the same clock for whoever else lives in it."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np
from tradebft.consensus.messages import Request
from tradebft.consensus.pbft.state import BATCH_TIMER
from tradebft.network.arrays import ArrayCluster
from tradebft.network.bookkeeping import message_sizes
from tradebft.network.cluster import Settings
from tradebft.network.delays import RepliesAhead
from tradebft.network.engines import Uncovered
from tradebft.network.recorder import TIMER_EVENT
from tradebft.network.timers import Timers
from tradebft.network.trace import CODES, short
from tradebft.network.wavefront import bulk
from tradebft.network.wavefront.log import Entry, Log
from tradebft.network.wavefront.order import NEVER, Members, Times, Wave, agreement, wave
from tradebft.network.wavefront.primary import KNOWN, Primary
from tradebft.network.wavefront.rounds import Round
from tradebft.network.wavefront.watch import Watch
from tradebft.network.wavefront.weather import Weather

_ARRIVED, _EXECUTED, _ANSWERED = range(3)
Due = tuple[int, int, int, Any]  # when, in which order of those at one time, what, and of what


def members_of(settings: Settings) -> Members:
    """Who takes part in a network whose backups may crash for good or be silent."""
    config = settings.config
    members = Members.all(config.nodes, config.faults, config.quorum)
    until, mute = members.until, members.mute
    for fault in settings.faults:
        for node in fault.nodes:
            until[node] = min(until[node], fault.at_ns)
    for one in settings.byzantine:
        mute[one.node] = True
    return Members(config.faults, config.quorum, until, mute)


class WavefrontCluster(ArrayCluster):
    """Builds the network at time 0; `run` moves it on. `Uncovered` where the run leaves what is covered."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        config, links = settings.config, settings.wire.links
        n = config.nodes
        self._replies = [
            RepliesAhead(self._chance, links, [0] * n, n + k, bulk.delays) for k in range(len(self.clients))
        ]
        self._weather = Weather(self._chance, links, n)
        members = self._members = members_of(settings)
        self._primary, self._watch = Primary(config), Watch(config, members.until)
        self._log = Log(config, message_sizes(config), self.recorder, members)
        self._round = Round(config, self.recorder, members)
        self._alarm = Timers(self.env, self._batch_due)
        self._due: list[Due] = []
        self._number = 0
        self._arrived = 0
        self._before = np.full(config.nodes, -1, dtype=np.int64)  # when the batch before was executed
        self._voting: Entry | None = None  # a batch with a checkpoint, until the primary has executed it
        self._goes_on = False
        # A nanosecond in which the primary executed a batch and no request may arrive any more.
        self._tied = -1
        self._past: dict[int, int] = {}  # when a sequence was executed everywhere, of the last of a log
        # When a checkpoint was stable: at the primary, everywhere.
        self._stable: dict[int, tuple[int, int]] = {}

    # --- what scenarios ask for ---

    @property
    def delivered(self) -> int:
        """Messages that are known to have arrived, so far."""
        return self._arrived + self._log.delivered

    def finish(self) -> None:
        """The run is over: take what never arrived out of the trace, and hand over the records."""
        end, trace = self.env.time, self.recorder.trace
        for arrival, _, what, about in self._due:
            if what == _ARRIVED:
                message, sender = about
                trace.withdraw(
                    CODES[Request], sender, 0, message.sequence, len(message.operation), 0, arrival
                )
        self._vote()
        if crashed := int((self._members.until < end).sum()):
            self.recorder.injected["crash"] += crashed
        trace.add(self._watch.finish(end))
        self._log.finish(end)
        self._round.finish(end)
        self._judge(self.recorder.last_commit_ns)

    # --- what clients ask for ---

    def _sent(self, length: int) -> None:
        self.recorder.messages["Request"] += 1
        self.recorder.bytes_sent += length

    def _take(self, message: Request, sender: int, at: int, length: int, arrival: int) -> None:
        self.recorder.keep(message, sender, 0, at, arrival)
        self._push(arrival, _ARRIVED, (message, sender))

    def _push(self, at: int, what: int, about: Any) -> None:
        self._number += 1
        heappush(self._due, (at, self._number, what, about))

    # --- what happens when ---

    def advance(self, until: int, number: int) -> bool:
        """Run up to SimPy's event at *until*. True: a request was answered, or a timer set, before."""
        timer = self._primary.batch_timer
        while self._due and self._due[0][0] <= until:
            if self._primary.batch_timer and not timer:
                return True  # it may go off before *until*
            now, _, what, about = heappop(self._due)
            if what == _ANSWERED:
                self._answer(now, *about)
                return True
            if what == _EXECUTED:
                self._executed(now)
                continue
            self._arrived += 1
            self._beside_execution(now)
            if self._primary.add(now, about[0]):
                self._propose(now)
            else:
                self.recorder.ignored[KNOWN] += 1
        return False

    def _beside_execution(self, now: int) -> None:
        """A request arrives. Where the primary executes in that very nanosecond, which of the two is first decides what
        the next batch holds: unless nothing else waits for it."""
        executes = self.config.window == 1 and self._primary.seq and self._primary.free_at == now
        if now == self._tied or (executes and self._primary.fresh):
            raise Uncovered("a request in the nanosecond of an execution")
        if executes:
            self._tied = now

    def _executed(self, now: int) -> None:
        """The primary executed a batch. It proposes what its window held back; then it votes for a checkpoint."""
        due, self._tied = self._voting, now
        self._primary.blocked, self._goes_on = False, True
        self._propose(now)
        self._goes_on = False
        if self._voting is due:
            self._vote()

    def _answer(self, now: int, sender: int, sequence: int, result: bytes, seq: int) -> None:
        self.env.reached(now)
        self._by_endpoint[sender - self.config.nodes].answered(now, sequence, result, seq)

    def _batch_due(self, due: int, endpoint: int, name: str) -> None:
        self.recorder.trace.event(TIMER_EVENT, 0, 0, 0, short(name.encode()), 0, due)
        self._primary.batch_timer, self._primary.batch_due = False, True
        self._propose(due)

    def _propose(self, now: int) -> None:
        """`Replica.propose`, at the primary."""
        primary, config = self._primary, self.config
        while primary.fresh and self._may_propose(now):
            if not primary.full and config.batch_timeout_ns and not primary.batch_due:
                if not primary.batch_timer:
                    primary.batch_timer = True
                    self._alarm.set(now, 0, BATCH_TIMER, config.batch_timeout_ns)
                return
            if primary.free_at > now:
                raise Uncovered("batches that overlap")
            primary.batch_due = False
            if primary.batch_timer:
                primary.batch_timer = False
                self._alarm.cancel(0, BATCH_TIMER)
            self._decide(now)

    def _may_propose(self, now: int) -> bool:
        primary, config = self._primary, self.config
        if primary.free_at > now and config.window == 1:
            if not primary.blocked and self._voting is None:
                self._push(primary.free_at, _EXECUTED, None)
            primary.blocked = True
            return False
        seq = primary.seq + 1
        low = max((s for s, (at, _) in self._stable.items() if at <= now), default=0)
        if seq > low + config.log_window:
            raise Uncovered("a full log")
        return True

    def _decide(self, now: int) -> None:
        """Propose a batch; all that comes of it."""
        config, batch = self.config, self._primary.close(now)
        seq = self._primary.seq
        made = wave(now, self._first(), self._weather.next(), self._members)
        self._covered(seq, made)
        told = self._book.execute(seq, batch)
        self._watch.over(made.noticed, made.executed, made.accepted, made.votes)
        self._primary.free_at, self._before = int(made.executed[0]), made.executed
        receivers = [self.clients[request.client].index for request in batch.requests]
        replies = self._reply(seq, batch.requests, receivers, told.results, made.executed)
        entry = Entry(seq, short(batch.digest), len(batch.encoded), made, told, receivers, replies)
        self._log.add(entry)
        self._round.choose(entry, batch)
        if seq % config.checkpoint_interval == 0:
            self._voting = entry
            self._push(self._primary.free_at, _EXECUTED, None)

    def _first(self) -> Times:
        """How long the PrePrepare takes, and the Prepares."""
        if self._voting is None:
            return self._weather.next()
        if not self._goes_on:
            raise Uncovered("a request in the nanosecond of an execution")
        # The primary proposes before it votes for the checkpoint; to others the checkpoint comes first.
        votes, first = self._weather.next().copy(), self._weather.next().copy()
        votes[0], first[0] = first[0].copy(), votes[0].copy()
        self._vote(votes)
        return first

    def _vote(self, third: Times | None = None) -> None:
        """Votes for the checkpoint that is due, if one is."""
        entry, self._voting = self._voting, None
        if entry is None:
            return
        executed = entry.wave.executed
        voted = agreement(executed, self._weather.next() if third is None else third, self._members)
        if (voted.stable < executed).any():
            raise Uncovered("a replica that is far behind the others")
        self._stable[entry.seq] = int(voted.stable[0]), int(voted.stable[self._members.stay].max())
        self._watch.stable(voted.stable)
        self._log.agreed(entry, voted)

    def _reply(
        self,
        seq: int,
        requests: Sequence[Request],
        receivers: list[int],
        results: list[bytes],
        executed: Times,
    ) -> Times:
        """(requests, n): when replies arrive. Clients believe the f+1st."""
        n, faults = self.config.nodes, self.config.faults
        said = self._members.said(executed)
        replies = np.empty((len(requests), n), dtype=np.int64)
        for place, receiver in enumerate(receivers):
            np.add(said, self._replies[receiver - n].next(), out=replies[place])
        believed = np.partition(replies, faults, axis=1)[:, faults].tolist()
        for at, request, receiver, result in zip(believed, requests, receivers, results, strict=True):
            self._push(at, _ANSWERED, (receiver, request.sequence, result, seq))
        return replies

    def _covered(self, seq: int, made: Wave) -> None:
        """Whether replicas do one batch after the other, and in time."""
        config, members = self.config, self._members
        last = int(made.executed.max() if members.all_stay else made.executed[members.stay].max())
        if last >= NEVER:
            raise Uncovered("fewer members than a quorum")
        early = made.noticed <= self._before
        if not members.all_stay:
            early &= made.noticed < NEVER
        if early[1:].any():
            raise Uncovered("batches that overlap")
        over = made.executed if members.all_stay else np.minimum(made.executed, members.until)
        if (over - made.accepted)[1:].max() > config.view_change_timeout_ns:
            raise Uncovered("a view change")
        self._past[seq] = last
        oldest = seq - config.log_window  # votes for *seq* are counted once this is executed and covered
        if oldest < 1:
            return
        if self._past.pop(oldest) >= made.proposed:
            raise Uncovered("a full log")
        for at in [at for at in self._stable if at < oldest]:
            del self._stable[at]
        first = -(-oldest // config.checkpoint_interval) * config.checkpoint_interval
        if first not in self._stable or self._stable[first][1] >= made.proposed:
            raise Uncovered("a full log")
