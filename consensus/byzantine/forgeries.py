"""Lies about views: ViewChanges that show what never was, NewViews that do not follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from msgspec.structs import replace
from tradebft.chain.crypto import QuorumCertificate, digest, vote_payload
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of, told
from tradebft.consensus.interface import Broadcast, Effect, Effects, TimerFired
from tradebft.consensus.membership import EPOCH_BITS, epoch_of, first_view
from tradebft.consensus.messages import NULL_DIGEST, NewView, Prepared, PrePrepare, ViewChange
from tradebft.consensus.pbft.view_change import proposals


def certificate(
    who: Behaviour, kind: str, view: int, seq: int, value: bytes, needed: int, style: str
) -> QuorumCertificate:
    """A certificate without the votes that it would need: "few" (colluders only), "repeated" (they vote again and
    again) or "borrowed" (their signatures under the names of others)."""
    coalition = who.coalition
    payload = vote_payload(who.config.chain_id, kind, view, seq, value)
    leader = who.leader(view) if kind == "Prepare" else None
    voters = [i for i in sorted(coalition.members) if i != leader] or [who.me]
    votes = [(i, coalition.signer_of(i).sign(payload)) for i in voters]
    if style == "repeated":
        votes = (votes * needed)[:needed]
    elif style == "borrowed":
        others = [i for i in sorted({*who.others, who.me}) if i != leader][:needed]
        votes = [(i, votes[0][1]) for i in others]
    return QuorumCertificate(kind, view, seq, value, tuple(votes))


class ForgePrepared(Behaviour):
    """In its ViewChange claims what never was (OSDI 1999, section 4.4: why P carries certificates): prepared
    certificates with its colluders' votes only, with one vote many times, with signatures under others' names, of a
    later view than there was; a stable checkpoint ahead that nobody signed; or it leaves out what it did prepare."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Another lie in each ViewChange."""
        message = message_of(effect)
        if not isinstance(message, ViewChange) or message.replica != self.me:
            return (effect,)
        return (replace(effect, message=self.signed(self._false(message, self.draw(7)))),)

    def _false(self, message: ViewChange, lie: int) -> ViewChange:
        if lie == 0:
            return replace(message, prepared=())
        if lie == 1:
            later = tuple(
                replace(entry, pre_prepare=replace(entry.pre_prepare, view=message.view))
                for entry in message.prepared
            )
            return replace(message, prepared=later or (self._forged(message, "few", message.view),))
        if lie == 2:
            ahead = message.stable + 4 * self.config.checkpoint_interval
            proof = certificate(
                self, "Checkpoint", first_view(epoch_of(message.view)), ahead, NULL_DIGEST,
                self.config.quorum, "borrowed",
            )  # fmt: skip
            return replace(message, stable=ahead, checkpoint=proof, prepared=())
        if lie == 3:
            shown = message.prepared or (self._forged(message, "repeated", message.view - 1),)
            return replace(message, prepared=shown + shown[-1:])
        style = ("few", "repeated", "borrowed")[lie - 4]
        return replace(message, prepared=(self._forged(message, style, message.view - 1),))

    def _forged(self, message: ViewChange, style: str, view: int) -> Prepared:
        seq, leader = message.stable + 1, self.leader(view)
        value = digest("tradebft/byzantine", b"%d" % seq)
        signer = leader if leader in self.coalition.members else self.me
        proposal = self.coalition.sign_as(signer, PrePrepare(view, seq, value, leader))
        return Prepared(
            proposal, certificate(self, "Prepare", view, seq, value, self.config.quorum - 1, style)
        )


