"""The shape of every misbehaviour: a wrapper around an honest replica that changes what goes in and what comes out.

A wrapper has the replica's own shape, ``effects = step(now, input)``, so several stack on one member and a scenario
may name a class of the user's own. Adversaries have no clock and no dice either: whatever they choose is a function of
what they saw, so that a run with them repeats exactly. They sign as themselves and as their colluders, never as others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from msgspec.structs import replace
from tradebft.chain.codec import CodecError
from tradebft.chain.crypto import Keyring, Signer, digest
from tradebft.consensus.interface import (
    NOTHING,
    Address,
    Broadcast,
    Config,
    Effect,
    Effects,
    Replica,
    Send,
    SendBlocks,
    SendChunk,
    SetTimer,
    Start,
    TimerFired,
)
from tradebft.consensus.messages import Message

M = TypeVar("M")
PREFIX: Final = "byz/"
ANOTHER_CHAIN: Final = b"another chain"


class Coalition:
    """The members that misbehave together. Each may sign as any of them, and they share *notes*. *abroad*: honest
    members who use their keys on another chain too, so that the coalition has whatever they signed there.
    """

    def __init__(
        self,
        config: Config,
        signers: Mapping[int, Signer],
        keyring: Keyring,
        abroad: Mapping[int, Signer] | None = None,
    ) -> None:
        self.config, self.signers, self.keyring = config, dict(signers), keyring
        self.abroad = dict(abroad or {})
        self.notes: dict[Any, Any] = {}
        self.victim = ""  # the client that they starve
        self._replicas: dict[int, Replica] = {}

    @property
    def members(self) -> frozenset[int]:
        """Who is in it."""
        return frozenset(self.signers)

    def enlist(self, replica: Replica) -> None:
        """*replica* is what a colluder has inside: its keys may change with the epoch."""
        self._replicas[replica.me] = replica

    def signer_of(self, member: int) -> Signer:
        """What *member* signs with now; KeyError for whoever is no colluder."""
        first = self.signers[member]
        return self._replicas[member].signer if member in self._replicas else first

    def sign_as(self, member: int, message: M, chain_id: bytes | None = None) -> M:
        """*message* with the signature of *member*, a colluder (on another chain, if one is named)."""
        payload = message.payload(self.config.chain_id if chain_id is None else chain_id)  # type: ignore[attr-defined]
        return replace(message, signature=self.signer_of(member).sign(payload))  # type: ignore[type-var]

    def signed_abroad(self, member: int, message: M) -> M:
        """*message* as *member* signed it on another chain; a colluder will sign it there, too."""
        signer = self.abroad[member] if member in self.abroad else self.signer_of(member)
        payload = message.payload(ANOTHER_CHAIN)  # type: ignore[attr-defined]
        return replace(message, signature=signer.sign(payload))  # type: ignore[type-var]

    def note(self, key: Any, value: Any) -> None:
        """Tell the others; the oldest notes go when there are many."""
        self.notes[key] = value
        while len(self.notes) > 4 * self.config.log_window:
            del self.notes[next(iter(self.notes))]


class Behaviour:
    """An honest replica, *inner*, and how this member deviates from it, between *at_ns* and *until_ns*."""

    period_ns: int = 0  # above 0: `tick` is called that often
    defaults: ClassVar[Mapping[str, Any]] = {}  # its parameters; texts and whole numbers
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # what texts may be, where not everything goes
    several: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # or what they may name, with spaces between
    most: ClassVar[Mapping[str, int]] = {}  # how large numbers may be, where not everything goes

    def __init__(self, inner: Replica, coalition: Coalition, parameters: Mapping[str, Any]) -> None:
        check(type(self), {k: v for k, v in parameters.items() if k not in ("at_ns", "until_ns")})
        self.inner, self.coalition = inner, coalition
        self.me, self.config = inner.me, inner.config
        self.parameters = {**self.defaults, **parameters}
        self._at, self._until = self.parameters.get("at_ns", 0), self.parameters.get("until_ns")
        self._depth: int = getattr(inner, "_depth", 0) + 1
        self._timer = f"{PREFIX}{self._depth}/{type(self).__name__}"
        self._counter = 0
        if "every_ms" in self.parameters:
            self.period_ns = self.parameters["every_ms"] * 1_000_000
        if self._depth == 1:
            coalition.enlist(inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    def active(self, now: int) -> bool:
        """Whether it misbehaves at this time."""
        return self._at <= now and (self._until is None or now < self._until)

    def step(self, now: int, event: Any) -> Effects:
        """Take one input at time *now* (ns) and return what is to be done, in order."""
        if isinstance(event, TimerFired) and event.name == self._timer:
            out = told(lambda: self.tick(now), ()) if self.active(now) else []
            return [*out, *self._again(now)]
        active = self.active(now)
        if active:
            event = self.hears(now, event)
            if event is None:
                return NOTHING
        effects = list(self._changed(now, self.inner.step(now, event), active))
        if isinstance(event, Start) and self.period_ns:
            effects += self._again(now)
        return effects

    def _again(self, now: int) -> list[Effect]:
        if self._until is not None and now >= self._until:
            return []
        return [SetTimer(self._timer, max(self.period_ns, self._at - now))]

    def _changed(self, now: int, effects: Effects, active: bool) -> Iterator[Effect]:
        for effect in effects:
            if active:
                yield from told(partial(self.does, now, effect), (effect,))
            else:
                yield effect

    # --- what a behaviour overrides ---

    def hears(self, now: int, event: Any) -> Any:
        """The input that the honest replica gets instead of *event*; None for nothing."""
        return event

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """What is done instead of *effect*."""
        return (effect,)

    def tick(self, now: int) -> Iterable[Effect]:
        """What is done every `period_ns`."""
        return ()

    # --- what behaviours are made of ---

    @property
    def others(self) -> list[int]:
        """Every other replica."""
        members = getattr(self.inner, "to", None) or range(self.config.nodes)
        return [index for index in members if index != self.me]

    @property
    def honest_others(self) -> list[int]:
        """Those that are not in the coalition."""
        return [index for index in self.others if index not in self.coalition.members]

    @property
    def leads(self) -> bool:
        """Whether it is this member's turn to propose."""
        return bool(getattr(self.inner, "is_primary", False))

    def leader(self, view: int) -> int:
        """Who leads *view*."""
        committee = getattr(self.inner, "committee", None)
        return int(view % self.config.nodes if committee is None else committee.primary(view))

    def knows(self, name: str, otherwise: Any = 0) -> Any:
        """Field *name* of the replica inside (`view`, `low`, `executed` ...), if its protocol has it."""
        return getattr(self.inner, name, otherwise)

    def signed(self, message: M) -> M:
        """*message* with this member's own signature."""
        return self.coalition.sign_as(self.me, message)

    def draw(self, below: int) -> int:
        """A number below *below* that looks like chance and is a function of how often it was asked for."""
        self._counter += 1
        salt = self.coalition.signers[self.me].public_key  # another network, other choices
        value = digest("tradebft/byzantine", salt, b"%d/%d/%d" % (self.me, self._depth, self._counter))
        return int.from_bytes(value[:8], "big") % below


