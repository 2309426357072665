"""Envelopes: what is sealed opens, once, where it was meant for; nothing else does, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradebft.chain.crypto import make_identities
from tradebft.network.live.bus import matches, subscriptions, topic_all, topic_to
from tradebft.network.live.envelope import (
    ENVELOPE_BYTES_MAX,
    WINDOW,
    Opened,
    Opener,
    Refused,
    address_of,
    chain_of,
    endpoint,
    seal,
)

SIGNERS, KEYRING = make_identities([0, 1, 2, "bank"], "real", 1)
CHAIN = chain_of(b"province")
ALL = topic_all("net", "replica.1")


def opener(me="replica.0"):
    return Opener(CHAIN, "net", me, KEYRING)


def sealed(messages=(b"vote",), sender=1, topic=ALL, boot=7, counter=1, chain=CHAIN, by=None):
    signer = SIGNERS[sender if by is None else by]
    return seal(signer, endpoint(sender), chain, topic, boot, counter, messages)


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_what_is_sealed_opens(messages, boot, counter):
    data = sealed(messages, boot=boot, counter=counter)
    assert opener().open(ALL, data) == Opened("replica.1", tuple(messages))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_change_is_refused(draw):
    data = bytearray(sealed((b"one", b"two")))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    assert isinstance(opener().open(ALL, bytes(data)), Refused)


@given(st.binary(max_size=400))
def test_bytes_that_are_none_are_refused(data):
    one = opener()
    assert isinstance(one.open(ALL, data), Refused)
    assert isinstance(one.open(ALL, sealed()[:55] + data), Refused)


def test_each_reason_has_its_case():
    to_bank = topic_to("net", "replica.1", "bank")
    for data, topic, why in (
        (b"", ALL, "no envelope"),
        (sealed()[:-1], ALL, "not sealed by its sender"),
        (b"x" + sealed()[1:], ALL, "no envelope"),
        (bytes(ENVELOPE_BYTES_MAX + 1), ALL, "too long"),
        (sealed(chain=chain_of(b"other")), ALL, "of another chain"),
        (sealed(), topic_to("net", "replica.1", "replica.0"), "for another topic"),
        (sealed(topic="elsewhere"), "elsewhere", "for another topic"),
        (sealed(topic=topic_all("net", "replica.2")), topic_all("net", "replica.2"), "for another topic"),
        (sealed(by=2), ALL, "not sealed by its sender"),
        (sealed(topic=to_bank), to_bank, "for another topic"),
    ):
        assert opener().open(topic, data) == Refused(why), why
    stranger = seal(SIGNERS[1], "nobody", CHAIN, topic_all("net", "nobody"), 1, 1, (b"",))
    assert opener().open(topic_all("net", "nobody"), stranger) == Refused("not sealed by its sender")


def test_it_counts_once_and_an_older_boot_not_at_all():
    one = opener()
    assert isinstance(one.open(ALL, sealed(counter=5)), Opened)
    assert one.open(ALL, sealed(counter=5)) == Refused("come before")
    assert isinstance(one.open(ALL, sealed(counter=4)), Opened)  # overtaken on its way
    assert isinstance(one.open(ALL, sealed(boot=8, counter=1)), Opened)
    assert one.open(ALL, sealed(boot=7, counter=6)) == Refused("come before")
    assert isinstance(one.open(ALL, sealed(boot=8, counter=1 + WINDOW)), Opened)
    assert one.open(ALL, sealed(boot=8, counter=1)) == Refused("come before")


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=60))
def test_numbers_against_a_set(numbers):
    """A number is taken if it never came and lies within the window below the highest."""
    from tradebft.network.live.envelope import _Seen

    seen, came = _Seen(1), set()
    for number in numbers:
        fresh = number not in came and number > max(came, default=0) - WINDOW
        assert seen.take(number) == fresh
        came |= {number} if fresh else set()


def test_a_forger_does_not_use_up_numbers():
    """What is refused for its seal leaves no trace: neither a number nor memory."""
    one = opener()
    for counter in range(200):
        one.open(ALL, sealed(by=2, boot=99, counter=counter))
        one.open(
            topic_all("net", f"x{counter}"), sealed(by=2, sender=1, topic=topic_all("net", f"x{counter}"))
        )
    assert one._seen == {}
    assert isinstance(one.open(ALL, sealed(counter=1)), Opened)


@pytest.mark.parametrize("bad", [{"topic": "t" * 201}, {"chain": b"short"}, {"counter": 2**64}, {"boot": -1}])
def test_what_does_not_fit_is_a_callers_mistake(bad):
    with pytest.raises(ValueError, match="no envelope"):
        sealed(**bad)


def test_names_on_the_bus():
    for address in (0, 12, "bank", "replica.x", "replica.007", "commercial_bank.1"):
        assert address_of(endpoint(address)) == address
    assert address_of("replica.12") == 12
    mine = subscriptions("net", "replica.3")
    assert any(matches(pattern, topic_all("net", "bank")) for pattern in mine)
    assert any(matches(pattern, topic_to("net", "bank", "replica.3")) for pattern in mine)
    assert not any(matches(pattern, topic_to("net", "bank", "replica.2")) for pattern in mine)
    assert not any(matches(p, topic_all("net", "replica.1")) for p in subscriptions("net", "bank", False))
