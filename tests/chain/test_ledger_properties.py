"""Whatever is submitted, in whatever order: the invariants hold, refusals leave no trace, roots are the same.

Hypothesis draws a story: a list of small numbers that choose who does what to which object. Most of what
comes out is wrong in some way (another bank's loan, an amount beyond the cap, a step out of order), as it
should be.
"""

from collections import Counter
from hashlib import sha256

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tradebft.chain.crypto import token
from tradebft.chain.genesis import checker_of
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules import states
from tradebft.chain.rules.context import CODES
from tradebft.chain.rules.invariants import check, check_touched
from tradebft.chain.rules.objects import NEVER
from tradebft.chain.rules.parameters import DAY_NS
from tradebft.chain.rules.payloads import (
    PAYLOADS,
    Allocation,
    Claim,
    ClaimAssign,
    ConsentGrant,
    ConsentRevoke,
    Correct,
    DeclAmend,
    DeclAnchor,
    DeclVerify,
    DeclWithdraw,
    FinApply,
    FinApprove,
    FinClose,
    FinDefault,
    FinDisburse,
    FinOverdue,
    FinReject,
    FinReserve,
    FinTransfer,
    FinWithdraw,
    FirmRegister,
    FirmStatus,
    Freeze,
    InvoiceLine,
    InvoiceRegister,
    InvoiceShare,
    KycAttest,
    ParamSet,
    PolicyAnchor,
    Repay,
    ReserveExpire,
    Unfreeze,
)

BANKS = ("commercial_bank.1", "commercial_bank.2")
FIRMS = ("firm.1", "firm.2")
CURRENCIES = ("USD", "EUR", "JPY")
ORIGINS = ("BUYER_RECEIPT", "OWN_FUNDS", "INSURANCE", "WRITE_OFF")
STEPS = (DeclVerify, FinReserve, FinApprove, FinDisburse, Repay, FinClose)
ODD = (
    FinReject, FinWithdraw, ReserveExpire, FinOverdue, FinDefault, FinTransfer, Freeze, Unfreeze, Correct,
    DeclAmend, DeclWithdraw, ConsentRevoke, ConsentGrant, KycAttest, FirmStatus, ParamSet, ClaimAssign,
)  # fmt: skip
FITS = {
    FinTransfer: ("DISBURSED", "PART_REPAID", "OVERDUE"),
    ReserveExpire: ("RESERVED", "APPROVED"),
    FinOverdue: ("DISBURSED", "PART_REPAID"),
    FinDefault: ("OVERDUE",),
    FinReject: ("APPLIED", "VERIFIED", "RESERVED"),
}


