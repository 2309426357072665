"""A scenario's blocks through a network that runs already: the ledger comes out as simulated, at each try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_consortium import Consortium, said
from tradebft.scenarios.live import recorded_founding
from tradebft.scenarios.live_replay import REPLAYER
from tradebft.scenarios.schema import load
from tradebft.service.consortium import Plan, Recorded

SCENARIO, DAYS = "guizhou-pilot", "days=7"


@pytest.fixture
def consortium(tmp_path: Path) -> Iterator[Consortium]:
    config, ledger, signed = recorded_founding(load(SCENARIO, {"days": "7"}))
    recorded = Recorded(ledger, signed, REPLAYER, config)
    made = Consortium(tmp_path / "net", lambda url, http: Plan("p", [url], http_port=http, recorded=recorded))
    try:
        yield made
    finally:
        made.close()


def test_a_scenario_through_a_network_that_is_there(
    consortium: Consortium, capsys: pytest.CaptureFixture[str]
) -> None:
    consortium.start(0, 1, 2, 3)
    client = consortium.folder / "clients" / REPLAYER / "client.toml"
    words = ("run", SCENARIO, "--set", DAYS, "--bus", "mqtt", "--network", client, "--json", "--quiet")
    first, again = said(capsys, *words), said(capsys, *words)
    for done in (first, again):
        live = json.loads(done.out)["live"]
        assert live["same_as_simulated"] is True
        assert live["replayed_blocks"] > 10
    heights = {consortium.health(index)["height"] for index in range(4)}
    assert max(heights) > 0
    refused = said(capsys, *words, "--seed", 2)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines()[-1] == (
        f"{SCENARIO}: the network was founded for another scenario, seed or version of one"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("guizhou-pilot", "--bus", "local"), "a network that is there is for bus mqtt"),
        (("stress", "--bus", "mqtt"), "expected a scenario of trade finance"),
    ],
)
def test_what_cannot_run_there(
    consortium: Consortium, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    client = consortium.folder / "clients" / REPLAYER / "client.toml"
    refused = said(capsys, "run", *words, "--network", client)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
    other = consortium.folder / "nodes" / "replica.0" / "node.toml"
    assert "unknown key" in said(capsys, "run", "guizhou-pilot", "--bus", "mqtt", "--network", other).err
