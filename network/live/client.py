"""A client of a real network: submit an operation, await what f+1 replicas answered alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tradebft.chain.codec import CodecError
from tradebft.consensus.client import Client
from tradebft.consensus.decoding import decoded
from tradebft.consensus.interface import (
    Answered,
    Broadcast,
    CancelTimer,
    Effects,
    Evidence,
    Ignored,
    Send,
    SetTimer,
    Submit,
    TimerFired,
)
from tradebft.consensus.messages import Reply, authentic
from tradebft.network.live.clock import Clock, Timers
from tradebft.network.live.envelope import endpoint
from tradebft.network.live.port import Port


class Answer(NamedTuple):
    """What was executed for an operation: its *result*, in the batch at *seq*. Times in ns of the client's clock."""

    result: bytes
    seq: int
    sequence: int  # the client's own number of the request
    submitted_ns: int
    answered_ns: int


class LiveClient:
    """Runs *client* over *port*."""

    def __init__(self, client: Client, port: Port, clock: Clock) -> None:
        self.client, self.port = client, port
        self.counts: Counter[str] = Counter()
        self.evidence: list[Evidence] = []
        port.others = client.config.nodes
        self._clock = clock
        self._waiting: dict[int, tuple[asyncio.Future[Answer], int]] = {}
        self._tags = 0
        self._timers = Timers(lambda name: self._step(TimerFired(name)))
        self._flushing = False
        self._leaving = False
        self.number: Callable[[], int] | None = (
            None  # gives each request its number, where not all are this client's
        )

    async def start(self) -> None:
        """Join the bus."""
        await self.port.open(self._receive)

    async def stop(self) -> None:
        """Leave it; what waits for an answer is cancelled."""
        self._leaving = True
        self._timers.close()
        for answer, _ in self._waiting.values():
            answer.cancel()
        self._waiting.clear()
        await self.port.close()

    def submit(self, operation: bytes) -> asyncio.Future[Answer]:
        """Have *operation* executed, once. Cancelling the future does not undo what was sent."""
        self._tags += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[self._tags] = answer, self._clock.now()
        if self.number is not None:
            self.client.sequence = self.number() - 1
        self._step(Submit(operation, self._tags))
        return answer

    def _receive(self, data: bytes, sealed_by: str) -> None:
        if self._leaving:
            return  # nobody waits for it any more
        try:
            message = decoded(data)
        except CodecError:
            self.counts["malformed"] += 1
            return
        # Nobody is shown a reply by its reader, so its sender's seal says as much as its signature would.
        known = isinstance(message, Reply) and sealed_by == endpoint(message.replica)
        if not known and not authentic(message, self.client.config.chain_id, self.port.keyring):
            self.counts["bad signature"] += 1
            return
        self._step(message)

    def _step(self, event: Any) -> None:
        self._perform(self.client.step(self._clock.now(), event))
        if not self._flushing:  # what is submitted at one moment leaves in one envelope
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self.port.flush()

    def _perform(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    self.port.send(to, message)
                case Broadcast(message, members):
                    self.port.broadcast(message, members)
                case SetTimer(name, delay_ns):
                    self._timers.set(name, delay_ns)
                case CancelTimer(name):
                    self._timers.cancel(name)
                case Answered(tag, sequence, result, seq):
                    answer, submitted = self._waiting.pop(tag)
                    if not answer.done():
                        answer.set_result(Answer(result, seq, sequence, submitted, self._clock.now()))
                case Ignored(why):
                    self.counts[why] += 1
                case Evidence():
                    self.evidence.append(effect)
                case _:
                    raise ValueError(f"a client asked for {effect!r}, which nothing here can do")