class Story:
    """Turns numbers into transactions on a town."""

    def __init__(self, town):
        self.town = town
        self.goods = [self._anchored(i) for i in range(12)]
        self.invoices = [self._invoiced(i) for i in range(2)]
        self.policy = town.token("policy")
        town.must(PolicyAnchor(self.policy, town.uscc("firm.1"), "USD", 500, town.time_ns * 2), "insurer")
        self.loans = []
        self.references = 0

    def _anchored(self, i):
        goods = token(self.town.KEY, "story", str(i))
        firm, currency = FIRMS[i % 2], CURRENCIES[i % 3]
        fields = DeclAnchor(goods, self.town.uscc(firm), 0, currency, 997 + 10 * i, self.town.time_ns)
        self.town.must(fields, "customs")
        return goods

    def _invoiced(self, i):
        invoice = self.town.token("invoice")
        decl = self.town.declaration(self.goods[i])
        line = (InvoiceLine(self.goods[i], 601),)
        fields = InvoiceRegister(invoice, self.town.token(), decl.currency, 601, 0, line)
        self.town.must(fields, FIRMS[i % 2])
        return invoice

    def transaction(self, what, who, which, amount):
        """The next transaction of the story."""
        town, bank = self.town, BANKS[who % 2]
        if what < 4 or not self.loans:
            return self._application(FIRMS[which % 2], bank, which, amount)
        loan = self.loans[-1 - (which + 12 * who) % len(self.loans[-60:])]
        f = town.ledger.state.financings.get(loan)
        if f is not None and who < 6:
            bank = f.bank  # usually the right one
        if what < 33:
            return self._step(f, loan, bank, what, amount)
        kind = ODD[(what + amount) % len(ODD)]
        fitting = [f for f in town.ledger.state.financings.rows.values() if f.state in FITS.get(kind, ())]
        if fitting and who < 6:
            loan, bank = (
                fitting[-1 - which % len(fitting[-20:])].id,
                fitting[-1 - which % len(fitting[-20:])].bank,
            )
        return self._odd(kind, loan, bank, which, amount)

    def _application(self, firm, bank, which, amount):
        goods = sorted({self.goods[which % 12], self.goods[(which * amount) % 12]})
        parts = tuple(Allocation(g, amount + i) for i, g in enumerate(goods))
        total = sum(a.amount for a in parts)
        invoices = (InvoiceShare(self.invoices[which % 2], total),) if which % 3 == 0 else ()
        currency = CURRENCIES[which % 3]
        tx = self.town.transaction(
            FinApply(bank, "export_receivable", total, currency, 1 + which, parts, 0, invoices), firm
        )
        self.loans.append(tx.id)
        return tx

    def _step(self, f, loan, bank, what, amount):
        """Usually the step that comes next, sometimes any."""
        following = {
            states.APPLIED: DeclVerify,
            states.VERIFIED: FinReserve,
            states.RESERVED: FinApprove,
            states.APPROVED: FinDisburse,
            states.DISBURSED: Repay,
            states.PART_REPAID: Repay if f and f.outstanding else FinClose,
        }
        step = following.get(f.state, Repay) if f and what < 22 else STEPS[what % len(STEPS)]
        self.references += 1
        if step is FinDisburse:
            whole = f is not None and what % 2
            payload = FinDisburse(loan, f.amount if whole else amount, f"p{self.references}")
        elif step is Repay:
            reference = f"r{self.references - what % 2}"
            whole = f is not None and what % 3
            payload = Repay(loan, f.outstanding if whole else amount, ORIGINS[what % 4], reference)
        else:
            payload = step(loan)
        cosigners = [checker_of(bank)] if step is FinApprove else []
        return self.town.transaction(payload, bank, *cosigners)

    def _odd(self, kind, loan, bank, which, amount):
        town, firm, goods = self.town, FIRMS[which % 2], self.goods[which % 12]
        decl, now = town.declaration(goods), town.time_ns
        repayments = list(town.ledger.state.repayments.rows.values())[-5:]
        repaid = repayments[which % len(repayments)] if repayments else None
        target, booked_by = (repaid.id, repaid.bank) if repaid else (bytes(32), bank)
        choice = {
            DeclAmend: (DeclAmend(goods, decl.version, 2 * amount), "customs"),
            DeclWithdraw: (DeclWithdraw(goods, decl.version + amount % 5), "customs"),
            ConsentRevoke: (ConsentRevoke(bank), firm),
            ConsentGrant: (ConsentGrant(bank, ("financing",), 0, now + 9 * which * DAY_NS), firm),
            KycAttest: (KycAttest(firm, 1, now + 9 * which * DAY_NS), bank),
            FirmStatus: (FirmStatus(firm, ("ACTIVE", "SUSPENDED")[amount % 4 == 0], "A"), "administrator"),
            ParamSet: (
                ParamSet((("fx.EUR", 7_000_000 + amount), ("recycle", which % 2))),
                "administrator",
                *BANKS,
            ),
            ClaimAssign: (ClaimAssign(self.policy, bank, amount), firm, bank),
            Freeze: (Freeze(*self._frozen(which, loan, goods, firm), "order"), "administrator"),
            Unfreeze: (Unfreeze(*self._frozen(which, loan, goods, firm), "lifted"), "administrator"),
            Correct: (Correct(target, amount % 90), booked_by, "administrator"),
            FinReject: (FinReject(loan), bank, checker_of(bank)),
            FinWithdraw: (FinWithdraw(loan), firm),
            FinTransfer: (FinTransfer(loan, BANKS[amount % 2]), bank, BANKS[amount % 2]),
        }.get(kind, (kind(loan), bank) if kind in (ReserveExpire, FinOverdue, FinDefault) else None)
        payload, by, *others = choice
        return town.transaction(payload, by, *(o for o in others if o != by))

    def _frozen(self, which, loan, goods, firm):
        return (
            ("financing", loan),
            ("declaration", goods),
            ("firm", firm.encode()),
            ("invoice", self.invoices[0]),
        )[which % 4]


