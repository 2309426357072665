"""Drawing and mixing in bulk: compiled where numba is there, else numpy; the same bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Stream
from tradebft.network.delays import drawn
from tradebft.network.links import LinkModel
from tradebft.network.trace import mixed, total
from tradebft.network.wavefront.order import NEVER, Times

COMPILED = find_spec("numba") is not None
HALVES: Final = 1 << 31
Function = TypeVar("Function", bound=Callable[..., object])


@cache
def _compiled() -> Any:
    """Numba takes a while to import."""
    from tradebft.network.compiled import drawing, matrices

    return drawing, matrices


def fast(function: Function) -> Function:
    """That arithmetic over arrays, compiled where numba is there: it keeps to what numba knows of numpy."""
    return _made(function) if COMPILED else function


@cache
def _made(function: Function) -> Function:
    from tradebft.network.compiled.compiling import compiled

    return compiled(function)


def delays(links: LinkModel, stream: Stream, start: int, count: int, sender: int, others: Times) -> Times:
    """(count, others), ns: of that sender's broadcasts from the *start*-th on, as `network.delays` draws them."""
    if not COMPILED:
        return drawn(links, stream, start, count, sender, others)
    drawing, _ = _compiled()
    found: Times = drawing.delays(links, stream, start, count, sender, others)
    return found


class Mixer:
    """The share in the trace digest of what happens in matrices."""

    def __init__(self) -> None:
        self._sum = 0
        self._parts = np.zeros(3, dtype=np.uint64)  # of what is compiled: see `trace.total`
        self._cells = 0

    def deliveries(self, kind: int, first: int, seq: int, digest: int, times: Times, last: Times) -> None:
        """What the replicas from *first* on say to all others: one message each, of that kind, sequence and digest;
        *times* (senders, n): when it arrives; *last* (n,): what arrives later does not count."""
        if COMPILED:
            _, matrices = _compiled()
            matrices.deliveries(kind, first, seq, np.uint64(digest), times, last, self._parts)
            self._fold(times.size)
            return
        rows, receivers = np.nonzero(times <= last)
        others = rows + first != receivers
        rows, receivers = rows[others], receivers[others]
        self._sum += mixed(kind, rows + first, 0, seq, digest, receivers, times[rows, receivers])

    def told(
        self, kinds: Times, seqs: Times, digests: NDArray[np.uint64], receivers: Times, times: Times
    ) -> None:
        """What every replica does (rows, n): executions, replies. One kind, sequence, digest and receiver a row; what
        happens `NEVER` does not count."""
        if COMPILED:
            _, matrices = _compiled()
            matrices.told(kinds, seqs, digests, receivers, times, NEVER, self._parts)
            self._fold(times.size)
            return
        rows, who = np.nonzero(times < NEVER)
        self._sum += mixed(kinds[rows], who, 0, seqs[rows], digests[rows], receivers[rows], times[rows, who])

    def total(self) -> int:
        """The sum so far, to be taken modulo 2^128."""
        self._fold(HALVES)
        return self._sum

    def _fold(self, cells: int) -> None:
        """Quarters are sums of numbers below 2^32: they are taken over before they can overflow."""
        self._cells += cells
        if self._cells >= HALVES:
            self._sum += total(self._parts)
            self._parts[:] = 0
            self._cells = 0
