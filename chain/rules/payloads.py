"""What a transaction of each type says: one struct a type, the tag is the type's name.

These are the only things that reach the rules. Conventions, all of them enforced by the ledger:

* Members and firms are named by their ids (`commercial_bank.2`, `firm.17`). Customs numbers, USCC, customs
  codes, invoice keys, policy and filing numbers appear as 32-byte keyed tokens (`chain.crypto.token`) only.
* Money is an integer of the currency's minor units (ISO 4217), ratios are basis points, times are integer
  nanoseconds since the epoch of the chain.
* A financing is named by the id of the transaction that applied for it (`Transaction.id`, 32 bytes), a
  repayment likewise. Whoever builds a transaction knows its id before it is committed.
* "Cosigned by" lists the further signatures that `transaction.sign` must add to the sender's.

The numbers are those of the transaction table in docs/ledger.md. Type 23 (letters of credit) is not built.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Payload(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What all payloads share: positional fields, no surplus ones, never changed after they were made."""


class Allocation(Payload, frozen=True):
    """A part of a financing laid on one declaration. `amount` is in the financing's currency."""

    declaration: bytes
    amount: int


class InvoiceShare(Payload, frozen=True):
    """A part of a financing laid on one invoice. `amount` is in the financing's currency."""

    invoice: bytes
    amount: int


class InvoiceLine(Payload, frozen=True):
    """A part of an invoice that belongs to one declaration. `amount` is in the invoice's currency."""

    declaration: bytes
    amount: int


class Claim(Payload, frozen=True):
    """What the papers in a bank's hands say about one declaration, to be compared with what customs signed.

    A text left empty, or a value of 0, or an empty exporter token, is not compared.
    """

    declaration: bytes
    exporter: bytes = b""
    currency: str = ""
    value: int = 0
    hs: tuple[str, ...] = ()


# ---- 1, 2, 3: members, keys, parameters --------------------------------------------------------------------


class MemberAdmit(Payload, frozen=True, tag="MEMBER_ADMIT"):
    """1. Sender: the regulator. Cosigned by a quorum of banks. `officers`: (name, key) of second signers."""

    member: str
    role: str
    public_key: bytes
    identifier: str = ""  # LEI or BIC
    validator: bool = False
    officers: tuple[tuple[str, bytes], ...] = ()


class MemberRetire(Payload, frozen=True, tag="MEMBER_RETIRE"):
    """1. Sender: the regulator. Cosigned by a quorum of banks. Refused where it would leave n < 3f + 1."""

    member: str
    reason: str = ""


class KeyRotate(Payload, frozen=True, tag="KEY_ROTATE"):
    """2. Sender: the member (signing with the old key) or the regulator.

    `proof` is the new key's signature over `transaction.possession_payload`.
    """

    member: str
    public_key: bytes
    proof: bytes


class KeyRevoke(Payload, frozen=True, tag="KEY_REVOKE"):
    """2. Sender: the regulator, or the member itself.

    `since_ns` > 0: everything this member anchored at or after that block time is quarantined (frozen).
    """

    member: str
    since_ns: int = 0
    reason: str = ""


class ParamSet(Payload, frozen=True, tag="PARAM_SET"):
    """3. Sender: the regulator. Cosigned by a quorum of banks. Makes a new parameter version.

    Names: `ratio_bp.<product>`, `fx.<currency>` (within the FX band), or any integer field of `Parameters`
    (`recycle` takes 0 or 1). Financings applied for earlier keep the version they were applied under.
    """

    changes: tuple[tuple[str, int], ...]


# ---- 4, 5, 6, 7: firms -------------------------------------------------------------------------------------


class FirmRegister(Payload, frozen=True, tag="FIRM_REGISTER"):
    """4. Sender: a bank, or the administrator's portal. The firm is PENDING until a bank attests its KYC."""

    firm: str
    uscc: bytes  # token
    name_commitment: bytes
    customs_code: bytes  # token
    grade: str  # the administrator's class: A, B or C
    public_key: bytes


class KycAttest(Payload, frozen=True, tag="KYC_ATTEST"):
    """5. Sender: a bank. The firm is ACTIVE for that bank until `expiry_ns`."""

    firm: str
    level: int
    expiry_ns: int
    evidence: bytes = b""  # 32-byte hash of the file kept by the bank


class FirmStatus(Payload, frozen=True, tag="FIRM_STATUS"):
    """6. Sender: the regulator. `status` is ACTIVE or SUSPENDED; an empty grade leaves the class as it is."""

    firm: str
    status: str
    grade: str = ""


