"""What one peer can make a replica do or remember is bounded, and what is refused today is served tomorrow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from left_behind import behind
from replicas import Network, of, sent
from tradebft.consensus.interface import Ignored, SendBlocks, SendChunk
from tradebft.consensus.messages import (
    Batch,
    Commit,
    Fetch,
    FetchChunk,
    FetchReply,
    Prepare,
    PrePrepare,
    Request,
    SnapshotHead,
    Status,
)
from tradebft.consensus.pbft.bodies import Bodies
from tradebft.consensus.pbft.early import EarlyMessages
from tradebft.consensus.pbft.quota import Quota

# --- Quota, against a bucket of nanoseconds ---


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=150),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(0, 10**18),
)
def test_a_quota_is_a_bucket_a_peer(asks, burst, every, now):
    """The model saves up time: at most *burst* periods of it, one period for each answer."""
    quota, saved, last = Quota(burst, every), {}, {}
    for wait, peer in asks:
        now += wait
        credit = min(burst * every, saved.get(peer, burst * every) + now - last.get(peer, now))
        last[peer] = now
        assert quota.allows(now, peer) is (credit >= every)
        saved[peer] = credit - every if credit >= every else credit


def test_a_quota_serves_a_burst_and_then_one_a_period():
    quota = Quota(3, 10)
    assert [quota.allows(100, 7) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [quota.allows(100, 8) for _ in range(4)] == [True] * 3 + [False]  # others are not its business
    assert [quota.allows(at, 7) for at in (109, 110, 110, 119, 120)] == [False, True, False, False, True]
    assert [quota.allows(10**9, 7) for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_quota_without_a_period_still_is_one():
    """A hundredth of a very short timeout is 0 ns: that must not mean "as many as they like at once"."""
    quota = Quota(2, 0)
    assert [quota.allows(5, 1) for _ in range(4)] == [True, True, False, False]


# --- Bodies, against a list ---

BATCHES = [Batch(k, ()) for k in range(1, 9)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "keep", "keep", "drop"]),
            st.integers(1, 4),
            st.sampled_from(BATCHES),
            st.none() | st.sampled_from(BATCHES),
        ),
        max_size=60,
    ),
    st.integers(2, 4),
)
def test_bodies_are_the_newest_of_each_sequence_and_the_certified_one(moves, limit):
    bodies = Bodies(limit)
    model: list[tuple[int, Batch]] = []  # oldest first
    for move, seq, batch, certified in moves:
        if move == "keep":
            bodies.keep(seq, batch, certified.digest if certified is not None else None)
            model = [kept for kept in model if kept != (seq, batch)] + [(seq, batch)]
            here = [b for s, b in model if s == seq]
            if len(here) > limit:
                model.remove((seq, next(b for b in here if b != certified)))
        else:
            bodies.drop_up_to(seq)
            model = [(s, b) for s, b in model if s > seq]
        held = {b.timestamp_ns for _, b in model}
        assert {b.timestamp_ns for b in BATCHES if bodies.get(b.digest)} == held
        assert len(bodies) == len(held) <= 4 * limit


def test_ever_new_proposals_for_one_sequence_do_not_push_out_what_was_prepared():
    """A primary a view, each with another batch: the prepared one stays, whoever needs it can have it."""
    bodies = Bodies(3)
    bodies.keep(7, BATCHES[0])
    for view in range(1, 200):
        bodies.keep(7, Batch(1000 + view, ()), BATCHES[0].digest)
    assert len(bodies) == 3
    assert bodies.get(BATCHES[0].digest) == BATCHES[0]
    assert bodies.get(Batch(1199, ()).digest) is not None


def test_a_batch_at_two_sequences_outlives_the_checkpoint_of_the_lower_one():
    """A Byzantine primary's trick, or a retry of its own: the higher sequence may be prepared everywhere."""
    bodies = Bodies(3)
    bodies.keep(3, BATCHES[0])
    bodies.keep(2, BATCHES[0])
    bodies.drop_up_to(2)
    assert bodies.get(BATCHES[0].digest) == BATCHES[0]
    bodies.drop_up_to(3)
    assert bodies.get(BATCHES[0].digest) is None


