"""What consensus costs: commit latency as a distribution and over time, and messages against the closed
form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from tradebft.lab import wording
from tradebft.lab.figure_style import (
    BLUE,
    FAULT_COLOUR,
    GREEN,
    ORANGE,
    kind_colour,
    legend_below,
    legend_beside,
    light_grid,
    logarithmic,
    new_figure,
)
from tradebft.lab.metrics import PBFT_KINDS, closed_form
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 500
BINS = 60
LATENCIES = {
    "decision_ms": ("decision: a quorum\nof replicas committed", ORANGE, "-"),
    "all_commit_ms": ("every live honest\nreplica committed", BLUE, "--"),
    "client_ms": ("client: f + 1\nmatching replies", GREEN, "-"),
}


def commit_latency(document: dict[str, Any], records: Records) -> Figure | None:
    """Distribution functions of the three latencies, and the client's over the course of the run."""
    series = {key: values for key, values in _latencies(records).items() if values.size}
    if not series:
        return None
    over_time = records.requests.filter(pl.col("replied_ns") >= 0)
    figure = new_figure(3.0 if over_time.height < 20 else 5.4)
    panels = figure.subplots(1 if over_time.height < 20 else 2, 1, squeeze=False)[:, 0]
    _latency_functions(panels[0], series, document["consensus"])
    legend_beside(panels[0], panels[0].get_legend_handles_labels()[0])
    if len(panels) > 1:
        legend_beside(panels[1], _over_time(panels[1], over_time, records))
    return figure


