"""PBFT's wire messages (Castro and Liskov, OSDI 1999, section 4; signature variant).

Every message names its sender and carries the sender's signature over ``payload(chain_id)``: a domain tag (chain id,
message kind) and the fields. Votes sign only (kind, view, seq, digest), so that a certificate is a handful of numbers
and one signature a voter, and a PrePrepare inside a certificate can be checked without its batch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cached_property
from typing import Final

import msgspec
from tradebft.chain.codec import encode
from tradebft.chain.crypto import Keyring, QuorumCertificate, digest, vote_payload
from tradebft.consensus.membership import EpochProof, first_view
from tradebft.consensus.snapshot import Manifest, chunk_digest


class Wire(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Anything that travels. `size` counts its bytes as encoded, signature included."""


class Large(Wire, frozen=True, array_like=True, dict=True, gc=True):
    """A message of many parts, which is sent to many and to some again: what takes long to say of it is said once."""

    @cached_property
    def length(self) -> int:
        """Its `size`."""
        return len(encode(self))

    @cached_property
    def payloads(self) -> dict[bytes, bytes]:
        """By chain, what the sender signs, as far as somebody asked."""
        return {}

    @cached_property
    def verdicts(self) -> dict[object, str | None]:
        """By what it was judged by, what is wrong with it, as far as somebody asked."""
        return {}

    def judged_once(self, by: object, judge: Callable[[], str | None]) -> str | None:
        """What *judge* finds wrong with it, who knows all that *by* names and nothing else."""
        if by not in self.verdicts:
            self.verdicts[by] = judge()
        return self.verdicts[by]

    def signed_once(self, chain_id: bytes, *fields: object) -> bytes:
        """The bytes that the sender signs, who vouches for these fields."""
        known = self.payloads.get(chain_id)
        if known is None:
            known = self.payloads[chain_id] = digest(type(self).__name__, chain_id, encode(fields))
        return known


class Request(Wire, tag="Request", frozen=True, gc=False, array_like=True):
    """A client asks that *operation* be executed exactly once under (client, sequence)."""

    client: str
    sequence: int
    operation: bytes
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the client signs."""
        return request_payload(chain_id, self.client, self.sequence, self.operation)

    @property
    def key(self) -> tuple[str, int]:
        """What exactly-once is about."""
        return self.client, self.sequence


def request_payload(chain_id: bytes, client: str, sequence: int, operation: bytes) -> bytes:
    """What a client signs for one request."""
    return digest("request", chain_id, client.encode(), sequence.to_bytes(8, "big"), operation)


class Batch(Wire, tag="Batch", frozen=True, array_like=True, dict=True, gc=True):
    """Requests in execution order, and the time that the primary proposes for them (ns)."""

    timestamp_ns: int
    requests: tuple[Request, ...]

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes: what is hashed, stored and sent."""
        return encode(self)

    @cached_property
    def digest(self) -> bytes:
        """Binds the order and every field of the requests; independent of view and sequence."""
        return digest("batch", self.encoded)


NULL_BATCH = Batch(0, ())  # consumes a sequence, executes nothing (4.4)
NULL_DIGEST = NULL_BATCH.digest


class PrePrepare(Wire, tag="PrePrepare", frozen=True, gc=False, array_like=True):
    """The primary of *view* assigns *seq* to the batch of *digest*. Inside a NewView the batch stays away."""

    view: int
    seq: int
    digest: bytes
    replica: int
    batch: Batch | None = None
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the primary signs; the batch is bound by its digest."""
        return vote_payload(chain_id, "PrePrepare", self.view, self.seq, self.digest)


class Prepare(Wire, tag="Prepare", frozen=True, gc=False, array_like=True):
    """*replica* accepted the primary's proposal (4.2)."""

    view: int
    seq: int
    digest: bytes
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the voter signs."""
        return vote_payload(chain_id, "Prepare", self.view, self.seq, self.digest)


class Commit(Wire, tag="Commit", frozen=True, gc=False, array_like=True):
    """*replica* holds a prepared certificate for (view, seq, digest) (4.2)."""

    view: int
    seq: int
    digest: bytes
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the voter signs."""
        return vote_payload(chain_id, "Commit", self.view, self.seq, self.digest)


