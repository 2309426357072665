"""Changes of the members: when they take effect, who is believed in which epoch, and how one learns of it later."""

from __future__ import annotations

import pytest
from changing_members import EPOCH, Votes, agree, epochs, members, network
from hypothesis import given
from hypothesis import strategies as st
from left_behind import level
from msgspec.structs import replace
from replicas import Network, of, sent
from tradebft.chain.crypto import Wallet
from tradebft.consensus.interface import Broadcast, Committed, Evidence, Executed, Ignored, SetTimer
from tradebft.consensus.membership import (
    Change,
    Committee,
    Members,
    Membership,
    first_view,
    genesis,
    plausible,
    scheduled,
    sizes,
)
from tradebft.consensus.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Checkpoint,
    Commit,
    FetchReply,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
)
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.view_change import fault_of_view_change
from tradebft.network.application import members_operation

# --- arithmetic ---

KEYS = ((0, b""), (1, b""), (2, b"")), ((0, b""), (1, b"k" * 32)), ((7, b""),)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(KEYS)), max_size=20),
    st.integers(1, 8),
    st.integers(1, 24),
)
def test_boundaries_are_checkpoints_a_window_away_and_in_order(agreed, k, more):
    """Against the definition: the first multiple of K at or after s + L; changes at one boundary become one."""
    window, seq = k + more, 0
    pending: tuple[Change, ...] = ()
    model: dict[int, Members] = {}
    for wait, new in agreed:
        seq += wait
        pending = tuple(change for change in pending if change.boundary >= seq)  # the others took effect
        model = {boundary: who for boundary, who in model.items() if boundary >= seq}
        pending = scheduled(pending, seq, new, k, window)
        boundary = next(b for b in range(seq + window, seq + window + k) if b % k == 0)
        model[boundary] = new
        assert [(c.boundary, c.members) for c in pending] == sorted(model.items())


def test_a_change_agreed_after_another_never_takes_effect_before_it():
    """Only a window that shrinks could bring that about; the order of agreement must win all the same."""
    earlier = (Change(20, KEYS[0]),)
    assert scheduled(earlier, 1, KEYS[1], 2, 4) == (Change(20, KEYS[1]),)


@pytest.mark.parametrize(
    "bad",
    [
        (),
        ((1, b""), (0, b"")),
        ((0, b""), (0, b"")),
        ((-1, b""), (0, b"")),
        tuple((i, b"") for i in range(10_001)),
        [(0, b"")],
        None,
    ],
    ids=["nobody", "out of order", "one twice", "negative", "too many", "a list", "None"],
)
def test_what_cannot_be_members(bad):
    assert not plausible(bad)


def test_sizes_and_primaries_of_members_that_are_not_numbered_through():
    net = network()
    five = ((1, b""), (2, b""), (4, b""), (5, b""), (8, b""))
    committee = Committee(Membership(3, 40, five), b"tradebft", net.keyring)
    assert (committee.n, committee.faults, committee.quorum) == (5, 1, 4)
    assert [committee.primary(first_view(3) + v) for v in range(6)] == [1, 2, 4, 5, 8, 1]
    assert [committee.position(i) for i in (1, 2, 4, 5, 8, 0, 9)] == [0, 1, 2, 3, 4, 5, 5]
    assert [i in committee for i in (0, 1, 8, "bank")] == [False, True, True, False]


@given(st.integers(1, 400))
def test_two_quorums_share_more_than_the_faulty(n):
    faults, quorum = sizes(n)
    assert 3 * faults < n <= 3 * faults + 3
    assert 2 * quorum - n > faults  # an honest one is in both
    assert quorum <= n - faults  # the honest ones are one


# --- the boundary ---


def test_a_change_takes_effect_at_its_boundary_and_nobody_votes_beyond_it_before():
    net = network()
    votes = Votes(net)
    net.serve([1, 2])
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))  # at 3: 3 + 4 = 7, so 8
    net.serve(range(3, 20))
    assert epochs(net) == dict.fromkeys(range(4), 1)
    votes.judge(net, 8)
    level(net, 0, 1, 2, 3)
    (proof,) = net.replicas[0].epochs
    assert proof.certificate.seq == 8
    assert net.replicas[3].signer.public_key == net.keys[3][1]


def test_null_batches_lead_an_idle_network_to_the_boundary_and_no_further():
    net = network()
    agree(net, members(net, 0, 1, 2))
    assert epochs(net) == dict.fromkeys(range(4), 1)
    assert [net.replicas[i].executed for i in range(4)] == [6] * 4
    assert net.history(0)[1:] == [NULL_DIGEST] * 5
    assert net.bag == []
    assert all("view-change" not in timers for timers in net.timers.values())


