"""Mistakes that real PBFT implementations made: watermarks and state transfer (10, 11).

Each breaks a rule of docs/protocol.md.
"""

from __future__ import annotations

import pytest
from mistakes import VIEW, backup, fetched
from msgspec import structs
from replicas import Network, of, sent
from tradebft.consensus.interface import (
    Committed,
    Config,
    Evidence,
    Executed,
)
from tradebft.consensus.messages import (
    Checkpoint,
    FetchReply,
    Prepare,
    PrePrepare,
    ViewChange,
)

# --- 10: watermarks ---


@pytest.mark.parametrize(("k", "window"), [(4, 4), (5, 4), (0, 4)])
def test_10_k_must_be_below_l(k, window):
    """Mistake 10: watermark stuck: K > L."""
    with pytest.raises(ValueError, match="watermark"):
        Config(4, checkpoint_interval=k, log_window=window)


def test_10_the_window_moves_on_with_every_checkpoint_and_its_proof_is_kept():
    """Mistake 10: checkpoint certificates dropped with the log they prove."""
    net = Network(4, checkpoint_interval=2, log_window=3)
    for sequence in range(1, 12):
        net.step(0, net.request(sequence))
        net.settle()
    for replica in net.replicas.values():
        assert (replica.executed, replica.low, replica.high) == (11, 10, 13)
        assert set(replica.slots) == {11}
        assert replica.stable.seq == 10
        assert replica.stable.valid(net.config.chain_id, net.keyring, net.config.quorum)
    before = net.replicas[2].stable
    net.restart(2)
    assert net.replicas[2].stable == before
    net.step(2, net.request(12))
    (change,) = sent(ViewChange, net.fire(2, VIEW))
    assert change.stable == 10
    assert change.checkpoint.valid(net.config.chain_id, net.keyring, net.config.quorum)


def test_10_the_primary_stays_within_the_window_and_goes_on_when_it_moves():
    """Mistake 10: a primary that the watermark held back goes on by itself."""
    net = Network(4, running=[0], checkpoint_interval=2, log_window=3, batch_size=1)
    proposed = [p.seq for s in range(1, 9) for p in sent(PrePrepare, net.step(0, net.request(s)))]
    assert proposed == [1, 2, 3]
    effects = []
    for seq in (1, 2):
        digest = net.replicas[0].slots[seq].digest
        for vote in (net.prepare, net.commit):
            for other in (1, 2, 3):
                effects += net.step(0, vote(other, digest, seq))
    assert sent(PrePrepare, effects) == []
    (mine,) = sent(Checkpoint, effects)
    assert sent(PrePrepare, net.step(0, net.checkpoint(1, 2, mine.digest))) == []
    effects = net.step(0, net.checkpoint(2, 2, mine.digest))
    assert [p.seq for p in sent(PrePrepare, effects)] == [4, 5]


def test_10_checkpoints_of_different_states_are_not_counted_together():
    """Mistake 10: q matching ones, by distinct replicas."""
    net, me = backup(4, checkpoint_interval=2, log_window=4), 2
    for voter, state in ((0, b"a"), (1, b"b"), (3, b"a"), (3, b"a"), (0, b"a")):
        net.step(me, net.checkpoint(voter, 2, state * 32))
    assert net.replicas[me].low == 0
    net.step(me, net.checkpoint(2, 2, b"a" * 32))
    assert net.replicas[me].low == 2


def test_10_checkpoint_votes_survive_a_restart():
    """Mistake 10: all execute up to the high watermark, lose each other's Checkpoints, and restart: the votes are
    made again from the blocks, or the window stays full for ever."""
    net = Network(4, checkpoint_interval=2, log_window=3)
    for sequence in (1, 2, 3):
        net.step(0, net.request(sequence))
        while net.bag:
            if isinstance(net.bag[0][1], Checkpoint):
                net.bag.pop(0)
            else:
                net.deliver()
    before = {i: replica.own_checkpoints for i, replica in net.replicas.items()}
    assert [list(votes) for votes in before.values()] == [[2]] * 4
    for i in range(4):
        net.restart(i)
    assert {i: replica.own_checkpoints for i, replica in net.replicas.items()} == before
    net.settle()
    assert [replica.low for replica in net.replicas.values()] == [2] * 4
    net.step(0, net.request(4))
    net.settle()
    assert [len(net.executed(i)) for i in range(4)] == [4] * 4


# --- 11: state transfer ---


def wrong_blocks():
    def block(net):
        return net.decided(1, net.batch(1))

    return {
        "too few Commits": lambda net: net.decided(1, net.batch(1), voters=[0, 1]),
        "one Commit three times": lambda net: net.decided(1, net.batch(1), voters=[1, 1, 1]),
        "another batch": lambda net: structs.replace(block(net), batch=net.batch(2)),
        "another sequence": lambda net: structs.replace(
            block(net), certificate=net.decided(2, net.batch(1)).certificate
        ),
        "Prepares": lambda net: structs.replace(
            block(net), certificate=net.certificate("Prepare", 1, net.batch(1).digest, [0, 1, 2])
        ),
        "signatures by nobody": lambda net: structs.replace(
            block(net),
            certificate=structs.replace(
                block(net).certificate, votes=tuple((i, bytes(64)) for i in range(3))
            ),
        ),
    }


