"""Types 24 and 26: freezing, thawing, and reading under the law. (25, correction, lies with repayments.)"""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.rules import states
from tradebft.chain.rules.context import Context, Rejected, need_text
from tradebft.chain.rules.objects import Hold
from tradebft.chain.rules.payloads import AuditRead, Freeze, Unfreeze

KINDS = ("declaration", "financing", "firm", "invoice")


def freeze(ctx: Context, p: Freeze) -> None:
    """Type 24: the regulator stops an object; repayments stay possible."""
    need_text(p.legal_basis, "legal_basis")
    if ctx.held(p.kind, p.object):
        raise Rejected("E_FROZEN", "object")
    before = _status(ctx, p.kind, p.object)
    if p.kind == "financing" and before not in states.FREEZABLE:
        raise Rejected("E_STATE", "object")
    hold = Hold(p.kind, p.object, p.legal_basis, ctx.time_ns, before)
    ctx.state.holds.put((p.kind, p.object), hold)
    _set_status(ctx, p.kind, p.object, states.FROZEN)


def unfreeze(ctx: Context, p: Unfreeze) -> None:
    """Type 24: the regulator lets it go again."""
    need_text(p.legal_basis, "legal_basis")
    hold = ctx.state.holds.get((p.kind, p.object))
    if hold is None or not hold.before:
        raise Rejected("E_STATE", "object")
    _status(ctx, p.kind, p.object)
    _set_status(ctx, p.kind, p.object, hold.before)
    # The hold stays on record, with nothing left to return to.
    ctx.state.holds.put((p.kind, p.object), replace(hold, legal_basis=p.legal_basis, before=""))


def read(ctx: Context, p: AuditRead) -> None:
    """Reading changes nothing; that it was done is the record."""
    need_text(p.scope, "scope")
    if len(p.object) > 64:
        raise Rejected("E_SIZE", "object")
    ctx.object = p.object


def _status(ctx: Context, kind: str, key: bytes) -> str:
    state = ctx.state
    if kind == "declaration":
        if (decl := state.declarations.get(key)) is None:
            raise Rejected("E_DECL_UNKNOWN", "object")
        ctx.tokens = (key,)
        return decl.status
    if kind == "financing":
        if (f := state.financings.get(key)) is None:
            raise Rejected("E_STATE", "object")
        ctx.object, ctx.firm, ctx.bank, ctx.notify = key, f.firm, f.bank, (f.bank, f.firm)
        return f.state
    if kind == "firm":
        return ctx.registered_firm(_firm_id(key)).status
    if kind == "invoice":
        if (invoice := state.invoices.get(key)) is None:
            raise Rejected("E_STATE", "object")
        ctx.firm = invoice.seller
        return "REGISTERED"
    raise Rejected("E_PARAM", "kind")


def _set_status(ctx: Context, kind: str, key: bytes, status: str) -> None:
    state = ctx.state
    if kind == "declaration":
        state.declarations.put(key, replace(state.declarations[key], status=status))
    elif kind == "financing":
        f = state.financings[key]
        state.financings.put(key, replace(f, state=status, trail=(*f.trail, status)))
    elif kind == "firm":
        firm = _firm_id(key)
        state.firms.put(firm, replace(state.firms[firm], status=status))
    else:
        frozen = status == states.FROZEN
        state.invoices.put(key, replace(state.invoices[key], frozen=frozen))


def _firm_id(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return ""  # no firm's id
