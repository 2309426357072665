"""The normal case (OSDI 1999, section 4.2): what is proposed when, what is voted on, and what it costs."""

from __future__ import annotations

from collections import Counter

import pytest
from replicas import Network, of, sent
from tradebft.consensus.interface import Broadcast, CancelTimer, Config, Ignored, Send, SetTimer
from tradebft.consensus.messages import Commit, Prepare, PrePrepare, Request

MS = 1_000_000


def sequences(proposal: PrePrepare) -> list[int]:
    assert proposal.batch is not None
    return [request.sequence for request in proposal.batch.requests]


def count_messages(net: Network) -> Counter[str]:
    """Deliver everything; count what was sent, replies to clients included."""
    counts: Counter[str] = Counter()

    def watch(i, effect):
        if isinstance(effect, Broadcast):
            counts[type(effect.message).__name__] += net.config.nodes - 1
        elif isinstance(effect, Send):
            counts[type(effect.message).__name__] += 1

    net.watch = watch
    net.step(0, net.request(1))
    net.settle()
    return counts


# --- batches ---


def test_a_batch_closes_when_it_is_full():
    net = Network(batch_size=3, batch_timeout_ns=50 * MS)
    assert not sent(PrePrepare, net.step(0, net.request(1)))
    assert not sent(PrePrepare, net.step(0, net.request(2)))
    effects = net.step(0, net.request(3))
    assert [sequences(p) for p in sent(PrePrepare, effects)] == [[1, 2, 3]]
    assert [effect.name for effect in of(CancelTimer, effects)] == ["batch"]


def test_a_batch_closes_when_its_bytes_are_reached():
    net = Network(batch_bytes=100, batch_timeout_ns=50 * MS)
    assert not sent(PrePrepare, net.step(0, net.request(1, bytes(60))))
    assert [sequences(p) for p in sent(PrePrepare, net.step(0, net.request(2, bytes(60))))] == [[1]]
    # What did not fit waits for the next batch, with a time of its own.
    assert net.timers[0]["batch"] == 50 * MS
    assert [sequences(p) for p in sent(PrePrepare, net.fire(0, "batch"))] == [[2]]


def test_a_request_larger_than_a_batch_travels_alone():
    net = Network(batch_bytes=100)
    net.step(0, net.request(1, bytes(1000)))
    net.settle()
    assert net.executed(3) == [("bank", 1)]


def test_a_batch_closes_when_its_time_is_up():
    net = Network(batch_timeout_ns=50 * MS)
    (timer,) = [e for e in of(SetTimer, net.step(0, net.request(1))) if e.name == "batch"]
    assert timer.delay_ns == 50 * MS
    assert not of(SetTimer, net.step(0, net.request(2)))  # the time of the first request counts
    assert [sequences(p) for p in sent(PrePrepare, net.fire(0, "batch"))] == [[1, 2]]
    assert not sent(PrePrepare, net.step(0, net.request(3))), "the next batch has its own time"


def test_no_more_batches_are_in_flight_than_the_window_says():
    net = Network(batch_size=1, window=2)
    proposed = [p.seq for s in range(1, 5) for p in sent(PrePrepare, net.step(0, net.request(s)))]
    assert proposed == [1, 2]
    net.settle()
    assert net.executed(2) == [("bank", s) for s in range(1, 5)]


@pytest.mark.parametrize("last", ["prepare", "commit"])
def test_a_primary_goes_on_when_its_batch_is_executed_whichever_vote_was_the_last(last):
    """Commits that overtake Prepares: then a Prepare completes both, and the window opens with it."""
    net = Network(batch_size=1, window=1)
    (proposal,) = sent(PrePrepare, net.step(0, net.request(1)))
    assert not sent(PrePrepare, net.step(0, net.request(2)))
    prepares = [net.prepare(r, proposal.digest) for r in (1, 2)]
    commits = [net.commit(r, proposal.digest) for r in (1, 2, 3)]
    *before, final = [*commits, *prepares] if last == "prepare" else [*prepares, *commits[:2]]
    for vote in before:
        assert not sent(PrePrepare, net.step(0, vote))
    assert [p.seq for p in sent(PrePrepare, net.step(0, final))] == [2]


def test_the_time_of_a_batch_is_the_primarys():
    net = Network()
    net.now = 77
    (proposal,) = sent(PrePrepare, net.step(0, net.request(1)))
    assert proposal.batch is not None
    assert proposal.batch.timestamp_ns == 77


@pytest.mark.parametrize(("skew", "voted"), [(0, True), (100, True), (101, False)])
def test_a_batch_from_too_far_in_the_future_gets_no_vote(skew, voted):
    net = Network(max_clock_skew_ns=100)
    net.now = 1000
    effects = net.step(1, net.pre_prepare(net.batch(1, time_ns=1000 + skew)))
    assert bool(sent(Prepare, effects)) == voted


