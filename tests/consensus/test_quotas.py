"""What one peer can make a replica do or remember is bounded, and what is refused today is served tomorrow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tradebft.consensus.messages import Batch, Commit, Prepare, PrePrepare, Request
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
            model = [(s, b) for s, b in model if b != batch] + [(seq, batch)]
            here = [b for s, b in model if s == seq]
            if len(here) > limit:
                model.remove((seq, next(b for b in here if b != certified)))
        else:
            bodies.drop_up_to(seq)
            model = [(s, b) for s, b in model if s > seq]
        assert {b.timestamp_ns for b in BATCHES if bodies.get(b.digest)} == {b.timestamp_ns for _, b in model}
        assert len(bodies) == len(model) <= 4 * limit


def test_ever_new_proposals_for_one_sequence_do_not_push_out_what_was_prepared():
    """A primary a view, each with another batch: the prepared one stays, whoever needs it can have it."""
    bodies = Bodies(3)
    bodies.keep(7, BATCHES[0])
    for view in range(1, 200):
        bodies.keep(7, Batch(1000 + view, ()), BATCHES[0].digest)
    assert len(bodies) == 3
    assert bodies.get(BATCHES[0].digest) == BATCHES[0]
    assert bodies.get(Batch(1199, ()).digest) is not None


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
    """An entry of the model: a message and what its batch weighs (a request weighs 64 bytes beside its operation)."""
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
            message, weight = proposal(message_view, at, sender, length), 64 + length
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
    early = EarlyMessages(10, 500)
    for view in range(1, 20):
        message = proposal(view, view, 1, 400)
        early.hold(message)
        assert early.release(view) == [message]
