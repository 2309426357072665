"""Mistakes that real PBFT implementations made, one after another: each breaks a rule of docs/protocol.md."""

from __future__ import annotations

import pytest
from msgspec import structs
from replicas import Network, of, sent
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import (
    Broadcast,
    Committed,
    Config,
    Evidence,
    Executed,
    Ignored,
    Send,
    SetTimer,
)
from tradebft.consensus.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Commit,
    Fetch,
    FetchReply,
    NewView,
    Prepare,
    PrePrepare,
    Request,
    Status,
    ViewChange,
    authentic,
)

VIEW, STATUS = "view-change", "status"
WAYS = [4, 5, 6, 7, 10]


def backup(n=4, me=2, **config):
    """One replica that runs, and everybody else played by the test."""
    return Network(n, running=[me], **config)


def prepare_and_commit(net, me, batch, seq=1, view=0):
    """Play the others so that *me* decides *batch*."""
    effects = list(net.step(me, net.pre_prepare(batch, seq, view)))
    for vote in (net.prepare, net.commit):
        for other in range(net.config.nodes):
            if other != me:
                effects += net.step(me, vote(other, batch.digest, seq, view))
    return effects


# --- 1: a vote counts once ---


@pytest.mark.parametrize("n", WAYS)
def test_1_a_prepare_counts_once_per_sender(n):
    """Mistake 1: counting a vote twice from one sender. q-2 others and my own Prepare are needed, whoever repeats."""
    net, me = backup(n), 2
    batch = net.batch(1)
    net.step(me, net.pre_prepare(batch))
    others = [i for i in range(1, n) if i != me]
    needed = net.config.quorum - 2
    for other in others[: needed - 1]:
        for _ in range(n):
            assert sent(Commit, net.step(me, net.prepare(other, batch.digest))) == []
    assert sent(Commit, net.step(me, net.prepare(others[needed - 1], batch.digest)))


@pytest.mark.parametrize("n", WAYS)
def test_1_the_primarys_prepare_does_not_count_beside_its_proposal(n):
    """Mistake 1: counting the primary's PrePrepare and its Prepare."""
    net, me = backup(n), 2
    batch = net.batch(1)
    net.step(me, net.pre_prepare(batch))
    others = [i for i in range(1, n) if i != me][: net.config.quorum - 3]
    for voter in [0, *others]:
        assert sent(Commit, net.step(me, net.prepare(voter, batch.digest))) == []


def test_1_the_primary_itself_sends_no_prepare():
    """Mistake 1: its proposal is its vote."""
    net = backup(me=0)
    effects = net.step(0, net.request())
    assert sent(PrePrepare, effects)
    assert sent(Prepare, effects) == []


@pytest.mark.parametrize("n", WAYS)
def test_1_a_commit_counts_once_per_sender(n):
    """Mistake 1, for Commits: q of them, by distinct replicas, my own included."""
    net, me = backup(n), 2
    batch, q = net.batch(1), net.config.quorum
    net.step(me, net.pre_prepare(batch))
    for other in range(n):
        if other != me:
            net.step(me, net.prepare(other, batch.digest))
    others = [i for i in range(n) if i != me]
    for other in others[: q - 2]:
        for _ in range(n):
            assert of(Committed, net.step(me, net.commit(other, batch.digest))) == []
    assert of(Committed, net.step(me, net.commit(others[q - 2], batch.digest)))


@pytest.mark.parametrize("n", range(1, 40))
def test_1_any_two_quorums_share_an_honest_replica(n):
    """Mistake 1, in the small print: 2f+1 is no quorum where n is not 3f+1."""
    config = Config(n)
    assert 2 * config.quorum - n >= config.faults + 1
    assert config.quorum <= n - config.faults
    assert 2 * (config.quorum - 1) - n < config.faults + 1  # and no smaller one would do


