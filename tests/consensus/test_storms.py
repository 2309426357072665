"""Seeded storms in virtual time: loss, crashes with restarts, a power cut, partitions; then calm, and everything holds.

The windows are tiny, so that checkpoints, full windows and state transfer happen all the time.
"""

from __future__ import annotations

import random

import pytest
from tradebft.consensus.interface import Config
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.faults import Fault
from tradebft.network.links import Constant, Normal
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh

MS, S = 10**6, 10**9
STORM_NS = 8 * S
END_NS = 900 * S  # the calm after it: many doublings of every timeout
CLIENTS = ["bank", "shop"]
REQUESTS = 30  # of each client
LATE = 2  # after the storm


def config_of(chance: random.Random) -> Config:
    k = chance.choice([1, 2, 3, 4])
    return Config(
        nodes=chance.choice([4, 5, 7, 10]),
        batch_size=chance.choice([1, 2, 5]),
        batch_timeout_ns=chance.choice([0, 20 * MS]),
        window=chance.choice([1, 3, 8]),
        checkpoint_interval=k,
        log_window=k + chance.choice([1, 2, k]),
        view_change_timeout_ns=chance.choice([300 * MS, 1 * S]),
        client_window=chance.choice([2, 8, 64]),
    )


def faults_of(chance: random.Random, config: Config) -> list[Fault]:
    members, f = range(config.nodes), config.faults
    faults = []
    for _ in range(chance.randint(0, 4)):
        at, lasts = chance.randrange(STORM_NS), chance.randint(50 * MS, 3 * S)
        down = tuple(chance.sample(members, chance.randint(1, f)))
        # The first leaders go down more often than others: that is where view changes come from.
        faults.append(Fault(at, lasts, "crash", chance.choice([down, (0,), (1,), (0, 1)])))
    if chance.random() < 0.4:
        faults.append(
            Fault(chance.randrange(STORM_NS), chance.randint(1 * MS, 2 * S), "crash", tuple(members))
        )
    for _ in range(chance.randint(0, 2)):
        shuffled = chance.sample(members, config.nodes)
        cut = chance.randrange(1, config.nodes)
        groups = tuple(shuffled[:cut]), tuple(shuffled[cut:])
        faults.append(
            Fault(chance.randrange(STORM_NS), chance.randint(100 * MS, 4 * S), "partition", groups=groups)
        )
    if chance.random() < 0.3:
        faults.append(
            Fault(chance.randrange(STORM_NS), 2 * S, "slow", (chance.choice(members),), factor=20.0)
        )
    if chance.random() < 0.5:
        faults.append(Fault(0, STORM_NS, "loss", loss=chance.choice([0.01, 0.05])))
    return faults


def storm(seed: int) -> Cluster:
    """Run one storm to its end and judge it."""
    chance = random.Random(seed)
    config = config_of(chance)
    links = chance.choice([Constant(10 * MS), Normal(20 * MS, 8 * MS)])
    lasting = chance.choice([0.0, 0.0, 0.02])
    wire = Wire(links, Mesh(config.nodes), None, lasting, lossy=True)
    cluster = Cluster(
        Settings(config, wire, seed, CLIENTS, client_timeout_ns=1 * S, faults=faults_of(chance, config))
    )
    records, slots = [], [0]

    def ask(name: str):
        for k in range(REQUESTS):
            yield cluster.env.timeout(chance.randint(0, 2 * STORM_NS // REQUESTS))
            operation = f"{name} {k}".encode()
            records.append(cluster.clients[name].submit(cluster.env.time, operation, "", lambda record: None))

    def ask_in_the_calm():
        # A member that was cut off while the last requests were served learns of them by the next one only.
        yield cluster.env.timeout(2 * STORM_NS + 4 * S)
        for k in range(LATE):
            records.append(
                cluster.clients["bank"].submit(cluster.env.time, b"late %d" % k, "", lambda record: None)
            )
            yield cluster.env.timeout(1 * S)

    cluster.env.process(ask_in_the_calm())
    for name in CLIENTS:
        cluster.env.process(ask(name))
    # In the calm things are quiet long before the end: stop when all is answered and all are level.
    while cluster.env.time < END_NS:
        cluster.run(cluster.env.time + (50 * MS if cluster.env.time < 2 * STORM_NS else 5 * S))
        for node in cluster.nodes:
            cluster.checker.log_size(cluster.env.time, node.index, len(node.replica.slots))
            slots.append(len(node.replica.slots))
        if cluster.env.time > 2 * STORM_NS + 10 * S and settled(cluster, records):
            break
    cluster.finish()
    judge(cluster, records, max(slots))
    return cluster


def settled(cluster: Cluster, records: list) -> bool:
    level = len({(node.replica.executed, node.replica.view) for node in cluster.nodes}) == 1
    return level and all(record.replied_ns > 0 for record in records)


def judge(cluster: Cluster, records: list, most_slots: int) -> None:
    config = cluster.config
    assert cluster.checker.violations == []
    assert len(records) == len(CLIENTS) * REQUESTS + LATE
    assert [r for r in records if r.replied_ns < 0] == [], "requests are unanswered"
    assert most_slots <= config.log_window
    replicas = [node.replica for node in cluster.nodes]
    assert len({r.executed for r in replicas}) == 1, [r.executed for r in replicas]
    assert len({r.clients.executed_digest() for r in replicas}) == 1
    assert len({r.clients.replies_digest() for r in replicas}) == 1
    for replica in replicas:
        assert all(replica.low < seq <= replica.high for seq in replica.slots)
        assert replica.executed - replica.low <= config.log_window
        assert len(replica.bodies) <= 4 * config.log_window
        assert len(replica.waiting) == 0


@pytest.mark.parametrize("seed", range(40))
def test_storm(seed):
    storm(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_many_storms(seed):
    storm(seed)


def test_storms_do_what_they_are_for():
    """A storm in which nothing changes view, restarts, fetches or loses anything would prove nothing."""
    seen: dict[str, int] = {}
    for seed in range(4):
        cluster = storm(seed)
        for what, count in cluster.recorder.messages.items():
            seen[what] = seen.get(what, 0) + count
        seen["lost"] = seen.get("lost", 0) + sum(cluster.recorder.dropped.values())
    for what in ("ViewChange", "NewView", "FetchReply", "Status", "Checkpoint", "lost"):
        assert seen.get(what, 0) > 0, what
