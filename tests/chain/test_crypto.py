"""Nothing signed for one purpose serves another, and nobody signs for anybody else."""

import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain.crypto import (
    Ed25519Keyring,
    Ed25519Signer,
    QuorumCertificate,
    acceptable_key,
    digest,
    make_identities,
    token,
    vote_payload,
)

KINDS = ["modelled", "real"]
DIGEST = bytes(range(32))
PRIME = 2**255 - 19
# Points of small order, as in libsodium's own list, and two encodings that are not canonical.
DEGENERATE = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    (PRIME - 1).to_bytes(32, "little"),
    PRIME.to_bytes(32, "little"),
    (PRIME + 1).to_bytes(32, "little"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_holds_for_its_signer_and_its_bytes_only(kind):
    signers, keyring = make_identities([0, 1, "firm.1"], kind, seed=7)
    for member, signer in signers.items():
        signature = signer.sign(b"payload")
        assert len(signature) == 64
        assert keyring.verify(member, b"payload", signature)
        assert keyring.verify_key(signer.public_key, b"payload", signature)
        assert keyring.public_key(member) == signer.public_key
        assert not keyring.verify(member, b"other", signature)
        others = [m for m in signers if m != member]
        assert not any(keyring.verify(m, b"payload", signature) for m in others)
        assert not any(keyring.verify_key(signers[m].public_key, b"payload", signature) for m in others)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("member", "signature"),
    [(9, bytes(64)), (0, b""), (0, bytes(63)), (0, bytes(65)), (0, None), (0, "x" * 64), ([], bytes(64))],
)
def test_anything_odd_is_false_and_never_an_exception(kind, member, signature):
    signers, keyring = make_identities([0], kind, seed=7)
    assert not keyring.verify(member, b"payload", signature)
    assert not keyring.verify_key(signers[0].public_key, b"payload", signature)
    assert not keyring.verify(0, None, bytes(64))
    assert not keyring.verify_key(member, b"payload", bytes(64))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_keys_and_another_gives_others(kind):
    def keys(seed):
        return [s.public_key for s in make_identities(range(3), kind, seed)[0].values()]

    assert keys(1) == keys(1)
    assert not set(keys(1)) & set(keys(2))
    assert (
        make_identities([1], kind, 1)[0][1].public_key != make_identities(["1"], kind, 1)[0]["1"].public_key
    )


def test_the_keyring_of_a_simulation_gives_no_secret_away():
    _, keyring = make_identities(["a", "b"], "modelled", seed=3)
    reachable = {name for name in dir(keyring) if not name.startswith("__")}
    assert reachable == {"_issue", "_public", "issue", "public_key", "verify", "verify_key"}
    assert all(len(key) == 32 for key in keyring._public.values())


@pytest.mark.parametrize("key", DEGENERATE, ids=lambda k: k[:2].hex())
def test_keys_of_small_order_are_refused(key):
    assert not acceptable_key(key)
    keyring = Ed25519Keyring()
    with pytest.raises(ValueError, match="prime-order"):
        keyring.register("mallory", key)
    # Under such a key R = key, S = 0 is a "signature" of everything, for some verifiers.
    assert not keyring.verify_key(key, b"anything", key + bytes(32))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), None, 5])
def test_keys_of_the_wrong_shape_are_refused(key):
    assert not acceptable_key(key)
    assert not Ed25519Keyring().verify_key(key, b"anything", bytes(64))


def test_a_key_file_is_its_owners_alone(tmp_path):
    signer = Ed25519Signer("customs", bytes(range(32)))
    path = tmp_path / "customs.key"
    signer.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Ed25519Signer.load("customs", path).public_key == signer.public_key
    with pytest.raises(FileExistsError):
        signer.save(path)
    path.chmod(0o640)
    with pytest.raises(ValueError, match="0600"):
        Ed25519Signer.load("customs", path)
    path.chmod(0o600)
    path.write_bytes(bytes(33))
    with pytest.raises(ValueError, match="32 bytes"):
        Ed25519Signer.load("customs", path)


parts = st.lists(st.binary(max_size=5), max_size=3)


@given(parts, parts)
def test_no_two_splits_share_a_digest(one, other):
    assert (digest("d", *one) == digest("d", *other)) == (one == other)
    assert digest("d", *one) != digest("e", *one)


votes = st.tuples(
    st.binary(max_size=3),
    st.sampled_from(["Prepare", "Commit", "Checkpoint", "P"]),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(votes, votes)
def test_no_two_votes_share_a_payload(one, other):
    assert (vote_payload(*one, DIGEST) == vote_payload(*other, DIGEST)) == (one == other)


def test_a_vote_outside_64_bits_is_a_callers_mistake():
    with pytest.raises(struct.error):
        vote_payload(b"c", "Commit", -1, 0, DIGEST)


def test_tokens_depend_on_key_kind_and_text():
    key = b"0123456789abcdef"
    tokens = {token(key, "uscc", "a"), token(key, "uscc", "b"), token(key, "invoice", "a")}
    tokens |= {token(b"another key of 16", "uscc", "a"), token(key, "us", "cca")}
    assert len(tokens) == 5
    assert token(key, "uscc", "a") == token(key, "uscc", "a")
    with pytest.raises(ValueError, match="16"):
        token(b"short", "uscc", "a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_needs_a_quorum_of_distinct_members_whose_signatures_all_hold(kind):
    signers, keyring = make_identities(range(4), kind, seed=1)

    def certificate(members, view=1, said="Commit", **changed):
        payload = vote_payload(b"chain", said, view, 5, DIGEST)
        signed = tuple((m, signers[m].sign(payload)) for m in members)
        fields = {"kind": "Commit", "view": 1, "seq": 5, "digest": DIGEST, "votes": signed, **changed}
        return QuorumCertificate(**fields)

    assert certificate([0, 1, 2]).valid(b"chain", keyring, 3)
    assert certificate([3, 2, 1, 0]).valid(b"chain", keyring, 3)
    assert not certificate([0, 1]).valid(b"chain", keyring, 3)
    assert not certificate([0, 1, 1]).valid(b"chain", keyring, 3)
    assert not certificate([0, 1, 2]).valid(b"other", keyring, 3)
    assert not certificate([0, 1, 2], view=2).valid(b"chain", keyring, 3)
    assert not certificate([0, 1, 2], said="Prepare").valid(b"chain", keyring, 3)
    assert not certificate([0, 1, 2], digest=bytes(32)).valid(b"chain", keyring, 3)
    assert not certificate([0, 1, 2], digest=b"").valid(b"chain", keyring, 3)
    assert not certificate([0, 1, 2], view=1, seq=-1).valid(b"chain", keyring, 3)
    good = certificate([0, 1, 2]).votes
    forged = (*good, (3, bytes(64)))
    assert not certificate([], votes=forged).valid(b"chain", keyring, 3)
    assert not certificate([], votes=(*good, (9, good[0][1]))).valid(b"chain", keyring, 3)