# --- EarlyMessages, against a list a sender ---


def proposal(view: int, seq: int, sender: int, length: int) -> PrePrepare:
    batch = Batch(0, (Request("bank", seq, bytes(length)),))
    return PrePrepare(view, seq, batch.digest, sender, batch)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 4), st.none() | st.integers(0, 300)),
        max_size=60,
    ),
    st.integers(1, 6),
    st.integers(0, 800),
    st.lists(st.integers(0, 59), max_size=4),
)
def test_early_messages_are_bounded_in_number_and_in_bytes(arrivals, quota, quota_bytes, releases):
    """An entry of the model: a message and what it weighs: a digest of 32 bytes, and for the request 64 bytes, four for
    each letter of its client's name, and its operation."""
    early, model, view = EarlyMessages(quota, quota_bytes), {}, 0
    for at, (sender, message_view, length) in enumerate(arrivals):
        if at in releases:
            view += 1
            expected = [m for s in sorted(model) for m, _ in model[s] if m.view == view]
            assert early.release(view) == expected
            model = {s: [(m, w) for m, w in held if m.view > view] for s, held in model.items()}
        if length is None:
            message, weight = (Prepare if at % 2 else Commit)(message_view, at, b"", sender), 0
        else:
            message, weight = proposal(message_view, at, sender, length), 32 + 64 + 4 * len("bank") + length
        early.hold(message)
        held = [*model.get(sender, []), (message, weight)]
        while len(held) > quota or sum(w for _, w in held) > quota_bytes:
            held = held[1:]
        model[sender] = held
        assert early.most() == max(map(len, model.values()))
    for later in range(view + 1, 5):
        assert early.release(later) == [m for s in sorted(model) for m, _ in model[s] if m.view == later]
    assert early.most() == 0


def test_what_was_released_no_longer_counts():
    """Else a sender that once filled its quota would have nothing of its own kept ever again."""
    early = EarlyMessages(10, 600)
    for view in range(1, 20):
        message = proposal(view, view, 1, 400)
        early.hold(message)
        assert early.release(view) == [message]


def test_whatever_makes_an_early_proposal_long_counts():
    """A client's name and a signature have no length of their own; nobody checks them before the view is entered."""
    early = EarlyMessages(1000, 10_000)
    for view in range(1, 100):
        batch = Batch(0, (Request("n" * 5000, view, b"", bytes(5000)),))
        early.hold(PrePrepare(view, 1, batch.digest, 1, batch))
    assert early.most() <= 1


# --- what a replica answers, and how often ---

STATUSES, FETCHES, CHUNKS = 32, 16, 64  # answers at once; a log window of 8 makes 16 fetches


def holding() -> tuple[Network, bytes]:
    """Replica 1 has executed three batches, and holds a fourth that was proposed to it."""
    net = Network(batch_size=1, checkpoint_interval=4, log_window=8)
    net.serve([1, 2, 3], without={3})
    batch = net.batch(4)
    net.step(1, net.pre_prepare(batch, 4))
    net.bag.clear()
    return net, batch.digest


def status(net: Network, nonce: int, replica: int = 3) -> Status:
    return net.signed(Status(0, False, 0, 0, 0, nonce, replica))


def answered(effects) -> bool:
    return bool(
        sent(FetchReply, effects)
        or sent(Prepare, effects)
        or of(SendBlocks, effects)
        or of(SendChunk, effects)
    )


QUESTIONS = {
    "status": (STATUSES, 100, "status beyond its sender's quota"),
    "fetch": (FETCHES, 100, "fetch beyond its sender's quota"),
    "chunk": (CHUNKS, 1000, "chunk beyond its asker's quota"),
}


