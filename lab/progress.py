"""Progress on stderr: a bar a stage, and nothing at all for work that is over within a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float, float], None]
"""Called as progress(stage, done, total): `stage` is a short phrase, `done` and `total` share any one unit.
"""

PATIENCE_SECONDS = 1.0


def silent(stage: str, done: float, total: float) -> None:
    """The progress of somebody who does not want to see any."""


class Bar:
    """Draws with rich on stderr, from the second second on. Not thread safe; close it (or use `bar()`)."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._begun = time.monotonic()
        self._display: Any = None
        self._tasks: dict[str, Any] = {}
        self._drawn_at = 0.0

    def __call__(self, stage: str, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._begun < self._patience_seconds:
            return
        # A simulation reports far more often than an eye can follow; the end of a stage is always drawn.
        if now - self._drawn_at < 0.1 and done < total:
            return
        self._drawn_at = now
        if self._display is None:
            self._display = _display()
            if not self._display.console.is_terminal:  # a log file has no use for a bar
                self._patience_seconds = float("inf")
                self._display = None
                return
            self._display.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(stage, total=total)
        self._display.update(self._tasks[stage], completed=done, total=total)

    def close(self) -> None:
        """Take the bars off the screen."""
        if self._display is not None:
            self._display.stop()
            self._display = None


def _display() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def shown(quiet: bool) -> Iterator[Progress]:
    """A bar, or for somebody who wants *quiet* none."""
    if quiet:
        yield silent
        return
    with bar() as drawn:
        yield drawn


@contextmanager
def bar(patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Bar]:
    """A bar that is taken off the screen again however the work ends."""
    drawn = Bar(patience_seconds)
    try:
        yield drawn
    finally:
        drawn.close()
