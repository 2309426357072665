"""A buffer of numbers as compiled functions hand it on: where it begins, and nothing else.

An array is seven numbers, is counted with the bus locked at every call that hands it on, and wherever something is read
from it, that is first looked at for being counted from the end. It took a third of the time of a message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numba
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from tradebft.network.compiled.compiling import inlined
from tradebft.network.compiled.memory import I64, Numbers

_numba, _types, _made = cast(Any, numba), cast(Any, types), cast(Any, intrinsic)


def _begin(typing: Any, buffer: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, given[0]).data

    return _types.CPointer(buffer.dtype)(buffer), code


def _further(typing: Any, numbers: Any, by: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.gep(given[0], [given[1]])

    return numbers(numbers, _types.int64), code


def _fractions(typing: Any, numbers: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(given[0], context.get_value_type(signature.return_type))

    return _types.CPointer(_types.float64)(numbers), code


begin: Final[Callable[[I64], Numbers]] = _made(_begin)
"""Where that array begins, which must outlive it: what Python handed in does; what the function made itself may be
given back when it is named for the last time."""

further: Final[Callable[[Numbers, int], Numbers]] = _made(_further)
"""The place so many numbers later."""

fractions: Final[Callable[[Numbers], NDArray[Any]]] = _made(_fractions)
"""The same place, whose numbers are floats."""


@inlined
def part(m: Numbers, first: int, count: int) -> I64:
    """So many of the numbers as an array."""
    found: I64 = _numba.carray(further(m, first), (count,))
    return found
