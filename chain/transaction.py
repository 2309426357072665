"""The signed envelope every business action travels in.

What is signed is the *body*: chain id, version, type, sender, the sender's sequence number, the last height
at which it may be executed, the client's time, and the hash of the payload. The transaction's id is the hash
of the body, so it does not depend on who signed or in which order; signatures cover a domain-tagged form of
that id. The first signature is the sender's. Types that need two parties carry further ones (payloads.py says
whose).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
from tradebft.chain import codec
from tradebft.chain.crypto import Signer, digest
from tradebft.chain.rules.payloads import Payload, type_of

VERSION: Final = 1
TRANSACTION_BYTES_MAX: Final = 64 << 10
SIGNATURES_MAX: Final = 400
"""More than any quorum needs; a bound for hostile envelopes, not a rule of business."""

_SIGNING_PREFIX: Final = b"tradebft/transaction\0"


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What the signatures cover. `expiry_height` is the last height that may execute it; `time_ns` the
    client's.
    """

    chain_id: bytes
    version: int
    type: str
    sender: str
    sequence: int
    expiry_height: int
    time_ns: int
    payload_hash: bytes


class Transaction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A body, the payload its hash stands for (encoded), and (member, signature) pairs, the sender's
    first.
    """

    body: Body
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def id(self) -> bytes:
        """32 bytes that name this transaction, whoever signed it."""
        return transaction_id(self.body)

    def encode(self) -> bytes:
        """The canonical bytes, as they travel."""
        return codec.encode(self)


def transaction_id(body: Body) -> bytes:
    """The hash of the body."""
    return digest("transaction", codec.encode(body))


def signing_payload(transaction_id: bytes) -> bytes:
    """What every signer of a transaction signs: its id, marked as a transaction's (a vote never looks like
    it).
    """
    return _SIGNING_PREFIX + transaction_id


def possession_payload(chain_id: bytes, member: str, public_key: bytes) -> bytes:
    """What a new key signs to prove that the member holds it (KEY_ROTATE)."""
    return b"tradebft/possession\0" + digest("possession", chain_id, member.encode(), public_key)


@lru_cache(maxsize=4096)
def payload_hash(payload: bytes) -> bytes:
    """The hash a body carries in place of its payload."""
    return digest("payload", payload)


def sign(
    payload: Payload,
    signer: Signer,
    cosigners: Sequence[Signer] = (),
    *,
    chain_id: bytes,
    sequence: int,
    expiry_height: int,
    time_ns: int = 0,
) -> Transaction:
    """A transaction of this payload, sent by the signer's member and signed by it and the cosigners, in that
    order.

    `sequence` counts this sender's transactions from 1; each number serves once. `time_ns` is the client's
    clock, kept for the record only: rules go by the block's time.
    """
    encoded = codec.encode(payload)
    body = Body(
        chain_id=chain_id,
        version=VERSION,
        type=type_of(payload),
        sender=str(signer.member),
        sequence=sequence,
        expiry_height=expiry_height,
        time_ns=time_ns,
        payload_hash=payload_hash(encoded),
    )
    signed = signing_payload(transaction_id(body))
    signatures = tuple([(str(one.member), one.sign(signed)) for one in (signer, *cosigners)])
    return Transaction(body, encoded, signatures)


def decode(data: bytes, *, limit: int = TRANSACTION_BYTES_MAX) -> Transaction:
    """The transaction in these bytes; CodecError where they are not exactly one. Signatures are not checked
    here.
    """
    return codec.decode(data, Transaction, limit=limit)
