"""One encoding per value: canonical MessagePack, and a decoder that trusts nobody.

Whatever is signed or hashed is encoded here. `encode` gives one byte string per value; `decode` accepts
exactly that byte string and nothing else that means the same: after decoding it encodes again and compares,
which catches reordered or doubled map keys, integers wider than they need be, and whatever else MessagePack
leaves open. There are no floats in anything that is agreed on (1, 1.0 and True would be three encodings of
"one").

Hostile input meets, in this order: a size limit before anything is built, the exact types asked for (a bool
is not an int), no unknown or missing field, a depth limit where the type leaves the depth open, the
comparison above. Whatever goes wrong, the only exception that leaves `encode` or `decode` is CodecError.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect, msgpack

T = TypeVar("T")

LIMIT_BYTES: Final = 1 << 20
"""How much `decode` reads when the caller names no limit: 1 MiB."""

_LENGTH_BYTES: Final = 8

DEPTH_MAX: Final = 32
"""How deep free-form values (those decoded as `object` or `Any`) may nest."""

_ENCODER: Final = msgpack.Encoder(order="deterministic")
PLAIN: Final = frozenset({int, bool, str, bytes, type(None)})
"""Types of values that have no parts."""

_decoders: dict[Any, tuple[msgpack.Decoder[Any], bool]] = {}
_known_structs: set[type] = set()


class CodecError(ValueError):
    """The bytes are not the one encoding of a value of the type asked for, or the value has no encoding."""


def encode(value: object) -> bytes:
    """The canonical bytes of a value made of structs, lists, maps, text, bytes, integers, booleans and
    None.
    """
    kind = type(value)
    if kind not in _known_structs:
        _check_value(value, DEPTH_MAX)
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as why:
        raise CodecError(f"cannot be encoded: {why}") from None


def decode(data: bytes, type: type[T], *, limit: int = LIMIT_BYTES) -> T:
    """The value these bytes encode, checked against `type`; `limit` is in bytes.

    Raises:
        CodecError: too long, malformed, of another type, or not canonical. Nothing else is ever raised for
        bad bytes.
    """
    if data.__class__ is not bytes:
        raise CodecError(f"expected bytes, got {data.__class__.__name__}")
    if len(data) > limit:
        raise CodecError(f"{len(data)} bytes, at most {limit} are read")
    try:
        known = _decoders.get(type)
        decoder, free_form = known if known is not None else _decoder(type)
        value: T = decoder.decode(data)
        if free_form:
            _check_value(value, DEPTH_MAX)
        if _ENCODER.encode(value) != data:
            raise CodecError("not the canonical encoding of its value")
    except CodecError:
        raise
    except RecursionError:
        raise CodecError(f"nested deeper than {DEPTH_MAX}") from None
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError) as why:
        raise CodecError(str(why)) from None
    return value


def encoded_list(items: Sequence[bytes]) -> bytes:
    """The encoding of a list whose items are encoded already."""
    return b"".join((_ENCODER.encode([None] * len(items))[: -len(items) or None], *items))


def framed(data: bytes) -> bytes:
    """*data* behind its length, so that other bytes can follow it."""
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def unframed(data: bytes) -> tuple[bytes, bytes]:
    """What `framed` was given, and what follows it. CodecError where *data* is shorter than that."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    if len(data) < end:
        raise CodecError(f"{len(data)} bytes, of which the first should be {end}")
    return data[_LENGTH_BYTES:end], data[end:]


def split(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    """*data* in pieces of these lengths. CodecError where they are not exactly its own."""
    if min(lengths, default=0) < 0 or sum(lengths) != len(data):
        raise CodecError(f"{len(data)} bytes, expected {sum(lengths)} in {len(lengths)} pieces")
    ends = list(accumulate(lengths))
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _decoder(type_: Any) -> tuple[msgpack.Decoder[Any], bool]:
    """The decoder of a type, made once, and whether values of it must be walked because the type leaves them
    open.
    """
    made = msgpack.Decoder(type_), _leaves_open(inspect.type_info(type_), set())
    _decoders[type_] = made
    return made


_CLOSED: Final = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.StrType,
    inspect.BytesType,
    inspect.LiteralType,
    inspect.EnumType,
)


def _leaves_open(node: inspect.Type, seen: set[type]) -> bool:
    """Whether a type has a part that could hold anything (`Any`, `object`).

    Raises:
        TypeError: it has a part that can never be canonical, such as a float or a time.
    """
    if isinstance(node, _CLOSED):
        return False
    if isinstance(node, inspect.AnyType) or (isinstance(node, inspect.CustomType) and node.cls is object):
        return True
    if isinstance(node, inspect.StructType):
        if node.cls in seen:
            return False
        seen.add(node.cls)
        parts: list[inspect.Type] = [field.type for field in node.fields]
    elif isinstance(node, inspect.UnionType):
        parts = list(node.types)
    elif isinstance(node, inspect.TupleType):
        parts = list(node.item_types)
    elif isinstance(node, inspect.DictType):
        parts = [node.key_type, node.value_type]
    elif isinstance(node, inspect.CollectionType):
        parts = [node.item_type]
    else:
        raise TypeError(f"{node} has no canonical encoding")
    found = [_leaves_open(part, seen) for part in parts]  # every part is looked at, so that a float is found
    return any(found)


def _check_value(value: object, depth: int) -> None:
    """Refuse what a free-form value must not hold: floats, times, extension types, sets, bottomless
    nesting.
    """
    kind = type(value)
    if kind in PLAIN or kind in _known_structs:
        return
    if depth == 0:
        raise CodecError(f"nested deeper than {DEPTH_MAX}")
    if kind is list or kind is tuple:
        for item in value:  # type: ignore[attr-defined]
            _check_value(item, depth - 1)
    elif kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            _check_value(key, depth - 1)
            _check_value(item, depth - 1)
    elif isinstance(value, msgspec.Struct):
        _admit_struct(kind, value, depth)
    else:
        raise CodecError(f"{kind.__name__} has no canonical encoding")


def _admit_struct(kind: type, value: msgspec.Struct, depth: int) -> None:
    """A struct type whose fields are all closed is looked at once; one with open fields, at every value."""
    try:
        is_open = _leaves_open(inspect.type_info(kind), set())
    except TypeError as why:
        raise CodecError(str(why)) from None
    if not is_open:
        _known_structs.add(kind)
        return
    for name in value.__struct_fields__:
        _check_value(getattr(value, name), depth - 1)
