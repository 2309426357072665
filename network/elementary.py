"""Elementary functions that give the same bits on every machine, for delays and amounts that all must agree on.

Logarithms and exponentials of C libraries, numpy and scipy differ in the last bit from one processor to the next: with
and without fused multiplication, with vectors of this or that length. Here is nothing but addition, subtraction,
multiplication, division and square root, which IEEE 754 rounds in one way, and steps that are exact. Each is within
about one unit in the last place of the truth.

Sources: logarithm and exponential as in FDLIBM (Sun Microsystems, 1993), term by term; quantiles of the normal
distribution by algorithm AS 241 (M. J. Wichura, Applied Statistics 37, 1988). `network.compiled.drawing` compiles the
same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Draw = TypeVar("Draw", float, Floats)

# A positive number's bits, moved so that its whole exponent changes where the fraction passes the root of a half.
SHIFT: Final = 0x3FF0000000000000 - 0x3FE6A09E00000000
FLOOR: Final = 0x3FE6A09E00000000
FRACTION: Final = (1 << 52) - 1
FRACTION_BITS: Final = 52
BIAS: Final = 1023

LN2_HIGH: Final = 6.93147180369123816490e-01
LN2_LOW: Final = 1.90821492927058770002e-10
PER_LN2: Final = 1.44269504088896338700e00
EXP_MOST: Final = 700.0
"""Beyond it, either way, `exp` stays where it is: below the largest number and above the smallest."""

# Of a normal distribution: within 0.425 of a half, out to exp(-25), and beyond. Numerator and denominator by power.
CENTRE_TO: Final = 0.425
CENTRE_FROM: Final = 0.180625
TAIL_FROM: Final = 1.6
TAIL_TO: Final = 5.0
CENTRE: Final = np.array([
    [2.5090809287301226727e3, 5.2264952788528545610e3],
    [3.3430575583588128105e4, 2.8729085735721942674e4],
    [6.7265770927008700853e4, 3.9307895800092710610e4],
    [4.5921953931549871457e4, 2.1213794301586595867e4],
    [1.3731693765509461125e4, 5.3941960214247511077e3],
    [1.9715909503065514427e3, 6.8718700749205790830e2],
    [1.3314166789178437745e2, 4.2313330701600911252e1],
    [3.3871328727963666080e0, 1.0],
])  # fmt: skip
TAIL: Final = np.array([
    [7.74545014278341407640e-4, 1.05075007164441684324e-9],
    [2.27238449892691845833e-2, 5.47593808499534494600e-4],
    [2.41780725177450611770e-1, 1.51986665636164571966e-2],
    [1.27045825245236838258e0, 1.48103976427480074590e-1],
    [3.64784832476320460504e0, 6.89767334985100004550e-1],
    [5.76949722146069140550e0, 1.67638483018380384940e0],
    [4.63033784615654529590e0, 2.05319162663775882187e0],
    [1.42343711074968357734e0, 1.0],
])  # fmt: skip
FAR: Final = np.array([
    [2.01033439929228813265e-7, 2.04426310338993978564e-15],
    [2.71155556874348757815e-5, 1.42151175831644588870e-7],
    [1.24266094738807843860e-3, 1.84631831751005468180e-5],
    [2.65321895265761230930e-2, 7.86869131145613259100e-4],
    [2.96560571828504891230e-1, 1.48753612908506148525e-2],
    [1.78482653991729133580e0, 1.36929880922735805310e-1],
    [5.46378491116411436990e0, 5.99832206555887937690e-1],
    [6.65790464350110377720e0, 1.0],
])  # fmt: skip
_CENTRE, _TAIL, _FAR = (tuple(table[:, :, None]) for table in (CENTRE, TAIL, FAR))


# --- formulas for a number, or for many ---


def log_of(f: Draw, k: Draw) -> Draw:
    """The logarithm of (1 + f) 2^k, with 1 + f between the roots of a half and of two."""
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return s * (half + (odd + even)) + k * LN2_LOW - half + f + k * LN2_HIGH


def exp_of(x: Draw, k: Draw) -> Draw:
    """exp(x) / 2^k, where k is x / ln 2, rounded."""
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    t = r * r
    c = r - t * (
        1.66666666666666019037e-01
        + t
        * (
            -2.77777777770155933842e-03
            + t
            * (
                6.61375632143793436117e-05
                + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08)
            )
        )
    )
    return 1.0 + (r * c / (2.0 - c) - low + high)


# --- arrays of any shape ---


def log(x: Floats) -> Floats:
    """Natural logarithms of numbers that are positive and no smaller than 2^-1022."""
    bits = x.view(np.int64) + SHIFT
    k = (bits >> FRACTION_BITS).astype(np.float64)
    k -= BIAS
    bits &= FRACTION
    bits += FLOOR
    f = bits.view(np.float64)
    f -= 1.0
    return log_of(f, k)


def exp(x: Floats) -> Floats:
    """e to the power of each; of what is beyond `EXP_MOST` as of that."""
    x = np.clip(x, -EXP_MOST, EXP_MOST)
    k = np.rint(x * PER_LN2)
    scale: Floats = ((k.astype(np.int64) + BIAS) << FRACTION_BITS).view(np.float64)
    return exp_of(x, k) * scale


def normal_quantile(u: Floats) -> Floats:
    """What a standard normal number is below with probability *u*, between 0 and 1."""
    flat = u.ravel()
    q = flat - 0.5
    found = _ratio(_CENTRE, CENTRE_FROM - q * q)
    found *= q
    outside = np.flatnonzero(np.abs(q) > CENTRE_TO)
    if outside.size:
        found[outside] = _tails(flat[outside])
    return found.reshape(u.shape)


def _tails(u: Floats) -> Floats:
    upper = u > 0.5
    r = np.sqrt(-log(np.where(upper, 1.0 - u, u)))
    found = _ratio(_TAIL, r - TAIL_FROM)
    most = r > TAIL_TO
    if most.any():
        found[most] = _ratio(_FAR, r[most] - TAIL_TO)
    return np.where(upper, found, -found)


def _ratio(powers: Sequence[Floats], x: Floats) -> Floats:
    """One polynomial by another, from their highest power on, side by side."""
    first, second, *rest = powers
    both = first * x
    both += second
    for coefficients in rest:
        both *= x
        both += coefficients
    value: Floats = both[0] / both[1]
    return value


# --- angles ---


def sin(x: float) -> float:
    """Of *x* in radians, between -2 and 2."""
    return _series(x, x, 1)


def cos(x: float) -> float:
    """Of *x* in radians, between -2 and 2."""
    return _series(x, 1.0, 0)


def asin(x: float) -> float:
    """Radians, of *x* between -0.95 and 0.95."""
    angle = x
    for _ in range(8):  # Newton's method doubles the digits each time
        angle -= (sin(angle) - x) / cos(angle)
    return angle


def _series(x: float, term: float, degree: int) -> float:
    """Taylor's, from its first *term* of that *degree* on; the sum is rounded once."""
    terms = []
    while abs(term) > 1e-20:
        terms.append(term)
        term *= -x * x / ((degree + 1) * (degree + 2))
        degree += 2
    return math.fsum(terms)
