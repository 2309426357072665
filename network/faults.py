"""Mishaps: a schedule of crashes, partitions, slowness and loss, and what holds at a moment while several overlap.

`transitions` puts the beginnings and ends of all faults in one order; `Weather` is what results of those that have
happened so far. Whoever drives the clock applies each transition at its time and asks the weather in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Change", "Fault", "Transition", "Weather", "transitions"]

Kind = Literal["crash", "partition", "slow", "loss"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One mishap, from `at_ns` for `duration_ns` (None: for good).

    * crash: `nodes` are down; with an end they come back with what is on their disks.
    * partition: members of different `groups` do not reach each other; who is in none of them forms one more group.
    * slow: the delays of all links from and to `nodes`, and their processor times, are multiplied by `factor`; the
      share `loss` of the messages from and to them vanishes.
    * loss: the share `loss` of the messages from and to `nodes` vanishes; without nodes, of all messages.
    """

    at_ns: int
    duration_ns: int | None
    kind: Kind
    nodes: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    factor: float = 1.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if self.at_ns < 0:
            raise ValueError(f"fault: at must be at least 0 ns, got {self.at_ns} ns")
        if self.duration_ns is not None and self.duration_ns <= 0:
            raise ValueError(f"fault: for must be above 0 ns, got {self.duration_ns} ns")
        if self.kind not in ("crash", "partition", "slow", "loss"):
            raise ValueError(f"fault: expected crash, partition, slow or loss, got {self.kind!r}")
        if self.kind in ("crash", "slow") and not self.nodes:
            raise ValueError(f"fault: a {self.kind} needs at least one node")
        if self.kind == "partition" and not self.groups:
            raise ValueError("fault: a partition needs at least one group")
        named = [node for group in self.groups for node in group]
        if len(set(named)) < len(named):
            raise ValueError(f"fault: expected every node in at most one group, got {self.groups}")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"fault: factor must be at least 1 and finite, got {self.factor}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"fault: loss must be from 0 to 1, got {self.loss}")

    @property
    def named(self) -> tuple[int, ...]:
        """Every node that the fault names."""
        return self.nodes + tuple(node for group in self.groups for node in group)


class Transition(NamedTuple):
    """The beginning or the end of a fault: `fault` is its position in the schedule, `sequence` the transition's own."""

    time_ns: int
    sequence: int
    begins: bool
    fault: int


class Change(NamedTuple):
    """What a transition did to nodes: those that went down, and those that came back."""

    crashed: tuple[int, ...]
    recovered: tuple[int, ...]


def transitions(faults: Sequence[Fault]) -> list[Transition]:
    """All beginnings and ends in order of time.

    At one instant, beginnings come before ends (a crash that follows another without a gap is one long crash), and
    both in the order of the list.
    """
    order = [(fault.at_ns, 0, position) for position, fault in enumerate(faults)]
    for position, fault in enumerate(faults):
        if fault.duration_ns is not None:
            order.append((fault.at_ns + fault.duration_ns, 1, position))
    return [
        Transition(time_ns, sequence, not ends, position)
        for sequence, (time_ns, ends, position) in enumerate(sorted(order))
    ]


class Weather:
    """What holds now, given the transitions applied so far.

    Overlapping faults compose: a node is up when no crash holds it down, two nodes are connected when no partition
    parts them, factors multiply, and losses add as independent chances do. Endpoints that are not members (clients,
    relays) have no faults of their own and are never parted from anybody.
    """

    __slots__ = ("_down", "_faults", "_loss", "_members", "_parts", "_slow", "_touched")

    def __init__(self, faults: Sequence[Fault], members: int) -> None:
        """ValueError for a fault on a node that does not exist."""
        self._faults = tuple(faults)
        self._members = members
        for fault in self._faults:
            for node in fault.named:
                if not 0 <= node < members:
                    raise ValueError(f"fault: no such node {node}; expected 0 to {members - 1}")
        self._touched = [frozenset(fault.nodes) for fault in self._faults]
        self._down: Counter[int] = Counter()
        self._parts: dict[int, list[int]] = {}  # fault -> group of each member
        self._slow: list[int] = []
        self._loss: list[int] = []

    def apply(self, transition: Transition) -> Change:
        """Let a fault begin or end. Transitions are applied in order, each once."""
        fault = self._faults[transition.fault]
        if fault.kind == "crash":
            return self._apply_crash(fault, transition.begins)
        if fault.kind == "partition":
            if transition.begins:
                self._parts[transition.fault] = self._sides(fault)
            else:
                del self._parts[transition.fault]
        for active, concerned in (
            (self._slow, fault.kind == "slow" and fault.factor != 1),
            (self._loss, fault.kind in ("slow", "loss") and fault.loss > 0),
        ):
            if concerned and transition.begins:
                active.append(transition.fault)
                active.sort()  # products of floats are taken in one order, whatever happened first
            elif concerned:
                active.remove(transition.fault)
        return Change((), ())

    def _apply_crash(self, fault: Fault, begins: bool) -> Change:
        changed = []
        for node in fault.nodes:
            before = self._down[node]
            self._down[node] += 1 if begins else -1
            if (before == 0) != (self._down[node] == 0):
                changed.append(node)
        return Change(tuple(changed), ()) if begins else Change((), tuple(changed))

    def _sides(self, fault: Fault) -> list[int]:
        sides = [len(fault.groups)] * self._members
        for side, group in enumerate(fault.groups):
            for node in group:
                sides[node] = side
        return sides

    @property
    def partitioned(self) -> bool:
        """Whether any partition holds now."""
        return bool(self._parts)

    @property
    def slowed(self) -> bool:
        """Whether anything is slow now."""
        return bool(self._slow)

    @property
    def losing(self) -> bool:
        """Whether faults make messages vanish now."""
        return bool(self._loss)

    def up(self, node: int) -> bool:
        """Whether no crash holds the node down."""
        return not self._down[node]

    def connected(self, a: int, b: int) -> bool:
        """Whether no partition parts the two."""
        members = self._members
        return a >= members or b >= members or all(sides[a] == sides[b] for sides in self._parts.values())

    def factor(self, node: int) -> float:
        """What the node's processor times are multiplied by, at least 1."""
        return self._product(node, node)

    def link_factor(self, a: int, b: int) -> float:
        """What the delay between two nodes is multiplied by; a fault on both of them counts once."""
        return self._product(a, b)

    def loss(self, a: int, b: int) -> float:
        """Share of the messages between two nodes that vanishes because of faults."""
        kept = 1.0
        for position in self._loss:
            touched = self._touched[position]
            if not touched or a in touched or b in touched:
                kept *= 1 - self._faults[position].loss
        return 1 - kept

    def _product(self, a: int, b: int) -> float:
        product = 1.0
        for position in self._slow:
            touched = self._touched[position]
            if a in touched or b in touched:
                product *= self._faults[position].factor
        return product
