"""What a replica holds after very many decisions and in a flood without end: no more than after few.

The long runs are marked slow (``pytest -m slow tests/network/test_endurance.py``), each has a short version beside it.
"""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import ClassVar

import pytest
from tradebft.chain.crypto import ModelledKeyring, ModelledSigner, make_identities
from tradebft.consensus.byzantine.noise import NONE
from tradebft.consensus.client import Client
from tradebft.consensus.interface import (
    Answered,
    Broadcast,
    Committed,
    Config,
    KeepSnapshot,
    Persist,
    Send,
    SnapshotProven,
    Start,
    Submit,
)
from tradebft.consensus.messages import Fetch, FetchChunk, Status
from tradebft.consensus.pbft import Replica as Pbft
from tradebft.lab.fuzz.planting import plant
from tradebft.network.application import HashChain
from tradebft.network.chronicle import run
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import MEASURED
from tradebft.network.disk import Disk
from tradebft.network.links import Normal
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh
from tradebft.network.virtual_time import rare_collections

MS, S = 10**6, 10**9
STEP = 10 * MS  # how often somebody looks


# --- what a replica holds ---

NOT_ITS_OWN = (
    bool,
    bytes,
    float,
    int,
    str,
    type,
    type(None),
    BuiltinFunctionType,
    FunctionType,
    MethodType,
    Config,
    ModelledKeyring,
    ModelledSigner,
)


def held(root: object) -> Counter[str]:
    """The entries of all containers that can be reached from *root*, by the way there (entries of one are alike)."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        way, one = todo.pop()
        if isinstance(one, NOT_ITS_OWN) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            found[way] += len(one)
            todo += [(way + "*", entry) for pair in one.items() for entry in pair]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            found[way] += len(one)
            todo += [(way + "*", entry) for entry in one]
        else:
            names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            names += [*getattr(one, "__struct_fields__", ()), *getattr(one, "__dict__", ())]
            todo += [(f"{way}.{name}", getattr(one, name)) for name in names if hasattr(one, name)]
    return found


def grown(before: Counter[str], after: Counter[str], slack: int) -> dict[str, tuple[int, int]]:
    """What holds over *slack* entries more than before; and the whole, if it holds over five times that."""
    more = {way: (before[way], after[way]) for way in after if after[way] > before[way] + slack}
    if after.total() > before.total() + 5 * slack:
        more["all"] = before.total(), after.total()
    return more


def test_what_is_held_is_found_wherever_it_lies():
    class Part:
        __slots__ = ("kept",)

    part = Part()
    part.kept = deque([{1: [(2, 3)]}])
    whole = type("Whole", (), {})()
    whole.parts = {"a": part}
    whole.same = part
    assert held(whole).total() == 1 + 1 + 1 + 1 + 2
    before = held(whole)
    part.kept[0][1] += range(10)
    assert list(grown(before, held(whole), 9).values()) == [(1, 11)]
    assert grown(before, held(whole), 1)["all"] == (6, 16)
    assert grown(before, held(whole), 10) == {}


# --- a million decisions ---

K, L = 125, 250
ROUND_NS = 20_000  # virtual time from message to message


class Row:
    """*n* replicas in a row, a client that always wants something, and messages served first come, first served.

    No network, no processors, no blocks on disks: what does grow is a replica's.
    """

    def __init__(self, n: int = 4) -> None:
        self.config = Config(
            n, batch_size=1, window=32, checkpoint_interval=K, log_window=L, snapshot_interval=8 * K
        )
        signers, keyring = make_identities([*range(n), "bank"], "modelled", 1)
        self.replicas = [Pbft(i, self.config, signers[i], keyring) for i in range(n)]
        self.applications = [HashChain() for _ in range(n)]
        self.disks = [Disk() for _ in range(n)]
        self.client = Client("bank", self.config, signers["bank"], keyring, 1000 * S)
        self.now = 0
        self.queue: deque[tuple[int, object]] = deque()
        self.others = [[j for j in range(n) if j != i] for i in range(n)]
        for replica in self.replicas:
            self.perform(replica.me, replica.step(0, Start()))
        for _ in range(40):
            self.ask(Submit(b"x", 0))

    def ask(self, event):
        for effect in self.client.step(self.now, event):
            if type(effect) is Answered:
                self.ask(Submit(b"x", 0))
            elif type(effect) is Send:
                self.queue.append((effect.to, effect.message))

    def perform(self, me, effects):
        for effect in effects:
            kind = type(effect)
            if kind is Broadcast:
                self.queue.extend([(other, effect.message) for other in self.others[me]])
            elif kind is Send:
                self.queue.append((effect.to, effect.message))
            elif kind is Persist:
                self.disks[me].write(effect.record)
            elif kind is Committed:
                self.queue.append((me, run(self.applications[me], effect)))
            elif kind is KeepSnapshot:
                self.disks[me].keep(effect.manifest, effect.table, effect.application)
            elif kind is SnapshotProven:
                self.disks[me].prove(effect.certificate, effect.floor)

    def run(self, until):
        """Until the first replica executed that much."""
        first, queue, replicas = self.replicas[0], self.queue, self.replicas
        while first.executed < until:
            to, event = queue.popleft()
            self.now += ROUND_NS
            if to == "bank":
                self.ask(event)
            else:
                self.perform(to, replicas[to].step(self.now, event))


def resident() -> int:
    """Bytes of memory that this process has in use; 0 where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def stays_flat(row, every, times):
    """Samples after each *every* decisions: the log is at most L, and nothing is more than at the first of them."""
    first, room = [], 0
    for sample in range(1, times + 1):
        row.run(sample * every)
        now = [held(replica) for replica in row.replicas] + [held(disk) for disk in row.disks]
        log = max(len(replica.slots) for replica in row.replicas)
        assert log <= L, f"{log} slots"
        if sample == 1:
            first, room = now, resident()
        print(
            f"{sample * every} decisions: slots {[len(r.slots) for r in row.replicas]}, "
            f"entries {[one.total() for one in now]}, resident {resident() / 1e6:.1f} MB"
        )
        for before, after in zip(first, now, strict=True):
            assert grown(before, after, SLACK) == {}, grown(before, after, SLACK)
    return resident() - room


