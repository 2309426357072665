"""A ledger that takes blocks as another run recorded them: the same transactions, at the same heights and times.

A ledger's root covers heights and block times, so that what a simulation of three months did can only be compared
with what real members do if they are given its blocks. Each request is one recorded block; whatever batches the
replicas make of the requests, the ledger sees the blocks as they were.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from tradebft.chain.codec import CodecError, decode, framed, unframed
from tradebft.chain.ledger import Ledger
from tradebft.consensus.interface import Executed
from tradebft.consensus.messages import Decided, Request, result_digest
from tradebft.network.application import LedgerApplication

BLOCK_BYTES_MAX: Final = 1 << 26
DONE: Final = b"done"


class RecordedBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One block of a run: what was executed at *height*, at *time_ns* (Unix time)."""

    height: int
    time_ns: int
    operations: tuple[bytes, ...]


class RecordingLedger(LedgerApplication):
    """The ledger as ever; every block that it executes is added to *blocks*."""

    def __init__(self, blocks: list[RecordedBlock], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._blocks = blocks

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Apply the batch, and note it."""
        executed = super().execute(decided, fresh)
        operations = tuple(request.operation for request in fresh)
        self._blocks.append(RecordedBlock(decided.seq, self.ledger.time_ns, operations))
        return executed


class RecordedLedger:
    """The application: the result of a request is the ledger's state root after it; `DONE` for a block that is further
    back, and nothing if the block's turn has not come or it is no block."""

    checks = 1

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Apply each request's block."""
        results = tuple(self._apply(request.operation) for request in fresh)
        digests = tuple(map(result_digest, results))
        return Executed(decided.seq, results, digests, self.ledger.state_root)

    def _apply(self, operation: bytes) -> bytes:
        try:
            block = decode(operation, RecordedBlock, limit=BLOCK_BYTES_MAX)
        except CodecError:
            return b""
        if block.height <= self.ledger.height:
            return self.ledger.state_root if block.height == self.ledger.height else DONE
        if block.height != self.ledger.height + 1:
            return b""
        self.ledger.apply(block.height, block.time_ns, block.operations)
        return self.ledger.state_root

    def snapshot(self) -> tuple[bytes, ...]:
        """The ledger and its root."""
        return framed(self.ledger.state_root), *self.ledger.pieces()

    def restore(self, data: bytes) -> bytes:
        """Go on from there. ValueError where the ledger does not have that root."""
        root, kept = unframed(data)
        ledger = self.ledger.restored(kept)
        if ledger.state_root != root:
            raise ValueError("the ledger in the snapshot has another root")
        self.ledger = ledger
        return root
