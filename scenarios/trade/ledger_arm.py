"""The platform arm: stages D1 ... D6, every ledger step waiting for its receipt.

The same class serves the database and the chain arm: only the `LedgerService` differs. Applications at banks that are
not on the platform go through the paper process, in this arm too.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import Any, Final

import simpy
from tradebft.chain.rules.payloads import FinClose, Repay
from tradebft.scenarios.trade.case import Case, Refused, Steps, anchor_of
from tradebft.scenarios.trade.frauds import CODES, NEEDS_A_CUSTOMER, SCRIPTS
from tradebft.scenarios.trade.mix import OUT_OF_SCOPE
from tradebft.scenarios.trade.office import Office
from tradebft.scenarios.trade.officers import DIGITAL_FILES_EACH, PAPER_FILES_EACH, Desk
from tradebft.scenarios.trade.paper_arm import PaperArm
from tradebft.scenarios.trade.rows import Rows
from tradebft.scenarios.trade.services import LedgerService
from tradebft.scenarios.trade.stages import DIGITAL
from tradebft.scenarios.trade.workload import FEED_NS, Application, Workload
from tradebft.scenarios.units import DAY_NS

_STAGES: Final = {stage.id: stage for stage in DIGITAL}
ON_FILE: Final = frozenset({"D1", "D5"})  # a file among several; the others take an officer's whole attention
REPAYMENT_PARTS: Final = (
    2  # the buyer pays in two instalments, half-way through the tenor and at its end (assumption)
)


class LedgerArm:
    """Applications on the platform, and customs' feed, against one ledger."""

    def __init__(
        self, name: str, env: simpy.Environment, workload: Workload, office: Office, service: LedgerService
    ) -> None:
        self.name, self.env, self.workload = name, env, workload
        self.office, self.service = office, service
        self.rows = Rows(name, workload.members)
        self.extra_declarations = 0
        self.secured: set[int] = set()  # honest applications that have had a reservation
        self._awaited: set[bytes] = set()  # declarations that somebody asks for money against, until anchored
        self.horizon_ns = workload.scenario.duration_ns
        self.done = self.anchored = 0
        self.verdicts: dict[int, bool] = {}  # fraud -> caught
        self.all_done = env.event()
        officers = workload.demand.officers_per_bank
        banks = sorted(workload.members)
        self._attention = {b: Desk(env, workload.workdays, officers, DIGITAL_FILES_EACH) for b in banks}
        self._files = {b: Desk(env, workload.workdays, officers, PAPER_FILES_EACH) for b in banks}
        self._paper = PaperArm(env, workload, self.rows)

    def start(self, feed: bool = True) -> None:
        """Schedule everything. *feed*: also what customs anchors without anybody asking for money."""
        self.env.process(self._feed(feed))
        for application in self.workload.applications:
            self.env.process(self._application(application))
        if not self.workload.applications:
            self.all_done.succeed()

    def gateway(self, sender: str, bank: str) -> str:
        """Whose counter a transaction is handed in at: a member's own; a firm's goes through its bank."""
        if sender in self.workload.members or sender in ("administrator", "customs"):
            return sender
        return "customs" if sender.startswith("customs") else bank

    # --- customs ---

    def _feed(self, everything: bool) -> Any:
        epoch = self.workload.epoch_ns
        wanted = self._asked_for()
        feed = [d for d in self.workload.feed if everything or d.token in wanted]
        self._awaited.update(wanted.intersection(d.token for d in feed))
        for slot, declarations in groupby(feed, key=lambda d: -(-d.anchored_ns // FEED_NS)):
            due = slot * FEED_NS
            if due > self.env.now:
                yield self.env.timeout(due - int(self.env.now))
            for declaration in declarations:
                now = int(self.env.now)
                anchor = self.office.transaction(anchor_of(declaration, epoch), "customs", now=now)
                token = declaration.token
                self.service.post(
                    "customs", anchor, partial(self._anchored, token) if token in wanted else None
                )
                self.anchored += 1

    def _asked_for(self) -> set[bytes]:
        """Declarations that somebody will show at a bank on the platform."""
        members = self.workload.members
        return {d.token for a in self.workload.applications if a.bank in members for d in a.declarations}

    def _anchored(self, token: bytes, _: Any) -> None:
        self._awaited.discard(token)

    # --- applications ---

    def _application(self, a: Application) -> Any:
        if a.bank not in self.workload.members:
            yield from self._paper.handle(a)
        else:
            yield self.env.timeout(a.at_ns - int(self.env.now))
            case = Case(self, a)
            if a.kind:
                yield from self._fraud(case)
            else:
                yield from self._honest(case)
        self.done += 1
        if self.done == len(self.workload.applications):
            self.all_done.succeed()

    def _honest(self, case: Case) -> Steps:
        try:
            financing = yield from case.honest()
        except Refused as refused:
            self.rows.finished(case.application, case.now, "rejected", refused.code, case.ledger_ns)
            return
        self.rows.finished(case.application, case.now, "disbursed", "", case.ledger_ns)
        self.env.process(self._repay(Case(self, case.application), financing))

    def _fraud(self, case: Case) -> Steps:
        a = case.application
        try:
            if a.new_customer and a.kind in NEEDS_A_CUSTOMER:
                yield from case.onboard()
            code = yield from SCRIPTS[a.kind](case)
        except Refused as refused:
            code = refused.code
        caught = code in CODES.get(a.kind, ())
        self.verdicts[a.number] = caught
        # What is refused for another reason than its own is not caught, and not paid out either.
        unpaid = caught or "E_" in code
        self.rows.finished(a, case.now, "rejected" if unpaid else "disbursed", code, case.ledger_ns)

    def _repay(self, case: Case, financing: bytes) -> Steps:
        """The buyer pays, the bank books it: what falls due within the horizon."""
        a = case.application
        left = a.amount
        for k in range(1, REPAYMENT_PARTS + 1):
            due = case.now + a.tenor_days * DAY_NS // REPAYMENT_PARTS
            due = self.workload.workdays.next_open(due)
            if due > self.horizon_ns:
                return
            yield self.env.timeout(due - case.now)
            part = left if k == REPAYMENT_PARTS else a.amount // REPAYMENT_PARTS
            left -= part
            if part:
                reference = f"{financing.hex()[:24]}/{k}"
                yield from case.do(Repay(financing, part, "BUYER_RECEIPT", reference), case.bank)
        yield from case.do(FinClose(financing), case.bank)

    # --- stages ---

    def stage(self, case: Case, name: str) -> Steps:
        """Let one stage take its time; True if it occurs in this case."""
        stage, number = _STAGES[name], case.application.number
        length = self.workload.lengths.draw(stage, number)
        if length is None:
            return False
        begin = case.now
        if stage.bank_hours:
            desks = self._files if name in ON_FILE else self._attention
            end, waited = yield from desks[case.bank].work(length)
        else:
            yield self.env.timeout(length)
            waited = yield from self._all_on_the_platform(case)
            end = case.now
        self.note_stage(case, name, begin, end, waited)
        return True

    def _all_on_the_platform(self, case: Case) -> Steps:
        """D2 ends when the exporter finds every declaration there. Where the ledger stood still, customs is behind
        with its feed: the exporter looks again after each of its deliveries. Returns how long that took, in ns.
        """
        begin = case.now
        while not self._awaited.isdisjoint([d.token for d in case.application.declarations]):
            yield self.env.timeout(FEED_NS)
        case.ledger_ns += case.now - begin
        return case.now - begin

    def until_secured(self, application: int) -> Steps:
        """Wait until an honest application has its reservation, or will never have one."""
        while application not in self.secured and application not in self.rows.applications:
            yield self.env.timeout(FEED_NS)

    def note_stage(self, case: Case, name: str, begin_ns: int, end_ns: int, waiting_ns: int) -> None:
        """One row of the stages table."""
        self.rows.stage(case.application.number, name, begin_ns, end_ns, waiting_ns)

    # --- accounts ---

    def frauds(self) -> dict[str, dict[str, Any]]:
        """kind -> injected, caught, missed, and whether a ledger of members' declarations could see it at all."""
        found: dict[str, dict[str, Any]] = {}
        for a in self.workload.applications:
            if a.kind and (a.number in self.rows.applications):
                row = found.setdefault(
                    a.kind, {"injected": 0, "caught": 0, "missed": 0, "in_scope": a.kind not in OUT_OF_SCOPE}
                )
                row["injected"] += 1
                row["caught" if self.verdicts.get(a.number) else "missed"] += 1
        return dict(sorted(found.items(), key=lambda item: int(item[0][1:])))

    def false_alarms(self) -> int:
        """Honest applications that were refused."""
        honest = (a for a in self.workload.applications if not a.kind)
        return sum(self.rows.applications.get(a.number, _NONE)[12] == "rejected" for a in honest)


_NONE: Final = ("",) * 16
