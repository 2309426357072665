"""What is asked for: firms, applications with their declarations, and customs' feed. The same for every arm.

Every draw is a pure function of (seed, name, number of the application or declaration), so that another setting of the
network or of the banks' coverage meets exactly the same applications.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from tradebft.chain.rules.identifiers import customs_number, declaration_token
from tradebft.chain.rules.parameters import BP, RATES
from tradebft.network.chance import Chance, choice, lognormal, negative_binomial, triangular
from tradebft.scenarios.demand import bank_names
from tradebft.scenarios.schema import Scenario, TradeFinance
from tradebft.scenarios.trade import mix
from tradebft.scenarios.trade.arrivals import arrival_times
from tradebft.scenarios.trade.figures import FIGURES
from tradebft.scenarios.trade.firms import (
    Firm,
    active_weights,
    make_firms,
    on_platform,
    token_key,
)
from tradebft.scenarios.trade.stages import Lengths
from tradebft.scenarios.trade.workdays import RUN_OFF_DAYS, Workdays
from tradebft.scenarios.units import DAY_NS

HOUR_NS: Final = 3_600 * 10**9
FEED_NS: Final = 900 * 10**9  # customs sends what was cleared in a quarter of an hour at once (assumption)
IMPORT_NS: Final = 7 * HOUR_NS  # 00:00 to 07:00 of the first day
CUSTOMS_DISTRICT: Final = 8301  # digits 1-4 of a customs number; Guiyang's, as an example
GOODS: Final = (
    "31053000",
    "40112000",
    "09021090",
    "92029000",
    "22089020",
    "21039090",
    "28369100",
    "76011090",
)
"""HS codes (8 digits) of goods Guizhou is known to export: fertiliser, tyres, tea, guitars, liquor, sauces, ..."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A customs declaration as its papers say. Amounts in minor units; times in ns since the scenario's start."""

    number: str
    token: bytes
    exporter: bytes
    currency: str
    value: int
    exported_ns: int
    anchored_ns: int
    hs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Application:
    """One firm asks one bank for money against declarations. `kind`: "" or the fraud that it is."""

    number: int
    at_ns: int
    firm: Firm
    bank: str
    second_bank: str  # where a duplicate is tried
    new_customer: bool
    currency: str
    amount: int
    declarations: tuple[Declaration, ...]
    allocations: tuple[int, ...]
    tenor_days: int
    kind: str = ""
    repeats: int = -1  # F1: the application whose declarations these are


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that happens outside the banks."""

    scenario: Scenario
    demand: TradeFinance
    workdays: Workdays
    chance: Chance
    token_key: bytes
    banks: list[str]
    members: frozenset[str]  # the banks on the platform
    firms: list[Firm]
    applications: list[Application]
    feed: list[Declaration]  # what customs anchors, in order of time; financed declarations among them
    lengths: Lengths  # of every application's stages

    @property
    def end_ns(self) -> int:
        """When the run-off ends."""
        return self.scenario.duration_ns + RUN_OFF_DAYS * DAY_NS

    @property
    def epoch_ns(self) -> int:
        """Block time at virtual time 0: nanoseconds from 1970 to the scenario's first day."""
        return (self.scenario.start.toordinal() - 719_163) * DAY_NS

    def at_coverage(self, coverage: float) -> Workload:
        """The same firms and the same trade, with another share of banks on the platform."""
        return replace(self, members=_members(self.scenario, self.banks, coverage, self.chance))


