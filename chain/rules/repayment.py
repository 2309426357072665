"""Types 17 to 19 and 25: money coming back, loans that end or go wrong, change of creditor, correction.

What repayment does to a declaration's headroom is policy: money from the buyer never restores it, because the
receivable is gone; the firm's own money does if the parameter `recycle` says so.
"""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.rules import invoices, states
from tradebft.chain.rules.context import Context, Rejected, need_amount
from tradebft.chain.rules.declarations import shortfall
from tradebft.chain.rules.financing import after, found, moved, owned, use_reference
from tradebft.chain.rules.objects import Financing, Repayment, Share
from tradebft.chain.rules.parameters import AMOUNT_MAX
from tradebft.chain.rules.payloads import (
    Correct,
    FinClose,
    FinDefault,
    FinOverdue,
    FinTransfer,
    Repay,
)

BUYER_RECEIPT = "BUYER_RECEIPT"
OWN_FUNDS = "OWN_FUNDS"
INSURANCE = "INSURANCE"
WRITE_OFF = "WRITE_OFF"
ORIGINS = (BUYER_RECEIPT, OWN_FUNDS, INSURANCE, WRITE_OFF)


def repay(ctx: Context, p: Repay) -> None:
    """Type 17: the lending bank books a repayment."""
    f = owned(ctx, p.financing)
    hold = ctx.state.holds.get(("financing", f.id)) if f.state == states.FROZEN else None
    standing = hold.before if hold else f.state
    state = states.TRANSITIONS[standing].get(states.REPAY)
    if state is None:
        raise Rejected("E_STATE", "financing")
    need_amount(p.amount)
    if p.origin not in ORIGINS:
        raise Rejected("E_PARAM", "origin")
    if p.amount > f.outstanding:
        raise Rejected("E_OUTSTANDING", "amount")
    use_reference(ctx, p.reference)
    if hold:  # a frozen loan may be repaid; it stays frozen
        ctx.state.holds.put(("financing", f.id), replace(hold, before=state))
        state = states.FROZEN
    ctx.object = ctx.id
    ctx.state.repayments.put(
        ctx.id,
        Repayment(
            id=ctx.id,
            financing=f.id,
            bank=f.bank,
            amount=p.amount,
            origin=p.origin,
            reference=p.reference,
            value_date_ns=p.value_date_ns,
            booked_ns=ctx.time_ns,
        ),
    )
    if p.origin == OWN_FUNDS:
        # A bank in league with the firm may book money that never came; the regulator gets to see where to
        # look.
        ctx.alerts = ("OWN_FUNDS",)
    ctx.state.financings.put(f.id, _booked(ctx, moved(f, state), p.origin, p.amount))


def close(ctx: Context, p: FinClose) -> None:
    """Type 18: nothing is outstanding: the financing ends."""
    f = owned(ctx, p.financing)
    state = after(f, states.CLOSE)
    if f.outstanding:
        raise Rejected("E_OUTSTANDING", "financing")
    for share in f.invoices:
        invoices.give_back(ctx, share.token, 0, ended=True)
    ctx.state.financings.put(f.id, moved(f, state))


def overdue(ctx: Context, p: FinOverdue) -> None:
    """Type 18: the loan is past due by block time."""
    f = owned(ctx, p.financing)
    state = after(f, states.LATE)
    if not f.outstanding:
        raise Rejected("E_OUTSTANDING", "financing")
    if ctx.time_ns <= f.due_ns:
        raise Rejected("E_TTL", "due_ns")
    ctx.alerts = ("OVERDUE",)
    ctx.state.financings.put(f.id, moved(f, state))


def default(ctx: Context, p: FinDefault) -> None:
    """Type 18: an overdue loan is given up."""
    f = owned(ctx, p.financing)
    ctx.alerts = ("DEFAULTED",)
    ctx.state.financings.put(f.id, moved(f, after(f, states.DEFAULT)))


