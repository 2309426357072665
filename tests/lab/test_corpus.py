"""Cases that once broke something, or break a planted bug that the swarm meets rarely; the name says what is wrong.

`tradebft replay tests/lab/fuzz_corpus/NAME.json` runs one of them; its digest is that of the day on which it was kept.
"""

from pathlib import Path

import pytest
from tradebft.lab.fuzz.case import load
from tradebft.lab.fuzz.trial import try_case

CORPUS = sorted(Path(__file__).with_name("fuzz_corpus").glob("*.json"))


def test_the_corpus_is_there():
    assert len(CORPUS) >= 10


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once_stays_mended(path):
    case = load(path).case
    assert case.broken_promise() is None
    assert try_case(case).violations == []
