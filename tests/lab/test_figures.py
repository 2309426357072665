"""Figures and traces: the same bytes every time, nothing drawn from nothing, and geometry that can be checked."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from tradebft.lab import figure_style, figures, metrics, network_map, space_time, trace, wording
from tradebft.lab.points_figure import axis_of
from tradebft.lab.run import run
from tradebft.scenarios.records import Records

PBFT_4 = (
    ("Request", "firm.1", "a", 0, 5),
    ("PrePrepare", "a", "b", 5, 9),
    ("PrePrepare", "a", "c", 5, 10),
    ("Prepare", "b", "a", 9, 14),
    ("Prepare", "c", "a", 10, -1),
)


def some_messages() -> list[trace.Message]:
    return [
        trace.Message(k, s, r, at * 10**6, -1 if to < 0 else to * 10**6, 0, 1) for k, s, r, at, to in PBFT_4
    ]


Drawn = dict[str, dict[str, str]]


def draw(records: Records) -> dict[str, str]:
    document = metrics.document(records)
    return {name: figures.svg(figure, name) for name, _, figure in figures.draw(document, records)}


@pytest.fixture(scope="module")
def drawn(fake: ModuleType) -> Drawn:
    return {
        "trade": draw(fake.trade_records(applications=150, faults=True)),
        "synthetic": draw(fake.synthetic_records(nodes=7, transactions=60)),
    }


def test_a_month_of_trade_finance_has_all_figures(drawn: Drawn) -> None:
    assert list(drawn["trade"]) == [name for name in figures.FIGURES if name != "points"]
    assert set(figures.CAPTIONS) == set(figures.FIGURES)


def test_a_synthetic_run_has_only_the_figures_it_has_data_for(drawn: Drawn) -> None:
    assert list(drawn["synthetic"]) == ["commit_latency", "one_round", "messages_by_kind", "network_map"]


def test_a_run_that_left_nothing_behind_has_no_figures() -> None:
    records = Records({}, "empty", 1, "pbft", "simulated", "reference", ["replica.0"], 1, 0)
    assert list(figures.draw(metrics.document(records), records)) == []


def test_figures_are_the_same_bytes_every_time(fake: ModuleType, drawn: Drawn) -> None:
    assert draw(fake.synthetic_records(nodes=7, transactions=60)) == drawn["synthetic"]


def test_writing_a_figure_does_not_change_it(fake: ModuleType) -> None:
    records = fake.trade_records(applications=60)
    for name, _, figure in figures.draw(metrics.document(records), records):
        first = figures.svg(figure, name)
        figures.png(figure)
        assert figures.svg(figure, name) == first, name
        for axes in figure.axes:  # on the grid, and still there after writing
            corners = axes.get_position(original=True).get_points()
            assert np.array_equal(corners, corners.round(4)), name


@pytest.mark.parametrize("which", ["trade", "synthetic"])
def test_svgs_are_well_formed_dateless_and_share_no_ids(which: str, drawn: Drawn) -> None:
    seen: set[str] = set()
    for name, svg in drawn[which].items():
        root = ET.fromstring(svg[svg.index("<svg") :])
        ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert len(ids) == len(set(ids))
        assert all(found.startswith(f"{name}-") for found in ids)
        assert not seen & set(ids)
        seen |= set(ids)
        assert "dc:date" not in svg
        for used in ("href", "{http://www.w3.org/1999/xlink}href"):
            targets = {
                element.attrib[used][1:] for element in root.iter() if element.attrib.get(used, "")[:1] == "#"
            }
            assert targets <= set(ids)


def test_the_users_own_matplotlib_settings_are_neither_used_nor_changed() -> None:
    import matplotlib

    before = matplotlib.rcParams["font.size"]
    matplotlib.rcParams["font.size"] = 33
    try:
        with figure_style.style():
            assert matplotlib.rcParams["font.size"] != 33
        assert matplotlib.rcParams["font.size"] == 33
    finally:
        matplotlib.rcParams["font.size"] = before


def test_a_great_circle_keeps_to_the_sphere_and_ends_where_it_should() -> None:
    guiyang, beijing = (26.65, 106.63), (39.90, 116.41)
    way = network_map.great_circle(guiyang, beijing)
    assert np.allclose(way[0], guiyang[::-1])
    assert np.allclose(way[-1], beijing[::-1])
    steps = [network_map.distance_km((a[1], a[0]), (b[1], b[0])) for a, b in pairwise(way)]
    assert np.allclose(steps, steps[0], rtol=1e-3)
    assert sum(steps) == pytest.approx(network_map.distance_km(guiyang, beijing), rel=1e-6)
    assert sum(steps) == pytest.approx(1730, rel=0.02)  # as a globe has it
    assert np.allclose(network_map.great_circle(guiyang, guiyang), guiyang[::-1])


def test_labels_on_the_map_cover_neither_one_another_nor_another_city(fake: ModuleType) -> None:
    records = fake.trade_records(applications=10)
    figure: Any = network_map.network_map(metrics.document(records), records)
    axes = figure.axes[0]
    labels = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in labels]
    assert len(labels) == len(set(records.places.values()))
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert axes.get_window_extent().contains(*box.min)
        assert axes.get_window_extent().contains(*box.max)


def test_twenty_cities_have_labels_that_do_not_cover_one_another(fake: ModuleType) -> None:
    records = fake.synthetic_records(nodes=20, transactions=5)
    spread = [(f"City {i}", 20 + (i * 7 % 20) * 1.2, 90 + (i * 3 % 20) * 1.7) for i in range(20)]
    records.places = dict(zip(records.nodes, spread, strict=True))
    figure: Any = network_map.network_map(metrics.document(records), records)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 20
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])


def test_lanes_are_clients_first_and_then_nodes_in_their_order() -> None:
    lane = trace.lanes(some_messages(), ["a", "b", "c", "idle"])
    assert lane == {"firm.1": 0, "a": 1, "b": 2, "c": 3}
    assert trace.lane_names(lane) == ["firm.1", "a", "b", "c"]


def test_many_clients_share_one_lane() -> None:
    crowd = [trace.Message("Request", f"client.{i}", "a", i, i + 5) for i in range(4)]
    lane = trace.lanes(crowd, ["a"])
    assert trace.lane_names(lane) == ["4 clients", "a"]
    assert {lane[f"client.{i}"] for i in range(4)} == {0}
    assert [arrow.sender for arrow in trace.diagram(crowd, ["a"]).arrows] == [0] * 4


def test_a_diagram_counts_time_from_its_first_message_and_keeps_what_was_lost() -> None:
    diagram = trace.diagram(some_messages(), ["a", "b", "c"])
    assert [phase.kind for phase in diagram.phases] == ["Request", "PrePrepare", "Prepare"]
    assert (diagram.phases[1].begin_ms, diagram.phases[1].end_ms, diagram.phases[1].count) == (5.0, 10.0, 2)
    assert diagram.arrows[-1].arrived_ms is None
    assert diagram.end_ms == 14.0


def crowd_of(nodes: int, primary: int) -> pl.DataFrame:
    """One round of so many replicas: everybody's Prepare to everybody, a millisecond later than the one before."""
    names = [f"replica.{i}" for i in range(nodes)]
    rows = [("Request", "client.0", names[primary], 0, 5)]
    rows += [("PrePrepare", names[primary], to, 5, 10) for to in names if to != names[primary]]
    rows += [
        ("Prepare", by, to, 10 + i, 20 + i)
        for i, by in enumerate(names)
        for to in names
        if by != to != names[0]
    ]
    rows += [("Prepare", by, names[0], 10, -1) for by in names[1:]]
    return pl.DataFrame(
        [
            (k, by, to, at * 10**6, -1 if arrived < 0 else arrived * 10**6, 0, 1)
            for k, by, to, at, arrived in rows
        ],
        schema=["kind", "sender", "receiver", "sent_ns", "arrived_ns", "view", "seq"],
        orient="row",
    )


