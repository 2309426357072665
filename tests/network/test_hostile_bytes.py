"""A flood of hostile bytes on a real bus: noise, changed traffic, and what a Byzantine member seals with its own key.

Nothing that arrives may raise out of a member, fill its memory, or keep honest requests from being answered.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
from live_network import LiveNetwork
from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.genesis import Genesis
from tradebft.chain.receipt import Receipt
from tradebft.chain.transaction import Transaction
from tradebft.consensus.decoding import decoded
from tradebft.consensus.messages import Message
from tradebft.network.live.envelope import chain_of, endpoint, seal
from tradebft.network.live.founding import Founding
from tradebft.network.queries import Query

BYZANTINE = 3
A_SEAL = 25  # payloads under one seal
A_TURN = 20  # publications, before the members get a turn
GROWTH_BYTES_MAX = 48 << 20  # of the whole process, members and disks' caches included


# --- what is thrown ---


class Arsenal:
    """Payloads, drawn by *seed* from *heard*: messages that members really sent."""

    def __init__(self, seed: int, heard: list[bytes]) -> None:
        self._chance = random.Random(seed)
        self._heard = heard

    def noise(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((0, 1, 7, 60, 200, 1500)))

    def changed(self) -> bytes:
        """A true message with something wrong: bits, length, a piece of another one."""
        data = bytearray(self._chance.choice(self._heard))
        for _ in range(self._chance.choice((1, 1, 2, 8))):
            at = self._chance.randrange(len(data) + 1)
            match self._chance.randrange(6):
                case 0 if at < len(data):
                    data[at] ^= 1 << self._chance.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = self._chance.randbytes(self._chance.randrange(1, 9))
                case 3:
                    other = self._chance.choice(self._heard)
                    data[at:] = other[self._chance.randrange(len(other) + 1) :]
                case 4:
                    data[at : at + 9] = self._chance.choice(NUMBERS)
                case _:
                    del data[at : at + self._chance.randrange(1, 40)]
        return bytes(data)

    def bomb(self) -> bytes:
        """Deep, wide, or claiming to be: what a careless decoder would build."""
        return self._chance.choice(BOMBS)()

    def any(self) -> bytes:
        return self._chance.choice((self.noise, self.changed, self.changed, self.bomb))()


NUMBERS = [
    b"\xcf" + bytes.fromhex(text)
    for text in ("ffffffffffffffff", "7fffffffffffffff", "8000000000000000", "0000000000000001")
] + [
    b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc0",
    b"\xc3",
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xca" + bytes(4),
]

NAMES = ("PrePrepare", "Prepare", "ViewChange", "NewView", "FetchReply", "Request", "EpochChange", "Garbage")


def _message(name: str, *fields: object) -> bytes:
    packed: bytes = msgpack.packb([name, *fields])
    return packed


def _many(of: object, count: int) -> Callable[[], bytes]:
    return lambda: _message("NewView", 1, [of] * count, [], 0, b"")


BOMBS: list[Callable[[], bytes]] = [
    lambda: b"\x91" * 2000 + b"\x00",  # nested lists
    lambda: b"\x92\xa7NewView" + b"\x91" * 30_000 + b"\x00",
    lambda: b"\x81\xa1a" * 3000 + b"\x00",  # nested maps
    lambda: b"\x95\xa7NewView\x01\xdd\xff\xff\xff\xff",  # four thousand million changes, says the head
    lambda: b"\x97\xa7Request\xdb\xff\xff\xff\xff",
    lambda: b"\xdf\xff\xff\xff\xff",
    lambda: b"\xc6\xff\xff\xff\xff",
    lambda: b"\xc9\x00\x00\x00\x01\x05x",  # an extension
    _many([], 500),
    _many(["ViewChange", 1, 0, None, [], 0, b""], 200),
    *[lambda name=name: _message(name, *[2**64 - 1] * 6) for name in NAMES],  # type: ignore[misc]
    *[lambda name=name: _message(name, *[[]] * 6) for name in NAMES],  # type: ignore[misc]
    *[lambda name=name: _message(name, *[float("nan")] * 5) for name in NAMES],  # type: ignore[misc]
    *[lambda name=name: _message(name, -1, -1, b"", -1, None, b"") for name in NAMES],  # type: ignore[misc]
]


# --- at the codec ---


KINDS = (Message, Transaction, Receipt, Founding, Genesis, Query, tuple[bytes, ...])


def hit_the_codec(arsenal: Arsenal, count: int) -> Counter[str]:
    """What became of so many payloads."""
    ends: Counter[str] = Counter()
    for number in range(count):
        data = arsenal.any()
        try:
            value = decoded(data) if number % 2 else decode(data, KINDS[number // 2 % len(KINDS)])
        except CodecError:
            ends["refused"] += 1
        else:
            assert encode(value) == data  # canonical: nobody can send one thing in two forms
            ends["decoded"] += 1
    return ends


# --- at the members ---


class Siege:
    """Three honest members, a fourth whose key the attacker has, and a client that goes on asking."""

    def __init__(self, network: LiveNetwork) -> None:
        self.network = network
        self.sent: Counter[str] = Counter()
        self.answered = 0
        self.memory: list[int] = []
        self._over = False

    async def run(self, payloads: int) -> None:
        network = self.network
        await network.start(*(i for i in range(4) if i != BYZANTINE))
        bank = await network.client()
        envelopes: list[tuple[str, bytes]] = []
        messages: list[bytes] = []
        attacker = network.hub.bus()
        await attacker.open("attacker", ("net/+/all",), lambda topic, data: envelopes.append((topic, data)))
        self._tap(messages)
        for number in range(60):
            await bank.submit(f"before {number}".encode())
        attacker.topics = ()
        asking = asyncio.create_task(self._ask(bank))
        try:
            await self._throw(payloads, Arsenal(1, messages), Arsenal(2, [data for _, data in envelopes]))
        finally:
            self._over = True
            await asking
        async with asyncio.timeout(30):
            await bank.submit(b"after")
        await network.level()
        await attacker.close()

    def _tap(self, messages: list[bytes]) -> None:
        for member in self.network.members.values():
            member.port.watch = lambda message: (
                messages.append(encode(message)) if len(messages) < 2000 else None
            )

    async def _ask(self, bank) -> None:  # type: ignore[no-untyped-def]
        for number in itertools.count():
            if self._over:
                return
            async with asyncio.timeout(60):
                await bank.submit(f"during {number}".encode())
            self.answered += 1
            await asyncio.sleep(0.01)

    async def _throw(self, payloads: int, inner: Arsenal, outer: Arsenal) -> None:
        attacker = self.network.hub.bus()
        await attacker.open("attacker", (), lambda topic, data: None)
        thrown = 0
        for number, (kind, topic, data, count) in enumerate(self._volley(inner, outer)):
            attacker.publish(topic, data)
            self.sent[kind] += count
            thrown += count
            if number % A_TURN == 0:
                await asyncio.sleep(0)
                for member in self.network.members.values():
                    assert member.failure is None
            if thrown >= payloads * (len(self.memory) + 1) // 10:
                self.memory.append(resident())
            if thrown >= payloads:
                return

    def _volley(self, inner: Arsenal, outer: Arsenal) -> Iterator[tuple[str, str, bytes, int]]:
        """Kind, topic, bytes and how many payloads they are, without end."""
        network = self.network
        chain = chain_of(network.founding.identity)
        sealed_by = endpoint(BYZANTINE)
        for number in itertools.count():
            topic = f"net/{endpoint(number % 4)}/all"
            yield "noise", topic, outer.noise(), 1
            yield "changed envelope", topic, outer.changed(), 1
            body = [inner.any() for _ in range(A_SEAL)]
            own = f"net/{sealed_by}/all"
            yield (
                "sealed",
                own,
                seal(network.signers[BYZANTINE], sealed_by, chain, own, 1, number, body),
                A_SEAL,
            )


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def besieged(folder: Path, payloads: int) -> Siege:
    async def scene() -> Siege:
        siege = Siege(LiveNetwork(folder, snapshot_interval=16))
        try:
            await siege.run(payloads)
            for member in siege.network.members.values():
                assert member.failure is None
                counts = member.counts, member.port.bus.counts
                refused = sum(n for why, n in counts[1].items() if why.startswith("refused"))
                assert refused >= 0.9 * siege.sent["changed envelope"] + 0.9 * siege.sent["noise"]
                dropped = counts[0]["malformed"] + counts[0]["bad signature"] + counts[0]["inbox full"]
                assert dropped > 0.5 * siege.sent["sealed"]
            return siege
        finally:
            await siege.network.close()

    return asyncio.run(scene())


def test_the_codec_refuses_or_finds_the_one_encoding(tmp_path: Path) -> None:
    heard = [encode(Query("head")), encode(("a", 1)), b"\x93\xa7Request\x01\x02"]
    ends = hit_the_codec(Arsenal(3, heard), 20_000)
    assert ends["refused"] > 15_000
    assert ends["decoded"] > 0


def test_honest_traffic_goes_on_under_hostile_bytes(tmp_path: Path) -> None:
    siege = besieged(tmp_path, 20_000)
    assert sum(siege.sent.values()) >= 20_000
    assert siege.answered > 5


@pytest.mark.slow
def test_a_million_hostile_payloads(tmp_path: Path) -> None:
    """No exception, memory flat from the second tenth on, honest traffic goes on; figures are in docs/limits.md."""
    begun = time.monotonic()
    siege = besieged(tmp_path, 1_000_000)
    assert siege.memory[-1] - siege.memory[1] < GROWTH_BYTES_MAX
    ends = hit_the_codec(Arsenal(4, [encode(Query("head")), encode(("a", 1))]), 200_000)
    print(
        dict(siege.sent), f"answered {siege.answered}", dict(ends), f"{time.monotonic() - begun:.0f} s",
        [size >> 20 for size in siege.memory],
    )  # fmt: skip
    assert siege.answered > 100
