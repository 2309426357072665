"""Members and clients that share one machine and work in turns, as real ones do (`network.live.member`).

A real member takes what waits, steps through it, makes everything durable at once, and only then seals and sends: one
envelope a receiver or topic. Here the same happens in virtual time, with what each part costs. All endpoints of the
network, and the broker if there is one, share the machine's processors, first come, first served, a turn at a time.
Used to predict what `tradebft validate` then measures; crashes are not played on such a machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from tradebft.consensus.client import Client
from tradebft.consensus.interface import (
    Broadcast,
    Committed,
    Persist,
    Replica,
    Send,
    Start,
    Submit,
    TimerFired,
)
from tradebft.consensus.messages import Message, Reply, Request, sender_of, size
from tradebft.network.bus import Bus
from tradebft.network.chance import Chance
from tradebft.network.costs import CpuCosts
from tradebft.network.inbox import INPUTS_A_TURN
from tradebft.network.node import ClientNode, ReplicaNode, RequestRecord, Shared

_ALL: Final = object()  # the topic of what a sender says to everybody


@dataclass(frozen=True)
class BrokerCosts:
    """A broker that carries envelopes one after the other. In ns: *wake* when it had nothing to do, *take* an envelope
    in, *give* one copy of it out."""

    wake_ns: int
    take_ns: int
    give_ns: int


@dataclass(frozen=True)
class MachineCosts:
    """A machine with *cores* processors. *cpu*: computing, the first of its kind in a turn; *again*: the ones after it,
    whose code and data the caches hold. In ns: *wake* for a turn that envelopes led to, *speak* for one that sends any;
    *seal* and *open* one more envelope, its way to and from the bus included; *writes*: how long it took to make
    durable what one turn wrote, time after time, to be drawn from, *write_cpu* of it on the processor; *record*: each
    record more that a turn writes; *hop*: what an envelope takes beyond all that. *broker*: what carries envelopes;
    None: they need no carrying."""

    cores: int
    cpu: CpuCosts
    again: CpuCosts
    wake_ns: int
    speak_ns: int
    seal_ns: int
    open_ns: int
    writes_ns: tuple[int, ...]
    write_cpu_ns: int
    record_ns: int
    hop_ns: int
    broker: BrokerCosts | None = None


class Worker(Protocol):
    """Whoever needs a processor now and then."""

    wanted: bool

    @property
    def waits(self) -> bool: ...
    def turn(self, now: int) -> int: ...
    def finish(self, now: int) -> None: ...


class Machine:
    """Hands its processors to workers in the order in which they asked. *after(at, what)*: have *what* done then."""

    def __init__(
        self, costs: MachineCosts, chance: Chance, after: Callable[[int, Callable[[int], None]], None]
    ) -> None:
        self.costs, self.after = costs, after
        self._draws, self._written = chance.stream("write"), 0
        self._free = costs.cores
        self._ready: deque[Worker] = deque()
        self.broker = None if costs.broker is None else _Broker(self, costs.broker)
        self.one_loop = self.broker is None and costs.cores == 1  # all endpoints in one process

    def write(self) -> int:
        """How long one durable write takes."""
        self._written += 1
        return self.costs.writes_ns[int(self._draws.uniform(self._written) * len(self.costs.writes_ns))]

    def want(self, now: int, worker: Worker) -> None:
        """*worker* has something to do."""
        if not worker.wanted:
            worker.wanted = True
            self._ready.append(worker)
            self._go(now)

    def _over(self, now: int, worker: Worker) -> None:
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
            self.after(now + worker.turn(now), partial(self._over, worker=worker))


class _Piece:
    """Something that is done between turns: so long, and then that."""

    def __init__(self, took: int, then: Callable[[int], None]) -> None:
        self._took, self._then = took, then
        self.wanted, self.waits = False, False

    def turn(self, now: int) -> int:
        """How long it takes."""
        return self._took

    def finish(self, now: int) -> None:
        """It is done."""
        self._then(now)


class _Broker:
    """Carries what waits, one envelope after the other; each leaves as soon as it is through."""

    def __init__(self, machine: Machine, costs: BrokerCosts) -> None:
        self._machine, self._costs = machine, costs
        self._waiting: deque[tuple[int, Callable[[int], None]]] = deque()
        self.wanted = False

    @property
    def waits(self) -> bool:
        """Whether there is anything to carry."""
        return bool(self._waiting)

    def carry(self, now: int, copies: int, leave: Callable[[int], None]) -> None:
        """Take an envelope; *leave* is called when so many copies of it go out."""
        self._waiting.append((copies, leave))
        self._machine.want(now, self)

    def turn(self, now: int) -> int:
        """Everything that waits."""
        spent = self._costs.wake_ns
        while self._waiting:
            copies, leave = self._waiting.popleft()
            spent += self._costs.take_ns + copies * self._costs.give_ns
            self._machine.after(now + spent, leave)
        return spent

    def finish(self, now: int) -> None:
        """All of it has left."""


class _Input(NamedTuple):
    """What waits for a turn, and what taking it in costs: as the *first* of the turn, and *again*."""

    event: Any
    first: int
    again: int
    opened: bool  # whether it came in an envelope, and not in that of the message before it


class _Envelopes:
    """What a turn sends, by topic, and what arrived together."""

    def __init__(self, costs: MachineCosts) -> None:
        self._costs = costs
        self.out: list[Broadcast | Send] = []
        self._last: tuple[Any, int] = (None, -1)

    def arrived(self, now: int, message: Message) -> bool:
        """Whether its envelope is to be opened: not if that was done for the message before it."""
        together, self._last = self._last == (sender_of(message), now), (sender_of(message), now)
        return not together

    def sealed(self) -> int:
        """What making and sealing all that waits costs."""
        if not self.out:
            return 0
        costs = self._costs
        topics = {_topic(effect) for effect in self.out}
        made = sum(
            (costs.again if place else costs.cpu).send(effect.message, size(effect.message))
            for place, effect in enumerate(self.out)
        )
        return made + costs.speak_ns + len(topics) * costs.seal_ns


def _topic(effect: Broadcast | Send) -> Any:
    return effect.to if isinstance(effect, Send) else _ALL


class _InTurns:
    """What replicas and clients have in common that work in turns."""

    index: int
    _bus: Bus

    def _begin(self, machine: Machine, everybody: int) -> None:
        self._machine, self._costs, self._everybody = machine, machine.costs, everybody
        self._waiting: deque[_Input] = deque()
        self._envelopes = _Envelopes(machine.costs)
        self._leaving: list[Broadcast | Send] = []  # when the turn is over
        self._spent = 0
        self.wanted = False
        self.busy_ns = 0

    @property
    def waits(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._envelopes.out)

    def _take(self, now: int, event: Any, cost: Callable[[CpuCosts], int], opened: bool = False) -> None:
        self._waiting.append(_Input(event, cost(self._costs.cpu), cost(self._costs.again), opened))
        self._machine.want(now, self)

    def _arrive(self, now: int, message: Message, cost: Callable[[CpuCosts], int]) -> None:
        """A message is here: *cost* is that of taking it in. Where all share one event loop, its envelope is opened and
        its signature checked when that comes to it, among what others do; else within the turn that it leads to."""
        opened = self._envelopes.arrived(now, message)
        if not self._machine.one_loop:
            self._take(now, message, cost, opened)
            return
        cpu = self._costs.cpu if opened else self._costs.again
        took = (self._costs.open_ns if opened else 0) + cost(cpu) - cpu.message_ns
        self.busy_ns += took

        def here(at: int) -> None:
            self._take(at, message, lambda cpu: cpu.message_ns, opened)

        self._machine.want(now, _Piece(took, here))

    def timer(self, now: int, name: str) -> None:
        """A timer ran out."""
        self._take(now, TimerFired(name), lambda cpu: cpu.message_ns)

    def _inputs(self) -> Iterator[Any]:
        """What waits, for one turn; each is charged for as it is taken."""
        woken = False
        for place in range(min(INPUTS_A_TURN, len(self._waiting))):
            taken = self._waiting.popleft()
            self._spent += taken.again if place else taken.first
            if taken.opened:
                self._spent += 0 if woken else self._costs.wake_ns
                self._spent += 0 if self._machine.one_loop else self._costs.open_ns
                woken = True
            yield taken.event

    def _seal(self) -> None:
        """What was said so far leaves when the turn is over."""
        self._spent += self._envelopes.sealed()
        self._leaving, self._envelopes.out = self._envelopes.out, []

    if TYPE_CHECKING:  # of whoever works

        def turn(self, now: int) -> int: ...

    def finish(self, now: int) -> None:
        """What the turn sealed leaves, by way of the broker if there is one."""
        out, self._leaving = self._leaving, []
        broker = self._machine.broker
        if broker is None:
            self._send_all(now, effects=out)
            return
        by_topic: dict[Any, list[Broadcast | Send]] = {}
        for effect in out:
            by_topic.setdefault(_topic(effect), []).append(effect)
        for topic, effects in by_topic.items():
            broker.carry(
                now, self._everybody if topic == _ALL else 1, partial(self._send_all, effects=effects)
            )

    def _send_all(self, now: int, effects: list[Broadcast | Send]) -> None:
        for effect in effects:
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
        self._begin(machine, self.replica.config.nodes - 1)
        self._records = 0  # that the turn writes
        self._do |= {Broadcast: self._hold, Send: self._hold}

    def start(self, now: int) -> None:
        """First boot."""
        self._take(now, Start(), lambda cpu: 0)

    def queue(self, now: int, message: Message) -> None:
        """A message arrived whose signature holds."""
        sender = sender_of(message)
        if self._inbox[sender] >= self._inbox_most:
            self._recorder.dropped["inbox full"] += 1
            return
        self._inbox[sender] += 1
        length, checks = size(message), self._checks(message)
        self._arrive(now, message, lambda cpu: cpu.receive(length, checks))

    def turn(self, now: int) -> int:
        """Step through what waits; make it durable; seal what leaves."""
        self._spent = self._records = 0
        for event in self._inputs():
            if hasattr(event, "signature"):
                self._inbox[sender_of(event)] -= 1
            self.receive(now, event)
        self._seal()
        if not self._records:
            self.busy_ns += self._spent
            return self._spent
        self._spent += (self._records - 1) * self._costs.record_ns
        self.busy_ns += self._spent + self._costs.write_cpu_ns
        return self._spent + self._machine.write()

    def _hold(self, now: int, effect: Broadcast | Send) -> None:
        self._envelopes.out.append(effect)

    def _persist(self, now: int, effect: Persist) -> None:
        self._records += 1
        super()._persist(now, effect)

    def _execute(self, now: int, effect: Committed) -> None:
        self._records += 1
        fresh = len(effect.fresh)
        cpu = self._costs.again if fresh > 1 else self._costs.cpu
        self._spent += cpu.execute(fresh, self._chronicle.checks * fresh)
        super()._execute(now, effect)


class TurnClient(_InTurns, ClientNode):
    """A client on a shared machine. A reply's seal says as much as its signature, which nobody checks."""

    def __init__(self, index: int, client: Client, shared: Shared, machine: Machine) -> None:
        super().__init__(index, client, shared)
        self._begin(machine, client.config.nodes)

    def queue(self, now: int, message: Any) -> None:
        """A message arrived whose signature holds."""
        length, checked = size(message), not isinstance(message, Reply)

        def cost(cpu: CpuCosts) -> int:
            return cpu.message_ns + length * cpu.kilobyte_ns // 1000 + checked * cpu.verify_ns

        self._arrive(now, message, cost)

    def submit(
        self,
        now: int,
        operation: bytes,
        kind: str,
        on_answer: Callable[[RequestRecord], None],
        intended_ns: int = -1,
    ) -> RequestRecord:
        """As any client does, but in its next turn: whoever waits for an answer learns of it after this one, and goes
        on then. Without an intended time, that is when the request begins."""
        record = RequestRecord(intended_ns, now, kind, on_answer)
        self.records.append(record)
        self._take(now, Submit(operation, len(self.records) - 1), lambda cpu: 0)
        return record

    def turn(self, now: int) -> int:
        """Seal what the turn before this one had to say, and take in what waits."""
        signed = sum(isinstance(effect.message, Request) for effect in self._envelopes.out)
        self._spent = 0
        self._seal()
        if signed:  # which `CpuCosts.send` leaves out of a request
            self._spent += self._costs.cpu.sign_ns + (signed - 1) * self._costs.again.sign_ns
        for event in self._inputs():
            if isinstance(event, Submit):
                record = self.records[event.tag]
                record.submitted_ns = now + self._spent
                if record.intended_ns < 0:
                    record.intended_ns = record.submitted_ns
            self.receive(now + self._spent, event)
        self.busy_ns += self._spent
        return self._spent

    def perform(self, now: int, effects: Any) -> None:
        """Do what the client asks for; what it sends waits for the next turn."""
        kept = []
        for effect in effects:
            if isinstance(effect, Broadcast | Send):
                self._envelopes.out.append(effect)
            else:
                kept.append(effect)
        super().perform(now, kept)
        if self._envelopes.out:
            self._machine.want(now, self)
