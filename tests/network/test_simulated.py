"""The simulated network: what links, brokers, faults and processors do to messages, and that runs repeat."""

import os
import subprocess
import sys

import pytest
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Request, size
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import CpuCosts
from tradebft.network.faults import Fault
from tradebft.network.graphs import Graph
from tradebft.network.links import Constant, Normal
from tradebft.network.simulated import INTERFACE_BUFFER, Wire
from tradebft.network.topology import Mesh, Star

MS, S = 10**6, 10**9


def build(
    n=4,
    links=None,
    topology=None,
    bandwidth=None,
    loss=0.0,
    faults=(),
    costs=None,
    seed=1,
    buffer=INTERFACE_BUFFER,
    **config,
):
    wire = Wire(
        links or Constant(10 * MS), topology or Mesh(n), bandwidth, loss, lossy=loss > 0, buffer=buffer
    )
    settings = Settings(
        config=Config(n, **config),
        wire=wire,
        seed=seed,
        clients=["bank"],
        client_timeout_ns=2 * S,
        costs=costs,
        faults=list(faults),
    )
    return Cluster(settings)


def ask(cluster, count=1, size=0, gap_ns=0, until=60 * S):
    """Submit *count* operations, run, and return their records."""
    client, records = cluster.clients["bank"], []

    def submit():
        for _ in range(count):
            records.append(client.submit(cluster.env.time, bytes(size), "", lambda record: None))
            yield cluster.env.timeout(gap_ns)

    cluster.env.process(submit())
    cluster.run(cluster.env.time + until)
    cluster.finish()
    return records


def latencies_ms(records):
    return [(r.replied_ns - r.submitted_ns) / MS for r in records]


def test_five_constant_delays_from_request_to_reply():
    assert latencies_ms(ask(build())) == [50]


def test_through_a_broker_every_hop_counts_twice_and_a_broadcast_is_one_publish():
    cluster = build(topology=Star(4, clients=1))
    assert latencies_ms(ask(cluster)) == [100]
    # Request 2 hops; 3 + 3 x 3 + 4 x 3 votes as 1 + 3 and 4 publishes; 4 replies of 2 hops.
    sizes = cluster.recorder.bytes_sent
    assert sizes > 0
    assert cluster.recorder.messages["Commit"] == 12


def test_in_a_line_messages_are_relayed_hop_by_hop():
    cluster = build(topology=Graph(4, [(0, 1), (1, 2), (2, 3)]))
    (record,) = ask(cluster)
    # PrePrepare reaches 1 after one hop; quorums need replicas up to two hops apart, so it is slower than a mesh.
    assert latencies_ms([record])[0] > 50
    assert [node.replica.executed for node in cluster.nodes] == [1, 1, 1, 1]


def test_bandwidth_bounds_throughput_by_the_primarys_copies():
    """At most B / ((n-1) x bytes per transaction) [docs/oracles.md]."""
    cluster = build(n=4, bandwidth=10**8, batch_size=1, window=64)
    records = ask(cluster, count=60, size=100_000)
    assert all(record.replied_ns > 0 for record in records)
    decisions = sorted(cluster.recorder.decisions.values(), key=lambda d: d.seq)
    seconds = (decisions[-1].quorum_ns - decisions[10].quorum_ns) / S
    bound = 10**8 / (8 * 3 * 100_000)
    assert 49 / seconds == pytest.approx(bound, rel=0.02)


def test_what_an_interface_is_to_send_while_its_buffer_is_full_is_lost():
    """Eight requests of L bytes at once, and room for 3 L: the first four find 0, L, 2 L and 3 L, the others 4 L."""
    length = size(Request("bank", 1, bytes(1000), bytes(64)))
    cluster = build(bandwidth=8 * 10**6, buffer=3 * length, window=8)
    records = ask(cluster, count=8, size=1000, until=9 * MS)  # before anybody else speaks
    assert cluster.recorder.dropped["interface full"] == 4
    assert cluster.recorder.messages["Request"] == 8
    cluster.env.run(until=120 * S)
    assert all(record.replied_ns > 0 for record in records)  # the client asks again


def test_whoever_has_nothing_to_send_takes_a_message_of_any_size():
    cluster = build(bandwidth=10**8, buffer=1)
    (record,) = ask(cluster, size=100_000)
    assert record.replied_ns > 0


