"""`tradebft verify STORE`: a member's whole chain checked again, with no help from any member.

From the genesis (or, where older blocks were dropped, from a snapshot that a quorum signed) to the last block: that the
blocks follow on one another, that a quorum of the members of their epoch committed each batch, that every client signed
its requests, which of them were to be executed, and, by executing all of it again, every result, every root, every
change of members and every checkpoint. What is believed is the founding (who the members are): compare its digest, the
store's identity, with one that you have from elsewhere.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tradebft.chain.codec import CodecError, decode, encode
from tradebft.chain.crypto import QuorumCertificate, digest
from tradebft.chain.store import SnapshotRow, Store, StoreDamaged, StoreError, UnfinishedLog
from tradebft.consensus.interface import Executed
from tradebft.consensus.membership import (
    Change,
    Committee,
    EpochProof,
    Standing,
    first_view,
    genesis,
    plausible,
    scheduled,
)
from tradebft.consensus.pbft.client_table import ClientTable, digest_of_executed
from tradebft.consensus.snapshot import Manifest, Table, chunk_digest, cut, manifest_of, table_of
from tradebft.network.live.founding import Founding, founding_in
from tradebft.network.live.kept import ROW_BYTES_MAX, Kept, KeptBlock


class VerifyError(ValueError):
    """There is nothing that could be checked: no store, or one that says nothing of its beginning. One line."""


class Verdict(msgspec.Struct):
    """What was found. *first_bad*: the first block (or snapshot, 0: the store itself) that does not hold, and *why*."""

    store: str
    identity: str
    application: str
    blocks: int = 0
    first: int = 0
    last: int = 0
    transactions: int = 0
    checkpoints: int = 0
    epochs: int = 0
    root: str = ""
    ok: bool = True
    first_bad: int | None = None
    why: str = ""
    remarks: list[str] = []


class _Bad(Exception):
    """Where, and why."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(why)
        self.seq, self.why = seq, why


def verify(path: Path, identity: bytes | None = None) -> Verdict:
    """Check the store at *path*; *identity*: that of the network it must belong to, if that is known.

    Raises:
        VerifyError: there is no store, another process has it open, or it does not say what its network started from.
    """
    try:
        with _opened(path) as store:
            if identity is not None and store.identity != identity:
                raise VerifyError(f"{path}: the store of another network ({store.identity.hex()})")
            return _verified(path, store)
    except StoreDamaged as error:  # so much that it cannot even be opened
        why = _reason(error)
        return Verdict(str(path), "", "", ok=False, first_bad=0, why=why)
    except StoreError as error:
        raise VerifyError(str(error)) from None


def _verified(path: Path, store: Store) -> Verdict:
    verdict = Verdict(str(path), store.identity.hex(), "", remarks=[])
    if store.torn:
        verdict.remarks.append("its last write was cut short, by a power cut or a flipped bit")
    damages = store.check()
    for damage in damages:
        where = "" if damage.seq is None else f" at {damage.seq}"
        verdict.remarks.append(f"{damage.table}{where}: {damage.why}")
    try:
        founding = founding_in(store)
        if founding is None:
            raise VerifyError(f"{path}: it does not say what its network started from")
        verdict.application = founding.application_name
        _Examination(store, founding, verdict).run()
    except _Bad as bad:
        verdict.ok, verdict.first_bad, verdict.why = False, bad.seq, bad.why
    except StoreError as error:
        verdict.ok, verdict.first_bad, verdict.why = False, 0, _reason(error)
    if verdict.ok and damages:
        verdict.ok, verdict.first_bad, verdict.why = False, 0, f"damaged: {verdict.remarks[-1]}"
    return verdict


@contextmanager
def _opened(path: Path) -> Iterator[Store]:
    """The store, not to be written to; where a crash left a log, a copy of both (the log cannot be read otherwise)."""
    try:
        store = Store.open(path, read_only=True)
    except UnfinishedLog:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            for suffix in ("", "-wal"):
                shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
            store = Store.open(copy)
            try:
                yield store
            finally:
                store.close()
        return
    try:
        yield store
    finally:
        store.close()


