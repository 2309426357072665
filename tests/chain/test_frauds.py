"""What people try, one test a kind, numbered as in docs/ledger.md: injected, refused with its code, nothing
moved.

F17 to F19 (lenders off the platform, fictitious trade with genuine papers, wrong prices at origin) cannot be
seen from the ledger and F20 (a Byzantine bank in consensus) is tested with consensus.
"""

from msgspec.structs import replace
from tradebft.chain.crypto import token
from tradebft.chain.genesis import checker_of
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules.identifiers import invoice_combinations, invoice_token
from tradebft.chain.rules.parameters import DAY_NS
from tradebft.chain.rules.payloads import (
    Allocation,
    Claim,
    ConsentRevoke,
    DeclAmend,
    DeclAnchor,
    DeclVerify,
    DeclWithdraw,
    FinApply,
    FinApprove,
    FinDisburse,
    FinOverdue,
    FinReserve,
    FinWithdraw,
    Freeze,
    InvoiceLine,
    InvoiceRegister,
    InvoiceShare,
    KeyRevoke,
    KeyRotate,
    KycAttest,
    Repay,
    ReserveExpire,
)
from tradebft.chain.transaction import possession_payload

A, B = "commercial_bank.1", "commercial_bank.2"


def test_f1_the_same_declaration_at_two_banks_one_after_the_other(town):
    goods = town.declare(value=100_000)  # cap 90,000
    town.lent({goods: 80_000}, bank=A)
    second = town.verified({goods: 80_000}, bank=B)
    receipt = town.do(FinReserve(second), B)
    assert receipt.code == "E_HEADROOM"
    assert town.declaration(goods).drawn == 80_000


def test_f1_two_banks_may_share_a_declaration_as_long_as_both_fit(town):
    goods = town.declare(value=100_000)
    town.lent({goods: 50_000}, bank=A)
    town.lent({goods: 40_000}, bank=B)
    assert town.declaration(goods).drawn == 90_000


def test_f2_two_reservations_in_one_block_commit_exactly_one(town):
    goods = town.declare(value=100_000)
    first = town.verified({goods: 60_000}, bank=A)
    second = town.verified({goods: 60_000}, bank=B)
    race = [town.transaction(FinReserve(second), B), town.transaction(FinReserve(first), A)]
    assert [r.code for r in town.block(*race)] == ["OK", "E_HEADROOM"]
    assert town.financing(second).state == "RESERVED"
    assert town.financing(first).state == "VERIFIED"
    assert town.declaration(goods).reserved == 60_000


def test_f2_in_whichever_order_the_members_agree_on(town):
    goods = town.declare(value=100_000)
    first = town.verified({goods: 60_000}, bank=A)
    second = town.verified({goods: 60_000}, bank=B)
    race = [town.transaction(FinReserve(first), A), town.transaction(FinReserve(second), B)]
    assert [r.code for r in town.block(*race)] == ["OK", "E_HEADROOM"]


def test_f3_more_than_the_cap_at_a_single_bank(town):
    goods = town.declare(value=100_000)
    application = town.verified({goods: 90_001})
    assert town.do(FinReserve(application), A).code == "E_HEADROOM"
    town.reserved({goods: 90_000})


def test_f3_reserving_is_all_or_nothing_over_many_declarations(town):
    rich, poor = town.declare(value=100_000), town.declare(value=1_000)
    application = town.verified({rich: 50_000, poor: 50_000})
    assert town.do(FinReserve(application), A).code == "E_HEADROOM"
    assert town.declaration(rich).reserved == 0


def test_f4_salami_slices_and_rounding_never_exceed_the_cap(town):
    goods = town.declare(value=11)  # cap floor(9.9) = 9 cents
    granted = 0
    for _ in range(15):
        slice_of_yen = town.verified({goods: 1}, bank=A, currency="JPY")  # 0.93 of a cent, charged as 1
        granted += town.do(FinReserve(slice_of_yen), A).ok
        town.wait(1)
    assert granted == 9
    assert town.declaration(goods).reserved == 9


def test_f5_a_declaration_customs_never_signed(town):
    forged = token(town.KEY, "declaration", "forged")
    fields = DeclAnchor(forged, town.uscc("firm.1"), 0, "USD", 100_000, town.time_ns)
    assert town.do(fields, "customs", signer=_as(town, "customs", by="firm.1")).code == "E_SIG"
    assert town.do(fields, "firm.1").code == "E_ROLE"
    assert town.do(town.application({forged: 1_000}), "firm.1").code == "E_DECL_UNKNOWN"
    genuine = town.apply({town.declare(): 1_000})
    assert town.do(DeclVerify(genuine, (Claim(forged),)), A).code == "E_DECL_UNKNOWN"


