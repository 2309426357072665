"""From a scenario to a simulated network: names to indices, sections to link models, faults and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from tradebft.consensus.interface import Config
from tradebft.consensus.pbft import Replica as Pbft
from tradebft.network import costs, faults, links, topology
from tradebft.network.application import Application, HashChain
from tradebft.network.chance import Chance
from tradebft.network.cities import CITIES, placement
from tradebft.network.cluster import Cluster, MakeReplica, Settings
from tradebft.network.engines import built
from tradebft.network.simulated import Wire
from tradebft.network.turns import MachineCosts
from tradebft.scenarios import adversaries, membership
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.loading import own_class
from tradebft.scenarios.schema import CpuCosts, Graph, Scenario

HEAD_OFFICE: Final = "Guiyang"  # where clients without a member of the same name are


def places(scenario: Scenario, clients: Sequence[str] = ()) -> list[str]:
    """The city of every endpoint: replicas, clients, broker. A client named after a member sits beside it."""
    names = scenario.node_names
    cities = placement(names, scenario.network.places)
    by_name = dict(zip(names, cities, strict=True))
    cities += [HEAD_OFFICE] * membership.spare(scenario)
    cities += [by_name.get(client, HEAD_OFFICE) for client in clients]
    if scenario.network.topology == "star":
        cities.append(scenario.network.broker)
    return cities


def config(scenario: Scenario) -> Config:
    """What the replicas agree on before they start."""
    consensus = scenario.consensus
    return Config(
        nodes=len(scenario.node_names),
        chain_id=f"tradebft/{scenario.name}".encode(),
        batch_size=consensus.batch_size,
        batch_bytes=consensus.batch_bytes,
        batch_timeout_ns=consensus.batch_timeout_ns,
        window=consensus.window,
        checkpoint_interval=consensus.checkpoint_interval,
        log_window=consensus.log_window_size,
        snapshot_interval=consensus.snapshot_every,
        view_change_timeout_ns=consensus.view_change_timeout_ns,
        status_interval_ns=consensus.status_interval_ns or 0,
        client_window=consensus.client_window,
    )


def wire(scenario: Scenario, clients: Sequence[str]) -> Wire:
    """Delays, bandwidth, loss and who is connected to whom."""
    network = scenario.network
    cities = places(scenario, clients)
    n = len(scenario.node_names) + membership.spare(scenario)
    chance = Chance(scenario.seed)
    map_: topology.Topology
    if network.topology == "star":
        map_ = topology.Star(n, len(clients))
    elif isinstance(network.topology, Graph):
        map_ = _routes(n, network.topology, scenario, chance)
    else:
        map_ = topology.Mesh(n)
    lossy = network.loss > 0 or any(fault.loss > 0 for fault in scenario.faults)
    model = _links(scenario, network.links, cities)
    if network.client_links is not None:
        model = _ByRole(n, model, _links(scenario, network.client_links, cities))
    return Wire(model, map_, network.bandwidth_bps, network.loss, lossy, network.buffer)


class _ByRole:
    """One link model among replicas, another wherever a client takes part."""

    def __init__(self, replicas: int, inner: links.LinkModel, outer: links.LinkModel) -> None:
        self._replicas, self._inner, self._outer = replicas, inner, outer

    @property
    def minimum_ns(self) -> int:
        """The shorter of the two minima."""
        return min(self._inner.minimum_ns, self._outer.minimum_ns)

    def delays(self, sender: int, receivers: links.Nanoseconds, u: links.Floats) -> links.Nanoseconds:
        """A transmission goes to replicas or to one client; never to both."""
        among = sender < self._replicas and bool((receivers < self._replicas).all())
        return (self._inner if among else self._outer).delays(sender, receivers, u)


def _links(scenario: Scenario, section: Any, cities: list[str]) -> links.LinkModel:
    parameters = getattr(section, "parameters", None)
    if parameters is None:
        parameters = {name: getattr(section, name) for name in type(section).model_fields if name != "model"}
    try:
        return links.link_model(section.model, parameters, cities)
    except (ValueError, ImportError) as error:
        raise ScenarioError(f"{scenario.name}: network.links: {error}") from None


def _routes(members: int, graph: Graph, scenario: Scenario, chance: Chance) -> topology.Topology:
    from tradebft.network.graphs import Graph as Routes  # loads networkx, which nobody else needs
    from tradebft.network.graphs import generated_edges

    if graph.edges is not None:
        edges = [(scenario.index(a), scenario.index(b)) for a, b in graph.edges]
    else:
        assert graph.generator is not None
        edges = generated_edges(graph.generator, len(scenario.node_names), graph.degree, chance)
    return Routes(members, edges)


def schedule(scenario: Scenario) -> list[faults.Fault]:
    """The scenario's faults with indices for names."""
    found = []
    for fault in scenario.faults:
        nodes = tuple(scenario.index(name) for name in fault.crash or fault.slow or fault.drift or fault.of)
        groups = tuple(
            tuple(_endpoint(scenario, name) for name in group) for group in fault.partition or fault.one_way
        )
        found.append(
            faults.Fault(
                fault.at_ns,
                fault.for_ns,
                "one-way" if fault.one_way else cast(faults.Kind, fault.kind),
                nodes,
                groups,
                fault.factor if fault.slow or fault.drift else 1.0,
                fault.loss if fault.slow else fault.share,
                fault.spread_ns if fault.share else 0,
                fault.torn,
            )
        )
    return found