class Reply(Wire, tag="Reply", frozen=True, gc=False, array_like=True):
    """The result of one request as *replica* executed it at *seq*; a client believes f+1 matching ones."""

    view: int
    client: str
    sequence: int
    replica: int
    seq: int
    result_digest: bytes
    result: bytes
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs."""
        return reply_payload(chain_id, self.view, self.client, self.sequence, self.seq, self.result_digest)


def reply_payload(
    chain_id: bytes, view: int, client: str, sequence: int, seq: int, result_digest: bytes
) -> bytes:
    """What a replica signs for one reply; the result is bound by its digest."""
    return b"tradebft/Reply\0%b\0%d,%d,%d\0%b%b" % (
        chain_id,
        view,
        sequence,
        seq,
        result_digest,
        client.encode(),
    )


class Checkpoint(Wire, tag="Checkpoint", frozen=True, gc=False, array_like=True):
    """*replica* executed up to *seq* and its state (ledger and client table) has *digest* (4.3). *epoch*: seq's."""

    seq: int
    digest: bytes
    replica: int
    signature: bytes = b""
    epoch: int = 0

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs."""
        return vote_payload(chain_id, "Checkpoint", first_view(self.epoch), self.seq, self.digest)


class Prepared(Wire, tag="Prepared", frozen=True, gc=False, array_like=True):
    """A prepared certificate: the PrePrepare (digest only) and q-1 matching Prepares by distinct backups."""

    pre_prepare: PrePrepare
    prepares: QuorumCertificate


class ViewChange(Large, tag="ViewChange", frozen=True, array_like=True, dict=True, gc=True):
    """*replica* asks for *view* and shows its stable checkpoint and what it prepared above it (4.4)."""

    view: int
    stable: int
    checkpoint: QuorumCertificate | None
    prepared: tuple[Prepared, ...]
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs: everything but the signature."""
        return self.signed_once(
            chain_id, self.view, self.stable, self.checkpoint, self.prepared, self.replica
        )


class NewView(Large, tag="NewView", frozen=True, array_like=True, dict=True, gc=True):
    """The primary of *view* shows q ViewChanges and the proposals that follow from them (4.4)."""

    view: int
    view_changes: tuple[ViewChange, ...]
    proposals: tuple[PrePrepare, ...]
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the primary signs: everything but the signature."""
        return self.signed_once(chain_id, self.view, self.view_changes, self.proposals, self.replica)


class Decided(Wire, tag="Decided", frozen=True, gc=False, array_like=True):
    """A batch and the q Commits that made it final: proof enough for anybody who knows the members' keys."""

    seq: int
    batch: Batch
    certificate: QuorumCertificate


class Status(Wire, tag="Status", frozen=True, gc=False, array_like=True):
    """*replica* waits and says where it stands; peers answer with what it misses. *nonce* tells repeats apart.

    *held*: while changing views, the members whose ViewChange for *view* it holds, as bits (of the first 62 members).
    """

    view: int
    changing: bool
    held: int
    stable: int
    executed: int
    nonce: int
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs."""
        return digest(
            "Status",
            chain_id,
            encode(
                (self.view, self.changing, self.held, self.stable, self.executed, self.nonce, self.replica)
            ),
        )


class Fetch(Wire, tag="Fetch", frozen=True, gc=False, array_like=True):
    """*replica* lacks the batch of *digest* at *seq* (a NewView names digests only)."""

    seq: int
    digest: bytes
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs."""
        return vote_payload(chain_id, "Fetch", 0, self.seq, self.digest)


class FetchReply(Large, tag="FetchReply", frozen=True, array_like=True, dict=True, gc=True):
    """Batches that another replica lacks: decided ones with their certificates, and bodies asked for by digest."""

    blocks: tuple[Decided, ...]
    bodies: tuple[Batch, ...]
    checkpoint: QuorumCertificate | None
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs: all of it, so that nobody can make another's answer a lie on the way."""
        proofs = encode(([(block.seq, block.certificate) for block in self.blocks], self.checkpoint))
        held = [block.batch.digest for block in self.blocks] + [batch.digest for batch in self.bodies]
        return digest("FetchReply", chain_id, proofs, *held)


