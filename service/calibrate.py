"""`tradebft calibrate`: what computing, a durable write and a hop cost on this machine.

The five costs of `nodes.cpu` (scenario reference) are measured as `network.costs` defines them, each as the median of
some rounds, with the code that a real member runs, one at a time among other work (`disturbance`). A durable write and
a hop over a bus are measured too and told; the simulator does not know them (disks take no time there, hops are the
links' matter).
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import mean, median
from typing import Any, Final, NamedTuple

from tradebft.chain.codec import decode, encode
from tradebft.chain.crypto import QuorumCertificate, make_identities
from tradebft.chain.ledger import Ledger
from tradebft.consensus.decoding import decoded
from tradebft.consensus.interface import Broadcast, Committed, Config, Executed, Send, Start
from tradebft.consensus.messages import Batch, Decided, Request, authentic, result_digest
from tradebft.consensus.pbft import Replica
from tradebft.network.application import HashChain
from tradebft.network.live.broker import EmbeddedBroker
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.local import LocalHub
from tradebft.network.live.mqtt import MqttBus
from tradebft.network.recorded import RecordedBlock
from tradebft.scenarios.collect import Progress
from tradebft.scenarios.run import empty_records
from tradebft.scenarios.schema import TradeFinance, load
from tradebft.scenarios.trade.run import Recording, run_trade_finance
from tradebft.service.disturbance import disturb, pace
from tradebft.service.writing import WRITES, writes

ROUNDS: Final = 7
MESSAGE_BYTES: Final = 200
BATCH_REQUESTS: Final = 500
TIMES: Final = 100  # a round
DECISIONS: Final = 10  # a round, of four replicas, to see what handling a message costs
HOPS: Final = 200
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


def computing(again: bool = False) -> dict[str, float]:
    """What `validate` needs: the same, without disk and hops, *chain* in place of a ledger's transaction, a hash
    chain's; each as a multiple of the piece of work that goes with it (`disturbance.Pace`). *again*: each right after
    another of its kind, as within a turn that has many."""
    works = {"sign": _sign, "verify": _verify, "kilobyte": _kilobyte, "message": _message, "chain": _chain}
    found = {}
    for name, work in works.items():
        pace()
        took = mean(work(again))
        found[name] = took / pace().of(name)
    return found


def _rounds(work: Callable[[], int], times: int, again: bool = False) -> list[float]:
    """Time in ns of one of the units that *work* returns the number of, a round: the median of so many *times*, each
    among other work; *again*: each after the same work, and that among other. A first round warms up."""
    took = []
    for _ in range(1 + ROUNDS):
        single = []
        for _ in range(times):
            disturb()
            if again:
                work()
            begun = time.perf_counter_ns()
            units = work()
            single.append((time.perf_counter_ns() - begun) / units)
        took.append(median(single))
    return took[1:]


def _sign(again: bool = False) -> list[float]:
    signers, _ = make_identities(["a"], "real", 1)
    payload = bytes(MESSAGE_BYTES)

    def work() -> int:
        signers["a"].sign(payload)
        return 1

    return _rounds(work, TIMES, again)


def _verify(again: bool = False) -> list[float]:
    signers, keyring = make_identities(["a"], "real", 1)
    payload = bytes(MESSAGE_BYTES)
    signature = signers["a"].sign(payload)

    def work() -> int:
        assert keyring.verify("a", payload, signature)
        return 1

    return _rounds(work, TIMES, again)


def _kilobyte(again: bool = False) -> list[float]:
    """Decoding a batch and hashing it, a thousand bytes."""
    requests = tuple(Request("client", k, bytes(MESSAGE_BYTES), bytes(64)) for k in range(BATCH_REQUESTS))
    data = encode(Batch(1, requests))

    def work() -> int:
        assert decode(data, Batch, limit=len(data)).digest
        return len(data) // 1000

    return _rounds(work, 20, again)


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


def _message(again: bool = False) -> list[float]:
    """Decoding a message, the replica's step, and encoding what it sends: one message in, or one out."""
    config = Config(4, batch_size=1, checkpoint_interval=10_000, log_window=20_000)
    believing: Any = _Believing()
    replicas = [Replica(index, config, believing, believing) for index in range(4)]
    for replica in replicas:
        replica.step(0, Start())
    numbers = iter(range(1, 1_000_000))

    return [
        median(_decide(replicas, config, next(numbers), again) for _ in range(DECISIONS))
        for _ in range(1 + ROUNDS)
    ][1:]


def _decide(replicas: list[Replica], config: Config, number: int, again: bool) -> float:
    """Have one request decided; ns for one message that is handled, in or out."""
    disturb()
    flying = [(0, encode(Request("client", number, bytes(MESSAGE_BYTES), bytes(64))))]
    handled = spent = 0
    while flying:
        to, data = flying.pop(0)
        if not again:
            disturb()
        begun = time.perf_counter_ns()
        message = decoded(data)
        assert authentic(message, config.chain_id, replicas[to].keyring)
        sent = _stepped(replicas[to], number, message)
        encoded = [(effect, encode(effect.message)) for effect in sent]
        spent += time.perf_counter_ns() - begun
        handled += 1 + len(sent)
        for effect, out in encoded:
            receivers = range(4) if isinstance(effect, Broadcast) else [effect.to]
            flying += [(other, out) for other in receivers if isinstance(other, int) and other != to]
    return spent / handled


def _stepped(replica: Replica, now: int, event: Any) -> list[Broadcast | Send]:
    """What *replica* sends when *event* reaches it, and the application has answered."""
    sent: list[Broadcast | Send] = []
    events = [event]
    while events:
        for effect in replica.step(now, events.pop(0)):
            if isinstance(effect, Committed):
                count, root = len(effect.fresh), result_digest(b"")
                events.append(Executed(effect.seq, (b"",) * count, (root,) * count, root))
            elif isinstance(effect, Broadcast | Send):
                sent.append(effect)
    return sent


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

    return _rounds(work, 1)


def _chain(again: bool = False) -> list[float]:
    """Executing one request of synthetic load."""
    application = HashChain()
    requests = tuple(Request("client", k, bytes(MESSAGE_BYTES), bytes(64)) for k in range(100))
    batch = Batch(1, requests)
    decided = Decided(1, batch, QuorumCertificate("Commit", 0, 1, batch.digest, ()))

    def work() -> int:
        application.execute(decided, requests)
        return len(requests)

    return _rounds(work, 20, again)


def _write() -> list[float]:
    """Each write is a round; the fastest and slowest twentieth do not count."""
    return sorted(writes().wall)[WRITES // 20 : -WRITES // 20]


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