def test_phases_are_those_of_the_diagram_of_all_messages() -> None:
    rows = crowd_of(7, primary=3)
    names = [f"replica.{i}" for i in range(7)]
    assert trace.phases(rows) == trace.diagram(trace.messages(rows), names).phases
    assert trace.phases(rows)[2] == trace.Phase("Prepare", 10.0, 26.0, 42)
    assert trace.phases(rows.filter(pl.col("arrived_ns") < 0)) == [trace.Phase("Prepare", 0.0, 0.0, 6)]
    assert trace.phases(rows.clear()) == []


def test_of_many_members_some_are_drawn_and_all_are_counted(fake: ModuleType) -> None:
    """300 members' 180,000 arrows took minutes and gigabytes to draw, and were a wall."""
    records = fake.synthetic_records(nodes=100, transactions=5)
    records.round = crowd_of(100, primary=41)
    figure: Any = space_time.one_round({}, records)
    above, below = figure.axes
    assert above.get_title() == "How 100 members agree on sequence 1: 10,000 messages (17 members drawn)"
    lanes = [label.get_text() for label in below.get_yticklabels()]
    assert len(lanes) == 18
    assert lanes[:2] == ["client 0", "replica 0"]
    assert "replica 41" in lanes
    assert lanes[-1] == "replica 99"
    assert [text.get_text() for text in above.texts] == ["1", "99", "9,900"]
    lost = sum(len(line.get_xdata()) for line in below.lines if line.get_marker() == "x")
    assert (len(below.texts), lost) == (1 + 16 + 16 * 16, 16)


