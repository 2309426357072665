"""Whoever was not there when the members changed: newcomers, restarts, replicas and clients that missed it."""

from __future__ import annotations

import pytest
from changing_members import EPOCH, Votes, agree, epochs, members, network
from left_behind import level
from msgspec.structs import replace
from replicas import Network, of, sent
from tradebft.consensus.client import Client
from tradebft.consensus.interface import (
    Answered,
    Broadcast,
    Committed,
    Evidence,
    Ignored,
    Send,
    SetTimer,
    Submit,
    TimerFired,
)
from tradebft.consensus.membership import Change, EpochProof, Membership, Standing, first_view, sizes
from tradebft.consensus.messages import (
    Checkpoint,
    EpochChange,
    FetchChunk,
    FetchReply,
    NewView,
    Prepare,
    Reply,
    Request,
    ViewChange,
    result_digest,
)
from tradebft.network.application import members_operation

# --- admission ---


def newcomer(net: Network, i: int) -> None:
    """Spare replica *i* comes up with an empty disk and asks until it is level."""
    net.add(i)
    net.catch_up(i, 20)


@pytest.mark.parametrize("interval", [0, 4], ids=["blocks", "snapshot"])
def test_somebody_new_comes_from_nothing_across_several_epochs(interval):
    net = network(snapshot_interval=interval)
    net.serve([1, 2, 3])
    for sequence, new in enumerate(
        (
            members(net, 0, 1, 2, 3, rekeyed=[0]),
            members(net, 1, 2, 3, rekeyed=[1]),
            members(net, 0, 1, 2, 3, rekeyed=[0, 1, 2]),
            members(net, 0, 1, 2, 3, 4, rekeyed=[0, 1, 2]),
        ),
        start=1,
    ):
        agree(net, new, sequence)
        net.serve(range(10 * sequence, 10 * sequence + 5))
        for i in range(4):  # 0 was away for one epoch
            net.catch_up(i)
    net.now += 1
    newcomer(net, 4)
    assert bool(net.installed[4]) is (interval > 0)
    assert epochs(net) == dict.fromkeys(range(5), 4)
    net.serve(range(60, 70), without={3})  # a quorum of five is four
    level(net, 0, 1, 2, 4)
    assert net.evidence == []


def test_somebody_new_that_waits_for_its_admission_takes_part_from_the_boundary_on():
    net = network()
    votes = Votes(net)
    net.serve([1])
    newcomer(net, 4)
    assert net.replicas[4].executed == 1
    assert "status" in net.timers[4]  # it goes on asking: nobody tells it anything by itself
    agree(net, members(net, 0, 1, 2, 3, 4))
    net.catch_up(4)
    net.serve(range(2, 10), without={3})
    level(net, 0, 1, 2, 4)
    votes.judge(net, 6)
    assert any(i == 4 for i, *_ in votes.seen)


def test_what_waits_when_an_epoch_begins_reaches_its_primary():
    """A backup told the last primary in vain: it does not blame the next one for what it never heard of."""
    net = network()
    for sequence in (1, 2, 3):
        net.step(3, net.request(sequence, client="shop"))
    net.bag.clear()  # what it passed on is lost
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[1]))
    assert set(epochs(net).values()) == {1}
    for i in range(4):
        assert sorted(net.executed(i)) == [("mill", 1), ("shop", 1), ("shop", 2), ("shop", 3)]
    assert "view-change" not in net.timers[3]


def test_from_one_to_seven_and_back():
    net = network(1, spare=6)
    for sequence, n in enumerate((2, 4, 7, 5, 3, 1), start=1):
        for i in range(n):
            if i not in net.replicas:
                net.add(i)
        agree(net, members(net, *range(n)), sequence)
        for i in range(n):
            net.catch_up(i, 20)
        net.serve(range(10 * sequence, 10 * sequence + 4))
        for i in range(n):
            net.catch_up(i, 20)
        level(net, *range(n))
        assert net.replicas[0].quorum == sizes(n)[1]
    assert net.evidence == []


# --- whoever missed it ---


def proven(net: Network) -> EpochProof:
    return net.replicas[0].epochs[0]


