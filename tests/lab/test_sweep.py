"""Sweeps: the same table however the runs are spread, nothing done twice, and intervals that are Student's."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import troubled_load
from commands import SMALL, left
from scipy import stats
from tradebft.lab.run import run
from tradebft.lab.sweep import merge, planned, sweep
from tradebft.lab.sweep.figure import curves
from tradebft.lab.sweep.journal import journals, rows_of
from tradebft.lab.sweep.plan import grid_of, in_shard, shard_of
from tradebft.lab.sweep.row import COST
from tradebft.lab.sweep.table import comparisons, interval, points, table
from tradebft.scenarios.errors import ScenarioError
from tradebft.scenarios.schema import load

GRID = ["consensus.batch_size=1,10", "network.links.std=1 ms,3 ms"]


def plan(seeds: int = 3, grid: list[str] = GRID, **changes: object):
    return planned(load("stress", {**SMALL, **changes}), grid_of(grid), seeds)


def figures(found) -> pl.DataFrame:
    """The table without what differs between two times that a run is done."""
    return found.runs.drop(COST)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep that the others are compared with, on one worker."""
    return sweep(plan(), tmp_path_factory.mktemp("sweep") / "one", workers=1)


# --- one table ---


@pytest.mark.parametrize("swap", [1, -1])
def test_a_value_need_not_fit_what_the_grid_changes_as_well(swap: int) -> None:
    """A window of 1,000 does not fit the scenario's own log of 256; at every point of this grid it does."""
    fits = [("consensus.checkpoint_interval", ["2000", "4000"]), ("consensus.window", ["16", "1000"])]
    assert planned(load("stress"), fits[::swap], 1).size == 4
    too_short = [("consensus.checkpoint_interval", ["200", "4000"]), fits[1]]
    with pytest.raises(
        ScenarioError, match=r"consensus.window: expected at most log_window \(400\); found 1000"
    ):
        planned(load("stress"), too_short[::swap], 1)


def test_every_point_meets_every_seed_once(whole) -> None:
    assert whole.complete
    assert not whole.failed
    assert whole.runs.height == 2 * 2 * 3
    assert whole.runs["run"].to_list() == list(range(12))
    assert whole.runs.select("at.consensus.batch_size", "at.network.links.std", "seed").is_unique().all()
    assert whole.runs.schema["at.consensus.batch_size"] == pl.Int64
    assert whole.runs["trace_digest"].n_unique() == 12


def test_a_row_is_what_a_run_of_these_settings_and_this_seed_shows(whole) -> None:
    row = whole.runs.row(7, named=True)
    settings = {
        "consensus.batch_size": row["at.consensus.batch_size"],
        "network.links.std": row["at.network.links.std"],
    }
    document = run("stress", seed=row["seed"], set={**SMALL, **settings}).document
    assert row["trace_digest"] == document["trace_digest"]
    assert row["consensus.client_ms.p99"] == document["consensus"]["client_ms"]["p99"]
    assert row["consensus.messages.Commit"] == document["consensus"]["messages"]["Commit"]
    assert row["throughput.committed_per_second"] == document["throughput"]["committed_per_second"]


def test_two_workers_find_the_same(whole, tmp_path: Path) -> None:
    found = sweep(plan(), tmp_path / "two", workers=2)
    assert figures(found).equals(figures(whole))
    kept = pl.read_parquet(tmp_path / "two" / "sweep.parquet")
    assert kept.drop(COST).equals(figures(whole))


def test_shards_make_one_table(whole, tmp_path: Path) -> None:
    for shard in ("1/3", "2/3", "3/3"):
        part = sweep(plan(), tmp_path / shard.replace("/", "of"), workers=1, shard=shard_of(shard))
        assert (part.runs.height, part.complete) == (4, False)
        assert not (part.folder / "sweep.parquet").exists()
    found = merge([tmp_path / f"{one}of3" for one in (1, 2, 3)])
    assert found.complete
    assert figures(found).equals(figures(whole))
    assert (tmp_path / "1of3" / "sweep.parquet").exists()


def test_shards_may_share_a_folder(whole, tmp_path: Path) -> None:
    for shard in ("2/2", "1/2"):
        found = sweep(plan(), tmp_path, workers=1, shard=shard_of(shard))
        assert found.done_now == 6
    assert figures(merge([tmp_path])).equals(figures(whole))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_run_is_in_one_shard(n: int) -> None:
    whole = plan()
    shards = [[run.number for run in in_shard(whole.runs(), (i, n))] for i in range(1, n + 1)]
    assert sorted(number for shard in shards for number in shard) == list(range(12))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.filterwarnings("ignore")  # of what Dask and tornado say at their end
