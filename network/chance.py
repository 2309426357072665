"""Every random number of the project: a pure function of (seed, names, index), never of what was drawn before.

So the delay of a sender's k-th broadcast does not depend on the protocol's settings, and two runs with one seed meet
the same weather. Nothing here has state; drawing a block at once or one number at a time gives the same bits.

The definition, for another engine (C, numba, Rust) to reproduce; all integers are unsigned 64 bit and wrap around:

    key          = BLAKE2b-128 over "tradebft chance 1", the seed and the names, each encoded as in `_encode`
    k0, k1       = first and second half of key, little-endian
    mix(x)       = SplitMix64's finaliser: x ^= x >> 30; x *= 0xBF58476D1CE4E5B9;
                                           x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31
    bits(i, j)   = mix((mix(k0 + i * GOLDEN) ^ k1) + j * GOLDEN),      GOLDEN = 0x9E3779B97F4A7C15
    uniform(i,j) = ((bits(i, j) >> 12) + 0.5) * 2**-52                 exact, and never 0 or 1

`i` is the index, `j` the lane; where no lane is named it is 0. (52 bits and not 53: a half added to a 53-bit number
rounds, and the largest would become 1.) Everything else is an inverse CDF of one uniform: monotone, so that the same
draw means "a slow message" under every model. Delays, durations and amounts need logarithms and exponentials; those
are `network.elementary`'s, and counts need none, so that not one bit hangs on the machine.

Source of the finaliser: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from operator import index as as_int
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from tradebft.network import elementary

__all__ = [
    "Chance",
    "Stream",
    "choice",
    "exponential",
    "lognormal",
    "negative_binomial",
    "normal",
    "triangular",
    "zipf_weights",
]

GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1
_DOMAIN: Final = b"tradebft chance 1"
_NEGLIGIBLE: Final = 2.0**-100  # of the likeliest count's probability; draws have 52 bits

Floats = NDArray[np.float64]
Draw = TypeVar("Draw", float, Floats)
"""One uniform or an array of them; a function of a draw returns the same shape."""


class Chance:
    """The source of all streams of one run."""

    __slots__ = ("seed",)

    def __init__(self, seed: int) -> None:
        """ValueError unless 0 <= seed < 2^64."""
        if not 0 <= seed <= _MASK:
            raise ValueError(f"seed must be from 0 to 2^64 - 1, got {seed}")
        self.seed = seed

    def stream(self, *names: int | str) -> Stream:
        """The stream of that name; other names give independent streams. `1` and `"1"` are different names."""
        state = hashlib.blake2b(_DOMAIN, digest_size=16)
        state.update(_encode(self.seed))
        for name in names:
            state.update(_encode(name))
        key = state.digest()
        return Stream(int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little"))


class Stream:
    """An endless row of independent draws, addressed by index (and lane); indices are from 0 to 2^64 - 1. *k0* and *k1*
    are the halves of its key, see above."""

    __slots__ = ("k0", "k1")

    def __init__(self, k0: int, k1: int) -> None:
        self.k0, self.k1 = k0, k1

    def bits(self, i: int) -> int:
        """64 random bits."""
        return _mix(_mix((self.k0 + i * GOLDEN) & _MASK) ^ self.k1)

    def uniform(self, i: int) -> float:
        """Uniform in the open interval (0, 1)."""
        return ((self.bits(i) >> 12) + 0.5) * 2.0**-52

    def uniforms(self, start: int, count: int) -> Floats:
        """`uniform(start) .. uniform(start + count - 1)`, the same bits."""
        return self.uniform_block(start, count, 1)[:, 0]

    def uniform_block(self, start: int, count: int, lanes: int) -> Floats:
        """Array of shape (count, lanes); element [k, j] depends on (seed, names, start + k, j) only.

        Lane 0 is `uniforms(start, count)`. About 5 ns an element.
        """
        rows = np.arange(count, dtype=np.uint64)
        rows += np.uint64(start & _MASK)
        rows *= np.uint64(GOLDEN)
        rows += np.uint64(self.k0)
        _mix_array(rows)
        rows ^= np.uint64(self.k1)
        if lanes == 1:
            cells = rows[:, None]
        else:
            steps = np.arange(lanes, dtype=np.uint64)
            steps *= np.uint64(GOLDEN)
            cells = rows[:, None] + steps
        _mix_array(cells)
        cells >>= np.uint64(12)
        block = cells.astype(np.float64)
        block += 0.5
        block *= 2.0**-52
        return block

    def normal(self, i: int) -> float:
        """Standard normal."""
        return normal(self.uniform(i))

    def normals(self, start: int, count: int) -> Floats:
        """`normal(start) .. normal(start + count - 1)`, the same bits."""
        return normal(self.uniforms(start, count))


# ------------------------------------------------------------------------- inverse CDFs of one uniform u, or of many


def normal(u: Draw, mean: float = 0.0, std: float = 1.0) -> Draw:
    """Normal with that mean and standard deviation."""
    return _shaped(u, lambda x: mean + std * elementary.normal_quantile(x))


def exponential(u: Draw, mean: float) -> Draw:
    """Exponential with that mean, for instance the gap between two arrivals of a Poisson process."""
    return _shaped(u, lambda x: -mean * elementary.log(1.0 - x))


def lognormal(u: Draw, median: float, sigma: float) -> Draw:
    """Lognormal: `median * exp(sigma * z)` with z standard normal; its mean is `median * exp(sigma^2 / 2)`."""
    return _shaped(u, lambda x: median * elementary.exp(sigma * elementary.normal_quantile(x)))


def triangular(u: Draw, low: float, mode: float, high: float) -> Draw:
    """Triangular on [low, high] with its peak at `mode`. ValueError unless low <= mode <= high."""
    if not low <= mode <= high:
        raise ValueError(f"triangular: expected low <= mode <= high, got {low}, {mode}, {high}")
    width, left = high - low, mode - low
    turn = left / width if width else 0.0
    return _shaped(
        u,
        lambda x: np.where(
            x < turn, low + np.sqrt(x * width * left), high - np.sqrt((1 - x) * width * (high - mode))
        ),
    )


def negative_binomial(u: Draw, mean: float, shape: float) -> Draw:
    """Over-dispersed count (a whole number as float) with that mean, 0 or more, and variance
    `mean + mean^2 / shape`: Poisson whose mean is gamma of that shape.
    """
    steps = _count_steps(mean, shape)
    return _shaped(u, lambda x: np.searchsorted(steps, x))


def choice(u: Draw, weights: Sequence[float] | Floats) -> Draw:
    """Index (a whole number as float) of an entry of `weights`, each as likely as its share of their sum."""
    steps = np.cumsum(np.asarray(weights, dtype=np.float64))
    if not steps.size or not 0 < steps[-1] < np.inf:
        raise ValueError(f"choice: expected weights with a positive finite sum, got {weights!r}")
    return _shaped(u, lambda x: np.searchsorted(steps, x * steps[-1], side="right").clip(max=len(steps) - 1))


def zipf_weights(count: int, exponent: float) -> Floats:
    """Shares of ranks 1 .. count, proportional to rank^-exponent, summing to 1."""
    weights = elementary.exp(-exponent * elementary.log(np.arange(1, count + 1, dtype=np.float64)))
    shares: Floats = weights / weights.sum()
    return shares


# ------------------------------------------------------------------------------------------------------ inner workings


def _encode(name: int | str) -> bytes:
    """A length-prefixed encoding that no two different names share: kind, 4 bytes of length, content."""
    if isinstance(name, str):
        content, kind = name.encode(), b"s"
    else:
        number = as_int(name)
        content, kind = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True), b"i"
    return kind + len(content).to_bytes(4, "little") + content


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _mix_array(x: NDArray[np.uint64]) -> None:
    """`_mix` in place. Array arithmetic of numpy wraps around silently, as it should here."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)


