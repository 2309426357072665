"""docker-compose.yml: the model's seven members in containers; two are lost, one cut off, and the ledger goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from engine import ROOT, Engine, missing

MEMBERS = ("administrator", "policy-bank", *(f"commercial-bank-{k}" for k in range(1, 6)))
SECONDS = 900.0


def composition() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_each_member_has_a_volume_of_its_own_and_only_the_founder_sees_all() -> None:
    services = composition()["services"]
    mounted = {name: [v.split(":")[0] for v in services[name].get("volumes", [])] for name in services}
    for member in MEMBERS:
        assert len(mounted[member]) == 1
    users: dict[str, list[str]] = {}
    for name, volumes in mounted.items():
        for volume in volumes:
            if not volume.startswith("./"):
                users.setdefault(volume, []).append(name)
    assert all(len(names) == 2 and names[0] == "found" for names in users.values()), users
    assert sorted(users) == sorted(composition()["volumes"])
    assert services["found"]["network_mode"] == "none"


def test_what_it_mounts_and_watches_is_there() -> None:
    services = composition()["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["observe"]
        for volume in services[name]["volumes"]:
            assert (ROOT / volume.split(":")[0]).exists()
    targets = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())["scrape_configs"][0]
    assert targets["static_configs"][0]["targets"] == [f"{member}:9100" for member in MEMBERS]
    board = json.loads((ROOT / "docker/grafana/dashboards/tradebft.json").read_text())
    for panel in board["panels"]:
        assert panel["targets"]
        assert all("tradebft_" in t["expr"] or "process_" in t["expr"] for t in panel["targets"])


# --- for real ---


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if why := missing():
        pytest.skip(f"no container engine can run here: {why}")
    with Engine(tmp_path_factory.mktemp("engine")) as running:
        yield running
        running.compose("down", "-v", "--timeout", "5", check=False)


def health(engine: Engine, member: str) -> dict[str, Any]:
    """What the node says of itself, well or not; empty while it says nothing."""
    asking = (
        "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9100, timeout=10); c.request('GET', '/health');"
        " print(c.getresponse().read().decode())"
    )
    told = engine.compose("exec", "-T", member, "python3", "-c", asking, check=False)
    return dict(json.loads(told.stdout)) if told.returncode == 0 and told.stdout.strip() else {}


def height(engine: Engine, member: str) -> int:
    return int(health(engine, member).get("height", 0))


def until(engine: Engine, what: str, holds: Any) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(1)
    logs = engine.compose("logs", "--tail", "20", check=False).stdout
    raise AssertionError(f"{what} did not come about\n{logs[-6000:]}")


def container(engine: Engine, service: str) -> str:
    return engine.compose("ps", "-q", service).stdout.strip()


def driver_ended(engine: Engine) -> str:
    told = engine.docker(
        "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container(engine, "driver")
    )
    return told.stdout.strip() if told.stdout.startswith("exited") else ""


@pytest.mark.slow
def test_the_ledger_goes_on_while_containers_are_killed_and_cut_off(engine: Engine) -> None:
    begun = time.monotonic()
    engine.compose("build", "found")
    engine.compose("up", "-d")
    until(engine, "the first blocks", lambda: height(engine, "administrator") > 50)
    engine.docker("kill", container(engine, "administrator"))  # the first primary; compose starts it no more
    cut = container(engine, "commercial-bank-5")
    engine.docker("network", "disconnect", "tradebft_bus", cut)
    before = height(engine, "policy-bank")
    until(engine, "blocks without them", lambda: height(engine, "policy-bank") > before + 50)
    assert 0 < height(engine, "commercial-bank-5") < height(engine, "policy-bank")
    engine.docker("network", "connect", "tradebft_bus", cut)
    engine.docker("start", container(engine, "administrator"))
    engine.docker("restart", container(engine, "broker"))
    assert until(engine, "the end of the run", lambda: driver_ended(engine)) == "exited 0", engine.compose(
        "logs", "--tail", "40", "driver"
    ).stdout
    told = until(engine, "one height and root", lambda: level(engine))
    shown = engine.compose("run", "--rm", "-T", "driver", "cat", "/report/guizhou/result.json").stdout
    result = json.loads(shown[shown.index("{") :])
    assert result["live"]["same_as_simulated"] is True
    assert result["invariants"]["violations"] == []
    assert told["height"] > before
    report = engine.compose(
        "run", "--rm", "-T", "driver", "head", "-c", "200", "/report/guizhou/report.html"
    ).stdout
    assert "<!doctype html>" in report.lower()
    print(f"{result['live']['replayed_blocks']} blocks, {time.monotonic() - begun:.0f} s")


def level(engine: Engine) -> dict[str, Any]:
    found = [health(engine, member) for member in MEMBERS]
    well = all(one.get("status") == "ok" for one in found)
    if well and len({(one["height"], one["root"]) for one in found}) == 1:
        return found[0]
    return {}
