"""What a person reads in the terminal: tables in which nothing is cut, and remarks on what is probably not meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import SMALL, left
from tradebft.lab import terminal, wording
from tradebft.lab.gate import Baseline, Moved, Verdict

FIGURES = ("consensus.client_ms.p99", "throughput.committed_per_second", "consensus.view_changes")
GRID = ("consensus.batch_size=1,10", "consensus.checkpoint_interval=16,32", "network.nodes=4,7")
PLAIN = [
    word for key, value in SMALL.items() if key != "network.nodes" for word in ("--set", f"{key}={value}")
]


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_a_sweeps_table_breaks_headings_and_nothing_else(
    tmp_path: Path, monkeypatch, capsys, columns
) -> None:
    """Eighty columns are what a terminal has, and what a pipe is given."""
    monkeypatch.setenv("COLUMNS", str(columns))
    grids = [word for grid in GRID for word in ("--grid", grid)]
    metrics = [word for figure in FIGURES for word in ("--metric", figure)]
    code, out, _ = left(
        capsys, "sweep", "stress", *PLAIN, *grids, *metrics, "--seeds", "1", "--out", str(tmp_path)
    )
    assert code == 0
    lines = out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.split()[:3] == ["1", "16", "4"])
    heading = " ".join(lines[2:begin]).split()
    words = ["batch size", "checkpoint interval", "nodes", *map(wording.figure, FIGURES)]
    assert sorted(heading) == sorted(" ".join(words).split())
    rows = [line.split() for line in lines[begin : begin + 8]]
    assert [row[:3] for row in rows] == [
        [b, k, n] for b in ("1", "10") for k in ("16", "32") for n in ("4", "7")
    ]
    assert {len(row) for row in rows} == {6}
    assert {row[5] for row in rows} == {"0"}


def test_an_arm_that_did_not_get_to_its_end_is_told_of(tmp_path: Path, capsys) -> None:
    """One officer for a hundred new customers: no days at all on paper, and the reader is told why."""
    workload = ("banks=1", "firms=20", "officers_per_bank=1", "new_customer_share=1", "coverage_points=[]")
    changes = ("days=3", *(f"workload.{change}" for change in workload))
    words = [word for change in changes for word in ("--set", change)]
    _, out, _ = left(capsys, "run", "guizhou", *words, "--set", "expect={}", "--out", str(tmp_path))
    (told,) = [line for line in out.splitlines() if "unfinished" in line]
    assert told.startswith("Paper: ")
    assert told.endswith("Days count only those that were paid out, so the arm looks faster than it is.")


def test_keys_of_the_same_last_part_are_named_whole() -> None:
    assert terminal._last_parts(["a.rate", "b.c_d", "e.rate"]) == ["a.rate", "c d", "e.rate"]


@pytest.mark.parametrize("columns", [20, 80])
def test_what_moved_is_told_in_full(monkeypatch, capsys, columns) -> None:
    """Logs of CI have no end of a line, and count as 80 columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    key = "consensus.ignored.vote at or below the low watermark, or above the high"
    rows = [
        Moved("one", key, 107.425, 2106.48, 1860.9, True),
        Moved("one", "trace_digest", "0" * 32, "1" * 32, None, True),
        Moved("one", "work", 1.0, 1.05, 5.0, False),
    ]
    terminal.moved(Verdict(Baseline("1", {}), rows, ["a newer version"]))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        f"{'figure':{len(key) + 5}}         was          is        by",
        f"one: {key}     107.425    2,106.48  +1,861 %  beyond",
        f"{'one: trace_digest':{len(key) + 5}}  0000000000  1111111111            beyond",
        f"{'one: work':{len(key) + 5}}           1        1.05      +5 %  allowed",
        "a newer version",
    ]


# --- what is allowed and probably not meant ---


def test_a_sweep_remarks_on_its_points_before_it_runs(tmp_path: Path, capsys) -> None:
    code, _, err = left(
        capsys, "sweep", "stress", *PLAIN, "--grid", "network.nodes=4,3,2", "--grid", "consensus.batch_size=1,10",
        "--seeds", "1", "--out", str(tmp_path), "--quiet",
    )  # fmt: skip
    assert code == 0
    assert err == (
        "warning: at network.nodes = 3, consensus.batch_size = 1: 3 nodes tolerate no fault: f = 0 below 4 nodes"
        " (3 more points as well)\n"
    )


def test_tuning_remarks_on_the_scenario(tmp_path: Path, capsys) -> None:
    code, _, err = left(
        capsys, "tune", "stress", *PLAIN, "--set", "network.nodes=2", "--minimise", FIGURES[0], "--trials", "2",
        "--out", str(tmp_path), "--quiet",
    )  # fmt: skip
    assert code == 0
    assert err == "warning: 2 nodes tolerate no fault: f = 0 below 4 nodes\n"
