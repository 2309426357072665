"""One application on the platform, step by step: stages D1 ... D6 and the ledger transactions in between.

A `Case` is what the honest course (`honest`) and the fraud scripts (`frauds`) are written in: each step is a generator
for SimPy, takes the time it takes, and raises `Refused` where the ledger says no.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

from simpy.events import Event
from tradebft.chain.crypto import digest, token
from tradebft.chain.genesis import checker_of
from tradebft.chain.receipt import Receipt
from tradebft.chain.rules.identifiers import invoice_combinations, invoice_token
from tradebft.chain.rules.payloads import (
    Allocation,
    ConsentGrant,
    DeclAnchor,
    DeclVerify,
    FinApply,
    FinApprove,
    FinDisburse,
    FinReserve,
    FinWithdraw,
    FirmRegister,
    InvoiceLine,
    InvoiceRegister,
    InvoiceShare,
    KycAttest,
    Payload,
)
from tradebft.scenarios.trade.services import receipt_of
from tradebft.scenarios.trade.workload import Application, Declaration
from tradebft.scenarios.units import DAY_NS

if TYPE_CHECKING:
    from tradebft.scenarios.trade.ledger_arm import LedgerArm

PRODUCT: Final = "export_receivable"
LENDING: Final = ("D4", "D5", "D6")
YEAR_NS: Final = 365 * DAY_NS
Steps = Generator[Event, Any, Any]


class Refused(Exception):
    """The ledger refused a step that had to succeed."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.code)
        self.code, self.type = receipt.code, receipt.type