def test_a_cluster_of_two_workers_finds_the_same(whole, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        found = sweep(plan(), tmp_path, dask=cluster.scheduler_address)
    assert found.workers == 2
    assert figures(found).equals(figures(whole))


# --- killed, and again ---


def command(folder: Path, *more: str) -> list[str]:
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    grids = [word for one in GRID for word in ("--grid", one)]
    return [
        sys.executable, "-c", "from tradebft.lab.cli import main; main()", "sweep", "stress", *settings, *grids,
        "--seeds", "3", "--workers", "2", "--out", str(folder), "--quiet", *more,
    ]  # fmt: skip


def test_a_sweep_that_was_killed_goes_on_where_it_was(whole, tmp_path: Path) -> None:
    process = subprocess.Popen(command(tmp_path), start_new_session=True)
    journal = tmp_path / "runs.jsonl"
    _await(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3, 60)
    process.kill()
    process.wait()
    done = [row["run"] for row in rows_of(journal)]
    assert 3 <= len(done) < 12
    with journal.open("ab") as file:
        file.write(b'{"run": 11, "seed"')  # as if it had been killed in the middle of a line
    before = journal.read_bytes().rpartition(b"\n")[0]
    _await_end_of_session(process.pid)
    found = sweep(plan(), tmp_path, workers=2)
    assert found.done_now == 12 - len(done)
    assert journal.read_bytes().startswith(before)
    assert sorted(row["run"] for row in rows_of(journal)) == list(range(12))
    assert figures(found).equals(figures(whole))
    assert sweep(plan(), tmp_path, workers=2).done_now == 0


def _await(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.01)


def _await_end_of_session(session: int) -> None:
    _await(lambda: not _of_session(session), 20)
    assert not _of_session(session), "workers without a parent go on"


def _of_session(session: int) -> list[str]:
    """Processes of that session that are still there."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(folder.name)
    return found


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_who_is_interrupted_says_how_far_it_is(tmp_path: Path, ended_by: signal.Signals) -> None:
    """By Ctrl-C, or by a cluster's scheduler before it kills."""
    process = subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True)
    journal = tmp_path / "runs.jsonl"
    _await(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 2, 60)
    process.send_signal(ended_by)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    _await_end_of_session(process.pid)
    assert f"of 12 runs are in {tmp_path}: the same command goes on there" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


def test_a_worker_that_dies_costs_nothing_but_time_and_a_run_that_fails_costs_itself(tmp_path: Path) -> None:
    found = sweep(
        planned(load(troubled_load.scenario(tmp_path)), grid_of(["workload.fatal=no,kill,raise"]), 2),
        tmp_path / "out",
        workers=2,
    )
    assert (tmp_path / "once").exists()
    assert not found.complete
    assert found.runs["run"].to_list() == [0, 1, 2, 3]
    assert sorted(found.failed) == ["run 4: ValueError: no such load", "run 5: ValueError: no such load"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--grid", "consensus.batchsize=1,2"], "--grid consensus.batchsize"),
        (["--grid", "consensus.batch_size=1,x"], "--grid consensus.batch_size"),
        (["--grid", "consensus.batch_size"], "expected KEY=VALUE"),
        (["--grid", "consensus.batch_size=1,,2"], "expected KEY=VALUE"),
        (["--grid", "consensus.batch_size=1,1"], "twice"),
        (["--grid", "consensus.window=1", "--grid", "consensus.window=2"], "named twice"),
        (["--grid", "seed=1,2"], "--seeds"),
        (["--shard", "3/2"], "expected i/N"),
        (["--shard", "x"], "expected i/N"),
        (["--seeds", "2000000"], "at most 1,000,000"),
        (["--merge", "nowhere"], "name no scenario"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str, tmp_path: Path, capsys) -> None:
    code, out, err = left(capsys, "sweep", "stress", *words, "--out", str(tmp_path / "out"), "--quiet")
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_belongs_to_one_sweep(whole, tmp_path: Path, capsys) -> None:
    where = ["--out", str(whole.folder), "--quiet"]
    code, _, err = left(capsys, "sweep", "stress", "--grid", "consensus.batch_size=1,2", *where)
    assert code == 2
    assert "holds another sweep (its grid is consensus.batch_size=1,10 network.links.std=1 ms,3 ms)" in err
    (tmp_path / "something").touch()
    code, _, err = left(capsys, "sweep", "stress", "--out", str(tmp_path), "--quiet")
    assert code == 2
    assert "expected a new folder or that of a sweep" in err


def test_a_figure_that_no_run_has(whole, capsys) -> None:
    code, _, err = left(capsys, "sweep", "--merge", str(whole.folder), "--metric", "consensus.client_ms.p98")
    assert code == 2
    assert "did you mean 'consensus.client_ms.p9" in err


def test_two_sweeps_do_not_write_one_journal(tmp_path: Path, capsys) -> None:
    from tradebft.lab.sweep.journal import Journal

    with Journal(tmp_path, plan()):
        code, _, err = left(capsys, *command(tmp_path)[3:])
    assert code == 2
    assert "another sweep is writing it" in err


# --- what is made of it ---


def test_intervals_are_students() -> None:
    values = [3.1, 2.7, 3.9, 3.3, 2.2]
    mean, half, n = interval(values)
    low, high = stats.t.interval(0.95, 4, statistics.mean(values), stats.sem(values))
    assert (mean, n) == (pytest.approx(statistics.mean(values)), 5)
    assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))
    assert interval([1.0]) == (1.0, None, 1)
    assert interval([]) == (None, None, 0)


