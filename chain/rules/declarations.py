"""Types 8 and 9: what customs signs about an export, changes later, or takes back."""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.rules.context import Context, Rejected, need_amount, need_hs, need_token
from tradebft.chain.rules.objects import Declaration
from tradebft.chain.rules.parameters import BP
from tradebft.chain.rules.payloads import DeclAmend, DeclAnchor, DeclWithdraw
from tradebft.chain.rules.states import HAS_DRAWN, HOLDS_RESERVATION


def anchor(ctx: Context, p: DeclAnchor) -> None:
    """Type 8: customs puts a declaration on the ledger."""
    need_token(p.declaration, "declaration")
    need_token(p.exporter, "exporter")
    ctx.tokens = (p.declaration,)
    if p.declaration in ctx.state.declarations:
        raise Rejected("E_DECL_STATUS", "declaration")
    if p.direction not in (0, 1):
        raise Rejected("E_PARAM", "direction")
    need_amount(p.value, "value")
    ctx.need_currency(p.currency)
    need_hs(p.hs)
    if len(p.trade_mode) > 32 or len(p.incoterm) > 32:
        raise Rejected("E_SIZE")
    ctx.firm = ctx.state.firm_of.get(p.exporter) or ""  # unregistered: parked until the firm comes
    ratio_bp = max(ctx.parameters.ratio_bp.values(), default=0)
    ctx.state.declarations.put(
        p.declaration,
        Declaration(
            token=p.declaration,
            exporter=p.exporter,
            direction=p.direction,
            currency=p.currency,
            value=p.value,
            export_date_ns=p.export_date_ns,
            hs=p.hs,
            trade_mode=p.trade_mode,
            incoterm=p.incoterm,
            status="VALID",
            version=1,
            source=ctx.sender.id,
            anchored_ns=ctx.time_ns,
            ratio_bp=ratio_bp,
            cap=p.value * ratio_bp // BP,
        ),
    )


def amend(ctx: Context, p: DeclAmend) -> None:
    """Type 9: customs replaces a declaration's value; what was lent beyond the new cap is a flagged shortfall."""
    decl = _current(ctx, p.declaration, p.version)
    need_amount(p.value, "value")
    need_hs(p.hs)
    cap = p.value * decl.ratio_bp // BP
    _replace_version(ctx, replace(decl, status="AMENDED", value=p.value, hs=p.hs or decl.hs, cap=cap))


def withdraw(ctx: Context, p: DeclWithdraw) -> None:
    """Type 9: customs takes a declaration back; its cap becomes 0."""
    decl = _current(ctx, p.declaration, p.version)
    _replace_version(ctx, replace(decl, status="WITHDRAWN", cap=0))


def shortfall(decl: Declaration) -> int:
    """How far the cap lies below what is reserved and drawn."""
    return max(0, decl.reserved + decl.drawn - decl.cap)


def _current(ctx: Context, token: bytes, version: int) -> Declaration:
    ctx.tokens = (token,)
    decl = ctx.state.declarations.get(token)
    if decl is None:
        raise Rejected("E_DECL_UNKNOWN", "declaration")
    ctx.firm = ctx.state.firm_of.get(decl.exporter) or ""
    if decl.status == "FROZEN":
        raise Rejected("E_FROZEN", "declaration")
    if decl.status == "WITHDRAWN" or decl.version != version:
        raise Rejected("E_DECL_STATUS", "version")
    return decl


def _replace_version(ctx: Context, decl: Declaration) -> None:
    """Loans already made stand; where they are no longer covered, everybody concerned is told."""
    missing = shortfall(decl)
    ctx.state.declarations.put(decl.token, replace(decl, version=decl.version + 1, shortfall=missing))
    if missing:
        ctx.alerts = ("SHORTFALL",)
        ctx.notify = holders(ctx, decl.token)


def holders(ctx: Context, token: bytes) -> tuple[str, ...]:
    """The banks with a reservation or loan on a declaration, sorted."""
    financings = ctx.state.financings
    found = {
        f.bank
        for f in (financings[id] for id in ctx.state.uses.get(token, ()))
        if f.state in HOLDS_RESERVATION or f.state in HAS_DRAWN or f.state == "FROZEN"
    }
    return tuple(sorted(found))
