"""A space-time diagram of the end of a failing run: a lane a member, a line a message, faults as bands.

Between two timeouts nothing happens for a hundred times as long as a message takes, so that a plain axis shows nothing
but vertical lines. Here the axis skips what is empty: a gap is drawn as wide as a message takes, with a break in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from tradebft.lab import figure_style
from tradebft.lab.figure_style import FAULT_COLOUR, GREY, kind_colour, legend_below, new_figure
from tradebft.lab.fuzz.printed import violation
from tradebft.lab.fuzz.story import MS, Story, endpoints, fault_in_words
from tradebft.lab.fuzz.watching import LOST, Sent
from tradebft.lab.trace import kind_rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRAP: Final = 105  # characters of the title
BROAD: Final = ("partition", "loss", "duplicate", "reorder", "spike", "one-way")
TICKS_MAX: Final = 14


class Times:
    """From virtual time (ns) to the axis, on which long gaps are short."""

    def __init__(self, story: Story, shown: list[Sent]) -> None:
        begin, end = story.begin_ns, story.end_ns
        moments = {begin, end}
        delays = []
        for sent in shown:
            moments.add(sent.at_ns)
            for copy in sent.copies:
                if copy.arrives_ns != LOST:
                    moments.add(min(copy.arrives_ns, end))
                    delays.append(copy.arrives_ns - sent.at_ns)
        known = np.array(sorted(moments), dtype=np.float64)
        usual = float(np.median(delays)) if delays else float(MS)
        steps = np.diff(known)
        long = steps > 4 * usual
        self._known = known
        self._places = np.concatenate([[0.0], np.cumsum(np.where(long, 2 * usual, steps))]) / usual
        self.breaks = [
            (float(a + b) / 2) for a, b, gap in zip(self._places, self._places[1:], long, strict=False) if gap
        ]
        starts = [known[0], *known[1:][long]] if len(known) > 1 else [known[0]]
        self.ticks = [float(t) for t in starts]
        self.last = float(known[-1])

    def __call__(self, at_ns: float) -> float:
        """The place on the axis; times outside the story are at its ends."""
        return float(np.interp(at_ns, self._known, self._places))

    @property
    def end(self) -> float:
        return float(self._places[-1])


def draw(story: Story) -> Figure:
    """The figure; members are lanes from top to bottom, time runs to the right."""
    names = endpoints(story)
    shown = [sent for sent in story.notes.sent if story.begin_ns <= sent.at_ns <= story.end_ns]
    times = Times(story, shown)
    with figure_style.style():
        figure = new_figure(1.9 + 0.4 * len(names), 11.0)
        axes = figure.subplots()
        _faults(axes, story, times)
        counts = _messages(axes, shown, times)
        _events(axes, story, times)
        _frame(axes, story, names, times)
        _legend(figure, counts)
    return figure


def _messages(axes: Axes, shown: list[Sent], times: Times) -> dict[str, int]:
    """Every copy as a line; of one that is lost, a stub towards its receiver. Returns how many there are of a kind."""
    from matplotlib.collections import LineCollection

    lines: dict[str, list[list[tuple[float, float]]]] = {}
    lost: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, int] = {}
    for sent in shown:
        kind = type(sent.message).__name__
        for copy in sent.copies:
            counts[kind] = counts.get(kind, 0) + 1
            left = times(sent.at_ns)
            if copy.arrives_ns == LOST:
                toward = sent.sender + 0.22 * (1 if copy.receiver > sent.sender else -1)
                lost.setdefault(kind, []).append((left, toward))
            else:
                right = times(copy.arrives_ns)
                lines.setdefault(kind, []).append([(left, sent.sender), (right, copy.receiver)])
    width, alpha = (0.9, 0.9) if sum(counts.values()) < 300 else (0.6, 0.6)
    for kind, segments in lines.items():
        drawn = LineCollection(segments, colors=kind_colour(kind), linewidths=width, alpha=alpha, zorder=2)
        axes.add_collection(drawn)
    for kind, places in lost.items():
        xs, ys = [x for x, _ in places], [y for _, y in places]
        axes.scatter(xs, ys, marker="x", s=9, linewidths=0.7, color=kind_colour(kind), zorder=3)
    return counts


def _faults(axes: Axes, story: Story, times: Times) -> None:
    """A member's own faults on its lane, those of the network across all of them, named along the top."""
    row = 0
    for fault in story.case.faults:
        over = story.end_ns if fault.duration_ns is None else fault.at_ns + fault.duration_ns
        begin, end = max(fault.at_ns, story.begin_ns), min(over, story.end_ns)
        if begin >= end:
            continue
        left, width = times(begin), times(end) - times(begin)
        down = fault.kind == "crash"
        own = fault.nodes or (fault.groups[0] if len(fault.groups) == 1 else ())
        colour, height = (FAULT_COLOUR, 0.5) if down else (GREY, 0.28)
        for node in own:
            axes.barh(node, width, left=left, height=height, color=colour, alpha=0.28, linewidth=0, zorder=1)
        if fault.kind in BROAD:
            axes.axvspan(left, left + width, color=GREY, alpha=0.10, linewidth=0, zorder=0)
        place = (left, -0.75 - 0.42 * (row % 4))
        words = fault_in_words(fault)
        axes.annotate(words, place, fontsize=6.5, color=FAULT_COLOUR if down else "#555555")
        row += 1