def test_1_ones_own_votes_that_come_back_count_once():
    """Mistake 1: a peer sends a restarted replica the votes that it made before; it makes them again."""
    net, me = backup(7), 2
    batch, q = net.batch(1), net.config.quorum
    net.step(me, net.prepare(me, batch.digest))
    net.step(me, net.commit(me, batch.digest))
    net.step(me, net.pre_prepare(batch))
    for voter in (1, 3):
        assert sent(Commit, net.step(me, net.prepare(voter, batch.digest))) == []
    assert sent(Commit, net.step(me, net.prepare(4, batch.digest)))
    for voter in range(3, 3 + q - 2):
        assert of(Committed, net.step(me, net.commit(voter, batch.digest))) == []
    assert of(Committed, net.step(me, net.commit(0, batch.digest)))


# --- 2: votes for different things are not added up ---


def test_2_votes_for_different_digests_are_not_counted_together():
    """Mistake 2: two Prepares for one batch and one for another are not three."""
    net, me = backup(7), 2
    batch, other = net.batch(1), net.batch(2)
    net.step(me, net.pre_prepare(batch))
    for voter, digest in [(1, batch), (3, other), (4, other), (5, other), (6, batch)]:
        assert sent(Commit, net.step(me, net.prepare(voter, digest.digest))) == []
    (replica,) = net.replicas.values()
    assert not replica.slots[1].prepared_now


def test_2_commits_for_different_digests_are_not_counted_together():
    """Mistake 2, for Commits."""
    net, me = backup(4), 2
    batch, other = net.batch(1), net.batch(2)
    net.step(me, net.pre_prepare(batch))
    for voter in (1, 3):
        net.step(me, net.prepare(voter, batch.digest))
    assert of(Committed, net.step(me, net.commit(0, other.digest))) == []
    assert of(Committed, net.step(me, net.commit(1, batch.digest))) == []
    assert of(Committed, net.step(me, net.commit(3, batch.digest)))


def test_2_votes_of_another_view_are_not_counted():
    """Mistake 2: Prepares of view 0 say nothing in view 1."""
    net, me = backup(4), 2
    batch = net.batch(1)
    for voter in (0, 1, 3):
        net.step(me, net.prepare(voter, batch.digest, view=0))
        net.step(me, net.commit(voter, batch.digest, view=0))
    net.step(me, net.new_view([net.view_change(i) for i in (1, 0, 3)]))
    effects = list(net.step(me, net.pre_prepare(batch, view=1)))
    for voter in (0, 3):
        effects += net.step(me, net.prepare(voter, batch.digest, view=0))
    assert sent(Commit, effects) == []
    assert sent(Prepare, effects)
    assert sent(Commit, net.step(me, net.prepare(3, batch.digest, view=1)))


def test_2_a_second_different_vote_is_evidence_and_the_first_one_counts():
    """Mistake 2: who signs two different Prepares is named, and counted for the first only."""
    net, me = backup(4), 2
    batch = net.batch(1)
    net.step(me, net.prepare(3, net.batch(2).digest))
    net.step(me, net.pre_prepare(batch))
    effects = net.step(me, net.prepare(3, batch.digest))
    assert [e.culprit for e in of(Evidence, effects)] == [3]
    assert sent(Commit, effects) == []


# --- 3: early votes ---


def test_3_votes_that_overtake_the_proposal_are_kept():
    """Mistake 3: forgetting early votes that arrive before the PrePrepare."""
    net, me = backup(4), 2
    batch = net.batch(1)
    for voter in (1, 3):
        net.step(me, net.prepare(voter, batch.digest))
    for voter in (0, 1):
        net.step(me, net.commit(voter, batch.digest))
    effects = net.step(me, net.pre_prepare(batch))
    assert sent(Prepare, effects)
    assert sent(Commit, effects)
    assert [e.seq for e in of(Committed, effects)] == [1]


def test_3_votes_that_overtake_the_new_view_are_kept():
    """Mistake 3, one view ahead."""
    net, me = backup(4), 2
    batch = net.batch(1)
    net.step(me, net.pre_prepare(batch, view=1))
    net.step(me, net.prepare(3, batch.digest, view=1))
    effects = net.step(me, net.new_view([net.view_change(i) for i in (1, 0, 3)]))
    assert sent(Prepare, effects)
    assert sent(Commit, effects)


