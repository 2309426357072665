"""The results folder: written beside its place and renamed into it, so that it is whole or not there.

    result.json            the result document (docs/results.md)
    applications.parquet   requests.parquet   decisions.parquet   stages.parquet   round.parquet
    figures/*.svg, *.png   report.html        scenario.toml (resolved: every default written out)

A folder is enough to draw everything again: `load` gives back the document and the records.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from tradebft.lab import metrics
from tradebft.lab.progress import Progress, silent
from tradebft.lab.toml_text import to_toml
from tradebft.scenarios.records import (
    APPLICATION_COLUMNS,
    DECISION_COLUMNS,
    REQUEST_COLUMNS,
    ROUND_COLUMNS,
    STAGE_COLUMNS,
    Records,
)

RESULT = "result.json"
TABLES: dict[str, dict[str, Any]] = {
    "applications": APPLICATION_COLUMNS,
    "requests": REQUEST_COLUMNS,
    "decisions": DECISION_COLUMNS,
    "stages": STAGE_COLUMNS,
    "round": ROUND_COLUMNS,
}


class ResultsError(Exception):
    """A results folder that cannot be written or read. The message is one line and names the path."""


def save(
    directory: str | Path, document: dict[str, Any], records: Records, progress: Progress = silent
) -> Path:
    """Write the folder and return its path. An earlier results folder of that name is replaced.

    Raises ResultsError when the disk refuses, or when `directory` holds something that is not a results
    folder. After an error or Ctrl-C the earlier folder, if any, is untouched and nothing half-written is
    left.
    """
    target = Path(directory).absolute()
    _refuse_foreign(target)
    with _errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.partial-{os.getpid()}")
        try:
            _write(scratch, document, records, progress)
            _swap(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def redraw(directory: str | Path, progress: Progress = silent) -> Path:
    """Draw the figures and write the report of an existing folder again, and return the report's path."""
    target = Path(directory).absolute()
    document, records = load(target)
    return save(target, document, records, progress) / "report.html"


