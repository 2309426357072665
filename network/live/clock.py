"""Time on a real machine: nanoseconds that never run back, and timers on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Clock:
    """Nanoseconds since *origin_ns* (Unix time), the same on all machines as far as their clocks agree.

    It follows the wall clock as it was at the start and the monotonic clock from there, so that a clock that is set
    back does not show.
    """

    def __init__(self, origin_ns: int = 0) -> None:
        self.origin_ns = origin_ns
        self._offset = time.time_ns() - origin_ns - time.monotonic_ns()

    def now(self) -> int:
        """The time; never negative, never less than before."""
        return max(0, self._offset + time.monotonic_ns())


class Timers:
    """Named timers; setting one again replaces it. *fired* is called with the name of each that runs out."""

    def __init__(self, fired: Callable[[str], None]) -> None:
        self._fired = fired
        self._running: dict[str, asyncio.TimerHandle] = {}

    def set(self, name: str, delay_ns: int) -> None:
        """Run *name* out in *delay_ns*."""
        self.cancel(name)
        loop = asyncio.get_running_loop()
        self._running[name] = loop.call_later(delay_ns / 1e9, self._run_out, name)

    def cancel(self, name: str) -> None:
        """Stop *name*, if it runs."""
        handle = self._running.pop(name, None)
        if handle is not None:
            handle.cancel()

    def close(self) -> None:
        """Stop all of them."""
        for handle in self._running.values():
            handle.cancel()
        self._running.clear()

    def _run_out(self, name: str) -> None:
        del self._running[name]
        self._fired(name)
