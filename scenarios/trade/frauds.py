"""What people try, one script a kind: each does the real thing to the ledger and says whether it was caught.

A script returns the code that stopped it, or "" when it got its money. Only the codes in `CODES` count as caught: a
fraud that fails for another reason is a fault of the simulation and shows up as missed. Where a kind has several forms,
the application's number chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tradebft.chain.genesis import checker_of
from tradebft.chain.rules.payloads import (
    Claim,
    DeclAmend,
    DeclAnchor,
    DeclVerify,
    DeclWithdraw,
    FinApprove,
    FinReserve,
    KeyRevoke,
    Repay,
    ReserveExpire,
)
from tradebft.scenarios.trade.case import Case, Steps
from tradebft.scenarios.trade.firms import stranger
from tradebft.scenarios.trade.office import district_feed
from tradebft.scenarios.units import DAY_NS, HOUR_NS

CODES: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(codes.split())
    for kind, codes in {
        "F1": "E_HEADROOM",
        "F2": "E_HEADROOM",
        "F3": "E_HEADROOM",
        "F4": "E_HEADROOM",
        "F5": "E_SIG E_DECL_UNKNOWN",
        "F6": "E_MISMATCH",
        "F7": "NEAR_DUPLICATE",
        "F8": "E_DECL_AGE E_DECL_STATUS E_DECL_DIRECTION",
        "F9": "SHORTFALL",
        "F10": "E_DECL_OWNER",
        "F11": "E_REPLAY",
        "F12": "E_ROLE E_SIG E_UNKNOWN_FIRM",
        "F13": "E_CONSENT E_KYC",
        "F14": "E_OUTSTANDING E_AMOUNT",
        "F15": "E_HEADROOM",
        "F16": "RESERVATION_LAPSED E_TTL",
        "F21": "E_FROZEN E_DECL_STATUS",
        "F22": "E_TTL",
        "F23": "E_CCY E_HEADROOM E_DECL_OWNER",
    }.items()
}
"""By kind, what shows that the ledger's own rule against it caught it."""
SQUATTED_NS: Final = 2 * DAY_NS


def _small_loan(case: Case) -> Steps:
    """A loan in order, on the first declaration only; returns (id, amount)."""
    part = case.parts()[0]
    financing, receipt = yield from case.reserve([part])
    if receipt.ok:
        financing = yield from case.paid(financing, [part], stages=())
    return financing, part[1]


def _at_most(case: Case, ttl_ns: int) -> int:
    """How long a reservation may last, where that much is asked for."""
    return min(ttl_ns, case.arm.workload.demand.policy.reservation_ttl_ns)


def f1_second_bank(case: Case) -> Steps:
    """Declarations that another bank has financed already, or is about to where the ledger stood still."""
    yield from case.stage("D2")
    if case.application.second_bank in case.arm.workload.members:
        yield from case.arm.until_secured(case.application.repeats)
    _, receipt = yield from case.reserve(case.parts())
    return receipt.code


def f2_two_banks_at_once(case: Case) -> Steps:
    """The same declarations at two banks in the same instant: exactly one reservation may stand."""
    a = case.application
    if a.second_bank not in case.arm.workload.members:
        return (yield from undetected(case))  # the other bank is off the platform
    if a.new_customer:
        yield from case.introduce(a.second_bank)
    yield from case.stage("D2")
    banks = (a.bank, a.second_bank)
    financings = []
    for bank in banks:
        financings.append((yield from case.verified(case.parts(), bank)))
    office = case.arm.office
    race = []
    for bank, financing in zip(banks, financings, strict=True):
        transaction = office.transaction(FinReserve(financing), bank, now=case.now)
        race.append(case.arm.service.submit(case.arm.gateway(bank, bank), transaction))
    answers = yield case.env.all_of(race)
    codes = sorted(answers[event].code for event in race)
    return codes[0] if codes == ["E_HEADROOM", "OK"] else f"both {codes[0]}"


def f3_too_much(case: Case) -> Steps:
    """More than a declaration allows."""
    yield from case.stage("D2")
    parts = [(d.token, d.value) for d in case.application.declarations]
    _, receipt = yield from case.reserve(parts)
    return receipt.code


