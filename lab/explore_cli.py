"""The commands that explore and compare: `sweep`, `tune`, `gate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tradebft.lab.engine_option import engine_option
from tradebft.lab.overrides import overrides_of, warn
from tradebft.lab.progress import shown

if TYPE_CHECKING:
    from tradebft.lab.sweep import Plan, Sweep

OK, FAILED, INTERRUPTED = 0, 1, 130


@click.command()
@click.argument("scenario", required=False)
@click.option(
    "grids", "--grid", metavar="KEY=V1,V2,...", multiple=True, help="Values of a dotted key; repeatable."
)
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs at each point.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="The first of them.")
@click.option(
    "settings", "--set", metavar="KEY=VALUE", multiple=True, help="Override a dotted key; repeatable."
)
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes.  [default: one a processor]")
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster to run on.")
@click.option("--shard", metavar="i/N", help="Do the i-th of N parts only, as a job of an array does.")
@click.option(
    "--merge", "merged", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
    help="Make one table of the shards in these folders; repeatable.",
)  # fmt: skip
@click.option("metrics", "--metric", metavar="KEY", multiple=True, help="A figure to show; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: results/NAME-sweep-DIGEST]")
@engine_option
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress.")
def sweep(
    scenario: str | None,
    grids: Sequence[str],
    seeds: int,
    seed: int | None,
    settings: Sequence[str],
    workers: int | None,
    dask: str | None,
    shard: str | None,
    merged: Sequence[Path],
    metrics: Sequence[str],
    out: Path | None,
    engine: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run SCENARIO at every point of a grid, each under several seeds.

    A sweep that was stopped goes on where it was when the same command is given again.
    """
    from tradebft.lab import sweep as sweeping
    from tradebft.lab.sweep.plan import grid_of, shard_of
    from tradebft.scenarios.schema import load

    if merged:
        if scenario or grids:
            raise click.UsageError("--merge: the folders say which sweep it is; name no scenario and no grid")
        return _show(sweeping.merge(merged, metrics), as_json, quiet)
    if scenario is None:
        raise click.UsageError("missing argument 'SCENARIO'")
    if dask and workers:
        raise click.UsageError("--workers: a Dask cluster has its own")
    part = (1, 1) if shard is None else shard_of(shard)
    loaded = load(scenario, overrides_of(settings), seed)
    plan = sweeping.planned(loaded, grid_of(grids), seeds, warn)
    folder = out or Path("results") / f"{plan.name}-sweep-{plan.identity[:8]}"
    try:
        with shown(quiet) as drawn:
            found = sweeping.sweep(
                plan,
                folder,
                workers=workers,
                dask=dask,
                shard=part,
                metrics=metrics,
                engine=engine,
                progress=drawn,
            )
    except KeyboardInterrupt:
        _tell_where(plan, folder)
        return INTERRUPTED
    return _show(found, as_json, quiet)


def _tell_where(plan: Plan, folder: Path) -> None:
    from tradebft.lab.sweep.journal import done_in

    done = len(done_in(folder))
    click.echo(
        f"interrupted; {done} of {plan.size} runs are in {folder}: the same command goes on there", err=True
    )


def _show(found: Sweep, as_json: bool, quiet: bool) -> int:
    from tradebft.lab import metrics, terminal

    if as_json:
        _print(metrics.strict(found.document))
    elif not quiet:
        terminal.sweep(found)
    for line in found.failed:
        click.echo(line, err=True)
    return FAILED if found.failed else OK


