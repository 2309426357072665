"""What batches contain, what executing them gives, and what digests they have: the part that needs no order of events.

All honest replicas execute the same batches, so each is executed once, by a replica's own bookkeeping: the client
table, the state that checkpoints sign and the snapshots are the reference's code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from tradebft.chain.codec import encode
from tradebft.chain.crypto import Keyring, QuorumCertificate, Signer
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Batch, Decided, Reply, Request
from tradebft.consensus.pbft import Replica
from tradebft.network.application import Application
from tradebft.network.chance import Chance
from tradebft.network.chronicle import run
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
from tradebft.network.engines import Uncovered
from tradebft.network.links import LinkModel
from tradebft.network.trace import short

REPLIES_AHEAD: Final = 1024
FIRST_AHEAD: Final = 16


class Scribe:
    """Keeps the requests by number and the batches by sequence."""

    def __init__(
        self, config: Config, signer: Signer, keyring: Keyring, application: Callable[[], Application]
    ) -> None:
        self._book = Replica(0, config, signer, keyring)
        self._application = application()
        self.checks = self._application.checks
        self._interval = config.checkpoint_interval
        self.requests: list[Request] = []
        self.results: list[bytes] = []  # of executed requests; empty before
        self._batches: dict[int, Batch] = {}  # closed and not executed
        self._closed = 0
        self.repeated = 0  # requests that were executed before: there must be none

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
        batch, book = self._batches.pop(seq), self._book
        proof = QuorumCertificate("Commit", 0, seq, batch.digest, ())
        committed = book.hand_out(Decided(seq, batch, proof))
        self.repeated += len(batch.requests) - len(committed.fresh)
        executed = run(self._application, committed)
        if executed.members is not None:
            raise Uncovered("a change of members")
        del book.handed_out[seq]
        first = int(m.batch[seq, B_FIRST])
        numbers: list[int] = m.request[first : first + len(batch.requests), Q_PLACE].tolist()
        results = m.request.view(np.uint64)[:, Q_RESULT]
        for rid, request, result, value in zip(
            numbers, committed.fresh, executed.results, executed.result_digests, strict=True
        ):
            book.clients.answer(request.client, request.sequence, seq, value, result)
            self.results[rid] = result
            results[rid] = short(value)
            reply = Reply(0, request.client, request.sequence, 0, seq, value, result, bytes(64))
            m.request[rid, Q_REPLY_SIZE] = len(encode(reply)) - 1  # a replica's number is added for each
            m.request[rid, Q_REPLIED] = seq
        m.batch.view(np.uint64)[seq, B_ROOT] = short(executed.root)
        if seq % self._interval == 0:
            state, _ = book.state_digest(executed)
            book.manifests.clear()
            m.batch.view(np.uint64)[seq, B_STATE] = short(book.standing.binds(state))
        m.numbers[KNOWN] = seq
        return numbers


class RepliesAhead:
    """How long replies to one client take: the k-th that each replica sends it."""

    def __init__(self, chance: Chance, links: LinkModel, replicas: int, client: int) -> None:
        self._streams = [chance.stream("alone", r, client) for r in range(replicas)]
        self._links, self._client = links, np.array([client], dtype=np.int64)
        self._drawn, self._at, self._block = 0, 0, np.empty((0, replicas), dtype=np.int64)

    def next(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Delays (ns) of the next reply, by replica."""
        if self._at == len(self._block):
            count = min(REPLIES_AHEAD, max(FIRST_AHEAD, self._drawn))
            columns = [
                self._links.delays(r, self._client, stream.uniforms(self._drawn, count)[:, None])[:, 0]
                for r, stream in enumerate(self._streams)
            ]
            self._block = np.stack(columns, axis=1)
            self._drawn, self._at = self._drawn + count, 0
        self._at += 1
        row: np.ndarray[tuple[int], np.dtype[np.int64]] = self._block[self._at - 1]
        return row