@pytest.mark.parametrize("what", ["empty", "too many requests", "too many bytes"])
def test_a_batch_of_a_size_that_nobody_agreed_on_gets_no_vote(what):
    net = Network(batch_size=2, batch_bytes=10)
    batch = {
        "empty": net.batch(),
        "too many requests": net.batch(1, 2, 3),
        "too many bytes": net.batch(1).__class__(0, (net.request(1, bytes(6)), net.request(2, bytes(6)))),
    }[what]
    assert not sent(Prepare, net.step(1, net.pre_prepare(batch)))
    assert sent(Prepare, net.step(1, net.pre_prepare(net.batch(1, 2))))


# --- requests ---


def test_a_backup_passes_on_what_it_hears_first_and_only_once():
    net = Network()
    effects = net.step(2, net.request(1))
    assert [(e.to, type(e.message)) for e in of(Send, effects)] == [(0, Request)]
    assert not of(Send, net.step(2, net.request(1)))


def test_a_request_beyond_its_clients_window_is_not_ordered():
    net = Network(client_window=4)
    assert sent(PrePrepare, net.step(0, net.request(4)))
    assert [type(e) for e in net.step(0, net.request(5))] == [Ignored]
    net.settle()
    assert [type(e) for e in net.step(0, net.request(5))] == [Ignored], "1 to 3 are still to come"
    for sequence in (1, 2, 3, 5):
        net.step(0, net.request(sequence))
        net.settle()
    assert sorted(net.executed(0)) == [("bank", s) for s in range(1, 6)]


def test_clients_are_counted_apart():
    net = Network(batch_size=1)
    for client in ("bank", "shop", "mill"):
        net.step(0, net.request(1, b"same", client))
    net.settle()
    assert net.executed(3) == [("bank", 1), ("shop", 1), ("mill", 1)]


def test_every_replica_answers_every_client():
    net = Network()
    net.step(0, net.request(1))
    net.settle()
    assert sorted(reply.replica for reply in net.replies) == [0, 1, 2, 3]
    assert {(reply.client, reply.sequence, reply.seq) for reply in net.replies} == {("bank", 1, 1)}


# --- what a decision costs, to the message ---


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10, 16])
def test_messages_of_one_decision(n):
    assert count_messages(Network(n)) == {
        "PrePrepare": n - 1,
        "Prepare": (n - 1) ** 2,
        "Commit": n * (n - 1),
        "Reply": n,
    }


@pytest.mark.parametrize(("n", "silent"), [(4, 1), (7, 1), (7, 2), (10, 3)])
def test_messages_of_one_decision_with_silent_backups(n, silent):
    assert count_messages(Network(n, running=range(n - silent))) == {
        "PrePrepare": n - 1,
        "Prepare": (n - 1 - silent) * (n - 1),
        "Commit": (n - silent) * (n - 1),
        "Reply": n - silent,
    }


@pytest.mark.parametrize(("n", "silent"), [(4, 2), (5, 2), (6, 3), (7, 3), (10, 4)])
def test_nothing_is_decided_without_a_quorum(n, silent):
    """n - silent is below q, also where n is not 3f + 1."""
    assert n - silent < Config(n).quorum
    net = Network(n, running=range(n - silent))
    net.step(0, net.request(1))
    net.settle()
    assert not any(net.history(i) for i in net.running)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_networks_too_small_to_bear_a_fault_work_without_one(n):
    net = Network(n)
    for sequence in (1, 2):
        net.step(0, net.request(sequence))
        net.settle()
    assert [net.executed(i) for i in range(n)] == [[("bank", 1), ("bank", 2)]] * n


# --- votes ---


def test_a_commit_needs_a_quorum_not_f_plus_1():
    net = Network(7, running=[1])
    batch = net.batch(1)
    net.step(1, net.pre_prepare(batch))
    for voter in (2, 3, 4):
        net.step(1, net.prepare(voter, batch.digest))
    for voter in (2, 3, 4):
        net.step(1, net.commit(voter, batch.digest))
        assert net.history(1) == [], "own and three others are four of the five that it takes"
    net.step(1, net.commit(5, batch.digest))
    assert net.history(1) == [batch.digest]


def test_commits_alone_decide_nothing_until_the_proposal_was_prepared():
    net = Network(7, running=[1])
    batch = net.batch(1)
    net.step(1, net.pre_prepare(batch))
    for voter in (0, 2, 3, 4, 5):
        net.step(1, net.commit(voter, batch.digest))
    assert net.history(1) == []
    for voter in (2, 3, 4):
        net.step(1, net.prepare(voter, batch.digest))
    assert net.history(1) == [batch.digest]


def test_early_commits_for_another_batch_do_not_count_when_the_proposal_comes():
    net = Network(running=[1])
    batch = net.batch(1)
    for voter in (2, 3):
        net.step(1, net.commit(voter, b"x" * 32))
    net.step(1, net.pre_prepare(batch))
    net.step(1, net.prepare(2, batch.digest))
    assert net.history(1) == []


def test_early_prepares_for_another_batch_do_not_count_when_the_proposal_comes():
    net = Network(running=[1])
    for voter in (2, 3):
        net.step(1, net.prepare(voter, b"x" * 32))
    assert not sent(Commit, net.step(1, net.pre_prepare(net.batch(1))))
