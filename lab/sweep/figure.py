"""A sweep as curves: each figure over the grid's first key, a colour for each value of its second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from tradebft.lab import wording
from tradebft.lab.figure_style import SERIES, legend_below, light_grid, new_figure
from tradebft.lab.points_figure import Axis, axis_of, name_of
from tradebft.lab.sweep.plan import Plan
from tradebft.lab.sweep.row import AT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEYS_MAX = 2


def curves(plan: Plan, points: pl.DataFrame, metrics: Sequence[str]) -> Figure | None:
    """A panel for each of *metrics*: means over seeds with 95 % confidence intervals. None where the grid has no key,
    or more than two of several values: a curve would then mix points that differ in something that it does not
    show."""
    from matplotlib.lines import Line2D

    several = [key for key, values in plan.grid if len(values) > 1]
    if not several or len(several) > KEYS_MAX or points.is_empty() or not metrics:
        return None
    first, *second = several
    axis = axis_of(first, points[AT + first].to_list())
    groups = points[AT + second[0]].unique(maintain_order=True).to_list() if second else [None]
    figure = new_figure(2.9)
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(1, len(metrics), number)
        for colour, group in zip(SERIES * len(groups), groups, strict=False):
            of_group = points if group is None else points.filter(pl.col(AT + second[0]) == group)
            _curve(axes, [axis.place(value) for value in of_group[AT + first]], of_group, metric, colour)
        _dress(axes, metric, axis, points[AT + first].to_list())
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=3, label=f"{name_of(second[0])} = {group}")
        for colour, group in zip(SERIES * len(groups), groups, strict=False)
        if second
    ]
    bars = f"95 % interval of the mean, {plan.seeds} seeds" if plan.seeds > 1 else "one seed: no interval"
    handles.append(Line2D([], [], color="#444444", marker="|" if plan.seeds > 1 else "", label=bars))
    legend_below(figure, handles, columns=min(len(handles), 4))
    return figure


def _curve(axes: Axes, x: list[float], rows: pl.DataFrame, metric: str, colour: str) -> None:
    kept = [
        (at, mean, low if low is not None else mean, high if high is not None else mean)
        for at, mean, low, high in zip(
            x, rows[metric], rows[f"{metric}.low"], rows[f"{metric}.high"], strict=True
        )
        if mean is not None
    ]
    kept.sort()
    if kept:
        places, means, lows, highs = zip(*kept, strict=True)
        below = [mean - low for mean, low in zip(means, lows, strict=True)]
        above = [high - mean for mean, high in zip(means, highs, strict=True)]
        axes.errorbar(
            places,
            means,
            yerr=[below, above],
            color=colour,
            marker="o",
            markersize=3,
            linewidth=1.2,
            capsize=2,
        )


def _dress(axes: Axes, metric: str, axis: Axis, values: list[Any]) -> None:
    axes.set_title(wording.figure(metric))
    axes.set_xlabel(axis.label)
    light_grid(axes, "both")
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
    x = sorted({axis.place(value) for value in values})
    if min(x) > 0 and max(x) / min(x) >= 10:  # else the marks of 5 and 10 beside 100 run into each other
        axes.set_xscale("log")
    axes.set_xticks(x, axis.names or [f"{place:,.12g}" for place in x])
    axes.minorticks_off()
