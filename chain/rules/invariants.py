"""What must hold whatever is submitted: I1 to I15, checked from outside the rules.

Rules keep sums as they go; the checks here reckon them again from the single items. `check` looks at
everything and is for the end of a run; `check_touched` looks at what one block changed and is cheap enough
for every block. I16 (what a quorum committed is never lost or reordered) belongs to consensus and is checked
there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import AUDIT_START, Applied, chained
from tradebft.chain.rules import states
from tradebft.chain.rules.members import standing_validators
from tradebft.chain.rules.objects import BANK, NEVER, Declaration, Financing, Invoice, Member, Share
from tradebft.chain.rules.parameters import AMOUNT_MAX, BP
from tradebft.chain.rules.repayment import OWN_FUNDS, WRITE_OFF
from tradebft.chain.state import State

NAMES: Final[dict[str, str]] = {
    "I1": "0 <= reserved, 0 <= drawn, reserved + drawn <= cap, but for a flagged shortfall",
    "I2": "reserved and drawn of a declaration are the sums of its live allocations across all banks",
    "I3": "an invoice is financed by one bank at a time, and never above its amount times the ratio",
    "I4": "the allocations of a financing add up to its amount exactly",
    "I5": "0 <= outstanding, and repaid + outstanding + written off = disbursed",
    "I6": "no financing without the bank's KYC and the firm's consent at that time",
    "I7": "only own funds restore headroom, and only where the parameters say so",
    "I8": "states change along the table only, and terminal states are final",
    "I9": "each sequence number of a sender and each payment reference serves once",
    "I10": "amounts are integers in range, caps are rounded down",
    "I11": "amounts across currencies follow the recorded rates exactly",
    "I12": "the incremental root is the root reckoned from scratch",
    "I13": "a bank's view names no other bank and no other bank's customer",
    "I14": "every receipt has its record, and the records form the chain in the root",
    "I15": "the validators are at least 3f + 1",
}
"""The invariants in one line each."""


class Violation(NamedTuple):
    """An invariant that does not hold, and where."""

    invariant: str
    about: str
    why: str

    def __str__(self) -> str:
        return f"{self.invariant} broken at {self.about}: {self.why}"


_Report = Callable[[str, Any, str], None]


def check(ledger: Ledger) -> list[Violation]:
    """Every invariant over everything, reckoned from single items. Takes time in proportion to the ledger."""
    found: list[Violation] = []
    report = _reporter(found)
    state = ledger.state
    for decl in state.declarations.rows.values():
        _declaration(state, decl, report)
    for invoice in state.invoices.rows.values():
        _invoice(state, invoice, report)
    for financing in state.financings.rows.values():
        _financing(state, financing, report)
    _repayments(state, report)
    _records(ledger, report)
    _views(ledger, report)
    _members(state, report)
    if state.root_from_scratch() != ledger.objects_root:
        report("I12", "root", "incremental and recomputed root differ")
    return found


def check_touched(ledger: Ledger, applied: Applied) -> list[Violation]:
    """The invariants of what one block changed; call it right after the `apply` that returned `applied`."""
    found: list[Violation] = []
    report = _reporter(found)
    state = ledger.state
    tokens: set[bytes] = set()
    touched: dict[bytes, Financing] = {}
    for table, key, before, after in applied.changes:
        if table == "financing":
            assert isinstance(after, Financing)
            assert isinstance(key, bytes)
            if isinstance(before, Financing):
                _moved(before, after, report)
            touched[key] = state.financings[key]
            tokens.update(share.token for share in after.allocations + after.invoices)
        elif table in ("declaration", "invoice"):
            assert isinstance(key, bytes)
            tokens.add(key)
        elif table == "parameters" or (table == "member" and _validates(before, after)):
            _members(state, report)
    for token in tokens:
        if (decl := state.declarations.get(token)) is not None:
            _declaration(state, decl, report)
        elif (invoice := state.invoices.get(token)) is not None:
            _invoice(state, invoice, report)
    for financing in touched.values():
        _financing(state, financing, report)
    fresh = [r for r in applied.receipts if not r.repeated]
    recorded = [record.receipt for record in ledger.audit[len(ledger.audit) - len(fresh) :]]
    if recorded != fresh:
        report("I14", applied.height, "receipts without a record")
    return found


def _validates(*rows: object) -> bool:
    """Whether one of a member's rows is a validator's; every firm is a member, too, and comes without one."""
    return any(isinstance(row, Member) and row.validator_from != NEVER for row in rows)


def _reporter(found: list[Violation]) -> _Report:
    def report(invariant: str, about: Any, why: str) -> None:
        found.append(Violation(invariant, about.hex() if isinstance(about, bytes) else str(about), why))

    return report


def standing(state: State, f: Financing) -> str:
    """A financing's state, or the state it will return to where it is frozen."""
    return state.holds["financing", f.id].before if f.state == states.FROZEN else f.state


