"""How much a peer may ask of this replica: answers cost more than questions, so questions are rationed.

One token bucket a peer and kind (a burst, then one more every so often), in integers. What is over the quota is not
answered; whoever asks honestly asks again (Castro's library limits its answers for the same reason; Clement et al.,
"Making Byzantine fault tolerant systems tolerate Byzantine faults", NSDI 2009, on resource scheduling).
"""

from __future__ import annotations


class Quota:
    """At most *burst* questions at once from each peer, and one more every *every_ns*."""

    def __init__(self, burst: int, every_ns: int) -> None:
        self._burst, self._every = burst, max(1, every_ns)
        self._left: dict[int, tuple[int, int]] = {}  # peer -> tokens, and since when

    def resume(self, peer: int, used: int, since: int) -> None:
        """*peer* has asked before: so many tokens were used at *since*."""
        self._left[peer] = self._burst - used, since

    @property
    def standing(self) -> dict[int, tuple[int, int]]:
        """Who has asked before, and what `resume` is told of it."""
        return {peer: (self._burst - left, since) for peer, (left, since) in self._left.items()}

    def allows(self, now: int, peer: int) -> bool:
        """Whether *peer*, a member, may have an answer now; counts it if so."""
        tokens, since = self._left.get(peer, (self._burst, now))
        grown = max(0, now - since) // self._every
        if tokens + grown >= self._burst:
            tokens, since = self._burst, now
        else:
            tokens, since = tokens + grown, since + grown * self._every
        if tokens == 0:
            self._left[peer] = 0, since
            return False
        self._left[peer] = tokens - 1, since
        return True