def question(kind: str):
    """A network, and how peer *replica* asks replica 1 there for the n-th time."""
    if kind == "chunk":
        net = behind(10)
        return net, lambda n, replica=3: net.signed(FetchChunk(8, n % 20, replica))
    net, digest = holding()
    if kind == "fetch":
        return net, lambda n, replica=3: net.signed(Fetch(4, digest, replica))
    return net, lambda n, replica=3: status(net, n, replica)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_burst_of_questions_is_answered_then_one_a_period_and_nobody_else_pays_for_it(kind):
    burst, periods, why = QUESTIONS[kind]
    net, ask = question(kind)
    given_now = [answered(net.step(1, ask(n))) for n in range(1, burst + 20)]
    assert given_now == [True] * burst + [False] * 19
    assert list(net.step(1, ask(burst + 20))) == [Ignored(why)]
    assert answered(net.step(1, ask(burst + 21, 2)))
    period = net.config.view_change_timeout_ns // periods
    net.now += period - 1
    assert not answered(net.step(1, ask(burst + 22)))
    net.now += 1
    assert [answered(net.step(1, ask(burst + n))) for n in (23, 24)] == [True, False]
    net.now += 10**15
    assert sum(answered(net.step(1, ask(1000 + n))) for n in range(3 * burst)) == burst


@pytest.mark.parametrize("kind", QUESTIONS)
@settings(max_examples=15)
@given(pauses=st.lists(st.sampled_from([0, 0, 0, 1, 10**5, 10**6, 10**7, 3 * 10**7]), max_size=150))
def test_however_a_peer_spreads_its_questions_it_gets_no_more_than_its_share(kind, pauses):
    """At most a burst and what the time since the first one makes; and who asks slowly is never refused."""
    burst, periods, _ = QUESTIONS[kind]
    net, ask = question(kind)
    period, start, given_so_far = net.config.view_change_timeout_ns // periods, net.now, 0
    for n, pause in enumerate(pauses, 1):
        net.now += pause
        got = answered(net.step(1, ask(n)))
        given_so_far += got
        assert given_so_far <= burst + (net.now - start) // period
        assert got or n > burst
        assert got or pause < period


def test_a_status_that_was_seen_before_costs_nothing_of_the_quota():
    """Duplicates on the way are the network's doing: a peer that asks once is not refused for them."""
    net, ask = question("status")
    assert answered(net.step(1, ask(1)))
    for _ in range(3 * STATUSES):
        assert list(net.step(1, ask(1))) == [Ignored("status seen before")]
    assert [answered(net.step(1, ask(n))) for n in range(2, STATUSES + 3)] == [True] * (STATUSES - 1) + [
        False,
        False,
    ]


def test_questions_that_nothing_can_be_said_to_cost_nothing_of_the_quota():
    net, ask = question("fetch")
    for n in range(3 * FETCHES):
        assert not answered(net.step(1, net.signed(Fetch(4, n.to_bytes(32, "big"), 3))))
    assert answered(net.step(1, ask(1)))
    net, ask = question("chunk")
    for n in range(3 * CHUNKS):
        assert not answered(net.step(1, net.signed(FetchChunk(8, 1000 + n, 3))))
        assert not answered(net.step(1, net.signed(FetchChunk(4000 + n, 0, 3))))
    assert answered(net.step(1, ask(1)))


def test_who_was_refused_catches_up_all_the_same():
    """A laggard whose key a thief wasted: it asks again, and time is on its side."""
    net = Network(batch_size=1, checkpoint_interval=4, log_window=8)
    net.serve([1])
    net.serve(range(2, 12), without={3})
    for i in (0, 1, 2):
        for nonce in range(1, 3 * STATUSES):
            net.step(i, status(net, nonce))
    net.bag.clear()
    net.now = net.config.view_change_timeout_ns
    net.restart(3)  # its nonces begin above those that were used
    net.step(3, net.request(12))
    net.settle()
    for _ in range(6):
        net.now += net.config.view_change_timeout_ns
        net.catch_up(3, 1)
    assert net.replicas[3].executed == net.replicas[1].executed


def test_a_snapshots_head_is_rationed_too():
    """It is the longest answer that there is: the digest of every chunk and the proofs of all epochs."""
    net = behind(10)
    ask = net.signed(FetchChunk(1, 0, 3))
    heads = sum(bool(sent(SnapshotHead, net.step(1, ask))) for _ in range(10 * CHUNKS))
    assert heads <= CHUNKS
