"""When replicas would ask their peers what they miss: `consensus.recovery`'s timer, for all of them at once.

Times in ns. Nobody asks here: a replica whose timer goes off twice without progress is not covered.
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
from tradebft.network.wavefront.order import Times

Some = NDArray[np.bool_]
TOGETHER: Final = 256  # that are mixed at once


class Watch:
    """The timer of each replica, and the times that it is set by (`RoundTrip`)."""

    def __init__(self, config: Config, until: Times) -> None:
        n = config.nodes
        self._longest, self._fixed = config.status_ns, config.status_interval_ns > 0
        self._runs = np.zeros(n, dtype=np.bool_)
        self._progress = np.zeros(n, dtype=np.bool_)  # since it was set
        self._everybody = np.ones(n, dtype=np.bool_)
        self._all_run = False
        self._due = np.zeros(n, dtype=np.int64)
        self._usual = np.zeros(n, dtype=np.int64)
        self._deviation = np.zeros(n, dtype=np.int64)
        self._until = until
        self._known = False
        self._one, self._least = np.array(1), np.array(LEAST_NS)
        self._rang: list[tuple[Times, Some]] = []  # when, and whose
        self._sum = 0  # of those in the trace digest

    def over(self, busy: Times, noticed: Times, executed: Times, accepted: Times) -> None:
        """A batch, at each replica: *busy*, something is outstanding; *noticed*, the timer is set if it does not run;
        *executed*; *accepted*, from when a round trip counts."""
        late = self._due < executed
        if (
            late.any() or not self._all_run
        ):  # else nothing is due before, for nothing comes after the execution
            self._ring(self._runs & (self._due < busy))
            self._again(self._runs & (self._due < noticed))
            idle = ~self._runs
            if idle.any():
                self._set(idle, noticed)
            self._again(self._due < executed)
            self._all_run = bool(self._runs.all())
        self._progress = self._everybody
        self._took(executed - accepted)
        if len(self._rang) >= TOGETHER:
            self._mix(int(accepted[0]))  # now, at the primary: what is due later is not certain to happen

    def finish(self, end: int, waiting: int) -> int:
        """Nothing happens from *end* on; nothing is outstanding but requests at the primary, since *waiting*. What
        rang, as the trace digest has it."""
        busy = np.full_like(self._due, end)
        busy[0] = min(waiting, end)
        self._ring(self._runs & (self._due < busy))
        while (late := self._runs & (self._due < end)).any():
            self._again(late)
        self._mix(end)
        return self._sum

    def _ring(self, whose: Some) -> None:
        """Nothing was outstanding."""
        if whose.any():
            self._note(whose)
            self._runs = self._runs & ~whose

    def _again(self, whose: Some) -> None:
        """Something was: go on as long as there is progress."""
        if whose.any():
            if not (self._progress | (self._due >= self._until))[whose].all():
                raise Uncovered("a replica that asks its peers what it misses")
            self._note(whose)
            self._set(whose, self._due)

    def _note(self, whose: Some) -> None:
        self._rang.append((self._due, whose & (self._due < self._until)))  # no array is ever changed in place

    def _mix(self, before: int) -> None:
        """What rang before that instant."""
        if not self._rang:
            return
        due, rang = (np.stack(column) for column in zip(*self._rang, strict=True))
        sure = rang & (due < before)
        _, replicas = np.nonzero(sure)
        self._sum += mixed(TIMER_EVENT, replicas, 0, 0, short(STATUS_TIMER.encode()), 0, due[sure])
        self._rang = [(one, left) for one, left in zip(due, rang & ~sure, strict=True) if left.any()]

    def _set(self, whose: Some, now: Times) -> None:
        interval = np.full_like(self._due, self._longest)
        if not self._fixed and self._known:
            patience = 2 * (self._usual + 4 * self._deviation)
            np.minimum(interval, np.maximum(patience, self._least, out=patience), out=interval)
        interval[0] += int(interval[0]) // 3  # the primary: others' questions come first
        interval += now
        self._due = interval if whose.all() else np.where(whose, interval, self._due)
        self._runs = self._runs | whose
        self._progress = self._progress & ~whose

    def _took(self, sample: Times) -> None:
        """`RoundTrip.sample`."""
        if not self._known:  # of none: all of them execute the first batch before anybody hears of the second
            self._usual, self._deviation, self._known = np.maximum(1, sample), sample // 2, True
            return
        error = sample - self._usual
        # By shifts, which round as // does and take a tenth of its time.
        self._usual = np.maximum(self._usual + (error >> 3), self._one)
        self._deviation = self._deviation + (np.abs(error) - self._deviation >> 2)
