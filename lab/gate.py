"""`tradebft gate`: has anything moved since a baseline was kept? For continuous integration.

What a simulation finds is exact: the same scenario, seed and version give the same figures on any machine, so no change
is small enough to overlook, and the default tolerance is none. What it costs to find them is not: it is told in pieces
of a fixed work that is done during the runs (`tradebft.lab.work`), with a tolerance; and where it is beyond that, it is
measured for longer before anybody is told.
"""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace
from tradebft.lab import metrics
from tradebft.lab.progress import Progress, silent
from tradebft.lab.results import ResultsError, put
from tradebft.lab.sweep.row import figures
from tradebft.lab.work import Work
from tradebft.scenarios.errors import ScenarioError, suggestion
from tradebft.scenarios.records import Records
from tradebft.scenarios.run import execute
from tradebft.scenarios.schema import Scenario

FORMAT: Final = "tradebft-gate-1"
WORK: Final = "work"
"""The figure that says how long a run took, in pieces of work."""
WORK_PERCENT: Final = 10.0
RUNS_MIN: Final = 3
SECONDS_MIN: Final = 6.0  # of runs, unless these are many:
RUNS_MAX: Final = 40
AGAIN: Final = 3  # how often it is measured for as long once more
Figure = float | int | str | bool | None


class Kept(msgspec.Struct, frozen=True):
    """What one scenario showed: its resolved *settings*, its *figures* by dotted key, and which *engine* ran it."""

    settings: dict[str, Any]
    figures: dict[str, Figure]
    engine: str = "reference"


class Baseline(msgspec.Struct, frozen=True):
    """What all scenarios of a gate showed once, by name."""

    version: str
    scenarios: dict[str, Kept]
    format: str = FORMAT


class Moved(NamedTuple):
    """One figure that is not what it was. *percent*: by how much, None where that makes no sense; *beyond*: more than
    is allowed."""

    scenario: str
    key: str
    before: Figure
    now: Figure
    percent: float | None
    beyond: bool


class Verdict(NamedTuple):
    """*moved*: every figure that did; *reasons*: why they may have, a line each; *ok*: none beyond what is allowed."""

    now: Baseline
    moved: list[Moved]
    reasons: list[str]

    @property
    def ok(self) -> bool:
        """Whether the gate is open."""
        return not any(one.beyond for one in self.moved)


def look(
    scenarios: Sequence[Scenario],
    timed: bool = True,
    progress: Progress = silent,
    thorough: bool = False,
    engine: str = "reference",
) -> Baseline:
    """Run each of *scenarios* and keep what it shows; *timed*: with what it costs; *thorough*: measured longer, since
    others will be compared with it.

    ScenarioError where two have one name, or where two runs of one are not alike."""
    works = {scenario.name: Work() for scenario in scenarios} if timed else {}
    return _look(scenarios, works, AGAIN if thorough else 1, progress, engine)


def _look(
    scenarios: Sequence[Scenario], works: Mapping[str, Work], times: int, progress: Progress, engine: str
) -> Baseline:
    """*works*: of each scenario that is timed, what its runs cost."""
    names = [scenario.name for scenario in scenarios]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ScenarioError(f"{twice}: two scenarios of that name")
    kept = {}
    for done, scenario in enumerate(scenarios):
        progress("scenarios", done, len(scenarios))
        records = _run(scenario, silent, engine)
        found = dict(figures(metrics.document(records)))
        for _ in range(times if scenario.name in works else 0):
            found[WORK] = _pieces(scenario, found["trace_digest"], works[scenario.name], engine)
        kept[scenario.name] = Kept(scenario.resolved(), found, records.engine)
    progress("scenarios", len(scenarios), len(scenarios))
    return Baseline(metrics.tradebft_version(), kept)


def _pieces(scenario: Scenario, digest: Figure, work: Work, engine: str) -> float:
    """Run *scenario* for some seconds more; what a run cost, by all that *work* knows."""
    begun, before = time.perf_counter(), len(work.runs_ns)
    while (done := len(work.runs_ns) - before) < RUNS_MIN or (
        done < RUNS_MAX and time.perf_counter() - begun < SECONDS_MIN
    ):
        work.begin()
        records = _run(scenario, work, engine)
        work.end()
        if records.trace_digest != digest:
            raise ScenarioError(
                f"{scenario.name}: two runs of one seed are not alike; nothing can be compared"
            )
    return round(work.pieces, 3)


def _run(scenario: Scenario, progress: Progress, engine: str) -> Records:
    records = execute(scenario, progress, engine=engine)
    if not records.complete:
        raise KeyboardInterrupt
    return records


def check(
    before: Baseline,
    scenarios: Sequence[Scenario],
    allowed: Mapping[str, float],
    timed: bool = True,
    progress: Progress = silent,
    engine: str = "reference",
) -> Verdict:
    """What moved since *before* (see `compare`). Work beyond what is allowed is measured longer before it counts.

    ScenarioError, before anything runs, where no figure has a name that something is *allowed* of."""
    _known([_before(before, scenario.name) for scenario in scenarios], allowed)
    works = {scenario.name: Work() for scenario in scenarios} if timed else {}
    now = _look(scenarios, works, 1, progress, engine)
    verdict = compare(before, now, allowed)
    for _ in range(AGAIN):
        slow = {one.scenario for one in verdict.moved if one.key == WORK and one.beyond}
        if not slow:
            break
        for scenario in scenarios:
            if scenario.name in slow:
                now = _measured_longer(now, scenario, works[scenario.name], engine)
        verdict = compare(before, now, allowed)
    return verdict


