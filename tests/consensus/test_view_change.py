"""View changes (OSDI 1999, sections 4.4 and 4.5.2), as replicas live through them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from replicas import Network, of, sent
from tradebft.consensus.interface import Broadcast, Committed, Evidence, Ignored, Persist, Send
from tradebft.consensus.messages import Fetch, FetchReply, NewView, Prepare, PrePrepare, Request, ViewChange

S = 1_000_000_000
VIEW, STATUS = "view-change", "status"


def settle(net: Network, only: Iterable[type] = (), lost: Iterable[int] = ()) -> None:
    """Deliver in order of sending: what goes to *lost*, and with *only* all other kinds, vanishes."""
    kinds = tuple(only)
    while net.bag:
        to, message = net.bag.pop(0)
        if to in net.replicas and to not in lost and (not kinds or isinstance(message, kinds)):
            net.step(to, message)


def everybody_suspects(net: Network) -> None:
    for i in net.running:
        net.fire(i, VIEW)


def asked(net: Network, sequence: int) -> None:
    """The client asks everybody that runs."""
    for i in net.running:
        net.step(i, net.request(sequence))


# --- what survives ---


def test_what_one_replica_committed_survives_the_primarys_death():
    """Only replica 1 saw a quorum of Commits; the others must come to the same batch at the same place."""
    net = Network()
    net.step(0, net.request(1))
    while not net.history(1):
        place = next(i for i, (to, m) in enumerate(net.bag) if to == 1 or isinstance(m, PrePrepare | Prepare))
        net.deliver(place)
    assert [len(net.history(i)) for i in range(4)] == [0, 1, 0, 0]
    net.bag.clear()
    del net.replicas[0]
    net.running = [1, 2, 3]
    everybody_suspects(net)
    settle(net)
    assert net.history(2) == net.history(3) == net.history(1)


def test_what_was_prepared_survives_a_second_view_change_in_a_row():
    """Prepared in view 0; view 1 opens, its primary dies before anything is prepared there; view 2 carries it still."""
    net = Network(7)
    net.step(0, net.request(1))
    settle(net, only=[PrePrepare, Prepare])
    for gone in (0, 1):
        del net.replicas[gone]
        net.running.remove(gone)
        if gone == 0:
            everybody_suspects(net)
            settle(net, only=[ViewChange, NewView])
            assert {net.replicas[i].view for i in net.running} == {1}
    everybody_suspects(net)
    settle(net, only=[ViewChange])
    (opened,) = [r for r in net.disks[2] if isinstance(r, NewView) and r.view == 2]
    assert [len(change.prepared) for change in opened.view_changes] == [1] * 5
    for i in net.running:
        net.fire(i, STATUS)
    settle(net)
    for i in net.running:
        net.fire(i, STATUS)
    settle(net)
    assert {len(net.executed(i)) for i in net.running} == {1}


def test_a_restart_between_two_views_forgets_neither():
    """A backup voted in view 1, restarts, and is still in view 1: the NewView was on its disk before its votes left."""
    net = Network(running=[2])
    changes = [net.view_change(i) for i in (1, 0, 3)]
    effects = list(net.step(2, net.new_view(changes)))
    assert isinstance(effects[0], Persist)
    net.restart(2)
    me = net.replicas[2]
    assert (me.view, me.changing, me.primary) == (1, False, 1)
    assert not sent(Prepare, net.step(2, net.pre_prepare(net.batch(1), view=0)))
    assert sent(Prepare, net.step(2, net.pre_prepare(net.batch(1), view=1)))


def test_requests_that_only_backups_know_reach_the_new_primary_and_follow_its_new_view_at_once():
    net = Network(running=[1, 2, 3])
    net.step(2, net.request(1))
    net.step(1, net.request(2))
    net.fire(2, VIEW)
    effects = [e for i in (1, 2, 3) for e in net.fire(i, VIEW)]
    assert sent(ViewChange, effects)
    opening = []
    while not opening:
        opening = net.deliver()
        opening = opening if sent(NewView, opening) else []
    order = [type(e.message) for e in of(Broadcast, opening)]
    assert order.index(PrePrepare) == order.index(NewView) + 1
    settle(net)
    for i in (1, 2, 3):
        assert sorted(net.executed(i)) == [("bank", 1), ("bank", 2)]


# --- the new primary ---


def test_a_new_primary_goes_on_where_the_old_one_stopped():
    """The next sequence is one above what is carried over: not reused, not skipped."""
    net = Network(batch_size=1)
    for sequence in (1, 2, 3):
        net.step(0, net.request(sequence))
    settle(net)
    del net.replicas[0]
    net.running = [1, 2, 3]
    asked(net, 4)
    everybody_suspects(net)
    settle(net)
    assert net.executed(2) == [("bank", s) for s in (1, 2, 3, 4)]
    assert len(net.history(2)) == 4


def test_a_new_primary_with_nothing_to_carry_starts_at_the_beginning():
    net = Network(running=[1, 2, 3])
    asked(net, 1)
    everybody_suspects(net)
    settle(net)
    assert [p.seq for p in (r for r in net.disks[2] if isinstance(r, PrePrepare))] == [1]


def test_a_new_primary_that_lacks_a_body_fetches_it_before_it_proposes():
    net = Network(running=[1])
    batch = net.batch(1)
    net.step(1, net.request(2))
    net.fire(1, VIEW)
    net.step(1, net.view_change(2, prepared=[net.prepared(1, batch.digest, voters=[2, 3])]))
    effects = net.step(1, net.view_change(3))
    assert [f.digest for f in sent(Fetch, effects)] == [batch.digest]
    assert not sent(PrePrepare, effects)
    effects = net.step(1, net.signed(FetchReply((), (batch,), None, 3)))
    assert [p.seq for p in sent(PrePrepare, effects)] == [2]


def test_a_request_in_a_batch_that_is_carried_over_is_not_proposed_again():
    net = Network()
    net.step(1, net.request(1))  # the next primary knows it as a request, too
    settle(net, only=[Request, PrePrepare, Prepare])
    del net.replicas[0]
    net.running = [1, 2, 3]
    everybody_suspects(net)
    settle(net)
    assert {len(net.history(i)) for i in (1, 2, 3)} == {1}
    assert net.executed(2) == [("bank", 1)]


def test_a_carried_request_of_which_the_new_primary_hears_only_then_is_not_proposed_again():
    """Backups would have executed it by then, and refuse the batch: another change of view, of an honest primary."""
    net = Network()
    net.step(0, net.request(1))
    settle(net, only=[PrePrepare, Prepare])
    everybody_suspects(net)
    settle(net, only=[ViewChange])
    primary = net.replicas[1]
    assert primary.is_primary
    assert sent(PrePrepare, net.step(1, net.request(1))) == []  # its client asks everybody
    net.step(2, next(record for record in net.disks[1] if isinstance(record, NewView)))
    for i in (0, 3):
        net.catch_up(i, rounds=2)
    settle(net)
    assert net.executed(1) == [("bank", 1)]
    assert len(primary.waiting) == 0


def test_a_primary_that_restarts_proposes_nothing_once_more():
    net = Network()
    net.step(0, net.request(1))
    net.bag.clear()
    net.restart(0)
    assert sent(PrePrepare, net.step(0, net.request(1))) == []
    for i in (1, 2, 3):
        net.step(i, net.request(1))
        net.catch_up(i, rounds=2)
    assert net.executed(0) == [("bank", 1)]
    assert len(net.replicas[0].waiting) == 0


def test_an_abandoned_proposal_leaves_its_requests_to_be_proposed_again():
    """s1 reached nobody; its requests wait at the new primary, and the old digest is worth nothing."""
    net = Network()
    net.step(0, net.request(1))
    net.bag.clear()
    del net.replicas[0]
    net.running = [1, 2, 3]
    asked(net, 1)
    everybody_suspects(net)
    settle(net)
    assert net.executed(3) == [("bank", 1)]


def test_a_proposal_that_only_the_next_primary_saw_is_abandoned_and_its_request_proposed_again():
    """Nobody prepared it, so the view carries nothing; at the new primary the request counts as waiting once more."""
    net = Network()
    net.step(1, net.request(1))
    settle(net, only=[Request, PrePrepare], lost=[2, 3])
    assert net.replicas[1].waiting.fresh == 0
    del net.replicas[0]
    net.running = [1, 2, 3]
    net.fire(1, VIEW)
    for i in (2, 3):
        net.step(i, net.view_change(0))
    settle(net)
    assert {len(net.executed(i)) for i in (1, 2, 3)} == {1}


@pytest.mark.parametrize("silent", [3, 2])
def test_all_that_waits_at_a_backup_reaches_the_new_primary(silent):
    """A batch at a time, as it has time for them: else the backup would blame it for what it never heard of, alone, and
    take no part from then on.
    """
    net = Network(batch_size=2)
    asked(net, 1)
    everybody_suspects(net)
    for sequence in range(1, 8):  # of a client that knows one member only
        net.step(silent, net.request(sequence, client="shop"))
    assert len(net.replicas[silent].waiting) == 8
    settle(net)
    for i in net.running:
        assert sorted(net.executed(i)) == [("bank", 1), *(("shop", k) for k in range(1, 8))]
        assert VIEW not in net.timers[i]


def test_what_is_passed_on_is_what_the_new_view_does_not_propose_and_each_once():
    net = Network(batch_size=2)
    net.step(0, net.request(1))
    settle(net, only=[PrePrepare, Prepare])  # the NewView will carry it
    for sequence in (1, 2, 3, 4):
        net.step(3, net.request(sequence))
    net.bag.clear()
    everybody_suspects(net)
    settle(net, only=[ViewChange])
    (opened,) = [record for record in net.disks[1] if isinstance(record, NewView)]
    assert passed_on(net.step(3, opened)) == [(1, 2), (1, 3)]
    for i in (0, 2):
        net.step(i, opened)
    net.bag = [(to, m) for to, m in net.bag if not isinstance(m, Request)]  # they are lost
    effects: list[object] = []
    while net.bag:
        to, message = net.bag.pop(0)
        effects += [effect for effect in net.step(to, message) if to == 3]
    assert net.executed(3) == [("bank", 1), ("bank", 4)]
    assert passed_on(effects) == [(1, 4)]


def passed_on(effects: Iterable[object]) -> list[tuple[object, int]]:
    """To whom, and the sequence."""
    return [(e.to, e.message.sequence) for e in of(Send, effects) if isinstance(e.message, Request)]


# --- whose request is watched ---


def test_the_timer_moves_to_the_oldest_that_still_waits_and_stays_with_it():
    """Three clients wait. When the first is served the second is watched; to serve the third does not help then."""
    net = Network(batch_size=1)
    for client in ("bank", "shop", "mill"):
        net.step(1, net.request(1, client=client))
    net.bag.clear()

    def serve(client: str) -> None:
        net.now += S // 10
        net.step(0, net.request(1, client=client))
        settle(net)

    assert net.timers[1][VIEW] == S
    serve("bank")
    assert net.timers[1][VIEW] == S + S // 10
    serve("mill")
    assert net.timers[1][VIEW] == S + S // 10
    serve("shop")
    assert VIEW not in net.timers[1]


# --- who leaves a view has left it ---


def test_who_asks_for_the_next_view_takes_no_part_in_the_old_one():
    net = Network(running=[1])
    batch = net.batch(1)
    net.step(1, net.pre_prepare(batch))
    net.fire(1, VIEW)
    for voter in (2, 3):
        assert not of(Broadcast, net.step(1, net.prepare(voter, batch.digest)))
        assert not of(Committed, net.step(1, net.commit(voter, batch.digest)))
    assert not of(Broadcast, net.step(1, net.pre_prepare(net.batch(2), seq=2)))
    assert not net.history(1)


def test_the_next_primary_is_not_voted_for_before_its_new_view_is_here():
    """What it proposes waits: without its NewView nobody knows what it would have had to carry over."""
    net = Network(running=[2])
    net.step(2, net.request(1))
    net.fire(2, VIEW)
    batch = net.batch(1)
    assert not sent(Prepare, net.step(2, net.pre_prepare(batch, view=1)))
    effects = net.step(2, net.new_view([net.view_change(i) for i in (1, 2, 3)]))
    assert [(vote.view, vote.digest) for vote in sent(Prepare, effects)] == [(1, batch.digest)]


def test_a_primary_that_leaves_its_view_proposes_nothing_when_its_batch_is_due():
    net = Network(batch_timeout_ns=S // 100, running=[0])
    net.step(0, net.request(1))
    assert "batch" in net.timers[0]
    for i in (1, 2):
        net.step(0, net.view_change(i))
    assert net.replicas[0].changing
    assert "batch" not in net.timers[0]


def test_blocks_are_executed_also_between_two_views():
    """Catching up does not wait for the view change, and the view change does not forget it."""
    net = Network(running=[3])
    net.step(3, net.request(5))
    net.fire(3, VIEW)
    block = net.decided(1, net.batch(1))
    net.step(3, net.signed(FetchReply((block,), (), None, 1)))
    assert net.executed(3) == [("bank", 1)]
    assert net.replicas[3].changing


def test_a_second_view_change_by_one_member_for_one_view_is_not_counted():
    net = Network(7, running=[1])
    net.step(1, net.request(1))
    net.fire(1, VIEW)
    for _ in range(9):
        net.step(1, net.view_change(2))
        net.step(1, net.view_change(3))
    assert net.replicas[1].changing
    net.step(1, net.view_change(4))
    assert net.replicas[1].changing, "1, 2, 3, 4 are four of the five that it takes"
    net.step(1, net.view_change(5))
    assert not net.replicas[1].changing


def test_a_view_change_that_is_known_is_not_verified_again():
    """Its certificates are the largest thing that a stranger can make a replica check."""
    net = Network(running=[2])
    for view in (5, 5, 4):
        effects = net.step(2, net.view_change(3, view))
    assert [type(effect) for effect in effects] == [Ignored]


def test_view_changes_for_different_views_are_not_added_up():
    net = Network(7, running=[1])
    net.step(1, net.request(1))
    net.fire(1, VIEW)
    for voter, view in ((2, 1), (3, 1), (4, 8), (5, 15)):
        net.step(1, net.view_change(voter, view))
    assert (net.replicas[1].view, net.replicas[1].changing) == (1, True)


# --- how long it takes, and how much is said ---


def test_dead_primaries_one_after_another_cost_doubling_timeouts():
    """k dead primaries: T, then T1, 2 T1, 4 T1, ... with T = T1, counted from the request; no delay on the links."""
    for dead, due in ((1, 1), (2, 1 + 1), (3, 1 + 1 + 2), (4, 1 + 1 + 2 + 4)):
        net = Network(13, running=range(dead, 13))
        asked(net, 1)
        while not net.history(12):
            settle(net)
            waiting = [t[VIEW] for t in net.timers.values() if VIEW in t]
            if net.history(12) or not waiting:
                break
            net.now = min(waiting)
            for i in net.running:
                if net.timers[i].get(VIEW) == net.now:
                    net.fire(i, VIEW)
        assert net.executed(12) == [("bank", 1)]
        assert net.now == due * S, (dead, net.now)
        assert net.replicas[12].view == dead


@pytest.mark.parametrize(("n", "dead"), [(4, 1), (7, 1), (7, 2), (10, 3)])
def test_messages_of_a_view_change(n, dead):
    """k (n-k) (n-1) ViewChanges and n-1 NewViews: all who live ask once for every view."""
    net = Network(n, running=range(dead, n))
    counts: Counter[str] = Counter()

    def watch(i, effect):
        if isinstance(effect, Broadcast):
            counts[type(effect.message).__name__] += n - 1

    net.watch = watch
    asked(net, 1)
    net.bag.clear()
    for _ in range(dead):
        everybody_suspects(net)
        settle(net)
    assert counts["ViewChange"] == dead * (n - dead) * (n - 1)
    assert counts["NewView"] == n - 1
    assert net.executed(n - 1) == [("bank", 1)]


def test_the_timeout_is_short_again_after_progress():
    """Two dead primaries made it long. Once a request executes, the next one is waited for as briefly as the first."""
    net = Network(7, running=[1, 3, 4, 5, 6])
    del net.replicas[1]  # its ViewChanges are still made by hand
    net.running = [3, 4, 5, 6]

    def change_to(view: int) -> None:
        asked(net, view)
        everybody_suspects(net)
        for i in net.running:
            net.step(i, net.view_change(1, view))
        settle(net, only=[ViewChange])

    def patience() -> set[int]:
        return {net.timers[i][VIEW] - net.now for i in (4, 5, 6) if VIEW in net.timers[i]}

    change_to(1)
    assert patience() == {1 * S}
    change_to(2)
    assert patience() == {2 * S}
    everybody_suspects(net)
    for i in net.running:
        net.step(i, net.view_change(1, 3))
    settle(net)
    assert not net.executed(6), "four of seven are no quorum for a decision"
    net.replicas[2] = net._fresh(2)
    for book in (net.disks, net.blocks):
        book[2] = []
    net.roots[2], net.timers[2] = bytes(32), {}
    net.running = [2, 3, 4, 5, 6]
    for _ in range(3):
        for i in net.running:
            net.fire(i, STATUS)
        settle(net)
    assert {len(net.executed(i)) for i in net.running} == {2}
    del net.replicas[3]
    net.running = [2, 4, 5, 6]
    change_to(4)
    assert patience() <= {1 * S}
    assert patience()


def test_a_new_primary_that_stays_silent_after_its_new_view_is_left_as_well():
    net = Network(running=[0, 2, 3])
    for i in (2, 3):
        net.step(i, net.request(1))
    net.bag.clear()
    for i in (0, 2, 3):
        net.step(i, net.new_view([net.view_change(who) for who in (1, 2, 3)]))
    assert all(VIEW in net.timers[i] for i in (2, 3))
    everybody_suspects(net)
    settle(net)
    assert {net.replicas[i].view for i in net.running} == {2}
    assert net.executed(3) == [("bank", 1)]


def test_a_view_change_with_nothing_waiting_leaves_no_timer_behind():
    net = Network(running=[2])
    net.step(2, net.view_change(0))
    net.step(2, net.view_change(3))
    net.step(2, net.view_change(1))
    assert VIEW in net.timers[2]
    net.step(2, net.new_view([net.view_change(i) for i in (1, 0, 3)]))
    assert VIEW not in net.timers[2]


def test_nothing_honest_is_taken_for_misbehaviour_in_a_view_change():
    net = Network(7, checkpoint_interval=2, log_window=4, batch_size=1)
    for sequence in range(1, 6):
        net.step(0, net.request(sequence))
    settle(net)
    for _ in range(3):
        asked(net, 6)
        net.bag = [(to, m) for to, m in net.bag if not isinstance(m, Request)]
        everybody_suspects(net)
        settle(net)
    assert not of(Evidence, [e for _, e in net.evidence])
