"""What the replicas execute: the trade-finance ledger, or nothing but a hash chain for synthetic load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tradebft.chain.block import GENESIS_PARENT, Block, Header, merkle_root
from tradebft.chain.codec import CodecError, decode, encode, framed, unframed
from tradebft.chain.crypto import digest
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import Applied
from tradebft.chain.rules.objects import NEVER
from tradebft.consensus.interface import Executed
from tradebft.consensus.membership import Members, plausible
from tradebft.consensus.messages import Decided, Request, result_digest
from tradebft.network.queries import answer, is_query

_MEMBERS: Final = b"tradebft/members\0"


def members_operation(members: Members) -> bytes:
    """The operation by which a hash chain is told who its replicas shall be (whoever submits it is believed)."""
    return _MEMBERS + encode(members)


def members_in(operation: bytes) -> Members | None:
    """Who the replicas shall be, if *operation* is about that."""
    if not operation.startswith(_MEMBERS):
        return None
    try:
        members = decode(operation[len(_MEMBERS) :], Members)
    except CodecError:
        return None
    return members if plausible(members) else None


class Application(Protocol):
    """A deterministic state machine behind the order. *checks*: signatures it checks itself, a request."""

    checks: int

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Execute *fresh* in order, as the batch at ``decided.seq``."""
        ...

    def snapshot(self) -> tuple[bytes, ...]:
        """The whole state in pieces: those who executed the same give the same. Each is a chunk of its own for whoever
        fetches it, so pieces that stay the same between two snapshots (the same objects, at best) cost nothing.
        """
        ...

    def restore(self, data: bytes) -> bytes:
        """Take over the state whose `snapshot`, joined, is *data*, and return its root; ValueError if it is none."""
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
        members = None
        for request in fresh:
            members = members_in(request.operation) or members
        return Executed(decided.seq, (b"",) * count, (self._EMPTY,) * count, self._root, members=members)

    def snapshot(self) -> tuple[bytes, ...]:
        """The root is all there is."""
        return (self._root,)

    def restore(self, data: bytes) -> bytes:
        """Go on from that root."""
        if len(data) != len(self._root):
            raise ValueError(f"a hash chain's state has {len(self._root)} bytes, got {len(data)}")
        self._root = data
        return data


class LedgerApplication:
    """The trade-finance ledger: one block a batch, receipts as results, the block's hash as state root. A query
    (`network.queries`) is answered from the state after the batch and is no transaction.

    Block time is *epoch_ns* plus the time that the primary proposed, never earlier than the parent's.

    *validators*: the member behind each of the first replicas, in their order; then a change of validators on the
    ledger (types 1 and 2) is one of the replicas too, and *key_of(replica, generation)* is the key that a replica
    signs with after so many rotations. Without them the ledger's members and the replicas are two matters.
    """

    checks = 1  # the sender's; the client's own signature on the request was the replica's business

    def __init__(
        self,
        ledger: Ledger,
        observe: Callable[[Block, Applied], None] | None = None,
        epoch_ns: int = 0,
        validators: Sequence[str] = (),
        key_of: Callable[[int, int], bytes] = lambda replica, generation: b"",
    ) -> None:
        self.ledger = ledger
        self._observe = observe
        self._epoch_ns = epoch_ns
        self._time_ns = epoch_ns
        self._header: Header | None = None
        self._hash = GENESIS_PARENT
        self._order = list(validators)  # whoever was a validator once keeps its number
        self._key_of = key_of

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Apply the batch's transactions to the ledger."""
        self._time_ns = max(self._time_ns, self._epoch_ns + decided.batch.timestamp_ns)
        operations = [request.operation for request in fresh]
        transactions = [operation for operation in operations if not is_query(operation)]
        applied = self.ledger.apply(decided.seq, self._time_ns, transactions)
        receipts = iter([receipt.encode() for receipt in applied.receipts])
        results = tuple(
            answer(self.ledger, request.client, request.operation)
            if is_query(request.operation)
            else next(receipts)
            for request in fresh
        )
        header = Header(
            height=decided.seq,
            parent=self._hash,
            time_ns=self._time_ns,
            batch_digest=decided.batch.digest,
            tx_root=merkle_root(operations),
            receipts_root=merkle_root(list(results)),
            state_root=self.ledger.state_root,
        )
        self._header, self._hash = header, header.hash
        if self._observe is not None:
            self._observe(Block(header, decided.batch.encoded, decided.certificate), applied)
        digests = tuple([result_digest(result) for result in results])
        return Executed(decided.seq, results, digests, self._hash, members=self._members_after(applied))

    def _members_after(self, applied: Applied) -> Members | None:
        """Who the replicas shall be, where this block changed a validator; None where it did not."""
        if not self._order or not any(table == "member" for table, *_ in applied.changes):
            return None
        rows = self.ledger.state.members.rows.values()
        standing = {m.id: m for m in rows if m.validator_from != NEVER and m.validator_until == NEVER}
        self._order += sorted(name for name in standing if name not in self._order)
        return tuple(
            (replica, self._key_of(replica, standing[name].key_epoch))
            for replica, name in enumerate(self._order)
            if name in standing
        )

    def snapshot(self) -> tuple[bytes, ...]:
        """The last block's header and the ledger."""
        return framed(encode((self._header, tuple(self._order)))), *self.ledger.pieces()

    def restore(self, data: bytes) -> bytes:
        """Go on from there. The header says what the ledger's root must be."""
        first, after = unframed(data)
        header, order = decode(first, tuple[Header, tuple[str, ...]])
        self.ledger = self.ledger.restored(after)
        if self.ledger.state_root != header.state_root or self.ledger.height != header.height:
            raise ValueError(f"the ledger in the snapshot is not the one of block {header.height}")
        self._header, self._hash = header, header.hash
        self._time_ns, self._order = header.time_ns, list(order)
        return self._hash
