"""A network of pure replicas in rounds: everything sent in one round arrives in the next, in the order of sending.

No SimPy, no links, no chance: a few hundred runs a second, for explorers that enumerate. A *seat* is one running copy
of a member; twins are two seats of one member. A route sees every copy of a message and lets it through, changes it or
drops it. Between rounds time stands still; where nothing is on its way it jumps to the next timer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from msgspec.structs import replace
from tradebft.chain.crypto import Keyring, Signer, digest, make_identities
from tradebft.consensus.interface import (
    Broadcast,
    CancelTimer,
    Committed,
    Config,
    Evidence,
    Executed,
    Ignored,
    Persist,
    Send,
    SendBlocks,
    SetTimer,
    Start,
    TimerFired,
)
from tradebft.consensus.invariants import Checker, Violation
from tradebft.consensus.messages import Decided, FetchReply, NewView, Reply, Request, authentic, result_digest
from tradebft.consensus.pbft import Replica
from tradebft.lab.fuzz import limits

HOP_NS: Final = 1_000_000  # from one round to the next
CLIENTS: Final = ("bank", "shop")
VIEW_TIMER: Final = "view-change"
MESSAGES_MAX: Final = 50_000  # a run has some hundreds; more feed themselves
Route = Callable[
    [int, int, Any], Any
]  # (from seat, to seat, message) -> what arrives there; None for nothing


def open_to_all(sender: int, receiver: int, message: Any) -> Any:
    """The route of a network that is whole."""
    return message


@lru_cache
def identities(nodes: int) -> tuple[dict[Any, Signer], Keyring]:
    """The keys of all members and clients; the same in every process."""
    return make_identities([*range(nodes), *CLIENTS], "modelled", 1)


@lru_cache
def request(nodes: int, chain_id: bytes, number: int) -> Request:
    """The request of that number, signed by its client."""
    bare = Request(CLIENTS[number % len(CLIENTS)], number // len(CLIENTS) + 1, b"operation %d" % number)
    return replace(bare, signature=identities(nodes)[0][bare.client].sign(bare.payload(chain_id)))


class Lockstep:
    """The replicas of *seats* (each names its member) at time *now*, what is on its way, their timers and histories.

    *judged*: the members that the checker holds to the protocol. *timed*: whether timers run out by themselves.
    """

    def __init__(self, config: Config, seats: Sequence[int], judged: Collection[int]) -> None:
        self.config, self.seats, self.judged = config, tuple(seats), frozenset(judged)
        self.signers, self.keyring = identities(config.nodes)
        self.checker = Checker(config, self.keyring, self.judged)
        self.replicas = [Replica(member, config, self.signers[member], self.keyring) for member in seats]
        self.by_member: dict[int, list[int]] = {}
        for seat, member in enumerate(seats):
            self.by_member.setdefault(member, []).append(seat)
        self.route: Route = open_to_all
        self.timed = True
        self.now = self.hops = self.messages = 0
        self.flying: list[tuple[int, Any]] = []
        self.timers: list[dict[str, int]] = [{} for _ in seats]
        self.blocks: list[list[Decided]] = [[] for _ in seats]
        self.roots = [bytes(32)] * len(seats)
        self.raised: set[int] = set()  # seats whose replica let an exception out: they are not run any more
        self.traces = [blake2b(digest_size=16) for _ in seats]
        self.asked: list[Request] = []
        self.evidence: list[tuple[int, Evidence]] = []  # who of the judged holds it
        self.believed: dict[tuple[str, int], bytes] = {}  # what a client was told by f+1 members
        self._replies: dict[tuple[str, int, int, bytes], set[int]] = {}
        for seat in range(len(seats)):
            self.step(seat, Start())

    # --- what the explorers do ---

    def submit(self, number: int, order: Sequence[int] | None = None) -> Request:
        """A client tells every seat its request of that number, at once."""
        asked = request(self.config.nodes, self.config.chain_id, number)
        self.asked.append(asked)
        for seat in range(len(self.seats)) if order is None else order:
            self.step(seat, asked)
        return asked

    def repeat(self) -> None:
        """Clients ask again for what they wait for."""
        for asked in self.unanswered():
            for seat in range(len(self.seats)):
                self.step(seat, asked)

    def unanswered(self) -> list[Request]:
        """Requests that no f+1 members answered alike."""
        return [asked for asked in self.asked if asked.key not in self.believed]

    def time_out(self, seat: int) -> None:
        """The view-change timer of *seat* runs out, whether it was set or not: timers never make a vote unsafe."""
        self.timers[seat].pop(VIEW_TIMER, None)
        self.step(seat, TimerFired(VIEW_TIMER))

    def hop(self) -> None:
        """One round: what is on its way arrives, then timers that are due run out."""
        self.now += HOP_NS
        self.hops += 1
        arriving, self.flying = self.flying, []
        for seat, message in arriving:
            self.step(seat, message)
        if self.timed:
            for seat, timers in enumerate(self.timers):
                for name in [name for name, due in timers.items() if due <= self.now]:
                    if timers.pop(name, None) is not None:  # another may have cancelled it just now
                        self.step(seat, TimerFired(name))

    def settle(self, most: int) -> None:
        """Rounds until nothing is on its way, *most* at most."""
        while self.flying and most:
            self.hop()
            most -= 1

    def advance(self, until: int | None = None) -> bool:
        """The next round in which something happens; False where nothing will (by time *until*)."""
        if not self.flying:
            due = min((at for timers in self.timers for at in timers.values()), default=None)
            if due is None or (until is not None and due > until):
                return False
            rounds = -(-(due - self.now) // HOP_NS)
            self.now += max(0, rounds - 1) * HOP_NS
        self.hop()
        return True

    def look(self) -> None:
        """Bounds that hold between rounds."""
        for seat, replica in enumerate(self.replicas):
            if self.seats[seat] in self.judged:
                for invariant, what in limits.exceeded(replica, self.config, self.config.nodes):
                    self.report(invariant, self.seats[seat], what)

    def report(self, invariant: str, member: int, what: str) -> None:
        """Note a violation that the checker does not look for."""
        self.checker.violations.append(Violation(invariant, self.now, member, what))

    @property
    def violations(self) -> list[Violation]:
        """What was broken so far, in order."""
        return self.checker.violations

    def fingerprint(self) -> bytes:
        """Equal for runs in which every seat was told the same in the same order: their replicas are equal then."""
        return b"".join(trace.digest() for trace in self.traces)

    # --- running ---

    def step(self, seat: int, event: Any) -> None:
        """Give *event* to the replica of *seat* and do what it asks for."""
        if seat in self.raised:
            return
        signature = getattr(event, "signature", None)
        if signature is not None:
            self.traces[seat].update(signature)
        elif type(event) is TimerFired:
            self.traces[seat].update(event.name.encode())
        try:
            effects = self.replicas[seat].step(self.now, event)
        except Exception as error:
            self.raised.add(seat)
            what = f"{type(error).__name__} on {type(event).__name__}: {error}"
            self.report("raised", self.seats[seat], " ".join(what.split())[:300])
            return
        for effect in effects:
            self._perform(seat, effect)

    def _perform(self, seat: int, effect: Any) -> None:
        kind = type(effect)
        if kind is Broadcast:
            me = self.seats[seat]
            self._note(me, effect.message)
            for member in range(self.config.nodes):
                if member != me:
                    self._put(seat, member, effect.message)
        elif kind is Send:
            if isinstance(effect.to, str):
                self._answer(seat, effect.message)
            else:
                self._note(self.seats[seat], effect.message)
                self._put(seat, effect.to, effect.message)
        elif kind is SetTimer:
            self.timers[seat][effect.name] = self.now + effect.delay_ns
        elif kind is CancelTimer:
            self.timers[seat].pop(effect.name, None)
        elif kind is Committed:
            self._execute(seat, effect)
        elif kind is SendBlocks:
            kept = self.blocks[seat][max(0, effect.first - 1) : effect.last]
            bare = FetchReply(tuple(kept), (), effect.checkpoint, self.seats[seat])
            self._put(seat, effect.to, self.signed(bare))
        elif kind is Evidence:
            if self.seats[seat] in self.judged:
                self.evidence.append((self.seats[seat], effect))
                if effect.culprit in self.judged or isinstance(effect.culprit, str):
                    self.report("accused", self.seats[seat], f"accuses {effect.culprit}: {effect.what}")
        elif kind is Persist and isinstance(effect.record, NewView):
            self.checker.opened(self.now, self.seats[seat], effect.record)
        else:
            assert kind in (Persist, Ignored), f"no disk, no snapshots and no epochs here: {effect}"

    def _note(self, member: int, message: Any) -> None:
        if getattr(message, "replica", None) == member:
            self.checker.sent(self.now, member, message)

    def _put(self, seat: int, member: int, message: Any) -> None:
        for to in self.by_member[member]:
            arriving = self.route(seat, to, message)
            if arriving is message:
                self.messages += 1
                self.flying.append((to, message))
            elif arriving is not None:
                self.flying += ((to, each) for each in self._authentic(arriving))
        if self.messages > MESSAGES_MAX:
            self.flying.clear()
            self.report("runaway", -1, f"more than {MESSAGES_MAX} messages")
            self.raised.update(range(len(self.seats)))

    def _authentic(self, arriving: Any) -> list[Any]:
        """What a replica says for itself is signed; what a route put in its place may not be."""
        instead = arriving if isinstance(arriving, tuple) else (arriving,)
        passed = [each for each in instead if authentic(each, self.config.chain_id, self.keyring)]
        self.messages += len(passed)
        return passed

    def signed(self, message: Any) -> Any:
        """*message* with a signature of the member that it names."""
        return replace(
            message, signature=self.signers[message.replica].sign(message.payload(self.config.chain_id))
        )

    def _execute(self, seat: int, effect: Committed) -> None:
        member = self.seats[seat]
        self.checker.committed(self.now, member, effect)
        # A result depends on everything before it, so that answers of another history differ.
        batch = effect.decided.batch.digest
        root = self.roots[seat] = digest("lockstep/root", self.roots[seat], batch, b"%d" % len(effect.fresh))
        results = tuple(digest("lockstep/result", root, asked.operation)[:8] for asked in effect.fresh)
        self.blocks[seat].append(effect.decided)
        self.checker.executed(self.now, member, effect.seq, root)
        self.step(seat, Executed(effect.seq, results, tuple(map(result_digest, results)), root))

    def _answer(self, seat: int, message: Any) -> None:
        """A reply reaches its client, which believes what f+1 members say alike."""
        arriving = self.route(seat, -1, message)
        if arriving is None or not isinstance(message, Reply):
            return
        for reply in (message,) if arriving is message else self._authentic(arriving):
            self._believe(reply)

    def _believe(self, reply: Reply) -> None:
        key = reply.client, reply.sequence
        said = (*key, reply.seq, reply.result_digest)
        members = self._replies.setdefault(said, set())
        members.add(reply.replica)
        if len(members) > self.config.faults:
            known = self.believed.setdefault(key, reply.result_digest)
            if known != reply.result_digest:
                self.report("answers", -1, f"{reply.client}'s request {reply.sequence} has two results")
