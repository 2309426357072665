"""Properties that hold for whatever order, loss, repetition or nonsense hypothesis can think of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from replicas import Network
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Commit,
    Decided,
    Fetch,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Request,
    Status,
    ViewChange,
    authentic,
)
from tradebft.consensus.pbft.checkpoint import CheckpointVotes
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.consensus.pbft.early import EarlyMessages
from tradebft.consensus.pbft.view_change import proposals
from tradebft.consensus.pbft.waiting import Waiting

VIEW, STATUS = "view-change", "status"


# --- agreement under an equivocating primary, whatever the order ---


def play(net: Network, data: st.DataObject, steps: int, liar: int | None = None) -> None:
    """Deliver, drop, repeat, let timers run out and restart replicas as *data* says."""
    for _ in range(steps):
        if not net.bag:
            return
        choice = data.draw(st.integers(0, 19))
        index = data.draw(st.integers(0, len(net.bag) - 1))
        if choice == 0:
            net.bag.pop(index)
        elif choice == 1:
            net.bag.append(net.bag[index])
        elif choice == 2:
            i = data.draw(st.sampled_from(net.running))
            net.fire(i, data.draw(st.sampled_from([VIEW, STATUS])))
        elif choice == 3:
            net.restart(data.draw(st.sampled_from(net.running)))
        else:
            net.deliver(index)


def assert_prefixes(net: Network) -> None:
    longest = max((net.history(i) for i in net.running), key=len)
    for i in net.running:
        history = net.history(i)
        assert history == longest[: len(history)]
        executed = net.executed(i)
        assert len(set(executed)) == len(executed)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
@settings(max_examples=15)
@given(data=st.data())
def test_agreement_with_an_equivocating_primary(n, data):
    """Replica 0 tells everybody something else, and votes for all of it; nobody honest disagrees in the end."""
    net = Network(n, running=range(1, n), checkpoint_interval=2, log_window=4)
    tales = [net.batch(s, time_ns=t) for s, t in ((1, 0), (2, 0), (1, 7))]
    for seq in (1, 2):
        for i in net.running:
            net.bag.append((i, net.pre_prepare(data.draw(st.sampled_from(tales)), seq)))
            for tale in tales:
                net.bag.append((i, net.commit(0, tale.digest, seq)))
    for i in net.running:
        net.step(i, net.request(3))
    play(net, data, 300)
    assert_prefixes(net)
    # What was decided survives the next view, which the liar helps to open with an empty past.
    for i in net.running:
        net.fire(i, VIEW)
        net.bag.append((i, net.view_change(0)))
    play(net, data, 200)
    net.settle()
    assert_prefixes(net)


@settings(max_examples=40)
@given(data=st.data(), n=st.integers(4, 7))
def test_the_order_of_delivery_changes_nothing_that_is_executed(data, n):
    """With an honest primary and no loss: every replica executes the same, and all of it, in whatever order."""
    net = Network(n, batch_size=2, checkpoint_interval=2, log_window=8)
    for sequence in range(1, 7):
        net.step(0, net.request(sequence))
    expected = [slot.digest for _, slot in sorted(net.replicas[0].slots.items())]
    while net.bag:
        net.deliver(data.draw(st.integers(0, len(net.bag) - 1)))
    for i in range(n):
        assert net.executed(i) == [("bank", s) for s in range(1, 7)]
        assert net.history(i)[: len(expected)] == expected
    assert len({net.roots[i] for i in range(n)}) == 1


# --- the outcome of a view change ---


def oracle(changes: list[ViewChange]) -> tuple[int, list[tuple[int, bytes]]]:
    """The rule of section 4.4 written down once more, as slowly as it reads."""
    stable = sorted(change.stable for change in changes)[-1]
    everything = [entry.pre_prepare for change in changes for entry in change.prepared]
    above = [proposal for proposal in everything if proposal.seq > stable]
    result = []
    seq = stable
    while any(proposal.seq > seq for proposal in above):
        seq += 1
        here = sorted((p for p in above if p.seq == seq), key=lambda p: p.view, reverse=True)
        result.append((seq, here[0].digest if here else NULL_DIGEST))
    return stable, result


@st.composite
def quorums(draw: st.DrawFn) -> list[ViewChange]:
    """ViewChanges that could be valid together: in one view, one digest a sequence is prepared."""
    changes = []
    for replica in range(draw(st.integers(1, 5))):
        stable = draw(st.integers(0, 4))
        seqs = draw(st.sets(st.integers(stable + 1, stable + 6)))
        entries = []
        for seq in sorted(seqs):
            view = draw(st.integers(0, 5))
            value = bytes([seq, view]) * 16
            certificate = QuorumCertificate("Prepare", view, seq, value, ())
            entries.append(Prepared(PrePrepare(view, seq, value, view % 5), certificate))
        changes.append(ViewChange(6, stable, None, tuple(entries), replica))
    return changes


@given(quorums(), st.randoms(use_true_random=False))
def test_what_follows_from_view_changes_is_what_the_paper_says_in_any_order(changes, chance):
    expected = oracle(changes)
    assert proposals(changes) == expected
    chance.shuffle(changes)
    assert proposals(changes) == expected


# --- nonsense ---

NUMBERS = st.one_of(
    st.integers(-2, 9),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**64), 10**30]),
)
DIGESTS = st.sampled_from([b"", b"x", bytes(31), bytes(32), NULL_DIGEST, bytes(33), bytes(1000)])
MEMBERS = st.one_of(st.integers(0, 3), NUMBERS)
SIGNATURES = st.sampled_from([b"", bytes(64), bytes(65)])
VOTES = st.lists(st.tuples(MEMBERS, SIGNATURES), max_size=5).map(tuple)
CERTIFICATES = st.builds(
    QuorumCertificate,
    st.sampled_from(["Prepare", "Commit", "Checkpoint", ""]),
    NUMBERS,
    NUMBERS,
    DIGESTS,
    VOTES,
)
REQUESTS = st.builds(
    Request,
    st.sampled_from(["bank", "shop", "", "nobody", "\udc80"]),
    NUMBERS,
    st.binary(max_size=5),
    SIGNATURES,
)
BATCHES = st.one_of(st.just(NULL_BATCH), st.builds(Batch, NUMBERS, st.lists(REQUESTS, max_size=4).map(tuple)))
PRE_PREPARES = st.builds(PrePrepare, NUMBERS, NUMBERS, DIGESTS, MEMBERS, st.none() | BATCHES, SIGNATURES)
PREPARED = st.lists(st.builds(Prepared, PRE_PREPARES, CERTIFICATES), max_size=3).map(tuple)
VIEW_CHANGES = st.builds(
    ViewChange, NUMBERS, NUMBERS, st.none() | CERTIFICATES, PREPARED, MEMBERS, SIGNATURES
)
MESSAGES = st.one_of(
    REQUESTS,
    PRE_PREPARES,
    st.builds(Prepare, NUMBERS, NUMBERS, DIGESTS, MEMBERS, SIGNATURES),
    st.builds(Commit, NUMBERS, NUMBERS, DIGESTS, MEMBERS, SIGNATURES),
    st.builds(Checkpoint, NUMBERS, DIGESTS, MEMBERS, SIGNATURES),
    st.builds(
        Reply, NUMBERS, st.just("bank"), NUMBERS, MEMBERS, NUMBERS, DIGESTS, st.binary(max_size=3), SIGNATURES
    ),
    VIEW_CHANGES,
    st.builds(
        NewView,
        NUMBERS,
        st.lists(VIEW_CHANGES, max_size=4).map(tuple),
        st.lists(PRE_PREPARES, max_size=3).map(tuple),
        MEMBERS,
        SIGNATURES,
    ),
    st.builds(Status, NUMBERS, st.booleans(), NUMBERS, NUMBERS, NUMBERS, NUMBERS, MEMBERS, SIGNATURES),
    st.builds(Fetch, NUMBERS, DIGESTS, MEMBERS, SIGNATURES),
    st.builds(
        FetchReply,
        st.lists(st.builds(Decided, NUMBERS, BATCHES, CERTIFICATES), max_size=3).map(tuple),
        st.lists(BATCHES, max_size=3).map(tuple),
        st.none() | CERTIFICATES,
        MEMBERS,
        SIGNATURES,
    ),
)


def sign_all(net: Network, value: Any) -> Any:
    """*value* with every signature that its named member could make, from the inside out: an insider's nonsense."""
    if isinstance(value, tuple):
        return tuple(sign_all(net, item) for item in value)
    if isinstance(value, QuorumCertificate):
        try:
            return net.certificate(
                value.kind, value.seq, value.digest, [m for m, _ in value.votes], value.view
            )
        except Exception:
            return value
    if not hasattr(value, "__struct_fields__"):
        return value
    value = structs.replace(value, **{f: sign_all(net, getattr(value, f)) for f in value.__struct_fields__})
    if isinstance(value, PrePrepare) and value.batch is not None and len(value.digest) == 32:
        try:
            value = structs.replace(value, digest=value.batch.digest)
        except ValueError:
            return value
    try:
        return net.signed(value)
    except Exception:
        return value  # nobody can sign that


