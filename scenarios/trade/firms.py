"""Who exports and who lends: firms by Zipf's law, banks by share, and which banks are on the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tradebft.chain.crypto import digest
from tradebft.chain.rules.identifiers import USCC_ALPHABET, uscc_check_character, uscc_token
from tradebft.network.chance import Chance, choice, zipf_weights
from tradebft.scenarios.schema import Scenario
from tradebft.scenarios.trade.figures import FIGURES

BANK_EXPONENT: Final = 0.5  # banks' shares of business fall as 1 / rank^0.5 (assumption)
PROVINCE: Final = "520100"  # Guiyang, in the administrative-division digits of a USCC


@dataclass(frozen=True, slots=True)
class Firm:
    """An exporter. `banks`: its house bank, then a second bank that knows it; a new customer is known to none yet."""

    id: str
    uscc: str
    token: bytes
    small: bool
    banks: tuple[str, str]


def token_key(scenario: Scenario) -> bytes:
    """The regulator's key, under which customs numbers, USCC and invoice keys become tokens."""
    return digest("token-key", scenario.name.encode(), scenario.seed.to_bytes(8, "big"))


def on_platform(banks: list[str], validators: int, coverage: float, chance: Chance) -> frozenset[str]:
    """The banks that are on the platform: round(coverage x banks) of them.

    Those that run validators (the first *validators* of *banks*) join first, each group in an order drawn by the seed
    that does not depend on the coverage: a higher one keeps every bank that a lower one had, so comparisons are paired.
    """
    u = chance.stream("joins").uniforms(0, len(banks))
    order = sorted(range(len(banks)), key=lambda k: (k >= validators, u[k]))
    return frozenset(banks[k] for k in order[: round(coverage * len(banks))])


def make_firms(count: int, banks: list[str], key: bytes, chance: Chance) -> list[Firm]:
    """Firms 1 ... *count*. Which banks a firm has is drawn by the banks' shares of business."""
    shares = zipf_weights(len(banks), BANK_EXPONENT)
    home = np.asarray(choice(chance.stream("house-bank").uniforms(0, count), shares), dtype=int)
    other = np.asarray(choice(chance.stream("second-bank").uniforms(0, count), shares), dtype=int)
    small = chance.stream("small").uniforms(0, count) < FIGURES.sme_share
    firms = []
    for k in range(count):
        second = other[k] if other[k] != home[k] else (home[k] + 1) % len(banks)
        uscc = _uscc(k + 1)
        token = uscc_token(key, uscc)
        firms.append(Firm(f"firm.{k + 1}", uscc, token, bool(small[k]), (banks[home[k]], banks[second])))
    return firms


def stranger(key: bytes, firms: Sequence[Firm]) -> bytes:
    """The token of an exporter that is none of *firms*, all that `make_firms` made."""
    return uscc_token(key, _uscc(len(firms) + 1))


def _uscc(serial: int) -> str:
    """A unified social credit code (GB 32100-2015): registrar 9, enterprise 1, division, organisation code, check."""
    organisation = ""
    rest = serial * 7_919  # spreads consecutive firms over the code space; nothing depends on it
    for _ in range(9):
        rest, digit = divmod(rest, len(USCC_ALPHABET))
        organisation = USCC_ALPHABET[digit] + organisation
    first = "91" + PROVINCE + organisation
    return first + uscc_check_character(first)


def active_weights(count: int) -> np.ndarray:
    """How often each firm applies: Zipf with the exponent of data/workload.json (assumption)."""
    return np.asarray(zipf_weights(count, FIGURES.zipf_exponent))
