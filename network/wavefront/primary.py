"""What the primary knows when: requests that wait, and whether another batch may be proposed."""

from __future__ import annotations

from typing import Final

from tradebft.consensus.interface import Config
from tradebft.consensus.messages import Batch, Request
from tradebft.consensus.pbft.client_table import ClientTable
from tradebft.consensus.pbft.waiting import Waiting
from tradebft.network.engines import Uncovered

KNOWN: Final = "request known or no room for it"


class Primary:
    """Requests that wait, by the reference's own tables."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._waiting = Waiting(config.max_requests_waiting)
        self._clients = ClientTable(config.client_window)
        self._last: tuple[Request, ...] = ()  # of the batch under way
        self.free_at = 0  # when the batch under way is executed here
        self.batch_due = self.batch_timer = False
        self.blocked = False  # until the batch under way is executed
        self.seq = 0  # the last that was proposed

    def add(self, now: int, request: Request) -> bool:
        """A request arrived; whether it was new."""
        self._executed(now)
        if self._clients.executed(*request.key):
            raise Uncovered("a request that is answered a second time")
        if not self._clients.acceptable(*request.key):
            raise Uncovered("a request beyond its client's window")
        if request.key in self._waiting:
            return False
        if not self._waiting.add(request):
            raise Uncovered("a primary with too many requests")
        return True

    @property
    def fresh(self) -> int:
        """Requests that are in no batch yet."""
        return self._waiting.fresh

    @property
    def full(self) -> bool:
        """Whether they fill a batch."""
        config, waiting = self._config, self._waiting
        return waiting.fresh >= config.batch_size or waiting.fresh_bytes >= config.batch_bytes

    def close(self, now: int) -> Batch:
        """The next batch."""
        self._executed(now)
        requests = self._waiting.take(self._config.batch_size, self._config.batch_bytes)
        self._last, self.seq = tuple(requests), self.seq + 1
        return Batch(now, self._last)

    def _executed(self, now: int) -> None:
        if self._last and self.free_at <= now:
            for request in self._last:
                self._waiting.done(request)
                self._clients.mark(*request.key)
            self._last = ()
