"""One round of the protocol as a space-time diagram: a lane a replica, an arrow a message, time in
milliseconds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tradebft.lab import trace, wording
from tradebft.lab.figure_style import kind_colour, new_figure
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROW_HEADS_UP_TO = 300  # beyond that heads are a black cloud
RASTER_FROM = 1500  # beyond that an SVG is heavier than a picture
DRAWN_UP_TO = 31  # members; beyond that arrows are a wall, and 300 members' take minutes to draw
DRAWN_OF_MORE = 16


def one_round(document: dict[str, Any], records: Records) -> Figure | None:
    """The phases as bars above, every message of the round as an arrow below."""
    rows, nodes = records.round, records.nodes
    drawn = nodes if len(nodes) <= DRAWN_UP_TO else trace.some_of(nodes, rows, DRAWN_OF_MORE)
    shown = trace.messages(trace.among(rows, nodes, drawn))
    diagram = trace.diagram(shown, nodes, trace.phases(rows))
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
    told = f"How {len(nodes)} members agree on {which}: {len(rows):,} messages"
    above.set_title(told if len(drawn) == len(nodes) else f"{told} ({len(drawn)} members drawn)")
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
    sizes = Counter(arrow.kind for arrow in diagram.arrows)
    for lane in range(len(diagram.lanes)):
        axes.axhline(lane, color="#999999", linewidth=0.7, zorder=1)
    for kind, size in sizes.items():
        arrows = [arrow for arrow in diagram.arrows if arrow.kind == kind]
        _arrows(axes, arrows, 0.95 if size <= 60 else 0.6 if many <= ARROW_HEADS_UP_TO else 0.3, many)
    sparse = len(diagram.lanes) <= 20
    labels = [
        wording.member(name) if sparse or index % 5 == 0 else "" for index, name in enumerate(diagram.lanes)
    ]
    axes.set_yticks(range(len(diagram.lanes)), labels)
    axes.set_ylim(len(diagram.lanes) - 0.6, -0.4)
    end = diagram.end_ms or 1.0  # everything at once
    axes.set_xlim(-0.01 * end, 1.02 * end)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("milliseconds since the first message of the round (virtual time)")


def _arrows(axes: Axes, arrows: list[trace.Arrow], alpha: float, many: int) -> None:
    """All of one kind, of *many* in all."""
    colour = kind_colour(arrows[0].kind)
    lost = [arrow for arrow in arrows if arrow.arrived_ms is None]
    axes.plot([a.sent_ms for a in lost], [a.sender for a in lost], "x", color=colour, markersize=5, zorder=3)
    lines = [((a.sent_ms, a.sender), (a.arrived_ms, a.receiver)) for a in arrows if a.arrived_ms is not None]
    if many > ARROW_HEADS_UP_TO:
        _lines(axes, lines, colour, alpha, many >= RASTER_FROM)
        return
    for begin, end in lines:
        axes.annotate(
            "",
            end,
            xytext=begin,
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


def _lines(
    axes: Axes,
    lines: list[tuple[tuple[float, int], tuple[float, int]]],
    colour: str,
    alpha: float,
    raster: bool,
) -> None:
    """Without heads: one artist, where one for each would take milliseconds."""
    from matplotlib.collections import LineCollection

    width = 0.7 if alpha > 0.9 else 0.5
    axes.add_collection(
        LineCollection(lines, colors=colour, alpha=alpha, linewidths=width, rasterized=raster)
    )
