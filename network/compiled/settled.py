"""Whether a run that the reference goes on with is back to the normal case, so that the compiled engine can take over.

Everybody who is up is in one open view, knows no requests but those that its primary proposed, and has nothing left of
earlier views; only messages are on their way that the engine knows. `Unsettled` says what is in the way: not yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tradebft.consensus.interface import Executed
from tradebft.consensus.messages import (
    Checkpoint,
    Commit,
    FetchReply,
    Message,
    Prepare,
    PrePrepare,
    Reply,
    Request,
    Status,
    sender_of,
)
from tradebft.consensus.pbft import Replica
from tradebft.consensus.pbft.slots import Slot
from tradebft.network.compiled.beyond import CHECKPOINTS_AHEAD
from tradebft.network.compiled.continued import Continued
from tradebft.network.compiled.replicas import answered, own_checkpoints
from tradebft.network.engines import borne
from tradebft.network.node import ReplicaNode
from tradebft.network.virtual_time import Flight

VIEWS: Final = 128  # whose number is as long as that of the first


class Unsettled(Exception):
    """Not yet; its words say why."""


def _need(holds: object, otherwise: str) -> None:
    if not holds:
        raise Unsettled(otherwise)


class Settled:
    """What stands in the way, the cheapest to look at first; nothing is changed."""

    def __init__(self, rest: Continued) -> None:
        """`Unsettled` unless *rest* can be gone on with."""
        self._rest, self._config, self._every = rest, rest.config, rest.config.checkpoint_interval
        self.up = [node for node in rest.nodes if node.up]
        _need(self.up, "nobody is up")
        self.replicas = {node.index: rest.inner(node) for node in self.up}
        self.view = max(one.view for one in self.replicas.values())
        self.primary = self.view % self._config.nodes
        _need(0 <= self.view < VIEWS, "a view of a higher number")
        _need(self.primary in self.replicas and self.primary not in rest.byzantine, "the primary is away")
        nodes = self._config.nodes
        _need(all(borne(f, nodes, self.primary) for f in rest.weather.active), "a fault that is not covered")
        for node in self.up:
            self._node(node)
        self.states: dict[int, bytes] = {}  # what checkpoints sign, by sequence
        for replica in self.replicas.values():
            self._checkpoints(replica)
            self._snapshots(replica)
            for slot in replica.slots.values():
                self._slot(replica, slot)
        self._told: set[tuple[int, str, int]] = set()  # who told whom about which request, or is about to
        for client in rest.clients.values():
            for asked, replies in client.client.outstanding():
                said = {(reply.view, reply.seq, reply.result_digest) for reply in replies.values()}
                same = len(said) <= 1 and all(view == self.view for view, *_ in said)
                _need(same, "replies of another view")
                self._told.update((r, *asked.key) for r in replies)
        self.base = min(min(one.low, answered(one)) for one in self.replicas.values())
        for _, _, flight in rest.env.on_its_way():
            self._flight(flight)

    # --- members ---

    def _node(self, node: ReplicaNode) -> None:
        one = self.replicas[node.index]
        _need(node.settled and node.height == one.executed, "a member that is not level with its application")
        _need(one.voting_view == one.view == self.view and not one.changing, "a change of view")
        _need(not one.backoff and not one.early.most(), "a view that is hardly begun")
        _need(one.download is None and not one.installing, "a snapshot that is being fetched")
        carried = max((proposal.seq for proposal in one.new_view.proposals), default=0) if one.new_view else 0
        _need(carried <= one.low <= one.executed, "what an earlier view left, or a member far behind")
        leads = one.me == self.primary
        _need(leads or not len(one.waiting), "a backup that knows of requests")
        _need(
            one.watched is None or (isinstance(one.watched, int) and not leads),
            "a backup that waits for more",
        )
        handed_out = sorted(one.handed_out)
        _need(handed_out == list(range(answered(one) + 1, one.executed + 1)), "executions that are missing")

    def _checkpoints(self, one: Replica) -> None:
        counted = one.checkpoints.votes
        last = one.low + CHECKPOINTS_AHEAD * self._every
        _need(all(one.low < seq <= last for seq in counted), "votes for checkpoints far ahead")
        known = [(seq, vote.digest) for seq, votes in counted.items() for vote in votes.values()]
        known += [(seq, vote.digest) for seq, vote in one.own_checkpoints.items()]
        known += [(proof.seq, proof.digest) for proof in (*one.proofs.values(), one.stable) if proof]
        for seq, digest in known:
            _need(self.states.setdefault(seq, digest) == digest, "checkpoints that differ")
        given = own_checkpoints(self._config, one.low, answered(one))
        _need(sorted(one.own_checkpoints) == list(given), "votes never given")

    def _snapshots(self, one: Replica) -> None:
        taken = [seq for seq in self.states if one.low < seq <= answered(one) and one.wants_snapshot(seq)]
        _need(sorted(one.manifests) == sorted({*one.proofs, *taken}), "a snapshot that others have")

    def _slot(self, one: Replica, slot: Slot) -> None:
        proposed, prepared = slot.pre_prepare, slot.prepared
        _need((prepared is not None) == slot.prepared_now, "what was prepared in an earlier view")
        if proposed is None:
            return
        _need(proposed.view == self.view and slot.batch is not None, "a batch that is missing")
        assert slot.batch is not None
        if slot.closed:
            return
        if one.me == self.primary and slot.seq > one.executed:
            known = all(request.key in one.waiting for request in slot.batch.requests)
            _need(known, "a proposal that its primary does not remember")
        votes: list[Prepare | Commit] = [*slot.prepares.values(), *slot.commits.values()]
        _need(all(vote.digest == proposed.digest for vote in votes), "votes for something else")
        _need((one.me in slot.prepares) == (one.me != self.primary), "a Prepare that is missing")
        _need((one.me in slot.commits) == slot.prepared_now, "a Commit that is missing")

    # --- what is on its way ---

    def _flight(self, flight: Flight) -> None:
        ends, message = self._rest.bus.endpoints, flight.message
        places = flight.places[flight.next :]
        if max(places) < ends:
            _need(len(set(places)) == len(places), "messages that arrive twice")
            _need(type(message) is Request or flight.sender == sender_of(message), "messages for others")
            self._message(message, flight.sender, places)
            return
        _need(ends <= places[0] < 2 * ends, "messages that are not authentic")
        (at, event), node = message, self._rest.nodes[places[0] - ends]
        _need(at == node.epoch and node.up, "work of a member that went down")
        if isinstance(event, Executed):
            _need(event.seq > self.base, "an execution far behind")
        else:
            self._message(event, -1, [node.index])

    def _message(self, message: Message, sender: int, places: Iterable[int]) -> None:
        look = self._LOOKS.get(type(message))
        _need(look is not None, "a message that is not of the normal case")
        assert look is not None
        look(self, message, sender, places)

    def _request(self, message: Request, sender: int, places: Iterable[int]) -> None:
        _need(message.client in self._rest.clients, "a request of a stranger")
        own = sender < 0 or sender == self._rest.clients[message.client].index
        _need(own and all(place == self.primary for place in places), "a request to all")

    def _vote(self, message: PrePrepare | Prepare | Commit, *_: Any) -> None:
        _need(message.view == self.view, "votes of another view")
        known = message.seq in self._rest.chronicle.blocks and not isinstance(message, PrePrepare)
        _need(message.seq > self.base or known, "votes far behind")

    def _reply(self, message: Reply, *_: Any) -> None:
        _need(message.view == self.view, "replies of another view")
        whose = message.replica, message.client, message.sequence
        _need(whose not in self._told or message.replica == self.primary, "replies that are repeated")
        self._told.add(whose)

    def _status(self, message: Status, *_: Any) -> None:
        _need(message.view == self.view and not message.changing, "words of another view")
        _need(message.executed >= self.base, "a question from far behind")

    def _checkpoint(self, message: Checkpoint, *_: Any) -> None:
        digest = self.states.setdefault(message.seq, message.digest)
        _need(digest == message.digest, "checkpoints that differ")

    def _answer(self, message: FetchReply, *_: Any) -> None:
        seqs = [block.seq for block in message.blocks]
        _need(not message.bodies and all(seq > self.base for seq in seqs), "an answer far behind")
        _need(seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True, "an answer with gaps")
        if message.checkpoint is not None:
            self.states.setdefault(message.checkpoint.seq, message.checkpoint.digest)

    _LOOKS: Final[dict[type, Callable[..., None]]] = {
        Request: _request,
        PrePrepare: _vote,
        Prepare: _vote,
        Commit: _vote,
        Reply: _reply,
        Status: _status,
        Checkpoint: _checkpoint,
        FetchReply: _answer,
    }
