"""What batches contain and what digests they have, as the kernel's memory wants it."""

from __future__ import annotations

import numpy as np
from tradebft.consensus.messages import Batch, Request
from tradebft.network.bookkeeping import Book
from tradebft.network.compiled.memory import (
    B_COUNT,
    B_DIGEST,
    B_FIRST,
    B_ROOT,
    B_SIZE,
    B_STATE,
    B_TIME,
    KNOWN,
    NEXT_SEQ,
    Q_PLACE,
    Q_REPLIED,
    Q_REPLY_SIZE,
    Q_RESULT,
    Memory,
)
from tradebft.network.trace import short


class Scribe:
    """Keeps the requests by number and the batches by sequence."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.requests: list[Request] = []
        self.results: list[bytes] = []  # of executed requests; empty before
        self._batches: dict[int, Batch] = {}  # closed and not executed
        self._closed = 0

    def add(self, request: Request) -> int:
        """The number of a request that was not seen before."""
        self.requests.append(request)
        self.results.append(b"")
        return len(self.requests) - 1

    def close(self, m: Memory) -> None:
        """Write down the digests of all batches that were proposed."""
        for seq in range(self._closed + 1, int(m.numbers[NEXT_SEQ])):
            first = int(m.batch[seq, B_FIRST])
            numbers = m.request[first : first + int(m.batch[seq, B_COUNT]), Q_PLACE].tolist()
            batch = Batch(int(m.batch[seq, B_TIME]), tuple(self.requests[rid] for rid in numbers))
            assert len(batch.encoded) == m.batch[seq, B_SIZE], (
                len(batch.encoded),
                m.batch[seq, B_SIZE],
            )
            m.batch.view(np.uint64)[seq, B_DIGEST] = short(batch.digest)
            self._batches[seq] = batch
            self._closed = seq

    def execute(self, m: Memory) -> list[int]:
        """Execute the next batch; the numbers of its requests."""
        self.close(m)
        seq = int(m.numbers[KNOWN]) + 1
        batch = self._batches.pop(seq)
        told = self._book.execute(seq, batch)
        first = int(m.batch[seq, B_FIRST])
        numbers: list[int] = m.request[first : first + len(batch.requests), Q_PLACE].tolist()
        results = m.request.view(np.uint64)[:, Q_RESULT]
        for rid, result, value, size in zip(
            numbers, told.results, told.values, told.reply_sizes, strict=True
        ):
            self.results[rid] = result
            results[rid] = value
            m.request[rid, Q_REPLY_SIZE], m.request[rid, Q_REPLIED] = size, seq
        m.batch.view(np.uint64)[seq, B_ROOT] = told.root
        m.batch.view(np.uint64)[seq, B_STATE] = told.state
        m.numbers[KNOWN] = seq
        return numbers
