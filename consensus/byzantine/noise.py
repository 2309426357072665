"""Saying too much, at the wrong time, or what is no message at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.byzantine.behaviour import Behaviour
from tradebft.consensus.interface import Broadcast, Effect, Executed, Start
from tradebft.consensus.membership import EpochProof
from tradebft.consensus.messages import (
    KINDS,
    Checkpoint,
    Commit,
    Decided,
    Fetch,
    FetchChunk,
    Garbage,
    Prepare,
    Status,
    ViewChange,
)
from tradebft.consensus.snapshot import Snapshot

TICK_NS: Final = 10_000_000
NONE: Final = b"\xee" * 32


class Flood(Behaviour):
    """Sends *rate* useless messages a second, all validly signed: for views and sequences to come, questions that must
    be answered, checkpoints far ahead (Aardvark, NSDI 2009, section 3: flooding)."""

    defaults: ClassVar[Mapping[str, Any]] = {"rate": 1000}
    period_ns = TICK_NS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sent = 0

    def tick(self, now: int) -> Iterable[Effect]:
        """A hundredth of a second's worth, to everybody."""
        count = max(1, self.parameters["rate"] * TICK_NS // 10**9)
        return [Broadcast(self.signed(self._useless(now))) for _ in range(count)]

    def _useless(self, now: int) -> Any:
        self._sent += 1
        view, low = getattr(self.inner, "view", 0), getattr(self.inner, "low", 0)
        at = low + 1 + self._sent % self.config.log_window
        match self._sent % 7:
            case 0:
                return Prepare(view + 1 + self._sent % 5, at, NONE, self.me)
            case 1:
                return Commit(view, at, NONE, self.me)
            case 2:
                return Commit(view, low + self.config.log_window + self._sent, NONE, self.me)
            case 3:
                return Status(view, False, 0, 0, 0, now + self._sent, self.me)
            case 4:
                return Fetch(at, NONE, self.me)
            case 5:
                return Checkpoint(low + self._sent * self.config.checkpoint_interval, NONE, self.me)
            case _:
                return FetchChunk(low, self._sent % 4, self.me)


class Malformed(Behaviour):
    """Sends bytes that are no message, and messages whose fields cannot be."""

    period_ns = 5 * TICK_NS

    def tick(self, now: int) -> Iterable[Effect]:
        """One of each kind of nonsense in turn."""
        self._counter += 1
        return (Broadcast(self._nonsense(self._counter % 9)),)

    def _nonsense(self, kind: int) -> Any:
        huge = (1 << 64) - 1
        good = encode(self.signed(Prepare(0, 1, NONE, self.me)))
        match kind:
            case 0:
                return Garbage(b"\x90" * 2000, self.me)
            case 1:
                return Garbage(b"\xdd\xff\xff\xff\xff" + b"\x00" * 8, self.me)
            case 2:
                return Garbage(good[:-5], self.me)
            case 3:
                return Garbage(good + b"\x00", self.me)
            case 4:
                return Garbage(b"", self.me)
            case 5:
                return self.signed(Prepare(huge, huge, NONE, self.me))
            case 6:
                return self.signed(Commit(0, 0, b"short", self.me))
            case 7:
                return self.signed(Status(huge, True, huge, huge, huge, huge, self.me))
            case _:
                return self.signed(ViewChange(huge, huge, None, (), self.me))


class Replay(Behaviour):
    """Sends again what it heard and said before, and its own votes as signed for another chain."""

    period_ns = 2 * TICK_NS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._heard: deque[Any] = deque(maxlen=200)

    def hears(self, now: int, event: Any) -> Any:
        """Everything is remembered for later."""
        if isinstance(event, KINDS):
            self._heard.append(event)
        return event

    def tick(self, now: int) -> Iterable[Effect]:
        """Two old messages, and one of another chain."""
        if not self._heard:
            return ()
        old = [self._heard[self.draw(len(self._heard))] for _ in range(2)]
        vote = Commit(getattr(self.inner, "view", 0), getattr(self.inner, "executed", 0) + 1, NONE, self.me)
        foreign = self.coalition.sign_as(self.me, vote, b"another chain")
        return [*(Broadcast(message) for message in old), Broadcast(foreign)]


class Premature(Behaviour):
    """Asks for the next view, or for one far ahead, again and again, without a reason, forgetting what it prepared."""

    period_ns = 10 * TICK_NS

    def tick(self, now: int) -> Iterable[Effect]:
        """Mostly the next view."""
        view = getattr(self.inner, "view", 0)
        ahead = 1000 if self.draw(5) == 0 else 1
        return (Broadcast(self.signed(ViewChange(view + ahead, 0, None, (), self.me))),)


class Amnesia(Behaviour):
    """After a restart knows its blocks and no vote that it gave (a disk that lies about having written)."""

    def hears(self, now: int, event: Any) -> Any:
        """Votes, proposals and views are gone."""
        if not isinstance(event, Start):
            return event
        kept = Decided | Executed | QuorumCertificate | Snapshot | EpochProof
        return Start(tuple(record for record in event.records if isinstance(record, kept)))
