"""How much a real network of this machine commits, beside what its rate of Ed25519 checks would allow.

Every replica checks every transaction's signature once, so n replicas on c cores can do no more than c times one
core's rate of checks, divided by n. What is left of that bound is a ratio, which travels between machines.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from tradebft.chain.crypto import make_identities
from tradebft.consensus.interface import Config
from tradebft.lab.metrics import distribution
from tradebft.lab.processors import processors
from tradebft.lab.progress import Progress, silent
from tradebft.network.live.assembly import client_of
from tradebft.network.live.broker import EmbeddedBroker, free_port
from tradebft.network.live.client import LiveClient
from tradebft.network.live.clock import Clock
from tradebft.network.live.founding import Founding
from tradebft.network.live.observed import Seen
from tradebft.network.live.process import MemberError, Processes

OPERATION_BYTES: Final = 200
CLIENT: Final = "driver"
CLIENT_WINDOW: Final = 4096
CLIENT_TIMEOUT_NS: Final = 10_000_000_000
WINDOW: Final = 16
BATCH_TIMEOUT_NS: Final = 50_000_000  # without it, half of the batches hold one request: whatever came first
CHECKED_SECONDS: Final = 1.0
MOSQUITTO: Final = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
_PLAIN: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 100000
persistence false
log_type none
"""


def network(
    nodes: int,
    batch: int,
    transactions: int,
    outstanding: int,
    broker: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Commit *transactions* with *nodes* member processes over MQTT, so many *outstanding* at a time.

    *broker*: its address; None: Mosquitto where this machine has one, else the one that comes along. MemberError where
    the network does not come up.
    """
    before = checks_per_second()
    cores = processors()
    with tempfile.TemporaryDirectory(prefix="tradebft-") as folder:
        made = asyncio.run(_measured(Path(folder), nodes, batch, transactions, outstanding, broker, progress))
    # Before and after: a shared machine is not the same from minute to minute.
    bound = (before + checks_per_second()) / 2 / nodes
    rate = made["committed_per_second"]
    return {
        "nodes": nodes,
        "batch_size": batch,
        "transactions": transactions,
        "outstanding": outstanding,
        "operation_bytes": OPERATION_BYTES,
        "cores": cores,
        **made,
        "verify_bound_per_second": bound,
        "ratio": rate / bound,
    }


def checks_per_second(seconds: float = CHECKED_SECONDS) -> float:
    """Ed25519 checks of requests a second, on all cores of this process at once."""
    cores = processors()
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(_checks, [0.05] * cores))  # everybody is up and warm
        return sum(pool.map(_checks, [seconds] * cores))


def _checks(seconds: float) -> float:
    signers, keyring = make_identities([CLIENT], "real", 1)
    payload = bytes(OPERATION_BYTES + 64)
    signature = signers[CLIENT].sign(payload)
    done, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        for _ in range(100):
            assert keyring.verify(CLIENT, payload, signature)
        done += 100
    return done / spent


async def _measured(
    folder: Path,
    nodes: int,
    batch: int,
    transactions: int,
    outstanding: int,
    broker: str | None,
    progress: Progress,
) -> dict[str, Any]:
    config = Config(
        nodes, chain_id=b"bench", batch_size=batch, batch_timeout_ns=BATCH_TIMEOUT_NS, window=WINDOW,
        client_window=CLIENT_WINDOW, view_change_timeout_ns=10_000_000_000,
    )  # fmt: skip
    signers, keyring = make_identities([*range(nodes), CLIENT], "real", 1)
    keys = tuple((keyring.public_key(index),) for index in range(nodes))
    founding = Founding(config, keys, ((CLIENT, keyring.public_key(CLIENT)),))
    clock = Clock(time.time_ns())
    async with _broker(folder, broker) as (url, kind):
        members = Processes(founding, signers, folder, clock, [url])
        client: LiveClient | None = None
        try:
            await members.start()
            client = client_of(founding, CLIENT, signers[CLIENT], members.bus(), clock, CLIENT_TIMEOUT_NS)
            await client.start()
            await _load(client, min(transactions, 4 * batch), outstanding, silent)  # everybody is warm
            latencies, seconds = await _load(client, transactions, outstanding, progress)
            await members.level(10.0)
        finally:
            if client is not None:
                await client.stop()
            seen = await members.stop()
    return _figures(kind, latencies, seconds, seen)


def _figures(kind: str, latencies: list[float], seconds: float, seen: list[Seen]) -> dict[str, Any]:
    if len({(one.height, one.root) for one in seen}) != 1:
        raise MemberError("members do not stand at one height and root after the load")
    batches = [commit.transactions for commit in seen[0].commits if commit.transactions]
    return {
        "broker": kind,
        "wall_seconds": seconds,
        "committed_per_second": len(latencies) / seconds,
        "client_ms": distribution(latencies),
        "transactions_per_batch": sum(batches) / len(batches),
        "cpu_seconds": [round(one.cpu_seconds, 3) for one in seen],
    }


async def _load(
    client: LiveClient, total: int, outstanding: int, progress: Progress
) -> tuple[list[float], float]:
    """Milliseconds of each request, and seconds of all of them: a closed loop."""
    latencies: list[float] = []
    left = iter(range(total))

    async def one() -> None:
        for number in left:
            answer = await client.submit(number.to_bytes(8, "big").ljust(OPERATION_BYTES, b"x"))
            latencies.append((answer.answered_ns - answer.submitted_ns) / 1e6)
            if number % 100 == 0:
                progress("transactions", len(latencies), total)

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(outstanding)))
    return latencies, time.perf_counter() - begun


@asynccontextmanager
async def _broker(folder: Path, url: str | None) -> AsyncIterator[tuple[str, str]]:
    """A broker's address, and what it is."""
    if url is not None:
        yield url, "given"
    elif MOSQUITTO is None:
        async with EmbeddedBroker() as broker:
            yield broker.url, "amqtt"
    else:
        port = free_port()
        configuration = folder / "mosquitto.conf"
        configuration.write_text(_PLAIN.format(port=port), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(MOSQUITTO, "-c", str(configuration))
        try:
            yield f"mqtt://127.0.0.1:{port}", "mosquitto"
        finally:
            process.terminate()
            await process.wait()
