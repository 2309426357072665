"""The search itself: Optuna proposes settings, runs of the scenario judge them.

Proposals are made `TOGETHER` at a time, whatever number of processes judges them, and told back in the order in which
they were made: the same scenario, seed and number of trials give the same result on any machine.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from tradebft.lab.progress import Progress, silent
from tradebft.lab.results import ResultsError
from tradebft.lab.sweep.crew import Crew, processes
from tradebft.lab.sweep.plan import Run
from tradebft.lab.sweep.row import COST
from tradebft.lab.toml_text import to_toml
from tradebft.lab.tune.goals import Goal, Limit, dominates
from tradebft.lab.tune.space import Dimension
from tradebft.scenarios.errors import ScenarioError, suggestion
from tradebft.scenarios.loading import with_changes
from tradebft.scenarios.schema import Scenario

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

TOGETHER: Final = 4
RANDOM_SHARE: Final = 0.3  # of the trials, at the beginning: before there is anything to learn from
RANDOM_MAX: Final = 16
_OURS: Final = re.compile(r"best(-\d+)?\.toml")
LIMITS: Final = "limits"  # under which a trial keeps by how much it breaks each


@dataclass(slots=True)
class Tuned:
    """What was found. *trials*: a row each, in order; *best*: numbers of those that no other beats within the limits
    (one for one goal), best first by the first goal."""

    scenario: Scenario
    goals: tuple[Goal, ...]
    limits: tuple[Limit, ...]
    dimensions: list[Dimension]
    trials: pl.DataFrame
    best: list[int]

    def setting(self, number: int) -> dict[str, str]:
        """What a trial set, by dotted key."""
        found = self.trials.row(number, named=True)
        return {one.key: str(found[f"at.{one.key}"]) for one in self.dimensions}

    @property
    def files(self) -> dict[str, int]:
        """Names of the files that `save` writes the best settings to -> numbers of the trials."""
        if len(self.goals) == 1:
            return {"best.toml": self.best[0]}
        return {f"best-{place}.toml": number for place, number in enumerate(self.best, start=1)}

    @property
    def document(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "scenario": self.scenario.name,
            "seed": self.scenario.seed,
            "goals": [{"key": goal.key, "maximise": goal.maximise} for goal in self.goals],
            "limits": list(map(str, self.limits)),
            "best": [
                {"trial": number, "setting": self.setting(number), "figures": self.figures(number)}
                for number in self.best
            ],
            "before": self.figures(0),
            "trials": self.trials.to_dicts(),
        }

    def figures(self, number: int) -> dict[str, Any]:
        """What a trial showed of what is wanted, by dotted key."""
        found = self.trials.row(number, named=True)
        return {key: found[key] for key in _wanted(self.goals, self.limits)}


def tune(
    scenario: Scenario,
    goals: Sequence[Goal],
    dimensions: Sequence[Dimension],
    trials: int,
    *,
    limits: Sequence[Limit] = (),
    seeds: int = 1,
    workers: int | None = None,
    engine: str = "reference",
    progress: Progress = silent,
) -> Tuned:
    """Try *trials* settings of *scenario*, its own first, each under so many *seeds*, whose figures are averaged.

    ScenarioError where Optuna is not installed, where a goal or limit names a figure that no run has, and where nothing
    keeps the limits.
    """
    optuna = _optuna()
    wanted, bounds = tuple(goals), tuple(limits)
    study = optuna.create_study(
        directions=[goal.direction for goal in wanted],
        sampler=_sampler(optuna, scenario.seed, trials, bool(bounds)),
    )
    study.enqueue_trial(_own(scenario, dimensions), skip_if_exists=True)
    rows: list[dict[str, Any]] = []
    with Crew(*processes(workers)) as crew:
        progress("trials", 0, trials)
        while len(rows) < trials:
            asked = [study.ask() for _ in range(min(TOGETHER, trials - len(rows)))]
            drawn = [{one.key: one.draw(trial) for one in dimensions} for trial in asked]
            for trial, at, figures in zip(
                asked, drawn, _judged(crew, scenario, drawn, seeds, len(rows), engine), strict=True
            ):
                if not rows:
                    _check_keys(figures, wanted, bounds)
                rows.append(_told(study, trial, at, figures, wanted, bounds))
                progress("trials", len(rows), trials)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    best = _best(rows, wanted)
    if not best:
        raise ScenarioError(
            f"{scenario.name}: none of {trials} settings keeps {' and '.join(map(str, bounds))}"
        )
    return Tuned(scenario, wanted, bounds, list(dimensions), frame, best)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ScenarioError("tune: Optuna is not installed; expected `pip install tradebft[tune]`") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _sampler(optuna: Any, seed: int, trials: int, limited: bool) -> Any:
    random = max(TOGETHER, min(RANDOM_MAX, math.ceil(RANDOM_SHARE * trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that parts of the sampler are experimental
        return optuna.samplers.TPESampler(
            seed=seed % 2**32, n_startup_trials=random, multivariate=True, constant_liar=True,
            constraints_func=_excesses if limited else None,
        )  # fmt: skip


def _excesses(trial: FrozenTrial) -> Sequence[float]:
    return list(trial.user_attrs.get(LIMITS, [math.inf]))


def _own(scenario: Scenario, dimensions: Sequence[Dimension]) -> dict[str, int]:
    """Where the scenario itself stands."""
    found = {}
    for one in dimensions:
        value: Any = scenario.resolved()
        for part in one.key.split("."):
            value = value[int(part)] if isinstance(value, list) else value.get(part)
        if value is not None:
            found[one.key] = one.place(str(value))
    return found


def _judged(
    crew: Crew, scenario: Scenario, settings: list[dict[str, str]], seeds: int, first: int, engine: str
) -> Iterator[dict[str, Any]]:
    """The figures of each of *settings*, means over seeds; `error` where a run could not be done."""
    runs = [
        [Run((first + k) * seeds + repeat, at, scenario.seed + repeat) for repeat in range(seeds)]
        for k, at in enumerate(settings)
    ]
    found: dict[int, dict[str, Any]] = {}
    done = crew.done(scenario.single(), chain.from_iterable(runs), engine)
    for of_setting in runs:
        while any(run.number not in found for run in of_setting):
            finished = next(done)
            found[finished["run"]] = finished
        yield _mean([found[run.number] for run in of_setting])


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    errors = [found["error"] for found in rows if "error" in found]
    if errors:
        return {"error": errors[0]}
    figures: dict[str, Any] = {}
    for key, value in rows[0].items():
        if key in COST or key in ("run", "seed") or isinstance(value, str | bool):
            continue
        values = [found.get(key) for found in rows]
        figures[key] = None if any(one is None for one in values) else fmean(values)  # type: ignore[arg-type]
    return figures


def _told(
    study: Study,
    trial: Trial,
    at: dict[str, str],
    figures: dict[str, Any],
    goals: tuple[Goal, ...],
    limits: tuple[Limit, ...],
) -> dict[str, Any]:
    """Tell Optuna what came of *trial*; its row."""
    from optuna.trial import TrialState

    excesses = [limit.excess(figures) for limit in limits]
    trial.set_user_attr(LIMITS, excesses)
    values: list[Any] = [figures.get(goal.key) for goal in goals]
    failed = "error" in figures or any(value is None for value in values)
    if failed:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, values)
    kept = {key: figures.get(key) for key in _wanted(goals, limits)}
    return {
        "trial": trial.number, **{f"at.{key}": text for key, text in at.items()}, **kept,
        "within_limits": not failed and all(excess <= 0 for excess in excesses), "error": figures.get("error"),
    }  # fmt: skip


def _wanted(goals: tuple[Goal, ...], limits: tuple[Limit, ...]) -> list[str]:
    return list(dict.fromkeys([*(goal.key for goal in goals), *(limit.key for limit in limits)]))


def _check_keys(figures: dict[str, Any], goals: tuple[Goal, ...], limits: tuple[Limit, ...]) -> None:
    if "error" in figures:
        raise ScenarioError(f"the scenario's own settings cannot run: {figures['error']}")
    for key in _wanted(goals, limits):
        if figures.get(key) is None:
            raise ScenarioError(f"{key}: the scenario's runs have no such figure{suggestion(key, figures)}")


def _best(rows: list[dict[str, Any]], goals: tuple[Goal, ...]) -> list[int]:
    """Those that no other beats; of equals the earliest."""
    good = [found for found in rows if found["within_limits"]]
    front = [one for one in good if not any(dominates(other, one, goals) for other in good)]
    first = goals[0]
    front.sort(key=lambda found: -found[first.key] if first.maximise else found[first.key])
    seen: dict[tuple[float, ...], int] = {}
    for found in front:
        seen.setdefault(tuple(found[goal.key] for goal in goals), found["trial"])
    return list(seen.values())


def save(tuned: Tuned, folder: Path) -> None:
    """Write trials, figure, and the best settings as scenario files: `best.toml`, or `best-1.toml` and so on for
    several goals. ResultsError where the disk refuses."""
    from tradebft.lab import figure_style
    from tradebft.lab.tune.figure import draw

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tuned.trials.write_parquet(folder / "trials.parquet")
        for name, number in tuned.files.items():
            best = with_changes(tuned.scenario, tuned.setting(number))
            (folder / name).write_text(to_toml(best.resolved()), encoding="utf-8")
        for path in folder.glob("best*.toml"):
            if _OURS.fullmatch(path.name) and path.name not in tuned.files:
                path.unlink()  # of a search before this one, which had more of them
        with figure_style.style():
            figure = draw(tuned)
            figure_style.write(figure, folder / "tune")
    except OSError as error:
        raise ResultsError(f"{folder}: cannot be written: {error.strerror or error}") from None
