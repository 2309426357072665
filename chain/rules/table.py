"""Which rule serves which transaction type, and which roles may send it. Adding a type is adding a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tradebft.chain.rules import (
    declarations,
    financing,
    firms,
    governance,
    invoices,
    members,
    other_products,
    repayment,
)
from tradebft.chain.rules.context import Context
from tradebft.chain.rules.objects import AUDITOR, BANK, CUSTOMS, FIRM, INSURER, REGULATOR, ROLES, TAX
from tradebft.chain.rules.payloads import PAYLOADS, Payload


class Rule(NamedTuple):
    """One transaction type: its payload, its number in docs/ledger.md, who may send it, and what it does."""

    payload: type[Payload]
    number: int
    roles: frozenset[str]
    run: Callable[[Context, Any], None]


def _rule(name: str, number: int, roles: tuple[str, ...], run: Callable[[Context, Any], None]) -> Rule:
    return Rule(PAYLOADS[name], number, frozenset(roles), run)


_ANYONE = (*ROLES, FIRM)

RULES: Final[dict[str, Rule]] = {
    name: _rule(name, number, roles, run)
    for name, number, roles, run in (
        ("MEMBER_ADMIT", 1, (REGULATOR,), members.admit),
        ("MEMBER_RETIRE", 1, (REGULATOR,), members.retire),
        ("KEY_ROTATE", 2, _ANYONE, members.rotate),
        ("KEY_REVOKE", 2, _ANYONE, members.revoke),
        ("PARAM_SET", 3, (REGULATOR,), members.set_parameters),
        ("FIRM_REGISTER", 4, (BANK, REGULATOR), firms.register),  # the portal is the regulator's
        ("KYC_ATTEST", 5, (BANK,), firms.attest),
        ("FIRM_STATUS", 6, (REGULATOR,), firms.set_status),
        ("CONSENT_GRANT", 7, (FIRM,), firms.grant),
        ("CONSENT_REVOKE", 7, (FIRM,), firms.withdraw_consent),
        ("DECL_ANCHOR", 8, (CUSTOMS,), declarations.anchor),
        ("DECL_AMEND", 9, (CUSTOMS,), declarations.amend),
        ("DECL_WITHDRAW", 9, (CUSTOMS,), declarations.withdraw),
        ("INVOICE_REGISTER", 10, (FIRM,), invoices.register),
        ("FIN_APPLY", 11, (FIRM,), financing.apply),
        ("DECL_VERIFY", 12, (BANK,), financing.verify),
        ("FIN_RESERVE", 13, (BANK,), financing.reserve),
        ("FIN_APPROVE", 14, (BANK,), financing.approve),
        ("FIN_REJECT", 14, (BANK,), financing.reject),
        ("FIN_DISBURSE", 15, (BANK,), financing.disburse),
        ("FIN_WITHDRAW", 16, (FIRM,), financing.withdraw),
        ("RESERVE_EXPIRE", 16, _ANYONE, financing.expire),
        ("REPAY", 17, (BANK,), repayment.repay),
        ("FIN_CLOSE", 18, (BANK,), repayment.close),
        ("FIN_OVERDUE", 18, (BANK, REGULATOR), repayment.overdue),
        ("FIN_DEFAULT", 18, (BANK,), repayment.default),
        ("FIN_TRANSFER", 19, (BANK,), repayment.transfer),
        ("CREDIT_QUERY", 20, (BANK,), other_products.query_credit),
        ("POLICY_ANCHOR", 21, (INSURER,), other_products.anchor_policy),
        ("CLAIM_ASSIGN", 21, (FIRM,), other_products.assign_claim),
        ("TAXFILE_ANCHOR", 22, (TAX,), other_products.anchor_filing),
        ("TAXFILE_CONSUME", 22, (BANK,), other_products.consume_filing),
        ("FREEZE", 24, (REGULATOR,), governance.freeze),
        ("UNFREEZE", 24, (REGULATOR,), governance.unfreeze),
        ("CORRECT", 25, (BANK,), repayment.correct),
        ("AUDIT_READ", 26, (REGULATOR, AUDITOR), governance.read),
    )
}

DISCLOSURES: Final = frozenset({"DECL_VERIFY", "CREDIT_QUERY", "AUDIT_READ"})
"""Types whose point is that somebody learns something."""

assert set(RULES) == set(PAYLOADS), "a payload without a rule, or a rule without a payload"
