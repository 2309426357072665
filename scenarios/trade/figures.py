"""The figures of data/workload.json, typed. Where each comes from is in the file and in docs/domain.md."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final


class _Figures:
    def __init__(self, raw: dict[str, Any]) -> None:
        financing = raw["amounts"]["financing_usd"]
        self.financing_median_usd: float = financing["median"]
        self.financing_sigma: float = financing["sigma"]
        self.financing_min_usd: float = financing["min"]
        self.financing_max_usd: float = financing["max"]
        everyday = raw["amounts"]["declaration_usd_all"]
        self.declaration_median_usd: float = everyday["median"]
        self.declaration_sigma: float = everyday["sigma"]
        self.financed_sigma: float = raw["amounts"]["declaration_usd_financed"]["sigma"]
        count = raw["declarations_per_financing"]
        self.declarations_mean: float = count["mean"]
        self.declarations_shape: float = count["shape"]
        self.declarations_max: int = count["max"]
        self.advance: tuple[float, float, float] = tuple(raw["advance_ratio"]["params"])
        self.tenors: list[int] = raw["tenor_days"]["choices"]
        self.tenor_weights: list[float] = raw["tenor_days"]["weights"]
        self.zipf_exponent: float = raw["firm_activity"]["exponent"]
        self.currencies: list[str] = list(raw["currency_mix"])
        self.currency_weights: list[float] = list(raw["currency_mix"].values())
        self.sme_share: float = raw["sme_share_firms"]
        self.invalid_mix: dict[str, float] = raw["invalid_mix"]


FIGURES: Final = _Figures(
    json.loads((files("tradebft.scenarios") / "data" / "workload.json").read_text("utf-8"))
)
