"""The three arms of a trade-finance scenario, side by side, and what they leave behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import simpy
from tradebft.chain.genesis import Genesis
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules import invariants
from tradebft.network.application import LedgerApplication
from tradebft.network.cluster import Cluster
from tradebft.network.engines import first_that_covers
from tradebft.network.recorded import RecordedBlock, RecordingLedger
from tradebft.scenarios import records as tables
from tradebft.scenarios import simulation
from tradebft.scenarios.collect import Progress, collect, drive, settling_time
from tradebft.scenarios.demand import GATEWAYS
from tradebft.scenarios.records import Records
from tradebft.scenarios.schema import Scenario, TradeFinance
from tradebft.scenarios.trade.ledger_arm import LedgerArm
from tradebft.scenarios.trade.office import Office
from tradebft.scenarios.trade.paper_arm import run_paper
from tradebft.scenarios.trade.rows import Rows
from tradebft.scenarios.trade.sensitivity import band
from tradebft.scenarios.trade.services import ChainLedger, DatabaseLedger
from tradebft.scenarios.trade.workload import Workload, generate


@dataclass(slots=True)
class Recording:
    """The chain arm's ledger as it began, and every block that was executed."""

    genesis: Genesis | None = None
    signatories: tuple[str, ...] = ()
    blocks: list[RecordedBlock] = field(default_factory=list)


def run_trade_finance(
    scenario: Scenario,
    demand: TradeFinance,
    records: Records,
    progress: Progress,
    recording: Recording | None = None,
    engine: str = "reference",
) -> Records:
    """Run the arms that *demand* names, in the order paper, database, chain, and fill *records* and *recording*."""
    workload = generate(scenario, demand)
    rows: list[Rows] = []
    try:
        if "paper" in demand.arms:
            progress("paper arm", 0, 1)
            rows.append(run_paper(workload))
        if demand.sensitivity:
            records.sensitivity = _sensitivity(workload, demand)
        if "database" in demand.arms or demand.coverage_points:
            _database(workload, demand, rows, records, progress)
        if "chain" in demand.arms:
            ran, arm, why = first_that_covers(
                engine,
                len(scenario.node_names),
                partial(_chain, scenario, workload, records, progress, recording),
            )
            records.ran_by(ran, why)
            rows.append(arm.rows)
    except KeyboardInterrupt:
        records.complete = False
    records.applications = _applications(rows, workload)
    records.stages = tables.table(tables.STAGE_COLUMNS, [row for arm in rows for row in arm.stages])
    return records


def _applications(rows: list[Rows], workload: Workload) -> pl.DataFrame:
    for arm in rows:
        for a in workload.applications:
            if a.number not in arm.applications:
                arm.finished(a, -1, "unfinished")
    found = [arm.applications[number] for arm in rows for number in sorted(arm.applications)]
    return tables.table(tables.APPLICATION_COLUMNS, found)


# --- database ---


def _database(
    workload: Workload, demand: TradeFinance, rows: list[Rows], records: Records, progress: Progress
) -> None:
    steps = 1 + len(demand.coverage_points)
    known: dict[float, dict[str, dict[str, Any]]] = {}
    if "database" in demand.arms:
        progress("database arm", 0, steps)
        arm, service = _run_database(workload, feed=True)
        rows.append(arm.rows)
        known[demand.bank_coverage] = arm.frauds()  # the point at the scenario's own coverage is this arm
        if "chain" not in demand.arms:  # else the chain's will stand there
            _account(records, arm, service.ledger, service.codes)
    for place, coverage in enumerate(demand.coverage_points, start=1):
        progress("frauds by coverage", place, steps)
        if coverage not in known:
            known[coverage] = _run_database(workload.at_coverage(coverage), feed=False)[0].frauds()
        records.coverage += (
            {"coverage": coverage, "kind": kind, **counts} for kind, counts in known[coverage].items()
        )
    progress("database arm", steps, steps)


