"""A scenario that varies: one run for each value of a key, each with several seeds; a row a run.

All points of one seed meet the same weather (the draws depend on the seed alone), so that differences between them come
from what was varied.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from tradebft.lab import metrics
from tradebft.lab.progress import Progress, silent
from tradebft.scenarios.loading import with_changes
from tradebft.scenarios.records import Records
from tradebft.scenarios.schema import Scenario


def points_of(scenario: Scenario) -> Iterator[tuple[dict[str, Any], int]]:
    """(values by key, seed) of every run."""
    keys = list(scenario.vary)
    for values in itertools.product(*scenario.vary.values()):
        for repeat in range(scenario.repeats):
            yield dict(zip(keys, values, strict=True)), scenario.seed + repeat


def vary(scenario: Scenario, records: Records, progress: Progress, engine: str = "reference") -> None:
    """Run every point by *engine* and write its row into *records*. Ctrl-C leaves the rows so far, with `complete`
    false. ScenarioError for a point that *engine* does not cover."""
    from tradebft.scenarios.run import execute

    points = list(points_of(scenario))
    for done, (at, seed) in enumerate(points):
        if not records.complete:
            return
        progress("points", done, len(points))
        of_point = execute(with_changes(scenario, {**at, "seed": seed}), silent, engine=engine)
        records.complete = of_point.complete
        if of_point.complete:
            records.points.append(row(at, of_point))
            records.violations += of_point.violations
    progress("points", len(points), len(points))


def row(at: dict[str, Any], records: Records) -> dict[str, Any]:
    """What one run showed. Milliseconds; transactions a second."""
    consensus, speed = metrics.consensus(records), metrics.throughput(records)
    client, decision = consensus["client_ms"], consensus["decision_ms"]
    return {
        "at": at,
        "seed": records.seed,
        "committed_per_second": speed["committed_per_second"],
        "client_ms": {name: client[name] for name in ("mean", "p50", "p99", "max")},
        "decision_ms": {name: decision[name] for name in ("mean", "p50", "p99", "max")},
        "longest_silence_ms": longest_silence_ms(records),
        "view_changes": consensus["view_changes"],
        "unanswered": consensus["unanswered"],
        "messages": consensus["messages"]["total"],
        "trace_digest": records.trace_digest,
    }


def longest_silence_ms(records: Records) -> float | None:
    """The longest time in which no client got an answer, while there were requests to answer."""
    answered = records.requests.filter(pl.col("replied_ns") >= 0)["replied_ns"].sort().to_numpy()
    if len(answered) < 2:
        return None
    return float(np.diff(answered).max()) / 1e6
