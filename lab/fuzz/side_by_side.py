"""Pieces of a long enumeration, worked off here or by several processes, with the answers in the order of the pieces.

Which pieces there are does not depend on the number of processes, so what comes of them does not either.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

P = TypeVar("P")
A = TypeVar("A")


def worked_off(function: Callable[[P], A], pieces: Iterable[P], workers: int) -> Iterator[A]:
    """function(piece) for each piece, in order. *function* is one of a module: processes import it anew."""
    if workers < 1:
        raise ValueError(f"expected at least 1 worker, got {workers}")
    if workers == 1:
        yield from map(function, pieces)
        return
    rest = iter(pieces)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_leave_signals)
    try:
        under_way: deque[Future[A]] = deque(
            pool.submit(function, piece) for piece in islice(rest, 2 * workers)
        )
        while under_way:
            answer = under_way.popleft().result()
            under_way.extend(pool.submit(function, piece) for piece in islice(rest, 1))
            yield answer
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals() -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches everybody in a terminal; the parent ends the run
