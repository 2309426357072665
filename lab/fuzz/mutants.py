"""`tradebft fuzz --mutant NAME|all`: does the fuzzer find bugs that are known to be there?

Each mutant is hunted in a process of its own until something is violated: with the swarm's first seeds, with the cases
that once broke something, with Twins scenarios, and then with the swarm again. What found it is then tried on the code
as it is, which must pass: what was found is the planted bug and nothing else. docs/mutants.md has the table.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec
from msgspec.structs import replace
from tradebft.consensus.invariants import Violation
from tradebft.lab.fuzz import planting, twin_scenario, twins
from tradebft.lab.fuzz.case import Case, load, save
from tradebft.lab.fuzz.planting import MutantError, plant
from tradebft.lab.fuzz.swarm import Options
from tradebft.lab.fuzz.trial import try_case
from tradebft.lab.fuzz.twin_scenario import Scenario, play
from tradebft.lab.progress import Progress, silent

if TYPE_CHECKING:
    from tradebft.lab.fuzz_cli import Hunt

__all__ = ["MutantError", "Prey", "Task", "find", "hunt", "hunt_all", "plant"]

SEEDS_FIRST: Final = 20  # of the swarm, before anything else: half of the mutants live no longer
SCENARIOS_FIRST: Final = 500  # of the Twins kind, for each number of views
SECONDS_EACH: Final = 900.0  # a mutant that lives so long is a survivor
GRACE_SECONDS: Final = 30.0  # for the start of a process, and for a trial that was begun
FOUND_ALL, SURVIVORS, INTERRUPTED = 0, 1, 130


class Prey(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the hunt for one mutant."""

    name: str
    killed: bool
    seed: int | None  # that killed it; of Twins, the number of the scenario
    seconds: float  # of wall time until then
    seeds_tried: int
    found_by: str = ""  # "swarm", "twins", or "corpus: NAME"
    invariant: str = ""  # the first that broke
    what: str = ""
    nodes: int = 0
    clean: bool = True  # whether the code as it is passes every seed with a violation
    unclean_seeds: list[int] = []  # those that it does not pass
    replay: str = ""


class Task(msgspec.Struct, frozen=True):
    """What the process that hunts one mutant is told. *seeds*: first and last of the swarm, which is all that is tried
    then; None: everything there is, and the swarm without end."""

    options: Options
    seeds: tuple[int, int] | None = None
    seconds: float = SECONDS_EACH
    out: str = ""  # folder for the replay file; "" leaves none


def find(task: Task) -> Prey:
    """Hunt one mutant in this process. A seed that breaks the code as it is, too, proves nothing: on to the next."""
    options = task.options
    begun = time.monotonic()
    tried = 0
    unclean: list[int] = []
    for bait in _baits(task):
        first, digest = _tried(bait, options.mutant)
        tried += 1
        seconds = round(time.monotonic() - begun, 3)
        if first is not None and _tried(bait, "")[0] is not None:
            unclean.append(bait.seed)
        elif first is not None:
            return Prey(
                name=options.mutant,
                killed=True,
                seed=bait.seed,
                seconds=seconds,
                seeds_tried=tried,
                found_by=bait.by,
                invariant=first.invariant,
                what=first.what,
                nodes=bait.what.config.nodes if isinstance(bait.what, Case) else twin_scenario.NODES,
                clean=not unclean,
                unclean_seeds=unclean,
                replay=_replay(task, bait, first, digest),
            )
        if seconds >= task.seconds:
            break
    seconds = round(time.monotonic() - begun, 3)
    return Prey(
        name=options.mutant,
        killed=False,
        seed=None,
        seconds=seconds,
        seeds_tried=tried,
        clean=not unclean,
        unclean_seeds=unclean,
    )


class _Bait(NamedTuple):
    """Something to try a mutant with."""

    by: str  # as in Prey.found_by
    seed: int
    what: Case | Scenario


def _baits(task: Task) -> Iterator[_Bait]:
    """In this order. The swarm is the widest; the others need what it draws rarely."""
    swarm = (_Bait("swarm", seed, task.options.case(seed)) for seed in count())
    if task.seeds is not None:
        first, last = task.seeds
        yield from (_Bait("swarm", seed, task.options.case(seed)) for seed in range(first, last + 1))
        return
    yield from islice(swarm, SEEDS_FIRST)
    for path in sorted(planting.folder().parent.glob("lab/fuzz_corpus/*.json")):
        case = load(path).case
        yield _Bait(f"corpus: {path.stem}", case.seed, case)
    for views in (5, 4, 3):  # several changes of view, which the swarm draws rarely
        for number, drawn in enumerate(islice(twins.drawn(views, 0, False), SCENARIOS_FIRST)):
            yield _Bait("twins", number, twins.scenario_of(drawn))
    yield from swarm


