"""What is compiled draws the very delays that numpy draws, whatever the shape of a block."""

from __future__ import annotations

import numpy as np
import pytest
from tradebft.network.chance import Chance
from tradebft.network.links import Constant, Distance, Lognormal, Normal, Uniform

drawing = pytest.importorskip("tradebft.network.compiled.drawing", reason="needs numba")

MS = 1_000_000
PLACES = ["Guiyang", "Zunyi", "Beijing", "Guiyang"] * 50
LINKS = [
    Normal(250 * MS, 50 * MS), Normal(5 * MS, 20 * MS), Lognormal(5 * MS, 0.4), Lognormal(10**15, 5.0),
    Distance(PLACES), Distance(PLACES, jitter_ns=0), Constant(7), Uniform(3, 9 * MS),
]  # fmt: skip


@pytest.mark.parametrize("links", LINKS, ids=lambda links: type(links).__name__)
@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (4096, 1), (700, 6), (300, 63), (300, 64), (100, 199), (1, 199), (3, 0)]
)
def test_delays_are_those_of_numpy(links, count, columns):
    stream, others = Chance(11).stream("link", 0), np.arange(1, columns + 1)
    found = drawing.delays(links, stream, 5, count, 0, others)
    assert found.dtype == np.int64
    assert found.tolist() == links.delays(0, others, stream.uniform_block(5, count, columns)).tolist()


def test_what_is_compiled_is_used():
    """On every machine that rounds as IEEE 754 says: where it does not agree it stands aside, and nobody would see."""
    assert drawing.same_bits()


def test_where_it_does_not_agree_it_stands_aside(monkeypatch):
    links, others = Normal(250 * MS, 50 * MS), np.arange(1, 7)
    monkeypatch.setattr(drawing, "same_bits", lambda: False)
    monkeypatch.setattr(drawing, "of", None)
    stream = Chance(11).stream("link", 0)
    found = drawing.delays(links, stream, 0, 10, 0, others)
    assert found.tolist() == links.delays(0, others, stream.uniform_block(0, 10, 6)).tolist()