def f4_salami(case: Case) -> Steps:
    """Four slices of three tenths of the cap each."""
    yield from case.stage("D2")
    first = case.application.declarations[0]
    cap = first.value * case.arm.workload.demand.policy.ratio_bp // 10_000
    for _ in range(4):
        _, receipt = yield from case.reserve([(first.token, max(1, -(-cap * 3 // 10)))])
        if not receipt.ok:
            return receipt.code
    return ""


def f5_forged(case: Case) -> Steps:
    """A declaration that customs never signed: anchored under a stolen name, or simply cited."""
    a = case.application
    name = bytes(reversed(a.declarations[0].token))
    yield from case.stage("D2")
    if a.number % 2:
        like = a.declarations[0]
        fields = DeclAnchor(name, like.exporter, 0, like.currency, like.value, case.block_now, like.hs)
        receipt = yield from case.do(fields, "customs", signer_of=case.firm.id)
        if not receipt.ok:
            return receipt.code
    receipt = yield from case.do(case.application_for([(name, a.amount)]), case.firm.id)
    return receipt.code


def f6_altered(case: Case) -> Steps:
    """Papers whose value is one unit off what customs signed."""
    yield from case.stage("D2")
    financing = yield from case.apply(case.parts())
    claims = tuple(
        Claim(d.token, d.exporter, d.currency, d.value + (k == 0), d.hs)
        for k, d in enumerate(case.application.declarations)
    )
    receipt = yield from case.do(DeclVerify(financing, claims), case.bank)
    return receipt.code


def f7_near_duplicate(case: Case) -> Steps:
    """An invoice once more under a number with a suffix: flagged, for people to look at."""
    yield from case.stage("D2")
    first = case.application.declarations[0]
    number = f"INV-{case.application.number:06d}"
    half = [(first.token, max(1, first.value // 2))]
    yield from case.register_invoice(number, half)
    _, receipt = yield from case.register_invoice(f"{number}-01", half)
    return "NEAR_DUPLICATE" if "NEAR_DUPLICATE" in receipt.alerts else receipt.code


def f8_unusable(case: Case) -> Steps:
    """A declaration too old, withdrawn, or for an import."""
    form = case.application.number % 3
    age_ns = (case.arm.workload.demand.policy.maximum_age_days + 1) * DAY_NS
    changes: dict[str, Any] = [{"export_date_ns": case.block_now - age_ns}, {}, {"direction": 1}][form]
    name = yield from case.declare(**changes)
    if form == 1:
        yield from case.must(DeclWithdraw(name, 1), "customs")
    yield from case.stage("D2")
    receipt = yield from case.do(case.application_for([(name, 1)]), case.firm.id)
    return receipt.code


def f9_amended_down(case: Case) -> Steps:
    """Customs lowers the value after the loan: no fraud of the bank's customer alone, but its cover is gone."""
    name = yield from case.declare()
    value = case.application.declarations[0].value
    amount = max(1, value * case.arm.workload.demand.policy.ratio_bp // 10_000)
    yield from case.stage("D2")
    financing = yield from case.reserved([(name, amount)])
    yield from case.paid(financing, [(name, amount)])
    receipt = yield from case.do(DeclAmend(name, 1, max(1, value // 4)), "customs")
    return "SHORTFALL" if "SHORTFALL" in receipt.alerts else receipt.code


def f10_borrowed(case: Case) -> Steps:
    """Another firm's declaration."""
    workload = case.arm.workload
    others = (firm.token for firm in workload.firms if firm.id != case.firm.id)
    owner = next(others, stranger(workload.token_key, workload.firms))
    name = yield from case.declare(exporter=owner)
    yield from case.stage("D2")
    receipt = yield from case.do(case.application_for([(name, 1)]), case.firm.id)
    return receipt.code


def f11_replayed(case: Case) -> Steps:
    """The same message again (answered, not executed), and its sequence number under another message."""
    yield from case.stage("D2")
    transaction = case.arm.office.transaction(case.application_for(case.parts()), case.firm.id, now=case.now)
    yield from case.send(transaction, case.firm.id)
    again = yield from case.send(transaction, case.firm.id)
    if not again.repeated:
        return "executed twice"
    sequence = transaction.body.sequence
    receipt = yield from case.do(case.application_for(case.parts()), case.firm.id, sequence=sequence)
    return receipt.code


def f12_unauthorised(case: Case) -> Steps:
    """Somebody acts who may not: the firm repays itself, a stranger's key, a firm nobody knows."""
    form = case.application.number % 3
    yield from case.stage("D2")
    if form == 2:
        unknown = case.application_for(case.parts())
        receipt = yield from case.do(unknown, "firm.unknown", signer_of=case.firm.id)
        return receipt.code
    financing, receipt = yield from case.reserve([case.parts()[0]])
    if not receipt.ok:
        return receipt.code
    if form == 0:
        receipt = yield from case.do(Repay(financing, 1, "BUYER_RECEIPT", financing.hex()), case.firm.id)
    else:
        receipt = yield from case.do(
            FinApprove(financing), case.bank, checker_of(case.bank), signer_of=case.firm.id
        )
    return receipt.code


def f13_no_consent(case: Case) -> Steps:
    """A new firm that never consented, or whose know-your-customer check has run out."""
    form = case.application.number % 2
    if not case.application.new_customer:
        # An existing customer's papers at a bank that does not know it (its second bank's neighbour).
        strangers = sorted(case.arm.workload.members - set(case.firm.banks))
        if not strangers:
            return (yield from undetected(case))
        yield from case.stage("D2")
        receipt = yield from case.do(case.application_for([case.parts()[0]], strangers[0]), case.firm.id)
        return receipt.code
    yield from case.onboard(consent=form == 1, kyc_ns=HOUR_NS)
    if form == 1:
        yield case.env.timeout(2 * HOUR_NS)
    yield from case.stage("D2")
    receipt = yield from case.do(case.application_for([case.parts()[0]]), case.firm.id)
    return receipt.code


def f14_impossible_repayment(case: Case) -> Steps:
    """More repaid than is owed, nothing repaid, or one payment booked twice."""
    yield from case.stage("D2")
    financing, amount = yield from _small_loan(case)
    form = case.application.number % 3
    if form == 2:
        yield from case.must(Repay(financing, 1, "BUYER_RECEIPT", financing.hex()), case.bank)
    wrong = (amount + 1, 0, 1)[form]
    receipt = yield from case.do(Repay(financing, wrong, "BUYER_RECEIPT", financing.hex()), case.bank)
    return receipt.code


def f15_fake_repayment(case: Case) -> Steps:
    """A loan to the cap, repaid out of own funds, and the same declaration once more."""
    name = yield from case.declare()
    value = case.application.declarations[0].value
    cap = max(1, value * case.arm.workload.demand.policy.ratio_bp // 10_000)
    yield from case.stage("D2")
    financing = yield from case.reserved([(name, cap)])
    financing = yield from case.paid(financing, [(name, cap)])
    yield from case.must(Repay(financing, cap, "OWN_FUNDS", financing.hex()), case.bank)
    _, receipt = yield from case.reserve([(name, cap)])
    return receipt.code


def f16_squatting(case: Case) -> Steps:
    """Headroom reserved and never used: after its time anybody may release it."""
    yield from case.stage("D2")
    financing = yield from case.verified([case.parts()[0]])
    ttl_ns = _at_most(case, SQUATTED_NS)
    yield from case.must(FinReserve(financing, ttl_ns=ttl_ns), case.bank)
    yield case.env.timeout(ttl_ns + HOUR_NS)
    receipt = yield from case.do(ReserveExpire(financing), "administrator")
    return "RESERVATION_LAPSED" if receipt.ok else receipt.code


def f21_corrupted_feed(case: Case) -> Steps:
    """A customs district's key is stolen: what it anchored since is frozen when the theft is known."""
    district = district_feed(case.application.number)
    since = case.block_now
    name = yield from case.declare(by=district)
    yield case.env.timeout(HOUR_NS)
    yield from case.must(KeyRevoke(district, since, "stolen"), "administrator")
    yield from case.stage("D2")
    receipt = yield from case.do(case.application_for([(name, 1)]), case.firm.id)
    return receipt.code


def f22_late(case: Case) -> Steps:
    """An approval after the reservation's end, with a client clock set back: block time decides."""
    yield from case.stage("D2")
    financing = yield from case.verified([case.parts()[0]])
    yield from case.must(FinReserve(financing, ttl_ns=_at_most(case, HOUR_NS)), case.bank)
    then = case.block_now
    yield case.env.timeout(2 * HOUR_NS)
    receipt = yield from case.do(FinApprove(financing), case.bank, checker_of(case.bank), time_ns=then)
    return receipt.code


def f23_human_error(case: Case) -> Steps:
    """A currency that does not exist, a slipped decimal point, another firm's papers in the envelope."""
    form = case.application.number % 3
    if form == 2:
        return (yield from f10_borrowed(case))
    yield from case.stage("D2")
    if form == 0:
        receipt = yield from case.do(case.application_for(case.parts(), currency="UDS"), case.firm.id)
    else:
        _, receipt = yield from case.reserve([(name, 100 * amount) for name, amount in case.parts()])
    return receipt.code


def undetected(case: Case) -> Steps:
    """Nothing on this ledger contradicts it (F17, F18, F19): it takes the honest course and is paid out."""
    yield from case.honest()
    return ""


SCRIPTS: Final[dict[str, Callable[[Case], Steps]]] = {
    "F1": f1_second_bank,
    "F2": f2_two_banks_at_once,
    "F3": f3_too_much,
    "F4": f4_salami,
    "F5": f5_forged,
    "F6": f6_altered,
    "F7": f7_near_duplicate,
    "F8": f8_unusable,
    "F9": f9_amended_down,
    "F10": f10_borrowed,
    "F11": f11_replayed,
    "F12": f12_unauthorised,
    "F13": f13_no_consent,
    "F14": f14_impossible_repayment,
    "F15": f15_fake_repayment,
    "F16": f16_squatting,
    "F17": undetected,
    "F18": undetected,
    "F19": undetected,
    "F21": f21_corrupted_feed,
    "F22": f22_late,
    "F23": f23_human_error,
}

NEEDS_A_CUSTOMER: Final = frozenset(SCRIPTS) - {"F13", "F17", "F18", "F19"}
"""Kinds whose script starts with a known customer: a newcomer is onboarded first."""
