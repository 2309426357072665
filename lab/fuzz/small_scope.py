"""Which small-scope plans are played: c lies of one member and d cuts of the network, all of them or draws of a seed.

    explore(limit=10_000)["violations"]

After ByzzFuzz (Winter and others, "Randomized Testing of Byzantine Fault Tolerant Algorithms", OOPSLA 2023): real
messages changed by one step, in chosen rounds, told to chosen receivers. `small_steps` has the steps, `small_scene` the
run that they happen in, docs/explorers.md the counts.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from functools import cache
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any, Final

import msgspec
from tradebft.consensus.invariants import Violation
from tradebft.lab.fuzz.dice import Dice
from tradebft.lab.fuzz.side_by_side import worked_off
from tradebft.lab.fuzz.small_scene import END, NODES, Cut, Lie, Plan, Played, Stage, play
from tradebft.lab.fuzz.twin_scenario import ScenarioError
from tradebft.lab.metrics import tradebft_version
from tradebft.lab.progress import Progress, silent
from tradebft.network.chance import Chance

FORMAT: Final = "tradebft-small-scope-1"
LIMIT: Final = 7000  # about a minute on one core; 14,000 play every single lie and every single cut
PIECE: Final = 100  # plans that a process takes at once
FILES_MAX: Final = 20
LASTS: Final = (1, 6)  # rounds of a cut: one phase, or a whole agreement
NOBODY: Final = -1
CLASSES: Final = ((0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))  # (lies, cuts)


# --- what there is to choose from ---


@cache
def lies(liar: int) -> tuple[Lie, ...]:
    """Every small step from every message that *liar* sends in the script, told to every subset of its receivers."""
    stage = Stage(Plan(liar, (), ()))
    stage.run()
    assert not stage.network.violations, stage.network.violations
    found = []
    for label, (names, given) in stage.offered.items():
        receivers = sorted(given)
        for size in range(len(receivers), 0, -1):
            for some in combinations(receivers, size):
                found += [Lie(label, step, some) for step in names]
    return tuple(found)


@cache
def cuts() -> tuple[Cut, ...]:
    """Every split of the members, in every round in which the script sends something."""
    stage = Stage(Plan(NOBODY, (), ()))
    stage.run()
    splits = [groups for groups in _splits(tuple(range(NODES))) if len(groups) > 1]
    rounds = sorted(at for at in stage.rounds_used if at < END)
    return tuple(Cut(at, lasts, groups) for lasts in LASTS for at in rounds for groups in splits)


def _splits(members: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every way to split *members* into groups."""
    if not members:
        yield ()
        return
    first, rest = members[0], members[1:]
    for size in range(len(rest) + 1):
        for others in combinations(rest, size):
            left = tuple(member for member in rest if member not in others)
            for groups in _splits(left):
                yield ((first, *others), *groups)


def how_many(told: int, split: int) -> int:
    """Plans with so many lies and cuts."""
    ways = _choose(len(cuts()), split)
    return ways * (sum(_choose(len(lies(liar)), told) for liar in range(NODES)) if told else 1)


