"""All figures of a run, in the order in which a reader should meet them. A figure without data is left out.

    for name, total, figure in figures.draw(document, records):
        text = figures.svg(figure, name)      # the same bytes for the same records, always
        data = figures.png(figure)

To add one: write a function (document, records) -> Figure | None and name it in FIGURES with its caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tradebft.lab import (
    consensus_figures,
    days_figures,
    fraud_figures,
    network_map,
    points_figure,
    space_time,
)
from tradebft.lab.figure_style import png, settle, style, svg
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "FIGURES", "draw", "png", "svg"]

Draw = Callable[[dict[str, Any], Records], "Figure | None"]

FIGURES: dict[str, Draw] = {
    "days_per_arm": days_figures.days_per_arm,
    "where_days_go": days_figures.where_days_go,
    "frauds_by_kind": fraud_figures.frauds_by_kind,
    "frauds_by_coverage": fraud_figures.frauds_by_coverage,
    "points": points_figure.points,
    "commit_latency": consensus_figures.commit_latency,
    "one_round": space_time.one_round,
    "messages_by_kind": consensus_figures.messages_by_kind,
    "network_map": network_map.network_map,
}

CAPTIONS = {
    "days_per_arm": (
        "Days from application to money. Above: the share of honest applications paid out within so many"
        " calendar days. Below: P10, median and P90, and, with workload.sensitivity as a band, where the median would"
        " be if every low-confidence stage were at its low or its high end."
    ),
    "where_days_go": (
        "Where the days go. Mean calendar days in each stage, in work and waiting for an officer or for opening"
        " hours; all arms on one scale. Nights and weekends that fall into a stage's work count as its work."
    ),
    "frauds_by_kind": "Frauds and errors injected, and what became of them on the chain.",
    "frauds_by_coverage": (
        "Share of each kind that is caught when only some of the banks are on the platform: whoever lends"
        " outside leaves a hole."
    ),
    "points": (
        "What was varied, and what came of it. A mark is the mean over seeds, its bar the lowest and the highest;"
        " latency is the client's. The longest silence is the longest time in which nobody got an answer."
    ),
    "commit_latency": (
        "Ledger latency, in milliseconds. A dot marks the median, a diamond the 99th percentile. The client's"
        " latency counts from the moment at which it meant to submit."
    ),
    "one_round": (
        "One round of consensus, message by message. Each bar above runs from the first message of its kind"
        " that was sent to the last that arrived. Of more than 31 members some are drawn, 16 evenly spread and who led;"
        " the bars count all."
    ),
    "messages_by_kind": (
        "Messages sent. The black mark is what PBFT's normal case needs for as many batches and requests."
    ),
    "network_map": "The members and their links.",
}


def draw(document: dict[str, Any], records: Records) -> Iterator[tuple[str, int, Figure]]:
    """(name, number of candidates, figure) for every figure that has something to show, one at a time."""
    for name, make in FIGURES.items():
        with style(name):
            figure = make(document, records)
            if figure is not None:
                settle(figure)
        if figure is not None:
            yield name, len(FIGURES), figure
