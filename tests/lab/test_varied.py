"""A scenario that varies: a row a run, each the run that it says it is, by the engine that was asked for."""

from pathlib import Path

import pytest
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
SIZES = 'repeats = 2\n[vary]\n"consensus.batch_size" = [1, 10]\n'
RESTART = '[vary]\nfault = [[], [{ at = "100 ms", crash = "replica.3", for = "1 s" }]]\n'


@pytest.fixture
def scenario(tmp_path: Path):
    def written(more: str) -> Path:
        path = tmp_path / "own.toml"
        keys, _, tables = more.partition("[vary]")
        path.write_text(keys + PLAIN + ("[vary]" + tables if tables else ""), encoding="utf-8")
        return path

    return written


def test_every_row_is_the_run_that_it_says_it_is(scenario):
    points = run(scenario(SIZES), seed=5).document["points"]
    assert [(p["at"]["consensus.batch_size"], p["seed"]) for p in points] == [
        (1, 5),
        (1, 6),
        (10, 5),
        (10, 6),
    ]
    for point in points:
        alone = run(scenario(""), set=point["at"], seed=point["seed"]).document
        assert point["trace_digest"] == alone["trace_digest"]
        assert point["client_ms"]["p99"] == alone["consensus"]["client_ms"]["p99"]
    assert len({point["trace_digest"] for point in points}) == 4


def test_points_are_run_by_the_engine_that_was_asked_for(scenario):
    pytest.importorskip("numba")
    path = scenario(RESTART)
    with pytest.raises(ScenarioError, match="engine compiled does not cover faults"):
        run(path, engine="compiled")
    assert run(path, engine="auto").document["points"] == run(path).document["points"]
