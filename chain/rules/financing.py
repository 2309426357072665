"""Types 11 to 16: a financing from application to payment. The heart of it is `reserve`.

A declaration may be financed by several banks, as long as what they reserve and draw fits its cap. The
balance is checked when a reservation is executed, in the order the members agreed on: of two that do not fit
together, whichever comes first is made, and every honest replica refuses the other.
"""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.rules import invoices, states
from tradebft.chain.rules.context import PARTS_MAX, Context, Rejected, need_amount, need_text
from tradebft.chain.rules.declarations import shortfall
from tradebft.chain.rules.objects import (
    BANK,
    FIRM,
    Declaration,
    Financing,
    Firm,
    Reference,
    Share,
    Times,
)
from tradebft.chain.rules.parameters import DAY_NS, Parameters
from tradebft.chain.rules.payloads import (
    Allocation,
    Claim,
    DeclVerify,
    FinApply,
    FinApprove,
    FinDisburse,
    FinReject,
    FinReserve,
    FinWithdraw,
    ReserveExpire,
)

TENOR_DAYS_MAX = 3_650


# ---- 11: apply ---------------------------------------------------------------------------------------------


def apply(ctx: Context, p: FinApply) -> None:
    """Type 11: a firm asks a bank for money against declarations."""
    firm = ctx.registered_firm(ctx.sender.id)
    ctx.bank = p.bank
    ctx.active_bank(p.bank)
    ctx.need_standing(firm)
    kyc_expiry_ns = ctx.need_kyc(firm.id, p.bank)
    consent_to_ns = ctx.need_consent(firm.id, p.bank, "financing")
    need_amount(p.amount)
    ctx.need_currency(p.currency)
    if p.product not in ctx.parameters.ratio_bp:
        raise Rejected("E_PARAM", "product")
    if not 0 < p.tenor_days <= TENOR_DAYS_MAX:
        raise Rejected("E_PARAM", "tenor_days")
    if not 0 <= p.rate_bp <= 10_000:
        raise Rejected("E_PARAM", "rate_bp")
    allocations = _allocations(ctx, p, firm)
    shares = _invoice_shares(ctx, p, firm)
    ctx.object = ctx.id
    ctx.state.financings.put(
        ctx.id,
        Financing(
            id=ctx.id,
            firm=firm.id,
            bank=p.bank,
            product=p.product,
            amount=p.amount,
            currency=p.currency,
            tenor_days=p.tenor_days,
            rate_bp=p.rate_bp,
            allocations=allocations,
            invoices=shares,
            state=states.APPLIED,
            trail=(states.DRAFT, states.APPLIED),
            parameters=ctx.parameters.version,
            applied_ns=ctx.time_ns,
            kyc_expiry_ns=kyc_expiry_ns,
            consent_to_ns=consent_to_ns,
        ),
    )


def _allocations(ctx: Context, p: FinApply, firm: Firm) -> tuple[Share, ...]:
    if not 0 < len(p.allocations) <= PARTS_MAX:
        raise Rejected("E_SIZE", "allocations")
    tokens = tuple(a.declaration for a in p.allocations)
    ctx.tokens = tokens
    if len(set(tokens)) != len(tokens):
        raise Rejected("E_PARAM", "allocations")
    total = 0
    for a in p.allocations:
        need_amount(a.amount, "allocations")
        usable(ctx, a.declaration, firm, ctx.parameters)
        total += a.amount
    if total != p.amount:
        raise Rejected("E_MISMATCH", "allocations")
    return tuple(Share(a.declaration, a.amount) for a in p.allocations)


def _invoice_shares(ctx: Context, p: FinApply, firm: Firm) -> tuple[Share, ...]:
    if len(p.invoices) > PARTS_MAX:
        raise Rejected("E_SIZE", "invoices")
    if len({share.invoice for share in p.invoices}) != len(p.invoices):
        raise Rejected("E_PARAM", "invoices")
    wrong: set[str] = set()
    for share in p.invoices:
        need_amount(share.amount, "invoices")
        invoice = ctx.state.invoices.get(share.invoice)
        if invoice is None:
            raise Rejected("E_STATE", "invoices")
        if invoice.frozen:
            raise Rejected("E_FROZEN", "invoices")
        if invoice.seller != firm.id:
            wrong.add("exporter")
    if p.invoices and sum(share.amount for share in p.invoices) != p.amount:
        wrong.add("invoices")
    if wrong:
        raise Rejected("E_MISMATCH", *sorted(wrong))
    return tuple(Share(share.invoice, share.amount) for share in p.invoices)


