"""The paper arm: stages B1 ... B10, files on officers' desks in bank hours, nothing shared between banks.

A bank sees what one bank's papers show. What only another bank or the customs office could contradict is found after
the money has gone, by comparing financing with receipts ([S12]); so those kinds are paid out here. Which kinds are
which is a judgement, listed in `SEEN_ON_PAPER`, and an assumption.
"""

from __future__ import annotations

from typing import Any, Final

import simpy
from tradebft.scenarios.trade.officers import PAPER_FILES_EACH, Desk
from tradebft.scenarios.trade.rows import Rows
from tradebft.scenarios.trade.stages import PAPER
from tradebft.scenarios.trade.workload import Application, Workload

OUT_OF_HOUSE: Final = frozenset({"B2"})  # the exporter assembles papers: no officer's desk
CHECK: Final = "B4"  # the authenticity check, where a bank finds what its papers can show
SEEN_ON_PAPER: Final = frozenset(
    {"F3", "F4", "F6", "F8", "F11", "F12", "F13", "F14", "F15", "F16", "F22", "F23"}
)


class PaperArm:
    """Every application through the paper process, or only those of banks off the platform."""

    def __init__(self, env: simpy.Environment, workload: Workload, rows: Rows) -> None:
        self._env, self._workload, self._rows = env, workload, rows
        officers = workload.demand.officers_per_bank
        self._desks = {
            bank: Desk(env, workload.workdays, officers, PAPER_FILES_EACH) for bank in workload.banks
        }
        self.unfinished = 0

    def handle(self, a: Application) -> Any:
        """One application, from its submission to money or refusal: a process for SimPy."""
        self.unfinished += 1
        yield self._env.timeout(a.at_ns - int(self._env.now))
        desk = self._desks[a.bank]
        for stage in PAPER:
            if stage.new_customers_only and not a.new_customer:
                continue
            length = self._workload.lengths.draw(stage, a.number)
            if length is None:
                continue
            begin = int(self._env.now)
            end, waited = yield from desk.work(length, counts_now=stage.id not in OUT_OF_HOUSE)
            self._rows.stage(a.number, stage.id, begin, end, waited)
            if stage.id == CHECK and a.kind in SEEN_ON_PAPER:
                self._done(a, "rejected", "found in the papers")
                return
        self._done(a, "disbursed")

    def _done(self, a: Application, outcome: str, code: str = "") -> None:
        self.unfinished -= 1
        self._rows.finished(a, int(self._env.now), outcome, code)


def run_paper(workload: Workload) -> Rows:
    """The whole paper arm, to its last application or the end of the run-off."""
    env = simpy.Environment(initial_time=0)
    rows = Rows("paper", frozenset())
    arm = PaperArm(env, workload, rows)
    for application in workload.applications:
        env.process(arm.handle(application))
    env.run(until=workload.end_ns)
    return rows
