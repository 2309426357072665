"""The bus over MQTT brokers (MQTT 3.1.1, OASIS 2014), through aiomqtt.

An endpoint is connected to every broker that it knows, says everything to all of them and hears from each: what comes
twice is dropped by its seal's number (`envelope`), and the network lives while one broker does. Messages go at QoS 1
with a clean session. QoS 2 and stored sessions would buy nothing: the protocol asks again for what it misses, and a
backlog of an old view is of no use to whoever comes back.

The client's socket has TCP_NODELAY: with Nagle's algorithm each acknowledged message waits for the peer's delayed
acknowledgement, which was measured at 32 times less throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from tradebft.network.live.bus import Deliver

QUEUE_MAX: Final = 10_000  # envelopes that wait for one broker
QUEUE_BYTES_MAX: Final = 1 << 28
INFLIGHT_MAX: Final = 64  # sent to one broker and not acknowledged
BACKOFF_S: Final = (0.1, 5.0)  # between attempts to connect: the first pause, and the longest
KEEPALIVE_S: Final = 10
PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_QUIET: Final = logging.getLogger("tradebft.mqtt")
_QUIET.setLevel(logging.CRITICAL)  # what it would say is counted


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    encrypted: bool


class Tls(NamedTuple):
    """How a broker proves itself (*ca*: the certificates that it must descend from; None: those that the system
    trusts), and, where it asks for that, how this endpoint does. Files in PEM."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """OSError or ssl.SSLError where a file is missing or is none of the kind."""
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(str(self.certificate), None if self.key is None else str(self.key))
        return context


def address_in(url: str) -> Address:
    """``mqtt://host[:port]`` or ``mqtts://host[:port]``, or ValueError, which says what was expected."""
    try:
        parts = urlsplit(url)
        port = (parts.port or PORTS[parts.scheme]) if parts.scheme in PORTS else 0
    except ValueError:
        port = 0
    extra = bool(port) and (parts.path not in ("", "/") or parts.query or parts.username or parts.fragment)
    if not port or not parts.hostname or extra:
        raise ValueError(f"broker: expected mqtt://host:port or mqtts://host:port, found {url!r}")
    return Address(parts.hostname, port, parts.scheme == "mqtts")