def test_f6_an_invoice_that_disagrees_with_the_declaration_lists_the_fields(town):
    goods, others = town.declare(value=100_000), town.declare("firm.2")
    good = InvoiceRegister(
        token(town.KEY, "invoice", "1"),
        token(town.KEY, "buyer", "1"),
        "USD",
        100_000,
        town.time_ns,
        (InvoiceLine(goods, 100_000),),
        ("85044090",),
    )

    def disagreements(**changed):
        receipt = town.do(replace(good, **changed), "firm.1")
        return receipt.code, receipt.fields

    one_more = {"amount": 100_001, "lines": (InvoiceLine(goods, 100_001),)}
    assert disagreements(**one_more) == ("E_MISMATCH", ("amount",))
    assert disagreements(amount=99_999) == ("E_MISMATCH", ("amount",))
    assert disagreements(currency="EUR") == ("E_MISMATCH", ("currency",))
    assert disagreements(hs=("27011100",)) == ("E_MISMATCH", ("hs",))
    assert disagreements(lines=(InvoiceLine(others, 100_000),)) == ("E_MISMATCH", ("exporter",))
    assert disagreements(currency="EUR", hs=("27011100",)) == ("E_MISMATCH", ("currency", "hs"))
    assert disagreements() == ("OK", ())


def test_f6_papers_at_the_bank_that_disagree_with_customs_list_the_fields(town):
    goods = town.declare(value=100_000)
    application = town.apply({goods: 1_000})
    wrong = Claim(goods, town.uscc("firm.2"), "EUR", 100_001, ("27011100",))
    receipt = town.do(DeclVerify(application, (wrong,)), A)
    assert (receipt.code, receipt.fields) == ("E_MISMATCH", ("currency", "exporter", "hs", "value"))
    right = Claim(goods, town.uscc("firm.1"), "USD", 100_000, ("85044090",))
    assert town.do(DeclVerify(application, (right,)), A).headroom is True


def test_f7_a_slightly_altered_invoice_is_flagged(town):
    goods = town.declare(value=300_000)

    def register(number, amount, date="2021-03-04"):
        fields = ("firm.1", "buyer", number, date, "USD", amount)
        return town.do(
            InvoiceRegister(
                invoice_token(town.KEY, *fields),
                token(town.KEY, "buyer", "buyer"),
                "USD",
                amount,
                town.time_ns,
                (InvoiceLine(goods, amount),),
                (),
                invoice_combinations(town.KEY, *fields),
            ),
            "firm.1",
        )

    assert register("INV-0042", 70_000).alerts == ()
    assert register("INV-0042", 70_000).code == "E_DUP_INVOICE"
    assert register("inv 0042-01", 70_000).alerts == ("NEAR_DUPLICATE",)  # suffix, case, spacing
    assert register("INV-OO42", 60_000).alerts == ("NEAR_DUPLICATE",)  # letters for digits, another amount
    assert register("INV-0099", 20_000, "2021-04-01").alerts == ()


def test_f7_one_invoice_at_two_banks(town):
    goods = town.declare(value=100_000)
    invoice = _invoice(town, goods, 50_000)
    share = (InvoiceShare(invoice, 20_000),)
    town.reserved({goods: 20_000}, bank=A, invoices=share)
    second = town.verified({goods: 20_000}, bank=B, invoices=share)
    assert town.do(FinReserve(second), B).code == "E_DUP_INVOICE"


def test_f7_in_balance_mode_banks_may_share_an_invoice_up_to_its_ratio(new_town):
    town = new_town(invoice_strict=0)
    goods = town.declare(value=100_000)
    invoice = _invoice(town, goods, 50_000)  # 45,000 may be financed
    town.reserved({goods: 25_000}, bank=A, invoices=(InvoiceShare(invoice, 25_000),))
    too_much = town.verified({goods: 20_001}, bank=B, invoices=(InvoiceShare(invoice, 20_001),))
    assert town.do(FinReserve(too_much), B).code == "E_DUP_INVOICE"
    town.reserved({goods: 20_000}, bank=B, invoices=(InvoiceShare(invoice, 20_000),))


