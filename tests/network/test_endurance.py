"""What wears out in the long run: nothing may. Snapshots under load, a million decisions, a flood without end.

The long runs are marked slow (``pytest -m slow tests/network/test_endurance.py``), each has a short version beside it.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections import Counter, deque
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import ClassVar, NamedTuple

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
from tradebft.consensus.messages import Chunk, Fetch, FetchChunk, FetchReply, SnapshotHead, Status, size
from tradebft.consensus.pbft import Replica as Pbft
from tradebft.lab.fuzz.planting import plant
from tradebft.network.application import HashChain
from tradebft.network.chronicle import run
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import MEASURED
from tradebft.network.disk import Disk
from tradebft.network.faults import Fault
from tradebft.network.links import Normal
from tradebft.network.misbehaviour import Misbehaviour
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh
from tradebft.network.virtual_time import rare_collections

MS, S = 10**6, 10**9
STEP = 10 * MS  # how often somebody looks
WATCH = 10 * S  # for how long at most


# --- a replica that was down for long, under load ---


class Warehouse(HashChain):
    """A hash chain with *size* bytes of state, all of which are others after every batch: no chunk serves twice."""

    size = 0

    def snapshot(self) -> bytes:
        return self._root + hashlib.shake_256(self._root).digest(self.size)

    def restore(self, data: bytes) -> bytes:
        super().restore(data[:32])
        if data != self.snapshot():
            raise ValueError("goods are missing")
        return self._root


def warehouse(size: int) -> type[Warehouse]:
    return type("Sized", (Warehouse,), {"size": size})


class Cost(NamedTuple):
    """What a member's return cost."""

    missed: int  # decisions that it was behind
    seconds: float | None  # until it was level; None: it was not
    ratio: float  # throughput of the others, compared with the run in which it stays away
    installed: int  # snapshots
    bytes: dict[str, int]  # to it for catching up, by kind
    more: int  # bytes that all sent beyond those of the other run
    p99_ms: list[float]  # of requests meanwhile: without it, and with it


class Away:
    """The last of *n* members goes down, and the others serve a steady load of *rate* requests a second meanwhile."""

    def __init__(self, n, rate, seed, state, returns, down_at=100 * MS, mbit=100, bytes_each=100, **config):
        config = Config(n, view_change_timeout_ns=1 * S, client_window=4096, **config)
        self.rate, self.bytes_each, self.gone = rate, bytes_each, n - 1
        self.clients = [f"c{i}" for i in range(8)]
        fault = Fault(down_at, None if returns is None else returns - down_at, "crash", (self.gone,))
        wire = Wire(Normal(5 * MS, 1 * MS), Mesh(n), mbit * 10**6, 0.0, lossy=False)
        self.cluster = Cluster(
            Settings(
                config, wire, seed, self.clients, 4 * S,
                application=warehouse(state), costs=MEASURED, faults=[fault], apart=True,
            )
        )  # fmt: skip
        self.others = self.cluster.nodes[: self.gone]
        self.load = True
        self.caught: Counter[str] = Counter()  # bytes sent to it for catching up, by kind
        self.records = []
        self._watch()
        self.cluster.env.process(self._submit(random.Random(seed)))

    def _submit(self, chance):
        env = self.cluster.env
        while True:
            yield env.timeout(max(1, int(chance.expovariate(self.rate) * S)))
            if self.load:
                client = self.cluster.clients[chance.choice(self.clients)]
                self.records.append(client.submit(env.time, bytes(self.bytes_each), "", lambda record: None))

    def _watch(self):
        send = self.cluster.bus.send

        def watched(at, sender, to, message):
            if to == self.gone and isinstance(message, Chunk | SnapshotHead | FetchReply):
                self.caught[type(message).__name__] += size(message)
            send(at, sender, to, message)

        self.cluster.bus.send = watched

    def run(self, until):
        self.cluster.run(until)

    @property
    def now(self):
        return self.cluster.env.time

    @property
    def behind(self):
        return max(self.heights) - self.cluster.nodes[self.gone].replica.executed

    @property
    def heights(self):
        return [node.replica.executed for node in self.others]

    def until(self, reached, most):
        """Run on until that is so, for at most *most* ns; whether it was."""
        end = self.now + most
        while not reached():
            if self.now >= end:
                return False
            self.run(self.now + STEP)
        return True

    def level(self):
        """Whether whoever was away executed what one of the others did last."""
        return self.cluster.nodes[self.gone].replica.executed >= min(self.heights)

    def latency_ms(self, since, until, share):
        """Of the requests submitted then, the time that *share* of them stayed below."""
        asked = [r for r in self.records if since <= r.submitted_ns < until]
        took = sorted(r.replied_ns - r.submitted_ns if r.replied_ns >= 0 else math.inf for r in asked)
        return took[int(share * len(took))] / MS

    def committed(self):
        """Requests in what the others executed, on average."""
        decisions = self.cluster.recorder.decisions
        return sum(decisions[s].transactions for h in self.heights for s in range(1, h + 1)) / len(
            self.others
        )