def _shaped(u: Draw, inverse: Callable[[Floats], Any]) -> Draw:
    """`inverse` of an array or of one number; one number takes the array's way, for the sake of the last bit."""
    if isinstance(u, np.ndarray):
        return np.asarray(inverse(u), dtype=np.float64)
    return float(inverse(np.array([u], dtype=np.float64))[0])


def _count_steps(mean: float, shape: float) -> Floats:
    """P(count <= k) of `negative_binomial` for k = 0, 1, ... to where what is left no longer counts.

    Each probability is its neighbour's times a quotient, from the likeliest count outwards, and all of them share
    their sum: multiplication and division, no logarithm of a gamma function.
    """
    odds = mean / (shape + mean)  # p(k + 1) / p(k) = odds (k + shape) / (k + 1)
    likeliest = max(0, int((shape - 1) * mean / shape))
    k = np.arange(likeliest, 0, -1, dtype=np.float64)
    below = np.cumprod(k / ((k - 1 + shape) * odds))[::-1]
    above = np.ones(1)
    while above[-1] > _NEGLIGIBLE:
        k = np.arange(likeliest + above.size - 1, likeliest + 2 * above.size + 15, dtype=np.float64)
        above = np.append(above, above[-1] * np.cumprod(odds * (k + shape) / (k + 1)))
    each = np.concatenate([below, above])
    so_far = np.cumsum(each)
    beyond = np.append(np.cumsum(each[:0:-1])[::-1], 0.0)
    whole = so_far[-1]
    steps: Floats = np.where(so_far < beyond, so_far / whole, 1 - beyond / whole)  # the exacter of the two
    return steps
