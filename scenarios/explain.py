"""From pydantic's list of errors to the one line that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from tradebft.scenarios.errors import Problem, dotted, one_of, suggestion

KeyPath = tuple[str | int, ...]

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
}


# What else may stand where a word is expected, by key.
_ALTERNATIVES: dict[str | int, str] = {
    "model": ' or a class of your own as "module:Class"',
    "kind": ' or a class of your own as "module:Class"',
    "cpu": " or a table of costs",
    "topology": " or a table with edges or a generator",
}


class Locator(Protocol):
    """Finds the line of a file on which a key stands."""

    def locate(self, path: KeyPath) -> str: ...
    def line(self, path: KeyPath) -> int: ...


def explain(error: ValidationError, source: Locator, root: type[BaseModel] | None = None) -> str:
    """`file:line: field: what was expected; what was found`, of the first problem, and how many more.

    *root*: what the file should have been; a scenario, if nothing else is said.
    """
    root = root or _scenario()
    problems: list[Problem] = []
    for details in error.errors(include_url=False):
        problems += _problems(details, root)
    # A misspelt key is also a missing one: say what was written before what was not.
    problems.sort(key=lambda problem: (problem.text.startswith("missing"), source.line(problem.path)))
    seen: dict[KeyPath, Problem] = {}
    for problem in problems:  # a field that fails several branches of a choice is wrong once
        seen.setdefault(problem.path, problem)
    first, *others = seen.values()
    more = f" (and {len(others)} more)" if others else ""
    field = f"{dotted(first.path)}: " if first.path else ""
    return f"{source.locate(first.path)}: {field}{first.text}{more}".replace("\n", " ")


def _scenario() -> type[BaseModel]:
    from tradebft.scenarios.schema import Scenario

    return Scenario


def _problems(details: ErrorDetails, root: type[BaseModel]) -> list[Problem]:
    context = details.get("ctx", {})
    if details["type"] == "inconsistent":
        return list(context["problems"])
    path = tuple(part for part in details["loc"] if not (isinstance(part, str) and part.startswith("<")))
    if path and path[-1] == "[key]":
        path = path[:-1]
    return [Problem(path, _text(details, context, path, root))]


def _text(details: ErrorDetails, context: Mapping[str, Any], path: KeyPath, root: type[BaseModel]) -> str:
    kind, found = details["type"], details["input"]
    if kind == "extra_forbidden":
        known, word = known_keys(path[:-1], details["loc"], root), str(path[-1])
        return f"unknown key; {one_of(known)}{suggestion(word, known) or _elsewhere(word, root)}"
    if kind == "missing":
        return f"missing; expected {_describe(path, details['loc'], root)}"
    if kind == "literal_error":
        choices = _choices(context["expected"])
        more = _ALTERNATIVES.get(path[-1], "") if path else ""
        return f"{one_of(choices)}{more}; found {_shown(found)}{suggestion(str(found), choices)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "too_short":
        return (
            f"expected a list of at least {context['min_length']}; found {context['actual_length'] or 'none'}"
        )
    if kind == "string_pattern_mismatch":
        return f'expected a class of your own as "module:Class"; found {_shown(found)}'
    bounds = {
        "greater_than_equal": ("at least", "ge"),
        "less_than_equal": ("at most", "le"),
        "greater_than": ("more than", "gt"),
        "less_than": ("less than", "lt"),
    }
    if kind in bounds:
        words, key = bounds[kind]
        return (
            f"expected {words} {context[key]:g}; found {_shown(found)}"
            if abs(context[key]) < 1e6
            else f"expected {words} {context[key]}; found {_shown(found)}"
        )
    if kind == "tuple_type" and path in (("fault",), ("membership",), ("byzantine",)):
        table = f"[[{path[0]}]]"
        return f"expected {table} with two brackets, one for each {path[0]}; found {_shown(found)}"
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}; found {_shown(found)}"
    message = details["msg"]
    return f"{message[:1].lower()}{message[1:]}; found {_shown(found)}"


def _elsewhere(word: str, root: type[BaseModel]) -> str:
    """Where a key of this name may stand, for one that was written into the wrong table."""
    for name, info in root.model_fields.items():
        model = _single_model(info.annotation)
        if (
            model is not None
            and name in ("network", "nodes", "consensus", "broker")
            and word in keys_of(model)
        ):
            return f"; did you mean {name}.{word}?"
    return f"; {word} stands at the top of the file" if word in keys_of(root) else ""


def _shown(value: Any) -> str:
    """A value as the file spells it, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    text = (
        "a table" if isinstance(value, Mapping) else f'"{value}"' if isinstance(value, str) else repr(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choices(expected: str) -> list[str]:
    """pydantic's "'a', 'b' or 'c'" as a list."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a section as the file spells them."""
    return [info.alias or name for name, info in model.model_fields.items()]


def known_keys(path: KeyPath, location: tuple[str | int, ...], root: type[BaseModel]) -> list[str]:
    """The keys a table may have. `location` is pydantic's path to it, with the branch taken in a choice."""
    model = _model_at(location[:-1], root)
    return keys_of(model) if model is not None else list(map(str, path))


def _model_at(location: tuple[str | int, ...], root: type[BaseModel]) -> type[BaseModel] | None:
    annotation: Any = root
    for part in location:
        if isinstance(part, int):
            continue
        if part.startswith("<"):
            annotation = _branch(annotation, part)
            continue
        model = _single_model(annotation)
        if model is None:
            return None
        info = next((i for name, i in model.model_fields.items() if (i.alias or name) == part), None)
        if info is None:
            return None
        annotation = info.annotation if not info.metadata else (info.annotation, *info.metadata)
    return _single_model(annotation)


def _parts(annotation: Any) -> list[Any]:
    """Every type inside an annotation, outermost first."""
    inner = annotation if isinstance(annotation, tuple) else get_args(annotation)
    found = [annotation]
    for part in inner:
        found += _parts(part)
    return found


def _branch(annotation: Any, tag: str) -> Any:
    """The type that carries this tag in a choice."""
    from pydantic import Tag

    for part in _parts(annotation):
        inner = get_args(part)
        if any(isinstance(item, Tag) and item.tag == tag for item in inner):
            return inner[0]
    return None


def _single_model(annotation: Any) -> type[BaseModel] | None:
    models = [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    return models[0] if models else None


def _describe(path: KeyPath, location: tuple[str | int, ...], root: type[BaseModel]) -> str:
    """What a missing field is for, from its own description."""
    model = _model_at(location[:-1], root)
    if model is not None:
        for name, info in model.model_fields.items():
            if (info.alias or name) == path[-1]:
                return info.description or f"a value for {path[-1]!r}"
    return f"a value for {path[-1]!r}"
