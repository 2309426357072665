"""Changes of the members: from the application's word to the first view of the next epoch (see `membership`).

Once a change is agreed the watermark does not go beyond its boundary, and the primary fills the way there with null
batches, so that an idle network gets there too. When the boundary's checkpoint is stable, its certificate proves to
everybody who follows; the new epoch begins with an empty log, in its first view, under the keys that were agreed.
"""

from __future__ import annotations

from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import (
    NOTHING,
    Address,
    CancelTimer,
    Effect,
    Effects,
    Evidence,
    Executed,
    Ignored,
    Persist,
    Send,
)
from tradebft.consensus.membership import (
    Committee,
    EpochProof,
    Standing,
    epoch_of,
    first_view,
    plausible,
    scheduled,
)
from tradebft.consensus.messages import EpochChange, authentic
from tradebft.consensus.pbft.bodies import Bodies
from tradebft.consensus.pbft.checkpoint import CheckpointVotes
from tradebft.consensus.pbft.state import BATCH_TIMER, VIEW_TIMER, State
from tradebft.consensus.pbft.view_change import ViewChangeLog


class Epochs(State):
    """When a change of members takes effect, and how a replica that missed it learns of it."""

    @property
    def standing(self) -> Standing:
        """Who the members are and what was agreed about it, as of the last execution."""
        return Standing(self.committee.membership, self.pending)

    @property
    def filling(self) -> bool:
        """Whether there is a boundary ahead that null batches may lead to."""
        return bool(self.pending) and self.next_seq <= self.pending[0].boundary

    def signed_by_member(self, message: object) -> bool:
        """Whether *message* bears the key that its sender has in this epoch (or is about another one). A key that is
        announced and not in use yet is as worthless as one that is over: no certificate with it would hold."""
        view = getattr(message, "view", None)
        epoch = getattr(message, "epoch", None) if view is None else epoch_of(view)
        if epoch != self.committee.epoch or getattr(message, "replica", None) not in self.committee:
            return True
        return authentic(message, self.config.chain_id, self.committee.keyring)  # type: ignore[arg-type]

    # --- agreeing ---

    def agree(self, event: Executed) -> None:
        """A batch decided who the replicas shall be."""
        members = event.members
        if members is None or not plausible(members):
            return
        target = self.pending[-1].members if self.pending else self.committee.membership.members
        if members != target:
            config = self.config
            self.pending = scheduled(
                self.pending, event.seq, members, config.checkpoint_interval, config.log_window
            )
            self.move_window()

    # --- the boundary ---

    def closes_epoch(self, seq: int, state: bytes) -> None:
        """This replica stands at the boundary: *state* is what its checkpoint is about."""
        if self.pending and seq == self.pending[0].boundary:
            self.closing = EpochProof(
                QuorumCertificate("Checkpoint", first_view(self.committee.epoch), seq, state, ()),
                state,
                self.standing,
            )

    def next_epoch(self, now: int) -> Effects:
        """Enter the next epoch if this one is over here: executed to the boundary, and its checkpoint stable."""
        if self.closing is None or self.stable is None or self.stable.seq != self.closing.certificate.seq:
            return NOTHING
        proof = EpochProof(self.stable, self.closing.state, self.closing.standing)
        if proof.certificate.digest != proof.standing.binds(proof.state):
            return NOTHING  # a quorum stands elsewhere: nothing of mine is worth going on from
        return [Persist(proof), *self.enter_epoch(proof), *self._release(now), *self.propose(now)]

    def enter_epoch(self, proof: EpochProof) -> list[Effect]:
        """The first view of the epoch that *proof* leads to, with an empty log."""
        effects: list[Effect] = []
        if self.watched is not None:
            effects.append(CancelTimer(VIEW_TIMER))
        if self.batch_timer:
            effects.append(CancelTimer(BATCH_TIMER))
        self.follow(proof)
        self.pending = proof.standing.pending[1:]
        self.start_epoch()
        return [*effects, *self.pass_on(), *self.watch()]

    def follow(self, proof: EpochProof) -> None:
        """The next committee; what its members may do here comes with `start_epoch`."""
        self.epochs.append(proof)
        self.committee = Committee(proof.standing.next, self.config.chain_id, self.base_keyring)

    def start_epoch(self) -> None:
        """Everything that depends on who the members are, as it is at an epoch's beginning."""
        committee = self.committee
        self.use_committee()
        self.view, self.changing, self.backoff = first_view(committee.epoch), False, 0
        self.moved_ns = self.now
        self.voting_view = self.view if self.member else None
        self.primary = committee.primary(self.view)
        self.new_view, self.closing = None, None
        self.view_changes = ViewChangeLog(committee)
        self.checkpoints = CheckpointVotes(committee.quorum, view=self.view)
        self.own_checkpoints.clear()
        self.watched, self.batch_timer, self.batch_due = None, False, False
        self.left_behind = False
        self.slots, self.bodies = {}, Bodies(committee.faults + 2)
        self.nonces = {}
        self.accepted_ns = {}
        self.next_seq = self.low + 1
        self.waiting.renew()
        self.move_window()
        self._take_key()

    def _take_key(self) -> None:
        if not self.member:
            return
        key = self.committee.keyring.public_key(self.me)
        if key != self.signer.public_key:
            successor = self.signer.with_key(key) if hasattr(self.signer, "with_key") else None
            if successor is None:
                self.voting_view = None  # without the new key nobody would believe its votes
            else:
                self.signer = successor

    def _release(self, now: int) -> list[Effect]:
        effects: list[Effect] = []
        for held in self.early.release(self.view):
            effects += self.step(now, held)
        return effects

    # --- whoever missed it ---

    def told(self, client: str) -> Effects:
        """Before its first answer in an epoch: who the members are now."""
        epoch = self.committee.epoch
        if self.clients_told.get(client, 0) == epoch:
            return NOTHING
        self.clients_told[client] = epoch
        return self.epochs_after(client, 0)

    def epochs_after(self, peer: Address, epoch: int) -> Effects:
        """What leads *peer* from its epoch to this one."""
        proofs = tuple(self.epochs[epoch:])
        if epoch < 0 or not proofs:
            return NOTHING
        bare = EpochChange(proofs, self.me)
        return (
            Send(peer, EpochChange(proofs, self.me, self.signer.sign(bare.payload(self.config.chain_id)))),
        )

    def on_epoch_change(self, now: int, message: EpochChange) -> Effects:
        """A peer is in a later epoch: what ends mine is believed if my epoch's members signed it."""
        mine = [p for p in message.proofs if p.standing.membership.epoch == self.committee.epoch]
        if not mine:
            return (Ignored("an epoch that this replica has left"),)
        proof = mine[0]
        if self.committee.followed_by(proof, self.base_keyring) is None:
            return (
                Evidence(
                    message.replica, f"showed an end of epoch {self.committee.epoch} that nothing proves"
                ),
            )
        effects = [*self.stabilise(proof.certificate), *self.next_epoch(now)]
        return effects or (Ignored("nothing in it that this replica lacked"),)