def _tried(bait: _Bait, mutant: str) -> tuple[Violation | None, str]:
    """The first violation, and the digest of the run (of a Twins scenario there is none)."""
    if isinstance(bait.what, Case):
        outcome = try_case(replace(bait.what, mutant=mutant))
        return outcome.first, outcome.digest
    with plant(mutant) if mutant else nullcontext():
        return next(iter(play(bait.what).violations), None), ""


def _replay(task: Task, bait: _Bait, first: Violation, digest: str) -> str:
    if not task.out:
        return ""
    path = Path(task.out) / f"mutant-{task.options.mutant}.json"
    if isinstance(bait.what, Case):
        save(path, replace(bait.what, mutant=task.options.mutant), first, digest)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        twin_scenario.save(path, bait.what, first)
    return str(path)


def hunt(asked: Hunt) -> tuple[dict[str, Any], int]:
    """What `tradebft fuzz --mutant` calls: the document that it prints, and its exit code."""
    try:
        names = planting.names() if asked.names == "all" else [asked.names]
        for name in names:
            planting.changes(name)  # a patch that does not fit is told at once
    except MutantError as error:
        raise click.UsageError(str(error)) from None
    seconds = (
        60 * asked.minutes * min(asked.workers, len(names)) / len(names) if asked.minutes else SECONDS_EACH
    )
    tasks = [
        Task(replace(asked.options, mutant=name), asked.seeds, seconds, str(asked.out)) for name in names
    ]
    begun = time.monotonic()
    found: list[Prey] = []
    interrupted = False
    try:
        for prey in hunt_all(tasks, asked.workers, asked.progress):
            found.append(prey)
    except KeyboardInterrupt:
        interrupted = True
    found.sort(key=lambda prey: prey.name)
    survivors = [prey.name for prey in found if not prey.killed]
    unclean = [prey.name for prey in found if not prey.clean]
    document = {
        "command": "fuzz --mutant",
        "complete": not interrupted,
        "mutants": [msgspec.to_builtins(prey) for prey in found],
        "killed": sum(prey.killed for prey in found),
        "survivors": survivors,
        "clean": not unclean,
        "unclean": unclean,
        "wall_seconds": round(time.monotonic() - begun, 3),
    }
    if interrupted:
        return document, INTERRUPTED
    return document, SURVIVORS if survivors or unclean else FOUND_ALL


def hunt_all(tasks: Sequence[Task], workers: int, progress: Progress = silent) -> Iterator[Prey]:
    """Hunt several mutants, so many at a time, each in a process of its own; they come as they are done."""
    waiting = list(tasks)
    running: list[_Process] = []
    done = 0
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Process(waiting.pop(0)))
            time.sleep(0.02)
            for process in [each for each in running if each.over]:
                running.remove(process)
                done += 1
                progress("mutants", done, len(tasks))
                yield process.prey()
    finally:
        for process in running:
            process.stop()


class _Process:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._begun = time.monotonic()
        command = [sys.executable, "-m", "tradebft.lab.fuzz.mutants", msgspec.json.encode(task).decode()]
        self._popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._popen.stdout is not None
        self._answers = self._popen.stdout

    @property
    def over(self) -> bool:
        return self._popen.poll() is not None or self._late

    @property
    def _late(self) -> bool:
        """A mutant may hang: then it is found, too, although by nothing that the trial checks."""
        return time.monotonic() - self._begun > self._task.seconds + GRACE_SECONDS

    def prey(self) -> Prey:
        late = self._popen.poll() is None
        answer = b"" if late else self._answers.read()
        self.stop()
        if self._popen.returncode == 0:
            return msgspec.json.decode(answer, type=Prey)
        name, seconds = self._task.options.mutant, round(time.monotonic() - self._begun, 3)
        why = "no end" if late else "its process died"
        return Prey(name=name, killed=False, seed=None, seconds=seconds, seeds_tried=0, what=why)

    def stop(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        self._answers.close()


if __name__ == "__main__":
    answer = find(msgspec.json.decode(sys.argv[1], type=Task))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
