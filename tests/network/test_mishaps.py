"""Mishaps on a whole network: what each of them does, what it does not do, and that the records say so."""

from __future__ import annotations

from collections import Counter

import pytest
from tradebft.consensus.interface import Config, Persist
from tradebft.consensus.messages import Commit, Prepare, Prepared, PrePrepare, Request, ViewChange
from tradebft.network.chance import Chance
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import MEASURED, CpuCosts
from tradebft.network.faults import Fault
from tradebft.network.graphs import Graph
from tradebft.network.links import Constant, Normal
from tradebft.network.node import ClientNode, ReplicaNode
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh, Star
from tradebft.network.twists import Twist, Twists

MS, S = 10**6, 10**9
CLIENT = 4  # the endpoint behind four members
TIMEOUT = 1 * S


def build(*faults, links=None, wire=None, costs=None, client_timeout=500 * MS, seed=1, **config):
    wire = wire or Wire(links or Constant(10 * MS), Mesh(4), None, 0.0, lossy=False)
    config = Config(4, **{"view_change_timeout_ns": TIMEOUT, **config})
    return Cluster(Settings(config, wire, seed, ["bank"], client_timeout, costs=costs, faults=list(faults)))


def ask(cluster, count, gap_ns=20 * MS, until=60 * S):
    """Submit *count* operations, one every *gap_ns*, run to the end, and return their records."""
    client, records = cluster.clients["bank"], []

    def submit():
        for _ in range(count):
            records.append(client.submit(cluster.env.time, b"x" * 100, "", lambda record: None))
            yield cluster.env.timeout(gap_ns)

    cluster.env.process(submit())
    cluster.run(until)
    cluster.finish()
    return records


def told(cluster):
    """Every (time, sender, message) that the bus is asked to send, as it comes."""
    heard, bus = [], cluster.bus
    broadcast, send = bus.broadcast, bus.send

    def to_all(at, sender, message, to=None):
        heard.append((at, sender, message))
        broadcast(at, sender, message, to)

    def to_one(at, sender, to, message):
        heard.append((at, sender, message))
        send(at, sender, to, message)

    bus.broadcast, bus.send = to_all, to_one
    return heard


def fates(records):
    return [(r.submitted_ns, r.replied_ns, r.seq, r.result) for r in records]


def decided(cluster):
    return [
        (d.seq, d.view, d.transactions, d.proposed_ns, d.quorum_ns)
        for d in cluster.recorder.decisions.values()
    ]


def whole(cluster):
    """All members stand at the same place, and no invariant is broken."""
    assert cluster.checker.violations == []
    assert len({node.replica.executed for node in cluster.nodes}) == 1


# --- messages that come twice, late, or in another order ---


def test_second_copies_of_everything_change_no_decision_and_no_answer():
    plain, twice = build(), build(Fault(0, None, "duplicate", loss=1.0, spread_ns=300 * MS))
    assert fates(ask(twice, 100)) == fates(ask(plain, 100))
    assert decided(twice) == decided(plain)
    assert twice.recorder.injected == {"duplicate": sum(twice.recorder.messages.values())}
    whole(twice)


def test_messages_that_overtake_each_other_lose_nothing():
    late = build(Fault(0, 10 * S, "reorder", loss=0.5, spread_ns=200 * MS), window=4)
    records = ask(late, 200)
    assert all(record.replied_ns > 0 for record in records)
    assert sorted(record.sequence for record in records) == list(range(1, 201))
    whole(late)


def test_a_spike_takes_from_half_to_all_of_its_spread():
    (record,) = ask(build(Fault(0, None, "spike", loss=1.0, spread_ns=100 * MS), client_timeout=5 * S), 1)
    # Five hops of 10 ms and a spike each.
    assert 5 * 60 * MS <= record.replied_ns - record.submitted_ns <= 5 * 110 * MS


