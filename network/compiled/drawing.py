"""`Stream.uniform_block` and delays by the link models that draw, the same bits, compiled.

The formulas are those of `network.elementary`. Whether what is compiled of them gives the same bits on this machine is
looked at before it is used (`same_bits`): a compiler that fused multiplications and additions would give others.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tradebft.network import elementary
from tradebft.network.chance import Stream
from tradebft.network.compiled.compiling import compiled, inlined
from tradebft.network.compiled.mixing import GOLDEN, Word, mix
from tradebft.network.elementary import (
    BIAS,
    CENTRE,
    CENTRE_FROM,
    CENTRE_TO,
    EXP_MOST,
    FAR,
    FLOOR,
    FRACTION,
    FRACTION_BITS,
    PER_LN2,
    SHIFT,
    TAIL,
    TAIL_FROM,
    TAIL_TO,
)
from tradebft.network.links import MAX_DELAY_NS, Distance, LinkModel, Lognormal, Normal

_12 = np.uint64(12)
LOOKED_AT: Final = 5_000
LONGEST: Final = float(MAX_DELAY_NS)
NARROW: Final = 64
"""Rows shorter than that are drawn as one long one."""

Block = NDArray[np.float64]  # of two dimensions
Floats = NDArray[np.float64]
Square = NDArray[np.int64]
I64 = NDArray[np.int64]

_CENTRE, _TAIL, _FAR = range(3)
_TABLES = np.stack((CENTRE, TAIL, FAR))
_log_of = inlined(elementary.log_of)
_exp_of = inlined(elementary.exp_of)


def delays(
    links: LinkModel, stream: Stream, start: int, count: int, sender: int, others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(count, others): `LinkModel.delays` of that sender's broadcasts from the *start*-th on."""
    block = np.empty((count, len(others)))
    _fill(np.uint64(stream.k0), np.uint64(stream.k1), start, block)
    if type(links) in (Normal, Lognormal, Distance) and same_bits():
        return of(links, sender, others, block)
    return links.delays(sender, others, block)


def of(links: LinkModel, sender: int, others: NDArray[np.int64], u: Block) -> NDArray[np.int64]:
    """`LinkModel.delays`; *u* is used up."""
    count, columns = u.shape
    rows = count if columns >= NARROW else 1
    u = u.reshape(rows, -1)
    found = np.empty(u.shape, dtype=np.int64)
    if isinstance(links, Normal):
        _normal(u, float(links.mean_ns), float(links.std_ns), found)
    elif isinstance(links, Lognormal):
        _lognormal(u, float(links.median_ns), float(links.sigma), found)
    else:
        assert isinstance(links, Distance)
        fixed = links.fixed_ns(sender, others)
        _distance(u, fixed if rows == count else np.tile(fixed, count), float(links.jitter_ns), found)
    return found.reshape(count, columns)


@cache
def same_bits() -> bool:
    """Whether what is compiled here agrees with numpy to the last bit, in the middle and in both tails."""
    u = (np.arange(LOOKED_AT) + 0.5) / LOOKED_AT
    u = np.concatenate((u, u**8, 1 - u**8, 2.0**-52 * (u + 0.5)))[None]
    u = u[(u > 0) & (u < 1)][None]
    normals, logs, powers = u.copy(), u.copy(), 80.0 * u - 40.0
    expected = elementary.normal_quantile(u), elementary.log(u), elementary.exp(powers)
    _normals(normals)
    _logarithms(logs)
    _powers(powers)
    return all(
        np.array_equal(one, other) for one, other in zip((normals, logs, powers), expected, strict=True)
    )


@compiled
def _fill(k0: Word, k1: Word, start: int, block: Block) -> None:
    for i in range(block.shape[0]):
        row = mix(k0 + np.uint64(start + i) * GOLDEN) ^ k1
        for j in range(block.shape[1]):
            bits = mix(row + np.uint64(j) * GOLDEN) >> _12
            block[i, j] = (np.float64(np.int64(bits)) + 0.5) * 2.0**-52


# --- of many at once, step by step: the processor does several at a time ---


@inlined
def _logs(x: Floats, count: int, logs: Floats, exponents: Floats) -> None:
    """`elementary.log` of the first *count* of *x*."""
    given, taken = x.view(np.int64), logs.view(np.int64)
    for k in range(count):
        bits = given[k] + SHIFT
        exponents[k] = np.float64((bits >> FRACTION_BITS) - BIAS)
        taken[k] = (bits & FRACTION) + FLOOR
    for k in range(count):
        logs[k] = _log_of(logs[k] - 1.0, exponents[k])