class MqttBus:
    """One endpoint's connection to the brokers at *brokers* (see `address_in`).

    With *username* and *password*, where a broker asks for them; *tls* for ``mqtts``. Raises ValueError for no broker
    and for an address that is none, OSError or ssl.SSLError for certificates that cannot be read.
    """

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        username: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        patience_s: float = 5.0,
    ) -> None:
        addresses = [address_in(url) for url in brokers]
        if not addresses:
            raise ValueError("broker: expected at least one address")
        self.counts: Counter[str] = Counter()
        self._username, self._password, self._patience_s = username, password, patience_s
        encrypted = any(address.encrypted for address in addresses)
        context = (tls or Tls()).context() if encrypted else None
        self._links = [_Link(self, a, context if a.encrypted else None) for a in addresses]
        self._deliver: Deliver = lambda topic, data: None
        self._tasks: list[asyncio.Task[None]] = []
        self._some = asyncio.Event()
        self.name, self.topics = "", tuple[str, ...]()

    @property
    def connected(self) -> int:
        """To how many brokers, now."""
        return sum(link.up for link in self._links)

    async def open(self, name: str, topics: Sequence[str], deliver: Deliver) -> None:
        """Connect and subscribe. Returns when one broker is there, or after some seconds without: it goes on trying."""
        self.name, self.topics, self._deliver = name, tuple(topics), deliver
        self._tasks = [
            asyncio.create_task(link.run(), name=f"{name} at {link.address}") for link in self._links
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._some.wait()

    def publish(self, topic: str, data: bytes) -> None:
        """Hand *data* over to every broker that is there."""
        self.counts["published"] += 1
        for link in self._links:
            link.publish(topic, data)

    async def close(self) -> None:
        """Let what waits leave, for a second, and disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(link.drained() for link in self._links if link.up))
        left = set(self._tasks)
        while (
            left
        ):  # asyncio.wait_for of Python 3.11 loses a cancellation that meets its result: say it again
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=0.2)
        self._tasks = []

    def joined(self) -> None:
        """A link is up."""
        self.counts["connected"] += 1
        self._some.set()

    def arrived(self, topic: str, data: object) -> None:
        """Something came from a broker, whatever it is."""
        if not isinstance(data, bytes):
            self.counts["dropped: no payload"] += 1
            return
        self.counts["delivered"] += 1
        self._deliver(topic, data)

    def client(self, address: Address, context: ssl.SSLContext | None) -> aiomqtt.Client:
        """A connection that is still to be made. Its last will is for operators; no member heeds it."""
        state = f"{self.topics[0].split('/')[0]}/{self.name}/state"
        return aiomqtt.Client(
            address.host,
            address.port,
            username=self._username,
            password=self._password,
            identifier=self.name,
            will=aiomqtt.Will(state, b"down", 1),
            clean_session=True,
            keepalive=KEEPALIVE_S,
            timeout=5.0,
            logger=_QUIET,
            tls_context=context,
            max_inflight_messages=INFLIGHT_MAX,
            queue_type=cast(Any, partial(_Straight, self)),
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )


class _Straight(asyncio.Queue[aiomqtt.Message]):
    """In place of the client's queue of messages: what arrives is delivered at once, without a task for each."""

    def __init__(self, bus: MqttBus, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._bus = bus

    def put_nowait(self, item: aiomqtt.Message) -> None:
        self._bus.arrived(item.topic.value, item.payload)


class _Link:
    """One broker: connected, or on the way to be. What is to be said while it is away is dropped and counted."""

    def __init__(self, bus: MqttBus, address: Address, context: ssl.SSLContext | None) -> None:
        self.address = address
        self._bus, self._context = bus, context
        self.up = False
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._inflight: set[asyncio.Task[None]] = set()
        self._less = asyncio.Event()

    def publish(self, topic: str, data: bytes) -> None:
        counts = self._bus.counts
        if not self.up:
            counts["dropped: not connected"] += 1
        elif len(self._waiting) >= QUEUE_MAX or self._bytes + len(data) > QUEUE_BYTES_MAX:
            counts["dropped: queue full"] += 1
        else:
            self._waiting.append((topic, data))
            self._bytes += len(data)
            self._more.set()

    async def drained(self) -> None:
        """Until nothing waits and everything is acknowledged."""
        while self.up and (self._waiting or self._inflight):
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Connect, again and again; after a connection that held for a while the pauses begin anew."""
        pause = BACKOFF_S[0]
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await self._session()
            except Exception as error:  # whatever a broker does to the client, this link goes on trying
                self._bus.counts[_reason(error)] += 1
            finally:
                self._forget()
            if loop.time() - begun > BACKOFF_S[1]:
                pause = BACKOFF_S[0]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # not all at once, after a broker's restart
            pause = min(2 * pause, BACKOFF_S[1])

    async def _session(self) -> None:
        async with self._bus.client(self.address, self._context) as client:
            await client.subscribe([(topic, 1) for topic in self._bus.topics])
            self.up = True
            self._bus.joined()
            sending = asyncio.create_task(self._send(client))
            try:
                async for _ in client.messages:  # none comes this way: it ends with the connection
                    pass
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            await self._more.wait()
            while self._waiting:
                while len(self._inflight) >= INFLIGHT_MAX:
                    self._less.clear()
                    await self._less.wait()
                topic, data = self._waiting.popleft()
                self._bytes -= len(data)
                task = asyncio.create_task(self._publish(client, topic, data))
                self._inflight.add(task)
                task.add_done_callback(self._done)
            self._more.clear()

    async def _publish(self, client: aiomqtt.Client, topic: str, data: bytes) -> None:
        try:
            await client.publish(topic, data, qos=1)
        except (aiomqtt.MqttError, ValueError):
            self._bus.counts["dropped: not acknowledged"] += 1

    def _done(self, task: asyncio.Task[None]) -> None:
        self._inflight.discard(task)
        self._less.set()

    def _forget(self) -> None:
        """The connection is gone, and with it what waited: it would be stale by the next."""
        self.up = False
        self._bus.counts["dropped: not connected"] += len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        for task in self._inflight:
            task.cancel()


def _reason(error: Exception) -> str:
    """One of few, to be counted."""
    if isinstance(error, MqttConnectError):
        return "not connected: refused by the broker"
    if isinstance(error, ssl.SSLError) or "CERTIFICATE" in str(error) or "SSL" in str(error):
        return "not connected: no trust in the broker's certificate"
    if isinstance(error, aiomqtt.MqttError | OSError):
        return "not connected: no broker there, or it went"
    return f"not connected: {type(error).__name__}"
