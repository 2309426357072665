"""How functions are compiled: once a machine and version, and kept.

Each function is compiled for the types that it is annotated with, and for no others: left to itself, numba compiles
one anew for every constant that it is handed, which takes minutes in all. Numba keeps what it compiled by the file that
a function is in, and does not notice when a number changes that the file takes from another; so the folder that it is
kept in is named after all sources of this package together.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba

_config: Any = numba.config
Function = TypeVar("Function", bound=Callable[..., object])


def _kept_in() -> str:
    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    given = _config.CACHE_DIR
    folder = Path(given) if given else here / "__pycache__"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder / sha256(sources).hexdigest()[:16]) if os.access(folder, os.W_OK) else ""


_FOLDER = _kept_in()  # "": where numba likes to


_TYPES: Final = {
    "I64": "int64[::1]",
    "Numbers": "CPointer(int64)",
    "Square": "int64[:, ::1]",
    "int": "int64",
    "float": "float64",
    "Floats": "float64[::1]",
    "bool": "boolean",
    "None": "void",
    "Word": "uint64",
    "Words": "uint64[::1]",
    "Table": "uint64[:, ::1]",
    "Block": "float64[:, ::1]",
    "tuple[Word, Word]": "UniTuple(uint64, 2)",
}


def compiled(function: Function) -> Function:
    """To be called from Python."""
    return _made(function)


def inner(function: Function) -> Function:
    """To be called from compiled functions only: nothing is built that Python could call."""
    return _made(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: Function) -> Function:
    """The same, made part of each that calls it: for what every message passes through, with other constants each."""
    return _made(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)


def _made(function: Function, **options: Any) -> Function:
    *arguments, result = (_TYPES[kind] for kind in function.__annotations__.values())
    signature = f"{result}({', '.join(arguments)})"
    before = _config.CACHE_DIR
    _config.CACHE_DIR = _FOLDER or before
    try:
        made = numba.njit(signature, cache=True, error_model="numpy", **options)(function)
    finally:
        _config.CACHE_DIR = before
    return cast(Function, made)
