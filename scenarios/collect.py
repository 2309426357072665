"""What a finished network leaves behind, as records; and how a run is driven and told about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import polars as pl
from tradebft.chain.codec import CodecError, decode
from tradebft.chain.receipt import Receipt
from tradebft.network.cluster import Cluster
from tradebft.network.node import ClientNode
from tradebft.scenarios import records as tables
from tradebft.scenarios import simulation
from tradebft.scenarios.records import Records
from tradebft.scenarios.schema import Scenario

Progress = Callable[[str, float, float], None]
_SLICES: Final = 200


def settling_time(scenario: Scenario) -> int:
    """How long the last messages may take to arrive once load has ended (ns): no load is offered in it. What was asked
    for last may wait to fill a batch."""
    consensus = scenario.consensus
    return max(4 * consensus.view_change_timeout_ns, 2 * consensus.batch_timeout_ns)


def drive(
    cluster: Cluster,
    until_ns: int,
    done: Callable[[], int],
    total: int,
    progress: Progress,
    stop: Any,
) -> None:
    """Run until *stop* happens or *until_ns*, and tell *progress* on the way."""
    env = cluster.env
    env.process(_report(cluster, done, total, progress))
    limit = env.timeout(max(1, until_ns - env.time))
    env.run(until=env.any_of([stop, limit]))
    progress("simulating", done(), total)


def _report(cluster: Cluster, done: Callable[[], int], total: int, progress: Progress) -> Any:
    # In virtual time a run may take milliseconds or years: look often at first, then ever more rarely.
    pause = 1_000_000
    while True:
        before = done()
        yield cluster.env.timeout(pause)
        progress("simulating", done(), total)
        if done() - before <= total / _SLICES:  # total is 0 where a workload of the user's own cannot tell
            pause *= 2


def collect(records: Records, scenario: Scenario, cluster: Cluster) -> None:
    """Fill in what the network recorded."""
    recorder = cluster.recorder
    records.engine_why = cluster.handed_over
    records.places = simulation.map_of(scenario)
    records.edges = _edges(scenario, cluster)
    records.trace_digest = recorder.trace.hex()
    records.virtual_ns = cluster.env.time
    records.messages = dict(sorted(recorder.messages.items()))
    records.bytes_sent = recorder.bytes_sent
    records.view_changes = recorder.view
    records.ignored = dict(sorted(recorder.ignored.items()))
    records.dropped = {cause: n for cause, n in sorted(recorder.dropped.items()) if n}
    records.evidence = recorder.evidence
    records.faults = _faults(scenario)
    records.decisions = _decisions(cluster)
    records.requests = _requests(cluster.clients)
    records.round = _round(scenario, cluster)
    records.invariants_checked = list(cluster.invariants)
    records.violations = [
        {"invariant": v.invariant, "at_ns": v.at_ns, "replica": v.replica, "what": v.what}
        for v in cluster.checker.violations
    ]


def _edges(scenario: Scenario, cluster: Cluster) -> list[tuple[str, str]]:
    names = endpoint_names(scenario, cluster)
    edges = cluster.settings.wire.topology.edges() if len(scenario.node_names) <= 64 else []
    first = len(scenario.node_names)
    later = range(first, first + cluster.settings.spare)  # the picture shows the network as it begins
    return [(names[a], names[b]) for a, b in edges if a not in later and b not in later]


def endpoint_names(scenario: Scenario, cluster: Cluster) -> list[str]:
    """The name of every endpoint by index: replicas, clients, relays."""
    relays = cluster.settings.wire.topology.relays
    first = len(scenario.node_names)
    later = [f"replica.{first + k}" for k in range(cluster.settings.spare)]
    return [*scenario.node_names, *later, *cluster.clients, *(["broker"] * relays)]


def _faults(scenario: Scenario) -> list[tuple[int, int, str, str]]:
    rows: list[tuple[int, int, str, str]] = []
    for fault in scenario.faults:
        end = -1 if fault.for_ns is None else fault.at_ns + fault.for_ns
        who = " | ".join(", ".join(group) for group in fault.groups)
        rows.append((fault.at_ns, end, fault.kind, who))
    for one in scenario.byzantine:
        end = -1 if one.for_ns is None else one.at_ns + one.for_ns
        rows.append((one.at_ns, end, f"byzantine {one.behaviour}", ", ".join(one.node)))
    return rows


def _decisions(cluster: Cluster) -> pl.DataFrame:
    rows = [
        (d.seq, d.view, d.transactions, d.bytes, d.proposed_ns, d.quorum_ns, d.all_ns)
        for d in sorted(cluster.recorder.decisions.values(), key=lambda d: d.seq)
        if d.transactions
    ]
    return tables.table(tables.DECISION_COLUMNS, rows)


def _requests(clients: dict[str, ClientNode]) -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for name, client in clients.items():
        rows += (
            (name, place + 1, r.intended_ns, r.submitted_ns, r.replied_ns, r.seq, r.type, _code(r.result))
            for place, r in enumerate(client.records)
        )
    rows.sort(key=lambda row: (row[2], row[0], row[1]))
    return tables.table(tables.REQUEST_COLUMNS, rows)


def _code(result: bytes) -> str:
    if not result:
        return ""
    try:
        return decode(result, Receipt).code
    except CodecError:
        return ""


def _round(scenario: Scenario, cluster: Cluster) -> pl.DataFrame:
    """The messages of one decision, from its requests to its replies."""
    names = endpoint_names(scenario, cluster)
    seq = cluster.recorder.round_seq
    rows = cluster.recorder.round
    columns = {  # one after the other: a thousand members send two million messages
        "kind": (type(m).__name__ for m, _, _, _, _ in rows),
        "sender": (names[sender] for _, sender, _, _, _ in rows),
        "receiver": (names[receiver] for _, _, receiver, _, _ in rows),
        "sent_ns": (sent for _, _, _, sent, _ in rows),
        "arrived_ns": (arrived for _, _, _, _, arrived in rows),
        "view": (getattr(m, "view", 0) for m, _, _, _, _ in rows),
        "seq": (seq for _ in rows),
    }
    types = tables.ROUND_COLUMNS
    return pl.DataFrame({name: pl.Series(name, [*values], types[name]) for name, values in columns.items()})
