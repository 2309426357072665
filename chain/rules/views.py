"""Who sees what. The regulator and auditors see everything; everybody else what concerns them.

A bank's view holds its own customers, its own loans, and the declarations those lean on as customs signed
them; not what other banks have reserved or drawn on them, nor any other bank's name, customer or amount. How
much of a declaration is left is never in it: that is asked by DECL_VERIFY, and answered yes or no.

This is the interface that people and systems at a member use. The replica itself executes every transaction
and therefore stores all objects (under tokens and firm ids); keeping those from the member that runs it would
take encryption that this project does not model. docs/limits.md says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tradebft.chain.codec import PLAIN
from tradebft.chain.receipt import AuditRecord
from tradebft.chain.rules.objects import (
    AUDITOR,
    BANK,
    FIRM,
    REGULATOR,
    Consent,
    Declaration,
    Financing,
    Kyc,
    Policy,
    Repayment,
    TaxFiling,
)
from tradebft.chain.state import State

_BALANCES = ("cap", "ratio_bp", "reserved", "drawn", "shortfall")


def view_of(
    state: State, audit: Sequence[AuditRecord], about: Iterable[AuditRecord], member: str
) -> dict[str, Any]:
    """What this member may see, of all objects, the whole record and the records *about* it; ValueError where there is
    no such member.
    """
    who = state.members.get(member)
    if who is None:
        raise ValueError(f"{member!r} is not a member")
    if who.role in (REGULATOR, AUDITOR):
        everything = {table.name: [plain(v) for v in table.rows.values()] for table in state.tables}
        return {**everything, "records": [plain(record) for record in audit]}
    if who.role == BANK:
        return _bank(state, about, member, _portfolios(state)[member])
    if who.role == FIRM:
        return _firm(state, about, member)
    return {
        "member": [plain(who)],
        "declaration": [_as_signed(d) for d in state.declarations.rows.values() if d.source == member],
        "policy": [
            _without(p, "assigned", "assignments")
            for p in state.policies.rows.values()
            if p.insurer == member
        ],
        "filing": [
            _without(t, "used", "payments") for t in state.filings.rows.values() if t.office == member
        ],
        "records": _own_records(about, member),
    }


def bank_views(
    state: State, about: Callable[[str], Iterable[AuditRecord]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every bank and its `view_of`, in the time of one: the objects are sorted by bank once."""
    portfolios = _portfolios(state)
    for member in state.members.rows.values():
        if member.role == BANK:
            yield member.id, _bank(state, about(member.id), member.id, portfolios[member.id])


@dataclass(slots=True)
class _Portfolio:
    """What is a bank's, in the order of the tables."""

    kyc: list[Kyc] = field(default_factory=list)
    consents: list[Consent] = field(default_factory=list)
    loans: list[Financing] = field(default_factory=list)
    repayments: list[Repayment] = field(default_factory=list)
    policies: list[tuple[Policy, int]] = field(default_factory=list)  # and the amount assigned to it
    filings: list[tuple[TaxFiling, int]] = field(default_factory=list)  # and the amount that it paid against


def _portfolios(state: State) -> defaultdict[str, _Portfolio]:
    found: defaultdict[str, _Portfolio] = defaultdict(_Portfolio)
    for kyc in state.kyc.rows.values():
        found[kyc.bank].kyc.append(kyc)
    for consent in state.consents.rows.values():
        found[consent.bank].consents.append(consent)
    for loan in state.financings.rows.values():
        found[loan.bank].loans.append(loan)
    for repayment in state.repayments.rows.values():
        of = state.financings.get(repayment.financing)
        if of is not None and of.bank == repayment.bank:
            found[repayment.bank].repayments.append(repayment)
    for policy in state.policies.rows.values():
        for bank, amount in policy.assignments:
            found[bank].policies.append((policy, amount))
    for filing in state.filings.rows.values():
        for bank, amount in filing.payments:
            found[bank].filings.append((filing, amount))
    return found


def _bank(state: State, about: Iterable[AuditRecord], bank: str, own: _Portfolio) -> dict[str, Any]:
    lean_on = {share.token for f in own.loans for share in f.allocations}
    billed = {share.token for f in own.loans for share in f.invoices}
    return {
        "member": [plain(state.members[bank])],
        "firm": [_without(state.firms[id], "registered_by") for id in sorted({k.firm for k in own.kyc})],
        "kyc": [plain(k) for k in own.kyc],
        "consent": [plain(c) for c in own.consents],
        "financing": [plain(f) for f in own.loans],
        "repayment": [plain(r) for r in own.repayments],
        "declaration": [_as_signed(state.declarations[token]) for token in sorted(lean_on)],
        "invoice": [
            _without(state.invoices[token], "used", "holder", "live", "combinations")
            for token in sorted(billed)
        ],
        "policy": [{"token": p.token, "assigned": amount} for p, amount in own.policies],
        "filing": [{"token": t.token, "used": amount} for t, amount in own.filings],
        "parameters": [plain(state.parameters_now)],
        "records": _own_records(about, bank),
    }


def _firm(state: State, about: Iterable[AuditRecord], firm: str) -> dict[str, Any]:
    own = state.firms[firm]
    return {
        "firm": [plain(own)],
        "kyc": [plain(k) for k in state.kyc.rows.values() if k.firm == firm],
        "consent": [plain(c) for c in state.consents.rows.values() if c.firm == firm],
        "financing": [plain(f) for f in state.financings.rows.values() if f.firm == firm],
        "invoice": [plain(i) for i in state.invoices.rows.values() if i.seller == firm],
        "declaration": [_as_signed(d) for d in state.declarations.rows.values() if d.exporter == own.uscc],
        "records": _own_records(about, firm),
    }


def _own_records(about: Iterable[AuditRecord], member: str) -> list[dict[str, Any]]:
    """The receipts a member got, and the alerts it was sent (the alert, not what somebody else did)."""
    found = []
    for record in about:
        if record.receipt.sender == member:
            found.append(plain(record.receipt))
        elif member in record.notify:
            found.append({"alerts": list(record.receipt.alerts), "tokens": list(record.tokens)})
    return found


def _as_signed(decl: Declaration) -> dict[str, Any]:
    return _without(decl, *_BALANCES)


def _without(value: msgspec.Struct, *hidden: str) -> dict[str, Any]:
    fields: dict[str, Any] = plain(value)
    for name in hidden:
        del fields[name]
    return fields


def plain(value: Any) -> Any:
    """Structs as maps, tuples as lists, all the way down; bytes stay bytes."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return {key: item if type(item) in PLAIN else plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if type(item) in PLAIN else plain(item) for item in value]
    return value
