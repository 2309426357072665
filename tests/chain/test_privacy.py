"""Who learns what."""

from collections import defaultdict

import pytest
from tradebft.chain.crypto import token
from tradebft.chain.rules import views
from tradebft.chain.rules.identifiers import (
    customs_number,
    declaration_token,
    direction_of,
    plain_number,
    uscc_check_character,
    uscc_token,
    uscc_valid,
)
from tradebft.chain.rules.invariants import check
from tradebft.chain.rules.payloads import (
    DeclAmend,
    DeclAnchor,
    DeclVerify,
    FinWithdraw,
    FirmRegister,
    KycAttest,
    Repay,
)

A, B = "commercial_bank.1", "commercial_bank.2"
KEY = b"sixteen bytes or more"


def flat(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from flat(item)
    elif isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield value


def test_a_bank_sees_nothing_of_another_banks_business(town):
    goods = town.declare("firm.1", value=1_000_000)
    mine = town.lent({goods: 123_457}, bank=A)
    theirs = town.lent({goods: 234_569}, bank=B)
    town.must(FirmRegister("firm.9", town.uscc("firm.9"), town.token(), town.token(), "A", bytes(32)), B)
    town.must(KycAttest("firm.9", 1, town.time_ns * 2), B)
    seen = set(flat(town.ledger.view(A)))
    assert {goods, mine, 123_457, "firm.1"} <= seen
    assert not {theirs, 234_569, B, "policy_bank", "firm.9", town.uscc("firm.9")} & seen
    (decl,) = town.ledger.view(A)["declaration"]
    assert not {"cap", "reserved", "drawn", "shortfall"} & set(decl)
    assert 123_457 + 234_569 not in seen  # nor what the two have lent together


def test_a_shared_customers_file_does_not_say_which_bank_brought_it(town):
    town.must(FirmRegister("firm.9", town.uscc("firm.9"), town.token(), town.token(), "A", bytes(32)), B)
    for bank in (A, B):
        town.must(KycAttest("firm.9", 1, town.time_ns * 2), bank)
    seen = set(flat(town.ledger.view(A)))
    assert "firm.9" in seen
    assert B not in seen


def test_only_the_banks_concerned_are_sent_an_alert(town):
    goods = town.declare("firm.1", value=100_000)
    town.lent({goods: 90_000}, bank=B)
    town.must(DeclAmend(goods, 1, 50_000), "customs")
    assert "SHORTFALL" in set(flat(town.ledger.view(B)))
    assert not {"SHORTFALL", goods} & set(flat(town.ledger.view(A)))


def test_the_regulator_sees_everything_and_every_refusal(town):
    goods = town.declare()
    loans = [town.lent({goods: 1_000}, bank=bank) for bank in (A, B)]
    town.do(Repay(loans[0], 5_000, "BUYER_RECEIPT", "r"), A)
    view = town.ledger.view("administrator")
    assert {f["id"] for f in view["financing"]} == set(loans)
    assert len(view["records"]) == len(town.ledger.audit)
    assert view["records"][-1]["receipt"]["code"] == "E_OUTSTANDING"
    assert town.ledger.view("auditor") == view
    both = list(town.ledger.lookup(token=goods, since_ns=town.START_NS))
    assert {r.bank for r in both} >= {A, B}
    assert [r.receipt.code for r in town.ledger.lookup(bank=A)][-1] == "E_OUTSTANDING"


def test_everybody_else_sees_their_own(town):
    goods = town.declare("firm.1")
    loan = town.lent({goods: 1_000})
    assert [f["id"] for f in town.ledger.view("firm.1")["financing"]] == [loan]
    assert town.ledger.view("firm.2")["financing"] == []
    assert town.ledger.view("firm.2")["declaration"] == []
    assert [d["token"] for d in town.ledger.view("customs")["declaration"]] == [goods]
    assert loan not in set(flat(town.ledger.view("customs")))
    with pytest.raises(ValueError, match="nobody"):
        town.ledger.view("nobody")


def test_a_receipt_says_yes_or_no_and_never_how_much(town):
    goods = town.declare(value=100_000)
    town.lent({goods: 60_000}, bank=A)
    enough, too_much = town.apply({goods: 30_000}, bank=B), town.apply({goods: 30_001}, bank=B)
    receipts = [town.do(DeclVerify(id), B) for id in (enough, too_much)]
    assert [r.headroom for r in receipts] == [True, False]
    told = {v for r in receipts for v in (*r.fields, *r.alerts, r.object)}
    assert not told & {30_000, 60_000, 90_000, A}


def test_halving_to_find_out_what_another_bank_has_lent_is_cut_off(town):
    """27 questions would find a balance of up to 10^8 cents; after six the bank waits a day, and it is on
    record.
    """
    goods = town.declare(value=100_000_000)
    secret = 31_415_926
    town.lent({goods: secret}, bank=A)
    low, high, asked = 0, 90_000_000, 0
    while high - low > 1:
        middle = (low + high) // 2
        probe = town.apply({goods: middle}, bank=B)
        receipt = town.do(DeclVerify(probe), B)
        town.must(FinWithdraw(probe), "firm.1")
        if not receipt.ok:
            assert (receipt.code, receipt.fields) == ("E_TTL", ("probe_limit",))
            break
        asked += 1
        low, high = (middle, high) if receipt.headroom else (low, middle)
    assert asked == 6
    assert high - low > 1_000_000
    trace = [r for r in town.ledger.lookup(bank=B, token=goods) if r.receipt.type == "DECL_VERIFY"]
    assert [r.receipt.code for r in trace] == ["OK"] * 6 + ["E_TTL"]
    town.wait(1.1)
    assert town.do(DeclVerify(town.apply({goods: 1}, bank=B)), B).ok


def test_plain_numbers_do_not_get_onto_the_chain(town):
    plain = customs_number(5200, 2021, 0, 123_456_789).encode()
    anchored = DeclAnchor(plain, town.uscc("firm.1"), 0, "USD", 1, town.time_ns)
    assert town.do(anchored, "customs").code == "E_SIZE"
    firm = FirmRegister("firm.9", b"91520000MA6DXXXXXX", town.token(), town.token(), "A", bytes(32))
    assert town.do(firm, A).code == "E_SIZE"


# ---- the numbers on paper ----------------------------------------------------------------------------------


def test_uscc_check_characters():
    """Two codes as they stand in public registers."""
    assert uscc_valid("91110000600037341L")
    assert uscc_valid("914403001922038216")
    assert not uscc_valid("914403001922038217")
    assert not uscc_valid("91440300192203821")
    assert not uscc_valid("91440300192203821I")
    with pytest.raises(ValueError, match="unified social credit code"):
        uscc_token(KEY, "914403001922038217")
    assert uscc_token(KEY, "914403001922038216") == token(KEY, "uscc", "914403001922038216")


def test_a_remainder_of_nothing_wraps_to_0():
    wrapping = [first for first in (f"{n:017d}" for n in range(200)) if uscc_check_character(first) == "0"]
    assert "0" * 17 in wrapping


def test_customs_numbers():
    number = customs_number(5200, 2021, 1, 7)
    assert number == "520020211000000007"
    assert direction_of(number) == 1
    assert len(declaration_token(KEY, number)) == 32
    for wrong in ("52002021100000000", "520020215000000007", "5200202110000000O7"):
        with pytest.raises(ValueError, match="customs declaration number"):
            declaration_token(KEY, wrong)
    with pytest.raises(ValueError, match="customs number"):
        customs_number(5200, 2021, 2, 7)


def test_invoice_numbers_lose_what_typists_vary():
    assert len({plain_number(n) for n in ("INV-0042", "inv 0042", "INV0042-01", "INV.OO42/1")}) == 1
    assert plain_number("INV-0042") != plain_number("INV-0043")
    assert plain_number("17") == "17"


def test_all_banks_views_at_once_are_their_views_one_by_one(town):
    goods = town.declare("firm.1", value=1_000_000)
    for bank in (A, B):
        loan = town.lent({goods: 100_000}, bank=bank)
        town.must(Repay(loan, 5_000, "BUYER_RECEIPT", "r"), bank)
    at_once = dict(town.ledger.bank_views())
    assert {A, B} <= set(at_once)
    assert at_once == {bank: town.ledger.view(bank) for bank in at_once}
    assert [r["amount"] for r in at_once[A]["repayment"]] == [5_000]


def test_a_view_that_shows_anothers_business_is_found(town, monkeypatch):
    goods = town.declare("firm.1", value=1_000_000)
    for bank in (A, B):
        town.lent({goods: 100_000}, bank=bank)
    assert check(town.ledger) == []
    portfolios = views._portfolios
    monkeypatch.setattr(views, "_portfolios", lambda state: defaultdict(lambda: portfolios(state)[B]))
    assert {(v.invariant, v.about) for v in check(town.ledger)} == {("I13", A), ("I13", "policy_bank")}