def _run_database(workload: Workload, feed: bool) -> tuple[LedgerArm, DatabaseLedger]:
    env = simpy.Environment(initial_time=0)
    office = Office(workload)
    service = DatabaseLedger(env, Ledger(office.genesis(), office.keyring), workload.epoch_ns)
    arm = LedgerArm("database", env, workload, office, service)
    arm.start(feed)
    env.run(until=env.any_of([arm.all_done, env.timeout(workload.end_ns)]))
    return arm, service


# --- chain ---


def _chain(
    scenario: Scenario,
    workload: Workload,
    records: Records,
    progress: Progress,
    recording: Recording | None,
    engine: str,
) -> LedgerArm:
    office = Office(workload)
    ledgers: list[Ledger] = []
    codes: dict[str, int] = {}
    broken: list[Any] = []

    def observe(_: Any, applied: Any) -> None:
        for receipt in applied.receipts:
            codes[receipt.code] = codes.get(receipt.code, 0) + 1
        broken.extend(invariants.check_touched(ledgers[0], applied))

    def application() -> LedgerApplication:
        ledger = Ledger(office.genesis(), office.keyring)
        first = not ledgers
        ledgers.append(ledger)
        if first and recording is not None:
            recording.genesis, recording.signatories = ledger.genesis, tuple(office.signers)
            return RecordingLedger(recording.blocks, ledger, observe, workload.epoch_ns)
        return LedgerApplication(ledger, observe if first else None, workload.epoch_ns)

    gateways = [*GATEWAYS, *sorted(workload.members)]
    cluster = simulation.cluster(scenario, gateways, application, engine=engine)
    service = ChainLedger(cluster)
    arm = LedgerArm("chain", cluster.env, workload, office, service)
    try:
        arm.start()
        expected = len(workload.feed) + 8 * len(workload.applications)
        drive(cluster, workload.end_ns, lambda: _answered(cluster), expected, progress, arm.all_done)
        cluster.settle(settling_time(scenario))
    except KeyboardInterrupt:
        records.complete = False
    cluster.finish()
    collect(records, scenario, cluster)
    _account(records, arm, ledgers[0], codes)
    records.invariants_checked += list(invariants.NAMES)
    for violation in [*broken, *invariants.check(ledgers[0])]:
        what = f"{violation.about}: {violation.why}"
        records.violations.append(
            {"invariant": violation.invariant, "at_ns": -1, "replica": -1, "what": what}
        )
    return arm


def _answered(cluster: Cluster) -> int:
    return sum(len(client.records) - client.client.unanswered for client in cluster.clients.values())


def _account(records: Records, arm: LedgerArm, ledger: Ledger, codes: dict[str, int]) -> None:
    """The chain's figures, or the database's where no chain arm runs."""
    records.fraud = arm.frauds()
    records.false_alarms = arm.false_alarms()
    records.ledger = {
        "height": ledger.height,
        "state_root": ledger.state_root.hex(),
        "accepted": codes.get("OK", 0),
        "rejected": {code: n for code, n in sorted(codes.items()) if code != "OK"},
    }


# --- sensitivity ---


def _sensitivity(workload: Workload, demand: TradeFinance) -> dict[str, Any]:
    honest = [a for a in workload.applications if not a.kind]
    if not honest:
        return {}
    times = np.array([a.at_ns for a in honest], dtype=np.int64)
    new = np.array([a.new_customer for a in honest], dtype=bool)
    numbers = np.array([a.number for a in honest], dtype=np.int64)
    outside = np.array([a.bank not in workload.members for a in honest], dtype=bool)
    found: dict[str, Any] = {}
    for arm in demand.arms:
        process = "paper" if arm == "paper" else "digital"
        found[arm] = band(workload.workdays, times, new, numbers, workload.chance, process, outside)  # type: ignore[arg-type]
    return found
