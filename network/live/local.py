"""A bus within one process: for tests, for trying things out, and as the lower bound of what a broker costs.

It loses, repeats, reorders and delays as it is told, with its own seed; what arrives when is real time, so nothing here
repeats exactly.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

from tradebft.network.live.bus import Deliver, matches

QUEUE_MAX = 100_000  # envelopes on their way to one endpoint


class LocalHub:
    """Where the endpoints meet. Shares of envelopes: *loss*, *duplicates*; *delay_s*: seconds until one arrives, each
    of its own, so that they overtake one another."""

    def __init__(
        self,
        loss: float = 0.0,
        duplicates: float = 0.0,
        delay_s: Callable[[random.Random], float] | None = None,
        seed: int = 0,
    ) -> None:
        self.loss, self.duplicates, self._delay_s = loss, duplicates, delay_s
        self._chance = random.Random(seed)
        self._endpoints: dict[str, LocalBus] = {}
        self.cut: Callable[[str, str], bool] = lambda sender, receiver: False  # who does not reach whom
        self.between: Callable[[str, str], float] = lambda sender, receiver: (
            0.0
        )  # seconds more, from whom to whom

    def bus(self) -> LocalBus:
        """A connection for one endpoint."""
        return LocalBus(self)

    def carry(self, sender: LocalBus, topic: str, data: bytes) -> None:
        """Take an envelope to everybody who asked for its topic."""
        for receiver in list(self._endpoints.values()):
            if receiver is sender or not any(matches(pattern, topic) for pattern in receiver.topics):
                continue
            if self.cut(sender.name, receiver.name) or self._happens(self.loss):
                sender.counts["lost"] += 1
                continue
            for _ in range(1 + self._happens(self.duplicates)):
                delay = 0.0 if self._delay_s is None else self._delay_s(self._chance)
                receiver.arrive(topic, data, delay + self.between(sender.name, receiver.name))

    def join(self, bus: LocalBus) -> None:
        """*bus* is there, in place of whoever had its name."""
        self._endpoints[bus.name] = bus

    def leave(self, bus: LocalBus) -> None:
        """*bus* is gone."""
        if self._endpoints.get(bus.name) is bus:
            del self._endpoints[bus.name]

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share


class LocalBus:
    """One endpoint's connection to a `LocalHub`."""

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self.name, self.topics = "", tuple[str, ...]()
        self.counts: Counter[str] = Counter()
        self._deliver: Deliver = lambda topic, data: None
        self._waiting = 0
        self._open = False

    async def open(self, name: str, topics: Sequence[str], deliver: Deliver) -> None:
        """Join the hub."""
        self.name, self.topics, self._deliver, self._open = name, tuple(topics), deliver, True
        self._hub.join(self)

    def publish(self, topic: str, data: bytes) -> None:
        """Give *data* to the hub."""
        if self._open:
            self.counts["published"] += 1
            self._hub.carry(self, topic, data)

    async def close(self) -> None:
        """Leave the hub."""
        self._open = False
        self._hub.leave(self)

    def arrive(self, topic: str, data: bytes, after_s: float) -> None:
        """An envelope will be here in so many seconds."""
        if self._waiting >= QUEUE_MAX:
            self.counts["dropped: queue full"] += 1
            return
        self._waiting += 1
        loop = asyncio.get_running_loop()
        if after_s > 0:
            loop.call_later(after_s, self._hand_over, topic, data)
        else:
            loop.call_soon(self._hand_over, topic, data)

    def _hand_over(self, topic: str, data: bytes) -> None:
        self._waiting -= 1
        if self._open:
            self.counts["delivered"] += 1
            self._deliver(topic, data)