def test_f8_old_withdrawn_and_import_declarations(town):
    old = town.declare(export_date_ns=town.time_ns - 181 * DAY_NS)
    assert town.do(town.application({old: 1_000}), "firm.1").code == "E_DECL_AGE"
    imported = town.declare(direction=1)
    assert town.do(town.application({imported: 1_000}), "firm.1").code == "E_DECL_DIRECTION"
    withdrawn = town.declare()
    before_reserve = town.verified({withdrawn: 1_000})
    town.must(DeclWithdraw(withdrawn, 1), "customs")
    assert town.do(town.application({withdrawn: 1_000}), "firm.1").code == "E_DECL_STATUS"
    assert town.do(FinReserve(before_reserve), A).code == "E_DECL_STATUS"


def test_f8_a_declaration_may_grow_too_old_between_application_and_reservation(town):
    goods = town.declare(export_date_ns=town.time_ns - 179 * DAY_NS)
    application = town.verified({goods: 1_000})
    town.wait(2)
    assert town.do(FinReserve(application), A).code == "E_DECL_AGE"


def test_f9_a_declaration_amended_down_after_the_loan_is_flagged_and_never_negative(town):
    goods = town.declare(value=100_000)
    town.lent({goods: 80_000})
    receipt = town.do(DeclAmend(goods, 1, 50_000), "customs")
    assert (receipt.code, receipt.alerts) == ("OK", ("SHORTFALL",))
    decl = town.declaration(goods)
    assert (decl.cap, decl.drawn, decl.shortfall) == (45_000, 80_000, 35_000)
    assert town.ledger.audit[-1].notify == (A,)
    assert {"alerts": ["SHORTFALL"], "tokens": [goods]} in town.ledger.view(A)["records"]
    more = town.verified({goods: 1}, bank=B)
    assert town.do(FinReserve(more), B).code == "E_HEADROOM"


def test_f9_a_reservation_that_is_no_longer_covered_is_not_paid_out(town):
    goods = town.declare(value=100_000)
    loan = town.approved({goods: 80_000})
    town.must(DeclAmend(goods, 1, 50_000), "customs")
    assert town.do(FinDisburse(loan, 80_000, "p"), A).code == "E_HEADROOM"
    town.must(FinWithdraw(loan), "firm.1")
    assert town.declaration(goods).shortfall == 0


def test_f10_another_firms_declaration(town):
    theirs = town.declare("firm.2")
    assert town.do(town.application({theirs: 1_000}), "firm.1").code == "E_DECL_OWNER"


def test_f11_an_honest_retry_gets_the_first_answer_and_happens_once(town):
    goods = town.declare()
    loan = town.lent({goods: 50_000})
    payment = town.transaction(Repay(loan, 1_000, "BUYER_RECEIPT", "r1"), A)
    (first,) = town.block(payment)
    storm = town.block(payment, payment, payment)
    assert all(r == replace(first, repeated=True) for r in storm)
    assert town.financing(loan).repaid == 1_000


def test_f11_a_refused_transaction_cannot_take_effect_later(town):
    goods = town.declare(value=100_000)
    blocking = town.reserved({goods: 90_000}, bank=A)
    late = town.verified({goods: 50_000}, bank=B)
    reserve = town.transaction(FinReserve(late), B)
    assert town.block(reserve)[0].code == "E_HEADROOM"
    town.must(FinWithdraw(blocking), "firm.1")
    (again,) = town.block(reserve)
    assert (again.code, again.repeated) == ("E_HEADROOM", True)
    assert town.do(FinReserve(late), B).ok


def test_f11_a_used_sequence_another_chain_and_an_old_height(town):
    goods = town.declare()
    town.apply({goods: 1_000})
    payload = town.application({goods: 2_000})
    assert town.do(payload, "firm.1", sequence=1).code == "E_REPLAY"
    assert town.do(payload, "firm.1", chain_id=b"elsewhere").code == "E_REPLAY"
    old = town.transaction(payload, "firm.1", expiry_height=town.ledger.height)
    assert town.block(old)[0].code == "E_EXPIRED_TX"
    assert town.do(payload, "firm.1", expiry_height=1 << 40).code == "E_EXPIRED_TX"


def test_f12_who_may_do_what(town):
    goods = town.declare()
    loan = town.lent({goods: 50_000}, bank=A)
    repay = Repay(loan, 1_000, "BUYER_RECEIPT", "r1")
    assert town.do(repay, "firm.1").code == "E_ROLE"
    assert town.do(repay, B).code == "E_ROLE"
    assert town.do(repay, A, signer=_as(town, A, by=B)).code == "E_SIG"
    assert town.do(repay, "administrator").code == "E_ROLE"
    assert town.do(FinWithdraw(loan), "firm.2").code == "E_ROLE"
    assert town.do(Freeze("financing", loan, "none"), A).code == "E_ROLE"
    assert town.do(town.application({goods: 1}), "firm.9").code == "E_UNKNOWN_FIRM"
    assert town.do(KycAttest("firm.9", 1, town.time_ns + DAY_NS), A).code == "E_UNKNOWN_FIRM"


