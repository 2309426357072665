"""The engine's benchmark: what it prints, and that the engine keeps up with the bare loop beside it."""

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
