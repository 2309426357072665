"""A scenario that varies: a row a run, each the run that it says it is, by the engine that was asked for."""

from itertools import pairwise
from pathlib import Path

import pytest
from tradebft.lab import figure_style, figures
from tradebft.lab.run import run
from tradebft.scenarios.schema import ScenarioError

PLAIN = """
title = "Batches of one and of ten"
[network]
nodes = 4
links = { model = "uniform", low = "8 ms", high = "12 ms" }
[consensus]
batch_timeout = "5 ms"
[workload]
kind = "synthetic"
transactions = 60
clients = 3
"""
SIZES = {"repeats": 2, "vary": {"consensus.batch_size": [1, 10]}}
RESTART = {"vary": {"fault": [[], [{"at": "100 ms", "crash": "replica.3", "for": "1 s"}]]}}


@pytest.fixture
def scenario(tmp_path: Path):
    path = tmp_path / "own.toml"
    path.write_text(PLAIN, encoding="utf-8")
    return path


def test_every_row_is_the_run_that_it_says_it_is(scenario):
    points = run(scenario, set=SIZES, seed=5).document["points"]
    assert [(p["at"]["consensus.batch_size"], p["seed"]) for p in points] == [
        (1, 5),
        (1, 6),
        (10, 5),
        (10, 6),
    ]
    for point in points:
        alone = run(scenario, set=point["at"], seed=point["seed"]).document
        assert point["trace_digest"] == alone["trace_digest"]
        assert point["client_ms"]["p99"] == alone["consensus"]["client_ms"]["p99"]
    assert len({point["trace_digest"] for point in points}) == 4


def test_points_are_run_by_the_engine_that_was_asked_for(scenario):
    pytest.importorskip("numba")
    with pytest.raises(ScenarioError, match="engine wavefront does not cover processors"):
        run(scenario, set=RESTART, engine="wavefront")
    assert (
        run(scenario, set=RESTART, engine="auto").document["points"]
        == run(scenario, set=RESTART).document["points"]
    )


def test_marks_of_large_numbers_do_not_run_into_each_other(scenario):
    down = [{"at": "0 ms", "crash": "replica.0"}]
    ran = run(scenario, set={"fault": down, "vary": {"workload.payload_bytes": [0, 100_000]}})
    (figure,) = [drawn for name, _, drawn in figures.draw(ran.document, ran.records) if name == "points"]
    with figure_style.style():
        figure_style.settle(figure)
        figure.canvas.draw()
    assert len(figure.axes) == 3
    for axes in figure.axes:
        marks = [mark.get_window_extent() for mark in axes.get_xticklabels() if mark.get_text()]
        assert len(marks) >= 3
        assert all(one.x1 < other.x0 for one, other in pairwise(sorted(marks, key=lambda box: box.x0)))
