"""Types 20 to 22: credit queries, export credit insurance policies, tax filings."""

from __future__ import annotations

from msgspec.structs import replace
from tradebft.chain.rules.context import PARTS_MAX, Context, Rejected, need_amount, need_token
from tradebft.chain.rules.financing import use_reference
from tradebft.chain.rules.firms import SCOPES
from tradebft.chain.rules.objects import Policy, TaxFiling
from tradebft.chain.rules.payloads import (
    ClaimAssign,
    CreditQuery,
    PolicyAnchor,
    TaxfileAnchor,
    TaxfileConsume,
)


def query_credit(ctx: Context, p: CreditQuery) -> None:
    """The answer goes from the firm's record to the bank off chain; here it is logged that it was asked
    for.
    """
    ctx.registered_firm(p.firm)
    if p.scope not in SCOPES:
        raise Rejected("E_PARAM", "scope")
    if p.answer:
        need_token(p.answer, "answer")
    ctx.need_consent(p.firm, ctx.sender.id, p.scope)
    ctx.bank = ctx.sender.id


def anchor_policy(ctx: Context, p: PolicyAnchor) -> None:
    """Type 21: the insurer puts a policy on the ledger."""
    need_token(p.policy, "policy")
    need_token(p.insured, "insured")
    need_amount(p.amount)
    ctx.need_currency(p.currency)
    if p.expiry_ns <= ctx.time_ns:
        raise Rejected("E_TTL", "expiry_ns")
    if p.policy in ctx.state.policies:
        raise Rejected("E_STATE", "policy")
    ctx.tokens = (p.policy,)
    ctx.state.policies.put(
        p.policy, Policy(p.policy, p.insured, ctx.sender.id, p.currency, p.amount, p.expiry_ns)
    )


def assign_claim(ctx: Context, p: ClaimAssign) -> None:
    """Type 21: the insured firm assigns the claim to a bank."""
    firm = ctx.registered_firm(ctx.sender.id)
    ctx.bank = p.bank
    ctx.tokens = (p.policy,)
    policy = ctx.state.policies.get(p.policy)
    if policy is None:
        raise Rejected("E_STATE", "policy")
    if policy.insured != firm.uscc:
        raise Rejected("E_ROLE", "policy")
    bank = ctx.active_bank(p.bank)
    if ctx.cosigners.get(bank.id) != bank.public_key:
        raise Rejected("E_SIG", "bank")
    if policy.expiry_ns <= ctx.time_ns:
        raise Rejected("E_TTL", "policy")
    need_amount(p.amount)
    if policy.assigned + p.amount > policy.amount:
        raise Rejected("E_HEADROOM", "amount")
    if len(policy.assignments) >= PARTS_MAX:
        raise Rejected("E_SIZE", "policy")
    ctx.state.policies.put(
        p.policy,
        replace(
            policy,
            assigned=policy.assigned + p.amount,
            assignments=(*policy.assignments, (p.bank, p.amount)),
        ),
    )


def anchor_filing(ctx: Context, p: TaxfileAnchor) -> None:
    """Type 22: the tax office puts a filing on the ledger."""
    need_token(p.filing, "filing")
    need_token(p.payer, "payer")
    need_amount(p.amount)
    ctx.need_currency(p.currency)
    if p.filing in ctx.state.filings:
        raise Rejected("E_STATE", "filing")
    ctx.tokens = (p.filing,)
    ctx.state.filings.put(p.filing, TaxFiling(p.filing, p.payer, ctx.sender.id, p.currency, p.amount))


def consume_filing(ctx: Context, p: TaxfileConsume) -> None:
    """Type 22: a bank uses part of a filing for a payment."""
    ctx.tokens = (p.filing,)
    ctx.bank = ctx.sender.id
    filing = ctx.state.filings.get(p.filing)
    if filing is None:
        raise Rejected("E_STATE", "filing")
    need_amount(p.amount)
    if filing.used + p.amount > filing.amount:
        raise Rejected("E_HEADROOM", "amount")
    if len(filing.payments) >= PARTS_MAX:
        raise Rejected("E_SIZE", "filing")
    use_reference(ctx, p.reference)
    ctx.state.filings.put(
        p.filing,
        replace(
            filing,
            used=filing.used + p.amount,
            payments=(*filing.payments, (ctx.sender.id, p.amount)),
        ),
    )
