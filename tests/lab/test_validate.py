"""Predicted beside measured: one document, the same messages, and only where it makes sense."""

from __future__ import annotations

import json

import pytest
from commands import left
from tradebft.lab import validate
from tradebft.service import calibrate, disturbance, envelopes, writing
from tradebft.service.disturbance import Pace
from tradebft.service.envelopes import EnvelopeCosts
from tradebft.service.writing import Writes


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, value in (
        (calibrate, "ROUNDS", 2), (calibrate, "TIMES", 10), (calibrate, "DECISIONS", 3),
        (envelopes, "ROUNDS", 2), (envelopes, "ENVELOPES", 40), (validate, "WRITES", 60),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, value)


SCENARIO = """
[network]
nodes = 4
links = { model = "constant", delay = "0 ms" }
[consensus]
batch_size = 1
view_change_timeout = "10 s"
client_timeout = "20 s"
[workload]
kind = "synthetic"
clients = 1
outstanding = 1
transactions = 40
"""


@pytest.mark.parametrize("bus", ["local", "mqtt"])
def test_a_prediction_beside_a_measurement(
    quick: None, bus: str, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    code, out, _ = left(capsys, "validate", str(path), "--bus", bus, "--repeats", "1", "--json", "--quiet")
    assert code == 0
    found = json.loads(out)
    for side in ("predicted", "measured"):
        figures = found[side]
        assert figures["client_ms"]["count"] == 40
        assert figures["client_ms"]["p99"] >= figures["client_ms"]["p50"] > 0
        assert figures["committed_per_second"] > 1
        assert figures["cpu_seconds"] > 0
    assert found["predicted"]["messages"] == pytest.approx(found["measured"]["messages"], rel=0.05)
    assert set(found["within"]) == set(found["error"]) == set(validate.WITHIN)
    assert 0.1 < found["predicted"]["client_ms"]["p50"] / found["measured"]["client_ms"]["p50"] < 10
    text = "\n".join(validate.lines(found))
    assert "committed a second" in text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"0 ms"', '"1 ms"', "expected a constant delay of 0 without loss"),
        ("nodes = 4", "nodes = 4\nloss = 0.1", "expected a constant delay of 0 without loss"),
        ("[workload]", '[[fault]]\nat = "1 s"\ncrash = "replica.1"\n[workload]', "needs the simulated bus"),
    ],
)
def test_what_cannot_be_compared(
    old: str, new: str, told: str, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO.replace(old, new))
    code, out, err = left(capsys, "validate", str(path), "--quiet")
    assert (code, out) == (2, "")
    assert told in err


def measured(scale: float = 1.0) -> validate.Measured:
    costs = {
        name: scale * k for k, name in enumerate(("message", "kilobyte", "sign", "verify", "chain"), start=1)
    }
    return validate.Measured(
        costs, costs, Writes([5e5], 0.5 * scale, 0.1 * scale), EnvelopeCosts(*[scale] * 7, 9e3)
    )


def test_a_machine_at_half_the_pace_costs_twice_as_much_and_its_disk_the_same() -> None:
    one = validate.machine([measured()], Pace(100, 1000), "mqtt")
    slow = validate.machine([measured()], Pace(200, 2000), "mqtt")
    assert (one.cpu.message_ns, one.cpu.kilobyte_ns, one.cpu.sign_ns, one.cpu.verify_ns) == (
        1000,
        2000,
        300,
        400,
    )
    assert (slow.cpu.message_ns, slow.cpu.sign_ns) == (2000, 600)
    assert (slow.seal_ns, slow.record_ns) == (2 * one.seal_ns, 2 * one.record_ns) == (2000, 200)
    assert one.broker is not None
    assert slow.broker is not None
    assert slow.broker.give_ns == 2 * one.broker.give_ns
    assert (slow.writes_ns, slow.hop_ns) == (one.writes_ns, one.hop_ns) == ((500_000,), 9000)
    local = validate.machine([measured()], Pace(100, 1000), "local")
    assert (local.cores, local.broker) == (1, None)


def test_several_measurements_are_averaged_and_their_writes_kept() -> None:
    both = validate.machine([measured(1.0), measured(3.0)], Pace(100, 1000), "local")
    twice = validate.machine([measured(2.0)], Pace(100, 1000), "local")
    assert both.cpu == twice.cpu
    assert both.seal_ns == twice.seal_ns
    assert both.writes_ns == (500_000, 500_000)


@pytest.mark.parametrize(("first", "each"), [(0.0, 1.0), (5.0, 1.0), (3.0, 0.0)])
def test_a_row_of_envelopes_is_taken_apart(first: float, each: float) -> None:
    row = first + envelopes.ROW * each
    assert envelopes._first_and_each(first + each, row) == pytest.approx((first, each))


def test_the_pace_is_of_what_was_done_since_it_was_asked() -> None:
    disturbance.pace()
    for _ in range(5):
        disturbance.disturb()
    found = disturbance.pace()
    assert 0 < found.check < 10e6
    assert 0 < found.other < 50e6
    assert (found.of("verify"), found.of("message")) == (found.check, found.other)


def test_writes_are_those_of_a_member() -> None:
    found = writing.writes(stores=2, count=12, requests=3)
    assert len(found.wall) == 12
    assert min(found.wall) > 1000
    assert found.processor > 0
    assert 0 < found.record < found.processor * 20
