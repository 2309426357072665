"""Saying too little or too late: nothing that is sent is false."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from tradebft.consensus.byzantine.behaviour import Behaviour, is_sending, message_of, to_each
from tradebft.consensus.interface import Broadcast, Effect, Send, SetTimer, TimerFired
from tradebft.consensus.messages import Fetch, PrePrepare, Request


class Silent(Behaviour):
    """Hears everything, says nothing (a fail-stop member that still looks alive from inside)."""

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Nothing leaves."""
        return () if is_sending(effect) else (effect,)


class Omit(Behaviour):
    """Loses *percent* (40) of what it should send (omission faults: Perry and Toueg, IEEE TSE 1986)."""

    defaults: ClassVar[Mapping[str, Any]] = {"percent": 40}
    most: ClassVar[Mapping[str, int]] = {"percent": 100}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Each message leaves, or does not."""
        if not is_sending(effect) or self.draw(100) >= self.parameters["percent"]:
            return (effect,)
        return ()


class MuteToSome(Behaviour):
    """Speaks to everybody but *count* others (0: f of them), who see a silent member where others see a live one: the
    views of who is up differ (asymmetric omissions, as drawn by ByzzFuzz, OOPSLA 2023)."""

    defaults: ClassVar[Mapping[str, Any]] = {"count": 0}

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Those in the dark get nothing."""
        count = self.parameters["count"] or self.config.faults
        dark = set(self.honest_others[-count:])
        if isinstance(effect, Broadcast):
            return to_each((i for i in self.others if i not in dark), effect.message)
        return () if is_sending(effect) and getattr(effect, "to", None) in dark else (effect,)


class Delay(Behaviour):
    """As primary, holds every proposal for *percent* (80) of the view-change timeout: slow, and never slow enough to be
    suspected (the attack that Aardvark was built against; Clement et al., NSDI 2009)."""

    defaults: ClassVar[Mapping[str, Any]] = {"percent": 80}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._held: list[tuple[int, Effect]] = []

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """Proposals wait, in order."""
        if not isinstance(message_of(effect), PrePrepare):
            return (effect,)
        hold = self.config.view_change_timeout_ns * self.parameters["percent"] // 100
        self._held.append((now + hold, effect))
        return (SetTimer(self._timer, hold),) if len(self._held) == 1 else ()

    def step(self, now: int, event: Any) -> Any:
        """Proposals whose time has come leave first."""
        if isinstance(event, TimerFired) and event.name == self._timer:
            due = [effect for at, effect in self._held if at <= now]
            self._held = self._held[len(due) :]
            return [*due, *([SetTimer(self._timer, self._held[0][0] - now)] if self._held else [])]
        return super().step(now, event)


class Starve(Behaviour):
    """Never hears the requests of *client* ("": of whichever asks first), so never proposes them; serves all others
    (OSDI 1999, section 4.5.2: what the timer on the oldest request is for)."""

    defaults: ClassVar[Mapping[str, Any]] = {"client": ""}

    def hears(self, now: int, event: Any) -> Any:
        """Requests of one client are lost on it."""
        if isinstance(event, Request):
            victim = self.parameters["client"] or self.coalition.victim or event.client
            self.coalition.victim = victim
            if event.client == victim:
                return None
        return event


class WithholdBodies(Behaviour):
    """As primary, shows each batch to just enough backups to have it prepared, and answers no Fetch: the others must
    get it from one another (OSDI 1999, section 4.4, on batches that a replica knows by digest only)."""

    def hears(self, now: int, event: Any) -> Any:
        """Nobody gets a body by asking."""
        return None if isinstance(event, Fetch) else event

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """The last ones see nothing, or a proposal without its batch."""
        message = message_of(effect)
        if not isinstance(message, PrePrepare) or message.batch is None:
            return (effect,)
        enough = self.others[: self.config.quorum - 1]
        if isinstance(effect, Send):
            return (effect,) if effect.to in enough else ()
        bare = PrePrepare(message.view, message.seq, message.digest, self.me, None, message.signature)
        return [*to_each(enough, message), *to_each((i for i in self.others if i not in enough), bare)]
