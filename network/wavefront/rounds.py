"""One decision in full, message by message, for the space-time diagram (`Recorder.keep`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Batch, Checkpoint, Commit, Prepare, PrePrepare, Reply, Request
from tradebft.network.engines import Uncovered
from tradebft.network.recorder import REQUESTS_KEPT, Recorder, pictured
from tradebft.network.wavefront.log import Entry
from tradebft.network.wavefront.order import NEVER, Members
from tradebft.network.wavefront.tally import CHECKPOINT, COMMIT, PRE_PREPARE, PREPARE

Row = tuple[Any, int, int, int, int]  # message, sender, receiver, sent, arrived
_MADE: dict[int, Any] = {PRE_PREPARE: PrePrepare, PREPARE: Prepare, COMMIT: Commit}


class Round:
    """Chooses a decision as the `Recorder` does."""

    def __init__(self, config: Config, recorder: Recorder, members: Members) -> None:
        self._nodes, self._recorder, self._members = config.nodes, recorder, members
        self._asked: deque[Row] = deque(maxlen=REQUESTS_KEPT)
        self._chosen: tuple[Entry, Batch] | None = None

    def asked(self, request: Request, sender: int, sent: int, arrived: int) -> None:
        """A request left its client."""
        if self._chosen is None:
            self._asked.append((request, sender, 0, sent, arrived))

    def choose(self, entry: Entry, batch: Batch) -> None:
        """Take the first that makes a picture."""
        if self._chosen is None and pictured(entry.seq, len(batch.requests)):
            self._chosen = entry, batch
            wanted = {request.key for request in batch.requests}
            self._recorder.round_seq = entry.seq
            self._recorder.round = [row for row in self._asked if row[0].key in wanted]

    def finish(self, end: int) -> None:
        """Write down what was said up to *end*."""
        if self._chosen is not None:
            rows = [row for row in (*self._said(), *self._replied()) if row[3] <= end]
            self._recorder.round += sorted(rows, key=lambda row: (row[3], row[1]))

    def _said(self) -> Iterator[Row]:
        assert self._chosen is not None
        entry, _ = self._chosen
        # Whoever sends the last reply votes for a checkpoint after it.
        answers = self._members.said(entry.wave.executed)
        closer = int(answers.argmax()) if answers.max() < NEVER else -1
        if entry.checkpoint is not None and closer >= 0 and (answers == answers[closer]).sum() > 1:
            raise Uncovered("a pictured checkpoint that several reach in one nanosecond")
        for kind, first, _, said, arrivals in entry.spoken(self._members):
            for place, sent in enumerate(said.tolist()):
                sender = first + place
                if kind == CHECKPOINT and sender == closer:
                    continue
                message = (
                    Checkpoint(entry.seq, b"", sender)
                    if kind == CHECKPOINT
                    else _MADE[kind](0, entry.seq, b"", sender)
                )
                for receiver in np.flatnonzero(np.arange(self._nodes) != sender).tolist():
                    yield message, sender, receiver, sent, int(arrivals[place, receiver])

    def _replied(self) -> Iterator[Row]:
        assert self._chosen is not None
        entry, batch = self._chosen
        sent = self._members.said(entry.wave.executed).tolist()
        for request, receiver, arrivals in zip(batch.requests, entry.receivers, entry.replies, strict=True):
            for sender in range(self._nodes):
                reply = Reply(0, request.client, request.sequence, sender, entry.seq, b"", b"")
                yield reply, sender, receiver, sent[sender], int(arrivals[sender])
