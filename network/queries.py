"""Questions to the ledger that are ordered like transactions and change nothing.

A client asks with an operation of its own kind, signed as every request is. All replicas answer from the state after
the batch, and the client believes f+1 equal answers: so nobody has to believe a single member, and an answer is as
fresh as a transaction's. Who asks is who signed the request; it is told what that member may see (`rules.views`).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import AuditRecord
from tradebft.chain.rules.objects import AUDITOR, REGULATOR
from tradebft.chain.rules.views import plain

ANSWER_BYTES_MAX: Final = 1 << 20
RECORDS_MAX: Final = 500  # of the audit trail, an answer
LOOKED_BACK: Final = 10_000  # records, for the AUDIT_READ that permits an audit
_QUERY: Final = b"tradebft/query\0"
_Kind = Literal["head", "receipt", "financing", "view", "audit"]


class Query(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is asked.

    * ``head``: where the ledger is, and the next free sequence number of the sender *firm* (nobody's secret);
    * ``receipt``: of the transaction *id*, for its sender, the regulator and auditors; if it took effect, also for the
      firm and the bank that it is about;
    * ``financing``: the one of *id*, for its firm, its bank, the regulator and auditors;
    * ``view``: everything that the asker may see;
    * ``audit``: the records about *firm*, *bank* and *token* in a period of block time from the record *first* on, at
      most `RECORDS_MAX`; *id* is an accepted AUDIT_READ of the asker, since a look is itself on record.
    """

    kind: _Kind
    id: bytes = b""
    firm: str = ""
    bank: str = ""
    token: bytes = b""
    since_ns: int = 0
    until_ns: int = 1 << 62
    first: int = 0

    def operation(self) -> bytes:
        """The request's bytes."""
        return _QUERY + encode(self)


def is_query(operation: bytes) -> bool:
    """Whether *operation* asks, and does nothing."""
    return operation.startswith(_QUERY)


def answer(ledger: Ledger, asker: str, operation: bytes) -> bytes:
    """JSON: what was asked for, or ``{"error": ...}``. Equal states give equal bytes. Never raises."""
    try:
        query = decode(operation[len(_QUERY) :], Query)
    except CodecError:
        return _told({"error": "this is no query"})
    if asker not in ledger.state.members:
        return _told({"error": f"{asker} is not a member of the ledger"})
    told = _told(_ANSWERS[query.kind](ledger, asker, query))
    if len(told) > ANSWER_BYTES_MAX:
        return _told(
            {"error": f"the answer has {len(told)} bytes, more than {ANSWER_BYTES_MAX}: ask for less"}
        )
    return told


def _head(ledger: Ledger, asker: str, query: Query) -> dict[str, Any]:
    return {
        "height": ledger.height,
        "time_ns": ledger.time_ns,
        "root": ledger.state_root.hex(),
        "next_sequence": ledger.next_sequence(query.firm or asker),
        "lifetime_blocks": ledger.state.parameters_now.lifetime_blocks,
    }


def _receipt(ledger: Ledger, asker: str, query: Query) -> dict[str, Any]:
    if (record := ledger.record(query.id)) is not None:
        parties = {record.receipt.sender, *((record.bank, record.firm) if record.receipt.ok else ())}
        if asker in parties or _sees_everything(ledger, asker):
            return {"receipt": plain(record.receipt), "time_ns": record.time_ns}
    return {"error": f"no transaction {query.id.hex()} that {asker} may see"}


def _financing(ledger: Ledger, asker: str, query: Query) -> dict[str, Any]:
    found = ledger.state.financings.get(query.id)
    if found is None or (asker not in (found.firm, found.bank) and not _sees_everything(ledger, asker)):
        return {"error": f"no financing {query.id.hex()} that {asker} may see"}
    return {"financing": plain(found)}


def _view(ledger: Ledger, asker: str, query: Query) -> dict[str, Any]:
    if _sees_everything(ledger, asker) and not _permitted(ledger, asker, query.id):
        return {"error": "a look at everything needs an AUDIT_READ on record"}
    return {"height": ledger.height, **ledger.view(asker)}


def _audit(ledger: Ledger, asker: str, query: Query) -> dict[str, Any]:
    if not _sees_everything(ledger, asker):
        return {"error": f"{asker} is neither the regulator nor an auditor"}
    if not _permitted(ledger, asker, query.id):
        return {"error": "an audit needs an AUDIT_READ on record"}
    records: list[AuditRecord] = []
    found = ledger.lookup(
        firm=query.firm or None,
        bank=query.bank or None,
        token=query.token or None,
        since_ns=query.since_ns,
        until_ns=query.until_ns,
    )
    for record in found:
        if record.number >= query.first:
            if len(records) == RECORDS_MAX:
                return {"records": [plain(r) for r in records], "next": record.number}
            records.append(record)
    return {"records": [plain(r) for r in records], "next": None}


def _sees_everything(ledger: Ledger, asker: str) -> bool:
    return ledger.state.members[asker].role in (REGULATOR, AUDITOR)


def _permitted(ledger: Ledger, asker: str, id: bytes) -> bool:
    for record in ledger.audit[-LOOKED_BACK:]:
        receipt = record.receipt
        if receipt.transaction == id:
            return receipt.ok and receipt.type == "AUDIT_READ" and receipt.sender == asker
    return False


_ANSWERS: Final = {
    "head": _head,
    "receipt": _receipt,
    "financing": _financing,
    "view": _view,
    "audit": _audit,
}


def _told(value: dict[str, Any]) -> bytes:
    """As JSON: bytes in hexadecimal, tables in an order that does not depend on how they were filled."""
    told = {key: texts(part) for key, part in value.items()}
    for key, part in told.items():
        if isinstance(part, list) and key != "records":
            part.sort(key=msgspec.json.encode)
    return msgspec.json.encode(told, order="deterministic")


def texts(value: Any) -> Any:
    """*value*, as `rules.views.plain` gives it, with bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [texts(item) for item in value]
    if isinstance(value, dict):
        return {str(key): texts(item) for key, item in value.items()}
    return value
