"""Saying what is false: two proposals for one place, votes for both, digests, signatures, replies and states that are
not so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from msgspec.structs import replace
from tradebft.chain.crypto import Wallet, digest
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of, to_each
from tradebft.consensus.interface import Broadcast, Effect, Send
from tradebft.consensus.messages import (
    Batch,
    Checkpoint,
    Commit,
    Prepare,
    PrePrepare,
    Reply,
    Request,
    result_digest,
)

Pair = tuple[
    PrePrepare, PrePrepare, tuple[int, ...]
]  # two proposals for one place, and who is shown the second


class Equivocate(Behaviour):
    """As primary, proposes one batch to one half of the honest members and another to the other half (OSDI 1999,
    section 4.2: what Prepare is for; Twins, Bano et al., OPODIS 2021).

    *by*: how the batches differ: "time" (1 ns later), "order" (requests reversed) or "subset" (only the first half of
    the requests); one request alone can only differ in its time. *league* (1; 0: no): the whole coalition votes for
    each batch before the half that was shown it, so that f+1 colluders break agreement.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"by": "time", "league": 1}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"by": ("time", "order", "subset")}
    most: ClassVar[Mapping[str, int]] = {"league": 1}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Two proposals, and a Commit for each."""
        message = message_of(effect)
        if isinstance(message, PrePrepare) and message.batch is not None and message.replica == self.me:
            pair = self._pair(message, message.batch)
            if isinstance(effect, Send):  # somebody asks again: told what he was told before
                return (Send(effect.to, pair[1] if effect.to in pair[2] else pair[0]),)
            return self._propose(pair)
        if isinstance(effect, Broadcast) and isinstance(message, Commit | Prepare):
            return votes_for_both(self, message)
        return (effect,)

    def _pair(self, message: PrePrepare, batch: Batch) -> Pair:
        known: Pair | None = self.coalition.notes.get((message.view, message.seq))
        if known is not None:
            return known
        honest = self.honest_others
        other = self._other(batch)
        twin = self.signed(PrePrepare(message.view, message.seq, other.digest, self.me, other))
        pair = message, twin, tuple(honest[len(honest) // 2 :])
        self.coalition.note((message.view, message.seq), pair)
        return pair

    def _other(self, batch: Batch) -> Batch:
        requests, by = batch.requests, self.parameters["by"]
        if by == "order" and len(requests) > 1:
            return Batch(batch.timestamp_ns, tuple(reversed(requests)))
        if by == "subset" and len(requests) > 1:
            return Batch(batch.timestamp_ns, requests[: len(requests) // 2])
        return Batch(batch.timestamp_ns + 1, requests)

    def _propose(self, pair: Pair) -> list[Effect]:
        one, two, second = pair
        out = [
            *to_each((i for i in self.others if i not in second), one),
            *to_each(second, two),
        ]
        if self.parameters["league"]:
            first = [i for i in self.honest_others if i not in second]
            for proposal, half in ((one, first), (two, second)):
                out += self._league_votes(proposal, half)
        return out

    def _league_votes(self, proposal: PrePrepare, half: Iterable[int]) -> list[Effect]:
        half, place = tuple(half), (proposal.view, proposal.seq, proposal.digest)
        out: list[Effect] = []
        for member in sorted(self.coalition.members & set(self.others)):
            out += to_each(half, self.coalition.sign_as(member, Prepare(*place, member)))
            out += to_each(half, self.coalition.sign_as(member, Commit(*place, member)))
        return [*out, *to_each(half, self.signed(Commit(*place, self.me)))]


class VoteBoth(Behaviour):
    """Votes for whatever anybody proposes or votes for, to whoever seems to believe it (OSDI 1999, section 4.2: one
    vote a member and place)."""

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
        if not self.active(now) or not isinstance(event, PrePrepare | Prepare | Commit):
            return effects
        place = (event.view, event.seq, event.digest, event.replica)
        if event.replica == self.me or place in self._voted or event.view != self.knows("view", event.view):
            return effects
        self._voted[place] = None
        while len(self._voted) > 8 * self.config.log_window * self.config.nodes:
            del self._voted[next(iter(self._voted))]
        prepare = self.signed(Prepare(event.view, event.seq, event.digest, self.me))
        commit = self.signed(Commit(event.view, event.seq, event.digest, self.me))
        return [*effects, Send(event.replica, prepare), Send(event.replica, commit)]


def votes_for_both(who: Behaviour, vote: Prepare | Commit) -> list[Effect]:
    """*vote*, and where a colluding primary proposed two batches, for each half the vote that it waits for."""
    pair: Pair | None = who.coalition.notes.get((vote.view, vote.seq))
    if pair is None:
        return [Broadcast(vote)]
    one, two, second = pair
    first = [i for i in who.others if i not in second]
    out: list[Effect] = []
    for value, receivers in ((one.digest, first), (two.digest, second)):
        for kind in (Prepare, Commit):
            if kind is Commit or who.leader(vote.view) != who.me:
                out += to_each(receivers, who.signed(kind(vote.view, vote.seq, value, who.me)))
    return out


class WrongDigest(Behaviour):
    """Votes for a batch that nobody proposed; as primary, proposes batches under the digest of another (OSDI 1999,
    section 4.2: d must be the digest of m). *percent* (50) of its votes and proposals are wrong."""

    defaults: ClassVar[Mapping[str, Any]] = {"percent": 50}
    most: ClassVar[Mapping[str, int]] = {"percent": 100}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Another digest."""
        message = message_of(effect)
        if (
            not isinstance(message, Prepare | Commit | PrePrepare)
            or message.replica != self.me
            or self.draw(100) >= self.parameters["percent"]
        ):
            return (effect,)
        wrong = digest("tradebft/byzantine", message.digest)
        return (replace(effect, message=self.signed(replace(message, digest=wrong))),)


