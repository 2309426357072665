"""What is asked for is what the field knows about it: tickets, currencies, firms, identifiers, and who is a member."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import erf, exp, log, sqrt

import numpy as np
import pytest
import simpy
from simpy.events import Event
from stdnum.cn import uscc
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules.parameters import RATES
from tradebft.chain.transaction import Transaction
from tradebft.network.chance import Chance
from tradebft.scenarios.demand import TradeFinance, bank_names
from tradebft.scenarios.schema import Scenario, load
from tradebft.scenarios.trade.firms import on_platform
from tradebft.scenarios.trade.ledger_arm import LedgerArm
from tradebft.scenarios.trade.office import Office
from tradebft.scenarios.trade.services import DATABASE_CALL_NS, DatabaseLedger, Posted, receipt_of
from tradebft.scenarios.trade.workload import FEED_NS, Application, Workload, generate
from tradebft.scenarios.units import DAY_NS, MILLISECOND_NS

SEEDS = range(1, 9)
# Written out once more: a test that reads the workload's own figures would follow them into any mistake.
CURRENCIES = {"USD": 0.80, "CNY": 0.10, "EUR": 0.05, "HKD": 0.02, "JPY": 0.02, "GBP": 0.01}
ZIPF_EXPONENT = 1.1
SMALL_FIRMS = 0.7  # [S14]
MEDIAN_USD, SIGMA, LEAST_USD, MOST_USD = 170_000, 1.6, 5_000, 20_000_000
HIGHEST_ADVANCE = 0.9  # [S67]
LEAN = {"workload.coverage_points": [], "workload.sensitivity": False}


def demand(loaded: Scenario) -> TradeFinance:
    assert isinstance(loaded.workload, TradeFinance)
    return loaded.workload


def workload(seed: int, **changes: object) -> Workload:
    overrides = {**LEAN, "workload.anchor_all_declarations": False}
    loaded = load("guizhou", {**overrides, **{k.replace("__", "."): v for k, v in changes.items()}}, seed)
    return generate(loaded, demand(loaded))


@pytest.fixture(scope="module")
def months() -> list[Workload]:
    """The province's month under several seeds."""
    return [workload(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def applications(months: list[Workload]) -> list[Application]:
    """Those of all months; a second financing repeats another application's papers and is left out."""
    return [a for month in months for a in month.applications if a.kind != "F1"]


def usd(amount: int, currency: str) -> float:
    return amount * RATES[currency] / RATES["USD"] / 100


def clipped_mean() -> float:
    """Mean of the lognormal ticket whose tails are moved to the smallest and the largest one, in closed form."""
    below, above = (log(end / MEDIAN_USD) / SIGMA for end in (LEAST_USD, MOST_USD))
    inside = MEDIAN_USD * exp(SIGMA**2 / 2) * (_normal(above - SIGMA) - _normal(below - SIGMA))
    return inside + LEAST_USD * _normal(below) + MOST_USD * (1 - _normal(above))


def _normal(z: float) -> float:
    return (1 + erf(z / sqrt(2))) / 2


def test_the_mean_ticket_is_that_of_the_distribution_and_near_the_published_one(
    applications: list[Application],
) -> None:
    """USD 609k published [S8]; the largest ticket of 20M takes 3 % off the mean of the untruncated lognormal."""
    tickets = np.array([usd(a.amount, a.currency) for a in applications])
    error = tickets.std() / sqrt(len(tickets))
    assert abs(tickets.mean() - clipped_mean()) < 4 * error
    assert clipped_mean() == pytest.approx(609_000, rel=0.04)
    assert tickets.max() <= MOST_USD * 1.001
    # Few huge tickets make the mean a blunt measure; the logarithm is a sharp one.
    logs = np.log(tickets)
    assert abs(logs.mean() - log(MEDIAN_USD)) < 3 * SIGMA / sqrt(len(logs))
    assert logs.std() == pytest.approx(SIGMA, rel=0.03)


def test_every_currency_has_its_share(applications: list[Application]) -> None:
    count = len(applications)
    seen = Counter(a.currency for a in applications)
    assert set(seen) == set(CURRENCIES)
    for currency, share in CURRENCIES.items():
        assert abs(seen[currency] - share * count) < 4 * sqrt(share * (1 - share) * count), currency


def test_firms_apply_by_zipfs_law(applications: list[Application]) -> None:
    known = [int(a.firm.id.removeprefix("firm.")) for a in applications if not a.new_customer]
    weights = np.arange(1, 1501, dtype=float) ** -ZIPF_EXPONENT
    weights /= weights.sum()
    for first, last in ((1, 1), (2, 3), (4, 10), (11, 50), (51, 200), (201, 1500)):
        share = float(weights[first - 1 : last].sum())
        seen = sum(first <= rank <= last for rank in known)
        assert abs(seen - share * len(known)) < 4 * sqrt(share * (1 - share) * len(known)), (first, last)


def test_seventy_in_a_hundred_firms_are_small_ones(months: list[Workload]) -> None:
    small = [firm.small for month in months for firm in month.firms]
    assert np.mean(small) == pytest.approx(SMALL_FIRMS, abs=0.02)


def test_social_credit_codes_are_valid_by_another_implementation(months: list[Workload]) -> None:
    codes = [firm.uscc for firm in months[0].firms]
    assert len(set(codes)) == len(codes)
    assert all(uscc.is_valid(code) for code in codes)


def test_customs_numbers_are_of_eighteen_digits_for_exports_and_each_is_used_once() -> None:
    month = workload(1, workload__anchor_all_declarations=True)
    numbers = [declaration.number for declaration in month.feed]
    assert len(set(numbers)) == len(numbers) > 10_000
    for number in numbers:
        assert len(number) == 18
        assert number.isdigit()
        assert number[4:9] == "20200"  # the year, and 0 for exports


def test_an_honest_application_fits_its_declarations(applications: list[Application]) -> None:
    for a in applications:
        for declaration, allocated in zip(a.declarations, a.allocations, strict=True):
            assert 0 < allocated <= declaration.value * HIGHEST_ADVANCE
            assert declaration.exported_ns < a.at_ns
            assert (declaration.exporter, declaration.currency) == (a.firm.token, a.currency)


class Noted(DatabaseLedger):
    """The central database, noting what became of every kind of transaction."""

    def __init__(self, env: simpy.Environment, ledger: Ledger, epoch_ns: int) -> None:
        super().__init__(env, ledger, epoch_ns)
        self.noted: Counter[tuple[str, str]] = Counter()

    def submit(self, gateway: str, transaction: Transaction) -> Event:
        """As the database does."""
        event = super().submit(gateway, transaction)
        self.noted[transaction.body.type, receipt_of(event.value).code] += 1
        return event


def test_where_nobody_cheats_the_ledger_refuses_nothing() -> None:
    """Not one of an honest application's steps, nor of its repayments: the shortest tenors end within the run."""
    honest = workload(2, days=45, workload__default_fraud=False, workload__financings_per_workday=12)
    env, office = simpy.Environment(initial_time=0), Office(honest)
    service = Noted(env, Ledger(office.genesis(), office.keyring), honest.epoch_ns)
    arm = LedgerArm("database", env, honest, office, service)
    arm.start()
    env.run()
    assert {code for _, code in service.noted} == {"OK"}
    assert service.noted["FIN_CLOSE", "OK"] > 5
    assert service.noted["FIN_DISBURSE", "OK"] == len(honest.applications) > 200
    assert arm.false_alarms() == 0


class BehindWithTheFeed(DatabaseLedger):
    """A ledger that has what customs sends, and nobody waits for, a day late."""

    def post(self, gateway: str, transaction: Transaction, executed: Posted | None = None) -> None:
        """As the database does, a day later."""

        def later() -> Iterator[Event]:
            yield self._env.timeout(DAY_NS)
            super(BehindWithTheFeed, self).post(gateway, transaction, executed)

        self._env.process(later())


def test_who_asks_for_money_before_the_declaration_is_there_waits_for_it() -> None:
    """A ledger that stood still leaves customs behind with its feed. Nobody is refused for that, and frauds are caught
    for what they are; the exporter looks each quarter of an hour, and the wait counts as one for the ledger."""
    month = workload(1, days=12)
    env, office = simpy.Environment(initial_time=0), Office(month)
    arm = LedgerArm(
        "database",
        env,
        month,
        office,
        BehindWithTheFeed(env, Ledger(office.genesis(), office.keyring), month.epoch_ns),
    )
    arm.start()
    env.run()
    assert arm.false_alarms() == 0
    assert all(row["missed"] == 0 for row in arm.frauds().values() if row["in_scope"])
    anchored = {d.token: -(-d.anchored_ns // FEED_NS) * FEED_NS + DAY_NS for d in month.feed}
    waited = 0
    picked = {
        number: (end, waiting) for _, number, stage, _, end, waiting in arm.rows.stages if stage == "D2"
    }
    for a in month.applications:
        if a.number not in picked:
            continue  # a fraud that picks nothing
        end, waiting = picked[a.number]
        there = max(anchored[d.token] for d in a.declarations)
        assert end >= there
        if waiting:
            waited += 1
            assert waiting % FEED_NS == 0
            assert end - FEED_NS <= there
            assert arm.rows.applications[a.number][-1] >= waiting / MILLISECOND_NS
    assert waited > 20


class StoodStill(DatabaseLedger):
    """A ledger that does nothing for three days, and then the last first."""

    FROM_NS, TO_NS = 5 * DAY_NS, 8 * DAY_NS  # Monday to Wednesday

    def __init__(self, env: simpy.Environment, ledger: Ledger, epoch_ns: int) -> None:
        super().__init__(env, ledger, epoch_ns)
        self.held: list[Event] = []
        env.process(self._go_on())

    def _go_on(self) -> Iterator[Event]:
        yield self._env.timeout(self.TO_NS)
        for event in reversed(self.held):
            event.succeed()

    def submit(self, gateway: str, transaction: Transaction) -> Event:
        """As the database does, sooner or later."""
        return self._env.process(self._sooner_or_later(transaction))

    def post(self, gateway: str, transaction: Transaction, executed: Posted | None = None) -> None:
        """As the database does, sooner or later."""
        self._env.process(self._sooner_or_later(transaction, executed))

    def _sooner_or_later(self, transaction: Transaction, executed: Posted | None = None) -> Iterator[Event]:
        if self.FROM_NS <= self._env.now < self.TO_NS:
            self.held.append(self._env.event())
            yield self.held[-1]
        yield self._env.timeout(DATABASE_CALL_NS)
        receipt = self._executed(transaction)
        if executed is not None:
            executed(receipt)
        return receipt


def test_whoever_cheats_is_caught_and_nobody_else_is_refused_where_the_ledger_stood_still_for_days() -> None:
    """What is sent meanwhile is executed in whatever order: a second financing may overtake the first one."""
    month = workload(1, days=12, workload__fraud={"duplicate_cross_bank": 0.3})
    env, office = simpy.Environment(initial_time=0), Office(month)
    service = StoodStill(env, Ledger(office.genesis(), office.keyring), month.epoch_ns)
    arm = LedgerArm("database", env, month, office, service)
    arm.start()
    env.run()
    assert len(service.held) > 100
    assert arm.false_alarms() == 0
    frauds = arm.frauds()
    assert frauds["F1"]["injected"] > 20
    assert all(row["missed"] == 0 for row in frauds.values() if row["in_scope"]), frauds


def test_a_wider_coverage_keeps_every_bank_of_a_narrower_one() -> None:
    loaded = load("guizhou", LEAN, 1)
    banks = bank_names(loaded, demand(loaded))
    members = [on_platform(banks, 6, coverage / 15, Chance(1)) for coverage in range(16)]
    assert [len(some) for some in members] == list(range(16))
    assert all(fewer < more for fewer, more in pairwise(members))
    assert members[6] == set(loaded.node_names) - {"administrator"}  # who runs a validator joins first


def test_coverage_and_consensus_settings_change_no_application() -> None:
    usual = workload(3, days=10)
    for changes in ({"workload__bank_coverage": 0.2}, {"consensus__batch_size": 7}):
        other = workload(3, days=10, **changes)
        assert other.applications == usual.applications
        assert other.feed == usual.feed
    assert workload(4, days=10).applications != usual.applications


WORKLOADS = """
import sys
from tradebft.scenarios.schema import load
from tradebft.scenarios.trade.workload import generate
for seed in sys.argv[1:]:
    loaded = load("guizhou", {}, int(seed))
    made = generate(loaded, loaded.workload)
    print(made.applications, made.feed)
"""


def test_a_workload_is_the_same_on_a_processor_that_can_do_less(
    lesser_processor: Callable[..., str],
) -> None:
    """With another logarithm's last bit an amount that is to be whole can be a cent less."""
    seeds = range(1, 13)
    there = lesser_processor(WORKLOADS, *map(str, seeds)).splitlines()
    for seed, line in zip(seeds, there, strict=True):
        loaded = load("guizhou", {}, seed)
        made = generate(loaded, demand(loaded))
        assert f"{made.applications} {made.feed}" == line


def test_a_single_declaration_bears_the_whole_amount(applications: list[Application]) -> None:
    """The smallest ticket is a round one, and is asked for to the cent."""
    alone = [a.amount for a in applications if len(a.declarations) == 1 and a.currency == "USD"]
    assert Counter(alone)[LEAST_USD * 100] > 5
    assert min(alone) == LEAST_USD * 100


def test_a_second_financing_brings_another_banks_papers() -> None:
    month = workload(1, workload__default_fraud=False, workload__fraud={"F1": 0.1})
    first = {a.declarations: a for a in month.applications if not a.kind}
    seconds = [a for a in month.applications if a.kind == "F1"]
    assert len(seconds) > 30
    for second in seconds:
        earlier = first[second.declarations]
        assert earlier.at_ns < second.at_ns
        assert second.repeats == earlier.number
        assert (second.bank, second.second_bank) == (earlier.second_bank, earlier.bank)
        same = dataclasses.replace(
            earlier, number=0, at_ns=0, bank="", second_bank="", kind="", tenor_days=0, repeats=0
        )
        assert same == dataclasses.replace(
            second, number=0, at_ns=0, bank="", second_bank="", kind="", tenor_days=0, repeats=0
        )
