"""Runs side by side, on any `concurrent.futures.Executor`: a pool of processes here, or a cluster's.

Only a few more runs than there are workers are handed out at a time: a million of them cost no memory, and Ctrl-C has
little to take back. A worker that dies costs the runs that were handed out, which are done again; a run that kills
three workers is given up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from types import TracebackType
from typing import Any, Final

from tradebft.lab.processors import processors
from tradebft.lab.sweep.plan import Run
from tradebft.lab.sweep.row import head, row
from tradebft.scenarios.errors import ScenarioError

AHEAD: Final = 2  # runs handed out for each worker: one that it does, one that waits
ATTEMPTS: Final = 3
PARENT_SECONDS: Final = 1.0
MakeExecutor = Callable[[], AbstractContextManager[Executor]]
Task = Callable[[Run], dict[str, Any]]


class Crew:
    """So many workers of *make*'s executors, as a context. Where one dies, all are replaced."""

    def __init__(self, make: MakeExecutor, workers: int) -> None:
        self._make, self._workers = make, workers
        self._executors = ExitStack()

    def __enter__(self) -> Crew:
        self._hire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executors.__exit__(kind, error, trace)

    def _hire(self) -> None:
        self._executors.close()
        self._executor = self._executors.enter_context(self._make())

    def done(
        self, scenario: Mapping[str, Any], runs: Iterable[Run], engine: str = "reference"
    ) -> Iterator[dict[str, Any]]:
        """The rows of *runs*, in the order in which they are finished; no two of them bear one number."""
        task = partial(row, scenario, engine=engine)
        attempts: Counter[int] = Counter()
        left = iter(runs)
        while True:
            lost: list[Run] = []
            yield from _until_broken(self._executor, task, left, self._workers, lost)
            if not lost:
                return
            self._hire()
            attempts.update(run.number for run in lost)
            again = [run for run in lost if attempts[run.number] < ATTEMPTS]
            for run in lost:
                if attempts[run.number] == ATTEMPTS:
                    yield {**head(run), "error": f"its worker died {ATTEMPTS} times"}
            left = chain(again, left)


def _until_broken(
    executor: Executor, task: Task, runs: Iterator[Run], workers: int, lost: list[Run]
) -> Iterator[dict[str, Any]]:
    """Rows until there are no more runs, or until a worker dies: *lost* is then what was handed out."""
    out: dict[Future[dict[str, Any]], Run] = {}
    room = AHEAD * workers
    try:
        while True:
            for run in islice(runs, room - len(out)):
                out[_hand_out(executor, task, run, lost)] = run
            if not out:
                return
            finished, _ = wait(out, return_when=FIRST_COMPLETED)
            for future in finished:
                found = future.result()
                del out[future]
                yield found
    except BrokenExecutor:
        lost += out.values()


def _hand_out(executor: Executor, task: Task, run: Run, lost: list[Run]) -> Future[dict[str, Any]]:
    try:
        return executor.submit(task, run)
    except BrokenExecutor:
        lost.append(run)
        raise


# --- processes of this machine ---


def processes(workers: int | None) -> tuple[MakeExecutor, int]:
    """Makes pools of processes of this machine, and how many these are (None: one a processor)."""
    count = workers or processors()

    @contextmanager
    def make() -> Iterator[Executor]:
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(os.getpid(),),
        )
        try:
            yield pool
            pool.shutdown()
        finally:  # after Ctrl-C nobody waits for runs that take minutes
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()

    return make, count


def _begin(parent: int) -> None:
    """In a worker: Ctrl-C is the parent's affair, and without a parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- a cluster ---


def dask_cluster(address: str) -> tuple[MakeExecutor, int]:
    """Makes executors of the Dask cluster at *address*, and how many workers it has now. ScenarioError where Dask is
    not installed or nobody answers."""
    try:
        from distributed import Client
    except ImportError:
        raise ScenarioError("--dask: Dask is not installed; expected `pip install tradebft[dask]`") from None
    connected: Callable[..., Any] = Client
    try:
        with connected(address, timeout="10s", set_as_default=False) as client:
            workers = sum(client.nthreads().values())
    except (OSError, ValueError, TimeoutError) as error:
        raise ScenarioError(
            f"--dask {address}: no scheduler answers: {' '.join(str(error).split())}"
        ) from None
    if not workers:
        raise ScenarioError(f"--dask {address}: the cluster has no workers")

    @contextmanager
    def make() -> Iterator[Executor]:
        with connected(address, set_as_default=False) as client, client.get_executor(pure=False) as executor:
            yield executor

    return make, workers
