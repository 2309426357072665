"""The rules of the view change (OSDI 1999, section 4.4), as functions of messages alone.

`fault_of_view_change` and `fault_of_new_view` say what is wrong with a message, or return None. `proposals` computes
what a new primary must propose; backups recompute it and accept nothing else.

A verdict is of the message, the committee and its keys alone, and stays with the message: n members that are simulated
with one another, and get one and the same object, would check its (n - 1) K q signatures n times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tradebft.consensus.interface import Config
from tradebft.consensus.membership import Committee, first_view
from tradebft.consensus.messages import NULL_DIGEST, NewView, Prepared, ViewChange, authentic


def fault_of_prepared(entry: Prepared, committee: Committee) -> str | None:
    """Why *entry* is not a valid prepared certificate."""
    proposal, votes = entry.pre_prepare, entry.prepares
    primary = committee.primary(proposal.view)
    if proposal.replica != primary:
        return f"its proposal for view {proposal.view} is by {proposal.replica}, not by the primary {primary}"
    if (votes.kind, votes.view, votes.seq, votes.digest) != (
        "Prepare",
        proposal.view,
        proposal.seq,
        proposal.digest,
    ):
        return "its Prepares are for another proposal"
    if any(voter == primary for voter, _ in votes.votes):
        return "it counts a Prepare by the primary"
    if not all(voter in committee for voter, _ in votes.votes):
        return "it counts a vote by no member"
    if not committee.holds(votes, committee.quorum - 1):
        return f"it lacks {committee.quorum - 1} validly signed Prepares by distinct backups"
    if not authentic(proposal, committee.chain_id, committee.keyring):
        return "its proposal is not signed by the primary"
    return None


def fault_of_view_change(change: ViewChange, config: Config, committee: Committee) -> str | None:
    """Why *change* (whose own signature was checked) does not count towards its view, one of the committee's epoch."""
    return change.judged_once(
        _known_to(config, committee), lambda: _fault_of_view_change(change, config, committee)
    )


def _known_to(config: Config, committee: Committee) -> object:
    """All that a verdict depends on besides the message."""
    return config.log_window, committee.chain_id, committee.membership, committee.keyring


def _fault_of_view_change(change: ViewChange, config: Config, committee: Committee) -> str | None:
    first, since = first_view(committee.epoch), committee.membership.since
    if change.view <= first:
        return "there is no way into an epoch's first view"
    if change.stable < since:
        return f"its stable checkpoint {change.stable} is below {since}, where the epoch began"
    if change.stable > since:
        proof = change.checkpoint
        if proof is None or (proof.kind, proof.view, proof.seq) != ("Checkpoint", first, change.stable):
            return f"it shows no checkpoint certificate for {change.stable}"
        if not committee.holds(proof, committee.quorum):
            return f"its checkpoint certificate for {change.stable} does not hold"
    elif not since and change.checkpoint is not None:
        return "it shows a checkpoint certificate for the beginning, which nobody signs"
    seqs = [entry.pre_prepare.seq for entry in change.prepared]
    if seqs != sorted(set(seqs)):
        return "its prepared set names a sequence twice or out of order"
    for entry in change.prepared:
        proposal = entry.pre_prepare
        if not first <= proposal.view < change.view:
            return f"it claims to have prepared in view {proposal.view}, not below {change.view}"
        if not change.stable < proposal.seq <= change.stable + config.log_window:
            return f"it claims to have prepared {proposal.seq}, outside its window above {change.stable}"
        if fault := fault_of_prepared(entry, committee):
            return f"prepared certificate for {proposal.seq}: {fault}"
    return None


def proposals(changes: Iterable[ViewChange]) -> tuple[int, list[tuple[int, bytes]]]:
    """What follows from a quorum of valid ViewChanges: min-s, and (seq, digest) for each seq in (min-s, max-s].

    min-s is the *highest* stable checkpoint shown; for each sequence the certificate of the *highest view* wins; a
    sequence that nobody prepared gets the null batch, so that there is no gap to wait for.
    """
    changes = list(changes)
    low = max(change.stable for change in changes)
    best: dict[int, Prepared] = {}
    for change in changes:
        for entry in change.prepared:
            seq = entry.pre_prepare.seq
            if seq > low and (seq not in best or entry.pre_prepare.view > best[seq].pre_prepare.view):
                best[seq] = entry
    high = max(best, default=low)
    return low, [
        (seq, best[seq].pre_prepare.digest if seq in best else NULL_DIGEST)
        for seq in range(low + 1, high + 1)
    ]


