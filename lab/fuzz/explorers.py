"""What `tradebft fuzz --twins` and `--small-scope` call: the document that they print, and the exit code.

0: no violation (with --beyond-f: violations), 1 the other way round, 130 after Ctrl-C. With --scenario FILE one file is
played again: 0 if what it expects broke as it did, 1 otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from tradebft.consensus.invariants import Violation
from tradebft.lab.fuzz import small_scene, small_scope, twin_scenario, twins
from tradebft.lab.fuzz.twin_scenario import ScenarioError

if TYPE_CHECKING:
    from pathlib import Path

    from tradebft.lab.fuzz_cli import Hunt

AS_HOPED, NOT_SO, INTERRUPTED = 0, 1, 130
Result = tuple[dict[str, Any], int]
Expected = Violation | None
LENGTHS: Final = ("views", "lies", "cuts")  # what classes of scenarios are told by


def explore_twins(asked: Hunt) -> Result:
    """`--twins`: scenarios of the Twins kind, or one of them again."""
    if asked.scenario is not None:
        loaded = _read(twin_scenario.load, asked.scenario)
        return _again(
            "fuzz --twins", asked.scenario, ((twin_scenario.play(s).violations, e) for s, e in loaded)
        )
    document = twins.explore(
        asked.views or twins.VIEWS,
        asked.limit,
        asked.seeds[0] if asked.seeds else 0,
        asked.workers,
        asked.progress,
        asked.options.beyond_f,
        asked.out,
    )
    return document, _verdict(document, asked.options.beyond_f)


def explore_small_scope(asked: Hunt) -> Result:
    """`--small-scope`: lies one step off and cuts, or one such plan again."""
    if asked.scenario is not None:
        plan, expected = _read(small_scope.load, asked.scenario)
        again = (small_scene.play(one).violations for one in [plan])
        return _again("fuzz --small-scope", asked.scenario, zip(again, [expected], strict=True))
    seed = asked.seeds[0] if asked.seeds else 0
    document = small_scope.explore(asked.limit, seed, asked.workers, asked.progress, asked.out)
    return document, _verdict(document, False)


def _verdict(document: Mapping[str, Any], wanted: bool) -> int:
    if not document["complete"]:
        return INTERRUPTED
    return AS_HOPED if bool(document["violations"]) == wanted else NOT_SO


def _read(load: Any, path: Path) -> Any:
    try:
        return load(path)
    except ScenarioError as error:
        raise click.UsageError(str(error)) from None


def _again(command: str, path: Path, playing: Iterable[tuple[list[Violation], Expected]]) -> Result:
    """One file played again: does what it expects of each of its scenarios break as it did?"""
    begun = time.perf_counter()
    played = list(playing)
    same = all(
        expected in violations if expected is not None else not violations for violations, expected in played
    )
    found = [
        {"scenario": f"{path} {number}", **msgspec.to_builtins(violation)}
        for number, (violations, _) in enumerate(played)
        for violation in violations
    ]
    document = {
        "command": command,
        "scenario": str(path),
        "scenarios": len(played),
        "reproduced": same,
        "expected": [msgspec.to_builtins(expected) for _, expected in played],
        "violations": found,
        "wall_seconds": round(time.perf_counter() - begun, 3),
    }
    return document, AS_HOPED if same else NOT_SO


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What a person reads below the violations."""
    if "reproduced" in document:
        yield "as the file has it" if document["reproduced"] else f"the file has {document['expected']}"
        return
    for row in document.get("by_views") or document["by_class"]:
        name = ", ".join(_count(row[length], length) for length in LENGTHS if length in row)
        yield f"{name:16} {row['played']:>9,} of {row['there_are']:,} scenarios" + (
            ", all of them" if row["complete"] else ""
        )
    broken = len(document["violations"])
    yield (
        f"{document['scenarios']:,} scenarios in {document['wall_seconds']:,.0f} s"
        f" ({document['scenarios_per_second']:,.0f} a second), "
        + (f"VIOLATED in {broken:,}" if broken else "no violation")
    )


def _count(number: int, things: str) -> str:
    return f"{number} {things[:-1] if number == 1 else things}"
