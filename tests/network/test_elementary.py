"""Elementary functions: true to the last bit or two, and the same bits whatever the processor can do."""

from __future__ import annotations

import hashlib
import math
import os

import numpy as np
import pytest
from scipy import special
from tradebft.network import elementary
from tradebft.network.chance import Chance
from tradebft.network.cities import CITIES, distance_km

U = Chance(5).stream("elementary").uniforms(0, 200_000)
HALVES = 2.0 ** -np.arange(1, 54)
SMALL = np.linspace(0.001, 0.999, 999) * np.linspace(0.001, 0.999, 999)
ENDS = np.concatenate([HALVES, 1 - HALVES, SMALL * SMALL * SMALL * SMALL * SMALL * SMALL])


def units(found, expected):
    """How far off, in units of the expected number's last place."""
    return np.abs(found - expected) / np.spacing(np.abs(expected))


def test_logarithms_and_exponentials_are_true_to_the_last_place():
    x = np.concatenate([U, ENDS, 1 / U, np.arange(1.0, 2000), 1e300 * U, 1e-300 * U])
    assert units(elementary.log(x), np.log(x)).max() <= 2
    y = np.concatenate([80 * U - 40, [0.0, 1.0, -1.0, 699.9, -699.9]])
    assert units(elementary.exp(y), np.exp(y)).max() <= 2
    assert elementary.log(np.ones(1)).tolist() == [0.0]
    assert elementary.exp(np.zeros(1)).tolist() == [1.0]


def test_exponentials_neither_overflow_nor_vanish():
    found = elementary.exp(np.array([1e308, 701.0, 700.0, -700.0, -1e308]))
    assert found[0] == found[1] == found[2] < math.inf
    assert found[3] == found[4] > 0


def test_normal_quantiles_are_those_of_another_algorithm():
    u = np.concatenate([U, ENDS])
    assert elementary.normal_quantile(u) == pytest.approx(special.ndtri(u), rel=3e-15, abs=1e-16)
    assert elementary.normal_quantile(np.array([0.5])).tolist() == [0.0]
    assert (elementary.normal_quantile(1 - ENDS[:53]) == -elementary.normal_quantile(ENDS[:53])).all()


def test_normal_quantiles_rise_where_one_formula_ends_and_the_next_begins():
    steps = 1 + 1e-6 * np.linspace(-1, 1, 2001)
    for seam in (0.075, math.exp(-25)):
        for u in (seam * steps, 1 - seam * steps[::-1]):
            found = elementary.normal_quantile(u)
            assert (np.diff(found) >= -1e-15).all()
            assert found == pytest.approx(special.ndtri(u), rel=3e-15)


def test_a_shape_stays_a_shape():
    block = U[:60].reshape(4, 5, 3)
    for function in (elementary.log, elementary.exp, elementary.normal_quantile):
        assert function(block).shape == block.shape
        assert (function(block).ravel() == function(U[:60])).all()
        assert function(block[:, 1]).tolist() == function(block)[:, 1].tolist()
        assert function(np.empty(0)).shape == (0,)


def test_angles():
    for x in np.linspace(-1.9, 1.9, 500).tolist():
        assert elementary.sin(x) == pytest.approx(math.sin(x), rel=1e-15, abs=3e-16)
        assert elementary.cos(x) == pytest.approx(math.cos(x), rel=1e-15, abs=3e-16)
    for x in np.linspace(-0.95, 0.95, 500).tolist():
        assert elementary.asin(x) == pytest.approx(math.asin(x), rel=1e-15)
    assert elementary.sin(0.0) == elementary.asin(0.0) == 0.0


SNAPSHOT = {
    "log": "0080e316fd19058b",
    "exp": "a0ef6e4722a6e568",
    "normal_quantile": "a7096b72eff33d11",
    "distance_km": "702bcdc74cdb1ba3",
}
"""Of the first 200,000 draws: these may change only with a definition, and results with them."""


def bits():
    """One word for all bits of each function, and of all ways between two cities."""
    ways = [distance_km(a, b) for a in sorted(CITIES) for b in sorted(CITIES)]
    found = {
        "log": elementary.log(U),
        "exp": elementary.exp(80 * U - 40),
        "normal_quantile": elementary.normal_quantile(np.concatenate([U, ENDS])),
        "distance_km": np.array(ways),
    }
    return {
        name: hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16]
        for name, values in found.items()
    }


def test_the_bits_are_these_on_any_machine():
    assert bits() == SNAPSHOT


def test_the_bits_are_the_same_on_a_processor_that_can_do_less(lesser_processor):
    program = "import sys; sys.path.insert(0, sys.argv[1])\nimport test_elementary as t\nprint(t.bits())"
    assert lesser_processor(program, os.path.dirname(__file__)) == f"{SNAPSHOT}\n"
