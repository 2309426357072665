"""From bytes to a message. Whatever the bytes are, the answer is a message of exact types, or `CodecError`.

In this order: a limit on the length, exact types (a bool is no int), ranges that fit on the wire, and the canonical
encoding: what decodes to a message and is not its one encoding is refused, so that nobody can send one message in two
forms.
"""

from __future__ import annotations

from typing import Any, Final

from tradebft.chain.codec import CodecError, decode
from tradebft.consensus.messages import Message

MESSAGE_BYTES_MAX: Final = 1 << 25  # a NewView of a large network, or a batch: 32 MiB


def decoded(data: bytes, limit: int = MESSAGE_BYTES_MAX) -> Message:
    """The message that *data* encodes. Its signature is not checked here.

    Raises:
        CodecError: too long, malformed, of no kind, or not canonical. Nothing else is ever raised for bad bytes.
    """
    message: Any = decode(data, Message, limit=limit)  # type: ignore[arg-type]
    for name in ("view", "seq", "sequence", "replica", "nonce", "index", "epoch"):
        value = getattr(message, name, 0)
        if isinstance(value, int) and not 0 <= value < 1 << 64:
            raise CodecError(f"{name} {value} does not fit in 64 bits without a sign")
    return message  # type: ignore[no-any-return]
