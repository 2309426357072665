"""Real messages with one field changed: what nobody thought of when the other behaviours were written."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec
from msgspec.structs import replace
from tradebft.chain.codec import CodecError, encode
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of
from tradebft.consensus.decoding import decoded
from tradebft.consensus.interface import Effect
from tradebft.consensus.messages import Request

NEAR: Final = (-2, -1, 1, 2)
FAR: Final = (0, 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
DEPTH_MAX: Final = 6
Draw = Callable[[int], int]


class Mutate(Behaviour):
    """Changes one field in *percent* (25) of its own messages and signs them again (ByzzFuzz, OOPSLA 2023). *scope*:
    "small" changes numbers by one or two, leaves out, doubles or exchanges elements; "any" also puts in extremes."""

    defaults: ClassVar[Mapping[str, Any]] = {"percent": 25, "scope": "any"}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"scope": ("small", "any")}
    most: ClassVar[Mapping[str, int]] = {"percent": 100}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """The message, or one like it."""
        message: Any = message_of(effect)
        if message is None or isinstance(message, Request) or self.draw(100) >= self.parameters["percent"]:
            return (effect,)
        changed = self.changed(message)
        return (effect,) if changed is None else (replace(effect, message=changed),)

    def changed(self, message: Any) -> Any:
        """*message* with one field changed, signed; None where the change has no encoding."""
        try:
            mutant = self.signed(mutated(message, self.draw, self.parameters["scope"] == "any"))
            return decoded(encode(mutant))
        except (CodecError, ValueError, TypeError, OverflowError, struct.error):
            return None


def mutated(value: Any, draw: Draw, far: bool, depth: int = 0) -> Any:
    """*value* with one change somewhere in it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return FAR[draw(len(FAR))] if far and draw(2) else value + NEAR[draw(len(NEAR))]
    if isinstance(value, bytes):
        return _other_bytes(value, draw, far)
    if isinstance(value, tuple) and value:
        return _other_tuple(value, draw, far, depth)
    if isinstance(value, msgspec.Struct) and depth < DEPTH_MAX:
        fields = [f for f in value.__struct_fields__ if depth or f not in ("signature", "replica")]
        name = fields[draw(len(fields))]
        return replace(value, **{name: mutated(getattr(value, name), draw, far, depth + 1)})
    return value


def _other_bytes(value: bytes, draw: Draw, far: bool) -> bytes:
    if not value or (far and draw(2)):
        return (b"", b"x", bytes(32), bytes(2000))[draw(4)]
    at = draw(len(value))
    return value[:at] + bytes([value[at] ^ 1 << draw(8)]) + value[at + 1 :]


def _other_tuple(value: tuple[Any, ...], draw: Draw, far: bool, depth: int) -> tuple[Any, ...]:
    at = draw(len(value))
    match draw(5):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[: at + 1] + value[at:]
        case 2:
            return value[::-1]
    return (*value[:at], mutated(value[at], draw, far, depth + 1), *value[at + 1 :])
