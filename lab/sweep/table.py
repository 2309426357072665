"""What a sweep found: a row a run, an interval a point, and differences between points seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl
from tradebft.lab.sweep.plan import Plan
from tradebft.lab.sweep.row import AT
from tradebft.scenarios.errors import ScenarioError, suggestion

CONFIDENCE: Final = 0.95
USUAL: Final[tuple[str, ...]] = (
    "throughput.committed_per_second",
    "consensus.client_ms.p50",
    "consensus.client_ms.p99",
    "processes.chain.new_customer_days.p50",
    "processes.paper.new_customer_days.p50",
)
"""Figures that are shown where nobody asks for others; those that a scenario does not have are left out."""
_SHOWN_MAX: Final = 3


def table(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """One row a run, in the order of the plan, each run once. The grid's values are numbers where all of a key are."""
    by_run = {row["run"]: row for row in rows}
    ordered = [by_run[number] for number in sorted(by_run)]
    names = dict.fromkeys(name for row in ordered for name in row)
    frame = pl.DataFrame(
        {name: [row.get(name) for row in ordered] for name in names}, strict=False, infer_schema_length=None
    )
    for key, values in plan.grid:
        if all(_is_number(value) for value in values) and AT + key in frame.columns:
            whole = all(float(value).is_integer() and "." not in value for value in values)
            frame = frame.with_columns(
                pl.col(AT + key).cast(pl.Float64).cast(pl.Int64 if whole else pl.Float64)
            )
    return frame


def chosen(frame: pl.DataFrame, asked: Sequence[str]) -> list[str]:
    """The figures to show: those that were *asked* for, else the usual ones. ScenarioError for one that no run has."""
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    for name in asked:
        if name not in numbers:
            raise ScenarioError(f"--metric {name}: no run has it{suggestion(name, numbers)}")
    if asked:
        return list(asked)
    return [name for name in USUAL if name in frame.columns and frame[name].null_count() < frame.height][
        :_SHOWN_MAX
    ]


def points(plan: Plan, frame: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    """One row a point: of each of *metrics* the mean over seeds, how many seeds there were, and the ends of the 95 %
    confidence interval of that mean (Student's t, n - 1 degrees of freedom; null for fewer than two)."""
    keys = [AT + key for key, _ in plan.grid]
    made = []
    for at, group in _groups(frame, keys):
        row: dict[str, Any] = dict(zip(keys, at, strict=True))
        for name in metrics:
            mean, half, count = interval(group[name].drop_nulls().to_list())
            row |= {
                name: mean,
                **_ends(mean, half, f"{name}."),
                f"{name}.n": count,
            }
        made.append(row)
    return pl.DataFrame(made, infer_schema_length=None)


def comparisons(plan: Plan, frame: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    """For each key of the grid each other value against its first, everything else equal: the mean over seeds of the
    difference of two runs of one seed, and its 95 % confidence interval (paired t). Common random numbers make it much
    narrower than those of the two means."""
    made = []
    for key, values in plan.grid:
        others = [AT + other for other, _ in plan.grid if other != key]
        for at, group in _groups(frame, others):
            known = [value for value in dict.fromkeys(group[AT + key]) if value is not None]
            if len(known) < 2 or len(values) < 2:
                continue
            base = group.filter(pl.col(AT + key) == known[0])
            for value in known[1:]:
                paired = base.join(group.filter(pl.col(AT + key) == value), on="seed", suffix=" other")
                made += [
                    {
                        "key": key, "from": str(known[0]), "to": str(value),
                        "where": ", ".join(f"{o.removeprefix(AT)}={v}" for o, v in zip(others, at, strict=True)),
                        "metric": name, **_difference(paired[name], paired[f"{name} other"]),
                    }
                    for name in metrics
                ]  # fmt: skip
    return pl.DataFrame(made, infer_schema_length=None)


def _difference(one: pl.Series, other: pl.Series) -> dict[str, Any]:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    mean, half, count = interval([b - a for a, b in pairs])
    base = sum(a for a, _ in pairs) / len(pairs) if pairs else 0.0
    return {
        "difference": mean,
        **_ends(mean, half),
        "percent": None if mean is None or not base else 100 * mean / base,
        "n": count,
    }


def _ends(mean: float | None, half: float | None, before: str = "") -> dict[str, float | None]:
    """Where an interval begins and ends, if it is one."""
    if mean is None or half is None:
        return {f"{before}low": None, f"{before}high": None}
    return {f"{before}low": mean - half, f"{before}high": mean + half}


def interval(values: Sequence[float]) -> tuple[float | None, float | None, int]:
    """Mean, half width of its 95 % confidence interval (None for fewer than two values), and count."""
    n = len(values)
    if not n:
        return None, None, 0
    mean = math.fsum(values) / n
    if n < 2:
        return mean, None, n
    from scipy.special import stdtrit  # `scipy.stats` takes three times as long to load

    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance / n), n


def _groups(frame: pl.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    if not keys:
        yield (), frame
        return
    yield from frame.group_by(keys, maintain_order=True)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
