"""Days from application to money: how long in each arm, and in which stage they pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from tradebft.lab import wording
from tradebft.lab.figure_style import (
    ARM_COLOURS,
    ARM_DASHES,
    ARM_WIDTHS,
    GREY,
    legend_below,
    light_grid,
    new_figure,
)
from tradebft.lab.metrics import ARMS, DAY_NS, WITHIN_DAYS
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 400  # of an empirical distribution function: finer than a printed line can show
CUSTOMERS = {"new_customer_days": "New customers", "existing_customer_days": "Existing customers"}


def days_per_arm(document: dict[str, Any], records: Records) -> Figure | None:
    """Distribution functions above, P10-P50-P90 and the band of the sensitivity analysis below."""
    groups = {key: _paid_days(records, key == "new_customer_days") for key in CUSTOMERS}
    groups = {key: arms for key, arms in groups.items() if arms}
    if not groups:
        return None
    figure = new_figure(4.4)
    grid = figure.subplots(2, len(groups), height_ratios=[3, 1.25], squeeze=False)
    for column, (key, arms) in enumerate(groups.items()):
        above, below = grid[0][column], grid[1][column]
        _distribution_functions(above, arms)
        above.set_title(f"{CUSTOMERS[key]} (n = {max(len(days) for days in arms.values()):,} per arm)")
        _intervals(below, arms, document["processes"], key)
        limit = 1.04 * max(float(np.percentile(days, 99)) for days in arms.values())
        for axes in (above, below):
            axes.set_xlim(0, limit)
        above.tick_params(labelbottom=False)
        below.set_xlabel("calendar days from application to money")
        if column == 0:
            above.set_ylabel("share of applications paid out")
            below.set_yticks(range(len(arms)), [wording.arm(arm) for arm in reversed(arms)])
        else:
            below.set_yticks(range(len(arms)), [""] * len(arms))
    _legend(figure, list(next(iter(groups.values()))), bool(document["processes"].get("sensitivity")))
    return figure


def where_days_go(document: dict[str, Any], records: Records) -> Figure | None:
    """Mean calendar days an application spends in each stage, at work and waiting; one scale for all arms."""
    paid = records.applications.filter(
        (pl.col("kind") == "") & (pl.col("outcome") == "disbursed") & pl.col("new_customer")
    )
    who = "new customers"
    if paid.height == 0:
        paid = records.applications.filter((pl.col("kind") == "") & (pl.col("outcome") == "disbursed"))
        who = "all customers"
    stages = records.stages.join(paid.select("arm", "application"), on=["arm", "application"], how="inner")
    if stages.height == 0:
        return None
    arms = [arm for arm in ARMS if arm in set(stages["arm"].to_list())]
    tables = {
        arm: _stage_means(stages.filter(pl.col("arm") == arm), paid.filter(pl.col("arm") == arm).height)
        for arm in arms
    }
    figure = new_figure(0.9 + 0.23 * sum(len(rows) + 2.2 for rows in tables.values()))
    panels = figure.subplots(
        len(arms), 1, sharex=True, squeeze=False, height_ratios=[len(rows) + 0.6 for rows in tables.values()]
    )
    limit = 1.22 * max(work + wait for rows in tables.values() for _, work, wait in rows)
    for axes, arm in zip(panels[:, 0], arms, strict=True):
        _stage_bars(axes, tables[arm], ARM_COLOURS[arm])
        work, waiting = sum(row[1] for row in tables[arm]), sum(row[2] for row in tables[arm])
        parts = f"{wording.duration(work)} work, {wording.duration(waiting)} waiting"
        axes.set_title(f"{wording.arm(arm)}: {wording.duration(work + waiting)} ({parts})")
        axes.set_xlim(0, limit)
    panels[-1, 0].set_xlabel(f"mean calendar days per application, {who}")
    legend_below(figure, _work_and_waiting())
    return figure


def _paid_days(records: Records, new: bool) -> dict[str, np.ndarray[Any, Any]]:
    paid = records.applications.filter(
        (pl.col("kind") == "") & (pl.col("outcome") == "disbursed") & (pl.col("new_customer") == new)
    ).drop_nulls("days")
    found = {arm: np.sort(paid.filter(pl.col("arm") == arm)["days"].to_numpy()) for arm in ARMS}
    return {arm: days for arm, days in found.items() if days.size}


def _distribution_functions(axes: Axes, arms: dict[str, np.ndarray[Any, Any]]) -> None:
    # The chain first and wide, the database over it and dashed: where they coincide, both are seen.
    for arm in sorted(arms, key=lambda name: -ARM_WIDTHS[name]):
        days = arms[arm]
        shares = np.linspace(0, 1, min(POINTS, days.size + 1))
        at = np.concatenate([[0.0], np.quantile(days, shares, method="inverted_cdf"), [1e4]])
        axes.step(
            at,
            np.concatenate([[0.0], shares, [1.0]]),
            where="post",
            color=ARM_COLOURS[arm],
            linestyle=ARM_DASHES[arm],
            linewidth=ARM_WIDTHS[arm],
            alpha=0.55 if arm == "chain" else 1.0,
        )
    axes.axvline(WITHIN_DAYS, color=GREY, linewidth=0.9, linestyle=":")
    axes.annotate(
        "7 days",
        (WITHIN_DAYS, 0.5),
        xytext=(2, 0),
        textcoords="offset points",
        rotation=90,
        va="center",
        color="#555555",
        fontsize=8,
    )
    axes.set_ylim(0, 1.02)
    light_grid(axes, "both")


def _intervals(
    axes: Axes, arms: dict[str, np.ndarray[Any, Any]], processes: dict[str, Any], key: str
) -> None:
    for row, arm in enumerate(reversed(arms)):
        low, middle, high = np.percentile(arms[arm], [10, 50, 90])
        band = processes.get("sensitivity", {}).get(arm, {})
        ends = [band.get(end, {}).get(key) for end in ("low", "high")]
        if all(end is not None for end in ends):
            axes.barh(
                row,
                ends[1] - ends[0],
                left=ends[0],
                height=0.62,
                color=ARM_COLOURS[arm],
                alpha=0.25,
                linewidth=0,
            )
        axes.plot([low, high], [row, row], color=ARM_COLOURS[arm], linewidth=1.8)
        axes.plot(
            [middle],
            [row],
            "o",
            color=ARM_COLOURS[arm],
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            clip_on=False,  # an hour among weeks lies on the axis
            zorder=4,
        )
    axes.axvline(WITHIN_DAYS, color=GREY, linewidth=0.9, linestyle=":")
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")


def _legend(figure: Figure, arms: list[str], band: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=ARM_COLOURS[arm],
            linestyle=ARM_DASHES[arm],
            linewidth=ARM_WIDTHS[arm],
            label=wording.arm(arm),
        )
        for arm in arms
    ]
    handles.append(
        Line2D([], [], color="#444444", marker="o", markersize=5, linewidth=1.8, label="P10 - median - P90")
    )
    if band:
        handles.append(
            Patch(color="#444444", alpha=0.25, linewidth=0, label="median, low to high assumptions")
        )
    legend_below(figure, handles)


def _stage_means(stages: pl.DataFrame, applications: int) -> list[tuple[str, float, float]]:
    """(stage, days at work, days waiting), averaged over all applications, also those that skipped the
    stage.
    """
    # Summed as integers: a float sum would depend on the order in which threads happen to add.
    sums = stages.group_by("stage").agg(
        (pl.col("end_ns") - pl.col("begin_ns")).sum().alias("all_ns"), pl.col("waiting_ns").sum()
    )
    share = 1 / (applications * DAY_NS)
    rows = [
        (row["stage"], (row["all_ns"] - row["waiting_ns"]) * share, row["waiting_ns"] * share)
        for row in sums.iter_rows(named=True)
    ]
    return sorted(rows, key=lambda row: (row[0][:1], int(row[0][1:]) if row[0][1:].isdigit() else 0))


def _stage_bars(axes: Axes, rows: list[tuple[str, float, float]], colour: str) -> None:
    for index, (_, work, waiting) in enumerate(rows):
        axes.barh(index, work, height=0.72, color=colour, linewidth=0)
        if waiting > 0:
            axes.barh(
                index,
                waiting,
                left=work,
                height=0.72,
                color="white",
                edgecolor=colour,
                hatch="//////",
                linewidth=0.6,
            )
        axes.annotate(
            wording.duration(work + waiting),
            (work + waiting, index),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
    axes.set_yticks(range(len(rows)), [wording.stage(stage) for stage, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")


def _work_and_waiting() -> list[Any]:
    from matplotlib.patches import Patch

    return [
        Patch(facecolor="#555555", linewidth=0, label="in work"),
        Patch(
            facecolor="white",
            edgecolor="#555555",
            hatch="//////",
            linewidth=0.6,
            label="waiting (queue, closed hours)",
        ),
    ]
