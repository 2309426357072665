"""What the ledger remembers: members, firms, declarations, invoices, financings and the rest.

Every object is frozen: a rule never edits one, it puts a new one in its place. So a rejected transaction
leaves nothing behind, and an object handed to a reader never changes under it.
"""

from __future__ import annotations

from typing import Final

import msgspec

REGULATOR: Final = "REGULATOR"
BANK: Final = "BANK"
CUSTOMS: Final = "CUSTOMS"
TAX: Final = "TAX"
INSURER: Final = "INSURER"
AUDITOR: Final = "AUDITOR"
FIRM: Final = "FIRM"
ROLES: Final = (REGULATOR, BANK, CUSTOMS, TAX, INSURER, AUDITOR)

NEVER: Final = -1
"""A height that does not come."""


class Object(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What all objects of the state share."""


class Member(Object, frozen=True):
    """Whoever may sign: institutions and firms. An empty key means revoked.

    `officers` are (name, key) of second signers. A validator counts from height `validator_from` to before
    `validator_until`; NEVER where that end does not come.
    """

    id: str
    role: str
    public_key: bytes
    active: bool = True
    key_epoch: int = 0
    identifier: str = ""
    officers: tuple[tuple[str, bytes], ...] = ()
    validator_from: int = NEVER
    validator_until: int = NEVER


class Firm(Object, frozen=True):
    """An exporter. `status`: PENDING, ACTIVE, SUSPENDED or FROZEN."""

    id: str
    uscc: bytes
    grade: str
    status: str
    name_commitment: bytes = b""
    customs_code: bytes = b""
    registered_by: str = ""


class Kyc(Object, frozen=True):
    """One bank's attestation about one firm."""

    firm: str
    bank: str
    level: int
    expiry_ns: int
    evidence: bytes = b""


class Consent(Object, frozen=True):
    """What one firm allows one bank. Revoking ends it at that moment and does not undo what was done."""

    firm: str
    bank: str
    scope: tuple[str, ...]
    from_ns: int
    to_ns: int
    purpose: str = ""
    revoked: bool = False


class Declaration(Object, frozen=True):
    """A customs declaration. Amounts in its own currency's minor units.

    `cap` is floor(value x ratio) under the ratio of the last reservation or amendment (`ratio_bp`), 0 once
    withdrawn. `reserved` and `drawn` are sums over the allocations of all banks. `shortfall` is how far an
    amendment has put the cap below them, and 0 otherwise.
    `status`: VALID, AMENDED, WITHDRAWN or FROZEN.
    """

    token: bytes
    exporter: bytes
    direction: int
    currency: str
    value: int
    export_date_ns: int
    hs: tuple[str, ...]
    trade_mode: str
    incoterm: str
    status: str
    version: int
    source: str
    anchored_ns: int
    ratio_bp: int
    cap: int
    reserved: int = 0
    drawn: int = 0
    shortfall: int = 0


class Invoice(Object, frozen=True):
    """An invoice. `used`: what live financings have taken of it; `holder`: the bank of those not yet
    ended.
    """

    token: bytes
    seller: str
    buyer: bytes
    currency: str
    amount: int
    date_ns: int
    lines: tuple[tuple[bytes, int], ...]
    combinations: tuple[bytes, ...] = ()
    used: int = 0
    holder: str = ""
    live: int = 0
    frozen: bool = False


class Share(Object, frozen=True):
    """A part of a financing on one declaration or invoice.

    `amount` is in the financing's currency; `charged` is what it takes from the token, in the token's
    currency; `restored` is how much of that was given back by repayment from own funds.
    """

    token: bytes
    amount: int
    charged: int = 0
    restored: int = 0


class Financing(Object, frozen=True):
    """A loan from application to end. Amounts in its currency; `state` as in states.py, `trail` the way to
    it.
    """

    id: bytes
    firm: str
    bank: str
    product: str
    amount: int
    currency: str
    tenor_days: int
    rate_bp: int
    allocations: tuple[Share, ...]
    invoices: tuple[Share, ...]
    state: str
    trail: tuple[str, ...]
    parameters: int
    applied_ns: int
    kyc_expiry_ns: int
    consent_to_ns: int
    reserved_until_ns: int = 0
    due_ns: int = 0
    disbursed: int = 0
    repaid: int = 0
    written_off: int = 0
    own_funds: int = 0

    @property
    def outstanding(self) -> int:
        """What the firm still owes."""
        return self.disbursed - self.repaid - self.written_off


class Repayment(Object, frozen=True):
    """One repayment; `amount` is as corrected, `corrections` how often it was."""

    id: bytes
    financing: bytes
    bank: str
    amount: int
    origin: str
    reference: str
    value_date_ns: int
    booked_ns: int
    corrections: int = 0


class Reference(Object, frozen=True):
    """A payment reference, used once."""

    bank: str
    reference: str
    transaction: bytes


class Policy(Object, frozen=True):
    """An export credit insurance policy, and how much of its proceeds is assigned."""

    token: bytes
    insured: bytes
    insurer: str
    currency: str
    amount: int
    expiry_ns: int
    assigned: int = 0
    assignments: tuple[tuple[str, int], ...] = ()


class TaxFiling(Object, frozen=True):
    """A tax filing for a service-trade payment, and how much of it payments have used."""

    token: bytes
    payer: bytes
    office: str
    currency: str
    amount: int
    used: int = 0
    payments: tuple[tuple[str, int], ...] = ()


class Hold(Object, frozen=True):
    """A freeze: why, since when, and the state to return to."""

    kind: str
    object: bytes
    legal_basis: str
    since_ns: int
    before: str


class Times(Object, frozen=True):
    """When something that is rate-limited last happened, newest last."""

    at_ns: tuple[int, ...]
