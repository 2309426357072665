"""From a name or a file to a checked scenario; whatever goes wrong becomes one line (`ScenarioError`)."""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

from pydantic import ValidationError
from tradebft.consensus.byzantine import Behaviour
from tradebft.scenarios import catalogue
from tradebft.scenarios.adversaries import Byzantine, faults_of_parameters
from tradebft.scenarios.errors import ScenarioError, dotted, nearest
from tradebft.scenarios.explain import explain
from tradebft.scenarios.lines import key_lines, opening_comment
from tradebft.scenarios.schema import Scenario
from tradebft.scenarios.sections import CustomLinks

KeyPath = tuple[str | int, ...]

COMBINATIONS_CHECKED: Final = 2000  # of values that vary, before anything runs: a millisecond or two each
VALUE_WIDE: Final = 60  # letters of a value in a remark
_NUMBERS: Final = re.compile(r"\d+(\.\d+)?")


@dataclass(slots=True)
class Source:
    """Where a scenario's values come from, to say so when one is wrong."""

    label: str  # what stands before the colon: a file's name as the user gave it
    lines: dict[KeyPath, int] = field(default_factory=dict)
    overrides: dict[KeyPath, str] = field(default_factory=dict)  # path -> the key as it was typed

    def locate(self, path: KeyPath) -> str:
        """`guizhou.toml:12`, the nearest line known, or `--set consensus.batch_size`."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return f"--set {self.overrides[path[:length]]}"
            if path[:length] in self.lines:
                return f"{self.label}:{self.lines[path[:length]]}"
        for changed, key in self.overrides.items():
            if changed[: len(path)] == path:  # what is wrong is a table that only this key made
                return f"--set {key}"
        return self.label

    def line(self, path: KeyPath) -> int:
        """For sorting: overrides first, then by line."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return 0
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0


