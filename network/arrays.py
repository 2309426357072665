"""Networks whose replicas are arrays and not objects: what the engines beside the reference have in common.

Clients, clock and records are the reference's own. An engine says how far it can go on its own (`advance`), and what
becomes of a request (`_take`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from tradebft.chain.crypto import make_identities
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Address
from tradebft.consensus.invariants import Violation
from tradebft.consensus.messages import Message, Request, size
from tradebft.network.bookkeeping import Book
from tradebft.network.bus import Bus
from tradebft.network.chance import Chance
from tradebft.network.cluster import Cluster, Settings, Timeline
from tradebft.network.delays import Alone
from tradebft.network.engines import Uncovered
from tradebft.network.node import ClientNode, Shared
from tradebft.network.recorder import Recorder
from tradebft.network.timers import Timers
from tradebft.network.trace import CODES
from tradebft.network.virtual_time import VirtualTime

FOREVER: Final = 1 << 62


class _Numbers:
    """SimPy's numbering of events, which alarms of an engine share."""

    def __init__(self) -> None:
        self.next = 0

    def __next__(self) -> int:
        self.next += 1
        return self.next - 1


class Clock(VirtualTime):
    """SimPy's clock, and beside its queue an engine, which has all messages until it hands them over."""

    def __init__(self, cluster: ArrayCluster) -> None:
        super().__init__()
        self.numbers = _Numbers()
        self._eid: Any = self.numbers
        self._cluster = cluster

    @property
    def delivered(self) -> int:
        """Messages so far."""
        return self._delivered if self._cluster.elsewhere else self._cluster.delivered

    def reached(self, now: int) -> None:
        """The engine stands at *now*, and somebody is told of it."""
        self._now = now

    def step(self) -> None:
        """Let the engine run up to SimPy's next event or to an answer; then process that event."""
        if self._cluster.elsewhere:
            super().step()
            self._cluster.look(self._delivered)
            return
        until, number = FOREVER, 0
        if self._queue:
            time, priority, number, _ = self._queue[0]
            until = int(time)
            if not priority:
                number = -1  # an urgent event: no alarm at its instant comes first
        if not self._cluster.advance(until, number):
            super().step()


class CountedClient(ClientNode):
    """A client whose replies the engine counts, unless it has handed over."""

    def speak_by(self, bus: Bus) -> None:
        """Requests leave by *bus* from now on."""
        self._bus = bus

    def answered(self, now: int, sequence: int, result: bytes, seq: int, view: int = 0) -> None:
        """f+1 replies agree, all of that *view*."""
        self.perform(now, self.client.believe(now, sequence, result, seq, view))


