"""scenario -> Records: the one place where a run is put together, from its first event to its last record."""

from __future__ import annotations

import time

from tradebft.network.cluster import Cluster
from tradebft.network.engines import Uncovered, first_that_covers
from tradebft.network.turns import MachineCosts, TurnNode
from tradebft.network.virtual_time import rare_collections
from tradebft.scenarios import buses, simulation
from tradebft.scenarios.collect import Progress, collect, drive, settling_time
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.membership import govern
from tradebft.scenarios.records import Records
from tradebft.scenarios.schema import CustomWorkload, Scenario, Synthetic, TradeFinance
from tradebft.scenarios.synthetic import SyntheticLoad, client_names
from tradebft.scenarios.trade.run import run_trade_finance


def execute(
    scenario: Scenario,
    progress: Progress,
    bus: str = "simulated",
    broker: buses.Broker | None = None,
    there: buses.There | None = None,
    engine: str = "reference",
) -> Records:
    """Run *scenario* over *bus* (see `buses.BUSES`), in simulation by *engine* (`network.engines.ENGINES`), and return
    what it left behind.

    *broker*: for bus mqtt; without one, the run brings its own. *there*: a network that runs already.
    Ctrl-C during a run gives the records up to then, with ``complete`` False.

    Raises:
        ScenarioError: the scenario names something that cannot be built; one line.
    """
    begun = time.perf_counter()
    buses.check(scenario, bus, broker, there)
    records = empty_records(scenario, bus)
    with rare_collections():
        if bus != "simulated":
            from tradebft.scenarios import live

            live.run_live(scenario, records, bus, broker, progress, there)
        else:
            _simulate(scenario, records, engine, progress)
    records.wall_seconds = time.perf_counter() - begun
    return records


def _simulate(scenario: Scenario, records: Records, engine: str, progress: Progress) -> None:
    workload = scenario.workload
    if engine != "reference":
        progress("loading the engine (half a minute the first time)", 0, 1)
    try:
        if isinstance(workload, TradeFinance):
            run_trade_finance(scenario, workload, records, progress, engine=engine)
            return
        ran, _, why_not = first_that_covers(
            engine,
            len(scenario.node_names),
            lambda one: (
                _synthetic(scenario, workload, records, progress, engine=one)
                if isinstance(workload, Synthetic)
                else _custom(scenario, workload, records, progress, one)
            ),
        )
        records.ran_by(ran, why_not)
    except Uncovered as why:
        raise ScenarioError(
            f"{scenario.name}: engine {engine} does not cover {why}; expected engine auto or reference"
        ) from None


def on_one_machine(
    scenario: Scenario, workload: Synthetic, machine: MachineCosts, progress: Progress
) -> tuple[Records, list[float]]:
    """What *scenario* would do if all of it ran on *machine*: its records, and processor seconds of each node."""
    records = empty_records(scenario)
    with rare_collections():
        cluster = _synthetic(scenario, workload, records, progress, machine)
    busy = [node.busy_ns / 1e9 for node in cluster.nodes if isinstance(node, TurnNode)]
    return records, busy


def empty_records(scenario: Scenario, bus: str = "simulated") -> Records:
    """Records that know their scenario and nothing else yet."""
    return Records(
        scenario=scenario.resolved(),
        name=scenario.name,
        seed=scenario.seed,
        protocol=scenario.consensus.protocol,
        bus=bus,
        engine="reference" if bus == "simulated" else "live",
        nodes=scenario.node_names,
        quorum=scenario.quorum,
        faults_tolerated=scenario.faults_tolerated,
    )


def _synthetic(
    scenario: Scenario,
    workload: Synthetic,
    records: Records,
    progress: Progress,
    machine: MachineCosts | None = None,
    engine: str = "reference",
) -> Cluster:
    cluster = simulation.cluster(scenario, client_names(workload), machine=machine, engine=engine)
    load = SyntheticLoad(scenario, workload, cluster)
    govern(scenario, cluster)
    try:
        load.start()
        limit = scenario.duration_ns
        if cluster.nodes and not load.all_answered.triggered:
            drive(cluster, limit, lambda: load.answered, load.total, progress, load.all_answered)
        cluster.settle(settling_time(scenario))
    except KeyboardInterrupt:
        records.complete = False
    cluster.finish()
    collect(records, scenario, cluster)
    records.virtual_ns = load.last_answer_ns if load.answered == load.total else cluster.env.time
    return cluster


def _custom(
    scenario: Scenario, workload: CustomWorkload, records: Records, progress: Progress, engine: str
) -> Cluster:
    """A workload class of the user's own: ``Class(**parameters)`` with ``clients`` (names) and ``run(cluster)``.

    ``run`` is a SimPy process: a generator that submits through ``cluster.clients[name].submit``; the run ends with it.
    """
    made = simulation.named_class(workload.kind, "workload.kind", scenario)(**workload.parameters)
    cluster = simulation.cluster(scenario, list(made.clients), engine=engine)
    try:
        ended = cluster.env.process(made.run(cluster))
        answered = lambda: sum(len(c.records) - c.client.unanswered for c in cluster.clients.values())  # noqa: E731
        drive(cluster, scenario.duration_ns, answered, 0, progress, ended)
        cluster.settle(settling_time(scenario))
    except KeyboardInterrupt:
        records.complete = False
    cluster.finish()
    collect(records, scenario, cluster)
    return cluster
