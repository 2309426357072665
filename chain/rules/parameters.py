"""What the members agreed to be the numbers of business: ratios, ages, rates, limits; versioned, never
edited.

SAFE publishes that a running balance per declaration is checked, not the ratio, what happens to repaid
capacity, reservation times or rounding. Those are policies of this project, each one a parameter here.
"""

from __future__ import annotations

from typing import Final

import msgspec

DAY_NS: Final = 86_400 * 10**9
RATIOS: Final = {"export_receivable": 9_000, "policy_financing": 9_000, "order_financing": 7_000}
RATES: Final = {
    "CNY": 1_000_000,
    "USD": 7_000_000,
    "EUR": 7_900_000,
    "HKD": 900_000,
    "GBP": 8_900_000,
    "JPY": 6_500_000,  # a yen has no minor unit and counts as one
}
"""Round figures, not quotations: the rate recorded in a block is whatever the members set."""

AMOUNT_MAX: Final = (1 << 63) - 1
BP: Final = 10_000


class Parameters(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One version of the parameters. Durations in nanoseconds of block time, ratios in basis points."""

    version: int = 1
    ratio_bp: dict[str, int] = msgspec.field(default_factory=lambda: dict(RATIOS))
    """How much of a declaration's value may be financed, by product. Banks advance 70-90 % [S67]."""
    fx: dict[str, int] = msgspec.field(default_factory=lambda: dict(RATES))
    """What 10^6 minor units of a currency are worth in minor units of CNY. Currencies not listed are
    refused.
    """
    fx_band_bp: int = 1_000
    """How far PARAM_SET may move a rate in one step."""
    age_max_ns: int = 180 * DAY_NS
    """How old, since export, a declaration may be when it is applied for or reserved."""
    reservation_ttl_ns: int = 10 * DAY_NS
    """The longest a reservation may stand before disbursement."""
    recycle: int = 0
    """1: repayment from OWN_FUNDS restores headroom. From BUYER_RECEIPT never: the receivable is gone."""
    invoice_strict: int = 1
    """1: an invoice is financed by one bank at a time. 0: by several, up to its amount times the ratio."""
    grades: str = "AB"
    """Classes of firm that may apply."""
    probe_limit: int = 6
    """How often one bank may ask about one declaration within `probe_window_ns`; against binary search."""
    probe_window_ns: int = DAY_NS
    lapse_limit: int = 3
    """How many reservations one bank may let lapse for one firm within `lapse_window_ns`; against
    squatting.
    """
    lapse_window_ns: int = 30 * DAY_NS
    correct_window_ns: int = 30 * DAY_NS
    quorum_banks: int = 0
    """How many banks must cosign governance. 0: more than half of the active banks."""
    faults: int = 0
    """How many faulty validators must stay tolerable: no membership change may leave n < 3 faults + 1."""
    epoch_blocks: int = 1_000
    """Validator changes take effect at the next multiple of this height."""
    lifetime_blocks: int = 10_000_000
    """How far ahead of the current height a transaction's expiry height may lie."""

    def cap(self, product: str, value: int) -> int:
        """How much of a declared value this product may take, rounded down; 0 for an unknown product."""
        return value * self.ratio_bp.get(product, 0) // BP

    def charge(self, amount: int, currency: str, into: str) -> int:
        """An amount in another currency's minor units, rounded up.

        Up, because this is what a loan takes from a declaration: rounded down, many loans of one yen each
        would take nothing.
        """
        if currency == into:
            return amount
        return -(-amount * self.fx[currency] // self.fx[into])


BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "fx_band_bp": (0, BP),
    "age_max_ns": (DAY_NS, 3_650 * DAY_NS),
    "reservation_ttl_ns": (1, 365 * DAY_NS),
    "recycle": (0, 1),
    "invoice_strict": (0, 1),
    "probe_limit": (1, 1_000_000),
    "probe_window_ns": (0, 365 * DAY_NS),
    "lapse_limit": (1, 1_000_000),
    "lapse_window_ns": (0, 365 * DAY_NS),
    "correct_window_ns": (0, 3_650 * DAY_NS),
    "quorum_banks": (0, 1_000),
    "faults": (0, 333),
    "epoch_blocks": (1, 1_000_000),
    "lifetime_blocks": (1, 1 << 32),
}
"""What PARAM_SET accepts for each plain parameter, both ends included."""


def changed(now: Parameters, changes: tuple[tuple[str, int], ...]) -> Parameters | str:
    """The next version with these changes, or the name of the first change that is out of bounds or
    unknown.
    """
    if not changes:
        return "changes"
    ratio_bp, fx, plain = dict(now.ratio_bp), dict(now.fx), {}
    for name, value in changes:
        group, _, key = name.partition(".")
        if group == "ratio_bp" and key and 0 <= value <= BP:
            ratio_bp[key] = value
        elif group == "fx" and len(key) == 3 and 0 < value <= 10**12 and _inside_band(now, key, value):
            fx[key] = value
        elif name in BOUNDS and BOUNDS[name][0] <= value <= BOUNDS[name][1]:
            plain[name] = value
        else:
            return name
    return msgspec.structs.replace(now, version=now.version + 1, ratio_bp=ratio_bp, fx=fx, **plain)


def _inside_band(now: Parameters, currency: str, rate: int) -> bool:
    before = now.fx.get(currency)
    return before is None or abs(rate - before) * BP <= before * now.fx_band_bp