def test_f12_a_revoked_key_signs_nothing_and_a_new_one_does(town):
    goods = town.declare()
    town.must(KeyRevoke("firm.1"), "administrator")
    assert town.do(town.application({goods: 1_000}), "firm.1").code == "E_SIG"
    new = town.keyring.issue("firm.1", generation=1)
    stolen = KeyRotate("firm.1", new.public_key, bytes(64))
    assert town.do(stolen, "administrator").code == "E_SIG"
    proof = new.sign(possession_payload(town.CHAIN, "firm.1", new.public_key))
    town.must(KeyRotate("firm.1", new.public_key, proof), "administrator")
    assert town.do(town.application({goods: 1_000}), "firm.1").code == "E_SIG"
    assert town.do(town.application({goods: 1_000}), "firm.1", signer=new).ok


def test_f12_one_officer_alone_approves_nothing(town):
    loan = town.reserved({town.declare(): 1_000})
    assert town.do(FinApprove(loan), A).code == "E_MAKER_CHECKER"
    assert town.do(FinApprove(loan), A, checker_of(B)).code == "E_MAKER_CHECKER"
    assert town.do(FinApprove(loan), A, "firm.1").code == "E_MAKER_CHECKER"
    town.must(FinApprove(loan), A, checker_of(A))


def test_f13_no_consent_no_kyc(town):
    goods = town.declare()
    application = town.apply({goods: 1_000})
    town.must(ConsentRevoke(A), "firm.1")
    assert town.do(DeclVerify(application), A).code == "E_CONSENT"
    assert town.do(town.application({goods: 1_000}), "firm.1").code == "E_CONSENT"
    town.must(KycAttest("firm.1", 1, town.time_ns + 2 * DAY_NS), B)
    at_b = town.verified({goods: 1_000}, bank=B)
    town.wait(3)
    assert town.do(town.application({goods: 1_000}, bank=B), "firm.1").code == "E_KYC"
    assert town.do(FinReserve(at_b), B).code == "E_KYC"


def test_f14_repayments_that_cannot_be(town):
    loan = town.lent({town.declare(): 50_000})

    def code(amount, reference="r"):
        return town.do(Repay(loan, amount, "BUYER_RECEIPT", reference), A).code

    assert code(50_001) == "E_OUTSTANDING"
    assert code(0) == "E_AMOUNT"
    assert code(-1) == "E_AMOUNT"
    assert code(1 << 63) == "E_AMOUNT"
    assert code(30_000, "r1") == "OK"
    assert code(1_000, "r1") == "E_OUTSTANDING"
    assert code(20_001) == "E_OUTSTANDING"
    assert town.financing(loan).outstanding == 20_000


def test_f15_money_from_the_buyer_never_frees_headroom(new_town):
    for recycle in (0, 1):
        town = new_town(recycle=recycle)
        goods = town.declare(value=100_000)
        loan = town.lent({goods: 90_000})
        town.must(Repay(loan, 90_000, "BUYER_RECEIPT", "r"), A)
        again = town.verified({goods: 90_000}, bank=B)
        assert town.do(FinReserve(again), B).code == "E_HEADROOM"


def test_f15_own_funds_free_headroom_only_where_agreed_and_are_watched(new_town):
    strict = new_town(recycle=0)
    goods = strict.declare(value=100_000)
    loan = strict.lent({goods: 90_000})
    assert strict.must(Repay(loan, 90_000, "OWN_FUNDS", "r"), A).alerts == ("OWN_FUNDS",)
    assert strict.do(FinReserve(strict.verified({goods: 1}, bank=B)), B).code == "E_HEADROOM"

    lenient = new_town(recycle=1)
    goods = lenient.declare(value=100_000)
    loan = lenient.lent({goods: 90_000})
    lenient.must(Repay(loan, 30_000, "OWN_FUNDS", "r"), A)
    assert lenient.declaration(goods).drawn == 60_000
    lenient.reserved({goods: 30_000}, bank=B)
    # The regulator is told; bank B is not, as it would learn about bank A's customer.
    assert lenient.ledger.audit[-1].watch == ("REFINANCED_AFTER_OWN_FUNDS",)
    assert lenient.ledger.audit[-1].receipt.alerts == ()


