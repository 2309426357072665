"""Lies about who the members are: ends of the epoch that its members never agreed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from tradebft.consensus.byzantine.behaviour import Behaviour, message_of, to_each
from tradebft.consensus.byzantine.forgeries import certificate
from tradebft.consensus.interface import Broadcast, Committed, Effect
from tradebft.consensus.membership import Change, EpochProof, Standing
from tradebft.consensus.messages import EpochChange, Reply


class FalseEpoch(Behaviour):
    """Every *every_ms* (300) shows members and clients an end of the epoch after which only the coalition is left: with
    a true checkpoint that says nothing of it, or with one that too few signed. Clients who believe it ask nobody else,
    and are not answered (OSDI 1999, section 4.3: what a checkpoint proves is what its digest binds; Lamport, Malkhi and
    Zhou, SIGACT News 2010: who the members are is a part of the state)."""

    defaults: ClassVar[Mapping[str, Any]] = {"every_ms": 300}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clients: deque[str] = deque(maxlen=4)  # whose requests were executed last

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """What it ought to, but no replies; it remembers who the clients are."""
        if isinstance(effect, Committed):
            self._clients += [r.client for r in effect.fresh if r.client not in self._clients]
        return () if isinstance(message_of(effect), Reply) else (effect,)

    def tick(self, now: int) -> Iterable[Effect]:
        """Another lie each time."""
        standing, stable = self.knows("standing", None), self.knows("stable", None)
        if not isinstance(standing, Standing) or stable is None:
            return ()
        kept = tuple(member for member in standing.membership.members if member[0] in self.coalition.members)
        false = Standing(standing.membership, (Change(stable.seq, kept),))
        proof, state, lie = stable, stable.digest, self.draw(3)
        if lie:
            state = bytes(32)
            quorum, style = self.config.quorum, ("repeated", "borrowed")[lie - 1]
            value = false.binds(state)
            proof = certificate(self, "Checkpoint", stable.view, stable.seq, value, quorum, style)
        message = self.signed(EpochChange((EpochProof(proof, state, false),), self.me))
        return (Broadcast(message, self.knows("to", None)), *to_each(self._clients, message))
