"""The ordinary life of financings, and of everything else that has one."""

import pytest
from tradebft.chain.crypto import token
from tradebft.chain.genesis import checker_of
from tradebft.chain.rules import states
from tradebft.chain.rules.parameters import DAY_NS
from tradebft.chain.rules.payloads import (
    Allocation,
    AuditRead,
    ClaimAssign,
    ConsentGrant,
    Correct,
    CreditQuery,
    DeclAmend,
    DeclVerify,
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
    MemberAdmit,
    MemberRetire,
    ParamSet,
    PolicyAnchor,
    Repay,
    TaxfileAnchor,
    TaxfileConsume,
    Unfreeze,
)

A, B = "commercial_bank.1", "commercial_bank.2"
BANKS = ("policy_bank", A, B)


def test_from_registration_to_the_closed_file(town):
    firm = "firm.9"
    key = town.keyring.public_key(firm)
    tokens = (town.uscc(firm), token(town.KEY, "name", firm), token(town.KEY, "customs code", firm))
    town.must(FirmRegister(firm, *tokens, "A", key), A)
    assert town.do(FirmRegister(firm, *tokens, "A", key), B).code == "E_STATE"
    assert town.do(ConsentGrant(A, ("financing",), 0, town.time_ns + DAY_NS), firm).code == "E_KYC"
    town.must(KycAttest(firm, 2, town.time_ns + 365 * DAY_NS), A)
    town.must(ConsentGrant(A, ("financing",), 0, town.time_ns + 365 * DAY_NS), firm)
    goods = [town.declare(firm, 60_000), town.declare(firm, 60_000)]
    loan = town.lent({goods[0]: 50_000, goods[1]: 30_000}, firm=firm)
    town.must(Repay(loan, 30_000, "BUYER_RECEIPT", "r1"), A)
    assert town.do(FinClose(loan), A).code == "E_OUTSTANDING"
    town.must(Repay(loan, 50_000, "INSURANCE", "r2"), A)
    town.must(FinClose(loan), A)
    f = town.financing(loan)
    assert f.trail == (
        "DRAFT", "APPLIED", "VERIFIED", "RESERVED", "APPROVED", "DISBURSED", "PART_REPAID", "CLOSED",
    )  # fmt: skip
    assert (f.outstanding, f.repaid) == (0, 80_000)
    assert [town.declaration(t).drawn for t in goods] == [50_000, 30_000]
    assert town.do(Repay(loan, 1, "BUYER_RECEIPT", "r3"), A).code == "E_STATE"


def test_paying_less_than_reserved_releases_the_rest_last_allocation_first(town):
    one, two, three = (town.declare(value=50_000) for _ in range(3))
    loan = town.approved({one: 40_000, two: 40_000, three: 40_000})
    assert town.do(FinDisburse(loan, 120_001, "p"), A).code == "E_HEADROOM"
    town.must(FinDisburse(loan, 50_000, "p"), A)
    assert [town.declaration(t).drawn for t in (one, two, three)] == [40_000, 10_000, 0]
    assert [town.declaration(t).reserved for t in (one, two, three)] == [0, 0, 0]
    assert town.financing(loan).allocations[1].amount == 10_000
    assert len(town.financing(loan).allocations) == 2


def test_nothing_is_paid_out_after_the_reservation_or_the_kyc_has_run_out(town):
    lapsed = town.approved({town.declare(): 1_000})
    town.must(KycAttest("firm.1", 1, town.time_ns + DAY_NS), B)
    unattested = town.approved({town.declare(): 1_000}, bank=B)
    town.wait(2)
    assert town.do(FinDisburse(unattested, 1_000, "p"), B).code == "E_KYC"
    town.wait(9)
    assert town.do(FinDisburse(lapsed, 1_000, "p"), A).code == "E_TTL"


