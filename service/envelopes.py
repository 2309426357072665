"""What sealing, carrying and opening an envelope costs on this machine: for `validate`.

Endpoints speak one at a time, one message an envelope, which is what they do under light load; under heavy load a
wake-up serves several and each costs less.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from tradebft.chain.crypto import make_identities
from tradebft.consensus.messages import Commit
from tradebft.network.live.broker import EmbeddedBroker
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.local import LocalHub
from tradebft.network.live.mqtt import MqttBus
from tradebft.network.live.port import Port
from tradebft.service.disturbance import disturb, takes

ENVELOPES: Final = 400
ROUNDS: Final = 5
MANY: Final = 3  # receivers, beside one
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CHAIN: Final = bytes(32)


class EnvelopeCosts(NamedTuple):
    """In ns of processor time, a broker's included: *seal*, and *open* for each receiver. *hop*: wall time of one
    envelope to one receiver beyond that."""

    seal: float
    open: float
    hop: float


def over_local() -> EnvelopeCosts:
    """Within one process."""

    async def measured() -> EnvelopeCosts:
        hub = LocalHub()
        return await _costs(hub.bus, 0)

    return asyncio.run(measured())


def over_mqtt() -> EnvelopeCosts:
    """Over the broker that comes along."""

    async def measured() -> EnvelopeCosts:
        async with EmbeddedBroker() as broker:
            return await _costs(lambda: MqttBus([broker.url]), broker.pid)

    return asyncio.run(measured())


async def _costs(bus: Callable[[], LiveBus], broker: int) -> EnvelopeCosts:
    one, many = await _spoken(bus, broker, 1), await _spoken(bus, broker, MANY)
    opening = max(0.0, (many[0] - one[0]) / (MANY - 1))
    sealing = max(0.0, one[0] - opening)
    return EnvelopeCosts(sealing, opening, max(0.0, one[1] - one[0]))


async def _spoken(bus: Callable[[], LiveBus], broker: int, receivers: int) -> tuple[float, float]:
    """Processor and wall time of one envelope to so many receivers, in ns."""
    signers, keyring = make_identities(range(receivers + 1), "real", 1)
    ports = [
        Port(bus(), "tradebft", _CHAIN, f"replica.{k}", signers[k], keyring, 1) for k in range(receivers + 1)
    ]
    arrived = asyncio.Event()
    count = 0

    def heard(data: bytes, sealed_by: str) -> None:
        nonlocal count
        count += 1
        if count == receivers:
            arrived.set()

    for port in ports[1:]:
        await port.open(heard)
    await ports[0].open(lambda data, sealed_by: None)
    message = Commit(0, 1, bytes(32), 0, bytes(64))
    processor, wall = [], []
    for _ in range(1 + ROUNDS):
        waited = 0.0
        other = takes()
        before = time.process_time_ns() + _used(broker)
        for _ in range(ENVELOPES):
            disturb()
            waiting = time.perf_counter_ns()
            count = 0
            arrived.clear()
            ports[0].broadcast(message)
            ports[0].flush()
            async with asyncio.timeout(10):
                await arrived.wait()
            waited += time.perf_counter_ns() - waiting
        spent = time.process_time_ns() + _used(broker) - before
        processor.append(max(0.0, spent / ENVELOPES - other))
        wall.append(waited / ENVELOPES)
    for port in ports:
        await port.close()
    return median(processor[1:]), median(wall[1:])


def _used(process: int) -> int:
    """Processor time of another process so far, in ns, to the tick; 0 for none."""
    if not process:
        return 0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_NS
