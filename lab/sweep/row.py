"""One run of a sweep, as one flat row: what was set, what came out, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tradebft.lab.sweep.plan import Run

AT: Final = "at."
"""Before the name of a grid's key, so that it is told from a figure of the same name."""
COST: Final = ("wall_seconds", "processor_seconds")
"""What differs between two times that one run is done; everything else does not."""
_LEFT_OUT: Final = frozenset(
    ("settings", "network", "points", "coverage", "evidence", "faults", "schema_version", "wall_seconds",
     "seed", "version", "title", "bus", "protocol")
)  # fmt: skip


def row(scenario: Mapping[str, Any], run: Run, engine: str = "reference") -> dict[str, Any]:
    """Do *run* of the resolved *scenario*. Its row, with `error` in place of figures where it could not be done.

    A plain function of plain values, so that any executor can have it done anywhere.
    """
    from tradebft.lab import metrics
    from tradebft.lab.progress import silent
    from tradebft.scenarios.errors import ScenarioError
    from tradebft.scenarios.loading import changed
    from tradebft.scenarios.run import execute

    begun, spent = time.perf_counter(), time.process_time()
    found = head(run)
    try:
        records = execute(changed(scenario, {**run.at, "seed": run.seed}, "--grid "), silent, engine=engine)
        document = metrics.document(records)
        found |= dict(figures(document))
        found["violations"] = len(document["invariants"]["violations"])
    except ScenarioError as error:
        found["error"] = str(error)
    except Exception as error:  # of a class of the user's own, perhaps: it costs this run, and no other
        found["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    found["wall_seconds"] = time.perf_counter() - begun
    found["processor_seconds"] = time.process_time() - spent
    return found


def head(run: Run) -> dict[str, Any]:
    """What every row of *run* begins with."""
    return {"run": run.number, **{AT + key: text for key, text in run.at.items()}, "seed": run.seed}


def figures(document: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of a result document, and the digests, by dotted key."""
    for key, value in document.items():
        if not before and key in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            yield from figures(value, f"{before}{key}.")
        elif value is None or isinstance(value, bool | int | float) or key in ("trace_digest", "state_root"):
            yield before + key, value
