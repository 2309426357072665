"""The simulated bus: delay, loss, bandwidth, partitions and routes, in virtual time.

A message's signature is checked once, when it is sent, although every receiver is charged for checking it: the
outcome is a pure function of the message and the members' keys. One that does not hold reaches its receivers' counters
and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tradebft.chain.codec import CodecError
from tradebft.chain.crypto import Keyring
from tradebft.consensus.decoding import decoded
from tradebft.consensus.interface import Address, Config
from tradebft.consensus.invariants import Checker
from tradebft.consensus.messages import (
    Garbage,
    Message,
    NewView,
    PrePrepare,
    Request,
    authentic,
    sender_of,
    size,
)
from tradebft.network.chance import Chance
from tradebft.network.delays import Alone, Broadcasts
from tradebft.network.links import LinkModel
from tradebft.network.recorder import Recorder
from tradebft.network.timers import Timers
from tradebft.network.topology import Topology
from tradebft.network.trace import CODES, short
from tradebft.network.virtual_time import Flight, Line, VirtualTime

INTERFACE_BUFFER: Final = 32 * 2**20

_UINT64 = (1 << 64) - 1
_CODES = {kind: (kind.__name__, code) for kind, code in {**CODES, Garbage: len(CODES) + 1}.items()}


class Wire(NamedTuple):
    """What the links of a network are like."""

    links: LinkModel
    topology: Topology
    bandwidth_bps: int | None  # of each endpoint's interface; None: unlimited
    loss: float  # share of messages that vanish
    lossy: bool = False  # whether anything can be lost at all, by faults included
    buffer: int = INTERFACE_BUFFER  # bytes that may wait at an interface of limited bandwidth

    def sending_ns(self, length: int) -> int:
        """How long an interface is busy with so many bytes."""
        return sending_ns(length, self.bandwidth_bps)

    @property
    def buffer_ns(self) -> int:
        """How far behind an interface may be: what it is to send while it is further behind, is lost."""
        return self.sending_ns(self.buffer)

    def loss_with(self, extra: float) -> float:
        """The share that vanishes where faults make the share *extra* of what is left vanish."""
        return 1 - (1 - self.loss) * (1 - extra)


def sending_ns(length: int, bandwidth_bps: int | None) -> int:
    """How long an interface of that bandwidth is busy with so many bytes."""
    return length * 8 * 1_000_000_000 // bandwidth_bps if bandwidth_bps else 0


class Packet(NamedTuple):
    """A message at a relay, and for whom it carries copies."""

    message: Message
    receivers: list[int]


class SimulatedBus:
    """Connects endpoints: replicas, then clients by name, then relays of the topology.

    Replicas 0..nodes-1 are the members of the first epoch; *spare* more may be admitted later.
    """

    def __init__(
        self,
        env: VirtualTime,
        config: Config,
        wire: Wire,
        chance: Chance,
        keyring: Keyring,
        clients: list[str],
        spare: int = 0,
    ) -> None:
        self.env, self._config, self._wire, self._chance, self._keyring = env, config, wire, chance, keyring
        self.recorder: Recorder
        self.checker: Checker
        n = self._count = config.nodes + spare
        self._members = list(range(config.nodes))  # of the first epoch
        self._index: dict[Address, int] = {i: i for i in range(n)}
        self._index.update({name: n + k for k, name in enumerate(clients)})
        self.endpoints = n + len(clients) + wire.topology.relays
        self._broadcasts: dict[int, Broadcasts] = {}
        self._said = [0] * n  # broadcasts of each replica before this bus was there
        self._alone: dict[tuple[int, int], Alone] = {}
        self._interface_free = [0] * self.endpoints
        self._timers = Timers(env, self._ring)
        self._nodes: dict[int, Any] = {}
        self.untrusted: frozenset[int] = frozenset()  # members whose NewViews say nothing about the network
        self.cut: Callable[[int, int], str | None] | None = None  # None: nobody is parted from anybody now
        self.extra_loss: Callable[[int, int], float] | None = None  # None: no fault loses messages now
        self.slowness: Callable[[int, int], float] | None = None  # None: no fault slows a link now
        self.twist: Callable[[int, int, int], list[int]] | None = (
            None  # None: no fault copies or delays messages now
        )
        self.drift: Callable[[int], float] | None = None  # None: all timers run right
        self._buffer_ns = wire.buffer_ns
        self._plain = wire.topology.direct and wire.bandwidth_bps is None and wire.loss == 0
        env.receivers = [self._nobody] * (4 * self.endpoints)
        self._work = [Line(k + self.endpoints) for k in range(n)]  # of each replica's processor

    @property
    def calm(self) -> bool:
        """Whether no fault meddles with messages now."""
        quiet = self.cut is None and self.extra_loss is None
        return quiet and self.slowness is None and self.twist is None

    # --- endpoints ---

    def attach(self, node: Any, queued: bool) -> None:
        """Connect *node* (with ``index``, ``receive``, ``queue``, ``process``, ``refuse``, ``timer``)."""
        self._nodes[node.index] = node
        self._connect(node, queued)

    def _connect(self, node: Any, queued: bool) -> None:
        table, k, e = self.env.receivers, node.index, self.endpoints
        table[k] = node.queue if queued else node.receive
        table[k + e] = node.process
        table[k + 2 * e] = node.refuse

    def attach_relay(self, index: int, busy: Callable[[int, int], int | None]) -> None:
        """Connect a relay: it forwards what reaches it.

        *busy(now, bytes)* is when it is done with a message, or None while it is down.
        """

        def forward(now: int, packet: Packet) -> None:
            length = size(packet.message)
            done = busy(now, length)
            if done is None:
                self.recorder.dropped["crash"] += len(packet.receivers)
            else:
                self._forward(done, index, packet.message, length, packet.receivers)

        self.env.receivers[index + 3 * self.endpoints] = forward

    def crash(self, node: Any) -> None:
        """*node* is down: its timers stop, and what reaches it is lost.

        What its processor had not finished signing never leaves; what its interface had taken over still does.
        """
        node.crash()
        self.env.receivers[node.index] = self._lost(node.index)
        self._timers.stop(node.index)
        for flight in self.env.recall(node.index):
            count = len(flight.message.receivers) if isinstance(flight.message, Packet) else flight.count
            self.recorder.dropped["crash"] += count
            self._withdraw_rest(flight)

    def recover(self, now: int, node: Any, queued: bool) -> None:
        """*node* is back."""
        self._connect(node, queued)
        node.recover(now)

    def _lost(self, index: int) -> Callable[[int, Any], None]:
        def lost(now: int, message: Message) -> None:
            self.recorder.dropped["crash"] += 1
            self._withdraw(message, index, now)

        return lost

    def _nobody(self, now: int, message: Any) -> None:
        raise AssertionError(f"a message at {now} ns for an endpoint that nobody attached: {message!r}")

    # --- going on where another engine stood ---

    def resume(
        self,
        timers: Timers,
        interface_free: list[int],
        said: list[int],
        alone: dict[tuple[int, int], Alone],
    ) -> None:
        """Timers that run; when each endpoint's interface is free (ns); how often each replica has broadcast; and what
        was drawn for those who spoke to one other alone."""
        timers.fire = self._ring
        self._timers = timers
        self._interface_free[: len(interface_free)] = interface_free
        self._alone.update(alone)
        self._broadcasts.clear()
        self._said = said

    def used(self) -> tuple[list[int], dict[tuple[int, int], int]]:
        """How many delays were drawn and used: of each replica's broadcasts, and of messages from one endpoint to one
        other."""
        said = list(self._said)
        for sender, draws in self._broadcasts.items():
            said[sender] = draws.used
        return said, {ends: draws.used for ends, draws in self._alone.items()}

    def endpoint(self, address: Address) -> int:
        """Its number."""
        return self._index[address]

    @property
    def interface_free(self) -> list[int]:
        """When each endpoint's interface is free (ns)."""
        return list(self._interface_free)

    # --- sending ---

    def broadcast(self, at: int, sender: int, message: Message, to: tuple[int, ...] | None = None) -> None:
        """To every replica but the sender: to those of the first epoch, or to those that *to* names."""
        name, code = _CODES[type(message)]
        length = size(message)
        plain = self._plain and self.calm and sender < self._config.nodes and to is None
        others = self._config.nodes - (sender < self._config.nodes)
        count = others if to is None else len(to) - (sender in to)
        self.recorder.messages[name] += count
        if sender < self._count:
            self.checker.sent(at, sender, message)
            if type(message) is PrePrepare or (type(message) is NewView and sender not in self.untrusted):
                self.recorder.proposed(at, message)
        if count == 0:
            return
        # Somebody else's words in a simulated adversary's mouth are traced as theirs, one by one.
        own = plain and sender_of(message) == sender and not isinstance(message, Garbage)
        if not own or not authentic(message, self._config.chain_id, self._keyring):
            receivers = [r for r in (self._members if to is None else to) if r != sender]
            self._scatter(at, sender, message, length, receivers, together=to is None)
            return
        self.recorder.bytes_sent += length * count
        draws = self._broadcasts_of(sender)
        row = draws.next()
        self.env.launch(Flight(at, message, row.places, row.sorted, sender))
        view, seq, digest = _trace_fields(message)
        self.recorder.trace.broadcast(code, sender, view, seq, digest, at, row.delays)
        if self.recorder.round_open:
            self.recorder.keep_broadcast(message, sender, at, draws.receivers, row.delays)

    def send(self, at: int, sender: int, to: Address, message: Message) -> None:
        """To one replica or client."""
        receiver = self._index.get(to)
        if receiver is None:
            self.recorder.dropped["no such address"] += 1
            return
        self.recorder.messages[_CODES[type(message)][0]] += 1
        self.checker.repeated(at, sender, message)
        self._scatter(at, sender, message, size(message), [receiver], together=False)

    def later(self, at: int, endpoint: int, work: Any) -> None:
        """The endpoint's processor will be done with *work* at *at*."""
        self.env.line_up(self._work[endpoint], at, work)

    def _scatter(
        self, at: int, sender: int, message: Message, length: int, receivers: list[int], together: bool
    ) -> None:
        """Send copies with everything that may happen to them."""
        if self.cut is not None:
            causes = [self.cut(sender, r) for r in receivers]
            self.recorder.severed(cause for cause in causes if cause is not None)
            receivers = [r for r, cause in zip(receivers, causes, strict=True) if cause is None]
        if not self._wire.topology.direct:
            self._forward(at, sender, message, length, receivers)
            return
        arrivals = self._arrivals(at, sender, receivers, length, together)
        if arrivals:
            self._deliver(at, sender, message, arrivals)

    def _arrivals(
        self, at: int, sender: int, receivers: list[int], length: int, together: bool
    ) -> list[tuple[int, int]]:
        """(delay after *at*, receiver) of the copies that arrive, nearest first."""
        wire, n = self._wire, self._config.nodes
        row = None
        if together and sender < n:
            row = self._broadcasts_of(sender).next()
        depart, copy_ns, full = at, 0, False
        if wire.bandwidth_bps is not None:
            # The interface sends copy after copy: the last receiver waits for all others.
            depart = max(at, self._interface_free[sender])
            full = depart - at > self._buffer_ns
            copy_ns = 0 if full else wire.sending_ns(length)
            self._interface_free[sender] = depart + copy_ns * len(receivers)
        self.recorder.bytes_sent += 0 if full else length * len(receivers)
        arrivals = []
        for receiver in receivers:
            depart += copy_ns
            if row is not None:
                lane = receiver - (receiver > sender)
                delay, draw = (
                    int(row.delays[lane]),
                    float(row.losses[lane]) if row.losses is not None else 1.0,
                )
            else:
                delay, draw = self.pair(sender, receiver).next()
            if full:
                self.recorder.dropped["interface full"] += 1
                continue
            if self.slowness is not None:
                delay = self._slowed(sender, receiver, delay)
            loss = wire.loss
            if self.extra_loss is not None:
                loss = wire.loss_with(self.extra_loss(sender, receiver))
            if draw < loss:
                self.recorder.dropped["loss"] += 1
                self.recorder.injected["loss"] += 1
            elif self.twist is None:
                arrivals.append((depart - at + delay, receiver))
            else:
                arrivals += [(depart - at + copy, receiver) for copy in self.twist(sender, receiver, delay)]
        arrivals.sort()
        return arrivals

    def _slowed(self, sender: int, receiver: int, delay: int) -> int:
        assert self.slowness is not None
        factor = self.slowness(sender, receiver)
        if factor != 1:
            self.recorder.injected["slow"] += 1
        return int(delay * factor)

    def _deliver(self, at: int, sender: int, message: Any, arrivals: list[tuple[int, int]]) -> None:
        if isinstance(message, Garbage):
            message = self._unpacked(message)
        holds = not isinstance(message, Garbage) and authentic(message, self._config.chain_id, self._keyring)
        offset = 0 if holds else 2 * self.endpoints
        places = [receiver + offset for _, receiver in arrivals]
        self.env.launch(Flight(at, message, places, [delay for delay, _ in arrivals], sender))
        code = _CODES[type(message)][1]
        origin = self._origin(message)
        view, seq, digest = _trace_fields(message)
        for delay, receiver in arrivals:
            self.recorder.trace.event(code, origin, view, seq, digest, receiver, at + delay)
            if self.recorder.round_open:
                self.recorder.keep(message, sender, receiver, at, at + delay)

    def _unpacked(self, garbage: Garbage) -> Any:
        """What receivers make of bytes: a message if they are one, else nothing that they would look at."""
        try:
            return decoded(garbage.data)
        except CodecError:
            return garbage

    def _forward(self, at: int, place: int, message: Message, length: int, receivers: list[int]) -> None:
        """One hop of a routed network: one copy to each neighbour on the way, which relays it to the rest."""
        by_hop: dict[int, list[int]] = {}
        for receiver in receivers:
            by_hop.setdefault(self._wire.topology.next_hop(place, receiver), []).append(receiver)
        for delay, hop in self._arrivals_by_hop(at, place, sorted(by_hop), length):
            if hop in by_hop[hop]:
                self._deliver(at, place, message, [(delay, hop)])
            beyond = [r for r in by_hop[hop] if r != hop]
            if beyond:
                packet = Packet(message, beyond)
                self.env.launch(Flight(at, packet, [hop + 3 * self.endpoints], [delay], place))

    def _arrivals_by_hop(self, at: int, place: int, hops: list[int], length: int) -> list[tuple[int, int]]:
        arrivals: list[tuple[int, int]] = []
        for hop in hops:  # one at a time: each neighbour is a link of its own, with its own draws
            arrivals += self._arrivals(at, place, [hop], length, together=False)
        return arrivals

    def _broadcasts_of(self, sender: int) -> Broadcasts:
        draws = self._broadcasts.get(sender)
        if draws is None:
            receivers = [r for r in self._members if r != sender]
            wire, said = self._wire, self._said[sender]
            draws = Broadcasts(self._chance, wire.links, sender, receivers, wire.lossy, said)
            self._broadcasts[sender] = draws
        return draws

    def pair(self, sender: int, receiver: int) -> Alone:
        """What is drawn for messages from one endpoint to one other."""
        pair = self._alone.get((sender, receiver))
        if pair is None:
            wire = self._wire
            pair = Alone(self._chance, wire.links, sender, receiver, wire.lossy)
            self._alone[sender, receiver] = pair
        return pair

    # --- timers ---

    def set_timer(self, now: int, endpoint: int, name: str, delay_ns: int) -> None:
        """Run *endpoint*'s timer *name* out in *delay_ns*, as its clock has them."""
        if self.drift is not None and (factor := self.drift(endpoint)) != 1:
            self.recorder.injected["drift"] += 1
            delay_ns = max(1, int(delay_ns * factor))
        self._timers.set(now, endpoint, name, delay_ns)

    def cancel_timer(self, endpoint: int, name: str) -> None:
        """Stop a timer, if it runs."""
        self._timers.cancel(endpoint, name)

    def _ring(self, due: int, endpoint: int, name: str) -> None:
        self._nodes[endpoint].timer(due, name)

    # --- the end ---

    def withdraw_in_flight(self) -> None:
        """The run is over: what has not arrived is no event of it."""
        for flight in self.env.in_flight():
            self._withdraw_rest(flight)

    def _withdraw_rest(self, flight: Flight) -> None:
        for i in range(flight.next, flight.count):
            place = flight.places[i]
            if place // self.endpoints in (0, 2):
                self._withdraw(flight.message, place % self.endpoints, flight.start + flight.delays[i])

    def _withdraw(self, message: Message, receiver: int, time: int) -> None:
        view, seq, digest = _trace_fields(message)
        code = _CODES[type(message)][1]
        self.recorder.trace.withdraw(code, self._origin(message), view, seq, digest, receiver, time)

    def _origin(self, message: Message) -> int:
        """Whose message it is, as it enters the trace digest; strangers share one number."""
        return self._index.get(sender_of(message), self.endpoints)


def _trace_fields(message: Message) -> tuple[int, int, int]:
    """View, sequence and digest, as they enter the trace digest."""
    if isinstance(message, Request):
        return 0, message.sequence, len(message.operation)
    digest: bytes = getattr(message, "digest", b"") or getattr(message, "result_digest", b"")
    view, seq = getattr(message, "view", 0), getattr(message, "seq", 0)
    return view & _UINT64, seq & _UINT64, short(digest)
