"""`Stream.uniform_block` and normal delays, the same bits, compiled.

The inverse of the normal distribution is that of Cephes (S. L. Moshier, 1989), as in `scipy.special`, term by term.
Whether it gives scipy's bits on this machine is looked at before it is used (`same_normals`): a compiler that fuses
multiplications and additions, of scipy or of this, would give others.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special
from tradebft.network.chance import Stream
from tradebft.network.compiled.compiling import compiled, inlined
from tradebft.network.compiled.mixing import GOLDEN, Word, mix
from tradebft.network.links import MAX_DELAY_NS, LinkModel, Normal

_12 = np.uint64(12)
LOOKED_AT: Final = 20_000
LONGEST: Final = float(MAX_DELAY_NS)
TAIL: Final = 0.13533528323661269189  # exp(-2)

Block = NDArray[np.float64]  # of two dimensions
Floats = NDArray[np.float64]
Square = NDArray[np.int64]
I64 = NDArray[np.int64]


def delays(
    links: LinkModel, stream: Stream, start: int, count: int, sender: int, others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(count, others): `LinkModel.delays` of that sender's broadcasts from the *start*-th on."""
    block = np.empty((count, len(others)))
    _fill(np.uint64(stream.k0), np.uint64(stream.k1), start, block)
    if type(links) is not Normal or not same_normals():
        return links.delays(sender, others, block)
    found = np.empty(block.shape, dtype=np.int64)
    _normal(block, float(links.mean_ns), float(links.std_ns), found)
    return found


@cache
def same_normals() -> bool:
    """Whether what is compiled here and scipy agree to the last bit, in the middle and in both tails."""
    u = (np.arange(LOOKED_AT) + 0.5) / LOOKED_AT
    u = np.concatenate((u, u**8, 1 - u**8, 2.0**-52 * (u + 0.5)))[None]
    u = u[(u > 0) & (u < 1)][None]
    found = u.copy()
    _normals(found)
    return bool((found == special.ndtri(u)).all())


@compiled
def _fill(k0: Word, k1: Word, start: int, block: Block) -> None:
    for i in range(block.shape[0]):
        row = mix(k0 + np.uint64(start + i) * GOLDEN) ^ k1
        for j in range(block.shape[1]):
            bits = mix(row + np.uint64(j) * GOLDEN) >> _12
            block[i, j] = (np.float64(np.int64(bits)) + 0.5) * 2.0**-52


@inlined
def _middle(u: float) -> float:
    """Within 0.36 of a half."""
    y = u - 0.5
    z = y * y
    p = (((-5.99633501014107895267e1 * z + 9.80010754185999661536e1) * z - 5.66762857469070293439e1) * z
         + 1.39312609387279679503e1) * z - 1.23916583867381258016e0  # fmt: skip
    q = (((((((z + 1.95448858338141759834e0) * z + 4.67627912898881538453e0) * z + 8.63602421390890590575e1) * z
            - 2.25462687854119370527e2) * z + 2.00260212380060660359e2) * z - 8.20372256168333339912e1) * z
         + 1.59056225126211695515e1) * z - 1.18331621121330003142e0  # fmt: skip
    return (y + y * (z * p / q)) * 2.50662827463100050242e0


@inlined
def _near_tail(z: float) -> float:
    p = (((((((4.05544892305962419923e0 * z + 3.15251094599893866154e1) * z + 5.71628192246421288162e1) * z
            + 4.40805073893200834700e1) * z + 1.46849561928858024014e1) * z + 2.18663306850790267539e0) * z
          - 1.40256079171354495875e-1) * z - 3.50424626827848203418e-2) * z - 8.57456785154685413611e-4  # fmt: skip
    q = (((((((z + 1.57799883256466749731e1) * z + 4.53907635128879210584e1) * z + 4.13172038254672030440e1) * z
            + 1.50425385692907503408e1) * z + 2.50464946208309415979e0) * z - 1.42182922854787788574e-1) * z
         - 3.80806407691578277194e-2) * z - 9.33259480895457427372e-4  # fmt: skip
    return z * p / q


@inlined
def _far_tail(z: float) -> float:
    p = (((((((3.23774891776946035970e0 * z + 6.91522889068984211695e0) * z + 3.93881025292474443415e0) * z
            + 1.33303460815807542389e0) * z + 2.01485389549179081538e-1) * z + 1.23716634817820021358e-2) * z
          + 3.01581553508235416007e-4) * z + 2.65806974686737550832e-6) * z + 6.23974539184983293730e-9  # fmt: skip
    q = (((((((z + 6.02427039364742014255e0) * z + 3.67983563856160859403e0) * z + 1.37702099489081330271e0) * z
            + 2.16236993594496635890e-1) * z + 1.34204006088543189037e-2) * z + 3.28014464682127739104e-4) * z
         + 2.89247864745380683936e-6) * z + 6.79019408009981274425e-9  # fmt: skip
    return z * p / q


@inlined
def _tails(y: Floats, count: int, x: Floats, logs: Floats) -> None:
    """How far out the first *count* of *y*, up to exp(-2) of the distribution each, lie beyond; in place.

    Step by step for all of them: the processor does several at a time of what is no logarithm.
    """
    for k in range(count):
        logs[k] = math.log(y[k])
    for k in range(count):
        x[k] = math.sqrt(-2.0 * logs[k])
    for k in range(count):
        logs[k] = math.log(x[k])
    for k in range(count):
        y[k] = (x[k] - logs[k] / x[k]) - _near_tail(1.0 / x[k])
    for k in range(count):
        if x[k] >= 8.0:
            y[k] = (x[k] - logs[k] / x[k]) - _far_tail(1.0 / x[k])


@inlined
def _row(u: Floats, x: Floats, far: Block, places: I64) -> None:
    """Standard normals of one row: all as if in the middle, several at a time, and then those that are not."""
    for j in range(len(u)):
        x[j] = _middle(u[j])
    count, y = 0, far[0]
    for j in range(len(u)):
        low, high = u[j] <= TAIL, u[j] > 1.0 - TAIL
        places[count], y[count] = j, u[j] if low else 1.0 - u[j]
        count += low or high
    _tails(y, count, far[1], far[2])
    for k in range(count):
        x[places[k]] = y[k] if u[places[k]] > 0.5 else -y[k]


@compiled
def _normals(u: Block) -> None:
    """Uniform draws become standard normal ones, in place."""
    many = u.shape[1]
    x, far, places = np.empty(many), np.empty((3, many + 1)), np.empty(many + 1, dtype=np.int64)
    for i in range(u.shape[0]):
        _row(u[i], x, far, places)
        u[i, :] = x


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
