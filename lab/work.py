"""How long a run takes, told in pieces of a fixed work that is done again and again during that very run.

A shared machine is faster and slower from second to second, by half and more on some. Both the run and the pieces meet
the same seconds, and are slowed alike: they are the same kind of work, a queue by time and votes in bit masks. So the
ratio of the two says something about the code.
"""

from __future__ import annotations

import heapq
import math
import time
from statistics import fmean
from typing import Final

PIECE_ENTRIES: Final = 300
APART_SECONDS: Final = 0.01  # a piece takes a fraction of a millisecond


class Work:
    """What some runs cost, in processor time of the thread that does them. Use it as the progress of each, between
    `begin` and `end`."""

    def __init__(self) -> None:
        self.runs_ns: list[int] = []
        self.pieces_ns: list[int] = []
        self._last = 0.0
        self._begun = self._before = 0

    def begin(self) -> None:
        """A run begins."""
        self._before, self._begun = len(self.pieces_ns), time.thread_time_ns()
        self._piece()

    def __call__(self, stage: str, done: float, total: float) -> None:
        if time.perf_counter() - self._last >= APART_SECONDS:
            self._piece()

    def end(self) -> None:
        """It is over, and counts."""
        self._piece()
        self.runs_ns.append(time.thread_time_ns() - self._begun - sum(self.pieces_ns[self._before :]))

    @property
    def pieces(self) -> float:
        """What a run costs on average, in pieces; NaN where none was done."""
        return fmean(self.runs_ns) / fmean(self.pieces_ns) if self.runs_ns else math.nan

    def _piece(self) -> None:
        begun = time.thread_time_ns()
        queue: list[tuple[int, int]] = []
        for number in range(PIECE_ENTRIES):
            heapq.heappush(queue, (number * 7919 % 1009, number))
        votes: dict[int, int] = {}
        while queue:
            at, number = heapq.heappop(queue)
            votes[number] = votes.get(number, 0) | 1 << at % 31
        self.pieces_ns.append(time.thread_time_ns() - begun)
        self._last = time.perf_counter()
