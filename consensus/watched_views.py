"""What must hold from view to view, seen from outside: votes, changes of view, and what they show (see `invariants`).

Names in brackets are those of the study of the protocol's invariants. Nothing here calls the replicas' own rules: who
leads a view, what a quorum is and what a certificate must contain are written down a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from tradebft.chain.crypto import Keyring, MemberId, QuorumCertificate, Rekeyed
from tradebft.consensus.interface import Config
from tradebft.consensus.membership import EPOCH_BITS, Membership, epoch_of, first_view
from tradebft.consensus.messages import (
    Commit,
    Message,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Status,
    ViewChange,
    authentic,
)

VIEW_NAMES: Final = (
    "prepared-unique",  # no two honest replicas hold prepared certificates for different batches at one (view, seq)
    "view-change-preserves",  # what an honest replica committed is what honest ones vote for in every later view
    "monotone",  # view, stable checkpoint and executions of an honest replica never fall, restarts included
    "certificate-well-formed",  # what honest ones show or act on: distinct members, their keys, a quorum, one thing
)
_IN_EPOCH: Final = (1 << EPOCH_BITS) - 1
_WINDOWS_KEPT: Final = 4

Report = Callable[[str, int, int, str], None]


class Members(NamedTuple):
    """Who counts in one epoch, in order; by which keys; and how many make a quorum."""

    membership: Membership
    order: tuple[int, ...]
    keyring: Keyring
    quorum: int

    def leader(self, view: int) -> int:
        """Who may propose in *view*."""
        return self.order[(view & _IN_EPOCH) % len(self.order)]


def members_of(membership: Membership, keyring: Keyring) -> Members:
    """The members of an epoch. *keyring*: as of genesis."""
    order = tuple(index for index, _ in membership.members)
    keys: dict[MemberId, bytes] = {index: key for index, key in membership.members if key}
    n = len(order)
    return Members(
        membership, order, Rekeyed(keyring, keys) if keys else keyring, (n + (n - 1) // 3 + 2) // 2
    )


class Views:
    """Watches what honest replicas broadcast. *epochs*: filled by whoever owns it, as replicas enter them."""

    def __init__(
        self, config: Config, honest: Collection[int], epochs: Mapping[int, Members], report: Report
    ) -> None:
        self._config, self._epochs, self._report = config, epochs, report
        self._view = dict.fromkeys(honest, 0)
        self._stable = dict.fromkeys(honest, 0)
        self._executed = dict.fromkeys(honest, 0)
        self._last_change: dict[int, bytes] = {}  # the signature of each one's latest ViewChange
        self._prepared: dict[tuple[int, int], bytes] = {}  # (view, seq) -> digest
        self._final: dict[
            int, tuple[int, bytes]
        ] = {}  # seq -> the earliest view known to have decided, digest
        # seq -> (view, digest) -> who voted for it, where a view change came before
        self._voted: dict[int, dict[tuple[int, bytes], int]] = {}

    def sent(self, now: int, replica: int, message: Message) -> None:
        """Honest *replica* broadcasts *message*."""
        kind = type(message)
        if kind is Prepare or kind is Commit or kind is PrePrepare:
            self._vote(now, replica, message)  # type: ignore[arg-type]
        elif kind is ViewChange:
            self._change(now, replica, message)  # type: ignore[arg-type]
        elif kind is NewView:
            self._open(now, replica, message)  # type: ignore[arg-type]
        elif kind is Status:
            self._standing(now, replica, message)  # type: ignore[arg-type]

    def opened(self, now: int, replica: int, message: NewView) -> None:
        """Honest *replica* acts on *message*, whoever sent it. [S13]"""
        if fault := self._fault_of_opening(message):
            what = f"believed a NewView of {message.view}: {fault}"
            self._report("certificate-well-formed", now, replica, what)

    def committed(self, now: int, seq: int, proof: QuorumCertificate) -> None:
        """An honest replica committed what *proof* is for. [S5]"""
        view, digest = proof.view, proof.digest
        known = self._final.get(seq)
        if known is not None and (view >= known[0] or digest != known[1]):
            return
        self._final[seq] = view, digest
        for (later, other), replica in self._voted.get(seq, {}).items():
            if later > view and other != digest:
                self._lost(now, replica, seq, later, other)

    def prune(self, seq: int) -> None:
        """Forget what is far below *seq*, the highest sequence that was committed."""
        floor = seq - _WINDOWS_KEPT * self._config.log_window
        self._prepared = {k: v for k, v in self._prepared.items() if k[1] > floor}
        self._final = {k: v for k, v in self._final.items() if k > floor}
        self._voted = {k: v for k, v in self._voted.items() if k > floor}

    # --- votes ---

    def _vote(self, now: int, replica: int, vote: Prepare | Commit | PrePrepare) -> None:
        view, seq, digest = vote.view, vote.seq, vote.digest
        if view != self._view[replica]:
            self._at_view(now, replica, view, f"{type(vote).__name__} for {seq}")
        self._preserves(now, replica, view, seq, digest)
        if type(vote) is Commit:
            self._prepares(now, replica, view, seq, digest)

    def _preserves(self, now: int, replica: int, view: int, seq: int, digest: bytes) -> None:
        final = self._final.get(seq)
        if final is not None and view > final[0] and digest != final[1]:
            self._lost(now, replica, seq, view, digest)
        if view & _IN_EPOCH:  # it may come out only later that an earlier view decided
            self._voted.setdefault(seq, {})[view, digest] = replica

    def _lost(self, now: int, replica: int, seq: int, view: int, digest: bytes) -> None:
        decided, final = self._final[seq]
        self._report(
            "view-change-preserves",
            now,
            replica,
            f"seq {seq}: votes for {digest.hex()[:16]} in view {view}; view {decided} decided {final.hex()[:16]}",
        )

    def _prepares(self, now: int, replica: int, view: int, seq: int, digest: bytes) -> None:
        """[S3] A Commit says that its sender holds a prepared certificate, and so does a ViewChange."""
        known = self._prepared.setdefault((view, seq), digest)
        if known != digest:
            what = f"prepared {digest.hex()[:16]}, others {known.hex()[:16]}"
            self._report("prepared-unique", now, replica, f"(view {view}, seq {seq}): {what}")

    # --- nothing falls [S11] ---

    def _at_view(self, now: int, replica: int, view: int, what: str) -> None:
        reached = self._view[replica]
        if view < reached:
            self._report("monotone", now, replica, f"{what} in view {view}, having been in {reached}")
        else:
            self._view[replica] = view

    def _at_stable(self, now: int, replica: int, seq: int) -> None:
        reached = self._stable[replica]
        if seq < reached:
            self._report("monotone", now, replica, f"stable checkpoint {seq}, having had {reached}")
        self._stable[replica] = max(seq, reached)

    def _standing(self, now: int, replica: int, status: Status) -> None:
        self._at_view(now, replica, status.view, "Status")
        self._at_stable(now, replica, status.stable)
        reached = self._executed[replica]
        if status.executed < reached:
            self._report("monotone", now, replica, f"executed {status.executed}, having executed {reached}")
        self._executed[replica] = max(status.executed, reached)

    # --- changes of view ---

    def _change(self, now: int, replica: int, change: ViewChange) -> None:
        self._at_view(now, replica, change.view, "ViewChange")
        if self._last_change.get(replica) == change.signature:
            return  # repeated as it was, because somebody may have missed it
        self._last_change[replica] = change.signature
        self._at_stable(now, replica, change.stable)
        for entry in change.prepared:
            proposal = entry.pre_prepare
            self._prepares(now, replica, proposal.view, proposal.seq, proposal.digest)
        if fault := self._fault_of_change(change):
            self._report("certificate-well-formed", now, replica, f"ViewChange to {change.view}: {fault}")

    def _open(self, now: int, replica: int, message: NewView) -> None:
        view = message.view
        self._at_view(now, replica, view, "NewView")
        for proposal in message.proposals:
            self._preserves(now, replica, view, proposal.seq, proposal.digest)
        # What was decided and is not in some stable checkpoint must be carried over.
        seq = max((change.stable for change in message.view_changes), default=0) + 1
        carried = {proposal.seq for proposal in message.proposals}
        while (final := self._final.get(seq)) is not None and final[0] < view:
            if seq not in carried:
                self._report(
                    "view-change-preserves",
                    now,
                    replica,
                    f"seq {seq}: view {final[0]} decided {final[1].hex()[:16]}, the NewView of {view} leaves it out",
                )
            seq += 1
        if fault := self._fault_of_opening(message):
            self._report("certificate-well-formed", now, replica, f"NewView of {view}: {fault}")

    # --- what they show [S13] ---

    def _fault_of_change(self, change: ViewChange) -> str | None:
        epoch = epoch_of(change.view)
        members = self._epochs.get(epoch)
        if members is None:
            return f"no honest replica has entered epoch {epoch}"
        if change.stable > members.membership.since:
            proof = change.checkpoint
            if proof is None:
                return f"nothing proves its stable checkpoint {change.stable}"
            if (proof.kind, proof.view, proof.seq) != ("Checkpoint", first_view(epoch), change.stable):
                return f"its checkpoint certificate is not for {change.stable}"
            if not self._holds(proof, members, members.quorum):
                return f"its checkpoint certificate for {change.stable} does not hold"
        seqs = [entry.pre_prepare.seq for entry in change.prepared]
        if any(seq <= change.stable for seq in seqs) or len(set(seqs)) != len(seqs):
            return f"it shows as prepared above {change.stable}: {seqs}"
        # Signatures are the expensive part: the outermost certificates stand for the others.
        for entry in change.prepared[:1] + change.prepared[1:][-1:]:
            if fault := self._fault_of_prepared(entry, change.view, members):
                return f"prepared certificate for {entry.pre_prepare.seq}: {fault}"
        return None

    def _fault_of_prepared(self, entry: Prepared, before: int, members: Members) -> str | None:
        proposal, votes = entry.pre_prepare, entry.prepares
        view, leader = proposal.view, members.leader(proposal.view)
        if not first_view(epoch_of(before)) <= view < before:
            return f"of view {view}"
        if (votes.kind, votes.view, votes.seq, votes.digest) != (
            "Prepare",
            view,
            proposal.seq,
            proposal.digest,
        ):
            return "its Prepares are for something else"
        if proposal.replica != leader or not authentic(proposal, self._config.chain_id, members.keyring):
            return f"its proposal is not signed by {leader}, who leads view {view}"
        if any(voter == leader for voter, _ in votes.votes):
            return f"it counts a Prepare of {leader}, who leads view {view}"
        if not self._holds(votes, members, members.quorum - 1):
            return f"it lacks {members.quorum - 1} Prepares of distinct members"
        return None

    def _fault_of_opening(self, message: NewView) -> str | None:
        epoch = epoch_of(message.view)
        members = self._epochs.get(epoch)
        if members is None:
            return f"no honest replica has entered epoch {epoch}"
        if message.replica != members.leader(message.view):
            return f"{message.replica} does not lead it"
        senders = [change.replica for change in message.view_changes]
        distinct = set(senders)
        if len(distinct) != len(senders) or len(senders) < members.quorum or not distinct <= {*members.order}:
            return f"it rests on ViewChanges of {senders}"
        for change in message.view_changes:
            if change.view != message.view or not authentic(change, self._config.chain_id, members.keyring):
                return f"the ViewChange of {change.replica} is for another view, or not signed"
        return None

    def _holds(self, proof: QuorumCertificate, members: Members, needed: int) -> bool:
        return all(voter in members.order for voter, _ in proof.votes) and proof.valid(
            self._config.chain_id, members.keyring, needed
        )