def transfer(ctx: Context, p: FinTransfer) -> None:
    """The creditor changes; what is drawn does not."""
    f = owned(ctx, p.financing)
    state = after(f, states.TRANSFER)
    if p.share_bp != 10_000:
        raise Rejected("E_PARAM", "share_bp")
    new = ctx.active_bank(p.bank)
    if new.id == f.bank:
        raise Rejected("E_PARAM", "bank")
    if ctx.cosigners.get(new.id) != new.public_key:
        raise Rejected("E_SIG", "bank")
    ctx.need_kyc(f.firm, new.id)
    ctx.need_consent(f.firm, new.id, "financing")
    invoices.hand_over(ctx, f, new.id, bool(ctx.parameters.invoice_strict))
    ctx.notify = (f.firm, new.id)
    ctx.state.financings.put(f.id, replace(moved(f, state), bank=new.id))


def correct(ctx: Context, p: Correct) -> None:
    """Book the difference between what a repayment said and what it should have said; nothing is erased."""
    repayment = ctx.state.repayments.get(p.target)
    if repayment is None:
        raise Rejected("E_STATE", "target")
    f = found(ctx, repayment.financing)
    if ctx.sender.id != repayment.bank:
        raise Rejected("E_ROLE", "target")
    ctx.need_regulator()
    if f.state in states.TERMINAL:
        raise Rejected("E_STATE", "financing")
    if f.state == states.FROZEN:
        raise Rejected("E_FROZEN", "financing")
    if ctx.time_ns - repayment.booked_ns > ctx.parameters.correct_window_ns:
        raise Rejected("E_TTL", "target")
    if not 0 <= p.amount <= AMOUNT_MAX or p.amount == repayment.amount:
        raise Rejected("E_AMOUNT", "amount")
    difference = p.amount - repayment.amount
    if difference > f.outstanding:
        raise Rejected("E_OUTSTANDING", "amount")
    ctx.object = p.target
    ctx.alerts = ("CORRECTED",)
    ctx.state.repayments.put(
        p.target, replace(repayment, amount=p.amount, corrections=repayment.corrections + 1)
    )
    ctx.state.financings.put(f.id, _booked(ctx, f, repayment.origin, difference))


def _booked(ctx: Context, f: Financing, origin: str, amount: int) -> Financing:
    """The loan after this much more (or, corrected, less) came back from this origin."""
    if origin == WRITE_OFF:
        return replace(f, written_off=f.written_off + amount)
    f = replace(f, repaid=f.repaid + amount)
    if origin == OWN_FUNDS and ctx.state.parameters[f.parameters].recycle:
        f = replace(f, own_funds=f.own_funds + amount)
        return replace(
            f,
            allocations=tuple(_restore_headroom(ctx, f, s) for s in f.allocations),
            invoices=tuple(_restore_invoice(ctx, f, s) for s in f.invoices),
        )
    return f


def _restorable(f: Financing, share: Share) -> int:
    # In proportion, rounded down, and reckoned from the total each time: parts never add up to more than the
    # whole.
    return share.charged * f.own_funds // f.disbursed


def _restore_headroom(ctx: Context, f: Financing, share: Share) -> Share:
    restored = _restorable(f, share)
    decl = ctx.state.declarations[share.token]
    decl = replace(decl, drawn=decl.drawn - (restored - share.restored))
    if restored < share.restored and decl.reserved + decl.drawn > decl.cap:
        raise Rejected("E_HEADROOM", "amount")  # a correction may not take back what others were lent since
    ctx.state.declarations.put(share.token, replace(decl, shortfall=shortfall(decl)))
    return replace(share, restored=restored)


def _restore_invoice(ctx: Context, f: Financing, share: Share) -> Share:
    restored = _restorable(f, share)
    invoices.give_back(ctx, share.token, restored - share.restored, ended=False)
    return replace(share, restored=restored)
