"""What a scenario expects of its own result: `[expect]`, read with the scenario and judged after the run.

    [expect]
    agreement = true                             # no violation of any invariant
    "consensus.client_ms.p99" = "< 400"          # a dotted path into the result document, and a condition
    "processes.paper.existing_customer_days.p50" = "within 13..17"

A condition is a number, text or boolean (equal to it), one of < <= > >= == != before a value, or "within
A..B" (both ends count). A path the result does not have is a failure, never a pass.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_COMPARISON = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")
_RANGE = re.compile(rf"\s*within\s+({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
EXAMPLE = "a value, a comparison such as '< 400' or '== 0', or 'within 13..17'"


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that does not hold; `str()` of it is the line to print."""

    path: str
    expected: str
    measured: str

    def __str__(self) -> str:
        return f"expected {self.path} {self.expected}, measured {self.measured}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in force: its text for people, and whether a measured value meets it."""

    text: str
    holds: Callable[[Any], bool]


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(_NUMBER, text) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _equal_to(wanted: bool | int | float | str) -> Callable[[Any], bool]:
    if isinstance(wanted, bool):
        return lambda measured: measured is wanted
    return lambda measured: not isinstance(measured, bool) and measured == wanted


def parse(value: bool | int | float | str) -> Condition:
    """The condition that a value under [expect] states. ValueError says what was expected."""
    if not isinstance(value, str):
        return Condition(f"== {str(value).lower() if isinstance(value, bool) else value}", _equal_to(value))
    within = _RANGE.fullmatch(value)
    if within:
        low, high = float(within[1]), float(within[2])
        if low > high:
            raise ValueError(f"expected {EXAMPLE}; found {value!r}, whose ends are the wrong way round")
        return Condition(value.strip(), lambda measured: _is_number(measured) and low <= measured <= high)
    comparison = _COMPARISON.fullmatch(value)
    if comparison is None:
        if value.lstrip().startswith(("<", ">", "=", "!", "within")):
            raise ValueError(f"expected {EXAMPLE}; found {value!r}")
        return Condition(f"== {value!r}", _equal_to(value))
    symbol, wanted = comparison.groups()
    number = _number(wanted)
    if number is not None:
        compare = _OPERATORS[symbol]
        return Condition(
            f"{symbol} {wanted}", lambda measured: _is_number(measured) and compare(measured, number)
        )
    if symbol not in ("==", "!="):
        raise ValueError(f"expected {EXAMPLE}; found {value!r}, which compares with no number")
    plain: bool | str = {"true": True, "false": False}.get(wanted, wanted.strip("'\""))
    equal = _equal_to(plain)
    return Condition(f"{symbol} {wanted}", equal if symbol == "==" else lambda measured: not equal(measured))


def _checked(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"expected {EXAMPLE}; found {value!r}")
    parse(value)
    return value


Value = Annotated[bool | int | float | str, BeforeValidator(_checked)]
"""A condition as the scenario spells it."""


def flatten(table: object) -> object:
    """Unquoted dotted keys make nested tables in TOML: back to dotted paths."""
    if not isinstance(table, Mapping):
        return table
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Mapping[str, Any]) -> None:
        for key, value in node.items():
            path = f"{prefix}.{key}" if prefix else key
            if isinstance(value, Mapping):
                walk(path, value)
            else:
                flat[path] = value

    walk("", table)
    return flat


_MISSING = object()


def look_up(document: Any, path: str) -> Any:
    """The value at a dotted path, or _MISSING. Keys that contain dots are found too; lists take numbers."""
    if not path:
        return document
    if isinstance(document, Mapping):
        parts = path.split(".")
        for count in range(
            1, len(parts) + 1
        ):  # shortest key first; keys with dots are rare ("commercial_bank.2")
            key = ".".join(parts[:count])
            if key in document:
                found = look_up(document[key], ".".join(parts[count:]))
                if found is not _MISSING:
                    return found
        return _MISSING
    if isinstance(document, list | tuple):
        head, _, rest = path.partition(".")
        if head.isdecimal() and int(head) < len(document):
            return look_up(document[int(head)], rest)
    return _MISSING


def _measured(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else repr(value)
        if isinstance(value, str)
        else str(value)
    )


def _agreement(document: Mapping[str, Any], wanted: bool | int | float | str) -> Failure | None:
    violations = look_up(document, "invariants.violations")
    condition = parse(wanted)
    if violations is _MISSING or not look_up(document, "invariants.checked"):
        return Failure("agreement", condition.text, "nothing (no invariant was checked)")
    if condition.holds(not violations):
        return None
    what = f"{len(violations)} violation(s), first: {violations[0]}" if violations else "no violation"
    return Failure("agreement", condition.text, what)


def failures(expectations: Mapping[str, Value], document: Mapping[str, Any]) -> list[str]:
    """One line for each expectation that the result document does not meet: key, expected, measured."""
    return [str(failure) for failure in evaluate(expectations, document)]


def evaluate(expectations: Mapping[str, Value], document: Mapping[str, Any]) -> list[Failure]:
    """Every expectation that the result document does not meet, in the order of the file."""
    found = []
    for path, wanted in expectations.items():
        if path == "agreement":
            failure = _agreement(document, wanted)
            if failure:
                found.append(failure)
            continue
        condition = parse(wanted)
        measured = look_up(document, path)
        if measured is _MISSING:
            found.append(Failure(path, condition.text, "nothing (the result has no such key)"))
        elif not condition.holds(measured):
            found.append(Failure(path, condition.text, _measured(measured)))
    return found
