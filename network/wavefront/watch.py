"""When replicas would ask their peers what they miss: `consensus.recovery`'s timer, for all of them at once.

Times in ns. Nobody asks here: a replica that comes no further for a whole interval is not covered.
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
Cube = NDArray[np.int64]  # of three
ASKS: Final = "a replica that asks its peers what it misses"
IN_ONE: Final = "a timer that goes off in the nanosecond of a proposal"
TOGETHER: Final = 256  # times that each replica's timer rings, on average, before they are mixed
A_BATCH: Final = 8  # times that it does in one batch at most
# The last three are when it came further: with the batch before, with checkpoints.
DUE, USUAL, DEVIATION, RUNS, UNTIL, MOVED, STABLE, STABLE_BEFORE = range(8)
NOTICED, EXECUTED, ACCEPTED = range(3)


def over(
    clocks: Square, batch: Square, votes: Cube, rang: Square, count: int, longest: int, fixed: bool
) -> int:
    """Take the timers *clocks* (8, n) through a *batch* (3, n) and its *votes* (2, n, n), as `Watch.over` has them.

    What rings goes to *rang* (2, ...), when and whose, from place *count* on. Returns the next free place; -1: somebody
    asks; -2: nobody knows. Compiled where numba is there.
    """
    due, usual, deviation, until = clocks[DUE], clocks[USUAL], clocks[DEVIATION], clocks[UNTIL]
    executed = batch[EXECUTED]
    # Of all or none: all of them execute the first batch before anybody hears of the second.
    known = usual[0] > 0
    interval = np.full_like(due, longest)
    if not fixed and known:
        interval = np.minimum(interval, np.maximum(2 * (usual + 4 * deviation), LEAST_NS))
    interval[0] += interval[0] // 3  # the primary: others' questions come first
    # Of the others nothing is due before the last thing that happens.
    for r in np.flatnonzero((due < executed) | (clocks[RUNS] == 0)):
        rings = 0
        while True:
            if not clocks[RUNS, r]:
                clocks[RUNS, r], due[r] = 1, batch[NOTICED, r] + interval[r]
            if due[r] >= min(executed[r], until[r]):
                break
            if rings == A_BATCH:
                return -1
            if due[r] == batch[NOTICED, r] == batch[ACCEPTED, 0]:
                return -2  # at the primary; which of its two timers is first, nobody knows here
            rings += 1
            rang[0, count], rang[1, count] = due[r], r
            count += 1
            if due[r] < batch[NOTICED, r]:
                clocks[RUNS, r] = 0  # nothing was outstanding
                continue
            heard = votes[:, :, r]
            further = max(clocks[MOVED, r], np.where(heard <= due[r], heard, 0).max())
            for stable in (clocks[STABLE, r], clocks[STABLE_BEFORE, r]):
                if stable <= due[r]:
                    further = max(further, stable)
            if further + interval[r] <= due[r]:
                return -1
            due[r] = further + interval[r]
    clocks[MOVED] = executed
    sample = executed - batch[ACCEPTED]  # `RoundTrip.sample`
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
            due[:] = executed + interval
    return count


class Watch:
    """The timer of each replica, and the times that it is set by (`RoundTrip`)."""

    def __init__(self, config: Config, until: Times) -> None:
        n = config.nodes
        self._longest, self._fixed = config.status_ns, config.status_interval_ns > 0
        self._clocks = np.zeros((8, n), dtype=np.int64)
        self._clocks[UNTIL] = until
        self._batch = np.empty((3, n), dtype=np.int64)
        self._rang = np.empty((2, (TOGETHER + A_BATCH) * n), dtype=np.int64)
        self._count = 0  # of it
        self._over = bulk.fast(over)
        self._sum = 0  # of those in the trace digest

    def stable(self, times: Times) -> None:
        """A checkpoint becomes stable at each replica."""
        self._clocks[STABLE_BEFORE] = self._clocks[STABLE]
        self._clocks[STABLE] = times

    def over(self, noticed: Times, executed: Times, accepted: Times, votes: Cube) -> None:
        """A batch, at each replica: *noticed*, something is outstanding, and the timer is set if it does not run;
        *executed*; *accepted*, from when a round trip counts; when it hears of *votes* (`Wave.votes`)."""
        batch, n = self._batch, self._batch.shape[1]
        batch[NOTICED], batch[EXECUTED], batch[ACCEPTED] = noticed, executed, accepted
        if self._count > TOGETHER * n:
            self._mix(int(accepted[0]))  # now, at the primary: what is due later is not certain to happen
        if self._count > TOGETHER * n:
            self._rang = np.concatenate((self._rang, np.empty_like(self._rang)), axis=1)
        self._count = self._over(
            self._clocks, batch, votes, self._rang, self._count, self._longest, self._fixed
        )
        if self._count < 0:
            raise Uncovered(ASKS if self._count == -1 else IN_ONE)

    def finish(self, end: int) -> int:
        """Nothing is outstanding any more, nor happens from *end* on. What rang, as the trace digest has it."""
        ends = np.full(self._batch.shape[1], end)
        self.over(ends, ends, ends, np.full((2, 1, len(ends)), NEVER))
        self._mix(end)
        return self._sum

    def _mix(self, before: int) -> None:
        """What rang before that instant."""
        rang = self._rang[:, : self._count]
        sure = rang[0] < before
        times, replicas = rang[:, sure]
        self._sum += mixed(TIMER_EVENT, replicas, 0, 0, short(STATUS_TIMER.encode()), 0, times)
        left = rang[:, ~sure]
        self._count = left.shape[1]
        self._rang[:, : self._count] = left
