"""`Stream.uniform_block`, the same bits, compiled: a quarter of the time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Stream
from tradebft.network.compiled.compiling import compiled
from tradebft.network.compiled.mixing import GOLDEN, Word, mix

_12 = np.uint64(12)

Block = NDArray[np.float64]


def uniform_block(stream: Stream, start: int, count: int, lanes: int) -> Block:
    """Array (count, lanes) of uniform draws."""
    block = np.empty((count, lanes))
    _fill(np.uint64(stream.k0), np.uint64(stream.k1), start, block)
    return block


@compiled
def _fill(k0: Word, k1: Word, start: int, block: Block) -> None:
    for i in range(block.shape[0]):
        row = mix(k0 + np.uint64(start + i) * GOLDEN) ^ k1
        for j in range(block.shape[1]):
            bits = mix(row + np.uint64(j) * GOLDEN) >> _12
            block[i, j] = (np.float64(np.int64(bits)) + 0.5) * 2.0**-52
