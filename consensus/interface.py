"""The one central abstraction: ``effects = step(now, input)``.

Inputs are wire messages (`messages`), and the structs ``Start``, ``TimerFired``, ``Idle``, ``Executed``, ``Installed``
and ``Submit`` below. Effects are data; the caller performs them in order. The same shape serves the simulator, a real
network, a fuzzer and plain-text transcripts, and makes a new protocol one class (see `Protocol`).

Times are integer nanoseconds. They are handed in; no implementation may ask for them elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from tradebft.chain.crypto import Keyring, QuorumCertificate, Signer
from tradebft.consensus.membership import Members, sizes
from tradebft.consensus.messages import Decided, Message, Request
from tradebft.consensus.snapshot import Manifest

Address = int | str  # a replica's index, or a client's name

# --- inputs other than messages ---


class Start(msgspec.Struct, frozen=True, gc=False):
    """The replica comes up. *records* is everything it persisted before a crash, oldest first; empty at first boot."""

    records: tuple[Any, ...] = ()


class TimerFired(msgspec.Struct, frozen=True, gc=False):
    """A timer set by ``SetTimer`` ran out and was neither cancelled nor set again since."""

    name: str


class Idle(msgspec.Struct, frozen=True, gc=False):
    """Nothing was executed for a while. On a network that loses messages the last one of a burst may be among them,
    and whoever missed it does not know: now is the time to say where one stands."""


class Executed(msgspec.Struct, frozen=True, gc=False):
    """The application executed the batch at *seq*: one result a request, and the state root that it led to.

    *chunks*: its whole state, cut into pieces, where the ``Committed`` asked for a snapshot; else empty. *members*: who
    the replicas shall be, where this batch agreed on a change; else None.
    """

    seq: int
    results: tuple[bytes, ...]
    result_digests: tuple[bytes, ...]
    root: bytes
    chunks: tuple[bytes, ...] = ()
    members: Members | None = None


class Installed(msgspec.Struct, frozen=True, gc=False):
    """The application took over the snapshot at *seq*, which led to *root*; None: the chunks hold no state."""

    seq: int
    root: bytes | None


class Submit(msgspec.Struct, frozen=True, gc=False):
    """A client is asked to have *operation* executed. *tag* comes back with the answer."""

    operation: bytes
    tag: int


# --- effects ---


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send *message* to one replica or client."""

    to: Address
    message: Message


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """Send *message* to every other replica: to those of the first epoch, or to those that *to* names."""

    message: Message
    to: tuple[int, ...] | None = None


class SendBlocks(msgspec.Struct, frozen=True, gc=False):
    """Send replica *to* the decided batches *first* ... *last* from durable storage, with this stable checkpoint."""

    to: int
    first: int
    last: int
    checkpoint: QuorumCertificate | None


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """Run timer *name* out in *delay_ns* from now; a timer of that name that is running is replaced."""

    name: str
    delay_ns: int


class CancelTimer(msgspec.Struct, frozen=True, gc=False):
    """Stop timer *name*, if it runs."""

    name: str


class Persist(msgspec.Struct, frozen=True, gc=False):
    """Make *record* durable before any later effect leaves the node."""

    record: Any


class Committed(msgspec.Struct, frozen=True, gc=False):
    """*decided* is final at its sequence. Execute *fresh* (its requests that were not executed before), in order.

    *snapshot*: the answer must bring the application's state along.
    """

    seq: int
    decided: Decided
    fresh: tuple[Request, ...]
    snapshot: bool = False


class KeepSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Make the snapshot of *manifest* durable: *table* are its first chunks, the application's follow."""

    manifest: Manifest
    table: tuple[bytes, ...]
    application: tuple[bytes, ...]


class SnapshotProven(msgspec.Struct, frozen=True, gc=False):
    """*certificate* proves a kept snapshot: keep it beside it.

    Older snapshots than the one at *floor* and blocks at or below *floor* will not be asked for any more.
    """

    certificate: QuorumCertificate
    floor: int