def test_across_currencies_the_charge_is_rounded_up_at_the_recorded_rate(town):
    goods = town.declare(value=100_000)
    loan = town.lent({goods: 1_001}, currency="EUR")
    assert town.declaration(goods).drawn == -(-1_001 * 79 // 70) == 1_130
    assert town.financing(loan).allocations[0].charged == 1_130


def test_a_rate_that_changes_does_not_touch_what_was_applied_for_before(town):
    goods = town.declare(value=100_000)
    before = town.verified({goods: 10_000}, currency="EUR")
    town.must(ParamSet((("fx.EUR", 8_600_000),)), "administrator", *BANKS)
    after = town.verified({goods: 10_000}, currency="EUR")
    town.must(FinReserve(before), A)
    assert town.declaration(goods).reserved == 11_286
    town.must(FinReserve(after), A)
    assert town.declaration(goods).reserved == 11_286 + 12_286


def test_refused_and_withdrawn_applications_hold_nothing(town):
    goods = town.declare(value=100_000)
    loan = town.reserved({goods: 90_000})
    assert town.do(FinReject(loan), A).code == "E_MAKER_CHECKER"
    town.must(FinReject(loan, "credit"), A, checker_of(A))
    loan = town.approved({goods: 90_000})
    town.must(FinWithdraw(loan), "firm.1")
    assert town.declaration(goods).reserved == 0
    assert town.do(FinWithdraw(loan), "firm.1").code == "E_STATE"
    assert town.do(FinReserve(loan), A).code == "E_STATE"


def test_late_defaulted_written_off(town):
    loan = town.lent({town.declare(): 50_000})
    assert town.do(FinDefault(loan), A).code == "E_STATE"
    town.wait(91)
    assert town.ledger.due(town.time_ns) == [("FIN_OVERDUE", loan)]
    town.must(FinOverdue(loan), "administrator")
    town.must(FinDefault(loan), A)
    town.must(Repay(loan, 10_000, "BUYER_RECEIPT", "r1"), A)
    town.must(Repay(loan, 40_000, "WRITE_OFF", "r2"), A)
    town.must(FinClose(loan), A)
    f = town.financing(loan)
    assert (f.repaid, f.written_off, f.outstanding, f.state) == (10_000, 40_000, 0, "CLOSED")


def test_a_claim_changes_hands_with_both_banks_signatures(town):
    goods = town.declare()
    loan = town.lent({goods: 50_000})
    assert town.do(FinTransfer(loan, B), A).code == "E_SIG"
    assert town.do(FinTransfer(loan, B, 5_000), A, B).code == "E_PARAM"
    town.must(FinTransfer(loan, B), A, B)
    assert town.declaration(goods).drawn == 50_000
    assert town.do(Repay(loan, 1, "BUYER_RECEIPT", "r"), A).code == "E_ROLE"
    town.must(Repay(loan, 1, "BUYER_RECEIPT", "r"), B)
    assert town.ledger.audit[-3].notify == ("firm.1", B)


def test_an_invoice_goes_with_the_claim_and_ends_with_it(town):
    goods = town.declare(value=100_000)
    invoice = town.token("invoice")
    line = (InvoiceLine(goods, 100_000),)
    town.must(InvoiceRegister(invoice, town.token(), "USD", 100_000, 0, line), "firm.1")
    share = (InvoiceShare(invoice, 40_000),)
    loan = town.lent({goods: 40_000}, invoices=share)
    town.must(FinTransfer(loan, B), A, B)
    assert town.ledger.state.invoices[invoice].holder == B
    town.must(Repay(loan, 40_000, "BUYER_RECEIPT", "r"), B)
    town.must(FinClose(loan), B)
    town.reserved({goods: 40_000}, bank=A, invoices=share)  # free again, for what is left of it
    beyond = town.verified({goods: 10_001}, bank=A, invoices=(InvoiceShare(invoice, 10_001),))
    assert town.do(FinReserve(beyond), A).code in ("E_DUP_INVOICE", "E_HEADROOM")


def test_freezing_stops_everything_but_repayment(town):
    goods = town.declare()
    waiting, loan = town.verified({goods: 1_000}), town.lent({goods: 50_000})
    town.must(Freeze("financing", loan, "court order 1"), "administrator")
    assert town.do(Freeze("financing", loan, "again"), "administrator").code == "E_FROZEN"
    assert town.do(FinTransfer(loan, B), A, B).code == "E_FROZEN"
    town.must(Repay(loan, 50_000, "BUYER_RECEIPT", "r"), A)
    assert town.do(FinClose(loan), A).code == "E_FROZEN"
    assert town.financing(loan).state == "FROZEN"
    town.must(Unfreeze("financing", loan, "lifted"), "administrator")
    town.must(FinClose(loan), A)
    assert town.do(Unfreeze("financing", loan, "lifted"), "administrator").code == "E_STATE"
    assert town.do(Freeze("financing", loan, "late"), "administrator").code == "E_STATE"
    for kind, thing in (("declaration", goods), ("firm", b"firm.1")):
        town.must(Freeze(kind, thing, "court order 2"), "administrator")
        assert town.do(FinReserve(waiting), A).code == "E_FROZEN"
        assert town.do(town.application({goods: 1}), "firm.1").code == "E_FROZEN"
        if kind == "declaration":
            assert town.do(DeclAmend(goods, 1, 5), "customs").code == "E_FROZEN"
        town.must(Unfreeze(kind, thing, "lifted"), "administrator")
    town.must(FinReserve(waiting), A)


def test_freezing_something_that_is_no_name_freezes_nothing(town):
    tokens = (town.token(), town.token(), town.token())
    town.must(FirmRegister("firm.\ufffd", *tokens, "A", bytes(32)), "administrator")
    for odd in (b"firm.\xff", b"", b"administrator"):
        assert town.do(Freeze("firm", odd, "order"), "administrator").code == "E_UNKNOWN_FIRM"
    assert town.do(Freeze("bank", b"x", "order"), "administrator").code == "E_PARAM"


def test_a_frozen_invoice_is_not_financed(town):
    goods, invoice = town.declare(), town.token("invoice")
    line = (InvoiceLine(goods, 9_000),)
    town.must(InvoiceRegister(invoice, town.token(), "USD", 9_000, 0, line), "firm.1")
    waiting = town.verified({goods: 100}, invoices=(InvoiceShare(invoice, 100),))
    town.must(Freeze("invoice", invoice, "court order"), "administrator")
    assert town.do(FinReserve(waiting), A).code == "E_FROZEN"


def test_a_wrong_repayment_is_compensated_and_stays_on_record(new_town):
    town = new_town(recycle=1)
    goods = town.declare(value=100_000)
    loan = town.lent({goods: 80_000})
    typo = town.must(Repay(loan, 80_000, "OWN_FUNDS", "r1"), A).object
    assert town.declaration(goods).drawn == 0
    assert town.do(Correct(typo, 8_000), A).code == "E_SIG"
    assert town.do(Correct(typo, 8_000), B, "administrator").code == "E_ROLE"
    town.must(Correct(typo, 8_000, "one zero too many"), A, "administrator")
    assert town.financing(loan).outstanding == 72_000
    assert town.declaration(goods).drawn == 72_000
    assert town.ledger.state.repayments[typo].corrections == 1
    assert [r.receipt.type for r in town.ledger.lookup(firm="firm.1")][-3:] == ["CORRECT"] * 3
    town.wait(31)
    assert town.do(Correct(typo, 7_000), A, "administrator").code == "E_TTL"


def test_a_correction_takes_nothing_back_that_others_were_lent_since(new_town):
    town = new_town(recycle=1)
    goods = town.declare(value=100_000)
    loan = town.lent({goods: 90_000})
    typo = town.must(Repay(loan, 90_000, "OWN_FUNDS", "r1"), A).object
    town.lent({goods: 50_000}, bank=B)
    assert town.do(Correct(typo, 9_000), A, "administrator").code == "E_HEADROOM"
    town.must(Correct(typo, 60_000), A, "administrator")


def test_suspended_and_low_class_firms_apply_for_nothing(town):
    goods = town.declare()
    waiting = town.verified({goods: 100})
    town.must(FirmStatus("firm.1", "SUSPENDED"), "administrator")
    assert town.do(town.application({goods: 1}), "firm.1").code == "E_CLASS"
    assert town.do(FinReserve(waiting), A).code == "E_CLASS"
    town.must(FirmStatus("firm.1", "ACTIVE", "C"), "administrator")
    assert town.do(town.application({goods: 1}), "firm.1").code == "E_CLASS"
    town.must(FirmStatus("firm.1", "ACTIVE", "B"), "administrator")
    town.must(FinReserve(waiting), A)


def test_consent_has_a_scope_and_a_term(town):
    start, end = town.time_ns + DAY_NS, town.time_ns + 2 * DAY_NS
    town.must(ConsentGrant(A, ("credit",), start, end), "firm.1")
    assert town.do(CreditQuery("firm.1"), A).code == "E_CONSENT"
    town.wait(1)
    town.must(CreditQuery("firm.1", "credit", bytes(32)), A)
    assert town.do(town.application({town.declare(): 1}), "firm.1").code == "E_CONSENT"
    town.wait(1)
    assert town.do(CreditQuery("firm.1"), A).code == "E_CONSENT"


def test_policies_are_assigned_up_to_what_is_insured(town):
    policy = town.token("policy")
    until = town.time_ns + 100 * DAY_NS
    town.must(PolicyAnchor(policy, town.uscc("firm.1"), "USD", 70_000, until), "insurer")
    assert town.do(ClaimAssign(policy, A, 50_000), "firm.1").code == "E_SIG"
    assert town.do(ClaimAssign(policy, A, 50_000), "firm.2", A).code == "E_ROLE"
    town.must(ClaimAssign(policy, A, 50_000), "firm.1", A)
    assert town.do(ClaimAssign(policy, B, 20_001), "firm.1", B).code == "E_HEADROOM"
    town.must(ClaimAssign(policy, B, 20_000), "firm.1", B)
    town.wait(101)
    assert town.do(ClaimAssign(policy, B, 1), "firm.1", B).code == "E_TTL"


def test_a_tax_filing_pays_for_what_was_filed_and_no_more(town):
    filing = town.token("filing")
    town.must(TaxfileAnchor(filing, town.uscc("firm.1"), "USD", 50_000), "tax")
    town.must(TaxfileConsume(filing, 30_000, "p1"), A)
    assert town.do(TaxfileConsume(filing, 20_001, "p2"), B).code == "E_HEADROOM"
    assert town.do(TaxfileConsume(filing, 1, "p1"), A).code == "E_OUTSTANDING"
    town.must(TaxfileConsume(filing, 20_000, "p1"), B)


def test_members_come_and_go_by_quorum_at_an_epoch_boundary_and_never_below_3f_plus_1(new_town):
    town = new_town(epoch_blocks=10)
    key = town.keyring.public_key("newcomer")
    joining = MemberAdmit("commercial_bank.3", "BANK", key, validator=True)
    assert town.do(joining, "administrator", A).code == "E_SIG"
    assert town.do(MemberRetire(B), "administrator", *BANKS).fields == ("faults",)
    town.must(joining, "administrator", A, B)
    assert town.ledger.validators() == ("administrator", *BANKS)
    assert town.ledger.validators(10) == ("administrator", *BANKS, "commercial_bank.3")
    town.must(MemberRetire(B), "administrator", *BANKS)
    assert town.do(CreditQuery("firm.1"), B).code == "E_ROLE"
    assert town.do(MemberRetire(A), "administrator", *BANKS[:2]).fields == ("faults",)
    assert town.do(MemberRetire("administrator"), "administrator", *BANKS[:2]).code == "E_PARAM"
    while town.ledger.height < 9:
        town.block()
    assert B not in town.ledger.validators()


def test_a_bank_with_loans_outstanding_cannot_leave(new_town):
    town = new_town(faults=0)
    loan = town.lent({town.declare(): 1_000})
    assert town.do(MemberRetire(A), "administrator", *BANKS).fields == ("financings",)
    town.must(Repay(loan, 1_000, "BUYER_RECEIPT", "r"), A)
    town.must(FinClose(loan), A)
    town.must(MemberRetire(A), "administrator", *BANKS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio_bp.export_receivable", 10_001),
        ("ratio_bp.export_receivable", -1),
        ("fx.USD", 7_700_001),
        ("fx.USD", 0),
        ("fx.USDX", 7_000_000),
        ("recycle", 2),
        ("faults", 2),
        ("version", 9),
        ("nonsense", 1),
    ],
)
def test_parameters_stay_in_bounds(town, name, value):
    receipt = town.do(ParamSet(((name, value),)), "administrator", *BANKS)
    assert receipt.code == "E_PARAM"
    assert town.ledger.state.parameters_now.version == 1


