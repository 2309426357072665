"""One member: a replica, its disk, its processor and its application. Performs a replica's effects, in order.

This is the only place that knows both a replica and what it executes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from tradebft.consensus.client import Client
from tradebft.consensus.interface import (
    Address,
    Answered,
    Broadcast,
    CancelTimer,
    Committed,
    Effects,
    Evidence,
    Executed,
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
    Submit,
    TimerFired,
)
from tradebft.consensus.invariants import Checker
from tradebft.consensus.membership import EpochProof
from tradebft.consensus.messages import (
    CHANGES_OF_VIEW,
    Chunk,
    FetchReply,
    Garbage,
    Message,
    NewView,
    ViewChange,
    sender_of,
    size,
)
from tradebft.network.bus import Bus
from tradebft.network.chronicle import Chronicle, History
from tradebft.network.costs import CpuCosts, signature_checks
from tradebft.network.disk import Disk
from tradebft.network.inbox import INBOX_PER_SENDER
from tradebft.network.recorder import EXECUTE_EVENT, INSTALL_EVENT, TIMER_EVENT, Recorder
from tradebft.network.trace import short

SEEN_KEPT: Final = 1024


class Shared(NamedTuple):
    """What all nodes of one simulation have in common."""

    bus: Bus
    recorder: Recorder
    checker: Checker
    chronicle: Chronicle
    costs: CpuCosts | None  # None: computing takes no time
    inbox: int = INBOX_PER_SENDER  # messages of one sender that may wait


class Processor:
    """One CPU with a queue: work is done in order of arrival, one piece at a time."""

    __slots__ = ("busy_ns", "costs", "factor", "free_at")

    def __init__(self, costs: CpuCosts) -> None:
        self.costs = costs
        self.factor = 1.0  # above 1 while the node is slow
        self.free_at = self.busy_ns = 0

    def take(self, now: int, cost_ns: int) -> int:
        """Queue *cost_ns* of work at *now*; return when it is done."""
        cost = int(cost_ns * self.factor)
        self.free_at = max(now, self.free_at) + cost
        self.busy_ns += cost
        return self.free_at


class ReplicaNode:
    """A replica with everything around it. *make* builds the replica anew at each start."""

    def __init__(
        self, index: int, make: Callable[[], Replica], shared: Shared, live: Callable[[], int]
    ) -> None:
        self.index = index
        self._live = live  # which replicas are up now, as bits
        self._make = make
        self._bus, self._recorder, self._checker, self._chronicle, costs, self._inbox_most = shared
        self.cpu = Processor(costs) if costs is not None else None
        self.up = True
        self._fail: Callable[[], None] | None = None
        self._disk = Disk()
        self._history = History(index, self._chronicle)
        self._height = 0
        self._inbox: Counter[Address] = Counter()  # messages that wait for the processor, by sender
        self._seen: dict[bytes, None] = {}  # ViewChanges and NewViews that were looked into, by signature
        self._answers: deque[Executed | Installed] = deque()  # of the application, to be handed in next
        self._epoch = 0  # work queued before a crash is not done after it
        self.replica = make()
        self._do: dict[type, Callable[[int, Any], None]] = {
            Broadcast: self._broadcast,
            Persist: self._persist,
            Send: self._send,
            SetTimer: self._set_timer,
            CancelTimer: self._cancel_timer,
            Committed: self._execute,
            Ignored: self._ignored,
            SendBlocks: self._send_blocks,
            Evidence: self._evidence,
            KeepSnapshot: self._keep_snapshot,
            SnapshotProven: self._snapshot_proven,
            SendChunk: self._send_chunk,
            Install: self._install,
        }

    @property
    def owes_until_ns(self) -> int:
        """When the processor will have done what waits for it now, at the speed at which each piece came to it."""
        return 0 if self.cpu is None else self.cpu.free_at

    @property
    def height(self) -> int:
        """Up to where it has executed."""
        return self._height

    @property
    def disk(self) -> Disk:
        """What it has made durable."""
        return self._disk

    @property
    def inbox(self) -> Mapping[Address, int]:
        """How many messages wait for the processor, by sender."""
        return self._inbox

    @property
    def epoch(self) -> int:
        """How often it went down."""
        return self._epoch

    @property
    def settled(self) -> bool:
        """Whether it has the history of the others, nothing that was computed waits, and no write is to fail."""
        return self._fail is None and not self._answers and self._history.shared

    # --- what the network calls ---

    def receive(self, now: int, message: Any) -> None:
        """A message arrived whose signature holds, and computing takes no time."""
        effects = self.replica.step(now, message)
        if effects:
            self.perform(now, effects)
            while self._answers and self.up:
                self.perform(now, self.replica.step(now, self._answers.popleft()))

    def queue(self, now: int, message: Message) -> None:
        """A message arrived; the processor gets to it when it has done what came before."""
        assert self.cpu is not None
        sender = sender_of(message)
        if self._inbox[sender] >= self._inbox_most:
            self._recorder.dropped["inbox full"] += 1
            return
        self._inbox[sender] += 1
        done = self.cpu.take(now, self.cpu.costs.receive(size(message), self._checks(message)))
        if isinstance(message, CHANGES_OF_VIEW):
            self._remember(message)
        self._bus.later(done, self.index, (self._epoch, message))

    def _checks(self, message: Message) -> int:
        """Signatures that it checks for *message*, as it stands now."""
        return signature_checks(message, self._seen, self.replica)

    def _remember(self, message: ViewChange | NewView) -> None:
        """A copy of it need not be looked into again."""
        self._seen[message.signature] = None
        while len(self._seen) > SEEN_KEPT:
            del self._seen[next(iter(self._seen))]

    def process(self, now: int, work: tuple[int, Any]) -> None:
        """The processor is done with what `queue` or an execution handed it."""
        epoch, event = work
        if epoch == self._epoch and self.up:
            if hasattr(event, "signature"):  # a message, not the application's answer
                self._inbox[sender_of(event)] -= 1
            self.receive(now, event)

    def refuse(self, now: int, message: Message) -> None:
        """A message arrived whose signature does not hold, or bytes that are none: it goes no further."""
        self._recorder.ignored["malformed" if isinstance(message, Garbage) else "bad signature"] += 1

    def timer(self, now: int, name: str) -> None:
        """A timer ran out."""
        self._recorder.trace.event(TIMER_EVENT, self.index, 0, 0, short(name.encode()), 0, now)
        self.receive(now, TimerFired(name))

    def start(self, now: int) -> None:
        """First boot."""
        self.receive(now, Start())

    def tear(self, fail: Callable[[], None] | None) -> None:
        """The power will fail (*fail* is called) in the middle of the next durable write; None: it will not."""
        self._fail = fail

    def crash(self) -> None:
        """Everything in memory is gone; the disk stays."""
        self.up = False
        self._epoch += 1
        self._inbox.clear()
        self._answers.clear()
        self._seen.clear()
        self._history.crash(self._height)
        if self.cpu is not None:
            self.cpu.free_at = 0

    def recover(self, now: int) -> None:
        """Come back with what the disk holds."""
        self.up = True
        self.replica = self._make()
        self._history.recover()
        self.receive(now, Start(self._disk.read(self._history, self._height)))

    def resume(self, height: int, disk: Disk, inbox: Mapping[Address, int], free_at: int) -> None:
        """Go on where another engine stood: what was executed, what is on the disk, what waits, and until when the
        processor is busy with it."""
        self._height, self._disk = height, disk
        self._inbox = Counter(inbox)
        if disk.floor:
            self._history.forget(disk.floor)
        if self.cpu is not None:
            self.cpu.free_at = free_at

    # --- effects ---

    def perform(self, now: int, effects: Effects) -> None:
        """Do what the replica asks for, in order. What it sends leaves when the processor has signed it."""
        for effect in effects:
            do = self._do.get(type(effect))
            if do is None:
                raise ValueError(f"a replica asked for {effect!r}, which no node can do")
            do(now, effect)
            if not self.up:
                return  # the power failed in the middle of it

    def _broadcast(self, now: int, effect: Broadcast) -> None:
        self._bus.broadcast(self._signed(now, effect.message), self.index, effect.message, effect.to)

    def _send(self, now: int, effect: Send) -> None:
        self._bus.send(self._signed(now, effect.message), self.index, effect.to, effect.message)

    def _set_timer(self, now: int, effect: SetTimer) -> None:
        self._bus.set_timer(now, self.index, effect.name, effect.delay_ns)

    def _cancel_timer(self, now: int, effect: CancelTimer) -> None:
        self._bus.cancel_timer(self.index, effect.name)

    def _ignored(self, now: int, effect: Ignored) -> None:
        self._recorder.ignored[effect.why] += 1

    def _evidence(self, now: int, effect: Evidence) -> None:
        self._recorder.accuse(now, self.index, effect)

    def _signed(self, now: int, message: Message) -> int:
        return now if self.cpu is None else self.cpu.take(now, self.cpu.costs.send(message, size(message)))

    def _execute(self, now: int, effect: Committed) -> None:
        self._checker.committed(now, self.index, effect)
        self._recorder.committed(now, self.index, effect, self._live())
        executed = self._history.execute(effect)
        self._height = effect.seq
        self._checker.executed(now, self.index, effect.seq, executed.root)
        self._checker.log_size(now, self.index, len(getattr(self.replica, "slots", ())))
        self._recorder.trace.event(EXECUTE_EVENT, self.index, 0, effect.seq, short(executed.root), 0, now)
        if self.cpu is None:
            self._answers.append(executed)  # an input of its own, after what this step still asks for
        else:
            done = self.cpu.take(
                now, self.cpu.costs.execute(len(effect.fresh), self._chronicle.checks * len(effect.fresh))
            )
            self._bus.later(done, self.index, (self._epoch, executed))

    def _persist(self, now: int, effect: Persist) -> None:
        if self._fail is not None:
            fail, self._fail = self._fail, None
            fail()
            return
        self._disk.write(effect.record)
        if isinstance(effect.record, NewView):
            self._checker.opened(now, self.index, effect.record)
        elif isinstance(effect.record, EpochProof):
            self._checker.entered(now, self.index, effect.record.standing.next)
            self._recorder.entered(effect.record.standing.next)

    def _keep_snapshot(self, now: int, effect: KeepSnapshot) -> None:
        self._disk.keep(effect.manifest, effect.table, effect.application)

    def _snapshot_proven(self, now: int, effect: SnapshotProven) -> None:
        self._disk.prove(effect.certificate, effect.floor)
        self._history.forget(effect.floor)

    def _send_chunk(self, now: int, effect: SendChunk) -> None:
        data = self._disk.chunk(effect.seq, effect.index)
        if data is not None:
            self._reply(now, effect.to, Chunk(effect.seq, effect.index, data, self.index))

    def _install(self, now: int, effect: Install) -> None:
        seq = effect.manifest.seq
        root = self._history.install(effect.manifest, effect.application)
        if root is not None:
            self._disk.keep(effect.manifest, effect.table, effect.application)
            self._disk.prove(effect.certificate, seq)
            self._height = seq
            self._history.forget(seq)
            self._checker.installed(now, self.index, seq, root)
            self._recorder.trace.event(INSTALL_EVENT, self.index, 0, seq, short(root), 0, now)
            self._recorder.installed += 1
        if self.cpu is None:
            self._answers.append(Installed(seq, root))
        else:
            length = sum(len(chunk) for chunk in (*effect.table, *effect.application))
            done = self.cpu.take(now, self.cpu.costs.install(length))
            self._bus.later(done, self.index, (self._epoch, Installed(seq, root)))

    def _send_blocks(self, now: int, effect: SendBlocks) -> None:
        blocks = []
        for seq in range(effect.first, min(effect.last, self._height) + 1):
            block = self._history.block(seq)
            if block is None:
                break
            blocks.append(block.decided)
        self._reply(now, effect.to, FetchReply(tuple(blocks), (), effect.checkpoint, self.index))

    def _reply(self, now: int, to: int, bare: FetchReply | Chunk) -> None:
        """Send what comes from the disk, signed."""
        payload = bare.payload(self.replica.config.chain_id)
        message = replace(bare, signature=self.replica.signer.sign(payload))
        self._bus.send(self._signed(now, message), self.index, to, message)


class RequestRecord:
    """One request of a client. Times in ns; *replied_ns* is -1 until f+1 matching replies are in."""

    __slots__ = (
        "intended_ns",
        "on_answer",
        "replied_ns",
        "result",
        "seq",
        "sequence",
        "submitted_ns",
        "type",
    )

    def __init__(
        self, intended_ns: int, submitted_ns: int, kind: str, on_answer: Callable[[RequestRecord], None]
    ):
        self.intended_ns, self.submitted_ns, self.type = intended_ns, submitted_ns, kind
        self.replied_ns = self.seq = -1
        self.sequence = 0
        self.result = b""
        self.on_answer = on_answer


class ClientNode:
    """A client of the replicas, with its records."""

    up = True

    def __init__(self, index: int, client: Client, shared: Shared) -> None:
        self.index, self.client = index, client
        self._bus, self._recorder = shared.bus, shared.recorder
        self.records: list[RequestRecord] = []

    def submit(
        self,
        now: int,
        operation: bytes,
        kind: str,
        on_answer: Callable[[RequestRecord], None],
        intended_ns: int = -1,
    ) -> RequestRecord:
        """Have *operation* executed; *on_answer* is called with the record when f+1 replies match."""
        record = RequestRecord(now if intended_ns < 0 else intended_ns, now, kind, on_answer)
        self.records.append(record)
        self.perform(now, self.client.step(now, Submit(operation, len(self.records) - 1)))
        return record

    def receive(self, now: int, message: Any) -> None:
        """A message arrived whose signature holds."""
        effects = self.client.step(now, message)
        if effects:
            self.perform(now, effects)

    queue = receive
    process = receive

    def refuse(self, now: int, message: Message) -> None:
        """A message arrived whose signature does not hold."""
        self._recorder.ignored["bad signature"] += 1

    def timer(self, now: int, name: str) -> None:
        """The retry timer ran out."""
        self.receive(now, TimerFired(name))

    def perform(self, now: int, effects: Effects) -> None:
        """Do what the client asks for, in order."""
        for effect in effects:
            match effect:
                case Send(to, message):
                    self._bus.send(now, self.index, to, message)
                case Broadcast(message, members):
                    self._bus.broadcast(now, self.index, message, members)
                case SetTimer(name, delay_ns):
                    self._bus.set_timer(now, self.index, name, delay_ns)
                case Answered(tag, sequence, result, seq):
                    record = self.records[tag]
                    record.replied_ns, record.sequence, record.result, record.seq = now, sequence, result, seq
                    record.on_answer(record)
                case Ignored(why):
                    self._recorder.ignored[why] += 1
                case Evidence():
                    self._recorder.accuse(now, self.index, effect)
                case _:
                    raise ValueError(f"a client asked for {effect!r}, which no node can do")
