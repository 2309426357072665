"""What carries envelopes between the endpoints of a real network. Nothing about it is trusted.

A bus may lose, repeat, delay, reorder, change and invent what it carries, and may tell lies about topics and senders.
What arrives is believed for its seal only (`envelope`); what is lost is asked for again by the protocol.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

Deliver = Callable[[str, bytes], None]
"""Called with the topic and the bytes of everything that arrives. It does not block and does not raise."""


class LiveBus(Protocol):
    """One endpoint's connection to the bus."""

    counts: Counter[str]  # published, delivered, dropped, by reason

    async def open(self, name: str, topics: Sequence[str], deliver: Deliver) -> None:
        """Connect as *name* and subscribe. A topic may have one ``+`` in place of a level, as in MQTT."""
        ...

    def publish(self, topic: str, data: bytes) -> None:
        """Hand *data* over. Never blocks and never raises; what does not fit in the queue is dropped and counted."""
        ...

    async def close(self) -> None:
        """Disconnect; what was handed over may still leave."""
        ...


def topic_all(net: str, sender: str) -> str:
    """Where *sender* speaks to all replicas."""
    return f"{net}/{sender}/all"


def topic_to(net: str, sender: str, receiver: str) -> str:
    """Where *sender* speaks to one endpoint."""
    return f"{net}/{sender}/to/{receiver}"


def subscriptions(net: str, me: str, replica: bool = True) -> tuple[str, ...]:
    """What an endpoint listens to: what is said to it, and, if it is a replica, what is said to all of them."""
    own = f"{net}/+/to/{me}"
    return (f"{net}/+/all", own) if replica else (own,)


def matches(pattern: str, topic: str) -> bool:
    """Whether *topic* is one that *pattern* asks for."""
    asked, given = pattern.split("/"), topic.split("/")
    return len(asked) == len(given) and all(a in ("+", g) for a, g in zip(asked, given, strict=True))
