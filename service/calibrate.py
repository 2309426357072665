"""`tradebft calibrate`: what computing, a durable write and a hop cost on this machine.

The five costs of `nodes.cpu` (scenario reference) are measured as `network.costs` defines them, each as the median of
some rounds, with the code that a real member runs. A durable write and a hop over a bus are measured too and told; the
simulator does not know them (disks take no time there, hops are the links' matter).
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from tradebft.chain.codec import decode, encode
from tradebft.chain.crypto import make_identities
from tradebft.chain.ledger import Ledger
from tradebft.chain.store import Store
from tradebft.consensus.decoding import decoded
from tradebft.consensus.interface import Broadcast, Committed, Config, Executed, Send, Start
from tradebft.consensus.messages import Batch, Request, result_digest
from tradebft.consensus.pbft import Replica
from tradebft.network.live.broker import EmbeddedBroker
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.local import LocalHub
from tradebft.network.live.mqtt import MqttBus
from tradebft.network.recorded import RecordedBlock
from tradebft.scenarios.collect import Progress
from tradebft.scenarios.run import empty_records
from tradebft.scenarios.schema import TradeFinance, load
from tradebft.scenarios.trade.run import Recording, run_trade_finance

ROUNDS: Final = 7
MESSAGE_BYTES: Final = 200
BATCH_REQUESTS: Final = 500
DECISIONS: Final = 150  # a round, of four replicas, to see what handling a message costs
HOPS: Final = 200
WRITES: Final = 100
SCENARIO: Final = "guizhou-pilot"  # whose transactions are executed


class Costs(NamedTuple):
    """What was measured, in ns; *spread*: of each, the highest round over the lowest."""

    message: float
    kilobyte: float
    sign: float
    verify: float
    execute: float
    write: float
    hop_local: float
    hop_mqtt: float
    spread: dict[str, float]


def calibrate(broker: str | None = None, progress: Progress = lambda *_: None) -> Costs:
    """Measure everything, in some ten seconds. *broker*: whose hop to measure; None: the one that comes along."""
    found: dict[str, list[float]] = {}
    works: dict[str, Callable[[], list[float]]] = {
        "sign": _sign, "verify": _verify, "kilobyte": _kilobyte, "message": _message, "execute": _execute,
        "write": _write, "hop_local": _hop_local, "hop_mqtt": lambda: _hop_mqtt(broker),
    }  # fmt: skip
    for done, (name, work) in enumerate(works.items()):
        progress("measuring", done, len(works))
        found[name] = work()
    progress("measuring", len(works), len(works))
    spread = {name: max(rounds) / max(min(rounds), 1e-9) for name, rounds in found.items()}
    return Costs(**{name: median(rounds) for name, rounds in found.items()}, spread=spread)


def _rounds(work: Callable[[], int]) -> list[float]:
    """Processor time in ns for one of the units that *work* returns the number of, a round; a first one warms up."""
    took = []
    for _ in range(1 + ROUNDS):
        begun = time.process_time_ns()
        units = work()
        took.append((time.process_time_ns() - begun) / units)
    return took[1:]


def _sign() -> list[float]:
    signers, _ = make_identities(["a"], "real", 1)
    payload = bytes(MESSAGE_BYTES)

    def work() -> int:
        for _ in range(500):
            signers["a"].sign(payload)
        return 500

    return _rounds(work)


def _verify() -> list[float]:
    signers, keyring = make_identities(["a"], "real", 1)
    payload = bytes(MESSAGE_BYTES)
    signature = signers["a"].sign(payload)

    def work() -> int:
        for _ in range(500):
            assert keyring.verify("a", payload, signature)
        return 500

    return _rounds(work)


def _kilobyte() -> list[float]:
    """Decoding a batch and hashing it, a thousand bytes."""
    requests = tuple(Request("client", k, bytes(MESSAGE_BYTES), bytes(64)) for k in range(BATCH_REQUESTS))
    data = encode(Batch(1, requests))

    def work() -> int:
        for _ in range(10):
            assert decode(data, Batch, limit=len(data)).digest
        return 10 * len(data) // 1000

    return _rounds(work)


class _Believing:
    """A key that signs at once and a keyring that believes everything: signatures are measured by themselves."""

    member: Any = 0
    public_key = bytes(32)

    def sign(self, payload: bytes) -> bytes:
        return bytes(64)

    def verify(self, member: Any, payload: bytes, signature: bytes) -> bool:
        return True

    def verify_key(self, public_key: bytes, payload: bytes, signature: bytes) -> bool:
        return True


def _message() -> list[float]:
    """Decoding a message, the replica's step, and encoding what it sends: one message in, or one out."""
    config = Config(4, batch_size=1, checkpoint_interval=10_000, log_window=20_000)
    believing: Any = _Believing()
    replicas = [Replica(index, config, believing, believing) for index in range(4)]
    for replica in replicas:
        replica.step(0, Start())
    numbers = iter(range(1, 1_000_000))

    def work() -> int:
        return sum(_decide(replicas, config, next(numbers)) for _ in range(DECISIONS))

    return _rounds(work)


