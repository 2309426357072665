"""Load without meaning: requests of a given size, closed loop or at a rate, until so many were submitted.

Closed: each client keeps so many requests outstanding. Open: requests come at a rate whether earlier ones were answered
or not, and each counts from the moment at which it was meant to be submitted (no coordinated omission).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from tradebft.network.chance import Chance, exponential
from tradebft.network.cluster import Cluster
from tradebft.network.node import RequestRecord
from tradebft.scenarios.membership import GOVERNOR
from tradebft.scenarios.schema import Scenario, Synthetic

_BLOCK: Final = 4096
SECOND_NS: Final = 1_000_000_000


def client_names(workload: Synthetic) -> list[str]:
    """client.0, client.1, ..."""
    return [f"client.{k}" for k in range(workload.clients)]


class SyntheticLoad:
    """Drives the clients of *cluster* until every request was submitted; counts answers."""

    def __init__(self, scenario: Scenario, workload: Synthetic, cluster: Cluster) -> None:
        self._workload, self._cluster = workload, cluster
        self._chance = Chance(scenario.seed)
        self._clients = [client for name, client in cluster.clients.items() if name != GOVERNOR]
        self._operation = bytes(workload.payload_bytes)
        self.total = workload.transactions
        self.submitted = self.answered = 0
        self.last_answer_ns = 0
        self.all_answered = cluster.env.event()

    def start(self) -> None:
        """Begin at the current virtual time."""
        if self._workload.arrival == "open":
            self._cluster.env.process(self._arrivals())
            return
        for client in range(len(self._clients)):
            for _ in range(self._workload.outstanding):
                self._next(client)

    def _next(self, client: int) -> None:
        if self.submitted < self.total:
            self.submitted += 1
            now = self._cluster.env.time
            self._clients[client].submit(now, self._operation, "", self._on_answer(client))

    def _on_answer(self, client: int) -> Callable[[RequestRecord], None]:
        def answered(record: RequestRecord) -> None:
            self._answered(client, record)

        return answered

    def _answered(self, client: int, record: RequestRecord) -> None:
        self.answered += 1
        self.last_answer_ns = record.replied_ns
        if self.answered == self.total:
            self.all_answered.succeed()
        elif self._workload.arrival == "closed":
            self._next(client)

    def _arrivals(self) -> Generator[Any, Any, None]:
        env = self._cluster.env
        for k, at in enumerate(arrivals(self._workload, self._chance)):
            if at > env.time:
                yield env.timeout(at - env.time)
            client = k % len(self._clients)
            self.submitted += 1
            self._clients[client].submit(env.time, self._operation, "", self._on_answer(client), at)


def arrivals(workload: Synthetic, chance: Chance) -> Iterator[int]:
    """When each request of an open load is meant to be submitted, in ns since the start."""
    assert workload.rate is not None
    gap_ns = SECOND_NS / workload.rate
    stream = chance.stream("arrivals")
    due = 0.0  # kept in full precision, so that rounding does not add up
    for k in range(workload.transactions):
        if workload.spacing == "poisson":
            if k % _BLOCK == 0:
                gaps = exponential(stream.uniforms(k, _BLOCK), gap_ns).tolist()
            due += gaps[k % _BLOCK]
        else:
            due += gap_ns
        yield round(due)
