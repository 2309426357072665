"""A network of pure replicas without time: messages lie in a bag, and a test says which one arrives next.

`Network.signed` signs any message as the member that it names, so that a test can play any member, honest or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from msgspec import structs
from tradebft.chain.crypto import QuorumCertificate, digest, make_identities, vote_payload
from tradebft.consensus.interface import (
    Broadcast,
    CancelTimer,
    Committed,
    Config,
    Effects,
    Evidence,
    Executed,
    Ignored,
    Persist,
    Send,
    SendBlocks,
    SetTimer,
    Start,
    TimerFired,
)
from tradebft.consensus.messages import (
    Batch,
    Checkpoint,
    Commit,
    Decided,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Request,
    ViewChange,
    authentic,
    result_digest,
    sender_of,
)
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.view_change import proposals

CLIENTS = ("bank", "shop", "mill")
M = TypeVar("M")
E = TypeVar("E")


def of(kind: type[E], effects: Iterable[Any]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(kind: type[M], effects: Iterable[Any]) -> list[M]:
    """The messages of one kind that *effects* send or broadcast, in order."""
    out = [effect.message for effect in effects if isinstance(effect, Send | Broadcast)]
    return [message for message in out if isinstance(message, kind)]


class Network:
    """*n* replicas at time *now*, what they sent and nobody received yet, their disks, timers and histories."""

    def __init__(
        self, n: int = 4, seed: int = 1, running: Iterable[int] | None = None, **config: Any
    ) -> None:
        self.config = Config(n, **config)
        self.signers, self.keyring = make_identities([*range(n), *CLIENTS], "modelled", seed)
        self.now = 0
        self.running = sorted(running if running is not None else range(n))
        self.replicas = {i: self._fresh(i) for i in self.running}
        self.bag: list[tuple[int, Any]] = []  # (receiver, message)
        self.disks: dict[int, list[Any]] = {i: [] for i in self.running}
        self.blocks: dict[int, list[tuple[Decided, Executed]]] = {i: [] for i in self.running}
        self.roots: dict[int, bytes] = dict.fromkeys(self.running, bytes(32))
        self.timers: dict[int, dict[str, int]] = {i: {} for i in self.running}
        self.replies: list[Reply] = []
        self.evidence: list[tuple[int, Evidence]] = []
        self.watch: Callable[[int, Any], None] = lambda replica, effect: None
        for i in self.running:
            self.step(i, Start())

    def _fresh(self, i: int) -> Replica:
        return Replica(i, self.config, self.signers[i], self.keyring)

    # --- making messages as any member ---

    def signed(self, message: M) -> M:
        """*message* with the valid signature of the member that it names."""
        payload = message.payload(self.config.chain_id)  # type: ignore[attr-defined]
        signature = self.signers[sender_of(message)].sign(payload)  # type: ignore[arg-type]
        return structs.replace(message, signature=signature)  # type: ignore[type-var]

    def request(self, sequence: int = 1, operation: bytes = b"pay", client: str = "bank") -> Request:
        return self.signed(Request(client, sequence, operation))

    def batch(self, *sequences: int, client: str = "bank", time_ns: int = 0) -> Batch:
        return Batch(time_ns, tuple(self.request(s, client=client) for s in sequences))

    def pre_prepare(
        self, batch: Batch, seq: int = 1, view: int = 0, replica: int | None = None
    ) -> PrePrepare:
        leader = view % self.config.nodes if replica is None else replica
        return self.signed(PrePrepare(view, seq, batch.digest, leader, batch))

    def prepare(self, replica: int, value: bytes, seq: int = 1, view: int = 0) -> Prepare:
        return self.signed(Prepare(view, seq, value, replica))

    def commit(self, replica: int, value: bytes, seq: int = 1, view: int = 0) -> Commit:
        return self.signed(Commit(view, seq, value, replica))

    def checkpoint(self, replica: int, seq: int, value: bytes) -> Checkpoint:
        return self.signed(Checkpoint(seq, value, replica))

    def certificate(
        self, kind: str, seq: int, value: bytes, voters: Iterable[int], view: int = 0
    ) -> QuorumCertificate:
        payload = vote_payload(self.config.chain_id, kind, view, seq, value)
        return QuorumCertificate(
            kind, view, seq, value, tuple((v, self.signers[v].sign(payload)) for v in voters)
        )

    def stable(self, seq: int, value: bytes = b"s" * 32) -> QuorumCertificate:
        """A checkpoint certificate that holds."""
        return self.certificate("Checkpoint", seq, value, range(self.config.quorum))

    def prepared(
        self, seq: int, value: bytes, view: int = 0, voters: Sequence[int] | None = None
    ) -> Prepared:
        """A prepared certificate; by the first q-1 backups of *view* unless *voters* says otherwise."""
        leader = view % self.config.nodes
        if voters is None:
            voters = [i for i in range(self.config.nodes) if i != leader][: self.config.quorum - 1]
        proposal = self.signed(PrePrepare(view, seq, value, leader))
        return Prepared(proposal, self.certificate("Prepare", seq, value, voters, view))

    def view_change(
        self,
        replica: int,
        view: int = 1,
        prepared: Sequence[Prepared] = (),
        stable: int = 0,
        checkpoint: QuorumCertificate | None = None,
    ) -> ViewChange:
        if stable and checkpoint is None:
            checkpoint = self.stable(stable)
        return self.signed(ViewChange(view, stable, checkpoint, tuple(prepared), replica))

    def new_view(
        self,
        changes: Sequence[ViewChange],
        carried: Sequence[tuple[int, bytes]] | None = None,
        view: int = 1,
        replica: int | None = None,
    ) -> NewView:
        """The NewView that follows from *changes*, or one with the proposals *carried*."""
        leader = view % self.config.nodes if replica is None else replica
        if carried is None:
            carried = proposals(changes)[1]
        signed = tuple(self.signed(PrePrepare(view, seq, value, leader)) for seq, value in carried)
        return self.signed(NewView(view, tuple(changes), signed, leader))

    def decided(self, seq: int, batch: Batch, view: int = 0, voters: Iterable[int] | None = None) -> Decided:
        voters = range(self.config.quorum) if voters is None else voters
        return Decided(seq, batch, self.certificate("Commit", seq, batch.digest, voters, view))

    # --- running ---

    def step(self, i: int, event: Any) -> Effects:
        """Give *event* to replica *i* (messages only if they are authentic) and perform what it asks for."""
        if hasattr(event, "signature") and not authentic(event, self.config.chain_id, self.keyring):
            return (Ignored("bad signature"),)
        effects = self.replicas[i].step(self.now, event)
        gathered = list(effects)
        for effect in effects:
            gathered += self._perform(i, effect)
        return gathered

    def _perform(self, i: int, effect: Any) -> Effects:
        self.watch(i, effect)
        match effect:
            case Send(to, message):
                if isinstance(to, int):
                    self.bag.append((to, message))
                else:
                    self.replies.append(message)  # type: ignore[arg-type]
            case Broadcast(message):
                self.bag += [(to, message) for to in range(self.config.nodes) if to != i]
            case SendBlocks(to, first, last, checkpoint):
                blocks = tuple(block for block, _ in self.blocks[i][max(0, first - 1) : last])
                self.bag.append((to, self.signed(FetchReply(blocks, (), checkpoint, i))))
            case SetTimer(name, delay_ns):
                self.timers[i][name] = self.now + delay_ns
            case CancelTimer(name):
                self.timers[i].pop(name, None)
            case Persist(record):
                self.disks[i].append(record)
            case Evidence():
                self.evidence.append((i, effect))
            case Committed(seq, decided, fresh):
                results = tuple(digest("test/result", request.operation) for request in fresh)
                self.roots[i] = digest("test/root", self.roots[i], decided.batch.digest, *results)
                executed = Executed(seq, results, tuple(result_digest(r) for r in results), self.roots[i])
                self.blocks[i].append((decided, executed))
                return self.step(i, executed)
            case Ignored():
                pass
        return ()

    def fire(self, i: int, name: str) -> Effects:
        """Timer *name* of replica *i* runs out; nothing happens if it does not run."""
        if self.timers[i].pop(name, None) is None:
            return ()
        return self.step(i, TimerFired(name))

    def restart(self, i: int) -> Effects:
        """Replica *i* loses its memory and comes back with its disk."""
        self.replicas[i] = self._fresh(i)
        self.timers[i] = {}
        records = [record for pair in self.blocks[i] for record in pair]
        return self.step(i, Start((*records, *self.disks[i])))

    def deliver(self, index: int = 0) -> Effects:
        """The message at *index* of the bag arrives."""
        to, message = self.bag.pop(index)
        return self.step(to, message) if to in self.replicas else ()

    def settle(self, limit: int = 100_000) -> None:
        """Deliver everything in order of sending, until nothing is on its way."""
        for _ in range(limit):
            if not self.bag:
                return
            self.deliver()
        raise AssertionError("the replicas never stop talking")

    def history(self, i: int) -> list[bytes]:
        """The digests that replica *i* executed, in order."""
        return [decided.batch.digest for decided, _ in self.blocks[i]]

    def executed(self, i: int) -> list[tuple[str, int]]:
        """The requests that replica *i* was told to execute, in order (those in fresh)."""
        return [
            request.key
            for decided, executed in self.blocks[i]
            if executed.results
            for request in decided.batch.requests
        ]