def test_a_lower_ratio_binds_new_applications_and_leaves_old_ones_alone(town):
    goods = town.declare(value=100_000)
    old = town.verified({goods: 60_000})
    assert town.do(ParamSet((("recycle", 1),)), "administrator", A).code == "E_SIG"
    town.must(ParamSet((("ratio_bp.export_receivable", 5_000),)), "administrator", *BANKS)
    new = town.verified({goods: 1}, bank=B)
    town.must(FinReserve(old), A)
    assert town.declaration(goods).cap == 90_000
    assert town.do(FinReserve(new), B).code == "E_HEADROOM"


def test_reserving_repeats_the_application_or_says_nothing(town):
    goods = town.declare()
    loan = town.verified({goods: 1_000})
    other = (Allocation(goods, 999),)
    assert town.do(FinReserve(loan, 0, other), A).code == "E_MISMATCH"
    assert town.do(FinReserve(loan, 11 * DAY_NS), A).code == "E_TTL"
    town.must(FinReserve(loan, DAY_NS, (Allocation(goods, 1_000),)), A)


def test_steps_out_of_order_are_refused(town):
    loan = town.apply({town.declare(): 1_000})
    assert town.do(FinReserve(loan), A).code == "E_STATE"
    assert town.do(FinApprove(loan), A, checker_of(A)).code == "E_STATE"
    assert town.do(FinDisburse(loan, 1, "p"), A).code == "E_STATE"
    assert town.do(Repay(loan, 1, "BUYER_RECEIPT", "r"), A).code == "E_STATE"
    assert town.do(DeclVerify(bytes(32)), A).code == "E_STATE"


def test_reading_under_the_law_is_on_record(town):
    town.must(AuditRead("firm", b"firm.1"), "auditor")
    town.must(AuditRead("everything"), "administrator")
    assert town.do(AuditRead("everything"), A).code == "E_ROLE"
    assert [r.receipt.code for r in town.ledger.audit[-3:]] == ["OK", "OK", "E_ROLE"]


def test_the_table_of_states_is_closed_and_its_ends_are_final():
    assert {"CLOSED", "REJECTED", "WITHDRAWN", "EXPIRED"} == states.TERMINAL
    named = {to for row in states.TRANSITIONS.values() for to in row.values()}
    assert named | {"DRAFT"} == set(states.TRANSITIONS)
    for end in states.TERMINAL:
        assert not any(states.allowed(end, to) for to in [*states.TRANSITIONS, "FROZEN"])
    assert states.allowed("FROZEN", "DISBURSED")
    assert not states.allowed("FROZEN", "CLOSED")
