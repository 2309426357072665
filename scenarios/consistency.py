"""What no single field can know: whether the parts of a scenario fit together.

Each check yields a `Problem` at the key that a person would change. They run only when every field by
itself is right.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from tradebft.network.faults import DRIFT_MAX, DRIFT_MIN
from tradebft.scenarios import adversaries, membership
from tradebft.scenarios.adversaries import Byzantine
from tradebft.scenarios.demand import FRAUD_CASES, FRAUD_GROUPS, Synthetic, TradeFinance
from tradebft.scenarios.errors import Problem, nearest, one_of, suggestion
from tradebft.scenarios.sections import (
    FAULT_KINDS,
    PROTOCOLS,
    Consensus,
    Fault,
    Graph,
    UniformLinks,
)
from tradebft.scenarios.trade.workdays import CALENDAR_AHEAD_DAYS, FIRST_YEAR, LAST_YEAR
from tradebft.scenarios.units import DAY_NS

if TYPE_CHECKING:
    from tradebft.scenarios.schema import Scenario


def problems(scenario: Scenario) -> list[Problem]:
    """Everything that does not fit, in the order of the file's sections; empty when the scenario can run."""
    found = list(_membership(scenario))
    if found:
        return found  # without known nodes nothing below can be judged
    known = scenario.node_names
    found += _network(scenario, known)
    found += _consensus(scenario.consensus)
    found += _workload(scenario)
    found += _changes(scenario)
    found += _vary(scenario)
    for position, fault in enumerate(scenario.faults):
        found += _fault(fault, position, known, scenario)
    for position, one in enumerate(scenario.byzantine):
        found += _byzantine(one, position, known, scenario)
    return found


def _membership(scenario: Scenario) -> Iterator[Problem]:
    network = scenario.network
    if network.nodes is not None and network.members is not None:
        yield Problem(("network", "nodes"), "expected either nodes or members; found both")
    elif network.members is not None and not network.members.names():
        yield Problem(("network", "members"), "expected at least one member; found none")
    elif isinstance(scenario.workload, TradeFinance):
        if network.nodes is not None and network.nodes < 3:
            yield Problem(
                ("network", "nodes"),
                "expected at least 3 for trade finance (administrator, policy bank, a commercial bank); "
                f"found {network.nodes}",
            )
        members = network.members
        if members is not None and not members.administrator:
            yield Problem(("network", "members", "administrator"), "expected 1 for trade finance; found 0")
        if members is not None and not members.policy_bank + members.commercial_bank:
            yield Problem(("network", "members"), "expected at least one bank for trade finance; found none")


def _unknown_node(name: str, known: list[str]) -> str | None:
    """What to say about a node that does not exist; None when it does."""
    aliases = [f"replica.{i}" for i in range(len(known))]
    if name in known or name in aliases:
        return None
    offered = aliases if name.startswith("replica") else known
    shown = f"{', '.join(known[:3])} .. {known[-1]}" if len(known) > 8 else ", ".join(known)
    return f"no such node {name!r}; expected one of {shown}{suggestion(name, [*offered, *known])}"


def _network(scenario: Scenario, known: list[str]) -> Iterator[Problem]:
    network = scenario.network
    for key, links in (("links", network.links), ("client_links", network.client_links)):
        if isinstance(links, UniformLinks) and links.low_ns > links.high_ns:
            yield Problem(("network", key, "low"), "expected low to be at most high; found it above")
    for node in network.places:
        unknown = _unknown_node(node, known)
        if unknown:
            yield Problem(("network", "places", node), unknown)
    cities = known_cities()
    for path, city in [
        *((("network", "places", node), city) for node, city in network.places.items()),
        (("network", "broker"), network.broker),
    ]:
        if city not in cities:
            near = nearest(city, cities)
            hint = f"; did you mean {near!r}?" if near else f"; known cities: {', '.join(cities)}"
            yield Problem(path, f"no such city {city!r}{hint}")
    if isinstance(network.topology, Graph):
        yield from _graph(network.topology, scenario)


def known_cities() -> list[str]:
    """Names of the cities whose coordinates the network room has."""
    from tradebft.network.cities import CITIES

    return sorted(CITIES)


def _graph(graph: Graph, scenario: Scenario) -> Iterator[Problem]:
    here = ("network", "topology")
    known = scenario.node_names
    if (graph.edges is None) == (graph.generator is None):
        found = "neither" if graph.edges is None else "both"
        yield Problem(here, f"expected either edges or generator; found {found}")
        return
    wrong = [
        problem for position, edge in enumerate(graph.edges or ()) for problem in _edge(edge, position, known)
    ]
    yield from wrong
    if not wrong:
        yield from _connected(graph, scenario)


