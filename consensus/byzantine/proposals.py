"""Proposing and voting out of turn: what the accept rules of the normal case are there to refuse."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from msgspec.structs import replace
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of
from tradebft.consensus.interface import Broadcast, Effect
from tradebft.consensus.messages import Batch, Commit, Prepare, PrePrepare, Request, Vote

DAY_NS: Final = 86_400_000_000_000


class BadProposals(Behaviour):
    """Proposes what must not be proposed (OSDI 1999, section 4.2, the conditions on a PrePrepare): every *every_ms*
    (150) a batch with a request that its client never signed, one that was executed before or is named twice, none at
    all or a time in the far future; beyond the high or at the low watermark; a second batch for a place already taken;
    whether it leads the view or not."""

    defaults: ClassVar[Mapping[str, Any]] = {"every_ms": 150}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._heard: deque[Request] = deque(maxlen=64)

    def hears(self, now: int, event: Any) -> Any:
        """Requests, for later."""
        if isinstance(event, Request):
            self._heard.append(event)
        return event

    def tick(self, now: int) -> Iterable[Effect]:
        """Another fault in each proposal."""
        view, low = self.knows("view"), self.knows("low")
        if not self._heard:
            return ()
        seq = self.knows("executed") + 1
        if self.leads:  # beside what the replica inside proposes: its next place stays free
            seq = max(seq, self.knows("next_seq", seq) - 1)
        genuine = self._heard[-1]
        forged = replace(genuine, operation=genuine.operation + b" changed")
        requests: tuple[Request, ...] = (genuine,)
        at = now
        match self.draw(8):
            case 0:
                requests = (forged,)
            case 1:
                requests = (self._heard[0],)
            case 2:
                requests = (genuine, genuine)
            case 3:
                requests = ()
            case 4:
                at = now + 2 * DAY_NS
            case 5:
                seq = low + self.config.log_window + 1
            case 6:
                seq = max(1, low)
            case _:
                requests = (genuine, forged)
        batch = Batch(at, requests)
        proposal = self.signed(PrePrepare(view, seq, batch.digest, self.me, batch))
        return (Broadcast(proposal, self.knows("to", None)),)


class OverVote(Behaviour):
    """Votes more often than it may: every vote twice and for two digests, Prepares also as primary, Commits before it
    prepared, and each signature once more under the other kind of vote (OSDI 1999, section 4.2: distinct backups; why
    what is signed names its kind)."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """The vote, and everything that looks like it."""
        message = message_of(effect)
        if not isinstance(effect, Broadcast) or not isinstance(message, Prepare | Commit | PrePrepare):
            return (effect,)
        to = effect.to
        out: list[Effect] = [effect, effect]
        for vote in self._votes(message):
            out += (Broadcast(vote, to), Broadcast(vote, to))
        return out

    def _votes(self, like: Vote) -> list[Vote]:
        place = (like.view, like.seq, like.digest, self.me)
        wrong = replace(Prepare(*place), digest=bytes(32))
        return [
            self.signed(Prepare(*place)),
            self.signed(Commit(*place)),
            Commit(*place, like.signature),
            Prepare(*place, like.signature),
            self.signed(wrong),
        ]