def _events(axes: Axes, story: Story, times: Times) -> None:
    """A dot where a member commits, a bar where the invariant breaks."""
    shown = [e for e in story.notes.events if story.begin_ns <= e.at_ns <= story.end_ns]
    commits = [event for event in shown if event.what.startswith("commits")]
    if commits:
        places = [times(event.at_ns) for event in commits]
        axes.scatter(places, [event.endpoint for event in commits], s=16, color="#000000", zorder=4)
    first = story.outcome.first
    if first is not None and first.at_ns <= story.end_ns:
        axes.axvline(times(first.at_ns), color=FAULT_COLOUR, linewidth=1.4, zorder=4)


def _frame(axes: Axes, story: Story, names: list[str], times: Times) -> None:
    case = story.case
    for lane in range(len(names)):
        axes.axhline(lane, color="#999999", linewidth=0.6, zorder=1)
    for place in times.breaks:
        axes.axvline(place, color="#BBBBBB", linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
    labels = [
        name
        if lane >= case.everybody
        else f"member {name}" + (", Byzantine" if lane in case.byzantine else "")
        for lane, name in enumerate(names)
    ]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -2.4 if case.faults else -0.7)
    axes.set_xlim(-0.01 * times.end, 1.02 * times.end)
    ticks = times.ticks[:: 1 + len(times.ticks) // TICKS_MAX]
    if times(times.last) - times(ticks[-1]) > 0.05 * times.end:
        ticks = [*ticks, times.last]
    axes.set_xticks([times(tick) for tick in ticks], [f"{tick / MS:,.0f}" for tick in ticks])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    skips = "; at a dotted line the axis skips a stretch without messages" if times.breaks else ""
    axes.set_xlabel("milliseconds of virtual time" + skips)
    title = violation(story.outcome.first)
    axes.set_title(title if len(title) <= WRAP else title[: WRAP - 3] + "...")


def _legend(figure: Figure, counts: dict[str, int]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=kind_colour(kind), linewidth=1.6, label=f"{kind} ({counts[kind]})")
        for kind in sorted(counts, key=kind_rank)
    ]
    handles.append(Line2D([], [], color="#000000", marker="o", linestyle="", markersize=4, label="commit"))
    handles.append(Line2D([], [], color=GREY, marker="x", linestyle="", markersize=5, label="lost"))
    legend_below(figure, handles, 6)
