"""The life of a financing, as a table. Everything that affects where a financing may go next is in this file.

A state is left only by an event in its row. An event that is not there is refused with E_STATE and changes
nothing. Terminal states have no row entries at all. The drawing in docs/ledger.md is made from this table.

FROZEN stands aside: freezing remembers the state before, repayments move that remembered state, and
unfreezing returns to it; so FROZEN's own row holds only THAW, whose target is the remembered state.
"""

from __future__ import annotations

from typing import Final

DRAFT: Final = "DRAFT"
APPLIED: Final = "APPLIED"
VERIFIED: Final = "VERIFIED"
RESERVED: Final = "RESERVED"
APPROVED: Final = "APPROVED"
DISBURSED: Final = "DISBURSED"
PART_REPAID: Final = "PART_REPAID"
CLOSED: Final = "CLOSED"
REJECTED: Final = "REJECTED"
WITHDRAWN: Final = "WITHDRAWN"
EXPIRED: Final = "EXPIRED"
OVERDUE: Final = "OVERDUE"
DEFAULTED: Final = "DEFAULTED"
FROZEN: Final = "FROZEN"

APPLY: Final = "apply"
VERIFY: Final = "verify"
RESERVE: Final = "reserve"
APPROVE: Final = "approve"
REJECT: Final = "reject"
DISBURSE: Final = "disburse"
WITHDRAW: Final = "withdraw"
EXPIRE: Final = "expire"
REPAY: Final = "repay"
CLOSE: Final = "close"
LATE: Final = "late"
DEFAULT: Final = "default"
TRANSFER: Final = "transfer"

TRANSITIONS: Final[dict[str, dict[str, str]]] = {
    DRAFT: {APPLY: APPLIED},
    APPLIED: {VERIFY: VERIFIED, REJECT: REJECTED, WITHDRAW: WITHDRAWN},
    # A bank may ask again, for instance after an amendment, before it reserves.
    VERIFIED: {VERIFY: VERIFIED, RESERVE: RESERVED, REJECT: REJECTED, WITHDRAW: WITHDRAWN},
    RESERVED: {APPROVE: APPROVED, REJECT: REJECTED, WITHDRAW: WITHDRAWN, EXPIRE: EXPIRED},
    APPROVED: {DISBURSE: DISBURSED, WITHDRAW: WITHDRAWN, EXPIRE: EXPIRED},
    DISBURSED: {REPAY: PART_REPAID, LATE: OVERDUE, TRANSFER: DISBURSED},
    # Fully repaid is PART_REPAID with nothing outstanding, until the bank closes the file.
    PART_REPAID: {REPAY: PART_REPAID, CLOSE: CLOSED, LATE: OVERDUE, TRANSFER: PART_REPAID},
    # Late money stays late: repaying an overdue loan does not make it punctual.
    OVERDUE: {REPAY: OVERDUE, CLOSE: CLOSED, DEFAULT: DEFAULTED, TRANSFER: OVERDUE},
    # Recoveries and write-offs follow a default, so it is not the end.
    DEFAULTED: {REPAY: DEFAULTED, CLOSE: CLOSED},
    CLOSED: {},
    REJECTED: {},
    WITHDRAWN: {},
    EXPIRED: {},
}

TERMINAL: Final = frozenset(state for state, row in TRANSITIONS.items() if not row)
"""States that are final."""

FREEZABLE: Final = frozenset(TRANSITIONS) - TERMINAL - {DRAFT}
"""States that FROZEN may be entered from and left to."""

HOLDS_RESERVATION: Final = frozenset({RESERVED, APPROVED})
"""States in which a financing's allocations count as reserved on their declarations."""

HAS_DRAWN: Final = frozenset({DISBURSED, PART_REPAID, OVERDUE, DEFAULTED, CLOSED})
"""States in which they count as drawn, less what own funds have restored."""

_EDGES: Final = frozenset((state, to) for state, row in TRANSITIONS.items() for to in row.values())


def allowed(before: str, after: str) -> bool:
    """Whether some event leads from one state to the other, freezing and thawing included."""
    if before == FROZEN:
        return after in FREEZABLE
    if after == FROZEN:
        return before in FREEZABLE
    return (before, after) in _EDGES
