"""`tradebft validate SCENARIO`: the scenario on real members of this machine, beside what the simulator predicts.

The prediction uses costs that are measured here first (`service.calibrate`, `service.envelopes`), members that work in
turns as real ones do, and one machine whose processors all of them and the client share (`network.turns`). Nothing in
it is fitted to what it is compared with.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any, Final, NamedTuple

from tradebft.lab import metrics
from tradebft.lab.processors import processors
from tradebft.lab.progress import Progress, silent
from tradebft.network.costs import CpuCosts
from tradebft.network.turns import BrokerCosts, MachineCosts
from tradebft.scenarios import buses
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.loading import with_changes
from tradebft.scenarios.run import execute, on_one_machine
from tradebft.scenarios.schema import Scenario, Synthetic
from tradebft.service import calibrate, disturbance, envelopes, writing
from tradebft.service.disturbance import Pace, disturb
from tradebft.service.envelopes import EnvelopeCosts
from tradebft.service.writing import Writes

WRITES: Final = 400
PACE_SECONDS: Final = 0.05
BUSES: Final = ("local", "mqtt")
WITHIN: Final = {"client_ms.p50": 0.15, "client_ms.p99": 0.30, "committed_per_second": 0.15}
"""How far a prediction may lie from the measurement and still be called good."""


def check(scenario: Scenario, bus: str) -> Synthetic:
    """Its workload; ScenarioError where no comparison is to be had."""
    buses.check(scenario, bus)
    if bus not in BUSES or not isinstance(scenario.workload, Synthetic):
        raise ScenarioError(f"{scenario.name}: expected synthetic load over one of {', '.join(BUSES)}")
    delay = getattr(scenario.network.links, "delay_ns", None)
    if delay != 0 or scenario.network.loss or scenario.network.client_links is not None:
        raise ScenarioError(
            f"{scenario.name}: network.links: expected a constant delay of 0 without loss: the machine's own network"
        )
    return scenario.workload


class Measured(NamedTuple):
    """This machine: costs as multiples of the pieces of work that go with them (`disturbance.Pace`), and wall times of
    durable writes and hops in ns."""

    first: dict[str, float]
    again: dict[str, float]
    writes: Writes
    envelopes: EnvelopeCosts


def measure(bus: str, nodes: int, requests: int = 1, request_bytes: int = 200) -> Measured:
    """The machine, for so many members over *bus* that decide on batches of so many requests. Takes ten seconds to
    half a minute."""
    return Measured(
        calibrate.computing(),
        calibrate.computing(again=True),
        writing.writes(nodes, WRITES, requests, request_bytes),
        envelopes.over_local() if bus == "local" else envelopes.over_mqtt(),
    )


def machine(found: Sequence[Measured], pace: Pace, bus: str) -> MachineCosts:
    """The average of what was *found*, at that *pace*, as a simulation knows it."""

    def computing(which: str) -> CpuCosts:
        costs: list[dict[str, float]] = [getattr(one, which) for one in found]
        names = ("message", "kilobyte", "sign", "verify", "chain")
        return CpuCosts(*(round(mean(cost[name] for cost in costs) * pace.of(name)) for name in names))

    def other(values: Iterable[float]) -> int:
        return round(mean(values) * pace.other)

    def envelope(name: str) -> int:
        return other(getattr(one.envelopes, name) for one in found)

    broker = BrokerCosts(envelope("rouse"), envelope("take"), envelope("give"))
    return MachineCosts(
        cores=1 if bus == "local" else processors(),
        cpu=computing("first"),
        again=computing("again"),
        wake_ns=envelope("wake"),
        speak_ns=envelope("speak"),
        seal_ns=envelope("seal"),
        open_ns=envelope("open"),
        writes_ns=tuple(round(took) for one in found for took in one.writes.wall),
        write_cpu_ns=other(one.writes.processor for one in found),
        record_ns=other(one.writes.record for one in found),
        hop_ns=round(mean(one.envelopes.hop for one in found)),
        broker=None if bus == "local" else broker,
    )


class _Watching:
    """In place of a progress bar: now and then a piece of work, to see how fast the machine is."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, what: str, done: float, total: float) -> None:
        if time.perf_counter() - self._last > PACE_SECONDS:
            disturb()
            self._last = time.perf_counter()


def validate(scenario: Scenario, bus: str, repeats: int = 3, progress: Progress = silent) -> dict[str, Any]:
    """Predicted and measured, each with `client_ms`, `committed_per_second`, `messages` and `cpu_seconds` (a node, on
    average); and by which share the prediction is off.

    The machine is measured before, between and after *repeats* real runs, and its pace during these as well: what is
    shared with others is not the same from minute to minute. `measured` is the average of the runs, which are in `runs`
    one by one.
    """
    workload = check(scenario, bus)
    requests = min(scenario.consensus.batch_size, workload.clients * workload.outstanding)
    steps = 2 * repeats + 2
    found, runs, paces, complete = [], [], [], True
    for step in range(2 * repeats + 1):
        progress("measuring and running", step, steps)
        if step % 2 == 0:
            found.append(measure(bus, len(scenario.node_names), requests, workload.payload_bytes))
            continue
        disturbance.pace()
        happened = execute(scenario, _Watching(), bus)
        paces.append(disturbance.pace())
        complete = complete and happened.complete
        seconds = [one["cpu_seconds"] for one in happened.live["members"]]
        runs.append(_figures(metrics.document(happened), seconds))
    on = machine(found, Pace(*(mean(kind) for kind in zip(*paces, strict=True))), bus)
    progress("predicting", steps - 1, steps)
    there = {"network.links": {"model": "constant", "delay": f"{on.hop_ns} ns"}}
    foreseen, busy = on_one_machine(with_changes(scenario, there), workload, on, silent)
    predicted, measured = _figures(metrics.document(foreseen), busy), _mean_of(runs)
    progress("predicting", steps, steps)
    error = {key: _at(predicted, key) / _at(measured, key) - 1 for key in WITHIN}
    return {
        "scenario": scenario.name,
        "bus": bus,
        "nodes": len(scenario.node_names),
        "batch_size": scenario.consensus.batch_size,
        "outstanding": workload.clients * workload.outstanding,
        "complete": complete,
        "machine": _told(on),
        "predicted": predicted,
        "measured": measured,
        "runs": runs,
        "error": error,
        "within": {key: abs(error[key]) <= bound for key, bound in WITHIN.items()},
    }


def _mean_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same figures, each the mean over *runs*."""
    return {
        key: _mean_of([run[key] for run in runs])
        if isinstance(value, Mapping)
        else mean(run[key] for run in runs)
        for key, value in runs[0].items()
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
    names = ("message", "kilobyte", "sign", "verify", "execute")
    return {
        "cores": on.cores,
        **{name: getattr(on.cpu, f"{name}_ns") for name in names},
        "again": {name: getattr(on.again, f"{name}_ns") for name in names},
        "speak": on.speak_ns,
        "seal": on.seal_ns,
        "wake": on.wake_ns,
        "open": on.open_ns,
        "write": round(mean(on.writes_ns)),
        "record": on.record_ns,
        "hop": on.hop_ns,
        "broker": None
        if on.broker is None
        else {"wake": on.broker.wake_ns, "take": on.broker.take_ns, "give": on.broker.give_ns},
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
