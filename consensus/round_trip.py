"""How long something usually takes, smoothed as TCP smooths its round trips (Jacobson, SIGCOMM 1988; RFC 6298).

A fixed interval before one asks again is either too long for a fast network that loses messages or too short for a slow
one. Integers only, so that every machine computes the same.
"""

from __future__ import annotations

from typing import Final

LEAST_NS: Final = 10_000_000


class RoundTrip:
    """A smoothed duration and its deviation, in ns."""

    __slots__ = ("_deviation", "_smoothed")

    def __init__(self, smoothed_ns: int = 0, deviation_ns: int = 0) -> None:
        self._smoothed, self._deviation = smoothed_ns, deviation_ns

    @property
    def standing(self) -> tuple[int, int]:
        """The smoothed duration and its deviation, ns."""
        return self._smoothed, self._deviation

    @property
    def known(self) -> bool:
        """Whether there was a sample."""
        return self._smoothed > 0

    def sample(self, took_ns: int, repeated: bool = False) -> None:
        """It took *took_ns* this time.

        Where something was *repeated* meanwhile nobody knows what it would have taken without (Karn and Partridge,
        SIGCOMM 1987), but that it would not have been longer: that counts if it is sooner than usual, or the first.
        """
        if repeated and self.known and took_ns >= self._smoothed:
            return
        if not self.known:
            self._smoothed, self._deviation = max(1, took_ns), took_ns // 2
            return
        error = took_ns - self._smoothed
        self._smoothed = max(1, self._smoothed + error // 8)
        self._deviation += (abs(error) - self._deviation) // 4

    def patience(self, factor: int, longest_ns: int) -> int:
        """*factor* times the usual duration with four deviations; *longest_ns* at most, and until that is known."""
        if not self.known:
            return longest_ns
        return min(longest_ns, max(LEAST_NS, factor * (self._smoothed + 4 * self._deviation)))
