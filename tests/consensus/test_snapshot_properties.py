"""Snapshots, whatever is in them: the bytes come back, nothing else passes for them, and what follows is the same."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from left_behind import CHUNKS, behind, head, level
from msgspec.structs import replace
from replicas import of
from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus import snapshot as snapshots
from tradebft.consensus.decoding import decoded, limit_of
from tradebft.consensus.interface import Evidence, Ignored, Install
from tradebft.consensus.membership import Standing, genesis
from tradebft.consensus.messages import Batch, Chunk, Decided, Request, SnapshotHead
from tradebft.consensus.pbft.snapshots import CHUNKS_AT_ONCE
from tradebft.consensus.snapshot import CHUNK_BYTES, Table, chunk_digest, cut, manifest_of, table_of
from tradebft.network.application import HashChain, members_operation

ROOT = b"r" * 32
STANDING = Standing(genesis(4))

# --- cutting ---


@given(st.binary(max_size=80), st.integers(1, 20))
def test_any_bytes_cut_anywhere_are_the_same_bytes_again(data, size):
    with mock.patch.object(snapshots, "CHUNK_BYTES", size):
        chunks = cut(data)
    assert b"".join(chunks) == data
    assert len(chunks) == max(1, -(-len(data) // size))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert len(chunks[-1]) <= size


def test_the_largest_chunk_fits_a_message_and_what_is_too_long_for_one_is_not_decoded():
    (largest,) = cut(bytes(CHUNK_BYTES))
    message = Chunk(1 << 62, 1 << 62, largest, 1 << 30, bytes(64))
    assert decoded(encode(message)) == message
    too_long = encode(Chunk(4, 0, bytes(limit_of("Chunk")), 0, bytes(64)))
    with pytest.raises(ValueError, match="bytes"):
        decoded(too_long)


# --- manifests ---

pieces = st.lists(st.binary(max_size=4), min_size=1, max_size=5)
manifests = st.builds(
    lambda seq, root, table, application: manifest_of(seq, root, STANDING, table, application),
    st.integers(1, 3),
    st.sampled_from([ROOT, b"s" * 32]),
    pieces,
    pieces,
)


@given(manifests, manifests)
def test_two_manifests_share_a_digest_only_if_they_are_the_same(one, other):
    assert (one.digest == other.digest) == (one == other)


@given(pieces, pieces, st.data())
def test_any_chunk_that_is_changed_missing_added_or_moved_makes_another_manifest(table, application, data):
    made = manifest_of(4, ROOT, STANDING, table, application)
    assert made == manifest_of(4, ROOT, STANDING, tuple(table), iter(application))
    assert (made.table, len(made.chunks)) == (len(table), len(table) + len(application))
    chunks = [*table, *application]
    at = data.draw(st.integers(0, len(chunks) - 1))
    to = data.draw(st.integers(0, len(chunks) - 1))
    moved = [*chunks]
    moved[at], moved[to] = moved[to], moved[at]
    for changed in (
        [*chunks[:at], chunks[at] + b"\0", *chunks[at + 1 :]],
        [*chunks[:at], *chunks[at + 1 :]],
        [*chunks[:at], b"more", *chunks[at:]],
        [*chunks[:at], b"", *chunks[at:]],
        moved,
    ):
        if changed == chunks:
            continue  # equal chunks changed places
        first = made.table
        assert manifest_of(4, ROOT, STANDING, changed[:first], changed[first:]).digest != made.digest
    # And where the client table ends is part of it.
    assert replace(made, table=made.table + 1).digest != made.digest


# --- the client table ---

numbers = st.integers(0, 2**62)
tables = st.builds(
    Table,
    st.lists(
        st.tuples(st.text(max_size=5), numbers, st.lists(numbers, max_size=3).map(tuple)), max_size=4
    ).map(tuple),
    st.lists(
        st.tuples(
            st.text(max_size=5),
            st.lists(
                st.tuples(numbers, numbers, st.binary(max_size=32), st.binary(max_size=40)), max_size=3
            ).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
)


@given(tables, st.integers(1, 40), st.data())
def test_a_client_table_survives_being_cut_and_a_part_of_it_is_none(table, size, data):
    with mock.patch.object(snapshots, "CHUNK_BYTES", size):
        chunks = cut(encode(table))
    assert table_of(chunks) == table
    gone = data.draw(st.integers(0, len(chunks) - 1))
    assert table_of([*chunks[:gone], *chunks[gone + 1 :]]) != table
    assert table_of([*chunks, b"\xc0"]) is None
    assert table_of(chunks[:-1]) is None


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_no_bytes_make_a_table_that_reads_back_as_others(chunks):
    """Whatever is handed in: nothing raises, and what does decode has one encoding only."""
    table = table_of(chunks)
    assert table is None or encode(table) == b"".join(chunks)


# --- a replica that fetches one from peers that send anything ---

BEHIND = behind(10)  # replica 3 lacks 1..10; the others show the snapshot at 8
HEAD, TRUE = head(BEHIND, 1), [BEHIND.chunk(1, 8, index).data for index in range(CHUNKS)]
TRUE_DIGESTS = HEAD.manifest.chunks


def hostile(draw):
    """A chunk message that is wrong somewhere, or right, by anyone of the three that may send it."""
    index = draw(st.integers(-2, CHUNKS + 1))
    true = TRUE[index % CHUNKS]
    how = draw(st.sampled_from(["right", "right", "flipped", "short", "long", "empty", "another's", "seq"]))
    data = {
        "flipped": bytes([true[0] ^ 1]) + true[1:] if true else b"\1",
        "short": true[:-1] or b"\1",
        "long": true + b"\0",
        "empty": b"",
        "another's": TRUE[(index + 1) % CHUNKS],
    }.get(how, true)
    return Chunk(12 if how == "seq" else 8, index, data, draw(st.integers(0, 2)))


@settings(max_examples=40)
@given(st.data())
def test_only_the_chunks_that_were_signed_are_ever_taken(data):
    """Chunks flipped, missing, added, out of order, twice: nothing wrong gets in, and the right ones complete it."""
    net = fresh()
    replica = net.replicas[3]
    net.step(3, HEAD)
    given_in: set[int] = set()
    for _ in range(data.draw(st.integers(0, 30))):
        chunk = hostile(data.draw)
        before = replica.download
        effects = replica.step(net.now, net.signed(chunk))
        assert replica.download is before
        right = (
            chunk.seq == 8
            and 0 <= chunk.index < CHUNKS
            and chunk_digest(chunk.data) == TRUE_DIGESTS[chunk.index]
        )
        wrong = chunk.seq == 8 and 0 <= chunk.index < CHUNKS and not right and chunk.index not in given_in
        assert bool(of(Evidence, effects)) is wrong
        if right and len(given_in) < CHUNKS:
            given_in.add(chunk.index)
        assert set(replica.download.have) == given_in
        assert all(replica.download.have[index] == TRUE[index] for index in given_in)
        assert len(replica.download.asked) <= CHUNKS_AT_ONCE
        assert bool(of(Install, effects)) is (right and len(given_in) == CHUNKS and replica.installing)
        if replica.installing:
            return
    effects = []
    for index in data.draw(st.permutations([i for i in range(CHUNKS) if i not in given_in])):
        assert not of(Install, effects)
        effects = list(replica.step(net.now, net.signed(Chunk(8, index, TRUE[index], 2))))
    (install,) = of(Install, effects)
    assert [*install.table, *install.application] == TRUE
    assert len(install.table) == HEAD.manifest.table


def fresh():
    """Replica 3 as it was before anything arrived; the others are not asked here."""
    BEHIND.replicas[3] = BEHIND._fresh(3)
    BEHIND.timers[3] = {}
    BEHIND.bag.clear()
    return BEHIND


@given(
    st.sampled_from(
        ["seq", "root", "table", "drop", "swap", "add", "kind", "vote", "votes", "digest", "view"]
    ),
    st.integers(0, CHUNKS - 2),
)
def test_a_manifest_that_was_not_signed_starts_no_download(how, at):
    """The certificate is the real one; or it is another certificate, and the manifest the real one."""
    net, manifest, proof = fresh(), HEAD.manifest, HEAD.certificate
    chunks = manifest.chunks
    changed = {
        "seq": replace(manifest, seq=12),
        "root": replace(manifest, root=ROOT),
        "table": replace(manifest, table=2),
        "drop": replace(manifest, chunks=chunks[:at] + chunks[at + 1 :]),
        "swap": replace(manifest, chunks=(*chunks[:at], chunks[at + 1], chunks[at], *chunks[at + 2 :])),
        "add": replace(manifest, chunks=(*chunks[:at], chunk_digest(b"more"), *chunks[at:])),
    }.get(how, manifest)
    shown = {
        "kind": QuorumCertificate("Commit", *_rest(proof)),
        "vote": replace(proof, votes=((0, bytes(64)), *proof.votes[1:])),
        "votes": replace(proof, votes=proof.votes[:-1]),
        "digest": replace(proof, digest=ROOT),
        "view": replace(proof, view=1),
    }.get(how, proof)
    effects = net.replicas[3].step(0, net.signed(SnapshotHead(changed, shown, 1)))
    assert [e.culprit for e in of(Evidence, effects)] == [1]
    assert net.replicas[3].download is None


def _rest(proof: QuorumCertificate):
    return proof.view, proof.seq, proof.digest, proof.votes


def test_the_same_manifest_from_everybody_is_one_download_and_then_all_is_level():
    """What the two tests above fetch from is a sound network: undisturbed, the same replica gets level."""
    net = behind(10)
    for i in (0, 1, 2):
        assert not of(Ignored, net.step(3, head(net, i)))
    assert net.replicas[3].download.sources == [0, 1, 2]
    net.settle()
    net.catch_up(3)
    level(net, 0, 1, 2, 3)


# --- the hash chain goes on from any snapshot ---


def decided(seq: int, operations: list[bytes]) -> tuple[Decided, tuple[Request, ...]]:
    requests = tuple(Request("bank", k, operation) for k, operation in enumerate(operations))
    batch = Batch(0, requests)
    return Decided(seq, batch, QuorumCertificate("Commit", 0, seq, batch.digest, ())), requests


operations = st.lists(st.binary(max_size=3) | st.just(members_operation(((0, b""), (2, b"key")))), max_size=3)


@given(st.lists(operations, max_size=12), st.integers(0, 12))
def test_a_hash_chain_restored_at_any_point_has_the_same_future(story, cut_at):
    original, copy = HashChain(), HashChain()
    for seq, batch in enumerate(story, 1):
        executed = original.execute(*decided(seq, batch))
        if seq < cut_at:
            continue
        if seq == cut_at:
            assert copy.restore(b"".join(cut(*original.snapshot()))) == executed.root
        else:
            assert copy.execute(*decided(seq, batch)) == executed
        assert copy.snapshot() == original.snapshot()


@given(st.lists(operations, min_size=1, max_size=5), st.binary(max_size=40))
def test_a_hash_chain_takes_no_bytes_of_another_length_and_stays_what_it_was(story, data):
    chain = HashChain()
    for seq, batch in enumerate(story, 1):
        root = chain.execute(*decided(seq, batch)).root
    if len(data) == len(root):
        assert chain.restore(data) == data
    else:
        with pytest.raises(ValueError, match="32 bytes"):
            chain.restore(data)
        assert chain.snapshot() == (root,)


def test_histories_that_differ_anywhere_have_different_roots():
    """Order and content of every batch count, also batches without an effect."""
    stories = [[], [[]], [[], []], [[b"a"]], [[b"b"]], [[b"a"], [b"b"]], [[b"b"], [b"a"]], [[b"a", b"b"]]]
    roots = Counter()
    for story in stories:
        chain = HashChain()
        for seq, batch in enumerate(story, 1):
            chain.execute(*decided(seq, batch))
        roots[chain.snapshot()] += 1
    assert set(roots.values()) == {1}
