"""A member's door to the bus: messages go out sealed, several in one envelope; what comes in is opened and counted.

Everything that the turn of a member sends to one topic leaves in one envelope, under one signature.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from tradebft.chain.codec import encode
from tradebft.chain.crypto import Keyring, Signer
from tradebft.consensus.interface import Address
from tradebft.consensus.messages import Message
from tradebft.network.live.bus import LiveBus, subscriptions, topic_all, topic_to
from tradebft.network.live.envelope import MESSAGES_MAX, Opener, Refused, address_of, endpoint, seal

ENVELOPE_BYTES: Final = 1 << 20  # a fuller one is sent at once
Receive = Callable[[bytes, str], None]


class Port:
    """The door of *name* to the network *net* of the chain *chain* (see `envelope.chain_of`).

    *keyring* knows the keys of all members and clients; *boot* grows from start to start.
    """

    def __init__(
        self,
        bus: LiveBus,
        net: str,
        chain: bytes,
        name: str,
        signer: Signer,
        keyring: Keyring,
        boot: int,
    ) -> None:
        self.bus, self.name, self.keyring = bus, name, keyring
        self._net, self._chain, self._signer, self._boot = net, chain, signer, boot
        self._opener = Opener(chain, net, name, keyring)
        self._counter = 0
        self._out: dict[str, list[bytes]] = {}
        self._sizes: dict[str, int] = {}
        self._receive: Receive = lambda data, sealed_by: None
        self.others = 0  # whom a broadcast reaches; only the counts below depend on it
        self.sent: Counter[str] = Counter()  # messages by kind, one a receiver as the simulator counts them
        self.sent_bytes = 0  # of them, envelopes apart
        self.watch: Callable[[Message], None] = lambda message: None  # called with what is sent

    async def open(self, receive: Receive) -> None:
        """Join the bus; *receive* is called with each message's bytes and with who sealed them."""
        self._receive = receive
        replica = isinstance(address_of(self.name), int)
        await self.bus.open(self.name, subscriptions(self._net, self.name, replica), self._deliver)

    async def close(self) -> None:
        """Send what waits and leave."""
        self.flush()
        await self.bus.close()

    def broadcast(self, message: Message, to: tuple[int, ...] | None = None) -> None:
        """For every replica but this one. *to* is no secret: whoever is not meant ignores what it gets."""
        copies = self.others if to is None else sum(endpoint(one) != self.name for one in to)
        self._add(topic_all(self._net, self.name), message, copies)

    def send(self, to: Address, message: Message) -> None:
        """For one replica or client."""
        self._add(topic_to(self._net, self.name, endpoint(to)), message, 1)

    def flush(self) -> None:
        """Seal and hand over what waits."""
        for topic in list(self._out):
            self._seal(topic)

    def _add(self, topic: str, message: Message, copies: int) -> None:
        data = encode(message)
        self.sent[type(message).__name__] += copies
        self.sent_bytes += len(data) * copies
        self.watch(message)
        waiting = self._out.get(topic)
        if waiting and (self._sizes[topic] + len(data) > ENVELOPE_BYTES or len(waiting) == MESSAGES_MAX):
            self._seal(topic)
        self._out.setdefault(topic, []).append(data)
        self._sizes[topic] = self._sizes.get(topic, 0) + len(data)

    def _seal(self, topic: str) -> None:
        messages = self._out.pop(topic)
        del self._sizes[topic]
        self._counter += 1
        self.bus.publish(
            topic, seal(self._signer, self.name, self._chain, topic, self._boot, self._counter, messages)
        )

    def _deliver(self, topic: str, data: bytes) -> None:
        opened = self._opener.open(topic, data)
        if isinstance(opened, Refused):
            self.bus.counts[f"refused: {opened.why}"] += 1
            return
        for message in opened.messages:
            self._receive(message, opened.sender)
