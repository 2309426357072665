"""Catching up after loss, a partition or a restart: Status, Fetch and FetchReply, and durable state read back.

Whoever waits too long without progress says where it stands; peers answer with what it misses. Everything that is
fetched proves itself (commit certificates, digests), so a lying peer costs time, never safety.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tradebft.chain.crypto import QuorumCertificate, vote_payload
from tradebft.consensus.interface import (
    NOTHING,
    Effect,
    Effects,
    Evidence,
    Executed,
    Ignored,
    KeepSnapshot,
    Send,
    SendBlocks,
    SetTimer,
    SnapshotProven,
    Start,
)
from tradebft.consensus.membership import EpochProof, epoch_of, first_view
from tradebft.consensus.messages import (
    CHANGES_OF_VIEW,
    Decided,
    Fetch,
    FetchReply,
    NewView,
    Prepared,
    PrePrepare,
    Status,
    ViewChange,
)
from tradebft.consensus.pbft.slots import Slot
from tradebft.consensus.pbft.state import STATUS_TIMER, State
from tradebft.consensus.snapshot import Snapshot

BLOCKS_A_REPLY: Final = 64
SLOTS_A_REPLY: Final = 64
HELD_BITS: Final = (1 << 62) - 1  # a number on the wire has 64 bits
DOZE_MAX: Final = 10
"""A doze lasts at most so many doublings of the interval: a quarter of an hour from a second (assumption)."""
WAITING_SHARE: Final = 64
"""A doze is as long as the change of view has been waited for, or this part of it where something is missed: a change
that could succeed again is held up by so much more at most (assumption)."""


class Recovery(State):
    """How a replica that fell behind gets level again, and how it helps others."""

    @property
    def caught_up(self) -> bool:
        """Whether this replica may lead: nothing that its view carried over is unknown to it."""
        if self.executed < self.low:
            return False
        return all(
            s.batch is not None for s in self.slots.values() if s.digest is not None and s.seq > self.executed
        )

    # --- asking ---

    def ask_later(self) -> Effects:
        """Start the status timer, if it does not run or the replica dozes: something is outstanding from now on."""
        if self.asking and not self.dozes:
            return NOTHING
        self.dozes = False
        return self._ask_in(self._patience())

    def _ask_in(self, delay_ns: int) -> Effects:
        self.asking, self.asked_at = True, self.now
        return (SetTimer(STATUS_TIMER, delay_ns),)

    def learnt(self, seq: int) -> None:
        """This replica has something new of the batch at *seq*; if that is the next, it comes further."""
        if seq == self.executed + 1:
            self.moved_ns = self.now

    def _patience(self) -> int:
        """For how long this replica does without progress before it asks. A primary a little longer: its own proposal
        has two hops more to go than a backup's vote."""
        interval = self._status_interval()
        return interval + interval // 3 if self.is_primary else interval

    def _status_interval(self) -> int:
        """Twice what a decision usually takes, doubled with every question that brought no progress.

        A configuration that names an interval gets it. Between views messages are large and slow to check, and asking
        soon would only keep everybody busy with answers: the interval grows as the timeout of the views does.
        """
        if self.config.status_interval_ns:
            return self.config.status_ns
        if self.changing:
            return self.config.status_ns << min(self.asked_in_vain, max(0, self.backoff - 1))
        return min(self.config.status_ns, self.usual.patience(2, self.config.status_ns) << self.asked_in_vain)

    def took(self, now: int, seq: int) -> Effects:
        """*seq* is decided. Where anybody had to ask meanwhile, the time is an upper bound of what is usual."""
        accepted = self.accepted_ns.pop(seq, None)
        if accepted is None:
            return NOTHING
        known = self.usual.known
        self.usual.sample(now - accepted, self.asked_ns >= accepted)
        if self.is_primary:
            took = max(1, now - accepted)
            self.soonest_ns = min(took, self.soonest_ns or took)
        if known or not self.asking or self.config.status_interval_ns:
            return NOTHING
        self.asking = False  # the timer was set before anybody knew for how long
        return self.ask_later()

    def ask_now(self) -> Effects:
        """Say at once where this replica stands."""
        return [self.broadcast(self._status()), *self.ask_later()]

    def on_status_timer(self, now: int) -> Effects:
        """Nothing outstanding: stop. No progress for a whole interval: ask everybody. Else wait for the rest of it.

        Progress is another view, an execution, a stable checkpoint, a chunk, or anything new of the batch that is next
        (its proposal, a vote).
        """
        self.asking = self.dozes = False
        if not self._outstanding():
            return NOTHING
        if self.moved_ns > self.asked_at:
            self.asked_in_vain = 0
        stuck, patience = now - self.moved_ns, self._patience()
        if stuck < patience:
            return self._ask_in(patience - stuck)
        self.asked_in_vain = min(self.asked_in_vain + 1, 20)
        self.asked_ns, self.left_behind, self.heard_of = now, False, 0
        effects: list[Effect] = [self.broadcast(self._status()), *self._ask_again()]
        missing = [s for _, s in sorted(self.slots.items()) if s.batch is None and s.digest is not None]
        effects += (
            self.broadcast(self.fetch(slot.seq, slot.digest)) for slot in missing if slot.digest is not None
        )
        effects += self.ask_for_chunks_again()
        effects += self._propose_again(now)
        mine = self.view_changes.of(self.me)
        if self.changing and self.watched is None and mine is not None:
            effects.insert(
                0, self.broadcast(mine)
            )  # no quorum for this view yet: somebody may have missed it
        return effects

    def _ask_again(self) -> Effects:
        """The question will be put once more. Whoever wants a view that too few want *dozes* ever longer: it may have
        left the others alone for a night, or a quorum may be down for days. Whatever comes up (`ask_later`) wakes it.
        """
        if not self.changing or self.watched is not None or self.config.status_interval_ns:
            return self.ask_later()
        waited = self.now - self.moved_ns
        doze = waited // WAITING_SHARE if self._misses_something() else waited
        if doze <= self._patience():
            return self.ask_later()
        self.dozes = True
        return self._ask_in(min(doze, self.config.status_ns << DOZE_MAX))

    def _propose_again(self, now: int) -> Iterator[Effect]:
        """A stuck primary's next proposal, to each backup that has not voted: whoever was never shown it, and has heard
        of too few votes, does not know that there is anything to ask for. Of later proposals one would tell it.
        """
        slot = self.slots.get(self.executed + 1)
        if not self.is_primary or slot is None or self.next_seq > slot.seq + 1:
            return
        for peer in sorted(self.members - {self.me}):
            if self._overdue(now, self.repeated_ns.get(peer, 0)):
                yield from self._repeat(now, peer, slot)

    def _repeat(self, now: int, peer: int, slot: Slot) -> Effects:
        """My proposal once more, if *peer* should have voted on it by now and has not. Whoever voted has it, even after
        a restart."""
        proposal = slot.pre_prepare
        if proposal is None or proposal.batch is None or peer in slot.prepares or peer in slot.commits:
            return NOTHING
        if not self._overdue(now, self.accepted_ns.get(slot.seq, 0)):
            return NOTHING
        self.repeated_ns[peer] = now
        return (Send(peer, proposal),)

    def _outstanding(self) -> bool:
        return self.changing or self._misses_something()

    def _misses_something(self) -> bool:
        if len(self.waiting) and not self.batch_timer:
            return True  # while a batch fills up, nobody misses anything
        if self.executed < self.low or self.left_behind or self.pending:
            return True
        if self.download is not None:
            return True
        if self.heard_of > self.executed or not (self.member or self.retired):
            return True  # votes were missed; or to be admitted it must first be level
        return any(
            slot.digest is not None or max(len(slot.prepares), len(slot.commits)) > self.faults
            for slot in self.unexecuted_slots()
        )

    def _ask_alone(self, peer: int) -> Effect:
        """A question to *peer* whose turn it is to answer it with blocks (`_is_helper`)."""
        self.nonce += (self._rank(peer, self.me) - self.nonce - 1) % max(1, self.committee.n - 1)
        return Send(peer, self._status())

    def _status(self) -> Status:
        self.nonce += 1
        held = self.view_changes.held(self.view) & HELD_BITS if self.changing else 0
        fields = (self.view, self.changing, held, self.low, self.executed, self.nonce, self.me)
        signature = self.signer.sign(Status(*fields).payload(self.config.chain_id))
        return Status(*fields, signature)

    # --- answering ---

    def on_status(self, now: int, status: Status) -> Effects:
        """A peer is stuck: send what it misses and nothing else. A repeated Status is not answered twice."""
        # Whoever holds a key that was replaced may still speak for the epoch in which it was in use, and for no other.
        nonces = self.nonces if epoch_of(status.view) == self.committee.epoch else self.nonces_elsewhere
        if status.nonce <= nonces.get(status.replica, 0):
            return (Ignored("status seen before"),)
        nonces[status.replica] = status.nonce
        if not self.status_quota.allows(now, status.replica):
            return (Ignored("status beyond its sender's quota"),)
        self.asked_ns = now
        peer = status.replica
        effects: list[Effect] = []
        ahead = status.stable > self.low or status.executed > self.executed
        if ahead or (status.view > self.view and not status.changing):
            self.left_behind = True
            effects += self.ask_later()
        epoch = epoch_of(status.view)
        if epoch < self.committee.epoch:
            effects += self.epochs_after(peer, epoch)
        behind_in_view = status.view < self.view or (status.view == self.view and status.changing)
        if self.changing:
            mine = self.view_changes.of(self.me)
            # Of members beyond the bits that a Status has nobody can tell: they send theirs again.
            lacks = status.view < self.view or not status.held & HELD_BITS & 1 << self.me
            if mine is not None and status.view <= self.view and lacks:
                effects.append(Send(peer, mine))
        elif behind_in_view and self.new_view is not None and self._shows_new_view(status):
            effects.append(Send(peer, self.new_view))
        effects += (Send(peer, vote) for seq, vote in self.own_checkpoints.items() if seq > status.stable)
        if (status.executed < self.executed or status.stable < self.low) and self._is_helper(status):
            effects.append(self._history_after(peer, status.executed))
        if not self.changing and status.view <= self.view and epoch == self.committee.epoch:
            effects += self._votes_above(now, peer, max(status.executed, status.stable))
        return effects

    def _history_after(self, peer: int, executed: int) -> Effect:
        """The blocks after *executed* if they are still kept, else what there is instead of them."""
        head = self.snapshot_head() if executed < self.blocks_above else None
        if head is not None:
            return Send(peer, head)
        last = min(self.executed, executed + BLOCKS_A_REPLY)
        return SendBlocks(peer, executed + 1, last, self.stable)

    def _shows_new_view(self, status: Status) -> bool:
        """Its primary always: while nobody else holds it, waiting for one's turn would cost another view change."""
        return self.me == self.primary or self._is_helper(status)

    def _is_helper(self, status: Status) -> bool:
        """f+1 peers send blocks, others in turn with every new nonce: one of them is honest."""
        others = self.committee.n - 1
        return others <= 2 or (self._rank(self.me, status.replica) - status.nonce) % others <= self.faults

    def _rank(self, peer: int, asker: int) -> int:
        """Which of the others *peer* is to *asker*, from 1."""
        place = self.committee.position
        return (place(peer) - place(asker)) % self.committee.n

    def _votes_above(self, now: int, peer: int, seq: int) -> list[Effect]:
        """My own proposal, Prepare and Commit for every slot that *peer* has not executed and I have not closed."""
        effects: list[Effect] = []
        repeats = self.me == self.primary and self._overdue(now, self.repeated_ns.get(peer, 0))
        for number in sorted(s for s in self.slots if s > seq)[:SLOTS_A_REPLY]:
            slot = self.slots[number]
            if slot.closed:
                continue  # it is decided: blocks say so
            if repeats:
                effects += self._repeat(now, peer, slot)
            if self.me in slot.prepares:
                effects.append(Send(peer, slot.prepares[self.me]))
            if self.me in slot.commits:
                effects.append(Send(peer, slot.commits[self.me]))
        return effects

    def _overdue(self, now: int, sent_ns: int) -> bool:
        """Whether a proposal of *sent_ns* is missed for another reason than that it waits in a queue, my interface's or
        another: a copy would wait there as well, and all else behind both.

        The time in queues is what decisions usually take beyond the soonest on a proposal of mine, as TCP Vegas tells a
        full queue from a long way (Brakmo and Peterson, IEEE JSAC 1995)."""
        usual, _ = self.usual.standing
        return not self.soonest_ns or now - sent_ns >= usual - self.soonest_ns

    def fetch(self, seq: int, digest: bytes) -> Fetch:
        """Ask for the batch of *digest*."""
        signature = self.signer.sign(vote_payload(self.config.chain_id, "Fetch", 0, seq, digest))
        return Fetch(seq, digest, self.me, signature)

    def on_fetch(self, now: int, fetch: Fetch) -> Effects:
        """A peer needs a batch that it knows by digest only."""
        batch = self.batch_of(fetch.digest)
        if batch is None or not batch.requests:
            return (Ignored("a batch that this replica does not hold"),)
        if not self.fetch_quota.allows(now, fetch.replica):
            return (Ignored("fetch beyond its sender's quota"),)
        bare = FetchReply((), (batch,), None, self.me)
        signature = self.signer.sign(bare.payload(self.config.chain_id))
        return (Send(fetch.replica, FetchReply((), (batch,), None, self.me, signature)),)

    def on_fetch_reply(self, now: int, reply: FetchReply) -> Effects:
        """Blocks and bodies, each checked on its own proof before it is believed."""
        effects: list[Effect] = []
        executed, requests = self.executed, False
        for block in reply.blocks[:BLOCKS_A_REPLY]:
            if block.seq != self.executed + 1 or self.installing:
                continue
            if epoch_of(block.certificate.view) != self.committee.epoch:
                self.left_behind = True  # of an epoch whose members this replica does not know yet
                break
            if not self._proves(block):
                return [
                    *effects,
                    Evidence(reply.replica, f"sent a block {block.seq} that its certificate does not prove"),
                ]
            effects += self._take(block)
            requests = requests or bool(block.batch.requests)
        for batch in reply.bodies[: self.config.log_window]:
            effects += self._take_body(now, batch)
        if self.executed > executed:
            effects += self.execute_in_order()
            effects += self.progressed(requests)
        proof = reply.checkpoint
        if proof is not None and proof.seq > self.low and proof.view == first_view(self.committee.epoch):
            if proof.kind != "Checkpoint" or not self.committee.holds(proof, self.quorum):
                return [*effects, Evidence(reply.replica, "sent a checkpoint certificate that does not hold")]
            effects += [*self.stabilise(proof), *self.next_epoch(now)]
        if len(reply.blocks) >= BLOCKS_A_REPLY and self.executed > executed:
            effects.append(self._ask_alone(reply.replica))  # there is more where this came from
        if self.is_primary:
            effects += self.propose(now)
        return effects or (Ignored("nothing in it that this replica lacked"),)

    def _proves(self, block: Decided) -> bool:
        proof = block.certificate
        return (
            proof.kind == "Commit"
            and proof.seq == block.seq
            and proof.digest == block.batch.digest
            and self.committee.holds(proof, self.quorum)
        )

    def _take(self, block: Decided) -> list[Effect]:
        """Execute a decided block that was fetched; its slot, if still open, need not be voted on to know it."""
        if self.low < block.seq <= self.high:
            self.slot(block.seq).decide(block)
        return [self.hand_out(block)]

    def _take_body(self, now: int, batch: Any) -> list[Effect]:
        effects: list[Effect] = []
        digest = batch.digest
        for _, slot in sorted(self.slots.items()):
            if slot.digest == digest and slot.batch is None:
                slot.batch = batch
                self.keep_body(slot, batch)
                self.note_proposed(batch)
                effects += self.advance(now, slot)
        return effects

    # --- restart (a replica that comes back never contradicts a vote that left it) ---

    def on_start(self, now: int, start: Start) -> Effects:
        """Read back what was persisted, in the order in which it was written; then ask peers what was missed."""
        self.ahead = {r.standing.membership.epoch: r for r in start.records if isinstance(r, EpochProof)}
        again: list[Effect] = []
        for record in start.records:
            again += self._restore(now, record)
        self.ahead = {}
        for (
            record
        ) in start.records:  # now that the watermarks are known: what is decided is not voted against
            if isinstance(record, Decided) and self.low < record.seq <= self.high:
                self.slot(record.seq).decide(record)
        self.nonce = now  # above every one that was used before the crash, or peers take it for a repeat
        if not start.records:
            return NOTHING if self.member else self.ask_later()
        self.asking = False
        effects: list[Effect] = [*again, *self.ask_now()]
        mine = self.view_changes.of(self.me)
        if self.changing and mine is not None:
            effects.append(self.broadcast(mine))
        return [*effects, *self.watch()]

    def _restore(self, now: int, record: Any) -> list[Effect]:
        # Effects are dropped on purpose: whatever they asked for happened before the crash, or is asked for anew. But
        # a snapshot may have been taken and not written any more.
        again: list[Effect] = []
        if isinstance(record, Snapshot):
            self.restore_snapshot(record)
        elif isinstance(record, Decided):
            self.hand_out(record)
        elif isinstance(record, Executed):
            for request, digest, result in zip(
                self.handed_out.pop(record.seq), record.result_digests, record.results, strict=True
            ):
                self.clients.answer(request.client, request.sequence, record.seq, digest, result)
            self.agree(record)
            if record.seq % self.config.checkpoint_interval == 0:
                # Not stable for all, perhaps: if all restart and nobody votes again, the window never moves.
                again += self.vote_checkpoint(now, record)
                self.reenter_epoch()
        elif isinstance(record, QuorumCertificate):
            again += self.stabilise(record)
        elif isinstance(record, EpochProof):
            pass  # entered when the blocks led there
        elif isinstance(record, CHANGES_OF_VIEW) and epoch_of(record.view) != self.committee.epoch:
            pass  # of an epoch that is over
        elif isinstance(record, NewView):
            self.enter(now, record)
        elif isinstance(record, ViewChange):
            self.view, self.changing, self.voting_view = record.view, True, None
            self.primary = self.committee.primary(record.view)
            self.view_changes.add(record)
        elif isinstance(record, PrePrepare):
            self._restore_proposal(record)
        elif isinstance(record, Prepared):
            if self.low < record.pre_prepare.seq <= self.high:
                self.slot(record.pre_prepare.seq).prepared = record
        else:
            raise ValueError(f"not a record that a replica persists: {type(record).__name__}")
        self.watched, self.asking = None, False
        return [effect for effect in again if isinstance(effect, KeepSnapshot | SnapshotProven)]

    def reenter_epoch(self) -> None:
        """At a restart: go on into the epoch that was entered before it, if its boundary is reached."""
        proof = self.ahead.get(self.committee.epoch)
        if proof is not None and self.closing is not None:
            self.stabilise(proof.certificate)
            self.enter_epoch(proof)

    def _restore_proposal(self, proposal: PrePrepare) -> None:
        if not self.low < proposal.seq <= self.high:
            return
        if proposal.batch is not None:
            # Also of an earlier view: it may have been prepared then, and be known to nobody else by now.
            self.keep_body(self.slot(proposal.seq), proposal.batch)
        if proposal.view != self.view or self.changing:
            return
        slot = self.slot(proposal.seq)
        slot.accept(proposal, proposal.batch)
        if self.me == self.primary:
            self.next_seq = max(self.next_seq, proposal.seq + 1)
            if proposal.batch is not None:
                self.note_proposed(proposal.batch)
        else:
            self.prepare(slot)