def _choose(of: int, count: int) -> int:
    return (1, of, of * (of - 1) // 2)[count]


def every(told: int, split: int) -> Iterator[Plan]:
    """All plans with so many lies and cuts."""
    for liar in range(NODES) if told else (NOBODY,):
        said = combinations(lies(liar), told) if told else iter([()])
        for some, split_by in product(said, list(combinations(cuts(), split))):
            yield Plan(liar, some, split_by)


def drawn(told: int, split: int, seed: int) -> Iterator[Plan]:
    """Plans with so many lies and cuts without end, each once, as *seed* has it: every liar alike."""
    dice = Dice(Chance(seed).stream("small-scope", told, split))
    seen: set[tuple[int, ...]] = set()
    while True:
        liar = dice.whole(0, NODES - 1) if told else NOBODY
        offered = lies(liar) if told else ()
        some = sorted(dice.some(range(len(offered)), told))
        split_by = sorted(dice.some(range(len(cuts())), split))
        if (name := (liar, *some, *split_by)) not in seen:
            seen.add(name)
            yield Plan(liar, tuple(offered[i] for i in some), tuple(cuts()[i] for i in split_by))


# --- exploring ---


def _played(plans: list[Plan]) -> list[Played]:
    return [play(plan) for plan in plans]


class _Sums:
    """What the plans of one class came to."""

    def __init__(self, told: int, split: int, there_are: int, share: int) -> None:
        self.lies, self.cuts, self.there_are, self.share = told, split, there_are, share
        self.played = self.told = self.caught = self.views = self.rounds = self.messages = 0

    def add(self, played: Played) -> None:
        self.played += 1
        self.told += played.told > 0
        self.caught += played.caught
        self.views = max(self.views, played.views)
        self.rounds = max(self.rounds, played.rounds)
        self.messages += played.messages

    def plans(self, seed: int) -> Iterator[Plan]:
        all_of_them = self.share >= self.there_are
        plans = every(self.lies, self.cuts) if all_of_them else drawn(self.lies, self.cuts, seed)
        return islice(plans, self.share)

    def document(self) -> dict[str, Any]:
        return {
            "lies": self.lies,
            "cuts": self.cuts,
            "there_are": self.there_are,
            "played": self.played,
            "complete": self.played == self.there_are,
            "lies_told": self.told,
            "liars_caught": self.caught,
            "views_max": self.views,
            "calm_rounds_max": self.rounds,
            "messages": self.messages,
        }


def shares(limit: int) -> list[_Sums]:
    """How *limit* is spent: single faults first, on up to seven eighths of it; the others share alike what is left."""
    rest, found = limit, []
    sizes = sorted((how_many(*each), each) for each in CLASSES)
    for place, (there_are, (told, split)) in enumerate(sizes):
        singles = len([each for _, each in sizes[place:] if sum(each) == 1])
        among = singles or len(sizes) - place
        share = min(there_are, (rest - limit // 8 if singles else rest) // among)
        rest -= share
        found.append(_Sums(told, split, there_are, share))
    return found


def explore(
    limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    out: Path | None = None,
) -> dict[str, Any]:
    """Play up to *limit* plans of up to two lies and two cuts; the same ones whatever the number of *workers*.

    *out*: the folder for replay files. ValueError for a limit below 1; after Ctrl-C the document has what there is
    until then, and `complete` is false.
    """
    limit = LIMIT if limit is None else limit
    if limit < 1:
        raise ValueError(f"limit: expected at least 1, found {limit}")
    begun = time.perf_counter()
    sums = shares(limit)
    asked = sum(each.share for each in sums)
    broken: list[tuple[Plan, Violation]] = []
    done, interrupted = 0, False
    try:
        for each in sums:
            for plan, played in _all(each.plans(seed), workers):
                each.add(played)
                broken += ((plan, violation) for violation in played.violations[:1])
                done += 1
                progress("small scope", done, asked)
    except KeyboardInterrupt:
        interrupted = True
    wall = time.perf_counter() - begun
    return {
        "command": "fuzz --small-scope",
        "version": tradebft_version(),
        "complete": not interrupted,
        "nodes": NODES,
        "seed": seed,
        "scenarios": done,
        "by_class": [each.document() for each in sums],
        "violations": [
            _told(index, plan, violation, out if index < FILES_MAX else None)
            for index, (plan, violation) in enumerate(broken)
        ],
        "workers": workers,
        "wall_seconds": round(wall, 3),
        "scenarios_per_second": round(done / wall, 1),
    }


def _all(plans: Iterator[Plan], workers: int) -> Iterator[tuple[Plan, Played]]:
    held: list[list[Plan]] = []

    def pieces() -> Iterator[list[Plan]]:
        while piece := list(islice(plans, PIECE)):
            held.append(piece)
            yield piece

    for answers in worked_off(_played, pieces(), workers):
        yield from zip(held.pop(0), answers, strict=True)


# --- files ---


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a plan's file holds: the plan, and the violation that is expected of it."""

    format: str
    plan: Plan
    violation: Violation | None


def _told(index: int, plan: Plan, violation: Violation, out: Path | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "scenario": in_words(plan),
        **msgspec.to_builtins(violation),
        "plan": msgspec.to_builtins(plan),
    }
    if out is not None:
        path = out / f"small-scope-{index}.json"
        save(path, plan, violation)
        told |= {
            "replay": str(path),
            "command": f"tradebft fuzz --small-scope --scenario {shlex.quote(str(path))}",
        }
    return told


def in_words(plan: Plan) -> str:
    """ "replica 1: NewView/1/0#0 with proposal nulled to 0, 2"."""
    parts = [
        f"replica {plan.liar}: {lie.label} with {lie.step} to "
        + ", ".join("its client" if receiver < 0 else str(receiver) for receiver in lie.receivers)
        for lie in plan.lies
    ]
    parts += [
        f"rounds {cut.at} to {cut.at + cut.lasts - 1} cut into "
        + " | ".join(" ".join(map(str, group)) for group in cut.groups)
        for cut in plan.cuts
    ]
    return "; ".join(parts) or "nothing but the script"


def save(path: Path, plan: Plan, violation: Violation | None) -> None:
    """Write a plan's file; its folder is made if need be. OSError where that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(Kept(FORMAT, plan, violation)), indent=1)
    path.write_bytes(text + b"\n")


def load(path: Path) -> tuple[Plan, Violation | None]:
    """The plan of a file, and what is expected of it. ScenarioError, in one line, for anything else."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ScenarioError(f"{path}: not a small-scope plan: {' '.join(str(error).split())}") from None
    if kept.format != FORMAT:
        raise ScenarioError(f"{path}: format {kept.format!r}, expected {FORMAT!r}")
    if not NOBODY <= kept.plan.liar < NODES:
        raise ScenarioError(f"{path}: liar: expected a member below {NODES}, or -1; found {kept.plan.liar}")
    return kept.plan, kept.violation
