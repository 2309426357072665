"""A network of member processes under load, and what goes wrong with it. Afterwards nothing that was acknowledged may
be missing from any member's chain, and all chains must be one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from pathlib import Path

from tradebft.chain.crypto import make_identities
from tradebft.chain.store import Store
from tradebft.consensus.interface import Config
from tradebft.lab.verify import verify
from tradebft.network.live.assembly import client_of
from tradebft.network.live.broker import EmbeddedBroker
from tradebft.network.live.clock import Clock
from tradebft.network.live.founding import Founding
from tradebft.network.live.kept import Kept
from tradebft.network.live.process import Processes

MS = 1_000_000
AT_ONCE = 6  # requests that the client has outstanding
SNAPSHOT = 64  # sequences


class Chaos:
    """``async with Chaos(folder) as chaos:`` the network is up and under load; at the end it is judged."""

    def __init__(self, folder: Path, n: int = 4, brokers: int = 1, urls=(), before=lambda index: ()) -> None:
        config = Config(
            n, chain_id=b"chaos", batch_size=20, checkpoint_interval=16, log_window=32,
            snapshot_interval=SNAPSHOT, view_change_timeout_ns=700 * MS, client_window=64,
        )  # fmt: skip
        self.n = n
        self.signers, keyring = make_identities([*range(n), "bank"], "real", 5)
        keys = tuple((keyring.public_key(index),) for index in range(n))
        self.founding = Founding(config, keys, (("bank", keyring.public_key("bank")),))
        self.clock = Clock(time.time_ns())
        self.brokers = [] if urls else [EmbeddedBroker() for _ in range(brokers)]
        urls = urls or [broker.url for broker in self.brokers]
        self.network = Processes(self.founding, self.signers, folder, self.clock, urls, before=before)
        self.acknowledged: dict[bytes, int] = {}  # operation -> the sequence that it was executed at
        self.faults: Counter[str] = Counter()
        self.down: set[int] = set()
        self._loading: asyncio.Task[None] | None = None
        self._asked = 0
        self._enough = False

    async def __aenter__(self) -> Chaos:
        for broker in self.brokers:
            await broker.start()
        await self.network.start()
        self.client = client_of(
            self.founding, "bank", self.signers["bank"], self.network.bus(), self.clock, 1000 * MS
        )
        await self.client.start()
        self._loading = asyncio.create_task(self._load())
        await self.served(10)
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        assert self._loading is not None
        try:
            if kind is None:
                await self._recover()
        finally:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            await self.client.stop()
            await self.network.stop()
            for broker in self.brokers:
                await broker.stop()
        if kind is None:
            self.judge()

    # --- load ---

    async def _load(self) -> None:
        async def one() -> None:
            while not self._enough:
                self._asked += 1
                operation = b"transfer %d" % self._asked
                answer = await self.client.submit(operation)
                self.acknowledged[operation] = answer.seq

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    async def served(self, count: int, seconds: float = 40.0) -> None:
        """Wait until *count* more requests are acknowledged: the network serves."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.02)

    # --- what goes wrong ---

    async def kill(self, *members: int) -> None:
        """kill -9."""
        for index in members:
            self.network.signal(index, signal.SIGKILL)
        for index in members:
            await self.network.gone(index)
            self.down.add(index)
        self.faults["member killed"] += len(members)

    async def restart(self, *members: int) -> None:
        for index in members:
            await self.network.start_member(index)
            self.down.discard(index)

    @contextlib.asynccontextmanager
    async def frozen(self, index: int):
        """SIGSTOP, and SIGCONT at the end."""
        self.network.signal(index, signal.SIGSTOP)
        self.faults["member frozen"] += 1
        try:
            yield
        finally:
            self.network.signal(index, signal.SIGCONT)

    async def kill_broker(self, which: int = 0) -> None:
        await self.brokers[which].stop(kill=True)
        self.faults["broker killed"] += 1

    # --- the verdict ---

    async def _recover(self) -> None:
        """Whoever is down comes up, the network serves, and without another request everybody gets level."""
        await self.restart(*sorted(self.down))
        await self.served(20)
        self._enough = True
        assert self._loading is not None
        async with asyncio.timeout(60):
            await self._loading
        async with asyncio.timeout(60):
            while True:
                stands = await self.network.stands()
                if len(stands) == self.n and len({(s.height, s.root) for s in stands.values()}) == 1:
                    return
                await asyncio.sleep(0.1)

    def judge(self) -> None:
        """Every store holds every acknowledged request once; all are one chain; each verifies by itself."""
        chains = [self._chain(index) for index in range(self.n)]
        for index, (blocks, first, _) in enumerate(chains):
            verdict = verify(self.network.store(index))
            assert verdict.ok, f"replica {index}: {verdict.why}"
            executed = Counter(operation for _, operations in blocks.values() for operation in operations)
            assert not [op for op, times in executed.items() if times > 1], "executed twice"
            due = [op for op, seq in self.acknowledged.items() if seq >= first]
            lost = [op for op in due if op not in executed]
            assert lost == [], f"replica {index} lost {lost[:3]}"
        heights = {height for *_, height in chains}
        assert len(heights) == 1
        for seq in range(1, heights.pop() + 1):
            assert len({blocks[seq][0] for blocks, *_ in chains if seq in blocks}) <= 1

    def _chain(self, index: int):
        """The blocks that replica *index* keeps: {sequence: (root, operations)}, the first of them, and its height. Who
        stands at a snapshot has none."""
        store = Store.open(self.network.store(index), self.founding.identity, read_only=True)
        try:
            kept = Kept(store)
            blocks = {}
            for seq in range(1, kept.height + 1):
                block = kept.kept_block(seq)
                if block is not None:
                    blocks[seq] = (block.executed.root, [request.operation for request in block.fresh])
            return blocks, min(blocks, default=kept.height + 1), kept.height
        finally:
            store.close()
