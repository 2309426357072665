"""Mishaps: a schedule of crashes, partitions, slowness and loss, and what holds at a moment while several overlap.

`transitions` puts the beginnings and ends of all faults in one order; `Weather` is what results of those that have
happened so far. Whoever drives the clock applies each transition at its time and asks the weather in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import simpy
from simpy.events import Event
from tradebft.network.twists import Twist

__all__ = ["Change", "Fault", "Transition", "Weather", "transitions"]

Kind = Literal["crash", "partition", "one-way", "slow", "loss", "duplicate", "reorder", "spike", "drift"]
KINDS: Final = get_args(Kind)
DRIFT_MIN: Final = 0.01  # timers that run out at once would stop virtual time
DRIFT_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One mishap, from `at_ns` for `duration_ns` (None: for good).

    * crash: `nodes` are down; with an end they come back with what is on their disks. All nodes: a power cut. `torn`:
      each goes down in the middle of its next durable write, which is lost, and nothing after it leaves the node; one
      that writes nothing until the end stays up.
    * partition: nodes of different `groups` do not reach each other; members in none of them form one more group, and
      clients in none of them reach everybody.
    * one-way: what nodes of the first of two `groups` send does not reach those of the second.
    * slow: the delays of all links from and to `nodes`, and their processor times, are multiplied by `factor`; the
      share `loss` of the messages from and to them vanishes.
    * loss: the share `loss` of the messages from and to `nodes` vanishes; without nodes, of all messages.
    * duplicate, reorder, spike: the share `loss` of the messages from and to `nodes` (without nodes: of all) arrives a
      second time up to `spread_ns` later; arrives up to `spread_ns` late; arrives from half to all of `spread_ns` late.
    * drift: the timers of `nodes` take `factor` times as long, 0.01 to 10.

    `nodes` are members. `groups` may name clients too, as the endpoints that follow the members.
    """

    at_ns: int
    duration_ns: int | None
    kind: Kind
    nodes: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    factor: float = 1.0
    loss: float = 0.0
    spread_ns: int = 0
    torn: bool = False

    def __post_init__(self) -> None:
        if self.at_ns < 0:
            raise ValueError(f"fault: at must be at least 0 ns, got {self.at_ns} ns")
        if self.duration_ns is not None and self.duration_ns <= 0:
            raise ValueError(f"fault: for must be above 0 ns, got {self.duration_ns} ns")
        if self.kind not in KINDS:
            raise ValueError(f"fault: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.kind in ("crash", "slow", "drift") and not self.nodes:
            raise ValueError(f"fault: a {self.kind} needs at least one node")
        if self.kind == "partition" and not self.groups:
            raise ValueError("fault: a partition needs at least one group")
        if self.kind == "one-way" and (len(self.groups) != 2 or not all(self.groups)):
            raise ValueError("fault: one-way needs two groups: who is not heard, and by whom")
        named = [node for group in self.groups for node in group]
        if len(set(named)) < len(named):
            raise ValueError(f"fault: expected every node in at most one group, got {self.groups}")
        if self.kind == "drift" and not DRIFT_MIN <= self.factor <= DRIFT_MAX:
            raise ValueError(f"fault: factor must be from {DRIFT_MIN} to {DRIFT_MAX}, got {self.factor}")
        if self.kind != "drift" and not 1 <= self.factor < float("inf"):
            raise ValueError(f"fault: factor must be at least 1 and finite, got {self.factor}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"fault: loss must be from 0 to 1, got {self.loss}")
        if self.spread_ns < 0 or (self.kind in ("reorder", "spike") and not self.spread_ns):
            raise ValueError(f"fault: a {self.kind} needs a spread above 0 ns, got {self.spread_ns} ns")

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


def play(
    env: simpy.Environment, faults: Sequence[Fault], happens: Callable[[Transition], None]
) -> Generator[Event, Any, None]:
    """A process that tells of every beginning and end at its time."""
    for transition in transitions(faults):
        if transition.time_ns > env.now:
            yield env.timeout(transition.time_ns - env.now)
        happens(transition)


class Change(NamedTuple):
    """What a transition does to nodes: those that a crash strikes, up or down, and those that no crash holds down
    any more.
    """

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
    parts them, factors multiply, and losses add as independent chances do.
    """

    __slots__ = (
        "_cuts",
        "_down",
        "_drift",
        "_faults",
        "_loss",
        "_members",
        "_parts",
        "_slow",
        "_touched",
        "_twists",
    )

    def __init__(self, faults: Sequence[Fault], members: int, endpoints: int = 0) -> None:
        """*endpoints*: members and clients together. ValueError for a fault on a node that does not exist."""
        self._faults = tuple(faults)
        self._members = members
        for fault in self._faults:
            known = max(members, endpoints) if fault.groups else members
            for node in fault.named:
                if not 0 <= node < known:
                    raise ValueError(f"fault: no such node {node}; expected 0 to {known - 1}")
        self._touched = [frozenset(fault.nodes) for fault in self._faults]
        self._down: Counter[int] = Counter()
        self._parts: dict[int, dict[int, int]] = {}  # fault -> group of each node that it concerns
        self._cuts: list[int] = []  # one-way
        self._drift: list[int] = []
        self._twists: list[int] = []
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
            (self._cuts, fault.kind == "one-way"),
            (self._drift, fault.kind == "drift"),
            (self._twists, fault.kind in ("duplicate", "reorder", "spike")),
        ):
            if concerned and transition.begins:
                active.append(transition.fault)
                active.sort()  # products of floats are taken in one order, whatever happened first
            elif concerned:
                active.remove(transition.fault)
        return Change((), ())

    def _apply_crash(self, fault: Fault, begins: bool) -> Change:
        struck = tuple(dict.fromkeys(fault.nodes))
        if begins:
            self._down.update(struck)
            return Change(struck, ())
        self._down.subtract(struck)
        return Change((), tuple(node for node in struck if self.up(node)))

    def _sides(self, fault: Fault) -> dict[int, int]:
        sides = dict.fromkeys(range(self._members), len(fault.groups))
        for side, group in enumerate(fault.groups):
            for node in group:
                sides[node] = side
        return sides

    @property
    def active(self) -> list[Fault]:
        """What meddles with messages and timers now."""
        lists = (self._cuts, self._drift, self._twists, self._slow, self._loss)
        return [
            self._faults[position] for position in {*self._parts, *(one for some in lists for one in some)}
        ]

    @property
    def timely(self) -> bool:
        """Whether no message and no timer meets anything wrong now."""
        troubled = self.partitioned or self.losing or self.slowed or self.drifting
        return not (troubled or self._twists)

    @property
    def partitioned(self) -> bool:
        """Whether anybody is parted from anybody now."""
        return bool(self._parts or self._cuts)

    @property
    def drifting(self) -> bool:
        """Whether any timers run wrong."""
        return bool(self._drift)

    @property
    def twists(self) -> list[Twist]:
        """What may happen to single messages now."""
        found = []
        for position in self._twists:
            fault = self._faults[position]
            found.append(Twist(fault.kind, fault.loss, fault.spread_ns, self._touched[position]))
        return found

    def torn(self, transition: Transition) -> bool:
        """Whether the crash that begins leaves a write unfinished."""
        return self._faults[transition.fault].torn

    def drift(self, node: int) -> float:
        """What the node's timers are multiplied by."""
        product = 1.0
        for position in self._drift:
            if node in self._touched[position]:
                product *= self._faults[position].factor
        return product

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
        """Whether what *a* sends can reach *b*."""
        return self.cut(a, b) is None

    def cut(self, a: int, b: int) -> str | None:
        """The kind of the fault for which nothing that *a* sends reaches *b*; None if it does."""
        for sides in self._parts.values():
            if a in sides and b in sides and sides[a] != sides[b]:
                return "partition"
        for position in self._cuts:
            silent, deaf = self._faults[position].groups
            if a in silent and b in deaf:
                return "one-way"
        return None

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
