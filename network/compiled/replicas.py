"""The replicas of a compiled run as the state machines that the reference has, in an open view.

`Replicas.restore` fills in what a replica remembers; `disk` is what it would have made durable by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Decided, result_digest
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.checkpoint import CheckpointVotes
from tradebft.consensus.pbft.client_table import ClientTable, digest_of_executed
from tradebft.consensus.pbft.slots import Slot
from tradebft.consensus.pbft.waiting import Waiting
from tradebft.consensus.round_trip import RoundTrip
from tradebft.network.bookkeeping import Book
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import I64, Memory
from tradebft.network.compiled.messages import Messages, voters
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.disk import Disk


def checkpoints(every: int, above: int, last: int) -> range:
    """The sequences of checkpoints, one *every* so many, *above* that one and up to the *last*."""
    return range((above // every + 1) * every, last + 1, every)


def own_checkpoints(config: Config, low: int, answered: int) -> range:
    """What a replica has voted for since its stable checkpoint *low*, within a window (`State.own_checkpoints`)."""
    every = config.checkpoint_interval
    last = answered // every * every
    return checkpoints(every, max(low, last - config.log_window - 1), last)


def answered(replica: Replica) -> int:
    """Up to where its application has answered."""
    return replica.executed - len(replica.handed_out)


class Replicas:
    """What each replica was, from the memory."""

    def __init__(
        self,
        m: Memory,
        config: Config,
        scribe: Scribe,
        book: Book,
        messages: Messages,
        before: Mapping[int, tuple[Replica, int]],
    ) -> None:
        """*before*: those whom the engine took over from the reference, as they were then, and up to where the
        application had answered each."""
        self._m, self._config, self._scribe, self._book, self._messages = m, config, scribe, book, messages
        self._before = before
        self._closed: dict[int, Slot] = {}  # of one member, for all who let the votes go
        up = m.replica[m.replica[:, memory.R_DOWN] == 0]
        self._common = int(up[:, memory.R_ANSWERED].min())
        self._clients: ClientTable | None = None
        if self._common >= max((one.executed for one, _ in before.values()), default=0):
            self._clients = self._table()

    def _table(self) -> ClientTable:
        """The client table that all have at least who are up."""
        marked, told, table = 0, 0, ClientTable(self._config.client_window)
        if self._before:
            one, told = next(iter(self._before.values()))
            marked, table = one.executed, one.clients.copy()
        for seq in range(marked + 1, self._common + 1):
            self._mark(table, seq)
        for seq in range(told + 1, self._common + 1):
            self._answer(table, seq)
        return table

    def restore(self, replica: Replica) -> None:
        """*replica*, newly made or as it was before, stands where it stood."""
        self._order(replica)
        self._log(replica)
        self._recovery(replica)
        if replica.me == self._m.numbers[memory.PRIMARY]:
            self._primary(replica)

    def disk(self, replica: Replica, before: Disk) -> Disk:
        """What *replica*, restored, has made durable; *before*: what it had when the engine took it over."""
        disk = Disk()
        if replica.stable is not None:
            disk.write(replica.stable)
        for record in before.views:
            disk.write(record)
        for _, slot in sorted(replica.slots.items()):
            if slot.pre_prepare is not None:
                disk.write(slot.pre_prepare)
            if slot.prepared is not None:
                disk.write(slot.prepared)
        for seq in replica.manifests:
            kept = self._book.snapshots[seq]
            disk.keep(kept.manifest, kept.table, kept.application)
        for proof in before.proofs.values():  # also of one that a replica which came back does not remember
            disk.keep(*before.snapshots[proof.seq])
            disk.prove(proof, 0)
        for proof in replica.proofs.values():
            if proof.seq not in before.proofs:
                disk.prove(proof, replica.blocks_above)
        return disk

    # --- the log ---

    def _log(self, replica: Replica) -> None:
        row = self._m.replica[replica.me]
        replica.low = int(row[memory.R_LOW])
        replica.move_window()
        replica.next_seq = max(replica.next_seq, replica.low + 1)
        replica.batch_timer = replica.batch_due = False
        if replica.low > (replica.stable.seq if replica.stable else 0):
            replica.stable = self._messages.stable(replica.low)
        replica.bodies.drop_up_to(replica.low)
        replica.slots, replica.accepted_ns = {}, {}
        replica.checkpoints = CheckpointVotes(replica.quorum)
        mask = int(self._m.numbers[memory.SLOT_MASK])
        for seq in range(replica.low + 1, int(row[memory.R_TOP]) + 1):
            slot = self._slot(replica, seq)
            if slot is not None:
                replica.slots[seq] = slot
            at = int(self._m.slot[replica.me, seq & mask, memory.S_ACCEPTED_NS])
            if at >= 0:
                replica.accepted_ns[seq] = at
        replica.top = int(row[memory.R_TOP])
        replica.watched = int(row[memory.R_WATCHED]) or None
        replica.spared = int(row[memory.R_SPARED]) or replica.spared
        last = replica.low + memory.CHECKPOINTS_COUNTED * self._every
        for seq in checkpoints(self._every, replica.low, last):
            words = self._m.votes[replica.me, seq // self._every % memory.CHECKPOINTS_COUNTED, 1:]
            for voter in voters(words):
                replica.checkpoints.add(self._messages.of(memory.CHECKPOINT, voter, seq))  # type: ignore[arg-type]

    def _slot(self, replica: Replica, seq: int) -> Slot | None:
        """The slot of *seq*; None: there is none."""
        row = self._m.slot[replica.me, seq & int(self._m.numbers[memory.SLOT_MASK])]
        if not row[[memory.S_ACCEPTED, memory.S_DECIDED, memory.S_PREPARES, memory.S_COMMITS]].any():
            return None
        if not row[memory.S_CLOSED]:  # one that was fetched may be done and not closed
            return self._open(replica, seq, row)
        known = self._closed.get(seq)
        if known is None:
            known = self._closed[seq] = self._open(replica, seq, row)
            known.close_if_done()
        slot = copy(known)
        replica.keep_body(slot, self._messages.batch(seq))
        return slot

    def _open(self, replica: Replica, seq: int, row: I64) -> Slot:
        """The same, with all its votes."""
        of = self._messages.of
        prepares = voters(row[memory.S_PREPARES_OF : memory.S_PREPARES_OF + 2])
        commits = voters(row[memory.S_COMMITS_OF : memory.S_COMMITS_OF + 2])
        slot = Slot(seq)
        slot.prepares = {voter: of(memory.PREPARE, voter, seq) for voter in prepares}  # type: ignore[misc]
        slot.commits = {voter: of(memory.COMMIT, voter, seq) for voter in commits}  # type: ignore[misc]
        if row[memory.S_ACCEPTED]:
            proposal = of(memory.PRE_PREPARE, int(self._m.numbers[memory.PRIMARY]), seq)
            slot.accept(proposal, self._messages.batch(seq))  # type: ignore[arg-type]
            replica.keep_body(slot, self._messages.batch(seq))
        if row[memory.S_PREPARED]:
            slot.prepared_now, slot.prepared = True, slot.prepared_certificate(replica.prepares_needed)
        if row[memory.S_DECIDED]:
            slot.decide(self._decided(replica, slot))
        return slot

    def _decided(self, replica: Replica, slot: Slot) -> Decided:
        if slot.commit_count < replica.quorum:
            return self._messages.block(slot.seq).decided  # it was fetched
        return Decided(slot.seq, self._messages.batch(slot.seq), slot.commit_certificate(replica.quorum))

    # --- the order, and who was answered ---

    def _order(self, replica: Replica) -> None:
        r = replica.me
        answered, executed = self._m.replica[r, [memory.R_ANSWERED, memory.R_EXECUTED]].tolist()
        if self._clients is not None:
            replica.clients, marked, told = self._clients.copy(), self._common, self._common
        else:
            marked, told = replica.executed, self._before[r][1]
        for seq in range(told + 1, min(marked, answered) + 1):
            self._answer(replica.clients, seq)
        for seq in range(marked + 1, executed + 1):
            self._mark(replica.clients, seq)
            if seq <= answered:
                self._answer(replica.clients, seq)
            elif seq % self._every == 0:
                rows = replica.clients.executed_rows()
                replica.tables[seq] = digest_of_executed(rows)
                if replica.wants_snapshot(seq):
                    replica.table_rows[seq] = rows
        replica.executed = executed
        late = range(answered + 1, executed + 1)
        replica.handed_out = {seq: self._book.blocks[seq].committed.fresh for seq in late}
        replica.tables = {seq: one for seq, one in replica.tables.items() if seq > answered}
        replica.table_rows = {seq: one for seq, one in replica.table_rows.items() if seq > answered}
        self._own_checkpoints(replica, answered)

    def _own_checkpoints(self, replica: Replica, answered: int) -> None:
        low = int(self._m.replica[replica.me, memory.R_LOW])
        replica.own_checkpoints = {}
        for seq in own_checkpoints(self._config, low, answered):
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

    # --- catching up ---

    def _recovery(self, replica: Replica) -> None:
        row = self._m.replica[replica.me].tolist()
        replica.asking = bool(row[memory.R_ASKING])
        replica.asked_at, replica.moved_ns = row[memory.R_ASKED_AT], row[memory.R_MOVED_NS]
        replica.asked_ns, replica.asked_in_vain = row[memory.R_ASKED_NS], row[memory.R_ASKED_IN_VAIN]
        replica.usual = RoundTrip(row[memory.R_SMOOTHED], row[memory.R_DEVIATION])
        replica.soonest_ns = row[memory.R_SOONEST]
        replica.left_behind, replica.heard_of = bool(row[memory.R_LEFT_BEHIND]), row[memory.R_HEARD_OF]
        replica.nonce = row[memory.R_NONCE]
        for peer, (nonce, used, since, repeated) in enumerate(self._m.heard[replica.me].tolist()):
            if nonce:
                replica.nonces[peer] = nonce
            if used:
                replica.status_quota.resume(peer, used, since)
            if repeated:
                replica.repeated_ns[peer] = repeated
        proven = [seq for seq in (row[memory.R_PROOF_BEFORE], row[memory.R_PROOF]) if seq]
        replica.proofs = {seq: replica.proofs.get(seq) or self._messages.stable(seq) for seq in proven}
        taken = [seq for seq in self._book.snapshots if replica.low < seq <= row[memory.R_ANSWERED]]
        replica.manifests = {seq: self._book.snapshots[seq].manifest for seq in sorted({*proven, *taken})}

    def _primary(self, replica: Replica) -> None:
        numbers = self._m.numbers
        replica.next_seq = int(numbers[memory.NEXT_SEQ])
        replica.waiting = Waiting(self._config.max_requests_waiting)
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
