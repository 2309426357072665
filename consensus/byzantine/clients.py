"""Clients that do not play fair. They may harm themselves; replicas and everybody else's requests must not notice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Broadcast, Effect, Effects, Send
from tradebft.consensus.messages import Request

LAST: Final = (1 << 64) - 1


class DishonestClient:
    """A client around *inner*, whose requests leave otherwise than it meant."""

    def __init__(self, inner: Client) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    def step(self, now: int, event: Any) -> Effects:
        """Take one input at time *now* (ns) and return what is to be done, in order."""
        out: list[Effect] = []
        for effect in self.inner.step(now, event):
            if isinstance(effect, Send | Broadcast) and isinstance(effect.message, Request):
                out += self.ask(effect, effect.message)
            else:
                out.append(effect)
        return out

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """What is sent instead of *request*."""
        return (effect,)

    def signed(self, request: Request) -> Request:
        """*request* with this client's signature."""
        signature = self.inner.signer.sign(request.payload(self.inner.config.chain_id))
        return replace(request, signature=signature)


class DoubleSubmit(DishonestClient):
    """Sends every request to everybody, three times."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """Three times to all."""
        return [Broadcast(request)] * 3


class SameSequence(DishonestClient):
    """Signs several operations under one sequence: the primary hears of one, every other replica of one of its own."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """Whoever hears of which."""
        out: list[Effect] = [effect]
        for index in self.inner.committee.indices:
            other = replace(request, operation=request.operation + b" %d" % index, signature=b"")
            out.append(Send(index, self.signed(other)))
        return out


class BadSignature(DishonestClient):
    """Signs nothing, or another operation than it sends."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """A signature of zeros, and a genuine one under changed words."""
        return (
            replace(effect, message=replace(request, signature=bytes(64))),
            Broadcast(replace(request, operation=request.operation + b" and more")),
        )


class BackupsOnly(DishonestClient):
    """Tells some backups and never the primary, so that they suspect it without reason (they pass requests on)."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """To every second replica but the one that leads."""
        primary = self.inner.committee.primary(self.inner.view)
        others = [i for i in self.inner.committee.indices if i != primary]
        return [Send(i, request) for i in others[::2]]


class FarAhead(DishonestClient):
    """Numbers its requests ahead: by half a window, by one, by a thousand, to the last number there is."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """The request, and more of them that lie at the edge of every window or beyond."""
        window, number = self.inner.config.client_window, request.sequence
        out: list[Effect] = [effect]
        for sequence in (number + window // 2, number + window, number + 1000 * window, LAST):
            out.append(Broadcast(self.signed(replace(request, sequence=sequence, signature=b""))))
        return out


BEHAVIOURS: Final[dict[str, type[DishonestClient]]] = {
    "double-submit": DoubleSubmit,
    "same-sequence": SameSequence,
    "bad-signature": BadSignature,
    "backups-only": BackupsOnly,
    "far-ahead": FarAhead,
}
