"""A scenario for real: members with Ed25519 keys and disks over a real bus, in real time, and the same records.

What can run so, and what cannot, is in `buses`.
"""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from tradebft.chain.crypto import Signer, make_identities
from tradebft.chain.genesis import Genesis
from tradebft.consensus.interface import Config
from tradebft.network.live.assembly import Gathering, InProcess, client_of
from tradebft.network.live.broker import BrokerError
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.client import LiveClient
from tradebft.network.live.clock import Clock
from tradebft.network.live.envelope import address_of
from tradebft.network.live.founding import Founding, Signatories
from tradebft.network.live.local import LocalHub
from tradebft.network.live.observed import Seen
from tradebft.network.live.process import MemberError, Processes
from tradebft.scenarios import records as tables
from tradebft.scenarios import simulation
from tradebft.scenarios.buses import Broker, There, instant, with_ledger
from tradebft.scenarios.collect import Progress, settling_time
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.live_load import LiveLoad, request_rows
from tradebft.scenarios.live_records import collect_live, compare_roots, forget_consensus
from tradebft.scenarios.live_replay import REPLAYER, Replay
from tradebft.scenarios.records import Records
from tradebft.scenarios.schema import Scenario, Synthetic, TradeFinance
from tradebft.scenarios.synthetic import client_names
from tradebft.scenarios.trade.office import Office
from tradebft.scenarios.trade.run import Recording, run_trade_finance
from tradebft.scenarios.trade.workload import generate

LEVEL_SECONDS: Final = 10.0  # at most, for the last batch to reach the last member
_LOOK_SECONDS: Final = 0.1


class Cast(NamedTuple):
    """Who takes part: what they agree on, and everybody's keys. *number*: see `LiveClient`."""

    founding: Founding
    signers: dict[Any, Signer]
    clients: list[str]
    clock: Clock
    number: Callable[[], int] | None = None


class Outcome(NamedTuple):
    """What is left of a network when it has gone."""

    seen: list[Seen]
    clients: list[LiveClient]
    complete: bool


def run_live(
    scenario: Scenario,
    records: Records,
    bus: str,
    broker: Broker | None,
    progress: Progress,
    there: There | None = None,
) -> None:
    """Run a scenario that passed `buses.check` over a real *bus*, or on the network that is *there*; fill *records*."""
    gather = locally(scenario) if bus == "local" else over_mqtt(broker)
    if there is not None:
        demand = with_ledger(scenario)
        run_trade_live(scenario, demand, records, lambda cast, folder: Elsewhere(there), progress, there)
    elif isinstance(scenario.workload, Synthetic):
        run_synthetic_live(scenario, scenario.workload, records, gather, progress)
    elif isinstance(scenario.workload, TradeFinance):
        run_trade_live(scenario, scenario.workload, records, gather, progress)


def run_synthetic_live(
    scenario: Scenario, workload: Synthetic, records: Records, gather: Gather, progress: Progress
) -> None:
    """Run synthetic load over the network that *gather* makes, and fill *records*."""
    cast = cast_of(scenario, client_names(workload))
    loads: list[LiveLoad] = []

    async def play(clients: Sequence[LiveClient], gathering: Gathering) -> None:
        load = LiveLoad(scenario, workload, clients, cast.clock)
        loads.append(load)
        await watched(load.run(), gathering, lambda: progress("running", load.answered, load.total), scenario)

    outcome = perform(scenario, cast, gather, play)
    records.complete = outcome.complete
    began = loads[0].began_ns if loads else cast.clock.now()
    collect_live(records, outcome.seen, outcome.clients, began)
    done = loads[0].records if loads else []
    records.requests = tables.table(tables.REQUEST_COLUMNS, request_rows(done))
    answered = [r.replied_ns for r in done if r.replied_ns >= 0]
    records.virtual_ns = max(answered, default=0) if len(answered) == len(done) else cast.clock.now() - began


def run_trade_live(
    scenario: Scenario,
    demand: TradeFinance,
    records: Records,
    gather: Gather,
    progress: Progress,
    there: There | None = None,
) -> None:
    """Simulate the scenario, have real members execute the chain arm's blocks, and compare the ledgers that they come
    to. What *records* say of applications and frauds is the simulation's; of consensus, the real network's."""
    recording = Recording()
    run_trade_finance(scenario, demand, records, progress, recording)
    if recording.genesis is None or not records.complete:
        return
    signed = Signatories(scenario.nodes.crypto, scenario.seed, recording.signatories)
    if there is None:
        cast = cast_of(scenario, [REPLAYER], recording.genesis, signed)
    else:
        cast = _cast_there(scenario, there, recording.genesis, signed)
    replays: list[Replay] = []

    async def play(clients: Sequence[LiveClient], gathering: Gathering) -> None:
        replay = Replay(clients[0], recording.blocks, cast.clock)
        replays.append(replay)
        await watched(replay.run(), gathering, lambda: progress("replaying", replay.done, replay.total), None)

    outcome = perform(scenario, cast, gather, play)
    records.complete = outcome.complete
    forget_consensus(records)
    began = replays[0].began_ns if replays else cast.clock.now()
    collect_live(records, outcome.seen, outcome.clients, began)
    rows = replays[0].rows if replays else []
    records.requests = tables.table(tables.REQUEST_COLUMNS, rows)
    records.virtual_ns = max((row[4] for row in rows), default=0)
    if outcome.complete:
        roots = [one.root for one in outcome.seen] if there is None else [replays[0].root]
        compare_roots(records, roots, len(recording.blocks))


