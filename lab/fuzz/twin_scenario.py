"""Twins: a Byzantine member as two copies of an honest one (Bano and others, "Twins: BFT Systems Made Robust", 2021).

Both copies have the member's key and neither knows of the other; what differs is whom they can talk to. Equivocation,
votes for both and amnesia arise by themselves. A scenario says for each view who can talk to whom, and which phase of
it gets through; leaders follow from the view. After its views the network is whole, and the honest members must go on.

    from tradebft.lab.fuzz.twin_scenario import Scenario, View, play

    play(Scenario((0,), (View(((0, 1, 2), (3, 4))), View(((0, 1, 2, 3, 4),))))).violations
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import msgspec
from tradebft.consensus.interface import Config
from tradebft.consensus.invariants import Violation
from tradebft.consensus.messages import Commit, Prepare, Request
from tradebft.lab.fuzz.lockstep import HOP_NS, Lockstep

NODES: Final = 4
VIEWS_MAX: Final = 7
HOPS_A_VIEW: Final = 30  # a view of a few requests needs about ten
CALM_HOPS: Final = 400
REPEAT_HOPS: Final = 40
CONFIG: Final = Config(
    nodes=NODES,
    batch_size=1,
    window=4,
    checkpoint_interval=2,
    log_window=4,
    view_change_timeout_ns=20 * HOP_NS,
)
PHASES: Final = {"Prepare": Prepare, "Commit": Commit}


class Firewall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Votes of *kind* reach the seats in *reaches* and nobody else."""

    kind: str
    reaches: tuple[int, ...]


class ScenarioError(Exception):
    """A scenario file that cannot be read. The message is one line and names the path."""


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One view: seats in one group can talk to one another; who is in no group is alone."""

    groups: tuple[tuple[int, ...], ...] = ()
    firewall: Firewall | None = None


class Scenario(msgspec.Struct, frozen=True):
    """Who has a twin, and the views 0, 1, ... Seats 0 to n-1 are the members, n and on the twins in their order."""

    twins: tuple[int, ...]
    views: tuple[View, ...]

    @property
    def seats(self) -> tuple[int, ...]:
        """The member of every seat."""
        return (*range(NODES), *self.twins)


class Played(msgspec.Struct, frozen=True):
    """What came of one scenario."""

    violations: list[Violation]
    fingerprint: bytes  # equal for scenarios whose views were the same to every seat
    hops: int  # rounds that the calm took until every request was answered
    messages: int
    decided: int  # the longest history among the honest when the views were over
    carried: bool  # a new primary had to propose again what was prepared before
    caught: bool  # somebody honest holds evidence against a twin


# --- one scenario ---


def play(scenario: Scenario) -> Played:
    """Run *scenario* and judge it: safety in its views, and then that everything is answered."""
    honest = [member for member in range(NODES) if member not in scenario.twins]
    network = Lockstep(CONFIG, scenario.seats, honest)
    network.timed = False
    for number, view in enumerate(scenario.views):
        _play_view(network, number, view)
    decided, fingerprint = max(len(network.blocks[seat]) for seat in honest), network.fingerprint()
    opened = [network.replicas[seat].new_view for seat in honest]
    hops = 0
    if not network.violations and len(scenario.twins) <= CONFIG.faults:
        hops = _calm(network)
    return Played(
        network.violations,
        fingerprint,
        hops,
        network.messages,
        decided,
        any(message is not None and bool(message.proposals) for message in opened),
        bool(network.evidence),
    )


def _play_view(network: Lockstep, number: int, view: View) -> None:
    """Everybody enters the view by a timeout; it lasts until nothing is on its way any more."""
    group_of = {seat: group for group, seats in enumerate(view.groups) for seat in seats}
    wall = view.firewall
    kind = PHASES[wall.kind] if wall is not None else None
    reaches = wall.reaches if wall is not None else ()

    def route(sender: int, receiver: int, message: Any) -> Any:
        if receiver < 0:
            return message  # replies reach their clients
        group = group_of.get(sender)
        if group is None or group_of.get(receiver) != group:
            return None
        return None if type(message) is kind and receiver not in reaches else message

    network.route = route
    seats = range(len(network.seats))
    if number == 0:
        # Each twin hears of the two requests in its own order: so they propose, and vote, differently.
        network.submit(0, [seat for seat in seats if seat < NODES])
        network.submit(1)
        for seat in seats:
            if seat >= NODES:
                network.step(seat, network.asked[0])
    else:
        for seat in seats:
            if network.replicas[seat].view < number:
                network.time_out(seat)
        network.submit(number + 1)
    network.settle(HOPS_A_VIEW)
    network.flying.clear()
    network.look()


def _calm(network: Lockstep) -> int:
    """The network is whole, timers run, clients ask again: everything must be answered."""
    network.route = lambda sender, receiver, message: message
    network.timed = True
    begun = network.hops
    network.submit(len(network.asked))
    network.repeat()
    while network.unanswered() and not network.violations:
        asleep = not network.advance()
        spent = network.hops - begun
        if spent >= CALM_HOPS:
            network.report("liveness", -1, _stuck(network, spent))
        elif asleep or spent % REPEAT_HOPS == 0:
            network.repeat()
    network.look()
    return network.hops - begun


def _stuck(network: Lockstep, hops: int) -> str:
    waiting: list[Request] = network.unanswered()
    stand = ", ".join(
        f"{network.seats[seat]}: {replica.executed} in view {replica.view}{'+' if replica.changing else ''}"
        for seat, replica in enumerate(network.replicas)
    )
    return (
        f"{len(waiting)} requests unanswered {hops} rounds after the network was whole; executed by {stand}"
    )


# --- which there are ---


def groupings(seats: Sequence[int]) -> list[tuple[tuple[int, ...], ...]]:
    """All ways in which these seats (their members) can be split, as far as PBFT can tell them apart.

    Only a group with a quorum of members can do anything in a view. So a split is told by such groups; who is in none
    of them is put together, where that makes no further quorum. Last the split into single seats: a view skipped.
    """
    quorum = CONFIG.quorum

    def members(group: Sequence[int]) -> int:
        return len({seats[seat] for seat in group})

    strong = [
        group
        for size in range(quorum, len(seats) + 1)
        for group in combinations(range(len(seats)), size)
        if members(group) >= quorum
    ]
    found: list[tuple[tuple[int, ...], ...]] = []
    for count in range(1, len(seats) // quorum + 1):
        for groups in combinations(strong, count):
            held = [seat for group in groups for seat in group]
            if len(held) == len(set(held)):
                rest = tuple(seat for seat in range(len(seats)) if seat not in held)
                together = len(rest) > 1 and members(rest) < quorum
                found.append(tuple(sorted((*groups, rest) if together else groups)))
    return [*found, ()]


@cache
def choices(twins: tuple[int, ...]) -> tuple[View, ...]:
    """Every view that there can be: a split, and what gets through within its groups.

    Everything; or Commits, or Prepares, that reach one member or none: some prepare and nobody decides, one alone does.
    """
    found = []
    for groups in groupings((*range(NODES), *twins)):
        found.append(View(groups))
        strong = sorted(seat for group in groups if len(group) >= CONFIG.quorum for seat in group)
        for kind in reversed(PHASES):
            reached: list[tuple[int, ...]] = [(), *((seat,) for seat in strong)]
            found += [View(groups, Firewall(kind, reaches)) for reaches in reached if groups]
    return tuple(found)


# --- files ---


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One scenario round by round, in the words of the Twins paper's generator; a round is a view."""

    twins: tuple[int, ...]
    round_leaders: tuple[int, ...]
    round_partitions: tuple[tuple[tuple[int, ...], ...], ...]
    firewall: tuple[Firewall | None, ...]
    violation: Violation | None = None


