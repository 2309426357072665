"""`tradebft validate SCENARIO`: the scenario on real members of this machine, beside what the simulator predicts.

The prediction uses costs that are measured here first (`service.calibrate`, `service.envelopes`), members that work in
turns as real ones do, and one machine whose processors all of them and the client share (`network.turns`). Nothing in
it is fitted to what it is compared with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from statistics import mean
from typing import Any, Final

from tradebft.lab import metrics
from tradebft.lab.progress import Progress, silent
from tradebft.network.costs import CpuCosts
from tradebft.network.turns import MachineCosts
from tradebft.scenarios import live
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.loading import with_changes
from tradebft.scenarios.run import execute, on_one_machine
from tradebft.scenarios.schema import Scenario, Synthetic
from tradebft.service import calibrate, envelopes

WRITES: Final = 1200
REQUEST_BYTES: Final = 100  # of a request beside its operation: client, number, signature
BUSES: Final = ("local", "mqtt")
WITHIN: Final = {"client_ms.p50": 0.15, "client_ms.p99": 0.30, "committed_per_second": 0.15}
"""How far a prediction may lie from the measurement and still be called good."""


def check(scenario: Scenario, bus: str) -> Synthetic:
    """Its workload; ScenarioError where no comparison is to be had."""
    live.check(scenario, bus)
    if bus not in BUSES or not isinstance(scenario.workload, Synthetic):
        raise ScenarioError(f"{scenario.name}: expected synthetic load over one of {', '.join(BUSES)}")
    delay = getattr(scenario.network.links, "delay_ns", None)
    if delay != 0 or scenario.network.loss or scenario.network.client_links is not None:
        raise ScenarioError(
            f"{scenario.name}: network.links: expected a constant delay of 0 without loss: the machine's own network"
        )
    return scenario.workload


def machine(bus: str, nodes: int, batch_bytes: int = 300) -> MachineCosts:
    """This machine, as a simulation of so many members over *bus* knows it. Takes some ten seconds to measure."""
    costs = calibrate.computing()
    written = calibrate.writes(nodes, WRITES, batch_bytes)
    writes = tuple(round(took) for took in written.wall)
    travel = envelopes.over_local() if bus == "local" else envelopes.over_mqtt()
    cpu = CpuCosts(
        *(round(costs[name]) for name in ("message", "kilobyte", "sign", "verify", "chain")),
    )
    cores = 1 if bus == "local" else len(os.sched_getaffinity(0))
    seal, opening, hop = map(round, travel)
    return MachineCosts(cores, cpu, seal, opening, writes, round(written.processor), hop)


def validate(
    scenario: Scenario, bus: str, on: MachineCosts | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Predicted and measured, each with `client_ms`, `committed_per_second`, `messages` and `cpu_seconds` (a node, on
    average); and by which share the prediction is off. *on*: the machine, if it was measured before."""
    workload = check(scenario, bus)
    if on is None:
        requests = min(scenario.consensus.batch_size, workload.clients * workload.outstanding)
        on = machine(bus, len(scenario.node_names), requests * (workload.payload_bytes + REQUEST_BYTES))
    there = {"network.links": {"model": "constant", "delay": f"{on.hop_ns} ns"}}
    foreseen, busy = on_one_machine(with_changes(scenario, there), workload, on, progress)
    happened = execute(scenario, progress, bus)
    predicted = _figures(metrics.document(foreseen), busy)
    seconds = [one["cpu_seconds"] for one in happened.live["members"]]
    measured = _figures(metrics.document(happened), seconds)
    error = {key: _at(predicted, key) / _at(measured, key) - 1 for key in WITHIN}
    return {
        "scenario": scenario.name,
        "bus": bus,
        "nodes": len(scenario.node_names),
        "batch_size": scenario.consensus.batch_size,
        "outstanding": workload.clients * workload.outstanding,
        "complete": happened.complete,
        "machine": _told(on),
        "predicted": predicted,
        "measured": measured,
        "error": error,
        "within": {key: abs(error[key]) <= bound for key, bound in WITHIN.items()},
    }


def _figures(document: Mapping[str, Any], cpu_seconds: list[float]) -> dict[str, Any]:
    return {
        "client_ms": document["consensus"]["client_ms"],
        "committed_per_second": document["throughput"]["committed_per_second"],
        "messages": document["consensus"]["messages"]["total"],
        "cpu_seconds": mean(cpu_seconds) if cpu_seconds else 0.0,
    }


def _at(figures: Mapping[str, Any], key: str) -> float:
    value: Any = figures
    for part in key.split("."):
        value = value[part]
    return float(value)


def _told(on: MachineCosts) -> dict[str, Any]:
    cpu = {
        name: getattr(on.cpu, f"{name}_ns") for name in ("message", "kilobyte", "sign", "verify", "execute")
    }
    return {
        "cores": on.cores,
        **cpu,
        "seal": on.seal_ns,
        "open": on.open_ns,
        "write": round(mean(on.writes_ns)),
        "hop": on.hop_ns,
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The comparison for people, a line a figure."""
    told = [
        f"{found['scenario']}: {found['nodes']} members over {found['bus']}, batches of up to {found['batch_size']},"
        f" {found['outstanding']} outstanding",
        f"{'':24}{'predicted':>12}{'measured':>12}{'off by':>9}",
    ]
    for key, unit in _SHOWN.items():
        predicted, measured = _at(found["predicted"], key), _at(found["measured"], key)
        off = f"{100 * (predicted / measured - 1):+.0f} %" if measured else ""
        told.append(f"{unit:24}{predicted:12,.4g}{measured:12,.4g}{off:>9}")
    return told


_SHOWN: Final = {
    "client_ms.p50": "client latency p50, ms",
    "client_ms.p99": "client latency p99, ms",
    "committed_per_second": "committed a second",
    "messages": "messages",
    "cpu_seconds": "processor s a member",
}