SLACK = 200  # entries: replicas are looked at in the middle of some decisions


def test_three_thousand_decisions_leave_nothing_behind():
    stays_flat(Row(), 1000, 3)


def test_a_log_that_is_never_cut_is_found():
    with plant("log-not-truncated"), pytest.raises(AssertionError, match="slots"):
        stays_flat(Row(), 1000, 2)


@pytest.mark.slow
def test_a_million_decisions_leave_nothing_behind():
    with rare_collections():
        assert stays_flat(Row(), 50_000, 20) < 8_000_000


# --- a flood that does not end ---

NONSENSE = ("flood", "malformed", "replay")


class Witness(Pbft):
    """A replica that tallies what useless messages of its *hostile* peers led to nothing at all, not even a count."""

    hostile: ClassVar[frozenset[int]]
    unnoticed: ClassVar[Counter[str]]
    noticed: ClassVar[Counter[str]]

    def step(self, now, event):
        effects = super().step(now, event)
        asks = isinstance(event, Status | Fetch | FetchChunk)
        if (asks or getattr(event, "digest", b"") == NONE) and event.replica in self.hostile:
            (self.noticed if effects else self.unnoticed)[type(event).__name__] += 1
        return effects


class Besieged:
    """The last f of *n* members send nonsense of three kinds, and one client numbers its requests far ahead."""

    def __init__(self, n, seed=1, peaceful=False, rate=500, **config):
        config = Config(n, batch_size=4, view_change_timeout_ns=1 * S, **config)
        self.enemies = frozenset(range(n - config.faults, n))
        self.protocol = type(
            "Witness", (Witness,), {"hostile": self.enemies, "unnoticed": Counter(), "noticed": Counter()}
        )
        behaviours = [] if peaceful else [Misbehaviour(e, b) for e in sorted(self.enemies) for b in NONSENSE]
        self.cluster = Cluster(
            Settings(
                config,
                Wire(Normal(5 * MS, 1 * MS), Mesh(n), 100 * 10**6, 0.0, lossy=False),
                seed,
                ["bank", "shop", "liar"],
                4 * S,
                protocol=self.protocol,
                costs=MEASURED,
                byzantine=behaviours,
                dishonest_clients={} if peaceful else {"liar": "far-ahead"},
            )
        )
        self.honest = [node for node in self.cluster.nodes if node.index not in self.enemies]
        self.records = []
        self.cluster.env.process(self._submit(random.Random(seed), rate))

    def _submit(self, chance, rate):
        env = self.cluster.env
        while True:
            yield env.timeout(int(chance.expovariate(rate) * S) + 1)
            for name in ["bank", "shop"] + ["liar"] * (chance.random() < 0.05):
                client = self.cluster.clients[name]
                if client.client.unanswered < 200:
                    record = client.submit(env.time, b"x", "", lambda record: None)
                    if name != "liar":
                        self.records.append(record)

    def run(self, decisions):
        first = self.honest[0].replica
        while first.executed < decisions:
            self.cluster.run(self.cluster.env.time + STEP)

    def most(self, decisions):
        """What each honest replica holds at most after so many decisions, from one checkpoint to the next."""
        self.run(decisions)
        found = self.held()
        while self.honest[0].replica.executed < decisions + self.cluster.config.checkpoint_interval:
            self.cluster.run(self.cluster.env.time + STEP)
            found = [most | now for most, now in zip(found, self.held(), strict=True)]
        return found

    def held(self):
        return [
            held((node.replica, node._disk, node._seen, node._inbox, node._answers)) for node in self.honest
        ]

    @property
    def answered(self):
        return sum(record.replied_ns > 0 for record in self.records)


