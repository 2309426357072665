"""Members and clients that share one machine and work in turns, as real ones do (`network.live.member`).

A real member takes what waits, steps through it, makes everything durable at once, and only then seals and sends: one
envelope a receiver or topic. Here the same happens in virtual time, with what each part costs. All endpoints of the
network share the machine's processors, first come, first served, a turn at a time; a broker's work is part of sealing
and opening. Used to predict what `tradebft validate` then measures; crashes are not played on such a machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tradebft.consensus.client import Client
from tradebft.consensus.interface import Broadcast, Committed, Persist, Replica, Send, Start, TimerFired
from tradebft.consensus.messages import Message, Reply, Request, sender_of, size
from tradebft.network.bus import Bus
from tradebft.network.chance import Chance
from tradebft.network.costs import CpuCosts
from tradebft.network.node import ClientNode, ReplicaNode, Shared

INPUTS_A_TURN: Final = 256
_OVER: Final = object()


@dataclass(frozen=True)
class MachineCosts:
    """A machine with *cores* processors. In ns: *seal* and *open* an envelope, its way to and from the bus included;
    *writes*: how long it took to make durable what one turn wrote, time after time, to be drawn from, *write_cpu* of
    it on the processor; *hop*: what an envelope takes beyond all that."""

    cores: int
    cpu: CpuCosts
    seal_ns: int
    open_ns: int
    writes_ns: tuple[int, ...]
    write_cpu_ns: int
    hop_ns: int


class Machine:
    """Hands its processors to workers in the order in which they asked."""

    def __init__(self, costs: MachineCosts, chance: Chance) -> None:
        self.costs = costs
        self._draws, self._written = chance.stream("write"), 0
        self._free = costs.cores
        self._ready: deque[_InTurns] = deque()
        self.later: Callable[[int, int, Any], None] = lambda at, endpoint, work: None

    def write(self) -> int:
        """How long one durable write takes."""
        self._written += 1
        return self.costs.writes_ns[int(self._draws.uniform(self._written) * len(self.costs.writes_ns))]

    def want(self, now: int, worker: _InTurns) -> None:
        """*worker* has something to do."""
        if not worker.wanted:
            worker.wanted = True
            self._ready.append(worker)
            self._go(now)

    def over(self, now: int, worker: _InTurns) -> None:
        """*worker*'s turn is over."""
        self._free += 1
        worker.wanted = False
        worker.finish(now)
        if worker.waits:
            self.want(now, worker)
        self._go(now)

    def _go(self, now: int) -> None:
        while self._free and self._ready:
            worker = self._ready.popleft()
            self._free -= 1
            self.later(now + worker.turn(now), worker.index, _OVER)


class _Envelopes:
    """What a turn sends, by topic, and what arrived together."""

    def __init__(self, costs: MachineCosts) -> None:
        self._costs = costs
        self.out: list[Broadcast | Send] = []
        self._last: tuple[Any, int] = (None, -1)

    def arrived(self, now: int, message: Message) -> int:
        """What opening its envelope costs: nothing if that was opened for the message before it."""
        together, self._last = self._last == (sender_of(message), now), (sender_of(message), now)
        return 0 if together else self._costs.open_ns

    def sealed(self) -> int:
        """What making and sealing all that waits costs."""
        topics = {effect.to if isinstance(effect, Send) else "all" for effect in self.out}
        made = sum(self._costs.cpu.send(e.message, size(e.message)) for e in self.out)
        return made + len(topics) * self._costs.seal_ns


