"""The simulator against theory: counts that must be exact, latencies that must be the order statistics they are."""

import numpy as np
import order_statistics as theory
import pytest
from tradebft.lab import metrics
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import load

ONE_AT_A_TIME = """
title = "one decision at a time"
[network]
nodes = {n}
links = {links}
[nodes]
cpu = "none"
[consensus]
protocol = "pbft"
batch_size = 1
batch_timeout = "0 ms"
[workload]
kind = "synthetic"
transactions = {transactions}
arrival = "closed"
clients = 1
outstanding = 1
payload_bytes = 0
"""
LINKS = {
    "normal": ('{ model = "normal", mean = "250 ms", std = "50 ms" }', theory.normal(250, 50)),
    "uniform": ('{ model = "uniform", low = "50 ms", high = "150 ms" }', theory.uniform(50, 150)),
    "constant": ('{ model = "constant", delay = "100 ms" }', theory.constant(100)),
}


def run(tmp_path, n, links, transactions, **overrides):
    path = tmp_path / "one.toml"
    path.write_text(ONE_AT_A_TIME.format(n=n, links=links, transactions=transactions))
    return metrics.document(execute(load(path, overrides, 1), lambda *_: None))


@pytest.mark.parametrize("n", [4, 7, 16, 31])
@pytest.mark.parametrize("model", LINKS)
def test_a_decision_takes_the_order_statistic_it_should(tmp_path, n, model):
    links, sampler = LINKS[model]
    measured = run(tmp_path, n, links, max(60, 4000 // n))["consensus"]
    oracle = theory.simulate(n, sampler, runs=40_000, seed=5)
    for name, expected in (
        ("decision_ms", oracle.decision(theory.quorum(n))),
        ("all_commit_ms", oracle.all_commit),
        ("client_ms", oracle.client),
    ):
        mean = float(np.mean(expected))
        assert measured[name]["mean"] == pytest.approx(mean, rel=0.015), name
        assert measured[name]["count"] == measured["decided_batches"]


@pytest.mark.parametrize("n", [1, 2, 4, 5, 7, 10, 16])
@pytest.mark.parametrize("transactions", [1, 130])
def test_fault_free_message_counts_are_the_closed_form(tmp_path, n, transactions):
    document = run(tmp_path, n, LINKS["normal"][0], transactions)
    messages, checkpoints = document["consensus"]["messages"], transactions // 128
    expected = {
        "Request": transactions,
        "PrePrepare": transactions * (n - 1),
        "Prepare": transactions * (n - 1) ** 2,
        "Commit": transactions * n * (n - 1),
        "Reply": transactions * n,
        "Checkpoint": checkpoints * n * (n - 1),
    }
    assert {kind: count for kind, count in messages.items() if count and kind != "total"} == {
        kind: count for kind, count in expected.items() if count
    }
    assert messages["total"] == sum(expected.values())


def test_constant_links_give_three_and_five_delays_exactly(tmp_path):
    consensus = run(tmp_path, 7, LINKS["constant"][0], 50)["consensus"]
    assert consensus["decision_ms"]["p10"] == consensus["decision_ms"]["max"] == 300
    assert consensus["all_commit_ms"]["max"] == 300
    assert consensus["client_ms"]["p10"] == consensus["client_ms"]["max"] == 500


@pytest.mark.parametrize(("n", "dead"), [(4, 1), (7, 1), (7, 2), (10, 3)])
def test_dead_primaries_cost_what_the_closed_form_says(tmp_path, n, dead):
    """Reply at Tc + T + 6d + sum over j = 1..k-1 of (d + 2^(j-1) T); k (n-k)(n-1) ViewChanges; n-1 NewViews."""
    path = tmp_path / "dead.toml"
    crashed = ", ".join(f'"replica.{i}"' for i in range(dead))
    path.write_text(
        ONE_AT_A_TIME.format(n=n, links='{ model = "constant", delay = "1 s" }', transactions=2)
        + f'[[fault]]\nat = "0 s"\ncrash = [{crashed}]\n'
    )
    overrides = {"consensus.view_change_timeout": "20 s", "consensus.client_timeout": "10 s"}
    records = execute(load(path, overrides, 1), lambda *_: None)
    first, second = (records.requests["replied_ns"] - records.requests["submitted_ns"]).to_list()
    expected_ms = theory.reply_after_view_change_ms(dead, 1_000, 10_000, 20_000, 20_000)
    assert first / 1e6 == expected_ms
    assert second == 5 * 10**9  # and no further view change
    assert records.messages["ViewChange"] == dead * (n - dead) * (n - 1)
    assert records.messages["NewView"] == n - 1
    assert records.view_changes == dead
    assert records.violations == []


@pytest.mark.parametrize(("n", "silent"), [(4, 1), (7, 2), (16, 5)])
def test_silent_backups_cost_messages_and_time_as_they_should(tmp_path, n, silent):
    path = tmp_path / "silent.toml"
    crashed = ", ".join(f'"replica.{n - 1 - i}"' for i in range(silent))
    links, sampler = LINKS["normal"]
    path.write_text(
        ONE_AT_A_TIME.format(n=n, links=links, transactions=120)
        + f'[[fault]]\nat = "0 s"\ncrash = [{crashed}]\n'
    )
    # With b = f silent, quorums wait for the slowest of the rest: a second would be too short a timeout.
    overrides = {"consensus.view_change_timeout": "10 s", "consensus.client_timeout": "20 s"}
    document = metrics.document(execute(load(path, overrides, 1), lambda *_: None))
    messages = document["consensus"]["messages"]
    assert messages["PrePrepare"] == 120 * (n - 1)
    assert messages["Prepare"] == 120 * (n - 1 - silent) * (n - 1)
    assert messages["Commit"] == 120 * (n - silent) * (n - 1)
    assert messages["Reply"] == 120 * (n - silent)
    expected = np.mean(theory.decision_ms(n, sampler, 40_000, 5, silent=silent))
    assert document["consensus"]["decision_ms"]["mean"] == pytest.approx(expected, rel=0.015)