class ConsentGrant(Payload, frozen=True, tag="CONSENT_GRANT"):
    """7. Sender: the firm. Replaces an earlier consent to the same bank.

    `scope`: any of `financing` (apply, verify, reserve) and `credit` (CREDIT_QUERY).
    """

    bank: str
    scope: tuple[str, ...]
    from_ns: int
    to_ns: int
    purpose: str = ""


class ConsentRevoke(Payload, frozen=True, tag="CONSENT_REVOKE"):
    """7. Sender: the firm. Prospective: what was done under the consent stands."""

    bank: str


# ---- 8, 9, 10: declarations and invoices -------------------------------------------------------------------


class DeclAnchor(Payload, frozen=True, tag="DECL_ANCHOR"):
    """8. Sender: customs. `exporter` is the USCC token; the exporter may register later ("parked")."""

    declaration: bytes  # token of the customs number
    exporter: bytes  # token of the USCC
    direction: int  # digit 9 of the customs number: 0 export, 1 import
    currency: str
    value: int
    export_date_ns: int
    hs: tuple[str, ...] = ()
    trade_mode: str = ""
    incoterm: str = ""


class DeclAmend(Payload, frozen=True, tag="DECL_AMEND"):
    """9. Sender: customs. `version` is the current version, which this replaces."""

    declaration: bytes
    version: int
    value: int
    hs: tuple[str, ...] = ()  # empty: as before
    reason: str = ""


class DeclWithdraw(Payload, frozen=True, tag="DECL_WITHDRAW"):
    """9. Sender: customs. `version` is the current version. The cap becomes 0."""

    declaration: bytes
    version: int
    reason: str = ""


class InvoiceRegister(Payload, frozen=True, tag="INVOICE_REGISTER"):
    """10. Sender: the firm. The lines must add up to `amount`.

    `combinations`: further tokens over parts of the invoice (`identifiers.invoice_combinations`); an invoice
    that shares one with an earlier invoice is registered, with the alert NEAR_DUPLICATE.
    """

    invoice: bytes  # token over seller, buyer, number, date, currency, amount
    buyer: bytes  # token
    currency: str
    amount: int
    date_ns: int
    lines: tuple[InvoiceLine, ...]
    hs: tuple[str, ...] = ()
    combinations: tuple[bytes, ...] = ()


# ---- 11 to 19: a financing's life --------------------------------------------------------------------------


class FinApply(Payload, frozen=True, tag="FIN_APPLY"):
    """11. Sender: the firm. The allocations must add up to `amount`; so must the invoice shares, if any."""

    bank: str
    product: str
    amount: int
    currency: str
    tenor_days: int
    allocations: tuple[Allocation, ...]
    rate_bp: int = 0  # interest a year
    invoices: tuple[InvoiceShare, ...] = ()


class DeclVerify(Payload, frozen=True, tag="DECL_VERIFY"):
    """12. Sender: the application's bank. The receipt answers in `headroom`: is there enough, yes or no.

    Without claims all declarations of the application are verified and no field is compared.
    """

    financing: bytes
    claims: tuple[Claim, ...] = ()


class FinReserve(Payload, frozen=True, tag="FIN_RESERVE"):
    """13. Sender: the application's bank. `ttl_ns` counts from the block's time, 0 means the longest allowed.

    Allocations are those applied for; if they are repeated here they must be the same.
    """

    financing: bytes
    ttl_ns: int = 0
    allocations: tuple[Allocation, ...] = ()


class FinApprove(Payload, frozen=True, tag="FIN_APPROVE"):
    """14. Sender: the bank (maker). Cosigned by one of its officers with another key (checker)."""

    financing: bytes


class FinReject(Payload, frozen=True, tag="FIN_REJECT"):
    """14. Sender: the bank (maker). Cosigned by one of its officers with another key (checker)."""

    financing: bytes
    reason: str = ""


class FinDisburse(Payload, frozen=True, tag="FIN_DISBURSE"):
    """15. Sender: the bank. One payment; what it leaves of the reservation is released, last allocation
    first.
    """

    financing: bytes
    amount: int
    reference: str


class FinWithdraw(Payload, frozen=True, tag="FIN_WITHDRAW"):
    """16. Sender: the firm that applied, before disbursement."""

    financing: bytes


class ReserveExpire(Payload, frozen=True, tag="RESERVE_EXPIRE"):
    """16. Sender: any active member or firm, once the reservation's time is over."""

    financing: bytes


