"""Coming back: after a crash, a power cut, a partition, or a view change slept through."""

from __future__ import annotations

import pytest
from replicas import Network, of, sent
from tradebft.consensus.interface import Broadcast, Evidence, Idle, Send, SendBlocks, Start
from tradebft.consensus.messages import (
    Checkpoint,
    Fetch,
    FetchReply,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from tradebft.consensus.pbft.recovery import BLOCKS_A_REPLY


def until(net: Network, count: int, rounds: int = 30) -> None:
    """Deliver, and let status timers run out when it is quiet, until all running replicas executed *count* requests."""
    for _ in range(rounds):
        net.settle()
        if all(len(net.executed(i)) == count for i in net.running):
            return
        for i in net.running:
            net.fire(i, "status")
    raise AssertionError([net.executed(i) for i in net.running])


# --- traffic that a replica cannot use yet tells it that it is behind ---


def test_who_is_behind_the_watermarks_learns_it_from_votes_above_them():
    """Whoever only drops what is above its own window would wait for the next checkpoint, or for a view change."""
    net = Network(checkpoint_interval=2, log_window=3, batch_size=1)
    for sequence in range(1, 7):
        net.step(0, net.request(sequence))
        while net.bag:
            to, message = net.bag.pop(0)
            if to != 3:
                net.step(to, message)
    net.step(0, net.request(7))
    net.settle()
    assert [len(net.executed(i)) for i in range(4)] == [7, 7, 7, 0]
    until(net, 7)
    assert {net.replicas[i].view for i in range(4)} == {0}


def test_whoever_missed_the_last_votes_of_all_learns_it_when_it_says_where_it_stands():
    """Nothing comes after them that would tell; no timer runs, and nobody is asked for anything."""
    net = Network()
    net.step(0, net.request(1))
    while net.bag:
        to, message = net.bag.pop(0)
        if to != 3:
            net.step(to, message)
    for i in net.running:
        net.fire(i, "status")
    net.settle()
    assert [len(net.executed(i)) for i in range(4)] == [1, 1, 1, 0]
    assert sent(Status, net.step(3, Idle()))
    net.settle()
    assert [len(net.executed(i)) for i in range(4)] == [1, 1, 1, 1]


def test_who_slept_through_a_view_change_learns_it_from_messages_of_the_new_view():
    net = Network()
    for i in (1, 2):
        net.step(i, net.request(1))
        net.fire(i, "view-change")
    while net.bag:
        to, message = net.bag.pop(0)
        if to != 3:
            net.step(to, message)
    assert [net.replicas[i].view for i in range(4)] == [1, 1, 1, 0]
    net.step(1, net.request(2))
    until(net, 2)
    assert net.replicas[3].view == 1


def test_lost_checkpoint_votes_are_sent_again_and_the_primary_goes_on():
    net = Network(checkpoint_interval=2, log_window=3, batch_size=1)
    for sequence in range(1, 7):
        net.step(0, net.request(sequence))
    while net.bag:
        to, message = net.bag.pop(0)
        if not isinstance(message, Checkpoint):
            net.step(to, message)
    assert [len(net.executed(i)) for i in range(4)] == [3] * 4
    until(net, 6)
    assert {net.replicas[i].view for i in range(4)} == {0}


@pytest.mark.parametrize(
    ("ahead", "asks"), [("view", True), ("stable", True), ("changing", False), ("level", False)]
)
def test_a_stuck_peer_that_is_ahead_makes_a_replica_ask(ahead, asks):
    """Votes were sent once and lost; the peers are stuck for want of a quorum, and their Status is all that is heard.
    One that is between two views proves nothing: it may be there alone."""
    net = Network(running=[2])
    fields = {
        "view": (1, False, 0, 0, 0, 1, 3),
        "stable": (0, False, 0, 128, 128, 1, 3),
        "changing": (1, True, 0, 0, 0, 1, 3),
        "level": (0, False, 0, 0, 0, 1, 3),
    }[ahead]
    net.step(2, net.signed(Status(*fields)))
    assert bool(sent(Status, net.fire(2, "status"))) == asks
    assert not sent(Status, net.fire(2, "status")), "once"


def test_who_wants_a_view_that_no_quorum_wants_yet_says_so_again():
    """A ViewChange is sent once, too. Peers that wait for it cannot know that it was lost."""
    net = Network(running=[2])
    net.step(2, net.request(1))
    net.fire(2, "view-change")
    net.fire(2, "status")  # the view moved since it was set: that counts as progress
    assert [m.view for m in sent(ViewChange, net.fire(2, "status"))] == [1]
    net.step(2, net.view_change(0))
    net.step(2, net.view_change(3))
    assert not sent(ViewChange, net.fire(2, "status")), "a quorum has it: now the new primary is waited for"


@pytest.mark.parametrize("nonce", range(1, 8))
def test_a_new_view_that_got_lost_is_shown_by_its_primary_at_the_first_question(nonce):
    """Nobody else holds it yet; a turn of its own per question would take longer than the next view change."""
    net = Network(7, running=[1])
    for i in (2, 3, 4):
        net.step(1, net.view_change(i))
    net.step(1, net.view_change(5))
    assert not net.replicas[1].changing
    question = net.signed(Status(1, True, 0b111110, 0, 0, nonce, 6))
    assert [m.view for m in sent(NewView, net.step(1, question))] == [1]


@pytest.mark.parametrize("kind", ["Checkpoint", "Commit", "Prepare"])
def test_only_checkpoint_votes_prove_a_checkpoint(kind):
    """A quorum of Commits for s4 is easy to come by, and says nothing about the state after it."""
    net = Network(running=[3], checkpoint_interval=2, log_window=4)
    proof = net.certificate(kind, 4, b"d" * 32, [0, 1, 2])
    net.step(3, net.signed(FetchReply((), (), proof, 1)))
    assert net.replicas[3].low == (4 if kind == "Checkpoint" else 0)


# --- restarts ---


@pytest.mark.parametrize("everybody", [False, True])
def test_a_checkpoint_vote_outlives_the_memory_of_whoever_gave_it(everybody):
    """With K < L < 2K there is one chance to make the window move: the vote must be given again after a restart."""
    net = Network(checkpoint_interval=2, log_window=3, batch_size=1)
    for sequence in (1, 2, 3):
        net.step(0, net.request(sequence))
    while net.bag:
        to, message = net.bag.pop(0)
        if not isinstance(message, Checkpoint):
            net.step(to, message)
    before = [dict(net.replicas[i].own_checkpoints) for i in range(4)]
    for i in range(4) if everybody else (2, 3):
        net.restart(i)
    assert [dict(net.replicas[i].own_checkpoints) for i in range(4)] == before
    for sequence in (4, 5, 6):
        for i in range(4):
            net.step(i, net.request(sequence))
    until(net, 6)
    assert {net.replicas[i].view for i in range(4)} == {0}


def test_a_stable_checkpoint_is_not_voted_on_again_after_a_restart():
    net = Network(checkpoint_interval=2, log_window=4, batch_size=1)
    for sequence in range(1, 6):
        net.step(0, net.request(sequence))
    net.settle()
    net.restart(1)
    me = net.replicas[1]
    assert (me.low, me.executed, me.own_checkpoints, me.tables) == (4, 5, {}, {})


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_known_to_be_decided_is_not_voted_against(restarted):
    """Replica 3 never voted at s1 and learns from a block what was decided. Another proposal there is evidence."""
    net = Network(running=[3])
    block = net.decided(1, net.batch(1))
    net.step(3, net.signed(FetchReply((block,), (), None, 1)))
    if restarted:
        net.restart(3)
    effects = net.step(3, net.pre_prepare(net.batch(2)))
    assert not sent(Prepare, effects)
    assert [e.culprit for e in of(Evidence, effects)] == [0]


def test_after_a_restart_the_log_is_what_it_was_however_long_the_history():
    net = Network(checkpoint_interval=2, log_window=4, batch_size=1)
    for sequence in range(1, 12):
        net.step(0, net.request(sequence))
        net.settle()
    before = {seq: slot.decided for seq, slot in net.replicas[1].slots.items()}
    net.restart(1)
    assert {seq: slot.decided for seq, slot in net.replicas[1].slots.items()} == before
    assert list(before) == [11]


def test_a_decided_batch_that_a_new_view_carries_over_need_not_be_fetched_after_a_restart():
    net = Network(running=[3])
    block = net.decided(1, net.batch(1))
    net.step(3, net.signed(FetchReply((block,), (), None, 1)))
    net.restart(3)
    carried = net.prepared(1, block.batch.digest, voters=[1, 2])
    changes = [net.view_change(1, prepared=[carried]), net.view_change(2), net.view_change(0)]
    effects = net.step(3, net.new_view(changes))
    assert sent(Prepare, effects)
    assert not sent(Fetch, effects)


@pytest.mark.parametrize("asked", [True, False])
def test_a_first_start_is_silent_and_a_second_one_asks(asked):
    net = Network()
    assert list(net.replicas[1].step(0, Start())) == []
    if asked:
        net.step(1, net.pre_prepare(net.batch(1)))
        assert [type(e.message) for e in of(Broadcast, net.restart(1))] == [Status]


def test_a_backup_that_restarts_goes_on_watching_the_primary_and_a_primary_does_not_watch_itself():
    for me in (0, 1):
        net = Network()
        net.step(0, net.request(1))
        net.step(1, net.pre_prepare(net.batch(1)))
        net.restart(me)
        assert net.replicas[me].slots[1].digest is not None
        assert ("view-change" in net.timers[me]) == (me == 1)


# --- asking again ---


def test_a_body_that_does_not_come_is_asked_for_again():
    net = Network(running=[3])
    batch = net.batch(1)
    changes = [net.view_change(1, prepared=[net.prepared(1, batch.digest, voters=[1, 2])])]
    effects = net.step(3, net.new_view([*changes, net.view_change(2), net.view_change(0)]))
    assert [f.digest for f in sent(Fetch, effects)] == [batch.digest]
    net.fire(3, "status")
    assert [f.digest for f in sent(Fetch, net.fire(3, "status"))] == [batch.digest]


def test_bodies_are_asked_for_lowest_first_whatever_was_heard_of_first():
    """A replica that goes on where another engine stood knows what is in its log, not in which order it came there."""
    net = Network(running=[3])
    batches = [net.batch(seq) for seq in (1, 2, 3)]
    for seq in (2, 3, 1):
        net.step(3, net.prepare(1, batches[seq - 1].digest, seq))
    carried = [net.prepared(seq, batch.digest, voters=[1, 2]) for seq, batch in enumerate(batches, 1)]
    changes = [net.view_change(i, prepared=carried) for i in (0, 1, 2)]
    net.step(3, net.new_view(changes))
    net.fire(3, "status")
    assert [fetch.seq for fetch in sent(Fetch, net.fire(3, "status"))] == [1, 2, 3]


def test_a_reply_that_is_full_makes_a_replica_ask_for_the_rest_at_once():
    net = Network(running=[3])
    blocks = tuple(net.decided(seq, net.batch(seq)) for seq in range(1, BLOCKS_A_REPLY + 2))
    effects = net.step(3, net.signed(FetchReply(blocks[:1], (), None, 1)))
    assert not sent(Status, effects)
    effects = net.step(3, net.signed(FetchReply(blocks[1:], (), None, 1)))
    assert [status.executed for status in sent(Status, effects)] == [1 + BLOCKS_A_REPLY]


@pytest.mark.parametrize("n", [4, 5, 7, 10])
def test_each_question_is_answered_by_f_plus_1_others_and_soon_by_all(n):
    """One of them is honest. With the asker's own place in the row f liars would now and then be all who answer."""
    net = Network(n)
    block = net.decided(1, net.batch(1))
    for replica in range(n):
        net.step(replica, net.signed(FetchReply((block,), (), None, (replica + 1) % n)))
    for asker in range(n):
        helped = []
        for nonce in range(1, n):
            question = net.signed(Status(0, False, 0, 0, 0, nonce, asker))
            helped.append({r for r in range(n) if r != asker and of(SendBlocks, net.step(r, question))})
        assert {len(helpers) for helpers in helped} == {net.replicas[0].faults + 1}
        assert set.union(*helped) == set(range(n)) - {asker}


@pytest.mark.parametrize(("n", "me", "helper"), [(4, 3, 1), (7, 2, 6), (7, 6, 0), (13, 12, 11)])
def test_the_rest_is_asked_of_whoever_sent_what_came_so_far_and_it_is_its_turn_to_answer(n, me, helper):
    """f+1 copies of all that was missed would drown whoever comes back under load."""
    net = Network(n, running=[me, helper])
    blocks = [net.decided(seq, net.batch(seq)) for seq in range(1, 2 * BLOCKS_A_REPLY + 3)]
    for first in (0, BLOCKS_A_REPLY, 2 * BLOCKS_A_REPLY):
        net.step(helper, net.signed(FetchReply(tuple(blocks[first:]), (), None, (helper + 1) % n)))
    for part in (blocks[:BLOCKS_A_REPLY], blocks[BLOCKS_A_REPLY : 2 * BLOCKS_A_REPLY]):
        effects = net.step(me, net.signed(FetchReply(tuple(part), (), None, helper)))
        (asked,) = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Status)]
        assert asked.to == helper
        assert not [e for e in effects if isinstance(e, Broadcast) and isinstance(e.message, Status)]
        answer = [e.first for e in of(SendBlocks, net.step(helper, asked.message))]
        assert answer == [part[-1].seq + 1]