@click.command()
@click.argument("scenario")
@click.option(
    "smaller", "--minimise", metavar="KEY", multiple=True, help="A figure to make small; repeatable."
)
@click.option(
    "larger", "--maximise", metavar="KEY", multiple=True, help="A figure to make large; repeatable."
)
@click.option(
    "limits", "--subject-to", metavar="'KEY<VALUE'", multiple=True, help="What must hold; repeatable."
)
@click.option(
    "--trials", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Settings to try."
)
@click.option(
    "keys", "--key", metavar="KEY[=LOW..HIGH]", multiple=True,
    help="What to change; repeatable.  [default: all that the schema has a range for]",
)  # fmt: skip
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs of each setting."
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="The first of them, and that of the search.")
@click.option(
    "settings", "--set", metavar="KEY=VALUE", multiple=True, help="Override a dotted key; repeatable."
)
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes.  [default: one a processor]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder  [default: results/NAME-tune-seedS]")
@engine_option
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress.")
def tune(
    scenario: str,
    smaller: Sequence[str],
    larger: Sequence[str],
    limits: Sequence[str],
    trials: int,
    keys: Sequence[str],
    seeds: int,
    seed: int | None,
    settings: Sequence[str],
    workers: int | None,
    out: Path | None,
    engine: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Look for better settings of SCENARIO; write the best as a scenario file.

    With several goals, those that no other setting beats in all of them.
    """
    from tradebft.lab import metrics, results, terminal
    from tradebft.lab import tune as tuning
    from tradebft.scenarios.schema import load

    goals = [*(tuning.goal_of(key, False) for key in smaller), *(tuning.goal_of(key, True) for key in larger)]
    if not goals:
        raise click.UsageError(
            "expected a goal: --minimise KEY or --maximise KEY, such as consensus.client_ms.p99"
        )
    loaded = load(scenario, overrides_of(settings), seed)
    warn(loaded.warnings)
    bounds = [tuning.limit_of(text) for text in limits]
    folder = out or Path("results") / f"{loaded.name}-tune-seed{loaded.seed}"
    results.check_writable(folder / "trials")
    with shown(quiet) as drawn:
        found = tuning.tune(
            loaded, goals, tuning.dimensions(loaded, keys), trials,
            limits=bounds, seeds=seeds, workers=workers, engine=engine, progress=drawn,
        )  # fmt: skip
    tuning.save(found, folder)
    if as_json:
        _print(metrics.strict({**found.document, "folder": str(folder)}))
    elif not quiet:
        terminal.tuned(found, folder)
    return OK


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--against",
    required=True,
    type=click.Path(path_type=Path),
    metavar="BASELINE.json",
    help="What to compare with.",
)
@click.option("--update", is_flag=True, help="Keep what is found as the new baseline.")
@click.option(
    "changes", "--max-change", metavar="KEY=PERCENT", multiple=True,
    help="How far a figure may move; * fits any part of a key; repeatable.  [default: work=10, others 0]",
)  # fmt: skip
@click.option("--no-time", is_flag=True, help="Do not compare how long runs take.")
@engine_option
@click.option(
    "--benchmark", type=click.Path(path_type=Path), metavar="FILE",
    help="Write figures for github-action-benchmark (customSmallerIsBetter).",
)  # fmt: skip
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress; what moved only.")
def gate(
    scenarios: Sequence[str],
    against: Path,
    update: bool,
    changes: Sequence[str],
    no_time: bool,
    engine: str,
    benchmark: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Compare what each SCENARIO shows with a baseline: exit code 1, and what moved, if anything did.

    Simulated figures are exact. The time that a run takes is told in pieces of a fixed work that is done during that
    very run, so that a slow minute of the machine does not count.
    """
    from tradebft.lab import gate as gates
    from tradebft.lab import terminal
    from tradebft.scenarios.schema import load

    allowed = gates.allowed_of(changes)
    loaded = [load(name) for name in scenarios]
    before = None if update else gates.read(against)
    with shown(quiet) as drawn:
        if before is None:
            now = gates.look(loaded, not no_time, drawn, thorough=True, engine=engine)
        else:
            verdict = gates.check(before, loaded, allowed, not no_time, drawn, engine)
            now = verdict.now
    if benchmark is not None:
        gates.write_benchmark(benchmark, now)
    if before is None:
        gates.write(against, now)
        if not quiet:
            click.echo(f"{against}: kept {len(now.scenarios)} scenario(s)")
        return OK
    if as_json:
        _print(
            {"ok": verdict.ok, "moved": [one._asdict() for one in verdict.moved], "reasons": verdict.reasons}
        )
    elif verdict.moved or not quiet:
        terminal.moved(verdict)
    return OK if verdict.ok else FAILED


def _print(document: object) -> None:
    import json

    click.echo(json.dumps(document, indent=1, allow_nan=False))


COMMANDS: tuple[click.Command, ...] = (sweep, tune, gate)