class Repay(Payload, frozen=True, tag="REPAY"):
    """17. Sender: the lending bank. `origin`: BUYER_RECEIPT, OWN_FUNDS, INSURANCE or WRITE_OFF."""

    financing: bytes
    amount: int
    origin: str
    reference: str
    value_date_ns: int = 0


class FinClose(Payload, frozen=True, tag="FIN_CLOSE"):
    """18. Sender: the bank, when nothing is outstanding."""

    financing: bytes


class FinOverdue(Payload, frozen=True, tag="FIN_OVERDUE"):
    """18. Sender: the bank or the regulator, once the loan is past due by the block's time."""

    financing: bytes


class FinDefault(Payload, frozen=True, tag="FIN_DEFAULT"):
    """18. Sender: the bank, for a loan that is overdue."""

    financing: bytes


class FinTransfer(Payload, frozen=True, tag="FIN_TRANSFER"):
    """19. Sender: the old bank. Cosigned by the new bank. Only the whole claim is transferred (10000 bp)."""

    financing: bytes
    bank: str
    share_bp: int = 10_000


# ---- 20 to 22: queries, policies, tax filings --------------------------------------------------------------


class CreditQuery(Payload, frozen=True, tag="CREDIT_QUERY"):
    """20. Sender: a bank. The answer goes off chain; its hash is logged here."""

    firm: str
    scope: str = "credit"
    answer: bytes = b""


class PolicyAnchor(Payload, frozen=True, tag="POLICY_ANCHOR"):
    """21. Sender: the insurer."""

    policy: bytes  # token
    insured: bytes  # token of the USCC
    currency: str
    amount: int
    expiry_ns: int


class ClaimAssign(Payload, frozen=True, tag="CLAIM_ASSIGN"):
    """21. Sender: the insured firm. Cosigned by the bank that is to receive the proceeds."""

    policy: bytes
    bank: str
    amount: int


class TaxfileAnchor(Payload, frozen=True, tag="TAXFILE_ANCHOR"):
    """22. Sender: the tax office."""

    filing: bytes  # token
    payer: bytes  # token of the USCC
    currency: str
    amount: int


class TaxfileConsume(Payload, frozen=True, tag="TAXFILE_CONSUME"):
    """22. Sender: the paying bank."""

    filing: bytes
    amount: int
    reference: str


# ---- 24 to 26: governance ----------------------------------------------------------------------------------


class Freeze(Payload, frozen=True, tag="FREEZE"):
    """24. Sender: the regulator. `kind`: declaration, financing, firm or invoice; `object`: its token or id.

    A firm's id is given as UTF-8 bytes. Repayments and releases stay possible.
    """

    kind: str
    object: bytes
    legal_basis: str


class Unfreeze(Payload, frozen=True, tag="UNFREEZE"):
    """24. Sender: the regulator."""

    kind: str
    object: bytes
    legal_basis: str


class Correct(Payload, frozen=True, tag="CORRECT"):
    """25. Sender: who sent the target. Cosigned by the regulator.

    `target`: id of an accepted REPAY; `amount` is what it should have said (0 undoes it). History is kept.
    """

    target: bytes
    amount: int
    reason: str = ""


class AuditRead(Payload, frozen=True, tag="AUDIT_READ"):
    """26. Sender: regulator or auditor. Logged before anything is shown."""

    scope: str
    object: bytes = b""


AnyPayload: TypeAlias = (
    MemberAdmit | MemberRetire | KeyRotate | KeyRevoke | ParamSet
    | FirmRegister | KycAttest | FirmStatus | ConsentGrant | ConsentRevoke
    | DeclAnchor | DeclAmend | DeclWithdraw | InvoiceRegister
    | FinApply | DeclVerify | FinReserve | FinApprove | FinReject | FinDisburse | FinWithdraw | ReserveExpire
    | Repay | FinClose | FinOverdue | FinDefault | FinTransfer
    | CreditQuery | PolicyAnchor | ClaimAssign | TaxfileAnchor | TaxfileConsume
    | Freeze | Unfreeze | Correct | AuditRead
)  # fmt: skip

PAYLOADS: dict[str, type[Payload]] = {
    str(kind.__struct_config__.tag): kind for kind in Payload.__subclasses__() if kind.__struct_config__.tag
}
"""The payload's struct by the name of its type."""


def type_of(payload: Payload) -> str:
    """The transaction type a payload belongs to."""
    return str(payload.__struct_config__.tag)