def test_a_transcript_has_a_line_a_message_and_says_what_was_lost() -> None:
    lines = trace.transcript(some_messages()).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == [
        "5.000",
        "ms",
        "a",
        "->",
        "b",
        "PrePrepare",
        "v0",
        "s1",
        "arrives",
        "9.000",
        "ms",
    ]
    assert lines[4].endswith("LOST")


def test_columns_show_a_broadcast_once_and_each_arrival_at_its_replica() -> None:
    text = trace.columns(some_messages(), ["a", "b", "c"])
    assert text.count("> PrePrepare") == 1
    assert text.count("PrePrepare < 1") == 2
    assert "x Prepare < 3" in text


def test_nothing_to_trace_is_no_error() -> None:
    assert trace.transcript([]) == ""
    assert trace.diagram([], []).arrows == []


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0.012 / 86_400, "12 ms"),
        (30 / 86_400, "30 s"),
        (0.02, "29 min"),
        (0.1, "2.4 h"),
        (0.31, "0.3 d"),
        (28.84, "28.8 d"),
    ],
)
def test_durations_have_the_unit_a_person_would_choose(days: float, text: str) -> None:
    assert wording.duration(days) == text


def test_waits_of_minutes_are_not_written_in_powers_of_ten() -> None:
    texts = [wording.milliseconds(value) for value in (83.2, 999.7, 1234.0, 89_900, 1_270_000, 9_000_000)]
    assert texts == ["83.2 ms", "1 s", "1.23 s", "89.9 s", "21 min", "2.5 h"]


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (27_553.4, "27,553 transactions a second"),
        (9876.54, "9,877 transactions a second"),
        (0.78964, "0.7896 transactions a second"),
        (7.1e-05, "6.134 transactions a day"),
    ],
)
def test_rates_have_the_unit_a_person_would_choose(per_second: float, text: str) -> None:
    assert wording.rate(per_second) == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("consensus.client_ms.p99", "client, p99 (ms)"),
        ("processes.chain.existing_customer_days.p50", "chain, existing customer, p50 (days)"),
        ("processes.chain.within_7_days", "chain, within 7 days"),  # a share, not days
        ("throughput.committed_per_second", "committed a second"),
    ],
)
def test_figures_have_names_in_words(key: str, text: str) -> None:
    assert wording.figure(key) == text


def test_what_is_put_on_a_figure_after_it_was_laid_out_is_written_too() -> None:
    """Labels of a map are placed on a page that no longer moves; some lie beside it."""
    widths = []
    for text in ("", "a city beyond the edge of the page"):
        with figure_style.style():
            figure = figure_style.new_figure(2.0)
            figure.subplots().plot([0, 1], [0, 1])
            figure_style.settle(figure)
            figure.text(1.0, 0.5, text)
        widths.append(int.from_bytes(figure_style.png(figure)[16:20], "big"))
    assert widths[1] > widths[0] + figure_style.DPI


