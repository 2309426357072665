"""The gate: closed for one message more, closed for a fifth more work, open for everything else."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import pytest
from commands import SMALL as OTHERS
from commands import left
from tradebft.consensus.interface import Send
from tradebft.consensus.pbft.replica import Replica
from tradebft.lab import gate
from tradebft.lab.progress import silent
from tradebft.lab.results import ResultsError
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.schema import load

SMALL = {**OTHERS, "workload.transactions": 1500}


def small(**changes: object):
    return load("stress", {**SMALL, **changes})


@pytest.fixture(scope="module")
def before() -> gate.Baseline:
    return gate.look([small()], thorough=True)


def test_nothing_moved(before: gate.Baseline) -> None:
    verdict = gate.check(before, [small()], {})
    assert verdict.ok, verdict.moved
    assert [one.key for one in verdict.moved if one.key != gate.WORK] == []


def one_message_more(monkeypatch: pytest.MonkeyPatch) -> None:
    executed = Replica._on_executed

    def chatty(self, now, event):
        effects = executed(self, now, event)
        if (self.me, event.seq) == (1, 5):
            return [*effects, Send(0, self.fetch(1, bytes(32)))]
        return effects

    monkeypatch.setattr(Replica, "_on_executed", chatty)


def test_one_message_more_is_seen(before: gate.Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    one_message_more(monkeypatch)
    verdict = gate.compare(before, gate.look([small()], timed=False), {})
    assert not verdict.ok
    moved = {one.key: one for one in verdict.moved}
    assert "trace_digest" in moved
    assert moved["consensus.messages.total"].now == moved["consensus.messages.total"].before + 1
    assert verdict.reasons == ["same settings, same version number: what the code does has changed"]


def test_what_is_allowed_may_move(before: gate.Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    one_message_more(monkeypatch)
    now = gate.look([small()], timed=False)
    allowed = {"consensus.messages.total": 1.0}
    moved = {one.key: one.beyond for one in gate.compare(before, now, allowed).moved}
    assert moved["consensus.messages.total"] is False
    assert moved["trace_digest"] is True  # a digest is the same or it is not


def slower(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a replica takes longer, by so much that a run takes that share more."""
    step, calls = Replica.step, 0

    def counted(self, now, event):
        nonlocal calls
        calls += 1
        return step(self, now, event)

    def spent(what) -> float:
        begun = time.thread_time_ns()
        what()
        return time.thread_time_ns() - begun

    def turns() -> None:
        for _ in range(1_000_000):
            pass

    # In alternation: what a run and what a million turns of an empty loop take, on this machine in these seconds.
    ratios = [spent(lambda: gate.execute(small(), silent)) / spent(turns) for _ in range(9)]
    with monkeypatch.context() as patched:
        patched.setattr(Replica, "step", counted)
        gate.execute(small(), silent)
    times = round(share * statistics.mean(ratios) * 1_000_000 / calls)

    def slow(self, now, event):
        for _ in range(times):
            pass
        return step(self, now, event)

    monkeypatch.setattr(Replica, "step", slow)


