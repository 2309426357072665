"""How long the copies of everybody's next broadcast take, all at once: the same draws as `network.delays`."""

from __future__ import annotations

from typing import Final

import numpy as np
from tradebft.network.chance import Chance
from tradebft.network.delays import ahead
from tradebft.network.links import LinkModel
from tradebft.network.wavefront import bulk
from tradebft.network.wavefront.order import Times

FIRST_ROWS: Final = 4
CELLS: Final = 1 << 19  # drawn at once, at most


class Weather:
    """Every replica says equally much, so that one row of draws serves all."""

    def __init__(self, chance: Chance, links: LinkModel, replicas: int) -> None:
        self._streams = [chance.stream("link", r) for r in range(replicas)]
        self._others = [np.delete(np.arange(replicas, dtype=np.int64), r) for r in range(replicas)]
        self._links, self._most = links, max(FIRST_ROWS, min(4096, CELLS // replicas**2))
        self._drawn = self._at = 0
        self._block: Times = np.empty((0, replicas, replicas), dtype=np.int64)
        self._before = self._block  # rows of it may be in use still

    def next(self) -> Times:
        """(n, n), ns: from each sender to each receiver; 0 on the diagonal. It holds for the next two calls as well."""
        if self._at == len(self._block):
            self._draw(ahead(self._drawn, FIRST_ROWS, self._most))
        self._at += 1
        row: Times = self._block[self._at - 1]
        return row

    def _draw(self, rows: int) -> None:
        n = len(self._streams)
        block, self._before = self._before, self._block
        if len(block) != rows:
            block = np.zeros((rows, n, n), dtype=np.int64)
        for sender, (stream, others) in enumerate(zip(self._streams, self._others, strict=True)):
            delays = bulk.delays(self._links, stream, self._drawn, rows, sender, others)
            block[:, sender, :sender], block[:, sender, sender + 1 :] = delays[:, :sender], delays[:, sender:]
        self._block, self._drawn, self._at = block, self._drawn + rows, 0
