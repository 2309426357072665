"""Predicted beside measured: one document, the same messages, and only where it makes sense."""

from __future__ import annotations

import json

import pytest
from tradebft.lab import cli, validate
from tradebft.service import calibrate, envelopes


def left(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    out, err = capsys.readouterr()
    return ended.value.code, out, err


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
    code, out, _ = left(capsys, "validate", str(path), "--bus", bus, "--json", "--quiet")
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