def comes_back(n, rate, seed, state, decisions, watch=WATCH, **config):
    """The same load with and without the member's return after so many *decisions*: what the return cost the others.

    The run in which it stays away says when that is. Both are compared until it is level, or for *watch*.
    """
    gone = Away(n, rate, seed, state, None, **config)
    assert gone.until(lambda: gone.behind >= decisions, 600 * S)
    start = gone.now
    back = Away(n, rate, seed, state, start, **config)
    back.run(start)
    assert back.heights == gone.heights  # the same run so far
    missed, before = back.behind, back.committed()
    level = back.until(back.level, watch)
    end = back.now
    gone.run(end)
    assert back.cluster.recorder.view == gone.cluster.recorder.view == 0
    cost = Cost(
        missed,
        (end - start) / S if level else None,
        (back.committed() - before) / (gone.committed() - before),
        back.cluster.recorder.installed,
        dict(back.caught),
        back.cluster.recorder.bytes_sent - gone.cluster.recorder.bytes_sent,
        [one.latency_ms(start, end, 0.99) for one in (gone, back)],
    )
    print(f"n={n}, {rate} requests/s, {state} bytes of state, seed {seed}: {cost}")
    if level:
        ends_level(back)
    assert gone.cluster.checker.violations == back.cluster.checker.violations == []
    return cost


def ends_level(back):
    """The load ends; all stand at the same place with the same state, each of which executed for itself."""
    back.load = False
    back.run(back.now + 5 * S)
    back.cluster.finish()
    assert all(record.replied_ns > 0 for record in back.records)
    height, nodes = back.heights[0], back.cluster.nodes
    assert {node.replica.executed for node in nodes} == {height}
    assert len({node._history.block(height).executed.root for node in nodes}) == 1


SHORT = {"checkpoint_interval": 32, "log_window": 128, "snapshot_interval": 64}
LONG = {"checkpoint_interval": 128, "log_window": 256, "snapshot_interval": 1024}
STATE = 4_000_000


def test_whoever_was_away_comes_back_by_snapshot_and_disturbs_nobody():
    cost = comes_back(4, 1500, 1, 300_000, 160, batch_timeout_ns=10 * MS, **SHORT)
    assert cost.installed >= 1
    assert cost.seconds is not None
    assert cost.ratio >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 7])
def test_ten_thousand_decisions_later(n):
    with rare_collections():
        cost = comes_back(n, 1000, 1, STATE, 10_000, batch_timeout_ns=10 * MS, **LONG)
    assert cost.installed >= 1
    assert cost.seconds is not None
    assert cost.ratio >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 7])
def test_at_three_quarters_of_what_they_sustain_the_others_do_not_notice(n):
    with rare_collections():
        cost = comes_back(n, 7000, 1, STATE, 3000, watch=5 * S, **LONG)
    assert cost.installed >= 1
    assert cost.ratio >= 0.9
    if cost.seconds is None:
        pytest.xfail("fetched blocks come several times over, and not as fast as the others decide")


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
    """What holds over *slack* entries more than before; and the whole, if it does."""
    both = {way: (before[way], after[way]) for way in {*before, *after}}
    both["all"] = before.total(), after.total()
    return {way: (was, now) for way, (was, now) in both.items() if now > was + slack}


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
    assert list(grown(before, held(whole), 9).values()) == [(1, 11), (6, 16)]


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

    def held(self):
        return [
            held((node.replica, node._disk, node._seen, node._inbox, node._answers)) for node in self.honest
        ]

    @property
    def answered(self):
        return sum(record.replied_ns > 0 for record in self.records)


SMALL = {"checkpoint_interval": 20, "log_window": 40, "snapshot_interval": 40, "client_window": 32}
LARGE = {"checkpoint_interval": K, "log_window": L, "snapshot_interval": 8 * K, "client_window": 256}


def siege(n, few, many, slack, **config):
    """Nothing is more after *many* decisions than after *few*, and honest clients are served as ever."""
    run, peace = Besieged(n, **config), Besieged(n, peaceful=True, **config)
    run.run(few)
    before = run.held()
    run.run(many)
    after = run.held()
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
    assert recorder.view == 0
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
        siege(n, 5000, many, SLACK, **LARGE)
