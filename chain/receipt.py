"""What a sender is told about its transaction, and what the record keeps of it.

Every transaction gets a receipt, also a refused one, and every receipt has an audit record. The records form
a chain of hashes that goes into the state root, so a replica that kept another record has another root.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec
from tradebft.chain import codec

AUDIT_START: Final = sha256(b"tradebft/audit").digest()


class Receipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The answer to one transaction.

    `code` is OK or one of `rules.context.CODES`; `fields` says which fields or limits it is about. `object`
    is the id of what was made or moved. `headroom` answers DECL_VERIFY: enough for what was applied for, or
    not; None elsewhere. `alerts` are remarks that do not refuse. `repeated`: this very transaction was
    answered before, with this receipt, and was not executed again.
    """

    transaction: bytes
    height: int
    index: int
    type: str
    sender: str
    sequence: int
    code: str
    fields: tuple[str, ...] = ()
    object: bytes = b""
    headroom: bool | None = None
    alerts: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def ok(self) -> bool:
        """Whether the transaction took effect."""
        return self.code == "OK"

    def encode(self) -> bytes:
        """The canonical bytes, as clients get them."""
        return codec.encode(self)


class AuditRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A receipt with what the regulator looks it up by.

    `consumed`: the sequence number is used up by it. `notify`: members that are sent its alerts. `watch`:
    alerts for the regulator alone, because they would tell the sender about somebody else.
    """

    number: int
    time_ns: int
    receipt: Receipt
    expiry_height: int
    consumed: bool
    firm: str = ""
    bank: str = ""
    tokens: tuple[bytes, ...] = ()
    notify: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What executing one batch led to. `changes` are (table, key, before, after) of accepted transactions."""

    height: int
    time_ns: int
    receipts: tuple[Receipt, ...]
    changes: tuple[tuple[str, object, object, object], ...]


def chained(head: bytes, record: AuditRecord) -> bytes:
    """The head of the audit chain after this record."""
    return sha256(head + codec.encode(record)).digest()