# --- 4: one proposal ---


def test_4_a_second_proposal_for_one_place_is_refused():
    """Mistake 4: accepting a second PrePrepare for (v, s) with another digest."""
    net, me = backup(4), 2
    net.step(me, net.pre_prepare(net.batch(1)))
    effects = net.step(me, net.pre_prepare(net.batch(2)))
    assert sent(Prepare, effects) == []
    assert [e.culprit for e in of(Evidence, effects)] == [0]
    assert of(Ignored, net.step(me, net.pre_prepare(net.batch(1))))


def test_4_only_the_primary_proposes():
    """Mistake 4: nor one by somebody else."""
    net, me = backup(4), 2
    effects = net.step(me, net.pre_prepare(net.batch(1), replica=3))
    assert sent(Prepare, effects) == []
    assert [e.culprit for e in of(Evidence, effects)] == [3]


def proposals_not_to_vote_for():
    def wrong_digest(net):
        return net.signed(PrePrepare(0, 1, net.batch(2).digest, 0, net.batch(1)))

    def unsigned_request(net):
        return net.pre_prepare(Batch(0, (structs.replace(net.request(), signature=bytes(64)),)))

    return {
        "the digest is another batch's": wrong_digest,
        "a request is not signed by its client": unsigned_request,
        "a request comes twice": lambda net: net.pre_prepare(net.batch(1, 1)),
        "there is no request": lambda net: net.pre_prepare(NULL_BATCH),
        "it is too large": lambda net: net.pre_prepare(net.batch(1, 2, 3, 4)),
        "it is from the future": lambda net: net.pre_prepare(net.batch(1, time_ns=10**18)),
        "it is from before the beginning": lambda net: net.pre_prepare(net.batch(1, time_ns=-1)),
        "the sequence is above the window": lambda net: net.pre_prepare(net.batch(1), seq=5),
        "the sequence is 0": lambda net: net.pre_prepare(net.batch(1), seq=0),
        "it has no batch": lambda net: net.signed(PrePrepare(0, 1, NULL_DIGEST, 0)),
    }


@pytest.mark.parametrize("why", proposals_not_to_vote_for())
def test_4_no_vote_for_a_proposal_that(why):
    """Mistake 4: a backup checks everything that it votes for."""
    net, me = backup(4, batch_size=3, checkpoint_interval=2, log_window=4), 2
    effects = net.step(me, proposals_not_to_vote_for()[why](net))
    assert sent(Prepare, effects) == []
    (replica,) = net.replicas.values()
    assert all(slot.digest is None for slot in replica.slots.values())


# --- 5: certificates are verified, the highest view wins ---


def wrong_view_changes():
    def cut(net, d):
        return [net.prepared(1, d, voters=[1])]

    return {
        "too few Prepares": cut,
        "one Prepare twice": lambda net, d: [net.prepared(1, d, voters=[1, 1])],
        "a Prepare by the primary": lambda net, d: [net.prepared(1, d, voters=[0, 1])],
        "Prepares that nobody signed": lambda net, d: [
            structs.replace(
                net.prepared(1, d),
                prepares=QuorumCertificate("Prepare", 0, 1, d, ((1, bytes(64)), (2, bytes(64)))),
            )
        ],
        "Commits in their place": lambda net, d: [
            structs.replace(net.prepared(1, d), prepares=net.certificate("Commit", 1, d, [1, 2]))
        ],
        "Prepares for another digest": lambda net, d: [
            structs.replace(net.prepared(1, d), prepares=net.certificate("Prepare", 1, NULL_DIGEST, [1, 2]))
        ],
        "Prepares of another view": lambda net, d: [
            structs.replace(net.prepared(1, d), prepares=net.certificate("Prepare", 1, d, [1, 2], view=1))
        ],
        "a proposal that nobody signed": lambda net, d: [
            structs.replace(net.prepared(1, d), pre_prepare=PrePrepare(0, 1, d, 0, None, bytes(64)))
        ],
        "a proposal by a backup": lambda net, d: [
            structs.replace(net.prepared(1, d), pre_prepare=net.signed(PrePrepare(0, 1, d, 3)))
        ],
        "the view that it asks for": lambda net, d: [net.prepared(1, d, view=5)],
        "one sequence twice": lambda net, d: [net.prepared(1, d), net.prepared(1, d)],
        "sequences out of order": lambda net, d: [net.prepared(2, d), net.prepared(1, d)],
        "a sequence beyond its window": lambda net, d: [net.prepared(5, d)],
        "a sequence below its window": lambda net, d: [net.prepared(0, d)],
    }


