"""What happened, kept as numbers: messages by kind, decisions, one round in full. Read after the run, never during."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.interface import Committed, Config, Evidence
from tradebft.consensus.membership import Membership, epoch_of, first_view, sizes
from tradebft.consensus.messages import Message, NewView, PrePrepare, Reply, Request
from tradebft.network.trace import TraceDigest, short

COMMIT_EVENT, EXECUTE_EVENT, TIMER_EVENT, ANSWER_EVENT, INSTALL_EVENT = 64, 65, 66, 67, 68
Row = tuple[Message, int, int, int, int]  # message, sender, receiver, sent_ns, arrived_ns

ROUND_REQUESTS_MAX = 2  # a round with more requests would be a picture of nothing but requests and replies
ROUND_PATIENCE = 200  # sequences to wait for such a round before any will do
REQUESTS_KEPT = 256
EVIDENCE_KEPT = 1000


class Decision:
    """One sequence number: when it was proposed and committed. Times in ns, -1 where it never happened."""

    __slots__ = (
        "all_ns",
        "bytes",
        "committed",
        "live",
        "proposed_ns",
        "quorum_ns",
        "seq",
        "transactions",
        "view",
    )

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.view = self.transactions = self.bytes = 0
        self.proposed_ns = self.quorum_ns = self.all_ns = -1
        self.committed = self.live = 0  # replicas as bits


class Recorder:
    """Collects what metrics are made of."""

    def __init__(self, config: Config) -> None:
        self._quorum = config.quorum
        self._nodes = config.nodes
        self.epoch = 0
        self.members = (1 << config.nodes) - 1  # of the latest epoch, as bits
        self.trace = TraceDigest(config.nodes)
        self.messages: Counter[str] = Counter()
        self.bytes_sent = 0
        self.ignored: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()  # how often each kind of fault bit
        self.evidence: list[dict[str, Any]] = []
        self.decisions: dict[int, Decision] = {}
        self.view = 0  # views that were opened beyond the first of each epoch
        self._views: dict[int, int] = {}
        self.last_commit_ns = 0
        self.installed = 0  # snapshots that replicas took over
        self._round: list[Row | Callable[[], Iterable[Row]]] = []  # and what makes more of them
        self._proposals: dict[int, tuple[bytes, int, int]] = {}
        self.round_open = True  # whether messages are still wanted one by one
        self.round_seq = 0  # the decision whose messages are kept; 0 until one is chosen
        self._asked: deque[Row] = deque(maxlen=REQUESTS_KEPT)
        self._replies_due = 0

    def proposed(self, now: int, message: PrePrepare | NewView) -> None:
        """A primary assigns batches to sequences; a later view may assign the same ones again."""
        if isinstance(message, NewView):
            epoch = epoch_of(message.view)
            self._views[epoch] = max(self._views.get(epoch, 0), message.view - first_view(epoch))
            self.view = sum(self._views.values())
            for proposal in message.proposals:
                self.proposed(now, proposal)
            return
        if self.round_open and message.batch is not None:
            self.choose_round(message.seq, message.batch.requests)
        known = self._proposals.get(message.seq)
        if known is None or known[0] != message.digest:
            self._proposals[message.seq] = message.digest, now, message.view

    def committed(self, now: int, replica: int, effect: Committed, live: int) -> None:
        """*replica* committed a sequence; *live*: the replicas that are up now, as bits."""
        batch = effect.decided.batch
        self.trace.event(COMMIT_EVENT, replica, 0, effect.seq, short(batch.digest), 0, now)
        self.last_commit_ns = now
        decision = self.decisions.get(effect.seq)
        if decision is None:
            decision = self.decisions[effect.seq] = Decision(effect.seq)
            decision.view = effect.decided.certificate.view - first_view(
                epoch_of(effect.decided.certificate.view)
            )
            self.view = max(self.view, decision.view)
            decision.transactions = len(batch.requests)
            decision.bytes = len(batch.encoded)
            # A single replica commits while it still signs what it proposes.
            decision.proposed_ns = min(now, self._proposals.pop(effect.seq, (b"", -1, 0))[1])
        decision.committed |= 1 << replica
        if decision.quorum_ns < 0:
            if (decision.committed & self.members).bit_count() < self._quorum:
                return
            decision.quorum_ns, decision.live = now, live
        if decision.all_ns < 0 and decision.committed & decision.live == decision.live:
            decision.all_ns = now

    def severed(self, causes: Iterable[str]) -> None:
        """Messages that were sent to where none could arrive, each by its cause."""
        for cause in causes:
            self.dropped[cause] += 1
            self.injected[cause] += 1

    def entered(self, membership: Membership) -> None:
        """A replica entered an epoch."""
        if membership.epoch > self.epoch:
            self.epoch, self._nodes = membership.epoch, len(membership.members)
            self._quorum = sizes(self._nodes)[1]
            self.members = sum(1 << index for index, _ in membership.members)

    def accuse(self, now: int, by: int, evidence: Evidence) -> None:
        """Endpoint *by* holds proof of somebody's misbehaviour. The first thousand are kept."""
        if len(self.evidence) < EVIDENCE_KEPT:
            self.evidence.append({"at_ns": now, "by": by, "culprit": evidence.culprit, "what": evidence.what})

    def choose_round(self, seq: int, requests: Sequence[Request]) -> None:
        """A batch was proposed: keep its messages, if none is chosen yet. Not the very first, for the network may still
        be starting, and not one of nothing but requests and replies, unless there has long been no other."""
        if self.round_seq:
            return
        if (seq > 1 and len(requests) <= ROUND_REQUESTS_MAX) or seq > ROUND_PATIENCE:
            self.round_seq = seq
            wanted = {request.key for request in requests}
            self._round = [row for row in self._asked if isinstance(row[0], Request) and row[0].key in wanted]
            self._replies_due = len(requests) * self._nodes

    @property
    def replies_due(self) -> int:
        """How many replies of the round are still to be sent."""
        return self._replies_due

    def proposed_ns(self, seq: int) -> int:
        """When what is not committed anywhere was proposed at *seq*; -1: it was not. Whoever asks goes on with it."""
        return self._proposals.pop(seq, (b"", -1, 0))[1]

    @property
    def round(self) -> list[Row]:
        """The messages of one decision, as far as they are known by now."""
        return self._made()

    def _made(self) -> list[Row]:
        made = [row for one in self._round for row in (one() if callable(one) else (one,))]
        self._round[:] = made
        return made

    def resume(self, replies_due: int, round_open: bool) -> None:
        """Go on where another engine stood: so many replies of the round are still to be sent."""
        self._made()  # while what they are made of is as it was
        self._replies_due, self.round_open = replies_due, round_open

    def defer(self, rows: Callable[[], Iterable[Row]]) -> None:
        """More messages of the round, to be made when somebody looks: with many members that takes longer than it took
        to simulate them."""
        self._round.append(rows)

    def keep(self, message: Message, sender: int, receiver: int, sent: int, arrived: int) -> None:
        """One message, for the space-time diagram of one round from its requests to its last reply."""
        if isinstance(message, Request):
            if not self.round_seq:
                self._asked.append((message, sender, receiver, sent, arrived))
        elif self.round_seq and getattr(message, "seq", 0) == self.round_seq:
            self._round.append((message, sender, receiver, sent, arrived))
            if isinstance(message, Reply):
                self._replies_due -= 1
                self.round_open = self._replies_due > 0

    def keep_broadcast(
        self,
        message: Message,
        sender: int,
        sent: int,
        receivers: NDArray[np.int64],
        delays: NDArray[np.int64],
    ) -> None:
        """One message to several, *delays* (ns) after it was sent, of which as many are kept as `keep` would: nearest
        receiver first."""
        if isinstance(message, Request | Reply):
            for row in copies(message, sender, sent, receivers, delays):
                self.keep(*row)
        elif self.round_seq and getattr(message, "seq", 0) == self.round_seq:
            self.defer(partial(copies, message, sender, sent, receivers, delays.copy()))


def copies(
    message: Message, sender: int, sent: int, receivers: NDArray[np.int64], delays: NDArray[np.int64]
) -> Iterator[Row]:
    """Of one message to several that takes *delays* (ns): one to each of *receivers*, nearest first."""
    order = np.argsort(delays, kind="stable")
    for receiver, delay in zip(receivers[order].tolist(), delays[order].tolist(), strict=True):
        yield message, sender, receiver, sent, sent + delay
