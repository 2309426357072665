"""Which runs a sweep consists of: every combination of the grid's values, each with the same seeds.

The seeds are the same at every point, so that two points meet the same weather and the same workload (common random
numbers) and can be compared seed by seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from tradebft.lab.metrics import tradebft_version
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.loading import check_points
from tradebft.scenarios.schema import Scenario

FORMAT: Final = "tradebft-sweep-1"
RUNS_MAX: Final = 1_000_000
_OPENING, _CLOSING = "[{", "]}"


class Run(NamedTuple):
    """One run: its *number* in the plan, the grid's values at it (as they were written), and its seed."""

    number: int
    at: dict[str, str]
    seed: int


class Plan(msgspec.Struct, frozen=True):
    """A sweep, in full: whoever has this can do any of its runs and get what anybody else gets."""

    scenario: dict[str, Any]  # resolved: every default written out
    grid: list[tuple[str, list[str]]]
    first_seed: int
    seeds: int
    version: str
    format: str = FORMAT

    @property
    def points(self) -> int:
        """How many combinations of values there are."""
        count = 1
        for _, values in self.grid:
            count *= len(values)
        return count

    @property
    def size(self) -> int:
        """How many runs there are."""
        return self.points * self.seeds

    @property
    def identity(self) -> str:
        """A digest of the whole plan, version included: rows of two plans do not belong together."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The scenario's name."""
        return str(self.scenario["name"])

    def places(self) -> Iterator[dict[str, str]]:
        """The grid's values at every point."""
        keys = [key for key, _ in self.grid]
        for values in itertools.product(*(values for _, values in self.grid)):
            yield dict(zip(keys, values, strict=True))

    def runs(self) -> Iterator[Run]:
        """All of them, point by point."""
        numbers = itertools.count()
        for at in self.places():
            for repeat in range(self.seeds):
                yield Run(next(numbers), at, self.first_seed + repeat)


def planned(
    scenario: Scenario,
    grid: Sequence[tuple[str, list[str]]],
    seeds: int,
    warn: Callable[[list[str]], object] = lambda warnings: None,
) -> Plan:
    """The sweep of *scenario* over *grid* (see `grid_of`). ScenarioError for a point that cannot run (every value is
    tried, and the first 2,000 points), and for more than a million runs; *warn* is told what points probably do not
    mean to be."""
    if seeds < 1:
        raise ScenarioError(f"seeds: expected at least 1, got {seeds}")
    keys = [key for key, _ in grid]
    for key in keys:
        if keys.count(key) > 1:
            raise ScenarioError(f"--grid {key}: named twice")
        if key == "seed":
            raise ScenarioError("--grid seed: the seeds of a sweep are counted from --seed; see --seeds")
    named = [(key, list(values)) for key, values in grid]
    plan = Plan(scenario.single(), named, scenario.seed, seeds, tradebft_version())
    if plan.size > RUNS_MAX:
        raise ScenarioError(f"{plan.size:,} runs; a sweep has at most {RUNS_MAX:,}")
    warn(check_points(scenario, dict(named), lambda key: "--grid "))
    return plan


def grid_of(texts: Sequence[str]) -> list[tuple[str, list[str]]]:
    """`KEY=V1,V2,...` texts as keys and values. Commas within brackets and quotes belong to a value. ScenarioError."""
    grid = []
    for text in texts:
        key, equals, values = text.partition("=")
        split = _split(values)
        if not equals or not key.strip() or not all(split):
            raise ScenarioError(
                f"--grid {text}: expected KEY=VALUE,VALUE,..., such as consensus.batch_size=1,10,100"
            )
        if len(set(split)) < len(split):
            raise ScenarioError(f"--grid {text}: a value stands there twice")
        grid.append((key.strip(), split))
    return grid


def _split(text: str) -> list[str]:
    values, depth, quote, begun = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == "," and not depth:
            values.append(text[begun:place].strip())
            begun = place + 1
    return [*values, text[begun:].strip()]


def shard_of(text: str) -> tuple[int, int]:
    """`i/N` as (i, N), with 1 <= i <= N. ScenarioError."""
    one, slash, all_ = text.partition("/")
    if slash and one.isdecimal() and all_.isdecimal() and 1 <= int(one) <= int(all_):
        return int(one), int(all_)
    raise ScenarioError(f"--shard {text}: expected i/N with i from 1 to N, such as 1/4")


def in_shard(runs: Iterator[Run], shard: tuple[int, int]) -> Iterator[Run]:
    """The runs of that shard: every N-th, so that long and short points are spread alike."""
    one, all_ = shard
    return (run for run in runs if run.number % all_ == one - 1)