def messages_by_kind(document: dict[str, Any], records: Records) -> Figure | None:
    """Messages sent, a bar a kind, with the number that PBFT's normal case needs for the same batches."""
    from matplotlib.ticker import MaxNLocator

    consensus = document["consensus"]
    counts = {kind: count for kind, count in consensus["messages"].items() if kind != "total" and count}
    if not counts:
        return None
    expected: dict[str, int] = {}
    if records.protocol == "pbft":
        expected = closed_form(document["nodes"], consensus["decided_batches"], consensus["transactions"])
    order = [kind for kind in PBFT_KINDS if kind in counts] + sorted(set(counts) - set(PBFT_KINDS))
    figure = new_figure(0.9 + 0.3 * len(order))
    axes = figure.subplots()
    for row, kind in enumerate(order):
        axes.barh(row, counts[kind], height=0.66, color=kind_colour(kind), linewidth=0)
        label = f"{counts[kind]:,}"
        if kind in expected:
            axes.plot([expected[kind]] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.6)
            label += _deviation(counts[kind], expected[kind])
        right = max(counts[kind], expected.get(kind, 0))
        axes.annotate(label, (right, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1.34 * max(*counts.values(), *expected.values(), 1))
    batches = wording.count(consensus["decided_batches"], "batch", "batches")
    axes.set_xlabel(f"messages sent, {batches}, n = {document['nodes']}")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(axis="y", length=0)
    light_grid(axes)
    if expected:
        from matplotlib.lines import Line2D

        legend_below(
            figure,
            [
                Line2D(
                    [],
                    [],
                    color="black",
                    marker="|",
                    markersize=10,
                    markeredgewidth=1.6,
                    linewidth=0,
                    label="closed form without faults",
                )
            ],
        )
    return figure


def _latencies(records: Records) -> dict[str, np.ndarray[Any, Any]]:
    decided = records.decisions.filter(pl.col("quorum_ns") >= 0)
    everywhere = records.decisions.filter(pl.col("all_ns") >= 0)
    answered = records.requests.filter(pl.col("replied_ns") >= 0)
    return {
        "decision_ms": np.sort((decided["quorum_ns"] - decided["proposed_ns"]).to_numpy() / 1e6),
        "all_commit_ms": np.sort((everywhere["all_ns"] - everywhere["proposed_ns"]).to_numpy() / 1e6),
        "client_ms": np.sort((answered["replied_ns"] - answered["intended_ns"]).to_numpy() / 1e6),
    }


def _latency_functions(
    axes: Axes, series: dict[str, np.ndarray[Any, Any]], consensus: dict[str, Any]
) -> None:
    highest = max(float(values[-1]) for values in series.values())
    lowest = min(
        (float(values[values > 0].min()) for values in series.values() if values[-1] > 0), default=highest
    )
    wide = highest > 20 * lowest
    for key, values in series.items():
        label, colour, dashes = LATENCIES[key]
        middle, late = (wording.milliseconds(consensus[key][name]) for name in ("p50", "p99"))
        shares = np.linspace(0, 1, min(POINTS, values.size + 1))
        at = np.quantile(values, shares, method="inverted_cdf")
        axes.step(
            np.concatenate([at[:1], at, [10 * highest]]),
            np.concatenate([[0.0], shares, [1.0]]),
            where="post",
            color=colour,
            linestyle=dashes,
            linewidth=1.8,
            label=f"{label}\np50 {middle}, p99 {late}",
        )
        for percentile, marker in (("p50", "o"), ("p99", "D")):
            share = int(percentile[1:]) / 100
            axes.plot(
                [consensus[key][percentile]],
                [share],
                marker,
                color=colour,
                markersize=5,
                markeredgecolor="white",
            )
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        axes.axhline(share, color="#AAAAAA", linewidth=0.7, linestyle=":", zorder=0)
        axes.annotate(
            name,
            (0, share),
            xycoords=("axes fraction", "data"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="#555555",
        )
    if wide:
        axes.set_xlim(0.9 * lowest, 1.1 * highest)
        logarithmic(axes, "x")
    else:
        axes.set_xlim(0, 1.04 * highest or 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("latency in milliseconds" + (" (logarithmic)" if wide else ""))
    axes.set_ylabel("share of batches or requests")
    axes.set_title("How long the ledger takes")
    light_grid(axes)


def _over_time(axes: Axes, answered: pl.DataFrame, records: Records) -> list[Any]:
    """Median, P10-P90 and maximum of the client's latency in equal intervals of time; faults are shaded."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    intended = answered["intended_ns"].to_numpy()
    latency = (answered["replied_ns"].to_numpy() - intended) / 1e6
    begin, end = int(intended.min()), int(intended.max()) + 1
    unit_ns, unit = _time_unit(end - begin)
    bins = int(min(BINS, max(5, answered.height // 8)))
    edges = np.linspace(begin, end, bins + 1)
    which = np.clip(np.searchsorted(edges, intended, side="right") - 1, 0, bins - 1)
    filled = [index for index in range(bins) if np.any(which == index)]
    figures = np.array(
        [[*np.percentile(latency[which == i], [10, 50, 90]), latency[which == i].max()] for i in filled]
    )
    middle = (edges[:-1] + edges[1:])[filled] / 2 / unit_ns
    axes.fill_between(middle, figures[:, 0], figures[:, 2], color=GREEN, alpha=0.25, linewidth=0)
    axes.plot(middle, figures[:, 1], color=GREEN, linewidth=1.5)
    axes.plot(middle, figures[:, 3], ".", color="#555555", markersize=4)
    minimum_width = (end - begin) / unit_ns / 250  # a fault of an hour in a month must still be seen
    for fault_begin, fault_end in _periods(records):
        left, right = fault_begin / unit_ns, max(fault_end / unit_ns, fault_begin / unit_ns + minimum_width)
        axes.axvspan(left, right, color=FAULT_COLOUR, alpha=0.22, linewidth=0, zorder=0)
    if figures[:, 3].max() > 20 * max(figures[:, 0].min(), 1e-3):
        logarithmic(axes, "y")
    else:
        axes.set_ylim(0, 1.08 * figures[:, 3].max() or 1)
    axes.set_xlim(begin / unit_ns, end / unit_ns)
    axes.set_xlabel(f"{'virtual time' if records.bus == 'simulated' else 'time'} in {unit}")
    axes.set_ylabel("client latency in ms")
    axes.set_title("The client's latency in the course of the run")
    light_grid(axes, "both")
    handles: list[Any] = [
        Line2D([], [], color=GREEN, linewidth=1.5, label="client: median\nof an interval"),
        Patch(color=GREEN, alpha=0.25, linewidth=0, label="P10 to P90"),
        Line2D([], [], color="#555555", marker=".", linewidth=0, label="maximum"),
    ]
    if records.faults:
        handles.append(
            Patch(color=FAULT_COLOUR, alpha=0.22, linewidth=0, label="fault:\n" + _fault_names(records))
        )
    return handles


def _periods(records: Records) -> list[tuple[int, int]]:
    """When something was broken: faults that overlap are one period, shaded once."""
    periods: list[tuple[int, int]] = []
    last = records.virtual_ns
    for begin, end in sorted((begin, end if end >= 0 else last) for begin, end, _, _ in records.faults):
        if periods and begin <= periods[-1][1]:
            periods[-1] = (periods[-1][0], max(end, periods[-1][1]))
        else:
            periods.append((begin, end))
    return periods


def _fault_names(records: Records) -> str:
    names = list(dict.fromkeys(wording.fault(what, who) for _, _, what, who in records.faults))
    return "\n".join(names[:3] + ([f"and {len(names) - 3} more"] if len(names) > 3 else []))


def _time_unit(span_ns: int) -> tuple[float, str]:
    units = (
        (3 * 86_400, 86_400e9, "days"),
        (3 * 3600, 3600e9, "hours"),
        (180, 60e9, "minutes"),
        (1, 1e9, "seconds"),
    )
    for from_seconds, unit_ns, name in units:
        if span_ns >= from_seconds * 1e9:
            return unit_ns, name
    return 1e6, "milliseconds"


def _deviation(count: int, expected: int) -> str:
    if count == expected:
        return "  = closed form"
    if expected == 0:
        return ""
    return f"  {100 * (count - expected) / expected:+.2g} %"
