"""From the reference's objects back to the memory of the compiled engine: the inverse of `continued` and `replicas`.

Only what is at or beyond `Settled.base` is written down: below it nobody looks any more. Requests get new numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from tradebft.consensus.interface import Executed, KeepSnapshot
from tradebft.consensus.messages import (
    Batch,
    FetchReply,
    Reply,
    Request,
    Status,
    sender_of,
    size,
)
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.consensus.pbft.slots import Slot
from tradebft.network.bookkeeping import Book, reply_size
from tradebft.network.compiled import memory
from tradebft.network.compiled.continued import Continued
from tradebft.network.compiled.memory import ITEM_BITS, KEY_BITS, PROCESS, Memory
from tradebft.network.compiled.messages import words
from tradebft.network.compiled.replicas import answered, checkpoints
from tradebft.network.compiled.scribe import Scribe, signed
from tradebft.network.compiled.settled import Settled, Unsettled
from tradebft.network.trace import CODES, short
from tradebft.network.virtual_time import Flight


class Returning:
    """What is to be written down. `Unsettled` if something of it is missing; nothing is changed before `write`."""

    def __init__(self, now: Settled, rest: Continued) -> None:
        self._now, self._rest, self._config = now, rest, rest.config
        self._leader = now.replicas[now.primary]
        self._blocks = rest.chronicle.blocks
        self.known = rest.chronicle.height
        if self._leader.next_seq <= self.known:
            raise Unsettled("a primary that others are ahead of")
        self._batches = {seq: self._batch(seq) for seq in range(now.base + 1, self._leader.next_seq)}
        self.table = self._table()
        self._exactly_once()
        self._outstanding = [
            (client, request, replies)
            for client in rest.clients.values()
            for request, replies in client.client.outstanding()
        ]
        self._waiting = {request.key for _, request, _ in self._outstanding}
        self._lane = rest.env.on_its_way()
        self._early = self._answered_early()
        self._late_commits()
        self._replies_told()
        self._snapshots = self._kept()
        due = checkpoints(self._config.checkpoint_interval, now.base, self.known)
        if not now.states.keys() >= {*due}:
            raise Unsettled("a checkpoint that nobody has voted for")

    def _batch(self, seq: int) -> Batch:
        if seq <= self.known:
            block = self._blocks.get(seq)
            if block is None or len(block.committed.fresh) != len(block.decided.batch.requests):
                raise Unsettled("a block that is gone, or with a request that was executed before")
            return block.decided.batch
        slot = self._leader.slots.get(seq)
        if slot is None or slot.batch is None:
            raise Unsettled("a proposal that its primary does not have")
        return slot.batch

    def _table(self) -> ClientTable:
        """The client table where all that is known is executed and answered."""
        for node in self._rest.nodes:
            one = self._rest.inner(node)
            if one.executed == node.height == self.known:
                table = one.clients.copy()
                for seq in range(answered(one) + 1, self.known + 1):
                    for request, result, value in self._results(seq):
                        table.answer(request.client, request.sequence, seq, value, result)
                return table
        raise Unsettled("nobody who has executed everything")

    def _kept(self) -> dict[int, KeepSnapshot]:
        """Snapshots that somebody has; of those that somebody is still to take there is none that all others let go."""
        found: dict[int, KeepSnapshot] = {}
        for node in self._now.up:
            for seq, kept in node.disk.snapshots.items():
                found.setdefault(seq, KeepSnapshot(*kept))
        slowest = min(map(answered, self._now.replicas.values()))
        for seq in range(slowest + 1, self.known + 1):
            if self._leader.wants_snapshot(seq) and seq not in found:
                raise Unsettled("a snapshot that all others have let go, or nobody has taken")
        return found

    def _results(self, seq: int) -> list[tuple[Request, bytes, bytes]]:
        """Requests, results and their digests of what was executed at *seq*."""
        block = self._blocks.get(seq)
        if block is None:
            raise Unsettled("a block that is gone")
        told = block.executed
        return list(zip(block.committed.fresh, told.results, told.result_digests, strict=True))

    def _exactly_once(self) -> None:
        keys = [request.key for batch in self._batches.values() for request in batch.requests]
        pending = [
            request.key
            for seq, batch in self._batches.items()
            if seq > self.known
            for request in batch.requests
        ]
        if len(set(keys)) < len(keys) or any(self.table.executed(*key) for key in pending):
            raise Unsettled("a request that was proposed twice")

    def _late_commits(self) -> None:
        """Of what a quorum has committed, and not all who were there, only those are to do so who were there."""
        for one in self._now.replicas.values():
            for seq in range(one.executed + 1, self.known + 1):
                known = self._rest.recorder.decisions.get(seq)
                if known and known.quorum_ns >= 0 and known.all_ns < 0 and not known.live >> one.me & 1:
                    raise Unsettled("a member that was away when others committed")

    def _replies_told(self) -> None:
        """Whoever answered what lies beyond the base told all clients, and took no snapshot instead."""
        _, told = self._rest.bus.used()
        for r, one in self._now.replicas.items():
            batches = [self._batches[seq] for seq in range(self._now.base + 1, answered(one) + 1)]
            asked = Counter(request.client for batch in batches for request in batch.requests)
            ends = [((r, self._rest.clients[name].index), count) for name, count in asked.items()]
            if r not in self._rest.byzantine and any(told.get(pair, 0) < count for pair, count in ends):
                raise Unsettled("replies that were never sent")

    def _answered_early(self) -> dict[tuple[str, int], tuple[int, bytes, bytes]]:
        """What was answered at or below the base to requests that somebody may still ask about."""
        asked = self._waiting | {request.key for request in self._asked()}
        recent = {request.key for batch in self._batches.values() for request in batch.requests}
        found = {}
        for key in asked - recent:
            if self.table.executed(*key):
                kept = self._leader.clients.reply(*key)
                if kept is None:
                    raise Unsettled("an answer that is gone")
                found[key] = kept
        return found

    def _asked(self) -> list[Request]:
        """Requests that are on their way."""
        on_the_way = [f.message[1] if isinstance(f.message, tuple) else f.message for _, _, f in self._lane]
        return [message for message in on_the_way if isinstance(message, Request)]

    # --- writing it down ---

    def write(self, m: Memory, scribe: Scribe, book: Book) -> dict[tuple[int, int], int]:
        """All but timers and draws; the numbers of requests that clients wait for, by client and
        sequence."""
        self._m, self._scribe, now = m, scribe, self._now
        self._rids: dict[tuple[str, int], int] = {}
        self._room()
        self._blank()
        m.numbers[memory.VIEW], m.numbers[memory.PRIMARY] = now.view, now.primary
        self._order()
        book.resume(self.known, self.table, self._blocks, now.states, self._snapshots)
        scribe.resume({seq: one for seq, one in self._batches.items() if seq > self.known}, self._number)
        self._leads()
        for node in self._rest.nodes:
            row = m.replica[node.index]
            if node.up:
                self._replica(now.replicas[node.index])
                for sender, count in node.inbox.items():
                    m.inbox[node.index, self._rest.bus.endpoint(sender)] = count
                row[memory.R_FREE_AT] = node.owes_until_ns
            else:
                row[memory.R_DOWN], row[memory.R_EXECUTED] = 1, node.height
                row[memory.R_ANSWERED] = min(node.height, self._rest.answered(node))
        m.replica[:, memory.R_INTERFACE_FREE] = self._rest.bus.interface_free[: self._config.nodes]
        for seq in self._batches:
            self._decision(seq)
        waited = self._waited_for()
        self._lanes()
        return waited

    def _room(self) -> None:
        """For all that comes: nothing grows while it is filled in."""
        m, ways = self._m, len(self._lane)
        margin = int(m.numbers[memory.ROOM_NEEDED])
        asked = sum(len(batch.requests) for batch in self._batches.values()) + self._leader.waiting.fresh
        m.grow("request", len(self._scribe.requests) + asked + len(self._outstanding) + ways + 1)
        m.grow("batch", max([self._leader.next_seq + self._config.window, *self._now.states]) + 8)
        m.grow("status", ways + 8)
        m.grow("answer", ways + 8)
        m.grow("alarm", len(memory.TIMERS) * self._config.nodes + margin)
        m.grow("flight", ways + margin)
        m.grow("lane", ways + margin)
        m.grow("arrivals", ways + self._config.window + 8)
        m.grow("free", len(m.arrivals))

    def _blank(self) -> None:
        m, mute = self._m, self._m.replica[:, memory.R_MUTE].copy()
        for region in (m.replica, m.slot, m.votes, m.inbox, m.batch, m.client, m.done, m.top, m.heard):
            region[:] = 0
        m.replica[:, memory.R_MUTE] = mute
        for place in (
            *(
                memory.LANE,
                memory.FLYING,
                memory.ALARMS,
                memory.FREE_FLIGHT,
                memory.FREE_ROW,
                memory.ROWS_USED,
            ),
            *(memory.SAID, memory.SHOWN, memory.WHY, memory.DRY, memory.FRESH_BYTES),
        ):
            m.numbers[place] = 0
        m.begin()

    # --- the order ---

    def _number(self, request: Request) -> int:
        """The number of *request*, which is given one if it has none."""
        known = self._rids.get(request.key)
        if known is not None:
            return known
        m, rid = self._m, self._scribe.add(request)
        self._rids[request.key] = rid
        m.request[rid, memory.Q_CLIENT] = self._rest.clients[request.client].index
        m.request[rid, memory.Q_SEQUENCE] = request.sequence
        m.request[rid, memory.Q_SIZE] = size(request)
        m.request[rid, memory.Q_OPERATION] = len(request.operation)
        if request.key not in self._waiting:  # its client has believed enough of them
            m.request[rid, memory.Q_REPLIES] = self._config.nodes + 1
        early = self._early.get(request.key)
        if early is not None:
            self._executed(request, *early)
        return rid

    def _executed(self, request: Request, seq: int, value: bytes, result: bytes) -> None:
        """*request* has that *result*, whose digest is *value*, from its execution at *seq*."""
        rid = self._rids[request.key]
        row = self._m.request[rid]
        row[memory.Q_ARRIVED], row[memory.Q_PROPOSED], row[memory.Q_REPLIED] = 1, seq, seq
        row[memory.Q_REPLY_SIZE] = reply_size(request, seq, value, result)
        row[memory.Q_RESULT] = signed(short(value))
        self._scribe.results[rid] = result

    def _order(self) -> None:
        m, numbers = self._m, self._m.numbers
        place = self.place = len(self._scribe.requests)
        for seq, batch in self._batches.items():
            row = m.batch[seq]
            row[memory.B_FIRST], row[memory.B_COUNT] = place, len(batch.requests)
            row[memory.B_TIME], row[memory.B_SIZE] = batch.timestamp_ns, len(batch.encoded)
            row[memory.B_DIGEST] = signed(short(batch.digest))
            for request in batch.requests:
                place = self._place(request, place, seq)
            if seq <= self.known:
                row[memory.B_ROOT] = signed(short(self._blocks[seq].executed.root))
                for request, result, value in self._results(seq):
                    self._executed(request, seq, value, result)
        for seq, state in self._now.states.items():
            m.batch[seq, memory.B_STATE] = signed(short(state))
        numbers[memory.TAKEN] = place
        for request in self._leader.waiting.not_proposed:
            place = self._place(request, place, 0)
            numbers[memory.FRESH_BYTES] += len(request.operation)
        numbers[memory.ARRIVED] = place
        numbers[memory.KNOWN], numbers[memory.NEXT_SEQ] = self.known, self._leader.next_seq

    def _place(self, request: Request, place: int, seq: int) -> int:
        """*request* stands at *place* in the order, proposed at *seq* (0: not yet); the place after it."""
        rid, m = self._number(request), self._m
        m.request[rid, memory.Q_ARRIVED], m.request[rid, memory.Q_PROPOSED] = 1, seq
        m.request[place, memory.Q_PLACE] = rid
        return place + 1

    def _leads(self) -> None:
        """What only the primary has."""
        m, numbers, leader = self._m, self._m.numbers, self._leader
        numbers[memory.BATCH_SET], numbers[memory.BATCH_DUE] = leader.batch_timer, leader.batch_due
        numbers[memory.WAITING] = len(leader.waiting)
        for name, low, above in leader.clients.executed_rows():
            endpoint = self._rest.clients[name].index
            m.client[endpoint] = low
            m.done[endpoint, np.array(above, dtype=np.int64) % m.done.shape[1]] = 1
        for name, answers in leader.clients.reply_rows():
            highest, *_ = answers[-1]  # they are in the order of sequences
            m.top[self._rest.clients[name].index] = highest

    # --- members ---

    def _replica(self, one: Replica) -> None:
        row = self._m.replica[one.me]
        row[memory.R_LOW], row[memory.R_EXECUTED], row[memory.R_ANSWERED] = (
            one.low,
            one.executed,
            answered(one),
        )
        row[memory.R_TOP], row[memory.R_WATCHED] = one.top, one.watched or 0
        # Anything else was watched before the engine had the run, and is not again.
        row[memory.R_SPARED] = one.spared if isinstance(one.spared, int) else 0
        row[memory.R_ASKING], row[memory.R_ASKED_AT], row[memory.R_MOVED_NS] = (
            one.asking,
            one.asked_at,
            one.moved_ns,
        )
        row[memory.R_ASKED_IN_VAIN], row[memory.R_ASKED_NS] = one.asked_in_vain, one.asked_ns
        row[memory.R_NONCE] = one.nonce
        proofs = sorted(one.proofs)[-2:]
        row[memory.R_PROOF], row[memory.R_PROOF_BEFORE] = [*reversed(proofs), 0, 0][:2]
        row[memory.R_SMOOTHED], row[memory.R_DEVIATION] = one.usual.standing
        row[memory.R_SOONEST] = one.soonest_ns
        row[memory.R_LEFT_BEHIND], row[memory.R_HEARD_OF] = one.left_behind, one.heard_of
        for peer, (used, since) in one.status_quota.standing.items():
            self._m.heard[one.me, peer, 1:3] = used, since
        for peer, at in one.repeated_ns.items():
            self._m.heard[one.me, peer, 3] = at
        for peer, nonce in one.nonces.items():
            self._m.heard[one.me, peer, 0] = nonce
        for slot in one.slots.values():
            self._slot(one, slot)
        for seq, votes in one.checkpoints.votes.items():
            place = seq // self._config.checkpoint_interval % memory.CHECKPOINTS_COUNTED
            self._m.votes[one.me, place] = len(votes), *words(votes)

    def _slot(self, one: Replica, slot: Slot) -> None:
        row = self._m.slot[one.me, slot.seq & int(self._m.numbers[memory.SLOT_MASK])]
        row[memory.S_ACCEPTED] = slot.digest is not None
        row[memory.S_ACCEPTED_NS] = one.accepted_ns.get(slot.seq, -1)
        prepares, commits = _whose(slot)
        row[memory.S_PREPARES], row[memory.S_COMMITS] = len(prepares), len(commits)
        row[memory.S_PREPARED], row[memory.S_DECIDED] = slot.prepared_now, slot.decided is not None
        row[memory.S_CLOSED] = slot.closed
        row[memory.S_PREPARES_OF : memory.S_PREPARES_OF + 2] = words(prepares)
        row[memory.S_COMMITS_OF : memory.S_COMMITS_OF + 2] = words(commits)

    def _decision(self, seq: int) -> None:
        """What was recorded of it."""
        row, recorder = self._m.batch[seq], self._rest.recorder
        known = recorder.decisions.get(seq)
        if known is None:
            row[memory.B_PROPOSED_NS] = recorder.proposed_ns(seq)
            return
        row[memory.B_PROPOSED_NS], row[memory.B_COMMITTERS] = known.proposed_ns, known.committed.bit_count()
        if known.quorum_ns >= 0:
            row[memory.B_QUORUM_NS] = known.quorum_ns
            row[memory.B_MISSING] = (known.live & ~known.committed).bit_count()
        if known.all_ns >= 0:
            row[memory.B_ALL_NS] = known.all_ns

    def _waited_for(self) -> dict[tuple[int, int], int]:
        waited = {}
        for client, request, replies in self._outstanding:
            rid = waited[client.index, request.sequence] = self._number(request)
            row = self._m.request[rid]
            row[memory.Q_REPLIES], row[memory.Q_TOLD] = len(replies), self._now.primary in replies
        return waited

    # --- timers, and what is on its way ---

    def alarms(self, running: list[tuple[int, str, int, int, int]]) -> None:
        """Timers of replicas, as `Timers.withdraw` gave them up."""
        m, entries = self._m, []
        for r, name, deadline, alarm_at, number in running:
            timer = memory.TIMERS.index(name)
            m.timer[r, timer] = deadline, alarm_at
            entries.append((alarm_at, number << ITEM_BITS | (r * len(memory.TIMERS) + timer)))
        m.alarm[: len(entries)] = np.array(sorted(entries), dtype=np.int64).reshape(-1, 2)
        m.numbers[memory.ALARMS] = len(entries)

    def _lanes(self) -> None:
        """What is on its way."""
        m, numbers = self._m, self._m.numbers
        for request in self._asked():  # before a reply: of that alone nobody could tell what was asked
            self._number(request)
        for made, (time, number, flight) in enumerate(self._lane):
            order = number << ITEM_BITS | made
            self._flight(made, flight)
            if m.flight[made, memory.F_WHAT] >= PROCESS:
                m.flight[made, [memory.F_NEXT, memory.F_ORDER]] = -1, order
            m.lane[made] = time, order
        numbers[memory.LANE] = numbers[memory.FLYING] = numbers[memory.FREE_FLIGHT] = len(self._lane)

    def _flight(self, made: int, flight: Flight) -> None:
        ends, message, sender, process = self._rest.bus.endpoints, flight.message, flight.sender, 0
        receivers, delays = flight.places[flight.next :], flight.delays[flight.next :]
        if receivers[0] >= ends:
            receivers, process, message = [receivers[0] - ends], PROCESS, message[1]
            sender = -1 if isinstance(message, Executed) else self._rest.bus.endpoint(sender_of(message))
        elif isinstance(message, Request):
            sender = self._rest.clients[message.client].index
        what, about = self._about(message)
        row = -1
        if len(receivers) > 1:
            row = self._row([delay << KEY_BITS | to for delay, to in zip(delays, receivers, strict=True)])
        self._m.flight[made] = (
            what | process,
            sender,
            receivers[0],
            about,
            flight.start,
            0,
            len(receivers),
            row,
        )

    def _row(self, keys: list[int]) -> int:
        m, numbers = self._m, self._m.numbers
        row = int(numbers[memory.ROWS_USED])
        m.arrivals[row, : len(keys)] = keys
        numbers[memory.ROWS_USED] = numbers[memory.FREE_ROW] = row + 1
        return row

    def _about(self, message: Any) -> tuple[int, int]:
        """Its kind, and the sequence, request, Status or FetchReply that it is about."""
        m, numbers = self._m, self._m.numbers
        if isinstance(message, Executed):
            return memory.EXECUTED, message.seq
        kind = CODES[type(message)]
        if isinstance(message, Request):
            return kind, self._number(message)
        if isinstance(message, Reply):
            return kind, self._replied(message)
        if isinstance(message, Status | FetchReply):
            counter, region = (
                (memory.SAID, "status") if isinstance(message, Status) else (memory.SHOWN, "answer")
            )
            about = int(numbers[counter])
            numbers[counter] += 1
            getattr(m, region)[about] = _three(message)
            return kind, about
        if kind != memory.CHECKPOINT:
            m.batch[message.seq, memory.B_DIGEST] = signed(short(message.digest))
        return kind, int(message.seq)

    def _replied(self, reply: Reply) -> int:
        """The number of the request that it answers; of one that its client has forgotten only what is in the reply."""
        key = reply.client, reply.sequence
        rid = self._rids.get(key)
        if rid is None:
            request = Request(reply.client, reply.sequence, b"")
            rid = self._number(request)
            self._executed(request, reply.seq, reply.result_digest, reply.result)
        return rid


def _three(message: Status | FetchReply) -> tuple[int, int, int]:
    if isinstance(message, Status):
        return message.stable, message.executed, message.nonce
    proof = message.checkpoint.seq if message.checkpoint is not None else 0
    seqs = [block.seq for block in message.blocks]
    return (seqs[0], seqs[-1], proof) if seqs else (1, 0, proof)


def _whose(slot: Slot) -> tuple[Collection[int], Collection[int]]:
    """Whose Prepares and Commits it has; of one that let them go, those that its certificates name."""
    if not slot.closed:
        return slot.prepares, slot.commits
    assert slot.prepared is not None
    assert slot.decided is not None
    prepared, decided = slot.prepared.prepares, slot.decided.certificate
    return [r for r, _ in prepared.votes], [r for r, _ in decided.votes]
