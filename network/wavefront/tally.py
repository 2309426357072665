"""How many messages waves are, and how many bytes."""

from __future__ import annotations

from typing import Final

import numpy as np
from tradebft.chain.codec import encode
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Checkpoint, Commit, Prepare, PrePrepare, Reply
from tradebft.network.bookkeeping import Sizes
from tradebft.network.recorder import Recorder
from tradebft.network.trace import CODES
from tradebft.network.wavefront.order import Times

_KINDS: Final = (PrePrepare, Prepare, Commit, Reply, Checkpoint)
PRE_PREPARE, PREPARE, COMMIT, REPLY, CHECKPOINT = (CODES[kind] for kind in _KINDS)
NAMES: Final = {CODES[kind]: kind.__name__ for kind in _KINDS}


class Tally:
    """Counts. Whole decisions, of which there are many, are told apart from those that the end of a run cuts off."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        n = config.nodes
        self._n, self._sizes = n, sizes
        self._numbers = np.array([len(encode(r)) for r in range(n)])  # bytes of a replica's number
        self._all = int(self._numbers.sum())
        self._backups = self._all - int(self._numbers[0])
        self._messages = dict.fromkeys(NAMES, 0)
        self._bytes = 0
        self._decisions = self._requests = self._checkpoints = 0
        # Bytes of what does not depend on who says it, and of what each replica says.
        self._fixed = self._per_sender = 0

    def whole(self, seq: int, batch_size: int, reply_sizes: list[int], checkpoint: bool) -> None:
        """A decision, all of whose messages were sent."""
        number, sizes = len(encode(seq)), self._sizes
        self._decisions += 1
        self._requests += len(reply_sizes)
        self._checkpoints += checkpoint
        others = self._n - 1
        vote = sizes.commit + number + (sizes.checkpoint + number if checkpoint else 0)
        self._fixed += (sizes.pre_prepare + number + batch_size + others * (sizes.prepare + number)) * others
        self._per_sender += vote * others + sum(reply_sizes)

    def some(self, kind: int, seq: int, batch_size: int, whose: Times) -> None:
        """Those of *whose* say something to all others."""
        number, sizes, others = len(encode(seq)), self._sizes, self._n - 1
        size = {
            PRE_PREPARE: sizes.pre_prepare + number + batch_size,
            PREPARE: sizes.prepare + number,
            COMMIT: sizes.commit + number,
            CHECKPOINT: sizes.checkpoint + number,
        }[kind]
        names = 0 if kind == PRE_PREPARE else int(self._numbers[whose].sum())  # it does not name its sender
        self._messages[kind] += len(whose) * others
        self._bytes += (len(whose) * size + names) * others

    def some_replies(self, reply_sizes: list[int], whose: Times) -> None:
        """Those of *whose* answer these requests."""
        self._messages[REPLY] += len(reply_sizes) * len(whose)
        self._bytes += sum(reply_sizes) * len(whose) + len(reply_sizes) * int(self._numbers[whose].sum())

    def finish(self, recorder: Recorder) -> None:
        """Hand the counts over."""
        n, others, counts = self._n, self._n - 1, self._messages
        counts[PRE_PREPARE] += self._decisions * others
        counts[PREPARE] += self._decisions * others * others
        counts[COMMIT] += self._decisions * n * others
        counts[CHECKPOINT] += self._checkpoints * n * others
        counts[REPLY] += self._requests * n
        recorder.messages.update({NAMES[kind]: count for kind, count in counts.items() if count})
        names = self._decisions * others * self._backups
        names += ((self._decisions + self._checkpoints) * others + self._requests) * self._all
        recorder.bytes_sent += self._bytes + self._fixed + self._per_sender * n + names
