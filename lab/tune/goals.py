"""What is wanted of a setting: figures as small or as large as can be, and others within limits."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from tradebft.scenarios.errors import ScenarioError

_RELATIONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_LIMIT: Final = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*")


class Goal(NamedTuple):
    """A figure of the result document, by dotted key, as small as can be or (*maximise*) as large."""

    key: str
    maximise: bool

    @property
    def direction(self) -> str:
        """In Optuna's words."""
        return "maximize" if self.maximise else "minimize"

    def better(self, one: float, other: float) -> bool:
        """Whether *one* is better than *other*."""
        return one > other if self.maximise else one < other


class Limit(NamedTuple):
    """A figure that must stay below or above a *value*."""

    key: str
    relation: str
    value: float

    def excess(self, figures: Mapping[str, Any]) -> float:
        """By how much it does not; 0 or less where it does."""
        found = figures.get(self.key)
        if found is None:
            return float("inf")
        if _RELATIONS[self.relation](found, self.value):
            return min(0.0, self._beyond(found))
        return max(self._beyond(found), 1e-12)

    def _beyond(self, found: float) -> float:
        return found - self.value if "<" in self.relation else self.value - found

    def __str__(self) -> str:
        return f"{self.key}{self.relation}{self.value:g}"


def goal_of(key: str, maximise: bool) -> Goal:
    """A goal, from the command line."""
    return Goal(key.strip(), maximise)


def limit_of(text: str) -> Limit:
    """`KEY<VALUE` as a limit. ScenarioError."""
    match = _LIMIT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        return Limit(match[1], match[2], float(match[3]))
    except ValueError:
        raise ScenarioError(
            f"--subject-to {text}: expected KEY<VALUE or KEY>VALUE, such as consensus.unanswered<1"
        ) from None


def dominates(one: Mapping[str, Any], other: Mapping[str, Any], goals: tuple[Goal, ...]) -> bool:
    """Whether *one* is as good as *other* in everything that is wanted, and better in something."""
    as_good = not any(goal.better(other[goal.key], one[goal.key]) for goal in goals)
    return as_good and any(goal.better(one[goal.key], other[goal.key]) for goal in goals)
