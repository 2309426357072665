"""One trial: a storm, then the calm, judged all the way. The same case gives the same outcome anywhere.

In the storm everything that the case holds happens, and only safety and bounds are judged. When it is over, whoever is
not gone for ever is up and connected, and the network must converge: every honest client is answered, all members of
the core stand level, and further requests find a primary that stays. A trial ends as soon as that is so, or with the
first violation.
"""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import partial
from typing import Any, Final

from simpy.events import Event
from tradebft.consensus.interface import Config
from tradebft.consensus.invariants import Violation
from tradebft.consensus.membership import Membership, genesis
from tradebft.lab.fuzz import limits
from tradebft.lab.fuzz.answers import Diary, wrong_answers
from tradebft.lab.fuzz.case import GOVERNOR, Case
from tradebft.lab.fuzz.dice import Dice
from tradebft.lab.fuzz.members import govern, later_keys
from tradebft.lab.fuzz.outcome import Outcome
from tradebft.lab.fuzz.province import LedgerDiary, Province
from tradebft.lab.fuzz.tallies import coverage, evidence, injected, refusals
from tradebft.network.application import Application
from tradebft.network.chance import Chance
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import MEASURED
from tradebft.network.links import link_model
from tradebft.network.node import ReplicaNode, RequestRecord
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh
from tradebft.network.virtual_time import rare_collections

MS, S = 10**6, 10**9
STORM_STEP_NS: Final = 50 * MS  # how often bounds are looked at
CALM_STEP_NS: Final = 50 * MS
CALM_STEP_MAX_NS: Final = 1 * S
MESSAGES_MAX: Final = 2_000_000  # a trial has some ten thousand; more is a storm that feeds itself
LEVEL_STEPS: Final = 5  # half status intervals that a round waits for the last member
STEADY_ROUNDS: Final = 2  # rounds of requests in one and the same view, before views count as settled
Watch = Callable[[Cluster], None]


def try_case(case: Case, watch: Watch | None = None) -> Outcome:
    """Run *case* to its end. *watch* is handed the cluster before anything happens in it.

    What goes wrong is in the outcome, an exception out of a replica included; ValueError for a case that cannot be
    set up.
    """
    with rare_collections(), planted(case.mutant):
        outcome = _tried(case, watch)
        gc.collect()  # a cluster is full of cycles; what was there before the trial is not looked at
        return outcome


def _tried(case: Case, watch: Watch | None) -> Outcome:
    trial = _Trial(case)
    if watch is not None:
        watch(trial.cluster)
    return trial.run()


def planted(mutant: str) -> AbstractContextManager[object]:
    """The protocol with the planted bug of that name, for as long as the context lasts; "" plants none."""
    if not mutant:
        return contextlib.nullcontext()
    from tradebft.lab.fuzz import planting

    context: AbstractContextManager[object] = planting.plant(mutant)
    return context


def cluster_of(case: Case, diary: Callable[[], Application] = Diary) -> Cluster:
    """The network of *case* at time 0, nothing submitted yet."""
    config = case.config
    links = link_model(case.links.model, case.links.parameters)
    wire = Wire(links, Mesh(case.everybody), None, 0.0, lossy=True)
    return Cluster(
        Settings(
            config,
            wire,
            case.seed,
            [*case.clients, *([GOVERNOR] if case.changes else [])],
            client_timeout_ns=case.client_timeout_ns,
            application=diary,
            costs=MEASURED if case.processor else None,
            faults=list(case.faults),
            spare=case.spare,
            later_keys=later_keys(case),
            apart=case.application == "ledger",
            **_misbehaviour(case),
        )
    )


def _misbehaviour(case: Case) -> dict[str, Any]:
    """The settings for adversaries; left out where there are none, so that any cluster will do."""
    settings: dict[str, Any] = {}
    known = {field.name for field in fields(Settings)}
    if case.adversaries:
        if "byzantine" not in known:
            raise ValueError("this network knows no adversaries")
        from tradebft.network.misbehaviour import Misbehaviour  # type: ignore[import-not-found, unused-ignore]

        settings["byzantine"] = [
            Misbehaviour(a.node, a.behaviour, dict(a.parameters), a.at_ns, a.until_ns)
            for a in case.adversaries
        ]
    if case.dishonest:
        if "dishonest_clients" not in known:
            raise ValueError("this network knows no dishonest clients")
        settings["dishonest_clients"] = dict(case.dishonest)
    return settings


class _Over(Exception):
    """The trial has its outcome."""


