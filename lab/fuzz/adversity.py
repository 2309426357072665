"""Who misbehaves in a case, and how: drawn from the behaviours that `consensus.byzantine` knows."""

from __future__ import annotations

import importlib
from typing import Any

from tradebft.consensus.interface import Config
from tradebft.lab.fuzz.case import Adversary
from tradebft.lab.fuzz.dice import Dice

MS = 10**6
WITH_A_PLAN = 0.8


def behaviours() -> tuple[str, ...]:
    """Names of everything a member may do wrong."""
    return tuple(sorted(_table("tradebft.consensus.byzantine", "BEHAVIOURS")))


def client_behaviours() -> tuple[str, ...]:
    """Names of everything a client may do wrong."""
    return tuple(sorted(_table("tradebft.consensus.byzantine.clients", "BEHAVIOURS")))


def _table(module: str, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = getattr(importlib.import_module(module), name, {})
    except ModuleNotFoundError:
        return {}
    return found


def adversaries_of(dice: Dice, config: Config, storm_ns: int, beyond_f: bool) -> tuple[Adversary, ...]:
    """Up to f members who misbehave in one to three ways each; f+1 in league with *beyond_f*, mostly with a plan: the
    first primary proposes two batches at a time, and the others vote for both.
    """
    names = behaviours()
    if not names:
        return ()
    if beyond_f and dice.happens(WITH_A_PLAN):
        others = sorted(dice.some(range(1, config.nodes), config.faults))
        return (Adversary(0, "equivocate"), *(Adversary(node, "vote-both") for node in others))
    count = config.faults + 1 if beyond_f else dice.whole(1, config.faults)
    found = []
    for node in sorted(dice.some(range(config.nodes), count)):
        for behaviour in dice.some(names, dice.whole(1, 3)):
            found.append(Adversary(node, behaviour))
    return tuple(found)


def dishonest_of(dice: Dice, clients: tuple[str, ...]) -> dict[str, str]:
    """One client that does not play fair, where there are two or more."""
    names = client_behaviours()
    if not names or len(clients) < 2:
        return {}
    return {dice.pick(clients): dice.pick(names)}