def _edge(edge: tuple[str, ...], position: int, known: list[str]) -> Iterator[Problem]:
    path = ("network", "topology", "edges", position)
    if len(edge) != 2 or edge[0] == edge[1]:
        yield Problem(path, f"expected a pair of different node names; found {list(edge)}")
    for node in edge:
        unknown = _unknown_node(node, known)
        if unknown:
            yield Problem(path, unknown)


def _connected(graph: Graph, scenario: Scenario) -> Iterator[Problem]:
    """Draw the graph, as the run will: only the network room knows which ones exist and are connected."""
    from tradebft.network.chance import Chance
    from tradebft.network.graphs import Graph as Routes
    from tradebft.network.graphs import generated_edges

    members = len(scenario.node_names)
    try:
        if graph.generator is not None:
            generated_edges(graph.generator, members, graph.degree, Chance(scenario.seed))
        else:
            Routes(
                members, [(scenario.index(edge[0]), scenario.index(edge[1])) for edge in graph.edges or ()]
            )
    except ValueError as error:
        key = ("network", "topology") if graph.generator is None else ("network", "topology", "degree")
        yield Problem(key, str(error).removeprefix("topology: "))


def _consensus(consensus: Consensus) -> Iterator[Problem]:
    if ":" not in consensus.protocol and consensus.protocol not in PROTOCOLS:
        yield Problem(
            ("consensus", "protocol"),
            f'{one_of(PROTOCOLS)} or a class of your own as "module:Class"; found {consensus.protocol!r}'
            f"{suggestion(consensus.protocol, PROTOCOLS)}",
        )
    window, interval = consensus.log_window_size, consensus.checkpoint_interval
    if window <= interval:
        yield Problem(
            ("consensus", "log_window"),
            f"expected more than checkpoint_interval ({interval}), or the log fills before a checkpoint "
            f"empties it; found {window}",
        )
    if consensus.snapshot_every % interval:
        yield Problem(
            ("consensus", "snapshot_interval"),
            f"expected a multiple of checkpoint_interval ({interval}), or 0; found {consensus.snapshot_every}",
        )
    if consensus.window > window:
        yield Problem(
            ("consensus", "window"), f"expected at most log_window ({window}); found {consensus.window}"
        )


def _workload(scenario: Scenario) -> Iterator[Problem]:
    workload = scenario.workload
    if isinstance(workload, Synthetic):
        if workload.arrival == "open" and workload.rate is None:
            yield Problem(
                ("workload", "rate"), 'missing; expected requests a second, since arrival is "open"'
            )
        if workload.arrival == "closed" and workload.rate is not None:
            yield Problem(
                ("workload", "rate"),
                'only arrival = "open" has a rate; a closed loop is as fast as its replies',
            )
    if isinstance(workload, TradeFinance):
        names = [*FRAUD_CASES, *FRAUD_GROUPS]
        for kind in workload.fraud:
            if kind not in names:
                yield Problem(
                    ("workload", "fraud", kind),
                    f"unknown kind of fraud; {one_of(names)}{suggestion(kind, names)}",
                )
        total = sum(workload.fraud.values())
        if total > 1:
            yield Problem(("workload", "fraud"), f"expected rates that sum to at most 1; found {total:g}")
        yield from _calendar(scenario)
        if len(set(workload.arms)) < len(workload.arms):
            yield Problem(("workload", "arms"), f"expected each arm once; found {', '.join(workload.arms)}")


def _calendar(scenario: Scenario) -> Iterator[Problem]:
    """The days of the run, and those on which its last applications are handled, need an announced calendar."""
    days = scenario.duration_ns // DAY_NS + CALENDAR_AHEAD_DAYS
    first, last = (
        datetime.date(FIRST_YEAR, 1, 1),
        datetime.date(LAST_YEAR, 12, 31) - datetime.timedelta(days=days),
    )
    if not first <= scenario.start <= last:
        yield Problem(
            ("start",),
            f"expected a date from {first} to {last} ({scenario.duration_ns // DAY_NS} days and the run-off must lie in"
            f" years whose Chinese working days are announced); found {scenario.start}",
        )


