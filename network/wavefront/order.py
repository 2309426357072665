"""When what happens to one batch: quorum times are order statistics of arrivals.

Times are int64, ns. Matrices are (sender, receiver); on the diagonal stands when a replica counts its own vote.
Source: Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, section 4.2; quorums: docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Wave:
    """One batch, from its proposal to the last copy of the last vote."""

    proposed: int
    votes: Times  # (2, n, n): of both rounds
    prepared: Times  # (n,): when each replica says Commit
    noticed: (
        Times  # (n,): when each replica first hears of it: the proposal, or f+1 Commits that come before it
    )
    executed: Times  # (n,)

    @property
    def first(self) -> Times:
        """(n, n). Row 0: the PrePrepare; every other: that replica's Prepare."""
        return self.votes[0]

    @property
    def commits(self) -> Times:
        """(n, n)."""
        return self.votes[1]

    @property
    def accepted(self) -> Times:
        """(n,): when each replica has the proposal, and says Prepare."""
        return self.first[0]


def wave(proposed: int, first: Times, second: Times, faults: int, quorum: int) -> Wave:
    """What comes of a proposal at that time, if the copies of each replica's next broadcast take *first*, and of the
    one after it *second* (n, n), whose diagonals are 0."""
    votes = np.empty((2, *first.shape), dtype=np.int64)
    accepted = proposed + first[0]
    prepares = np.add(accepted[:, None], first, out=votes[0])[1:]
    # All but the primary say Prepare, and quorum - 1 of these are enough: the proposal stands for the primary's.
    prepared = np.maximum(accepted, np.partition(prepares, quorum - 2, axis=0)[quorum - 2])
    commits = np.add(prepared[:, None], second, out=votes[1])
    ranked = np.partition(commits, (faults, quorum - 1), axis=0)
    noticed, executed = np.minimum(accepted, ranked[faults]), np.maximum(prepared, ranked[quorum - 1])
    return Wave(proposed, votes, prepared, noticed, executed)


@dataclass(slots=True, eq=False)
class Agreement:
    """The votes for a checkpoint: matrix, and (n,) when it is stable at each replica."""

    votes: Times
    stable: Times


def agreement(executed: Times, third: Times, quorum: int) -> Agreement:
    """Of replicas that executed the batch before it at those times; *third* as in `wave`."""
    votes = executed[:, None] + third
    return Agreement(votes, np.partition(votes, quorum - 1, axis=0)[quorum - 1])
