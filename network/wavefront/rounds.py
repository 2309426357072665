"""One decision in full, message by message, for the space-time diagram (`Recorder.keep`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Batch, Checkpoint, Commit, Prepare, PrePrepare, Reply
from tradebft.network.engines import Uncovered
from tradebft.network.recorder import Recorder, Row
from tradebft.network.wavefront.log import Entry
from tradebft.network.wavefront.order import NEVER, Members, Times
from tradebft.network.wavefront.tally import CHECKPOINT, COMMIT, PRE_PREPARE, PREPARE

_MADE: dict[int, Any] = {PRE_PREPARE: PrePrepare, PREPARE: Prepare, COMMIT: Commit}


class Round:
    """Chooses a decision as the `Recorder` does."""

    def __init__(self, config: Config, recorder: Recorder, members: Members) -> None:
        self._nodes, self._recorder, self._members = config.nodes, recorder, members
        self._chosen: tuple[Entry, Batch] | None = None

    def choose(self, entry: Entry, batch: Batch) -> None:
        """A batch was proposed: it may be the one."""
        if self._chosen is None:
            self._recorder.choose_round(entry.seq, batch.requests)
            if self._recorder.round_seq:
                self._chosen = entry, batch

    def finish(self, end: int) -> None:
        """Have the recorder keep what was said up to *end*."""
        if self._chosen is not None:
            self._check(self._chosen[0])
            self._recorder.defer(lambda: self._rows(end))

    def _check(self, entry: Entry) -> None:
        """The picture ends with the last reply: whoever sends that votes for a checkpoint after it."""
        answers = self._members.said(entry.wave.executed)
        last = answers.max()
        if entry.checkpoint is not None and last < NEVER and (answers == last).sum() > 1:
            raise Uncovered("a pictured checkpoint that several reach in one nanosecond")

    def _rows(self, end: int) -> Iterator[Row]:
        """In the recorder's order, up to the last reply that is due: a reply before the vote for a checkpoint."""
        assert self._chosen is not None
        entry, batch = self._chosen
        rows = [
            row
            for row in (*self._said(entry), *self._replied(entry, batch), *self._voted(entry))
            if row[3] <= end
        ]
        due = len(batch.requests) * self._nodes
        for row in sorted(rows, key=lambda row: (row[3], row[1])):
            yield row
            due -= isinstance(row[0], Reply)
            if not due:
                return

    def _said(self, entry: Entry) -> Iterator[Row]:
        for kind, first, _, said, arrivals in entry.spoken(self._members):
            if kind != CHECKPOINT:
                yield from self._spread(_MADE[kind], entry, first, said, arrivals)

    def _voted(self, entry: Entry) -> Iterator[Row]:
        if entry.checkpoint is not None:
            yield from self._spread(
                lambda view, seq, digest, sender: Checkpoint(seq, digest, sender),
                entry, 0, self._members.said(entry.wave.executed), entry.checkpoint.votes,
            )  # fmt: skip

    def _spread(self, made: Any, entry: Entry, first: int, said: Times, arrivals: Times) -> Iterator[Row]:
        for sender, sent in enumerate(said.tolist(), start=first):
            message = made(0, entry.seq, b"", sender)
            for receiver in range(self._nodes):
                if receiver != sender:
                    yield message, sender, receiver, sent, int(arrivals[sender - first, receiver])

    def _replied(self, entry: Entry, batch: Batch) -> Iterator[Row]:
        sent = self._members.said(entry.wave.executed).tolist()
        for request, receiver, arrivals in zip(batch.requests, entry.receivers, entry.replies, strict=True):
            for sender in range(self._nodes):
                reply = Reply(0, request.client, request.sequence, sender, entry.seq, b"", b"")
                yield reply, sender, receiver, sent[sender], int(arrivals[sender])
