"""The votes for one sequence number in the current view, and what earlier views left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.messages import Batch, Commit, Decided, Prepare, Prepared, PrePrepare


@lru_cache(maxsize=1 << 14)
def _signed(member: int, signature: bytes) -> tuple[int, bytes]:
    """As a certificate holds it. Replicas that simulate one another share it: of n there are 2n certificates a slot."""
    return member, signature


class Slot:
    """One sequence number at one replica.

    The first vote of a member counts, once; a second, different one is evidence and is not counted. Votes may arrive
    before the proposal that they are for: they are kept and counted when it comes. ``prepare_count`` and
    ``commit_count`` count votes that match ``digest``, so that the hot path compares one integer.
    """

    __slots__ = (
        "batch",
        "closed",
        "commit_count",
        "commits",
        "decided",
        "digest",
        "pre_prepare",
        "prepare_count",
        "prepared",
        "prepared_now",
        "prepares",
        "seq",
    )

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.digest: bytes | None = None
        self.batch: Batch | None = None
        self.pre_prepare: PrePrepare | None = None
        self.prepares: dict[int, Prepare] = {}
        self.commits: dict[int, Commit] = {}
        self.prepare_count = 0
        self.commit_count = 0
        self.prepared_now = False  # prepared in the current view
        self.prepared: Prepared | None = (
            None  # certificate of the highest view in which this replica prepared
        )
        self.decided: Decided | None = None  # committed-local, in whatever view
        self.closed = False  # decided, and my Commit of this view is out: further votes change nothing

    def accept(self, proposal: PrePrepare, batch: Batch | None) -> None:
        """Take the primary's proposal and count the votes that were faster than it."""
        self.pre_prepare = proposal
        self.digest = proposal.digest
        self.batch = batch
        self.prepare_count = sum(vote.digest == proposal.digest for vote in self.prepares.values())
        self.commit_count = sum(vote.digest == proposal.digest for vote in self.commits.values())

    def prepared_certificate(self, needed: int) -> Prepared:
        """The proposal and *needed* matching Prepares, lowest members first."""
        assert self.pre_prepare is not None
        proposal = self.pre_prepare
        if proposal.batch is not None:
            proposal = PrePrepare(
                proposal.view, proposal.seq, proposal.digest, proposal.replica, None, proposal.signature
            )
        return Prepared(
            proposal,
            QuorumCertificate(
                "Prepare", proposal.view, self.seq, proposal.digest, self._lowest(self.prepares, needed)
            ),
        )

    def commit_certificate(self, quorum: int) -> QuorumCertificate:
        """*quorum* matching Commits of the current view."""
        assert self.pre_prepare is not None
        assert self.digest is not None
        return QuorumCertificate(
            "Commit", self.pre_prepare.view, self.seq, self.digest, self._lowest(self.commits, quorum)
        )

    def _lowest(self, votes: Mapping[int, Prepare | Commit], needed: int) -> tuple[tuple[int, bytes], ...]:
        """(member, signature) of those *needed* votes for the accepted proposal whose members are lowest."""
        if len(votes) > needed:  # else all match: so many do, or there would be no certificate
            votes = {member: vote for member, vote in votes.items() if vote.digest == self.digest}
        found = tuple([_signed(member, votes[member].signature) for member in sorted(votes)[:needed]])
        assert len(found) == needed, (len(found), needed)
        return found

    def committed_by(self, members: int) -> bool:
        """Whether the Commits of so many *members* agree, though the proposal or Prepares may be missing."""
        return max(Counter(vote.digest for vote in self.commits.values()).values(), default=0) >= members

    def decide(self, decided: Decided) -> None:
        """Final: the certificate is kept."""
        self.decided = decided
        self.batch = decided.batch

    def close_if_done(self) -> None:
        """Once decided and voted for, single votes are not needed any more: a log of L slots stays small."""
        if self.decided is not None and self.prepared_now:
            self.closed = True
            self.prepares = {}
            self.commits = {}

    def next_view(self) -> None:
        """A new view votes afresh. What was prepared or decided stays."""
        self.digest = None
        self.pre_prepare = None
        self.prepares = {}
        self.commits = {}
        self.prepare_count = 0
        self.commit_count = 0
        self.prepared_now = False
        self.closed = False
