"""Drawing and mixing in bulk: compiled where numba is there, else numpy; the same bits."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Stream
from tradebft.network.links import LinkModel
from tradebft.network.trace import mixed
from tradebft.network.wavefront.order import Times

COMPILED = find_spec("numba") is not None
HALVES: Final = 1 << 31


@cache
def _compiled() -> Any:
    """Numba takes a while to import."""
    from tradebft.network.compiled import drawing, matrices

    return drawing, matrices


def delays(links: LinkModel, stream: Stream, start: int, count: int, sender: int, others: Times) -> Times:
    """(count, others), ns: of that sender's broadcasts from the *start*-th on, as `network.delays` draws them."""
    if not COMPILED:
        return links.delays(sender, others, stream.uniform_block(start, count, len(others)))
    drawing, _ = _compiled()
    found: Times = drawing.delays(links, stream, start, count, sender, others)
    return found


class Mixer:
    """The share in the trace digest of what happens in matrices."""

    def __init__(self) -> None:
        self._sum = 0
        self._parts = np.zeros(
            3, dtype=np.uint64
        )  # of what is compiled: high halves, and two quarters of low ones
        self._cells = 0

    def deliveries(self, kind: int, first: int, seq: int, digest: int, times: Times) -> None:
        """What the replicas from *first* on say to all others: one message each, of that kind, sequence and digest;
        *times* (senders, n): when it arrives."""
        if COMPILED:
            _, matrices = _compiled()
            matrices.deliveries(kind, first, seq, np.uint64(digest), times, self._parts)
            self._fold(times.size)
            return
        senders, everybody = np.arange(first, first + len(times)), np.arange(times.shape[1])
        own = times[senders - first, senders]
        self._sum += mixed(kind, senders[:, None], 0, seq, digest, everybody, times)
        self._sum -= mixed(kind, senders, 0, seq, digest, senders, own)

    def told(
        self, kinds: Times, seqs: Times, digests: NDArray[np.uint64], receivers: Times, times: Times
    ) -> None:
        """What every replica does (rows, n): executions, replies. One kind, sequence, digest and receiver a row."""
        if COMPILED:
            _, matrices = _compiled()
            matrices.told(kinds, seqs, digests, receivers, times, self._parts)
            self._fold(times.size)
            return
        everybody, column = np.arange(times.shape[1]), (slice(None), None)
        self._sum += mixed(
            kinds[column], everybody, 0, seqs[column], digests[column], receivers[column], times
        )

    def total(self) -> int:
        """The sum so far, to be taken modulo 2^128."""
        self._fold(HALVES)
        return self._sum

    def _fold(self, cells: int) -> None:
        """Quarters are sums of numbers below 2^32: they are taken over before they can overflow."""
        self._cells += cells
        if self._cells >= HALVES:
            high, upper, lower = (int(part) for part in self._parts)
            self._sum += (high << 64) + (upper << 32) + lower
            self._parts[:] = 0
            self._cells = 0
