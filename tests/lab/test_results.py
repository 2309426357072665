"""The results folder is whole or not there; a run from a scenario's name to a folder, with a run that is made up."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import polars as pl
import pytest
from tradebft.lab import ResultsError, Run, figures, metrics, progress, report, results, run
from tradebft.lab.toml_text import to_toml
from tradebft.scenarios import schema
from tradebft.scenarios.records import Records

FILES = {
    "result.json",
    "report.html",
    "scenario.toml",
    "figures",
    "applications.parquet",
    "requests.parquet",
    "decisions.parquet",
    "stages.parquet",
    "round.parquet",
}


@pytest.fixture(autouse=True)
def _two_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is another file's matter, and slow."""
    two = {name: figures.FIGURES[name] for name in ("where_days_go", "messages_by_kind")}
    monkeypatch.setattr(figures, "FIGURES", two)


@pytest.fixture
def small(fake: ModuleType) -> Records:
    made: Records = fake.synthetic_records(nodes=4, transactions=30)
    return made


def save(folder: Path, records: Records) -> Path:
    return results.save(folder, metrics.document(records), records)


def test_a_folder_holds_everything_and_nothing_is_left_beside_it(tmp_path: Path, small: Records) -> None:
    folder = save(tmp_path / "deep" / "run", small)
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert json.loads((folder / "result.json").read_text())["seed"] == small.seed
    drawings = {path.name for path in (folder / "figures").iterdir()}
    assert drawings == {"messages_by_kind.svg", "messages_by_kind.png"}
    assert pl.read_parquet(folder / "decisions.parquet").equals(small.decisions)


def test_what_is_loaded_gives_the_same_document_and_the_same_report(tmp_path: Path, fake: ModuleType) -> None:
    records = fake.trade_records(applications=120, faults=True)
    records.faults.append((records.virtual_ns // 2, -1, "slow", "commercial_bank.1"))
    folder = save(tmp_path / "run", records)
    document, loaded = results.load(folder)
    assert metrics.document(loaded) == document == metrics.document(records)
    before = (folder / "report.html").read_bytes()
    assert results.redraw(folder) == folder / "report.html"
    assert (folder / "report.html").read_bytes() == before


def test_an_earlier_result_is_replaced_and_a_foreign_folder_is_not(tmp_path: Path, small: Records) -> None:
    folder = save(tmp_path / "run", small)
    small.seed = 99
    save(folder, small)
    assert results.load(folder)[0]["seed"] == 99
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").write_text("years of work")
    with pytest.raises(ResultsError, match="holds files that are not results"):
        save(foreign, small)
    assert (foreign / "chapter.tex").read_text() == "years of work"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_or_failed_write_leaves_the_earlier_result_whole(
    tmp_path: Path, small: Records, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = save(tmp_path / "run", small)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(*_: Any) -> str:
        raise error

    monkeypatch.setattr(report, "html", fail)  # the last thing to be written
    with pytest.raises((KeyboardInterrupt, ResultsError)):
        save(folder, small)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises((KeyboardInterrupt, ResultsError)):
        save(tmp_path / "other", small)
    assert not (tmp_path / "other").exists()


def test_a_failed_swap_brings_the_earlier_result_back(
    tmp_path: Path, small: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "run", small)
    rename = Path.rename

    def refuse(path: Path, target: Any) -> Path:
        if ".partial-" in path.name:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResultsError, match="Input/output error"):
        save(folder, small)
    assert results.load(folder)[0]["seed"] == small.seed


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, small: Records) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for folder in (file, file / "below"):
        with pytest.raises(ResultsError) as caught:
            results.check_writable(folder)
        assert "\n" not in str(caught.value)
        with pytest.raises(ResultsError):
            save(folder, small)
    results.check_writable(tmp_path / "new" / "and" / "deep")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", None, r"no result\.json here"),
        ("result.json", "{", "not JSON"),
        ("result.json", '{"schema_version": 2}', "schema_version 2, expected 1"),
        ("result.json", '{"schema_version": 1}', "not a complete result document"),
        ("decisions.parquet", None, "cannot read"),
        ("decisions.parquet", "not parquet", "cannot read"),
    ],
)
def test_a_damaged_folder_is_one_line_that_names_the_file(
    tmp_path: Path, small: Records, name: str, content: str | None, says: str
) -> None:
    folder = save(tmp_path / "run", small)
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(ResultsError, match=says) as caught:
        results.load(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no result\.json here"):
        results.load(tmp_path / "nowhere")


def test_toml_text_reads_back_as_it_was() -> None:
    settings = {
        "title": 'a "quoted" title, 中文, \\ and a\nline',
        "days": 30,
        "share": 0.25,
        "small": 1e-9,
        "yes": True,
        "nothing": [],
        "tags": ["a", "b"],
        "network": {"links": {"model": "normal", "mean": "250 ms"}, "nodes": 4, "empty": {}},
        "fault": [{"at": "day 3", "crash": ["replica.1"], "deep": {"a": 1}}, {"at": "day 4"}],
        "expect": {"consensus.client_ms.p99": "< 400"},
        "mixed": [1, [2, 3]],
    }
    assert tomllib.loads(to_toml(settings)) == settings
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None}})) == {"b": {}}


@pytest.mark.parametrize("name", ["guizhou", "stress", "partition"])
def test_the_copy_of_a_scenario_is_a_scenario_again(tmp_path: Path, name: str) -> None:
    first = schema.load(name)
    (tmp_path / f"{name}.toml").write_text(to_toml(first.resolved()), encoding="utf-8")
    assert schema.load(tmp_path / f"{name}.toml") == first


def test_run_goes_from_a_name_to_a_folder(
    tmp_path: Path, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def execute(scenario: schema.Scenario, progress: Any, *bus: Any) -> Records:
        progress("simulating", 1, 1)
        records: Records = fake.synthetic_records(seed=scenario.seed, nodes=4, transactions=20)
        records.scenario = scenario.resolved()
        return records

    monkeypatch.setitem(sys.modules, "tradebft.scenarios.run", SimpleNamespace(execute=execute))
    changes = {"consensus.batch_size": 10, "expect.nodes": "== 5"}
    finished = run(
        "stress", seed=5, set=changes, out=tmp_path / "out", progress=lambda *step: seen.append(step)
    )
    assert isinstance(finished, Run)
    assert finished.document["seed"] == 5
    assert finished.document["settings"]["consensus"]["batch_size"] == 10
    assert any("nodes" in line for line in finished.failed)
    assert finished.document["expectations_failed"] == finished.failed
    assert finished.decisions.height == finished.records.decisions.height == 20
    assert finished.applications.is_empty()
    assert finished.requests.height == 20
    assert finished.stages.is_empty()
    assert "replicas answered" in finished._repr_html_()
    assert results.load(tmp_path / "out")[0] == finished.document
    assert ("simulating", 1, 1) in seen
    assert any(stage == "drawing figures" for stage, *_ in seen)


def test_a_place_that_cannot_be_written_is_noticed_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(*_: Any) -> Records:
        raise AssertionError("ran")

    monkeypatch.setitem(sys.modules, "tradebft.scenarios.run", SimpleNamespace(execute=execute))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResultsError):
        run("stress", out=tmp_path / "file")


def test_the_bar_keeps_silent_for_short_work_and_writes_to_stderr_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.bar() as quick:
        quick("simulating", 1, 2)
    assert capsys.readouterr() == ("", "")
    with progress.bar(patience_seconds=0.0) as logged:
        logged("simulating", 2, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with progress.bar(patience_seconds=0.0) as shown:
        shown("simulating", 1, 2)
        shown("simulating", 2, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "simulating" in err
