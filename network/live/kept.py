"""What one member of a real network has on its disk: what its replica persisted, its blocks, and snapshots.

What `tradebft.network.disk` and `History` are for a simulated member, on top of a `Store`: the same rules of what may
go, and the same order when a replica reads everything back. Nothing is durable before `commit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.crypto import QuorumCertificate
from tradebft.chain.store import SnapshotRow, Store, StoreError
from tradebft.consensus.interface import Committed, Executed
from tradebft.consensus.membership import EpochProof, Members
from tradebft.consensus.messages import (
    CHANGES_OF_VIEW,
    Decided,
    NewView,
    Prepared,
    PrePrepare,
    Request,
    ViewChange,
    result_digest,
)
from tradebft.consensus.snapshot import Manifest, Snapshot
from tradebft.network.disk import seq_of

KINDS: Final[dict[str, type]] = {
    kind.__name__: kind for kind in (PrePrepare, Prepared, ViewChange, NewView, QuorumCertificate, EpochProof)
}
"""What a replica persists, by the name under which it is kept."""

ROW_BYTES_MAX: Final = 1 << 30  # one's own disk: the limit guards against damage only
_TABLE, _APPLICATION = "table", "application"

T = TypeVar("T")


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a block. *fresh*: which of its requests were executed, by their places in the batch."""

    decided: Decided
    fresh: tuple[int, ...]
    results: tuple[bytes, ...]
    digests: tuple[bytes, ...] | None  # None: those of the results
    members: Members | None
    chunks: int  # of the state that was kept with it


class KeptBlock(NamedTuple):
    """A block as it is read back. *executed* lacks the state's chunks, of which there were *chunks*."""

    decided: Decided
    fresh: tuple[Request, ...]
    executed: Executed
    chunks: int


