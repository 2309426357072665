"""What one simulated member has on its disk: what its replica persisted, and snapshots. Blocks are in its `History`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.membership import EpochProof
from tradebft.consensus.messages import CHANGES_OF_VIEW, NewView, ViewChange
from tradebft.consensus.snapshot import Manifest, Snapshot
from tradebft.network.chronicle import History

_OF_ALL: Final = (*CHANGES_OF_VIEW, EpochProof)  # records of views and epochs concern all sequences
_BEYOND: Final = 1 << 62


class Kept(NamedTuple):
    """A snapshot: its first chunks are the client table, the others the application's."""

    manifest: Manifest
    table: tuple[bytes, ...]
    application: tuple[bytes, ...]


class Disk:
    """Durable records in the order in which they were written, without those that have no use any more."""

    def __init__(self) -> None:
        self._records: list[Any] = []
        self._snapshots: dict[int, Kept] = {}
        self._proofs: dict[int, QuorumCertificate] = {}

    def write(self, record: Any) -> None:
        """Make *record* durable."""
        if isinstance(record, QuorumCertificate):
            # A stable checkpoint: what was voted on at or below it is in the blocks, and older proofs have no use.
            self._records = [record, *(r for r in self._records if seq_of(r) > record.seq)]
            self._snapshots = {
                seq: kept for seq, kept in self._snapshots.items() if seq >= record.seq or seq in self._proofs
            }
        elif isinstance(record, CHANGES_OF_VIEW):
            self._records = [r for r in self._records if not isinstance(r, type(record))]
            self._records.append(record)
        else:
            self._records.append(record)

    def keep(self, manifest: Manifest, table: tuple[bytes, ...], application: tuple[bytes, ...]) -> None:
        """Make a snapshot durable."""
        self._snapshots[manifest.seq] = Kept(manifest, table, application)

    def prove(self, certificate: QuorumCertificate, floor: int) -> None:
        """Keep the proof of a snapshot that is here; those older than *floor* can go."""
        if certificate.seq not in self._snapshots:
            return
        self._proofs[certificate.seq] = certificate
        self._proofs = {seq: proof for seq, proof in self._proofs.items() if seq >= floor}
        self._snapshots = {seq: kept for seq, kept in self._snapshots.items() if seq >= floor}

    @property
    def views(self) -> list[ViewChange | NewView]:
        """The last records of changes of view."""
        return [record for record in self._records if isinstance(record, CHANGES_OF_VIEW)]

    @property
    def snapshots(self) -> Mapping[int, Kept]:
        """Those that are here, by sequence."""
        return self._snapshots

    @property
    def proofs(self) -> Mapping[int, QuorumCertificate]:
        """Of those that are proven, by sequence."""
        return self._proofs

    @property
    def floor(self) -> int:
        """The older of the snapshots that are proven; 0: there is none."""
        return min(self._proofs, default=0)

    def chunk(self, seq: int, index: int) -> bytes | None:
        """One chunk of a kept snapshot; None if it is gone."""
        kept = self._snapshots.get(seq)
        if kept is None:
            return None
        first = len(kept.table)
        return kept.table[index] if index < first else kept.application[index - first]

    def read(self, history: History, height: int) -> tuple[Any, ...]:
        """Everything that a replica needs to start again: the newest proven snapshot, the blocks after it, the rest."""
        found: list[Any] = []
        first = 1
        if self._proofs:
            newest = max(self._proofs)
            kept = self._snapshots[newest]
            found.append(Snapshot(kept.manifest, self._proofs[newest], kept.table))
            first = newest + 1
        for seq in range(first, height + 1):
            block = history.block(seq)
            assert block is not None, f"block {seq} of {height} is not on the disk of a node that restarts"
            found += (block.decided, block.executed)
        return (*found, *self._records)


def seq_of(record: Any) -> int:
    """The sequence that a record is about; beyond all of them where it concerns all."""
    if isinstance(record, _OF_ALL):
        return _BEYOND
    proposal = getattr(record, "pre_prepare", record)
    return int(proposal.seq)
