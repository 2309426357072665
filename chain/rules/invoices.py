"""Type 10: invoices, and how they are compared with what customs signed."""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.rules.context import (
    PARTS_MAX,
    Context,
    Rejected,
    need_amount,
    need_hs,
    need_token,
)
from tradebft.chain.rules.objects import Declaration, Financing, Firm, Invoice, Share
from tradebft.chain.rules.parameters import Parameters
from tradebft.chain.rules.payloads import InvoiceRegister


def register(ctx: Context, p: InvoiceRegister) -> None:
    """Type 10: a firm registers an invoice over parts of declarations."""
    state = ctx.state
    firm = ctx.registered_firm(ctx.sender.id)
    if firm.status != "ACTIVE":
        ctx.need_standing(firm)
    need_token(p.invoice, "invoice")
    need_token(p.buyer, "buyer")
    if p.invoice in state.invoices:
        raise Rejected("E_DUP_INVOICE", "invoice")
    need_amount(p.amount)
    ctx.need_currency(p.currency)
    need_hs(p.hs)
    if not 0 < len(p.lines) <= PARTS_MAX or len(p.combinations) > 8:
        raise Rejected("E_SIZE", "lines")
    tokens = tuple(line.declaration for line in p.lines)
    ctx.tokens = tokens
    if len(set(tokens)) != len(tokens):
        raise Rejected("E_PARAM", "lines")
    _compare(ctx, p, firm)
    for line in p.lines:
        state.invoiced.put(line.declaration, (state.invoiced.get(line.declaration) or 0) + line.amount)
    for combination in p.combinations:
        need_token(combination, "combinations")
        if combination in state.combinations:
            ctx.alerts = ("NEAR_DUPLICATE",)
        else:
            state.combinations.put(combination, p.invoice)
    lines = tuple((line.declaration, line.amount) for line in p.lines)
    state.invoices.put(
        p.invoice,
        Invoice(p.invoice, firm.id, p.buyer, p.currency, p.amount, p.date_ns, lines, p.combinations),
    )


def _compare(ctx: Context, p: InvoiceRegister, firm: Firm) -> None:
    """Everything in which the invoice and its declarations disagree, in one answer."""
    wrong: set[str] = set()
    for line in p.lines:
        need_amount(line.amount, "lines")
        decl = ctx.state.declarations.get(line.declaration)
        if decl is None:
            raise Rejected("E_DECL_UNKNOWN", "lines")
        if decl.status == "FROZEN":
            raise Rejected("E_FROZEN", "lines")
        if decl.status == "WITHDRAWN":
            raise Rejected("E_DECL_STATUS", "lines")
        wrong |= _differences(p, line.amount, decl, firm, ctx.state.invoiced.get(line.declaration) or 0)
    if sum(line.amount for line in p.lines) != p.amount:
        wrong.add("amount")
    if wrong:
        raise Rejected("E_MISMATCH", *sorted(wrong))


def _differences(p: InvoiceRegister, amount: int, decl: Declaration, firm: Firm, before: int) -> set[str]:
    wrong = set()
    if decl.exporter != firm.uscc:
        wrong.add("exporter")
    if decl.currency != p.currency:
        wrong.add("currency")
    elif before + amount > decl.value:
        wrong.add("amount")
    if p.hs and decl.hs and not set(p.hs) <= set(decl.hs):
        wrong.add("hs")
    return wrong


# ---- how financings take from invoices ---------------------------------------------------------------------


def take(ctx: Context, f: Financing, terms: Parameters) -> tuple[Share, ...]:
    """Reserve a financing's invoice shares: one bank at a time in strict mode, never above amount x ratio."""
    taken = []
    for share in f.invoices:
        invoice = ctx.state.invoices[share.token]
        if invoice.frozen:
            raise Rejected("E_FROZEN", "invoices")
        if terms.invoice_strict and invoice.holder not in ("", f.bank):
            raise Rejected("E_DUP_INVOICE", "invoices")
        charged = terms.charge(share.amount, f.currency, invoice.currency)
        if invoice.used + charged > terms.cap(f.product, invoice.amount):
            raise Rejected("E_DUP_INVOICE", "invoices")
        # In balance mode several banks may hold it; the first stays named, for the day strict mode returns.
        holder = invoice.holder or f.bank
        ctx.state.invoices.put(
            share.token,
            replace(invoice, used=invoice.used + charged, live=invoice.live + 1, holder=holder),
        )
        taken.append(replace(share, charged=charged))
    return tuple(taken)


def give_back(ctx: Context, token: bytes, charged: int, *, ended: bool) -> None:
    """Return capacity to an invoice; `ended` where the financing holds it no longer."""
    invoice = ctx.state.invoices[token]
    live = invoice.live - ended
    ctx.state.invoices.put(
        token,
        replace(invoice, used=invoice.used - charged, live=live, holder=invoice.holder if live else ""),
    )


def hand_over(ctx: Context, f: Financing, bank: str, strict: bool) -> None:
    """A financing's invoices follow its creditor; in strict mode no other loan may hang on them."""
    for share in f.invoices:
        invoice = ctx.state.invoices[share.token]
        if invoice.live > 1 and strict:
            raise Rejected("E_DUP_INVOICE", "invoices")
        if invoice.holder == f.bank:
            ctx.state.invoices.put(share.token, replace(invoice, holder=bank))