class _InTurns:
    """What replicas and clients have in common that work in turns."""

    index: int
    _bus: Bus

    def _begin(self, machine: Machine) -> None:
        self._machine, self._costs = machine, machine.costs
        self._waiting: deque[tuple[Any, int]] = deque()  # input, and what taking it in costs
        self._envelopes = _Envelopes(machine.costs)
        self._spent = 0
        self.wanted = False
        self.busy_ns = 0

    @property
    def waits(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._envelopes.out)

    def _take(self, now: int, event: Any, cost: int) -> None:
        self._waiting.append((event, cost))
        self._machine.want(now, self)

    def timer(self, now: int, name: str) -> None:
        """A timer ran out."""
        self._take(now, TimerFired(name), self._costs.cpu.message_ns)

    def process(self, now: int, work: Any) -> None:
        """The turn is over."""
        self._machine.over(now, self)

    def _inputs(self) -> Iterator[Any]:
        """What waits, for one turn; each is charged for as it is taken."""
        for _ in range(min(INPUTS_A_TURN, len(self._waiting))):
            event, cost = self._waiting.popleft()
            self._spent += cost
            yield event

    if TYPE_CHECKING:  # of whoever works

        def turn(self, now: int) -> int: ...

    def finish(self, now: int) -> None:
        """What the turn sends leaves."""
        out, self._envelopes.out = self._envelopes.out, []
        for effect in out:
            if isinstance(effect, Broadcast):
                self._bus.broadcast(now, self.index, effect.message, effect.to)
            else:
                self._bus.send(now, self.index, effect.to, effect.message)


class TurnNode(_InTurns, ReplicaNode):
    """A replica on a shared machine."""

    def __init__(
        self,
        index: int,
        make: Callable[[], Replica],
        shared: Shared,
        live: Callable[[], int],
        machine: Machine,
    ) -> None:
        super().__init__(index, make, shared._replace(costs=None), live)
        self._begin(machine)
        self._dirty = False
        self._do |= {Broadcast: self._hold, Send: self._hold}

    def start(self, now: int) -> None:
        """First boot."""
        self._take(now, Start(), 0)

    def queue(self, now: int, message: Message) -> None:
        """A message arrived whose signature holds."""
        sender = sender_of(message)
        if self._inbox[sender] >= self._inbox_most:
            self._recorder.dropped["inbox full"] += 1
            return
        self._inbox[sender] += 1
        cost = self._envelopes.arrived(now, message) + self._costs.cpu.receive(
            message, size(message), self._seen
        )
        self._take(now, message, cost)

    def turn(self, now: int) -> int:
        """Step through what waits; make it durable; seal what leaves."""
        self._spent, self._dirty = 0, False
        for event in self._inputs():
            if hasattr(event, "signature"):
                self._inbox[sender_of(event)] -= 1
            self.receive(now, event)
        self._spent += self._envelopes.sealed()
        self.busy_ns += self._spent + (self._costs.write_cpu_ns if self._dirty else 0)
        return self._spent + (self._machine.write() if self._dirty else 0)

    def _hold(self, now: int, effect: Broadcast | Send) -> None:
        self._envelopes.out.append(effect)

    def _persist(self, now: int, effect: Persist) -> None:
        self._dirty = True
        super()._persist(now, effect)

    def _execute(self, now: int, effect: Committed) -> None:
        self._dirty = True
        fresh = len(effect.fresh)
        self._spent += self._costs.cpu.execute(fresh, self._chronicle.checks * fresh)
        super()._execute(now, effect)


class TurnClient(_InTurns, ClientNode):
    """A client on a shared machine. A reply's seal says as much as its signature, which nobody checks."""

    def __init__(self, index: int, client: Client, shared: Shared, machine: Machine) -> None:
        super().__init__(index, client, shared)
        self._begin(machine)

    def queue(self, now: int, message: Any) -> None:
        """A message arrived whose signature holds."""
        cpu = self._costs.cpu
        cost = (
            self._envelopes.arrived(now, message) + cpu.message_ns + size(message) * cpu.kilobyte_ns // 1000
        )
        self._take(now, message, cost + (0 if isinstance(message, Reply) else cpu.verify_ns))

    def turn(self, now: int) -> int:
        """Take in what waits, and seal what leaves."""
        self._spent = 0
        for event in self._inputs():
            self.receive(now + self._spent, event)
        signed = sum(isinstance(effect.message, Request) for effect in self._envelopes.out)
        self._spent += signed * self._costs.cpu.sign_ns  # which `CpuCosts.send` leaves out of a request
        self._spent += self._envelopes.sealed()
        self.busy_ns += self._spent
        return self._spent

    def perform(self, now: int, effects: Any) -> None:
        """Do what the client asks for; what it sends waits for the end of the turn."""
        kept = []
        for effect in effects:
            if isinstance(effect, Broadcast | Send):
                self._envelopes.out.append(effect)
            else:
                kept.append(effect)
        super().perform(now, kept)
        if self._envelopes.out:
            self._machine.want(now, self)