def usable(ctx: Context, token: bytes, firm: Firm, terms: Parameters) -> Declaration:
    """The declaration, if this firm may have it financed now."""
    decl = ctx.state.declarations.get(token)
    if decl is None:
        raise Rejected("E_DECL_UNKNOWN", "declaration")
    if decl.exporter != firm.uscc:
        raise Rejected("E_DECL_OWNER", "declaration")
    if decl.status not in ("VALID", "AMENDED"):
        raise Rejected("E_FROZEN" if decl.status == "FROZEN" else "E_DECL_STATUS", "declaration")
    if decl.direction != 0:
        raise Rejected("E_DECL_DIRECTION", "declaration")
    if ctx.time_ns - decl.export_date_ns > terms.age_max_ns:
        raise Rejected("E_DECL_AGE", "declaration")
    return decl


# ---- 12: verify --------------------------------------------------------------------------------------------


def verify(ctx: Context, p: DeclVerify) -> None:
    """Compare the bank's papers with what customs signed, and say whether there is enough: yes or no.

    How much there is would tell the bank what others have lent. Asking again and again with other amounts
    would find it out by halving, so the answers to one bank about one declaration are counted and limited.
    """
    f = owned(ctx, p.financing)
    state = after(f, states.VERIFY)
    ctx.need_consent(f.firm, f.bank, "financing")
    firm = ctx.state.firms[f.firm]
    terms = ctx.state.parameters[f.parameters]
    wrong: set[str] = set()
    mine = {share.token for share in f.allocations}
    if len(p.claims) > PARTS_MAX:
        raise Rejected("E_SIZE", "claims")
    for claim in p.claims:
        wrong |= _differences(ctx, claim, mine)
    enough = True
    for share in f.allocations:
        decl = usable(ctx, share.token, firm, terms)
        charged = terms.charge(share.amount, f.currency, decl.currency)
        if decl.reserved + decl.drawn + charged > terms.cap(f.product, decl.value):
            enough = False
    if wrong:
        raise Rejected("E_MISMATCH", *sorted(wrong))
    _count_probes(ctx, f)
    ctx.headroom = enough
    ctx.state.financings.put(f.id, moved(f, state))


def _differences(ctx: Context, claim: Claim, mine: set[bytes]) -> set[str]:
    decl = ctx.state.declarations.get(claim.declaration)
    if decl is None:
        raise Rejected("E_DECL_UNKNOWN", "claims")
    wrong = set()
    if claim.declaration not in mine:
        return {"declaration"}  # nothing more is said about a declaration that was not applied with
    if claim.exporter and claim.exporter != decl.exporter:
        wrong.add("exporter")
    if claim.currency and claim.currency != decl.currency:
        wrong.add("currency")
    if claim.value and claim.value != decl.value:
        wrong.add("value")
    if claim.hs and claim.hs != decl.hs:
        wrong.add("hs")
    return wrong


def _count_probes(ctx: Context, f: Financing) -> None:
    since = ctx.time_ns - ctx.parameters.probe_window_ns
    for share in f.allocations:
        key = (f.bank, share.token)
        before = ctx.state.probes.get(key)
        recent = tuple(t for t in before.at_ns if t > since) if before else ()
        if len(recent) >= ctx.parameters.probe_limit:
            raise Rejected("E_TTL", "probe_limit")
        ctx.state.probes.put(key, Times((*recent, ctx.time_ns)))


# ---- 13: reserve -------------------------------------------------------------------------------------------


