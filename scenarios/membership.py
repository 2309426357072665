"""Changes of the members while traffic flows: who is admitted, retires or changes keys, and when it is agreed.

In a scenario with synthetic load a client of its own, the governor, submits each change as an operation; the network
agrees on it like on any other, and it takes effect at the next boundary (`consensus.membership`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field
from tradebft.network.application import members_operation
from tradebft.network.cluster import Cluster
from tradebft.scenarios.sections import Moment, Section

if TYPE_CHECKING:
    from tradebft.scenarios.schema import Scenario

GOVERNOR: Final = "governor"
KINDS: Final = ("admit", "retire", "rekey")


class MemberChange(Section):
    """One change of the members: exactly one of admit, retire and rekey. Synthetic load only."""

    at_ns: Moment = Field(alias="at", description='when it is submitted: "30 s" after the start')
    admit: str | None = Field(
        default=None, description='a new member: "replica.N", numbered on from those of the start'
    )
    retire: str | None = Field(default=None, description="a member that leaves")
    rekey: str | None = Field(default=None, description="a member that signs with a new key from then on")

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is."""
        return next((kind for kind in KINDS if getattr(self, kind) is not None), "admit")

    @property
    def node(self) -> str:
        """Whom it is about."""
        return self.admit or self.retire or self.rekey or ""


def index_of(node: str) -> int | None:
    """N of "replica.N"; None for any other name."""
    head, _, number = node.partition(".")
    return int(number) if head == "replica" and number.isdecimal() else None


def spare(scenario: Scenario) -> int:
    """How many replicas wait to be admitted."""
    first = len(scenario.node_names)
    found = [index_of(change.node) for change in scenario.membership if change.kind == "admit"]
    return max([0, *(index - first + 1 for index in found if index is not None)])


def later_keys(scenario: Scenario) -> int:
    """How many keys a replica may come to use after its first."""
    rekeyed = [change.node for change in scenario.membership if change.kind == "rekey"]
    return max([0, *(rekeyed.count(node) for node in rekeyed)])


def fault_of_changes(scenario: Scenario) -> tuple[int, str, str] | None:
    """What is wrong with the changes, in order: (position, key, what); None if they can happen."""
    members = set(range(len(scenario.node_names)))
    most = len(members)
    for position, change in enumerate(scenario.membership):
        given = [kind for kind in KINDS if getattr(change, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            return position, "", f"expected exactly one of admit, retire and rekey; found {found}"
        kind, index = given[0], index_of(change.node)
        if index is None:
            return position, kind, f'expected "replica.N"; found {change.node!r}'
        if kind == "admit":
            if index in members or index > most:
                return (
                    position,
                    kind,
                    f"expected a replica that is no member, at most replica.{most}; found {change.node}",
                )
            members.add(index)
            most = max(most, index + 1)
        elif index not in members:
            return position, kind, f"expected one of the members at that time; found {change.node}"
        elif kind == "retire":
            members.discard(index)
            if not members:
                return position, kind, "expected somebody to be left; found nobody"
    return None


def govern(scenario: Scenario, cluster: Cluster) -> None:
    """Have every change submitted at its time."""
    if scenario.membership:
        cluster.env.process(_changes(scenario, cluster))


def _changes(scenario: Scenario, cluster: Cluster) -> Generator[Any, Any, None]:
    members = dict.fromkeys(range(len(scenario.node_names)), b"")
    generation: dict[int, int] = {}
    for change in sorted(scenario.membership, key=lambda change: change.at_ns):
        if change.at_ns > cluster.env.time:
            yield cluster.env.timeout(change.at_ns - cluster.env.time)
        index = index_of(change.node)
        assert index is not None, change
        if change.kind == "admit":
            members[index] = b""
        elif change.kind == "retire":
            del members[index]
        else:
            generation[index] = generation.get(index, 0) + 1
            members[index] = cluster.keys[index][generation[index]]
        operation = members_operation(tuple(sorted(members.items())))
        cluster.clients[GOVERNOR].submit(cluster.env.time, operation, "", lambda record: None)
