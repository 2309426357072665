"""Which applications are frauds or errors, by kind F1 ... F23 (docs/domain.md, "Frauds and errors").

The published mix names groups; a group's rate is divided evenly among its kinds. Kinds without a group have rates of
their own, all of them assumptions. F20, a Byzantine bank, is a matter of consensus and never injected here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from tradebft.network.chance import Chance
from tradebft.scenarios.demand import FRAUD_CASES
from tradebft.scenarios.schema import TradeFinance
from tradebft.scenarios.trade.figures import FIGURES

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "duplicate_cross_bank": ("F1", "F2"),
    "over_headroom": ("F3", "F4", "F15"),
    "amount_mismatch": ("F6", "F7"),
    "forged_declaration": ("F5", "F21"),
    "expired_or_cancelled": ("F8", "F9", "F22"),
    "unauthorised": ("F10", "F13", "F14"),
    "replay_or_retry": ("F11", "F23"),
    "unknown_firm": ("F12",),
}
OWN_RATES: Final = {"F16": 0.002, "F17": 0.005, "F18": 0.005, "F19": 0.005}  # assumptions
OUT_OF_SCOPE: Final = frozenset({"F17", "F18", "F19"})
"""What no ledger of members' declarations can see: lenders off it, fictitious trade, wrong prices at the origin."""

KINDS: Final = tuple(FRAUD_CASES)


def rates(workload: TradeFinance) -> dict[str, float]:
    """Share of applications by kind: the default mix, overridden by [workload.fraud]."""
    found = dict.fromkeys(KINDS, 0.0)
    if workload.default_fraud:
        for group, rate in FIGURES.invalid_mix.items():
            for kind in GROUPS[group]:
                found[kind] += rate / len(GROUPS[group])
        found.update(OWN_RATES)
    for name, rate in workload.fraud.items():
        for kind in GROUPS.get(name, (name,)):
            found[kind] = rate / len(GROUPS.get(name, (name,)))
    return found


def assign(workload: TradeFinance, count: int, chance: Chance) -> list[str]:
    """The kind of each of *count* applications, "" for an honest one. One uniform draw an application."""
    by_kind = rates(workload)
    edges = np.cumsum([by_kind[kind] for kind in KINDS])
    places = np.searchsorted(edges, chance.stream("kind").uniforms(0, count), side="right")
    return [KINDS[place] if place < len(KINDS) else "" for place in places]
