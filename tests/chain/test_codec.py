"""One encoding per value, and nothing but CodecError for whatever else arrives."""

import sys

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain import codec
from tradebft.chain.codec import CodecError
from tradebft.chain.crypto import QuorumCertificate
from tradebft.chain.rules.payloads import Allocation, AnyPayload, FinApply, Repay
from tradebft.chain.transaction import Body, Transaction

integers = st.integers(-(2**63), 2**64 - 1)
plain = st.none() | st.booleans() | integers | st.text(max_size=8) | st.binary(max_size=8)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
applications = st.builds(
    FinApply,
    bank=st.text(max_size=9),
    product=st.text(max_size=9),
    amount=integers,
    currency=st.text(max_size=3),
    tenor_days=integers,
    allocations=st.lists(
        st.builds(Allocation, declaration=st.binary(max_size=40), amount=integers), max_size=3
    ).map(tuple),
)
TYPES = [
    object,
    int,
    bool,
    str,
    bytes,
    list[int],
    dict[str, int],
    Transaction,
    Body,
    QuorumCertificate,
    AnyPayload,
]


@given(values)
def test_a_value_comes_back_and_encodes_to_the_same_bytes(value):
    data = codec.encode(value)
    back = codec.decode(data, object)
    assert back == value
    assert codec.encode(back) == data


@given(applications)
def test_a_payload_comes_back_exactly(payload):
    assert codec.decode(codec.encode(payload), FinApply) == payload


@given(values)
def test_key_order_does_not_show(value):
    if isinstance(value, dict):
        assert codec.encode(dict(reversed(list(value.items())))) == codec.encode(value)


@given(st.binary(max_size=200), st.sampled_from(TYPES))
def test_hostile_bytes_raise_codec_error_or_are_canonical(data, kind):
    try:
        value = codec.decode(data, kind)
    except CodecError:
        return
    assert codec.encode(value) == data


@given(applications, st.data())
def test_damaged_bytes_never_decode_to_something_with_another_encoding(payload, data):
    whole = bytearray(codec.encode(payload))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for damaged in (bytes(whole), cut, cut + b"\xc0"):
        try:
            value = codec.decode(damaged, FinApply)
        except CodecError:
            continue
        assert codec.encode(value) == damaged


NOT_CANONICAL = {
    "an integer wider than need be": b"\xcd\x00\x01",
    "a negative integer wider than need be": b"\xd1\xff\xff",
    "a long string header for a short string": b"\xd9\x01a",
    "a doubled key": b"\x82\xa1a\x01\xa1a\x02",
    "keys in another order": b"\x82\xa1b\x01\xa1a\x02",
    "a float": msgpack.packb(1.0),
    "not a number": msgpack.packb(float("nan")),
    "an extension type": msgpack.packb(msgpack.ExtType(4, b"x")),
    "a timestamp": msgpack.packb(msgpack.Timestamp(1, 2)),
    "trailing bytes": b"\x01\x01",
    "nothing": b"",
    "a reserved byte": b"\xc1",
    "bad UTF-8": b"\xa1\xff",
    "an array said to have 2^32 - 1 items": b"\xdd\xff\xff\xff\xff",
    "a string said to have 2^32 - 1 bytes": b"\xdb\xff\xff\xff\xffabc",
    "nested a hundred thousand deep": b"\x91" * 100_000 + b"\x01",
    "nested deeper than the limit": b"\x91" * (codec.DEPTH_MAX + 1) + b"\x01",
}


@pytest.mark.parametrize("what", NOT_CANONICAL)
def test_refused(what):
    with pytest.raises(CodecError):
        codec.decode(NOT_CANONICAL[what], object)


@pytest.mark.parametrize("wrong", [True, 1.0, "1", b"1", None, [1]])
def test_types_are_exact(wrong):
    with pytest.raises(CodecError):
        codec.decode(msgpack.packb(wrong), int)


def test_a_struct_has_exactly_its_fields():
    whole = msgspec.msgpack.decode(codec.encode(Repay(b"f", 1, "OWN_FUNDS", "r")))
    for wrong in (whole[:-3], [*whole, 1], whole[1:], ["FIN_CLOSE", *whole[1:]]):
        with pytest.raises(CodecError):
            codec.decode(msgpack.packb(wrong), Repay)


@pytest.mark.parametrize("value", [1.5, [1.0], {"a": {1.0: 2}}, {1, 2}, 2**64, "\ud800", object(), 1j])
def test_values_without_an_encoding_are_refused(value):
    with pytest.raises(CodecError):
        codec.encode(value)


def test_a_struct_that_could_hold_a_float_is_refused():
    class Loose(msgspec.Struct, array_like=True):
        x: float

    with pytest.raises(CodecError):
        codec.encode(Loose(1.0))
    with pytest.raises(CodecError):
        codec.decode(msgpack.packb([1.0]), Loose)


def test_the_limit_is_in_bytes_and_checked_first():
    data = codec.encode(b"x" * 100)
    assert codec.decode(data, bytes, limit=len(data)) == b"x" * 100
    with pytest.raises(CodecError, match="at most"):
        codec.decode(data, bytes, limit=len(data) - 1)
    with pytest.raises(CodecError, match="expected bytes"):
        codec.decode(bytearray(data), bytes)


def test_an_encoder_meets_bottomless_nesting_with_its_own_error():
    value = []
    value.append(value)
    assert sys.getrecursionlimit() > codec.DEPTH_MAX
    with pytest.raises(CodecError):
        codec.encode(value)