class Described(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a scenario file holds."""

    num_of_nodes: int
    num_of_twins: int
    scenarios: tuple[Entry, ...]


def described(scenario: Scenario, violation: Violation | None = None) -> Described:
    """*scenario* as a file has it, with the violation that it led to."""
    views = scenario.views
    entry = Entry(
        twins=scenario.twins,
        round_leaders=tuple(number % NODES for number in range(len(views))),
        round_partitions=tuple(view.groups for view in views),
        firewall=tuple(view.firewall for view in views),
        violation=violation,
    )
    return Described(NODES, len(scenario.twins), (entry,))


def save(path: Path, scenario: Scenario, violation: Violation | None) -> None:
    """Write a scenario file; its folder is made if need be. OSError where that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        msgspec.json.format(msgspec.json.encode(described(scenario, violation)), indent=1) + b"\n"
    )


def load(path: Path) -> list[tuple[Scenario, Violation | None]]:
    """The scenarios of a file, each with what is expected of it. ScenarioError, in one line, for anything else."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Described)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ScenarioError(f"{path}: not a Twins scenario: {' '.join(str(error).split())}") from None
    loaded = []
    for entry in found.scenarios:
        if fault := _fault(found, entry):
            raise ScenarioError(f"{path}: {fault}")
        rounds = zip(entry.round_partitions, entry.firewall, strict=True)
        views = tuple(View(groups, firewall) for groups, firewall in rounds)
        loaded.append((Scenario(entry.twins, views), entry.violation))
    return loaded


def _fault(found: Described, entry: Entry) -> str | None:
    seats = range(NODES + len(entry.twins))
    if found.num_of_nodes != NODES or found.num_of_twins != len(entry.twins):
        return f"expected {NODES} nodes and as many twins as are named"
    if len(set(entry.twins)) != len(entry.twins) or any(not 0 <= member < NODES for member in entry.twins):
        return f"twins: expected different members below {NODES}, found {list(entry.twins)}"
    if entry.round_leaders != tuple(number % NODES for number in range(len(entry.round_partitions))):
        return "round_leaders: expected view mod n for each round, which is what PBFT has"
    if len(entry.firewall) != len(entry.round_partitions):
        return "firewall: expected one entry a round, null where there is none"
    for groups in entry.round_partitions:
        held = [seat for group in groups for seat in group]
        if len(held) != len(set(held)) or any(seat not in seats for seat in held):
            return f"round_partitions: expected each of the seats 0 to {len(seats) - 1} at most once, found {held}"
    for wall in entry.firewall:
        if wall is not None and (wall.kind not in PHASES or any(seat not in seats for seat in wall.reaches)):
            return f"firewall: expected Prepare or Commit and seats up to {len(seats) - 1}"
    return None