@settings(max_examples=200)
@given(message=MESSAGES)
def test_whether_a_message_is_authentic_can_always_be_said(message):
    net = Network(4, running=[])
    assert authentic(message, net.config.chain_id, net.keyring) in (True, False)
    assert authentic(sign_all(net, message), net.config.chain_id, net.keyring) in (True, False)


@pytest.mark.parametrize("state", ["new", "busy", "changing", "later view", "primary"])
@settings(max_examples=100)
@given(messages=st.lists(MESSAGES, min_size=1, max_size=6))
def test_no_nonsense_that_is_signed_brings_a_replica_down(state, messages):
    """Not even from all other members together: step returns, and nothing grows without bound."""
    me = 0 if state == "primary" else 2
    net = Network(
        4, running=[me], checkpoint_interval=2, log_window=4, max_requests_waiting=8, client_window=4
    )
    if state != "new":
        net.step(me, net.request(1))
        net.step(me, net.pre_prepare(net.batch(1)))
    if state == "changing":
        net.fire(me, VIEW)
    if state == "later view":
        net.step(me, net.new_view([net.view_change(i) for i in (1, 0, 3)]))
    for message in messages:
        net.step(me, sign_all(net, message))
        net.fire(me, STATUS)
    replica = net.replicas[me]
    assert all(replica.low < seq <= replica.high for seq in replica.slots)
    assert len(replica.waiting) <= 8
    assert all(len(held) <= 8 for held in replica.early._held.values())
    # And it still works: what it is asked for in good order is done.
    if state == "new" and not replica.slots and replica.view == 0 and not replica.changing:
        net.step(me, net.pre_prepare(net.batch(1)))
        assert replica.slots[1].digest == net.batch(1).digest