@pytest.mark.parametrize("what", wrong_blocks())
def test_11_a_fetched_block_is_not_believed_when_its_proof_is(what):
    """Mistake 11: state transfer that trusts one peer."""
    net, me = backup(4), 2
    effects = net.step(me, fetched(net, [wrong_blocks()[what](net)]))
    assert of(Committed, effects) == []
    assert [e.culprit for e in of(Evidence, effects)] == [1]


def test_11_blocks_that_prove_themselves_are_executed_in_order_and_the_rest_left():
    """Mistake 11: a lying peer costs time, never safety."""
    net, me = backup(4), 2
    good = [net.decided(seq, net.batch(seq)) for seq in (1, 2, 3)]
    bad = structs.replace(good[2], batch=net.batch(9))
    effects = net.step(me, fetched(net, [good[1], good[0], good[1], bad]))
    assert [e.seq for e in of(Committed, effects)] == [1, 2]
    effects = net.step(me, fetched(net, good, replica=3))
    assert [e.seq for e in of(Committed, effects)] == [3]


def test_11_a_fetched_checkpoint_is_not_believed_without_a_quorum():
    """Mistake 11: the watermark does not move on one peer's word."""
    net, me = backup(4, checkpoint_interval=2, log_window=4), 2
    proof = net.certificate("Checkpoint", 2, b"s" * 32, [0, 1])
    assert of(Evidence, net.step(me, fetched(net, [], checkpoint=proof)))
    assert net.replicas[me].low == 0


def test_11_a_body_that_nobody_asked_for_is_not_taken():
    """Mistake 11: a fetched batch is known by the digest that a NewView named."""
    net, me = backup(4), 2
    batch = net.batch(1)
    changes = [net.view_change(i, prepared=[net.prepared(1, batch.digest)]) for i in (1, 0, 3)]
    net.step(me, net.new_view(changes))
    for i in (0, 3):
        net.step(me, net.prepare(i, batch.digest, view=1))
    for i in (0, 1, 3):
        assert of(Committed, net.step(me, net.commit(i, batch.digest, view=1))) == []
    wrong = net.signed(FetchReply((), (net.batch(2),), None, 3))
    assert of(Committed, net.step(me, wrong)) == []
    right = net.signed(FetchReply((), (batch,), None, 3))
    assert [e.decided.batch for e in of(Committed, net.step(me, right))] == [batch]


def test_11_exactly_once_outlives_state_transfer_and_restart():
    """Mistake 11: a snapshot without its client table (exactly-once breaks after it)."""
    net, me = backup(4), 2
    net.step(me, fetched(net, [net.decided(seq, net.batch(seq)) for seq in (1, 2)]))
    for _ in range(2):
        net.replies.clear()
        assert sent(Prepare, net.step(me, net.pre_prepare(net.batch(2, 3), 3))) == []
        net.step(me, net.request(1))
        assert [(r.sequence, r.seq) for r in net.replies] == [(1, 1)]
        net.restart(me)


def test_11_the_checkpoint_covers_the_client_table():
    """Mistake 11: two replicas with one ledger and different client tables must not agree on a state."""
    votes = []
    for sequence in (1, 2):
        net = backup(4, checkpoint_interval=1, log_window=2)
        replica = net.replicas[2]
        net.step(2, fetched(net, []))
        effects = replica.step(0, fetched(net, [net.decided(1, net.batch(sequence))]))
        assert of(Committed, effects)
        done = replica.step(0, Executed(1, (b"",), (bytes(32),), b"one root".ljust(32)))
        votes += [vote.digest for vote in sent(Checkpoint, done)]
    assert len(votes) == 2
    assert votes[0] != votes[1]


def test_11_the_checkpoint_is_the_same_however_far_execution_lags_behind():
    """Mistake 11: block 3, of a client never seen before, is decided before or after block 2 was executed."""
    votes = []
    for pipelined in (False, True):
        net = backup(4, checkpoint_interval=2, log_window=4)
        replica = net.replicas[2]
        blocks = [net.decided(s, net.batch(s)) for s in (1, 2)]
        blocks.append(net.decided(3, net.batch(1, client="shop")))
        answers = [Executed(s, (b"",), (bytes(32),), bytes([s]) * 32) for s in (1, 2, 3)]
        if pipelined:
            assert len(of(Committed, replica.step(0, fetched(net, blocks)))) == 3
            effects = [e for answer in answers for e in replica.step(0, answer)]
        else:
            effects = []
            for block, answer in zip(blocks, answers, strict=True):
                replica.step(0, fetched(net, [block]))
                effects += replica.step(0, answer)
        votes += [vote.digest for vote in sent(Checkpoint, effects)]
    assert len(votes) == 2
    assert votes[0] == votes[1]
