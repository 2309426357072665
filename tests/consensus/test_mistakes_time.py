"""Mistakes that real PBFT implementations made: timers, joining, fairness (9, 12, 15).

Each breaks a rule of docs/protocol.md.
"""

from __future__ import annotations

import pytest
from mistakes import STATUS, VIEW, WAYS, backup, fetched, prepare_and_commit
from replicas import Network, of, sent
from tradebft.consensus.interface import (
    Ignored,
    Send,
    SetTimer,
    TimerFired,
)
from tradebft.consensus.messages import (
    NULL_DIGEST,
    Commit,
    FetchReply,
    NewView,
    Status,
    ViewChange,
)

# --- 9: timers ---


def test_9_a_request_seen_only_by_backups_starts_their_timers():
    """Mistake 9: timer never started by a request seen only by backups; and they pass it on to the primary."""
    net, me = backup(4), 2
    effects = net.step(me, net.request())
    assert VIEW in net.timers[me]
    assert [e.to for e in of(Send, effects)] == [0]
    assert [c.view for c in sent(ViewChange, net.fire(me, VIEW))] == [1]


def test_9_a_proposal_that_is_not_executed_starts_the_timer_too():
    """Mistake 9: a primary that proposes and then falls silent is suspected."""
    net, me = backup(4), 2
    net.step(me, net.pre_prepare(net.batch(1)))
    assert VIEW in net.timers[me]


def test_9_the_timer_stops_when_nothing_waits_and_moves_on_when_something_does():
    """Mistake 9: timer not stopped."""
    net, me = backup(4), 2
    net.step(me, net.request(1))
    net.now = 500
    net.step(me, net.request(2))
    assert net.timers[me][VIEW] == net.config.view_change_timeout_ns  # still the first one's
    prepare_and_commit(net, me, net.batch(1))
    assert net.timers[me][VIEW] == 500 + net.config.view_change_timeout_ns
    prepare_and_commit(net, me, net.batch(2), 2)
    assert VIEW not in net.timers[me]


def test_9_who_is_behind_a_stable_checkpoint_does_not_blame_the_primary_for_it():
    """Mistake 9: a slow replica leaves a view alone in which a quorum decides, and is of no use until all leave it. It
    waits on, suspects again when it is level, and goes with the others when f+1 of them leave."""
    net, me = backup(4), 2
    net.step(me, net.request())
    blocks = [net.decided(seq, net.batch(100 + seq)) for seq in (1, 2)]
    net.step(me, net.signed(FetchReply((), (), net.stable(2), 1)))
    net.now = net.timers[me].pop(VIEW)
    effects = net.step(me, TimerFired(VIEW))
    assert [(e.name, e.delay_ns) for e in of(SetTimer, effects)] == [
        (VIEW, net.config.view_change_timeout_ns)
    ]
    assert not sent(ViewChange, effects)
    net.step(me, net.signed(FetchReply(tuple(blocks), (), None, 1)))
    assert net.replicas[me].executed == net.replicas[me].low == 2
    assert [c.view for c in sent(ViewChange, net.fire(me, VIEW))] == [1]


@pytest.mark.parametrize("proposed", [False, True], ids=["the proposal", "Prepares"])
def test_9_who_lacks_what_others_commit_does_not_blame_the_primary_for_it(proposed):
    """Mistake 9: lost messages make a replica leave a view alone in which the others decide. It waits once more, and
    no longer: a primary could keep each one in turn a batch behind, and starve a client."""
    net, me = backup(4), 2
    batch = net.batch(100)
    net.step(me, net.request())
    if proposed:
        net.step(me, net.pre_prepare(batch))
    for voter in (1, 3):
        net.step(me, net.commit(voter, batch.digest))
    effects = net.fire(me, VIEW)
    assert [(e.name, e.delay_ns) for e in of(SetTimer, effects)] == [
        (VIEW, net.config.view_change_timeout_ns)
    ]
    assert not sent(ViewChange, effects)
    assert [c.view for c in sent(ViewChange, net.fire(me, VIEW))] == [1]


def test_9_f_commits_spare_no_primary():
    """Mistake 9: f members, and others who commit something else, hold the view of a primary that is silent."""
    net, me = backup(7), 2
    net.step(me, net.request())
    for voter, number in ((3, 100), (4, 100), (5, 101), (6, 101)):
        net.step(me, net.commit(voter, net.batch(number).digest))
    assert [c.view for c in sent(ViewChange, net.fire(me, VIEW))] == [1]


def test_9_commits_of_what_comes_later_spare_no_primary():
    """Mistake 9: of what comes next here nobody knows whether anybody was shown it."""
    net, me = backup(4), 2
    net.step(me, net.request())
    for voter in (0, 1, 3):
        net.step(me, net.commit(voter, net.batch(100).digest, seq=2))
    assert [c.view for c in sent(ViewChange, net.fire(me, VIEW))] == [1]


def test_9_who_is_behind_follows_f_plus_1_out_of_the_view():
    """Mistake 9: whoever is behind stays behind in a view that the others have left."""
    net, me = backup(4), 2
    net.step(me, net.signed(FetchReply((), (), net.stable(2), 1)))
    net.step(me, net.view_change(1))
    assert [c.view for c in sent(ViewChange, net.step(me, net.view_change(3)))] == [1]


