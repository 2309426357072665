"""What faults do to single messages beside losing them: second copies, late arrivals, spikes of delay.

Drawn for the k-th message from a to b as ``f(seed, "twist", a, b; k)``, apart from the delays: a run without such
faults meets the same weather as before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from tradebft.network.chance import Chance, Stream

_DRAWS: Final = 32  # a message: two for each fault that holds; beyond sixteen at once they share


class Twist(NamedTuple):
    """One fault of this sort that holds now: it strikes the share *share* of the messages from or to *nodes*.

    An empty *nodes* means all messages. *spread_ns* is the most that it delays one.
    """

    kind: str  # "duplicate", "reorder" or "spike"
    share: float
    spread_ns: int
    nodes: frozenset[int]


class Twists:
    """Applies the faults that hold now, and counts how often they bit."""

    def __init__(self, chance: Chance, injected: Counter[str]) -> None:
        self._chance, self._injected = chance, injected
        self._streams: dict[tuple[int, int], Stream] = {}
        self._sent: Counter[tuple[int, int]] = Counter()
        self.now: Sequence[Twist] = ()

    def copies(self, sender: int, receiver: int, delay: int) -> list[int]:
        """The delays (ns) of the copies of one message that would arrive after *delay*."""
        pair = sender, receiver
        stream = self._streams.get(pair)
        if stream is None:
            stream = self._streams[pair] = self._chance.stream("twist", sender, receiver)
        number = self._sent[pair]
        self._sent[pair] = number + 1
        delays = [delay]
        for lane, twist in enumerate(self.now):
            if twist.nodes and sender not in twist.nodes and receiver not in twist.nodes:
                continue
            place = _DRAWS * number + 2 * (lane % (_DRAWS // 2))
            if stream.uniform(place) >= twist.share:
                continue
            self._injected[twist.kind] += 1
            late = int(stream.uniform(place + 1) * twist.spread_ns)
            if twist.kind == "duplicate":
                delays.append(delay + late)
            else:
                # A spike delays by at least half of the spread; reordering by anything up to it.
                delays[0] += late if twist.kind == "reorder" else (twist.spread_ns + late) // 2
        return delays