def check(kind: type[Behaviour], parameters: Mapping[str, Any]) -> None:
    """ValueError where *kind* has no such parameter, or wants it of another type or size."""
    for name, value in parameters.items():
        if name not in kind.defaults:
            known = ", ".join(sorted(kind.defaults)) or "none"
            raise ValueError(f"{kind.__name__} has no parameter {name!r}; it has: {known}")
        default = kind.defaults[name]
        if type(value) is not type(default):
            expected = "a text" if isinstance(default, str) else "a whole number"
            raise ValueError(f"{name}: expected {expected}; found {value!r}")
        if name in kind.choices and value not in kind.choices[name]:
            raise ValueError(f"{name}: expected one of {', '.join(kind.choices[name])}; found {value!r}")
        for word in value.split() if name in kind.several else ():
            if word not in kind.several[name]:
                raise ValueError(f"{name}: expected some of {', '.join(kind.several[name])}; found {word!r}")
        least = 1 if name == "every_ms" else 0
        if isinstance(value, int) and value < least:
            raise ValueError(f"{name}: expected at least {least}; found {value}")
        if name in kind.most and value > kind.most[name]:
            raise ValueError(f"{name}: expected at most {kind.most[name]:,}; found {value}")


def told(lie: Callable[[], Iterable[Effect]], otherwise: Iterable[Effect]) -> list[Effect]:
    """What *lie* comes to; *otherwise* where it has no encoding (a lie about what another behaviour made up before)."""
    try:
        return list(lie())
    except (CodecError, OverflowError, struct.error):
        return list(otherwise)


def is_sending(effect: Effect) -> bool:
    """Whether *effect* makes something leave the node."""
    return isinstance(effect, Send | Broadcast | SendBlocks | SendChunk)


def message_of(effect: Effect) -> Message | None:
    """The message that *effect* sends; None if it sends none, or one that is still to be made from the disk."""
    return effect.message if isinstance(effect, Send | Broadcast) else None


def to_each(receivers: Iterable[Address], message: Any) -> list[Effect]:
    """*message* to each of *receivers*."""
    return [Send(receiver, message) for receiver in receivers]
