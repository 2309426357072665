"""What executing batches gives, and how large messages are: the part of a run that needs no order of events.

All honest replicas execute the same batches, so each is executed once, by a replica's own bookkeeping: the client
table, the state that checkpoints sign and the snapshots are the reference's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tradebft.chain.codec import encode
from tradebft.chain.crypto import Keyring, QuorumCertificate, Signer
from tradebft.consensus.interface import Config, KeepSnapshot
from tradebft.consensus.messages import (
    NULL_BATCH,
    Batch,
    Checkpoint,
    Commit,
    Decided,
    FetchReply,
    Prepare,
    PrePrepare,
    Reply,
    Request,
    Status,
)
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.network.application import Application
from tradebft.network.chronicle import Block, run
from tradebft.network.engines import Uncovered
from tradebft.network.trace import short


class Told(NamedTuple):
    """What came of a batch. Digests are their first 8 bytes, as the trace has them."""

    results: list[bytes]  # of each request
    values: list[int]  # their digests
    reply_sizes: list[int]  # bytes of a reply, without its replica's number
    root: int
    state: int  # what a checkpoint here signs; 0 where there is none


class Book:
    """Executes batches in their order."""

    def __init__(
        self,
        config: Config,
        signer: Signer,
        keyring: Keyring,
        application: Callable[[], Application],
        keep: bool,
    ) -> None:
        self._replica = Replica(0, config, signer, keyring)
        self.application = application()
        self.checks = self.application.checks
        self._interval = config.checkpoint_interval
        self.repeated = 0  # requests that were executed before: there must be none
        # For whoever goes on with the run, if *keep*: the latest blocks, what checkpoints sign, the snapshots.
        self._keep = keep
        self.blocks: dict[int, Block] = {}
        self.states: dict[int, bytes] = {}
        self.snapshots: dict[int, KeepSnapshot] = {}

    def execute(self, seq: int, batch: Batch) -> Told:
        """Execute the batch that is next. `Uncovered` if it changes who is a member."""
        replica = self._replica
        proof = QuorumCertificate("Commit", 0, seq, batch.digest, ())
        committed = replica.hand_out(Decided(seq, batch, proof))
        self.repeated += len(batch.requests) - len(committed.fresh)
        executed = run(self.application, committed)
        if executed.members is not None:
            raise Uncovered("a change of members")
        del replica.handed_out[seq]
        values, sizes = [], []
        for request, result, value in zip(
            committed.fresh, executed.results, executed.result_digests, strict=True
        ):
            replica.clients.answer(request.client, request.sequence, seq, value, result)
            values.append(short(value))
            sizes.append(reply_size(request, seq, value, result))
        state = 0
        if seq % self._interval == 0:
            bound, effects = replica.state_digest(executed)
            replica.manifests.clear()
            signed = replica.standing.binds(bound)
            state = short(signed)
            if self._keep:
                self.states[seq] = signed
                self.snapshots.update((seq, kept) for kept in effects if isinstance(kept, KeepSnapshot))
        if self._keep:
            self.blocks[seq] = Block(committed, executed)
        return Told(list(executed.results), values, sizes, short(executed.root), state)

    @property
    def known(self) -> int:
        """The last that was executed."""
        return self._replica.executed

    def resume(
        self,
        known: int,
        clients: ClientTable,
        blocks: Mapping[int, Block],
        states: Mapping[int, bytes],
        snapshots: dict[int, KeepSnapshot],
    ) -> None:
        """Go on where something else stood that executed up to *known*, by the same application, and left this."""
        self._replica.executed, self._replica.clients = known, clients
        self.blocks, self.snapshots = dict(blocks), snapshots
        self.states |= states

    def forget(self, floor: int, proven: int) -> None:
        """Nobody will ask for blocks at or below *floor*, nor for snapshots below *proven*."""
        for seq in range(min(self.blocks, default=1), floor + 1):
            self.blocks.pop(seq, None)
        self.snapshots = {seq: kept for seq, kept in self.snapshots.items() if seq >= proven}


def reply_size(request: Request, seq: int, value: bytes, result: bytes) -> int:
    """Bytes of a reply, without its replica's number."""
    return len(encode(Reply(0, request.client, request.sequence, 0, seq, value, result, bytes(64)))) - 1


class Sizes(NamedTuple):
    """Bytes of messages without the numbers in them (a sequence, a replica), whose length differs."""

    pre_prepare: int
    prepare: int
    commit: int
    checkpoint: int
    status: int
    answer: int  # a FetchReply with nothing in it
    block: int  # a block without its batch
    proof: int  # a checkpoint's certificate


def message_sizes(config: Config) -> Sizes:
    """What the codec makes of them."""
    signature, value = bytes(64), bytes(32)

    def votes(kind: str) -> QuorumCertificate:
        return QuorumCertificate(kind, 0, 0, value, tuple((0, signature) for _ in range(config.quorum)))

    return Sizes(
        pre_prepare=len(encode(PrePrepare(0, 0, value, 0, None, signature))) - 2,
        prepare=len(encode(Prepare(0, 0, value, 0, signature))) - 2,
        commit=len(encode(Commit(0, 0, value, 0, signature))) - 2,
        checkpoint=len(encode(Checkpoint(0, value, 0, signature))) - 2,
        status=len(encode(Status(0, False, 0, 0, 0, 0, 0, signature))) - 4,
        answer=len(encode(FetchReply((), (), None, 0, signature))) - 1,
        block=len(encode(Decided(0, NULL_BATCH, votes("Commit")))) - len(NULL_BATCH.encoded) - 2,
        proof=len(encode(votes("Checkpoint"))) - 1,
    )
