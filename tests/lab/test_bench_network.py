"""The benchmark of a real network: its figures hang together, and what cannot be measured is told in one line."""

import pytest
from tradebft.lab import bench_network, cli


def test_what_it_commits_beside_what_checks_allow(monkeypatch):
    monkeypatch.setattr(bench_network, "MOSQUITTO", None)  # with the broker that is there on every machine
    monkeypatch.setattr(bench_network, "CHECKED_SECONDS", 0.2)
    seen = []
    figures = bench_network.network(4, 20, 300, 40, progress=lambda *told: seen.append(told))
    assert figures["broker"] == "amqtt"
    assert figures["client_ms"]["count"] == figures["transactions"] == 300
    assert figures["committed_per_second"] == 300 / figures["wall_seconds"]
    assert figures["ratio"] == figures["committed_per_second"] / figures["verify_bound_per_second"]
    assert 0 < figures["ratio"] < 1, "a network cannot commit more than its replicas can check"
    assert 1 <= figures["transactions_per_batch"] <= 20
    assert len(figures["cpu_seconds"]) == 4
    assert seen[-1][0] == "transactions"


def test_no_broker_no_figures(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", "network", "--broker", "mqtt://127.0.0.1:9", "--json", "--quiet"])
    assert left.value.code == 2
    assert "mqtt://127.0.0.1:9: not connected" in capsys.readouterr().err
