"""A scenario that varies, as curves: throughput, the client's latency, and the longest silence, by what was varied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tradebft.lab.figure_style import BLACK, SERIES, legend_below, light_grid, logarithmic, new_figure
from tradebft.scenarios import units
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG_MS: Final = 300_000.0  # beyond, times are in seconds

Point = dict[str, Any]


class Axis(NamedTuple):
    """Where a value stands, what stands below, and, where places are no numbers, their names in order."""

    place: Callable[[Any], float]
    label: str
    names: Sequence[str] = ()


def points(document: dict[str, Any], records: Records) -> Figure | None:
    """One panel a measure; a mark is the mean over seeds, its bar the lowest and the highest of them."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    rows: list[Point] = document["points"]
    if not rows:
        return None
    first, *second = rows[0]["at"]
    groups = _distinct(row["at"][second[0]] for row in rows) if second else [None]
    scale, label, names = axis_of(first, [row["at"][first] for row in rows])
    silent = any(row["view_changes"] for row in rows)
    unit, ms = ("s", 1000.0) if _longest(rows) > LONG_MS else ("ms", 1.0)
    panels: list[tuple[str, list[tuple[Callable[[Point], Any], str]], bool]] = [
        ("Committed, transactions/s", [(lambda row: row["committed_per_second"], "-")], False),
        (
            f"Client latency, {unit}",
            [(_in(ms, "client_ms", "p50"), "-"), (_in(ms, "client_ms", "p99"), "--")],
            True,
        ),
    ]
    proven = any(closed_form_ms(document, row) is not None for row in rows)
    if proven:
        panels.append((f"Longest wait of a client, {unit}", [(_in(ms, "client_ms", "max"), "-")], False))
    elif silent:
        panels.append((f"Longest silence, {unit}", [(_in(ms, "longest_silence_ms"), "-")], False))
    figure = new_figure(2.9)
    for place, (title, measures, wide) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for colour, group in zip(SERIES * len(groups), groups, strict=False):
            of_group = [row for row in rows if not second or row["at"][second[0]] == group]
            for measure, dashes in measures:
                _curve(axes, of_group, first, scale, measure, colour, dashes)
        if place == len(panels) and proven:
            _closed_form(axes, document, rows, first, second, groups, scale, ms)
        axes.set_title(title)
        axes.set_xlabel(label)
        light_grid(axes, "both")
        if wide and _spread(rows) > 20:
            logarithmic(axes, "y")
        else:
            axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
        if names:
            axes.set_xticks(range(len(names)), names)
        else:
            crowded = len(panels) > 2 and axes.get_xlim()[1] >= 1e4  # marks of five digits take room
            axes.xaxis.set_major_locator(MaxNLocator(3 if crowded else 5, integer=True))
    handles = [
        Line2D([], [], color=colour, label=f"{name_of(second[0])} = {group}")
        for colour, group in zip(SERIES, groups, strict=False)
        if second
    ]
    handles += [
        Line2D([], [], color="#444444", label="median (latency), value"),
        Line2D([], [], color="#444444", linestyle="--", label="99th percentile"),
    ]
    if proven:
        handles.append(Line2D([], [], color=BLACK, linestyle=":", label="closed form"))
    legend_below(figure, handles, columns=min(len(handles), 4))
    return figure


def _in(ms: float, *keys: str) -> Callable[[Point], float | None]:
    """What a row has there, which is in ms, in a unit of so many."""

    def measure(row: Point) -> float | None:
        found: Any = row
        for key in keys:
            found = found[key]
        return None if found is None else found / ms

    return measure


def _longest(rows: list[Point]) -> float:
    """ms."""
    return max(
        _numbers([found for row in rows for found in (row["client_ms"]["max"], row["longest_silence_ms"])]),
        default=0,
    )


