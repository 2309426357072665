"""What must hold whatever happens, checked from outside the replicas on every simulated run.

The checker sees what honest replicas send, commit and execute; it shares no code path with them. A violation is
recorded with the numbers that disagree; the run goes on, so that one can look at what followed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec
from tradebft.chain.crypto import Keyring, MemberId, QuorumCertificate
from tradebft.consensus.interface import Committed, Config
from tradebft.consensus.membership import Membership, epoch_of, genesis
from tradebft.consensus.messages import (
    Checkpoint,
    Commit,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Request,
    authentic,
)
from tradebft.consensus.watched_views import VIEW_NAMES, Members, Views, members_of

NAMES: Final = (
    "agreement",  # no two honest replicas commit different batches at one sequence
    "total-order",  # each honest replica commits every sequence once, without gaps
    "validity",  # every executed request was signed by its client
    "exactly-once",  # no request is executed twice
    "state-roots",  # equal sequences, equal state: after every batch, and in every checkpoint
    "certificates",  # commit certificates verify without trusting whoever shows them
    "one-membership",  # honest replicas agree on who the members of each epoch are
    "one-vote",  # no honest replica signs two different votes of one kind for one (view, seq)
    *VIEW_NAMES,
    "bounded-log",  # no honest replica keeps more than L slots
    "liveness",  # with a timely network and at most f faulty, requests do not wait while nothing commits
)
_PRUNE_EVERY: Final = 4096
_SEQUENCES_A_PIECE: Final = 512


class Violation(msgspec.Struct, frozen=True):
    """A broken invariant: its name, when (ns), at which replica, and what disagreed."""

    invariant: str
    at_ns: int
    replica: int
    what: str


class Checker:
    """Watches the honest replicas of one network."""

    def __init__(self, config: Config, keyring: Keyring, honest: Collection[int]) -> None:
        self._config, self._keyring, self._honest = config, keyring, frozenset(honest)
        self.violations: list[Violation] = []
        self._order: dict[int, bytes] = {}
        self._roots: dict[int, bytes] = {}
        self._checkpoints: dict[int, bytes] = {}
        self._committed = dict.fromkeys(honest, 0)
        self._votes: dict[int, dict[tuple[type, int, int], bytes]] = {replica: {} for replica in honest}
        self._room = dict.fromkeys(honest, _PRUNE_EVERY)  # how many votes before old ones are looked for
        self._executed: dict[tuple[str, int], int] = {}  # (client, piece of its sequences) -> bits
        self._checked = 0
        self._epochs: dict[int, Members] = {0: members_of(genesis(config.nodes), keyring)}
        self._views = Views(config, honest, self._epochs, self._report)

    def sent(self, now: int, replica: int, message: Message) -> None:
        """*replica* broadcasts *message*."""
        if replica in self._honest:
            if type(message) in (Prepare, Commit, PrePrepare, Checkpoint):
                self._one_vote(now, replica, message)  # type: ignore[arg-type]
            self._views.sent(now, replica, message)

    def repeated(self, now: int, replica: int, message: Message) -> None:
        """*replica* sends *message* to one other, who may have missed it."""
        if type(message) is Commit and message.replica == replica and replica in self._honest:
            self._one_vote(now, replica, message)

    def opened(self, now: int, replica: int, message: NewView) -> None:
        """*replica* believed *message*, and acts on it."""
        if replica in self._honest:
            self._views.opened(now, replica, message)

    def _one_vote(self, now: int, replica: int, message: Prepare | Commit | PrePrepare | Checkpoint) -> None:
        votes = self._votes[replica]
        key = (type(message), getattr(message, "view", 0), message.seq)
        earlier = votes.setdefault(key, message.digest)
        if earlier != message.digest:
            self._report("one-vote", now, replica, f"two different {type(message).__name__}s for {key[1:]}")
        elif isinstance(message, Checkpoint):
            known = self._checkpoints.setdefault(message.seq, message.digest)
            if known != message.digest:
                self._report("state-roots", now, replica, f"another checkpoint at {message.seq} than others")
        if len(votes) > self._room[replica]:
            floor = self._committed[replica] - 2 * self._config.log_window
            kept = self._votes[replica] = {k: v for k, v in votes.items() if k[2] > floor}
            # View after view may vote for the same window: nothing to forget, and no need to look at every vote.
            self._room[replica] = max(_PRUNE_EVERY, 2 * len(kept))

    def committed(self, now: int, replica: int, effect: Committed) -> None:
        """*replica* hands a batch to its application."""
        if replica not in self._honest:
            return
        seq, batch = effect.seq, effect.decided.batch
        if seq != self._committed[replica] + 1:
            self._report("total-order", now, replica, f"committed {seq} after {self._committed[replica]}")
        self._committed[replica] = seq
        known = self._order.setdefault(seq, batch.digest)
        if known != batch.digest:
            self._report(
                "agreement", now, replica, f"seq {seq}: {batch.digest.hex()[:16]}, others {known.hex()[:16]}"
            )
        self._views.committed(now, seq, effect.decided.certificate)
        first = seq > self._checked
        if first:
            self._checked = seq
            for request in effect.fresh:
                self._check_request(now, replica, request)
        # The first to commit, and one more replica in turn: each certificate is another set of votes.
        if first or seq % self._config.nodes == replica:
            self._check_certificate(now, replica, effect)
        if seq % _PRUNE_EVERY == 0:
            self._prune()

    def _check_certificate(self, now: int, replica: int, effect: Committed) -> None:
        proof = effect.decided.certificate
        if (proof.kind, proof.seq, proof.digest) != ("Commit", effect.seq, effect.decided.batch.digest):
            self._report(
                "certificates", now, replica, f"the certificate of {effect.seq} is for something else"
            )
            return
        members = self._epochs.get(epoch_of(proof.view), self._epochs[0])
        if not proof.valid(self._config.chain_id, members.keyring, members.quorum) or any(
            v not in members.order for v, _ in proof.votes
        ):
            self._report("certificates", now, replica, f"the certificate of {effect.seq} does not hold")
        for voter, _ in proof.votes:
            if voter != replica and not self._gave(voter, proof):
                what = f"the certificate of {effect.seq} counts a Commit that {voter} never sent"
                self._report("certificates", now, replica, what)

    def _gave(self, voter: MemberId, proof: QuorumCertificate) -> bool:
        """Whether an honest *voter* sent what the certificate has of it. Only of those who were seen to take part."""
        if not isinstance(voter, int) or voter not in self._honest:
            return True
        given = self._votes[voter]
        if (Commit, proof.view, proof.seq) in given:
            return True
        return all((kind, proof.view, proof.seq) not in given for kind in (Prepare, PrePrepare))

    def _check_request(self, now: int, replica: int, request: Request) -> None:
        if not authentic(request, self._config.chain_id, self._keyring):
            self._report(
                "validity", now, replica, f"{request.client} never signed its request {request.sequence}"
            )
        self._once(now, replica, request)

    def _once(self, now: int, replica: int, request: Request) -> None:
        # In pieces: a client may number as it likes, and the checker must not pay for the gaps.
        piece, bit = divmod(request.sequence, _SEQUENCES_A_PIECE)
        place = request.client, piece
        seen = self._executed.get(place, 0)
        if seen >> bit & 1:
            self._report("exactly-once", now, replica, f"request {request.key} executed a second time")
        self._executed[place] = seen | 1 << bit

    def resume(self, reached: Mapping[int, int], blocks: Iterable[tuple[Committed, bytes]]) -> None:
        """This checker did not see all of the run: each replica has executed up to there, and everybody who was there
        the same *blocks* with these roots (those that matter: others cannot be contradicted any more). What it has seen
        itself, and what no honest replica has executed, it passes over."""
        self._votes = {replica: {} for replica in self._honest}
        for replica in self._honest:
            self._committed[replica] = reached[replica]
        seen, self._checked = self._checked, max(self._committed.values())
        for block, root in blocks:
            if not seen < block.seq <= self._checked:
                continue
            self._order[block.seq], self._roots[block.seq] = block.decided.batch.digest, root
            self._views.committed(0, block.seq, block.decided.certificate)
            for request in block.fresh:
                self._once(0, -1, request)

    def executed(self, now: int, replica: int, seq: int, root: bytes) -> None:
        """*replica*'s application reached *root* at *seq*."""
        if replica in self._honest:
            known = self._roots.setdefault(seq, root)
            if known != root:
                self._report(
                    "state-roots", now, replica, f"seq {seq}: {root.hex()[:16]}, others {known.hex()[:16]}"
                )

    def entered(self, now: int, replica: int, membership: Membership) -> None:
        """*replica* entered an epoch."""
        if replica not in self._honest:
            return
        if membership.epoch not in self._epochs:
            self._epochs[membership.epoch] = members_of(membership, self._keyring)
        if self._epochs[membership.epoch].membership != membership:
            self._report(
                "one-membership", now, replica, f"epoch {membership.epoch}: other members than others have"
            )

    def installed(self, now: int, replica: int, seq: int, root: bytes) -> None:
        """*replica* took over a snapshot: its history goes on from *seq*."""
        if replica in self._honest:
            if seq <= self._committed[replica]:
                self._report(
                    "total-order",
                    now,
                    replica,
                    f"took a snapshot of {seq}, being at {self._committed[replica]}",
                )
            self._committed[replica] = seq
            self.executed(now, replica, seq, root)

    def log_size(self, now: int, replica: int, slots: int) -> None:
        """*replica* keeps so many slots."""
        if replica in self._honest and slots > self._config.log_window:
            self._report("bounded-log", now, replica, f"{slots} slots, at most {self._config.log_window}")

    def stuck(self, now: int, unanswered: int) -> None:
        """Requests wait and nothing commits, although the network is whole and at most f replicas are down."""
        self._report("liveness", now, -1, f"{unanswered} requests wait and nothing is committed")

    def _report(self, invariant: str, now: int, replica: int, what: str) -> None:
        assert invariant in NAMES, invariant
        if len(self.violations) < 1000:
            self.violations.append(Violation(invariant, now, replica, what))

    def _prune(self) -> None:
        # What every replica has passed cannot be contradicted any more (except by one that came back: keep a window).
        floor = min(self._committed.values()) - self._config.log_window
        self._order = {seq: digest for seq, digest in self._order.items() if seq > floor}
        self._roots = {seq: root for seq, root in self._roots.items() if seq > floor}
        self._checkpoints = {seq: digest for seq, digest in self._checkpoints.items() if seq > floor}
        self._views.prune(self._checked)