def forged(net: Network, how: str) -> EpochProof:
    """The end of epoch 0 as it was, with something wrong in it."""
    good = proven(net)
    certificate, standing = good.certificate, good.standing

    def about(other: Standing, voters=(0, 1, 2)) -> EpochProof:
        value = other.binds(good.state)
        made = net.certificate("Checkpoint", certificate.seq, value, voters)
        return EpochProof(made, good.state, other)

    usurped = Standing(standing.membership, (Change(6, members(net, 3, 4, 5)),))
    return {
        "too few votes": replace(good, certificate=replace(certificate, votes=certificate.votes[:2])),
        "a vote twice": replace(
            good, certificate=replace(certificate, votes=(*certificate.votes[:2], certificate.votes[0]))
        ),
        "votes by no members": about(standing, (0, 4, 5)),
        "other members follow": replace(good, standing=usurped),
        "other members follow, signed by too few": about(usurped, (3,)),
        "another state": replace(good, state=bytes(32)),
        "nothing was agreed": about(Standing(standing.membership, ())),
        "another boundary": about(Standing(standing.membership, (Change(8, members(net, 0, 1, 2)),))),
        "nobody follows": about(Standing(standing.membership, (Change(6, ()),))),
        "other members before": about(Standing(Membership(0, 0, members(net, 0, 1, 2)), standing.pending)),
        "no checkpoint": replace(
            good,
            certificate=net.certificate("Commit", certificate.seq, certificate.digest, (0, 1, 2)),
        ),
        "of a view": replace(
            good,
            certificate=net.certificate("Checkpoint", certificate.seq, certificate.digest, (0, 1, 2), view=1),
        ),
    }[how]


WRONG = [
    "too few votes",
    "a vote twice",
    "votes by no members",
    "other members follow",
    "other members follow, signed by too few",
    "another state",
    "nothing was agreed",
    "another boundary",
    "nobody follows",
    "other members before",
    "no checkpoint",
    "of a view",
]


@pytest.mark.parametrize("how", WRONG)
def test_an_end_of_an_epoch_that_nothing_proves_is_held_against_its_sender(how):
    net = network()
    agree(net, members(net, 0, 1, 2), without=[3])
    assert epochs(net) == {0: 1, 1: 1, 2: 1, 3: 0}
    wrong = net.signed(EpochChange((forged(net, how),), 2))
    effects = net.step(3, wrong)
    assert of(Evidence, effects) == [Evidence(2, "showed an end of epoch 0 that nothing proves")]
    assert (net.replicas[3].low, net.replicas[3].committee.epoch) == (0, 0)
    net.step(3, net.signed(EpochChange((proven(net),), 1)))
    net.catch_up(3)
    assert epochs(net)[3] == 1


def test_a_replica_that_missed_a_change_executes_up_to_the_boundary_first():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]), without=[3])
    replica = net.replicas[3]
    net.step(3, net.signed(EpochChange((proven(net),), 1)))
    assert (replica.low, replica.executed, replica.committee.epoch) == (6, 0, 0)  # it knows, and is not there
    assert replica.signer.public_key == net.keys[3][0]
    net.settle()
    assert (replica.executed, replica.committee.epoch) == (6, 1)
    assert replica.signer.public_key == net.keys[3][1]
    assert of(Ignored, net.step(3, net.signed(EpochChange((proven(net),), 1)))) == [
        Ignored("an epoch that this replica has left")
    ]


def test_the_last_execution_before_the_boundary_enters_the_epoch_that_was_proven_before():
    net = network()
    blocks = []
    net.watch = lambda i, e: blocks.append(e.decided) if i == 0 and isinstance(e, Committed) else None
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]), without=[3])
    net.step(3, net.signed(EpochChange((proven(net),), 1)))
    net.step(3, net.signed(FetchReply(tuple(blocks), (), None, 1)))
    assert (net.replicas[3].executed, net.replicas[3].committee.epoch) == (6, 1)


def test_votes_that_came_before_the_epoch_are_not_lost():
    """Replica 3 gets the last checkpoint votes after everything else: no timer of its own is needed."""
    net = network()
    for sequence, operation in ((1, members_operation(members(net, 0, 1, 2, 3, rekeyed=[0]))), (2, b"pay")):
        net.step(0, net.request(sequence, operation, "mill"))
    held = []
    for _ in range(10_000):
        if not net.bag:
            break
        to, message = net.bag.pop(0)
        if to == 3 and isinstance(message, Checkpoint) and message.seq == 6:
            held.append((to, message))
        else:
            net.step(to, message)
        if net.replicas[0].executed == 6 and not net.replicas[0].waiting.fresh:
            net.step(0, net.request(3, client="mill"))
    assert (net.replicas[0].executed, net.replicas[3].executed) == (7, 6)
    assert epochs(net) == {0: 1, 1: 1, 2: 1, 3: 0}
    net.bag = held
    net.settle()
    level(net, 0, 1, 2, 3)


def test_votes_of_a_later_epoch_tell_who_missed_it():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[0]), without=[3])
    net.serve([1], without=[3])
    vote = net.signed(Prepare(EPOCH, 8, b"d" * 32, 1))
    effects = net.step(3, vote)
    assert [e.name for e in of(SetTimer, effects)] == ["status"]
    net.catch_up(3)
    level(net, 0, 1, 2, 3)


# --- view changes in a later epoch ---