class Kept:
    """A member's disk. *archive*: blocks that nobody will ask for stay all the same, for `tradebft verify`."""

    def __init__(self, store: Store, archive: bool = False) -> None:
        self.store, self._archive = store, archive
        self._appended: dict[int, tuple[bytes, ...]] = {}  # the state at a block, until its snapshot is kept
        self._tables: dict[
            int, int
        ] = {}  # of each kept snapshot: how many of its chunks are the client table
        self._proven: set[int] = set()
        self._chunked = set(store.chunked())
        for row in store.snapshots():
            self._tables[row.seq] = self._manifest(row).table
            if row.proof is not None:
                self._proven.add(row.seq)

    # --- writing ---

    def write(self, record: Any) -> None:
        """Keep what the replica persists."""
        kind = type(record).__name__
        if type(record) is not KINDS.get(kind):
            raise ValueError(f"a {kind} is nothing that a replica persists")
        if isinstance(record, QuorumCertificate):
            # A stable checkpoint: what was voted on at or below it is in the blocks, and older proofs have no use.
            self.store.drop_records(through=record.seq)
            self.store.put_record(kind, record.seq, encode(record), first=True)
            for seq in [seq for seq in self._tables if seq < record.seq and seq not in self._proven]:
                self._forget_snapshot(seq)
            self._tidy()
            return
        if isinstance(record, CHANGES_OF_VIEW):
            self.store.drop_records(kind=kind)
        self.store.put_record(kind, seq_of(record), encode(record))

    def append(self, committed: Committed, executed: Executed) -> None:
        """Keep a block and what executing it led to."""
        digests = tuple(map(result_digest, executed.results))
        outcome = Outcome(
            committed.decided,
            _places(committed),
            executed.results,
            None if digests == executed.result_digests else executed.result_digests,
            executed.members,
            len(executed.chunks),
        )
        self.store.put_block(committed.seq, encode(outcome), executed.root)
        if executed.chunks:
            self._put_chunks(_APPLICATION, committed.seq, executed.chunks)
            self._appended[committed.seq] = executed.chunks

    def keep(self, manifest: Manifest, table: tuple[bytes, ...], application: tuple[bytes, ...]) -> None:
        """Keep a snapshot. It counts when it is proven."""
        seq = manifest.seq
        before = self.store.snapshot(seq)
        self.store.put_snapshot(seq, encode(manifest), None if before is None else before.proof)
        self._put_chunks(_TABLE, seq, table)
        if self._appended.pop(seq, None) != application:
            self._put_chunks(_APPLICATION, seq, application)
        self._tables[seq] = len(table)

    def prove(self, certificate: QuorumCertificate, floor: int) -> None:
        """Keep the proof of a snapshot that is here; those older than *floor*, and blocks up to it, can go."""
        seq = certificate.seq
        row = self.store.snapshot(seq)
        if row is None:
            return
        self.store.put_snapshot(seq, row.manifest, encode(certificate))
        self._proven.add(seq)
        for old in [old for old in self._tables if old < floor]:
            self._forget_snapshot(old)
        if not self._archive:
            self.store.drop_blocks(floor)
        self._tidy()

    def commit(self) -> None:
        """Return when all of it would survive a power cut."""
        self.store.commit()

    def close(self) -> None:
        """Close the file; what was not committed is lost."""
        self.store.close()

    # --- reading ---

    def block(self, seq: int) -> Decided | None:
        """What was decided at *seq*; None where it is not kept."""
        found = self.kept_block(seq)
        return None if found is None else found.decided

    def fresh(self, seq: int) -> tuple[Request, ...]:
        """The requests of the block at *seq* that were executed, in order; empty where it is not kept."""
        found = self.kept_block(seq)
        return () if found is None else found.fresh

    def kept_block(self, seq: int) -> KeptBlock | None:
        """The block at *seq* with what executing it led to."""
        row = self.store.block(seq)
        if row is None:
            return None
        outcome = self._decode(row.data, Outcome, f"block {seq}")
        requests, digests = outcome.decided.batch.requests, outcome.digests
        if digests is None:
            digests = tuple(map(result_digest, outcome.results))
        try:
            fresh = tuple(requests[place] for place in outcome.fresh)
        except IndexError:
            raise StoreError(f"{self.store.path}: block {seq} is none") from None
        executed = Executed(seq, outcome.results, digests, row.root, members=outcome.members)
        return KeptBlock(outcome.decided, fresh, executed, outcome.chunks)

    def chunk(self, seq: int, index: int) -> bytes | None:
        """One chunk of a kept snapshot; None if it is gone."""
        first = self._tables.get(seq)
        if first is None:
            return None
        if index < first:
            return self.store.chunk(_TABLE, seq, index)
        return self.store.chunk(_APPLICATION, seq, index - first)

    def state(self) -> tuple[int, bytes] | None:
        """The application's state in the newest proven snapshot, and where that is; None without one."""
        if not self._proven:
            return None
        newest = max(self._proven)
        return newest, b"".join(self.store.chunks(_APPLICATION, newest))

    @property
    def height(self) -> int:
        """The last block that follows without a gap on the newest proven snapshot, or on the beginning."""
        seq = max(self._proven, default=0)
        while self.store.block(seq + 1) is not None:
            seq += 1
        return seq

    def read(self) -> tuple[Any, ...]:
        """Everything that a replica needs to start again: the newest proven snapshot, the blocks after it, the rest."""
        found: list[Any] = []
        newest = max(self._proven, default=0)
        if self._proven:
            found.append(self.snapshot(newest))
        for block in self._blocks_after(newest):
            found += (block.decided, block.executed)
        return (*found, *self.records())

    def records(self) -> Iterator[Any]:
        """What the replica persisted and may still want, without blocks and snapshots, in the order of `read`."""
        for record in self.store.records():
            kind = KINDS.get(record.kind)
            if kind is None:
                raise StoreError(
                    f"{self.store.path}: a record of kind {record.kind!r}, which nobody persists"
                )
            yield self._decode(record.data, kind, record.kind)

    def snapshot(self, seq: int) -> Snapshot:
        """The proven snapshot at *seq*, without the application's chunks."""
        row = self.store.snapshot(seq)
        if row is None or row.proof is None:
            raise StoreError(f"{self.store.path}: no proven snapshot at {seq}")
        proof = self._decode(row.proof, QuorumCertificate, f"the proof of the snapshot at {seq}")
        return Snapshot(self._manifest(row), proof, self.store.chunks(_TABLE, seq))

    def _blocks_after(self, seq: int) -> Iterator[KeptBlock]:
        while (block := self.kept_block(seq + 1)) is not None:
            seq += 1
            if block.chunks:
                chunks = self.store.chunks(_APPLICATION, seq)
                if len(chunks) != block.chunks:  # a checkpoint over another state must never be signed
                    raise StoreError(f"{self.store.path}: the state at block {seq} is not whole")
                executed = msgspec.structs.replace(block.executed, chunks=chunks)
                block = block._replace(executed=executed)
            yield block

    # --- within ---

    def _put_chunks(self, part: str, seq: int, chunks: tuple[bytes, ...]) -> None:
        self.store.put_chunks(part, seq, chunks)
        self._chunked.add((part, seq))

    def _forget_snapshot(self, seq: int) -> None:
        self.store.drop_snapshot(seq)
        del self._tables[seq]
        self._proven.discard(seq)

    def _tidy(self) -> None:
        """Chunks go with their snapshots; a state also stays while its block may be read back."""
        newest = max(self._proven, default=0)
        for part, seq in sorted(self._chunked):
            if seq not in self._tables and (part == _TABLE or seq <= newest):
                self.store.drop_chunks(part, seq)
                self._chunked.discard((part, seq))
                self._appended.pop(seq, None)

    def _manifest(self, row: SnapshotRow) -> Manifest:
        return self._decode(row.manifest, Manifest, f"the manifest of the snapshot at {row.seq}")

    def _decode(self, data: bytes, kind: type[T], what: str) -> T:
        try:
            return decode(data, kind, limit=ROW_BYTES_MAX)
        except CodecError as error:
            raise StoreError(f"{self.store.path}: {what} cannot be read: {error}") from None


def _places(committed: Committed) -> tuple[int, ...]:
    """Where in the batch the fresh requests stand: they keep its order."""
    places, at = [], 0
    requests = committed.decided.batch.requests
    for request in committed.fresh:
        while at < len(requests) and requests[at] != request:
            at += 1
        if at == len(requests):
            raise ValueError(f"block {committed.seq} executes a request that is not in its batch")
        places.append(at)
        at += 1
    return tuple(places)
