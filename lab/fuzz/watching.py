"""Notes everything that happens in one trial, for the story of it: messages copy by copy, commits, accusations.

It listens at the bus and at the recorder and changes nothing: a trial that is watched has the digest of one that is
not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.interface import Address, Committed, Evidence
from tradebft.consensus.messages import FetchReply, Message, NewView, Request, Status, ViewChange
from tradebft.network.cluster import Cluster
from tradebft.network.recorder import copies

LOST = -1


class Copy(NamedTuple):
    """One copy of a message: to whom, and when it arrives (ns); LOST where it never does."""

    receiver: int
    arrives_ns: int


class Sent(NamedTuple):
    """One message, with all its copies. *sender* and receivers are endpoints: members, then clients."""

    at_ns: int
    sender: int
    message: Message
    everybody: bool  # a broadcast
    copies: tuple[Copy, ...]


class Event(NamedTuple):
    """Something else that happened at an endpoint, in words."""

    at_ns: int
    endpoint: int
    what: str


class Notes:
    """Give it to `try_case` as its watch; it fills while the trial runs."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.events: list[Event] = []
        self.progress_ns = (
            0  # when somebody last committed something or asked for a view that nobody asked for before
        )
        self._highest_view = 0
        self._arriving: list[Copy] = []
        self.cluster: Cluster

    def __call__(self, cluster: Cluster) -> None:
        """Begin to listen."""
        self.cluster = cluster
        bus: Any = cluster.bus
        recorder: Any = cluster.recorder
        self._broadcast, self._send = bus.broadcast, bus.send
        self._committed, self._accuse = recorder.committed, recorder.accuse
        bus.broadcast, bus.send = self.broadcast, self.send
        recorder.round_open, recorder.keep = True, self.keep
        recorder.keep_broadcast = self.keep_broadcast
        recorder.committed, recorder.accuse = self.committed, self.accuse

    # --- what the simulation calls ---

    def keep(self, message: Message, sender: int, receiver: int, sent: int, arrived: int) -> None:
        """A copy that will arrive."""
        self._arriving.append(Copy(receiver, arrived))

    def keep_broadcast(
        self,
        message: Message,
        sender: int,
        sent: int,
        receivers: NDArray[np.int64],
        delays: NDArray[np.int64],
    ) -> None:
        """A copy to each of *receivers*, nearest first."""
        for row in copies(message, sender, sent, receivers, delays):
            self.keep(*row)

    def broadcast(self, at: int, sender: int, message: Message, to: tuple[int, ...] | None = None) -> None:
        """A message to every member but its sender, or to those that *to* names."""
        self._arriving = []
        self._broadcast(at, sender, message, to)
        members = range(self.cluster.config.nodes) if to is None else to
        self._note(at, sender, message, True, [r for r in members if r != sender])

    def send(self, at: int, sender: int, to: Address, message: Message) -> None:
        """A message to one endpoint."""
        self._arriving = []
        self._send(at, sender, to, message)
        client = self.cluster.clients.get(to) if isinstance(to, str) else None
        place = client.index if client is not None else to
        if isinstance(place, int):
            self._note(at, sender, message, False, [place])

    def committed(self, now: int, replica: int, effect: Committed, live: int) -> None:
        """A member committed a batch."""
        self._committed(now, replica, effect, live)
        batch = effect.decided.batch
        requests = ", ".join(f"{r.client} {r.sequence}" for r in batch.requests) or "the null batch"
        self.events.append(
            Event(now, replica, f"commits {effect.seq}: {batch.digest.hex()[:6]} ({requests})")
        )
        self.progress_ns = now

    def accuse(self, now: int, by: int, evidence: Evidence) -> None:
        """Somebody holds evidence."""
        self._accuse(now, by, evidence)
        self.events.append(Event(now, by, f"accuses {evidence.culprit}: {evidence.what}"))

    def _note(self, at: int, sender: int, message: Message, everybody: bool, wanted: list[int]) -> None:
        arriving = self._arriving
        reached = {copy.receiver for copy in arriving}
        lost = [Copy(receiver, LOST) for receiver in wanted if receiver not in reached]
        self.sent.append(Sent(at, sender, message, everybody, (*arriving, *lost)))
        if isinstance(message, ViewChange | NewView) and message.view > self._highest_view:
            self._highest_view, self.progress_ns = message.view, at


def summary(message: Message) -> str:
    """ "PrePrepare v0 s3 1f00ab", "Request client.1 4"."""
    kind = type(message).__name__
    if isinstance(message, Request):
        return f"{kind} {message.client} {message.sequence}"
    parts = [kind]
    for name, letter in (("view", "v"), ("seq", "s")):
        if hasattr(message, name):
            parts.append(f"{letter}{getattr(message, name)}")
    digest = getattr(message, "digest", b"")
    if digest and isinstance(digest, bytes):
        parts.append(digest.hex()[:6])
    if isinstance(message, ViewChange):
        prepared = ", ".join(
            f"s{entry.pre_prepare.seq} in v{entry.pre_prepare.view}" for entry in message.prepared
        )
        parts.append(f"(stable {message.stable}, prepared {prepared or 'nothing'})")
    if isinstance(message, NewView):
        again = ", ".join(f"s{p.seq} {p.digest.hex()[:6]}" for p in message.proposals)
        by = ", ".join(str(change.replica) for change in message.view_changes)
        parts.append(f"(asked for by {by}; proposes again {again or 'nothing'})")
    if isinstance(message, Status):
        changing = ", changing" if message.changing else ""
        parts.append(f"(executed {message.executed}, stable {message.stable}{changing})")
    if isinstance(message, FetchReply):
        blocks = ", ".join(str(block.seq) for block in message.blocks)
        parts.append(f"(blocks {blocks or 'none'}, {len(message.bodies)} bodies)")
    return " ".join(parts)
