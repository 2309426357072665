"""Checkpoints: q matching votes prove a state, and the log below it can go (OSDI 1999, section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping

from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.messages import Checkpoint


class CheckpointVotes:
    """Checkpoint messages that are not yet stable: per sequence, one vote a member.

    At most *limit* sequences are kept for each member, its newest ones, so that no sender can fill the memory.
    """

    def __init__(self, quorum: int, limit: int = 4, view: int = 0) -> None:
        self._quorum = quorum
        self._view = view  # the epoch's first: certificates bear it
        self._limit = limit
        self._votes: dict[int, dict[int, Checkpoint]] = {}

    def add(self, vote: Checkpoint) -> QuorumCertificate | None:
        """Count *vote*; return the certificate when it completes a quorum for its sequence and digest."""
        votes = self._votes.setdefault(vote.seq, {})
        if vote.replica in votes:
            return None
        votes[vote.replica] = vote
        self._bound(vote.replica)
        matching = [(v.replica, v.signature) for v in votes.values() if v.digest == vote.digest]
        if len(matching) < self._quorum:
            return None
        return QuorumCertificate(
            "Checkpoint", self._view, vote.seq, vote.digest, tuple(sorted(matching)[: self._quorum])
        )

    @property
    def votes(self) -> Mapping[int, Mapping[int, Checkpoint]]:
        """What was counted, by sequence and member."""
        return self._votes

    def seen(self, seq: int, replica: int) -> bool:
        """Whether *replica* has voted for *seq* already."""
        return replica in self._votes.get(seq, {})

    def drop_up_to(self, seq: int) -> None:
        """A checkpoint became stable: votes at or below it have done their work."""
        self._votes = {s: votes for s, votes in self._votes.items() if s > seq}

    def _bound(self, replica: int) -> None:
        seqs = sorted(seq for seq, votes in self._votes.items() if replica in votes)
        for seq in seqs[: -self._limit]:
            del self._votes[seq][replica]
            if not self._votes[seq]:
                del self._votes[seq]
