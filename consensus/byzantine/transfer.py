"""Lies to whoever fell behind: blocks, bodies and snapshots that are not what they are said to be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace
from tradebft.chain.codec import encode
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of
from tradebft.consensus.byzantine.forgeries import certificate
from tradebft.consensus.interface import Committed, Effect, KeepSnapshot, Send, SendBlocks, SendChunk
from tradebft.consensus.messages import Batch, Chunk, Decided, FetchReply, SnapshotHead
from tradebft.consensus.snapshot import Table


class LyingTransfer(Behaviour):
    """Helps those who fell behind with what nobody decided (OSDI 1999, section 4.3: why what is fetched must prove
    itself): blocks whose batch was exchanged, whose certificate has too few votes, repeated ones or another
    sequence's; bodies and chunks that nobody asked for; wrong chunks; snapshots of its own making; an old
    state under a new number, chunk by chunk as it once was."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._decided: deque[Decided] = deque(maxlen=64)
        self._kept: deque[KeepSnapshot] = deque(maxlen=2)  # its last snapshots, the older one first
        self._shows_old = False

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """What comes from the disk, and what answers a question, is replaced by inventions."""
        if isinstance(effect, Committed):
            self._decided.append(effect.decided)
            return (effect,)
        if isinstance(effect, KeepSnapshot):
            self._kept.append(effect)
            return (effect,)
        if isinstance(effect, SendBlocks):
            return (Send(effect.to, self._blocks(effect)),)
        if isinstance(effect, SendChunk):
            return (Send(effect.to, self._chunk(effect.seq, effect.index)),)
        message = message_of(effect)
        if isinstance(message, FetchReply):
            bodies = tuple(self._other(batch) for batch in message.bodies)
            return (replace(effect, message=self.signed(replace(message, bodies=bodies))),)
        if isinstance(effect, Send) and isinstance(message, SnapshotHead):
            unasked = self._chunk(message.manifest.seq, 0)
            return (replace(effect, message=self.signed(self._head(message))), Send(effect.to, unasked))
        return (effect,)

    def _chunk(self, seq: int, index: int) -> Chunk:
        """No state at all, or a client table that knows of nothing: whoever took that would execute all once more."""
        old = (*self._kept[0].table, *self._kept[0].application) if self._shows_old else ()
        if index < len(old):
            return self.signed(Chunk(seq, index, old[index], self.me))
        lie = b"a lie" if index or self.draw(4) == 0 else encode(Table((), ()))
        return self.signed(Chunk(seq, index, lie, self.me))

    def _blocks(self, wanted: SendBlocks) -> FetchReply:
        lie = self.draw(6)
        held = {block.seq: block for block in self._decided}
        first = wanted.first
        blocks = [self._block(seq, lie, held) for seq in range(first, min(wanted.last, first + 3) + 1)]
        bodies = tuple(self._other(block.batch) for block in blocks) if lie == 5 else ()
        bare = FetchReply(tuple(blocks), bodies, wanted.checkpoint, self.me)
        return self.signed(bare)

    def _block(self, seq: int, lie: int, held: dict[int, Decided]) -> Decided:
        block = held.get(seq)
        batch = Batch(seq, ()) if block is None else block.batch
        quorum, view = self.config.quorum, self.knows("view")
        if block is None or lie in (0, 1):
            style = "few" if lie == 0 else "repeated" if lie == 1 else "borrowed"
            other = self._other(batch)
            return Decided(seq, other, certificate(self, "Commit", view, seq, other.digest, quorum, style))
        proof = block.certificate
        if lie == 2:
            return Decided(seq, self._other(batch), proof)
        if lie == 3:
            return Decided(seq, batch, replace(proof, votes=proof.votes[:-1]))
        if lie == 4:
            return Decided(seq, batch, replace(proof, votes=proof.votes[:-1] + proof.votes[:1]))
        earlier = held.get(seq - 1, block)
        return Decided(seq, earlier.batch, earlier.certificate)

    def _other(self, batch: Batch) -> Batch:
        return Batch(batch.timestamp_ns + 1, tuple(reversed(batch.requests)))

    def _head(self, head: SnapshotHead) -> SnapshotHead:
        manifest = replace(head.manifest, root=bytes(32))
        proof = head.certificate
        self._shows_old = len(self._kept) > 1 and self.draw(2) == 0
        if self._shows_old:
            old = self._kept[0].manifest
            manifest = replace(head.manifest, root=old.root, table=old.table, chunks=old.chunks)
        if self.draw(2):
            value = manifest.standing.binds(manifest.digest)
            proof = certificate(
                self, "Checkpoint", proof.view, manifest.seq, value, self.config.quorum, "repeated"
            )
        return replace(head, manifest=manifest, certificate=proof)
