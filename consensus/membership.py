"""Who the replicas are, and how that changes while traffic flows.

The application decides (a governance operation); consensus says when. A change agreed at sequence s takes effect at
the first checkpoint at or after s + L. No replica accepts a proposal more than L beyond what it executed, so nobody
has voted beyond that boundary without knowing of the change; and nobody goes beyond it before its checkpoint is
stable. So no certificate and no view change ever mixes two memberships (the scheme of Lamport, Malkhi and Zhou,
"Reconfiguring a state machine", SIGACT News 2010, with a window of L).

An epoch is what lies between two boundaries. A view's number carries its epoch in the high bits: views of a later epoch
are later views, and every rule that compares views goes on to hold.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
from tradebft.chain.codec import encode
from tradebft.chain.crypto import Keyring, MemberId, QuorumCertificate, Rekeyed, digest

EPOCH_BITS: Final = 32  # views an epoch; a certificate's view has 64 bits
MEMBERS_MAX: Final = 10_000

Members = tuple[
    tuple[int, bytes], ...
]  # index and public key, sorted; an empty key is the one registered at genesis


def epoch_of(view: int) -> int:
    """The epoch that *view* belongs to."""
    return view >> EPOCH_BITS


def first_view(epoch: int) -> int:
    """The view in which *epoch* begins."""
    return epoch << EPOCH_BITS


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """The replicas of one epoch. *since*: the sequence at which the epoch before it ended."""

    epoch: int
    since: int
    members: Members


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What was agreed and has not taken effect: *members* from *boundary* on (the boundary itself is the old ones')."""

    boundary: int
    members: Members


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """Who the replicas are and what was agreed about it, at one checkpoint."""

    membership: Membership
    pending: tuple[Change, ...] = ()

    def binds(self, state: bytes) -> bytes:
        """What the checkpoint signs for *state* (as long as nobody ever changed anything, *state* itself)."""
        if self.membership.epoch == 0 and not self.pending:
            return state
        return digest("tradebft/epoch", state, encode(self))

    @property
    def next(self) -> Membership:
        """The membership that follows at the first boundary."""
        change = self.pending[0]
        return Membership(self.membership.epoch + 1, change.boundary, change.members)


class EpochProof(msgspec.Struct, frozen=True, array_like=True):
    """That an epoch ended and who follows: its last checkpoint, signed by a quorum of its own members."""

    certificate: QuorumCertificate
    state: bytes
    standing: Standing


@lru_cache(maxsize=8)
def genesis(nodes: int) -> Membership:
    """The replicas 0 .. nodes-1 with the keys that they were registered with."""
    return Membership(0, 0, tuple((index, b"") for index in range(nodes)))


def sizes(n: int) -> tuple[int, int]:
    """f and q of *n* replicas: f = floor((n-1)/3) may be Byzantine; q = ceil((n+f+1)/2), so that any two quorums share
    an honest one also where n is not 3f + 1."""
    faults = (n - 1) // 3
    return faults, (n + faults + 2) // 2


def plausible(members: object) -> bool:
    """Whether these can be the members of a network: some, sorted, each once."""
    if not isinstance(members, tuple) or not 1 <= len(members) <= MEMBERS_MAX:
        return False
    indices = [index for index, _ in members]
    return indices == sorted(set(indices)) and indices[0] >= 0


def scheduled(
    pending: tuple[Change, ...], seq: int, members: Members, k: int, window: int
) -> tuple[Change, ...]:
    """*pending* after a change to *members* was agreed at *seq*: checkpoints every *k*, windows of *window*."""
    boundary = -(-(seq + window) // k) * k
    if pending and pending[-1].boundary > boundary:
        boundary = pending[-1].boundary
    earlier = tuple(change for change in pending if change.boundary != boundary)
    return (*earlier, Change(boundary, members))


@lru_cache(maxsize=8)
def _indices(members: Members) -> tuple[tuple[int, ...], frozenset[int]]:
    """In order, and as a set: n replicas that simulate one another hold them once, not n times."""
    indices = tuple(index for index, _ in members)
    return indices, frozenset(indices)


class Committee:
    """The members of one epoch, and what they can prove: sizes, primaries, signatures, certificates."""

    def __init__(self, membership: Membership, chain_id: bytes, keyring: Keyring) -> None:
        self.membership, self.chain_id = membership, chain_id
        self.epoch = membership.epoch
        self.indices, self.known = _indices(membership.members)
        self.n = len(self.indices)
        self.faults, self.quorum = sizes(self.n)
        changed: dict[MemberId, bytes] = {index: key for index, key in membership.members if key}
        self.rekeyed = frozenset(changed)
        self.keyring: Keyring = Rekeyed(keyring, changed) if changed else keyring

    def __contains__(self, index: object) -> bool:
        return index in self.known

    def position(self, index: int) -> int:
        """Where in the order of the members *index* stands, or would stand."""
        return self.indices.index(index) if index in self.known else self.n

    def primary(self, view: int) -> int:
        """The member that leads *view*."""
        return self.indices[(view & (1 << EPOCH_BITS) - 1) % self.n]

    def holds(self, certificate: QuorumCertificate, quorum: int) -> bool:
        """Whether at least *quorum* members of this epoch signed *certificate*, and no signature in it fails."""
        return (
            epoch_of(certificate.view) == self.epoch
            and all(isinstance(member, int) and member in self.known for member, _ in certificate.votes)
            and certificate.valid(self.chain_id, self.keyring, quorum)
        )

    def followed_by(self, proof: EpochProof, keyring: Keyring) -> Committee | None:
        """The committee of the next epoch, if *proof* holds."""
        standing, certificate = proof.standing, proof.certificate
        if standing.membership != self.membership or not standing.pending:
            return None
        if not plausible(standing.pending[0].members) or standing.pending[0].boundary != certificate.seq:
            return None
        if (certificate.kind, certificate.digest) != ("Checkpoint", standing.binds(proof.state)):
            return None
        if certificate.view != first_view(self.epoch) or not self.holds(certificate, self.quorum):
            return None
        return Committee(standing.next, self.chain_id, keyring)
