"""Why a transaction is refused, and what a rule may see and do while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

from tradebft.chain.crypto import Keyring
from tradebft.chain.rules.objects import BANK, REGULATOR, Firm, Member
from tradebft.chain.rules.parameters import AMOUNT_MAX, Parameters
from tradebft.chain.state import State

OK: Final = "OK"

CODES: Final[dict[str, str]] = {
    "E_SIG": "a signature does not hold, a needed one is missing, or the key was revoked",
    "E_ROLE": "the sender may not do this, or not to this object",
    "E_REPLAY": "this sequence number was used, or the transaction is for another chain",
    "E_EXPIRED_TX": "the expiry height is past, or too far ahead",
    "E_UNKNOWN_FIRM": "no such firm is registered",
    "E_KYC": "the bank's attestation about the firm is missing or has run out",
    "E_CLASS": "the firm's class or status does not permit it",
    "E_CONSENT": "the firm's consent is missing, revoked, out of its term, or does not cover this",
    "E_DECL_UNKNOWN": "customs has signed no such declaration",
    "E_DECL_STATUS": "the declaration is withdrawn, already there, or at another version",
    "E_DECL_AGE": "the declaration is too old",
    "E_DECL_OWNER": "the declaration is another firm's",
    "E_DECL_DIRECTION": "the declaration is for the other direction of trade",
    "E_MISMATCH": "fields disagree; the receipt lists them",
    "E_HEADROOM": "more than what is left of the declaration, policy or filing",
    "E_DUP_INVOICE": "the invoice is registered or financed already",
    "E_OUTSTANDING": "more than is owed, or something still is, or the payment reference was used",
    "E_STATE": "not in this state, or there is no such thing",
    "E_MAKER_CHECKER": "a second officer of the bank, with another key, must sign too",
    "E_TTL": "a time limit stands in the way: it is past, not reached, or asked again too soon",
    "E_CCY": "the currency is not one with an agreed rate, or not the one needed",
    "E_AMOUNT": "not a positive amount of at most 2^63 - 1 minor units",
    "E_FROZEN": "the object is frozen by the regulator",
    "E_PARAM": "a field has a value outside what is allowed, or the transaction does not parse",
    "E_SIZE": "too large, too many parts, or a token that is not 32 bytes",
}
"""Every code a receipt may carry besides OK, and what it means."""

TOKEN_BYTES: Final = 32
PARTS_MAX: Final = 200
TEXT_MAX: Final = 256


class Rejected(Exception):
    """A rule refuses a transaction. Never leaves the ledger: it becomes the receipt's code and fields."""

    def __init__(self, code: str, *fields: str) -> None:
        assert code in CODES, f"{code} is not a rejection code"
        super().__init__(code)
        self.code = code
        self.fields = fields