def test_a_view_change_in_a_later_epoch():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[1]))
    net.serve([1, 2])
    for i in (1, 2, 3):
        net.step(i, net.request(3))
        net.fire(i, "view-change")
    net.settle(without={0})
    assert [net.replicas[i].view for i in (1, 2, 3)] == [EPOCH + 1] * 3
    net.serve(range(4, 20), without={0})
    level(net, 1, 2, 3)
    net.catch_up(0)
    net.step(0, net.request(20))
    net.catch_up(0)
    level(net, 0, 1, 2, 3)
    assert net.evidence == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"view": EPOCH}, "ViewChange for a view that is over or open"),
        ({"view": 5}, "ViewChange for a view that is over or open"),
        ({"view": first_view(2) + 1}, "a change of view of another epoch"),
        ({"view": EPOCH + 1, "stable": 4}, "below 6, where the epoch began"),
        ({"view": EPOCH + 1, "stable": 8}, "shows no checkpoint certificate for 8"),
    ],
)
def test_view_changes_that_do_not_fit_the_epoch(change, what):
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    shown = net.signed(ViewChange(change["view"], change.get("stable", 6), None, (), 1))
    effects = net.step(2, shown)
    assert any(what in getattr(e, "what", getattr(e, "why", "")) for e in effects), effects


def test_a_new_view_of_the_epoch_before_opens_nothing():
    net = network()
    changes = [net.view_change(i) for i in (0, 1, 2)]
    stale = net.new_view(changes)
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    assert net.step(2, stale) == [Ignored("NewView for a view that is over or open")]
    early = net.signed(NewView(first_view(2) + 1, (), (), 1))
    assert net.step(2, early)[0] == Ignored("a change of view of another epoch")
    assert net.replicas[2].view == EPOCH


# --- restarts ---


@pytest.mark.parametrize("interval", [0, 4], ids=["blocks", "snapshots"])
@pytest.mark.parametrize("who", [0, 1, 3], ids=["leader", "backup", "rekeyed"])
@pytest.mark.parametrize("at", range(1, 16))
def test_a_restart_anywhere_around_two_boundaries(at, who, interval):
    """Changes are asked for in steps 3 and 10; a step ends when one more batch is executed at replica 2."""
    net = network(snapshot_interval=interval)
    votes = Votes(net)
    plans = {3: members(net, 0, 1, 2, 3, rekeyed=[3]), 10: members(net, 0, 1, 2, 3, rekeyed=[1, 3])}
    for step in range(1, 22):
        if step == at:
            net.restart(who)
        before = net.replicas[2].executed
        operation = members_operation(plans[step]) if step in plans else b"pay"
        for i in range(4):
            net.step(i, net.request(step, operation))
        while net.bag and net.replicas[2].executed == before:
            net.deliver()
    for _ in range(3):
        net.settle()
        for i in range(4):
            net.catch_up(i, 1)
    votes.judge(net)
    assert epochs(net) == dict.fromkeys(range(4), 2)
    level(net, 0, 1, 2, 3)
    assert len(net.replicas[0].waiting) == 0
    assert net.evidence == []


@pytest.mark.parametrize("interval", [0, 2], ids=["blocks", "snapshots"])
def test_a_vote_of_a_new_epoch_is_not_contradicted_after_a_restart(interval):
    net = network(snapshot_interval=interval)
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    Votes(net)
    first, second = (net.pre_prepare(net.batch(k, client="shop"), 7, EPOCH, replica=0) for k in (1, 2))
    assert sent(Prepare, net.step(1, first))
    net.bag.clear()
    net.restart(1)
    assert epochs(net)[1] == 1
    net.step(1, second)
    assert net.replicas[1].slots[7].digest == first.digest


@pytest.mark.parametrize("interval", [0, 2], ids=["blocks", "snapshots"])
def test_a_power_cut_in_a_later_view_of_a_later_epoch(interval):
    net = network(snapshot_interval=interval)
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[1]))
    for i in (1, 2, 3):
        net.step(i, net.request(2))
        net.fire(i, "view-change")
    net.settle(without={0})
    net.bag.clear()
    for i in range(4):
        net.restart(i)
    assert [net.replicas[i].view for i in (1, 2, 3)] == [EPOCH + 1] * 3
    net.settle()
    net.catch_up(0)
    net.serve(range(3, 12))
    level(net, 0, 1, 2, 3)
    assert net.evidence == []


# --- a snapshot of a later epoch ---


def two_epochs_on() -> Network:
    """Replica 3 missed two changes of members, and the blocks up to them are gone."""
    net = network(snapshot_interval=4)
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[0]), 1, without=[3])
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[0, 1]), 2, without=[3])
    net.serve(range(1, 12), without={3})
    assert epochs(net) == {0: 2, 1: 2, 2: 2, 3: 0}
    return net