def test_who_is_to_join_a_single_member_asks_it_for_the_rest():
    """There is nobody who could take turns with it."""
    net = Network(1, running=[1], spare=1)
    blocks = tuple(net.decided(seq, net.batch(seq)) for seq in range(1, BLOCKS_A_REPLY + 1))
    effects = net.step(1, net.signed(FetchReply(blocks, (), None, 0)))
    (asked,) = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Status)]
    assert asked.to == 0


def test_nobody_waits_for_one_helper_for_ever():
    """Whoever sent the first part says no more: the next question is to everybody."""
    net = Network(running=[3])
    blocks = tuple(net.decided(seq, net.batch(seq)) for seq in range(1, BLOCKS_A_REPLY + 1))
    net.step(3, net.commit(0, b"d" * 32, seq=net.replicas[3].high + 1))
    effects = net.step(3, net.signed(FetchReply(blocks, (), None, 1)))
    (asked,) = sent(Status, effects)
    (again,) = [e.message for e in net.fire(3, "status") if isinstance(e, Broadcast)]
    assert isinstance(again, Status)
    assert again.nonce > asked.nonce


def test_commits_by_f_plus_1_for_what_was_never_proposed_here_make_a_replica_ask():
    """The proposal was lost. One Commit may be a liar's; of two, one is honest."""
    net = Network(running=[3])
    net.step(3, net.commit(1, b"d" * 32))
    assert "status" not in net.timers[3]
    net.step(3, net.commit(2, b"d" * 32))
    assert sent(Status, net.fire(3, "status"))