def generate(scenario: Scenario, demand: TradeFinance) -> Workload:
    """The workload of *scenario*."""
    chance = Chance(scenario.seed)
    days = scenario.duration_ns // DAY_NS
    workdays = Workdays(scenario.start, days + RUN_OFF_DAYS)
    key = token_key(scenario)
    banks = bank_names(scenario, demand)
    members = _members(scenario, banks, demand.bank_coverage, chance)
    times = arrival_times(
        workdays, days, chance, "applications", demand.financings_per_workday, scenario.start
    ).tolist()
    new = (
        chance.stream("new-customer").uniforms(0, max(1, len(times)))[: len(times)]
        < demand.new_customer_share
    )
    existing = demand.firms
    firms = make_firms(existing + int(new.sum()), banks, key, chance)
    applications = _Applications(scenario, demand, chance, key, firms, existing).make(times, new)
    feed = [d for a in applications if a.kind != "F1" for d in a.declarations]
    if demand.anchor_all_declarations:
        feed += _background(scenario, demand, chance, key, workdays, firms[:existing], len(feed))
    feed.sort(key=lambda d: (d.anchored_ns, d.number))
    lengths = Lengths(chance, len(applications))
    return Workload(
        scenario, demand, workdays, chance, key, banks, members, firms, applications, feed, lengths
    )


def _members(scenario: Scenario, banks: list[str], coverage: float, chance: Chance) -> frozenset[str]:
    validators = sum(name in scenario.node_names for name in banks)
    return on_platform(banks, validators, coverage, chance)


