"""From bytes to a message. Whatever the bytes are, the answer is a message of exact types, or `CodecError`.

In this order: a limit on the length, which depends on the kind that the first bytes name; exact types (a bool is no
int); the canonical encoding (what decodes to a message and is not its one encoding is refused, so that nobody can send
one message in two forms); and ranges that fit on the wire.
"""

from __future__ import annotations

from typing import Any, Final

from tradebft.chain.codec import CodecError, decode
from tradebft.consensus.messages import KINDS, Message

MESSAGE_BYTES_MAX: Final = 1 << 25  # a NewView of a large network, or a batch: 32 MiB
SHORT_BYTES_MAX: Final = 1 << 10  # a vote or a question: some 150 bytes
CHUNK_BYTES_MAX: Final = 1 << 17  # a chunk holds 64 KiB
SHORT: Final = frozenset({"Prepare", "Commit", "Checkpoint", "Status", "Fetch", "FetchChunk"})

NUMBERS: Final = (
    *("view", "seq", "sequence", "replica", "nonce", "index", "epoch", "stable", "executed", "held"),
)
_NAMES: Final = frozenset(kind.__name__ for kind in KINDS)
_FIXARRAY, _FIXSTR = 0x90, 0xA0  # the first bits of a short list and of a short text in MessagePack
_UINT64_END: Final = 1 << 64


def decoded(data: bytes, limit: int = MESSAGE_BYTES_MAX) -> Message:
    """The message that *data* encodes; at most *limit* bytes are read. Its signature is not checked here.

    Raises:
        CodecError: too long for its kind, malformed, of no kind, or not canonical. Nothing else is ever raised for bad
            bytes.
    """
    kind = kind_of(data)
    message: Any = decode(data, Message, limit=min(limit, limit_of(kind)))  # type: ignore[arg-type]
    for name in NUMBERS:
        value = getattr(message, name, 0)
        if isinstance(value, int) and not 0 <= value < _UINT64_END:
            raise CodecError(f"{name} {value} does not fit in 64 bits without a sign")
    return message  # type: ignore[no-any-return]


def kind_of(data: bytes) -> str:
    """The kind of message that *data* begins like, looked at before anything is built. CodecError if there is none."""
    if (
        data.__class__ is bytes
        and len(data) > 1
        and data[0] & 0xF0 == _FIXARRAY
        and data[1] & 0xE0 == _FIXSTR
    ):
        name = data[2 : 2 + (data[1] & 0x1F)].decode("ascii", "replace")
        if name in _NAMES:
            return name
    raise CodecError("no kind of message begins like this")


def limit_of(kind: str) -> int:
    """How many bytes a message of *kind* may have."""
    if kind in SHORT:
        return SHORT_BYTES_MAX
    return CHUNK_BYTES_MAX if kind == "Chunk" else MESSAGE_BYTES_MAX
