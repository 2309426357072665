"""Who is connected to whom: members on their coordinates, or on a ring where a scenario has no places."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from tradebft.lab import wording
from tradebft.lab.figure_style import BLACK, BLUE, light_grid, new_figure, settle
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EARTH_KM = 6371.0
NAMES_IN_LABEL = 4
ALIKE = 0.05  # links whose values differ by less, as a share of the median, have one colour
CITIES_WITH_NAMES = 8  # beyond it a label is the city and how many members it has
MARGIN = 3.0  # pixels around a label that stay free
DISTANCES = (6, 10, 16, 26, 38)  # points from the city to its label
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
INK = 6.0  # covering one point of a link weighs as much as so many square pixels of a label
Point = tuple[float, float]


def network_map(document: dict[str, Any], records: Records) -> Figure | None:
    """Links coloured by the one-way delay seen in the recorded round (by distance where nothing was
    recorded).
    """
    if len(records.nodes) < 2 or not records.edges:
        return None
    placed = {node: records.places[node] for node in records.nodes if node in records.places}
    if len({(lat, lon) for _, lat, lon in placed.values()}) >= 2:
        return _map(records, placed)
    return _ring(records)


def great_circle(start: Point, end: Point, points: int = 32) -> np.ndarray[Any, Any]:
    """Longitudes and latitudes (degrees, one row a point) along the shortest way from `start` to `end`
    (lat, lon).
    """
    a, b = _unit(*start), _unit(*end)
    angle = math.acos(float(np.clip(a @ b, -1, 1)))
    share = np.linspace(0, 1, points)[:, None]
    if angle < 1e-9:
        way = np.repeat(a[None, :], points, axis=0)
    else:
        way = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / math.sin(angle)
    longitudes = np.degrees(np.arctan2(way[:, 1], way[:, 0]))
    latitudes = np.degrees(np.arcsin(np.clip(way[:, 2], -1, 1)))
    return np.column_stack([longitudes, latitudes])


def distance_km(start: Point, end: Point) -> float:
    """Great-circle distance between two (lat, lon) in degrees."""
    return EARTH_KM * math.acos(float(np.clip(_unit(*start) @ _unit(*end), -1, 1)))


def _unit(lat: float, lon: float) -> np.ndarray[Any, Any]:
    la, lo = math.radians(lat), math.radians(lon)
    return np.array([math.cos(la) * math.cos(lo), math.cos(la) * math.sin(lo), math.sin(la)])


def _map(records: Records, placed: dict[str, tuple[str, float, float]]) -> Figure:
    cities: dict[tuple[str, float, float], list[str]] = defaultdict(list)
    for node, place in placed.items():
        cities[place].append(node)
    width, height = _extent([(lat, lon) for _, lat, lon in cities])
    short = len(cities) > CITIES_WITH_NAMES
    beside, above = (0.12, 0.12) if short else (0.28, 0.42)  # room for the labels, as shares of the extent
    high_inches = 5.6 * (1 + 2 * above) * height / ((1 + 2 * beside) * width)
    figure = new_figure(float(np.clip(high_inches + 0.8, 2.8, 6.2)))
    axes = figure.subplots()
    values, meaning = _link_values(records, {node: (lat, lon) for node, (_, lat, lon) in placed.items()})
    between: dict[tuple[Point, Point], list[float]] = defaultdict(list)
    for (left, right), value in values.items():
        start, end = sorted((placed[left][1:], placed[right][1:]))
        if start != end:
            between[(start, end)] += [] if value is None else [value]
    lines = [great_circle(start, end) for start, end in between]
    _links(
        figure,
        axes,
        lines,
        [float(np.median(found)) if found else None for found in between.values()],
        meaning,
    )
    for (_, lat, lon), members in cities.items():
        axes.plot(
            [lon],
            [lat],
            "o",
            markersize=5 + 2.2 * math.sqrt(len(members)),
            color=BLACK,
            markeredgecolor="white",
            zorder=4,
        )
    middle = sum(lat for _, lat, _ in cities) / len(cities)
    _frame(axes, [(lat, lon) for _, lat, lon in cities], middle, beside, above)
    settle(figure)  # labels are placed on a page that no longer moves
    _labels(
        axes,
        {(lon, lat): _city_label(city, members, short) for (city, lat, lon), members in cities.items()},
        lines,
    )
    return figure


def _ring(records: Records) -> Figure:
    n = len(records.nodes)
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    at = {node: (math.cos(a), math.sin(a)) for node, a in zip(records.nodes, angle, strict=True)}
    figure = new_figure(5.2, 6.2)
    axes = figure.subplots()
    values, meaning = _link_values(records, {})
    _links(
        figure,
        axes,
        [np.array([at[left], at[right]]) for left, right in values],
        list(values.values()),
        meaning,
    )
    for index, (node, (x, y)) in enumerate(at.items()):
        axes.plot(
            [x], [y], "o", markersize=13 if n <= 40 else 4, color=BLACK, markeredgecolor="white", zorder=4
        )
        if n <= 40:
            axes.text(
                x, y, str(index), color="white", ha="center", va="center_baseline", fontsize=7, zorder=5
            )
        if n <= 12 and not node.startswith("replica."):
            side = "left" if x > 0.15 else "right" if x < -0.15 else "center"
            axes.text(1.12 * x, 1.12 * y, wording.member(node), ha=side, va="center", fontsize=8)
    axes.set_xlim(-1.35, 1.35)
    axes.set_ylim(-1.2, 1.2)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(f"{n} replicas, {len(records.edges):,} links")
    return figure


def _link_values(
    records: Records, points: dict[str, Point]
) -> tuple[dict[tuple[str, str], float | None], str]:
    """For each link a value to colour it by, and what that value is."""
    seen: dict[frozenset[str], list[float]] = defaultdict(list)
    for row in records.round.iter_rows(named=True):
        if row["arrived_ns"] >= 0:
            seen[frozenset((row["sender"], row["receiver"]))].append(
                (row["arrived_ns"] - row["sent_ns"]) / 1e6
            )
    ends = [(a, b) for a, b in records.edges if a != b and (not points or (a in points and b in points))]
    delays = {
        (a, b): float(np.median(seen[frozenset((a, b))])) if seen[frozenset((a, b))] else None
        for a, b in ends
    }
    if any(value is not None for value in delays.values()) or not points:
        return dict(delays), "median one-way delay, ms"
    return {(a, b): distance_km(points[a], points[b]) for a, b in ends}, "great-circle distance, km"


def _links(figure: Figure, axes: Axes, lines: list[Any], colours: list[float | None], meaning: str) -> None:
    from matplotlib.collections import LineCollection

    known = [(line, colour) for line, colour in zip(lines, colours, strict=True) if colour is not None]
    unknown = [line for line, colour in zip(lines, colours, strict=True) if colour is None]
    thin = float(np.clip(60 / max(len(lines), 1), 0.15, 1.8))
    if unknown:
        axes.add_collection(
            LineCollection(unknown, colors="#CCCCCC", linewidths=thin, zorder=1), autolim=False
        )
    if not known:
        return
    values = np.array([colour for _, colour in known], dtype=float)
    if np.ptp(values) <= ALIKE * np.median(values):  # a scale would make much of nothing
        plain = LineCollection([line for line, _ in known], colors=BLUE, linewidths=thin, zorder=2)
        axes.add_collection(plain, autolim=False)
        what, unit = meaning.rsplit(", ", 1)
        text = f"{what}: {np.median(values):.3g} {unit}"
        axes.text(1, 0, text, transform=axes.transAxes, ha="right", va="bottom")
        return
    collection = LineCollection([line for line, _ in known], cmap="viridis_r", linewidths=thin, zorder=2)
    collection.set_array(values)
    axes.add_collection(collection, autolim=False)
    bar = figure.colorbar(collection, ax=axes, shrink=0.9, pad=0.02, aspect=28)
    bar.set_label(meaning)
    bar.outline.set_linewidth(0.5)


def _extent(points: list[Point]) -> Point:
    latitudes, longitudes = zip(*points, strict=True)
    scale = math.cos(math.radians(sum(latitudes) / len(latitudes)))
    return max(scale * (max(longitudes) - min(longitudes)), 1.0), max(max(latitudes) - min(latitudes), 0.5)


def _frame(axes: Axes, points: list[Point], middle: float, beside: float, above: float) -> None:
    latitudes, longitudes = zip(*points, strict=True)
    wide = max(max(longitudes) - min(longitudes), 1.0)
    high = max(max(latitudes) - min(latitudes), 0.8)
    axes.set_xlim(min(longitudes) - beside * wide, max(longitudes) + beside * wide)
    axes.set_ylim(min(latitudes) - above * high, max(latitudes) + above * high)
    # A degree of longitude is shorter than one of latitude by the cosine: shapes keep their proportions.
    axes.set_aspect(1 / math.cos(math.radians(middle)), adjustable="box")
    axes.set_xlabel("longitude, degrees east")
    axes.set_ylabel("latitude, degrees north")
    axes.set_title("The members and their links (great circles)")
    light_grid(axes, "both")


def _city_label(city: str, members: list[str], short: bool) -> str:
    if short:
        return city if len(members) == 1 else f"{city} ({len(members)})"
    shown = [wording.member(node) for node in members[:NAMES_IN_LABEL]]
    more = len(members) - len(shown)
    return "\n".join([city, *shown, *([f"and {more} more"] if more else [])])


def _labels(axes: Axes, texts: dict[Point, str], lines: list[np.ndarray[Any, Any]]) -> None:
    """Each label where it covers least: no other label, no point, not the edge of the map, and few links."""
    page = axes.get_window_extent()
    points = {at: axes.transData.transform(at) for at in texts}
    ink = np.vstack([axes.transData.transform(line) for line in lines]) if lines else np.empty((0, 2))
    taken: list[Any] = [_box(x - 9, y - 9, 18, 18) for x, y in points.values()]
    for at, text in sorted(texts.items(), key=lambda item: -item[1].count("\n")):
        label = _label(axes, at, text)
        size = label.get_window_extent()
        others = np.array([point for other, point in points.items() if other != at])
        best: tuple[float, Any, Point] | None = None
        for distance, (dx, dy) in product(DISTANCES, DIRECTIONS):
            place = _placed(points[at], size, distance, dx, dy)
            cost: float = 8.0 * distance + sum(_overlap(place, other) for other in taken)
            cost += 3 * (place.width * place.height - _overlap(place, page))
            cost += INK * int(np.sum(np.all((ink > place.min) & (ink < place.max), axis=1)))
            # A name that stands closer to another city than to its own would be read as the other's.
            if len(others) and _gap(place, others) < _gap(place, points[at][None, :]):
                cost += 1e6
            if best is None or cost < best[0]:
                best = (cost, place, (dx * distance, dy * distance))
        assert best is not None
        _, place, (right, up) = best
        taken.append(place)
        label.set_ha("left" if right > 0 else "right" if right < 0 else "center")
        label.set_va("bottom" if up > 0 else "top" if up < 0 else "center")
        label.set_position((right, up))


def _label(axes: Axes, at: Point, text: str) -> Any:
    head, *rest = text.split("\n")
    return axes.annotate(
        "\n".join([rf"$\bf{{{_mathtext(head)}}}$", *rest]),
        at,
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=7.5,
        linespacing=1.15,
        zorder=6,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
    )


def _placed(point: Any, size: Any, distance: float, dx: int, dy: int) -> Any:
    """Where the label's box would lie, with a margin that stays free."""
    pixels = distance * 100 / 72  # the canvas has 100 dots an inch while the labels are placed
    x = point[0] + dx * pixels - size.width * (1 - dx) / 2
    y = point[1] + dy * pixels - size.height * (1 - dy) / 2
    return _box(x - MARGIN, y - MARGIN, size.width + 2 * MARGIN, size.height + 2 * MARGIN)


def _box(x: float, y: float, width: float, height: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(x, y, width, height)


def _gap(box: Any, points: Any) -> float:
    """Distance from a box to the nearest of some points, 0 if one lies inside."""
    outside = np.maximum(np.maximum(box.min - points, points - box.max), 0)
    return float(np.sqrt((outside**2).sum(axis=1)).min())


def _overlap(one: Any, other: Any) -> float:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(wide * high) if wide > 0 and high > 0 else 0.0


def _mathtext(text: str) -> str:
    return text.replace(" ", r"\ ").replace("_", r"\_").replace("'", "{'}")