def test_requests_come_before_null_batches():
    net = network()
    for sequence in range(1, 9):
        net.step(0, net.request(sequence))
    agree(net, members(net, 0, 1, 2))
    assert (
        net.history(0)[9:] == [NULL_DIGEST] * 5
    )  # eight requests and the change at 9; from 10 to 14 nothing waits
    assert NULL_DIGEST not in net.history(0)[:9]


def test_agreeing_on_the_members_that_there_are_changes_nothing():
    net = network()
    agree(net, genesis(4).members)
    assert net.replicas[0].pending == ()
    assert net.replicas[0].executed == 1


def test_a_second_change_before_the_first_takes_effect_follows_at_its_own_boundary():
    net = network(log_window=8)
    votes = Votes(net)
    plans = {1: members(net, 0, 1, 2), 3: members(net, 0, 1, 2, 3, rekeyed=[3])}
    for seq in (1, 2, 3, 4):
        operation = members_operation(plans[seq]) if seq in plans else b"pay"
        net.step(0, net.request(seq, operation, "mill"))
    net.settle()
    net.serve(range(1, 12))
    votes.judge(net, 10, 12)
    assert [proof.standing.membership.epoch for proof in net.replicas[1].epochs] == [0, 1]
    net.catch_up(3)  # it was no member from 11 to 12
    level(net, 0, 1, 2, 3)
    assert not any(i == 3 and seq in (11, 12) for i, _, _, seq in votes.seen)


def test_changes_with_the_same_boundary_are_one_and_the_later_one_holds():
    net = network(log_window=8)
    for sequence, new in ((1, members(net, 0, 1, 2)), (2, members(net, 0, 1, 2, 3, rekeyed=[3]))):
        net.step(0, net.request(sequence, members_operation(new), "mill"))
    net.settle()
    (proof,) = net.replicas[0].epochs
    assert (proof.certificate.seq, proof.standing.next.members) == (10, members(net, 0, 1, 2, 3, rekeyed=[3]))


def test_taking_a_change_back_makes_an_epoch_with_the_same_members():
    """Whoever voted under it may have relied on it: the boundary stays."""
    net = network(log_window=8)
    for sequence, new in ((1, members(net, 0, 1, 2)), (2, genesis(4).members)):
        net.step(0, net.request(sequence, members_operation(new), "mill"))
    net.settle()
    assert epochs(net) == dict.fromkeys(range(4), 1)
    net.serve(range(1, 9))
    level(net, 0, 1, 2, 3)


def slow_application(net: Network, new: Members) -> tuple[Replica, list[Executed]]:
    """Replica 1, with all up to the boundary handed to an application that has not answered; the answers.

    The first batch agrees on *new*; a quorum of the others has signed the checkpoint there.
    """
    blocks = []
    net.watch = lambda i, e: blocks.append(e.decided) if i == 0 and isinstance(e, Committed) else None
    agree(net, new, without=[1])
    replica = net.replicas[1]
    replica.step(0, net.signed(FetchReply(tuple(blocks), (), net.replicas[0].stable, 0)))
    assert replica.executed == len(blocks)
    return replica, [executed for _, executed in net.blocks[0]]


