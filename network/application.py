"""What the replicas execute: the trade-finance ledger, or nothing but a hash chain for synthetic load.

Honest replicas of one simulation share one execution per (history, batch), because they would all compute the same
thing: the `Chronicle` executes a batch when the first replica commits it and hands the others the same answer. A
replica whose history differs gets an execution of its own, from genesis, so that the difference shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tradebft.chain.block import GENESIS_PARENT, Block, Header, merkle_root
from tradebft.chain.crypto import digest
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import Applied
from tradebft.consensus.interface import Executed
from tradebft.consensus.messages import Decided, Request, result_digest

Block_ = tuple[Decided, Executed]


class Application(Protocol):
    """A deterministic state machine behind the order. *checks*: signatures it checks itself, a request."""

    checks: int

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Execute *fresh* in order, as the batch at ``decided.seq``."""
        ...


class HashChain:
    """Executes nothing; its state is the hash of all batches so far. For measuring consensus alone."""

    checks = 0
    _EMPTY = result_digest(b"")

    def __init__(self) -> None:
        self._root = bytes(32)

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Chain the batch's digest; every result is empty."""
        self._root = digest("hash-chain", self._root, decided.batch.digest)
        count = len(fresh)
        return Executed(decided.seq, (b"",) * count, (self._EMPTY,) * count, self._root)


class LedgerApplication:
    """The trade-finance ledger: one block a batch, receipts as results, the block's hash as state root.

    Block time is *epoch_ns* plus the time that the primary proposed, never earlier than the parent's.
    """

    checks = 1  # the sender's; the client's own signature on the request was the replica's business

    def __init__(
        self, ledger: Ledger, observe: Callable[[Block, Applied], None] | None = None, epoch_ns: int = 0
    ) -> None:
        self.ledger = ledger
        self._observe = observe
        self._epoch_ns = epoch_ns
        self._time_ns = epoch_ns
        self._parent = GENESIS_PARENT

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Apply the batch's transactions to the ledger."""
        self._time_ns = max(self._time_ns, self._epoch_ns + decided.batch.timestamp_ns)
        operations = [request.operation for request in fresh]
        applied = self.ledger.apply(decided.seq, self._time_ns, operations)
        results = tuple(receipt.encode() for receipt in applied.receipts)
        header = Header(
            height=decided.seq,
            parent=self._parent,
            time_ns=self._time_ns,
            batch_digest=decided.batch.digest,
            tx_root=merkle_root(operations),
            receipts_root=merkle_root(list(results)),
            state_root=applied.state_root,
        )
        self._parent = header.hash
        if self._observe is not None:
            self._observe(Block(header, decided.batch.encoded, decided.certificate), applied)
        return Executed(decided.seq, results, tuple(result_digest(r) for r in results), self._parent)


class Chronicle:
    """The blocks that were decided, and their executions, shared by all replicas with the same history.

    *keep*: how many of the latest blocks stay available to replicas that fell behind; None keeps all.
    """

    def __init__(self, make: Callable[[], Application], keep: int | None = None) -> None:
        self._make = make
        self._keep = keep
        self._application = make()
        self._blocks: dict[int, Block_] = {}
        self.height = 0
        self.checks = self._application.checks

    def execute(self, decided: Decided, fresh: tuple[Request, ...], own: dict[int, Block_]) -> Executed:
        """The execution of *decided* for a replica whose own blocks that differ from the shared ones are *own*."""
        seq = decided.seq
        if not own and seq == self.height + 1:
            executed = self._application.execute(decided, fresh)
            self._blocks[seq] = decided, executed
            self.height = seq
            if self._keep is not None:
                self._blocks.pop(seq - self._keep, None)
            return executed
        if not own and seq <= self.height:
            shared = self._blocks.get(seq)
            if shared is not None and shared[0].batch.digest == decided.batch.digest:
                return shared[1]
        return self._execute_apart(decided, own)

    def block(self, seq: int, own: dict[int, Block_]) -> Block_ | None:
        """The block at *seq* in the history of a replica that differs in *own*; None if it is not kept."""
        return own.get(seq) or self._blocks.get(seq)

    def _execute_apart(self, decided: Decided, own: dict[int, Block_]) -> Executed:
        application = self._make()
        seen: set[tuple[str, int]] = set()
        executed = Executed(0, (), (), bytes(32))
        for seq in range(1, decided.seq + 1):
            block = self.block(seq, own)
            batch_of = decided if seq == decided.seq else block[0] if block else None
            if batch_of is None:
                raise ValueError(
                    f"block {seq} is no longer kept, so another history cannot be executed from genesis"
                )
            fresh = tuple(r for r in batch_of.batch.requests if r.key not in seen)
            seen.update(request.key for request in fresh)
            executed = application.execute(batch_of, fresh)
        own[decided.seq] = decided, executed
        return executed