# ---- one object --------------------------------------------------------------------------------------------


def _declaration(state: State, d: Declaration, report: _Report) -> None:
    if d.reserved < 0 or d.drawn < 0:
        report("I1", d.token, f"reserved {d.reserved}, drawn {d.drawn}")
    over = max(0, d.reserved + d.drawn - d.cap)
    if over != d.shortfall or (over and d.version == 1):
        report("I1", d.token, f"{over} above the cap {d.cap}, flagged {d.shortfall}, version {d.version}")
    reserved = drawn = 0
    for f, share in _shares(state, d.token):
        where = standing(state, f)
        if where in states.HOLDS_RESERVATION:
            reserved += share.charged
        elif where in states.HAS_DRAWN:
            drawn += share.charged - share.restored
    if (reserved, drawn) != (d.reserved, d.drawn):
        report("I2", d.token, f"kept ({d.reserved}, {d.drawn}), recomputed ({reserved}, {drawn})")
    withdrawn = d.status == "WITHDRAWN" or (
        d.status == "FROZEN" and state.holds["declaration", d.token].before == "WITHDRAWN"
    )
    if d.cap != (0 if withdrawn else d.value * d.ratio_bp // BP):
        report("I10", d.token, f"cap {d.cap} of value {d.value} at {d.ratio_bp} bp")
    _integers(d.token, report, d.value, d.cap, d.reserved, d.drawn, d.shortfall)


def _invoice(state: State, i: Invoice, report: _Report) -> None:
    used, live, holders, cap = 0, 0, set(), 0
    strict = True
    for f, share in _shares(state, i.token):
        where = standing(state, f)
        if where not in states.HOLDS_RESERVATION and where not in states.HAS_DRAWN:
            continue
        used += share.charged - share.restored
        terms = state.parameters[f.parameters]
        cap = max(cap, terms.cap(f.product, i.amount))
        if where not in states.TERMINAL:
            live += 1
            holders.add(f.bank)
            strict = strict and bool(terms.invoice_strict)
    if (used, live) != (i.used, i.live) or used > cap:
        report("I3", i.token, f"kept ({i.used}, {i.live}), recomputed ({used}, {live}), cap {cap}")
    if strict and (len(holders) > 1 or (holders and i.holder not in holders)):
        report("I3", i.token, f"financed by {len(holders)} banks at a time")
    _integers(i.token, report, i.amount, i.used)


def _financing(state: State, f: Financing, report: _Report) -> None:
    for shares in (f.allocations, f.invoices):
        if shares and sum(share.amount for share in shares) != f.amount:
            report("I4", f.id, f"{[share.amount for share in shares]} for {f.amount}")
    if f.outstanding < 0 or f.repaid + f.outstanding + f.written_off != f.disbursed:
        report("I5", f.id, f"disbursed {f.disbursed}, repaid {f.repaid}, written off {f.written_off}")
    where = standing(state, f)
    if (f.disbursed > 0) != (where in states.HAS_DRAWN) or f.disbursed not in (0, f.amount):
        report("I5", f.id, f"{f.disbursed} of {f.amount} disbursed in {where}")
    if f.applied_ns >= min(f.kyc_expiry_ns, f.consent_to_ns):
        report("I6", f.id, "applied for after KYC or consent had run out")
    if (f.firm, f.bank) not in state.kyc or (f.firm, f.bank) not in state.consents:
        report("I6", f.id, f"{f.firm} was never attested by, or never consented to, {f.bank}")
    _policy(state, f, report)
    _trail(f, report)
    _rates(state, f, report)
    _integers(f.id, report, f.amount, f.disbursed, f.repaid, f.written_off, f.own_funds)


def _policy(state: State, f: Financing, report: _Report) -> None:
    if f.own_funds and not state.parameters[f.parameters].recycle:
        report("I7", f.id, "headroom restored although the parameters forbid it")
    for share in f.allocations + f.invoices:
        due = share.charged * f.own_funds // f.disbursed if f.disbursed else 0
        if share.restored != due:
            report("I7", f.id, f"restored {share.restored}, by own funds {due}")


def _trail(f: Financing, report: _Report) -> None:
    steps = list(zip(f.trail, f.trail[1:], strict=False))
    if f.trail[0] != states.DRAFT or f.trail[-1] != f.state:
        report("I8", f.id, f"in {f.state} after {f.trail}")
    if not all(states.allowed(a, b) for a, b in steps):
        report("I8", f.id, f"no such way: {f.trail}")


def _moved(before: Financing, after: Financing, report: _Report) -> None:
    if before.state in states.TERMINAL and after != before:
        report("I8", after.id, f"changed after it was {before.state}")
    if after.trail[: len(before.trail)] != before.trail:
        report("I8", after.id, f"history rewritten: {before.trail} to {after.trail}")


def _rates(state: State, f: Financing, report: _Report) -> None:
    terms = state.parameters[f.parameters]
    for share in f.allocations + f.invoices:
        decl, invoice = state.declarations.get(share.token), state.invoices.get(share.token)
        currency = decl.currency if decl else invoice.currency if invoice else ""
        if share.charged and share.charged != terms.charge(share.amount, f.currency, currency):
            report("I11", f.id, f"{share.amount} {f.currency} charged as {share.charged} {currency}")


def _integers(about: bytes, report: _Report, *amounts: int) -> None:
    for amount in amounts:
        if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
            report("I10", about, f"amount {amount!r}")


def _shares(state: State, token: bytes) -> Iterable[tuple[Financing, Share]]:
    for id in state.uses.get(token, ()):
        f = state.financings[id]
        for share in f.allocations + f.invoices:
            if share.token == token:
                yield f, share


# ---- the whole ---------------------------------------------------------------------------------------------


def _repayments(state: State, report: _Report) -> None:
    repaid: Counter[bytes] = Counter()
    written_off: Counter[bytes] = Counter()
    own_funds: Counter[bytes] = Counter()
    for r in state.repayments.rows.values():
        (written_off if r.origin == WRITE_OFF else repaid)[r.financing] += r.amount
        if r.origin == OWN_FUNDS:
            own_funds[r.financing] += r.amount
        reference = state.references.get((r.bank, r.reference))
        if reference is None or reference.transaction != r.id:
            report("I9", r.id, f"reference {r.reference!r} is another payment's")
    for f in state.financings.rows.values():
        if (repaid[f.id], written_off[f.id]) != (f.repaid, f.written_off):
            report("I5", f.id, f"single repayments add up to {repaid[f.id]}, not {f.repaid}")
        restoring = own_funds[f.id] if state.parameters[f.parameters].recycle else 0
        if restoring != f.own_funds:
            report("I7", f.id, f"{f.own_funds} counted as own funds, repayments say {restoring}")


def _records(ledger: Ledger, report: _Report) -> None:
    head = AUDIT_START
    used: set[tuple[str, int]] = set()
    for number, record in enumerate(ledger.audit):
        head = chained(head, record)
        if record.number != number:
            report("I14", number, "records are not numbered through")
        if record.receipt.ok and not record.consumed:
            report("I9", number, "took effect without using its number up")
        if record.consumed:
            place = (record.receipt.sender, record.receipt.sequence)
            if place in used:
                report("I9", number, f"sequence {place} served twice")
            used.add(place)
    if head != ledger.audit_head:
        report("I14", "audit", "the records are not those of the chain of hashes")


def _views(ledger: Ledger, report: _Report) -> None:
    """Search every bank's view for names and tokens that are none of its business."""
    state = ledger.state
    banks = {m.id for m in state.members.rows.values() if m.role == BANK}
    customers_of: defaultdict[str, set[str]] = defaultdict(set)
    for firm, bank in state.kyc.rows:
        customers_of[bank].add(firm)
    for bank, view in ledger.bank_views():
        customers = customers_of[bank]
        for text in _texts(view):
            if text in banks and text != bank:
                report("I13", bank, f"its view names {text}")
            if text in state.firms and text not in customers:
                report("I13", bank, f"its view names {text}, no customer of it")


def _texts(value: object) -> Iterable[str]:
    """All text in it, in no order."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, list):
            left += item


def _members(state: State, report: _Report) -> None:
    n, f = standing_validators(state), state.parameters_now.faults
    if n < 3 * f + 1:
        report("I15", "validators", f"n = {n}, f = {f}")
