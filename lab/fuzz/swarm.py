"""Many trials: one after another here, or side by side in worker processes, added up in the order of their seeds.

    report = swarm(range(0, 2001), Options(), workers=2)
    report.document()["violations"]

    outcome = first_violation(range(100), Options(mutant="quorum-of-2f"), seconds=60)

What a seed gives depends on the seed and the options alone, so the report is the same whatever the number of workers;
only its wall-clock figures are not.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import msgspec
from tradebft.consensus.invariants import Violation
from tradebft.lab.fuzz.case import Case
from tradebft.lab.fuzz.draw import NODES, draw
from tradebft.lab.fuzz.outcome import Counts, Outcome
from tradebft.lab.fuzz.trial import try_case
from tradebft.lab.metrics import tradebft_version
from tradebft.lab.progress import Progress, silent

S = 10**9


class Options(msgspec.Struct, frozen=True):
    """What a seed does not decide. *nodes*: fewest and most members, both included."""

    nodes: tuple[int, int] = NODES
    beyond_f: bool = False
    mutant: str = ""

    def case(self, seed: int) -> Case:
        """The case of that seed."""
        low, high = self.nodes
        return draw(seed, range(low, high + 1), self.beyond_f, self.mutant)


def first_violation(
    seeds: Iterable[int], options: Options | None = None, seconds: float = float("inf")
) -> Outcome | None:
    """Try seeds one after another in this process; the first outcome with a violation, or None.

    None too when *seconds* of wall time are over before one was found.
    """
    options = options or Options()
    end = time.monotonic() + seconds
    for seed in seeds:
        outcome = try_case(options.case(seed))
        if outcome.violations:
            return outcome
        if time.monotonic() >= end:
            break
    return None


class Report:
    """What came of a swarm."""

    def __init__(self, options: Options, workers: int) -> None:
        self.options, self.workers = options, workers
        self.outcomes: dict[int, Outcome] = {}
        self.lost: dict[int, str] = {}  # seeds without an outcome, and why
        self.wall_seconds = 0.0
        self.interrupted = False

    @property
    def complete(self) -> bool:
        """Whether every seed that was asked for has its outcome."""
        return not self.interrupted and not self.lost

    @property
    def violations(self) -> list[tuple[int, Violation]]:
        """(seed, first broken invariant), by seed."""
        return [
            (seed, outcome.violations[0])
            for seed, outcome in sorted(self.outcomes.items())
            if outcome.violations
        ]

    def digest(self) -> str:
        """One number for all runs: equal for equal seeds, options and code."""
        every = hashlib.blake2b(digest_size=16)
        for seed, outcome in sorted(self.outcomes.items()):
            every.update(f"{seed} {outcome.digest}\n".encode())
        return every.hexdigest()

    def document(self) -> dict[str, Any]:
        """Everything as one JSON document, without replay files: docs/fuzzing.md says what each entry means."""
        outcomes = [outcome for _, outcome in sorted(self.outcomes.items())]
        seeds, wall = len(outcomes), self.wall_seconds
        return {
            "version": tradebft_version(),
            "complete": self.complete,
            "seeds": seeds,
            "first_seed": min(self.outcomes, default=None),
            "last_seed": max(self.outcomes, default=None),
            "nodes": list(self.options.nodes),
            "beyond_f": self.options.beyond_f,
            "violations": [
                {"seed": seed, **msgspec.to_builtins(violation)} for seed, violation in self.violations
            ],
            "virtual_seconds": round(sum(outcome.virtual_ns for outcome in outcomes) / S, 3),
            "wall_seconds": round(wall, 3),
            "seeds_per_minute": round(60 * seeds / wall, 1) if wall > 0 else None,
            "workers": self.workers,
            "messages": sum(outcome.messages for outcome in outcomes),
            "messages_by_kind": _total(outcome.kinds for outcome in outcomes),
            "faults_injected": _total(outcome.injected for outcome in outcomes),
            "coverage": _total(outcome.coverage for outcome in outcomes),
            "seeds_that_reached": _reached(outcome.coverage for outcome in outcomes),
            "clusters": {
                str(nodes): n for nodes, n in sorted(Counter(outcome.nodes for outcome in outcomes).items())
            },
            "evidence": _total(outcome.evidence for outcome in outcomes),
            "refusals": _total(outcome.refusals for outcome in outcomes),
            "lost_seeds": [{"seed": seed, "why": why} for seed, why in sorted(self.lost.items())],
            "digest": self.digest(),
        }


def _total(parts: Iterable[Counts]) -> Counts:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def _reached(parts: Iterable[Counts]) -> Counts:
    return _total({what: 1 for what, n in part.items() if n} for part in parts)


def swarm(
    seeds: Iterable[int] | None,
    options: Options,
    workers: int,
    minutes: float | None = None,
    progress: Progress = silent,
) -> Report:
    """Try *seeds* (None: 0, 1, 2, ... until the *minutes* are over) in that many processes.

    Ctrl-C ends it early: the report then holds what there is, and says so.
    """
    from tradebft.lab.fuzz.pool import Pool  # it imports the worker, which imports this module

    report = Report(options, workers)
    begun = time.monotonic()
    end = begun + 60 * minutes if minutes is not None else float("inf")
    todo = list(seeds) if seeds is not None else None
    total = len(todo) if todo is not None else None
    try:
        with Pool(workers, options) as pool:
            for seed, answer in pool.run(_until(todo, end)):
                if isinstance(answer, Outcome):
                    report.outcomes[seed] = answer
                else:
                    report.lost[seed] = answer
                done = len(report.outcomes) + len(report.lost)
                if total is not None:
                    progress("seeds", done, total)
                else:
                    progress("seeds", min(time.monotonic(), end) - begun, end - begun)
    except KeyboardInterrupt:
        report.interrupted = True
    report.wall_seconds = time.monotonic() - begun
    return report


def _until(todo: list[int] | None, end: float) -> Iterator[int]:
    for seed in todo if todo is not None else count():
        if time.monotonic() >= end:
            return
        yield seed