def _fault(fault: Fault, position: int, known: list[str], scenario: Scenario) -> Iterator[Problem]:
    here = ("fault", position)
    given = [kind for kind in FAULT_KINDS if getattr(fault, kind)]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        kinds = f"{', '.join(FAULT_KINDS[:-1])} and {FAULT_KINDS[-1]}"
        yield Problem(here, f"expected exactly one of {kinds}; found {found}")
        return
    named = [name for group in fault.groups for name in group]
    parts = given[0] in ("partition", "one_way")
    unknown = [
        _unknown_client(name, scenario)
        if parts and name.startswith("client.")
        else _unknown_node(name, known)
        for name in named
    ]
    for text in filter(None, unknown):
        yield Problem((*here, given[0]), text)
    twice = None if any(unknown) else _repeated(_full_name(name, known, scenario) for name in named)
    if twice:
        yield Problem((*here, given[0]), f"expected every node at most once; found {twice!r} twice")
    if fault.at_ns >= scenario.duration_ns:
        yield Problem((*here, "at"), "expected a moment within the simulated time; found one after its end")
    if given[0] == "one_way" and len(fault.one_way) != 2:
        yield Problem(
            (*here, "one_way"),
            f"expected two lists, who is not heard and by whom; found {len(fault.one_way)}",
        )
    elif parts and not all(fault.groups):
        yield Problem((*here, given[0]), "expected at least one node in every list; found an empty one")
    if given[0] == "slow" and fault.factor < 1:
        yield Problem((*here, "factor"), f"expected at least 1; found {fault.factor:g}")
    if given[0] == "drift" and not DRIFT_MIN <= fault.factor <= DRIFT_MAX:
        yield Problem(
            (*here, "factor"), f"expected from {DRIFT_MIN:g} to {DRIFT_MAX:g}; found {fault.factor:g}"
        )
    for key, owners in _BELONGS.items():
        if given[0] not in owners and getattr(fault, key) != Fault.model_fields[key].default:
            name = Fault.model_fields[key].alias or key
            which = " or ".join(owners)
            yield Problem((*here, name), f"only a {which} fault has a {name}; this one is a {given[0]}")


def _unknown_client(name: str, scenario: Scenario) -> str | None:
    """What to say about a client that does not exist; None when it does."""
    if not isinstance(scenario.workload, Synthetic):
        return 'expected members; clients are cut off only with workload.kind = "synthetic"'
    number, clients = name.removeprefix("client."), scenario.workload.clients
    if number.isdecimal() and number == str(int(number)) and int(number) < clients:
        return None
    return f"no such client {name!r}; there are client.0 .. client.{clients - 1}"


_BELONGS: Final = {
    "torn": ("crash",),
    "factor": ("slow", "drift"),
    "loss": ("slow",),
    "spread_ns": ("duplicate", "reorder", "spike"),
    "of": ("duplicate", "reorder", "spike"),
}


def _changes(scenario: Scenario) -> Iterator[Problem]:
    if not scenario.membership:
        return
    if not isinstance(scenario.workload, Synthetic):
        yield Problem(("membership",), 'expected changes of members only with workload.kind = "synthetic"')
    if scenario.network.topology != "mesh":
        yield Problem(("membership",), 'expected changes of members only with network.topology = "mesh"')
    if wrong := membership.fault_of_changes(scenario):
        position, key, what = wrong
        yield Problem(("membership", position, key) if key else ("membership", position), what)


def _vary(scenario: Scenario) -> Iterator[Problem]:
    if not scenario.vary:
        if scenario.repeats > 1:
            yield Problem(("repeats",), "expected [vary], whose points are repeated; found none")
        return
    if not isinstance(scenario.workload, Synthetic):
        yield Problem(("vary",), 'expected [vary] only with workload.kind = "synthetic"')
    if len(scenario.vary) > 2:
        yield Problem(("vary",), f"expected one or two keys; found {len(scenario.vary)}")
    for key, values in scenario.vary.items():
        if not values:
            yield Problem(("vary", key), "expected a list of values; found none")


def _byzantine(one: Byzantine, position: int, known: list[str], scenario: Scenario) -> Iterator[Problem]:
    unknown = [] if one.is_client else [_unknown_node(name, known) for name in one.node]
    for text in filter(None, unknown):
        yield Problem(("byzantine", position, "node"), text)
    twice = None if any(unknown) else _repeated(_full_name(name, known, scenario) for name in one.node)
    if twice:
        yield Problem(
            ("byzantine", position, "node"), f"expected every node at most once; found {twice!r} twice"
        )
    yield from adversaries.faults_of(one, position, scenario)


def _full_name(name: str, known: list[str], scenario: Scenario) -> str:
    return name if name.startswith("client.") else known[scenario.index(name)]


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