def test_differences_are_paired_by_seed() -> None:
    """Where all of the spread is common to both, the difference has none."""
    of_two = planned(load("stress", SMALL), grid_of(["consensus.batch_size=1,10"]), 4)
    rows = [
        {"run": r.number, "at.consensus.batch_size": r.at["consensus.batch_size"], "seed": r.seed,
         "x": 100.0 * r.seed + (5.0 if r.at["consensus.batch_size"] == "10" else 0.0)}
        for r in of_two.runs()
    ]  # fmt: skip
    frame = table(of_two, rows)
    (found,) = comparisons(of_two, frame, ["x"]).to_dicts()
    assert (found["key"], found["from"], found["to"], found["n"]) == ("consensus.batch_size", "1", "10", 4)
    assert found["difference"] == found["low"] == found["high"] == 5.0
    assert found["percent"] == pytest.approx(100 * 5 / 250)
    spread = points(of_two, frame, ["x"])
    assert (spread["x.high"] - spread["x.low"] > 300).all()


def test_the_folder_has_tables_and_a_figure(whole) -> None:
    for name in (
        "sweep.json",
        "runs.jsonl",
        "sweep.parquet",
        "points.csv",
        "comparisons.csv",
        "sweep.svg",
        "sweep.png",
    ):
        assert (whole.folder / name).stat().st_size > 100, name
    made = pl.read_csv(whole.folder / "points.csv")
    assert made.height == 4
    assert (made["consensus.client_ms.p99.n"] == 3).all()


@pytest.mark.parametrize(
    ("grid", "values", "label", "ticks"),
    [
        ("network.loss=0.01,0.07", [0.01, 0.07], "loss, %", ["1", "7"]),
        ("consensus.batch_timeout=2 ms,500 us", ["2 ms", "500 us"], "batch timeout, ms", ["0.5", "2"]),
        ("workload.transactions=20,2000", [20, 2000], "transactions", ["20", "2,000"]),
        ("nodes.cpu=none,measured", ["none", "measured"], "cpu", ["none", "measured"]),
    ],
)
def test_marks_below_a_curve_are_in_the_unit_of_its_axis(grid, values, label, ticks) -> None:
    metric = "consensus.client_ms.p99"
    bounds = {name: [1.0, 2.0] for name in (metric, f"{metric}.low", f"{metric}.high")}
    found = pl.DataFrame({f"at.{grid.partition('=')[0]}": values, **bounds})
    drawn = curves(plan(2, [grid]), found, [metric])
    (axes,) = drawn.axes
    assert axes.get_xlabel() == label
    assert [mark.get_text() for mark in axes.get_xticklabels()] == ticks


@pytest.mark.parametrize(
    ("seeds", "told"), [(1, "one seed: no interval"), (2, "95 % interval of the mean, 2 seeds")]
)
def test_a_figure_says_what_its_bars_are(seeds: int, told: str) -> None:
    found = pl.DataFrame(
        {"at.network.loss": [0.01, 0.07], "x": [1.0, 2.0], "x.low": [None, 1.0], "x.high": [None, 3.0]}
    )
    (legend,) = curves(plan(seeds, ["network.loss=0.01,0.07"]), found, ["x"]).legends
    assert [text.get_text() for text in legend.get_texts()] == [told]


def test_the_document(whole, capsys) -> None:
    code, out, _ = left(
        capsys, "sweep", "--merge", str(whole.folder), "--json", "--metric", "consensus.messages.total"
    )
    assert code == 0
    document = json.loads(out)
    assert (document["runs"], document["finished"], document["complete"]) == (12, 12, True)
    assert document["metrics"] == ["consensus.messages.total"]
    assert len(document["points"]) == 4
    assert document["points"][0]["consensus.messages.total"] > 60 * 4


def test_a_million_runs_are_planned_in_no_time() -> None:
    large = plan(seeds=250_000)
    assert large.size == 1_000_000
    begun = time.perf_counter()
    next(in_shard(large.runs(), (1, 1000)))
    assert time.perf_counter() - begun < 0.5
    with pytest.raises(ScenarioError, match="at most"):
        plan(seeds=250_001)


@pytest.mark.slow
def test_two_hundred_runs_keep_two_processors_busy(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("one processor only")
    two = planned(
        load("stress", {"workload.transactions": 2000}), grid_of(["consensus.batch_size=1,2,5,10"]), 50
    )
    found = sweep(two, tmp_path, workers=2, engine="auto")
    assert found.runs.height == 200
    busy = found.document["processors_busy"]
    print(f"{200} runs in {found.wall_seconds:.1f} s, processors busy {busy:.0%}")
    assert busy >= 0.85
    assert math.isfinite(found.wall_seconds)
    assert len(journals(tmp_path)) == 1