def test_a_fifth_more_work_is_seen_and_a_fifth_less_is_no_reason_to_stop(
    before: gate.Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        slower(0.2, patched)
        verdict = gate.check(before, [small()], {})
    slow = verdict.now
    (work,) = verdict.moved
    assert (work.key, work.beyond) == (gate.WORK, True)
    assert 10 < work.percent < 50
    assert not verdict.ok
    assert gate.compare(before, slow, {"work": 60}).ok
    faster = gate.compare(slow, before, {})
    assert faster.ok


def test_the_reason_is_told(before: gate.Baseline) -> None:
    now = gate.look([small(**{"consensus.batch_size": 7, "network.links.std": "9 ms"})], timed=False)
    verdict = gate.compare(before, now, {})
    assert not verdict.ok
    assert any(
        "stress: consensus.batch_size was" in line and line.endswith("is 7") for line in verdict.reasons
    )
    assert any("network.links.std was" in line for line in verdict.reasons)
    old = gate.Baseline("0.0.1", before.scenarios)
    assert any("tradebft 0.0.1 made the baseline" in line for line in gate.compare(old, now, {}).reasons)


def test_what_no_figure_is_called_cannot_be_allowed(before: gate.Baseline) -> None:
    with pytest.raises(ScenarioError) as refused:
        gate.check(before, [small()], {"work": 20.0, "consensus.*.p99": 1.0, "consensus.client_ms.p98": 2.0})
    expected = "--max-change consensus.client_ms.p98: no such figure; did you mean 'consensus.client_ms.p9"
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize(
    ("key", "allowed", "expected"),
    [
        ("consensus.client_ms.p99", {}, 0.0),
        ("consensus.client_ms.p99", {"consensus.*": 2.0}, 2.0),
        ("consensus.client_ms.p99", {"consensus.*": 2.0, "*.p99": 5.0}, 5.0),
        ("throughput.committed_per_second", {"consensus.*": 2.0}, 0.0),
    ],
)
def test_the_last_pattern_that_fits_counts(key: str, allowed: dict[str, float], expected: float) -> None:
    assert gate._allowed(key, allowed, 0.0) == expected


# --- as a command ---

FAST = ("own.toml", "--no-time", "--quiet")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.toml"
    path.write_text('[network]\nnodes = 4\n[workload]\nkind = "synthetic"\nclients = 1\ntransactions = 50\n')
    return path


def test_the_command(own: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline, bench = tmp_path / "kept" / "baseline.json", tmp_path / "bench.json"
    assert left(capsys, "gate", *FAST, "--against", str(baseline), "--update")[0] == 0
    code, out, err = left(capsys, "gate", *FAST, "--against", str(baseline), "--benchmark", str(bench))
    assert (code, out, err) == (0, "", "")
    entries = json.loads(bench.read_text())
    assert {"name", "unit", "value", "extra"} == set(entries[0])
    assert "own: consensus.client_ms.p99" in [entry["name"] for entry in entries]
    one_message_more(monkeypatch)
    code, out, _ = left(capsys, "gate", *FAST, "--against", str(baseline))
    assert code == 1
    assert "consensus.messages.total" in out
    assert "what the code does has changed" in out
    code, out, _ = left(capsys, "gate", *FAST, "--against", str(baseline), "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_engines_show_the_same_and_take_another_time(before: gate.Baseline, engine: str) -> None:
    verdict = gate.check(before, [small()], {}, timed=False, engine=engine)
    assert verdict.now.scenarios["stress"].engine == "compiled"
    assert verdict.moved == []
    with pytest.raises(ResultsError, match=r"what engine reference took.*expected --no-time, --engine ref"):
        gate.check(before, [small()], {}, engine=engine)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--against", "missing.json"], "missing.json: no such file; --update makes it"),
        (["--against", "bad.json"], "expected a baseline of `tradebft gate`"),
        (["--against", "other.json"], "the baseline holds no scenario 'own'"),
        (["--against", "other.json", "--max-change", "work"], "expected KEY=PERCENT"),
        (["--against", "other.json", "--max-change", "work=-1"], "expected KEY=PERCENT"),
    ],
)
def test_bad_input_is_one_line(own: Path, words: list[str], told: str, capsys) -> None:
    Path("bad.json").write_text("{}")
    gate.write(Path("other.json"), gate.Baseline("1", {}))
    code, out, err = left(capsys, "gate", *FAST, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_an_unchanged_tree_passes_ten_times_in_a_row(before: gate.Baseline) -> None:
    found = []
    for _ in range(10):
        verdict = gate.check(before, [small()], {})
        found.append(verdict.now.scenarios["stress"].figures[gate.WORK])
        assert verdict.ok, verdict.moved
    print(before.scenarios["stress"].figures[gate.WORK], found)
