"""What a node's one processor is busy with: time per message, per byte, per signature made or checked, per
transaction executed.

`MEASURED` is one core of a 2020s cloud server (AMD EPYC with SHA extensions, a shared virtual machine), CPython 3.11,
PyNaCl 1.6, msgspec 0.2x, single thread, medians of seven rounds:

    Ed25519 sign               16-20 us         (PyNaCl; a 200-byte message)
    Ed25519 verify             41-54 us         (the spread is between two machines of that class)
    SHA-256                    0.56 us a kilobyte, 0.45 us for 300 bytes
    decode a 500-request batch 0.48 us a kilobyte; decode a vote 0.4 us, encode one 0.2 us
    send + receive 200 bytes over a local socket: 2.2 us of processor time
    apply a financing's transaction to the ledger, 50 a block: 24 us, its own signature apart (51 us alone in a block)

Signing and checking are rounded from the middle of the spread, a kilobyte is hashing plus decoding, execution is
rounded down for the signature stand-in that was measured with it. The handling of a message is dominated by an event
loop and the replica's own step in Python: 10 us is an assumption. Measuring the machine at hand replaces all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, fields
from typing import Any, Final

from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.membership import EpochProof
from tradebft.consensus.messages import (
    CHANGES_OF_VIEW,
    Batch,
    EpochChange,
    FetchReply,
    Message,
    NewView,
    PrePrepare,
    Request,
    SnapshotHead,
    ViewChange,
)

__all__ = ["MEASURED", "PROFILES", "CpuCosts", "signature_checks"]


@dataclass(frozen=True, slots=True)
class CpuCosts:
    """Processor time in ns. ValueError for a negative one."""

    message_ns: int = 10_000
    """Handling one message, in or out."""
    kilobyte_ns: int = 1_000
    """Hashing and copying 1000 bytes."""
    sign_ns: int = 17_000
    """Making one signature."""
    verify_ns: int = 48_000
    """Checking one signature."""
    execute_ns: int = 20_000
    """Applying one transaction to the ledger."""

    def __post_init__(self) -> None:
        for cost in fields(self):
            value = getattr(self, cost.name)
            if value < 0:
                raise ValueError(f"{cost.name.removesuffix('_ns')} must be at least 0 ns, got {value} ns")

    def receive(self, length: int, checks: int) -> int:
        """Taking in a message of `length` bytes: handling, hashing, and so many signatures that must be checked."""
        return self.message_ns + length * self.kilobyte_ns // 1000 + checks * self.verify_ns

    def send(self, message: Message, length: int = 0) -> int:
        """Making a message of `length` bytes, once for all receivers: handling, hashing and one signature; a request
        that a replica passes on bears its client's.
        """
        signing = 0 if type(message) is Request else self.sign_ns
        return self.message_ns + length * self.kilobyte_ns // 1000 + signing

    def relay(self, length: int) -> int:
        """Forwarding a message of `length` bytes unread, once in and once out."""
        return 2 * self.message_ns + length * self.kilobyte_ns // 1000

    def install(self, length: int) -> int:
        """Reading a snapshot of `length` bytes into the state."""
        return length * self.kilobyte_ns // 1000

    def execute(self, transactions: int, signatures: int = 0) -> int:
        """Applying so many transactions that bear so many signatures of their own (the requests' are checked on
        receipt).
        """
        return transactions * self.execute_ns + signatures * self.verify_ns


MEASURED: Final = CpuCosts()
"""The profile of this module's heading."""

PROFILES: Final[dict[str, CpuCosts | None]] = {"none": None, "measured": MEASURED}
"""What a scenario's `nodes.cpu` may name; None: computing takes no time."""


def signature_checks(message: Message, seen: Container[bytes] = (), receiver: Any = None) -> int:
    """Signatures that a receiver checks: the sender's, those of the clients whose requests it carries, those of the
    voters in its certificates. Of a ViewChange or NewView whose signature is in *seen* only the sender's, and of a
    ViewChange inside a NewView that is in *seen* or the receiver's own none.

    *receiver*: the replica. One with a method ``checks_inside(message)`` says itself how many it would come to inside a
    message, apart from the sender's, as it stands (`consensus.pbft.looking`); None: all of them.
    """
    inner = _INNER.get(type(message))
    if inner is None:
        return 1
    if isinstance(message, CHANGES_OF_VIEW) and message.signature in seen:
        return 1
    if isinstance(message, NewView):
        return 1 + _in_new_view(message, seen, getattr(receiver, "me", None))
    asked = getattr(receiver, "checks_inside", None)
    told = asked(message) if asked is not None else None
    return 1 + (inner(message) if told is None else told)


def _in_view_change(message: ViewChange) -> int:
    return _votes(message.checkpoint) + sum(1 + _votes(entry.prepares) for entry in message.prepared)


def _in_new_view(message: NewView, seen: Container[bytes] = (), me: int | None = None) -> int:
    changes = (c for c in message.view_changes if c.signature not in seen and c.replica != me)
    return sum(1 + _in_view_change(change) for change in changes) + len(message.proposals)


def _in_fetch_reply(message: FetchReply) -> int:
    """Certificates alone: they prove batches whose clients' signatures others have checked."""
    return sum(_votes(block.certificate) for block in message.blocks) + _votes(message.checkpoint)


def _in_epochs(proofs: tuple[EpochProof, ...]) -> int:
    return sum(_votes(proof.certificate) for proof in proofs)


def _requests(batch: Batch | None) -> int:
    return 0 if batch is None else len(batch.requests)


def _votes(certificate: QuorumCertificate | None) -> int:
    return 0 if certificate is None else len(certificate.votes)


_INNER: Final[dict[type, Callable[[Any], int]]] = {
    PrePrepare: lambda message: _requests(message.batch),
    ViewChange: _in_view_change,
    NewView: _in_new_view,
    FetchReply: _in_fetch_reply,
    SnapshotHead: lambda message: _votes(message.certificate) + _in_epochs(message.epochs),
    EpochChange: lambda message: _in_epochs(message.proofs),
}
