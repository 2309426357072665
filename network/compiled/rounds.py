"""One decision in full, message by message, for the space-time diagram (`Recorder.keep`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Checkpoint, Commit, Prepare, PrePrepare, Reply
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import KEY_BITS, Memory
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.recorder import Recorder, Row

_VOTES: dict[int, type] = {memory.PRE_PREPARE: PrePrepare, memory.PREPARE: Prepare, memory.COMMIT: Commit}


class Round:
    """Chooses a decision as the `Recorder` does, and picks its messages out of the log before that is emptied."""

    def __init__(self, config: Config) -> None:
        self._nodes = config.nodes
        self._looked = 1
        self._seq = 0
        self._due = 0
        self._open = True

    def resume(self, recorder: Recorder, next_seq: int) -> None:
        """Go on where *recorder* stands; of what was proposed before *next_seq* it has chosen already."""
        self._looked, self._seq = next_seq, recorder.round_seq
        self._due, self._open = recorder.replies_due, recorder.round_open

    def hand_over(self, recorder: Recorder) -> None:
        """What is still to come of it comes to *recorder* by itself."""
        recorder.resume(self._due, self._open)

    def keep(self, m: Memory, recorder: Recorder, scribe: Scribe) -> None:
        """Look through the log."""
        if not self._open:
            return
        self.choose(m, recorder, scribe)
        if not self._seq:
            return
        singles, last = self._singles(m, scribe)
        told = self._broadcasts(m, last)
        recorder.defer(lambda: sorted([*told(), *singles], key=lambda row: (row[3], row[1])))

    def _singles(self, m: Memory, scribe: Scribe) -> tuple[list[Row], int]:
        """What went to one receiver each, up to the last reply that is due; and which event that was, or how many there
        are (not yet)."""
        found: list[Row] = []
        view = int(m.numbers[memory.VIEW])
        events = m.event[: m.numbers[memory.EVENTS]]
        places = np.flatnonzero(events[:, 2] == self._seq)
        for place, event in zip(places.tolist(), events[places].tolist(), strict=True):
            kind, sender, _, about, to, at, sent = event
            if kind in _VOTES:
                found.append((_VOTES[kind](view, self._seq, b"", sender), sender, to, sent, at))
            elif kind == memory.CHECKPOINT:
                found.append((Checkpoint(self._seq, b"", sender), sender, to, sent, at))
            elif kind == memory.REPLY:
                request = scribe.requests[about]
                reply = Reply(view, request.client, request.sequence, sender, self._seq, b"", b"")
                found.append((reply, sender, to, sent, at))
                self._due -= 1
                if not self._due:
                    self._open = False
                    return found, int(place)
        return found, len(events)

    def _broadcasts(self, m: Memory, last: int) -> Callable[[], Iterator[Row]]:
        """What went to all before the event *last*."""
        log = m.log[: m.numbers[memory.ROWS]]
        places = np.flatnonzero((log[:, 2] == self._seq) & (log[:, 5] <= last))
        heads, keys, seq = log[places], m.log_keys[places], self._seq  # the log is emptied soon
        view = int(m.numbers[memory.VIEW])

        def rows() -> Iterator[Row]:
            for (kind, sender, _, sent, count, _), row in zip(heads.tolist(), keys.tolist(), strict=True):
                message: Any
                if kind in _VOTES:
                    message = _VOTES[kind](view, seq, b"", sender)
                elif kind == memory.CHECKPOINT:
                    message = Checkpoint(seq, b"", sender)
                else:
                    continue
                for key in row[:count]:
                    yield message, sender, key & (1 << KEY_BITS) - 1, sent, sent + (key >> KEY_BITS)

        return rows

    def choose(self, m: Memory, recorder: Recorder, scribe: Scribe) -> None:
        """Have the recorder look at what was proposed since it last did."""
        if self._seq or m.replica[m.numbers[memory.PRIMARY], memory.R_MUTE]:
            return  # nobody heard of a proposal
        for seq in range(self._looked, int(m.numbers[memory.NEXT_SEQ])):
            if self._seq:
                return
            first, count = m.batch[seq, [memory.B_FIRST, memory.B_COUNT]].tolist()
            numbers = m.request[first : first + count, memory.Q_PLACE].tolist()
            recorder.choose_round(seq, [scribe.requests[rid] for rid in numbers])
            self._seq, self._due = recorder.round_seq, count * self._nodes
        self._looked = int(m.numbers[memory.NEXT_SEQ])