deeds = st.tuples(st.integers(0, 40), st.integers(0, 7), st.integers(0, 11), st.integers(-1, 700))
blocks = st.lists(st.lists(deeds, min_size=1, max_size=4), max_size=25)


def told(town, story_blocks, hours):
    """Tell the story block by block, each block twice; count what came of it."""
    outcomes = Counter()
    story = Story(town)
    for numbers in story_blocks:
        town.wait(hours / 24)
        batch = [story.transaction(*deed) for deed in numbers]
        before = town.ledger.objects_root
        receipts = town.block(*batch)
        assert [r.code for r in town.block(*batch)] == [r.code for r in receipts]  # an honest retry of it all
        if not any(r.ok for r in receipts):
            assert town.ledger.objects_root == before
        outcomes.update((r.type, r.code) for r in receipts)
    town.everything_holds()
    data = town.ledger.snapshot()
    assert Ledger.restore(town.genesis, town.keyring, data, town.ledger.state_root).snapshot() == data
    return outcomes


SETTINGS = {"lapse_limit": 9, "probe_limit": 99, "fx_band_bp": 10_000}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(blocks, st.integers(0, 1), st.integers(0, 1), st.integers(0, 6))
def test_invariants_hold_refusals_leave_no_trace_and_replay_agrees(make_town, story, recycle, strict, hours):
    told(make_town(recycle=recycle, invoice_strict=strict, **SETTINGS), story, hours)


def long_story(seed, length):
    """Deeds drawn by hashing, so that long stories are the same everywhere."""
    for block in range(length):
        noise = sha256(f"{seed} {block}".encode()).digest()
        yield [
            (d[0] % 41, d[1] % 8, d[2] % 12, int.from_bytes(d[3:5], "big") % 702 - 1)
            for d in (noise[0:5], noise[5:10], noise[10:15])
        ]


