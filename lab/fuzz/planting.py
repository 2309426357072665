"""Planted bugs: a small patch on the protocol, in force for as long as a context lasts.

    with plant("quorum-of-2f"):
        outcome = try_case(draw(17))

A mutant is a file ``tests/mutants/NAME.toml``. Nothing is written to the tree: the patched source is compiled, and the
functions whose bodies differ get the other code, in place, so that it does not matter who imported them when. A patch
may therefore change bodies of functions and nothing else.
"""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import msgspec

KEPT_IN: Final = Path("tests", "mutants")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class MutantError(Exception):
    """A mutant that cannot be planted. The message is one line and names it."""


class Patch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In *file*, the text *find*, which occurs exactly once, becomes *replace*."""

    file: str
    find: str
    replace: str


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A planted bug: *why* it is one, in one line, and the *source*: where it was seen, or what warns of it."""

    why: str
    source: str
    patch: tuple[Patch, ...]


def folder() -> Path:
    """Where the mutants are: in the checkout that this module is part of, or in the current one."""
    for place in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (place / KEPT_IN).is_dir():
            return place / KEPT_IN
    raise MutantError(
        f"no {KEPT_IN.as_posix()} here: planted bugs are kept in the checkout, run it from there"
    )


def names() -> list[str]:
    """All mutants, by name."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def load(name: str) -> Mutant:
    """The mutant of that name."""
    path = folder() / f"{name}.toml"
    if name not in names():
        raise MutantError(f"no mutant {name!r} in {KEPT_IN.as_posix()}; there are {', '.join(names())}")
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Mutant)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise MutantError(f"mutant {name}: {' '.join(str(error).split())}") from None


@contextmanager
def plant(name: str) -> Iterator[None]:
    """The protocol with the bug *name*, until the context ends. MutantError if its patch does not fit."""
    before: list[tuple[FunctionType, CodeType]] = []
    try:
        for function, code in changes(name):
            before.append((function, function.__code__))
            _exchange(name, function, code)
        yield
    finally:
        for function, code in reversed(before):
            function.__code__ = code


def changes(name: str) -> list[tuple[FunctionType, CodeType]]:
    """The functions that the mutant changes, each with the code that it gets."""
    sources: dict[str, tuple[str, str]] = {}
    for patch in load(name).patch:
        original, text = sources.get(patch.file) or (_source(name, patch.file),) * 2
        if (found := text.count(patch.find)) != 1:
            raise MutantError(f"mutant {name}: its text occurs {found} times in {patch.file}, expected once")
        sources[patch.file] = original, text.replace(patch.find, patch.replace)
    exchanged = [
        change
        for file, (original, text) in sources.items()
        for change in _changes_of(name, file, original, text)
    ]
    if not exchanged:
        raise MutantError(f"mutant {name}: its patch changes nothing")
    return exchanged


def _module(name: str, file: str) -> ModuleType:
    try:
        return importlib.import_module("tradebft." + file.removesuffix(".py").replace("/", "."))
    except ModuleNotFoundError as error:
        raise MutantError(f"mutant {name}: {file} is no module of tradebft ({error})") from None


def _source(name: str, file: str) -> str:
    path = _module(name, file).__file__
    assert path is not None, file
    return Path(path).read_text(encoding="utf-8")


def _changes_of(name: str, file: str, original: str, text: str) -> Iterator[tuple[FunctionType, CodeType]]:
    module = _module(name, file)
    try:
        after = ast.parse(text)
        compiled = compile(text, str(module.__file__), "exec")
    except SyntaxError as error:
        raise MutantError(f"mutant {name}: {file} does not compile: {error.msg}") from None
    old, new = dict(_bodies(ast.parse(original))), dict(_bodies(after))
    if old.pop("") != new.pop(""):
        raise MutantError(f"mutant {name}: it changes more of {file} than the bodies of functions")
    for qualified, body in new.items():
        if old[qualified] != body:
            codes = [code for code in _codes(compiled) if code.co_qualname == qualified]
            if len(codes) != 1:
                raise MutantError(
                    f"mutant {name}: {file} has {len(codes)} functions {qualified}, expected one"
                )
            yield _live(name, module, qualified), codes[0]


def _bodies(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(qualified name, body) of all functions of a module and its classes; at last "" and what is left without them."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Function):
                yield prefix + child.name, "\n".join(map(ast.dump, child.body))
                child.body = []
            else:
                yield from walk(
                    child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
                )

    yield from walk(tree, "")
    yield "", ast.dump(tree)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Functions of a module and its classes, as compiled."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            yield from _codes(inner)


def _live(name: str, module: ModuleType, qualified: str) -> FunctionType:
    """The function itself, out of whatever it is wrapped in."""
    found: Any = module
    for part in qualified.split("."):
        found = vars(found).get(part)
    while not isinstance(found, FunctionType):
        if isinstance(found, property):
            found = found.fget
        elif isinstance(found, cached_property):
            found = found.func
        else:
            found = getattr(found, "__wrapped__", None)
        if found is None:
            raise MutantError(f"mutant {name}: {module.__name__}.{qualified} is no function")
    return found


def _exchange(name: str, function: FunctionType, code: CodeType) -> None:
    try:
        function.__code__ = code
    except ValueError as error:
        raise MutantError(f"mutant {name}: {function.__qualname__}: {error}") from None
