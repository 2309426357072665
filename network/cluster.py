"""A whole network in virtual time: replicas, clients, links, faults, and the records they leave.

cluster = Cluster(Settings(...))
cluster.client("bank").submit(0, b"operation", "", on_answer)
cluster.run(until_ns)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from msgspec.structs import replace
from tradebft.chain.crypto import Announced, Keyring, Signer, Wallet, later_key, make_identities
from tradebft.consensus.byzantine import Coalition
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Config, Replica
from tradebft.consensus.invariants import NAMES, Checker
from tradebft.consensus.membership import sizes
from tradebft.consensus.pbft import Replica as Pbft
from tradebft.network.application import Application, HashChain
from tradebft.network.chance import Chance
from tradebft.network.chronicle import Chronicle
from tradebft.network.costs import CpuCosts
from tradebft.network.faults import Fault, Transition, Weather, play
from tradebft.network.inbox import inbox_of
from tradebft.network.misbehaviour import Misbehaviour, dishonest, misbehaving
from tradebft.network.node import ClientNode, Processor, ReplicaNode, Shared
from tradebft.network.recorder import Recorder
from tradebft.network.simulated import SimulatedBus, Wire
from tradebft.network.turns import Machine, MachineCosts, TurnClient, TurnNode
from tradebft.network.twists import Twists
from tradebft.network.virtual_time import VirtualTime

LOSS_TIMELY: Final = 0.1  # a network that loses more cannot be called timely, and liveness is not judged
MakeReplica = Callable[[int, Config, Signer, Keyring], Replica]


@dataclass(frozen=True)
class Settings:
    """Everything a simulated network depends on. Times in ns."""

    config: Config
    wire: Wire
    seed: int
    clients: list[str]
    client_timeout_ns: int
    crypto: Literal["modelled", "real"] = "modelled"
    protocol: MakeReplica = Pbft
    application: Callable[[], Application] = HashChain
    costs: CpuCosts | None = None
    machine: MachineCosts | None = None  # everybody shares one machine, in turns; *costs* are not used then
    faults: list[Fault] = field(default_factory=list)
    byzantine: list[Misbehaviour] = field(default_factory=list)
    dishonest_clients: dict[str, str] = field(default_factory=dict)  # client -> its behaviour
    spare: int = 0  # replicas beyond config.nodes, that may be admitted later
    later_keys: int = 0  # keys that each replica may come to use after its first
    apart: bool = False  # each replica executes for itself, instead of one execution for all that agree

    @property
    def patience_ns(self) -> int:
        """So long that a live network had answered: several doublings of every timeout."""
        return 30 * self.config.view_change_timeout_ns + 4 * self.client_timeout_ns


class Timeline:
    """A network that lives in virtual time."""

    env: Any  # a SimPy environment with `time`
    handed_over = ""  # since when and why the reference goes on with what another engine began

    def run(self, until_ns: int) -> None:
        """Move virtual time on to *until_ns*."""
        if until_ns > self.env.time:
            self.env.run(until=until_ns)

    def settle(self, grace_ns: int) -> None:
        """Load has ended: let what is on its way arrive, for at most *grace_ns*."""
        self.run(self.env.time + grace_ns)


class Cluster(Timeline):
    """Builds the network at time 0; `run` moves it on."""

    env: VirtualTime
    invariants = NAMES  # that are checked

    def __init__(self, settings: Settings, env: VirtualTime | None = None) -> None:
        config = replace(settings.config, rekeying=settings.later_keys > 0)
        n = config.nodes + settings.spare
        if settings.spare and not settings.wire.topology.direct:
            raise ValueError(
                "replicas to be admitted later need a network in which everybody reaches everybody"
            )
        self.settings, self.config = settings, config
        self.env = env or VirtualTime()
        self.recorder = self._make_recorder()
        self.signers, self.keyring = make_identities(
            [*range(n), *settings.clients], settings.crypto, settings.seed
        )
        self._announced: Keyring = self.keyring
        self.keys: dict[int, tuple[bytes, ...]] = {}  # of each replica: its first key, and later ones
        self._make_later_keys(n)
        self.byzantine = frozenset(one.node for one in settings.byzantine)
        if not self.byzantine <= set(range(n)):
            raise ValueError(f"byzantine: no such node {max(self.byzantine)}; expected 0 to {n - 1}")
        if unknown := set(settings.dishonest_clients) - set(settings.clients):
            raise ValueError(f"dishonest clients: there is no client {min(unknown)!r}")
        bad = {i: self.signers[i] for i in self.byzantine}
        good = {i: self.signers[i] for i in range(n) if i not in bad}
        self._coalition = Coalition(config, bad, self.keyring, abroad=good)
        self.checker = Checker(config, self.keyring, [i for i in range(n) if i not in self.byzantine])
        self.bus = SimulatedBus(
            self.env,
            config,
            settings.wire,
            Chance(settings.seed),
            self._announced,
            settings.clients,
            settings.spare,
        )
        self.bus.recorder, self.bus.checker = self.recorder, self.checker
        self.bus.untrusted = self.byzantine
        self._shared = Shared(
            self.bus, self.recorder, self.checker, self._make_chronicle(), settings.costs, inbox_of(config)
        )
        self._queued = settings.costs is not None or settings.machine is not None
        self._machine = self._shared_machine()
        self._live = (1 << n) - 1
        self.nodes = [self._node(i) for i in range(n)]
        self.clients = {name: self._client(n + k, name) for k, name in enumerate(settings.clients)}
        for node in self.nodes:
            self.bus.attach(node, self._queued)
        for client in self.clients.values():
            self.bus.attach(client, queued=settings.machine is not None)
        if not settings.wire.topology.direct:
            # Members forward for one another, and so do nodes that do nothing else.
            for index in [*range(n), *range(n + len(settings.clients), self.bus.endpoints)]:
                self._attach_relay(index)
        self.weather = Weather(settings.faults, n, n + len(settings.clients))
        self._twists = Twists(Chance(settings.seed), self.recorder.injected)
        self._changed_ns = 0
        self._begin()

    def _make_recorder(self) -> Recorder:
        return Recorder(self.config)

    def _make_chronicle(self) -> Chronicle:
        return Chronicle(self.settings.application, self.settings.apart)

    def _begin(self) -> None:
        self.env.process(play(self.env, self.settings.faults, self.happens))
        for node in self.nodes:
            node.start(0)

    def finish(self) -> None:
        """The run is over: judge liveness, take what never arrived out of the trace."""
        honest = [c for name, c in self.clients.items() if name not in self.settings.dishonest_clients]
        stuck = [c for c in honest if self._overdue(c.client.waiting_since())]
        if stuck and self._overdue(self._calm_since) and self._overdue(self.recorder.last_commit_ns):
            self.checker.stuck(self.env.time, sum(c.client.unanswered for c in stuck))
        self.bus.withdraw_in_flight()

    def _overdue(self, since_ns: int | None) -> bool:
        """Whether that is longer ago than patience lasts."""
        return since_ns is not None and self.env.time - since_ns > self.settings.patience_ns

    @property
    def _calm_since(self) -> int | None:
        """Since when network and timers are timely and at most f replicas are down; None while they are not."""
        members = self.recorder.members
        wrong = sum(1 << index for index in self.byzantine)
        down = (members & ~(self._live & ~wrong)).bit_count()
        timely = self.weather.timely and self.settings.wire.loss < LOSS_TIMELY
        calm = down <= sizes(members.bit_count())[0] and timely
        return self._changed_ns if calm else None

    def _live_bits(self) -> int:
        return self._live & self.recorder.members

    def _make_later_keys(self, replicas: int) -> None:
        """Every replica's wallet; whoever checks a message on its way knows all keys that may come into use."""
        settings = self.settings
        if not settings.later_keys:
            return
        announced = self._announced = Announced(self.keyring)
        for index in range(replicas):
            first = self.signers[index]
            later = [
                later_key(self.keyring, index, settings.seed, g) for g in range(1, settings.later_keys + 1)
            ]
            for signer in later:
                announced.announce(index, signer.public_key)
            self.signers[index] = Wallet([first, *later])
            self.keys[index] = tuple(signer.public_key for signer in (first, *later))

    def _maker(self, index: int) -> Callable[[], Replica]:
        settings = self.settings

        def make() -> Replica:
            replica = settings.protocol(index, self.config, self.signers[index], self.keyring)
            return misbehaving(replica, settings.byzantine, self._coalition)

        return make

    def _shared_machine(self) -> Machine | None:
        settings = self.settings
        if settings.machine is None:
            return None
        if settings.faults or settings.byzantine or settings.dishonest_clients or settings.spare:
            raise ValueError("a shared machine plays no faults, no adversaries and no change of members")
        return Machine(settings.machine, Chance(settings.seed), self._after)

    def _after(self, at: int, what: Callable[[int], None]) -> None:
        """Have *what* done at *at*, which it is told."""
        event = self.env.timeout(at - self.env.time)
        event.callbacks.append(lambda _: what(at))

    def _node(self, index: int) -> ReplicaNode:
        parts = index, self._maker(index), self._shared, self._live_bits
        return ReplicaNode(*parts) if self._machine is None else TurnNode(*parts, self._machine)

    def _client(self, index: int, name: str) -> ClientNode:
        client = Client(name, self.config, self.signers[name], self.keyring, self.settings.client_timeout_ns)
        if self._machine is not None:
            return TurnClient(index, client, self._shared, self._machine)
        behaviour = self.settings.dishonest_clients.get(name)
        return ClientNode(index, dishonest(client, behaviour) if behaviour else client, self._shared)

    def _attach_relay(self, index: int) -> None:
        costs = self.settings.costs
        own = (
            Processor(costs) if costs is not None else None
        )  # forwarding is a relay's own work, beside any replica's

        def busy(now: int, length: int) -> int | None:
            if index < len(self.nodes) and not self.nodes[index].up:
                return None
            return now if own is None else own.take(now, own.costs.relay(length))

        self.bus.attach_relay(index, busy)

    def happens(self, transition: Transition) -> None:
        """A fault begins or ends."""
        change = self.weather.apply(transition)
        self._changed_ns = self.env.time
        self._obey_weather()
        for index in change.crashed:
            if not self.nodes[index].up:
                continue
            if self.weather.torn(transition):
                self.nodes[index].tear(partial(self._fail, index, "torn write"))
            else:
                self._fail(index, "crash")
        for index in change.recovered:
            self._restore(index)

    def _fail(self, index: int, kind: str) -> None:
        """A member goes down."""
        self.recorder.injected[kind] += 1
        self._changed_ns = self.env.time
        self._live &= ~(1 << index)
        self.bus.crash(self.nodes[index])

    def _restore(self, index: int) -> None:
        """A member comes back, unless it never went down: it was to fail while writing, and wrote nothing."""
        node = self.nodes[index]
        node.tear(None)
        if not node.up:
            self.recorder.injected["restart"] += 1
            self._live |= 1 << index
            self.bus.recover(self.env.time, node, self._queued)

    def _obey_weather(self) -> None:
        weather = self.weather
        self.bus.cut = weather.cut if weather.partitioned else None
        self.bus.extra_loss = weather.loss if weather.losing else None
        self.bus.slowness = weather.link_factor if weather.slowed else None
        self.bus.drift = weather.drift if weather.drifting else None
        self._twists.now = weather.twists
        self.bus.twist = self._twists.copies if self._twists.now else None
        for node in self.nodes:
            if node.cpu is not None:
                node.cpu.factor = weather.factor(node.index)