def reserve(ctx: Context, p: FinReserve) -> None:
    """Take the allocations from all their declarations, or from none."""
    f = owned(ctx, p.financing)
    state = after(f, states.RESERVE)
    firm = ctx.state.firms[f.firm]
    ctx.need_standing(firm)
    ctx.need_kyc(f.firm, f.bank)
    ctx.need_consent(f.firm, f.bank, "financing")
    terms = ctx.state.parameters[f.parameters]
    if p.allocations and p.allocations != tuple(Allocation(s.token, s.amount) for s in f.allocations):
        raise Rejected("E_MISMATCH", "allocations")
    ttl_ns = p.ttl_ns or terms.reservation_ttl_ns
    if not 0 < ttl_ns <= terms.reservation_ttl_ns:
        raise Rejected("E_TTL", "ttl_ns")
    if len(_recent_lapses(ctx, f)) >= ctx.parameters.lapse_limit:
        raise Rejected("E_TTL", "lapse_limit")
    allocations = []
    for share in f.allocations:
        decl = usable(ctx, share.token, firm, terms)
        charged = terms.charge(share.amount, f.currency, decl.currency)
        cap = terms.cap(f.product, decl.value)
        if decl.reserved + decl.drawn + charged > cap:
            raise Rejected("E_HEADROOM", "allocations")
        if _restored_by_own_funds(ctx, share.token):
            ctx.watch = ("REFINANCED_AFTER_OWN_FUNDS",)
        decl = replace(decl, reserved=decl.reserved + charged, cap=cap, ratio_bp=terms.ratio_bp[f.product])
        ctx.state.declarations.put(share.token, replace(decl, shortfall=0))
        allocations.append(replace(share, charged=charged))
    shares = invoices.take(ctx, f, terms)
    ctx.state.financings.put(
        f.id,
        replace(
            moved(f, state),
            allocations=tuple(allocations),
            invoices=shares,
            reserved_until_ns=ctx.time_ns + ttl_ns,
        ),
    )


def _recent_lapses(ctx: Context, f: Financing) -> tuple[int, ...]:
    lapses = ctx.state.lapses.get((f.bank, f.firm))
    since = ctx.time_ns - ctx.parameters.lapse_window_ns
    return tuple(t for t in lapses.at_ns if t > since) if lapses else ()


def _restored_by_own_funds(ctx: Context, token: bytes) -> bool:
    financings = ctx.state.financings
    for id in ctx.state.uses.get(token, ()):
        for share in financings[id].allocations:
            if share.restored and share.token == token:
                return True
    return False


# ---- 14: approve, reject -----------------------------------------------------------------------------------


def approve(ctx: Context, p: FinApprove) -> None:
    """Type 14: the bank grants it, with a maker's and a checker's key."""
    f = owned(ctx, p.financing)
    state = after(f, states.APPROVE)
    need_checker(ctx)
    if ctx.time_ns > f.reserved_until_ns:
        raise Rejected("E_TTL", "reservation")
    ctx.state.financings.put(f.id, moved(f, state))


def reject(ctx: Context, p: FinReject) -> None:
    """Type 14: the bank declines it; what was reserved is free again."""
    f = owned(ctx, p.financing)
    state = after(f, states.REJECT)
    need_checker(ctx)
    if len(p.reason) > 256:
        raise Rejected("E_SIZE", "reason")
    _end(ctx, f, state)


def need_checker(ctx: Context) -> None:
    """A second officer of the sending bank signed too, with a key that is not the maker's."""
    for name, key in ctx.sender.officers:
        if ctx.cosigners.get(name) == key and key != ctx.sender.public_key:
            return
    raise Rejected("E_MAKER_CHECKER")


# ---- 15: disburse ------------------------------------------------------------------------------------------


def disburse(ctx: Context, p: FinDisburse) -> None:
    """Type 15: the bank pays; what was reserved is drawn."""
    f = owned(ctx, p.financing)
    state = after(f, states.DISBURSE)
    need_amount(p.amount)
    if p.amount > f.amount:
        raise Rejected("E_HEADROOM", "amount")
    if ctx.time_ns > f.reserved_until_ns:
        raise Rejected("E_TTL", "reservation")
    ctx.need_standing(ctx.state.firms[f.firm])
    ctx.need_kyc(f.firm, f.bank)
    use_reference(ctx, p.reference)
    terms = ctx.state.parameters[f.parameters]
    ctx.state.financings.put(
        f.id,
        replace(
            moved(f, state),
            amount=p.amount,
            allocations=_draw(ctx, f, p.amount, terms),
            invoices=_bill(ctx, f, p.amount, terms),
            disbursed=p.amount,
            due_ns=ctx.time_ns + f.tenor_days * DAY_NS,
        ),
    )