def test_a_replica_that_executes_late_learns_of_a_boundary_below_its_window():
    """It may have voted beyond the boundary by then. A quorum cannot: q signed a checkpoint after the change."""
    net = network()
    replica, answers = slow_application(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    assert (replica.low, replica.high) == (6, 10)
    assert sent(Prepare, replica.step(0, net.pre_prepare(net.batch(1), 7)))
    replica.step(0, answers[0])
    assert replica.high == 6
    assert sent(Prepare, replica.step(0, net.pre_prepare(net.batch(2), 8))) == []
    for answer in answers[1:]:
        replica.step(0, answer)
    assert (replica.committee.epoch, replica.slots, replica.high) == (1, {}, 10)
    proposal = net.pre_prepare(net.batch(3), 7, EPOCH, replica=0)
    assert sent(Prepare, replica.step(0, proposal))  # nothing of the other epoch stands in its way


def test_a_proposal_beyond_the_boundary_is_made_again_by_the_first_leader_of_the_epoch():
    net = network()
    replica, answers = slow_application(net, members(net, 1, 2, 3))
    replica.step(0, net.request(1))
    replica.step(
        0, net.pre_prepare(net.batch(1), 7)
    )  # the leader of the epoch before was as late as this one
    assert (len(replica.waiting), replica.waiting.fresh) == (1, 0)
    effects = [e for answer in answers for e in replica.step(0, answer)]
    (proposal,) = sent(PrePrepare, effects)
    assert (proposal.view, proposal.seq, proposal.batch.requests) == (EPOCH, 7, (net.request(1),))


# --- a primary that proposes null batches ---


def test_a_null_batch_without_a_change_ahead_gets_no_vote():
    net = Network(running=[2], spare=2, later_keys=1)
    assert net.step(2, net.pre_prepare(NULL_BATCH)) == [Ignored("proposal with an empty or oversized batch")]


def test_a_null_batch_after_the_boundary_gets_no_vote():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    (refused,) = net.step(2, net.pre_prepare(NULL_BATCH, 7, EPOCH, replica=0))
    assert refused == Ignored("proposal with an empty or oversized batch")


def test_a_primary_that_does_not_lead_to_the_boundary_is_replaced():
    net = network()
    net.watch = lambda i, e: None
    net.step(0, net.request(1, members_operation(members(net, 0, 1, 2, 3, rekeyed=[3])), "mill"))
    while net.replicas[1].executed == 0:
        net.deliver()
    net.settle(without={0})  # nobody hears of it any more
    for i in (1, 2, 3):
        assert net.replicas[i].executed == 1
        assert "view-change" in net.timers[i]
        net.fire(i, "view-change")
    net.settle(without={0})
    assert [epochs(net)[i] for i in (1, 2, 3)] == [1] * 3
    assert [net.replicas[i].executed for i in (1, 2, 3)] == [6] * 3


# --- who is believed ---


def test_votes_of_those_who_are_not_members_yet_are_not_counted():
    net = Network(running=[2], spare=2, later_keys=1, checkpoint_interval=2, log_window=4)
    batch = net.batch(1)
    net.step(2, net.pre_prepare(batch))
    for stranger in (4, 5):
        for vote in (net.prepare, net.commit):
            assert net.step(2, vote(stranger, batch.digest)) == [Ignored("vote by no member")]
        assert net.step(2, net.checkpoint(stranger, 2, b"s" * 32)) == [Ignored("vote by no member")]
        assert net.step(2, net.view_change(stranger)) == [Ignored("ViewChange by no member")]
        proposal = net.pre_prepare(net.batch(2), 2, replica=stranger)
        assert [e.culprit for e in of(Evidence, net.step(2, proposal))] == [stranger]
    slot = net.replicas[2].slots[1]
    assert (set(slot.prepares), set(slot.commits), slot.prepared) == ({2}, set(), None)
    assert net.replicas[2].view == 0


def test_votes_of_those_who_were_retired_are_not_counted():
    net = network()
    agree(net, members(net, 1, 2, 3, 4))
    batch = net.batch(1)
    proposal = net.pre_prepare(batch, 7, EPOCH, replica=1)
    assert sent(Prepare, net.step(2, proposal))
    for vote in (net.prepare, net.commit):
        assert net.step(2, vote(0, batch.digest, 7, EPOCH)) == [Ignored("vote by no member")]
    late = net.signed(Checkpoint(8, b"s" * 32, 0, b"", 1))
    assert net.step(2, late) == [Ignored("vote by no member")]
    assert net.step(2, net.view_change(0, EPOCH + 1)) == [Ignored("ViewChange by no member")]


def test_who_was_retired_falls_silent():
    net = network()
    net.step(0, net.request(1))
    agree(net, members(net, 1, 2, 3))
    assert net.replicas[0].retired
    assert not net.replicas[0].member
    net.serve(range(2, 12))
    net.bag.clear()
    assert net.replicas[0].executed == 6
    for timer in ("status", "view-change"):
        net.fire(0, timer)
    assert net.bag == []
    assert net.timers[0] == {}
    level(net, 1, 2, 3)


def test_who_was_retired_asks_no_further_for_what_answers_tell_it_of():
    """It asked once, for what it missed up to its end. Peers answer with votes for what comes after that, too."""
    net = network()
    agree(net, members(net, 1, 2, 3))
    for seq in (7, 8, 100):
        assert not of(SetTimer, net.step(0, net.prepare(1, b"d" * 32, seq, EPOCH)))
    assert net.replicas[0].retired
    assert not sent(Status, net.fire(0, "status"))
    assert net.timers[0] == {}


def test_who_was_retired_votes_for_nothing_and_suspects_nobody():
    net = network()
    net.step(0, net.request(1))
    net.settle()
    net.step(3, net.request(9))
    net.bag.clear()  # nobody else hears of it
    assert "view-change" in net.timers[3]
    agree(net, members(net, 0, 1, 2))
    assert "view-change" not in net.timers[3]


def test_who_was_retired_votes_for_nothing():
    net = network()
    agree(net, members(net, 1, 2, 3))
    for vote in (net.pre_prepare(net.batch(1), 7, EPOCH, replica=1), net.view_change(1, EPOCH + 1)):
        effects = net.step(0, vote)
        assert of(Broadcast, effects) == []
    assert net.replicas[0].voting_view is None


def test_a_larger_network_needs_more_to_join_a_view_change():
    net = network(spare=3)
    for i in (4, 5, 6):
        net.add(i)
    net.step(1, net.view_change(2, 1))  # of the epoch before: it counts for nothing later
    agree(net, members(net, *range(7)))
    for i in (3, 4):
        shown = net.signed(ViewChange(EPOCH + 1, 6, None, (), i))
        assert of(Evidence, net.step(1, shown)) == []
    assert not net.replicas[1].changing  # two of seven may be Byzantine
    net.step(1, net.signed(ViewChange(EPOCH + 1, 6, None, (), 5)))
    assert net.replicas[1].changing


def test_an_old_key_is_refused_from_the_boundary_on():
    net = network()
    batch = net.batch(1)
    assert sent(Commit, net.step(1, net.pre_prepare(batch))) == []
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[0, 3]))
    last = net.replicas[1].executed
    over = [Ignored("signed with a key that is not in use")]
    batch = net.batch(2)
    old = net.signed(PrePrepare(EPOCH, last + 1, batch.digest, 0, batch))
    new = net.signed(PrePrepare(EPOCH, last + 1, batch.digest, 0, batch), running=0)
    assert old.signature != new.signature
    assert net.step(1, old) == over
    assert sent(Prepare, net.step(1, new))
    vote = Prepare(EPOCH, last + 1, batch.digest, 3)
    assert net.step(1, net.signed(vote)) == over
    assert net.step(1, net.signed(vote, running=3))[0] not in over
    for kind in (Commit, Prepare):
        assert net.step(2, net.signed(kind(EPOCH, last + 1, batch.digest, 3))) == over
    assert net.step(2, net.signed(Checkpoint(last + 2, bytes(32), 3, b"", 1))) == over
    assert net.step(2, net.view_change(3, EPOCH + 1)) == over


