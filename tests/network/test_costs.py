from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from tradebft.chain.crypto import ModelledKeyring, QuorumCertificate
from tradebft.consensus.messages import (
    KINDS,
    Batch,
    Commit,
    Decided,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Request,
    ViewChange,
)
from tradebft.consensus.pbft import Replica
from tradebft.network.costs import MEASURED, PROFILES, CpuCosts, signature_checks
from tradebft.network.node import ReplicaNode
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import load

D = bytes(32)
REQUESTS = tuple(Request("client", i, b"") for i in range(5))
BATCH = Batch(0, REQUESTS)
BARE = PrePrepare(0, 1, D, 0)
VOTES = QuorumCertificate("Prepare", 0, 1, D, tuple((i, b"") for i in range(3)))
PREPARED = Prepared(BARE, VOTES)
VIEW_CHANGE = ViewChange(1, 0, VOTES, (PREPARED, PREPARED), 2)
COSTS = CpuCosts(message_ns=100, kilobyte_ns=2000, sign_ns=10_000, verify_ns=1_000_000, execute_ns=7)


@pytest.mark.parametrize(
    ("message", "checks"),
    [
        (REQUESTS[0], 1),
        (Prepare(0, 1, D, 1), 1),
        (Commit(0, 1, D, 1), 1),
        (BARE, 1),
        (PrePrepare(0, 1, D, 0, BATCH), 1 + 5),
        (VIEW_CHANGE, 1 + 3 + 2 * (1 + 3)),
        (ViewChange(1, 0, None, (), 2), 1),
        (NewView(1, (VIEW_CHANGE, VIEW_CHANGE), (BARE,), 1), 1 + 2 * 12 + 1),
        (FetchReply((Decided(1, BATCH, VOTES),), (BATCH,), VOTES, 1), 1 + 3 + 3),
    ],
)
def test_every_signature_in_a_message_is_checked(message, checks):
    assert signature_checks(message) == checks


def test_in_a_new_view_nobody_looks_into_its_own_change_of_view():
    new_view = NewView(1, (VIEW_CHANGE, replace(VIEW_CHANGE, replica=3)), (BARE,), 1)
    assert signature_checks(new_view, receiver=SimpleNamespace(me=3)) == 1 + 12 + 1
    assert signature_checks(new_view, receiver=SimpleNamespace(me=0)) == 1 + 2 * 12 + 1


def test_receiving_costs_a_message_its_bytes_and_its_signatures():
    assert COSTS.receive(500, 3) == 100 + 1000 + 3 * 1_000_000


def test_sending_costs_one_signature_but_for_a_request_passed_on():
    assert COSTS.send(Prepare(0, 1, D, 1)) == 100 + 10_000
    assert COSTS.send(Prepare(0, 1, D, 1), 2500) == 100 + 5000 + 10_000
    assert COSTS.send(REQUESTS[0], 500) == 100 + 1000


def test_relaying_checks_and_signs_nothing_and_executing_counts_transactions():
    assert COSTS.relay(500) == 2 * 100 + 1000
    assert COSTS.execute(6) == 42
    assert COSTS.execute(6, signatures=2) == 42 + 2_000_000


def test_there_is_a_rule_for_every_kind_of_message():
    """A new kind that carries signatures inside must be added to the costs: this list was looked through."""
    assert {kind.__name__ for kind in KINDS} == {
        *("Request", "PrePrepare", "Prepare", "Commit", "Reply", "Checkpoint"),
        *("ViewChange", "NewView", "Status", "Fetch", "FetchReply", "SnapshotHead", "FetchChunk", "Chunk"),
        "EpochChange",
    }


def test_profiles():
    assert PROFILES["none"] is None
    assert PROFILES["measured"] is MEASURED
    assert MEASURED.verify_ns > MEASURED.sign_ns > MEASURED.message_ns > MEASURED.kilobyte_ns > 0


def test_a_negative_cost_is_refused_by_name():
    with pytest.raises(ValueError, match="verify must be at least 0 ns, got -1 ns"):
        CpuCosts(verify_ns=-1)


@pytest.mark.parametrize(
    ("given", "answers", "more"),
    [
        ({"workload.transactions": 12_000}, 100, 1.0),  # all of them are about what is in the queue already
        ({"workload.transactions": 3_000, "network.loss": 0.05, "consensus.batch_size": 50}, 5, 1.1),
    ],
)
def test_beyond_what_processors_can_do_they_are_charged_for_what_is_checked(
    monkeypatch, given, answers, more
):
    """Where everybody is behind, questions and answers are many: a copy of what one has is no work. *more*: charged for
    what came twice before either was looked at."""
    asked = charged = 0
    stepping = False
    make, take_in, step = ModelledKeyring.__init__, ReplicaNode.queue, Replica.step

    def counting(keyring, *arguments):
        make(keyring, *arguments)
        verify = keyring.verify

        def counted(*what):
            nonlocal asked
            asked += stepping
            return verify(*what)

        keyring.verify = counted

    def watched(replica, now, event):
        nonlocal stepping
        stepping = True
        effects = step(replica, now, event)
        stepping = False
        return effects

    def charging(node, now, message):
        nonlocal charged
        charged += node._checks(message) - 1
        take_in(node, now, message)

    monkeypatch.setattr(ModelledKeyring, "__init__", counting)
    monkeypatch.setattr(Replica, "step", watched)
    monkeypatch.setattr(ReplicaNode, "queue", charging)
    beyond = {"nodes.cpu": "measured", "workload.rate": 40_000}
    result = execute(load("stress", beyond | given, 1), lambda *_: None)
    assert result.messages["FetchReply"] >= answers
    assert asked >= 2 * given["workload.transactions"]
    assert asked <= charged <= more * asked
