"""Synthetic load in real time: the same requests at the same moments as in a simulation, by the machine's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from tradebft.network.chance import Chance
from tradebft.network.live.client import Answer, LiveClient
from tradebft.network.live.clock import Clock
from tradebft.scenarios.schema import Scenario, Synthetic
from tradebft.scenarios.synthetic import arrivals

BURST: Final = 32  # requests that are late already, before others get the processor


class LiveRecord:
    """One request. Times in ns since the load began; *replied_ns* is -1 until f+1 matching replies are in."""

    __slots__ = ("client", "intended_ns", "place", "replied_ns", "seq", "submitted_ns")

    def __init__(self, client: str, place: int, intended_ns: int, submitted_ns: int) -> None:
        self.client, self.place = client, place
        self.intended_ns, self.submitted_ns = intended_ns, submitted_ns
        self.replied_ns = self.seq = -1


class LiveLoad:
    """Drives *clients* until every request was answered."""

    def __init__(
        self, scenario: Scenario, workload: Synthetic, clients: Sequence[LiveClient], clock: Clock
    ) -> None:
        self._scenario, self._workload = scenario, workload
        self._clients, self._clock = clients, clock
        self._operation = bytes(workload.payload_bytes)
        self._places = [0] * len(clients)
        self._began_ns = clock.now()
        self._all = asyncio.Event()
        self.records: list[LiveRecord] = []
        self.total = workload.transactions
        self.answered = 0

    @property
    def began_ns(self) -> int:
        """When it began, by the clock."""
        return self._began_ns

    async def run(self) -> None:
        """Submit everything; return when everything was answered."""
        self._began_ns = self._clock.now()
        if self._workload.arrival == "open":
            await self._arrivals()
        else:
            for client in range(len(self._clients)):
                for _ in range(self._workload.outstanding):
                    self._next(client)
        await self._all.wait()

    def now(self) -> int:
        """Nanoseconds since it began."""
        return self._clock.now() - self._began_ns

    async def _arrivals(self) -> None:
        late = 0
        for k, due in enumerate(arrivals(self._workload, Chance(self._scenario.seed))):
            early = due - self.now()
            late = 0 if early > 0 else late + 1
            if early > 0 or late % BURST == 0:
                await asyncio.sleep(max(0, early) / 1e9)
            self._submit(k % len(self._clients), due)

    def _next(self, client: int) -> None:
        if len(self.records) < self.total:
            self._submit(client, None)

    def _submit(self, client: int, due: int | None) -> None:
        now = self.now()
        self._places[client] += 1
        name = self._clients[client].client.name
        record = LiveRecord(name, self._places[client], now if due is None else due, now)
        self.records.append(record)
        answer = self._clients[client].submit(self._operation)
        answer.add_done_callback(lambda future: self._on_answer(client, record, future))

    def _on_answer(self, client: int, record: LiveRecord, future: asyncio.Future[Answer]) -> None:
        if future.cancelled():
            return
        answer = future.result()
        record.replied_ns, record.seq = answer.answered_ns - self._began_ns, answer.seq
        self.answered += 1
        if self.answered == self.total:
            self._all.set()
        elif self._workload.arrival == "closed":
            self._next(client)


def request_rows(records: Sequence[LiveRecord]) -> list[tuple[Any, ...]]:
    """Rows of the requests table, in the order of what was intended."""
    rows = [(r.client, r.place, r.intended_ns, r.submitted_ns, r.replied_ns, r.seq, "", "") for r in records]
    return sorted(rows, key=lambda row: (row[2], row[0], row[1]))