def _draw(ctx: Context, f: Financing, amount: int, terms: Parameters) -> tuple[Share, ...]:
    """Turn reserved into drawn, first allocation first; what the payment leaves over is released."""
    drawn = []
    for share in f.allocations:
        decl = ctx.state.declarations[share.token]
        if decl.status == "FROZEN":
            raise Rejected("E_FROZEN", "declaration")
        if decl.status == "WITHDRAWN":
            raise Rejected("E_DECL_STATUS", "declaration")
        if decl.shortfall:
            raise Rejected("E_HEADROOM", "allocations")
        part = min(share.amount, amount)
        charged = terms.charge(part, f.currency, decl.currency)
        amount -= part
        ctx.state.declarations.put(
            share.token,
            replace(decl, reserved=decl.reserved - share.charged, drawn=decl.drawn + charged),
        )
        if part:
            drawn.append(replace(share, amount=part, charged=charged))
    return tuple(drawn)


def _bill(ctx: Context, f: Financing, amount: int, terms: Parameters) -> tuple[Share, ...]:
    billed = []
    for share in f.invoices:
        part = min(share.amount, amount)
        charged = terms.charge(part, f.currency, ctx.state.invoices[share.token].currency)
        amount -= part
        if part < share.amount:
            invoices.give_back(ctx, share.token, share.charged - charged, ended=part == 0)
        if part:
            billed.append(replace(share, amount=part, charged=charged))
    return tuple(billed)


def use_reference(ctx: Context, reference: str) -> None:
    """A payment reference serves a bank once."""
    need_text(reference, "reference", 64)
    key = (ctx.sender.id, reference)
    if key in ctx.state.references:
        raise Rejected("E_OUTSTANDING", "reference")
    ctx.state.references.put(key, Reference(ctx.sender.id, reference, ctx.id))


# ---- 16: withdraw, expire ----------------------------------------------------------------------------------


def withdraw(ctx: Context, p: FinWithdraw) -> None:
    """Type 16: the firm takes its application back before it is paid."""
    f = found(ctx, p.financing)
    if f.firm != ctx.sender.id:
        raise Rejected("E_ROLE", "financing")
    _end(ctx, f, after(f, states.WITHDRAW))


def expire(ctx: Context, p: ReserveExpire) -> None:
    """Anyone may ask for it, because a bank that squats on a reservation will not."""
    f = found(ctx, p.financing)
    state = after(f, states.EXPIRE)
    if ctx.time_ns <= f.reserved_until_ns:
        raise Rejected("E_TTL", "reservation")
    _end(ctx, f, state)
    times = Times((*_recent_lapses(ctx, f), ctx.time_ns))
    ctx.state.lapses.put((f.bank, f.firm), times)
    ctx.alerts = ("RESERVATION_LAPSED",)
    ctx.notify = (f.bank, f.firm)


def _end(ctx: Context, f: Financing, state: str) -> None:
    """Release what a financing holds that was never paid out, and end it."""
    if f.state in states.HOLDS_RESERVATION:
        for share in f.allocations:
            decl = ctx.state.declarations[share.token]
            decl = replace(decl, reserved=decl.reserved - share.charged)
            ctx.state.declarations.put(share.token, replace(decl, shortfall=shortfall(decl)))
        for share in f.invoices:
            invoices.give_back(ctx, share.token, share.charged, ended=True)
    ctx.state.financings.put(f.id, moved(f, state))


# ---- what all steps of a financing share -------------------------------------------------------------------


def found(ctx: Context, id: bytes) -> Financing:
    """The financing, noted as the record's subject."""
    f = ctx.state.financings.get(id)
    if f is None:
        raise Rejected("E_STATE", "financing")
    ctx.object = id
    ctx.firm, ctx.bank = f.firm, f.bank
    ctx.tokens = tuple(share.token for share in f.allocations)
    return f


def owned(ctx: Context, id: bytes) -> Financing:
    """The financing, if it is the sending bank's."""
    f = ctx.state.financings.get(id)
    if f is not None and f.bank != ctx.sender.id and ctx.sender.role in (BANK, FIRM):
        raise Rejected(
            "E_ROLE", "financing"
        )  # before `found`: a stranger's record names neither firm nor bank
    return found(ctx, id)


def after(f: Financing, event: str) -> str:
    """The state this event leads to, by the table in states.py."""
    if f.state == states.FROZEN:
        raise Rejected("E_FROZEN", "financing")
    to = states.TRANSITIONS[f.state].get(event)
    if to is None:
        raise Rejected("E_STATE", "financing")
    return to


def moved(f: Financing, state: str) -> Financing:
    """The financing in another state, its trail one longer (a state that stays is not repeated)."""
    if state == f.state:
        return f
    return replace(f, state=state, trail=(*f.trail, state))
