"""One scripted run of four members in which one may lie and the network may be cut, for the small-scope explorer.

The script: seven batches of two requests, checkpoints at every second.

    view 0   1, 2    as it should be
             3       replica 3 alone decides it, which nobody hears of before view 1; replica 2 never saw its batch
             4       replica 1 alone prepares it, and leads the next view
    view 1   3, 4    carried over
             5       replica 0 alone decides it, which nobody hears of before view 2; replica 3 never saw its batch
             6       replica 2 alone prepares it, and leads the next view
    view 2   5, 6    carried over
             7       as it should be

Then everything that was wrong ends, and whatever was asked for must be answered.

    play(Plan(1, (Lie("NewView/1/0#0", "proposal nulled", (0, 2)),), ()))
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace
from tradebft.consensus.interface import Config
from tradebft.consensus.invariants import Violation
from tradebft.consensus.messages import (
    Batch,
    Commit,
    FetchReply,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Request,
    ViewChange,
)
from tradebft.lab.fuzz.lockstep import HOP_NS, Lockstep
from tradebft.lab.fuzz.small_steps import Scene, steps

NODES: Final = 4
CLIENT: Final = -1
CONFIG: Final = Config(
    nodes=NODES,
    batch_size=2,
    batch_timeout_ns=2 * HOP_NS,
    window=4,
    checkpoint_interval=2,
    log_window=4,
    view_change_timeout_ns=20 * HOP_NS,
)
ASKED_AT: Final = ((0, 2), (5, 2), (10, 4), (42, 4), (74, 2))  # in which round, and how many requests
END: Final = 82  # of the script
ALONE: Final = {(0, 3): (3, 2), (1, 5): (0, 3)}  # (view, seq) -> who alone hears Commits, and who no proposal
PREPARED_BY: Final = {(0, 4): 1, (1, 6): 2}  # (view, seq) -> who alone hears Prepares
CALM_ROUNDS: Final = 600
REPEAT_ROUNDS: Final = 40


class Lie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The message that *label* names ("kind/view/seq#how many before it") reaches *receivers* changed by *step*."""

    label: str
    step: str
    receivers: tuple[int, ...]  # CLIENT for the client


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For *lasts* rounds from round *at* on, only members of one group hear one another."""

    at: int
    lasts: int
    groups: tuple[tuple[int, ...], ...]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong beside the script. *liar*: the Byzantine member; -1: none."""

    liar: int
    lies: tuple[Lie, ...]
    cuts: tuple[Cut, ...]


class Played(msgspec.Struct, frozen=True):
    """What came of one plan."""

    violations: list[Violation]
    told: int  # lies that were told to somebody; others were about messages that were not sent this time
    caught: bool  # somebody honest holds evidence against the liar
    views: int  # the highest view that somebody honest is in
    rounds: int  # of the calm
    messages: int


def play(plan: Plan) -> Played:
    """Run the script with *plan* and judge it: safety always, answers in the calm."""
    stage = Stage(plan)
    rounds = stage.run()
    network = stage.network
    return Played(
        network.violations,
        stage.told,
        any(evidence.culprit == plan.liar for _, evidence in network.evidence),
        max(network.replicas[member].view for member in stage.judged),
        rounds,
        network.messages,
    )