class _Applications:
    """Draws the applications, all of one quantity at a time."""

    def __init__(
        self,
        scenario: Scenario,
        demand: TradeFinance,
        chance: Chance,
        key: bytes,
        firms: list[Firm],
        existing: int,
    ) -> None:
        self._scenario, self._demand, self._chance = scenario, demand, chance
        self._key, self._firms, self._existing = key, firms, existing
        self._serial = 0

    def make(self, times: list[int], new: np.ndarray) -> list[Application]:
        count = len(times)
        if count == 0:
            return []
        u = {name: self._chance.stream(name).uniforms(0, count) for name in _DRAWS}
        kinds = mix.assign(self._demand, count, self._chance)
        firms = np.asarray(choice(u["firm"], active_weights(self._existing)), dtype=int)
        currencies = np.asarray(choice(u["currency"], FIGURES.currency_weights), dtype=int)
        tenors = np.asarray(choice(u["tenor"], FIGURES.tenor_weights), dtype=int)
        amounts = np.clip(
            lognormal(u["amount"], FIGURES.financing_median_usd, FIGURES.financing_sigma),
            FIGURES.financing_min_usd,
            FIGURES.financing_max_usd,
        )
        counts = 1 + np.asarray(
            negative_binomial(u["declarations"], FIGURES.declarations_mean - 1, FIGURES.declarations_shape)
        ).astype(int)
        advances = np.asarray(triangular(u["advance"], *FIGURES.advance))
        newcomers = iter(self._firms[self._existing :])
        made: list[Application] = []
        for k in range(count):
            firm = next(newcomers) if new[k] else self._firms[firms[k]]
            made.append(
                self._one(
                    k,
                    times[k],
                    firm,
                    bool(new[k]),
                    FIGURES.currencies[currencies[k]],
                    float(amounts[k]),
                    int(min(counts[k], FIGURES.declarations_max)),
                    float(advances[k]),
                    FIGURES.tenors[tenors[k]],
                    kinds[k],
                )
            )
        return [self._as_duplicate(a, made) if a.kind == "F1" else a for a in made]

    def _one(
        self,
        number: int,
        at_ns: int,
        firm: Firm,
        new: bool,
        currency: str,
        usd: float,
        count: int,
        advance: float,
        tenor: int,
        kind: str,
    ) -> Application:
        weights = lognormal(
            self._chance.stream("parts", number).uniforms(0, count), 1.0, FIGURES.financed_sigma
        )
        total = minor_units(usd, currency)
        # The share first: a single declaration bears it all, whatever its weight.
        shares = np.maximum(1, np.floor(total * (weights / weights.sum()))).astype(int).tolist()
        ratio_bp = min(int(advance * BP), self._demand.policy.ratio_bp)
        # A declaration is worth at least what is laid on it, at the advance ratio; customs' value is the next cent up.
        lags = self._chance.stream("cleared", number).uniforms(0, count)
        declarations = tuple(
            self._declaration(firm, currency, -(-share * BP // ratio_bp) + 1, at_ns, float(lag), number)
            for share, lag in zip(shares, lags, strict=True)
        )
        return Application(
            number,
            at_ns,
            firm,
            firm.banks[0],
            firm.banks[1],
            new,
            currency,
            sum(shares),
            declarations,
            tuple(shares),
            tenor,
            kind,
        )

    def _declaration(
        self, firm: Firm, currency: str, value: int, at_ns: int, lag: float, number: int
    ) -> Declaration:
        """Cleared 1 to 20 days before the application (assumption), and anchored at once.

        What was cleared before the run began is imported in its first night, spread evenly (assumption).
        """
        exported = at_ns - int((1 + 19 * lag) * DAY_NS)
        anchored = exported if exported >= 0 else -exported % IMPORT_NS
        self._serial += 1
        text = customs_number(CUSTOMS_DISTRICT, self._scenario.start.year, 0, self._serial)
        goods = GOODS[(number + self._serial) % len(GOODS)]
        token = declaration_token(self._key, text)
        return Declaration(text, token, firm.token, currency, value, exported, anchored, (goods,))

    def _as_duplicate(self, fraud: Application, made: list[Application]) -> Application:
        """F1: somebody else's bank was given these declarations at least a workday earlier; here they come again."""
        earlier = [
            a
            for a in made
            if a.at_ns < fraud.at_ns - DAY_NS and not a.new_customer and a.kind == "" and a.amount > 1
        ]
        if not earlier:
            return replace(fraud, kind="F3")
        u = self._chance.stream("victim").uniform(fraud.number)
        first = earlier[int(u * len(earlier))]
        return replace(
            fraud,
            firm=first.firm,
            bank=first.second_bank,
            second_bank=first.bank,
            new_customer=False,
            currency=first.currency,
            amount=first.amount,
            declarations=first.declarations,
            allocations=first.allocations,
            repeats=first.number,
        )


_DRAWS: Final = ("firm", "currency", "tenor", "amount", "declarations", "advance")


def _background(
    scenario: Scenario,
    demand: TradeFinance,
    chance: Chance,
    key: bytes,
    workdays: Workdays,
    firms: list[Firm],
    financed: int,
) -> list[Declaration]:
    """Declarations that nobody asks money for, so that all together come to the demand's figure a workday."""
    days = scenario.duration_ns // DAY_NS
    per_workday = demand.declarations_per_workday - financed / max(1, workdays.workdays(days))
    if per_workday <= 0:
        return []
    times = arrival_times(workdays, days, chance, "declarations", per_workday, scenario.start).tolist()
    count = len(times)
    if count == 0:
        return []
    owners = np.asarray(
        choice(chance.stream("exporter").uniforms(0, count), active_weights(len(firms))), dtype=int
    )
    values = lognormal(
        chance.stream("value").uniforms(0, count), FIGURES.declaration_median_usd, FIGURES.declaration_sigma
    )
    currencies = np.asarray(
        choice(chance.stream("declared-in").uniforms(0, count), FIGURES.currency_weights), dtype=int
    )
    found = []
    for k, at in enumerate(times):
        text = customs_number(CUSTOMS_DISTRICT, scenario.start.year, 0, 500_000_000 + k)
        currency = FIGURES.currencies[currencies[k]]
        value = minor_units(float(values[k]), currency)
        token = declaration_token(key, text)
        goods = (GOODS[k % len(GOODS)],)
        found.append(Declaration(text, token, firms[owners[k]].token, currency, value, at, at, goods))
    return found


def minor_units(usd: float, currency: str) -> int:
    """So many US dollars in minor units of *currency*, at the round rates of the ledger's parameters; at least 1."""
    return max(1, round(usd * 100 * RATES["USD"] / RATES[currency]))
