"""How fast every engine is from 4 to 1,000 members: a table, and a figure."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tradebft.lab import bench
from tradebft.lab.engine_option import ENGINES
from tradebft.lab.figure_style import (
    SERIES,
    legend_below,
    light_grid,
    logarithmic,
    new_figure,
    settle,
    style,
    write,
)
from tradebft.lab.progress import Progress, silent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NODES: Final = (4, 7, 16, 32, 64, 128, 256, 512, 1000)
MESSAGES: Final = {"reference": 200_000, "wavefront": 4_000_000, "compiled": 4_000_000}  # a run, about
MOST_BATCHES: Final = 1_000
ALL: Final = tuple(name for name in ENGINES if name != "auto")


def batches(engine: str, nodes: int) -> int:
    """So many that a run is long enough to time and short enough to wait for; two at least, for the second is the first
    without a cold start."""
    return max(2, min(MOST_BATCHES, MESSAGES[engine] // (2 * nodes * nodes)))


def scaling(
    nodes: Sequence[int] = NODES, engines: Sequence[str] = ALL, progress: Progress = silent
) -> list[dict[str, Any]]:
    """`bench.engine` of each, every one in a process of its own: what memory it needed is its own as well."""
    wanted = [name for name in engines if name != "compiled" or find_spec("numba") is not None]
    todo = [(engine, n) for n in nodes for engine in wanted]
    found = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for place, (engine, n) in enumerate(todo):
            progress(f"{engine}, {n} members", place, len(todo))
            found.append(pool.submit(bench.engine, n, batches(engine, n), 1, engine).result())
    progress("measured", len(todo), len(todo))
    return found


def save(found: list[dict[str, Any]], folder: Path) -> Path:
    """Write `bench-engine.json`, `.svg` and `.png`; the picture's path. OSError where the disk refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench-engine.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write(figure(found), folder / "bench-engine")
    return folder / "bench-engine.png"


def figure(found: list[dict[str, Any]]) -> Figure:
    """Rates beside the bare loops that were measured with them, and memory, over the number of members."""
    with style():
        drawn = new_figure(3.3)
        rates, memory = drawn.add_subplot(1, 2, 1), drawn.add_subplot(1, 2, 2)
        engines = list(dict.fromkeys(one["engine"] for one in found))
        for engine, colour in zip(engines, SERIES, strict=False):
            rows = [one for one in found if one["engine"] == engine]
            _curve(rates, rows, "messages_per_second", 1e-6, colour, "-", engine)
            _curve(memory, rows, "peak_memory_mb", 1.0, colour, "-", engine)
            if engine != "wavefront":  # the same loop stands beside both of the fast ones
                loop = "bare heapq loop" if engine == "reference" else "bare compiled loop"
                _curve(rates, rows, "bare_loop_messages_per_second", 1e-6, colour, "--", loop)
        nodes = list(dict.fromkeys(one["nodes"] for one in found))
        _labelled(rates, "Delivered, million messages/s", nodes)
        _labelled(memory, "Peak memory, MB", nodes)
        logarithmic(rates, "y")
        memory.set_ylim(bottom=0)
        legend_below(drawn, rates.get_lines(), 5)
        settle(drawn)
    return drawn


def _curve(
    axes: Axes, rows: list[dict[str, Any]], key: str, factor: float, colour: str, dashes: str, label: str
) -> None:
    values = [one[key] * factor for one in rows]
    mark = "o" if dashes == "-" else ""
    nodes = [one["nodes"] for one in rows]
    axes.plot(nodes, values, dashes, marker=mark, color=colour, markersize=3, label=label)


def _labelled(axes: Axes, title: str, nodes: list[int]) -> None:
    axes.set_title(title)
    axes.set_xlabel("Members")
    logarithmic(axes, "x")
    axes.set_xticks(nodes[::2], [f"{n:,}" for n in nodes[::2]])
    light_grid(axes, "both")


def lines(found: list[dict[str, Any]]) -> list[str]:
    """A table for people."""
    told = [
        f"{'members':>8} {'engine':10} {'messages/s':>12} {'bare loop':>12} {'ratio':>6} {'ns each':>8} {'MB':>6}"
    ]
    for one in found:
        rate = one["messages_per_second"]
        told.append(
            f"{one['nodes']:>8} {one['engine']:10} {rate:>12,.0f} {one['bare_loop_messages_per_second']:>12,.0f}"
            f" {one['ratio']:>6.2f} {1e9 / rate:>8,.0f} {one['peak_memory_mb']:>6,.0f}"
        )
    return told