class FalseNewView(Behaviour):
    """As new primary, proposes something else than what follows from the ViewChanges, or shows other ViewChanges than
    it got (OSDI 1999, section 4.4: why backups compute O themselves). Also opens views that it does not lead: every
    *every_ms* (400) one that nobody asked for, and each that a quorum asks for, faultless but for who opens it."""

    defaults: ClassVar[Mapping[str, Any]] = {"every_ms": 400}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._asked: dict[int, ViewChange] = {}  # the latest view that each member asked for
        self._taken = 0  # the last view that it opened in another's place

    def step(self, now: int, event: Any) -> Effects:
        """A quorum's ViewChanges are an occasion."""
        effects = super().step(now, event)
        if not isinstance(event, ViewChange | TimerFired) or not self.active(now):
            return effects
        for message in (event, *map(message_of, effects)):
            if isinstance(message, ViewChange):
                self._asked[message.replica] = message
        return [*effects, *told(self._usurped, ())]

    def _usurped(self) -> Iterable[Effect]:
        """The view that this member waits for, opened as its primary would."""
        view = self.knows("view")
        shown = tuple(change for _, change in sorted(self._asked.items()) if change.view == view)
        if view <= self._taken or self.leader(view) == self.me or len(shown) < self.config.quorum:
            return ()
        self._taken = view
        shown = shown[: self.config.quorum]
        _, expected = proposals(shown)
        carried = tuple(self.signed(PrePrepare(view, seq, value, self.me)) for seq, value in expected)
        opened = self.signed(NewView(view, shown, carried, self.me))
        return (Broadcast(opened, self.knows("to", None)),)

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Another lie in each NewView."""
        message = message_of(effect)
        if not isinstance(message, NewView) or message.replica != self.me:
            return (effect,)
        return (replace(effect, message=self.signed(self._false(message, self.draw(9)))),)

    def _false(self, message: NewView, lie: int) -> NewView:
        made, shown = message.proposals, message.view_changes
        low = max(change.stable for change in shown)
        match lie:
            case 0:  # one member's ViewChange in place of a quorum's, with what follows from it
                return self._following(message, shown[:1] * len(shown))
            case 1:  # the last proposal dropped
                return replace(message, proposals=made[:-1] if made else (self._null(message, low + 1),))
            case 2:  # null batches in place of what was prepared
                return replace(message, proposals=tuple(self._null(message, p.seq) for p in made))
            case 3:  # one more
                return replace(message, proposals=(*made, self._null(message, low + 1 + len(made))))
            case 4:  # one ViewChange too few
                return replace(message, view_changes=shown[:-1])
            case 5:  # min-s lowered: begins where everybody is past
                return replace(message, proposals=(self._null(message, max(1, low)), *made))
            case 6:  # two digests exchanged
                swapped = [p.digest for p in made[1:]] + [p.digest for p in made[:1]]
                signed = [
                    self.signed(replace(p, digest=value)) for p, value in zip(made, swapped, strict=True)
                ]
                return replace(message, proposals=tuple(signed))
            case 7:  # null batches left out, so that there is a gap
                return replace(message, proposals=tuple(p for p in made if p.digest != NULL_DIGEST))
            case (
                _
            ):  # what others prepared taken out of their ViewChanges: their signatures do not hold any more
                return self._following(
                    message, tuple(c if c.replica == self.me else replace(c, prepared=()) for c in shown)
                )

    def _following(self, message: NewView, shown: tuple[ViewChange, ...]) -> NewView:
        """The NewView that would be right if *shown* were."""
        _, expected = proposals(shown)
        carried = tuple(self.signed(PrePrepare(message.view, s, value, self.me)) for s, value in expected)
        return replace(message, view_changes=shown, proposals=carried)

    def _null(self, message: NewView, seq: int) -> PrePrepare:
        return self.signed(PrePrepare(message.view, seq, NULL_DIGEST, self.me))

    def tick(self, now: int) -> Iterable[Effect]:
        """A NewView for somebody else's view, shown with the coalition's ViewChanges only."""
        view = self.knows("view") + 1
        if self.leader(view) == self.me:
            return ()
        low, proof = self.knows("low"), self.knows("stable", None)
        changes = tuple(
            self.coalition.sign_as(member, ViewChange(view, low, proof, (), member))
            for member in sorted(self.coalition.members)
        )
        opened = self.signed(NewView(view, changes, (), self.me))
        return (Broadcast(opened, self.knows("to", None)),)


class Premature(Behaviour):
    """Asks for the next view, or for one far ahead, every *every_ms* (100), without a reason and forgetting what it
    prepared (OSDI 1999, section 4.5.2: why f+1 must ask before others join)."""

    defaults: ClassVar[Mapping[str, Any]] = {"every_ms": 100}

    def tick(self, now: int) -> Iterable[Effect]:
        """Mostly the next view."""
        view = self.knows("view")
        ahead = (1, 1, 2, 1000, (1 << EPOCH_BITS) - 1 - view % (1 << EPOCH_BITS))[self.draw(5)]
        change = ViewChange(view + max(1, ahead), self.knows("low"), self.knows("stable", None), (), self.me)
        return (Broadcast(self.signed(change), self.knows("to", None)),)