def _measured_longer(now: Baseline, scenario: Scenario, work: Work, engine: str) -> Baseline:
    """*now* with what *scenario* costs by all of its runs so far, and some more."""
    kept = now.scenarios[scenario.name]
    figures = {**kept.figures, WORK: _pieces(scenario, kept.figures["trace_digest"], work, engine)}
    return replace(now, scenarios={**now.scenarios, scenario.name: replace(kept, figures=figures)})


# --- comparing ---


def _before(before: Baseline, name: str) -> Kept:
    if name not in before.scenarios:
        raise ResultsError(f"the baseline holds no scenario {name!r}; keep one with --update")
    return before.scenarios[name]


def _known(kept: Sequence[Kept], allowed: Mapping[str, float]) -> None:
    """A tolerance that fits no figure would be taken for one."""
    keys = [WORK, *dict.fromkeys(key for one in kept for key in one.figures)]
    for pattern in allowed:
        if not any(fnmatch.fnmatchcase(key, pattern) for key in keys):
            raise ScenarioError(f"--max-change {pattern}: no such figure{suggestion(pattern, keys)}")


def compare(before: Baseline, now: Baseline, allowed: Mapping[str, float]) -> Verdict:
    """What moved from *before* to *now*. *allowed*: by how many per cent a figure may, by key or pattern (`*`); the
    last that fits counts. ResultsError where *before* lacks a scenario, or another engine's time would be compared."""
    moved, reasons = [], []
    for name, kept in now.scenarios.items():
        other = _before(before, name)
        if other.engine != kept.engine and WORK in other.figures and WORK in kept.figures:
            raise ResultsError(
                f"{name}: the baseline holds what engine {other.engine} took, which says nothing about engine "
                f"{kept.engine}; expected --no-time, --engine {other.engine}, or a new baseline (--update)"
            )
        found = list(_moved(name, other.figures, kept.figures, allowed))
        moved += found
        if found:
            reasons += [f"{name}: {line}" for line in _changes(other.settings, kept.settings)]
    if moved and before.version != now.version:
        reasons.append(f"tradebft {before.version} made the baseline, this is {now.version}")
    exact = any(one.beyond and one.key != WORK for one in moved)
    if exact and not reasons:
        reasons.append("same settings, same version number: what the code does has changed")
    return Verdict(now, moved, reasons)


def _moved(
    name: str, before: Mapping[str, Figure], now: Mapping[str, Figure], allowed: Mapping[str, float]
) -> Iterator[Moved]:
    for key in dict.fromkeys((*before, *now)):
        if key == WORK and (key not in before or key not in now):
            continue  # one of the two was not timed
        one, other = before.get(key), now.get(key)
        if one == other:
            continue
        percent = _percent(one, other)
        most = _allowed(key, allowed, WORK_PERCENT if key == WORK else 0.0)
        beyond = percent is None or abs(percent) > most
        if key == WORK and not beyond:
            continue
        if key == WORK and percent is not None and percent < 0:
            beyond = False  # faster is told, and is no reason to stop
        yield Moved(name, key, one, other, percent, beyond)


def _percent(one: Figure, other: Figure) -> float | None:
    numbers = [
        value for value in (one, other) if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if len(numbers) < 2 or not numbers[0]:
        return None
    return 100 * (numbers[1] / numbers[0] - 1)


def _allowed(key: str, allowed: Mapping[str, float], usual: float) -> float:
    return [usual, *(percent for pattern, percent in allowed.items() if fnmatch.fnmatchcase(key, pattern))][
        -1
    ]


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """`consensus.batch_size was 100, is 10`, for every key that differs."""
    for key in dict.fromkeys((*before, *now)):
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _changes(one, other, f"{at}{key}.")
        elif one != other:
            yield f"{at}{key} was {one!r}, is {other!r}"


def allowed_of(texts: Sequence[str]) -> dict[str, float]:
    """`KEY=PERCENT` texts as a mapping. ScenarioError."""
    allowed = {}
    for text in texts:
        key, _, percent = text.rpartition("=")
        try:
            value = float(percent.strip().removesuffix("%"))
        except ValueError:
            value = math.nan
        if not key.strip() or not value >= 0:
            raise ScenarioError(
                f"--max-change {text}: expected KEY=PERCENT, such as consensus.client_ms.p99=2"
            )
        allowed[key.strip()] = value
    return allowed


# --- files ---


def read(path: Path) -> Baseline:
    """The baseline in *path*. ResultsError where there is none."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; --update makes it") from None
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise ResultsError(f"{path}: expected a baseline of `tradebft gate`: {error}") from None
    if found.format != FORMAT:
        raise ResultsError(f"{path}: expected format {FORMAT!r}, found {found.format!r}")
    return found


def write(path: Path, baseline: Baseline) -> None:
    """Keep *baseline*, whole or not at all. ResultsError where the disk refuses."""
    put(path, msgspec.json.format(msgspec.json.encode(baseline, order="deterministic"), indent=1) + b"\n")


def write_benchmark(path: Path, baseline: Baseline) -> None:
    """The figures of which less is better, as `customSmallerIsBetter` of github-action-benchmark wants them."""
    wanted = (
        ("consensus.client_ms.p50", "ms"), ("consensus.client_ms.p99", "ms"), ("consensus.decision_ms.p50", "ms"),
        ("consensus.messages.total", "messages"), (WORK, "pieces of work"),
    )  # fmt: skip
    entries = [
        {"name": f"{name}: {key}", "unit": unit, "value": value, "extra": f"tradebft {baseline.version}"}
        for name, kept in baseline.scenarios.items()
        for key, unit in wanted
        if (value := kept.figures.get(key)) is not None
    ]
    put(path, msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n")
