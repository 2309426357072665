"""What sealing, carrying and opening an envelope costs on this machine: for `validate`.

Endpoints speak one at a time, one message an envelope, as they do under light load, and several envelopes at one
moment, as they do under heavy load, when a wake-up serves several.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

from tradebft.chain.crypto import make_identities
from tradebft.consensus.messages import Commit
from tradebft.network.live.broker import EmbeddedBroker
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.local import LocalHub
from tradebft.network.live.mqtt import MqttBus
from tradebft.network.live.port import Port
from tradebft.service.disturbance import disturb, pace

ENVELOPES: Final = 150
ROUNDS: Final = 3
MANY: Final = 3  # receivers, beside one
ROW: Final = 8  # envelopes that leave at one moment, beside one
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CHAIN: Final = bytes(32)


class EnvelopeCosts(NamedTuple):
    """In processor time, as multiples of `disturbance.Pace.other`: *speak* for whoever sends any envelopes at one
    moment and *seal* for each of them; *wake* for each receiver that any reach at one moment, and *open* for each of
    them. Of a broker: *rouse* when it has nothing to do, *take* for an envelope, *give* for each copy of it. *hop*:
    wall time in ns of one envelope to one receiver beyond all that."""

    speak: float
    seal: float
    wake: float
    open: float
    rouse: float
    take: float
    give: float
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


class _Spent(NamedTuple):
    """On some envelopes that left at one moment: processor time of endpoints and broker, as multiples; *idle*: wall
    time in ns beyond these."""

    endpoints: float
    broker: float
    idle: float


async def _costs(bus: Callable[[], LiveBus], broker: int) -> EnvelopeCosts:
    """From four measurements all costs: one envelope and `ROW` in a row, each to one receiver and to `MANY`."""
    one, row = await _spoken(bus, broker, 1, 1), await _spoken(bus, broker, 1, ROW)
    many, rows = await _spoken(bus, broker, MANY, 1), await _spoken(bus, broker, MANY, ROW)
    # What one receiver more costs where one envelope reaches it, and where a row does.
    single = max(0.0, (many.endpoints - one.endpoints) / (MANY - 1))
    waking, opening = _first_and_each(single, max(0.0, (rows.endpoints - row.endpoints) / (MANY - 1)))
    speaking, sealing = _first_and_each(
        max(0.0, one.endpoints - single), max(0.0, row.endpoints - waking - ROW * opening)
    )
    rousing, through = _first_and_each(one.broker, row.broker)
    giving = min(through, max(0.0, (rows.broker - row.broker) / ROW / (MANY - 1)))
    return EnvelopeCosts(
        speaking, sealing, waking, opening, rousing, through - giving, giving, max(0.0, one.idle)
    )


def _first_and_each(one: float, row: float) -> tuple[float, float]:
    """What a row costs beyond its envelopes, and each of these, where *one* alone costs so much and a *row* so much."""
    each = min(one, max(0.0, (row - one) / (ROW - 1)))
    return one - each, each


async def _spoken(bus: Callable[[], LiveBus], broker: int, receivers: int, row: int) -> _Spent:
    """What so many envelopes in a *row* to so many receivers take."""
    signers, keyring = make_identities(range(receivers + 1), "real", 1)
    ports = [
        Port(bus(), "tradebft", _CHAIN, f"replica.{k}", signers[k], keyring, 1) for k in range(receivers + 1)
    ]
    arrived = asyncio.Event()
    count = 0

    def heard(data: bytes, sealed_by: str) -> None:
        nonlocal count
        count += 1
        if count == receivers * row:
            arrived.set()

    for port in ports[1:]:
        await port.open(heard)
    await ports[0].open(lambda data, sealed_by: None)
    message = Commit(0, 1, bytes(32), 0, bytes(64))
    found = []
    for _ in range(1 + ROUNDS):
        waited = 0.0
        pace()
        before, before_broker = time.process_time_ns(), _used(broker)
        for _ in range(ENVELOPES):
            disturb()
            waiting = time.perf_counter_ns()
            count = 0
            arrived.clear()
            for _ in range(row):
                ports[0].broadcast(message)
                ports[0].flush()
            async with asyncio.timeout(10):
                await arrived.wait()
            waited += time.perf_counter_ns() - waiting
        while_at_it = pace()
        own = (time.process_time_ns() - before) / ENVELOPES - sum(while_at_it)
        brokers = (_used(broker) - before_broker) / ENVELOPES
        idle = waited / ENVELOPES - own - brokers
        found.append(_Spent(max(0.0, own) / while_at_it.other, brokers / while_at_it.other, idle))
    for port in ports:
        await port.close()
    return _Spent(*(mean(kind) for kind in zip(*found[1:], strict=True)))


def _used(process: int) -> int:
    """Processor time of another process so far, in ns, to the tick; 0 for none."""
    if not process:
        return 0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_NS