def test_a_twist_strikes_its_share_of_the_messages_that_concern_its_nodes():
    injected = Counter()
    twists = Twists(Chance(7), injected)
    twists.now = [
        Twist("spike", 0.3, 1000, frozenset()),
        Twist("reorder", 0.5, 100, frozenset({2})),
        Twist("duplicate", 0.2, 50, frozenset()),
    ]
    copies = [twists.copies(0, 1, 10) for _ in range(2000)]
    assert injected["reorder"] == 0
    assert injected["spike"] == pytest.approx(600, abs=80)
    assert injected["duplicate"] == sum(len(c) == 2 for c in copies) == pytest.approx(400, abs=70)
    spikes = [c[0] for c in copies if c[0] > 10]
    assert len(spikes) == injected["spike"]
    assert 510 <= min(spikes) <= 540 <= 960 <= max(spikes) <= 1010
    assert all(10 <= c[1] <= 60 for c in copies if len(c) == 2)
    for _ in range(2000):
        twists.copies(2, 0, 10)
    assert injected["reorder"] == pytest.approx(1000, abs=90)


def test_what_happens_to_one_message_depends_on_no_other_pair():
    def fate(others):
        twists = Twists(Chance(7), Counter())
        twists.now = [Twist("reorder", 0.5, 1000, frozenset())]
        found = []
        for _ in range(50):
            found += twists.copies(0, 1, 10)
            for other in others:
                twists.copies(*other, 10)
        return found

    assert fate([]) == fate([(1, 0), (0, 2), (3, 1)])
    assert len(set(fate([]))) > 20


def test_faults_that_strike_nothing_leave_the_run_as_it_is():
    """A new kind of fault must not move the draws of delays: old seeds mean what they meant."""

    def digest(*faults):
        cluster = build(*faults, links=Normal(10 * MS, 3 * MS))
        ask(cluster, 60)
        return cluster.recorder.trace.hex()

    plain = digest()
    assert plain == digest(
        Fault(0, None, "duplicate", loss=0.0),
        Fault(0, 1 * S, "reorder", loss=0.0, spread_ns=1),
        Fault(0, None, "spike", loss=0.0, spread_ns=1),
        Fault(5, None, "drift", (0, 1, 2, 3), factor=1.0),
        Fault(0, None, "partition", groups=((0, 1, 2, 3),)),
        Fault(0, None, "loss", loss=0.0),
        Fault(50 * S, 5 * S, "crash", (2,), torn=True),
        Fault(0, None, "slow", (1,)),
    )
    assert plain != digest(Fault(0, None, "duplicate", loss=0.1))


# --- timers ---


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0])
def test_timers_that_drift_change_the_view_later_by_exactly_the_factor(factor):
    primary_dead = Fault(0, None, "crash", (0,))
    cluster = build(primary_dead, Fault(0, None, "drift", (1, 2, 3), factor=factor))
    heard = told(cluster)
    (record,) = ask(cluster, 1)
    suspected = {sender: at for at, sender, m in reversed(heard) if isinstance(m, ViewChange)}
    # Backups hear of the request when the client, whose timer runs right, asks everybody.
    assert set(suspected) == {1, 2, 3}
    assert set(suspected.values()) == {500 * MS + 10 * MS + int(factor * TIMEOUT)}
    assert record.replied_ns > 0
    assert cluster.recorder.injected["drift"] > 0


def test_one_hasty_timer_moves_nobody_else():
    cluster = build(Fault(0, None, "drift", (2,), factor=0.01))
    heard = told(cluster)
    records = ask(cluster, 50)
    assert {sender for _, sender, m in heard if isinstance(m, ViewChange)} == {2}
    assert [node.replica.view for node in cluster.nodes if node.index != 2] == [0, 0, 0]
    assert all(record.replied_ns - record.submitted_ns == 50 * MS for record in records)


# --- links that are cut ---