# --- a new primary that lacks a body ---


def test_a_body_that_is_fetched_is_not_proposed_a_second_time():
    """Replica 1 leads view 1, has the request waiting, and learns the batch that carries it only by fetching it."""
    net = Network(running=[1])
    request = net.request(1)
    batch = net.batch(1)
    net.step(1, request)
    net.fire(1, "view-change")
    net.step(1, net.view_change(2, prepared=[net.prepared(1, batch.digest, voters=[2, 3])]))
    effects = net.step(1, net.view_change(3))
    assert not net.replicas[1].changing
    assert not sent(PrePrepare, effects), "nothing is proposed while a body is missing"
    effects = net.step(1, net.signed(FetchReply((), (batch,), None, 2)))
    assert not sent(PrePrepare, effects), "the request is in the batch that was carried over"
    effects = net.step(1, net.request(2))
    assert [p.seq for p in sent(PrePrepare, effects)] == [2]
    assert not of(Evidence, effects)


# --- messages that no honest member can have signed ---


def test_a_vote_of_a_negative_view_is_refused_while_the_view_is_closed():
    net = Network(running=[1])
    net.step(1, net.request(1))
    net.fire(1, "view-change")
    me = net.replicas[1]
    for message in (
        net.prepare(2, b"x" * 32),
        net.commit(2, b"x" * 32),
        net.pre_prepare(net.batch(1)),
    ):
        fields = {name: getattr(message, name) for name in message.__struct_fields__} | {"view": -1}
        me.step(0, type(message)(**fields))
    assert not me.slots
