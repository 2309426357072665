"""Checkpoints (OSDI 1999, section 4.3): what makes one stable, what goes, and what stays."""

from __future__ import annotations

import pytest
from replicas import Network, of, sent
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import Ignored, Persist
from tradebft.consensus.messages import Checkpoint, Status


def small(**config: int) -> Network:
    return Network(checkpoint_interval=2, log_window=4, batch_size=1, **config)


def run(net: Network, first: int, last: int) -> None:
    for sequence in range(first, last + 1):
        net.step(0, net.request(sequence))
        net.settle()


def test_a_stable_checkpoint_is_durable_before_the_log_is_gone():
    net = small()
    run(net, 1, 2)
    for i in range(4):
        proofs = [record for record in net.disks[i] if isinstance(record, QuorumCertificate)]
        assert [(proof.kind, proof.seq) for proof in proofs] == [("Checkpoint", 2)]
        assert proofs[0].valid(net.config.chain_id, net.keyring, net.config.quorum)
        assert net.replicas[i].stable == proofs[0]
        assert not net.replicas[i].slots
        assert not net.replicas[i].bodies


def test_f_plus_1_votes_are_not_stable_and_a_quorum_is():
    net = Network(7, running=[1], checkpoint_interval=2, log_window=4)
    for voter in (0, 2, 3, 4):
        net.step(1, net.checkpoint(voter, 2, b"s" * 32))
        net.step(1, net.checkpoint(voter, 2, b"s" * 32))
    assert net.replicas[1].low == 0
    net.step(1, net.checkpoint(5, 2, b"s" * 32))
    assert net.replicas[1].low == 2


@pytest.mark.parametrize("seq", [0, -2, 1, 3])
def test_checkpoints_where_there_are_none_are_ignored(seq):
    net = small()
    vote = Checkpoint(seq, b"s" * 32, 3)
    assert [type(e) for e in net.replicas[1].step(0, vote)] == [Ignored]


def test_a_checkpoint_beyond_what_was_executed_makes_a_replica_ask_at_once():
    net = Network(4, running=[1], checkpoint_interval=2, log_window=4)
    effects = [e for voter in (0, 2, 3) for e in net.step(1, net.checkpoint(voter, 4, b"s" * 32))]
    assert sent(Status, effects)
    assert of(Persist, effects)
    assert (net.replicas[1].low, net.replicas[1].executed) == (4, 0)


def test_a_replica_whose_state_differs_does_not_hold_up_the_others():
    """Its vote does not match; the other three are a quorum, and it takes their word for what is stable."""
    net = small()
    net.roots[3] = b"?" * 32
    run(net, 1, 2)
    votes = {i: net.replicas[i].stable.digest for i in range(4)}  # type: ignore[union-attr]
    assert len(set(votes.values())) == 1
    assert {net.replicas[i].low for i in range(4)} == {2}


def test_votes_of_a_quorum_that_disagrees_with_itself_are_not_stable():
    net = small()
    net.roots[2] = net.roots[3] = b"?" * 32
    run(net, 1, 3)
    assert {net.replicas[i].low for i in range(4)} == {0}
    assert {len(net.executed(i)) for i in range(4)} == {3}


def test_the_state_covers_who_was_served_and_what_they_were_told():
    """Equal roots and another history of clients are another state: exactly-once is part of it."""
    one, other = small(), small()
    run(one, 1, 2)
    other.step(0, other.request(1, client="shop"))
    other.settle()
    other.roots = dict.fromkeys(range(4), one.blocks[0][0][1].root)
    other.step(0, other.request(1))
    other.settle()
    assert one.replicas[0].stable is not None
    assert other.replicas[0].stable is not None
    assert one.replicas[0].stable.digest != other.replicas[0].stable.digest


@pytest.mark.parametrize(("k", "length"), [(1, 2), (2, 3), (2, 4), (3, 5), (5, 7)])
def test_the_watermarks_keep_moving(k, length):
    net = Network(checkpoint_interval=k, log_window=length, batch_size=1)
    for sequence in range(1, 31):
        net.step(0, net.request(sequence))
    net.settle()
    assert [len(net.executed(i)) for i in range(4)] == [30] * 4
    for i in range(4):
        replica = net.replicas[i]
        assert (replica.low, replica.high) == (30 // k * k, 30 // k * k + length)
        assert len(replica.slots) <= length