def test_a_primary_that_is_not_heard_is_replaced():
    cluster = build(Fault(1 * S, 20 * S, "one-way", groups=((0,), (1, 2, 3))))
    records = ask(cluster, 100, gap_ns=100 * MS)
    assert all(record.replied_ns > 0 for record in records)
    assert cluster.recorder.view >= 1
    assert cluster.recorder.injected["one-way"] == cluster.recorder.dropped["one-way"] > 0
    whole(cluster)


def test_a_primary_that_does_not_hear_the_backups_still_leads():
    """Its proposals arrive, and three backups are a quorum by themselves."""
    cluster = build(Fault(1 * S, 5 * S, "one-way", groups=((1, 2, 3), (0,))))
    records = ask(cluster, 100, gap_ns=100 * MS)
    during = [r for r in records if 1 * S < r.submitted_ns < 2 * S]
    assert len(during) == 9
    assert {r.replied_ns - r.submitted_ns for r in during} == {50 * MS}
    assert all(record.replied_ns > 0 for record in records)
    assert cluster.checker.violations == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(1 * S, 5 * S, "partition", groups=((CLIENT,), (0, 1, 2, 3))),
        Fault(1 * S, 5 * S, "one-way", groups=((CLIENT,), (0, 1, 2, 3))),
        Fault(1 * S, 5 * S, "one-way", groups=((0, 1, 2, 3), (CLIENT,))),
    ],
    ids=["parted", "not heard", "deaf"],
)
def test_a_client_that_is_cut_off_waits_for_the_end_of_it(fault):
    cluster = build(fault)
    records = ask(cluster, 30, gap_ns=100 * MS)
    before = [r for r in records if r.submitted_ns < 900 * MS]
    during = [r for r in records if r.submitted_ns >= 1 * S]
    assert all(r.replied_ns - r.submitted_ns == 50 * MS for r in before)
    assert all(r.replied_ns > 6 * S for r in during)
    whole(cluster)


# --- power that fails ---


def watch_the_disk(cluster, index):
    """When the power failed, what was being written then, and whether the disk has it."""
    node, lost = cluster.nodes[index], []
    persist = node._do[Persist]

    def write(now, effect):
        torn = node._fail is not None
        persist(now, effect)
        if torn:
            lost.append((now, effect.record, any(kept is effect.record for kept in node._disk._records)))

    node._do[Persist] = write
    return lost


@pytest.mark.parametrize("costs", [None, MEASURED], ids=["free", "measured"])
@pytest.mark.parametrize("index", [0, 2])
@pytest.mark.parametrize("at_ms", [300, 307, 311, 322, 333, 341])
def test_a_write_that_the_power_cuts_short_was_never_said(at_ms, index, costs):
    cluster = build(Fault(at_ms * MS, 2 * S, "crash", (index,), torn=True), costs=costs)
    heard, lost = told(cluster), watch_the_disk(cluster, index)
    records = ask(cluster, 100, gap_ns=7 * MS)
    ((failed_ns, record, kept),) = lost
    assert failed_ns >= at_ms * MS
    assert not kept
    back_ns = at_ms * MS + 2 * S
    assert cluster.recorder.injected == {"torn write": 1, "restart": 1}
    before = [(at, m) for at, sender, m in heard if sender == index and at < back_ns]
    assert max(at for at, _ in before) <= failed_ns
    votes = Commit if isinstance(record, Prepared) else PrePrepare | Prepare
    proposal = record.pre_prepare if isinstance(record, Prepared) else record
    said = [(m.view, m.seq) for _, m in before if isinstance(m, votes)]
    assert (proposal.view, proposal.seq) not in said
    assert cluster.nodes[index].up
    assert all(record.replied_ns > 0 for record in records)
    whole(cluster)


