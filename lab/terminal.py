"""What a person reads in the terminal after a run: the comparison, the network, the frauds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from tradebft.lab import findings, wording

if TYPE_CHECKING:
    from tradebft.lab.gate import Verdict
    from tradebft.lab.run import Run
    from tradebft.lab.sweep import Sweep
    from tradebft.lab.tune import Tuned
    from tradebft.scenarios.catalogue import Entry

DAY_MS = 86_400_000.0
POINTS_SHOWN = 40
DIGEST_SHOWN = 10
WIDEST = 10_000


def comparison(finished: Run) -> None:
    """Print the arms side by side, then a line each on consensus, frauds and invariants."""
    document = finished.document
    console = Console(highlight=False)
    title = document.get("title") or document["scenario"]
    console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    which = f"real time over the {document['bus']} bus" if findings.real(document) else "virtual time"
    console.print(f"seed {document['seed']}, {_days(document)} of {which}\n", markup=False)
    arms = [arm for arm in wording.ARM_NAMES if document["processes"].get(arm, {}).get("applications")]
    if arms:
        _whole(console, _arms_table(document, finished.applications, arms))
        console.print()
        for line in findings.unfinished(document):
            console.print(line, markup=False, soft_wrap=True)
        _sensitivity(console, document)
    for line in (
        _network_line(document),
        _latency_line(document),
        _fraud_line(document),
        _invariants(document),
    ):
        if line:
            console.print(line, markup=False, soft_wrap=True)
    if document.get("points"):
        _whole(console, _points_table(document))


def _days(document: Mapping[str, Any]) -> str:
    return wording.duration(document["virtual_seconds"] / 86_400)


def _arms_table(document: Mapping[str, Any], applications: pl.DataFrame, arms: list[str]) -> Table:
    """Days from application to money, and what they bought."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("days to money,\np50 / p90", no_wrap=True)
    for heading in (
        "new\ncustomers",
        "existing\ncustomers",
        "new within\n7 days",
        "frauds\npaid out",
        "waits for\nledger",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in arms:
        figures = document["processes"][arm]
        share = figures.get("within_7_days")
        table.add_row(
            wording.arm(arm),
            _percentiles(figures["new_customer_days"]),
            _percentiles(figures["existing_customer_days"]),
            "-" if share is None else f"{share:.0%}",
            _frauds_paid(applications, arm),
            _ledger_wait(figures.get("ledger_ms", {})),
        )
    return table


def _percentiles(distribution: Mapping[str, Any]) -> str:
    if not distribution["count"]:
        return "-"
    median, ninety = distribution["p50"], distribution["p90"]
    if median >= 1 and ninety >= 1:
        return f"{median:.1f} / {ninety:.1f} d"
    return f"{_days_or_hours(median)} / {_days_or_hours(ninety)}"


def _days_or_hours(days: float) -> str:
    """Half an hour is not nought point nought days."""
    return f"{days:.1f} d" if days >= 1 else f"{24 * days:.1f} h"


def _frauds_paid(applications: pl.DataFrame, arm: str) -> str:
    frauds = applications.filter((pl.col("arm") == arm) & (pl.col("kind") != ""))
    if frauds.height == 0:
        return "-"
    paid = frauds.filter(pl.col("outcome") == "disbursed").height
    return f"{paid} of {frauds.height}"


def _ledger_wait(milliseconds: Mapping[str, Any]) -> str:
    """Median time one application waits for the ledger, all its steps together."""
    if not milliseconds.get("count"):
        return "-"
    return wording.milliseconds(milliseconds["p50"])


def _sensitivity(console: Console, document: Mapping[str, Any]) -> None:
    """The paper arm is calibrated, not measured: never print its median without the band."""
    band = document["processes"].get("sensitivity", {}).get("paper", {})
    low, high = (band.get(end, {}).get("existing_customer_days") for end in ("low", "high"))
    if isinstance(low, int | float) and isinstance(high, int | float):
        console.print(
            f"The paper arm is calibrated, not measured: with every low-confidence stage at its low or high end,"
            f" existing customers wait {low:.1f} to {high:.1f} days.",
            markup=False,
            soft_wrap=True,
        )


def _points_table(document: Mapping[str, Any]) -> Table:
    """One row a point, the mean over its seeds: transactions a second, client latency, longest silence, view changes,
    requests without an answer."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in document["points"]:
        groups.setdefault(tuple(_short(value) for value in row["at"].values()), []).append(row)
    headings = (
        "committed /s",
        "client p50",
        "client p99",
        "longest silence",
        "view changes",
        "unanswered",
    )
    shown = [
        [
            *values,
            _mean([row["committed_per_second"] for row in rows], lambda value: wording.digits(value, 4)),
            _mean([row["client_ms"]["p50"] for row in rows], wording.milliseconds),
            _mean([row["client_ms"]["p99"] for row in rows], wording.milliseconds),
            _mean([row["longest_silence_ms"] for row in rows], wording.milliseconds),
            _mean([row["view_changes"] for row in rows], lambda value: wording.digits(value, 3)),
            _mean([row["unanswered"] for row in rows], lambda value: wording.digits(value, 3)),
        ]
        for values, rows in groups.items()
    ]
    return _settings_and_figures(list(document["points"][0]["at"]), headings, shown)


def _short(value: Any) -> str:
    """A value that was varied; of a list, how long it is."""
    return f"{len(value)} of them" if isinstance(value, list | tuple) else str(value)


def _mean(values: list[Any], show: Callable[[float], str]) -> str:
    found = [value for value in values if value is not None]
    return show(sum(found) / len(found)) if found else "-"


def _network_line(document: Mapping[str, Any]) -> str:
    consensus = document["consensus"]
    return (
        f"consensus: {document['protocol']}, {wording.count(document['nodes'], 'node')}"
        f" (f = {document['faults_tolerated']}, quorum {document['quorum']}),"
        f" {wording.count(consensus['transactions'], 'transaction')}"
        f" in {wording.count(consensus['decided_batches'], 'batch', 'batches')},"
        f" {wording.count(consensus['messages']['total'], 'message')},"
        f" {wording.count(consensus['view_changes'], 'view change')}"
    )


def _latency_line(document: Mapping[str, Any]) -> str:
    parts = []
    for key, meaning in (("decision_ms", "decided after"), ("client_ms", "client answered after")):
        latency = document["consensus"][key]
        if latency["count"]:
            p50, p99 = (wording.milliseconds(latency[name]) for name in ("p50", "p99"))
            parts.append(f"{meaning} {p50} (p99 {p99})")
    rate = document["throughput"].get("committed_per_second")
    if rate:
        parts.append(wording.rate(rate))
    return f"latency: {', '.join(parts)}" if parts else ""


def _fraud_line(document: Mapping[str, Any]) -> str:
    frauds = document["fraud"]
    if not frauds:
        return ""
    inside = [figures for figures in frauds.values() if figures["in_scope"]]
    outside = [figures for figures in frauds.values() if not figures["in_scope"]]
    caught, injected = (sum(figures[key] for figures in inside) for key in ("caught", "injected"))
    line = f"frauds and errors: {caught} of {injected} in the ledger's scope caught"
    if outside:
        line += f", {sum(figures['missed'] for figures in outside)} outside its scope missed"
    return f"{line}; {document['false_alarms']} false alarms"


def _invariants(document: Mapping[str, Any]) -> str:
    violations = document["invariants"]["violations"]
    if violations:
        return f"VIOLATED: {len(violations)} invariant violation(s), first: {violations[0]}"
    checked = len(document["invariants"]["checked"])
    return f"invariants: {checked} checked, none violated" if checked else ""


def questions(entries: Iterable[Entry]) -> None:
    """The catalogue: a name and its question a row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario", no_wrap=True)
    table.add_column("question")
    for entry in entries:
        table.add_row(entry.name, entry.question)
    Console(highlight=False, markup=False).print(table)


def sweep(found: Sweep) -> None:
    """Print a sweep's points, each with its 95 % interval, and where everything is."""
    console = Console(highlight=False)
    plan = found.plan
    console.print(
        f"{plan.name}: {found.runs.height} of {plan.size} runs, {plan.points} points, seeds {plan.first_seed} to"
        f" {plan.first_seed + plan.seeds - 1}\n",
        markup=False,
    )
    keys = [key for key, _ in plan.grid]
    rows = [
        [str(row[f"at.{key}"]) for key in keys] + [_with_interval(row, metric) for metric in found.metrics]
        for row in found.points.to_dicts()[:POINTS_SHOWN]
    ]
    _whole(console, _settings_and_figures(keys, [*map(wording.figure, found.metrics)], rows))
    if found.points.height > POINTS_SHOWN:
        console.print(f"... and {found.points.height - POINTS_SHOWN} points more", markup=False)
    console.print(f"\ntable: {found.folder / 'sweep.parquet'}", markup=False, soft_wrap=True)


def _settings_and_figures(
    keys: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]]
) -> Table:
    """Settings by dotted key, then figures by their names; headings in lines as long as the longest word or value."""
    names = _last_parts(keys)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate([*names, *figures]):
        widest = max(map(len, [*heading.split(), *(row[place] for row in rows)]), default=0)
        lines = "\n".join(wrap(heading, max(widest, 1)))
        table.add_column(lines, justify="left" if place < len(names) else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _last_parts(keys: Sequence[str]) -> list[str]:
    """Of each key what comes after the last dot, where that tells them apart."""
    short = [key.rpartition(".")[2].replace("_", " ") for key in keys]
    return [name if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)]


