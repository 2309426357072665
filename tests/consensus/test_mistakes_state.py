"""Mistakes that real PBFT implementations made: restarts and execution, bounds (7, 8, 13).

Each breaks a rule of docs/protocol.md.
"""

from __future__ import annotations

import pytest
from mistakes import STATUS, VIEW, backup, prepare_and_commit
from replicas import Network, of, sent
from tradebft.consensus.interface import (
    Broadcast,
    Committed,
    Executed,
    Ignored,
)
from tradebft.consensus.messages import (
    NULL_DIGEST,
    Commit,
    FetchReply,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)

# --- 7: a restart contradicts nothing ---


def test_7_a_backup_that_restarts_does_not_vote_otherwise():
    """Mistake 7: a replica that prepared in view v and restarts, and votes otherwise in v."""
    net, me = backup(4), 2
    first, second = net.batch(1), net.batch(2)
    net.step(me, net.pre_prepare(first))
    net.restart(me)
    effects = list(net.step(me, net.pre_prepare(second)))
    effects += [e for i in (1, 3) for e in net.step(me, net.prepare(i, second.digest))]
    assert sent(Prepare, effects) == sent(Commit, effects) == []
    effects = [e for i in (1, 3) for e in net.step(me, net.prepare(i, first.digest))]
    assert sent(Commit, effects) == []  # what 1 and 3 voted for first counts


def test_7_what_was_prepared_before_a_restart_is_shown_in_the_next_view():
    """Mistake 7: a Commit that left the node was covered by a certificate that did not leave it."""
    net, me = backup(4), 2
    batch = net.batch(1)
    net.step(me, net.pre_prepare(batch))
    for i in (1, 3):
        net.step(me, net.prepare(i, batch.digest))
    net.restart(me)
    net.step(me, net.view_change(1))
    (change,) = sent(ViewChange, net.step(me, net.view_change(3)))
    assert [(p.pre_prepare.seq, p.pre_prepare.digest) for p in change.prepared] == [(1, batch.digest)]


def test_7_a_primary_that_restarts_does_not_propose_twice():
    """Mistake 7, for the primary: the sequence that it used is used."""
    net = backup(me=0)
    (before,) = sent(PrePrepare, net.step(0, net.request(1)))
    net.restart(0)
    again = sent(PrePrepare, net.step(0, net.request(2)))
    assert [p.seq for p in again] == [2]
    assert before.seq == 1


def test_7_a_replica_that_left_a_view_does_not_come_back_to_it():
    """Mistake 7: after its ViewChange nothing of the old view counts, restarts included."""
    net, me = backup(4), 2
    net.step(me, net.request())
    assert sent(ViewChange, net.fire(me, VIEW))
    effects = net.restart(me)
    assert [c.view for c in sent(ViewChange, effects)] == [1]
    effects = prepare_and_commit(net, me, net.batch(1))
    assert sent(Prepare, effects) == sent(Commit, effects) == []
    assert of(Committed, effects) == []


def test_7_votes_are_durable_before_they_leave():
    """Mistake 7: Persist comes before the Broadcast that it protects, at every step of a whole run."""
    net = Network(4, checkpoint_interval=2, log_window=4)
    written = {i: set() for i in range(4)}

    def watch(i, effect):
        record = getattr(effect, "record", None)
        if record is not None:
            proposal = getattr(record, "pre_prepare", record)
            written[i].add((type(record).__name__, getattr(proposal, "view", 0), getattr(proposal, "seq", 0)))
        if isinstance(effect, Broadcast):
            message = effect.message
            needs = {Prepare: "PrePrepare", PrePrepare: "PrePrepare", Commit: "Prepared"}.get(type(message))
            if needs and not (type(message) is Prepare and message.view == 1):
                assert (needs, message.view, message.seq) in written[i], (i, message)
            if isinstance(message, ViewChange):
                assert ("ViewChange", message.view, 0) in written[i]
            if isinstance(message, Prepare) and message.view == 1:
                known = {("NewView", 1, 0), ("PrePrepare", 1, message.seq)}
                assert known & written[i]

    net.watch = watch
    for sequence in range(1, 7):
        net.step(0, net.request(sequence))
        net.settle()
    for i in (1, 2, 3):
        net.step(i, net.request(7))
        net.bag.clear()
    for i in (1, 2, 3):
        net.fire(i, VIEW)
    net.settle()
    assert {net.replicas[i].view for i in range(4)} == {1}
    assert [len(net.executed(i)) for i in range(4)] == [7] * 4


def test_7_all_restart_at_once_and_what_was_decided_stays_decided():
    """Mistake 7: committed survives any crash of up to all replicas with their disks."""
    net = Network(4, checkpoint_interval=2, log_window=4)
    for sequence in range(1, 6):
        net.step(0, net.request(sequence))
        net.settle()
    before = net.history(0)
    net.step(0, net.request(6))
    for _ in range(14):
        net.deliver()
    net.bag.clear()
    for i in range(4):
        net.restart(i)
    net.settle()
    net.step(0, net.request(7))
    net.settle()
    for _ in range(4):
        for i in range(4):
            net.fire(i, STATUS)
        net.settle()
    for i in range(4):
        assert net.history(i)[:5] == before
        assert ("bank", 7) in net.executed(i)
        assert net.executed(i) == net.executed(0)