@pytest.mark.parametrize("what", wrong_view_changes())
def test_5_a_view_change_does_not_count_when_it_shows(what):
    """Mistake 5: prepared certificates not verified in ViewChange."""
    net, me = backup(4, me=1, checkpoint_interval=2, log_window=4), 1
    change = net.view_change(0, view=5, prepared=wrong_view_changes()[what](net, net.batch(1).digest))
    effects = net.step(me, change)
    assert [e.culprit for e in of(Evidence, effects)] == [0]
    # Nor inside a NewView.
    honest = [net.view_change(i, view=5) for i in (1, 3)]
    message = net.new_view([*honest, change], view=5)
    net = backup(4, me=2, checkpoint_interval=2, log_window=4)
    assert [e.culprit for e in of(Evidence, net.step(2, message))] == [1]
    assert net.replicas[2].view == 0


@pytest.mark.parametrize("voters", [None, [0, 1], [0, 0, 1]])
def test_5_a_stable_checkpoint_is_not_believed_without_a_quorum(voters):
    """Mistake 5, for the checkpoint certificate C."""
    net = backup(4, me=1, checkpoint_interval=2, log_window=4)
    proof = None if voters is None else net.certificate("Checkpoint", 2, b"s" * 32, voters)
    change = net.signed(ViewChange(1, 2, proof, (), 0))
    assert of(Evidence, net.step(1, change))
    other = net.signed(ViewChange(1, 4, net.stable(2), (), 3))
    assert of(Evidence, net.step(1, other))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_5_the_prepared_certificate_of_the_highest_view_wins(order):
    """Mistake 5: or the lowest instead of the highest view wins in NewView."""
    net, me = backup(4, me=3), 3
    old, new = net.batch(1).digest, net.batch(2).digest
    changes = [
        net.view_change(0, 3, [net.prepared(1, old, view=0)]),
        net.view_change(1, 3, [net.prepared(1, new, view=2)]),
        net.view_change(2, 3, [net.prepared(1, old, view=1)]),
    ]
    effects = []
    for k in order:
        effects += net.step(me, changes[k])
    (opened,) = sent(
        NewView, effects
    )  # the leader of view 3 joined after two, and has its quorum with itself
    assert [(p.seq, p.digest) for p in opened.proposals] in ([(1, new)], [(1, old)])
    shown = {change.replica for change in opened.view_changes}
    assert opened.proposals[0].digest == (new if 1 in shown else old)
    message = net.new_view(changes, view=4, carried=[(1, new)])
    assert of(Evidence, net.step(me, message))  # ViewChanges for another view
    for carried, right in (([(1, old)], False), ([(1, new)], True)):
        other = backup(4, me=0)
        six = [net.view_change(i, 6, c.prepared) for i, c in enumerate(changes, 1)]
        effects = other.step(0, net.new_view(six, carried, view=6))
        assert bool(sent(Prepare, effects)) is right


# --- 6: O is recomputed ---


def carried_over(net):
    """ViewChanges for view 1 whose outcome is: stable 2, then 3, null, 5."""
    a, b = net.batch(1).digest, net.batch(2).digest
    changes = [
        net.view_change(1, prepared=[net.prepared(1, b), net.prepared(3, a)]),
        net.view_change(0, prepared=[net.prepared(5, b)], stable=2),
        net.view_change(3),
    ]
    return changes, [(3, a), (4, NULL_DIGEST), (5, b)]


