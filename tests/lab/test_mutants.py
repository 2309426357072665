"""Planted bugs: each patch still fits, is in force only while it is asked for, and the fuzzer finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tradebft.consensus.membership import Committee, genesis
from tradebft.lab import cli
from tradebft.lab.fuzz import mutants, planting, twin_scenario
from tradebft.lab.fuzz.case import load
from tradebft.lab.fuzz.mutants import MutantError, Task, find, hunt_all, plant
from tradebft.lab.fuzz.swarm import Options
from tradebft.lab.fuzz.trial import try_case

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "tests" / "mutants" / "measured.json"
PAGE = ROOT / "docs" / "mutants.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
GLOB = Path.glob
QUICK = "quorum-of-f-plus-1"  # found within a seed or two


def run(*arguments: str) -> object:
    """The command's exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    return left.value.code


def quorum(n: int = 4) -> int:
    return Committee(genesis(n), b"", None).quorum  # type: ignore[arg-type]


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of mutants that a test fills itself."""
    folder = tmp_path / planting.KEPT_IN
    folder.mkdir(parents=True)
    monkeypatch.setattr(planting, "folder", lambda: folder)
    return folder


def write(folder: Path, file: str, find: str, replace: str) -> None:
    patch = f"[[patch]]\nfile = '{file}'\nfind = '''{find}'''\nreplace = '''{replace}'''\n"
    (folder / "own.toml").write_text(f"why = 'w'\nsource = 's'\n{patch}", encoding="utf-8")


# --- the collection ---


def test_there_are_enough_of_them() -> None:
    assert len(planting.names()) >= 30


@pytest.mark.parametrize("name", planting.names())
def test_a_mutant_still_fits(name: str) -> None:
    mutant = planting.load(name)
    assert planting.changes(name)
    for text in (mutant.why, mutant.source):
        assert text.strip() == text
        assert 10 < len(text) < 200
        assert "\n" not in text
    assert planting.names().count(name) == 1


def table(document: dict[str, Any]) -> str:
    """What docs/mutants.md shows of a measurement."""
    found = document["mutants"]
    tries = sorted(entry["seeds_tried"] for entry in found)
    others = sum(entry["found_by"] != "swarm" for entry in found)
    lines = [
        f"{len(found)} mutants, all found, {others} of them not by the swarm; half within {tries[len(tries) // 2]}"
        f" tries, nine in ten within {tries[len(tries) * 9 // 10]}, the last after {tries[-1]:,}. The code as it is"
        f" passes what found them. All of it took {document['wall_seconds'] / 60:.0f} minutes.",
        "",
        "| mutant | what is broken | seen in, or warned of in | first broken invariant | found by | seed | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in found:
        mutant = planting.load(entry["name"])
        told = (f"`{entry['name']}`", mutant.why, mutant.source, f"`{entry['invariant']}`")
        found_by = (entry["found_by"], str(entry["seed"]), f"{entry['seconds']:.1f}")
        lines.append("| " + " | ".join((*told, *found_by)) + " |")
    return "\n".join([*lines, ""])


@pytest.mark.skipif(not MEASURED.exists(), reason="nothing was measured yet")
def test_every_mutant_was_found_and_the_page_says_how(rewrite: bool) -> None:
    document = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert [entry["name"] for entry in document["mutants"]] == planting.names()
    assert all(entry["killed"] and entry["clean"] for entry in document["mutants"])
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    shown, after = rest.split(END)
    if rewrite:
        PAGE.write_text(before + BEGIN + table(document) + END + after, encoding="utf-8")
    else:
        assert shown == table(document), "run pytest --rewrite and read the diff"


# --- planting ---


def test_a_planted_bug_is_there_and_gone_again() -> None:
    assert quorum() == 3
    with plant(QUICK):
        assert quorum() == 2
    assert quorum() == 3


def test_a_planted_bug_is_gone_after_an_error_too() -> None:
    with pytest.raises(KeyError), plant(QUICK):
        raise KeyError
    assert quorum() == 3


def test_what_the_swarm_draws_rarely_is_found_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mutants, "SEEDS_FIRST", 0)
    kept = find(Task(Options(mutant="hearsay-forgotten"), out=str(tmp_path)))
    assert (kept.killed, kept.clean, kept.found_by) == (True, True, "corpus: behind-and-silent")
    assert load(Path(kept.replay)).case.mutant == "hearsay-forgotten"
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: iter(()) if "corpus" in pattern else GLOB(self, pattern)
    )
    twin = find(Task(Options(mutant="last-entry-wins"), out=str(tmp_path)))
    assert (twin.killed, twin.found_by, twin.invariant) == (True, "twins", "view-change-preserves")
    assert [violation for _, violation in twin_scenario.load(Path(twin.replay))]


def test_there_is_no_such_mutant() -> None:
    with pytest.raises(MutantError, match=rf"no mutant 'nought' .*{QUICK}"), plant("nought"):
        pass


@pytest.mark.parametrize(
    ("file", "find", "replace", "problem"),
    [
        (
            "consensus/membership.py",
            "no such text",
            "",
            "occurs 0 times in consensus/membership.py, expected once",
        ),
        ("consensus/membership.py", "self", "", r"occurs \d+ times"),
        ("consensus/membership.py", "faults = (n - 1) // 3", "faults = (", "does not compile"),
        ("consensus/membership.py", "faults = (n - 1) // 3", "faults =  (n-1) // 3", "changes nothing"),
        ("consensus/membership.py", "def sizes(n: int)", "def sizes(n: float)", "more of .* than the bodies"),
        ("consensus/nowhere.py", "a", "b", "consensus/nowhere.py is no module"),
        ("consensus/membership.py", "return view >> EPOCH_BITS", "return (lambda: view)()", ""),
    ],
)
def test_a_patch_that_does_not_fit_is_told_in_one_line(
    own_folder: Path, file: str, find: str, replace: str, problem: str
) -> None:
    write(own_folder, file, find, replace)
    if not problem:
        assert planting.changes("own")
        return
    with pytest.raises(MutantError, match=problem) as told:
        planting.changes("own")
    assert str(told.value).startswith("mutant own: ")
    assert "\n" not in str(told.value)


def test_a_file_that_is_no_mutant_is_told_in_one_line(own_folder: Path) -> None:
    (own_folder / "own.toml").write_text("why = 'w'\nsource = 's'\n", encoding="utf-8")
    with pytest.raises(MutantError, match=r"^mutant own: .*patch"):
        planting.load("own")


def test_methods_in_wrappers_are_found(own_folder: Path) -> None:
    write(own_folder, "consensus/messages.py", 'return digest("batch", self.encoded)', 'return b""')
    ((function, code),) = planting.changes("own")
    assert function.__qualname__ == "Batch.digest"
    assert function.__code__ is not code


def test_away_from_the_checkout_one_line_says_where_mutants_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planting, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.chdir(tmp_path)
    assert run("fuzz", "--mutant", "all") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no tests/mutants here: planted bugs are kept in the checkout" in told


# --- hunting ---


def test_a_mutant_is_found_and_the_code_as_it_is_passes_its_seed() -> None:
    prey = find(Task(Options(mutant=QUICK), (0, 20)))
    assert prey.killed
    assert prey.clean
    assert prey.seed is not None
    assert prey.seeds_tried == prey.seed + 1
    assert prey.invariant


def test_a_seed_that_breaks_the_code_as_it_is_is_no_find(monkeypatch: pytest.MonkeyPatch) -> None:
    found = try_case(Options(mutant=QUICK).case(0))
    assert found.violations
    monkeypatch.setattr(mutants, "try_case", lambda case: found)
    prey = find(Task(Options(mutant=QUICK), (0, 2)))
    assert (prey.killed, prey.clean, prey.unclean_seeds) == (False, False, [0, 1, 2])


def test_what_is_not_found_is_a_survivor(own_folder: Path) -> None:
    write(own_folder, "consensus/membership.py", "faults = (n - 1) // 3", "faults = (n + 2) // 3 - 1")
    prey = find(Task(Options(mutant="own"), (0, 2)))
    assert (prey.killed, prey.seed, prey.seeds_tried, prey.clean) == (False, None, 3, True)


def test_a_process_that_dies_is_no_find(own_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The process does not see the folder of this test, so the mutant is unknown there."""
    write(own_folder, "consensus/membership.py", "faults = (n - 1) // 3", "faults = 0")
    (prey,) = hunt_all([Task(Options(mutant="own"), (0, 2))], 1)
    assert (prey.killed, prey.what) == (False, "its process died")
    assert "no mutant 'own'" in capfd.readouterr().err


def test_the_command_reports_and_leaves_a_file_that_reproduces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fuzz", "--mutant", QUICK, "--seeds", "0..20", "--json", "--quiet"]
    assert run(*command, "--out", str(tmp_path)) == 0
    document = json.loads(capsys.readouterr().out)
    (found,) = document["mutants"]
    assert (found["name"], found["killed"], found["clean"]) == (QUICK, True, True)
    assert document["survivors"] == []
    assert run("replay", found["replay"]) == 0


def test_a_survivor_is_told_by_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fuzz", "--mutant", "timeout-never-falls-back", "--seeds", "0..0", "--quiet"]
    assert run(*command, "--out", str(tmp_path)) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("timeout-never-falls-back")
    assert "SURVIVES 1 seeds" in told[0]
    assert told[1].startswith("0 of 1 mutants found")


@pytest.mark.slow
@pytest.mark.parametrize("name", planting.names())
def test_the_fuzzer_finds_it(name: str) -> None:
    """By the swarm, a case that once broke something, or Twins; the longest takes four minutes of an idle processor."""
    prey = find(Task(Options(mutant=name)))
    assert prey.killed
    assert prey.clean
