"""How long each human stage of a financing takes, on paper and on the platform, drawn per application.

Most of these durations have never been measured: `confidence` says so stage by stage, `source` where a figure comes
from (M is an assumption), and `end` moves every low-confidence stage to its low or its high end. What that end is, is
this project's definition: the whole distribution is scaled so that its median lies where the base distribution has
its P10 ("low") or its P90 ("high"). How often a stage occurs stays the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Chance, Stream, lognormal, triangular
from tradebft.scenarios.trade.workdays import BUSINESS_DAY_NS
from tradebft.scenarios.units import DAY_NS, HOUR_NS, MINUTE_NS

End = Literal["low", "base", "high"]
ENDS: Final[tuple[End, ...]] = ("low", "base", "high")

UNITS_NS: Final = {"bd": BUSINESS_DAY_NS, "cd": DAY_NS, "h": HOUR_NS, "min": MINUTE_NS}

_ENDPOINTS: Final[dict[End, float]] = {"low": 0.1, "base": 0.5, "high": 0.9}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stage:
    """One stage of a process and the distribution of its duration.

    dist and params: "tri" (lowest, mode, highest), "unif" (lowest, highest), "logn" (median, sigma of the logarithm
    and, optionally, a cap: what lies above it becomes the cap). unit: bd (business day of 8 hours), cd, h or min.
    """

    id: str
    title: str
    dist: str
    params: tuple[float, ...]
    unit: str
    probability: float
    source: str
    confidence: str
    note: str = ""
    new_customers_only: bool = (
        False  # then `probability` is that of a new customer: whoever draws asks who is new
    )
    bank_hours: bool = True  # runs on business time; False: at any hour

    @property
    def uncertain(self) -> bool:
        """Whether the low and the high end differ from the base."""
        return "low" in self.confidence

    def quantile(self, u: Floats) -> Floats:
        """Duration in units of the base distribution at each probability of `u` (strictly between 0 and 1)."""
        if self.dist == "tri":
            low, mode, high = self.params
            return triangular(u, low, mode, high)
        if self.dist == "unif":
            low, high = self.params
            flat: Floats = low + u * (high - low)
            return flat
        median, sigma, *cap = self.params
        durations = lognormal(u, median, sigma)
        return np.minimum(durations, cap[0]) if cap else durations

    def scale(self, end: End) -> float:
        """Factor on every duration at that end; 1 for the base and for a stage that is not `uncertain`."""
        if end not in _ENDPOINTS:
            raise ValueError(f"end must be one of {', '.join(ENDS)}, got {end!r}")
        if not self.uncertain:
            return 1.0
        target, median = self.quantile(np.array([_ENDPOINTS[end], 0.5]))
        return float(target / median)


def draws(
    stage: Stage, chance: Chance, applications: Ints, end: End = "base"
) -> tuple[Ints, NDArray[np.bool_]]:
    """Durations in ns, 0 where the stage does not occur, and whether it occurs, for each application's number.

    A pure function of (seed, stage, application): arms and ends that share a stage meet the same luck. Days of a bank
    count as business time (`Workdays.add_business`).
    """
    occurs = _uniforms(chance.stream("stage", stage.id, "occurs"), applications) < stage.probability
    lengths = stage.quantile(_uniforms(chance.stream("stage", stage.id, "duration"), applications))
    durations = (lengths * (stage.scale(end) * UNITS_NS[stage.unit])).astype(np.int64)
    return np.where(occurs, durations, 0), occurs


class Lengths:
    """Durations of applications 0 .. *count* - 1, as in `draws`: a stage's are all drawn when the first is wanted."""

    def __init__(self, chance: Chance, count: int) -> None:
        self._chance, self._numbers = chance, np.arange(count, dtype=np.int64)
        self._known: dict[str, list[int | None]] = {}

    def draw(self, stage: Stage, application: int) -> int | None:
        """Duration of one application's stage in ns; None if the stage does not occur."""
        known = self._known.get(stage.id)
        if known is None:
            durations, occurs = draws(stage, self._chance, self._numbers)
            both = zip(durations.tolist(), occurs.tolist(), strict=True)
            known = self._known[stage.id] = [length if there else None for length, there in both]
        return known[application]


def _uniforms(stream: Stream, indices: Ints) -> Floats:
    """`stream.uniform` of each index, drawn as one block where the indices lie close together."""
    if not len(indices):
        return np.empty(0, dtype=np.float64)
    first, last = int(indices.min()), int(indices.max())
    if last - first > 4 * len(indices):
        return np.array([stream.uniform(int(i)) for i in indices], dtype=np.float64)
    block: Floats = stream.uniforms(first, last - first + 1)[indices - first]
    return block


def _stage(entry: dict[str, Any]) -> Stage:
    only_new = entry["prob"] == "new_customer"
    if entry["dist"] not in ("tri", "unif", "logn") or entry["unit"] not in UNITS_NS:
        raise ValueError(f"stage {entry['id']}: unknown distribution {entry['dist']} or unit {entry['unit']}")
    return Stage(
        id=entry["id"],
        title=entry["stage"],
        dist=entry["dist"],
        params=tuple(float(x) for x in entry["params"]),
        unit=entry["unit"],
        probability=1.0 if only_new else float(entry["prob"]),
        source=entry["source"],
        confidence=entry["confidence"],
        note=entry["note"],
        new_customers_only=only_new,
        bank_hours=entry.get("hours", "bank") == "bank",
    )


@lru_cache(maxsize=8)
def process(file: str, name: str) -> tuple[Stage, ...]:
    """The drawn stages of one process of a data file, in the file's order; measured ones are left out."""
    text = (resources.files("tradebft.scenarios") / "data" / file).read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)["stages"]
    return tuple(
        _stage(entry) for entry in entries if entry["process"] == name and entry["dist"] != "measured"
    )


PAPER: Final = process("paper_stages.json", "export_receivables_paper")
"""B1 to B10, in their order; the exporter's own work (B2) also runs on business time."""
DIGITAL: Final = process("digital_stages.json", "export_receivables_digital")
"""D1, D2, D4, D5, D6: D3, the ledger's answer, is what a run measures."""
STAGES: Final = {stage.id: stage for stage in PAPER + DIGITAL}
"""Every stage by its id."""