def test_9_the_timer_waits_for_a_quorum_of_view_changes_and_doubles():
    """Mistake 9: timer not doubled; storms of view changes. T, 2T, 4T, and T again after progress."""
    net, me = backup(4, me=3), 3
    net.step(me, net.request())
    delays = []
    for view in (1, 2, 4, 5):  # 3 would be led by the replica itself
        while net.replicas[me].view < view:
            net.timers[me].setdefault(VIEW, 0)
            net.fire(me, VIEW)
        assert VIEW not in net.timers[me]
        first = net.step(me, net.view_change(0, view))
        assert of(SetTimer, first) == []
        delays += [e.delay_ns for e in of(SetTimer, net.step(me, net.view_change(1, view))) if e.name == VIEW]
    timeout = net.config.view_change_timeout_ns
    assert delays == [timeout, 2 * timeout, 4 * timeout, 8 * timeout]
    changes = [net.view_change(i, 5) for i in (1, 0, 2)]
    net.step(me, net.new_view(changes, view=5))
    prepare_and_commit(net, me, net.batch(1), view=5)
    net.step(me, net.request(2))
    assert net.timers[me][VIEW] - net.now == timeout


def test_9_one_member_alone_cannot_force_a_view_change():
    """Mistake 9: fewer than f+1 ViewChanges move nobody."""
    net, me = backup(7), 2
    for view in (1, 5, 99):
        for liar in (5, 6):
            assert sent(ViewChange, net.step(me, net.view_change(liar, view))) == []
    assert net.replicas[me].view == 0


def test_9_a_retransmitted_new_view_does_not_open_the_view_again():
    """Mistake 9: nor do ViewChanges for the view that is open."""
    net, me = backup(4), 2
    changes = [net.view_change(i) for i in (1, 0, 3)]
    net.step(me, net.new_view(changes))
    batch = net.batch(1)
    net.step(me, net.pre_prepare(batch, view=1))
    assert of(Ignored, net.step(me, net.new_view(changes)))
    assert all(of(Ignored, net.step(me, change)) for change in changes)
    assert sent(Commit, net.step(me, net.prepare(0, batch.digest, view=1)))


# --- 12: joining ---


@pytest.mark.parametrize("n", WAYS)
def test_12_f_plus_1_view_changes_take_a_replica_along_to_the_smallest_view(n):
    """Mistake 12: f+1 join rule missing: a replica left behind in an old view forever."""
    net, me = backup(n), 2
    f = net.config.faults
    others = [i for i in range(n) if i != me]
    for k, other in enumerate(others[:f]):
        assert sent(ViewChange, net.step(me, net.view_change(other, 7 + k))) == []
    joined = sent(ViewChange, net.step(me, net.view_change(others[f], 5)))
    assert [change.view for change in joined] == [5]


def test_12_a_replica_that_slept_through_a_view_change_is_shown_the_new_view():
    """Mistake 12: also when the ViewChanges are long gone."""
    net, me = backup(4), 2
    net.step(me, net.new_view([net.view_change(i) for i in (1, 0, 3)]))
    questions = [net.signed(Status(0, False, 0, 0, 0, nonce, 3)) for nonce in range(1, 5)]
    shown = [m for status in questions for m in sent(NewView, net.step(me, status))]
    assert shown  # peers take turns, so not every time
    assert {m.view for m in shown} == {1}


@pytest.mark.parametrize("later", [{"seq": 9}, {"view": 1}], ids=["window", "view"])
def test_12_a_replica_that_others_have_left_behind_asks(later):
    """Mistake 12: somebody votes beyond my window, or in a view that I never entered: I may have missed something.
    Once for what was heard in one interval: a liar costs little, and whoever is ahead is heard again."""
    net, me = backup(4, checkpoint_interval=2, log_window=4), 2
    for _ in range(2):
        for _ in range(3):
            net.step(me, net.prepare(3, NULL_DIGEST, **later))
        assert len(sent(Status, net.fire(me, STATUS))) == 1
        assert sent(Status, net.fire(me, STATUS)) == []
    net.step(me, net.prepare(3, NULL_DIGEST, **later))
    net.step(me, net.new_view([net.view_change(i, stable=8) for i in (1, 0, 3)]))
    net.step(me, fetched(net, [net.decided(seq, net.batch(seq)) for seq in range(1, 9)]))
    net.fire(me, STATUS)
    assert sent(Status, net.fire(me, STATUS)) == []


def test_12_a_replica_that_restarts_is_answered_however_often_it_asked_before():
    """Mistake 12: a counter of questions that starts anew looks like a repetition to everybody else."""
    net = Network(4)
    net.step(0, net.request(1))
    net.settle()
    for net.now in range(10, 20):
        net.step(2, net.request(2))
        net.timers[2][STATUS] = 0
        net.fire(2, STATUS)
    net.settle()
    net.now = 10**9
    (status,) = sent(Status, net.restart(2))
    for i in (0, 1, 3):
        assert of(Ignored, net.step(i, status)) == []


# --- 15: fairness ---


def test_15_a_primary_that_serves_everybody_else_is_suspected():
    """Mistake 15: a Byzantine primary that starves one client: the timer watches the oldest request."""
    net, me = backup(4), 2
    net.step(me, net.request(1, client="shop"))
    deadline = net.timers[me][VIEW]
    for seq in range(1, 20):
        net.now = seq * net.config.view_change_timeout_ns // 20
        prepare_and_commit(net, me, net.batch(seq), seq)
        assert net.timers[me][VIEW] == deadline
    assert [c.view for c in sent(ViewChange, net.fire(me, VIEW))] == [1]


def test_15_the_next_primary_hears_of_the_starved_request_and_proposes_it():
    """Mistake 15: and it is executed in the next view."""
    net = Network(4)
    for i in (2, 3):
        net.step(i, net.request(1, client="shop"))
    net.bag.clear()  # the primary never proposes it
    for i in (2, 3):
        net.fire(i, VIEW)
    net.settle()
    assert [net.executed(i) for i in range(4)] == [[("shop", 1)]] * 4
    assert {replica.view for replica in net.replicas.values()} == {1}
