"""What PBFT's latency must be, from order statistics alone; an oracle for the simulator, and independent of it.

Nothing of tradebft is imported here. Model: every message from one replica to another is under way for a time of its
own, drawn independently; a replica's messages to itself take none; computing takes none; nothing is lost; replica 0 is
the primary, and the last `silent` replicas are backups that never say a word. Times in ms from the moment at which the
primary sends its PrePrepare (Castro and Liskov, OSDI 1999, section 4.2):

    backup i has the PrePrepare    at  X(0, i)
    backup i is prepared           when it has that and q-1 Prepares of distinct backups, its own included
    the primary is prepared        when it has q-1 Prepares
    replica i has committed        when it is prepared and has q Commits, its own included
    the batch is decided           when q replicas have committed
    the client has its answer      at the (f+1)-th Reply, for a request that took X(client, 0) to reach the primary
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Sampler = Callable[[np.random.Generator, tuple[int, ...]], Array]
"""Draws one-way delays in ms, independent and identically distributed, of the shape asked for."""

CELLS = 4_000_000  # delays held at once


def constant(delay: float) -> Sampler:
    return lambda chance, shape: np.full(shape, delay)


def uniform(low: float, high: float) -> Sampler:
    return lambda chance, shape: chance.uniform(low, high, shape)


def normal(mean: float, std: float) -> Sampler:
    """Cut at zero."""
    return lambda chance, shape: np.maximum(chance.normal(mean, std, shape), 0)


def lognormal(median: float, sigma: float) -> Sampler:
    return lambda chance, shape: median * np.exp(chance.normal(0, sigma, shape))


def exponential(mean: float) -> Sampler:
    return lambda chance, shape: chance.exponential(mean, shape)


def faults(n: int) -> int:
    """f = floor((n - 1) / 3)"""
    return (n - 1) // 3


def quorum(n: int) -> int:
    """q = ceil((n + f + 1) / 2); 2f + 1 where n = 3f + 1."""
    return -(-(n + faults(n) + 1) // 2)


@dataclass(frozen=True)
class Times:
    """Times in ms, one row a run. `prepared` and `committed` have a column for each replica that speaks."""

    prepared: Array
    committed: Array
    client: Array

    def decision(self, q: int) -> Array:
        """The q-th replica has committed."""
        return np.partition(self.committed, q - 1, axis=1)[:, q - 1]

    @property
    def all_commit(self) -> Array:
        """The last replica that speaks has committed."""
        last: Array = self.committed.max(axis=1)
        return last


def simulate(n: int, sampler: Sampler, runs: int, seed: int, silent: int = 0) -> Times:
    """So many independent decisions of a network of n replicas, `silent` of them silent from the start."""
    if not 0 <= silent <= n - quorum(n):
        raise ValueError(f"{silent} silent of {n} replicas: no quorum of {quorum(n)} is left")
    chance = np.random.default_rng(seed)
    rows = max(1, CELLS // (n * n))
    parts = [_some(n, sampler, min(rows, runs - done), chance, silent) for done in range(0, runs, rows)]
    return Times(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def decision_ms(n: int, sampler: Sampler, runs: int, seed: int, silent: int = 0) -> Array:
    """PrePrepare sent until q replicas have committed, one number a run."""
    return simulate(n, sampler, runs, seed, silent).decision(quorum(n))


def _some(
    n: int, sampler: Sampler, runs: int, chance: np.random.Generator, silent: int
) -> tuple[Array, Array, Array]:
    speaking, q = n - silent, quorum(n)
    has_proposal = np.zeros((runs, speaking))
    has_proposal[:, 1:] = sampler(chance, (runs, speaking - 1))

    # arrival[run, from, to]; the primary sends no Prepare, so its row never counts
    prepares = has_proposal[:, :, None] + _delays(sampler, runs, speaking, chance)
    prepares[:, 0, :] = np.inf
    prepared = np.maximum(has_proposal, _smallest(prepares, q - 1))

    commits = prepared[:, :, None] + _delays(sampler, runs, speaking, chance)
    committed = np.maximum(prepared, _smallest(commits, q))

    replies = committed + sampler(chance, (runs, speaking))
    request = sampler(chance, (runs,))
    client = request + np.partition(replies, faults(n), axis=1)[:, faults(n)]
    return prepared, committed, client


def _delays(sampler: Sampler, runs: int, speaking: int, chance: np.random.Generator) -> Array:
    """One delay for each pair; none for a replica's own message."""
    delays = sampler(chance, (runs, speaking, speaking))
    delays[:, np.arange(speaking), np.arange(speaking)] = 0
    return delays


def _smallest(arrivals: Array, k: int) -> Array:
    """The k-th smallest arrival at each receiver; nothing to wait for where k is 0."""
    if k == 0:
        return np.full((arrivals.shape[0], arrivals.shape[2]), -np.inf)
    return np.partition(arrivals, k - 1, axis=1)[:, k - 1, :]


# ------------------------------------------------------------------------------------------------------- closed forms


def message_counts(n: int, silent: int = 0) -> dict[str, int]:
    """Messages sent for one decided batch of one request, without faults but for `silent` backups."""
    return {
        "PrePrepare": n - 1,
        "Prepare": (n - 1 - silent) * (n - 1),
        "Commit": (n - silent) * (n - 1),
        "Reply": n - silent,
    }


def checkpoint_messages(n: int, decided: int, interval: int, silent: int = 0) -> int:
    """Checkpoint messages sent while so many batches were decided, one round of them every `interval`."""
    return decided // interval * (n - silent) * (n - 1)


def view_change_messages(n: int, dead: int) -> dict[str, int]:
    """Messages sent to replace the first `dead` primaries, dead from the start."""
    return {"ViewChange": dead * (n - dead) * (n - 1), "NewView": n - 1}


def reply_after_view_change_ms(
    dead: int, delay: float, client_timeout: float, request_timer: float, new_view_timer: float
) -> float:
    """When a request sent at 0 is answered if the first `dead` primaries are dead, all delays being equal.

    The client sends to all after `client_timeout`; a backup that has the request waits `request_timer`; the timer for
    the j-th new view is `new_view_timer` doubled j - 1 times and starts when q ViewChanges are there.
    """
    waits = sum(delay + (1 << (j - 1)) * new_view_timer for j in range(1, dead))
    return client_timeout + request_timer + 6 * delay + waits


def throughput_bound(bandwidth_bits: float, n: int, transaction_bytes: float) -> float:
    """Transactions a second that the primary's outgoing link can carry to the backups."""
    return bandwidth_bits / 8 / ((n - 1) * transaction_bytes)
