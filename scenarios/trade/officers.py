"""Officers at their desks: a queue for a place on a desk, then work that goes on while the bank is open.

The stages' durations are elapsed ones: a file lies on a desk for two days without anybody reading for two days. An
officer therefore has several files at once, 10 on paper (assumption); the platform's review is minutes of attention,
one file at a time.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import simpy
from tradebft.scenarios.trade.workdays import Workdays

PAPER_FILES_EACH: Final = 10
"""Files an officer has in hand on paper (assumption)."""
DIGITAL_FILES_EACH: Final = 1
"""Applications an officer reviews at a time on the platform."""


class Desk:
    """The officers of one bank. The environment's clock is integer ns since 00:00 of the first of `workdays`."""

    def __init__(self, env: simpy.Environment, workdays: Workdays, officers: int, files_each: int) -> None:
        """ValueError unless there is at least one officer with one file."""
        if officers < 1 or files_each < 1:
            raise ValueError(f"expected at least 1 officer and 1 file each, got {officers} and {files_each}")
        self._env = env
        self._workdays = workdays
        self._places = simpy.Resource(env, capacity=officers * files_each)

    @property
    def waiting(self) -> int:
        """Files that wait for a place."""
        return len(self._places.queue)

    def work(self, business_ns: int, counts_now: bool = True) -> Generator[Any, Any, tuple[int, int]]:
        """Handle one file: `end_ns, waited_ns = yield from desk.work(...)` in a process.

        First come, first served; a place is kept until the work is done. waited_ns is the time in the queue and the
        closed hours before work began; closed hours during the work are part of the work. `counts_now=False`: the
        file takes no place now (the exporter works on it, or it is out of the house); it only keeps bank hours.
        """
        asked = int(self._env.now)
        if not counts_now:
            return (yield from self._open_hours(business_ns, asked))
        with self._places.request() as place:
            yield place
            return (yield from self._open_hours(business_ns, asked))

    def _open_hours(self, business_ns: int, asked_ns: int) -> Generator[Any, Any, tuple[int, int]]:
        now = int(self._env.now)
        begin = self._workdays.next_open(now)
        end = self._workdays.add_business(begin, business_ns)
        yield self._env.timeout(end - now)
        return end, begin - asked_ns
