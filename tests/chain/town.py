"""A small province to try the rules in: members, a few firms, a ledger, and shorthand for what they do."""

from __future__ import annotations

from typing import Any

import msgspec
from tradebft.chain.crypto import ModelledKeyring, Signer, make_identities, token
from tradebft.chain.genesis import Genesis, KnownFirm, checker_of, members_of
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import Receipt
from tradebft.chain.rules.invariants import check, check_touched
from tradebft.chain.rules.objects import Declaration, Financing
from tradebft.chain.rules.parameters import DAY_NS, Parameters
from tradebft.chain.rules.payloads import (
    Allocation,
    DeclAnchor,
    DeclVerify,
    FinApply,
    FinApprove,
    FinDisburse,
    FinReserve,
    Payload,
)
from tradebft.chain.transaction import Transaction, sign

KEY = b"the regulator's token key"
CHAIN = b"province"
A, B = "commercial_bank.1", "commercial_bank.2"
MEMBERS = ("administrator", "policy_bank", A, B, "customs", "tax", "insurer", "auditor")
FIRMS = ("firm.1", "firm.2", "firm.3")
START_NS = 1_000 * DAY_NS


class Town:
    """Everybody's keys and one ledger. Every block is checked as it is made."""

    A, B, KEY, CHAIN, START_NS = A, B, KEY, CHAIN, START_NS

    def __init__(self, **parameters: Any) -> None:
        people = [*MEMBERS, *FIRMS, *(checker_of(b) for b in ("policy_bank", A, B)), "firm.9", "newcomer"]
        self.signers: dict[Any, Signer]
        self.signers, keyring = make_identities(people, "modelled", seed=1)
        assert isinstance(keyring, ModelledKeyring)
        self.keyring = keyring
        known = tuple(KnownFirm(f, self.uscc(f), keyring.public_key(f), ("policy_bank", A, B)) for f in FIRMS)
        self.genesis = Genesis(
            CHAIN,
            members_of(MEMBERS, keyring, validators=MEMBERS[:4]),
            Parameters(**{"faults": 1, **parameters}),
            known,
            START_NS,
        )
        self.ledger = Ledger(self.genesis, keyring)
        self.time_ns = START_NS
        self.batches: list[tuple[int, int, list[bytes]]] = []
        self._sequences: dict[str, int] = {}
        self._numbers = 0

    # ---- sending -------------------------------------------------------------------------------------------

    def transaction(self, payload: Payload, by: str, *cosigners: str, **more: Any) -> Transaction:
        sequence = more.pop("sequence", None)
        if sequence is None:
            sequence = self._sequences[by] = self._sequences.get(by, 0) + 1
        signer = more.pop("signer", self.signers[by])
        settings = {"chain_id": CHAIN, "expiry_height": self.ledger.height + 1_000, **more}
        others = [self.signers[c] for c in cosigners]
        return sign(payload, signer, others, sequence=sequence, **settings)

    def block(self, *transactions: Transaction | bytes) -> tuple[Receipt, ...]:
        """Execute these in one block, a second after the last."""
        self.time_ns += 10**9
        data = [t if isinstance(t, bytes) else t.encode() for t in transactions]
        height = self.ledger.height + 1
        self.batches.append((height, self.time_ns, data))
        applied = self.ledger.apply(height, self.time_ns, data)
        assert check_touched(self.ledger, applied) == []
        return applied.receipts

    def do(self, payload: Payload, by: str, *cosigners: str, **more: Any) -> Receipt:
        return self.block(self.transaction(payload, by, *cosigners, **more))[0]

    def must(self, payload: Payload, by: str, *cosigners: str, **more: Any) -> Receipt:
        receipt = self.do(payload, by, *cosigners, **more)
        assert receipt.ok, receipt
        return receipt

    def wait(self, days: float) -> None:
        self.time_ns += int(days * DAY_NS)

    # ---- what they do --------------------------------------------------------------------------------------

    def uscc(self, firm: str) -> bytes:
        return token(KEY, "uscc", firm)

    def token(self, kind: str = "number") -> bytes:
        self._numbers += 1
        return token(KEY, kind, str(self._numbers))

    def declare(self, firm: str = "firm.1", value: int = 100_000, **more: Any) -> bytes:
        """An export declaration of this firm, signed by customs; its token."""
        fields = {
            "declaration": self.token("declaration"),
            "exporter": self.uscc(firm),
            "direction": 0,
            "currency": "USD",
            "value": value,
            "export_date_ns": self.time_ns,
            "hs": ("85044090",),
            **more,
        }
        self.must(DeclAnchor(**fields), "customs")
        return bytes(fields["declaration"])

    def application(self, parts: dict[bytes, int], bank: str = A, **more: Any) -> FinApply:
        fields = {
            "bank": bank,
            "product": "export_receivable",
            "amount": sum(parts.values()),
            "currency": "USD",
            "tenor_days": 90,
            "allocations": tuple(Allocation(t, a) for t, a in parts.items()),
            **more,
        }
        return FinApply(**fields)

    def apply(self, parts: dict[bytes, int], bank: str = A, firm: str = "firm.1", **more: Any) -> bytes:
        return self.must(self.application(parts, bank, **more), firm).object

    def verified(self, parts: dict[bytes, int], bank: str = A, firm: str = "firm.1", **more: Any) -> bytes:
        id = self.apply(parts, bank, firm, **more)
        self.must(DeclVerify(id), bank)
        return id

    def reserved(self, parts: dict[bytes, int], bank: str = A, firm: str = "firm.1", **more: Any) -> bytes:
        id = self.verified(parts, bank, firm, **more)
        self.must(FinReserve(id), bank)
        return id

    def approved(self, parts: dict[bytes, int], bank: str = A, firm: str = "firm.1", **more: Any) -> bytes:
        id = self.reserved(parts, bank, firm, **more)
        self.must(FinApprove(id), bank, checker_of(bank))
        return id

    def lent(self, parts: dict[bytes, int], bank: str = A, firm: str = "firm.1", **more: Any) -> bytes:
        id = self.approved(parts, bank, firm, **more)
        self.must(FinDisburse(id, sum(parts.values()), f"pay {id.hex()[:16]}"), bank)
        return id

    def declaration(self, token: bytes) -> Declaration:
        return self.ledger.state.declarations[token]

    def financing(self, id: bytes) -> Financing:
        return self.ledger.state.financings[id]

    def everything_holds(self) -> None:
        """All invariants, and a replay from the genesis to the same root."""
        assert check(self.ledger) == []
        again = Ledger(msgspec.structs.replace(self.genesis), self.keyring)
        for batch in self.batches:
            again.apply(*batch)
        assert again.state_root == self.ledger.state_root