class ArrayCluster(Timeline, ABC):
    """Builds the network at time 0; `run` moves it on. `Uncovered` where the run leaves what is covered."""

    invariants = ("exactly-once", "liveness")  # that are checked
    elsewhere = False  # whether the reference goes on with the run now
    primary = 0

    def __init__(self, settings: Settings) -> None:
        config, wire = settings.config, settings.wire
        n = config.nodes
        self.settings, self.config, self.nodes = settings, config, list(range(n))
        self.env = Clock(self)
        self.recorder = Recorder(config)
        self.violations: list[Violation] = []
        signers, keyring = make_identities([*range(n), *settings.clients], settings.crypto, settings.seed)
        self._book = Book(config, signers[0], keyring, settings.application, self._may_hand_over)
        self._chance = Chance(settings.seed)
        self._timers = Timers(self.env, self._ring)
        shared = Shared(self, self.recorder, None, None, None)  # type: ignore[arg-type]
        self.clients = {
            name: CountedClient(
                n + k, Client(name, config, signers[name], keyring, settings.client_timeout_ns), shared
            )
            for k, name in enumerate(settings.clients)
        }
        self._by_endpoint = list(self.clients.values())
        self._to_primary = [
            Alone(self._chance, wire.links, n + k, 0, wire.lossy) for k in range(len(self.clients))
        ]
        self._links_free = [0] * len(self.clients)  # of each client's interface
        self._buffer_ns = wire.buffer_ns

    # --- what an engine does ---

    @property
    def _may_hand_over(self) -> bool:
        """Whether the reference can go on where this engine stops."""
        return False

    def hand_over(self, why: str) -> Cluster:
        """Have the reference go on with the run, or raise `Uncovered`."""
        raise Uncovered(why)

    def look(self, delivered: int) -> None:
        """The reference has it, and so many messages were delivered: whether this engine can go on."""

    @property
    @abstractmethod
    def delivered(self) -> int:
        """Messages so far."""

    @abstractmethod
    def advance(self, until: int, number: int) -> bool:
        """Run up to SimPy's event at *until* with that *number*. True: something else came before."""

    @abstractmethod
    def _sent(self, length: int) -> None:
        """A client sent a request, of which so many bytes left its interface."""

    def _met(self, delay: int, draw: float) -> int:
        """How long a request takes to the primary, that would take *delay*; -1: it is lost, by that uniform *draw*."""
        return delay

    @abstractmethod
    def _take(self, message: Request, sender: int, at: int, length: int, arrival: int) -> None:
        """The request of so many bytes that left *sender* at *at* will be at the primary at *arrival*."""

    @abstractmethod
    def finish(self) -> None:
        """The run is over: take what never arrived out of the trace, and hand over the records."""

    # --- what scenarios ask for ---

    @property
    def checker(self) -> ArrayCluster:
        """Whoever has `violations`."""
        return self

    # --- the bus, as clients see it ---

    def send(self, at: int, sender: int, to: Address, message: Message) -> None:
        """A request to the primary."""
        assert isinstance(message, Request)
        if to != self.primary:
            self.hand_over("a client that knows an earlier primary").bus.send(at, sender, to, message)
            return
        client, length = sender - self.config.nodes, size(message)
        delay, draw = self._to_primary[client].next()
        depart = self._departs(client, at, length)
        delay = self._met(delay, draw) if depart >= 0 else -1
        arrival = depart + delay
        self._sent(length if depart >= 0 else 0)
        if delay < 0:
            return
        self.recorder.trace.event(
            CODES[Request], sender, 0, message.sequence, len(message.operation), self.primary, arrival
        )
        self._take(message, sender, at, length, arrival)

    def _departs(self, client: int, at: int, length: int) -> int:
        """When a request has left its client's interface; -1: it never does, too much waits there."""
        wire = self.settings.wire
        if wire.bandwidth_bps is None:
            return at
        depart = max(at, self._links_free[client])
        if depart - at > self._buffer_ns:
            self.recorder.dropped["interface full"] += 1
            return -1
        self._links_free[client] = depart + wire.sending_ns(length)
        return self._links_free[client]

    def broadcast(self, at: int, sender: int, message: Message, to: Any = None) -> None:
        """A client asks everybody."""
        self.hand_over("a client that asks everybody").bus.broadcast(at, sender, message, to)

    def set_timer(self, now: int, endpoint: int, name: str, delay_ns: int) -> None:
        """See `Timers.set`."""
        self._timers.set(now, endpoint, name, delay_ns)

    def _ring(self, due: int, endpoint: int, name: str) -> None:
        self._by_endpoint[endpoint - self.config.nodes].timer(due, name)

    # --- the end ---

    @property
    def _calm_since(self) -> int | None:
        """Since when all should go well; None: not now."""
        return 0

    def _exactly_once(self) -> None:
        if self._book.repeated:
            what = f"{self._book.repeated} requests were executed a second time"
            self.violations.append(Violation("exactly-once", self.env.time, -1, what))

    def _judge(self, last_commit_ns: int) -> None:
        now = self.env.time
        self._exactly_once()
        patience = self.settings.patience_ns
        waiting = [c.client.waiting_since() for c in self._by_endpoint]
        stuck = [since for since in waiting if since is not None and now - since > patience]
        calm = self._calm_since
        if stuck and calm is not None and now - max(calm, last_commit_ns) > patience:
            what = f"requests of {len(stuck)} clients wait and nothing is committed"
            self.violations.append(Violation("liveness", now, -1, what))