def _decide(replicas: list[Replica], config: Config, number: int) -> int:
    """Have one request decided; messages handled, in and out."""
    flying = [(0, encode(Request("client", number, bytes(MESSAGE_BYTES), bytes(64))))]
    handled = 0
    while flying:
        to, data = flying.pop(0)
        handled += 1
        events: list[Any] = [decoded(data)]
        while events:
            for effect in replicas[to].step(number, events.pop(0)):
                if isinstance(effect, Committed):
                    root = result_digest(b"")
                    events.append(
                        Executed(effect.seq, (b"",) * len(effect.fresh), (root,) * len(effect.fresh), root)
                    )
                elif isinstance(effect, Broadcast):
                    handled += 1
                    flying += [(other, encode(effect.message)) for other in range(4) if other != to]
                elif isinstance(effect, Send):
                    handled += 1
                    if isinstance(effect.to, int):
                        flying.append((effect.to, encode(effect.message)))
    return handled


def _execute() -> list[float]:
    """Applying one transaction of a simulated run to the ledger, its signature apart."""
    scenario = load(SCENARIO, {"days": 14, "workload.arms": ["chain"]})
    recording = Recording()
    assert isinstance(scenario.workload, TradeFinance)
    run_trade_finance(scenario, scenario.workload, empty_records(scenario), lambda *_: None, recording)
    _, keyring = make_identities(recording.signatories, "modelled", scenario.seed)
    blocks: list[RecordedBlock] = recording.blocks

    def work() -> int:
        assert recording.genesis is not None
        ledger = Ledger(recording.genesis, keyring)
        for block in blocks:
            ledger.apply(block.height, block.time_ns, block.operations)
        return max(1, len(ledger.audit))

    return _rounds(work)


def _write() -> list[float]:
    """Wall time until one record is durable, in the folder for temporary files; each write is a round."""
    took = []
    with tempfile.TemporaryDirectory(prefix="tradebft-") as folder:
        store = Store.open(Path(folder) / "store.db", bytes(32))
        try:
            for number in range(WRITES):
                begun = time.perf_counter_ns()
                store.put_record("vote", number, bytes(500))
                store.commit()
                took.append(float(time.perf_counter_ns() - begun))
        finally:
            store.close()
    return sorted(took)[WRITES // 20 : -WRITES // 20]


def _hop_local() -> list[float]:
    hub = LocalHub()
    return asyncio.run(_hops(hub.bus(), hub.bus()))


def _hop_mqtt(broker: str | None) -> list[float]:
    async def measured() -> list[float]:
        if broker is not None:
            return await _hops(MqttBus([broker]), MqttBus([broker]))
        async with EmbeddedBroker() as own:
            return await _hops(MqttBus([own.url]), MqttBus([own.url]))

    return asyncio.run(measured())


async def _hops(sender: LiveBus, receiver: LiveBus) -> list[float]:
    """Wall time of each of some envelopes from *sender* to *receiver*, one after the other."""
    there = asyncio.Event()
    await receiver.open("b", ("tradebft/+/to/b",), lambda topic, data: there.set())
    await sender.open("a", ("tradebft/+/to/a",), lambda topic, data: None)
    took = []
    for _ in range(HOPS):
        there.clear()
        begun = time.perf_counter_ns()
        sender.publish("tradebft/a/to/b", bytes(300))
        async with asyncio.timeout(10):
            await there.wait()
        took.append(float(time.perf_counter_ns() - begun))
    await sender.close()
    await receiver.close()
    return sorted(took)[HOPS // 20 : -HOPS // 20]


# --- as a file ---


COSTS: Final = ("message", "kilobyte", "sign", "verify", "execute")
"""Those that `nodes.cpu` has."""


def profile_text(costs: Costs) -> str:
    """*costs* as a TOML file, with what was measured beside them as remarks."""
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    lines = [
        f"# tradebft calibrate, {when}: {platform.machine()}, {os.cpu_count()} processors, Python"
        f" {platform.python_version()}. Medians; in brackets the highest round over the lowest.",
        f"# A durable write takes {costs.write / 1e3:.0f} us [{costs.spread['write']:.1f}], a hop within the process"
        f" {costs.hop_local / 1e3:.0f} us, over MQTT {costs.hop_mqtt / 1e3:.0f} us [{costs.spread['hop_mqtt']:.1f}].",
    ]
    for name in COSTS:
        lines.append(f'{name} = "{round(getattr(costs, name))} ns"  # [{costs.spread[name]:.2f}]')
    return "\n".join(lines) + "\n"
