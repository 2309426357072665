"""Makes a failing case small: fewer members, faults, adversaries and requests, then shorter times, plainer links.

A smaller case counts if the same invariant still breaks first, and if it keeps the protocol's promise as the first one
did. Parts are dropped in the manner of delta debugging: halves, then quarters, down to single ones (Zeller and
Hildebrandt, IEEE TSE 28(2), 2002). The number of trials is bounded, so the smallest case is small, not least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace as with_fields
from typing import Any, NamedTuple

from msgspec.structs import replace
from tradebft.lab.fuzz.case import Adversary, Case, Links
from tradebft.lab.fuzz.outcome import Outcome
from tradebft.lab.fuzz.trial import try_case
from tradebft.lab.progress import Progress, silent
from tradebft.network.faults import Fault

MS = 10**6
LISTS = ("changes", "faults", "adversaries", "asks")


class Small(NamedTuple):
    """The smallest case that was found, and how many trials that took."""

    case: Case
    trials: int


def shrink(case: Case, invariant: str, trials: int, progress: Progress = silent) -> Small:
    """The smallest variant of *case* found within so many trials in which *invariant* is the first to break."""
    search = _Search(case, invariant, trials, progress)
    for _ in range(10):
        before = search.case
        search.fewer_members()
        for name in LISTS:
            search.drop(name)
        search.try_all(_without_dishonest)
        search.try_all(_plainer)
        search.try_all(_shorter)
        if search.case == before or search.left == 0:
            break
    return Small(search.case, trials - search.left)


class _Search:
    def __init__(self, case: Case, invariant: str, trials: int, progress: Progress) -> None:
        self.case, self._invariant, self.left = case, invariant, trials
        self._all, self._progress = trials, progress

    def better(self, candidate: Case) -> bool:
        """Whether *candidate* breaks the same way; then it is the case from now on."""
        if self.left == 0 or candidate == self.case or candidate.broken_promise() is not None:
            return False
        self.left -= 1
        self._progress("shrinking", self._all - self.left, self._all)
        try:
            outcome: Outcome = try_case(candidate)
        except ValueError:
            return False  # a variant that cannot be set up
        if outcome.first is None or outcome.first.invariant != self._invariant:
            return False
        self.case = candidate
        return True

    def drop(self, name: str) -> None:
        """Leave out parts of a list, halves first."""
        size = max(1, len(getattr(self.case, name)) // 2)
        while True:
            start = 0
            while start < len(getattr(self.case, name)):
                items = getattr(self.case, name)
                kept = items[:start] + items[start + size :]
                if not self.better(_tidy(replace(self.case, **{name: kept}))):
                    start += size
            if size == 1:
                return
            size //= 2

    def fewer_members(self) -> None:
        """The fewest members first. Where members change, all stay who they are."""
        if self.case.changes:
            return
        for nodes in range(4, self.case.config.nodes):
            for fold in (_cut_off, _folded):
                if self.better(_tidy(fold(self.case, nodes))):
                    return

    def try_all(self, variants: Callable[[Case], Iterator[Case]]) -> None:
        """Every variant of the case as it is when its turn comes; after a success, from the beginning."""
        again = True
        while again and self.left:
            again = any(self.better(_tidy(variant)) for variant in variants(self.case))


def _tidy(case: Case) -> Case:
    """Without clients who ask nothing, and with a storm no longer than what happens in it."""
    asking = {ask.client for ask in case.asks}
    clients = tuple(name for name in case.clients if name in asking) or case.honest_clients[:1]
    if not set(clients) - set(case.dishonest):
        clients = (*clients, *case.honest_clients[:1])
    dishonest = {name: what for name, what in case.dishonest.items() if name in clients}
    spare = case.spare if case.changes else 0
    if spare < case.spare:
        case = _renumbered(case, case.config.nodes, lambda node: node if node < case.config.nodes else None)
    return replace(case, clients=clients, dishonest=dishonest, spare=spare)


# --- fewer members ---


def _cut_off(case: Case, nodes: int) -> Case:
    """Only the first members stay."""
    return _renumbered(case, nodes, lambda node: node if node < nodes else None)


def _folded(case: Case, nodes: int) -> Case:
    """Members above share the fate of those below."""
    return _renumbered(case, nodes, lambda node: node % nodes)


def _renumbered(case: Case, nodes: int, number: Callable[[int], int | None]) -> Case:
    def of(some: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({new for old in some if (new := number(old)) is not None}))

    faults = []
    for fault in case.faults:
        groups, taken = [], set[int]()
        for group in fault.groups:
            groups.append(tuple(node for node in of(group) if node not in taken))
            taken |= set(groups[-1])
        renumbered: dict[str, Any] = {"nodes": of(fault.nodes), "groups": tuple(g for g in groups if g)}
        nobody = fault.named and not renumbered["nodes"] and not renumbered["groups"]
        one_sided = fault.kind == "one-way" and len(renumbered["groups"]) < 2
        if not nobody and not one_sided:
            faults.append(with_fields(fault, **renumbered))
    adversaries = [
        replace(adversary, node=new)
        for adversary in case.adversaries
        if (new := number(adversary.node)) is not None
    ]
    return replace(
        case,
        config=replace(case.config, nodes=nodes),
        faults=tuple(faults),
        adversaries=tuple(_once(adversaries)),
    )


def _once(adversaries: list[Adversary]) -> list[Adversary]:
    found: list[Adversary] = []
    for adversary in adversaries:
        if adversary not in found:
            found.append(adversary)
    return found


# --- plainer and shorter ---


def _without_dishonest(case: Case) -> Iterator[Case]:
    for name in case.dishonest:
        yield replace(case, dishonest={k: v for k, v in case.dishonest.items() if k != name})


def _plainer(case: Case) -> Iterator[Case]:
    """Nothing that a reader would ask about in vain."""
    config = case.config
    yield replace(case, links=Links("constant", {"delay_ns": 10 * MS}))
    yield replace(case, processor=False)
    yield replace(case, state_bytes=0)
    yield replace(case, application="diary")
    yield replace(case, config=replace(config, batch_timeout_ns=0))
    yield replace(case, config=replace(config, batch_size=1))
    yield replace(case, config=replace(config, window=8))
    yield replace(case, config=replace(config, client_window=64))
    yield replace(case, config=replace(config, snapshot_interval=0))
    yield replace(case, config=replace(config, status_interval_ns=0))
    yield replace(case, clients=case.clients[:1], asks=tuple(_one_client(case)), dishonest={})
    for position, fault in enumerate(case.faults):
        for node in fault.nodes if len(fault.nodes) > 1 else ():
            rest = tuple(other for other in fault.nodes if other != node)
            yield _with_fault(case, position, with_fields(fault, nodes=rest))


def _one_client(case: Case) -> Iterator[Any]:
    for ask in case.asks:
        yield replace(ask, client=case.clients[0])


def _shorter(case: Case) -> Iterator[Case]:
    """Everything sooner, and over sooner: by half, to whole tens of milliseconds."""
    yield _sooner(case)
    for position, fault in enumerate(case.faults):
        if fault.duration_ns is not None and fault.duration_ns > 20 * MS:
            yield _with_fault(case, position, with_fields(fault, duration_ns=_half(fault.duration_ns)))
        if fault.at_ns:
            yield _with_fault(case, position, with_fields(fault, at_ns=_half(fault.at_ns)))
    last = max((ask.at_ns for ask in case.asks), default=0)
    if last:
        asks = tuple(replace(ask, at_ns=_half(ask.at_ns)) for ask in case.asks)
        yield replace(case, asks=asks)
    ends = [fault.at_ns + (fault.duration_ns or 0) for fault in case.faults]
    yield replace(case, storm_ns=max([*ends, last, 100 * MS]))


def _sooner(case: Case) -> Case:
    faults = tuple(
        with_fields(
            fault,
            at_ns=_half(fault.at_ns),
            duration_ns=None if fault.duration_ns is None else max(10 * MS, _half(fault.duration_ns)),
        )
        for fault in case.faults
    )
    asks = tuple(replace(ask, at_ns=_half(ask.at_ns)) for ask in case.asks)
    return replace(case, faults=faults, asks=asks)


def _half(time_ns: int) -> int:
    return time_ns // 2 // (10 * MS) * (10 * MS)


def _with_fault(case: Case, position: int, fault: Fault) -> Case:
    return replace(case, faults=(*case.faults[:position], fault, *case.faults[position + 1 :]))
