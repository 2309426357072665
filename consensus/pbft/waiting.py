"""Requests that wait, oldest first. One timer watches the oldest one: a primary that serves everybody else must not
be able to starve one client (OSDI 1999, section 4.5.2, and the fairness rule of Castro's thesis)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tradebft.consensus.messages import Request


class Waiting:
    """A bounded first-in-first-out set of requests; ``fresh`` are those that the primary has not proposed yet."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: dict[tuple[str, int], Request] = {}
        self._fresh: dict[tuple[str, int], Request] = {}
        self._untold: dict[tuple[str, int], Request] = {}
        self.fresh_bytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, key: object) -> bool:
        return key in self._requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    @property
    def fresh(self) -> int:
        """How many are not proposed."""
        return len(self._fresh)

    @property
    def not_proposed(self) -> list[Request]:
        """Those that are not proposed, oldest first."""
        return list(self._fresh.values())

    @property
    def untold(self) -> int:
        """How many waited here before this view and were neither proposed in it nor passed on to its primary."""
        return len(self._untold)

    @property
    def oldest(self) -> tuple[str, int] | None:
        """The key of the request that has waited longest."""
        return next(iter(self._requests), None)

    def add(self, request: Request) -> bool:
        """Remember *request*; False when it is known already or the buffer is full."""
        key = request.key
        if key in self._requests or len(self._requests) >= self._limit:
            return False
        self._requests[key] = request
        self._fresh[key] = request
        self.fresh_bytes += len(request.operation)
        return True

    def proposed(self, request: Request) -> None:
        """*request* is in a proposal of this view."""
        key = request.key
        self._untold.pop(key, None)
        if self._fresh.pop(key, None) is not None:
            self.fresh_bytes -= len(request.operation)

    def done(self, request: Request) -> None:
        """*request* was executed."""
        self.proposed(request)
        self._requests.pop(request.key, None)

    def take(self, count: int, size: int) -> list[Request]:
        """The next requests for a batch: at most *count*, at most *size* bytes, always at least one."""
        taken: list[Request] = []
        room = size
        for request in self._fresh.values():
            room -= len(request.operation)
            if len(taken) == count or (taken and room < 0):
                break
            taken.append(request)
        for request in taken:
            self.proposed(request)
        return taken

    def renew(self) -> None:
        """A new view: nothing that still waits counts as proposed or passed on."""
        self._fresh, self._untold = dict(self._requests), dict(self._requests)
        self.fresh_bytes = sum(len(request.operation) for request in self._fresh.values())

    def pass_on(self, count: int) -> list[Request]:
        """The oldest of the `untold`, at most *count*: they count as passed on from now on."""
        told = list(islice(self._untold, count))
        return [self._untold.pop(key) for key in told]
