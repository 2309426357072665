"""One member of a real network: a replica, its disk, its application and its bus, in real time.

The same replica as in the simulator, asked the same way. What differs is who performs its effects. Inputs are taken in
turns: all that waits is stepped through, then everything that was to be durable is committed at once (group commit),
and only then what the turn sends leaves, one envelope a receiver. So no vote is seen by anybody before it would
survive a power cut, and under load one write serves many votes.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace
from tradebft.chain.codec import CodecError
from tradebft.chain.store import StoreError
from tradebft.consensus.decoding import decoded
from tradebft.consensus.interface import (
    Address,
    Broadcast,
    CancelTimer,
    Committed,
    Effects,
    Evidence,
    Executed,
    Idle,
    Ignored,
    Install,
    Installed,
    KeepSnapshot,
    Persist,
    Replica,
    Send,
    SendBlocks,
    SendChunk,
    SetTimer,
    SnapshotProven,
    Start,
    TimerFired,
)
from tradebft.consensus.messages import Chunk, FetchReply, authentic, sender_of
from tradebft.network.application import Application
from tradebft.network.chronicle import run
from tradebft.network.inbox import INPUTS_A_TURN, inbox_of
from tradebft.network.live.clock import Clock, Timers
from tradebft.network.live.kept import Kept
from tradebft.network.live.port import Port

IDLE_SECONDS: Final = 2.0  # without a block: then say where the member stands
EVIDENCE_KEPT: Final = 1000


class Member:
    """Runs *replica* over *port* and *disk*. One task; `start` and `stop` it."""

    def __init__(
        self,
        replica: Replica,
        port: Port,
        disk: Kept,
        application: Application,
        clock: Clock,
        observe: Callable[[Committed, Executed], None] | None = None,
    ) -> None:
        self.replica, self.port, self.disk, self.application = replica, port, disk, application
        self._clock, self._observe = clock, observe
        self.height = 0
        self.root = b""
        self.counts: Counter[str] = Counter()  # of inputs, by kind; of what was dropped, by reason
        self.ignored: Counter[str] = Counter()
        self.evidence: deque[Evidence] = deque(maxlen=EVIDENCE_KEPT)
        port.others = replica.config.nodes - 1
        self._inbox_per_sender = inbox_of(replica.config)
        self._inbox: deque[Any] = deque()
        self._waiting: Counter[Address] = Counter()
        self._answers: deque[Executed | Installed] = deque()
        self._wake = asyncio.Event()
        self._dirty = False
        self._timers = Timers(self._timer)
        self._task: asyncio.Task[None] | None = None
        self._reminding: asyncio.Task[None] | None = None
        self._do: dict[type, Callable[[Any], None]] = {
            Broadcast: lambda effect: self.port.broadcast(effect.message, effect.to),
            Send: lambda effect: self.port.send(effect.to, effect.message),
            SetTimer: lambda effect: self._timers.set(effect.name, effect.delay_ns),
            CancelTimer: lambda effect: self._timers.cancel(effect.name),
            Persist: self._persist,
            Committed: self._execute,
            Ignored: self._ignore,
            Evidence: self.evidence.append,
            KeepSnapshot: self._keep_snapshot,
            SnapshotProven: self._snapshot_proven,
            SendBlocks: self._send_blocks,
            SendChunk: self._send_chunk,
            Install: self._install,
        }

    # --- life ---

    async def start(self) -> None:
        """Read the disk, join the bus, and go on from there."""
        self._resume()
        self._inbox.append(Start(self.disk.read()))
        await self.port.open(self.receive)
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name=f"member {self.replica.me}")
        self._reminding = asyncio.create_task(self._remind(), name=f"reminder of member {self.replica.me}")

    async def stop(self) -> None:
        """Leave. What a turn led to is durable when the turn is over, so nothing is lost."""
        for task in (self._task, self._reminding):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._task = self._reminding = None
        self._timers.close()
        await self.port.close()
        self.disk.close()

    async def wait(self) -> None:
        """Until the member's task ends, which it does not by itself; raises what ended it."""
        if self._task is not None:
            await self._task

    @property
    def failure(self) -> BaseException | None:
        """What ended the member's task; None while it runs."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    def _resume(self) -> None:
        """Bring the application to where the disk is: the newest snapshot, then every block after it once more."""
        if (kept := self.disk.state()) is not None:
            self.height, data = kept
            self.root = self.application.restore(data)
        while (block := self.disk.kept_block(self.height + 1)) is not None:
            effect = Committed(self.height + 1, block.decided, block.fresh)
            self.root = self.application.execute(block.decided, block.fresh).root
            if self.root != block.executed.root:
                raise StoreError(
                    f"{self.disk.store.path}: executing block {effect.seq} leads to another root"
                )
            self.height = effect.seq

    # --- inputs ---

    def receive(self, data: bytes, sealed_by: str = "") -> None:
        """Bytes of one message arrived, in an envelope whose seal holds. Never raises."""
        try:
            message = decoded(data)
        except CodecError:
            self.counts["malformed"] += 1
            return
        sender = sender_of(message)
        if self._waiting[sender] >= self._inbox_per_sender:
            self.counts["inbox full"] += 1
        elif not authentic(message, self.replica.config.chain_id, self.port.keyring):
            self.counts["bad signature"] += 1
        else:
            self._waiting[sender] += 1
            self._inbox.append(message)
            self._wake.set()

    async def _remind(self) -> None:
        while True:
            before = self.height
            await asyncio.sleep(IDLE_SECONDS)
            if self.height == before:
                self._inbox.append(Idle())
                self._wake.set()

    def _timer(self, name: str) -> None:
        self._inbox.append(TimerFired(name))
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._turn()
            if not self._inbox:
                self._wake.clear()
            await asyncio.sleep(0)  # let the bus read and write

    def _turn(self) -> None:
        """Step through what waits; make it durable; let it leave."""
        for _ in range(INPUTS_A_TURN):
            if self._answers:
                event: Any = self._answers.popleft()
            elif self._inbox:
                event = self._inbox.popleft()
                if hasattr(event, "signature"):
                    self._left(sender_of(event))
            else:
                break
            self.counts[type(event).__name__] += 1
            self._perform(self.replica.step(self._clock.now(), event))
        if self._dirty:
            self.disk.commit()
            self._dirty = False
        self.port.flush()
        if self._answers:
            self._wake.set()

    def _left(self, sender: Address) -> None:
        self._waiting[sender] -= 1
        if not self._waiting[sender]:
            del self._waiting[sender]

    # --- effects ---

    def _perform(self, effects: Effects) -> None:
        for effect in effects:
            do = self._do.get(type(effect))
            if do is None:
                raise ValueError(f"a replica asked for {effect!r}, which no member can do")
            do(effect)

    def _persist(self, effect: Persist) -> None:
        self.disk.write(effect.record)
        self._dirty = True

    def _ignore(self, effect: Ignored) -> None:
        self.ignored[effect.why] += 1

    def _execute(self, effect: Committed) -> None:
        executed = run(self.application, effect)
        self.disk.append(effect, executed)
        self._dirty = True
        self.height, self.root = effect.seq, executed.root
        if self._observe is not None:
            self._observe(effect, executed)
        self._answers.append(executed)

    def _keep_snapshot(self, effect: KeepSnapshot) -> None:
        self.disk.keep(effect.manifest, effect.table, effect.application)
        self._dirty = True

    def _snapshot_proven(self, effect: SnapshotProven) -> None:
        self.disk.prove(effect.certificate, effect.floor)
        self._dirty = True

    def _install(self, effect: Install) -> None:
        seq = effect.manifest.seq
        try:
            root: bytes | None = self.application.restore(b"".join(effect.application))
        except ValueError:
            root = None
        if root is not None:
            self.disk.keep(effect.manifest, effect.table, effect.application)
            self.disk.prove(effect.certificate, seq)
            self._dirty = True
            self.height, self.root = seq, root
            self.counts["snapshots taken over"] += 1
        self._answers.append(Installed(seq, root))

    def _send_blocks(self, effect: SendBlocks) -> None:
        blocks = []
        for seq in range(effect.first, min(effect.last, self.height) + 1):
            decided = self.disk.block(seq)
            if decided is None:
                break
            blocks.append(decided)
        self._reply(effect.to, FetchReply(tuple(blocks), (), effect.checkpoint, self.replica.me))

    def _send_chunk(self, effect: SendChunk) -> None:
        data = self.disk.chunk(effect.seq, effect.index)
        if data is not None:
            self._reply(effect.to, Chunk(effect.seq, effect.index, data, self.replica.me))

    def _reply(self, to: int, bare: FetchReply | Chunk) -> None:
        payload = bare.payload(self.replica.config.chain_id)
        self.port.send(to, replace(bare, signature=self.replica.signer.sign(payload)))
