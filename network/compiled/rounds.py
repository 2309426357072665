"""One decision in full, message by message, for the space-time diagram (`Recorder.keep`)."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Commit, Prepare, PrePrepare, Reply, Request
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import KEY_BITS, Memory
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.recorder import REQUESTS_KEPT, ROUND_PATIENCE, ROUND_REQUESTS_MAX, Recorder

_VOTES: dict[int, type] = {memory.PRE_PREPARE: PrePrepare, memory.PREPARE: Prepare, memory.COMMIT: Commit}


class Round:
    """Chooses a decision as the `Recorder` does, and picks its messages out of the log before that is emptied."""

    def __init__(self, config: Config) -> None:
        self._nodes = config.nodes
        self._asked: deque[tuple[int, Request, int, int, int]] = deque(maxlen=REQUESTS_KEPT)
        self._looked = 1
        self._seq = 0
        self._due = 0
        self._open = True

    def asked(self, rid: int, request: Request, sender: int, sent: int, arrived: int) -> None:
        """A request left its client."""
        if not self._seq:
            self._asked.append((rid, request, sender, sent, arrived))

    def keep(self, m: Memory, recorder: Recorder, scribe: Scribe) -> None:
        """Look through the log."""
        if not self._open:
            return
        self.choose(m, recorder)
        if not self._seq:
            return
        seq = self._seq
        found: list[tuple[int, Any, int, int, int]] = []
        for i in np.flatnonzero(m.log[: m.numbers[memory.ROWS], 2] == seq).tolist():
            kind, sender, sent = int(m.log[i, 0]), int(m.log[i, 1]), int(m.log[i, 3])
            if kind in _VOTES:
                vote = _VOTES[kind](0, seq, b"", sender)
                for key in m.log_keys[i].tolist():
                    found.append((sent, vote, sender, key & (1 << KEY_BITS) - 1, sent + (key >> KEY_BITS)))
        events = m.event[: m.numbers[memory.EVENTS]]
        for row in events[(events[:, 0] == memory.REPLY) & (events[:, 2] == seq)].tolist():
            request = scribe.requests[row[3]]
            reply = Reply(0, request.client, request.sequence, row[1], seq, b"", b"")
            found.append((row[6], reply, row[1], row[4], row[5]))
            self._due -= 1
        found.sort(key=lambda row: (row[0], row[2]))
        recorder.round += [(message, sender, to, sent, at) for sent, message, sender, to, at in found]
        self._open = self._due > 0

    def choose(self, m: Memory, recorder: Recorder) -> None:
        """Not the very first, and not one that would be a picture of nothing but requests."""
        if self._seq:
            return
        for seq in range(self._looked, int(m.numbers[memory.NEXT_SEQ])):
            count = int(m.batch[seq, memory.B_COUNT])
            if (seq > 1 and count <= ROUND_REQUESTS_MAX) or seq > ROUND_PATIENCE:
                first = int(m.batch[seq, memory.B_FIRST])
                wanted = set(m.request[first : first + count, memory.Q_PLACE].tolist())
                recorder.round = [
                    (request, sender, 0, sent, at)
                    for rid, request, sender, sent, at in self._asked
                    if rid in wanted
                ]
                recorder.round_seq = self._seq = seq
                self._due = count * self._nodes
                return
        self._looked = int(m.numbers[memory.NEXT_SEQ])
