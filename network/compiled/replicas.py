"""The replicas of a compiled run as the state machines that the reference has, in view 0.

`Replicas.restore` fills in what a replica remembers; `disk` is what it would have made durable by now.
"""

from __future__ import annotations

from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Decided, result_digest
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.client_table import ClientTable, digest_of_executed
from tradebft.consensus.pbft.slots import Slot
from tradebft.consensus.round_trip import RoundTrip
from tradebft.consensus.snapshot import Table
from tradebft.network.bookkeeping import Book
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import Memory
from tradebft.network.compiled.messages import Messages, voters
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.disk import Disk


class Replicas:
    """What each replica was, from the memory."""

    def __init__(self, m: Memory, config: Config, scribe: Scribe, book: Book, messages: Messages) -> None:
        self._m, self._config, self._scribe, self._book, self._messages = m, config, scribe, book, messages
        up = m.replica[m.replica[:, memory.R_DOWN] == 0]
        self._common = int(up[:, memory.R_ANSWERED].min())
        self._clients = ClientTable(config.client_window)
        for seq in range(1, self._common + 1):
            self._mark(self._clients, seq)
            self._answer(self._clients, seq)

    def restore(self, replica: Replica) -> None:
        """*replica*, newly made, stands where it stood."""
        self._log(replica)
        self._order(replica)
        self._recovery(replica)
        if replica.me == 0:
            self._primary(replica)

    def disk(self, replica: Replica) -> Disk:
        """What *replica*, restored, has made durable."""
        disk = Disk()
        if replica.stable is not None:
            disk.write(replica.stable)
        for _, slot in sorted(replica.slots.items()):
            if slot.pre_prepare is not None:
                disk.write(slot.pre_prepare)
            if slot.prepared is not None:
                disk.write(slot.prepared)
        for seq in replica.manifests:
            kept = self._book.snapshots[seq]
            disk.keep(kept.manifest, kept.table, kept.application)
        for proof in replica.proofs.values():
            disk.prove(proof, replica.blocks_above)
        return disk

    # --- the log ---

    def _log(self, replica: Replica) -> None:
        row = self._m.replica[replica.me]
        replica.low, replica.executed = int(row[memory.R_LOW]), int(row[memory.R_EXECUTED])
        replica.move_window()
        replica.next_seq = replica.low + 1
        if replica.low:
            replica.stable = self._messages.stable(replica.low)
        for seq in range(replica.low + 1, int(row[memory.R_TOP]) + 1):
            slot = self._slot(replica, seq)
            if slot is not None:
                replica.slots[seq] = slot
        replica.top = int(row[memory.R_TOP])
        replica.watched = int(row[memory.R_WATCHED]) or None
        for seq in self._checkpoints(replica.low + 1, replica.low + memory.CHECKPOINTS_COUNTED * self._every):
            words = self._m.votes[replica.me, seq // self._every % memory.CHECKPOINTS_COUNTED, 1:]
            for voter in voters(words):
                replica.checkpoints.add(self._messages.of(memory.CHECKPOINT, voter, seq))  # type: ignore[arg-type]

    def _slot(self, replica: Replica, seq: int) -> Slot | None:
        """The slot of *seq*; None: there is none."""
        r, of = replica.me, self._messages.of
        row = self._m.slot[r, seq & int(self._m.numbers[memory.SLOT_MASK])]
        prepares = voters(row[memory.S_PREPARES_OF : memory.S_PREPARES_OF + 2])
        commits = voters(row[memory.S_COMMITS_OF : memory.S_COMMITS_OF + 2])
        accepted, decided = bool(row[memory.S_ACCEPTED]), bool(row[memory.S_DECIDED])
        if not (accepted or decided or prepares or commits):
            return None
        slot = Slot(seq)
        slot.prepares = {voter: of(memory.PREPARE, voter, seq) for voter in prepares}  # type: ignore[misc]
        slot.commits = {voter: of(memory.COMMIT, voter, seq) for voter in commits}  # type: ignore[misc]
        if accepted:
            proposal = of(memory.PRE_PREPARE, 0, seq)
            slot.accept(proposal, self._messages.batch(seq))  # type: ignore[arg-type]
            replica.keep_body(slot, self._messages.batch(seq))
        if row[memory.S_ACCEPTED_NS] >= 0:
            replica.accepted_ns[seq] = int(row[memory.S_ACCEPTED_NS])
        if row[memory.S_PREPARED]:
            slot.prepared_now, slot.prepared = True, slot.prepared_certificate(replica.prepares_needed)
        if decided:
            slot.decide(self._decided(replica, slot))
        if row[memory.S_CLOSED]:  # one that was fetched may be done and not closed
            slot.close_if_done()
        return slot

    def _decided(self, replica: Replica, slot: Slot) -> Decided:
        if slot.commit_count < replica.quorum:
            return self._messages.block(slot.seq).decided  # it was fetched
        return Decided(slot.seq, self._messages.batch(slot.seq), slot.commit_certificate(replica.quorum))

    # --- the order, and who was answered ---

    def _order(self, replica: Replica) -> None:
        answered = int(self._m.replica[replica.me, memory.R_ANSWERED])
        rows = Table(self._clients.executed_rows(), self._clients.reply_rows())
        replica.clients = ClientTable.restored(self._config.client_window, rows)
        for seq in range(self._common + 1, replica.executed + 1):
            self._mark(replica.clients, seq)
            if seq <= answered:
                self._answer(replica.clients, seq)
                continue
            replica.handed_out[seq] = self._book.blocks[seq].committed.fresh
            if seq % self._every == 0:
                executed = replica.clients.executed_rows()
                replica.tables[seq] = digest_of_executed(executed)
                if replica.wants_snapshot(seq):
                    replica.table_rows[seq] = executed
        last = answered // self._every * self._every
        for seq in self._checkpoints(max(replica.low, last - self._config.log_window - 1) + 1, last):
            replica.own_checkpoints[seq] = self._messages.of(memory.CHECKPOINT, replica.me, seq)  # type: ignore[assignment]

    def _mark(self, clients: ClientTable, seq: int) -> None:
        for rid in self._requests_at(seq):
            request = self._scribe.requests[rid]
            clients.mark(request.client, request.sequence)

    def _answer(self, clients: ClientTable, seq: int) -> None:
        for rid in self._requests_at(seq):
            request, result = self._scribe.requests[rid], self._scribe.results[rid]
            clients.answer(request.client, request.sequence, seq, result_digest(result), result)

    def _requests_at(self, seq: int) -> list[int]:
        first, count = self._m.batch[seq, [memory.B_FIRST, memory.B_COUNT]].tolist()
        numbers: list[int] = self._m.request[first : first + count, memory.Q_PLACE].tolist()
        return numbers

    @property
    def _every(self) -> int:
        return self._config.checkpoint_interval

    def _checkpoints(self, first: int, last: int) -> range:
        return range((first + self._every - 1) // self._every * self._every, last + 1, self._every)

    # --- catching up ---

    def _recovery(self, replica: Replica) -> None:
        row = self._m.replica[replica.me].tolist()
        replica.asking = bool(row[memory.R_ASKING])
        replica.asked_at = (0, False, row[memory.R_ASKED_EXECUTED], row[memory.R_ASKED_LOW], 0)
        replica.asked_ns, replica.asked_in_vain = row[memory.R_ASKED_NS], row[memory.R_ASKED_IN_VAIN]
        replica.usual = RoundTrip(row[memory.R_SMOOTHED], row[memory.R_DEVIATION])
        replica.left_behind, replica.heard_of = bool(row[memory.R_LEFT_BEHIND]), row[memory.R_HEARD_OF]
        replica.nonce = row[memory.R_NONCE]
        for peer, (nonce, used, since) in enumerate(self._m.heard[replica.me].tolist()):
            if nonce:
                replica.nonces[peer] = nonce
            if used:
                replica.status_quota.resume(peer, used, since)
        proven = [seq for seq in (row[memory.R_PROOF_BEFORE], row[memory.R_PROOF]) if seq]
        replica.proofs = {seq: self._messages.stable(seq) for seq in proven}
        taken = [seq for seq in self._book.snapshots if replica.low < seq <= row[memory.R_ANSWERED]]
        replica.manifests = {seq: self._book.snapshots[seq].manifest for seq in sorted({*proven, *taken})}

    def _primary(self, replica: Replica) -> None:
        numbers = self._m.numbers
        replica.next_seq = int(numbers[memory.NEXT_SEQ])
        replica.batch_timer, replica.batch_due = (
            bool(numbers[memory.BATCH_SET]),
            bool(numbers[memory.BATCH_DUE]),
        )
        first, taken = int(numbers[memory.TAKEN]), int(numbers[memory.TAKEN])
        if replica.executed + 1 < replica.next_seq:
            first = int(self._m.batch[replica.executed + 1, memory.B_FIRST])
        places = self._m.request[first : int(numbers[memory.ARRIVED]), memory.Q_PLACE].tolist()
        for place, rid in enumerate(places, start=first):
            request = self._scribe.requests[rid]
            replica.waiting.add(request)
            if place < taken:
                replica.waiting.proposed(request)
