"""A member comes back after very long while the others are under load: by a snapshot, and at nobody's expense.

The long runs are marked slow (``pytest -m slow tests/network/test_coming_back.py``), a short version is beside them.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from typing import NamedTuple

import pytest
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Chunk, FetchReply, SnapshotHead, size
from tradebft.network.application import HashChain
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.costs import MEASURED
from tradebft.network.faults import Fault
from tradebft.network.links import Normal
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh
from tradebft.network.virtual_time import rare_collections

MS, S = 10**6, 10**9
STEP = 10 * MS  # how often somebody looks
WATCH = 10 * S  # for how long at most


class Warehouse(HashChain):
    """A hash chain with *size* bytes of state, all of which are others after every batch: no chunk serves twice."""

    size = 0

    def snapshot(self) -> tuple[bytes, ...]:
        return (self._root + hashlib.shake_256(self._root).digest(self.size),)

    def restore(self, data: bytes) -> bytes:
        super().restore(data[:32])
        if data != b"".join(self.snapshot()):
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
    p99_ms: list[float]  # of requests meanwhile: without it, and with it (inf: not answered in time)


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
        [
            one.latency_ms(start, end - 100 * MS, 0.99) for one in (gone, back)
        ],  # the last still wait for answers
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
@pytest.mark.parametrize(("n", "decisions"), [(4, 10_000), (7, 3000)])
def test_thousands_of_decisions_later(n, decisions):
    with rare_collections():
        cost = comes_back(n, 1000, 1, STATE, decisions, batch_timeout_ns=10 * MS, **LONG)
    assert cost.installed >= 1
    assert cost.seconds is not None
    assert cost.ratio >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 7])
def test_at_three_quarters_of_what_they_sustain_the_others_do_not_notice(n):
    with rare_collections():
        cost = comes_back(n, 7000, 1, STATE, 3000, watch=15 * S, **LONG)
    assert cost.installed >= 1
    assert cost.seconds is not None
    assert cost.ratio >= 0.9