@inlined
def _exps(x: Floats, count: int, powers: Floats) -> None:
    """`elementary.exp` of the first *count* of *x*, in place."""
    scales = powers.view(np.int64)
    for k in range(count):
        x[k] = min(max(x[k], -EXP_MOST), EXP_MOST)
        scales[k] = (np.int64(np.rint(x[k] * PER_LN2)) + BIAS) << FRACTION_BITS
    for k in range(count):
        x[k] = _exp_of(x[k], np.rint(x[k] * PER_LN2)) * powers[k]


@inlined
def _ratio(which: int, x: float) -> float:
    """One polynomial by another, of that one of the tables."""
    above, below = _TABLES[which, 0, 0], _TABLES[which, 0, 1]
    for k in range(1, _TABLES.shape[1]):
        above, below = above * x + _TABLES[which, k, 0], below * x + _TABLES[which, k, 1]
    return above / below


@inlined
def _row(u: Floats, x: Floats, far: Block, places: I64) -> None:
    """`elementary.normal_quantile` of a row: all as if in the middle, several at a time, then those that are not."""
    for j in range(len(u)):
        q = u[j] - 0.5
        x[j] = _ratio(_CENTRE, CENTRE_FROM - q * q) * q
    count, y = 0, far[0]
    for j in range(len(u)):
        places[count], y[count] = j, min(u[j], 1.0 - u[j])
        count += abs(u[j] - 0.5) > CENTRE_TO
    r, exponents = far[1], far[2]
    _logs(y, count, r, exponents)
    for k in range(count):
        r[k] = math.sqrt(-r[k])
    for k in range(count):
        y[k] = _ratio(_TAIL, r[k] - TAIL_FROM)
    for k in range(count):
        if r[k] > TAIL_TO:
            y[k] = _ratio(_FAR, r[k] - TAIL_TO)
    for k in range(count):
        x[places[k]] = y[k] if u[places[k]] > 0.5 else -y[k]


# --- blocks: a row a broadcast ---


@compiled
def _normals(u: Block) -> None:
    """Uniform draws become standard normal ones, in place."""
    many = u.shape[1]
    x, far, places = np.empty(many), np.empty((3, many + 1)), np.empty(many + 1, dtype=np.int64)
    for i in range(u.shape[0]):
        _row(u[i], x, far, places)
        u[i, :] = x


@compiled
def _logarithms(u: Block) -> None:
    """`elementary.log`, in place."""
    many = u.shape[1]
    logs, exponents = np.empty(many), np.empty(many)
    for i in range(u.shape[0]):
        _logs(u[i], many, logs, exponents)
        u[i, :] = logs


@compiled
def _powers(x: Block) -> None:
    """`elementary.exp`, in place."""
    scales = np.empty(x.shape[1])
    for i in range(x.shape[0]):
        _exps(x[i], x.shape[1], scales)


@compiled
def _normal(u: Block, mean: float, std: float, found: Square) -> None:
    """`links.Normal.delays`."""
    many = u.shape[1]
    x, far, places = np.empty(many), np.empty((3, many + 1)), np.empty(many + 1, dtype=np.int64)
    for i in range(u.shape[0]):
        _row(u[i], x, far, places)
        row = found[i]
        for j in range(many):
            row[j] = np.int64(np.rint(min(max(mean + std * x[j], 0.0), LONGEST)))


@compiled
def _lognormal(u: Block, median: float, sigma: float, found: Square) -> None:
    """`links.Lognormal.delays`."""
    many = u.shape[1]
    x, far, places = np.empty(many), np.empty((3, many + 1)), np.empty(many + 1, dtype=np.int64)
    for i in range(u.shape[0]):
        _row(u[i], x, far, places)
        for j in range(many):
            x[j] = sigma * x[j]
        _exps(x, many, far[1])
        row = found[i]
        for j in range(many):
            row[j] = np.int64(np.rint(min(max(median * x[j], 0.0), LONGEST)))


@compiled
def _distance(u: Block, fixed: Floats, jitter: float, found: Square) -> None:
    """`links.Distance.delays`; *fixed*: by receiver."""
    many = u.shape[1]
    x, logs, exponents = np.empty(many), np.empty(many), np.empty(many)
    for i in range(u.shape[0]):
        for j in range(many):
            x[j] = 1.0 - u[i, j]
        _logs(x, many, logs, exponents)
        row = found[i]
        for j in range(many):
            row[j] = np.int64(np.rint(min(max(fixed[j] + -jitter * logs[j], 0.0), LONGEST)))