# --- the small parts against naive models ---


@given(st.integers(1, 6), st.lists(st.integers(1, 30), max_size=60))
def test_the_client_table_is_a_set_that_forgets_only_what_is_too_old(window, sequences):
    """A naive model: the set of everything executed, and the lowest sequence that is still distinguished."""
    table, done = ClientTable(window), set()
    low = 0
    for sequence in sequences:
        assert table.executed("bank", sequence) == (sequence in done or sequence <= low)
        assert table.acceptable("bank", sequence) == (sequence not in done and low < sequence <= low + window)
        if table.acceptable("bank", sequence):
            table.mark("bank", sequence)
            done.add(sequence)
            while low + 1 in done:
                low += 1
            table.answer("bank", sequence, 1, b"d", b"r")
            assert table.reply("bank", sequence) == (1, b"d", b"r")
    for sequence in done:
        kept = table.reply("bank", sequence) is not None
        assert kept == (sequence > max(done) - window)
    assert not table.executed("shop", 1)


@given(st.integers(1, 4), st.lists(st.integers(1, 10**12), max_size=80))
def test_the_client_table_never_executes_twice_and_stays_small_whatever_is_marked(window, sequences):
    """Batches may hold any sequence (a faulty client signs what it likes): still at most once each, bounded."""
    table = ClientTable(window)
    for sequence in sequences:
        if not table.executed("bank", sequence):
            table.mark("bank", sequence)
            table.answer("bank", sequence, 1, b"d", b"r")
        assert table.executed("bank", sequence)
    known = table._clients.get("bank")
    if known:
        assert len(known.above) <= window
        assert len(known.replies) <= window
    for sequence in sequences:
        assert table.executed("bank", sequence)