def test_the_power_fails_everywhere_in_the_middle_of_writes():
    cluster = build(
        Fault(333 * MS, 3 * S, "crash", (0, 1, 2, 3), torn=True), checkpoint_interval=8, log_window=16
    )
    records = ask(cluster, 100, gap_ns=7 * MS)
    assert cluster.recorder.injected["torn write"] == cluster.recorder.injected["restart"] == 4
    assert all(record.replied_ns > 0 for record in records)
    assert len({record.seq for record in records if record.replied_ns < 333 * MS}) > 20
    whole(cluster)


def test_nobody_goes_down_in_a_write_that_never_comes():
    cluster = build(Fault(30 * S, 10 * S, "crash", (2,), torn=True))
    ask(cluster, 10)
    assert cluster.recorder.injected == {}
    cluster = build(Fault(1 * S, 10 * S, "crash", (2,), torn=True))
    client = cluster.clients["bank"]
    cluster.run(20 * S)
    client.submit(cluster.env.time, b"after it", "", lambda record: None)
    cluster.run(30 * S)
    assert cluster.recorder.injected == {}
    assert client.records[0].replied_ns > 0


def test_a_plain_crash_does_not_wait_for_the_write_of_another():
    cluster = build(Fault(1 * S, 8 * S, "crash", (2,), torn=True), Fault(2 * S, 1 * S, "crash", (2,)))
    up = []
    for moment in (1.5, 2.5, 3.5, 8.5, 9.5):
        cluster.run(int(moment * S))
        up.append(cluster.nodes[2].up)
    # Down with the second, and held down by the first until both are over.
    assert up == [True, False, False, False, True]
    assert cluster.recorder.injected == {"crash": 1, "restart": 1}
    assert ask(cluster, 20)[-1].replied_ns > 0
    assert cluster.recorder.injected == {"crash": 1, "restart": 1}


def test_crashes_that_overlap_are_one_crash():
    cluster = build(Fault(1 * S, 4 * S, "crash", (2, 2)), Fault(2 * S, 5 * S, "crash", (2,)))
    ask(cluster, 100, gap_ns=100 * MS)
    assert cluster.recorder.injected == {"crash": 1, "restart": 1}
    whole(cluster)


# --- what a crash takes with it ---

SLOW_TO_SIGN = CpuCosts(message_ns=0, kilobyte_ns=0, sign_ns=100 * MS, verify_ns=0, execute_ns=0)


@pytest.mark.parametrize("topology", [Mesh(4), Star(4, 1)], ids=["mesh", "star"])
def test_what_waits_for_a_signature_does_not_survive_a_crash(topology, monkeypatch):
    arrived = []
    queue = ReplicaNode.queue

    def listen(node, now, message):
        arrived.append((now, message))
        queue(node, now, message)

    monkeypatch.setattr(ReplicaNode, "queue", listen)
    # The request arrives within 20 ms, and the proposal is signed 100 ms later.
    wire = Wire(Constant(10 * MS), topology, None, 0.0)
    cluster = build(Fault(70 * MS, None, "crash", (0,)), wire=wire, costs=SLOW_TO_SIGN, client_timeout=5 * S)
    ask(cluster, 1, until=4 * S)
    assert [m for _, m in arrived if isinstance(m, PrePrepare)] == []
    assert [type(m) for now, m in arrived if now < 70 * MS] == [Request]
    assert cluster.recorder.dropped["crash"] == 3
    # Signed in time, it arrives.
    late = build(Fault(125 * MS, None, "crash", (0,)), wire=wire, costs=SLOW_TO_SIGN, client_timeout=5 * S)
    ask(late, 1, until=4 * S)
    assert [m for _, m in arrived if isinstance(m, PrePrepare)] != []


# --- the records ---


class OpenTrace:
    """A trace that can be looked into: arrivals of messages as (receiver, time), each as often as it happens."""

    def __init__(self, members):
        self.members, self.announced = members, Counter()

    def event(self, kind, sender, view, seq, digest, receiver, time):
        if kind < 64:
            self.announced[receiver, time] += 1

    def broadcast(self, kind, sender, view, seq, digest, start, delays):
        others = [member for member in range(self.members) if member != sender]
        self.announced.update((r, start + int(delay)) for r, delay in zip(others, delays, strict=True))

    def withdraw(self, kind, sender, view, seq, digest, receiver, time):
        self.announced[receiver, time] -= 1


