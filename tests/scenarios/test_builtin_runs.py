"""Every built-in scenario runs and shows what it says it shows."""

import pytest
from tradebft.lab.run import run
from tradebft.scenarios import catalogue

LONG = {  # twenty seconds to a minute each; the first is also the demo
    "guizhou", "national", "coverage",
    "crashed-members", "flooding", "lossy-network", "recovery-time", "rolling-restarts",
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in catalogue.names() if n not in LONG])
def test_what_a_built_in_scenario_expects_holds(name):
    finished = run(name)
    assert finished.failed == []
    assert finished.document["invariants"]["violations"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LONG))
def test_what_a_long_built_in_scenario_expects_holds(name):
    finished = run(name)
    assert finished.failed == []
    assert finished.document["invariants"]["violations"] == []


def test_a_view_change_is_not_drowned_in_questions():
    """Certificates of a long log keep processors busy for tens of milliseconds; asking sooner than that never ends."""
    document = run("primary-crash", set={"workload.arms": ["chain"]}).document
    assert document["consensus"]["view_changes"] == 1
    assert document["consensus"]["messages"]["ViewChange"] < 200
    assert document["consensus"]["messages"]["Status"] < 1000
    assert document["consensus"]["unanswered"] == 0


def test_one_message_in_twenty_is_repaired_and_nobody_suspects_the_primary():
    """A quorum is five of seven: sometimes too many of six votes are lost, and repeated within a few round trips."""
    free = {"network.loss": 0.05, "vary": {}, "repeats": 1}
    consensus = run("lossy-network", set=free).document["consensus"]
    assert (consensus["view_changes"], consensus["unanswered"]) == (0, 0)
    assert consensus["decision_ms"]["p50"] < 40
    assert consensus["decision_ms"]["p99"] < 200
    assert consensus["client_ms"]["p50"] < 70


def test_ten_times_what_a_primarys_link_carries_is_worked_off_as_fast_as_it_carries():
    """Each request leaves the primary six times: what it asks of the link is a lower bound of the time. Whoever repeats
    what still waits for the link takes it from everything else, until the primary is suspected."""
    count, size, bandwidth = 2000, 2000, 10e6
    overload = {
        "network.bandwidth": "10 Mbit/s",
        "network.links": {"model": "normal", "mean": "25 ms", "std": "3 ms"},
        "consensus.batch_size": 20,
        "consensus.batch_timeout": "10 ms",
        "workload": {
            "kind": "synthetic", "transactions": count, "arrival": "open", "rate": 1000, "clients": 50,
            "payload_bytes": size,
        },
    }  # fmt: skip
    document = run("stress", set=overload).document
    assert document["consensus"]["view_changes"] == 0
    bound = count * size * 6 * 8 / bandwidth
    assert bound < document["virtual_seconds"] < 1.2 * bound
