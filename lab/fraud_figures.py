"""Frauds caught and missed: by kind, with what a ledger can see apart from what it cannot, and by bank
coverage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tradebft.lab import wording
from tradebft.lab.figure_style import GREEN, RED, legend_below, light_grid, new_figure
from tradebft.lab.metrics import kind_order
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCOPES = {True: "In scope of the ledger", False: "Out of scope: no ledger can see these"}


def frauds_by_kind(document: dict[str, Any], records: Records) -> Figure | None:
    """Injected cases of each kind on the chain, caught and missed, in scope above and out of scope below."""
    groups = {
        scope: [
            (kind, row)
            for kind, row in document["fraud"].items()
            if bool(row["in_scope"]) is scope and row["injected"]
        ]
        for scope in SCOPES
    }
    groups = {scope: rows for scope, rows in groups.items() if rows}
    if not groups:
        return None
    figure = new_figure(0.9 + sum(0.23 * len(rows) + 0.45 for rows in groups.values()))
    panels = figure.subplots(
        len(groups),
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[len(rows) + 0.5 for rows in groups.values()],
    )[:, 0]
    most = max(row["injected"] for rows in groups.values() for _, row in rows)
    for axes, (scope, rows) in zip(panels, groups.items(), strict=True):
        _bars(axes, rows)
        axes.set_title(SCOPES[scope])
        axes.set_xlim(0, 1.18 * most)
    panels[-1].set_xlabel("applications injected")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    from matplotlib.patches import Patch

    legend_below(
        figure,
        [
            Patch(facecolor=GREEN, linewidth=0, label="caught by the ledger"),
            Patch(facecolor="white", edgecolor=RED, hatch="xxxx", linewidth=0.6, label="missed"),
        ],
    )
    return figure


def frauds_by_coverage(document: dict[str, Any], records: Records) -> Figure | None:
    """Share caught, a row a kind and a column a coverage: what partial membership leaves open."""
    cells = {(row["kind"], row["coverage"]): row for row in document["coverage"] if row["injected"]}
    coverages = sorted({coverage for _, coverage in cells})
    kinds = sorted({kind for kind, _ in cells}, key=kind_order)
    if len(coverages) < 2 or not kinds:
        return None
    inside = [kind for kind in kinds if document["fraud"].get(kind, {}).get("in_scope", True)]
    outside = [kind for kind in kinds if kind not in inside]
    groups = {scope: rows for scope, rows in ((True, inside), (False, outside)) if rows}
    figure = new_figure(1.2 + sum(0.25 * len(rows) + 0.35 for rows in groups.values()))
    panels = figure.subplots(
        len(groups),
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[len(rows) + 0.2 for rows in groups.values()],
    )[:, 0]
    image = None
    for axes, (scope, rows) in zip(panels, groups.items(), strict=True):
        image = _heat(axes, rows, coverages, cells)
        axes.set_title(SCOPES[scope])
    panels[-1].set_xlabel("share of banks on the platform")
    if image is not None:
        bar = figure.colorbar(image, ax=list(panels), shrink=0.9, pad=0.015, aspect=30)
        bar.set_label("share caught, per cent")
        bar.outline.set_linewidth(0.5)
    return figure


def _bars(axes: Axes, rows: list[tuple[str, dict[str, Any]]]) -> None:
    for index, (_, row) in enumerate(rows):
        axes.barh(index, row["caught"], height=0.7, color=GREEN, linewidth=0)
        if row["missed"]:
            axes.barh(
                index,
                row["missed"],
                left=row["caught"],
                height=0.7,
                color="white",
                edgecolor=RED,
                hatch="xxxx",
                linewidth=0.6,
            )
        axes.annotate(
            f"{row['caught']} of {row['injected']}",
            (row["caught"] + row["missed"], index),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
    axes.set_yticks(range(len(rows)), [wording.fraud(kind) for kind, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    light_grid(axes)


def _heat(axes: Axes, kinds: list[str], coverages: list[float], cells: dict[tuple[str, float], Any]) -> Any:
    shares = np.full((len(kinds), len(coverages)), np.nan)
    for (kind, coverage), row in cells.items():
        if kind in kinds:
            shares[kinds.index(kind), coverages.index(coverage)] = 100 * row["caught"] / row["injected"]
    # cividis: even steps of lightness, made for colour-blind readers. A mesh, since it stays vectors in an SVG.
    image = axes.pcolormesh(
        np.arange(len(coverages) + 1) - 0.5,
        np.arange(len(kinds) + 1) - 0.5,
        shares,
        cmap="cividis",
        vmin=0,
        vmax=100,
        edgecolors="white",
        linewidth=0.5,
    )
    axes.invert_yaxis()
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share):
            axes.text(
                column,
                row,
                f"{share:.0f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if share < 45 else "black",
            )
    axes.set_xticks(range(len(coverages)), [f"{100 * coverage:.0f} %" for coverage in coverages])
    axes.set_yticks(range(len(kinds)), [wording.fraud(kind) for kind in kinds])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
