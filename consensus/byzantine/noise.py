"""Saying too much, at the wrong time, or what is no message at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from msgspec.structs import replace
from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate, digest
from tradebft.consensus.byzantine.behaviour import Behaviour, message_of
from tradebft.consensus.interface import Broadcast, Effect, Executed, Send, Start
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
HUGE: Final = (1 << 64) - 1
FLOODS: Final = ("future-view", "in-window", "beyond-window", "status", "fetch", "checkpoint", "chunk")


class Flood(Behaviour):
    """Sends *rate* (1000) useless messages a second, all validly signed: for views and sequences to come, questions
    that must be answered, checkpoints far ahead (Aardvark: Clement et al., NSDI 2009). *kinds*: which of
    future-view, in-window, beyond-window, status, fetch, checkpoint and chunk, with spaces between; "" is all."""

    defaults: ClassVar[Mapping[str, Any]] = {"rate": 1000, "kinds": ""}
    several: ClassVar[Mapping[str, tuple[str, ...]]] = {"kinds": FLOODS}
    most: ClassVar[Mapping[str, int]] = {"rate": 1_000_000}
    period_ns = TICK_NS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sent = self._due = 0
        self._kinds = tuple(self.parameters["kinds"].split()) or FLOODS

    def tick(self, now: int) -> Iterable[Effect]:
        """A hundredth of a second's worth, to everybody."""
        self._due += self.parameters["rate"] * TICK_NS
        count, self._due = divmod(self._due, 1_000_000_000)
        to = self.knows("to", None)
        return [Broadcast(self.signed(self._useless(now)), to) for _ in range(count)]

    def _useless(self, now: int) -> Any:
        self._sent += 1
        number, me, window = self._sent, self.me, self.config.log_window
        view, low = self.knows("view"), self.knows("low")
        at = low + 1 + number % window
        match self._kinds[number % len(self._kinds)]:
            case "future-view":
                return Prepare(view + 1 + number % 5, at, NONE, me)
            case "in-window":
                return Commit(view, at, NONE, me)
            case "beyond-window":
                return Commit(view, low + window + number, NONE, me)
            case "status":
                return Status(view, False, 0, 0, 0, now + number, me)
            case "fetch":
                return Fetch(at, NONE, me)
            case "checkpoint":
                return Checkpoint(low + number * self.config.checkpoint_interval, NONE, me)
            case _:
                return FetchChunk(low, number % 4, me)


class Malformed(Behaviour):
    """Every *every_ms* (50) bytes that are no message: truncated, with something behind, nested deeply, announcing more
    than there is, longer than any message may be, of no kind, with wrong types, in another encoding than the canonical
    one; or messages of fields that cannot be: negative, of 64 bits, of nobody. Every decoder's
    first duty."""

    defaults: ClassVar[Mapping[str, Any]] = {"every_ms": 50}

    def tick(self, now: int) -> Iterable[Effect]:
        """One of each kind of nonsense in turn."""
        kinds = self._bytes() if self._counter % 2 else self._messages()
        number, self._counter = self._counter >> 1, self._counter + 1
        garbage: Any = Garbage(kinds[number % len(kinds)], self.me)
        return (Broadcast(garbage, self.knows("to", None)),)

    def _bytes(self) -> list[bytes]:
        good = encode(self.signed(Prepare(0, 1, NONE, self.me)))
        return [
            b"",
            good[:-5],
            good + b"\x00",
            b"\x91" * 5000,
            b"\xdd\xff\xff\xff\xff" + b"\x00" * 8,
            good[:-64] + bytes(4096),
            good.replace(b"Prepare", b"Prepose"),
            encode(["Prepare", True, 1, NONE, self.me, b""]),
            encode(["Prepare", "0", 1, NONE, None, b""]),
            b"\xdc\x00" + bytes([good[0] & 15]) + good[1:],
        ]

    def _messages(self) -> list[bytes]:
        me = self.me
        absurd: list[Any] = [
            Prepare(HUGE, HUGE, NONE, me),
            Commit(0, 0, b"short", me),
            Commit(1 << 63, 1 << 63, NONE, me),
            Status(HUGE, True, HUGE, HUGE, HUGE, HUGE, me),
            ViewChange(HUGE, HUGE, None, (), me),
            ViewChange(1 << 63, 0, None, (), me),
            Fetch(HUGE, b"", me),
            FetchChunk(HUGE, HUGE, me),
            Checkpoint(HUGE - HUGE % self.config.checkpoint_interval, NONE, me),
        ]
        strangers = [Prepare(0, 1, NONE, self.config.nodes + 7), Prepare(0, 1, NONE, -1)]
        negative = [Prepare(-1, 1, NONE, me), Commit(0, -(1 << 63), NONE, me)]
        return [encode(m) for m in (*map(self.signed, absurd), *strangers, *negative)]


class Replay(Behaviour):
    """Every *every_ms* (20) sends again two of the last 200 messages that it heard or said, a vote that an honest
    member gave on another chain, for another batch, and a vote of another kind with the signature of one that it heard
    (OSDI 1999, section 4: sequence numbers and views against replay; domain separation)."""

    defaults: ClassVar[Mapping[str, Any]] = {"every_ms": 20}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kept: deque[tuple[int | str | None, Any]] = deque(
            maxlen=200
        )  # to whom (None: to all), and what

    def hears(self, now: int, event: Any) -> Any:
        """Everything is remembered for later."""
        if isinstance(event, KINDS):
            self._kept.append((None, event))
        return event

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """So is what it says itself."""
        message = message_of(effect)
        if message is not None:
            self._kept.append((effect.to if isinstance(effect, Send) else None, message))
        return (effect,)

    def tick(self, now: int) -> Iterable[Effect]:
        """Two old messages, one of another chain, and one of another kind."""
        if not self._kept:
            return ()
        members = self.knows("to", None)
        out: list[Effect] = []
        for _ in range(2):
            to, message = self._kept[self.draw(len(self._kept))]
            out.append(Broadcast(message, members) if to is None else Send(to, message))
        votes = [m for _, m in self._kept if isinstance(m, Prepare | Commit)]
        if votes:
            vote = votes[self.draw(len(votes))]
            whose = sorted(self.coalition.abroad) or [self.me]
            member = whose[self.draw(len(whose))]
            other = replace(vote, replica=member, digest=digest("tradebft/byzantine", vote.digest))
            out.append(Broadcast(self.coalition.signed_abroad(member, other), members))
            heard = votes[self.draw(len(votes))]
            kind = Commit if isinstance(heard, Prepare) else Prepare
            disguised = kind(heard.view, heard.seq, heard.digest, heard.replica, heard.signature)
            out.append(Broadcast(disguised, members))
        return out


class Amnesia(Behaviour):
    """After a restart knows its blocks and no vote that it gave (a disk that lies about having written: why a vote is
    durable before it leaves). Without a restart it is honest."""

    def hears(self, now: int, event: Any) -> Any:
        """Votes, proposals and views are gone."""
        if not isinstance(event, Start):
            return event
        kept = Decided | Executed | QuorumCertificate | Snapshot | EpochProof
        return Start(tuple(record for record in event.records if isinstance(record, kept)))