def wrong_proposals():
    return {
        "one is missing": lambda right: right[:-1],
        "one is more": lambda right: [*right, (6, right[0][1])],
        "another digest": lambda right: [(3, right[2][1]), *right[1:]],
        "a gap instead of null": lambda right: [right[0], right[2]],
        "something instead of null": lambda right: [right[0], (4, right[0][1]), right[2]],
        "from a stale checkpoint": lambda right: [(1, right[2][1]), (2, NULL_DIGEST), *right],
        "out of order": lambda right: right[::-1],
        "nothing": lambda right: [],
    }


@pytest.mark.parametrize("how", wrong_proposals())
def test_6_a_new_view_is_refused_when_its_proposals_are_wrong(how):
    """Mistake 6: NewView's O trusted instead of recomputed; gaps not filled with null; a stale h."""
    net, me = backup(4, me=2, checkpoint_interval=2, log_window=6), 2
    changes, right = carried_over(net)
    effects = net.step(me, net.new_view(changes, wrong_proposals()[how](right)))
    assert [e.culprit for e in of(Evidence, effects)] == [1]
    assert sent(Prepare, effects) == []
    assert net.replicas[me].view == 0


def test_6_the_right_one_is_accepted_with_null_in_the_gap_and_the_highest_checkpoint():
    """Mistake 6: the new view starts at the highest stable checkpoint shown."""
    net, me = backup(4, me=2, checkpoint_interval=2, log_window=6), 2
    changes, right = carried_over(net)
    effects = net.step(me, net.new_view(changes))
    assert [(p.seq, p.digest) for p in sent(Prepare, effects)] == right
    assert net.replicas[me].low == 2
    assert {(f.seq, f.digest) for f in sent(Fetch, effects)} == {right[0], right[2]}


def wrong_new_views():
    return {
        "by another leader": lambda net, c: net.new_view(c, replica=3),
        "with too few ViewChanges": lambda net, c: net.new_view(c[:2]),
        "with one ViewChange twice": lambda net, c: net.new_view([*c[:2], c[1]]),
        "with a ViewChange for another view": lambda net, c: net.new_view([*c[:2], net.view_change(3, 5)]),
        "with a ViewChange that nobody signed": lambda net, c: net.new_view(
            [*c[:2], structs.replace(c[2], signature=bytes(64))]
        ),
        "with proposals that nobody signed": lambda net, c: net.signed(
            structs.replace(
                net.new_view(c),
                proposals=tuple(structs.replace(p, signature=bytes(64)) for p in net.new_view(c).proposals),
            )
        ),
        "with proposals for another view": lambda net, c: net.signed(
            structs.replace(
                net.new_view(c),
                proposals=tuple(net.signed(structs.replace(p, view=5)) for p in net.new_view(c).proposals),
            )
        ),
    }


@pytest.mark.parametrize("how", wrong_new_views())
def test_6_a_new_view_is_refused(how):
    """Mistake 6: who opens it, with whose ViewChanges, and for which view."""
    net, me = backup(4, me=2, checkpoint_interval=2, log_window=6), 2
    changes, _ = carried_over(net)
    effects = net.step(me, wrong_new_views()[how](net, changes))
    assert of(Evidence, effects)
    assert net.replicas[me].view == 0


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


def fetched(net, blocks, replica=1, checkpoint=None):
    return net.signed(FetchReply(tuple(blocks), (), checkpoint, replica))


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


# --- 14: domains ---


def test_14_a_vote_of_another_chain_is_worth_nothing():
    """Mistake 14: signature without chain id: a vote replayed from another chain."""
    here, there = backup(4), backup(4, chain_id=b"another")
    batch = here.batch(1)
    for make in (
        lambda net: net.prepare(1, batch.digest),
        lambda net: net.commit(1, batch.digest),
        lambda net: net.pre_prepare(batch),
        lambda net: net.checkpoint(1, 128, bytes(32)),
        lambda net: net.view_change(1),
        lambda net: net.request(),
        lambda net: net.new_view([net.view_change(i) for i in (1, 0, 3)]),
        lambda net: net.signed(Status(0, False, 0, 0, 0, 1, 3)),
        lambda net: net.signed(Fetch(1, batch.digest, 3)),
        lambda net: net.signed(FetchReply((), (), None, 3)),
    ):
        assert authentic(make(here), here.config.chain_id, here.keyring)
        assert not authentic(make(there), here.config.chain_id, here.keyring)
        foreign = [e.why for e in of(Ignored, here.step(2, make(there)))]
        assert foreign == ["bad signature"]


