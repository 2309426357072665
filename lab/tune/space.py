"""What may be tuned, and how far. The ranges stand in the schema, beside the fields that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tradebft.scenarios import units
from tradebft.scenarios.errors import ScenarioError, suggestion
from tradebft.scenarios.loading import check_value
from tradebft.scenarios.schema import Scenario

if TYPE_CHECKING:
    from optuna.trial import Trial

STEPS: Final = 100  # of a range that begins at 0
DIGITS: Final = 3  # of a duration: what is finer is not told apart by anybody


class Dimension(NamedTuple):
    """One key, from *low* to *high*; durations in ns. *whole*: a count."""

    key: str
    low: int
    high: int
    whole: bool

    def text(self, value: int) -> str:
        """*value* as a scenario writes it."""
        return str(value) if self.whole else units.duration_text(value)

    def draw(self, trial: Trial) -> str:
        """A value, as a scenario writes it."""
        if self.whole:
            return self.text(trial.suggest_int(self.key, self.low, self.high, log=self.low > 0))
        if self.low == 0:
            step = max(1, self.high // STEPS)
            return self.text(trial.suggest_int(self.key, 0, self.high // step * step, step=step))
        return self.text(_rounded(trial.suggest_float(self.key, self.low, self.high, log=True)))

    def place(self, text: str) -> int:
        """The number that *draw* would have drawn for *text*; within the range."""
        value = int(text) if self.whole else units.duration_ns(text)
        if not self.whole and self.low == 0:
            step = max(1, self.high // STEPS)
            value = round(value / step) * step
        return min(max(value, self.low), self.high)


def dimensions(scenario: Scenario, asked: Sequence[str]) -> list[Dimension]:
    """Those of `KEY` or `KEY=LOW..HIGH` in *asked*, or all that the schema has. ScenarioError for a key that cannot be
    tuned, for a range that is none, and for one at whose ends the scenario cannot run."""
    known = dict(_tunable(Scenario))
    found = []
    for text in asked or known:
        key, equals, span = text.partition("=")
        if key not in known and not equals:
            hint = (
                suggestion(key, known) or f"; expected one of {', '.join(known)}, or a range: {key}=LOW..HIGH"
            )
            raise ScenarioError(f"--key {key}: the schema has no range for it{hint}")
        low, dots, high = (*known[key][:1], "..", *known[key][1:]) if not equals else span.partition("..")
        found.append(_dimension(key, low.strip(), dots, high.strip()))
    if len({one.key for one in found}) < len(found):
        raise ScenarioError("--key: a key stands there twice")
    lower = {one.key: one.text(one.low) for one in found}
    upper = {one.key: one.text(one.high) for one in found}
    for one in found if asked else ():
        for end in (one.low, one.high):
            check_value(scenario, one.key, one.text(end), (lower, upper, {}), "--key ")
    return found


def _dimension(key: str, low: str, dots: str, high: str) -> Dimension:
    wrong = ScenarioError(f"--key {key}={low}{dots}{high}: expected LOW..HIGH, two counts or two durations")
    if not dots:
        raise wrong
    whole = low.isdecimal() and high.isdecimal()
    try:
        ends = (int(low), int(high)) if whole else (units.duration_ns(low), units.duration_ns(high))
    except (ScenarioError, ValueError):
        raise wrong from None
    if not 0 <= ends[0] < ends[1]:
        raise wrong
    return Dimension(key, *ends, whole)


def _tunable(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Every field of *model* and of its sections that has a range, by dotted key."""
    for name, field in model.model_fields.items():
        key = before + (field.alias or name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and isinstance(span := extra.get("tune"), list):
            yield key, (str(span[0]), str(span[1]))
        section = _section(field)
        if section is not None and not before:
            yield from _tunable(section, f"{key}.")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind: Any = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _rounded(nanoseconds: float) -> int:
    scale = 10 ** max(0, len(str(int(nanoseconds))) - DIGITS)
    return int(round(nanoseconds / scale) * scale)