def fault_of_new_view(
    message: NewView,
    config: Config,
    committee: Committee,
    known: Callable[[ViewChange], bool] = lambda change: False,
) -> str | None:
    """Why *message* (whose own signature was checked) does not open its view, one of the committee's epoch.

    *known* says whether a ViewChange was checked before: most of them came by themselves.
    """
    return message.judged_once(
        _known_to(config, committee), lambda: _fault_of_new_view(message, config, committee, known)
    )


def _fault_of_new_view(
    message: NewView, config: Config, committee: Committee, known: Callable[[ViewChange], bool]
) -> str | None:
    if message.replica != committee.primary(message.view):
        return f"{message.replica} does not lead view {message.view}"
    senders = {change.replica for change in message.view_changes}
    if len(senders) != len(message.view_changes) or len(senders) < committee.quorum:
        return f"it shows {len(senders)} distinct ViewChanges of {len(message.view_changes)}, needs {committee.quorum}"
    for change in message.view_changes:
        if change.view != message.view:
            return f"it shows a ViewChange for view {change.view}"
        if known(change):
            continue
        if change.replica not in committee or not authentic(change, committee.chain_id, committee.keyring):
            return f"the ViewChange of {change.replica} is not signed by it"
        if fault := fault_of_view_change(change, config, committee):
            return f"the ViewChange of {change.replica}: {fault}"
    _, expected = proposals(message.view_changes)
    if [(p.seq, p.digest) for p in message.proposals] != expected:
        return "its proposals are not those that follow from its ViewChanges"
    for proposal in message.proposals:
        if (proposal.view, proposal.replica, proposal.batch) != (message.view, message.replica, None):
            return f"its proposal for {proposal.seq} is for another view or by another replica"
        if not authentic(proposal, committee.chain_id, committee.keyring):
            return f"its proposal for {proposal.seq} is not signed"
    return None


class ViewChangeLog:
    """Each member's latest valid ViewChange. One a member: an old one is worth nothing once it asked for more."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._latest: dict[int, ViewChange] = {}

    def add(self, change: ViewChange) -> bool:
        """Remember *change* unless this member already asked for that view or a higher one."""
        known = self._latest.get(change.replica)
        if known is not None and known.view >= change.view:
            return False
        self._latest[change.replica] = change
        return True

    def knows(self, change: ViewChange) -> bool:
        """Whether exactly this one is here, and so was found valid."""
        return self._latest.get(change.replica) == change

    def newer_than(self, view: int, replica: int) -> bool:
        """Whether *replica* asked for a view above *view* already."""
        known = self._latest.get(replica)
        return known is not None and known.view > view

    def to_join(self, view: int, me: int) -> int | None:
        """The smallest view above *view* that f+1 others ask for views at or beyond, or None (4.5.2)."""
        views = sorted(c.view for c in self._latest.values() if c.view > view and c.replica != me)
        return views[0] if len(views) > self._committee.faults else None

    def quorum(self, view: int, me: int) -> tuple[ViewChange, ...] | None:
        """q ViewChanges for exactly *view*, mine first and then the lowest members', or None."""
        order = sorted(self._latest, key=lambda replica: (replica != me, replica))
        found = [self._latest[r] for r in order if self._latest[r].view == view]
        return tuple(found[: self._committee.quorum]) if len(found) >= self._committee.quorum else None

    def at_least(self, view: int) -> int:
        """How many members ask for *view* or a later one."""
        return sum(change.view >= view for change in self._latest.values())

    def held(self, view: int) -> int:
        """Whose ViewChange for exactly *view* is here, as bits."""
        return sum(1 << r for r, change in self._latest.items() if change.view == view)

    def of(self, replica: int) -> ViewChange | None:
        """The latest one of *replica*."""
        return self._latest.get(replica)
