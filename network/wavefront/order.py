"""When what happens to one batch: quorum times are order statistics of arrivals.

Times are int64, ns. Matrices are (sender, receiver); on the diagonal stands when a replica counts its own vote.
Source: Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, section 4.2; quorums: docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Some = NDArray[np.bool_]
NEVER: Final = 1 << 61  # and whatever is later
SORTED: Final = 64  # arrivals at most, that are sorted sooner than the right one is found


class Members:
    """Who takes part. *until* (n,): the last instant at which each hears or does anything; *mute*: who says nothing.

    The primary, replica 0, is neither mute nor ever gone.
    """

    def __init__(self, faults: int, quorum: int, until: Times, mute: Some) -> None:
        self.faults, self.quorum, self.until, self.mute = faults, quorum, until, mute
        self.stay = until >= NEVER - 1
        self.all_stay, self.all_speak = bool(self.stay.all()), not mute.any()
        self.whole = self.all_stay and self.all_speak

    @classmethod
    def all(cls, n: int, faults: int, quorum: int) -> Members:
        """Everybody, always."""
        return cls(faults, quorum, np.full(n, NEVER - 1), np.zeros(n, dtype=np.bool_))

    def present(self, times: Times) -> Times:
        """When these things happen at each: never, once it is gone."""
        return times if self.all_stay else np.where(times > self.until, NEVER, times)

    def said(self, times: Times) -> Times:
        """When each says what it would say at these times."""
        return times if self.all_speak else np.where(self.mute, NEVER, times)

    def hush(self, votes: Times) -> None:
        """Nobody but themselves has the votes of those who are mute."""
        if not self.all_speak:
            own = votes.diagonal().copy()
            votes[self.mute] = NEVER
            np.fill_diagonal(votes, own)


def earliest(votes: Times, *counts: int) -> list[Times]:
    """When so many of *votes* (senders, receivers) have come at each receiver: order statistics. *counts* ascend."""
    arrivals = np.ascontiguousarray(votes.T)  # in rows, where numpy is twice as fast
    if arrivals.shape[1] <= SORTED:
        arrivals.sort(axis=1)
        return [arrivals[:, count - 1] for count in counts]
    found = []
    for count in reversed(counts):  # each among the arrivals before the one after it
        arrivals.partition(count - 1, axis=1)
        found.append(arrivals[:, count - 1].copy())
        arrivals = arrivals[:, : count - 1]
    return found[::-1]


@dataclass(slots=True, eq=False)
class Wave:
    """One batch, from its proposal to the last copy of the last vote. (n,) by replica."""

    proposed: int
    votes: Times  # (2, n, n): of both rounds
    accepted: Times  # when each has the proposal, and says Prepare
    prepared: Times  # when each says Commit
    noticed: Times  # when each first hears of it: the proposal, or f+1 votes of a kind that come before it
    executed: Times

    @property
    def first(self) -> Times:
        """(n, n). Row 0: the PrePrepare; every other: that replica's Prepare."""
        return cast(Times, self.votes[0])

    @property
    def commits(self) -> Times:
        """(n, n)."""
        return cast(Times, self.votes[1])


def wave(proposed: int, first: Times, second: Times, members: Members) -> Wave:
    """What comes of a proposal at that time, if the copies of each replica's next broadcast take *first*, and of the
    one after it *second* (n, n), whose diagonals are 0."""
    faults, quorum, present = members.faults, members.quorum, members.present
    votes = np.empty((2, *first.shape), dtype=np.int64)
    accepted = present(proposed + first[0])
    np.add(accepted[:, None], first, out=votes[0])
    members.hush(votes[0])
    # All but the primary say Prepare, and quorum - 1 of these are enough: the proposal stands for the primary's.
    heard, prepares = earliest(votes[0, 1:], faults + 1, quorum - 1)
    prepared = present(np.maximum(accepted, prepares))
    commits = np.add(prepared[:, None], second, out=votes[1])
    members.hush(commits)
    more, enough = earliest(commits, faults + 1, quorum)
    noticed, executed = np.minimum(accepted, np.minimum(heard, more)), np.maximum(prepared, enough)
    return Wave(proposed, votes, accepted, prepared, present(noticed), present(executed))


@dataclass(slots=True, eq=False)
class Agreement:
    """The votes for a checkpoint: matrix, and (n,) when it is stable at each replica."""

    votes: Times
    stable: Times


def agreement(executed: Times, third: Times, members: Members) -> Agreement:
    """Of replicas that executed the batch before it at those times; *third* as in `wave`."""
    votes = executed[:, None] + third
    members.hush(votes)
    (stable,) = earliest(votes, members.quorum)
    return Agreement(votes, members.present(stable))