class SnapshotHead(Wire, tag="SnapshotHead", frozen=True, gc=False, array_like=True):
    """*replica* no longer keeps the blocks that the receiver lacks; here is what its snapshot consists of.

    The certificate is the checkpoint's, and its digest the manifest's; *epochs* are the proofs of all changes of
    members until then. So it proves itself to whoever knows the first members.
    """

    manifest: Manifest
    certificate: QuorumCertificate
    replica: int
    epochs: tuple[EpochProof, ...] = ()
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs: all of it."""
        return digest("SnapshotHead", chain_id, encode((self.manifest, self.certificate, self.epochs)))


class FetchChunk(Wire, tag="FetchChunk", frozen=True, gc=False, array_like=True):
    """*replica* asks for chunk *index* of the snapshot at *seq*."""

    seq: int
    index: int
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs."""
        return digest("FetchChunk", chain_id, encode((self.seq, self.index, self.replica)))


class Chunk(Wire, tag="Chunk", frozen=True, gc=False, array_like=True):
    """Chunk *index* of the snapshot at *seq*."""

    seq: int
    index: int
    data: bytes
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs: a wrong chunk can be held against it."""
        return digest("Chunk", chain_id, encode((self.seq, self.index)), chunk_digest(self.data))


class EpochChange(Wire, tag="EpochChange", frozen=True, gc=False, array_like=True):
    """*replica* is in a later epoch than the receiver: the proofs that lead from there to here, in order."""

    proofs: tuple[EpochProof, ...]
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """The bytes that the replica signs: all of it."""
        return digest("EpochChange", chain_id, encode(self.proofs))


class Garbage(Wire, tag="Garbage", frozen=True, gc=False, array_like=True):
    """Bytes that *replica*, a simulated adversary, sent in place of a message. Whoever receives them decodes them."""

    data: bytes
    replica: int
    signature: bytes = b""

    def payload(self, chain_id: bytes) -> bytes:
        """Nobody signs this."""
        return b""


Vote = PrePrepare | Prepare | Commit
Message = (
    Request
    | PrePrepare
    | Prepare
    | Commit
    | Reply
    | Checkpoint
    | ViewChange
    | NewView
    | Status
    | Fetch
    | FetchReply
    | SnapshotHead
    | FetchChunk
    | Chunk
    | EpochChange
)
CHANGES_OF_VIEW: Final = (ViewChange, NewView)
KINDS: tuple[type, ...] = (
    Request,
    PrePrepare,
    Prepare,
    Commit,
    Reply,
    Checkpoint,
    ViewChange,
    NewView,
    Status,
    Fetch,
    FetchReply,
    SnapshotHead,
    FetchChunk,
    Chunk,
    EpochChange,
)


def sender_of(message: Message) -> int | str:
    """Whose signature a message carries."""
    return message.client if isinstance(message, Request) else message.replica


def authentic(message: Message, chain_id: bytes, keyring: Keyring) -> bool:
    """Whether *message* was signed by the member that it names. Callers of ``step`` check this first. Never raises."""
    try:
        payload = message.payload(chain_id)
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error):
        return False  # fields of impossible size or type: nobody can have signed that
    return keyring.verify(sender_of(message), payload, message.signature)


def size(message: Message) -> int:
    """Bytes on the wire, as canonically encoded; what is large is encoded once and its length remembered."""
    if type(message) is PrePrepare and message.batch is not None:
        head = PrePrepare(message.view, message.seq, message.digest, message.replica, None, message.signature)
        return len(encode(head)) - 1 + len(message.batch.encoded)
    return message.length if isinstance(message, Large) else len(encode(message))


def result_digest(result: bytes) -> bytes:
    """What replicas sign and clients compare instead of whole results."""
    return digest("result", result)
