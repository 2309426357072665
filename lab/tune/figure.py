"""What tuning found, as a picture: for one goal its course, for two the front of what no other setting beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tradebft.lab import wording
from tradebft.lab.figure_style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    legend_below,
    light_grid,
    logarithmic,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from tradebft.lab.tune.study import Tuned

WIDE = 20.0  # a ratio of largest to smallest from which an axis is logarithmic
OWN: Final[dict[str, Any]] = {
    "color": BLACK,
    "marker": "s",
    "markerfacecolor": "none",
    "markeredgewidth": 1.4,
    "linestyle": "",
}
"""An open square: the best is visible within it, where the scenario's own setting is among the best."""


def draw(tuned: Tuned) -> Figure:
    """The figure: one panel; with three goals and more, the first two of them."""
    from matplotlib.lines import Line2D

    figure = new_figure(3.2)
    axes = figure.add_subplot(1, 1, 1)
    rows = [found for found in tuned.trials.to_dicts() if found[tuned.goals[0].key] is not None]
    if len(tuned.goals) == 1:
        _course(axes, tuned, rows)
        best = Line2D([], [], color=ORANGE, linewidth=1.6, label="best so far")
    else:
        _front(axes, tuned, rows)
        best = Line2D([], [], color=ORANGE, marker="D", markersize=4, label="beaten by no other")
    marks = [
        Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=4, label="a setting"),
        Line2D([], [], **OWN, markersize=7, label="the scenario's own"),
        best,
    ]
    if tuned.limits:
        marks.insert(
            1, Line2D([], [], color=GREY, marker="x", linestyle="", markersize=4, label="beyond a limit")
        )
    light_grid(axes, "both")
    legend_below(figure, marks)
    return figure


def _course(axes: Axes, tuned: Tuned, rows: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    goal = tuned.goals[0]
    _scatter(axes, [(found["trial"] + 1, found[goal.key], found) for found in rows])
    so_far, x, y = None, [], []
    for found in rows:
        value = found[goal.key]
        if found["within_limits"] and (so_far is None or goal.better(value, so_far)):
            so_far = value
        if so_far is not None:
            x.append(found["trial"] + 1)
            y.append(so_far)
    axes.step(x, y, where="post", color=ORANGE, linewidth=1.6)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _axis(axes, "y", goal.key, [found[goal.key] for found in rows])


def _front(axes: Axes, tuned: Tuned, rows: list[dict[str, Any]]) -> None:
    one, other = tuned.goals[:2]
    _scatter(
        axes, [(found[one.key], found[other.key], found) for found in rows if found[other.key] is not None]
    )
    best = sorted((tuned.trials[one.key][number], tuned.trials[other.key][number]) for number in tuned.best)
    # Steps: between two of them nothing is found that has the better value of each. Of three goals and more two are
    # drawn, and who is beaten by no other need not lie on their front.
    axes.plot(
        *zip(*best, strict=True), color=ORANGE, marker="D", markersize=4, linewidth=1.4, zorder=4,
        linestyle="-" if len(tuned.goals) == 2 else "",
        drawstyle="steps-pre" if one.maximise else "steps-post",
    )  # fmt: skip
    _axis(axes, "x", one.key, [found[one.key] for found in rows])
    _axis(axes, "y", other.key, [found[other.key] for found in rows if found[other.key] is not None])


def _scatter(axes: Axes, marks: list[tuple[float, float, dict[str, Any]]]) -> None:
    for x, y, found in marks:
        if found["trial"] == 0:
            axes.plot(x, y, **OWN, markersize=8, zorder=5)
        elif found["within_limits"]:
            axes.plot(x, y, color=BLUE, marker="o", markersize=4, alpha=0.7)
        else:
            axes.plot(x, y, color=GREY, marker="x", markersize=4)


def _axis(axes: Axes, which: Any, key: str, values: list[float]) -> None:
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(wording.figure(key))
    if min(values) > 0 and max(values) / min(values) > WIDE:
        logarithmic(axes, which)
