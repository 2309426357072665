"""Exactly once: which requests of a client were executed, and what they were answered.

The table is part of the replicated state: its digests go into every checkpoint, so that a replica which catches up
by state transfer cannot execute an old request again. What was handed out for execution and what was answered move at
different times (batches are pipelined), hence two digests, each taken when its half stands exactly at the checkpoint.
"""

from __future__ import annotations

from tradebft.chain.codec import encode, encoded_list
from tradebft.chain.crypto import digest
from tradebft.consensus.snapshot import ExecutedRows, ReplyRows, Table


class _Client:
    __slots__ = ("above", "entries", "low", "replies", "row", "top")

    def __init__(self) -> None:
        self.low = 0  # every sequence up to here was executed or is too old to be
        self.above: set[int] = set()  # executed beyond a gap
        self.replies: dict[int, tuple[int, bytes, bytes]] = {}  # sequence -> (seq, result digest, result)
        self.top = 0  # the highest sequence that was answered
        # Its row in `replies_digest` (empty: changed since), and each answer's part of it, by sequence.
        self.row = b""
        self.entries: dict[int, bytes] = {}


class ClientTable:
    """Executed requests by client, within a sliding window of *window* sequences a client.

    A client may have several requests outstanding and they may be ordered differently from how it numbered them;
    a plain "larger than the last" rule would lose the earlier ones.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._clients: dict[str, _Client] = {}

    def executed(self, client: str, sequence: int) -> bool:
        """Whether this request was executed, or is older than the window (then it never will be)."""
        known = self._clients.get(client)
        return known is not None and (sequence <= known.low or sequence in known.above)

    def acceptable(self, client: str, sequence: int) -> bool:
        """Whether *sequence* is neither executed nor absurdly far ahead of what the client was served."""
        known = self._clients.get(client)
        low = known.low if known else 0
        return low < sequence <= low + self._window and not (known and sequence in known.above)

    def reply(self, client: str, sequence: int) -> tuple[int, bytes, bytes] | None:
        """The stored answer (seq, result digest, result), if it is still kept."""
        known = self._clients.get(client)
        return known.replies.get(sequence) if known else None

    def mark(self, client: str, sequence: int) -> None:
        """The request is final in the order; it must never be executed a second time."""
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = _Client()
        if sequence == known.low + 1:
            known.low = sequence
            while known.low + 1 in known.above:
                known.low += 1
                known.above.discard(known.low)
        elif sequence > known.low:
            known.above.add(sequence)
            while len(known.above) > self._window:
                known.low = min(known.above)
                known.above.discard(known.low)

    def answer(self, client: str, sequence: int, seq: int, result_digest: bytes, result: bytes) -> None:
        """Keep the answer for retransmissions, until the client has gone a whole window beyond it.

        By its number, not by age: requests execute in another order than that in which they were numbered, and an
        honest client never asks for anything more than a window behind its latest request.
        """
        known = self._clients[client]
        if sequence <= known.top - self._window:
            return  # the client jumped ahead of itself, with a primary that let it: nobody will ask for this
        known.replies[sequence] = (seq, result_digest, result)
        known.row = b""
        known.entries.pop(sequence, None)
        if sequence > known.top:
            oldest, known.top = known.top - self._window + 1, sequence
            if sequence - self._window - oldest > len(known.replies):
                known.replies = {s: r for s, r in known.replies.items() if s > sequence - self._window}
            else:
                for gone in range(oldest, sequence - self._window + 1):
                    known.replies.pop(gone, None)

    def executed_rows(self) -> ExecutedRows:
        """Every client's executed sequences. Taken when a checkpoint's batch is handed to the application."""
        return tuple((name, c.low, tuple(sorted(c.above))) for name, c in sorted(self._clients.items()))

    def reply_rows(self) -> ReplyRows:
        """Every kept answer. Taken when the application has executed a checkpoint's batch.

        A client without an answer does not count: later batches, with new clients, may be handed out already.
        """
        return tuple(
            (name, tuple((s, *c.replies[s]) for s in sorted(c.replies)))
            for name, c in sorted(self._clients.items())
            if c.replies
        )

    def executed_digest(self) -> bytes:
        """Over every client's executed sequences."""
        return digest_of_executed(self.executed_rows())

    def replies_digest(self) -> bytes:
        """Over every kept answer (the result by its digest)."""
        rows = [_row(name, client) for name, client in sorted(self._clients.items()) if client.replies]
        return digest("client-replies", encoded_list(rows))

    def copy(self) -> ClientTable:
        """Another one that remembers the same."""
        return ClientTable.restored(self._window, Table(self.executed_rows(), self.reply_rows()))

    @classmethod
    def restored(cls, window: int, table: Table) -> ClientTable:
        """The table that a snapshot holds."""
        made = cls(window)
        for name, low, above in table.executed:
            known = made._clients[name] = _Client()
            known.low, known.above = low, set(above)
        for name, answers in table.replies:
            known = made._clients.setdefault(name, _Client())
            known.replies = {s: (seq, value, result) for s, seq, value, result in answers}
            known.top = max(known.replies, default=0)
        return made


def _row(name: str, client: _Client) -> bytes:
    """One client's part of `ClientTable.replies_digest`: its name and, for each kept answer, sequence, seq and digest.

    Between two checkpoints few answers are new: only those are encoded.
    """
    if not client.row:
        known, entries = client.entries, {}
        for sequence in sorted(client.replies):
            entry = known.get(sequence)
            entries[sequence] = encode([sequence, *client.replies[sequence][:2]]) if entry is None else entry
        client.entries = entries
        client.row = encoded_list([encode(name), encoded_list([*entries.values()])])
    return client.row


def digest_of_executed(rows: ExecutedRows) -> bytes:
    """What a checkpoint signs for `ClientTable.executed_rows`."""
    return digest("client-table", encode(rows))
