"""PBFT's normal case as a pure state machine (Castro and Liskov, OSDI 1999, sections 4.2 and 4.3).

``step`` is one table from input type to handler. Every *expected* refusal is returned as ``Ignored``; misbehaviour of
a peer is ``Evidence``; what cannot be is an assertion. The view change is in `changing`, catching up in `recovery`;
both are parts of this one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tradebft.chain.crypto import Keyring, QuorumCertificate, Signer, vote_payload
from tradebft.consensus.interface import (
    NOTHING,
    CancelTimer,
    Committed,
    Config,
    Effect,
    Effects,
    Evidence,
    Executed,
    Idle,
    Ignored,
    Installed,
    Persist,
    Send,
    SetTimer,
    Start,
    TimerFired,
)
from tradebft.consensus.membership import epoch_of
from tradebft.consensus.messages import (
    NULL_BATCH,
    Batch,
    Checkpoint,
    Chunk,
    Commit,
    Decided,
    EpochChange,
    Fetch,
    FetchChunk,
    FetchReply,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Reply,
    Request,
    SnapshotHead,
    Status,
    ViewChange,
    authentic,
    reply_payload,
)
from tradebft.consensus.pbft.changing import Changing
from tradebft.consensus.pbft.client_table import digest_of_executed
from tradebft.consensus.pbft.epochs import Epochs
from tradebft.consensus.pbft.looking import checks_inside
from tradebft.consensus.pbft.recovery import Recovery
from tradebft.consensus.pbft.slots import Slot
from tradebft.consensus.pbft.snapshots import Snapshots

VIEW_TIMER, BATCH_TIMER, STATUS_TIMER = "view-change", "batch", "status"
_OLD_VOTE: Effects = (Ignored("vote at or below the low watermark"),)
_SECOND_COPY: Effects = (Ignored("vote seen before"),)
_NO_MEMBER: Effects = (Ignored("vote by no member"),)
_NOT_ASKED: Effects = (Ignored("vote on which this replica has no say"),)
_BY_PRIMARY: Effects = (Ignored("Prepare by the primary of its view"),)


class Replica(Changing, Recovery, Snapshots, Epochs):
    """One PBFT replica. *me* is its index; all replicas share *config*; *signer* signs as *me*."""

    def __init__(self, me: int, config: Config, signer: Signer, keyring: Keyring) -> None:
        super().__init__(me, config, signer, keyring)
        self._handlers: dict[type, Callable[[int, Any], Effects]] = {
            Prepare: self._on_prepare,
            Commit: self._on_commit,
            PrePrepare: self._on_pre_prepare,
            Request: self._on_request,
            Checkpoint: self._on_checkpoint,
            Executed: self._on_executed,
            TimerFired: self._on_timer,
            ViewChange: self.on_view_change,
            NewView: self.on_new_view,
            Status: self.on_status,
            Fetch: self.on_fetch,
            FetchReply: self.on_fetch_reply,
            SnapshotHead: self.on_snapshot_head,
            FetchChunk: self.on_fetch_chunk,
            Chunk: self.on_chunk,
            Installed: self.on_installed,
            EpochChange: self.on_epoch_change,
            Start: self.on_start,
            Idle: lambda now, event: self.ask_now(),
        }

    def step(self, now: int, event: Any) -> Effects:
        """Take one input at time *now* (ns) and return what is to be done, in order."""
        self.now = now
        handler = self._handlers.get(type(event))
        if handler is None:
            if isinstance(event, Reply):
                return (Ignored("a reply, sent to a replica"),)
            raise ValueError(f"not an input of a replica: {type(event).__name__}")
        if self.several_keys and not self.signed_by_member(event):
            return (Ignored("signed with a key that is not in use"),)
        return handler(now, event)

    def checks_inside(self, message: Message) -> int | None:
        """How many signatures it checks inside *message* if it comes to it now; None: whatever is in it."""
        return checks_inside(self, message)

    @property
    def is_primary(self) -> bool:
        """Whether this replica leads an open view."""
        return self.primary == self.me and not self.changing

    # --- requests and proposals (4.2, first paragraph) ---

    def _on_request(self, now: int, request: Request) -> Effects:
        key = request.key
        if self.clients.executed(*key):
            kept = self.clients.reply(*key)
            if kept is None:
                return (Ignored("request in execution, or executed so long ago that its reply is gone"),)
            return (*self.told(request.client), Send(request.client, self._reply(request, *kept)))
        if not self.clients.acceptable(*key):
            return (Ignored("request beyond its client's window"),)
        if not self.waiting.add(request):
            return (Ignored("request known or no room for it"),)
        if self.is_primary:
            return self.propose(now)
        # A client may know an old primary only, or fear it: whoever hears of a request first passes it on.
        relay: list[Effect] = [*self.ask_later()] if self.changing else [Send(self.primary, request)]
        return [*relay, *self.watch()]

    def propose(self, now: int) -> Effects:
        """Close as many batches as size, time, window and watermark allow."""
        effects: list[Effect] = []
        config, waiting = self.config, self.waiting
        while waiting.fresh and self._may_propose():
            full = waiting.fresh >= config.batch_size or waiting.fresh_bytes >= config.batch_bytes
            if not full and config.batch_timeout_ns and not self.batch_due:
                if not self.batch_timer:
                    self.batch_timer = True
                    effects.append(SetTimer(BATCH_TIMER, config.batch_timeout_ns))
                break
            self.batch_due = False
            if self.batch_timer:
                self.batch_timer = False
                effects.append(CancelTimer(BATCH_TIMER))
            batch = Batch(now, tuple(waiting.take(config.batch_size, config.batch_bytes)))
            effects += self._propose_batch(now, batch)
        while self.pending and not waiting.fresh and self.filling and self._may_propose():
            effects += self._propose_batch(now, NULL_BATCH)
        return effects

    def _propose_batch(self, now: int, batch: Batch) -> Effects:
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        signature = self.signer.sign(
            vote_payload(self.config.chain_id, "PrePrepare", self.view, seq, batch.digest)
        )
        proposal = PrePrepare(self.view, seq, batch.digest, self.me, batch, signature)
        slot = self.slot(seq)
        slot.accept(proposal, batch)
        self.learnt(seq)
        self.keep_body(slot, batch)
        self.accepted_ns[seq] = now
        return [Persist(proposal), self.broadcast(proposal), *self.ask_later(), *self.advance(now, slot)]

    def _may_propose(self) -> bool:
        return (
            self.is_primary
            and self.next_seq <= self.high
            and self.next_seq - self.executed <= self.config.window
            and self.caught_up
        )

    # --- the three phases (4.2) ---

    def _on_pre_prepare(self, now: int, proposal: PrePrepare) -> Effects:
        if proposal.view != self.voting_view or not self.low < proposal.seq <= self.high:
            return self._misfit(proposal)
        if proposal.replica != self.primary:
            return (Evidence(proposal.replica, f"proposed in view {proposal.view} without leading it"),)
        slot = self.slot(proposal.seq)
        if slot.digest is not None:
            if slot.digest == proposal.digest:
                return (Ignored("proposal seen before"),)
            return (Evidence(proposal.replica, f"proposed two batches for {_at(proposal)}"),)
        if slot.decided is not None and slot.decided.batch.digest != proposal.digest:
            return (Evidence(proposal.replica, f"proposed another batch for the decided {proposal.seq}"),)
        batch = proposal.batch
        if batch is None:
            return (Ignored("proposal without a batch"),)
        if fault := self._fault_of_batch(now, batch, proposal.digest):
            return (Ignored(fault),)
        slot.accept(proposal, batch)
        self.learnt(proposal.seq)
        self.keep_body(slot, batch)
        self.accepted_ns[proposal.seq] = now
        self.note_proposed(batch)
        return [Persist(proposal), *self.prepare(slot), *self.watch(), *self.advance(now, slot)]

    def _fault_of_batch(self, now: int, batch: Batch, claimed: bytes) -> str | None:
        """Why an honest backup does not vote for *batch*, or None."""
        config = self.config
        if batch.digest != claimed:
            return "proposal whose digest is not its batch's"
        if not batch.requests and self.pending:
            return None  # on the way to the boundary
        if not 1 <= len(batch.requests) <= config.batch_size:
            return "proposal with an empty or oversized batch"
        if sum(len(r.operation) for r in batch.requests) > config.batch_bytes and len(batch.requests) > 1:
            return "proposal with an empty or oversized batch"
        if not 0 <= batch.timestamp_ns <= now + config.max_clock_skew_ns:
            return "proposal from the future"
        for request in batch.requests:
            if self.clients.executed(request.client, request.sequence):
                return "proposal with a request that was executed"
            if not authentic(request, config.chain_id, self.keyring):
                return "proposal with a request that its client did not sign"
        if len({request.key for request in batch.requests}) != len(batch.requests):
            return "proposal that names a request twice"
        return None

    def prepare(self, slot: Slot) -> Effects:
        """Vote for the accepted proposal. The primary's proposal is its vote; it sends no Prepare."""
        assert slot.digest is not None
        signature = self.signer.sign(
            vote_payload(self.config.chain_id, "Prepare", self.view, slot.seq, slot.digest)
        )
        vote = Prepare(self.view, slot.seq, slot.digest, self.me, signature)
        slot.prepare_count += self.me not in slot.prepares  # it may have come back to me after a restart
        slot.prepares[self.me] = vote
        return (self.broadcast(vote),)

    def _on_prepare(self, now: int, vote: Prepare) -> Effects:
        if vote.view != self.voting_view or not self.low < vote.seq <= self.high:
            return self._misfit(vote)
        if vote.replica not in self.members:
            return _NO_MEMBER
        if vote.replica == self.primary:
            return _BY_PRIMARY
        slot = self.slots.get(vote.seq)
        if slot is None:
            slot = self.slot(vote.seq)
        elif slot.closed:
            return NOTHING
        if vote.replica in slot.prepares:
            return self._second_vote(slot.prepares[vote.replica], vote)
        slot.prepares[vote.replica] = vote
        if vote.seq == self.executed + 1:  # `learnt`, without the call: votes are most of all inputs
            self.moved_ns = now
        if vote.digest != slot.digest:
            # Early, or for another batch: kept, counted if its proposal is accepted.
            return self.ask_later() if len(slot.prepares) > self.faults else NOTHING
        slot.prepare_count += 1
        if slot.prepare_count != self.prepares_needed:
            return NOTHING
        return self._go_on(now, slot)

    def _on_commit(self, now: int, vote: Commit) -> Effects:
        if vote.view != self.voting_view or not self.low < vote.seq <= self.high:
            return self._misfit(vote)
        if vote.replica not in self.members:
            return _NO_MEMBER
        slot = self.slots.get(vote.seq)
        if slot is None:
            slot = self.slot(vote.seq)
        elif slot.closed:
            return NOTHING
        if vote.replica in slot.commits:
            return self._second_vote(slot.commits[vote.replica], vote)
        slot.commits[vote.replica] = vote
        if vote.seq == self.executed + 1:  # as for a Prepare
            self.moved_ns = now
        if vote.digest != slot.digest:
            # Others commit what this replica was never shown: a lost proposal. Ask, if it does not come by itself.
            return self.ask_later() if len(slot.commits) > self.faults else NOTHING
        slot.commit_count += 1
        if slot.commit_count < self.quorum or slot.decided is not None:
            return NOTHING
        return self._go_on(now, slot)

    def _go_on(self, now: int, slot: Slot) -> Effects:
        """A quorum of votes is complete. Where that led to an execution, a primary that its window held back proposes:
        after a Prepare as well, if the Commits were there before it."""
        done = self.advance(now, slot)
        return [*done, *self.propose(now)] if done and self.is_primary else done

    def advance(self, now: int, slot: Slot) -> Effects:
        """Everything that the votes gathered so far allow at *slot*."""
        effects: list[Effect] = []
        if slot.digest is None:
            return effects
        if not slot.prepared_now and slot.prepare_count >= self.prepares_needed:
            slot.prepared_now = True
            slot.prepared = slot.prepared_certificate(self.prepares_needed)
            signature = self.signer.sign(
                vote_payload(self.config.chain_id, "Commit", self.view, slot.seq, slot.digest)
            )
            vote = Commit(self.view, slot.seq, slot.digest, self.me, signature)
            slot.commit_count += self.me not in slot.commits
            slot.commits[self.me] = vote
            effects += (Persist(slot.prepared), self.broadcast(vote))
        if (
            slot.prepared_now
            and slot.decided is None
            and slot.batch is not None
            and slot.commit_count >= self.quorum
        ):
            slot.decide(Decided(slot.seq, slot.batch, slot.commit_certificate(self.quorum)))
            effects += self.execute_in_order()
            effects += self.took(now, slot.seq)
        slot.close_if_done()
        return effects

    # --- execution, replies, checkpoints (4.2 last paragraph, 4.3) ---

    def execute_in_order(self) -> list[Effect]:
        """Hand every decided batch that is next in the order to the application."""
        effects: list[Effect] = []
        progress = False
        while (slot := self.slots.get(self.executed + 1)) is not None and slot.decided is not None:
            if self.installing:
                break
            effects.append(self.hand_out(slot.decided))
            progress = progress or bool(slot.decided.batch.requests)
        if effects:
            effects += self.progressed(progress)
        return effects

    def hand_out(self, decided: Decided) -> Committed:
        """The next batch in the order goes to the application; requests that it repeats are left out."""
        assert decided.seq == self.executed + 1, (decided.seq, self.executed)
        self.executed, self.moved_ns = decided.seq, self.now
        if self.executed <= self.low:
            self.move_window()
        fresh = []
        for request in decided.batch.requests:
            if not self.clients.executed(request.client, request.sequence):
                self.clients.mark(request.client, request.sequence)
                fresh.append(request)
            self.waiting.done(request)
        self.handed_out[decided.seq] = tuple(fresh)
        snapshot = self.wants_snapshot(decided.seq)
        if decided.seq % self.config.checkpoint_interval == 0:
            rows = self.clients.executed_rows()
            self.tables[decided.seq] = digest_of_executed(rows)
            if snapshot:
                self.table_rows[decided.seq] = rows
        return Committed(decided.seq, decided, self.handed_out[decided.seq], snapshot)

    def _on_executed(self, now: int, event: Executed) -> Effects:
        fresh = self.handed_out.pop(event.seq, None)
        if fresh is None and event.seq <= self.low:
            return (Ignored("the execution of what a snapshot took over"),)
        if fresh is None or len(fresh) != len(event.results) or len(fresh) != len(event.result_digests):
            raise ValueError(f"no execution of {event.seq} with {len(event.results)} results is outstanding")
        self.agree(event)
        effects: list[Effect] = []
        for request, result, result_digest in zip(fresh, event.results, event.result_digests, strict=True):
            self.clients.answer(request.client, request.sequence, event.seq, result_digest, result)
            effects += self.told(request.client)
            effects.append(Send(request.client, self._reply(request, event.seq, result_digest, result)))
        if event.seq % self.config.checkpoint_interval == 0:
            effects += self.vote_checkpoint(now, event)
            effects += self.next_epoch(now)
        if self.pending:
            effects += (*self.watch(), *self.propose(now))
        return effects

    def _reply(self, request: Request, seq: int, result_digest: bytes, result: bytes) -> Reply:
        payload = reply_payload(
            self.config.chain_id, self.view, request.client, request.sequence, seq, result_digest
        )
        signature = self.signer.sign(payload)
        return Reply(
            self.view, request.client, request.sequence, self.me, seq, result_digest, result, signature
        )

    def vote_checkpoint(self, now: int, event: Executed) -> Effects:
        """Sign the state (ledger and client table) that a checkpoint's batch led to."""
        state, kept = self.state_digest(event)
        self.closes_epoch(event.seq, state)
        bare = Checkpoint(event.seq, self.standing.binds(state), self.me, b"", self.committee.epoch)
        if event.seq <= self.low or not self.member:
            return kept
        signature = self.signer.sign(bare.payload(self.config.chain_id))
        vote = Checkpoint(bare.seq, bare.digest, self.me, signature, bare.epoch)
        self.own_checkpoints[event.seq] = vote
        # Whoever catches up may have none stable for long; nobody honest stands further behind than one window.
        floor = event.seq - self.config.log_window
        self.own_checkpoints = {seq: kept for seq, kept in self.own_checkpoints.items() if seq >= floor}
        return [*kept, self.broadcast(vote), *self._on_checkpoint(now, vote)]

    def _on_checkpoint(self, now: int, vote: Checkpoint) -> Effects:
        if vote.seq <= self.low:
            return (Ignored("checkpoint at or below the low watermark"),)
        if vote.seq % self.config.checkpoint_interval:
            return (Ignored("checkpoint at a sequence that has none"),)
        if vote.epoch != self.committee.epoch:
            self.left_behind = self.left_behind or vote.epoch > self.committee.epoch
            return [
                Ignored("checkpoint of another epoch"),
                *(self.ask_later() if self.left_behind else NOTHING),
            ]
        if vote.replica not in self.members:
            return _NO_MEMBER
        certificate = self.checkpoints.add(vote)
        if certificate is None:
            return NOTHING
        # The watermarks moved: a primary that they held back goes on.
        return [*self.stabilise(certificate), *self.next_epoch(now), *self.propose(now)]

    def stabilise(self, certificate: QuorumCertificate) -> Effects:
        """q replicas have this state: the log up to it can go, whoever lacks it fetches blocks."""
        if certificate.seq <= self.low:
            return NOTHING
        self.stable = certificate
        self.low, self.moved_ns = certificate.seq, self.now
        self.left_behind = False
        self.move_window()
        self.next_seq = max(self.next_seq, self.low + 1)
        self.slots = {seq: slot for seq, slot in self.slots.items() if seq > self.low}
        self.accepted_ns = {seq: at for seq, at in self.accepted_ns.items() if seq > self.low}
        self.bodies.drop_up_to(self.low)
        self.own_checkpoints = {seq: vote for seq, vote in self.own_checkpoints.items() if seq > self.low}
        self.checkpoints.drop_up_to(self.low)
        effects: list[Effect] = [Persist(certificate), *self.prove_snapshot(certificate)]
        if self.executed < self.low:
            effects += self.ask_now()
        return effects

    # --- timers ---

    def _on_timer(self, now: int, timer: TimerFired) -> Effects:
        if timer.name == BATCH_TIMER:
            self.batch_timer, self.batch_due = False, True
            return self.propose(now)
        if timer.name == STATUS_TIMER:
            return self.on_status_timer(now)
        if timer.name == VIEW_TIMER:
            return self.on_view_timer(now)
        raise ValueError(f"a replica has no timer called {timer.name!r}")

    # --- refusals ---

    def _misfit(self, message: PrePrepare | Prepare | Commit) -> Effects:
        """A normal-case message that does not fit: why, and whether it may fit later."""
        if message.replica not in self.members and epoch_of(message.view) <= self.committee.epoch:
            return _NO_MEMBER
        if message.view > self.view or (message.view == self.view and self.changing):
            self.early.hold(message)
            self.left_behind = True
            return self.ask_later()
        if message.view < self.view:
            # The others go on in the view that I left: there will be blocks to ask for.
            asked = self.ask_later() if self.changing and message.seq > self.executed else NOTHING
            return (Ignored("vote of an earlier view"), *asked)
        if message.seq <= self.low:
            return _OLD_VOTE
        if not self.member:
            return _NOT_ASKED  # an answer tells it of more than it asked for: no reason to ask again
        # Beyond the high watermark: the sender's window moved first. It is asked for again once mine has moved.
        self.left_behind = True
        if message.seq <= self.high + self.config.log_window:
            self.heard_of = max(self.heard_of, message.seq)
        return [Ignored("vote above the high watermark"), *self.ask_later()]

    def _second_vote(self, known: Prepare | Commit, vote: Prepare | Commit) -> Effects:
        if known.digest == vote.digest:
            return _SECOND_COPY
        return (Evidence(vote.replica, f"signed two different {type(vote).__name__}s for {_at(vote)}"),)


def _at(message: PrePrepare | Prepare | Commit) -> str:
    return f"(view {message.view}, seq {message.seq})"