class _Trial:
    def __init__(self, case: Case) -> None:
        self.case, self.config = case, case.config
        self.diaries: list[Diary | LedgerDiary] = []
        dice = Dice(Chance(case.seed).stream("fuzz", "province"))
        self.province = Province(case.seed, dice) if case.application == "ledger" else None
        self.cluster = cluster_of(case, self._diary)
        self.records: dict[str, list[RequestRecord]] = {name: [] for name in (*case.clients, GOVERNOR)}
        self.found: list[Violation] = []
        self.honest = [self.cluster.nodes[index] for index in case.honest]
        self.cluster.env.process(self._ask())
        if case.changes:
            self.cluster.env.process(govern(case, self.cluster, partial(self._submit, GOVERNOR)))
        self.asked = len(case.asks)
        self.torn = any(fault.torn for fault in case.faults)
        self.accusations = 0

    def _diary(self) -> Diary | LedgerDiary:
        province = self.province
        self.diaries.append(province.application() if province else Diary(self.case.state_bytes))
        return self.diaries[-1]

    @property
    def core(self) -> list[ReplicaNode]:
        """Honest replicas, by the newest membership that any of them knows, that are up and connected in the calm."""
        newest = max((_members(node, self.config) for node in self.honest), key=lambda m: m.epoch)
        members = [index for index, _ in newest.members]
        return [self.cluster.nodes[index] for index in self.case.core if index in members]

    # --- the workload ---

    def _ask(self) -> Generator[Event, Any, None]:
        env = self.cluster.env
        for ask in self.case.asks:
            if ask.at_ns > env.time:
                yield env.timeout(ask.at_ns - env.time)
            self._submit(ask.client, self._operation(ask.client, ask.number))

    def _operation(self, client: str, number: int) -> bytes:
        if self.province is not None:
            return self.province.transaction(number)
        return f"{client} asks {number}".encode()

    def _submit(self, client: str, operation: bytes) -> RequestRecord:
        record = self.cluster.clients[client].submit(
            self.cluster.env.time, operation, "", lambda record: None
        )
        self.records[client].append(record)
        return record

    # --- the run ---

    def run(self) -> Outcome:
        """Storm, calm, verdict."""
        with contextlib.suppress(_Over):
            self._storm()
            if not self.case.beyond_f:
                self._calm()
            self._look()
            self._compare_answers()
        return self._outcome()

    def _storm(self) -> None:
        last = max((ask.at_ns for ask in self.case.asks), default=0)
        end = max(self.case.storm_ns, last) + MS
        if self.case.beyond_f:
            end += 10 * self.config.view_change_timeout_ns
        while self.cluster.env.time < end:
            self._advance(min(STORM_STEP_NS, end - self.cluster.env.time))

    def _calm(self) -> None:
        """Answer what waits, then serve requests one at a time until all are level and two in a row need no other view.

        An idle network is silent: a member that was away, or that dropped the last votes because its window had not
        moved yet, learns what it missed with the next request only. So not every round has to end level.
        """
        self._work_off()
        clients = self.case.honest_clients
        waiting = [r for name in clients for r in self.records[name] if r.replied_ns < 0]
        # Meanwhile others go on asking: progress for them is no reason to let one wait (starvation).
        self._until(lambda: all(r.replied_ns >= 0 for r in waiting), "after the storm", busy=True)
        self._until(self._answered, "after the storm")
        views, steady = self._views(), 0
        rounds = 2 * self.case.everybody + 2 * STEADY_ROUNDS
        for number in range(rounds):
            self._ask_more()
            self._until(self._answered, f"with request {number} of the calm")
            for _ in range(LEVEL_STEPS):
                if not self._level():
                    self._advance(self.config.status_ns // 2)
            steady = steady + 1 if self._level() and self._views() == views else 0
            views = self._views()
            if steady == STEADY_ROUNDS:
                return
        if not self._level():
            self._not_level(f"after {rounds} requests in the calm")
        self._report("views-settle", -1, f"views still change after {rounds} requests in the calm: {views}")

    def _work_off(self) -> None:
        """What was queued at a member while it was slow it still does slowly: until that is done, it is not healed."""
        owed = max((node.owes_until_ns for node in self.core), default=0)
        while self.cluster.env.time < owed:
            self._advance(min(CALM_STEP_MAX_NS, owed - self.cluster.env.time))

    def _ask_more(self) -> None:
        """One request more, of each client in turn."""
        clients = self.case.honest_clients
        client = clients[self.asked % len(clients)]
        self._submit(client, self._operation(client, self.asked))
        self.asked += 1

    def _until(self, reached: Callable[[], bool], when: str, busy: bool = False) -> None:
        """Run on until that is so; a network that works gets there in time. *busy*: with requests all the while, some
        in each view-change timeout."""
        deadline = self.cluster.env.time + self._patience_ns()
        step = self.config.view_change_timeout_ns // 4 if busy else CALM_STEP_NS
        while not reached():
            if self.cluster.env.time >= deadline:
                self._not_level(when)
            if busy:
                self._ask_more()
            self._advance(step)
            step = step if busy else min(step * 5 // 4, CALM_STEP_MAX_NS)

    def _patience_ns(self) -> int:
        """How long a network that works may take: timeouts doubled in the storm, a client that waits for its next try,
        f Byzantine primaries in a row, each of which doubles the timeout once more.
        """
        doubled = max((getattr(node.replica, "backoff", 0) for node in self.core), default=0)
        doublings = min(doubled, 10) + self.config.faults + 2
        return (self.config.view_change_timeout_ns << doublings) + 200 * self.case.client_timeout_ns + 60 * S

    def _answered(self) -> bool:
        return self._unanswered() == 0

    def _level(self) -> bool:
        core = self.core
        settled = all(not getattr(node.replica, "pending", ()) for node in core)
        return settled and self._answered() and len({_of(node, "executed") for node in core}) == 1

    def _unanswered(self) -> int:
        return sum(r.replied_ns < 0 for name in self.case.honest_clients for r in self.records[name])

    def _views(self) -> list[int]:
        return [_of(node, "view") for node in self.core]

    def _not_level(self, when: str) -> None:
        stands = ", ".join(
            f"{node.index}: {_of(node, 'executed')} in view {_of(node, 'view')}"
            + ("+" if _of(node, "changing") else "")
            for node in self.core
        )
        unanswered = self._unanswered()
        name = "liveness" if unanswered else "convergence"
        self._report(name, -1, f"{when}, {unanswered} requests unanswered; executed by {stands}")

    # --- judging ---

    def _advance(self, by_ns: int) -> None:
        try:
            self.cluster.run(self.cluster.env.time + by_ns)
        except Exception as error:
            self._look(stop=False)
            self._report("raised", _culprit(error), _told(error))
        self._look()

    def _look(self, stop: bool = True) -> None:
        """Everything that can be said about a moment; the trial is over if any of it is a violation."""
        now = self.cluster.env.time
        self.found += self.cluster.checker.violations[len(self.found) :]
        if not self.found:
            for node in self.honest:
                for name, what in limits.exceeded(node.replica, self.config, self.case.everybody, self.torn):
                    self.found.append(Violation(name, now, node.index, what))
            self._look_at_evidence()
            messages = sum(self.cluster.recorder.messages.values())
            if messages > MESSAGES_MAX:
                self.found.append(Violation("runaway", now, -1, f"{messages} messages and no end"))
        if self.found and stop:
            raise _Over

    def _look_at_evidence(self) -> None:
        accusations = self.cluster.recorder.evidence
        for accusation in accusations[self.accusations :]:
            culprit, by = accusation["culprit"], accusation["by"]
            innocent = culprit in self.case.honest or culprit in self.case.honest_clients
            if innocent and by not in self.case.byzantine:
                what = f"member {by} holds against honest {culprit}: {accusation['what']}"
                self.found.append(Violation("accused", accusation["at_ns"], by, what))
        self.accusations = len(accusations)

    def _compare_answers(self) -> None:
        for diary in self.diaries:
            for what in diary.audit():
                self._report("ledger", -1, what)
        for name in self.case.honest_clients:
            for what in wrong_answers(name, self.records[name], self.diaries[0]):
                self._report("answers", -1, what)

    def _report(self, invariant: str, replica: int, what: str) -> None:
        self.found.append(Violation(invariant, self.cluster.env.time, replica, what))
        raise _Over

    def _outcome(self) -> Outcome:
        cluster, now = self.cluster, self.cluster.env.time
        raised = any(violation.invariant == "raised" for violation in self.found)
        if not raised:  # an engine that was stopped in the middle of a step has no tidy end
            cluster.bus.withdraw_in_flight()
        return Outcome(
            seed=self.case.seed,
            nodes=self.config.nodes,
            violations=self.found,
            virtual_ns=now,
            messages=sum(cluster.recorder.messages.values()),
            kinds=dict(sorted(cluster.recorder.messages.items())),
            digest=cluster.recorder.trace.hex(),
            injected=injected(self.case, cluster, now),
            coverage=coverage(self.case, cluster, now),
            evidence=evidence(cluster),
            refusals=refusals(cluster),
        )


def _members(node: ReplicaNode, config: Config) -> Membership:
    """Whom the node's replica takes for the replicas."""
    committee = getattr(node.replica, "committee", None)
    return genesis(config.nodes) if committee is None else committee.membership


def _of(node: ReplicaNode, name: str) -> int:
    """A field of the node's replica. Wrappers show the replica inside."""
    return int(getattr(node.replica, name, 0))


def _culprit(error: BaseException) -> int:
    """The member in whose step it was raised; -1 where it was none."""
    frames = traceback.walk_tb(error.__traceback__)
    return next(
        (frame.f_locals["self"].index for frame, _ in frames if _is_node(frame.f_locals.get("self"))), -1
    )


def _is_node(thing: object) -> bool:
    return isinstance(thing, ReplicaNode)


def _told(error: BaseException) -> str:
    """The error in one line, and where it was raised, without the paths of one machine."""
    last = traceback.extract_tb(error.__traceback__)[-4:]
    way = " < ".join(f"{step.name}:{step.lineno}" for step in reversed(last))
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} (in {way})"
