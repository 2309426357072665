"""What computing costs here, as a profile that a scenario runs with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_consortium import said
from tradebft.lab.run import run
from tradebft.service import calibrate

SMALL = {"days": "3", "workload.arms": ["chain"]}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ROUNDS", 2), ("DECISIONS", 10), ("HOPS", 40), ("WRITES", 40)):
        monkeypatch.setattr(calibrate, name, value)


def test_a_profile_is_measured_and_runs(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "machine.toml"
    done = said(capsys, "calibrate", "--out", path, "--json", "--quiet")
    assert done.code == 0
    costs = done.json
    assert 5_000 < costs["sign"] < costs["verify"] < 2_000_000  # Ed25519: a check costs more than a signature
    assert 500 < costs["message"] < 500_000
    assert 100 < costs["kilobyte"] < 100_000
    assert 1_000 < costs["execute"] < 2_000_000
    assert costs["hop_mqtt"] > costs["hop_local"] > 0
    assert costs["write"] > 1_000
    assert set(costs["spread"]) == set(costs) - {"spread"}
    words = ("run", "guizhou-pilot", "--profile", path, "--set", "days=3", "--set", 'workload.arms=["chain"]')
    told = said(capsys, *words, "--json", "--quiet")
    settings = json.loads(told.out)["settings"]["nodes"]["cpu"]
    assert settings["verify"] == f"{round(costs['verify'])} ns"


def test_dearer_signatures_make_a_slower_chain(tmp_path: Path) -> None:
    """That the costs of a profile are those that count."""
    latencies = []
    for verify in ("10 us", "2 ms"):
        cpu = {"message": "10 us", "kilobyte": "1 us", "sign": "17 us", "verify": verify, "execute": "20 us"}
        document = run("guizhou-pilot", set={**SMALL, "nodes.cpu": cpu}).document
        latencies.append(document["consensus"]["client_ms"]["p50"])
    assert latencies[1] > latencies[0] + 4 * 1.99  # request, proposal, votes, one after the other


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file"),
        ("verify", "expected a profile of `tradebft calibrate`"),
        ('verfy = "1 us"', "did you mean 'verify'?"),
        ("verify = 3", "expected a duration with its unit"),
    ],
)
def test_what_is_no_profile(
    text: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "machine.toml"
    if text is not None:
        path.write_text(text)
    refused = said(capsys, "run", "guizhou-pilot", "--profile", path, "--quiet")
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