@pytest.mark.parametrize(
    ("key", "values", "label", "places"),
    [
        ("workload.rate", [200, 400], "rate, requests/s", [200, 400]),
        ("fault.0.rate", [500, 1000], "rate, messages/s", [500, 1000]),
        ("network.bandwidth", ["10 Mbit/s", "1 Gbit/s"], "bandwidth, Mbit/s", [10, 1000]),
        ("consensus.batch_timeout", ["500 us", "2 ms"], "batch timeout, ms", [0.5, 2]),
        ("network.loss", [0.01, 0.2], "loss, %", [1, 20]),
        ("network.links.model", ["constant", "normal"], "model", [0, 1]),
        ("consensus.filling", [True, False], "filling", [0, 1]),
    ],
)
def test_what_is_varied_stands_on_the_axis_in_its_own_unit(
    key: str, values: list[Any], label: str, places: list[float]
) -> None:
    axis = axis_of(key, values)
    assert axis.label == label
    assert [axis.place(value) for value in values] == pytest.approx(places)
    assert list(axis.names) == ([] if places != [0, 1] else [str(value) for value in values])


@pytest.mark.parametrize(
    ("most", "written"), [(900, "800"), (9_000, "8,000"), (30_000, "30,000"), (3_000_000, "3,000,000")]
)
def test_thousands_of_a_linear_axis_are_set_apart_as_in_the_text(most: int, written: str) -> None:
    with figure_style.style():
        figure = figure_style.new_figure(2.0)
        axes = figure.subplots()
        axes.plot([0, 1], [0, most])
        figure_style.settle(figure)
        figure.canvas.draw()
    assert written in [label.get_text() for label in axes.get_yticklabels()]
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_the_smallest_run_there_is() -> None:
    """A single replica commits while it still signs its proposal: nobody waits for that, and no latency is negative."""
    ran = run("stress", set={"network.nodes": 1, "workload.transactions": 1})
    assert (
        ran.document["consensus"]["decision_ms"]["max"]
        == ran.document["consensus"]["all_commit_ms"]["max"]
        == 0
    )
    found = {name: figure for name, _, figure in figures.draw(ran.document, ran.records)}
    for figure in found.values():
        figure_style.settle(figure)
        figure.canvas.draw()
    (axes,) = found["messages_by_kind"].axes
    assert axes.get_xlabel() == "messages sent, 1 batch, n = 1"
    assert [mark.get_text() for mark in axes.get_xticklabels()] in (["0", "1"], ["0", "1", "2"])
    latency, *_ = found["commit_latency"].axes
    assert latency.get_xscale() == "linear"  # of one latency above zero


@pytest.mark.parametrize(("number", "text"), [(0, "0 batches"), (1, "1 batch"), (1_434, "1,434 batches")])
def test_one_is_not_many(number: int, text: str) -> None:
    assert wording.count(number, "batch", "batches") == text
    assert wording.count(number, "request") == text.replace("batches", "requests").replace("batch", "request")


@pytest.mark.parametrize(
    ("what", "who", "text"),
    [
        ("partition", "replica.3", "replica 3 cut off"),
        ("partition", "replica.0, replica.1 | replica.2", "replica 0 and replica 1 parted from replica 2"),
        (
            "one_way",
            "replica.0 | replica.1, replica.2, policy_bank",
            "replica 0 not heard by replica 1 and 2 more",
        ),
        ("crash", "commercial_bank.2", "crash of commercial bank 2"),
        ("byzantine silent", "replica.1", "replica 1 misbehaving (silent)"),
        ("reorder", "", "reordered messages of all members"),
    ],
)
def test_faults_are_told_by_whom_they_touch(what: str, who: str, text: str) -> None:
    assert wording.fault(what, who) == text


@pytest.mark.filterwarnings("error")
def test_a_run_that_takes_no_time_has_figures_all_the_same(tmp_path: Path) -> None:
    own = tmp_path / "at_once.toml"
    own.write_text(
        """
        network = { nodes = 4, links = { model = "constant", delay = "0 ms" } }
        nodes = { cpu = "none" }
        consensus = { batch_timeout = "0 ms" }
        workload = { kind = "synthetic", transactions = 20 }
        """
    )
    ran = run(own)
    assert ran.document["virtual_seconds"] == 0
    assert [name for name, _, _ in figures.draw(ran.document, ran.records)] == [
        "commit_latency", "one_round", "messages_by_kind", "network_map",
    ]  # fmt: skip