class Stage:
    """The network, the script and the plan; it is the route of every message."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.judged = [member for member in range(NODES) if member != plan.liar]
        self.network = Lockstep(CONFIG, range(NODES), self.judged)
        self.network.route = self.route
        self.told = 0
        self.offered: dict[
            str, tuple[list[str], set[int]]
        ] = {}  # label -> steps that there were, and receivers
        self.rounds_used: set[int] = set()
        self._lies = {lie.label: lie for lie in plan.lies}
        self._counts: dict[str, int] = {}
        self._current: Any = None  # the liar's message whose copies are being sent
        self._label, self._given = "", set[int]()
        self._instead: tuple[Any, ...] | None = None  # of it, for those who are lied to
        self._batches: dict[bytes, Batch] = {}
        self._certificates: dict[tuple[int, int], Prepared] = {}
        self.scene = Scene(plan.liar, CONFIG, self._sign, self._batches, self._certificates)

    # --- the run ---

    def run(self) -> int:
        """The script, then the calm; how many rounds that took."""
        network = self.network
        number = 0
        for at, count in ASKED_AT:
            self._until(at)
            for _ in range(count):
                network.submit(number)
                number += 1
        self._until(END)
        last = max((cut.at + cut.lasts for cut in self.plan.cuts), default=0)
        self._until(max(END, last))
        return self._calm(number) if not network.violations else 0

    def _until(self, rounds: int) -> None:
        network = self.network
        while network.now < rounds * HOP_NS and not network.violations:
            if not network.advance(rounds * HOP_NS):
                network.now = rounds * HOP_NS
        network.look()

    def _calm(self, number: int) -> int:
        network = self.network
        network.route = lambda sender, receiver, message: message
        network.submit(number)
        network.repeat()
        begun = network.hops
        while network.unanswered() and not network.violations:
            asleep = not network.advance()
            spent = network.hops - begun
            if spent >= CALM_ROUNDS:
                stand = ", ".join(
                    f"{member}: {replica.executed} in view {replica.view}{'+' if replica.changing else ''}"
                    for member, replica in enumerate(network.replicas)
                )
                network.report(
                    "liveness",
                    -1,
                    f"{len(network.unanswered())} requests unanswered {spent} rounds after all was well;"
                    f" executed by {stand}",
                )
            elif asleep or spent % REPEAT_ROUNDS == 0:
                network.repeat()
        network.look()
        return network.hops - begun

    # --- what happens to a message ---

    def route(self, sender: int, receiver: int, message: Any) -> Any:
        """What reaches *receiver*."""
        self._learn(message)
        arriving = self._as_told(receiver, message) if sender == self.plan.liar else message
        at = self.network.now // HOP_NS
        self.rounds_used.add(at)
        if receiver == CLIENT:
            return arriving
        if self._scripted_away(sender, receiver, message):
            return None
        for cut in self.plan.cuts:
            if cut.at <= at < cut.at + cut.lasts and not any(
                sender in group and receiver in group for group in cut.groups
            ):
                return None
        return arriving

    def _scripted_away(self, sender: int, receiver: int, message: Any) -> bool:
        """What the script itself keeps from arriving."""
        kind = type(message)
        if kind in (PrePrepare, Prepare, Commit):
            place = message.view, message.seq
            if place in ALONE:
                hears, lacks = ALONE[place]
                return (kind is Commit and receiver != hears) or (kind is PrePrepare and receiver == lacks)
            return kind is Prepare and PREPARED_BY.get(place, receiver) != receiver
        # What somebody decided alone stays his own until the next view.
        return kind is FetchReply and any(
            (self.network.replicas[sender].view, block.seq) in ALONE for block in message.blocks
        )

    def _learn(self, message: Any) -> None:
        """What a liar may use later."""
        if type(message) is PrePrepare and message.batch is not None:
            self._batches.setdefault(message.digest, message.batch)
        elif type(message) is ViewChange:
            for entry in message.prepared:
                self._certificates.setdefault((entry.pre_prepare.view, entry.pre_prepare.seq), entry)

    def _as_told(self, receiver: int, message: Any) -> Any:
        if type(message) is Request:
            return message  # passed on for a client
        if message is not self._current or receiver in self._given:
            self._begin(message)
        self._given.add(receiver)
        lie = self._lies.get(self._label)
        if lie is None or receiver not in lie.receivers or self._instead is None:
            return message
        self.told += 1
        return self._instead

    def _begin(self, message: Any) -> None:
        """The first copy of another message of the liar's."""
        name = _label(message)
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        self._current, self._given, self._instead = message, set(), None
        self._label = f"{name}#{count}"
        if not self._lies:
            self.offered[self._label] = [step for step, _ in steps(message, self.scene)], self._given
        lie = self._lies.get(self._label)
        if lie is not None:
            instead = dict(steps(message, self.scene)).get(lie.step)
            if instead is not None:
                self._instead = tuple(map(self._sign, instead))
                for changed in self._instead:
                    self._learn(changed)

    def _sign(self, message: Any) -> Any:
        """*message* signed by the liar, whoever it names."""
        payload = message.payload(CONFIG.chain_id)
        return replace(message, signature=self.network.signers[self.plan.liar].sign(payload))


def _label(message: Any) -> str:
    if type(message) is Reply:
        return f"Reply/{message.client}/{message.sequence}"
    return f"{type(message).__name__}/{getattr(message, 'view', 0)}/{getattr(message, 'seq', 0)}"


__all__ = ["CLIENT", "CONFIG", "END", "NODES", "Cut", "Lie", "Plan", "Played", "Stage", "play"]
