"""SplitMix64's finaliser, which draws (`network.chance`) and the trace digest (`network.trace`) are made of; and the
digest's two lanes and their sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tradebft.network.compiled.compiling import inner
from tradebft.network.trace import GOLDEN as _GOLDEN
from tradebft.network.trace import LANES

Word = np.uint64
Words = NDArray[np.uint64]  # of the high halves, and of the two quarters of the low ones
Table = NDArray[np.uint64]  # of several of those
GOLDEN = np.uint64(_GOLDEN)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
FIRST, SECOND = np.uint64(LANES[0]), np.uint64(LANES[1])
HALF = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@inner
def mix(x: Word) -> Word:
    """SplitMix64's finaliser."""
    x = (x ^ (x >> _30)) * _A
    x = (x ^ (x >> _27)) * _B
    return x ^ (x >> _31)


@inner
def fold(h: Word, field: Word) -> Word:
    """One more field of an event, in one lane."""
    return mix((h ^ field) + GOLDEN)


@inner
def add(sums: Words, high: Word, low: Word) -> None:
    """One more event, by both lanes."""
    sums[0] += high
    sums[1] += low >> _32
    sums[2] += low & HALF
