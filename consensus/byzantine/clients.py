"""Clients that do not play fair. They may harm themselves; replicas and everybody else's requests must not notice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Broadcast, Effect, Effects, Send
from tradebft.consensus.messages import Request


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
    """Signs two operations under one sequence and tells one to the primary, the other to everybody else."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """Whoever hears of which."""
        other = self.signed(replace(request, operation=request.operation + b" twice", signature=b""))
        return [effect, Broadcast(other)]


class BadSignature(DishonestClient):
    """Signs nothing."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """A signature of zeros."""
        return (replace(effect, message=replace(request, signature=bytes(64))),)


class BackupsOnly(DishonestClient):
    """Tells some backups and never the primary, so that they suspect it without reason (they pass requests on)."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """To every second replica but the one that leads."""
        primary = self.inner.committee.primary(self.inner.view)
        others = [i for i in self.inner.committee.indices if i != primary]
        return [Send(i, request) for i in others[::2]]


class FarAhead(DishonestClient):
    """Jumps a thousand numbers ahead every now and then, and back."""

    def ask(self, effect: Send | Broadcast, request: Request) -> Iterable[Effect]:
        """One more request that lies beyond every window."""
        ahead = self.signed(replace(request, sequence=request.sequence + 1000, signature=b""))
        return [effect, Broadcast(ahead)]


BEHAVIOURS: Final[dict[str, type[DishonestClient]]] = {
    "double-submit": DoubleSubmit,
    "same-sequence": SameSequence,
    "bad-signature": BadSignature,
    "backups-only": BackupsOnly,
    "far-ahead": FarAhead,
}
