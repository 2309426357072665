"""The rest of a run that leaves what is compiled: the reference's network, as it would stand by now.

What the engine has in its memory becomes the reference's own objects: replicas with their logs and disks, messages on
their way, timers, what processors and interfaces are busy with, how far each link's delays are drawn. Then the
reference goes on, in the same clock and with the same clients and records, as if it had been there from the beginning.
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
from tradebft.consensus.messages import Reply
from tradebft.consensus.pbft import Replica
from tradebft.network.arrays import CountedClient
from tradebft.network.bookkeeping import Book
from tradebft.network.chronicle import Chronicle
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import ITEM_BITS, ITEMS, KEY_BITS, PROCESS, Memory
from tradebft.network.compiled.messages import Messages, voters
from tradebft.network.compiled.mishaps import Mishaps
from tradebft.network.compiled.replicas import Replicas, answered
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.delays import Alone
from tradebft.network.node import ReplicaNode
from tradebft.network.recorder import Recorder
from tradebft.network.timers import Timers
from tradebft.network.virtual_time import Flight, VirtualTime

_RECEIVER: Final = (1 << KEY_BITS) - 1


class Continued(Cluster):
    """Everything has been written down that the engine recorded (`CompiledCluster.hand_over`)."""

    def __init__(
        self,
        settings: Settings,
        env: VirtualTime,
        recorder: Recorder,
        m: Memory,
        scribe: Scribe,
        book: Book,
        nodes: dict[str, CountedClient],
        mishaps: Mishaps,
    ) -> None:
        self._m, self._scribe, self._book, self._mishaps = m, scribe, book, mishaps
        self.since = self._since_ns = 0  # what the engine does not look below, and since when it had the run
        self._before: dict[int, tuple[Replica, int]] = {}
        self._answered: dict[int, int] = {}  # of those who fell meanwhile, up to where the application had
        self._so_far, self._their_nodes = recorder, nodes
        super().__init__(settings, env)

    # --- what there is already ---

    def _make_recorder(self) -> Recorder:
        return self._so_far

    def _make_chronicle(self) -> Chronicle:
        self.chronicle = Chronicle(self.settings.application, application=self._book.application)
        return self.chronicle

    def _client(self, index: int, name: str) -> Any:
        return self._their_nodes[name]

    def _begin(self) -> None:
        """Nothing begins: all goes on."""

    # --- going on ---

    def resume(
        self,
        timers: Timers,
        said: list[int],
        alone: dict[tuple[int, int], Alone],
        interfaces: list[int],
        outstanding: dict[tuple[int, int], int],
    ) -> None:
        """Everything stands where it stood: timers of clients, what each replica has broadcast (*said* times), what
        was drawn for one receiver *alone*, until when each client's interface is busy (ns), which requests are
        *outstanding* (numbers, by client and sequence)."""
        m = self._m
        self._messages = Messages(m, self._scribe, self._book, self.config, self.signers)
        self.chronicle.resume(self._messages.blocks)
        self.weather, self._changed_ns = self._mishaps.weather, self._mishaps.changed_ns
        self._obey_weather()
        self._resume_replicas()
        self.checker.resume(
            dict(enumerate(m.replica[:, memory.R_EXECUTED].tolist())),
            [(block.committed, block.executed.root) for block in self._messages.blocks.values()],
        )
        for alarm in sorted(m.alarm[: m.numbers[memory.ALARMS]].tolist()):
            self._resume_timer(timers, *alarm)
        free = [*m.replica[:, memory.R_INTERFACE_FREE].tolist(), *interfaces]
        self.bus.resume(timers, free, said, alone)
        lane = [self._on_its_way(time, order) for time, order in [*self._flights(), *self._work()]]
        counts = int(m.numbers[memory.DELIVERED]), int(m.numbers[memory.LAUNCHED])
        self.env.resume(max(self.env.time, int(m.numbers[memory.NOW])), *counts, lane)
        self._resume_records()
        self._hear(outstanding)
        # What was made is with the replicas now: theirs to keep, or to let go.
        self._book.blocks.clear()
        self._book.snapshots.clear()
        del self._messages

    def leave(self, base: int) -> None:
        """The engine goes on; everything here stays as it stands. *base*: what it does not look below."""
        self.since, self._since_ns = base, self.env.time
        up = [node for node in self.nodes if node.up]
        self._before = {node.index: (self.inner(node), self.answered(node)) for node in up}

    @property
    def changed_ns(self) -> int:
        """When something last changed for the better or the worse."""
        return self._changed_ns

    def inner(self, node: ReplicaNode) -> Replica:
        """The replica that a misbehaviour is wrapped around."""
        found: Any = node.replica
        while not isinstance(found, Replica):
            found = found.inner
        return found

    def _resume_replicas(self) -> None:
        m, n = self._m, self.config.nodes
        replicas = Replicas(m, self.config, self._scribe, self._book, self._messages, self._before)
        names = [*range(n), *self.clients]
        for node in self.nodes:
            row = m.replica[node.index].tolist()
            if row[memory.R_DOWN]:
                if node.up:
                    self._fall(node, row[memory.R_EXECUTED], row[memory.R_ANSWERED])
                continue
            inner = self.inner(node)
            replicas.restore(inner)
            inbox = {names[e]: count for e, count in enumerate(m.inbox[node.index].tolist()) if count}
            disk = replicas.disk(inner, node.disk)
            node.resume(row[memory.R_EXECUTED], disk, inbox, row[memory.R_FREE_AT])

    def _fall(self, node: ReplicaNode, executed: int, told: int) -> None:
        """*node* went down for good while the engine had the run."""
        node.resume(executed, node.disk, {}, 0)
        self._answered[node.index] = told
        self._live &= ~(1 << node.index)
        self.bus.crash(node)

    def answered(self, node: ReplicaNode) -> int:
        """Up to where the application of *node* has answered, or had when it went down."""
        return self._answered.get(node.index, answered(self.inner(node)))

    def _resume_timer(self, timers: Timers, time: int, order: int) -> None:
        r, timer = divmod(order & ITEMS, len(memory.TIMERS))
        deadline, alarm_at = self._m.timer[r, timer].tolist()
        if alarm_at == time:
            timers.resume(r, memory.TIMERS[timer], deadline, alarm_at, order >> ITEM_BITS)

    def _flights(self) -> list[list[int]]:
        """Messages that are under way: when each arrives next, and its order in the lane."""
        entries = self._m.lane[: self._m.numbers[memory.LANE]]
        found: list[list[int]] = entries[
            self._m.flight[entries[:, 1] & ITEMS, memory.F_WHAT] < PROCESS
        ].tolist()
        return found

    def _work(self) -> list[list[int]]:
        """What processors are busy with, in the lane or in line."""
        flights = self._m.flight
        work = flights[flights[:, memory.F_WHAT] >= PROCESS]
        found: list[list[int]] = work[:, [memory.F_START, memory.F_ORDER]].tolist()
        return found

    def _on_its_way(self, time: int, order: int) -> tuple[int, int, Flight]:
        m = self._m
        what, sender, to, about, start, place, count, row = m.flight[order & ITEMS].tolist()
        if row >= 0:
            keys = m.arrivals[row, place:count]
            receivers, delays = (keys & _RECEIVER).tolist(), (keys >> KEY_BITS).tolist()
        else:
            receivers, delays = [to], [time - start]
        number = order >> ITEM_BITS
        if what >= PROCESS:
            if what == PROCESS | memory.EXECUTED:
                work: Any = self._book.blocks[about].executed
            else:
                work = self._messages.of(what - PROCESS, sender, about)
            return (
                time,
                number,
                Flight(start, (self._epoch(to), work), [to + self.bus.endpoints], delays),
            )
        return time, number, Flight(start, self._messages.of(what, sender, about), receivers, delays, sender)

    def _epoch(self, index: int) -> int:
        """Of the work that a member's processor has to do: one that fell meanwhile had it before."""
        node = self.nodes[index]
        return node.epoch if node.up else node.epoch - 1

    def _resume_records(self) -> None:
        m, recorder = self._m, self.recorder
        executed, primary = m.replica[:, memory.R_EXECUTED], int(m.numbers[memory.PRIMARY])
        for seq in range(max(self.since, int(executed.min())) + 1, int(m.numbers[memory.NEXT_SEQ])):
            decision = recorder.decisions.get(seq)
            if decision is not None:
                decision.committed = sum(1 << int(r) for r in np.flatnonzero(executed >= seq))
                if 0 <= decision.quorum_ns < self._since_ns:
                    continue  # the reference wrote down who was up then
                fallen = self._mishaps.down_since.items()  # who was up when it had its quorum
                decision.live = self._live | sum(1 << r for r, at in fallen if at >= decision.quorum_ns)
            elif not m.replica[primary, memory.R_MUTE]:
                at = int(m.batch[seq, memory.B_PROPOSED_NS])
                recorder.proposed(at, cast(Any, self._messages.of(memory.PRE_PREPARE, primary, seq)))
        for client in self._their_nodes.values():
            client.speak_by(self.bus)

    def _hear(self, rids: dict[tuple[int, int], int]) -> None:
        """Clients have heard what they heard of these requests (numbers, by client and sequence)."""
        names = list(self.clients)
        for (endpoint, _), rid in rids.items():
            words = self._m.request[rid, memory.Q_REPLIES_OF : memory.Q_REPLIES_OF + 2]
            for r in voters(words):
                reply = self._messages.of(memory.REPLY, r, rid)
                assert isinstance(reply, Reply)
                self._their_nodes[names[endpoint - self.config.nodes]].client.heard(reply)
