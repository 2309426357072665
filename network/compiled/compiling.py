"""How functions are compiled: once a machine and version, kept beside the sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """To be called from Python."""
    made: Function = njit(cache=True, error_model="numpy")(function)
    return made


def inner(function: Function) -> Function:
    """To be called from compiled functions only: nothing is built that Python could call, which takes most of the time."""
    made: Function = njit(cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(
        function
    )
    return made