def load_scenario(name_or_path: str | Path, overrides: Mapping[str, object], seed: int | None) -> Scenario:
    """See `schema.load`."""
    text, source, stem = _read(name_or_path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(_syntax(source.label, text, error)) from None
    except RecursionError:
        raise ScenarioError(f"{source.label}: expected a scenario; found tables nested too deeply") from None
    source.lines = key_lines(text)
    data.setdefault("name", stem)
    comment = opening_comment(text)
    if comment:
        data.setdefault("question", comment)
    for key, value in overrides.items():
        _override(data, key, value, source)
    if seed is not None:
        data["seed"] = seed
        source.overrides[("seed",)] = "seed"
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(explain(error, source)) from None
    _import_own_classes(scenario, source, Path(name_or_path).parent)
    if scenario.vary:
        tried = {key: values[:COMBINATIONS_CHECKED] for key, values in scenario.vary.items()}
        scenario.note_points(check_points(scenario, tried, lambda key: _at_vary(key, source)))
    return scenario


def check_points(
    scenario: Scenario, grid: Mapping[str, Sequence[object]], where: Callable[[str], str]
) -> list[str]:
    """Whether *scenario* can run with these values at dotted keys: with each alone or beside the others' first, so that
    the line names the one that is wrong, and with the first combinations. ScenarioError if not; *where* says what comes
    before a key. What is allowed and probably not meant comes back (`Scenario.warnings`), one line for each kind, with
    the first point."""
    most = None  # of one key every value is a point
    if len(grid) > 1:
        most = COMBINATIONS_CHECKED
        beside = {key: values[0] for key, values in grid.items() if values}
        for key, values in grid.items():
            for value in values:
                check_value(scenario, key, value, ({}, beside), where(key))
    first = where(next(iter(grid), ""))
    found: dict[str, list[str]] = {}
    for combined in itertools.islice(itertools.product(*grid.values()), most):
        at = dict(zip(grid, combined, strict=True))
        place = ", ".join(f"{key} = {shorten(str(value), VALUE_WIDE)}" for key, value in at.items())
        for warning in with_changes(scenario, at, first).warnings:
            found.setdefault(_NUMBERS.sub("", warning), []).append(
                f"at {place}: {warning}" if at else warning
            )
    return [lines[0] + _as_well(len(lines) - 1) for lines in found.values()]


def check_value(
    scenario: Scenario, key: str, value: object, besides: Sequence[Mapping[str, object]], where: str
) -> None:
    """Whether *scenario* can run with *value* at *key* beside any of *besides*. If not, the last's ScenarioError."""
    *others, last = besides
    for beside in others:
        with contextlib.suppress(ScenarioError):
            with_changes(scenario, {**beside, key: value}, where)
            return
    with_changes(scenario, {**last, key: value}, where)


def _as_well(others: int) -> str:
    return f" ({others} more point{'s' if others > 1 else ''} as well)" if others else ""


def _at_vary(key: str, source: Source) -> str:
    whole, parts = ("vary", key), ("vary", *_split(key))  # written in quotes, or as tables
    known = whole in source.lines or whole in source.overrides
    return f"{source.locate(whole if known else parts)}: vary."


def with_changes(scenario: Scenario, changes: Mapping[str, object], where: str = "vary.") -> Scenario:
    """*scenario* with other values at dotted keys, and without its `vary`; ScenarioError if it cannot run so, which
    says *where* the key stands: what comes before the key."""
    return changed(scenario.single(), changes, where)


def changed(settings: Mapping[str, Any], changes: Mapping[str, object], where: str) -> Scenario:
    """The same for a scenario that is given as its resolved *settings*, which stay as they are."""
    data = copy.deepcopy(dict(settings))
    source = Source(str(data["name"]))
    try:
        for key, value in changes.items():
            _override(data, key, value, source)
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(explain(error, source).replace("--set ", where)) from None
    except ScenarioError as error:
        raise ScenarioError(str(error).replace("--set ", where)) from None


def _read(name_or_path: str | Path) -> tuple[str, Source, str]:
    """The file's text, what to call it, and the scenario's name."""
    given = str(name_or_path)
    if not given:
        raise ScenarioError("expected the name of a built-in scenario or a path; found nothing")
    if not isinstance(name_or_path, Path) and given in catalogue.names():
        return catalogue.text(given), Source(f"{given}.toml"), given
    path = Path(name_or_path)
    looks_like_a_path = path.suffix == ".toml" or os.sep in given or isinstance(name_or_path, Path)
    try:
        # Some editors begin a file with a byte order mark, which TOML does not know.
        return path.read_bytes().decode("utf-8-sig"), Source(given), path.stem
    except FileNotFoundError:
        known = catalogue.names()
        near = nearest(path.stem if looks_like_a_path else given, known)
        hint = f"; did you mean {near!r}?" if near else ""
        if not looks_like_a_path and not near:
            hint = f"; built in: {', '.join(known)}"
        what = "no such file" if looks_like_a_path else "no built-in scenario or file of that name"
        raise ScenarioError(f"{given or repr(given)}: {what}{hint}") from None
    except IsADirectoryError:
        raise ScenarioError(f"{given}: expected a scenario file; found a directory") from None
    except UnicodeDecodeError as error:
        raise ScenarioError(
            f"{given}: expected UTF-8 text; found byte 0x{error.object[error.start]:02x} at {error.start}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ScenarioError(f"{given!r}: cannot be read: {reason}") from None


def _syntax(label: str, text: str, error: tomllib.TOMLDecodeError) -> str:
    """`file.toml:3: not TOML: ...`; the decoder's own text ends with the place."""
    message, _, place = str(error).rpartition(" (at ")
    words = place.rstrip(")").replace(",", "").split()
    if not message:
        return f"{label}: not TOML: {error}"
    line = words[1] if words[:1] == ["line"] else str(text.count("\n") + 1)
    column = f", column {words[3]}" if len(words) == 4 else ", at the end"
    return f"{label}:{line}: not TOML: {message[:1].lower()}{message[1:]}{column}"


def _parsed(value: object) -> object:
    """A text as the TOML value it spells, or as it is. Anything else is a value already."""
    if not isinstance(value, str):
        return value
    try:
        document = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return value
    return document["value"] if len(document) == 1 else value


def _split(key: str) -> KeyPath:
    """`fault.0.at` -> ("fault", 0, "at"). What follows `expect.` is one key: paths of results have dots."""
    if key.startswith("expect."):
        return ("expect", key.removeprefix("expect."))
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def _override(data: dict[str, Any], key: str, value: object, source: Source) -> None:
    path = _split(key)
    if not all(str(part) for part in path):
        raise ScenarioError(f"--set {key}: expected a dotted key such as consensus.batch_size")
    node: Any = data
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(node, list):
            if not isinstance(part, int) or part >= len(node):
                raise ScenarioError(
                    f"--set {key}: expected a position from 0 to {len(node) - 1}; found {part!r}"
                    if node
                    else f"--set {key}: the list is empty"
                )
        elif isinstance(node, dict):
            part = str(part)
            if not last:
                if part not in node and isinstance(path[depth + 1], int):
                    raise ScenarioError(f"--set {key}: the scenario has no {part} to change")
                node.setdefault(part, {})
        else:
            above = ".".join(str(p) for p in path[:depth])
            raise ScenarioError(f"--set {key}: {above} is {node!r} and has no keys")
        if last:
            node[part] = _parsed(value)
        else:
            node = node[part]
    source.overrides[path] = key


def _import_own_classes(scenario: Scenario, source: Source, beside: Path) -> None:
    """Classes of the user's own are imported now, so that a slip in a name is an error of the scenario."""
    links, client_links = scenario.network.links, scenario.network.client_links
    named: list[tuple[KeyPath, str]] = [
        (("consensus", "protocol"), scenario.consensus.protocol),
        (("network", "links", "model"), links.model),
        (("network", "client_links", "model"), client_links.model if client_links else ""),
        (("workload", "kind"), scenario.workload.kind),
        *((("byzantine", k, "behaviour"), one.behaviour) for k, one in enumerate(scenario.byzantine)),
    ]
    for path, name in named:
        if ":" in name:
            try:
                own_class(name, beside)
            except ImportError as error:
                raise ScenarioError(f"{source.locate(path)}: {dotted(path)}: {error}") from None
    for position, one in enumerate(scenario.byzantine):
        if ":" in one.behaviour:
            _check_behaviour(one, position, source)
    if isinstance(links, CustomLinks):
        _build_links(links, ("network", "links"), scenario, source)
    if isinstance(client_links, CustomLinks):
        _build_links(client_links, ("network", "client_links"), scenario, source)


def _build_links(links: CustomLinks, path: KeyPath, scenario: Scenario, source: Source) -> None:
    """Built once for the error that it may raise: parameters a class refuses are an error of the scenario, too."""
    from tradebft.network.cities import placement
    from tradebft.network.links import link_model

    try:
        link_model(links.model, links.parameters, placement(scenario.node_names, scenario.network.places))
    except Exception as error:  # whatever a user's class says to its parameters
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScenarioError(f"{source.locate(path)}: {dotted(path)}: {reason}") from error


def _check_behaviour(one: Byzantine, position: int, source: Source) -> None:
    """A behaviour of the user's own: whether it is one, and knows its parameters."""
    path: KeyPath = ("byzantine", position, "behaviour")
    kind = own_class(one.behaviour)
    if not isinstance(kind, type) or not issubclass(kind, Behaviour):
        expected = "expected a subclass of tradebft.consensus.byzantine.Behaviour"
        raise ScenarioError(f"{source.locate(path)}: {dotted(path)}: {expected}; found {one.behaviour!r}")
    for problem in faults_of_parameters(kind, one.parameters, ("byzantine", position)):
        raise ScenarioError(f"{source.locate(problem.path)}: {dotted(problem.path)}: {problem.text}")


def own_class(name: str, beside: Path | None = None) -> Any:
    """The object that "module:Class" names; the working folder and the scenario's own are searched too.

    Raises:
        ImportError: says what could not be imported, and why, in one line.
    """
    module_name, _, attribute = name.partition(":")
    for folder in (Path.cwd(), beside):
        if folder is not None and str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise ImportError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}".replace("\n", " ")
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        near = nearest(attribute, [found for found in vars(module) if not found.startswith("_")])
        hint = f"; did you mean {near!r}?" if near else ""
        raise ImportError(f"module {module_name!r} has no {attribute!r}{hint}") from None
