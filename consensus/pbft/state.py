"""What one PBFT replica remembers. `replica`, `changing` and `recovery` are the three parts that act on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from tradebft.chain.crypto import Keyring, QuorumCertificate, Signer
from tradebft.consensus.interface import Address, Broadcast, Committed, Config, Effect, Effects, Executed
from tradebft.consensus.membership import Change, Committee, EpochProof, Standing, genesis
from tradebft.consensus.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Decided,
    Fetch,
    Message,
    NewView,
    Request,
    SnapshotHead,
)
from tradebft.consensus.pbft.bodies import Bodies
from tradebft.consensus.pbft.checkpoint import CheckpointVotes
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.consensus.pbft.early import EarlyMessages
from tradebft.consensus.pbft.quota import Quota
from tradebft.consensus.pbft.slots import Slot
from tradebft.consensus.pbft.view_change import ViewChangeLog
from tradebft.consensus.pbft.waiting import Waiting
from tradebft.consensus.round_trip import RoundTrip
from tradebft.consensus.snapshot import ExecutedRows, Manifest, Snapshot

if TYPE_CHECKING:
    from tradebft.consensus.pbft.snapshots import Download

VIEW_TIMER, BATCH_TIMER, STATUS_TIMER = "view-change", "batch", "status"

REQUEST_BYTES: Final = 256  # a client's name, a sequence, a signature, and the room for them


class State:
    """All fields of a replica, in one place. *me* is its index; *signer* signs as *me*."""

    def __init__(self, me: int, config: Config, signer: Signer, keyring: Keyring) -> None:
        if me < 0:
            raise ValueError(f"replica index must be at least 0, got {me}")
        self.me, self.config, self.signer, self.base_keyring = me, config, signer, keyring
        # Who the members are (of the first epoch: 0 .. nodes-1), and what was agreed about it.
        self.committee = Committee(genesis(config.nodes), config.chain_id, keyring)
        self.pending: tuple[Change, ...] = ()
        self.epochs: list[EpochProof] = []  # the proofs of every change so far
        self.clients_told: dict[str, int] = {}  # the epoch of which a client was last told
        self.closing: EpochProof | None = None  # at the boundary, its certificate still to come
        self.ahead: dict[int, EpochProof] = {}  # at a restart: the epochs that were entered before it
        self.use_committee()
        # The view, and whether it is open: `voting_view` is None between my ViewChange and the NewView.
        self.view = 0
        self.changing = False
        self.voting_view: int | None = 0 if self.member else None
        self.primary = self.committee.primary(0)
        self.new_view: NewView | None = None
        self.view_changes = ViewChangeLog(self.committee)
        self.early = EarlyMessages(2 * config.log_window, 4 * _longest_batch(config))
        self.backoff = 0  # view changes since the last progress: the timer doubles with each
        self.watched: object = (
            None  # what the view-change timer waits for: a request's key, a seq, or NEW_VIEW
        )
        self.spared: object = None  # what it was set for a second time (`Changing._spares`)
        # The log between the watermarks h and h + L, and what proves h.
        self.low, self.high = 0, config.log_window
        self.stable: QuorumCertificate | None = None
        self.slots: dict[int, Slot] = {}
        self.top = 0  # the highest sequence that ever had a slot
        self.bodies = Bodies(self.faults + 2)
        self.checkpoints = CheckpointVotes(self.quorum)
        self.own_checkpoints: dict[int, Checkpoint] = {}
        # The order: handed to the application up to `executed`; the primary proposes `next_seq`.
        self.executed = 0
        self.next_seq = 1
        self.waiting = Waiting(config.max_requests_waiting)
        self.clients = ClientTable(config.client_window)
        self.handed_out: dict[int, tuple[Request, ...]] = {}  # with the application, not yet answered
        self.tables: dict[int, bytes] = {}  # digests of the client table at checkpoints to be voted on
        self.batch_timer = self.batch_due = False
        # Catching up.
        self.asking = False  # the status timer runs
        self.asked_at = 0  # when it was set
        self.dozes = False  # for longer than usual
        self.moved_ns = 0  # when this replica last came further (`Recovery.on_status_timer`)
        self.now = 0  # of the input that it is about
        self.asked_ns = -1  # when anybody last asked what it misses
        self.asked_in_vain = 0  # how many since the last progress
        self.accepted_ns: dict[int, int] = {}  # when each proposal that is not decided was accepted
        self.usual = RoundTrip()  # from acceptance to decision
        self.soonest_ns = 0  # the least that one of my own proposals took; 0: none did
        self.repeated_ns: dict[int, int] = {}  # when each peer was last sent one of them once more
        self.left_behind = False  # somebody is in a later view or beyond my window: ask once
        self.table_rows: dict[int, ExecutedRows] = {}  # the table itself, where a snapshot is taken
        self.manifests: dict[int, Manifest] = {}  # snapshots on the disk
        self.chunk_digests: dict[
            bytes, bytes
        ] = {}  # of the last snapshot's chunks, for those that stay as they are
        self.proofs: dict[int, QuorumCertificate] = {}  # and those that can be proven
        self.download: Download | None = None
        self.installing = False  # with the application
        self.heard_of = 0  # the highest sequence that was voted on beyond my window
        self.nonce = 0
        self.nonces: dict[int, int] = {}  # of each peer's last Status in this epoch
        self.nonces_elsewhere: dict[int, int] = {}  # and of those in others
        # What peers may ask for: a burst of what one catching up needs, then so much a view-change timeout.
        timeout = config.view_change_timeout_ns
        self.status_quota = Quota(32, timeout // 100)
        self.fetch_quota = Quota(2 * config.log_window, timeout // 100)
        self.chunk_quota = Quota(64, timeout // 1000)

    def use_committee(self) -> None:
        """Sizes and keys of the present members, at hand where votes are counted."""
        committee = self.committee
        self.quorum, self.faults, self.keyring = committee.quorum, committee.faults, committee.keyring
        self.prepares_needed = committee.quorum - 1
        self.members = committee.known
        self.member = self.me in self.members
        self.to = committee.indices if committee.epoch else None
        self.several_keys = self.config.rekeying or bool(committee.rekeyed)

    @property
    def retired(self) -> bool:
        """Whether this replica was a member, and is none any more."""
        earlier = (proof.standing.membership.members for proof in self.epochs)
        return not self.member and any(self.me == index for members in earlier for index, _ in members)

    def broadcast(self, message: Message) -> Broadcast:
        """*message* to every other member of this epoch."""
        return Broadcast(message, self.to)

    def move_window(self) -> None:
        """What may be voted on: up to L beyond the stable checkpoint, as far as the members are known there."""
        self.high = min(self.low, self.executed) + self.config.log_window
        if self.pending:
            self.high = min(self.high, self.pending[0].boundary)

    @property
    def is_primary(self) -> bool:
        """Whether this replica leads an open view."""
        return self.primary == self.me and not self.changing

    def slot(self, seq: int) -> Slot:
        """The slot of *seq*, opened if need be. Callers have checked the watermarks."""
        slot = self.slots.get(seq)
        if slot is None:
            slot = self.slots[seq] = Slot(seq)
            self.top = max(self.top, seq)
        return slot

    def unexecuted_slots(self) -> Iterator[Slot]:
        """Open slots above what was executed, lowest first: a few, where the whole log may be hundreds."""
        for seq in range(self.executed + 1, self.top + 1):
            slot = self.slots.get(seq)
            if slot is not None:
                yield slot

    def keep_body(self, slot: Slot, batch: Batch) -> None:
        """Remember *batch* for *slot*'s sequence, whatever view comes next."""
        certified = slot.prepared.pre_prepare.digest if slot.prepared is not None else None
        self.bodies.keep(slot.seq, batch, certified)

    def note_proposed(self, batch: Batch) -> None:
        """The requests of an accepted proposal count as proposed. A primary remembers them, also where it has them from
        an earlier view or from its disk: else it would propose them once more when their client asks again, and backups
        that have executed them by then would refuse the batch."""
        for request in batch.requests:
            if self.me == self.primary and not self.clients.executed(request.client, request.sequence):
                self.waiting.add(request)
            self.waiting.proposed(request)

    def batch_of(self, digest: bytes) -> Batch | None:
        """The batch of *digest*, if this replica holds it."""
        if digest == NULL_DIGEST:
            return NULL_BATCH
        return self.bodies.get(digest)

    if TYPE_CHECKING:  # what the parts ask of one another
        # replica
        def step(self, now: int, event: Any) -> Effects: ...
        def hand_out(self, decided: Decided) -> Committed: ...
        def propose(self, now: int) -> Effects: ...
        def prepare(self, slot: Slot) -> Effects: ...
        def advance(self, now: int, slot: Slot) -> Effects: ...
        def execute_in_order(self) -> list[Effect]: ...
        def stabilise(self, certificate: QuorumCertificate) -> Effects: ...
        def vote_checkpoint(self, now: int, event: Executed) -> Effects: ...

        # changing
        def watch(self) -> Effects: ...
        def progressed(self, executed_requests: bool) -> Effects: ...
        def pass_on(self) -> Effects: ...
        def enter(self, now: int, message: NewView) -> Effects: ...

        # epochs
        @property
        def standing(self) -> Standing: ...
        @property
        def filling(self) -> bool: ...
        def signed_by_member(self, message: object) -> bool: ...
        def agree(self, event: Executed) -> None: ...
        def closes_epoch(self, seq: int, state: bytes) -> None: ...
        def next_epoch(self, now: int) -> Effects: ...
        def enter_epoch(self, proof: EpochProof) -> list[Effect]: ...
        def follow(self, proof: EpochProof) -> None: ...
        def start_epoch(self) -> None: ...
        def told(self, client: str) -> Effects: ...
        def epochs_after(self, peer: Address, epoch: int) -> Effects: ...

        # snapshots
        def wants_snapshot(self, seq: int) -> bool: ...
        def state_digest(self, event: Executed) -> tuple[bytes, Effects]: ...
        def prove_snapshot(self, certificate: QuorumCertificate | None) -> Effects: ...
        @property
        def blocks_above(self) -> int: ...
        def snapshot_head(self) -> SnapshotHead | None: ...
        def ask_for_chunks_again(self) -> list[Effect]: ...
        def restore_snapshot(self, kept: Snapshot) -> None: ...

        # recovery
        def reenter_epoch(self) -> None: ...
        def took(self, now: int, seq: int) -> Effects: ...
        def fetch(self, seq: int, digest: bytes) -> Fetch: ...
        def ask_later(self) -> Effects: ...
        def ask_now(self) -> Effects: ...


def _longest_batch(config: Config) -> int:
    """Bytes that an honest batch may have: operations, and what each request has beside its operation."""
    return config.batch_bytes + REQUEST_BYTES * config.batch_size