STORM = (
    Fault(0, 3 * S, "duplicate", loss=0.2, spread_ns=50 * MS),
    Fault(0, 3 * S, "reorder", loss=0.2, spread_ns=50 * MS),
    Fault(200 * MS, 2 * S, "spike", (1,), loss=0.1, spread_ns=500 * MS),
    Fault(300 * MS, 1 * S, "crash", (0,)),
    Fault(700 * MS, 1 * S, "crash", (1,), torn=True),
    Fault(1900 * MS, 700 * MS, "crash", (0, 1, 2, 3)),
    Fault(500 * MS, 1 * S, "partition", groups=((2,), (0, 1, 3))),
    Fault(400 * MS, 2 * S, "one-way", groups=((3, CLIENT), (0, 1))),
    Fault(100 * MS, 2 * S, "drift", (3,), factor=0.3),
    Fault(800 * MS, 1 * S, "slow", (2,), factor=3.0),
    Fault(0, 3 * S, "loss", loss=0.05),
)
WIRES = {
    "mesh": Wire(Normal(10 * MS, 3 * MS), Mesh(4), None, 0.0, lossy=True),
    "bandwidth": Wire(Normal(10 * MS, 3 * MS), Mesh(4), 10**7, 0.01, lossy=True),
    "star": Wire(Normal(10 * MS, 3 * MS), Star(4, 1), None, 0.0, lossy=True),
    "ring": Wire(Normal(10 * MS, 3 * MS), Graph(4, [(0, 1), (1, 2), (2, 3), (3, 0)]), None, 0.0, lossy=True),
}


def slow_costs():
    """Long queues at every processor, so that crashes find something in them."""
    return CpuCosts(message_ns=1 * MS, kilobyte_ns=0, sign_ns=5 * MS, verify_ns=1 * MS, execute_ns=1 * MS)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("until_ms", [350, 1950, 2200, 3000])
def test_the_trace_holds_exactly_the_arrivals_that_happened(wire, until_ms, monkeypatch):
    """Through all faults at once, and wherever the run ends."""
    happened = Counter()

    def listening(kind, name):
        real = getattr(kind, name)

        def listen(node, now, event):
            if hasattr(event, "signature"):
                happened[node.index, now] += 1
            real(node, now, event)

        monkeypatch.setattr(kind, name, listen)

    listening(ReplicaNode, "queue")
    listening(ClientNode, "receive")
    cluster = build(*STORM, wire=WIRES[wire], costs=slow_costs())
    trace = cluster.recorder.trace = OpenTrace(4)
    ask(cluster, 100, gap_ns=11 * MS, until=until_ms * MS)
    assert +trace.announced == happened
    assert min(trace.announced.values()) >= 0
    assert sum(happened.values()) > 200


@pytest.mark.parametrize("costs", [None, MEASURED], ids=["free", "measured"])
def test_everything_at_once_and_each_kind_is_counted(costs):
    cluster = build(*STORM, wire=WIRES["mesh"], costs=costs, checkpoint_interval=8, log_window=16)
    records = ask(cluster, 100, gap_ns=30 * MS, until=120 * S)
    injected = cluster.recorder.injected
    assert set(injected) == {
        *("crash", "restart", "torn write", "partition", "one-way", "loss"),
        *("duplicate", "reorder", "spike", "slow", "drift"),
    }
    assert all(count > 0 for count in injected.values())
    assert injected["restart"] == injected["crash"] + injected["torn write"]
    for cause in ("partition", "one-way", "loss"):
        assert injected[cause] == cluster.recorder.dropped[cause]
    assert all(record.replied_ns > 0 for record in records)
    whole(cluster)
