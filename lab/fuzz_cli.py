"""`tradebft fuzz` and `tradebft replay`: parse, call, print.

Exit codes of fuzz: 0 clean, 1 violations (with --beyond-f the other way round: violations are what is looked for),
2 bad input, 130 Ctrl-C with what there is until then. Of replay: 0 the same violation again, 1 something else or
nothing, 2 no replay file.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from tradebft.lab.progress import shown

if TYPE_CHECKING:
    from tradebft.lab.fuzz.case import Case, Replay
    from tradebft.lab.fuzz.outcome import Outcome
    from tradebft.lab.fuzz.swarm import Options, Report
    from tradebft.lab.progress import Progress

CLEAN, FOUND, INTERRUPTED = 0, 1, 130
FOLDER: Final = Path("results/fuzz")
SEEDS: Final = (0, 200)
SHRINK_TRIALS: Final = 400

# Option -> module and function that does the work: function(hunt: Hunt) -> (the document to print, exit code).
EXPLORERS: Final = {
    "mutant": ("tradebft.lab.fuzz.mutants", "hunt"),
    "twins": ("tradebft.lab.fuzz.explorers", "explore_twins"),
    "small_scope": ("tradebft.lab.fuzz.explorers", "explore_small_scope"),
}


class Span(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """`A..B`, both included, or one number."""

    name = "A..B"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(A, B); a click error, which becomes one line, for anything else."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,20})(?:\.\.(\d{1,20}))?", str(value))
        if found is None:
            self.fail(f"expected A..B, such as 0..2000, or one number; found {value!r}", param, ctx)
        low, high = int(found[1]), int(found[2] or found[1])
        if not self._least <= low <= high <= self._most:
            self.fail(f"expected {self._least} <= A <= B <= {self._most}; found {value!r}", param, ctx)
        return low, high


class Hunt:
    """What the command line asks of an explorer."""

    def __init__(
        self,
        options: Options,
        seeds: tuple[int, int] | None,
        minutes: float | None,
        workers: int,
        out: Path,
        progress: Progress,
        names: str = "",
        views: int | None = None,
        limit: int | None = None,
        scenario: Path | None = None,
    ) -> None:
        self.options, self.seeds, self.minutes = options, seeds, minutes
        self.workers, self.out, self.progress = workers, out, progress
        self.names = names  # of mutants: one, or "all"
        self.views, self.limit, self.scenario = views, limit, scenario  # of the systematic explorers


@click.command()
@click.option(
    "--seeds", type=Span(0, 2**64 - 1), help="First and last seed, both included.  [default: 0..200]"
)
@click.option(
    "--nodes", type=Span(4, 64), default="4..13", show_default=True, help="Fewest and most members."
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after so long.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes.  [default: one a core]")
@click.option("--beyond-f", is_flag=True, help="f+1 adversaries in league: violations must be found.")
@click.option("--mutant", metavar="NAME|all", help="Plant a known bug, or each in turn; it must be found.")
@click.option("--twins", is_flag=True, help="Enumerate leaders and partitions with one member doubled.")
@click.option("--small-scope", is_flag=True, help="Change a Byzantine member's real messages by one step.")
@click.option("--views", type=click.IntRange(1, 7), help="Of --twins: most views.  [default: 4]")
@click.option("--limit", type=click.IntRange(1), help="Of --twins and --small-scope: most scenarios.")
@click.option("--scenario", type=click.Path(path_type=Path), help="Of both: play this file again.")
@click.option(
    "--shrink",
    type=click.IntRange(0),
    default=SHRINK_TRIALS,
    show_default=True,
    help="Trials to shrink with.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=FOLDER, show_default=True, help="For replay files."
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress.")
def fuzz(
    seeds: tuple[int, int] | None,
    nodes: tuple[int, int],
    minutes: float | None,
    workers: int | None,
    beyond_f: bool,
    mutant: str | None,
    twins: bool,
    small_scope: bool,
    views: int | None,
    limit: int | None,
    scenario: Path | None,
    shrink: int,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> int:
    """Try random faults and adversaries on the protocol, and check every invariant."""
    from tradebft.lab.fuzz.swarm import Options, swarm

    asked = [name for name, on in (("mutant", mutant), ("twins", twins), ("small_scope", small_scope)) if on]
    if len(asked) + (beyond_f and not twins) > 1:
        raise click.UsageError("expected one of --beyond-f, --mutant, --twins, --small-scope; found several")
    if (views and not twins) or ((limit or scenario) and not (twins or small_scope)):
        raise click.UsageError("--views is for --twins, --limit and --scenario for --twins and --small-scope")
    options = Options(nodes, beyond_f)
    processes = workers or os.cpu_count() or 1
    with shown(quiet) as progress:
        if asked:
            hunt = Hunt(
                options, seeds, minutes, processes, out, progress, mutant or "", views, limit, scenario
            )
            document, code = _explorer(asked[0])(hunt)
        else:
            # A limit on time alone asks for as many seeds as there is time for.
            low, high = seeds or SEEDS
            span = None if seeds is None and minutes is not None else range(low, high + 1)
            report = swarm(span, options, processes, minutes, progress)
            document = {"command": "fuzz", **report.document()}
            _keep(document, report, out, shrink, progress)
            code = _verdict(report)
    if as_json:
        click.echo(json.dumps(document, indent=1, allow_nan=False))
    else:
        _print(document)
    return code


def _explorer(name: str) -> Callable[[Hunt], tuple[dict[str, Any], int]]:
    module, function = EXPLORERS[name]
    try:
        found: Callable[[Hunt], tuple[dict[str, Any], int]] = getattr(
            importlib.import_module(module), function
        )
        return found
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise click.UsageError(f"--{name.replace('_', '-')} is not part of this installation") from None


def _verdict(report: Report) -> int:
    if report.interrupted:
        click.echo(f"interrupted after {len(report.outcomes)} seeds", err=True)
        return INTERRUPTED
    for seed, why in sorted(report.lost.items()):
        click.echo(f"seed {seed}: {why}", err=True)
    if report.options.beyond_f:
        return CLEAN if report.violations else FOUND
    return FOUND if report.violations or report.lost else CLEAN


# --- what is left on the disk: a replay file a violation, and the story of the first ones ---


def _keep(document: dict[str, Any], report: Report, out: Path, trials: int, progress: Progress) -> None:
    """Write replay files, and add them to the document; shrink the first case of each broken invariant."""
    from tradebft.lab.fuzz import case as cases

    shrunk: set[str] = set()
    for entry in document["violations"]:
        outcome = report.outcomes[entry["seed"]]
        path = out / f"seed-{outcome.seed}.json"
        cases.save(path, report.options.case(outcome.seed), outcome.first, outcome.digest)
        entry["replay"] = str(path)
        entry["command"] = f"tradebft replay {shlex.quote(str(path))}"
        if trials and entry["invariant"] not in shrunk and not report.interrupted:
            shrunk.add(entry["invariant"])
            try:
                entry["shrunk"] = _shrink(report.options.case(outcome.seed), outcome, path, trials, progress)
            except KeyboardInterrupt:
                report.interrupted, document["complete"] = True, False


def _shrink(case: Case, outcome: Outcome, path: Path, trials: int, progress: Progress) -> dict[str, Any]:
    from tradebft.lab.fuzz import shrink, story

    assert outcome.first is not None
    small = shrink.shrink(case, outcome.first.invariant, trials, progress)
    return story.leave(small.case, path.with_name(f"{path.stem}-small"))


def _print(document: dict[str, Any]) -> None:
    """What a person reads."""
    from tradebft.lab.fuzz import printed

    for line in printed.lines(document):
        click.echo(line)


# --- replay ---


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("as_json", "--json", is_flag=True, help="Print one JSON document.")
def replay(file: Path, as_json: bool) -> int:
    """Run the case in FILE, which `fuzz` wrote, and say whether it breaks as it did."""
    import msgspec
    from tradebft.lab.fuzz.case import CaseError, load
    from tradebft.lab.fuzz.planting import MutantError
    from tradebft.lab.fuzz.trial import try_case

    try:
        loaded = load(file)
        outcome = try_case(loaded.case)
    except (CaseError, MutantError, ValueError) as error:
        text = " ".join(str(error).split())
        click.echo(text if text.startswith(str(file)) else f"{file}: {text}", err=True)
        return 2
    same = outcome.first == loaded.violation and outcome.digest == loaded.digest
    if as_json:
        document = {
            "command": "replay",
            "file": str(file),
            "reproduced": same,
            "expected": {"violation": msgspec.to_builtins(loaded.violation), "digest": loaded.digest},
            "found": {"violation": msgspec.to_builtins(outcome.first), "digest": outcome.digest},
            "versions": _versions(loaded),
        }
        click.echo(json.dumps(document, indent=1, allow_nan=False))
    else:
        _tell(loaded, outcome, same)
    return CLEAN if same else FOUND


def _versions(loaded: Replay) -> dict[str, str]:
    from tradebft.lab.metrics import tradebft_version

    return {"file": loaded.version, "installed": tradebft_version(), "python": sys.version.split()[0]}


def _tell(loaded: Replay, outcome: Outcome, same: bool) -> None:
    from tradebft.lab.fuzz import printed

    click.echo(f"found: {printed.violation(outcome.first)}")
    if same:
        click.echo(f"reproduced exactly, digest {outcome.digest}")
        return
    click.echo(f"expected: {printed.violation(loaded.violation)}")
    versions = _versions(loaded)
    if outcome.first == loaded.violation:
        click.echo(f"the same violation on another way: digest {outcome.digest}, expected {loaded.digest}")
    if versions["file"] != versions["installed"]:
        click.echo(f"the file was written by version {versions['file']}, this is {versions['installed']}")
