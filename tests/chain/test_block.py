"""Merkle trees with one root a list, and blocks that follow one another."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tradebft.chain import codec
from tradebft.chain.block import (
    EMPTY_ROOT,
    GENESIS_PARENT,
    Block,
    Header,
    batch_digest,
    merkle_proof,
    merkle_root,
    verify_proof,
    why_invalid,
)
from tradebft.chain.crypto import QuorumCertificate, make_identities, vote_payload

leaves = st.lists(st.binary(max_size=6), min_size=1, max_size=20)


def rfc_6962(items):
    """The definition of RFC 6962, section 2.1, word for word: split at the largest power of two below n."""
    if len(items) == 1:
        return sha256(b"\x00" + items[0]).digest()
    k = 1 << (len(items) - 1).bit_length() - 1
    return sha256(b"\x01" + rfc_6962(items[:k]) + rfc_6962(items[k:])).digest()


@given(leaves)
def test_the_root_is_that_of_rfc_6962(items):
    assert merkle_root(items) == rfc_6962(items)


def test_the_empty_list_and_the_empty_leaf_differ():
    assert merkle_root([]) == EMPTY_ROOT != merkle_root([b""])


@given(leaves)
def test_doubling_the_last_leaf_gives_another_root(items):
    assert merkle_root(items) != merkle_root([*items, items[-1]])


@given(leaves)
def test_an_inner_node_is_never_a_leaf(items):
    if len(items) > 1:
        level = [sha256(b"\x00" + item).digest() for item in items]
        assert merkle_root([level[0] + level[1], *items[2:]]) != merkle_root(items)


@given(leaves, st.data())
def test_every_leaf_has_a_proof_and_no_other_leaf_or_place_does(items, data):
    index = data.draw(st.integers(0, len(items) - 1))
    root, proof = merkle_root(items), merkle_proof(items, index)
    assert verify_proof(root, items[index], proof)
    assert not verify_proof(root, items[index] + b"x", proof)
    assert not verify_proof(bytes(32), items[index], proof)
    assert not verify_proof(root, items[index], replace(proof, path=(*proof.path, bytes(32))))
    assert not verify_proof(root, items[index], replace(proof, count=index))
    assert not verify_proof(root, items[index], replace(proof, index=-1))
    if proof.path:
        assert not verify_proof(root, items[index], replace(proof, path=proof.path[:-1]))
        assert not verify_proof(root, items[index], replace(proof, path=(bytes(32), *proof.path[1:])))


def test_there_is_no_proof_of_a_leaf_that_is_not_there():
    with pytest.raises(IndexError):
        merkle_proof([b"a"], 1)


def test_a_block_follows_its_parent_with_a_certificate_for_its_own_batch_or_not_at_all():
    signers, keyring = make_identities(range(4), "modelled", seed=1)

    def block(height=1, parent=GENESIS_PARENT, batch=b"batch", time_ns=5, seq=None, kind="Commit", voters=3):
        agreed = batch_digest(batch)
        header = Header(height, parent, time_ns, agreed, EMPTY_ROOT, EMPTY_ROOT, bytes(32))
        place = height if seq is None else seq
        payload = vote_payload(b"c", kind, 0, place, agreed)
        votes = tuple((i, signers[i].sign(payload)) for i in range(voters))
        return Block(header, batch, QuorumCertificate(kind, 0, place, agreed, votes))

    def why(candidate, parent=None):
        return why_invalid(candidate, parent, b"c", keyring, 3)

    first = block()
    assert why(first) is None
    assert why(block(2, first.header.hash, time_ns=5), first.header) is None
    assert codec.decode(codec.encode(first), Block) == first
    assert "height" in why(block(2))
    assert "parent" in why(block(2, bytes(32), time_ns=9), first.header)
    assert "time" in why(block(2, first.header.hash, time_ns=4), first.header)
    assert "batch" in why(replace(first, batch=b"other"))
    assert "no commit certificate" in why(replace(first, certificate=None))
    assert "something else" in why(block(seq=2))
    assert "something else" in why(block(kind="Prepare"))
    assert "something else" in why(replace(first, certificate=block(batch=b"other").certificate))
    assert "3 votes" in why(block(voters=2))
