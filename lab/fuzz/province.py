"""A small province for trials with the ledger: its members, and what they submit while the storm goes on.

Two banks, two firms, customs and an administrator; four declarations; loans on them that overlap, so that two banks
want the same headroom. Everything is signed beforehand, in one order; the network delivers it in another, some of it
twice, so that many steps come too early or too late. What the ledger then refuses is none of the fuzzer's business:
whether its invariants hold is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tradebft.chain.crypto import Signer, make_identities, token
from tradebft.chain.genesis import Genesis, KnownFirm, checker_of, members_of
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import Applied
from tradebft.chain.rules.invariants import check, check_touched
from tradebft.chain.rules.parameters import DAY_NS, Parameters
from tradebft.chain.rules.payloads import (
    Allocation,
    DeclAnchor,
    DeclVerify,
    FinApply,
    FinApprove,
    FinClose,
    FinDisburse,
    FinReserve,
    Payload,
    Repay,
)
from tradebft.chain.transaction import sign
from tradebft.consensus.interface import Executed
from tradebft.consensus.messages import Decided, Request
from tradebft.lab.fuzz.answers import Answers
from tradebft.lab.fuzz.dice import Dice
from tradebft.network.application import LedgerApplication

CHAIN: Final = b"fuzz"
START_NS: Final = 1_000 * DAY_NS
BANKS: Final = ("commercial_bank.1", "commercial_bank.2")
MEMBERS: Final = ("administrator", "policy_bank", *BANKS, "customs")
FIRMS: Final = ("firm.1", "firm.2")
DECLARATIONS: Final = 4
VALUE: Final = 100_000  # of each declaration, in minor units
STEPS: Final = 6  # of a loan, after its application


class Province:
    """Everybody's keys and one script. *dice* decides who asks for what."""

    def __init__(self, seed: int, dice: Dice) -> None:
        people = [*MEMBERS, *FIRMS, *(checker_of(bank) for bank in BANKS)]
        self._signers: dict[str, Signer]
        self._signers, self._keyring = make_identities(people, "modelled", seed)  # type: ignore[assignment]
        self._key = b"the regulator's token key"
        keyring = self._keyring
        firms = tuple(KnownFirm(f, self._uscc(f), keyring.public_key(f), BANKS) for f in FIRMS)
        members = members_of(MEMBERS, keyring, validators=MEMBERS[:4])
        self._genesis = Genesis(CHAIN, members, Parameters(faults=1), firms, START_NS)
        self._sequences: dict[str, int] = {}
        self._written: list[bytes] = []
        self._script = self._play(dice)

    def application(self) -> LedgerDiary:
        """A ledger at its genesis, which checks itself after every block."""
        return LedgerDiary(Ledger(self._genesis, self._keyring), epoch_ns=START_NS)

    def transaction(self, number: int) -> bytes:
        """Transaction *number* of the script, encoded. The script has no end."""
        while len(self._written) <= number:
            self._written.append(next(self._script))
        return self._written[number]

    def _uscc(self, firm: str) -> bytes:
        return token(self._key, "uscc", firm)

    def _signed(self, payload: Payload, by: str, *cosigners: str) -> bytes:
        sequence = self._sequences[by] = self._sequences.get(by, 0) + 1
        others = [self._signers[name] for name in cosigners]
        return sign(
            payload, self._signers[by], others, chain_id=CHAIN, sequence=sequence, expiry_height=10_000
        ).encode()

    def _play(self, dice: Dice) -> Iterator[bytes]:
        goods = [token(self._key, "declaration", str(k)) for k in range(DECLARATIONS)]
        for k, good in enumerate(goods):
            fields = DeclAnchor(good, self._uscc(FIRMS[k % 2]), 0, "USD", VALUE, START_NS, ("85044090",))
            yield self._signed(fields, "customs")
        loans: list[_Loan] = []
        while True:
            open_loans = [loan for loan in loans if loan.step < STEPS]
            if (len(open_loans) < 3 and dice.happens(0.3)) or not loans:
                loans.append(self._loan(dice, goods))
                yield loans[-1].application
            elif dice.happens(0.1):
                yield dice.pick(self._written)  # once more, to the byte
            elif not open_loans or dice.happens(0.15):
                loan = dice.pick(loans)  # a step that was done, that is too early, or that is another bank's
                yield self._step(loan, dice.whole(0, STEPS - 1), dice.pick((loan.bank, *BANKS)))
            else:
                # The one whose turn was longest ago; often its last step anew, as the first may have come too early.
                loan = open_loans[0]
                loans.append(loans.pop(loans.index(loan)))
                loan.step += 1 if loan.step == 0 or dice.happens(0.6) else 0
                yield self._step(loan, loan.step - 1, loan.bank)

    def _loan(self, dice: Dice, goods: list[bytes]) -> _Loan:
        firm, bank = dice.whole(0, 1), dice.pick(BANKS)
        own = goods[firm::2]
        some = sorted(dice.some(own, dice.whole(1, len(own))))
        parts = tuple(Allocation(good, dice.whole(VALUE // 4, VALUE)) for good in some)
        amount = sum(part.amount for part in parts)
        payload = FinApply(bank, "export_receivable", amount, "USD", 90, parts)
        by = FIRMS[firm]
        sequence = self._sequences[by] = self._sequences.get(by, 0) + 1
        tx = sign(payload, self._signers[by], (), chain_id=CHAIN, sequence=sequence, expiry_height=10_000)
        return _Loan(tx.id, tx.encode(), bank, amount)

    def _step(self, loan: _Loan, step: int, bank: str) -> bytes:
        """The steps in order: verify, reserve, approve, disburse, repay, close."""
        cosigners: tuple[str, ...] = ()
        payload: Payload
        match step:
            case 0:
                payload = DeclVerify(loan.id)
            case 1:
                payload = FinReserve(loan.id)
            case 2:
                payload, cosigners = FinApprove(loan.id), (checker_of(bank),)
            case 3:
                payload = FinDisburse(loan.id, loan.amount, f"pay {loan.id.hex()[:16]}")
            case 4:
                payload = Repay(loan.id, loan.amount, "BUYER_RECEIPT", f"back {loan.id.hex()[:16]}", START_NS)
            case _:
                payload = FinClose(loan.id)
        return self._signed(payload, bank, *cosigners)


class _Loan:
    __slots__ = ("amount", "application", "bank", "id", "step")

    def __init__(self, id: bytes, application: bytes, bank: str, amount: int) -> None:
        self.id, self.application, self.bank, self.amount = id, application, bank, amount
        self.step = 0


class LedgerDiary(LedgerApplication, Answers):
    """The ledger, which remembers what it answered and which of its invariants broke."""

    def __init__(self, ledger: Ledger, epoch_ns: int) -> None:
        super().__init__(ledger, self._look, epoch_ns)
        self.answers = {}
        self.broken: list[str] = []

    def _look(self, _: object, applied: Applied) -> None:
        self.broken += map(str, check_touched(self.ledger, applied))

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Apply the batch's transactions, and note the receipts."""
        executed = super().execute(decided, fresh)
        self.note(executed, fresh)
        return executed

    def audit(self) -> list[str]:
        """Every invariant over everything, and those that broke on the way; in words."""
        return [*self.broken, *map(str, check(self.ledger))]