class Context:
    """One transaction's execution: what the rule may read, and where it leaves what the receipt will say."""

    __slots__ = (
        "alerts", "bank", "chain_id", "cosigners", "firm", "headroom", "height", "id", "keyring", "notify",
        "object", "parameters", "sender", "state", "time_ns", "tokens", "watch",
    )  # fmt: skip

    def __init__(
        self,
        state: State,
        parameters: Parameters,
        keyring: Keyring,
        chain_id: bytes,
        height: int,
        time_ns: int,
        id: bytes,
        sender: Member,
        cosigners: Mapping[str, bytes],
    ) -> None:
        self.state = state
        self.parameters = parameters
        self.keyring = keyring
        self.chain_id = chain_id
        self.height = height
        self.time_ns = time_ns
        self.id = id
        self.sender = sender
        self.cosigners = cosigners
        # What the receipt and the audit record will say.
        self.object = b""
        self.headroom: bool | None = None
        self.alerts: tuple[str, ...] = ()
        self.notify: tuple[str, ...] = ()
        self.firm = ""
        self.bank = ""
        self.tokens: tuple[bytes, ...] = ()
        self.watch: tuple[str, ...] = ()  # alerts that the regulator sees and the sender does not

    # ---- checks that many rules share ----------------------------------------------------------------------

    def active_bank(self, id: str) -> Member:
        """The bank of this name, if it is one and active."""
        member = self.state.members.get(id)
        if member is None or member.role != BANK or not member.active:
            raise Rejected("E_PARAM", "bank")
        return member

    def registered_firm(self, id: str) -> Firm:
        """The firm of this name, noted as the record's subject."""
        firm = self.state.firms.get(id)
        if firm is None:
            raise Rejected("E_UNKNOWN_FIRM", "firm")
        self.firm = id
        return firm

    def need_kyc(self, firm: str, bank: str) -> int:
        """Until when the bank's attestation holds; it must hold now."""
        kyc = self.state.kyc.get((firm, bank))
        if kyc is None or kyc.expiry_ns <= self.time_ns:
            raise Rejected("E_KYC")
        return kyc.expiry_ns

    def need_consent(self, firm: str, bank: str, scope: str) -> int:
        """Until when the firm's consent runs; it must cover this, now."""
        consent = self.state.consents.get((firm, bank))
        if (
            consent is None
            or consent.revoked
            or not consent.from_ns <= self.time_ns < consent.to_ns
            or scope not in consent.scope
        ):
            raise Rejected("E_CONSENT")
        return consent.to_ns

    def need_standing(self, firm: Firm) -> None:
        """The firm must be active, of a class that may apply, and not frozen."""
        if firm.status != "ACTIVE":
            if firm.status == "PENDING":
                raise Rejected("E_KYC", "firm")
            raise Rejected("E_FROZEN" if firm.status == "FROZEN" else "E_CLASS", "firm")
        if firm.grade not in self.parameters.grades:
            raise Rejected("E_CLASS", "grade")

    def need_currency(self, currency: str) -> None:
        """Refuse a currency that has no rate, E_CCY."""
        if currency not in self.parameters.fx:
            raise Rejected("E_CCY", "currency")

    def need_regulator(self) -> None:
        """The regulator must have cosigned."""
        members = self.state.members
        if not any(n in members and members[n].role == REGULATOR for n in self.cosigners):
            raise Rejected("E_SIG", "regulator")

    def need_quorum(self) -> None:
        """Enough active banks must have cosigned."""
        members = self.state.members.rows
        banks = sum(1 for m in members.values() if m.role == BANK and m.active)
        needed = self.parameters.quorum_banks or banks // 2 + 1
        signed = sum(1 for n in self.cosigners if n in members and members[n].role == BANK)
        if signed < needed:
            raise Rejected("E_SIG", "quorum")

    def held(self, kind: str, object: bytes) -> bool:
        """Whether this object is frozen."""
        hold = self.state.holds.get((kind, object))
        return hold is not None and hold.before != ""


def need_amount(amount: int, field: str = "amount") -> None:
    """A positive amount that fits."""
    if not 0 < amount <= AMOUNT_MAX:
        raise Rejected("E_AMOUNT", field)


def need_token(token: bytes, field: str) -> None:
    """A token of the right length. A customs number or USCC in plain text never has it."""
    if len(token) != TOKEN_BYTES:
        raise Rejected("E_SIZE", field)


def need_text(text: str, field: str, longest: int = TEXT_MAX) -> None:
    """Some text, not too long."""
    if not 0 < len(text) <= longest:
        raise Rejected("E_SIZE", field)


def need_hs(codes: tuple[str, ...]) -> None:
    """Harmonised System codes: 4 to 10 digits each."""
    if len(codes) > PARTS_MAX:
        raise Rejected("E_SIZE", "hs")
    for code in codes:
        if not (4 <= len(code) <= 10 and code.isascii() and code.isdigit()):
            raise Rejected("E_PARAM", "hs")


def refuse(code: str, *fields: str) -> NoReturn:
    """Raise Rejected; reads better in an expression."""
    raise Rejected(code, *fields)
