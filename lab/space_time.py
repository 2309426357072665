"""One round of the protocol as a space-time diagram: a lane a replica, an arrow a message, time in
milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tradebft.lab import trace, wording
from tradebft.lab.figure_style import kind_colour, new_figure
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROW_HEADS_UP_TO = 300  # beyond that heads are a black cloud
RASTER_FROM = 1500  # beyond that an SVG is heavier than a picture


def one_round(document: dict[str, Any], records: Records) -> Figure | None:
    """The phases as bars above, every message of the round as an arrow below."""
    diagram = trace.diagram(trace.messages(records.round), records.nodes)
    if not diagram.arrows:
        return None
    lane_inches = 0.34 if len(diagram.lanes) <= 16 else max(0.10, 5.4 / len(diagram.lanes))
    phases_inches, lanes_inches = 0.24 * len(diagram.phases) + 0.1, lane_inches * len(diagram.lanes) + 0.3
    figure = new_figure(phases_inches + lanes_inches + 1.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[phases_inches, lanes_inches])
    _phases(above, diagram)
    _lanes(below, diagram)
    seqs = sorted({int(seq) for seq in records.round["seq"].to_list() if seq > 0})
    which = f"sequence {seqs[0]}" if len(seqs) == 1 else "one round"
    above.set_title(f"How {len(records.nodes)} members agree on {which}: {len(diagram.arrows):,} messages")
    return figure


def _phases(axes: Axes, diagram: trace.Diagram) -> None:
    for row, phase in enumerate(diagram.phases):
        # Messages to oneself or without delay would vanish: a bar has at least a hair's width.
        width = max(phase.end_ms - phase.begin_ms, diagram.end_ms / 300)
        axes.barh(row, width, left=phase.begin_ms, height=0.7, color=kind_colour(phase.kind), linewidth=0)
        late = phase.begin_ms + width > 0.8 * diagram.end_ms
        axes.annotate(
            f"{phase.count:,}",
            (phase.begin_ms if late else phase.begin_ms + width, row),
            xytext=(-4 if late else 4, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="center",
            fontsize=7.5,
        )
    axes.set_yticks(range(len(diagram.phases)), [phase.kind for phase in diagram.phases])
    axes.set_ylim(len(diagram.phases) - 0.4, -0.6)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(False)


def _lanes(axes: Axes, diagram: trace.Diagram) -> None:
    many = len(diagram.arrows)
    sizes = {phase.kind: phase.count for phase in diagram.phases}
    for lane in range(len(diagram.lanes)):
        axes.axhline(lane, color="#999999", linewidth=0.7, zorder=1)
    for arrow in diagram.arrows:
        _arrow(axes, arrow, many, sizes[arrow.kind])
    sparse = len(diagram.lanes) <= 20
    labels = [
        wording.member(name) if sparse or index % 5 == 0 else "" for index, name in enumerate(diagram.lanes)
    ]
    axes.set_yticks(range(len(diagram.lanes)), labels)
    axes.set_ylim(len(diagram.lanes) - 0.6, -0.4)
    axes.set_xlim(-0.01 * diagram.end_ms, 1.02 * diagram.end_ms)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("milliseconds since the first message of the round (virtual time)")


def _arrow(axes: Axes, arrow: trace.Arrow, many: int, same_kind: int) -> None:
    colour = kind_colour(arrow.kind)
    alpha = 0.95 if same_kind <= 60 else 0.6 if many <= ARROW_HEADS_UP_TO else 0.3
    if arrow.arrived_ms is None:
        axes.plot([arrow.sent_ms], [arrow.sender], "x", color=colour, markersize=5, zorder=3)
        return
    if many > ARROW_HEADS_UP_TO:
        axes.plot(
            [arrow.sent_ms, arrow.arrived_ms],
            [arrow.sender, arrow.receiver],
            color=colour,
            alpha=alpha,
            linewidth=0.7 if same_kind <= 60 else 0.5,
            rasterized=many >= RASTER_FROM,
        )
        return
    axes.annotate(
        "",
        (arrow.arrived_ms, arrow.receiver),
        xytext=(arrow.sent_ms, arrow.sender),
        arrowprops={
            "arrowstyle": "-|>,head_length=0.32,head_width=0.13",
            "color": colour,
            "alpha": alpha,
            "linewidth": 0.75,
            "shrinkA": 0,
            "shrinkB": 0,
        },
        zorder=2,
    )
