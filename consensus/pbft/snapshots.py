"""State transfer by snapshot: for whoever fell so far behind that its peers no longer keep the blocks it lacks.

Every ``snapshot_interval`` sequences a replica keeps its whole state, and the checkpoint that it signs there signs the
snapshot's manifest. The newest two that became stable are kept, and the blocks after the older one: a peer that is
copying one may take a whole interval for it. What is fetched is checked chunk by chunk against a manifest that q
replicas signed (OSDI 1999, section 4.3: "its digest is known to be correct").
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate, digest
from tradebft.consensus.interface import (
    NOTHING,
    CancelTimer,
    Effect,
    Effects,
    Evidence,
    Executed,
    Ignored,
    Install,
    Installed,
    KeepSnapshot,
    Persist,
    Send,
    SendChunk,
    SnapshotProven,
)
from tradebft.consensus.membership import EpochProof, first_view
from tradebft.consensus.messages import Chunk, FetchChunk, SnapshotHead
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.consensus.pbft.state import BATCH_TIMER, VIEW_TIMER, State
from tradebft.consensus.snapshot import (
    Manifest,
    Snapshot,
    Table,
    chunk_digest,
    cut,
    manifest_of,
    table_of,
)

SNAPSHOTS_KEPT: Final = 2
CHUNKS_AT_ONCE: Final = 8  # asked for and not here yet; a peer is asked for one at a time


class Download:
    """A snapshot that is being fetched: its chunks so far, who has it, and which chunks were asked for."""

    def __init__(self, head: SnapshotHead, epochs: list[EpochProof]) -> None:
        self.manifest, self.certificate = head.manifest, head.certificate
        self.epochs = epochs  # that lie between here and there
        self.sources = [head.replica]
        self.have: dict[int, bytes] = {}
        self.asked: set[int] = set()
        self.round = 0  # how often everything that is missing was asked for again
        self.stalled = False

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return len(self.have) == len(self.manifest.chunks)

    def missing(self) -> list[int]:
        """The next chunks to ask for, so that at most `CHUNKS_AT_ONCE` are on their way."""
        room = CHUNKS_AT_ONCE - len(self.asked)
        chunks = range(len(self.manifest.chunks))
        return [i for i in chunks if i not in self.have and i not in self.asked][: max(0, room)]

    def reuse(self, earlier: Download) -> None:
        """Chunks that did not change since an earlier snapshot need not be fetched again."""
        held = {chunk_digest(data): data for data in earlier.have.values()}
        self.have = {i: held[value] for i, value in enumerate(self.manifest.chunks) if value in held}


class Snapshots(State):
    """Taking, proving, offering, fetching and installing snapshots."""

    # --- taking them ---

    def wants_snapshot(self, seq: int) -> bool:
        """Whether the state after *seq* is kept."""
        interval = self.config.snapshot_interval
        return interval > 0 and seq % interval == 0

    def state_digest(self, event: Executed) -> tuple[bytes, Effects]:
        """What the checkpoint at an execution signs: ledger and client table, or the manifest of both."""
        rows = self.tables.pop(event.seq)
        if not self.wants_snapshot(event.seq) or event.seq < self.low:
            self.table_rows.pop(event.seq, None)  # behind a stable checkpoint nobody would ask for it
            return digest("tradebft/state", event.root, rows, self.clients.replies_digest()), NOTHING
        table = cut(encode(Table(self.table_rows.pop(event.seq), self.clients.reply_rows())))
        known = self.chunk_digests
        manifest = manifest_of(event.seq, event.root, self.standing, table, event.chunks, known)
        self.chunk_digests = dict(zip(event.chunks, manifest.chunks[len(table) :], strict=True))
        self.manifests[event.seq] = manifest
        keep = KeepSnapshot(manifest, table, event.chunks)
        return manifest.digest, (keep, *self.prove_snapshot(self.stable))

    def prove_snapshot(self, certificate: QuorumCertificate | None) -> Effects:
        """A checkpoint is stable: if a snapshot was taken there, it can be shown from now on."""
        if certificate is None or certificate.seq in self.proofs:
            return NOTHING
        newest = certificate.seq
        self.manifests = {s: kept for s, kept in self.manifests.items() if s >= newest or s in self.proofs}
        manifest = self.manifests.get(certificate.seq)
        if manifest is None or manifest.standing.binds(manifest.digest) != certificate.digest:
            return NOTHING
        self.proofs[certificate.seq] = certificate
        for seq in sorted(self.proofs)[:-SNAPSHOTS_KEPT]:
            del self.proofs[seq]
        floor = self.blocks_above
        self.manifests = {seq: kept for seq, kept in self.manifests.items() if seq >= floor}
        return (SnapshotProven(certificate, floor),)

    @property
    def blocks_above(self) -> int:
        """Blocks above this sequence are kept for others."""
        return min(self.proofs, default=0)

    # --- offering them ---

    def snapshot_head(self) -> SnapshotHead | None:
        """The newest snapshot that this replica can prove."""
        if not self.proofs:
            return None
        seq = max(self.proofs)
        manifest = self.manifests[seq]
        epochs = tuple(self.epochs[: manifest.standing.membership.epoch])
        bare = SnapshotHead(manifest, self.proofs[seq], self.me, epochs)
        return replace(bare, signature=self.signer.sign(bare.payload(self.config.chain_id)))

    def on_fetch_chunk(self, now: int, fetch: FetchChunk) -> Effects:
        """A peer copies a snapshot. One that is gone is answered with what there is now."""
        if fetch.seq not in self.proofs:
            head = self.snapshot_head()
            if head is None or head.manifest.seq < fetch.seq:
                return (Ignored("a chunk of a snapshot that this replica does not hold"),)
            if not self.chunk_quota.allows(now, fetch.replica):
                return (Ignored("chunk beyond its asker's quota"),)
            return (Send(fetch.replica, head),)
        if not 0 <= fetch.index < len(self.manifests[fetch.seq].chunks):
            return (Ignored("a chunk that the snapshot does not have"),)
        if not self.chunk_quota.allows(now, fetch.replica):
            return (Ignored("chunk beyond its asker's quota"),)
        return (SendChunk(fetch.replica, fetch.seq, fetch.index),)

    # --- fetching one ---

    def on_snapshot_head(self, now: int, head: SnapshotHead) -> Effects:
        """A peer no longer keeps the blocks I lack: fetch its snapshot, from everybody who shows the same one."""
        manifest, proof = head.manifest, head.certificate
        if manifest.seq <= self.executed or self.installing:
            return (Ignored("a snapshot of what this replica has"),)
        current = self.download
        if current is not None and current.manifest == manifest:
            if head.replica in current.sources:
                return (Ignored("a snapshot that this replica knows of"),)
            current.sources.append(head.replica)
            return self._ask_for_chunks()
        if current is not None and not (current.stalled and manifest.seq > current.manifest.seq):
            return (Ignored("another snapshot than the one being fetched"),)
        epochs = self._way_to(manifest, proof, head.epochs)
        if epochs is None:
            return (Evidence(head.replica, f"offered a snapshot at {manifest.seq} that nothing proves"),)
        self.download = Download(head, epochs)
        if current is not None:
            self.download.reuse(current)
        return [*self._ask_for_chunks(), *self.ask_later()]

    def _way_to(
        self, manifest: Manifest, proof: QuorumCertificate, epochs: tuple[EpochProof, ...]
    ) -> list[EpochProof] | None:
        """The changes of members between here and *manifest*, if each of them and *proof* hold; else None."""
        committee, way = self.committee, []
        for change in epochs:
            if change.standing.membership.epoch == committee.epoch:
                following = committee.followed_by(change, self.base_keyring)
                if following is None:
                    return None
                committee = following
                way.append(change)
        holds = (
            manifest.standing.membership == committee.membership
            and (proof.kind, proof.seq) == ("Checkpoint", manifest.seq)
            and proof.view == first_view(committee.epoch)
            and proof.digest == manifest.standing.binds(manifest.digest)
            and self.wants_snapshot(manifest.seq)
            and 0 < manifest.table < len(manifest.chunks)
            and committee.holds(proof, committee.quorum)
        )
        return way if holds else None

    def _ask_for_chunks(self) -> list[Effect]:
        """Ask the sources in turn."""
        load = self.download
        assert load is not None
        if load.manifest.seq <= self.executed:
            self.download = None  # blocks were faster
            return []
        if load.complete:
            return self._install(load)
        effects: list[Effect] = []
        for index in load.missing():
            load.asked.add(index)
            source = load.sources[(index + load.round) % len(load.sources)]
            bare = FetchChunk(load.manifest.seq, index, self.me)
            signature = self.signer.sign(bare.payload(self.config.chain_id))
            effects.append(Send(source, FetchChunk(bare.seq, index, self.me, signature)))
        return effects

    def on_chunk(self, now: int, chunk: Chunk) -> Effects:
        """A piece of the snapshot: believed if the manifest lists its digest."""
        load = self.download
        if load is None or self.installing or chunk.seq != load.manifest.seq or chunk.index in load.have:
            return (Ignored("a chunk that this replica does not need"),)
        if not 0 <= chunk.index < len(load.manifest.chunks):
            return (Ignored("a chunk that the snapshot does not have"),)
        if chunk_digest(chunk.data) != load.manifest.chunks[chunk.index]:
            load.asked.discard(chunk.index)
            if chunk.replica in load.sources and len(load.sources) > 1:
                load.sources.remove(chunk.replica)
            what = f"sent a wrong chunk {chunk.index} of the snapshot at {chunk.seq}"
            return [Evidence(chunk.replica, what), *self._ask_for_chunks()]
        load.have[chunk.index] = chunk.data
        self.moved_ns = now
        load.asked.discard(chunk.index)
        load.stalled = False
        return self._ask_for_chunks()

    def ask_for_chunks_again(self) -> list[Effect]:
        """Nothing came for a whole interval: ask others for what is missing."""
        if self.download is None or self.installing:
            return []
        self.download.asked.clear()
        self.download.stalled = True
        self.download.round += 1
        return self._ask_for_chunks()

    # --- installing it ---

    def _install(self, load: Download) -> list[Effect]:
        chunks = [load.have[i] for i in range(len(load.manifest.chunks))]
        table = tuple(chunks[: load.manifest.table])
        self.installing = True
        # First how the epoch of the snapshot was reached: after a crash it is read by nobody who does not know that.
        ways: list[Effect] = [Persist(change) for change in load.epochs]
        install = Install(load.manifest, load.certificate, table, tuple(chunks[load.manifest.table :]))
        return [*ways, install]

    def on_installed(self, now: int, event: Installed) -> Effects:
        """The application stands at the snapshot: so does this replica, and it asks for the blocks after it."""
        load = self.download
        if load is None or not self.installing or event.seq != load.manifest.seq:
            raise ValueError(f"no snapshot at {event.seq} is being installed")
        self.download, self.installing = None, False
        chunks = [load.have[i] for i in range(load.manifest.table)]
        table = table_of(chunks) if event.root == load.manifest.root else None
        if table is None:
            # Only if more than f signed a lie, or this software is not theirs.
            return (Ignored("a snapshot whose content is not the state that it names"),)
        effects: list[Effect] = []
        # While it was fetched, blocks and checkpoints may have led through some of these epochs.
        ahead = [change for change in load.epochs if change.standing.membership.epoch >= self.committee.epoch]
        if ahead and self.watched is not None:
            effects.append(CancelTimer(VIEW_TIMER))
        if ahead and self.batch_timer:
            effects.append(CancelTimer(BATCH_TIMER))
        effects += self.adopt(load.manifest, load.certificate, table, ahead)
        effects += self.next_epoch(now)
        effects += self.execute_in_order()
        effects += self.progressed(True)
        return [*effects, *self.watch(), *self.ask_now(), *self.propose(now)]

    def adopt(
        self, manifest: Manifest, certificate: QuorumCertificate, table: Table, epochs: list[EpochProof]
    ) -> list[Effect]:
        """Stand at *manifest*'s sequence as if everything up to it had been executed here."""
        self.executed, self.moved_ns = manifest.seq, self.now
        for change in epochs:
            self.follow(change)
        self.pending = manifest.standing.pending
        if epochs:
            self.start_epoch()
        self.clients = ClientTable.restored(self.config.client_window, table)
        self.handed_out.clear()  # answers that the application still owes are to an order that is over
        self.tables.clear()
        self.table_rows.clear()
        self.manifests, self.proofs = {manifest.seq: manifest}, {}
        for request in [r for r in self.waiting if self.clients.executed(*r.key)]:
            self.waiting.done(request)
        effects = [*self.stabilise(certificate), *self.prove_snapshot(certificate)]
        self.closes_epoch(manifest.seq, manifest.digest)
        self.move_window()
        return effects

    def restore_snapshot(self, kept: Snapshot) -> None:
        """At a restart: begin at the newest snapshot that is on the disk."""
        table = table_of(kept.table)
        if table is None:
            raise ValueError(f"the snapshot at {kept.manifest.seq} holds no client table")
        epochs = [self.ahead[epoch] for epoch in range(kept.manifest.standing.membership.epoch)]
        self.adopt(kept.manifest, kept.certificate, table, epochs)
        self.reenter_epoch()
