"""What stands in the memory of a compiled run as numbers, as the messages and certificates of the reference.

Which quorum a certificate names is the reference's own choice among votes that arrived; here it may be another one, of
members who voted. Nobody can tell: all are of one length, and each of them proves the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np
from msgspec.structs import replace
from tradebft.chain.crypto import QuorumCertificate, Signer, vote_payload
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import (
    Batch,
    Checkpoint,
    Commit,
    Decided,
    FetchReply,
    Message,
    Prepare,
    PrePrepare,
    Reply,
    Status,
    reply_payload,
    result_digest,
)
from tradebft.network.bookkeeping import Book
from tradebft.network.chronicle import Block
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import Memory
from tradebft.network.compiled.scribe import Scribe
from tradebft.network.engines import Uncovered

_VOTES: Final = {memory.PREPARE: Prepare, memory.COMMIT: Commit}


def voters(words: Any) -> list[int]:
    """The members in two words of 63 bits each."""
    first, second = (int(word) for word in words)
    bits = first | second << 63
    return [r for r in range(bits.bit_length()) if bits >> r & 1]


def words(members: Iterable[int]) -> tuple[int, int]:
    """The inverse of `voters`."""
    bits = sum(1 << r for r in members)
    return bits & (1 << 63) - 1, bits >> 63


class Messages:
    """Signed by those whose they are; each is made once. All batches that were proposed are closed."""

    def __init__(
        self, m: Memory, scribe: Scribe, book: Book, config: Config, signers: Mapping[Any, Signer]
    ) -> None:
        self._m, self._scribe, self._book, self._config, self._signers = m, scribe, book, config, signers
        self.view = int(m.numbers[memory.VIEW])
        self._made: dict[tuple[int, int, int], Any] = {}

    def of(self, kind: int, sender: int, about: int) -> Message:
        """The message of that kind (`memory`) that *sender* sent about a sequence, request, Status or FetchReply."""
        key = kind, sender, about
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = self._make(kind, sender, about)
        found: Message = known
        return found

    def _make(self, kind: int, sender: int, about: int) -> Message:
        if kind == memory.REQUEST:
            return self._scribe.requests[about]
        if kind == memory.REPLY:
            return self._reply(sender, about)
        if kind == memory.PRE_PREPARE:
            batch = self.batch(about)
            signature = self._signed(sender, "PrePrepare", about, batch.digest)
            return PrePrepare(self.view, about, batch.digest, sender, batch, signature)
        if kind in _VOTES:
            vote: Any = _VOTES[kind]
            digest = self.batch(about).digest
            made: Prepare | Commit = vote(
                self.view, about, digest, sender, self._signed(sender, vote.__name__, about, digest)
            )
            return made
        bare: Checkpoint | Status | FetchReply
        if kind == memory.CHECKPOINT:
            bare = Checkpoint(about, self._book.states[about], sender)
        elif kind == memory.STATUS:
            low, executed, nonce = self._m.status[about].tolist()
            bare = Status(self.view, False, 0, low, executed, nonce, sender)
        else:
            bare = self._answer(sender, about)
        return replace(bare, signature=self._signers[sender].sign(bare.payload(self._config.chain_id)))

    def _signed(self, r: int, kind: str, seq: int, digest: bytes) -> bytes:
        return self._signers[r].sign(vote_payload(self._config.chain_id, kind, self.view, seq, digest))

    def _reply(self, r: int, rid: int) -> Reply:
        request, result = self._scribe.requests[rid], self._scribe.results[rid]
        seq, value = int(self._m.request[rid, memory.Q_REPLIED]), result_digest(result)
        payload = reply_payload(
            self._config.chain_id, self.view, request.client, request.sequence, seq, value
        )
        signature = self._signers[r].sign(payload)
        return Reply(self.view, request.client, request.sequence, r, seq, value, result, signature)

    def _answer(self, r: int, number: int) -> FetchReply:
        first, last, proof = self._m.answer[number].tolist()
        blocks = tuple(self.block(seq).decided for seq in range(first, last + 1))
        return FetchReply(blocks, (), self.stable(proof) if proof else None, r)

    def batch(self, seq: int) -> Batch:
        """What was proposed at *seq*. `Uncovered` where it is no longer kept."""
        found = self._scribe.closed(seq)
        return self._known(seq).decided.batch if found is None else found

    def _known(self, seq: int) -> Block:
        if seq not in self._book.blocks:
            raise Uncovered(memory.REASON[memory.FAR_BEHIND])
        return self._book.blocks[seq]

    def stable(self, seq: int) -> QuorumCertificate:
        """Of the checkpoint at *seq*."""
        voted = np.flatnonzero(self._m.replica[:, memory.R_ANSWERED] >= seq)[: self._config.quorum]
        votes = tuple((int(r), self.of(memory.CHECKPOINT, int(r), seq).signature) for r in voted)
        return QuorumCertificate("Checkpoint", 0, seq, self._book.states[seq], votes)

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """All that are kept, proven."""
        return {seq: self._proven(seq) for seq in self._book.blocks}

    def block(self, seq: int) -> Block:
        """What was committed at *seq* and what came of it, proven. `Uncovered` where it is no longer kept."""
        self._known(seq)
        return self.blocks[seq]

    def _proven(self, seq: int) -> Block:
        known = self._known(seq)
        if known.decided.certificate.votes:
            return known  # the reference committed it
        signed = self._committers(seq)[: self._config.quorum]
        votes = tuple((r, self.of(memory.COMMIT, r, seq).signature) for r in signed)
        proof = QuorumCertificate("Commit", self.view, seq, known.decided.batch.digest, votes)
        decided = Decided(seq, known.decided.batch, proof)
        return Block(replace(known.committed, decided=decided), known.executed)

    def _committers(self, seq: int) -> list[int]:
        """Who sent a Commit for *seq*, or is beyond it and will never vote on it any more."""
        m = self._m
        beyond = m.replica[:, [memory.R_LOW, memory.R_EXECUTED]].max(axis=1) >= seq
        there = (m.replica[:, memory.R_LOW] < seq) & (m.replica[:, memory.R_TOP] >= seq)
        slot = m.slot[:, seq & int(m.numbers[memory.SLOT_MASK])]
        return [int(r) for r in np.flatnonzero(beyond | (there & (slot[:, memory.S_PREPARED] > 0)))]
