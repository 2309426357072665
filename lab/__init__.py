"""What is learned from a run: metrics, figures, a report, a results folder.

This room reads `scenarios.records.Records` and nothing else: never a replica, a ledger or a clock. The same
records give the same document, the same figures byte for byte and the same report, on the day of the run or
a year later from the results folder.

    from tradebft.lab import run

    r = run("guizhou", seed=1, set={"consensus.batch_size": 10})
    r.document["processes"]["chain"]["new_customer_days"]["p50"]
    r.applications                      # a polars data frame, likewise requests, decisions, stages
    r.save("results/guizhou")           # result.json, tables, figures, report.html

Duties of a caller: none. `run` raises `ScenarioError` for a scenario that cannot run and `ResultsError` for a
results folder that cannot be written or read; both are one line that a person can act on.
"""

from tradebft.lab.results import ResultsError
from tradebft.lab.run import Run, run

__all__ = ["ResultsError", "Run", "run"]
