"""A network of pure replicas without time: messages lie in a bag, and a test says which one arrives next.

`Network.signed` signs any message as the member that it names, so that a test can play any member, honest or not.
The application is a hash chain with some ballast, so that a snapshot of it has several chunks; it does as it is told by
a members operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from msgspec import structs
from tradebft.chain.crypto import (
    Announced,
    QuorumCertificate,
    Signer,
    Wallet,
    digest,
    later_key,
    make_identities,
    vote_payload,
)
from tradebft.consensus.interface import (
    Broadcast,
    CancelTimer,
    Committed,
    Config,
    Effects,
    Evidence,
    Executed,
    Ignored,
    Install,
    Installed,
    KeepSnapshot,
    Persist,
    Send,
    SendBlocks,
    SendChunk,
    SetTimer,
    SnapshotProven,
    Start,
    TimerFired,
)
from tradebft.consensus.messages import (
    Batch,
    Checkpoint,
    Chunk,
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
from tradebft.consensus.snapshot import Manifest, Snapshot
from tradebft.network.application import members_in

CLIENTS = ("bank", "shop", "mill")
PIECES = 20  # chunks of the application's state
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
    """*n* replicas at time *now*, what they sent and nobody received yet, their disks, timers and histories.

    *spare*: replicas with keys that are no members at first; `add` lets one come up. *later_keys*: keys that each
    replica may come to use after its first (`keys` has the public ones).
    """

    def __init__(
        self,
        n: int = 4,
        seed: int = 1,
        running: Iterable[int] | None = None,
        spare: int = 0,
        later_keys: int = 0,
        **config: Any,
    ) -> None:
        self.config = Config(n, rekeying=later_keys > 0, **config)
        self.signers, self.keyring = make_identities([*range(n + spare), *CLIENTS], "modelled", seed)
        self.announced = Announced(self.keyring)
        self.wallets = {i: self._wallet(i, seed, later_keys) for i in range(n + spare)}
        self.keys = {i: [signer.public_key for signer in wallet] for i, wallet in self.wallets.items()}
        self.now = 0
        self.running = sorted(running if running is not None else range(n))
        self.replicas = {i: self._fresh(i) for i in self.running}
        self.bag: list[tuple[int, Any]] = []  # (receiver, message)
        self.disks: dict[int, list[Any]] = {i: [] for i in self.running}
        self.blocks: dict[int, list[tuple[Decided, Executed]]] = {i: [] for i in self.running}
        self.roots: dict[int, bytes] = dict.fromkeys(self.running, bytes(32))
        self.timers: dict[int, dict[str, int]] = {i: {} for i in self.running}
        self.base: dict[int, int] = dict.fromkeys(self.running, 0)  # the sequence before blocks[i][0]
        self.snapshots: dict[int, dict[int, KeepSnapshot]] = {i: {} for i in self.running}
        self.proofs: dict[int, dict[int, QuorumCertificate]] = {i: {} for i in self.running}
        self.installed: dict[int, list[int]] = {i: [] for i in self.running}  # the snapshots it took over
        self.replies: list[Reply] = []
        self.evidence: list[tuple[int, Evidence]] = []
        self.watch: Callable[[int, Any], None] = lambda replica, effect: None
        for i in self.running:
            self.step(i, Start())

    def _fresh(self, i: int) -> Replica:
        return Replica(i, self.config, Wallet(self.wallets[i]), self.keyring)

    def _wallet(self, i: int, seed: int, later_keys: int) -> list[Signer]:
        later = [later_key(self.keyring, i, seed, generation) for generation in range(1, later_keys + 1)]
        for signer in later:
            self.announced.announce(i, signer.public_key)
        return [self.signers[i], *later]

    def add(self, i: int) -> Effects:
        """Spare replica *i* comes up for the first time."""
        self.running.append(i)
        for book in (self.disks, self.blocks, self.installed):
            book[i] = []  # type: ignore[assignment]
        for kept in (self.snapshots, self.proofs, self.timers):
            kept[i] = {}  # type: ignore[assignment]
        self.base[i], self.roots[i] = 0, bytes(32)
        self.replicas[i] = self._fresh(i)
        return self.step(i, Start())

    # --- making messages as any member ---

    def signed(self, message: M, running: int | None = None) -> M:
        """*message* with a valid signature of the member that it names: by its first key, or by the one in use at
        replica *running*."""
        payload = message.payload(self.config.chain_id)  # type: ignore[attr-defined]
        signer = self.signers[sender_of(message)] if running is None else self.replicas[running].signer  # type: ignore[arg-type]
        signature = signer.sign(payload)
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
        if hasattr(event, "signature") and not authentic(event, self.config.chain_id, self.announced):
            return (Ignored("bad signature"),)
        gathered, inputs = [], [event]
        for one in (
            inputs
        ):  # what the application answers is an input of its own, after the effects that asked for it
            for effect in self.replicas[i].step(self.now, one):
                gathered.append(effect)
                answer = self._perform(i, effect)
                if answer is not None:
                    inputs.append(answer)
        self._check_timers(i)
        return gathered

    def _check_timers(self, i: int) -> None:
        """What a replica believes about its timers is so: one that it takes for running will never be set again."""
        replica, timers = self.replicas[i], self.timers[i]
        believed = {
            "view-change": replica.watched is not None,
            "status": replica.asking,
            "batch": replica.batch_timer,
        }
        assert {name: name in timers for name in believed} == believed, f"replica {i}: {timers}"

    def _perform(self, i: int, effect: Any) -> Executed | Installed | None:
        self.watch(i, effect)
        match effect:
            case Send(to, message):
                if isinstance(to, int):
                    self.bag.append((to, message))
                else:
                    self.replies.append(message)  # type: ignore[arg-type]
            case Broadcast(message, members):
                receivers = range(self.config.nodes) if members is None else members
                self.bag += [(to, message) for to in receivers if to != i]
            case SendBlocks(to, first, last, checkpoint):
                kept, base = self.blocks[i], self.base[i]
                wanted = kept[max(0, first - 1 - base) : last - base] if first > base else []
                blocks = tuple(block for block, _ in wanted)
                self.bag.append((to, self.signed(FetchReply(blocks, (), checkpoint, i), i)))
            case SetTimer(name, delay_ns):
                self.timers[i][name] = self.now + delay_ns
            case CancelTimer(name):
                self.timers[i].pop(name, None)
            case Persist(record):
                self.disks[i].append(record)
            case Evidence():
                self.evidence.append((i, effect))
            case Committed():
                return self._execute(i, effect)
            case KeepSnapshot(manifest):
                self.snapshots[i][manifest.seq] = effect
            case SnapshotProven(certificate, floor):
                self._proven(i, certificate, floor)
            case SendChunk(to, seq, index):
                self.bag.append((to, self.signed(self.chunk(i, seq, index), i)))
            case Install():
                return self._install(i, effect)
            case Ignored():
                pass
        return None

    # --- the application, and snapshots of it ---

    def _execute(self, i: int, effect: Committed) -> Executed:
        seq, decided, fresh = effect.seq, effect.decided, effect.fresh
        results = tuple(digest("test/result", request.operation) for request in fresh)
        self.roots[i] = digest("test/root", self.roots[i], decided.batch.digest, *results)
        members = None
        for request in fresh:
            members = members_in(request.operation) or members
        executed = Executed(
            seq,
            results,
            tuple(result_digest(r) for r in results),
            self.roots[i],
            state_chunks(self.roots[i]) if effect.snapshot else (),
            members,
        )
        self.blocks[i].append((decided, executed))
        return executed

    def _proven(self, i: int, certificate: QuorumCertificate, floor: int) -> None:
        self.proofs[i][certificate.seq] = certificate
        for book in (self.proofs[i], self.snapshots[i]):
            for seq in [seq for seq in book if seq < floor]:
                del book[seq]
        if floor > self.base[i]:
            self.blocks[i] = self.blocks[i][floor - self.base[i] :]
            self.base[i] = floor

    def _install(self, i: int, effect: Install) -> Installed:
        manifest = effect.manifest
        root = root_in(effect.application)
        if root is None:
            return Installed(manifest.seq, None)
        self.snapshots[i] = {manifest.seq: KeepSnapshot(manifest, effect.table, effect.application)}
        self.proofs[i] = {manifest.seq: effect.certificate}
        self.blocks[i], self.base[i], self.roots[i] = [], manifest.seq, root
        self.installed[i].append(manifest.seq)
        return Installed(manifest.seq, root)

    def chunk(self, i: int, seq: int, index: int) -> Chunk:
        """Chunk *index* of the snapshot at *seq*, as replica *i* keeps it (not signed)."""
        kept = self.snapshots[i][seq]
        return Chunk(seq, index, (*kept.table, *kept.application)[index], i)

    def manifest(self, i: int, seq: int) -> Manifest:
        """The manifest of the snapshot at *seq* that replica *i* keeps."""
        return self.snapshots[i][seq].manifest

    def fire(self, i: int, name: str) -> Effects:
        """Timer *name* of replica *i* runs out; nothing happens if it does not run. A status timer looks back: for it
        time goes on to when it is due."""
        due = self.timers[i].pop(name, None)
        if due is None:
            return ()
        if name == "status":
            self.now = max(self.now, due)
        return self.step(i, TimerFired(name))

    def restart(self, i: int) -> Effects:
        """Replica *i* loses its memory and comes back with its disk."""
        self.replicas[i] = self._fresh(i)
        self.timers[i] = {}
        return self.step(i, Start(self.records(i)))

    def records(self, i: int) -> tuple[Any, ...]:
        """What is on the disk of replica *i*: its newest proven snapshot, the blocks after it, and the rest."""
        found: list[Any] = []
        newest = max(self.proofs[i], default=0)
        if newest:
            kept = self.snapshots[i][newest]
            found.append(Snapshot(kept.manifest, self.proofs[i][newest], kept.table))
        for pair in self.blocks[i][newest - self.base[i] :]:
            found += pair
        return (*found, *self.disks[i])

    def deliver(self, index: int = 0) -> Effects:
        """The message at *index* of the bag arrives."""
        to, message = self.bag.pop(index)
        return self.step(to, message) if to in self.replicas else ()

    def settle(self, limit: int = 100_000, without: Collection[int] = ()) -> None:
        """Deliver everything in order of sending, until nothing is on its way; to and from *without* it is lost."""
        for _ in range(limit):
            if not self.bag:
                return
            to, message = self.bag[0]
            if to in without or sender_of(message) in without:
                self.bag.pop(0)
            else:
                self.deliver()
        raise AssertionError("the replicas never stop talking")

    def serve(
        self,
        sequences: Iterable[int],
        *,
        client: str = "bank",
        operation: bytes = b"pay",
        without: Collection[int] = (),
    ) -> None:
        """Requests one after the other, each until all is quiet; to and from *without* everything is lost."""
        for sequence in sequences:
            leader = next(r.primary for i, r in self.replicas.items() if i not in without)
            self.step(leader, self.request(sequence, operation, client))
            self.settle(without=without)

    def catch_up(self, i: int, rounds: int = 10) -> None:
        """Let the status timer of replica *i* run out, as often as it is set, and deliver."""
        for _ in range(rounds):
            self.fire(i, "status")
            self.settle()

    def history(self, i: int) -> list[bytes]:
        """The digests that replica *i* executed, in order (after its oldest snapshot)."""
        return [decided.batch.digest for decided, _ in self.blocks[i]]

    def executed(self, i: int) -> list[tuple[str, int]]:
        """The requests that replica *i* was told to execute, in order (those in fresh)."""
        return [
            request.key
            for decided, executed in self.blocks[i]
            if executed.results
            for request in decided.batch.requests
        ]


def state_chunks(root: bytes) -> tuple[bytes, ...]:
    """The state of the application, cut: its root, and ballast of which every other piece never changes."""
    ballast = (digest("test/ballast", bytes([k]), root if k % 2 else b"") for k in range(1, PIECES))
    return (root, *ballast)


def root_in(chunks: tuple[bytes, ...]) -> bytes | None:
    """The root of the state in *chunks*; None if they hold none."""
    return chunks[0] if chunks and chunks == state_chunks(chunks[0]) else None
