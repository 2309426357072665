"""Types 1 to 3: who belongs, with which key, and under which parameters."""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.crypto import KEY_BYTES
from tradebft.chain.rules.context import Context, Rejected, need_text
from tradebft.chain.rules.objects import (
    BANK,
    CUSTOMS,
    NEVER,
    REGULATOR,
    ROLES,
    Declaration,
    Hold,
    Member,
)
from tradebft.chain.rules.parameters import changed
from tradebft.chain.rules.payloads import KeyRevoke, KeyRotate, MemberAdmit, MemberRetire, ParamSet
from tradebft.chain.rules.states import TERMINAL
from tradebft.chain.state import State
from tradebft.chain.transaction import possession_payload

_MAY_VALIDATE = (REGULATOR, BANK, CUSTOMS)


def admit(ctx: Context, p: MemberAdmit) -> None:
    """Type 1: a quorum of banks and the regulator admit a member."""
    if p.role not in ROLES:
        raise Rejected("E_PARAM", "role")
    need_text(p.member, "member", 64)
    if p.member.startswith("firm.") or "/" in p.member:
        raise Rejected("E_PARAM", "member")
    if p.validator and p.role not in _MAY_VALIDATE:
        raise Rejected("E_PARAM", "validator")
    if p.member in ctx.state.members:
        raise Rejected("E_STATE", "member")
    if len(p.officers) > 100:
        raise Rejected("E_SIZE", "officers")
    for name, key in ((p.member, p.public_key), *p.officers):
        if len(key) != KEY_BYTES or _key_in_use(ctx.state, key):
            raise Rejected("E_PARAM", "public_key")
        if name != p.member and not name.startswith(p.member + "/"):
            raise Rejected("E_PARAM", "officers")
    ctx.need_quorum()
    start = next_epoch(ctx) if p.validator else NEVER
    ctx.state.members.put(
        p.member,
        Member(
            p.member,
            p.role,
            p.public_key,
            identifier=p.identifier[:64],
            officers=p.officers,
            validator_from=start,
        ),
    )


def retire(ctx: Context, p: MemberRetire) -> None:
    """Type 1: they retire one, unless too few validators were left."""
    state = ctx.state
    member = state.members.get(p.member)
    if member is None or not member.active or member.role not in ROLES:
        raise Rejected("E_STATE", "member")
    if member.role == REGULATOR and _sole_regulator(state):
        raise Rejected("E_PARAM", "regulator")
    ctx.need_quorum()
    until = NEVER
    if member.validator_from != NEVER and member.validator_until == NEVER:
        if standing_validators(state) - 1 < 3 * ctx.parameters.faults + 1:
            raise Rejected("E_PARAM", "faults")
        until = next_epoch(ctx)
    # A bank that still holds claims could never book their repayment again.
    if any(f.bank == p.member and f.state not in TERMINAL for f in state.financings.rows.values()):
        raise Rejected("E_STATE", "financings")
    state.members.put(p.member, replace(member, active=False, validator_until=until))


def rotate(ctx: Context, p: KeyRotate) -> None:
    """Type 2: a member gets a new key."""
    member = _own_or_regulated(ctx, p.member)
    if len(p.public_key) != KEY_BYTES or _key_in_use(ctx.state, p.public_key):
        raise Rejected("E_PARAM", "public_key")
    proven = possession_payload(ctx.chain_id, p.member, p.public_key)
    if not ctx.keyring.verify_key(p.public_key, proven, p.proof):
        raise Rejected("E_SIG", "proof")
    ctx.state.members.put(p.member, replace(member, public_key=p.public_key, key_epoch=member.key_epoch + 1))


def revoke(ctx: Context, p: KeyRevoke) -> None:
    """Type 2: a key is worth nothing any more; what it anchored since a time is quarantined."""
    member = _own_or_regulated(ctx, p.member)
    if not member.public_key:
        raise Rejected("E_STATE", "member")
    if member.role == REGULATOR and _sole_regulator(ctx.state):
        raise Rejected("E_PARAM", "regulator")
    ctx.state.members.put(p.member, replace(member, public_key=b"", key_epoch=member.key_epoch + 1))
    if p.since_ns > 0:
        if ctx.sender.role != REGULATOR:
            raise Rejected("E_ROLE", "since_ns")
        _quarantine(ctx, p.member, p.since_ns)


def set_parameters(ctx: Context, p: ParamSet) -> None:
    """Type 3: a new version of the parameters."""
    ctx.need_quorum()
    after = changed(ctx.parameters, p.changes)
    if isinstance(after, str):
        raise Rejected("E_PARAM", after)
    if standing_validators(ctx.state) < 3 * after.faults + 1:
        raise Rejected("E_PARAM", "faults")
    ctx.state.parameters.put(after.version, after)


def standing_validators(state: State) -> int:
    """How many validators there are once all agreed changes have taken effect."""
    return sum(
        1 for m in state.members.rows.values() if m.validator_from != NEVER and m.validator_until == NEVER
    )


def next_epoch(ctx: Context) -> int:
    """The height at which a change of validators agreed now takes effect."""
    length = ctx.parameters.epoch_blocks
    return (ctx.height // length + 1) * length


def _own_or_regulated(ctx: Context, id: str) -> Member:
    member = ctx.state.members.get(id)
    if member is None:
        raise Rejected("E_STATE", "member")
    if ctx.sender.id != id and ctx.sender.role != REGULATOR:
        raise Rejected("E_ROLE")
    return member


def _sole_regulator(state: State) -> bool:
    rows = state.members.rows.values()
    return sum(1 for m in rows if m.role == REGULATOR and m.active and m.public_key) == 1


def _key_in_use(state: State, key: bytes) -> bool:
    return any(
        m.public_key == key or any(key == k for _, k in m.officers) for m in state.members.rows.values()
    )


def _quarantine(ctx: Context, source: str, since_ns: int) -> None:
    """Freeze what a corrupted feed has anchored since it was corrupted."""
    state = ctx.state
    suspect: list[Declaration] = [
        d
        for d in state.declarations.rows.values()
        if d.source == source and d.anchored_ns >= since_ns and d.status != "FROZEN"
    ]
    for decl in suspect:
        hold = Hold("declaration", decl.token, f"key of {source} revoked", ctx.time_ns, decl.status)
        state.holds.put(("declaration", decl.token), hold)
        state.declarations.put(decl.token, replace(decl, status="FROZEN"))
    if suspect:
        ctx.alerts = ("QUARANTINE",)