@pytest.mark.parametrize("how", ["without proofs", "one proof missing", "in the wrong order", "a forged one"])
def test_a_snapshot_of_a_later_epoch_needs_every_change_until_then(how):
    net = two_epochs_on()
    good = net.replicas[2].snapshot_head()
    first, second = good.epochs
    usurped = replace(first, certificate=replace(first.certificate, votes=first.certificate.votes[:2]))
    shown = {
        "without proofs": (),
        "one proof missing": (first,),
        "in the wrong order": (second, first),
        "a forged one": (usurped, second),
    }[how]
    effects = net.step(3, net.signed(replace(good, epochs=shown), running=2))
    assert [e.culprit for e in of(Evidence, effects)] == [2]
    assert sent(FetchChunk, effects) == []
    net.step(3, good)
    net.settle()
    net.catch_up(3)
    assert net.installed[3]
    level(net, 0, 1, 2, 3)
    assert net.replicas[3].epochs == net.replicas[0].epochs


def test_a_restart_after_a_snapshot_of_a_later_epoch():
    net = two_epochs_on()
    net.step(3, net.replicas[2].snapshot_head())
    net.settle()
    net.restart(3)
    assert epochs(net)[3] == 2
    net.settle()
    net.serve(range(20, 30), without={2})
    level(net, 0, 1, 3)


# --- clients ---


def client_of(net: Network) -> Client:
    client = Client("bank", net.config, net.signers["bank"], net.announced, 10**9)
    (sends, *_) = client.step(0, Submit(b"pay", 7))
    assert isinstance(sends, Send)
    return client


def test_before_its_first_answer_in_an_epoch_a_client_is_told_who_the_members_are():
    net = network()
    net.serve([1])
    agree(net, members(net, 1, 2, 3, 4))
    kinds = []
    net.watch = lambda i, e: (
        kinds.append((i, type(e.message))) if isinstance(e, Send) and e.to == "bank" else None
    )
    net.serve([2, 3])
    for i in (1, 2, 3):
        assert [kind for j, kind in kinds if j == i] == [EpochChange, Reply, Reply]


def test_a_client_follows_and_asks_the_new_members():
    net = network()
    agree(net, members(net, 1, 2, 3, 4))
    client = client_of(net)
    told = net.signed(EpochChange(tuple(net.replicas[1].epochs), 1))
    assert client.step(1, told) == ()
    assert (client.committee.epoch, client.committee.indices, client.view) == (1, (1, 2, 3, 4), EPOCH)
    again = client.step(10**10, TimerFired("retry"))
    (everybody,) = of(Broadcast, again)
    assert everybody.to == (1, 2, 3, 4)
    (first, *_) = client.step(10**10, Submit(b"pay", 8))
    assert (first.to, type(first.message)) == (1, Request)
    assert client.step(1, told) == ()  # a second copy


@pytest.mark.parametrize("how", WRONG)
def test_a_client_does_not_follow_what_nothing_proves(how):
    net = network()
    agree(net, members(net, 0, 1, 2), without=[3])
    client = client_of(net)
    effects = client.step(1, net.signed(EpochChange((forged(net, how),), 2)))
    assert of(Evidence, effects) == [Evidence(2, "showed an end of epoch 0 that nothing proves")]
    assert client.committee.epoch == 0


def reply(net: Network, i: int, result: bytes, view: int, running: int | None = None) -> Reply:
    return net.signed(Reply(view, "bank", 1, i, 7, result_digest(result), result), running=running)


def test_a_client_does_not_count_replies_of_those_who_are_no_members():
    net = network()
    agree(net, members(net, 1, 2, 3, 4))
    client = client_of(net)
    client.step(1, net.signed(EpochChange(tuple(net.replicas[1].epochs), 1)))
    for liar in (0, 5, 4):
        assert of(Answered, client.step(1, reply(net, liar, b"lie", EPOCH))) == []
    assert of(Answered, client.step(1, reply(net, 1, b"yes", EPOCH))) == []
    (answered,) = of(Answered, client.step(1, reply(net, 2, b"yes", EPOCH)))
    assert answered.result == b"yes"


def test_a_client_does_not_count_replies_under_a_key_that_is_over():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    client = client_of(net)
    client.step(1, net.signed(EpochChange(tuple(net.replicas[1].epochs), 1)))
    assert of(Answered, client.step(1, reply(net, 2, b"lie", EPOCH))) == []
    for view in (EPOCH, 0):
        assert of(Answered, client.step(1, reply(net, 3, b"lie", view))) == []
    (answered,) = of(Answered, client.step(1, reply(net, 3, b"lie", EPOCH, running=3)))
    assert answered.result == b"lie"
