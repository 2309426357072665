"""A sweep from its plan to its folder. docs/exploring.md says what is in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from tradebft.lab.progress import Progress, silent
from tradebft.lab.results import ResultsError
from tradebft.lab.sweep.crew import Crew, dask_cluster, processes
from tradebft.lab.sweep.journal import Journal, journals, plan_in, rows_of
from tradebft.lab.sweep.plan import Plan, in_shard
from tradebft.lab.sweep.table import chosen, comparisons, points, table

TABLE: Final = "sweep.parquet"
FIGURE: Final = "sweep"


@dataclass(slots=True)
class Sweep:
    """What a sweep came to. *failed*: a line for each run that could not be done. *complete*: all others are."""

    plan: Plan
    folder: Path
    runs: pl.DataFrame
    points: pl.DataFrame
    comparisons: pl.DataFrame
    metrics: list[str]
    failed: list[str]
    complete: bool
    done_now: int = 0  # runs that were done this time, and not before
    wall_seconds: float = 0.0
    processor_seconds: float = 0.0  # of workers, in their runs
    workers: int = 0

    @property
    def document(self) -> dict[str, Any]:
        """All but the tables, JSON-ready."""
        busy = self.processor_seconds / (self.wall_seconds * self.workers) if self.done_now else None
        return {
            "scenario": self.plan.name,
            "version": self.plan.version,
            "grid": dict(self.plan.grid),
            "first_seed": self.plan.first_seed,
            "seeds": self.plan.seeds,
            "runs": self.plan.size,
            "finished": self.runs.height,
            "done_now": self.done_now,
            "failed": self.failed,
            "complete": self.complete,
            "wall_seconds": self.wall_seconds,
            "workers": self.workers,
            "processors_busy": busy,
            "folder": str(self.folder),
            "metrics": self.metrics,
            "points": self.points.to_dicts(),
            "comparisons": self.comparisons.to_dicts(),
        }


def sweep(
    plan: Plan,
    folder: str | Path,
    *,
    workers: int | None = None,
    dask: str | None = None,
    shard: tuple[int, int] = (1, 1),
    metrics: Sequence[str] = (),
    engine: str = "reference",
    progress: Progress = silent,
) -> Sweep:
    """Do every run of *plan* that *folder* does not have yet, and make sense of all that it has.

    *workers*: processes of this machine (default: one a processor); *dask*: the address of a cluster's scheduler
    instead; *shard*: do the i-th of N parts only, and leave the tables to `merge`. Ctrl-C raises KeyboardInterrupt;
    what is done is kept. ResultsError for a folder that cannot be written or is another sweep's, ScenarioError for a
    *metrics* that no run has."""
    target = Path(folder)
    make, count = dask_cluster(dask) if dask else processes(workers)
    failed, done_now, spent = [], 0, 0.0
    begun = time.perf_counter()
    with Journal(target, plan, shard) as journal:
        mine = [run for run in in_shard(plan.runs(), shard) if run.number not in journal.done]
        total = len(mine)
        progress("runs", 0, total)
        with Crew(make, count) as crew:
            for row in crew.done(plan.scenario, mine, engine):
                journal.add(row)
                done_now += 1
                spent += row.get("processor_seconds", 0.0)
                if "error" in row:
                    failed.append(f"run {row['run']}: {row['error']}")
                progress("runs", done_now, total)
    wall = time.perf_counter() - begun
    found = _evaluated(plan, target, metrics, write=shard == (1, 1))
    found.failed, found.done_now, found.workers = failed, done_now, count
    found.wall_seconds, found.processor_seconds = wall, spent
    return found


def merge(folders: Sequence[str | Path], metrics: Sequence[str] = ()) -> Sweep:
    """Make one sweep of the shards in *folders*, and write its tables into the first of them. ResultsError where they
    are not of one plan."""
    first, *others = [Path(folder) for folder in folders]
    plan = plan_in(first)
    for other in others:
        if plan_in(other).identity != plan.identity:
            raise ResultsError(f"{other}: another sweep than that in {first}")
    return _evaluated(plan, first, metrics, also=others, write=True)


def _evaluated(
    plan: Plan, folder: Path, asked: Sequence[str], also: Sequence[Path] = (), *, write: bool
) -> Sweep:
    rows = [row for place in (folder, *also) for path in journals(place) for row in rows_of(path)]
    frame = table(plan, rows)
    metrics = chosen(frame, asked) if frame.height else []
    found = Sweep(
        plan, folder, frame, points(plan, frame, metrics), comparisons(plan, frame, metrics), metrics,
        failed=[], complete=frame.height == plan.size,
    )  # fmt: skip
    if write and frame.height:
        _write(found)
    return found


def _write(found: Sweep) -> None:
    from tradebft.lab import figure_style
    from tradebft.lab.sweep.figure import curves

    folder = found.folder
    try:
        found.runs.write_parquet(folder / f".{TABLE}")
        (folder / f".{TABLE}").rename(folder / TABLE)
        found.points.write_csv(folder / "points.csv")
        found.comparisons.write_csv(folder / "comparisons.csv")
        with figure_style.style():
            drawn = curves(found.plan, found.points, found.metrics)
            if drawn is not None:
                figure_style.write(drawn, folder / FIGURE)
    except OSError as error:
        raise ResultsError(f"{folder}: cannot be written: {error.strerror or error}") from None