# --- putting it together ---


def cast_of(
    scenario: Scenario,
    clients: list[str],
    ledger: Genesis | None = None,
    recorded: Signatories | None = None,
) -> Cast:
    """Keys for everybody, made from the scenario's seed: they serve for one run on one machine."""
    config = simulation.config(scenario)
    signers, keyring = make_identities([*range(config.nodes), *clients], "real", scenario.seed)
    founding = Founding(
        config,
        tuple((keyring.public_key(i),) for i in range(config.nodes)),
        tuple((name, keyring.public_key(name)) for name in clients),
        ledger,
        recorded=recorded,
    )
    return Cast(founding, signers, clients, Clock(time.time_ns()))


def recorded_founding(scenario: Scenario) -> tuple[Config, Genesis, Signatories]:
    """What a network must be founded with to take *scenario*'s blocks. ScenarioError where it has no ledger."""
    office = Office(generate(scenario, with_ledger(scenario)))
    signed = Signatories(scenario.nodes.crypto, scenario.seed, tuple(office.signers))
    return simulation.config(scenario), office.genesis(), signed


def _cast_there(scenario: Scenario, there: There, ledger: Genesis, signed: Signatories) -> Cast:
    founding = there.founding
    if (founding.ledger, founding.recorded) != (ledger, signed):
        raise ScenarioError(
            f"{scenario.name}: the network was founded for another scenario, seed or version of one"
        )
    return Cast(founding, {REPLAYER: there.signer}, [REPLAYER], Clock(), there.number)


class Elsewhere:
    """A network that others run: it is there, and what its members do is for them to tell."""

    def __init__(self, there: There) -> None:
        self._there = there
        self.failed = ""

    async def start(self) -> None:
        """It runs already."""

    def bus(self) -> LiveBus:
        """A connection for the client."""
        return self._there.bus()

    async def level(self, seconds: float) -> None:
        """Nobody here can tell."""

    async def stop(self) -> list[Seen]:
        """It goes on."""
        return []


Gather = Callable[[Cast, Path], Gathering]
Play = Callable[[Sequence[LiveClient], Gathering], Awaitable[None]]


def locally(scenario: Scenario) -> Gather:
    """All members in this process; links and loss are those of *scenario*, in real time."""

    def gather(cast: Cast, folder: Path) -> Gathering:
        hub = LocalHub(loss=scenario.network.loss, seed=scenario.seed % 2**32)
        if not instant(scenario):
            hub.between = _delays(scenario, cast.clients)
        return InProcess(cast.founding, cast.signers, folder, hub, cast.clock)

    return gather


def over_mqtt(broker: Broker | None) -> Gather:
    """Each member in a process of its own, over *broker* or one that comes along."""

    def gather(cast: Cast, folder: Path) -> Gathering:
        urls, ca = ([], None) if broker is None else ([broker.url], broker.ca)
        return Processes(cast.founding, cast.signers, folder, cast.clock, urls, ca)

    return gather


def perform(scenario: Scenario, cast: Cast, gather: Gather, play: Play) -> Outcome:
    """Bring the network up, let *play* use it, and take it down again, also after Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="tradebft-") as folder:
        return asyncio.run(_perform(scenario, cast, gather(cast, Path(folder)), play))


async def _perform(scenario: Scenario, cast: Cast, gathering: Gathering, play: Play) -> Outcome:
    clients: list[LiveClient] = []
    complete = False
    try:
        await gathering.start()
        timeout = scenario.consensus.client_timeout_ns
        for name in cast.clients:
            clients.append(
                client_of(cast.founding, name, cast.signers[name], gathering.bus(), cast.clock, timeout)
            )
            clients[-1].number = cast.number
            await clients[-1].start()
        await play(clients, gathering)
        await gathering.level(min(LEVEL_SECONDS, settling_time(scenario) / 1e9))
        complete = True
    except (asyncio.CancelledError, KeyboardInterrupt):
        pass  # Ctrl-C: what there is, is shown
    except (BrokerError, MemberError) as error:
        raise ScenarioError(f"{scenario.name}: {error}") from None
    finally:
        for client in clients:
            await client.stop()
        seen = await gathering.stop()
    return Outcome(seen, clients, complete)


async def watched(
    work: Any, gathering: Gathering, look: Callable[[], None], scenario: Scenario | None
) -> None:
    """Await *work*, for as long as *scenario* lasts if there is one, and *look* on the way. ScenarioError where a
    member ends."""
    task = asyncio.ensure_future(work)
    deadline = time.monotonic() + (scenario.duration_ns / 1e9 if scenario is not None else math.inf)
    try:
        while not task.done() and time.monotonic() < deadline:
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
            look()
            if why := gathering.failed:
                raise ScenarioError(f"a member ended: {' '.join(why.split())}")
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _delays(scenario: Scenario, clients: list[str]) -> Callable[[str, str], float]:
    """Seconds from one endpoint to another, drawn from the scenario's link models."""
    model = simulation.wire(scenario, clients).links
    chance = random.Random(scenario.seed)
    first = len(scenario.node_names)
    places = {name: first + k for k, name in enumerate(clients)}

    def index(name: str) -> int:
        address = address_of(name)
        return address if isinstance(address, int) else places[address]

    def between(sender: str, receiver: str) -> float:
        to = np.array([index(receiver)], dtype=np.int64)
        return float(model.delays(index(sender), to, np.array([chance.random()]))[0]) / 1e9

    return between
