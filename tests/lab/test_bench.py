"""The engine's benchmark: what it prints, that the engine keeps up with the bare loop beside it, and what it needs."""

import sys
import tracemalloc

import pytest
from tradebft.lab import bench, bench_scaling
from tradebft.lab.bench import engine


def test_the_bench_counts_every_message_of_every_decision():
    figures = engine(nodes=4, batches=10)
    assert figures["messages"] == 10 * (1 + 3 + 9 + 12 + 4)
    assert figures["ratio"] == figures["messages_per_second"] / figures["bare_loop_messages_per_second"]
    assert figures["wall_seconds"] > 0
    assert 10 < figures["peak_memory_mb"] < 4096


def test_one_seed_one_digest():
    assert (
        engine(4, 5)["trace_digest"] == engine(4, 5)["trace_digest"] != engine(4, 5, seed=2)["trace_digest"]
    )


def test_the_engine_delivers_a_quarter_of_what_a_bare_loop_does():
    """At n = 64, drawn delays, protocol, signatures, invariants and digest included; measured in one run."""
    assert engine(nodes=64, batches=12)["ratio"] >= 0.25


def test_the_compiled_engine_decides_the_same_and_sooner():
    """At n = 64 it needs a few runs' worth of batches: a client and a batch are Python, and cost the same for any n."""
    compiled, reference = engine(64, 12, engine="compiled"), engine(64, 12)
    assert compiled["engine"] == "compiled"
    assert compiled["trace_digest"] == reference["trace_digest"]
    assert compiled["messages"] == reference["messages"]
    assert compiled["messages_per_second"] > 4 * reference["messages_per_second"]


def test_auto_measures_the_fastest():
    assert engine(4, 5, engine="auto")["engine"] == "compiled"


def test_waves_decide_the_same_and_sooner():
    waves, reference = engine(64, 12, engine="wavefront"), engine(64, 12)
    assert (waves["engine"], waves["trace_digest"]) == ("wavefront", reference["trace_digest"])
    assert waves["messages_per_second"] > 3 * reference["messages_per_second"]
    assert engine(40, 5, engine="auto")["engine"] == "wavefront"


def test_replicas_hold_once_what_all_of_them_know():
    """n members send n² votes a phase: what every receiver has a copy of fills the memory first. Measured: 1,030 bytes
    for each pair (1,131 with Python 3.14); 1,390 if certificates share no signature, 1,260 with the picture of a round
    made at once, 1,090 if every replica has a membership of its own."""
    bench._run(4, 1, 1, "reference")
    tracemalloc.start()
    try:
        bench._run(150, 5, 1, "reference")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / 150**2 < (1080 if sys.version_info < (3, 14) else 1180)


@pytest.mark.slow
def test_a_thousand_members_fit_into_a_gigabyte(monkeypatch):
    """As many batches as `tradebft bench engine` decides; the reference, a quarter of an hour, with two."""
    few = {"reference": 2, "wavefront": 20, "compiled": 20}
    monkeypatch.setattr(bench_scaling, "batches", lambda name, _: few[name])
    found = bench_scaling.scaling(nodes=(1000,))
    assert [one["engine"] for one in found] == list(bench_scaling.ALL)
    assert {one["engine"]: one["peak_memory_mb"] for one in found if one["peak_memory_mb"] >= 700} == {}