class Case:
    """One application's way through one arm."""

    def __init__(self, arm: LedgerArm, application: Application) -> None:
        self.arm, self.application = arm, application
        self.firm, self.bank = application.firm, application.bank
        self.env = arm.env
        self.ledger_ns = 0

    @property
    def now(self) -> int:
        """Virtual time in ns."""
        return int(self.env.now)

    @property
    def block_now(self) -> int:
        """The same moment as block time."""
        return self.arm.workload.epoch_ns + self.now

    # --- the ledger ---

    def do(self, payload: Payload, by: str, *cosigners: str, **wrongly: Any) -> Steps:
        """Send one transaction and wait for its receipt, whatever it says."""
        transaction = self.arm.office.transaction(payload, by, *cosigners, now=self.now, **wrongly)
        return (yield from self.send(transaction, by))

    def send(self, transaction: Any, by: str) -> Steps:
        """Send a transaction that is signed already."""
        begun = self.now
        receipt = receipt_of((yield self.arm.service.submit(self.arm.gateway(by, self.bank), transaction)))
        self.ledger_ns += self.now - begun
        return receipt

    def must(self, payload: Payload, by: str, *cosigners: str) -> Steps:
        """Send one transaction that has to succeed. Raises Refused."""
        receipt = yield from self.do(payload, by, *cosigners)
        if not receipt.ok:
            raise Refused(receipt)
        return receipt

    # --- stages ---

    def stage(self, name: str) -> Steps:
        """Let stage D1, D2, D4, D5 or D6 take its time; False where it does not occur in this case."""
        return (yield from self.arm.stage(self, name))

    def onboard(self, consent: bool = True, kyc_ns: int = YEAR_NS) -> Steps:
        """D1: the bank gets to know the firm; then it stands on the ledger, and consents."""
        yield from self.stage("D1")
        firm = self.firm
        register = FirmRegister(
            firm.id,
            firm.token,
            digest("name", firm.id.encode()),
            token(self.arm.workload.token_key, "customs-code", firm.id),
            "A",
            self.arm.office.keyring.public_key(firm.id),
        )
        yield from self.must(register, self.bank)
        yield from self.introduce(self.bank, consent, kyc_ns)

    def introduce(self, bank: str, consent: bool = True, kyc_ns: int = YEAR_NS) -> Steps:
        """*bank* attests that it knows the firm, and the firm consents to it."""
        yield from self.must(KycAttest(self.firm.id, 1, self.block_now + kyc_ns), bank)
        if consent:
            until = self.block_now + YEAR_NS
            yield from self.must(ConsentGrant(bank, ("financing",), self.block_now, until), self.firm.id)

    def declare(self, by: str = "customs", **changes: Any) -> Steps:
        """Customs anchors one more declaration like the application's first; returns its token."""
        like = self.application.declarations[0]
        self.arm.extra_declarations += 1
        name = token(
            self.arm.workload.token_key, "declaration", f"{like.number}/{self.arm.extra_declarations}"
        )
        epoch = self.arm.workload.epoch_ns
        fields = {
            "declaration": name,
            "exporter": like.exporter,
            "direction": 0,
            "currency": like.currency,
            "value": like.value,
            "export_date_ns": epoch + like.exported_ns,
            "hs": like.hs,
            **changes,
        }
        yield from self.must(DeclAnchor(**fields), by)
        return name

    def register_invoice(self, number: str, lines: Sequence[tuple[bytes, int]]) -> Steps:
        """The firm registers an invoice over these (declaration, amount); returns (token, receipt)."""
        a, key = self.application, self.arm.workload.token_key
        amount = sum(part for _, part in lines)
        buyer = f"buyer of {a.firm.id}"
        fields = (a.firm.uscc, buyer, number, str(self.arm.workload.scenario.start), a.currency, amount)
        name = invoice_token(key, *fields)
        receipt = yield from self.do(
            InvoiceRegister(
                name,
                token(key, "buyer", buyer),
                a.currency,
                amount,
                self.block_now,
                tuple(InvoiceLine(declaration, part) for declaration, part in lines),
                (),
                invoice_combinations(key, *fields),
            ),
            self.firm.id,
        )
        return name, receipt

    def application_for(self, parts: Sequence[tuple[bytes, int]], bank: str = "", **changes: Any) -> FinApply:
        """What the firm asks *bank* for: these (declaration, amount)."""
        a = self.application
        fields = {
            "bank": bank or self.bank,
            "product": PRODUCT,
            "amount": sum(amount for _, amount in parts),
            "currency": a.currency,
            "tenor_days": a.tenor_days,
            "allocations": tuple(Allocation(name, amount) for name, amount in parts),
            **changes,
        }
        return FinApply(**fields)

    def parts(self) -> list[tuple[bytes, int]]:
        """The application's own declarations with what is laid on each."""
        a = self.application
        return [(d.token, amount) for d, amount in zip(a.declarations, a.allocations, strict=True)]

    def apply(self, parts: Sequence[tuple[bytes, int]], bank: str = "", **changes: Any) -> Steps:
        """FIN_APPLY; returns the financing's id."""
        receipt = yield from self.must(self.application_for(parts, bank, **changes), self.firm.id)
        return receipt.object

    def verified(self, parts: Sequence[tuple[bytes, int]], bank: str = "", **changes: Any) -> Steps:
        """FIN_APPLY and DECL_VERIFY; returns the financing's id."""
        financing = yield from self.apply(parts, bank, **changes)
        yield from self.must(DeclVerify(financing), bank or self.bank)
        return financing

    def lend(self, financing: bytes, amount: int, stages: Collection[str] = LENDING) -> Steps:
        """From a reservation to money: D4 (and D5), FIN_APPROVE, D6, FIN_DISBURSE; of the stages those named."""
        for name in ("D4", "D5"):
            if name in stages:
                yield from self.stage(name)
        yield from self.must(FinApprove(financing), self.bank, checker_of(self.bank))
        if "D6" in stages:
            yield from self.stage("D6")
        yield from self.must(FinDisburse(financing, amount, f"pay {financing.hex()[:24]}"), self.bank)

    def reserve(self, parts: Sequence[tuple[bytes, int]], bank: str = "", **changes: Any) -> Steps:
        """`verified` and FIN_RESERVE; returns (id, receipt)."""
        financing = yield from self.verified(parts, bank, **changes)
        receipt = yield from self.do(FinReserve(financing), bank or self.bank)
        return financing, receipt

    def reserved(self, parts: Sequence[tuple[bytes, int]], **changes: Any) -> Steps:
        """`reserve`, which has to succeed; returns the financing's id."""
        financing, receipt = yield from self.reserve(parts, **changes)
        if not receipt.ok:
            raise Refused(receipt)
        return financing

    def paid(
        self,
        financing: bytes,
        parts: Sequence[tuple[bytes, int]],
        stages: Collection[str] = LENDING,
        **changes: Any,
    ) -> Steps:
        """`lend` on a reservation of *parts*, until the money is there; returns the financing's id, perhaps another.

        Where a long holiday lies between, the reservation lapses: the firm withdraws, before others release it, and
        applies once more, as often as the ledger lets them (`lapse_limit`, `probe_limit`). Nobody works through the
        file again.
        """
        while True:
            try:
                yield from self.lend(financing, sum(amount for _, amount in parts), stages)
                return financing
            except Refused as refused:
                if refused.code != "E_TTL":
                    raise
                stages = ("D6",) if refused.type == "FIN_APPROVE" else ()
            yield from self.must(FinWithdraw(financing), self.firm.id)
            financing = yield from self.reserved(parts, **changes)

    def honest(self) -> Steps:
        """The whole course of an honest application, to the money. Returns the financing's id."""
        a = self.application
        if a.new_customer:
            yield from self.onboard()
        yield from self.stage("D2")
        lines = [(d.token, d.value) for d in a.declarations]
        invoice, receipt = yield from self.register_invoice(f"INV{a.number:07d}", lines)
        if not receipt.ok:
            raise Refused(receipt)
        shares = (InvoiceShare(invoice, a.amount),)
        begun = self.now
        financing = yield from self.reserved(self.parts(), invoices=shares)
        self.arm.note_stage(self, "D3", begun, self.now, 0)
        self.arm.secured.add(a.number)
        return (yield from self.paid(financing, self.parts(), invoices=shares))


def anchor_of(declaration: Declaration, epoch_ns: int) -> DeclAnchor:
    """What customs puts on the ledger for *declaration*."""
    return DeclAnchor(
        declaration.token,
        declaration.exporter,
        0,
        declaration.currency,
        declaration.value,
        epoch_ns + declaration.exported_ns,
        declaration.hs,
        "0110",
        "FOB",
    )