# --- 8: order, and once ---


def test_8_nothing_is_executed_out_of_order():
    """Mistake 8: executing out of order. 2 and 3 are decided before 1."""
    net, me = backup(4), 2
    for seq in (3, 2):
        assert of(Committed, prepare_and_commit(net, me, net.batch(seq), seq)) == []
    assert [e.seq for e in of(Committed, prepare_and_commit(net, me, net.batch(1), 1))] == [1, 2, 3]


def test_8_a_retransmission_is_answered_not_executed():
    """Mistake 8: replying to a retransmission by executing again."""
    net = Network(4)
    net.step(0, net.request())
    net.settle()
    for i in range(4):
        net.replies.clear()
        effects = net.step(i, net.request())
        assert of(Committed, effects) == sent(PrePrepare, effects) == []
        assert [(r.client, r.sequence, r.seq) for r in net.replies] == [("bank", 1, 1)]
    net.settle()
    assert net.executed(0) == [("bank", 1)]


def test_8_a_request_in_two_batches_is_executed_once():
    """Mistake 8: both batches were proposed before either was executed."""
    net, me = backup(4), 2
    first, second = net.batch(1, 2), net.batch(2, 3, time_ns=1)
    for seq, batch in ((1, first), (2, second)):
        net.step(me, net.pre_prepare(batch, seq))
    effects = []
    for seq, batch in ((1, first), (2, second)):
        for vote in (net.prepare, net.commit):
            for other in (0, 1, 3):
                effects += net.step(me, vote(other, batch.digest, seq))
    fresh = [[r.sequence for r in e.fresh] for e in of(Committed, effects)]
    assert fresh == [[1, 2], [3]]


def test_8_a_batch_that_repeats_an_executed_request_gets_no_vote():
    """Mistake 8: every request in a proposal is not yet executed."""
    net, me = backup(4), 2
    prepare_and_commit(net, me, net.batch(1))
    assert sent(Prepare, net.step(me, net.pre_prepare(net.batch(1, 2), 2))) == []


def test_8_an_answer_for_an_execution_that_nobody_asked_for_is_an_error():
    """Mistake 8: the application's answers are matched with what was handed out."""
    net = backup(4)
    with pytest.raises(ValueError, match="outstanding"):
        net.replicas[2].step(0, Executed(1, (), (), bytes(32)))


# --- 13: bounds ---


def test_13_one_sender_cannot_fill_the_buffer_for_future_views():
    """Mistake 13: unbounded buffers for future views: memory exhaustion by one Byzantine sender."""
    net, me = backup(4, checkpoint_interval=2, log_window=4), 2
    replica = net.replicas[me]
    for view in range(1, 200):
        for seq in range(3):
            net.step(me, net.prepare(3, NULL_DIGEST, seq, view))
    held = [message for view in range(1, 200) for message in replica.early.release(view)]
    assert 0 < len(held) <= 2 * net.config.log_window


def test_13_one_sender_cannot_open_slots_beyond_the_window():
    """Mistake 13: and for future sequences."""
    net, me = backup(4, checkpoint_interval=2, log_window=4), 2
    for seq in range(1, 500):
        net.step(me, net.prepare(3, NULL_DIGEST, seq))
        net.step(me, net.commit(3, NULL_DIGEST, seq))
        net.step(me, net.checkpoint(3, seq, bytes(32)))
    replica = net.replicas[me]
    assert set(replica.slots) == {1, 2, 3, 4}
    assert sum(len(v) for v in replica.checkpoints._votes.values()) <= 4


def test_13_one_client_cannot_fill_the_waiting_room():
    """Mistake 13: a client's requests beyond its window are not kept; the whole room is bounded."""
    net, me = backup(4, client_window=8, max_requests_waiting=10), 2
    for sequence in range(1, 100):
        net.step(me, net.request(sequence))
    assert len(net.replicas[me].waiting) == 8
    for sequence in range(1, 9):
        net.step(me, net.request(sequence, client="shop"))
    assert len(net.replicas[me].waiting) == 10


def test_13_one_status_is_answered_once_and_never_with_everything():
    """Mistake 13: small questions with large answers are an attack on the network."""
    net = Network(4, checkpoint_interval=100, log_window=200)
    for sequence in range(1, 81):
        net.step(0, net.request(sequence))
        net.settle()
    status = net.signed(Status(0, False, 0, 0, 0, 1, 3))
    answers = []
    for i in (0, 1, 2):
        net.step(i, status)
        answers += net.bag
        net.bag.clear()
        assert of(Ignored, net.step(i, status))
        assert net.bag == []
    blocks = [m for _, m in answers if isinstance(m, FetchReply)]
    assert 1 <= len(blocks) <= net.config.faults + 1
    assert all(len(m.blocks) <= 64 for m in blocks)
