"""Mistakes that real PBFT implementations made: what is a vote, and for what it counts (1 to 4, 14, 16).

Each breaks a rule of docs/protocol.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mistakes import WAYS, backup
from msgspec import structs
from replicas import of, sent
from tradebft.consensus.interface import (
    Committed,
    Config,
    Evidence,
    Ignored,
)
from tradebft.consensus.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Commit,
    Fetch,
    FetchReply,
    Prepare,
    PrePrepare,
    Request,
    Status,
    authentic,
)

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
    files = Path(__file__).parent.glob("test_mistakes_*.py")
    tested = {
        int(n) for file in files for n in re.findall(r"^def test_(\d+)_", file.read_text(), re.MULTILINE)
    }
    assert tested == set(range(1, 17))
