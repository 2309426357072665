"""One call from a scenario's name to a result: load, execute, measure, check what the scenario expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from tradebft.lab import metrics, results
from tradebft.lab.progress import Progress, silent
from tradebft.scenarios.records import Records

if TYPE_CHECKING:
    from tradebft.scenarios.buses import There


@dataclass(slots=True)
class Run:
    """A finished (or interrupted) run: its result document, its records, and what it was expected to show."""

    document: dict[str, Any]
    records: Records
    failed: list[str] = field(default_factory=list)
    """One line for each `[expect]` entry that did not hold: the key, what was expected, what came out."""

    @property
    def applications(self) -> pl.DataFrame:
        """One row an application and arm (see docs/results.md for the columns of all four tables)."""
        return self.records.applications

    @property
    def requests(self) -> pl.DataFrame:
        """One row a client request."""
        return self.records.requests

    @property
    def decisions(self) -> pl.DataFrame:
        """One row a decided batch."""
        return self.records.decisions

    @property
    def stages(self) -> pl.DataFrame:
        """One row a stage of an application."""
        return self.records.stages

    def save(self, directory: str | Path, progress: Progress = silent) -> Path:
        """Write the results folder, whole or not at all. Raises ResultsError if it cannot be written."""
        return results.save(directory, self.document, self.records, progress)

    def _repr_html_(self) -> str:
        from tradebft.lab import report

        return report.summary_html(self.document)


def run(
    scenario: str | Path,
    *,
    seed: int | None = None,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    bus: str = "simulated",
    broker: str | None = None,
    broker_ca: str | Path | None = None,
    network: There | None = None,
    engine: str = "reference",
) -> Run:
    """Run a scenario and return what it left behind.

    `bus`: "simulated" (virtual time), "local" (real members in this process) or "mqtt" (each member a process
    of its own, over `broker` or a broker that the run starts; `broker_ca`: a file of certificates that it must
    descend from). `network`: one that runs already (`tradebft.service.asking.network_at`), over "mqtt".
    `engine`: what simulates, one of `tradebft.network.engines.ENGINES`; the trace digest is the same.

    `scenario` is the name of a built-in scenario or the path of a TOML file; `set` overrides dotted keys,
    such as {"consensus.batch_size": 10}; `out` is a folder to write the results to. Ctrl-C during the
    simulation gives a result with `document["complete"]` false when there is something to show, and
    KeyboardInterrupt otherwise.

    Raises ScenarioError (the scenario cannot run; one line) and ResultsError (`out` cannot be written).
    """
    from tradebft.lab import varied
    from tradebft.scenarios import buses, expect, schema
    from tradebft.scenarios.run import execute

    report_progress = progress or silent
    loaded = schema.load(scenario, dict(set or {}), seed)
    if out is not None:
        results.check_writable(out)  # before the minutes of work, not after
    given = buses.broker_of(broker, broker_ca)
    buses.check(loaded, bus, given, network)
    records = execute(loaded, report_progress, bus, given, network, engine)
    if loaded.vary:
        varied.vary(loaded, records, report_progress, engine)
    document = metrics.document(records)
    failed = expect.failures(buses.judged(loaded, bus), document)
    document["expectations_failed"] = failed
    finished = Run(document, records, failed)
    if out is not None:
        finished.save(out, report_progress)
    return finished