def test_long_stories_get_deep_and_everything_still_holds(make_town):
    reached = Counter()
    for seed in range(6):
        town = make_town(recycle=seed % 2, invoice_strict=seed // 2 % 2, **SETTINGS)
        reached += told(town, long_story(seed, 250), hours=4 * seed)
    done = {kind for kind, code in reached if code == "OK"}
    asked = {kind for kind, _ in reached}
    assert asked - done == set(), "some types never succeed, so nothing is tested of them"
    assert len({code for _, code in reached}) >= 15


@given(st.lists(st.binary(max_size=60), max_size=4), st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_transactions_get_a_receipt_and_change_nothing(make_town, garbage, data):
    town = make_town()
    goods = town.declare()
    genuine = town.transaction(town.application({goods: 5}), "firm.1").encode()
    at = data.draw(st.integers(0, len(genuine) - 1))
    damaged = genuine[:at] + bytes([data.draw(st.integers(0, 255))]) + genuine[at + 1 :]
    before = town.ledger.objects_root
    receipts = town.block(*garbage, damaged)
    assert len(receipts) == len(garbage) + 1
    assert not any(r.ok for r in receipts) or damaged == genuine
    assert town.ledger.objects_root == before or damaged == genuine
    assert check(town.ledger) == []


IDS = ("firm.1", "firm.\ufffd", *BANKS, "administrator", "customs", "nobody", "", "x" * 300)
WORDS = (
    "export_receivable", "USD", "JPY", "A", "BANK", "financing", "credit", "declaration", "firm", "invoice",
    "OWN_FUNDS", "WRITE_OFF", "ACTIVE", "SUSPENDED", "fx.USD", "ratio_bp.order_financing", "faults", "recycle",
)  # fmt: skip
NUMBERS = (-(2**63), -1, 0, 1, 2, 5, 100, 10_000, 2**63 - 1, 2**63, 2**64 - 1)


def fields(kind, town, loans):
    """A strategy for a payload's field: plausible things, odd things, and the ends of what can be encoded."""
    by_type = {
        "str": st.sampled_from(IDS + WORDS) | st.text(max_size=3),
        "int": st.sampled_from((*NUMBERS, town.time_ns, town.time_ns + DAY_NS)),
        "bool": st.booleans(),
        "bytes": st.sampled_from([*loans, town.uscc("firm.1"), bytes(32), b"", b"firm.1", b"firm.\xff"])
        | st.binary(min_size=32, max_size=32),
    }
    names = {c.__name__: c for c in (Allocation, InvoiceLine, InvoiceShare, Claim)}

    def one(text):
        if text.startswith("tuple[tuple["):
            return st.lists(st.tuples(*(one(t) for t in text[12:-7].split(", "))), max_size=2).map(tuple)
        if text.startswith("tuple["):
            return st.lists(one(text[6:-6]), max_size=3).map(tuple)
        if text in by_type:
            return by_type[text]
        return st.builds(names[text], **{n: one(t) for n, t in names[text].__annotations__.items()})

    return st.builds(kind, **{name: one(text) for name, text in kind.__annotations__.items()})


@given(st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_payload_whatever_it_holds_raises_out_of_the_ledger(make_town, data):
    town = make_town(recycle=1)
    town.must(
        FirmRegister("firm.\ufffd", town.token(), town.token(), town.token(), "A", bytes(32)), "administrator"
    )
    goods = town.declare()
    loans = [town.apply({goods: 5}), town.reserved({goods: 5}), town.lent({goods: 5}), goods]
    for _ in range(6):
        name = data.draw(st.sampled_from(sorted(PAYLOADS)))
        payload = data.draw(fields(PAYLOADS[name], town, loans))
        sender = data.draw(st.sampled_from(["administrator", *BANKS, "firm.1", "customs", "tax", "insurer"]))
        others = [m for m in ("administrator", "policy_bank", *BANKS) if m != sender]
        receipt = town.do(payload, sender, *others, checker_of(BANKS[0]))
        assert receipt.code in (*CODES, "OK")
    town.everything_holds()


def test_a_broken_ledger_is_found_out(make_town):
    """The checks themselves: damage one thing at a time behind the ledger's back."""

    def damage(table, key, **changed):
        town = make_town(recycle=1)
        goods = town.declare(value=100_000)
        loan = town.lent({goods: 50_000})
        town.must(Repay(loan, 1_000, "OWN_FUNDS", "r"), BANKS[0])
        applied = town.ledger.apply(town.ledger.height + 1, town.time_ns, [])
        assert check(town.ledger) == check_touched(town.ledger, applied) == []
        rows = getattr(town.ledger.state, table).rows
        thing = {"goods": goods, "loan": loan}.get(key, key)
        thing = next(iter(rows)) if thing is None else thing
        rows[thing] = msgspec.structs.replace(rows[thing], **changed)
        return {violation.invariant for violation in check(town.ledger)}

    assert {"I1", "I2"} <= damage("declarations", "goods", drawn=95_000)
    assert "I1" in damage("declarations", "goods", shortfall=1)
    assert "I2" in damage("declarations", "goods", reserved=1)
    assert "I10" in damage("declarations", "goods", cap=90_001)
    assert {"I4", "I5"} <= damage("financings", "loan", amount=50_001)
    assert "I5" in damage("financings", "loan", repaid=2_000)
    assert "I6" in damage("financings", "loan", firm="firm.9")
    assert "I7" in damage("financings", "loan", own_funds=999)
    assert "I8" in damage("financings", "loan", trail=("DRAFT", "APPLIED", "DISBURSED", "PART_REPAID"))
    assert "I8" in damage("financings", "loan", state="CLOSED")
    assert "I9" in damage("references", (BANKS[0], "r"), transaction=bytes(32))
    assert "I11" in damage("financings", "loan", currency="EUR")
    assert "I12" in damage("firms", "firm.1", grade="B")
    assert "I15" in damage("parameters", 1, faults=2)
    assert "I5" in damage("repayments", None, amount=999)


def test_a_block_after_which_validators_are_too_few_is_found_out_at_once(make_town):
    ledger = make_town().ledger
    rows = ledger.state.members.rows
    name = next(m.id for m in rows.values() if m.validator_from != NEVER)
    before = rows[name]
    rows[name] = msgspec.structs.replace(before, validator_until=ledger.height)
    applied = ledger.apply(ledger.height + 1, ledger.time_ns, [])
    applied = msgspec.structs.replace(applied, changes=(("member", name, before, rows[name]),))
    assert [violation.invariant for violation in check_touched(ledger, applied)] == ["I15"]
