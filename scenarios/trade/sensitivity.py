"""How far the median days depend on durations nobody has measured: every low-confidence stage at its low and high end.

No queue and no ledger: an application's stages follow one another in bank hours. Days are calendar days from
submission to the end of disbursement. The draws are those of the run itself, application by application.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Chance
from tradebft.scenarios.trade.stages import DIGITAL, ENDS, PAPER, End, Stage, draws
from tradebft.scenarios.trade.workdays import Workdays
from tradebft.scenarios.units import DAY_NS

Arm = Literal["paper", "digital"]
PROCESSES: Final[dict[Arm, tuple[Stage, ...]]] = {"paper": PAPER, "digital": DIGITAL}

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def finished(
    workdays: Workdays,
    submitted_ns: Ints,
    new_customer: Bools,
    applications: Ints,
    chance: Chance,
    arm: Arm,
    end: End = "base",
) -> Ints:
    """When each application's last stage ends, in ns, had every officer been free at once."""
    now = submitted_ns.astype(np.int64)
    for stage in PROCESSES[arm]:
        durations, occurs = draws(stage, chance, applications, end)
        if stage.new_customers_only:
            occurs = occurs & new_customer
        after = workdays.add_business_each(now, durations) if stage.bank_hours else now + durations
        now = np.where(occurs, after, now)
    return now


def medians(
    workdays: Workdays,
    submitted_ns: Ints,
    new_customer: Bools,
    applications: Ints,
    chance: Chance,
    arm: Arm,
    end: End = "base",
    off_platform: Bools | None = None,
) -> dict[str, float | None]:
    """Median calendar days of new and of existing customers; None for a group without applications. *off_platform*:
    applications to banks that work on paper in any arm."""
    ends = finished(workdays, submitted_ns, new_customer, applications, chance, arm, end)
    if off_platform is not None and off_platform.any():
        on_paper = finished(workdays, submitted_ns, new_customer, applications, chance, "paper", end)
        ends = np.where(off_platform, on_paper, ends)
    days = (ends - submitted_ns) / DAY_NS
    return {
        "new_customer_days": _median(days[new_customer]),
        "existing_customer_days": _median(days[~new_customer]),
    }


def band(
    workdays: Workdays,
    submitted_ns: Ints,
    new_customer: Bools,
    applications: Ints,
    chance: Chance,
    arm: Arm,
    off_platform: Bools | None = None,
) -> dict[End, dict[str, float | None]]:
    """`medians` with every low-confidence stage at its low end, as drawn, and at its high end."""
    return {
        end: medians(workdays, submitted_ns, new_customer, applications, chance, arm, end, off_platform)
        for end in ENDS
    }


def _median(days: NDArray[np.float64]) -> float | None:
    return float(np.median(days)) if len(days) else None