def test_14_a_vote_of_another_kind_is_worth_nothing():
    """Mistake 14: signature without domain: replayed as another message kind."""
    net = backup(4)
    digest = net.batch(1).digest
    signatures = {kind: net.signed(kind(0, 1, digest, 1)).signature for kind in (Prepare, Commit, PrePrepare)}
    signatures[Checkpoint] = net.checkpoint(1, 1, digest).signature
    signatures[Fetch] = net.signed(Fetch(1, digest, 1)).signature
    assert len(set(signatures.values())) == 5
    for kind in (Prepare, Commit):
        for other, signature in signatures.items():
            vote = structs.replace(kind(0, 1, digest, 1), signature=signature)
            assert authentic(vote, net.config.chain_id, net.keyring) is (other is kind)


@pytest.mark.parametrize("field", ["view", "seq", "digest", "replica"])
def test_14_a_signature_binds_every_field_of_a_vote(field):
    """Mistake 14: and the same for another view, sequence, digest or sender."""
    net = backup(4)
    vote = net.prepare(1, NULL_DIGEST, 1, 0)
    other = structs.replace(vote, **{field: bytes(32) if field == "digest" else 3})
    assert not authentic(other, net.config.chain_id, net.keyring)


def test_14_a_signature_binds_every_field_of_the_larger_messages():
    """Mistake 14, for ViewChange, NewView, Status and Request."""
    net = backup(4)
    changes = [net.view_change(i) for i in (1, 0, 3)]
    for message, wrong in (
        (changes[0], {"view": 2, "stable": 1, "prepared": (net.prepared(1, NULL_DIGEST),), "replica": 2}),
        (net.new_view(changes), {"view": 2, "view_changes": (), "proposals": (net.pre_prepare(NULL_BATCH),)}),
        (
            net.signed(Status(0, False, 0, 0, 0, 1, 3)),
            {"view": 1, "changing": True, "held": 1, "stable": 1, "executed": 1, "nonce": 2, "replica": 1},
        ),
        (net.request(), {"client": "shop", "sequence": 2, "operation": b"other"}),
    ):
        for field, value in wrong.items():
            changed = structs.replace(message, **{field: value})
            assert not authentic(changed, net.config.chain_id, net.keyring), (type(message), field)


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


# --- 16: the digest of a batch ---


def test_16_the_batch_digest_binds_order_and_every_field():
    """Mistake 16: batch digest that does not bind order, or all fields of the requests."""
    net = backup(4)
    base = net.batch(1, 2, time_ns=5)
    one, two = base.requests
    others = [
        Batch(5, (two, one)),
        Batch(6, (one, two)),
        Batch(5, (one,)),
        Batch(5, (one, two, two)),
        *(
            Batch(5, (structs.replace(one, **change), two))
            for change in (
                {"client": "shop"},
                {"sequence": 7},
                {"operation": b"other"},
                {"signature": bytes(64)},
            )
        ),
        Batch(5, (structs.replace(one, operation=b"pa"), two)),
    ]
    digests = [base.digest, *(batch.digest for batch in others), NULL_DIGEST]
    assert len(set(digests)) == len(digests)


def test_16_the_batch_digest_is_the_same_in_every_view_and_sequence():
    """Mistake 16: view-independent identity: a batch carried into a new view is found by its digest."""
    net = backup(4)
    batch = net.batch(1)
    again = Batch(batch.timestamp_ns, tuple(Request(*structs.astuple(r)) for r in batch.requests))
    assert again.digest == batch.digest
    assert net.pre_prepare(batch, 1, 0).digest == net.pre_prepare(batch, 9, 4).digest


def test_every_mistake_has_a_test():
    tested = {name.split("_")[1] for name in globals() if name.startswith("test_")}
    assert {str(number) for number in range(1, 17)} <= tested
