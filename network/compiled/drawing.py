"""`Stream.uniform_block`, the same bits, compiled: a quarter of the time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import GOLDEN, Stream
from tradebft.network.compiled.compiling import compiled, inner

_GOLDEN, _A, _B = np.uint64(GOLDEN), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _12 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(12)

Word = np.uint64
Block = NDArray[np.float64]


def uniform_block(stream: Stream, start: int, count: int, lanes: int) -> Block:
    """Array (count, lanes) of uniform draws."""
    block = np.empty((count, lanes))
    _fill(np.uint64(stream.k0), np.uint64(stream.k1), start, block)
    return block


@inner
def _mix(x: Word) -> Word:
    x = (x ^ (x >> _30)) * _A
    x = (x ^ (x >> _27)) * _B
    return x ^ (x >> _31)


@compiled
def _fill(k0: Word, k1: Word, start: int, block: Block) -> None:
    for i in range(block.shape[0]):
        row = _mix(k0 + np.uint64(start + i) * _GOLDEN) ^ k1
        for j in range(block.shape[1]):
            bits = _mix(row + np.uint64(j) * _GOLDEN) >> _12
            block[i, j] = (np.float64(np.int64(bits)) + 0.5) * 2.0**-52