def _endpoint(scenario: Scenario, name: str) -> int:
    """The endpoint of a member, or of a client of synthetic load; clients follow all who are or may become members."""
    client = name.removeprefix("client.")
    if client == name:
        return scenario.index(name)
    return len(scenario.node_names) + membership.spare(scenario) + int(client)


def cpu_costs(scenario: Scenario) -> costs.CpuCosts | None:
    """The cost profile of every node; None where computing is free."""
    cpu = scenario.nodes.cpu
    if isinstance(cpu, CpuCosts):
        return costs.CpuCosts(**{name: getattr(cpu, name) for name in type(cpu).model_fields})
    return costs.PROFILES[cpu]


def named_class(name: str, what: str, scenario: Scenario) -> Any:
    """The class that "module:Class" names; ScenarioError where there is none."""
    try:
        return own_class(name)
    except ImportError as error:
        raise ScenarioError(f"{scenario.name}: {what}: {error}") from None


def protocol(scenario: Scenario) -> MakeReplica:
    """The replica class that the scenario names."""
    name = scenario.consensus.protocol
    return Pbft if name == "pbft" else named_class(name, "consensus.protocol", scenario)


def cluster(
    scenario: Scenario,
    clients: list[str],
    application: Callable[[], Application] = HashChain,
    machine: MachineCosts | None = None,
    engine: str = "reference",
) -> Cluster:
    """The simulated network of *scenario* with these clients (and a governor, if members change), at time 0.

    *machine*: all of it runs on one, whose costs count in place of the scenario's. *engine*: see `network.engines`;
    `Uncovered` where it does not cover the scenario.
    """
    clients = [*clients, membership.GOVERNOR] if scenario.membership else clients
    return built(
        Settings(
            config=config(scenario),
            wire=wire(scenario, clients),
            seed=scenario.seed,
            clients=clients,
            client_timeout_ns=scenario.consensus.client_timeout_ns,
            crypto=scenario.nodes.crypto,
            protocol=protocol(scenario),
            application=application,
            costs=cpu_costs(scenario) if machine is None else None,
            machine=machine,
            faults=schedule(scenario),
            byzantine=adversaries.misbehaviours(scenario),
            dishonest_clients=adversaries.dishonest_clients(scenario),
            spare=membership.spare(scenario),
            later_keys=membership.later_keys(scenario),
        ),
        engine,
    )


def map_of(scenario: Scenario) -> dict[str, tuple[str, float, float]]:
    """Node -> (city, latitude, longitude), where the distance between cities matters."""
    if scenario.members is None and not scenario.network.places:
        return {}
    found = {}
    for name, city in zip(scenario.node_names, places(scenario), strict=False):
        latitude, longitude = CITIES[city]
        found[name] = (city, latitude, longitude)
    return found
