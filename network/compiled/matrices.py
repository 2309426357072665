"""The trace digest of whole matrices of arrivals (`network.wavefront`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tradebft.network.compiled.compiling import compiled, inner
from tradebft.network.compiled.mixing import FIRST, HALF, SECOND, Word, Words, add, fold

_32 = np.uint64(32)

I64 = NDArray[np.int64]
Square = NDArray[np.int64]  # of two dimensions


@inner
def _head(h: Word, kind: int, sender: int, seq: int, digest: Word) -> Word:
    h = fold(fold(h, np.uint64(kind)), np.uint64(sender))
    return fold(fold(fold(h, np.uint64(0)), np.uint64(seq)), digest)


@compiled
def deliveries(kind: int, first: int, seq: int, digest: Word, times: Square, last: I64, sums: Words) -> None:
    """See `wavefront.bulk.Mixer.deliveries`."""
    for i in range(times.shape[0]):
        sender, row = first + i, times[i]
        high, low = _head(FIRST, kind, sender, seq, digest), _head(SECOND, kind, sender, seq, digest)
        top, middle, bottom = np.uint64(0), np.uint64(0), np.uint64(0)
        for receiver in range(len(row)):
            time, to = np.uint64(row[receiver]), np.uint64(receiver)
            above, below = fold(fold(high, to), time), fold(fold(low, to), time)
            counts = np.uint64(row[receiver] <= last[receiver] and receiver != sender)
            top += above * counts
            middle += (below >> _32) * counts
            bottom += (below & HALF) * counts
        sums[0] += top
        sums[1] += middle
        sums[2] += bottom


@compiled
def told(
    kinds: I64, seqs: I64, digests: Words, receivers: I64, times: Square, never: int, sums: Words
) -> None:
    """See `wavefront.bulk.Mixer.told`."""
    for i in range(times.shape[0]):
        to = np.uint64(receivers[i])
        for sender in range(times.shape[1]):
            if times[i, sender] < never:
                time = np.uint64(times[i, sender])
                high = fold(fold(_head(FIRST, kinds[i], sender, seqs[i], digests[i]), to), time)
                low = fold(fold(_head(SECOND, kinds[i], sender, seqs[i], digests[i]), to), time)
                add(sums, high, low)
