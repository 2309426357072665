"""How functions are compiled: once a machine and version, and kept.

Each function is compiled for the types that it is annotated with, and for no others: left to itself, numba compiles
one anew for every constant that it is handed, which takes minutes in all. Numba keeps what it compiled by the file that
a function is in, and does not notice when a number changes that the file takes from another; so the folder that it is
kept in is named after all sources of this package together, of `elementary`, which it compiles as well, and after
whatever else compiled code depends on.

What Python calls brings along what it calls itself. Loading that, too, would take half a second at each start; so it
waits until something has to be compiled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from llvmlite import binding

_config: Any = numba.config
Function = TypeVar("Function", bound=Callable[..., object])


def _kept_in() -> str:
    here = Path(__file__).parent
    files = (*sorted(here.glob("*.py")), here.parent / "elementary.py")
    sources = b"".join(path.read_bytes() for path in files)
    machine = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    asked_for = str(_config.CPU_NAME), str(_config.CPU_FEATURES)
    made_by = " ".join((numba.__version__, str(sys.implementation.cache_tag), *machine, *asked_for)).encode()
    given = _config.CACHE_DIR
    folder = Path(given) if given else here / "__pycache__"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder / sha256(sources + made_by).hexdigest()[:16]) if os.access(folder, os.W_OK) else ""


_FOLDER = _kept_in()  # "": where numba likes to


_TYPES: Final = {
    "I64": "int64[::1]",
    "Numbers": "CPointer(int64)",
    "Square": "int64[:, ::1]",
    "Cube": "int64[:, :, ::1]",
    "int": "int64",
    "float": "float64",
    "Draw": "float64",
    "Floats": "float64[::1]",
    "bool": "boolean",
    "None": "void",
    "Word": "uint64",
    "Words": "uint64[::1]",
    "Table": "uint64[:, ::1]",
    "Block": "float64[:, ::1]",
    "tuple[Word, Word]": "UniTuple(uint64, 2)",
}


_Made = tuple[Any, str]  # what numba has made of a function, and the one signature that it is compiled for
_waiting: list[_Made] = []  # what only compiled functions call


def compiled(function: Function) -> Function:
    """To be called from Python."""
    ready = Path(_FOLDER) / f"{function.__module__}.{function.__qualname__}.ready" if _FOLDER else None
    if ready is None or not ready.exists():
        while _waiting:
            _compile(_waiting.pop(0))
    made = _made(function)
    _compile(made)
    if ready is not None:
        with suppress(OSError):  # a disk that has no room for that has none for the function either
            ready.touch()
    return cast(Function, made[0])


def inner(function: Function) -> Function:
    """To be called from compiled functions only: nothing is built that Python could call."""
    return _waits(function)


def inlined(function: Function) -> Function:
    """The same, made part of each that calls it: for what every message passes through, with other constants each."""
    return _waits(function, forceinline=True)


def _waits(function: Function, **options: Any) -> Function:
    made = _made(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    _waiting.append(made)
    return cast(Function, made[0])


def _made(function: Callable[..., object], **options: Any) -> _Made:
    *arguments, result = (_TYPES[kind] for kind in function.__annotations__.values())
    before = _config.CACHE_DIR
    _config.CACHE_DIR = _FOLDER or before
    try:
        dispatcher = numba.njit(cache=True, error_model="numpy", **options)(function)
    finally:
        _config.CACHE_DIR = before
    return dispatcher, f"{result}({', '.join(arguments)})"


def _compile(made: _Made) -> None:
    dispatcher, signature = made
    dispatcher.compile(signature)
    dispatcher.disable_compile()