def load(directory: str | Path) -> tuple[dict[str, Any], Records]:
    """The document and the records of a results folder. Raises ResultsError if it is not a readable one."""
    folder = Path(directory)
    with _errors("read", folder):
        document = _read_document(folder)
        tables = {name: _read_table(folder, name) for name in TABLES}
    try:
        return document, _records(document, tables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{folder / RESULT}: not a complete result document ({error!r})") from error


def check_writable(directory: str | Path) -> None:
    """Raise ResultsError now if `save` to this folder would be refused for a reason that shows beforehand."""
    target = Path(directory).absolute()
    _refuse_foreign(target)
    existing = next(path for path in (target, *target.parents) if path.exists())
    if not existing.is_dir():
        raise ResultsError(f"{directory}: {existing} is a file, expected a folder")
    if not os.access(existing, os.W_OK):
        raise ResultsError(f"{directory}: no permission to write in {existing}")


def dumps(document: dict[str, Any]) -> str:
    """The document as strict JSON: UTF-8, no NaN, keys in the order of the reference."""
    return json.dumps(metrics.strict(document), ensure_ascii=False, indent=1, allow_nan=False)


def put(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all, in place of an earlier one. ResultsError where the disk refuses."""
    scratch = path.with_name(f".{path.name}.partial-{os.getpid()}")
    with _errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(data)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def _write(scratch: Path, document: dict[str, Any], records: Records, progress: Progress) -> None:
    from tradebft.lab import figures, report

    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "figures").mkdir(parents=True)
    # The small, precious things first: a disk that fills up shows early.
    (scratch / RESULT).write_text(dumps(document) + "\n", encoding="utf-8")
    (scratch / "scenario.toml").write_text(to_toml(records.scenario), encoding="utf-8")
    for name in TABLES:
        getattr(records, name).write_parquet(scratch / f"{name}.parquet")
    drawings = {}
    for done, (name, total, figure) in enumerate(figures.draw(document, records)):
        progress("drawing figures", done, total)
        drawings[name] = figures.svg(figure, name)
        (scratch / "figures" / f"{name}.svg").write_text(drawings[name], encoding="utf-8")
        (scratch / "figures" / f"{name}.png").write_bytes(figures.png(figure))
        progress("drawing figures", done + 1, total)
    (scratch / "report.html").write_text(report.html(document, drawings), encoding="utf-8")


def _swap(scratch: Path, target: Path) -> None:
    """Put the finished folder in its place; if that fails the earlier one comes back."""
    earlier = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    if target.exists():
        target.rename(earlier)
    try:
        scratch.rename(target)
    except BaseException:
        if earlier.exists():
            earlier.rename(target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _refuse_foreign(target: Path) -> None:
    if target.is_dir() and any(target.iterdir()) and not (target / RESULT).is_file():
        raise ResultsError(f"{target}: holds files that are not results; name an empty or new folder")
    if target.exists() and not target.is_dir():
        raise ResultsError(f"{target}: is a file, expected a folder")


@contextmanager
def _errors(verb: str, target: Path) -> Iterator[None]:
    """Everything a disk can say, as one type with one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or target
        raise ResultsError(f"cannot {verb} {where}: {error.strerror or error}") from error
    except pl.exceptions.PolarsError as error:
        raise ResultsError(f"cannot {verb} the tables in {target}: {str(error).splitlines()[0]}") from error


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / RESULT
    if not path.is_file():
        raise ResultsError(
            f"{folder}: no {RESULT} here; expected a results folder written by `tradebft run --out`"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON ({error})") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != metrics.SCHEMA_VERSION:
        raise ResultsError(f"{path}: schema_version {version}, expected {metrics.SCHEMA_VERSION}")
    return dict(document)


def _read_table(folder: Path, name: str) -> pl.DataFrame:
    path = folder / f"{name}.parquet"
    frame = pl.read_parquet(path)
    missing = [column for column in TABLES[name] if column not in frame.columns]
    if missing:
        raise ResultsError(f"{path}: no column {missing[0]!r}")
    return frame


def _records(document: dict[str, Any], tables: dict[str, pl.DataFrame]) -> Records:
    kinds = {kind: count for kind, count in document["consensus"]["messages"].items() if kind != "total"}
    network = document["network"]
    return Records(
        scenario=document["settings"],
        name=document["scenario"],
        seed=document["seed"],
        protocol=document["protocol"],
        bus=document["bus"],
        engine=document["engine"],
        engine_why="",
        nodes=list(network["members"]),
        quorum=document["quorum"],
        faults_tolerated=document["faults_tolerated"],
        complete=document["complete"],
        places={node: (city, lat, lon) for node, (city, lat, lon) in network["places"].items()},
        edges=[(left, right) for left, right in network["edges"]],
        virtual_ns=round(document["virtual_seconds"] * 1e9),
        wall_seconds=document["wall_seconds"],
        trace_digest=document["trace_digest"],
        messages=kinds,
        bytes_sent=document["consensus"]["bytes"],
        view_changes=document["consensus"]["view_changes"],
        ignored=document["consensus"]["ignored"],
        dropped=document["consensus"]["dropped"],
        evidence=document["evidence"],
        faults=[
            (
                round(fault["begin_seconds"] * 1e9),
                -1 if fault["end_seconds"] is None else round(fault["end_seconds"] * 1e9),
                fault["what"],
                fault["who"],
            )
            for fault in document["faults"]
        ],
        sensitivity=document["processes"]["sensitivity"],
        ledger=document["ledger"],
        fraud=document["fraud"],
        false_alarms=document["false_alarms"],
        coverage=document["coverage"],
        points=document["points"],
        invariants_checked=document["invariants"]["checked"],
        violations=document["invariants"]["violations"],
        live=document.get("live", {}),
        **tables,
    )
