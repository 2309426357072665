"""A buffer of numbers as compiled functions hand it on: where it begins, and nothing else.

An array is seven numbers and is counted at every call that hands it on, with the bus locked; what is read from it is
first looked at for being counted from the end. That took most of the time of a message.
"""

from __future__ import annotations

from typing import Any, cast

import numba
from numba.core import types
from numba.extending import intrinsic
from tradebft.network.compiled.compiling import inlined
from tradebft.network.compiled.memory import I64, Numbers

_intrinsic = cast(Any, intrinsic)
_array = cast(Any, numba).carray


@_intrinsic
def begin(typing: Any, buffer: Any) -> Any:
    """The first of the numbers in that array, which must outlive it."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, given[0]).data

    return types.CPointer(buffer.dtype)(buffer), code


@_intrinsic
def _further(typing: Any, numbers: Any, by: Any) -> Any:
    """The number that comes so many later."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.gep(given[0], [given[1]])

    return numbers(numbers, types.int64), code


@_intrinsic
def fractions(typing: Any, numbers: Any) -> Any:
    """The same place, where what is written there is not taken for integers but for the floats that it is."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(given[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(numbers), code


@inlined
def part(m: Numbers, first: int, count: int) -> I64:
    """So many of the numbers as an array."""
    found: I64 = _array(_further(m, first), (count,))
    return found