def _curve(
    axes: Axes,
    rows: list[Point],
    key: str,
    scale: Callable[[Any], float],
    measure: Any,
    colour: str,
    dashes: str,
) -> None:
    values = _distinct(row["at"][key] for row in rows)
    found = [[measure(row) for row in rows if row["at"][key] == value] for value in values]
    kept = [(scale(value), at) for value, got in zip(values, found, strict=True) if (at := _numbers(got))]
    if not kept:
        return
    x = [place for place, _ in kept]
    mean = [sum(at) / len(at) for _, at in kept]
    low = [m - min(at) for m, (_, at) in zip(mean, kept, strict=True)]
    high = [max(at) - m for m, (_, at) in zip(mean, kept, strict=True)]
    axes.errorbar(
        x,
        mean,
        yerr=[low, high],
        color=colour,
        linestyle=dashes,
        marker="o",
        markersize=3,
        linewidth=1.2,
        capsize=2,
    )


def _closed_form(
    axes: Axes,
    document: dict[str, Any],
    rows: list[Point],
    first: str,
    second: list[str],
    groups: list[Any],
    scale: Any,
    ms: float,
) -> None:
    for group in groups:
        of_group = [row for row in rows if not second or row["at"][second[0]] == group]
        found = [(scale(row["at"][first]), closed_form_ms(document, row)) for row in of_group]
        kept = sorted({(x, y / ms) for x, y in found if y is not None})
        axes.plot(
            [x for x, _ in kept], [y for _, y in kept], color=BLACK, linestyle=":", linewidth=1.0, zorder=5
        )


def closed_form_ms(document: dict[str, Any], row: Point) -> float | None:
    """How long a client waits when the first primary dies, by the closed form of docs/protocol.md: Tc + T + 6d.

    None where it does not apply: other faults, links without a constant delay, processors that take time.
    """
    settings = document["settings"]
    links, faults = settings["network"]["links"], settings["fault"]
    if links.get("model") != "constant" or len(faults) != 1 or "crash" not in faults[0]:
        return None
    if list(faults[0]["crash"]) != ["replica.0"] or settings["nodes"]["cpu"] != "none":
        return None
    at = row["at"]
    try:
        client = units.duration_ns(
            at.get("consensus.client_timeout", settings["consensus"]["client_timeout"])
        )
        view = units.duration_ns(
            at.get("consensus.view_change_timeout", settings["consensus"]["view_change_timeout"])
        )
        delay = units.duration_ns(links["delay"])
    except (ScenarioError, ValueError, TypeError):
        return None
    return (client + view + 6 * delay) / 1e6


_UNITS: Final = (
    (units.duration_ns, 1e6, "ms"),
    (units.bandwidth_bps, 1e6, "Mbit/s"),
    (units.size_bytes, 2**10, "KiB"),
)
_RATES: Final = {"workload.rate": "requests/s", "rate": "messages/s"}  # of the load; of whoever floods


def axis_of(key: str, values: list[Any]) -> Axis:
    """How a value becomes a place on the axis, and what the axis is called: durations in ms, bandwidths in Mbit/s,
    sizes in KiB, shares in per cent. What has no number stands in its order."""
    name = name_of(key)
    if all(isinstance(value, list | tuple) for value in values):
        return Axis(lambda value: float(len(value)), f"{name}s, number")
    for read, unit, written in _UNITS:
        if _all_read(read, values):
            return Axis(partial(_in_units, read, unit), f"{name}, {written}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        order = [str(value) for value in _distinct(values)]
        return Axis(lambda value: float(order.index(str(value))), name, order)
    if key.endswith("loss") and all(0 <= value <= 1 for value in values):
        return Axis(lambda value: 100.0 * float(value), f"{name}, %")
    rate = _RATES.get(key) or _RATES.get(key.rpartition(".")[2])
    return Axis(float, f"{name}, {rate}" if rate else name)


def _in_units(read: Callable[[object], int], unit: float, value: object) -> float:
    return read(value) / unit


def _all_read(read: Callable[[object], int], values: list[Any]) -> bool:
    try:
        for value in values:
            read(value)
    except (ScenarioError, ValueError):
        return False
    return True


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order; lists have no hash."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def name_of(key: str) -> str:
    """What a figure calls a dotted key of the scenario."""
    return key.rpartition(".")[2].replace("_", " ")


def _numbers(found: list[Any]) -> list[float]:
    return [float(value) for value in found if value is not None]


def _spread(rows: list[Point]) -> float:
    found = _numbers([row["client_ms"][name] for row in rows for name in ("p50", "p99")])
    return max(found) / max(min(found), 1e-9) if found else 1.0