class _Examination:
    """Goes along the chain and keeps what a replica would know at each place."""

    def __init__(self, store: Store, founding: Founding, verdict: Verdict) -> None:
        self._store, self._founding, self._verdict = store, founding, verdict
        self._config = founding.config
        try:
            self._keyring = founding.keyring()
            self._application = founding.application()
        except ValueError as error:
            raise _Bad(0, f"its founding: {error}") from None
        self._kept = Kept(store)
        self._clients = ClientTable(self._config.client_window)
        self._committee = Committee(genesis(self._config.nodes), self._config.chain_id, self._keyring)
        self._pending: tuple[Change, ...] = ()
        self._seq = 0
        self._root = b""
        self._epochs: dict[int, EpochProof] = {}
        self._checkpoints: dict[int, QuorumCertificate] = {}
        self._snapshots = {row.seq: row for row in store.snapshots()}
        self._read_records()

    def run(self) -> None:
        """All of it; `_Bad` at the first thing that does not hold."""
        verdict, last = self._verdict, self._store.height
        if (last and not self._has(1)) or (not last and self._snapshots):
            self._begin_at_snapshot(0)
        verdict.last = self._seq
        while self._seq < last:
            if not self._has(self._seq + 1):
                self._begin_at_snapshot(self._seq + 1)
                continue
            self._next_block()
            verdict.blocks += 1
            verdict.first = verdict.first or self._seq
            verdict.last, verdict.root = self._seq, self._root.hex()
        verdict.root = self._root.hex()
        verdict.epochs = self._committee.epoch
        beyond = [seq for seq in self._checkpoints if seq > self._seq]
        if beyond:
            verdict.remarks.append(
                f"the checkpoint at {max(beyond)} is ahead of the blocks, so it says nothing of them"
            )

    def _has(self, seq: int) -> bool:
        try:
            return self._store.block(seq) is not None
        except StoreError:
            return True  # there is one, and it does not hold: reading it says so

    def _read_records(self) -> None:
        try:
            records = [*self._kept.records()]
        except StoreError as error:
            raise _Bad(0, _reason(error)) from None
        for record in records:
            if isinstance(record, EpochProof):
                self._epochs[record.standing.membership.epoch] = record
            elif isinstance(record, QuorumCertificate):
                self._checkpoints[record.seq] = record

    # --- a block ---

    def _next_block(self) -> None:
        seq = self._seq + 1
        try:
            block = self._kept.kept_block(seq)
        except StoreError as error:
            raise _Bad(seq, _reason(error)) from None
        assert block is not None
        self._check_decision(seq, block)
        fresh = self._check_requests(seq, block)
        again = self._application.execute(block.decided, fresh)
        self._check_execution(seq, block.executed, again)
        for request, result_digest, result in zip(fresh, again.result_digests, again.results, strict=True):
            self._clients.answer(request.client, request.sequence, seq, result_digest, result)
        self._seq, self._root = seq, again.root
        self._verdict.transactions += len(fresh)
        self._agree(again)
        self._check_checkpoint(seq)
        self._change_epoch(seq)

    def _check_decision(self, seq: int, block: KeptBlock) -> None:
        """The batch is the one, and this the place, that a quorum of this epoch's members committed."""
        decided, proof = block.decided, block.decided.certificate
        if decided.seq != seq:
            raise _Bad(seq, f"it is the block of {decided.seq}")
        if (proof.kind, proof.seq) != ("Commit", seq):
            raise _Bad(seq, f"its certificate is for a {proof.kind} at {proof.seq}")
        if proof.digest != decided.batch.digest:
            raise _Bad(seq, "its batch is not the one that its certificate names")
        quorum = self._committee.quorum
        if not self._committee.holds(proof, quorum):
            raise _Bad(seq, f"its certificate does not prove {quorum} votes of epoch {self._committee.epoch}")

    def _check_requests(self, seq: int, block: KeptBlock) -> tuple[Any, ...]:
        """Signed by those who they say, and executed once; returns those to be executed."""
        fresh = []
        for place, request in enumerate(block.decided.batch.requests):
            payload = request.payload(self._config.chain_id)
            if not self._keyring.verify(request.client, payload, request.signature):
                raise _Bad(seq, f"request {place} is not signed by {request.client!r}")
            if not self._clients.executed(request.client, request.sequence):
                self._clients.mark(request.client, request.sequence)
                fresh.append(request)
        if tuple(fresh) != block.fresh:
            raise _Bad(seq, "the requests it executed are not those that were not executed before")
        return block.fresh

    def _check_execution(self, seq: int, kept: Executed, again: Executed) -> None:
        """What the member keeps of the execution is what executing gives."""
        what = "receipt" if self._founding.ledger is not None else "result"
        if len(kept.results) != len(again.results):
            raise _Bad(seq, f"{len(kept.results)} {what}s, executing gives {len(again.results)}")
        pairs = zip(kept.results, again.results, kept.result_digests, again.result_digests, strict=True)
        for place, (mine, theirs, my_digest, their_digest) in enumerate(pairs):
            if mine != theirs or my_digest != their_digest:
                raise _Bad(seq, f"{what} {place} is not what executing gives")
        if kept.root != again.root:
            raise _Bad(seq, f"its root is {kept.root.hex()[:16]}, executing gives {again.root.hex()[:16]}")
        if kept.members != again.members:
            raise _Bad(seq, "the members that it agreed on are not those that executing gives")

    # --- checkpoints, snapshots and epochs ---

    @property
    def _standing(self) -> Standing:
        return Standing(self._committee.membership, self._pending)

    def _agree(self, executed: Executed) -> None:
        members = executed.members
        if members is None or not plausible(members):
            return
        target = self._pending[-1].members if self._pending else self._committee.membership.members
        if members != target:
            config = self._config
            args = (executed.seq, members, config.checkpoint_interval, config.log_window)
            self._pending = scheduled(self._pending, *args)

    def _state(self, seq: int) -> bytes:
        """What a checkpoint here is about: ledger and client table, or the manifest of a snapshot of both."""
        interval = self._config.snapshot_interval
        if interval and seq % interval == 0:
            return self._manifest(seq).digest
        rows = digest_of_executed(self._clients.executed_rows())
        return digest("tradebft/state", self._root, rows, self._clients.replies_digest())

    def _manifest(self, seq: int) -> Manifest:
        table = cut(encode(Table(self._clients.executed_rows(), self._clients.reply_rows())))
        return manifest_of(seq, self._root, self._standing, table, cut(*self._application.snapshot()))

    def _check_checkpoint(self, seq: int) -> None:
        proof = self._checkpoints.get(seq)
        if proof is not None:
            self._check_proof(seq, proof, self._standing.binds(self._state(seq)))
        row = self._snapshots.get(seq)
        if row is None:
            return
        if row.manifest != encode(self._manifest(seq)):
            raise _Bad(seq, "its snapshot is not of the state that executing gives")
        self._check_snapshot(row)

    def _check_proof(self, seq: int, proof: QuorumCertificate, expected: bytes) -> None:
        if (proof.kind, proof.seq, proof.digest) != ("Checkpoint", seq, expected):
            raise _Bad(seq, "a quorum signed another state at this checkpoint than executing gives")
        committee = self._committee
        if proof.view != first_view(committee.epoch) or not committee.holds(proof, committee.quorum):
            raise _Bad(
                seq, f"its checkpoint does not prove {committee.quorum} votes of epoch {committee.epoch}"
            )
        self._verdict.checkpoints += 1

    def _check_snapshot(self, row: SnapshotRow) -> tuple[Manifest, tuple[bytes, ...], tuple[bytes, ...]]:
        """The chunks are those of the manifest, and the proof is one of it. Returns manifest, table and state."""
        seq = row.seq
        try:
            manifest = decode(row.manifest, Manifest, limit=ROW_BYTES_MAX)
            table, state = self._store.chunks("table", seq), self._store.chunks("application", seq)
            proof = None if row.proof is None else decode(row.proof, QuorumCertificate)
        except (StoreError, CodecError) as error:
            raise _Bad(seq, f"its snapshot: {_reason(error)}") from None
        if manifest.chunks != tuple(map(chunk_digest, (*table, *state))) or manifest.table != len(table):
            raise _Bad(seq, "the chunks of its snapshot are not those that its manifest names")
        if manifest.seq != seq:
            raise _Bad(seq, f"its snapshot is that of {manifest.seq}")
        if proof is not None:
            self._check_proof(seq, proof, manifest.standing.binds(manifest.digest))
        return manifest, table, state

    def _change_epoch(self, seq: int) -> None:
        """At a boundary the members change; the checkpoint of those who leave says to whom."""
        if not self._pending or self._pending[0].boundary != seq:
            return
        epoch = self._committee.epoch
        proof = self._epochs.get(epoch)
        if proof is None:
            if seq < self._store.height:
                raise _Bad(seq, f"epoch {epoch} ends here, and there is no proof of it")
            return
        if proof.standing != self._standing or proof.state != self._state(seq):
            raise _Bad(
                seq, f"the proof that epoch {epoch} ends here is about another state than executing gives"
            )
        self._follow(proof)
        self._pending = proof.standing.pending[1:]

    def _follow(self, proof: EpochProof) -> None:
        following = self._committee.followed_by(proof, self._keyring)
        if following is None:
            raise _Bad(
                proof.certificate.seq, f"the proof that epoch {self._committee.epoch} ends here does not hold"
            )
        self._committee = following

    def _begin_at_snapshot(self, missing: int) -> None:
        """Blocks are not here: go on from the next snapshot that a quorum of its epoch's members signed."""
        after = [
            seq
            for seq in sorted(self._snapshots)
            if seq >= missing and self._snapshots[seq].proof is not None
        ]
        if not after:
            raise _Bad(max(1, missing), "it is missing, and there is no proven snapshot that stands for it")
        seq = after[0]
        try:
            standing = decode(self._snapshots[seq].manifest, Manifest, limit=ROW_BYTES_MAX).standing
        except CodecError as error:
            raise _Bad(seq, f"its snapshot: {_reason(error)}") from None
        while self._committee.epoch < standing.membership.epoch:
            proof = self._epochs.get(self._committee.epoch)
            if proof is None:
                raise _Bad(seq, f"there is no proof of how epoch {self._committee.epoch} ended")
            self._follow(proof)
        if standing.membership != self._committee.membership:
            raise _Bad(seq, "its snapshot names other members than the proofs of the epochs do")
        manifest, table, state = self._check_snapshot(self._snapshots[seq])
        rows = table_of(table)
        try:
            root = self._application.restore(b"".join(state))
        except ValueError as error:
            raise _Bad(seq, f"its snapshot holds no state: {error}") from None
        if rows is None or root != manifest.root:
            raise _Bad(
                seq, "its snapshot holds no client table" if rows is None else "its snapshot has another root"
            )
        self._clients = ClientTable.restored(self._config.client_window, rows)
        self._pending, self._seq, self._root = standing.pending, seq, root
        self._verdict.remarks.append(f"the blocks up to {seq} are not here; the snapshot there is proven")
        if self._pending and self._pending[0].boundary == seq:
            self._change_epoch(seq)


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict in words."""
    yield f"{verdict.store}: {verdict.application or 'a store'} of network {verdict.identity or 'unknown'}"
    for remark in verdict.remarks:
        yield f"note: {remark}"
    if verdict.ok:
        yield (
            f"ok: {verdict.blocks} blocks up to {verdict.last}, {verdict.transactions} requests, "
            f"{verdict.checkpoints} checkpoints, root {verdict.root}"
        )
    else:
        where = f"block {verdict.first_bad}" if verdict.first_bad else "store"
        yield f"bad {where}: {verdict.why}"


def _reason(error: Exception) -> str:
    """The error without the name of the file, which may be a copy's."""
    text = str(error)
    return text.split(": ", 1)[1] if isinstance(error, StoreError) and ": " in text else text
