"""Draws for one topic, one after another, on top of the counter-based streams of `network.chance`.

Every topic has a stream of its own, so that a new kind of fault does not change what a seed draws elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tradebft.network.chance import Stream

T = TypeVar("T")


class Dice:
    """Successive draws of one stream."""

    __slots__ = ("_index", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._index = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Evenly between *low* and *high*, neither of them ever."""
        u = self._stream.uniform(self._index)
        self._index += 1
        return low + u * (high - low)

    def share(self, low: float, high: float) -> float:
        """`uniform`, in steps of a thousandth: readable in a file, and the same after a round trip through it."""
        return round(self.uniform(low, high), 3)

    def happens(self, probability: float) -> bool:
        """True with that probability."""
        return self.uniform() < probability

    def whole(self, low: int, high: int) -> int:
        """A whole number from *low* to *high*, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, of: Sequence[T]) -> T:
        """One of them."""
        return of[self.whole(0, len(of) - 1)]

    def some(self, of: Sequence[T], count: int) -> list[T]:
        """*count* different ones, in the order drawn (Fisher and Yates)."""
        rest = list(of)
        for place in range(count):
            other = self.whole(place, len(rest) - 1)
            rest[place], rest[other] = rest[other], rest[place]
        return rest[:count]
