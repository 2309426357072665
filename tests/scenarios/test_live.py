"""Scenarios over a real bus: real keys, real disks, processes, and the ledger that the simulation came to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tradebft.lab import cli
from tradebft.lab.run import run
from tradebft.scenarios.errors import ScenarioError

SYNTHETIC = """\
seed = 3

[network]
members = { administrator = 1, policy_bank = 1, commercial_bank = 2 }
links = { model = "constant", delay = "0 ms" }

[consensus]
batch_size = 10

[workload]
kind = "synthetic"
arrival = "closed"
clients = 2
outstanding = 4
transactions = 60
payload_bytes = 100
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SYNTHETIC, encoding="utf-8")
    return path


@pytest.mark.parametrize("bus", ["local", "mqtt"])
def test_synthetic_load_over_real_members(small: Path, bus: str) -> None:
    document = run(small, bus=bus).document
    assert (document["bus"], document["engine"], document["complete"]) == (bus, "live", True)
    consensus = document["consensus"]
    assert (consensus["transactions"], consensus["client_ms"]["count"], consensus["unanswered"]) == (
        60,
        60,
        0,
    )
    assert 0 < consensus["client_ms"]["p50"] < 5000
    assert document["invariants"]["violations"] == []
    members = document["live"]["members"]
    assert len(members) == 4
    assert len({(one["height"], one["root"]) for one in members}) == 1
    assert all(one["cpu_seconds"] > 0 for one in members)
    # Every request is one Request at the primary at least, and four Replies; a quorum of Commits a batch.
    messages = consensus["messages"]
    # On a machine that does other work too some are asked for again.
    assert messages["Reply"] >= 240
    assert messages["Request"] >= 60
    assert messages["Commit"] >= 4 * 3 * consensus["decided_batches"]


@pytest.mark.parametrize("bus", ["local", "mqtt"])
def test_real_members_come_to_the_ledger_that_was_simulated(bus: str) -> None:
    """The same transactions at the same heights and block times give the same root, whoever orders them."""
    fewer = {"days": 14}
    plain = run("guizhou-pilot", set=fewer).document
    document = run("guizhou-pilot", set=fewer, bus=bus).document
    live = document["live"]
    assert live["same_as_simulated"] is True
    assert live["state_root"] == plain["ledger"]["state_root"] == document["ledger"]["state_root"]
    assert {one["root"] for one in live["members"]} == {live["state_root"]}
    assert live["replayed_blocks"] == plain["ledger"]["height"] > 20
    assert document["processes"] == plain["processes"]  # the paper, the database and the chain as simulated
    assert document["consensus"]["transactions"] >= live["replayed_blocks"]


def left(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--bus", "mqt"], "bus 'mqt': expected one of simulated, local, mqtt; did you mean 'mqtt'?"),
        (["--bus", "local", "--broker", "mqtt://b"], "a broker is for bus mqtt, not local"),
        (
            ["--bus", "mqtt", "--broker", "b:1883"],
            "expected mqtt://host:port or mqtts://host:port, found 'b:1883'",
        ),
        (["--bus", "mqtt", "--broker", "mqtts://b", "--broker-ca", "no.crt"], "no.crt"),
        (["--bus", "mqtt", "--broker-ca", "no.crt"], "expected the broker's address too"),
    ],
)
def test_bad_buses_get_one_line(
    small: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert left("run", str(small), "--json", *arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_what_only_virtual_time_can_do_is_refused() -> None:
    with pytest.raises(
        ScenarioError, match=r"\[\[fault\]\] needs the simulated bus, expected none over local"
    ):
        run("primary-crash", bus="local")


def test_a_broker_that_is_not_there_is_told_in_one_line(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any member starts, which would wait for it."""
    assert (
        left("run", str(small), "--json", "--quiet", "--bus", "mqtt", "--broker", "mqtt://127.0.0.1:9") == 2
    )
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["small: mqtt://127.0.0.1:9: not connected: no broker there, or it went"]


@pytest.mark.parametrize("begun", [False, True], ids=["at its start", "later"])
def test_ctrl_c_shows_what_there_is_and_leaves_nobody_behind(small: Path, begun: bool) -> None:
    many = ["--set", "workload.transactions=100000", "--bus", "mqtt", "--json", "--quiet"]
    command = [Path(sys.executable).with_name("tradebft"), "run", str(small), *many]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    patience = time.monotonic() + 30
    while len(_children(process.pid)) < (5 if begun else 2) and time.monotonic() < patience:
        time.sleep(0.02)
    time.sleep(5.0 if begun else 0.0)  # members answer by then, or are still on their way
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    if begun or out:
        assert json.loads(out)["complete"] is False
    assert _children(process.pid) == []


def _children(parent: int) -> list[str]:
    """Command lines of members and brokers that were started by *parent* and outlived it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "stat").read_text()
        except OSError:
            continue
        if (
            "tradebft.network.live" in line
            and f" {parent} " in environment
            and int(entry.name) != os.getpid()
        ):
            found.append(line)
    return found
