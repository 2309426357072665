"""What batches contain and what digests they have, as the kernel's memory wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
        # Closed and not executed: with the numbers of their requests.
        self._batches: dict[int, tuple[Batch, list[int]]] = {}
        self._closed = 0

    def add(self, request: Request) -> int:
        """The number of a request that was not seen before."""
        self.requests.append(request)
        self.results.append(b"")
        return len(self.requests) - 1

    def close(self, m: Memory) -> None:
        """Write down the digests of all batches that were proposed."""
        for seq in range(self._closed + 1, int(m.numbers[NEXT_SEQ])):
            row = m.batch[seq].tolist()
            numbers = m.request[row[B_FIRST] : row[B_FIRST] + row[B_COUNT], Q_PLACE].tolist()
            batch = Batch(row[B_TIME], tuple([self.requests[rid] for rid in numbers]))
            assert len(batch.encoded) == row[B_SIZE], (len(batch.encoded), row[B_SIZE])
            m.batch[seq, B_DIGEST] = signed(short(batch.digest))
            self._batches[seq] = batch, numbers
            self._closed = seq

    def closed(self, seq: int) -> Batch | None:
        """What was proposed at *seq* and is not executed."""
        found = self._batches.get(seq)
        return None if found is None else found[0]

    def resume(self, batches: Mapping[int, Batch], number: Callable[[Request], int]) -> None:
        """Go on where something else stood: these were proposed and not executed. *number* of a request."""
        self._batches = {
            seq: (one, [number(asked) for asked in one.requests]) for seq, one in batches.items()
        }
        self._closed = max(batches, default=self._book.known)

    def execute(self, m: Memory) -> list[int]:
        """Execute the next batch; the numbers of its requests."""
        self.close(m)
        seq = int(m.numbers[KNOWN]) + 1
        batch, numbers = self._batches.pop(seq)
        told = self._book.execute(seq, batch)
        for rid, result, value, size in zip(
            numbers, told.results, told.values, told.reply_sizes, strict=True
        ):
            self.results[rid] = result
            request = m.request[rid]
            request[Q_REPLY_SIZE], request[Q_REPLIED], request[Q_RESULT] = size, seq, signed(value)
        m.batch[seq, B_ROOT], m.batch[seq, B_STATE] = signed(told.root), signed(told.state)
        m.numbers[KNOWN] = seq
        return numbers


def signed(word: int) -> int:
    """The 64 bits of *word* as the memory has them."""
    return word - (1 << 64) if word >> 63 else word
