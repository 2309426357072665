"""Which Twins scenarios are played: every one of so many views where the budget allows, else draws of a seed.

    explore(views=2, limit=100_000)["violations"]

A scenario is a choice of twins and a number for each of its views (`twin_scenario.choices`). Exchanging a twin and its
original changes names only, so of two such scenarios one is played. docs/explorers.md has the counts.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any, Final

import msgspec
from tradebft.consensus.invariants import Violation
from tradebft.lab.fuzz.dice import Dice
from tradebft.lab.fuzz.side_by_side import worked_off
from tradebft.lab.fuzz.twin_scenario import (
    CONFIG,
    NODES,
    VIEWS_MAX,
    Firewall,
    Played,
    Scenario,
    View,
    choices,
    described,
    play,
    save,
)
from tradebft.lab.metrics import tradebft_version
from tradebft.lab.progress import Progress, silent
from tradebft.network.chance import Chance

VIEWS: Final = 4
LIMIT: Final = 12_000  # about a minute on one core
PIECE: Final = 100  # scenarios that a process takes at once
FILES_MAX: Final = 20  # replay files; one broken rule breaks many scenarios
Number = tuple[int, ...]  # a scenario: which twins, then which choice in each view


# --- scenarios as numbers ---


def doubled(beyond_f: bool) -> list[tuple[int, ...]]:
    """Who has twins: each member in turn; with *beyond_f* each pair, which is one more than is tolerated."""
    return list(combinations(range(NODES), CONFIG.faults + beyond_f))


def scenario_of(number: Number, beyond_f: bool = False) -> Scenario:
    """The scenario of that number."""
    twins = doubled(beyond_f)[number[0]]
    offered = choices(twins)
    return Scenario(twins, tuple(offered[choice] for choice in number[1:]))


@cache
def exchanges(twins: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """What becomes of each choice when some twins and their originals are exchanged: a row for each such set."""
    offered = choices(twins)
    place = {choice: index for index, choice in enumerate(offered)}
    rows = []
    for some in product((False, True), repeat=len(twins)):
        names = {seat: seat for seat in range(NODES + len(twins))}
        for index, member in enumerate(twins):
            if some[index]:
                names[member], names[NODES + index] = NODES + index, member
        rows.append(tuple(place[_renamed(choice, names)] for choice in offered))
    return tuple(rows)


def _renamed(view: View, names: dict[int, int]) -> View:
    groups = tuple(sorted(tuple(sorted(names[seat] for seat in group)) for group in view.groups))
    wall = view.firewall
    return View(groups, Firewall(wall.kind, tuple(names[s] for s in wall.reaches)) if wall else None)


def is_first(number: Number, beyond_f: bool) -> bool:
    """Whether *number* is the lowest of those that differ in the names of twins only."""
    rows = exchanges(doubled(beyond_f)[number[0]])
    return all(number[1:] <= tuple(row[choice] for choice in number[1:]) for row in rows[1:])


def how_many(views: int, beyond_f: bool = False) -> int:
    """Scenarios of so many views, those that differ in the names of twins only counted once (Burnside's lemma)."""
    total = 0
    for twins in doubled(beyond_f):
        rows = exchanges(twins)
        fixed = [sum(row[choice] == choice for choice in range(len(row))) for row in rows]
        total += sum(count**views for count in fixed) // len(rows)
    return total


def every(views: int, beyond_f: bool) -> Iterator[Number]:
    """All scenarios of so many views."""
    for index, twins in enumerate(doubled(beyond_f)):
        for numbers in product(range(len(choices(twins))), repeat=views):
            if is_first((index, *numbers), beyond_f):
                yield (index, *numbers)


def drawn(views: int, seed: int, beyond_f: bool) -> Iterator[Number]:
    """Scenarios of so many views without end, each once, as *seed* has it."""
    dice = Dice(Chance(seed).stream("twins", views, int(beyond_f)))
    seen: set[Number] = set()
    pairs = doubled(beyond_f)
    while True:
        index = dice.whole(0, len(pairs) - 1)
        most = len(choices(pairs[index])) - 1
        number = (index, *(dice.whole(0, most) for _ in range(views)))
        if number not in seen and is_first(number, beyond_f):
            seen.add(number)
            yield number


# --- exploring ---


class _Piece(msgspec.Struct, frozen=True):
    beyond_f: bool
    numbers: list[Number]


def _played(piece: _Piece) -> list[Played]:
    return [play(scenario_of(number, piece.beyond_f)) for number in piece.numbers]


class _Sums:
    """What the scenarios of one length came to."""

    def __init__(self, views: int, there_are: int, share: int) -> None:
        self.views, self.there_are, self.share = views, there_are, share
        self.complete = share >= there_are
        self.played = self.decided = self.carried = self.caught = self.hops = self.messages = 0
        self.distinct: set[bytes] = set()

    def add(self, played: Played) -> None:
        self.played += 1
        self.decided += played.decided > 0
        self.carried += played.carried
        self.caught += played.caught
        self.hops = max(self.hops, played.hops)
        self.messages += played.messages
        self.distinct.add(played.fingerprint)

    def document(self) -> dict[str, Any]:
        return {
            "views": self.views,
            "there_are": self.there_are,
            "played": self.played,
            "complete": self.complete and self.played == self.there_are,
            "distinct": len(self.distinct),
            "decided": self.decided,
            "carried_over": self.carried,
            "twins_caught": self.caught,
            "calm_rounds_max": self.hops,
            "messages": self.messages,
        }


def shares(views: int, limit: int, beyond_f: bool) -> list[_Sums]:
    """How *limit* is spent: scenarios of 1, 2, ... views share alike, and few views leave what they do not need."""
    rest, found = limit, []
    for number in range(1, views + 1):
        there_are = how_many(number, beyond_f)
        share = min(there_are, rest // (views - number + 1))
        rest -= share
        found.append(_Sums(number, there_are, share))
    return found


def explore(
    views: int = VIEWS,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    beyond_f: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Play up to *limit* scenarios of 1 to *views* views; the same ones whatever the number of *workers*.

    With *beyond_f* two members have twins and liveness is not judged. *out*: the folder for replay files. ValueError
    for numbers that cannot be; after Ctrl-C the document has what there is until then, and `complete` is false.
    """
    if not 1 <= views <= VIEWS_MAX:
        raise ValueError(f"views: expected 1 to {VIEWS_MAX}, found {views}")
    limit = LIMIT if limit is None else limit
    if limit < 1:
        raise ValueError(f"limit: expected at least 1, found {limit}")
    begun = time.perf_counter()
    sums = shares(views, limit, beyond_f)
    asked = sum(each.share for each in sums)
    broken: list[tuple[Number, Violation]] = []
    interrupted = False
    try:
        for each in sums:
            numbers = every(each.views, beyond_f) if each.complete else drawn(each.views, seed, beyond_f)
            done = sum(earlier.played for earlier in sums)
            for number, played in _all(islice(numbers, each.share), beyond_f, workers):
                each.add(played)
                broken += ((number, violation) for violation in _worst(played))
                progress("twins", done + each.played, asked)
    except KeyboardInterrupt:
        interrupted = True
    wall = time.perf_counter() - begun
    count = sum(each.played for each in sums)
    return {
        "command": "fuzz --twins",
        "version": tradebft_version(),
        "complete": not interrupted,
        "nodes": NODES,
        "twins": CONFIG.faults + beyond_f,
        "beyond_f": beyond_f,
        "seed": seed,
        "scenarios": count,
        "by_views": [each.document() for each in sums],
        "violations": [
            _told(number, violation, beyond_f, out if index < FILES_MAX else None)
            for index, (number, violation) in enumerate(broken)
        ],
        "workers": workers,
        "wall_seconds": round(wall, 3),
        "scenarios_per_second": round(count / wall, 1),
    }


def _all(numbers: Iterable[Number], beyond_f: bool, workers: int) -> Iterator[tuple[Number, Played]]:
    rest = iter(numbers)
    pieces = iter(lambda: _Piece(beyond_f, list(islice(rest, PIECE))), _Piece(beyond_f, []))
    held: list[_Piece] = []

    def noted() -> Iterator[_Piece]:
        for piece in pieces:
            held.append(piece)
            yield piece

    for answers in worked_off(_played, noted(), workers):
        yield from zip(held.pop(0).numbers, answers, strict=True)


def _worst(played: Played) -> list[Violation]:
    """One violation a scenario: broken agreement if it is, else the first."""
    found = sorted(played.violations, key=lambda violation: violation.invariant != "agreement")
    return found[:1]


def _told(number: Number, violation: Violation, beyond_f: bool, out: Path | None) -> dict[str, Any]:
    scenario = scenario_of(number, beyond_f)
    told: dict[str, Any] = {
        "scenario": "twins " + ".".join(map(str, number)),
        **msgspec.to_builtins(violation),
        "described": msgspec.to_builtins(described(scenario)),
    }
    if out is not None:
        path = out / f"twins-{'-'.join(map(str, number))}.json"
        save(path, scenario, violation)
        told |= {"replay": str(path), "command": f"tradebft fuzz --twins --scenario {shlex.quote(str(path))}"}
    return told