def test_f16_a_reservation_nobody_uses_is_released_by_anyone_after_its_time(town):
    goods = town.declare(value=100_000)
    squatted = town.reserved({goods: 90_000}, bank=A)
    wanted = town.verified({goods: 90_000}, bank=B)
    assert town.do(ReserveExpire(squatted), B).code == "E_TTL"
    assert town.do(FinReserve(wanted), B).code == "E_HEADROOM"
    town.wait(11)
    assert town.ledger.due(town.time_ns) == [("RESERVE_EXPIRE", squatted)]
    assert town.do(FinApprove(squatted), A, checker_of(A)).code == "E_TTL"
    town.must(ReserveExpire(squatted), "firm.2")
    assert town.do(FinReserve(wanted), B).ok
    assert town.financing(squatted).state == "EXPIRED"


def test_f16_who_lets_reservations_lapse_again_and_again_gets_no_more(town):
    goods = town.declare(value=100_000)
    for _ in range(3):
        lapsing = town.verified({goods: 1_000})
        town.must(FinReserve(lapsing, ttl_ns=1), A)
        town.wait(1)
        town.must(ReserveExpire(lapsing), B)
    fourth = town.verified({goods: 1_000})
    receipt = town.do(FinReserve(fourth), A)
    assert (receipt.code, receipt.fields) == ("E_TTL", ("lapse_limit",))
    town.wait(31)
    assert town.do(FinReserve(fourth), A).ok


def test_f21_a_corrupted_customs_feed_is_cut_off_and_its_anchors_quarantined(town):
    good = town.declare()
    town.wait(1)
    since = town.time_ns
    bad = town.declare(value=9_000_000)
    lent_on = town.verified({bad: 1_000})
    town.must(KeyRevoke("customs", since, "stolen"), "administrator")
    assert town.ledger.audit[-1].receipt.alerts == ("QUARANTINE",)
    anchor = DeclAnchor(town.token(), town.uscc("firm.1"), 0, "USD", 1, town.time_ns)
    assert town.do(anchor, "customs").code == "E_SIG"
    assert town.do(FinReserve(lent_on), A).code == "E_FROZEN"
    assert town.do(town.application({bad: 1_000}), "firm.1").code == "E_FROZEN"
    assert town.do(town.application({good: 1_000}), "firm.1").ok


def test_f22_deadlines_go_by_the_block_and_not_by_anybodys_clock(town):
    goods = town.declare()
    loan = town.lent({goods: 1_000})
    far_ahead = town.time_ns + 1_000 * DAY_NS
    assert town.do(FinOverdue(loan), A, time_ns=far_ahead).code == "E_TTL"
    due = town.financing(loan).due_ns
    town.time_ns = due - 10**9
    assert town.do(FinOverdue(loan), A).code == "E_TTL"  # due to the nanosecond is not late
    assert town.do(FinOverdue(loan), A).ok


def test_f22_a_block_time_that_runs_back_counts_as_the_last_one(town):
    ledger = Ledger(town.genesis, town.keyring)
    ledger.apply(1, town.START_NS + 100, [])
    assert ledger.apply(2, town.START_NS + 50, []).time_ns == town.START_NS + 100


def test_f23_human_errors(town):
    goods = town.declare(value=100_000, currency="EUR")
    application = town.apply({goods: 1_000}, currency="EUR")
    slip = Claim(goods, b"", "USD", 1_000_000)
    receipt = town.do(DeclVerify(application, (slip,)), A)
    assert (receipt.code, receipt.fields) == ("E_MISMATCH", ("currency", "value"))
    assert town.do(town.application({goods: 1_000}, currency="XXX"), "firm.1").code == "E_CCY"
    sums = FinApply(A, "export_receivable", 1_001, "EUR", 90, (Allocation(goods, 1_000),))
    assert town.do(sums, "firm.1").code == "E_MISMATCH"
    assert town.do(town.application({goods: 1_000}), "firm.2").code == "E_DECL_OWNER"
    twice = town.transaction(town.application({goods: 1_000}), "firm.1")
    assert [r.repeated for r in town.block(twice, twice)] == [False, True]


def _invoice(town, goods, amount):
    invoice = town.token("invoice")
    town.must(
        InvoiceRegister(
            invoice, town.token("buyer"), "USD", amount, town.time_ns, (InvoiceLine(goods, amount),)
        ),
        "firm.1",
    )
    return invoice


def _as(town, member, *, by):
    """A signer that claims to be one member and signs with another's key."""

    class Impostor:
        public_key = town.signers[by].public_key
        sign = staticmethod(town.signers[by].sign)

    Impostor.member = member
    return Impostor()
