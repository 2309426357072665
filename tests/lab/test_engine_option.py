"""`--engine` as a user meets it."""

import json

import pytest
from commands import SMALL, left
from tradebft.lab.sweep import planned, sweep
from tradebft.lab.sweep.plan import grid_of
from tradebft.lab.sweep.row import COST
from tradebft.scenarios.schema import load

SETTINGS = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_a_run_names_its_engine_and_has_the_digest_of_the_reference(capsys, engine):
    code, out, err = left(capsys, "run", "stress", *SETTINGS, "--json", "--engine", engine)
    fast = json.loads(out)
    assert (code, fast["engine"]) == (0, "compiled"), err
    assert err == ("engine compiled\n" if engine == "auto" else "")
    code, out, _ = left(capsys, "run", "stress", *SETTINGS, "--json")
    slow = json.loads(out)
    assert (code, slow["engine"]) == (0, "reference")
    assert fast["trace_digest"] == slow["trace_digest"]
    assert fast["invariants"]["checked"] == ["exactly-once", "liveness"]
    assert set(slow["invariants"]["checked"]) > {"exactly-once", "liveness", "agreement"}


CALM = """
[network]
nodes = 4
links = { model = "normal", mean = "10 ms", std = "1 ms" }
[nodes]
cpu = "none"
[workload]
kind = "synthetic"
clients = 1
outstanding = 1
transactions = 40
"""


def test_a_client_that_waits_makes_waves(capsys, tmp_path):
    path = tmp_path / "calm.toml"
    path.write_text(CALM)
    digests = []
    for engine in ("wavefront", "reference"):
        code, out, err = left(capsys, "run", str(path), "--json", "--engine", engine)
        assert code == 0, err
        found = json.loads(out)
        assert found["engine"] == engine
        digests.append(found["trace_digest"])
    assert digests[0] == digests[1]


def test_it_says_since_when_and_why_the_reference_goes_on(capsys):
    code, out, err = left(capsys, "run", "partition", "--engine", "compiled", "--json")
    assert (code, json.loads(out)["engine"]) == (0, "compiled")
    first = "the reference 6 times, first from 37801 s to 40500 s, for a view change"
    last = "last from 552793 s on, for a client that knows an earlier primary"
    assert err == f"engine compiled: {first}; {last}\n"


def test_what_is_not_covered_is_one_line(capsys):
    code, out, err = left(capsys, "run", "partition", "--engine", "wavefront", "--json")
    assert (code, out) == (2, "")
    assert err == (
        "partition: engine wavefront does not cover faults other than backups that crash for good; "
        "expected engine auto or reference\n"
    )


def test_auto_says_why_it_took_the_reference(capsys):
    code, out, err = left(
        capsys, "run", "stress", *SETTINGS, "--set", "network.topology=star", "--json", "--engine", "auto"
    )
    assert (code, json.loads(out)["engine"]) == (0, "reference")
    assert err.endswith("engine reference: compiled does not cover messages by way of others\n")


def test_an_engine_that_is_misspelt_is_one_line(capsys):
    code, out, err = left(capsys, "run", "stress", "--engine", "compild")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "'compild' is not one of 'auto', 'reference', 'wavefront', 'compiled'" in err


def test_a_sweep_leaves_the_same_table_whichever_engine_does_it(tmp_path):
    plan = planned(
        load("stress", SMALL), grid_of(["consensus.batch_size=1,10", "network.topology=mesh,star"]), 2
    )
    tables = []
    for engine in ("reference", "auto"):
        found = sweep(plan, tmp_path / engine, workers=1, engine=engine)
        assert found.failed == []
        tables.append(found.runs.drop(COST))
    assert tables[0].equals(tables[1])
    refused = sweep(plan, tmp_path / "compiled", workers=1, engine="compiled")
    assert len(refused.failed) == 4
    assert "does not cover messages by way of others" in refused.failed[0]
