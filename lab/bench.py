"""How fast the engine is, beside a bare loop measured in the same run: ratios travel between machines, rates do not."""

from __future__ import annotations

import gc
import heapq
import resource
import time
from typing import Any, Final

import numpy as np
from tradebft.consensus.interface import Config
from tradebft.network.chance import Chance
from tradebft.network.cluster import Settings
from tradebft.network.engines import Uncovered, built, first_that_covers
from tradebft.network.links import Normal
from tradebft.network.simulated import Wire
from tradebft.network.topology import Mesh
from tradebft.network.virtual_time import rare_collections
from tradebft.scenarios.errors import ScenarioError

MEAN_NS, STD_NS = 250_000_000, 50_000_000
REPEATS: Final = 3


def engine(nodes: int, batches: int, seed: int = 1, engine: str = "reference") -> dict[str, Any]:
    """Decide *batches* batches of one request with *nodes* replicas, one after another, and time it.

    Everything that a run does is on: drawn delays, the protocol, signatures (modelled), invariants, the trace digest.
    ``bare_loop_messages_per_second`` is a heapq loop that does nothing but deliver votes and count them in bit masks,
    measured in alternation; beside the compiled engine the same loop is compiled. ``ratio`` is the engine's rate over
    it. Medians of three. ScenarioError where *engine* is not to be had.
    """
    if nodes < 1 or batches < 1:
        raise ValueError(f"nodes and batches must be at least 1, got {nodes} and {batches}")
    ours, bare = [], []
    delivered = 0
    try:
        engine, _, _ = first_that_covers(engine, nodes, lambda one: _run(min(nodes, 4), 1, seed, one))
    except Uncovered as why:
        raise ScenarioError(f"bench engine: engine {engine} does not cover {why}") from None
    beside = _bare_loop if engine == "reference" else _bare_compiled_loop
    with rare_collections():
        for _ in range(REPEATS):
            seconds, delivered, digest = _run(nodes, batches, seed, engine)
            ours.append(delivered / seconds)
            bare.append(beside(nodes, seed))
    rate, bare_rate = float(np.median(ours)), float(np.median(bare))
    return {
        "engine": engine,
        "nodes": nodes,
        "batches": batches,
        "messages": delivered,
        "messages_per_second": rate,
        "wall_seconds": delivered / rate,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "bare_loop_messages_per_second": bare_rate,
        "ratio": rate / bare_rate,
        "trace_digest": digest,
    }


def _run(nodes: int, batches: int, seed: int, engine: str) -> tuple[float, int, str]:
    # Large networks keep a short log: n replicas times L slots of votes are what fills the memory.
    interval = max(4, min(128, 8192 // nodes))
    config = Config(nodes, checkpoint_interval=interval, log_window=2 * interval)
    settings = Settings(
        config=config,
        wire=Wire(Normal(MEAN_NS, STD_NS), Mesh(nodes), None, 0.0),
        seed=seed,
        clients=["client.0"],
        client_timeout_ns=60_000_000_000,
    )
    cluster = built(settings, engine)
    client = cluster.clients["client.0"]
    left = batches

    def again(_: Any) -> None:
        nonlocal left
        left -= 1
        if left:
            client.submit(cluster.env.time, b"", "", again)

    gc.collect()
    begun = time.perf_counter()
    client.submit(0, b"", "", again)
    while left:
        cluster.env.step()
    cluster.settle(config.view_change_timeout_ns * 4)
    cluster.finish()
    digest = cluster.recorder.trace.hex()
    seconds = time.perf_counter() - begun
    assert not cluster.checker.violations, cluster.checker.violations
    return seconds, cluster.env.delivered, digest


def _bare_loop(nodes: int, seed: int, messages: int = 400_000) -> float:
    """Votes through a heap: every node broadcasts, a quorum of bits starts its next round."""
    quorum = 2 * ((nodes - 1) // 3) + 1
    delays = (
        np.rint(Chance(seed).stream("bare").normals(0, 1 << 16) * STD_NS + MEAN_NS).astype(np.int64).tolist()
    )
    heap: list[tuple[int, int, int, int, int]] = []
    votes: dict[tuple[int, int], int] = {}
    number = 0

    def broadcast(now: int, sender: int, round_: int) -> None:
        nonlocal number
        for receiver in range(nodes):
            if receiver != sender:
                number += 1
                heapq.heappush(heap, (now + delays[number & 0xFFFF], number, sender, receiver, round_))

    gc.collect()
    begun = time.perf_counter()
    for node in range(nodes):
        broadcast(0, node, 0)
    delivered = 0
    while heap and delivered < messages:
        now, _, sender, receiver, round_ = heapq.heappop(heap)
        delivered += 1
        key = (receiver, round_)
        mask = votes.get(key, 1 << receiver) | 1 << sender
        votes[key] = mask
        if mask.bit_count() == quorum:
            broadcast(now, receiver, round_ + 1)
    return delivered / (time.perf_counter() - begun)


def _bare_compiled_loop(nodes: int, seed: int) -> float:
    """`_bare_loop`, compiled: the same heap by time and number; votes are counted, not marked."""
    from tradebft.network.compiled.bare import votes

    quorum = 2 * ((nodes - 1) // 3) + 1
    delays = np.rint(Chance(seed).stream("bare").normals(0, 1 << 16) * STD_NS + MEAN_NS).astype(np.int64)
    room = np.zeros(2 * (4 * nodes * nodes + 16), dtype=np.int64)
    votes(nodes, quorum, delays, 1000, room)
    messages = 4_000_000
    begun = time.perf_counter()
    delivered = votes(nodes, quorum, delays, messages, room)
    return delivered / (time.perf_counter() - begun)
