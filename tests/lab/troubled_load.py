"""A workload of somebody's own, at which runs or the processes that do them may fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Load:
    """*requests* one after another. *fatal* "kill": the first run, of those that know one *marker*, kills its process;
    "raise": every run fails; else none. More requests than *bearable* kill every process."""

    def __init__(self, fatal: str, marker: str, requests: int = 3, bearable: int = 100) -> None:
        self.clients = ["client.0"]
        self._fatal, self._marker, self._requests, self._bearable = fatal, Path(marker), requests, bearable

    def run(self, cluster: Any) -> Any:
        if self._fatal == "kill" and not self._marker.exists():
            self._marker.touch()
            os._exit(9)
        if self._requests > self._bearable:
            os._exit(9)
        if self._fatal == "raise":
            raise ValueError("no such\nload")
        for _ in range(self._requests):
            answered = cluster.env.event()
            cluster.clients["client.0"].submit(
                cluster.env.time, b"x", "", lambda record, answered=answered: answered.succeed()
            )
            yield answered


def scenario(folder: Path, **parameters: object) -> Path:
    """A file with this load, its marker beside it."""
    values = {"fatal": "no", "marker": str(folder / "once"), **parameters}
    path = folder / "own.toml"
    lines = [
        f"{key} = {value!r}" for key, value in values.items()
    ]  # single quotes are TOML's literal strings
    path.write_text("\n".join(['[network]\nnodes = 4\n[workload]\nkind = "troubled_load:Load"', *lines, ""]))
    return path
