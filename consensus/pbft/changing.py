"""The flow of a view change (OSDI 1999, sections 4.4 and 4.5.2): when to leave a view, and how to enter the next.

One timer, named "view-change". In an open view it watches the oldest thing that waits at a backup; after a
ViewChange it starts once q replicas ask for the same view, and doubles each time until requests execute again.
"""

from __future__ import annotations

from typing import Final

from tradebft.chain.crypto import vote_payload
from tradebft.consensus.interface import (
    NOTHING,
    CancelTimer,
    Effect,
    Effects,
    Evidence,
    Ignored,
    Persist,
    Send,
    SetTimer,
)
from tradebft.consensus.membership import epoch_of
from tradebft.consensus.messages import NewView, Prepared, PrePrepare, ViewChange
from tradebft.consensus.pbft.state import BATCH_TIMER, VIEW_TIMER, State
from tradebft.consensus.pbft.view_change import fault_of_new_view, fault_of_view_change, proposals

NEW_VIEW: Final = "new view"
BACKOFF_MAX: Final = 20  # the timer doubles at most this often: about twelve days from a second


class Changing(State):
    """When to suspect a primary, and how the next one takes over."""

    # --- suspicion: one timer for the oldest request (4.5.2) ---

    def watch(self) -> Effects:
        """Start the timer if something waits and it does not run."""
        if self.watched is not None or self.primary == self.me or self.changing or not self.member:
            return NOTHING
        self.watched = self._oldest()
        if self.watched is None:
            return NOTHING
        return [SetTimer(VIEW_TIMER, self.config.view_change_timeout_ns), *self.ask_later()]

    def pass_on(self) -> Effects:
        """A batch of what waited here before this view goes to its primary: it may never have heard of it (4.5.2)."""
        if self.changing or self.primary == self.me:
            return NOTHING
        return [Send(self.primary, request) for request in self.waiting.pass_on(self.config.batch_size)]

    def progressed(self, executed_requests: bool) -> Effects:
        """Something was executed: the primary has time for more that it may not know of, and the timer moves."""
        if executed_requests:
            self.backoff = 0
        moved = self._move_timer(executed_requests)
        return [*self.pass_on(), *moved] if self.waiting.untold else moved

    def _move_timer(self, executed_requests: bool) -> Effects:
        """The timer goes on for what it watches, moves to the next, or stops."""
        watched = self.watched
        if watched is None:
            return NOTHING
        if self.changing or (watched is NEW_VIEW and not executed_requests and self._oldest() is not None):
            return NOTHING
        if (isinstance(watched, int) and watched > self.executed) or watched in self.waiting:
            return NOTHING
        self.watched = self._oldest()
        if self.watched is None:
            return (CancelTimer(VIEW_TIMER),)
        return (SetTimer(VIEW_TIMER, self.config.view_change_timeout_ns),)

    def _oldest(self) -> object:
        """The oldest waiting request, else the lowest accepted proposal that is not executed, else None."""
        oldest = self.waiting.oldest
        if oldest is not None:
            return oldest
        proposed = next((slot.seq for slot in self.unexecuted_slots() if slot.digest is not None), None)
        if proposed is None and self.pending and self.executed < self.pending[0].boundary:
            return (
                self.executed + 1
            )  # a change of members waits for the boundary: the primary must lead there
        return proposed

    def on_view_timer(self, now: int) -> Effects:
        """What was watched was not executed in time: the primary is suspected.

        Not by whoever has not executed yet what a quorum has, for that says nothing about the primary: f+1 honest
        replicas are level with every stable checkpoint, and whoever is behind follows them if they leave the view. Left
        alone, it would be of no use in this one.
        """
        if not self.changing and (self.executed < self.low or self._spares()):
            return (SetTimer(VIEW_TIMER, self.config.view_change_timeout_ns),)
        self.watched = None
        return self.start_view_change(now, self.view + 1)

    def _spares(self) -> bool:
        """Whether the primary gets a second timeout, for it has done its part: f+1 members commit what comes next here,
        and the honest one among them has the votes of a quorum for it. What is missing was lost or is slow on its way.

        Once for whatever is watched. Else a primary could keep each of them one batch behind the others, every one at
        another sequence, and starve a client all the while.
        """
        slot = self.slots.get(self.executed + 1)
        if self.spared == self.watched or slot is None or not slot.committed_by(self.faults + 1):
            return False
        self.spared = self.watched
        return True

    # --- leaving a view (4.4) ---

    def start_view_change(self, now: int, view: int) -> Effects:
        """Ask for *view*: accept no normal-case message below it, and show what was prepared."""
        assert view > self.view, (view, self.view)
        self.view, self.changing, self.voting_view = view, True, None
        self.moved_ns = now
        self.primary = self.committee.primary(view)
        effects: list[Effect] = []
        if self.watched is not None:
            effects.append(CancelTimer(VIEW_TIMER))
        if self.batch_timer:
            effects.append(CancelTimer(BATCH_TIMER))
        self.watched, self.batch_timer, self.batch_due = None, False, False
        change = self._own_view_change()
        effects += (Persist(change), self.broadcast(change), *self.ask_later())
        return [*effects, *self._count(now, change)]

    def _own_view_change(self) -> ViewChange:
        prepared: tuple[Prepared, ...] = tuple(
            slot.prepared
            for seq, slot in sorted(self.slots.items())
            if slot.prepared is not None and seq > self.low
        )
        # Where an epoch began needs no proof among its members.
        proof = self.stable if self.low > self.committee.membership.since else None
        unsigned = ViewChange(self.view, self.low, proof, prepared, self.me)
        signature = self.signer.sign(unsigned.payload(self.config.chain_id))
        return ViewChange(self.view, self.low, proof, prepared, self.me, signature)

    def on_view_change(self, now: int, change: ViewChange) -> Effects:
        """A peer asks for a view. Valid ones count towards the f+1 that are joined and the q that decide."""
        if change.view < self.view or (change.view == self.view and not self.changing):
            return (Ignored("ViewChange for a view that is over or open"),)
        if not self.member or epoch_of(change.view) != self.committee.epoch:
            return self._elsewhere(change.view)
        if change.replica not in self.members:
            return (Ignored("ViewChange by no member"),)
        if self.view_changes.newer_than(change.view - 1, change.replica):
            return (Ignored("ViewChange seen before"),)
        if fault := fault_of_view_change(change, self.config, self.committee):
            return (Evidence(change.replica, f"sent an invalid ViewChange: {fault}"),)
        return self._count(now, change)

    def _elsewhere(self, view: int) -> Effects:
        """A change of view of an epoch that this replica is not in, or not a member of."""
        later = epoch_of(view) > self.committee.epoch
        self.left_behind = self.left_behind or later
        return [Ignored("a change of view of another epoch"), *(self.ask_later() if later else NOTHING)]

    def _count(self, now: int, change: ViewChange) -> Effects:
        self.view_changes.add(change)
        joined = self.view_changes.to_join(self.view, self.me)
        if joined is not None:
            return self.start_view_change(now, joined)
        if not self.changing or change.view < self.view:
            return NOTHING
        quorum = self.view_changes.quorum(self.view, self.me)
        if quorum is not None and self.primary == self.me:
            return self._open_view(now, quorum)
        # Whoever asks for more has asked for this view too, though that may have been lost: else one part of the
        # network could wait in a view for the other, which has gone on, and neither be f+1.
        if self.watched is not None or self.view_changes.at_least(self.view) < self.quorum:
            return self.ask_later()
        self.watched = NEW_VIEW
        return (SetTimer(VIEW_TIMER, self._next_timeout()),)

    def _next_timeout(self) -> int:
        """T, 2T, 4T, ... until requests are executed again."""
        timeout = self.config.view_change_timeout_ns << self.backoff
        self.backoff = min(self.backoff + 1, BACKOFF_MAX)
        return timeout

    # --- entering a view ---

    def _open_view(self, now: int, quorum: tuple[ViewChange, ...]) -> Effects:
        """The new primary shows q ViewChanges, proposes what follows from them, and then what waits."""
        _, expected = proposals(quorum)
        signed = []
        for seq, digest in expected:
            signature = self.signer.sign(
                vote_payload(self.config.chain_id, "PrePrepare", self.view, seq, digest)
            )
            signed.append(PrePrepare(self.view, seq, digest, self.me, None, signature))
        unsigned = NewView(self.view, quorum, tuple(signed), self.me)
        signature = self.signer.sign(unsigned.payload(self.config.chain_id))
        message = NewView(self.view, quorum, tuple(signed), self.me, signature)
        return [
            Persist(message),
            self.broadcast(message),
            *self.enter(now, message),
            *self.next_epoch(now),
            *self.propose(now),
        ]

    def on_new_view(self, now: int, message: NewView) -> Effects:
        """A new primary opens its view: accepted only if its proposals are the ones I compute myself."""
        if message.view < self.view or (message.view == self.view and not self.changing):
            return (Ignored("NewView for a view that is over or open"),)
        if not self.member or epoch_of(message.view) != self.committee.epoch:
            return self._elsewhere(message.view)
        if fault := fault_of_new_view(message, self.config, self.committee, self.view_changes.knows):
            return (Evidence(message.replica, f"sent an invalid NewView: {fault}"),)
        return [Persist(message), *self.enter(now, message), *self.next_epoch(now)]

    def enter(self, now: int, message: NewView) -> Effects:
        """Open the view: vote for every proposal that it carries over, fetch what is missing, go on."""
        low, carried = proposals(message.view_changes)
        timing = self.watched is NEW_VIEW and self.view == message.view
        effects: list[Effect] = [] if timing or self.watched is None else [CancelTimer(VIEW_TIMER)]
        self.view, self.changing, self.voting_view = message.view, False, message.view
        self.moved_ns = now
        self.primary, self.new_view = message.replica, message
        self.left_behind = False
        self.watched, self.spared = NEW_VIEW if timing else None, None
        for slot in self.slots.values():
            slot.next_view()
        effects += self._adopt_checkpoint(message, low)
        self.next_seq = max(
            [self.low + 1, self.executed + 1 if not carried else 0, *(seq + 1 for seq, _ in carried)]
        )
        self.waiting.renew()
        for proposal in message.proposals:
            if proposal.seq > self.low:
                effects += self._carry_over(now, proposal)
        effects += self._settle_timer()
        if self.dozes:
            effects += self.ask_later()
        effects += self.pass_on()
        for held in self.early.release(self.view):
            effects += self.step(now, held)
        return effects

    def _adopt_checkpoint(self, message: NewView, low: int) -> Effects:
        if low <= self.low:
            return NOTHING
        proof = next(change.checkpoint for change in message.view_changes if change.stable == low)
        assert proof is not None
        return self.stabilise(proof)

    def _carry_over(self, now: int, proposal: PrePrepare) -> Effects:
        """One proposal of the NewView. Executed entries are voted on again, not executed again."""
        slot = self.slot(proposal.seq)
        batch = self.batch_of(proposal.digest)
        if batch is None and slot.decided is not None and slot.decided.batch.digest == proposal.digest:
            batch = slot.decided.batch
        slot.accept(proposal, batch)
        effects: list[Effect] = []
        if batch is None:
            effects.append(self.broadcast(self.fetch(proposal.seq, proposal.digest)))
        else:
            self.keep_body(slot, batch)
            self.note_proposed(batch)
        if self.me != self.primary:
            effects += self.prepare(slot)
        return [*effects, *self.advance(now, slot)]

    def _settle_timer(self) -> Effects:
        """In the new view the timer runs on while anything waits, and starts if it did not run."""
        if self.me == self.primary or self._oldest() is None:
            stop: Effects = (CancelTimer(VIEW_TIMER),) if self.watched is not None else NOTHING
            self.watched = None
            return stop
        if self.watched is not None:
            return NOTHING
        self.watched = NEW_VIEW
        timeout = self.config.view_change_timeout_ns << max(0, self.backoff - 1)
        return [SetTimer(VIEW_TIMER, timeout), *self.ask_later()]