def test_a_processor_does_one_thing_after_another():
    costs = CpuCosts(message_ns=0, kilobyte_ns=0, sign_ns=0, verify_ns=1 * MS, execute_ns=0)
    (record,) = ask(build(costs=costs))
    # Request 1 check; PrePrepare 2; Prepares: own quorum of 2, one after another; Commits likewise. Replies are free.
    assert latencies_ms([record])[0] == pytest.approx(50 + 1 + 2 + 2 + 2, abs=2)
    free = CpuCosts(0, 0, 0, 0, 0)
    assert latencies_ms(ask(build(costs=free))) == [50]


def test_losses_are_made_good():
    cluster = build(n=7, loss=0.05, links=Normal(10 * MS, 2 * MS), view_change_timeout_ns=500 * MS)
    records = ask(cluster, count=100, gap_ns=20 * MS, until=120 * S)
    assert all(record.replied_ns > 0 for record in records)
    assert cluster.recorder.dropped["loss"] > 100
    assert cluster.checker.violations == []
    assert len({node.replica.executed for node in cluster.nodes}) == 1


def test_a_crashed_bank_comes_back_and_catches_up():
    faults = [Fault(1 * S, 5 * S, "crash", (2,))]
    cluster = build(faults=faults, checkpoint_interval=16, log_window=32)
    ask(cluster, count=300, gap_ns=30 * MS)
    executed = [node.replica.executed for node in cluster.nodes]
    assert len(set(executed)) == 1, executed
    assert executed[0] >= 290
    assert cluster.recorder.messages["FetchReply"] > 0
    assert cluster.checker.violations == []


def test_no_progress_without_a_quorum_and_progress_again_after_the_partition():
    faults = [Fault(1 * S, 10 * S, "partition", groups=((0, 1), (2, 3)))]
    cluster = build(faults=faults)
    records = ask(cluster, count=20, gap_ns=1 * S, until=60 * S)
    during = [r for r in records if 1.2 * S < r.submitted_ns < 9 * S]
    assert during
    assert all(r.replied_ns > 11 * S for r in during)
    assert all(r.replied_ns > 0 for r in records)
    assert cluster.checker.violations == []


def test_all_crash_at_once_and_nothing_answered_is_lost():
    faults = [Fault(2 * S, 1 * S, "crash", (0, 1, 2, 3))]
    cluster = build(faults=faults)
    records = ask(cluster, count=100, gap_ns=37 * MS)
    assert all(record.replied_ns > 0 for record in records)
    assert cluster.checker.violations == []
    assert len({record.seq for record in records}) == len(records)


def test_a_slow_node_slows_its_links():
    faults = [Fault(0, None, "slow", (0,), factor=10.0)]
    # Request to and PrePrepare from the slow primary ten times as long; then the others agree without it.
    assert latencies_ms(ask(build(faults=faults))) == [100 + 100 + 10 + 10 + 10]


def test_one_seed_one_digest_another_seed_another():
    def digest(seed):
        cluster = build(n=7, links=Normal(10 * MS, 3 * MS), seed=seed)
        ask(cluster, count=20, gap_ns=5 * MS)
        return cluster.recorder.trace.hex()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


PROGRAM = """
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import load
print(execute(load("guizhou-pilot", {"days": 5, "workload.sensitivity": False}, 3), lambda *_: None).trace_digest)
"""


def test_the_digest_does_not_depend_on_the_hash_seed():
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "12345")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 32


def test_a_network_that_could_answer_and_does_not_is_reported():
    """The checker is seen to fire: replicas that ignore everything, on a network without a fault."""
    cluster = build()
    for node in cluster.nodes:
        node.replica.step = lambda now, event: ()
    ask(cluster, until=100 * S)
    assert [violation.invariant for violation in cluster.checker.violations] == ["liveness"]


def test_without_a_quorum_nobody_promises_liveness():
    cluster = build(faults=[Fault(0, None, "crash", (0, 1))])
    ask(cluster, until=100 * S)
    assert cluster.checker.violations == []


def test_a_client_may_have_its_whole_window_outstanding_at_once():
    """None of it is a flood: whatever the window, nothing finds the inbox full."""
    costs = CpuCosts()
    cluster = build(costs=costs, client_window=3000, batch_size=200, view_change_timeout_ns=60 * S)
    records = ask(cluster, count=2900)
    assert all(record.replied_ns >= 0 for record in records)
    assert cluster.recorder.dropped["inbox full"] == 0