def test_a_key_that_is_announced_and_not_in_use_yet_is_refused():
    """Counted, its votes would make up certificates that nobody else believes."""
    net = network()
    batch = net.batch(1)
    early = Wallet(net.wallets[3]).with_key(net.keys[3][1])
    refused = [Ignored("signed with a key that is not in use")]
    for kind in (Prepare, Commit):
        vote = kind(0, 1, batch.digest, 3)
        signed = replace(vote, signature=early.sign(vote.payload(net.config.chain_id)))
        assert net.step(1, signed) == refused
        assert net.step(1, net.signed(vote)) != refused


def test_the_first_key_may_come_into_use_again():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    agree(net, members(net, 0, 1, 2, 3), sequence=2)
    assert set(epochs(net).values()) == {2}
    before = net.replicas[0].executed
    net.serve([3], without={1})  # a quorum with 3 in it, and none without
    assert net.replicas[0].executed > before
    decided, _ = net.blocks[0][-1]
    assert net.replicas[0].committee.holds(decided.certificate, 3)


def test_there_is_no_way_into_the_first_view_of_an_epoch():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    committee = net.replicas[0].committee
    for view, well in ((EPOCH, False), (EPOCH + 1, True)):
        fault = fault_of_view_change(ViewChange(view, 6, None, (), 1), net.config, committee)
        assert (fault is None) is well, fault


def test_certificates_of_a_later_epoch_need_its_keys():
    net = network()
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    committee = net.replicas[0].committee
    good = net.certificate("Commit", 7, b"d" * 32, [0, 1, 2], EPOCH)
    stolen = net.certificate("Commit", 7, b"d" * 32, [0, 1, 3], EPOCH)
    before = net.certificate("Commit", 7, b"d" * 32, [0, 1, 2], 0)
    assert [committee.holds(proof, 3) for proof in (good, stolen, before)] == [True, False, False]


def test_who_lacks_its_new_key_says_nothing_and_the_others_go_on():
    net = network()
    poor = net.replicas[3] = Replica(3, net.config, Wallet(net.wallets[3][:1]), net.keyring)
    agree(net, members(net, 0, 1, 2, 3, rekeyed=[3]))
    assert (poor.committee.epoch, poor.voting_view) == (1, None)
    before = len(net.disks[3])
    net.serve(range(1, 9))
    assert not [r for r in net.disks[3][before:] if isinstance(r, PrePrepare)]
    level(net, 0, 1, 2)
