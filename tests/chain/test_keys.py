"""Keys that change: several a member, one in use, and none that is worth anything where it should not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain.crypto import Announced, Ed25519Signer, Rekeyed, Wallet, later_key, make_identities

KINDS = ["modelled", "real"]
MEMBERS = (0, 1, 2, "firm.1")
SEED = 11


def identities(kind, seed=SEED):
    return make_identities(MEMBERS, kind, seed)


def signers_of(kind, member, generations=4, seed=SEED):
    """All keys of *member*, the registered one first."""
    signers, keyring = identities(kind, seed)
    later = [later_key(keyring, member, seed, generation) for generation in range(1, generations)]
    return [signers[member], *later], keyring


# --- later_key ---


@pytest.mark.parametrize("kind", KINDS)
def test_later_keys_are_the_same_every_time(kind):
    first = [signer.public_key for signer in signers_of(kind, 1)[0]]
    again = [signer.public_key for signer in signers_of(kind, 1)[0]]
    assert first == again
    _, keyring = identities(kind)
    backwards = [later_key(keyring, 1, SEED, g).public_key for g in (3, 2, 1)]
    assert backwards[::-1] == first[1:]  # whatever else was asked for before


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_members_generations_or_seeds_share_a_key(kind):
    keys = [
        signer.public_key
        for seed in (1, 2)
        for member in (*MEMBERS, "1", "0")
        for signer in (later_key(identities(kind, seed)[1], member, seed, g) for g in range(1, 5))
    ]
    keys += [signer.public_key for seed in (1, 2) for signer in identities(kind, seed)[0].values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("kind", KINDS)
def test_generation_zero_is_the_key_that_was_registered(kind):
    signers, keyring = identities(kind)
    zero = later_key(keyring, 1, SEED, 0)
    assert zero.public_key == signers[1].public_key
    assert keyring.verify(1, b"payload", zero.sign(b"payload"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_later_key_signs_holds_under_that_key_only(kind):
    signers, keyring = signers_of(kind, 1)
    for signer in signers:
        signature = signer.sign(b"payload")
        assert signer.member == 1
        assert len(signature) == 64
        holding = [s for s in signers if keyring.verify_key(s.public_key, b"payload", signature)]
        assert holding == [signer]
        assert keyring.verify(1, b"payload", signature) is (signer is signers[0])
    assert keyring.public_key(1) == signers[0].public_key  # registration does not change


@pytest.mark.parametrize("kind", KINDS)
def test_making_a_later_key_registers_nobody(kind):
    """A member that is unknown stays unknown, whatever key was made for it."""
    _, keyring = identities(kind)
    signer = later_key(keyring, "stranger", SEED, 1)
    assert not keyring.verify("stranger", b"payload", signer.sign(b"payload"))
    with pytest.raises(KeyError):
        keyring.public_key("stranger")


# --- Rekeyed: other keys, and the old ones are worth nothing ---


@pytest.mark.parametrize("kind", KINDS)
@given(
    in_use=st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, 3)),
    member=st.sampled_from(MEMBERS),
    other=st.sampled_from(MEMBERS),
    generation=st.integers(0, 3),
)
def test_a_signature_counts_with_the_key_in_use_and_with_no_other(kind, in_use, member, other, generation):
    """Whichever key each member uses: only what the member itself signed with that one holds."""
    keys = {m: later_key(identities(kind)[1], m, SEED, g).public_key for m, g in in_use.items()}
    _, base = identities(kind)
    signer = later_key(base, other, SEED, generation)
    for m, g in in_use.items():
        later_key(base, m, SEED, g)
    keyring = Rekeyed(base, keys)
    expected = other == member and generation == in_use.get(member, 0)
    assert keyring.verify(member, b"payload", signer.sign(b"payload")) is expected
    assert not keyring.verify(member, b"other payload", signer.sign(b"payload"))
    assert keyring.public_key(member) == keys.get(member, base.public_key(member))
    assert keyring.verify_key(signer.public_key, b"payload", signer.sign(b"payload"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_was_replaced_is_worth_nothing(kind):
    signers, base = signers_of(kind, 1)
    for generation in (1, 2, 3):
        keyring = Rekeyed(base, {1: signers[generation].public_key})
        for old in signers[:generation]:
            assert not keyring.verify(1, b"payload", old.sign(b"payload"))
        assert keyring.verify(1, b"payload", signers[generation].sign(b"payload"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_replaced_key_of_one_member_says_nothing_about_the_others(kind):
    signers, base = identities(kind)
    keyring = Rekeyed(base, {1: later_key(base, 1, SEED, 1).public_key})
    for member in (0, 2, "firm.1"):
        assert keyring.verify(member, b"payload", signers[member].sign(b"payload"))
        assert keyring.public_key(member) == signers[member].public_key


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_of_another_member_in_use_is_that_members_business(kind):
    """Who announces somebody else's key gains nothing but that the other can sign for it."""
    signers, base = identities(kind)
    keyring = Rekeyed(base, {1: signers[2].public_key})
    assert not keyring.verify(1, b"payload", signers[1].sign(b"payload"))
    assert keyring.verify(2, b"payload", signers[2].sign(b"payload"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_member_is_refused_and_one_that_has_only_a_later_key_is_not(kind):
    _, base = identities(kind)
    newcomer = later_key(base, "newcomer", SEED, 1)
    signature = newcomer.sign(b"payload")
    assert not Rekeyed(base, {}).verify("newcomer", b"payload", signature)
    with pytest.raises(KeyError):
        Rekeyed(base, {}).public_key("newcomer")
    keyring = Rekeyed(base, {"newcomer": newcomer.public_key})
    assert keyring.verify("newcomer", b"payload", signature)
    assert keyring.public_key("newcomer") == newcomer.public_key


@pytest.mark.parametrize("kind", KINDS)
def test_a_rekeyed_keyring_does_not_change_with_what_it_was_made_from(kind):
    signers, base = signers_of(kind, 1)
    keys = {1: signers[1].public_key}
    keyring = Rekeyed(base, keys)
    keys[1] = signers[2].public_key
    assert keyring.verify(1, b"payload", signers[1].sign(b"payload"))
    assert not keyring.verify(1, b"payload", signers[2].sign(b"payload"))
    assert base.verify(1, b"payload", signers[0].sign(b"payload"))


@pytest.mark.parametrize("kind", KINDS)
def test_keys_may_be_replaced_again_and_a_first_key_come_back(kind):
    signers, base = signers_of(kind, 1)
    once = Rekeyed(base, {1: signers[1].public_key})
    twice = Rekeyed(once, {1: signers[0].public_key})
    assert twice.verify(1, b"payload", signers[0].sign(b"payload"))
    assert not twice.verify(1, b"payload", signers[1].sign(b"payload"))


# --- Announced: any of them, until it is known which ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_announced_key_counts_beside_the_registered_one_from_then_on(kind):
    signers, base = signers_of(kind, 1)
    keyring = Announced(base)
    for announced in range(len(signers)):
        if announced:
            keyring.announce(1, signers[announced].public_key)
        counting = [s for s in signers if keyring.verify(1, b"payload", s.sign(b"payload"))]
        assert counting == signers[: announced + 1]
    assert keyring.public_key(1) == signers[0].public_key
    assert not any(keyring.verify(2, b"payload", s.sign(b"payload")) for s in signers)
    assert not any(keyring.verify(1, b"other", s.sign(b"payload")) for s in signers)


@pytest.mark.parametrize("kind", KINDS)
def test_announcing_touches_nobody_else_and_not_the_keyring_below(kind):
    signers, base = signers_of(kind, 1)
    one, other = Announced(base), Announced(base)
    one.announce(1, signers[1].public_key)
    signature = signers[1].sign(b"payload")
    assert one.verify(1, b"payload", signature)
    assert not other.verify(1, b"payload", signature)
    assert not base.verify(1, b"payload", signature)


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_is_known_by_an_announcement_only_counts_by_it_only(kind):
    _, base = identities(kind)
    newcomer = later_key(base, "newcomer", SEED, 1)
    keyring = Announced(base)
    assert not keyring.verify("newcomer", b"payload", newcomer.sign(b"payload"))
    keyring.announce("newcomer", newcomer.public_key)
    assert keyring.verify("newcomer", b"payload", newcomer.sign(b"payload"))
    with pytest.raises(KeyError):
        keyring.public_key("newcomer")  # it was never registered


ODD = [
    (9, b"payload", bytes(64)),
    ([], b"payload", bytes(64)),
    (None, b"payload", bytes(64)),
    (1, None, bytes(64)),
    (1, b"payload", None),
    (1, b"payload", b""),
    (1, b"payload", bytes(63)),
    (1, b"payload", "x" * 64),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("member", "payload", "signature"), ODD)
def test_anything_odd_is_false_and_never_an_exception(kind, member, payload, signature):
    signers, base = signers_of(kind, 1)
    announced = Announced(base)
    announced.announce(1, signers[1].public_key)
    announced.announce(1, b"no key")
    for keyring in (
        announced,
        Rekeyed(base, {1: signers[1].public_key}),
        Rekeyed(base, {1: b"no key"}),
        Rekeyed(base, {1: b""}),
        Rekeyed(announced, {2: signers[2].public_key}),
    ):
        assert not keyring.verify(member, payload, signature)
        assert not keyring.verify_key(signers[1].public_key, payload, signature)
        assert not keyring.verify_key(b"no key", b"payload", bytes(64))


# --- Wallet ---


@pytest.mark.parametrize("kind", KINDS)
@given(uses=st.lists(st.integers(0, 3), max_size=8))
def test_a_wallet_signs_with_the_key_in_use_and_loses_none(kind, uses):
    """However often the key in use changes, back to an earlier one too: all keys stay at hand."""
    signers, base = signers_of(kind, 1)
    wallet = Wallet(signers)
    for use in (0, *uses):
        changed = wallet.with_key(signers[use].public_key)
        assert changed is not None
        wallet = changed
        assert (wallet.member, wallet.public_key) == (1, signers[use].public_key)
        assert base.verify_key(signers[use].public_key, b"payload", wallet.sign(b"payload"))
        others = {s.public_key for s in wallet.others}
        assert others == {s.public_key for s in signers} - {wallet.public_key}
        assert len(wallet.others) == len(signers) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_wallet_never_changes_itself(kind):
    signers, _ = signers_of(kind, 1)
    wallet = Wallet(signers)
    signature = wallet.sign(b"payload")
    later = wallet.with_key(signers[2].public_key)
    assert later is not None
    assert later.sign(b"payload") != signature
    assert (wallet.public_key, wallet.sign(b"payload")) == (signers[0].public_key, signature)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_not_in_the_wallet_cannot_be_put_to_use(kind):
    signers, _ = signers_of(kind, 1)
    stranger = signers_of(kind, 2)[0][0]
    wallet = Wallet(signers[:2])
    for key in (stranger.public_key, signers[2].public_key, b"", b"no key"):
        assert wallet.with_key(key) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_key_twice_is_one_key(kind):
    signers, _ = signers_of(kind, 1)
    wallet = Wallet([signers[0], signers[1], signers[0]])
    assert wallet.public_key == signers[0].public_key
    assert [s.public_key for s in wallet.others] == [signers[1].public_key]


@pytest.mark.parametrize("kind", KINDS)
def test_wallet_and_keyring_change_keys_together(kind):
    """What a wallet signs holds in the epoch whose key it uses, and in no other."""
    signers, base = signers_of(kind, 1)
    epochs = [Rekeyed(base, {1: s.public_key}) for s in signers]
    wallets = [Wallet(signers).with_key(s.public_key) for s in signers]
    table = [[e.verify(1, b"payload", w.sign(b"payload")) for e in epochs] for w in wallets]
    assert table == [[i == k for k in range(len(signers))] for i in range(len(signers))]


# --- misuse ---


def test_kinds_of_identities_that_do_not_exist():
    with pytest.raises(ValueError, match="'modelled' or 'real', not 'quantum'"):
        make_identities([1], "quantum", 1)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_the_wrong_length(length):
    with pytest.raises(ValueError, match=f"has 32 bytes, not {length}"):
        Ed25519Signer(1, bytes(length))


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_was_never_registered_has_no_key(kind):
    _, base = identities(kind)
    for keyring in (base, Rekeyed(base, {}), Announced(base)):
        with pytest.raises(KeyError):
            keyring.public_key(9)
