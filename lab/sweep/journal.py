"""What a sweep has done so far, a line a run: whoever is killed goes on from here.

The folder holds the plan (`sweep.json`) and one journal for each shard (`runs.jsonl`, `runs-2of4.jsonl`). A line that
was being written when its writer was killed is cut off again, and its run done once more.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
from tradebft.lab.results import ResultsError, put
from tradebft.lab.sweep.plan import FORMAT, Plan

PLAN: Final = "sweep.json"
_WHOLE: Final = (1, 1)


def plan_in(folder: Path) -> Plan:
    """The plan of a sweep's folder. ResultsError where it holds none."""
    path = folder / PLAN
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror or error}; expected the folder of a sweep") from None
    except msgspec.DecodeError as error:
        raise ResultsError(f"{path}: expected the plan of a sweep: {error}") from None
    if plan.format != FORMAT:
        raise ResultsError(f"{path}: expected format {FORMAT!r}, found {plan.format!r}")
    return plan


def journals(folder: Path) -> list[Path]:
    """All journals of a sweep's folder."""
    return sorted(folder.glob("runs*.jsonl"))


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The finished runs in a journal; not those that could not be done. A last line without an end does not count:
    somebody is still writing it, or was killed while doing so."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror or error}") from None
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise ResultsError(f"{path}:{number}: expected a row of a sweep") from None
        if "error" not in row:
            yield row


def done_in(folder: Path) -> set[int]:
    """Numbers of the runs that are finished, by all journals of a sweep's folder."""
    return {row["run"] for path in journals(folder) for row in rows_of(path)}


class Journal:
    """The folder of *plan*, open for one *shard*'s runs, as a context. Nobody else has it open at the same time."""

    def __init__(self, folder: Path, plan: Plan, shard: tuple[int, int] = _WHOLE) -> None:
        self.folder, self._plan = folder, plan
        one, all_ = shard
        self.path = folder / ("runs.jsonl" if shard == _WHOLE else f"runs-{one}of{all_}.jsonl")
        self._file: int | None = None
        self.done: set[int] = set()  # numbers of the runs that are finished, in whatever shard

    def __enter__(self) -> Journal:
        """ResultsError where the folder holds another sweep, cannot be written, or is in use."""
        self._claim()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise ResultsError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise ResultsError(f"{self.path}: another sweep is writing it") from None
        data = self.path.read_bytes()
        os.ftruncate(self._file, data.rfind(b"\n") + 1)
        self.done = done_in(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a run's *row*. ResultsError where the disk refuses."""
        assert self._file is not None
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        try:
            if os.write(self._file, line) != len(line):
                raise OSError("the disk is full")
        except OSError as error:
            raise ResultsError(
                f"{self.path}: cannot be written: {error.strerror or error}; the same command goes on from here"
            ) from None
        if "error" not in row:
            self.done.add(row["run"])

    def _claim(self) -> None:
        """Make the folder, or see that it belongs to this plan."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / PLAN).exists():
                if any(self.folder.iterdir()):
                    raise ResultsError(f"{self.folder}: expected a new folder or that of a sweep")
                put(self.folder / PLAN, msgspec.json.encode(self._plan))
        except OSError as error:
            raise ResultsError(f"{self.folder}: cannot be written: {error.strerror or error}") from None
        there = plan_in(self.folder)
        if there.identity != self._plan.identity:
            raise ResultsError(
                f"{self.folder}: holds another sweep ({_differs(there, self._plan)}); name another folder with --out"
            )


def _differs(one: Plan, other: Plan) -> str:
    for name in ("version", "grid", "first_seed", "seeds"):
        if getattr(one, name) != getattr(other, name):
            return f"its {name.replace('_', ' ')} is {_told(getattr(one, name))}"
    return f"its scenario {one.name!r} has other settings"


def _told(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{key}={','.join(values)}" for key, values in value) or "none"
    return str(value)
