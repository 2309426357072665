"""Every engine over the number of members: what is measured, and how it is drawn."""

from __future__ import annotations

import json

from tradebft.lab import bench_scaling


def test_every_engine_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_scaling, "MESSAGES", dict.fromkeys(bench_scaling.ALL, 1))
    found = bench_scaling.scaling(nodes=(4,))
    assert [(one["nodes"], one["engine"]) for one in found] == [(4, engine) for engine in bench_scaling.ALL]
    assert {one["batches"] for one in found} == {2}
    assert len({one["trace_digest"] for one in found}) == 1, "one behaviour"
    picture = bench_scaling.save(found, tmp_path / "new")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "new" / "bench-engine.json").read_text()) == found
    table = bench_scaling.lines(found)
    assert len(table) == 1 + len(found)
    assert "wavefront" in table[2]


def test_runs_are_as_long_as_their_messages():
    assert bench_scaling.batches("reference", 1000) == 2
    assert bench_scaling.batches("wavefront", 64) == 488
    assert bench_scaling.batches("compiled", 4) == bench_scaling.MOST_BATCHES
