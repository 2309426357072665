"""A space-time diagram of the end of a failing run: a lane a member, a line a message, faults as bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tradebft.lab import figure_style
from tradebft.lab.figure_style import FAULT_COLOUR, GREY, kind_colour, legend_below, new_figure
from tradebft.lab.fuzz.printed import violation
from tradebft.lab.fuzz.story import MS, Story, endpoints, fault_in_words
from tradebft.lab.fuzz.watching import LOST
from tradebft.lab.trace import kind_rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRAP: Final = 92
BROAD: Final = ("partition", "loss")


def draw(story: Story) -> Figure:
    """The figure; members are lanes from top to bottom, time runs to the right."""
    names = endpoints(story)
    with figure_style.style():
        figure = new_figure(1.9 + 0.36 * len(names), 10.5)
        axes = figure.subplots()
        _faults(axes, story, len(names))
        kinds = _messages(axes, story)
        _events(axes, story)
        _frame(axes, story, names)
        _legend(figure, kinds)
    return figure


def _messages(axes: Axes, story: Story) -> dict[str, int]:
    """Every copy as a line; one that is lost ends in a cross at its sender. Returns how many there are of a kind."""
    from matplotlib.collections import LineCollection

    lines: dict[str, list[list[tuple[float, float]]]] = {}
    lost: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, int] = {}
    for sent in story.notes.sent:
        if not story.begin_ns <= sent.at_ns <= story.end_ns:
            continue
        kind = type(sent.message).__name__
        for copy in sent.copies:
            counts[kind] = counts.get(kind, 0) + 1
            if copy.arrives_ns == LOST:
                # A stub towards the receiver, so that one sees whom it did not reach.
                toward = sent.sender + 0.22 * (1 if copy.receiver > sent.sender else -1)
                lost.setdefault(kind, []).append((sent.at_ns / MS, toward))
            else:
                lines.setdefault(kind, []).append(
                    [(sent.at_ns / MS, sent.sender), (copy.arrives_ns / MS, copy.receiver)]
                )
    many = sum(counts.values())
    for kind, segments in lines.items():
        width, alpha = (0.9, 0.9) if many < 200 else (0.6, 0.55)
        axes.add_collection(
            LineCollection(segments, colors=kind_colour(kind), linewidths=width, alpha=alpha, zorder=2)
        )
    for kind, places in lost.items():
        axes.scatter(
            *zip(*places, strict=True), marker="x", s=9, linewidths=0.7, color=kind_colour(kind), zorder=3
        )
    return counts


def _faults(axes: Axes, story: Story, lanes: int) -> None:
    """A member's own faults on its lane, those of the network across all of them, named along the top."""
    row = 0
    for fault in story.case.faults:
        begin = max(fault.at_ns, story.begin_ns)
        end = (
            story.end_ns if fault.duration_ns is None else min(fault.at_ns + fault.duration_ns, story.end_ns)
        )
        if begin >= end:
            continue
        left, width = begin / MS, (end - begin) / MS
        own = fault.nodes or (fault.groups[0] if len(fault.groups) == 1 else ())
        for node in own:
            down = fault.kind == "crash"
            axes.barh(
                node,
                width,
                left=left,
                height=0.55 if down else 0.3,
                color=FAULT_COLOUR if down else GREY,
                alpha=0.28,
                linewidth=0,
                zorder=1,
            )
        if fault.kind in BROAD:
            axes.axvspan(left, left + width, color=GREY, alpha=0.10, linewidth=0, zorder=0)
        axes.annotate(
            fault_in_words(fault),
            (left, -0.75 - 0.42 * (row % 4)),
            fontsize=6.5,
            color=FAULT_COLOUR if fault.kind == "crash" else "#555555",
            annotation_clip=False,
        )
        row += 1


def _events(axes: Axes, story: Story) -> None:
    """A dot where a member commits, a bar where the invariant breaks."""
    shown = [e for e in story.notes.events if story.begin_ns <= e.at_ns <= story.end_ns]
    commits = [event for event in shown if event.what.startswith("commits")]
    if commits:
        axes.scatter(
            [event.at_ns / MS for event in commits],
            [event.endpoint for event in commits],
            s=16,
            color="#000000",
            zorder=4,
            label="commit",
        )
    first = story.outcome.first
    if first is not None and first.at_ns <= story.end_ns:
        axes.axvline(first.at_ns / MS, color=FAULT_COLOUR, linewidth=1.4, zorder=4)


def _frame(axes: Axes, story: Story, names: list[str]) -> None:
    case = story.case
    for lane in range(len(names)):
        axes.axhline(lane, color="#999999", linewidth=0.6, zorder=1)
    labels = [
        f"member {name}" + (", Byzantine" if int(name) in case.byzantine else "")
        if lane < case.config.nodes
        else name
        for lane, name in enumerate(names)
    ]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -2.3)
    span = max(story.end_ns - story.begin_ns, MS) / MS
    axes.set_xlim(story.begin_ns / MS - 0.01 * span, story.end_ns / MS + 0.02 * span)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("milliseconds of virtual time")
    title = violation(story.outcome.first)
    axes.set_title(title if len(title) <= WRAP else title[: WRAP - 3] + "...")


def _legend(figure: Figure, kinds: dict[str, int]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=kind_colour(kind), linewidth=1.6, label=f"{kind} ({kinds[kind]})")
        for kind in sorted(kinds, key=kind_rank)
    ]
    handles.append(Line2D([], [], color="#000000", marker="o", linestyle="", markersize=4, label="commit"))
    handles.append(Line2D([], [], color=GREY, marker="x", linestyle="", markersize=5, label="lost"))
    legend_below(figure, handles, 6)
