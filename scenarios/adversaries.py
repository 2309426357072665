"""Members and clients that misbehave in a scenario: what a file says about them, and what the network gets.

Each is a wrapper around an honest member (`consensus.byzantine`); the checker judges the others only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from tradebft.consensus.byzantine import BEHAVIOURS, Behaviour, check
from tradebft.consensus.byzantine.clients import BEHAVIOURS as CLIENT_BEHAVIOURS
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.scenarios.demand import GATEWAYS, Synthetic, TradeFinance, bank_names
from tradebft.scenarios.errors import Problem, one_of, suggestion
from tradebft.scenarios.sections import Moment, Names, Period, Section

if TYPE_CHECKING:
    from tradebft.scenarios.schema import Scenario


class Byzantine(Section):
    """Members that misbehave, all those of a scenario in league, or clients that do; any other key is a parameter of
    the behaviour. Several tables about one member add up, the last one outermost."""

    model_config = ConfigDict(extra="allow")

    node: Names = Field(
        description="member, or list of members; "
        'or clients of synthetic load ("client.0"), which misbehave all the time'
    )
    behaviour: str = Field(
        description='what it does: a name from the table below, or a class of your own as "module:Class"'
    )
    at_ns: Moment = Field(default=0, alias="at", description="when it begins")
    for_ns: Period | None = Field(default=None, alias="for", description="how long; default: to the end")

    @property
    def is_client(self) -> bool:
        """Whether it is about clients."""
        return bool(self.node) and all(name.startswith("client.") for name in self.node)

    @property
    def parameters(self) -> dict[str, Any]:
        """The behaviour's own keys."""
        return dict(self.model_extra or {})


def misbehaviours(scenario: Scenario) -> list[Misbehaviour]:
    """The scenario's adversaries with indices for names."""
    return [
        Misbehaviour(
            scenario.index(node),
            one.behaviour,
            one.parameters,
            one.at_ns,
            None if one.for_ns is None else one.at_ns + one.for_ns,
        )
        for one in scenario.byzantine
        if not one.is_client
        for node in one.node
    ]


def dishonest_clients(scenario: Scenario) -> dict[str, str]:
    """Client -> what it does."""
    return {client: one.behaviour for one in scenario.byzantine if one.is_client for client in one.node}


def too_many(scenario: Scenario) -> str | None:
    """What to say about more adversaries than the protocol tolerates; None where there are no more."""
    count = len({one.node for one in misbehaviours(scenario)})
    tolerated = scenario.faults_tolerated
    if count <= tolerated:
        return None
    return (
        f"{count} of {len(scenario.node_names)} members misbehave and f = {tolerated}: the protocol promises nothing, "
        "and violations are to be expected"
    )


def faults_of(one: Byzantine, position: int, scenario: Scenario) -> Iterator[Problem]:
    """What is wrong with one table, beside the names of its members."""
    here = ("byzantine", position)
    if not one.node:
        yield Problem((*here, "node"), "expected at least one node; found none")
    if one.at_ns >= scenario.duration_ns:
        yield Problem((*here, "at"), "expected a moment within the simulated time; found one after its end")
    if one.is_client:
        yield from _faults_of_client(one, here, scenario)
    elif ":" not in one.behaviour:
        kind = BEHAVIOURS.get(one.behaviour)
        if kind is None:
            yield _unknown((*here, "behaviour"), one.behaviour, BEHAVIOURS, own=True)
        else:
            yield from faults_of_parameters(kind, one.parameters, here)
            victim = one.parameters.get("client") if "client" in kind.defaults else None
            if victim:
                yield from _unknown_victim(victim, (*here, "client"), scenario)


def _faults_of_client(one: Byzantine, here: tuple[str | int, ...], scenario: Scenario) -> Iterator[Problem]:
    if one.behaviour not in CLIENT_BEHAVIOURS:
        yield _unknown((*here, "behaviour"), one.behaviour, CLIENT_BEHAVIOURS, own=False)
    for key in ("at", "for", *one.parameters):
        if key in one.parameters or getattr(one, f"{key}_ns"):
            yield Problem(
                (*here, key), "a client misbehaves all the time, and its behaviour has no parameters"
            )
    if not isinstance(scenario.workload, Synthetic):
        yield Problem((*here, "node"), 'expected dishonest clients only with workload.kind = "synthetic"')
        return
    yield from _unknown_clients(one.node, (*here, "node"), scenario.workload)


def _unknown_clients(
    names: Iterable[object], path: tuple[str | int, ...], workload: Synthetic
) -> Iterator[Problem]:
    known = [f"client.{k}" for k in range(workload.clients)]
    for client in names:
        if client not in known:
            yield Problem(path, f"no such client {client!r}; there are {known[0]} .. {known[-1]}")


def _unknown_victim(client: object, path: tuple[str | int, ...], scenario: Scenario) -> Iterator[Problem]:
    """Clients of a workload of one's own have whatever names they like."""
    if isinstance(scenario.workload, Synthetic):
        yield from _unknown_clients([client], path, scenario.workload)
    elif isinstance(scenario.workload, TradeFinance):
        banks = bank_names(scenario, scenario.workload)
        known = [*GATEWAYS, *banks]
        if client not in known:
            there = f"there are {', '.join(GATEWAYS)}, {banks[0]} .. {banks[-1]}"
            yield Problem(path, f"no such client {client!r}; {there}{suggestion(str(client), known)}")


def faults_of_parameters(
    kind: type[Behaviour], parameters: Mapping[str, Any], here: tuple[str | int, ...]
) -> Iterator[Problem]:
    """Keys that the behaviour does not have, or values that it cannot use."""
    for key, value in parameters.items():
        if key not in kind.defaults:
            keys = ["node", "behaviour", "at", "for", *kind.defaults]
            yield Problem((*here, key), f"unknown key; {one_of(keys)}{suggestion(key, keys)}")
            continue
        try:
            check(kind, {key: value})
        except ValueError as error:
            yield Problem((*here, key), str(error).removeprefix(f"{key}: "))


def _unknown(path: tuple[str | int, ...], found: str, known: Mapping[str, object], own: bool) -> Problem:
    also = ' or a class of your own as "module:Class"' if own else ""
    return Problem(path, f"{one_of(known)}{also}; found {found!r}{suggestion(found, known)}")
