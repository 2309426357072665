"""When replicas would ask their peers what they miss: `consensus.recovery`'s timer, for all of them at once.

Times in ns. Nobody asks here: a replica whose timer goes off twice in a batch is not covered, though votes that it got
meanwhile may keep it from asking.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.interface import Config
from tradebft.consensus.pbft.state import STATUS_TIMER
from tradebft.consensus.round_trip import LEAST_NS
from tradebft.network.engines import Uncovered
from tradebft.network.recorder import TIMER_EVENT
from tradebft.network.trace import mixed, short
from tradebft.network.wavefront import bulk
from tradebft.network.wavefront.order import NEVER, Times

Square = NDArray[np.int64]  # of two dimensions
ASKS: Final = "a replica that asks its peers what it misses"
TOGETHER: Final = 256  # rows that are mixed at once
A_BATCH: Final = 3  # rows that a batch adds at most
DUE, USUAL, DEVIATION, RUNS, PROGRESS, UNTIL = range(6)
BUSY, NOTICED, EXECUTED, ACCEPTED = range(4)


def over(clocks: Square, batch: Square, rang: Square, count: int, longest: int, fixed: bool) -> int:
    """Take the timers *clocks* (6, n) through a *batch* (4, n); what is in the rows is said at `Watch.over`.

    What rings goes to *rang*, a row for each time, from row *count* on; `NEVER` for those that do not. Returns the next
    free row, or -1: somebody asks. Compiled where numba is there.
    """
    due, usual, deviation, until = clocks[DUE], clocks[USUAL], clocks[DEVIATION], clocks[UNTIL]
    runs, progress = clocks[RUNS] > 0, clocks[PROGRESS] > 0
    # Of all or none: all of them execute the first batch before anybody hears of the second.
    known = usual[0] > 0
    # Else nothing is due before the last thing that happens.
    if (due < batch[EXECUTED]).any() or not runs.all():
        interval = np.full_like(due, longest)
        if not fixed and known:
            interval = np.minimum(interval, np.maximum(2 * (usual + 4 * deviation), LEAST_NS))
        interval[0] += interval[0] // 3  # the primary: others' questions come first
        whose = runs & (due < batch[BUSY])  # nothing was outstanding
        if whose.any():
            rang[count] = np.where(whose & (due < until), due, NEVER)
            count += 1
            runs &= ~whose
        for moment in (NOTICED, EXECUTED):  # something is: go on as long as there is progress
            whose, idle = runs & (due < batch[moment]), ~runs
            if (whose & ~progress & (due < until)).any():
                return -1
            if whose.any():
                rang[count] = np.where(whose & (due < until), due, NEVER)
                count += 1
            since = np.where(idle, batch[moment], due)
            whose |= idle
            due[:] = np.where(whose, since + interval, due)
            runs |= idle
            progress = ~whose  # whoever set it before this moment has heard of the batch since
        if ((due < batch[EXECUTED]) & (due < until)).any():
            return -1  # it goes off once more
        clocks[RUNS] = 1
    clocks[PROGRESS] = 1
    sample = batch[EXECUTED] - batch[ACCEPTED]  # `RoundTrip.sample`
    if known:
        error = sample - usual
        # By shifts, which round as // does and take a tenth of its time.
        usual[:] = np.maximum(usual + (error >> 3), 1)
        deviation += (np.abs(error) - deviation) >> 2
    else:
        usual[:], deviation[:] = np.maximum(sample, 1), sample >> 1
        if not fixed:  # set anew, now that it is known for how long
            interval = np.minimum(longest, np.maximum(2 * (usual + 4 * deviation), LEAST_NS))
            interval[0] += interval[0] // 3
            due[:] = batch[EXECUTED] + interval
            clocks[PROGRESS] = 0
    return count


class Watch:
    """The timer of each replica, and the times that it is set by (`RoundTrip`)."""

    def __init__(self, config: Config, until: Times) -> None:
        n = config.nodes
        self._longest, self._fixed = config.status_ns, config.status_interval_ns > 0
        self._clocks = np.zeros((6, n), dtype=np.int64)
        self._clocks[UNTIL] = until
        self._batch = np.empty((4, n), dtype=np.int64)
        self._rang = np.empty((TOGETHER, n), dtype=np.int64)
        self._count = 0  # rows of it
        self._over = bulk.fast(over)
        self._sum = 0  # of those in the trace digest

    def over(self, busy: Times, noticed: Times, executed: Times, accepted: Times) -> None:
        """A batch, at each replica: *busy*, something is outstanding; *noticed*, the timer is set if it does not run;
        *executed*; *accepted*, from when a round trip counts."""
        batch = self._batch
        batch[BUSY], batch[NOTICED], batch[EXECUTED], batch[ACCEPTED] = busy, noticed, executed, accepted
        self._count = self._over(self._clocks, batch, self._rang, self._count, self._longest, self._fixed)
        if self._count < 0:
            raise Uncovered(ASKS)
        if self._count > len(self._rang) - A_BATCH:
            self._mix(int(accepted[0]))  # now, at the primary: what is due later is not certain to happen
        if self._count > len(self._rang) - A_BATCH:
            self._rang = np.concatenate((self._rang, np.empty_like(self._rang)))

    def finish(self, end: int, waiting: int) -> int:
        """Nothing happens from *end* on; nothing is outstanding but requests at the primary, since *waiting*. What
        rang, as the trace digest has it."""
        busy = np.full(self._batch.shape[1], end)
        ends = busy.copy()
        busy[0] = min(waiting, end)
        self.over(busy, ends, ends, ends)
        self._mix(end)
        return self._sum

    def _mix(self, before: int) -> None:
        """What rang before that instant."""
        rang = self._rang[: self._count]
        sure = rang < before
        _, replicas = np.nonzero(sure)
        self._sum += mixed(TIMER_EVENT, replicas, 0, 0, short(STATUS_TIMER.encode()), 0, rang[sure])
        rang[sure] = NEVER
        left = rang[(rang < NEVER).any(axis=1)]
        self._count = len(left)
        self._rang[: self._count] = left
