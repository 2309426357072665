"""Saying what is false: two proposals for one place, votes for both, forged certificates, wrong states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from msgspec.structs import replace
from tradebft.chain.crypto import QuorumCertificate, digest, vote_payload
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of, to_each
from tradebft.consensus.interface import Broadcast, Effect, Send, SendBlocks, SendChunk
from tradebft.consensus.messages import (
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Chunk,
    Commit,
    Decided,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    ViewChange,
    result_digest,
)


class Equivocate(Behaviour):
    """As primary, proposes one batch to one half and another to the other half, and votes for each before each
    (OSDI 1999, section 4.2: what Prepare is for). Colluders that `vote-both` find its pairs in the notes."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Two proposals; and a Commit for each."""
        message = message_of(effect)
        if isinstance(message, PrePrepare) and message.batch is not None and message.replica == self.me:
            return self._propose(message, message.batch)
        if isinstance(effect, Broadcast) and isinstance(message, Commit | Prepare):
            return votes_for_both(self, message)
        return (effect,)

    def _propose(self, message: PrePrepare, batch: Batch) -> list[Effect]:
        honest = self.honest_others
        first, second = honest[: len(honest) // 2], honest[len(honest) // 2 :]
        other = Batch(batch.timestamp_ns + 1, tuple(reversed(batch.requests)))
        twin = self.signed(PrePrepare(message.view, message.seq, other.digest, self.me, other))
        self.coalition.note((message.view, message.seq), (message.digest, other.digest, first, second))
        friends = [i for i in self.others if i in self.coalition.members]
        return [*to_each([*friends, *first], message), *to_each(second, twin)]


class VoteBoth(Behaviour):
    """Votes for whatever anybody proposes or votes for, to whoever seems to believe it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._voted: dict[tuple[int, int, bytes, int], None] = {}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Its own vote goes to each half for what that half was shown."""
        message = message_of(effect)
        if isinstance(effect, Broadcast) and isinstance(message, Commit | Prepare):
            return votes_for_both(self, message)
        return (effect,)

    def step(self, now: int, event: Any) -> Any:
        """Whoever votes for something hears it confirmed."""
        effects = super().step(now, event)
        if not self.active(now) or not isinstance(event, Prepare | Commit) or event.replica == self.me:
            return effects
        place = (event.view, event.seq, event.digest, event.replica)
        if place in self._voted or event.view != getattr(self.inner, "view", event.view):
            return effects
        self._voted[place] = None
        while len(self._voted) > 8 * self.config.log_window * self.config.nodes:
            del self._voted[next(iter(self._voted))]
        prepare = self.signed(Prepare(event.view, event.seq, event.digest, self.me))
        commit = self.signed(Commit(event.view, event.seq, event.digest, self.me))
        return [*effects, Send(event.replica, prepare), Send(event.replica, commit)]


def votes_for_both(who: Behaviour, vote: Prepare | Commit) -> list[Effect]:
    """*vote*, and where a colluding primary proposed two batches, for each half the vote that it waits for."""
    pair = who.coalition.notes.get((vote.view, vote.seq))
    if pair is None:
        return [Broadcast(vote)]
    one, two, first, second = pair
    friends = [i for i in who.others if i in who.coalition.members]
    out: list[Effect] = []
    for value, receivers in ((one, [*friends, *first]), (two, second)):
        for kind in (Prepare, Commit):
            if kind is Commit or vote.view % who.config.nodes != who.me:
                out += to_each(receivers, who.signed(kind(vote.view, vote.seq, value, who.me)))
    return out


class WrongDigest(Behaviour):
    """Votes for a batch that nobody proposed."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Another digest in each of its votes."""
        message = message_of(effect)
        if isinstance(effect, Broadcast) and isinstance(message, Prepare | Commit):
            wrong = digest("tradebft/byzantine", message.digest)
            return (Broadcast(self.signed(replace(message, digest=wrong)), effect.to),)
        return (effect,)


class BadSignature(Behaviour):
    """Signs *percent* of its messages wrongly."""

    defaults: ClassVar[Mapping[str, Any]] = {"percent": 50}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Some signatures are worth nothing."""
        message = message_of(effect)
        if message is None or self.draw(100) >= self.parameters["percent"]:
            return (effect,)
        return (replace(effect, message=replace(message, signature=bytes(64))),)


class FalseReply(Behaviour):
    """Answers clients with results that nobody computed."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """The result is changed, and consistently so."""
        message = message_of(effect)
        if isinstance(effect, Send) and isinstance(message, Reply):
            lie = b"lie" + message.result
            bare = replace(message, result=lie, result_digest=result_digest(lie))
            return (Send(effect.to, self.signed(bare)),)
        return (effect,)


class ForgePrepared(Behaviour):
    """In its ViewChange claims to have prepared what it did not: certificates with its colluders' votes only, one
    voter many times, a later view than there was; or leaves out what it did prepare (OSDI 1999, section 4.4)."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Another lie in each ViewChange."""
        message = message_of(effect)
        if not isinstance(message, ViewChange) or message.replica != self.me:
            return (effect,)
        kind = self.draw(4)
        if kind == 0:
            prepared: tuple[Prepared, ...] = ()
        elif kind == 1:
            prepared = (self._forged(message, message.view - 1, once=True),)
        elif kind == 2:
            prepared = (self._forged(message, message.view - 1, once=False),)
        else:
            prepared = tuple(
                replace(entry, pre_prepare=replace(entry.pre_prepare, view=message.view - 1))
                for entry in message.prepared
            )
        return (replace(effect, message=self.signed(replace(message, prepared=prepared))),)

    def _forged(self, message: ViewChange, view: int, once: bool) -> Prepared:
        seq = message.stable + 1
        value = digest("tradebft/byzantine", b"%d" % seq)
        leader = view % self.config.nodes
        proposal = PrePrepare(view, seq, value, leader)
        if leader in self.coalition.members:
            proposal = self.coalition.sign_as(leader, proposal)
        payload = vote_payload(self.config.chain_id, "Prepare", view, seq, value)
        colluders = [i for i in sorted(self.coalition.members) if i != leader] or [self.me]
        votes = [(i, self.coalition.signers[i].sign(payload)) for i in colluders]
        if not once:
            votes = (votes * self.config.quorum)[: self.config.quorum - 1]
        return Prepared(proposal, QuorumCertificate("Prepare", view, seq, value, tuple(votes)))


class FalseNewView(Behaviour):
    """As new primary, proposes something else than what follows from the ViewChanges (OSDI 1999, section 4.4)."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Another lie in each NewView."""
        message = message_of(effect)
        if not isinstance(message, NewView) or message.replica != self.me:
            return (effect,)
        return (replace(effect, message=self.signed(self._false(message))),)

    def _false(self, message: NewView) -> NewView:
        proposals, kind = message.proposals, self.draw(5)
        if kind == 0:
            return replace(message, view_changes=(message.view_changes[0],) * len(message.view_changes))
        if kind == 1:
            return replace(message, proposals=proposals[:-1] if proposals else (self._null(message, 1),))
        if kind == 2:
            return replace(message, proposals=tuple(self._null(message, p.seq) for p in proposals))
        if kind == 3:
            return replace(message, proposals=(*proposals, self._null(message, 1 + len(proposals))))
        return replace(message, view_changes=message.view_changes[:-1])

    def _null(self, message: NewView, seq: int) -> PrePrepare:
        return self.signed(PrePrepare(message.view, seq, NULL_DIGEST, self.me))


class FalseCheckpoint(Behaviour):
    """Signs checkpoints of a state that it is not in, and of sequences far ahead (OSDI 1999, section 4.3)."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """A wrong digest, and one beyond every window."""
        message = message_of(effect)
        if not isinstance(message, Checkpoint):
            return (effect,)
        wrong = digest("tradebft/byzantine", message.digest)
        ahead = message.seq + 1000 * self.config.checkpoint_interval
        return (
            replace(effect, message=self.signed(replace(message, digest=wrong))),
            Broadcast(self.signed(replace(message, seq=ahead, digest=wrong))),
        )


class LyingTransfer(Behaviour):
    """Helps those who fell behind with blocks that nobody decided and chunks of no snapshot."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """What comes from the disk is replaced by inventions."""
        if isinstance(effect, SendBlocks):
            blocks = tuple(
                self._block(seq) for seq in range(effect.first, min(effect.last, effect.first + 3) + 1)
            )
            return (Send(effect.to, self.signed(FetchReply(blocks, (), effect.checkpoint, self.me))),)
        if isinstance(effect, SendChunk):
            return (Send(effect.to, self.signed(Chunk(effect.seq, effect.index, b"a lie", self.me))),)
        return (effect,)

    def _block(self, seq: int) -> Decided:
        batch = Batch(seq, ())
        view = getattr(self.inner, "view", 0)
        payload = vote_payload(self.config.chain_id, "Commit", view, seq, batch.digest)
        votes = [(i, s.sign(payload)) for i, s in sorted(self.coalition.signers.items())]
        if self.draw(2):
            votes = (votes * self.config.quorum)[: self.config.quorum]
        return Decided(seq, batch, QuorumCertificate("Commit", view, seq, batch.digest, tuple(votes)))
