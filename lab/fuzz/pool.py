"""Worker processes that try seeds side by side. One that dies or hangs costs its seed, not the run.

Processes of their own and not `multiprocessing`: a worker is then a fresh interpreter wherever the swarm is called
from, Ctrl-C reaches the parent alone, and a kill of one worker breaks nothing else.
"""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import msgspec
from tradebft.lab.fuzz.outcome import Outcome
from tradebft.lab.fuzz.swarm import Options

STALL_SECONDS: Final = 300.0  # a trial takes about a tenth of one; who takes this long is in an endless loop
ATTEMPTS: Final = 2  # how often a seed is tried whose worker died
_ANSWER = msgspec.json.Decoder(Outcome | str)


class Worker:
    """One process, and the seed that it works on."""

    def __init__(self, options: Options) -> None:
        command = [sys.executable, "-m", "tradebft.lab.fuzz.worker", msgspec.json.encode(options).decode()]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.questions, self.answers = self.process.stdin, self.process.stdout
        self.seed: int | None = None
        self.since = 0.0

    def take(self, seed: int) -> None:
        """Hand it a seed; it is idle."""
        self.seed, self.since = seed, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died: its silence tells
            self.questions.write(b"%d\n" % seed)
            self.questions.flush()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.questions.close()
        self.answers.close()


class Pool:
    """So many workers, as a context: none is left when it is over."""

    def __init__(self, workers: int, options: Options) -> None:
        if workers < 1:
            raise ValueError(f"expected at least 1 worker, got {workers}")
        self._count, self._options = workers, options
        self._workers: list[Worker] = []
        self._ready = selectors.DefaultSelector()
        self._attempts: dict[int, int] = {}

    def __enter__(self) -> Pool:
        for _ in range(self._count):
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._ready.close()

    def run(self, seeds: Iterator[int]) -> Iterator[tuple[int, Outcome | str]]:
        """(seed, outcome) in the order in which they come; for a seed without an outcome, why it has none."""
        for worker in self._workers:
            self._feed(worker, seeds)
        while any(worker.seed is not None for worker in self._workers):
            for key, _ in self._ready.select(timeout=1.0):
                worker = key.data
                seed = worker.seed
                line = worker.answers.readline()
                if line.endswith(b"\n"):
                    self._feed(worker, seeds)
                    yield seed, _ANSWER.decode(line)
                else:
                    yield from self._replace(worker, seeds, "its worker died")
            now = time.monotonic()
            for worker in list(self._workers):
                if worker.seed is not None and now - worker.since > STALL_SECONDS:
                    self._attempts[worker.seed] = ATTEMPTS  # once more would be no quicker
                    yield from self._replace(worker, seeds, f"no outcome within {STALL_SECONDS:.0f} s")

    def _start(self) -> Worker:
        worker = Worker(self._options)
        self._workers.append(worker)
        self._ready.register(worker.answers, selectors.EVENT_READ, worker)
        return worker

    def _feed(self, worker: Worker, seeds: Iterator[int]) -> None:
        worker.seed = None
        seed = next(seeds, None)
        if seed is not None:
            worker.take(seed)

    def _replace(self, worker: Worker, seeds: Iterator[int], why: str) -> Iterator[tuple[int, Outcome | str]]:
        """A worker is gone: another takes its place, and tries its seed once more."""
        seed = worker.seed
        self._ready.unregister(worker.answers)
        self._workers.remove(worker)
        worker.stop()
        fresh = self._start()
        if seed is None:
            self._feed(fresh, seeds)
            return
        self._attempts[seed] = self._attempts.get(seed, 0) + 1
        if self._attempts[seed] < ATTEMPTS:
            fresh.take(seed)
            return
        self._feed(fresh, seeds)
        yield seed, why
