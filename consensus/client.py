"""A PBFT client as a pure state machine: submit, believe f+1 matching replies, ask everybody when it takes too long.

The same shape as a replica: ``effects = client.step(now, input)`` with ``Submit``, ``Reply`` and ``TimerFired`` inputs.
Several operations may be outstanding; never more than the replicas' window for one client, the rest queue here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tradebft.chain.crypto import Keyring, Signer
from tradebft.consensus.interface import (
    NOTHING,
    Answered,
    Broadcast,
    Config,
    Effect,
    Effects,
    Evidence,
    Ignored,
    Send,
    SetTimer,
    Submit,
    TimerFired,
)
from tradebft.consensus.membership import Committee, epoch_of, first_view, genesis
from tradebft.consensus.messages import EpochChange, Reply, Request, authentic, request_payload, result_digest
from tradebft.consensus.round_trip import RoundTrip

RETRY_TIMER: Final = "retry"
BACKOFF_MAX: Final = 6


class _Outstanding:
    __slots__ = ("deadline", "repeated", "replies", "request", "sent", "tag", "tries")

    def __init__(self, request: Request, tag: int, sent: int, deadline: int) -> None:
        self.request, self.tag, self.sent, self.deadline = request, tag, sent, deadline
        self.repeated = False
        self.tries = 0
        self.replies: dict[int, Reply] = {}


class Client:
    """One client of a network of replicas. *timeout_ns*: how long it waits for f+1 replies before it asks everybody."""

    def __init__(self, name: str, config: Config, signer: Signer, keyring: Keyring, timeout_ns: int) -> None:
        if timeout_ns < 1:
            raise ValueError(f"client timeout must be positive, got {timeout_ns} ns")
        self.name, self.config, self.signer, self.keyring = name, config, signer, keyring
        self.committee = Committee(genesis(config.nodes), config.chain_id, keyring)
        self.timeout_ns = timeout_ns
        self.view = 0
        self.sequence = 0
        self._outstanding: dict[int, _Outstanding] = {}
        self._queue: deque[Submit] = deque()
        self._timer_ns: int | None = None  # when the retry timer runs out
        self._usual = RoundTrip()

    @property
    def unanswered(self) -> int:
        """Operations submitted and not answered, queued ones included."""
        return len(self._outstanding) + len(self._queue)

    def outstanding(self) -> Iterator[tuple[Request, Mapping[int, Reply]]]:
        """Requests that are out and unanswered, with what was heard of them, by replica."""
        return ((waiting.request, waiting.replies) for waiting in self._outstanding.values())

    def waiting_since(self) -> int | None:
        """When the oldest request that is out and unanswered was sent (ns); None if there is none."""
        return min((waiting.sent for waiting in self._outstanding.values()), default=None)

    def step(self, now: int, event: Any) -> Effects:
        """Take one input at time *now* (ns) and return what is to be done, in order."""
        if isinstance(event, Reply):
            return self._on_reply(now, event)
        if isinstance(event, EpochChange):
            return self._on_epoch_change(event)
        if isinstance(event, Submit):
            self._queue.append(event)
            return self._send_queued(now)
        if isinstance(event, TimerFired):
            return self._on_timer(now)
        return (Ignored(f"a {type(event).__name__}, sent to a client"),)

    def _send_queued(self, now: int) -> Effects:
        effects: list[Effect] = []
        first: int | None = None
        while self._queue and self.sequence - self._oldest() < self.config.client_window - 1:
            submit = self._queue.popleft()
            self.sequence += 1
            payload = request_payload(self.config.chain_id, self.name, self.sequence, submit.operation)
            request = Request(self.name, self.sequence, submit.operation, self.signer.sign(payload))
            # A lost request is repeated to the primary as soon as that can be told, and again after twice as long each
            # time; after the timeout, to all.
            deadline = now + self._usual.patience(3, self.timeout_ns)
            self._outstanding[self.sequence] = _Outstanding(request, submit.tag, now, deadline)
            effects.append(Send(self.committee.primary(self.view), request))
            first = deadline if first is None else min(first, deadline)
        return effects if first is None else [*effects, *self._watch(now, first)]

    def _oldest(self) -> int:
        return next(iter(self._outstanding), self.sequence)

    def _watch(self, now: int, first: int) -> Effects:
        """The timer runs out no later than *first*. What it was set for before is no later than what it watches."""
        if self._timer_ns is not None and self._timer_ns <= first:
            return NOTHING
        self._timer_ns = first
        return (SetTimer(RETRY_TIMER, max(1, first - now)),)

    def _on_timer(self, now: int) -> Effects:
        self._timer_ns = None
        effects: list[Effect] = []
        for waiting in self._outstanding.values():
            if waiting.deadline <= now:
                effects.append(self._repeat(now, waiting))
        if not self._outstanding:
            return effects
        first = min(waiting.deadline for waiting in self._outstanding.values())
        return [*effects, *self._watch(now, first)]

    def _repeat(self, now: int, waiting: _Outstanding) -> Effect:
        waiting.repeated = True
        limit = waiting.sent + self.timeout_ns
        if now < limit:
            waiting.deadline = min(limit, now + (now - waiting.sent))  # after twice as long as this time
            return Send(self.committee.primary(self.view), waiting.request)
        waiting.tries = min(waiting.tries + 1, BACKOFF_MAX)
        waiting.deadline = now + (self.timeout_ns << waiting.tries)
        return Broadcast(waiting.request, self.committee.indices if self.committee.epoch else None)

    def _on_epoch_change(self, change: EpochChange) -> Effects:
        """The replicas are others than this client knows: believed epoch by epoch, as the members before signed it."""
        for proof in change.proofs:
            if proof.standing.membership.epoch != self.committee.epoch:
                continue
            following = self.committee.followed_by(proof, self.keyring)
            if following is None:
                return (
                    Evidence(
                        change.replica, f"showed an end of epoch {self.committee.epoch} that nothing proves"
                    ),
                )
            self.committee, self.view = following, first_view(following.epoch)
        return NOTHING

    def heard(self, reply: Reply) -> None:
        """A reply that came to whoever counted replies before, and not through `step`."""
        self._outstanding[reply.sequence].replies[reply.replica] = reply

    def _on_reply(self, now: int, reply: Reply) -> Effects:
        waiting = self._outstanding.get(reply.sequence) if reply.client == self.name else None
        if waiting is None:
            return NOTHING  # answered already: the other n - f - 1 replies come as a matter of course
        now_in_use = self.config.rekeying and epoch_of(reply.view) == self.committee.epoch
        if (now_in_use or reply.replica in self.committee.rekeyed) and not authentic(
            reply, self.config.chain_id, self.committee.keyring
        ):
            return (Ignored("a reply signed with a key that is not in use"),)
        earlier = waiting.replies.get(reply.replica)
        if earlier is not None:
            if earlier.result_digest == reply.result_digest:
                return (Ignored("reply seen before"),)
            return (
                Evidence(
                    reply.replica, f"answered {self.name}'s request {reply.sequence} twice, differently"
                ),
            )
        waiting.replies[reply.replica] = reply
        said = reply.seq, reply.result_digest
        members = self.committee
        matching = [
            r for r in waiting.replies.values() if (r.seq, r.result_digest) == said and r.replica in members
        ]
        if len(matching) <= members.faults:
            return NOTHING
        result = next((r.result for r in matching if result_digest(r.result) == r.result_digest), None)
        if result is None:
            return NOTHING
        return self.believe(now, reply.sequence, result, reply.seq, min(r.view for r in matching))

    def believe(self, now: int, sequence: int, result: bytes, seq: int, view: int) -> Effects:
        """f+1 members answer an outstanding request alike: *result*, executed at *seq*, all of them in *view* or later.

        Their replies came through `step`, or were counted by whoever calls this.
        """
        waiting = self._outstanding.pop(sequence)
        if not waiting.repeated:
            self._usual.sample(now - waiting.sent)
        if view > self.view and epoch_of(view) == self.committee.epoch:
            self.view = view
        return [Answered(waiting.tag, sequence, result, seq), *self._send_queued(now)]
