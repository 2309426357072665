"""SplitMix64's finaliser, which draws (`network.chance`) and the trace digest (`network.trace`) are made of."""

from __future__ import annotations

import numpy as np
from tradebft.network.compiled.compiling import inner
from tradebft.network.trace import GOLDEN as _GOLDEN

Word = np.uint64
GOLDEN = np.uint64(_GOLDEN)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@inner
def mix(x: Word) -> Word:
    """`trace.mix64`."""
    x = (x ^ (x >> _30)) * _A
    x = (x ^ (x >> _27)) * _B
    return x ^ (x >> _31)