def _whole(console: Console, table: Table) -> None:
    """Print a table with nothing left out: where the terminal is too narrow, lines break there. A pipe, and so a log of
    CI, counts as 80 columns."""
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _with_interval(row: Mapping[str, Any], metric: str) -> str:
    mean, high = row[metric], row[f"{metric}.high"]
    if mean is None:
        return "-"
    if high is None:
        return wording.digits(mean, 4)
    return f"{wording.digits(mean, 4)} \u00b1 {wording.digits(high - mean, 2)}"


def moved(verdict: Verdict) -> None:
    """Print what moved since the baseline, and why it may have."""
    console = Console(highlight=False)
    if not verdict.moved:
        console.print(f"nothing moved: {', '.join(verdict.now.scenarios)}", markup=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure")
    for heading in ("was", "is", "by"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in verdict.moved:
        by = "" if one.percent is None else f"{wording.digits(one.percent, 3, '+')} %"
        cells = (f"{one.scenario}: {one.key}", _figure(one.before), _figure(one.now), by)
        table.add_row(*map(escape, cells), "beyond" if one.beyond else "allowed")
    _whole(console, table)
    for reason in verdict.reasons:
        console.print(reason, markup=False, soft_wrap=True)


def _figure(value: object) -> str:
    if value is None:
        return "-"
    return wording.digits(value, 6) if isinstance(value, float) else str(value)[:DIGEST_SHOWN]


def tuned(found: Tuned, folder: Path) -> None:
    """Print what the scenario's own settings show, and what the best that were found do."""
    console = Console(highlight=False)
    keys = [one.key for one in found.dimensions]
    figures = list(found.figures(0))
    rows = []
    for name, number in {"as it is": 0, **dict(islice(found.files.items(), POINTS_SHOWN))}.items():
        setting, row = found.setting(number), found.trials.row(number, named=True)
        rows.append([name, *(setting[key] for key in keys), *(_figure(row[key]) for key in figures)])
    _whole(console, _settings_and_figures(["", *keys], [*map(wording.figure, figures)], rows))
    if len(found.files) > POINTS_SHOWN:
        console.print(f"... and {len(found.files) - POINTS_SHOWN} more", markup=False)
    console.print(f"\nbest settings and all trials: {folder}", markup=False, soft_wrap=True)