WAITING = st.lists(
    st.tuples(
        st.sampled_from(["add", "proposed", "done", "take", "renew", "pass_on"]),
        st.integers(1, 4),
        st.integers(0, 15),
    ),
    min_size=20,
    max_size=60,
)


@settings(max_examples=300)  # of at least twenty moves: a hundred short ones left some of it out
@given(st.integers(1, 6), WAITING)
def test_waiting_is_first_in_first_out_and_bounded(limit, moves):
    """Against three plain lists."""
    waiting, all_, fresh, untold = Waiting(limit), [], [], []
    requests = {k: Request("bank", k, bytes(3 * k)) for k in range(1, 5)}  # few, so that moves meet
    for move, k, size in moves:
        request = requests[k]
        if move == "add":
            added = request not in all_ and len(all_) < limit
            assert waiting.add(request) is added
            if added:
                all_.append(request)
                fresh.append(request)
        elif move == "proposed":
            waiting.proposed(request)
            fresh = [r for r in fresh if r != request]
        elif move == "done":
            waiting.done(request)
            fresh, all_ = [r for r in fresh if r != request], [r for r in all_ if r != request]
        elif move == "take":
            expected = []
            for r in fresh:
                fits = sum(len(e.operation) for e in [*expected, r]) <= size
                if len(expected) < k and (fits or not expected):
                    expected.append(r)
                else:
                    break
            assert waiting.take(k, size) == expected
            fresh = fresh[len(expected) :]
        elif move == "pass_on":
            assert waiting.pass_on(k) == untold[:k]
            untold = untold[k:]
        else:
            waiting.renew()
            fresh, untold = list(all_), list(all_)
        untold = [r for r in untold if r in fresh]
        assert list(waiting) == all_
        assert (len(waiting), waiting.fresh, waiting.untold) == (len(all_), len(fresh), len(untold))
        assert waiting.fresh_bytes == sum(len(r.operation) for r in fresh)
        assert waiting.oldest == (all_[0].key if all_ else None)
        assert len(waiting) <= limit


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9), st.sampled_from([b"a", b"b"])), max_size=120),
    st.integers(1, 4),
)
def test_checkpoint_votes_are_bounded_and_a_certificate_is_a_quorum(votes, limit):
    quorum, counted = 5, CheckpointVotes(5, limit)
    said: dict[tuple[int, int], bytes] = {}
    for replica, k, value in votes:
        certificate = counted.add(Checkpoint(k, value, replica, b"%d" % replica))
        said.setdefault((replica, k), value)
        if certificate is not None:
            voters = [member for member, _ in certificate.votes]
            assert len(set(voters)) == len(voters) == quorum
            assert (certificate.kind, certificate.view, certificate.seq) == ("Checkpoint", 0, k)
        for member in range(7):
            assert sum(member in held for held in counted._votes.values()) <= limit
    counted.drop_up_to(5)
    assert all(seq > 5 for seq in counted._votes)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60), st.integers(1, 5))
def test_early_messages_are_the_newest_of_each_sender(arrivals, quota):
    early = EarlyMessages(quota, 1 << 20)
    model: dict[int, list[Prepare]] = {}
    for seq, (sender, view) in enumerate(arrivals):
        message = Prepare(view, seq, b"", sender)
        early.hold(message)
        model[sender] = [*model.get(sender, []), message][-quota:]
    for view in range(6):
        expected = [m for sender in sorted(model) for m in model[sender] if m.view == view]
        assert early.release(view) == expected
    assert early.release(5) == []
