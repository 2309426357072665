"""The protocol, as traces that one can read. Each opens with what is at stake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transcript import Transcript, replay

ROOT = Path(__file__).parents[2]
PATHS = sorted(Path(__file__).parents[1].joinpath("transcripts").glob("*.txt"))


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
    assert len(PATHS) >= 40


def test_every_mistake_has_a_trace_tests_and_a_planted_bug() -> None:
    """What docs/mistakes.md names is there, and every row of it names all three."""
    page = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \| `(test_\d+_)` \| ([^|]+) \|$", page, re.M)
    assert [int(number) for number, *_ in rows] == list(range(1, 17))
    tests = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_mistakes_*.py"))
    for number, traces, prefix, mutants in rows:
        assert set(re.findall(r"`(\w+)`", traces)) <= {path.stem for path in PATHS}, number
        assert prefix == f"test_{number}_"
        assert f"def {prefix}" in tests
        planted = set(re.findall(r"`([\w-]+)`", mutants))
        assert planted, number
        assert planted <= {path.stem for path in (ROOT / "tests" / "mutants").glob("*.toml")}, number


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_transcript_says_what_is_at_stake_and_breaks_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# [^\n]{20,}", text), "open with what is at stake"
    assert "VIOLATION" not in text
    verbs = {line.split()[0] for line in re.findall(r"([^\n#]+)\n----\n", text)}
    assert not {verb for verb in verbs if not hasattr(Transcript, f"do_{verb}")}
