"""Types 4 to 7: firms, what banks attest about them, and what they consent to."""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.crypto import KEY_BYTES
from tradebft.chain.rules.context import Context, Rejected, need_text, need_token
from tradebft.chain.rules.objects import FIRM, Consent, Firm, Kyc, Member
from tradebft.chain.rules.payloads import (
    ConsentGrant,
    ConsentRevoke,
    FirmRegister,
    FirmStatus,
    KycAttest,
)

SCOPES = ("financing", "credit")


def register(ctx: Context, p: FirmRegister) -> None:
    """The check character of the USCC was checked where its token was made; the ledger sees only the
    token.
    """
    need_text(p.firm, "firm", 64)
    if not p.firm.startswith("firm.") or "/" in p.firm:
        raise Rejected("E_PARAM", "firm")
    for token, field in ((p.uscc, "uscc"), (p.name_commitment, "name_commitment")):
        need_token(token, field)
    need_token(p.customs_code, "customs_code")
    if p.grade not in ("A", "B", "C"):
        raise Rejected("E_PARAM", "grade")
    if len(p.public_key) != KEY_BYTES:
        raise Rejected("E_PARAM", "public_key")
    state = ctx.state
    if p.firm in state.members or p.uscc in state.firm_of:
        raise Rejected("E_STATE", "firm")
    state.members.put(p.firm, Member(p.firm, FIRM, p.public_key))
    state.firms.put(
        p.firm,
        Firm(p.firm, p.uscc, p.grade, "PENDING", p.name_commitment, p.customs_code, ctx.sender.id),
    )
    state.firm_of.put(p.uscc, p.firm)
    ctx.firm = p.firm


def attest(ctx: Context, p: KycAttest) -> None:
    """Type 5: a bank says that it knows the firm, for so long."""
    firm = ctx.registered_firm(p.firm)
    if not 1 <= p.level <= 5:
        raise Rejected("E_PARAM", "level")
    if p.expiry_ns <= ctx.time_ns:
        raise Rejected("E_KYC", "expiry_ns")
    if p.evidence:
        need_token(p.evidence, "evidence")
    bank = ctx.sender.id
    ctx.state.kyc.put((p.firm, bank), Kyc(p.firm, bank, p.level, p.expiry_ns, p.evidence))
    if firm.status == "PENDING":
        ctx.state.firms.put(p.firm, replace(firm, status="ACTIVE"))


def set_status(ctx: Context, p: FirmStatus) -> None:
    """Type 6: the regulator suspends or reinstates a firm, or changes its class."""
    firm = ctx.registered_firm(p.firm)
    if firm.status == "FROZEN":
        raise Rejected("E_FROZEN", "firm")
    if p.status not in ("ACTIVE", "SUSPENDED"):
        raise Rejected("E_PARAM", "status")
    if p.grade not in ("", "A", "B", "C"):
        raise Rejected("E_PARAM", "grade")
    ctx.state.firms.put(p.firm, replace(firm, status=p.status, grade=p.grade or firm.grade))


def grant(ctx: Context, p: ConsentGrant) -> None:
    """Type 7: a firm lets a bank ask about it, for a scope and a time."""
    firm = ctx.registered_firm(ctx.sender.id)
    if firm.status != "ACTIVE":
        raise Rejected("E_KYC" if firm.status == "PENDING" else "E_CLASS", "firm")
    ctx.active_bank(p.bank)
    if not p.scope or len(set(p.scope)) != len(p.scope) or any(s not in SCOPES for s in p.scope):
        raise Rejected("E_PARAM", "scope")
    if p.to_ns <= max(p.from_ns, ctx.time_ns):
        raise Rejected("E_CONSENT", "to_ns")
    if len(p.purpose) > 256:
        raise Rejected("E_SIZE", "purpose")
    ctx.bank = p.bank
    ctx.state.consents.put(
        (firm.id, p.bank), Consent(firm.id, p.bank, p.scope, p.from_ns, p.to_ns, p.purpose)
    )


def withdraw_consent(ctx: Context, p: ConsentRevoke) -> None:
    """Type 7: a firm ends that; what was done under it stands."""
    ctx.firm, ctx.bank = ctx.sender.id, p.bank
    consent = ctx.state.consents.get((ctx.sender.id, p.bank))
    if consent is None or consent.revoked:
        raise Rejected("E_CONSENT")
    ctx.state.consents.put((ctx.sender.id, p.bank), replace(consent, revoked=True))
