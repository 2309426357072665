"""The protocol, as traces that one can read. Each opens with what is at stake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tradebft.lab.fuzz import planting
from transcript import Transcript, replay

ROOT = Path(__file__).parents[2]
PATHS = sorted(Path(__file__).parents[1].joinpath("transcripts").rglob("*.txt"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_transcript(path: Path, rewrite: bool) -> None:
    written, now = replay(path)
    if rewrite:
        path.write_text(now, encoding="utf-8")
    else:
        assert now == written, (
            "run pytest --rewrite, read the diff, commit it only if you can say why it changed"
        )


def test_every_transcript_is_found() -> None:
    assert len(PATHS) >= 55
    assert len({path.stem for path in PATHS}) == len(PATHS), "they are named without their folder"


def rows_of_mistakes() -> list[tuple[int, list[str], str, list[str]]]:
    """Number, traces, prefix of the tests and planted bugs of each row of docs/mistakes.md."""
    page = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \| `(test_\d+_)` \| ([^|]+) \|$", page, re.M)
    named = re.compile(r"`([\w-]+)`")
    return [(int(n), named.findall(traces), prefix, named.findall(bugs)) for n, traces, prefix, bugs in rows]


def test_every_mistake_has_a_trace_tests_and_a_planted_bug() -> None:
    """What docs/mistakes.md names is there, and every row of it names all three."""
    rows = rows_of_mistakes()
    assert [number for number, *_ in rows] == list(range(1, 17))
    tests = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_mistakes_*.py"))
    for number, traces, prefix, bugs in rows:
        assert traces, number
        assert set(traces) <= {path.stem for path in PATHS}, number
        assert prefix == f"test_{number}_"
        assert f"def {prefix}" in tests
        assert bugs, number
        assert set(bugs) <= set(planting.names()), number


@pytest.mark.parametrize(
    ("bug", "traces"), [pytest.param(bug, row[1], id=bug) for row in rows_of_mistakes() for bug in row[3]]
)
def test_a_planted_bug_changes_a_trace_of_its_row(bug: str, traces: list[str]) -> None:
    """What a trace claims to show is what it shows: with the mistake made, it is another one."""
    paths = [path for path in PATHS if path.stem in traces]
    with planting.plant(bug):
        assert any(changed(path) for path in paths)


def changed(path: Path) -> bool:
    try:
        written, now = replay(path)
    except Exception:  # of a command that makes no sense any more, or inside a replica that the bug broke
        return True
    return now != written


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_transcript_says_what_is_at_stake_and_breaks_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# [^\n]{20,}", text), "open with what is at stake"
    assert "VIOLATION" not in text
    verbs = {line.split()[0] for line in re.findall(r"([^\n#]+)\n----\n", text)}
    assert not {verb for verb in verbs if not hasattr(Transcript, f"do_{verb}")}