class SendChunk(msgspec.Struct, frozen=True, gc=False):
    """Send replica *to* chunk *index* of the kept snapshot at *seq*."""

    to: int
    seq: int
    index: int


class Install(msgspec.Struct, frozen=True, gc=False):
    """Replace the application's state by this snapshot, keep it as durable, and answer with ``Installed``."""

    manifest: Manifest
    certificate: QuorumCertificate
    table: tuple[bytes, ...]
    application: tuple[bytes, ...]


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A client holds f+1 matching replies for the operation submitted under *tag*."""

    tag: int
    sequence: int
    result: bytes
    seq: int


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """Proof that *culprit* broke the protocol. Data for operators and tests, never control flow."""

    culprit: Address
    what: str


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """The input changed nothing, for an expected reason. Counted by reason."""

    why: str


Effect = (
    Send
    | Broadcast
    | SendBlocks
    | SetTimer
    | CancelTimer
    | Persist
    | Committed
    | KeepSnapshot
    | SnapshotProven
    | SendChunk
    | Install
    | Answered
    | Evidence
    | Ignored
)
Effects = Sequence[Effect]
NOTHING: Effects = ()


class Config(msgspec.Struct, frozen=True):
    """What all replicas of one network agree on before they start. Times in nanoseconds, sizes in bytes."""

    nodes: int
    chain_id: bytes = b"tradebft"
    batch_size: int = 100
    batch_bytes: int = 1 << 20
    batch_timeout_ns: int = 0
    window: int = 16  # batches proposed and not yet executed
    checkpoint_interval: int = 128  # K
    log_window: int = 256  # L
    snapshot_interval: int = (
        0  # sequences from snapshot to snapshot, a multiple of K; 0: none, blocks are kept for ever
    )
    view_change_timeout_ns: int = 1_000_000_000
    status_interval_ns: int = 0  # 0: nine tenths of the view-change timeout
    client_window: int = 256  # outstanding requests a client, and replies kept for it
    max_clock_skew_ns: int = 600_000_000_000
    max_requests_waiting: int = 100_000
    rekeying: bool = False  # members may announce further keys: each message is checked for the one in use

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError(f"nodes must be at least 1, got {self.nodes}")
        if not 0 < self.checkpoint_interval < self.log_window:
            raise ValueError(
                f"log_window (L={self.log_window}) must exceed checkpoint_interval (K={self.checkpoint_interval}),"
                " or the watermark never moves"
            )
        if self.snapshot_interval < 0 or self.snapshot_interval % self.checkpoint_interval:
            raise ValueError(
                f"snapshot_interval must be a multiple of checkpoint_interval (K={self.checkpoint_interval}) or 0,"
                f" got {self.snapshot_interval}"
            )
        for name in ("batch_size", "batch_bytes", "window", "client_window", "view_change_timeout_ns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def faults(self) -> int:
        """f, the number of Byzantine replicas that are tolerated."""
        return sizes(self.nodes)[0]

    @property
    def quorum(self) -> int:
        """q = ceil((n + f + 1) / 2): any two quorums share an honest replica, also where n is not 3f + 1."""
        return sizes(self.nodes)[1]

    @property
    def status_ns(self) -> int:
        """How long a replica waits without progress before it asks its peers what it misses."""
        return self.status_interval_ns or max(1, self.view_change_timeout_ns * 9 // 10)


class Replica(Protocol):
    """What a protocol provides. Name a class of your own in a scenario: ``protocol = "mylab.fastbft:Replica"``.

    Its processor is charged for checking signatures. One that looks at messages lazily may say so: how many it would
    check inside a message as it stands, its sender's apart, is ``checks_inside(message)``; None or no such method: all.
    """

    me: int
    config: Config
    signer: Signer

    def __init__(self, me: int, config: Config, signer: Signer, keyring: Keyring) -> None: ...

    def step(self, now: int, event: Any) -> Effects:
        """Take one input at time *now* (ns) and return what is to be done, in order."""
        ...