SMALL = {"checkpoint_interval": 20, "log_window": 40, "snapshot_interval": 40, "client_window": 32}
LARGE = {"checkpoint_interval": K, "log_window": L, "snapshot_interval": 8 * K, "client_window": 128}


def siege(n, few, many, slack, **config):
    """Nothing is more after *many* decisions than after *few*, and honest clients are served as ever."""
    run, peace = Besieged(n, **config), Besieged(n, peaceful=True, **config)
    before, after = run.most(few), run.most(many)
    peace.cluster.run(run.cluster.env.time)
    recorder = run.cluster.recorder
    print(
        f"n={n}: {run.cluster.env.time / S:.1f} s, {run.answered} answered, {peace.answered} in peace; entries "
        f"{[one.total() for one in before]} -> {[one.total() for one in after]}; views {recorder.view}; "
        f"ignored {dict(recorder.ignored)}; dropped {dict(recorder.dropped)}; "
        f"noticed {dict(run.protocol.noticed)}, unnoticed {dict(run.protocol.unnoticed)}"
    )
    for was, now in zip(before, after, strict=True):
        assert grown(was, now, slack) == {}, grown(was, now, slack)
    assert run.cluster.checker.violations == []
    assert {node.replica.view for node in run.honest} == {0}
    assert run.answered >= 0.95 * peace.answered
    # Votes are kept and pushed out by later ones, a Status is answered by f+1 in turn. All else is counted or answered.
    assert set(run.protocol.unnoticed) <= {"Prepare", "Commit", "Checkpoint", "Status"}
    assert {"Fetch", "FetchChunk"} <= set(run.protocol.noticed)
    assert recorder.ignored["malformed"] > 0
    assert recorder.ignored["bad signature"] > 0
    assert recorder.ignored["request beyond its client's window"] > 0


def test_a_flood_fills_nothing():
    siege(4, 400, 800, 50, **SMALL)


@pytest.mark.slow
def test_a_flood_that_fills_something_is_found():
    with plant("early-messages-unbounded"), pytest.raises(AssertionError, match="early"):
        siege(4, 400, 800, 50, **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "many"), [(4, 20_000), (7, 10_000)])
def test_a_flood_without_end_fills_nothing(n, many):
    with rare_collections():
        siege(n, 5000, many, 800, **LARGE)