class BadSignature(Behaviour):
    """*percent* (50) of its messages bear a signature that is not its own: zeros, a changed byte, none at all, an
    earlier message's, or one with another of its keys than that in use (OSDI 1999, section 4.2: messages are accepted
    if the signatures are correct)."""

    defaults: ClassVar[Mapping[str, Any]] = {"percent": 50}
    most: ClassVar[Mapping[str, int]] = {"percent": 100}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last = bytes(64)

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Some signatures are worth nothing."""
        message = message_of(effect)
        if message is None or self.draw(100) >= self.parameters["percent"]:
            return (effect,)
        true = message.signature
        wrong = [bytes(64), bytes([true[0] ^ 1]) + true[1:] if true else b"", b"", self._last]
        wallet = self.coalition.signer_of(self.me)
        if isinstance(wallet, Wallet) and hasattr(message, "payload"):
            payload = message.payload(self.config.chain_id)
            wrong += [signer.sign(payload) for signer in wallet.others]
        self._last = true
        return (replace(effect, message=replace(message, signature=wrong[self.draw(len(wrong))])),)


class FalseReply(Behaviour):
    """Answers clients with a result that nobody computed, as soon as it hears of their request; colluders tell the same
    lie (OSDI 1999, section 4.1: why a client waits for f+1 equal replies)."""

    def step(self, now: int, event: Any) -> Any:
        """The lie leaves first."""
        effects = super().step(now, event)
        if not self.active(now) or not isinstance(event, Request):
            return effects
        return [Send(event.client, self._lie(event)), *effects]

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """What was executed is answered falsely, too."""
        message = message_of(effect)
        if isinstance(effect, Send) and isinstance(message, Reply):
            lie = b"lie" + message.result
            bare = replace(message, result=lie, result_digest=result_digest(lie))
            return (Send(effect.to, self.signed(bare)),)
        return (effect,)

    def _lie(self, request: Request) -> Reply:
        place = "reply", *request.key
        if place not in self.coalition.notes:
            self.coalition.note(place, self.knows("executed") + 1)  # all must name one sequence
        seq, lie = self.coalition.notes[place], b"lie"
        view = self.knows("view")
        return self.signed(
            Reply(view, request.client, request.sequence, self.me, seq, result_digest(lie), lie)
        )


class FalseCheckpoint(Behaviour):
    """Signs checkpoints of a state that it is not in, and of sequences far ahead (OSDI 1999, section 4.3: why q equal
    ones are needed, and why the high watermark does not follow a single member)."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """A wrong digest, and one beyond every window."""
        message = message_of(effect)
        if not isinstance(message, Checkpoint) or message.replica != self.me:
            return (effect,)
        wrong = digest("tradebft/byzantine", message.digest)
        ahead = message.seq + 1000 * self.config.checkpoint_interval
        return (
            replace(effect, message=self.signed(replace(message, digest=wrong))),
            Broadcast(self.signed(replace(message, seq=ahead, digest=wrong)), self.knows("to", None)),
        )
