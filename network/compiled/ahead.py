"""Delays, and the luck of messages that may be lost, drawn ahead into the memory; and how many of each were used."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Chance
from tradebft.network.compiled import drawing, memory
from tradebft.network.compiled.memory import Memory
from tradebft.network.delays import LuckAhead, RepliesAhead, ahead
from tradebft.network.engines import Uncovered
from tradebft.network.simulated import Wire

FIRST_ROWS: Final = 64  # of delays; more with use
REPLIES_MOST: Final = 1 << 23  # delays that are kept


class Ahead:
    """What replicas send: to all (`weather`), to one other or a client alone (`alone`), in reply to what all execute
    (`reply_ns`). The k-th of each has the delay that the reference would draw for it."""

    def __init__(self, m: Memory, wire: Wire, chance: Chance, rows: list[int], clients: int) -> None:
        """*rows*: how many broadcasts there is room for, by sender."""
        self._m, self._wire, self._chance, self._rows = m, wire, chance, rows
        self._n, self._clients = len(rows), clients
        self._first_row = [0, *accumulate(rows)]
        self._streams = [chance.stream("link", r) for r in range(self._n)]
        self._luck = [chance.stream("loss", r) for r in range(self._n)] if wire.lossy else []
        self._pairs = 0  # rows of `alone` that are given away
        self._unanswered = (
            0  # the first request in the order that a replica has not answered, when last looked at
        )
        self.start([0] * self._n, {}, 0)

    def start(self, said: list[int], alone: dict[tuple[int, int], int], place: int) -> None:
        """Each replica has broadcast *said* times, and sent so many messages to each other and to each client *alone*,
        by both ends. Places in the order begin at *place*."""
        m, n = self._m, self._n
        self._drawn, self._alone_drawn = list(said), {}
        m.replica[:, [memory.R_WEATHER_AT, memory.R_WEATHER_END]] = np.array(self._first_row[:n])[:, None]
        m.pair[:, 1:] = 0
        clients, primary = int(m.numbers[memory.CLIENT_PAIRS]), int(m.numbers[memory.PRIMARY])
        told = np.zeros((self._clients, n), dtype=np.int64)
        for (a, b), count in alone.items():
            if a < n and b >= n:
                told[b - n, a] = count
                if a == primary:
                    self._alone_drawn[clients + b] = count
            elif a < n:
                self._alone_drawn[a * n + b] = count
        self._place = self._unanswered = place
        for r in range(n):
            told[:, r] -= self._answered_since(r)
        self._told = np.maximum(told, 0)  # who is silent has answered, and told nobody
        starts = self._told.tolist()
        draw = drawing.delays
        self._replies = [
            RepliesAhead(self._chance, self._wire.links, one, n + c, draw) for c, one in enumerate(starts)
        ]
        self._reply_luck = (
            [LuckAhead(self._chance, one, n + c) for c, one in enumerate(starts)] if self._wire.lossy else []
        )
        for r in range(n):
            self._draw(r)

    # --- to all ---

    def _draw(self, r: int) -> None:
        """Delays of the next broadcasts of *r*, behind those that are left."""
        m, wire = self._m, self._wire
        at, end = m.replica[r, [memory.R_WEATHER_AT, memory.R_WEATHER_END]].tolist()
        first = self._first_row[r]
        fewest = max(2 * int(m.numbers[memory.AHEAD]), FIRST_ROWS)
        count = ahead(self._drawn[r], fewest, self._rows[r] - (end - at))
        others = np.delete(np.arange(self._n, dtype=np.int64), r)
        delays = drawing.delays(wire.links, self._streams[r], self._drawn[r], count, r, others)
        if delays.max() >= memory.LONGEST_NS:
            raise Uncovered("delays of weeks")
        keys = delays << memory.KEY_BITS | others
        if wire.bandwidth_bps is None:
            keys.sort(axis=1)
        if wire.lossy:
            luck = self._luck[r].uniform_block(self._drawn[r], count, len(others))
            _behind(m.broadcast_luck.view(np.float64), first, at, end, luck)
        self._drawn[r] += count
        fields = [memory.R_WEATHER_AT, memory.R_WEATHER_END]
        m.replica[r, fields] = first, _behind(m.weather, first, at, end, keys)

    def refill(self) -> None:
        """Somebody's delays are nearly used up."""
        m = self._m
        for r in range(self._n):
            left = m.replica[r, memory.R_WEATHER_END] - m.replica[r, memory.R_WEATHER_AT]
            primary = r == m.numbers[memory.PRIMARY]
            if left < m.numbers[memory.AHEAD if primary else memory.AHEAD_OTHERS]:
                self._draw(r)
        m.numbers[memory.DRY] = 0

    # --- to one ---

    def alone(self, place: int) -> None:
        """Delays of what one replica sends to one other or to a client alone, behind those that are left."""
        m = self._m
        r, to = self._ends(place)
        if not m.pair[place, 0]:
            self._pairs += 1
            m.grow("alone", self._pairs + 1)
            if self._wire.lossy:
                m.grow("alone_luck", len(m.alone))
            m.pair[place, 0] = self._pairs
        number, at, end = m.pair[place].tolist()
        row, drawn = m.alone[number], self._alone_drawn.get(place, 0)
        count = ahead(drawn, memory.ALONE_FIRST, len(row) - (end - at))
        stream, others = self._chance.stream("alone", r, to), np.array([to], dtype=np.int64)
        delays = drawing.delays(self._wire.links, stream, drawn, count, r, others)
        if self._wire.lossy:
            luck = self._chance.stream("loss", r, to).uniforms(drawn, count)
            _behind(m.alone_luck.view(np.float64)[number], 0, at, end, luck)
        self._alone_drawn[place] = drawn + count
        m.pair[place, 1:] = 0, _behind(row, 0, at, end, delays[:, 0])

    def _ends(self, place: int) -> tuple[int, int]:
        """Who sends to whom at that place in `pair`."""
        clients = int(self._m.numbers[memory.CLIENT_PAIRS])
        if place < clients:
            return divmod(place, self._n)
        return int(self._m.numbers[memory.PRIMARY]), place - clients

    # --- replies ---

    def replies(self, first: int, numbers: list[int]) -> None:
        """Those to the requests with these *numbers*, which lie in the order from *first* on."""
        m, n = self._m, self._n
        if first + len(numbers) - self._unanswered > len(m.reply_ns):
            self._keep(first, first + len(numbers))
        ring = len(m.reply_ns)
        for place, rid in enumerate(numbers, start=first):  # mostly a few: no array is worth while
            client = int(m.request[rid, memory.Q_CLIENT]) - n
            m.reply_ns[place % ring] = self._replies[client].next()
            if self._wire.lossy:
                m.reply_luck.view(np.float64)[place % ring] = self._reply_luck[client].next()

    def _keep(self, start: int, end: int) -> None:
        """Room for the delays of replies to the requests from *start* to before *end* in the order, beside those that a
        replica has not answered yet."""
        m, ring = self._m, len(self._m.reply_ns)
        up = m.replica[m.replica[:, memory.R_DOWN] == 0]
        first = self._unanswered = int(m.batch[int(up[:, memory.R_ANSWERED].min()) + 1, memory.B_FIRST])
        if end - first <= ring:
            return
        if 2 * (end - first) * self._n > REPLIES_MOST:
            raise Uncovered(memory.REASON[memory.FAR_BEHIND])
        places = np.arange(max(0, start - ring), start)
        for name in ("reply_ns", "reply_luck") if self._wire.lossy else ("reply_ns",):
            before = getattr(m, name)[places % ring].copy()
            m.grow(name, 2 * (end - first))
            kept = getattr(m, name)
            kept[places % len(kept)] = before

    # --- what was used ---

    def said(self) -> list[int]:
        """How often each replica has broadcast."""
        left = self._m.replica[:, memory.R_WEATHER_END] - self._m.replica[:, memory.R_WEATHER_AT]
        return [drawn - rows for drawn, rows in zip(self._drawn, left.tolist(), strict=True)]

    def used(self) -> dict[tuple[int, int], int]:
        """How many messages each replica sent to one other or to a client alone, by both ends; of those who sent any
        since the start."""
        m, n, used = self._m, self._n, {}
        for place, drawn in self._alone_drawn.items():
            used[self._ends(place)] = drawn - int(m.pair[place, 2] - m.pair[place, 1])
        for r in range(n):
            if r != m.numbers[memory.PRIMARY] and not m.replica[r, memory.R_MUTE]:
                told = self._answered_since(r)
                used |= {(r, n + int(c)): int(self._told[c, r] + told[c]) for c in np.flatnonzero(told)}
        return used

    def _answered_since(self, r: int) -> NDArray[np.int64]:
        """How many requests of each client *r* has answered since the start."""
        m = self._m
        end = int(m.batch[m.replica[r, memory.R_ANSWERED], [memory.B_FIRST, memory.B_COUNT]].sum())
        order = m.request[self._place : max(self._place, end), memory.Q_PLACE]
        return np.bincount(m.request[order, memory.Q_CLIENT] - self._n, minlength=self._clients)


def _behind(kept: NDArray[Any], first: int, at: int, end: int, drawn: NDArray[Any]) -> int:
    """Move what is left of *kept*, *at* to *end*, to *first*, and put what was drawn behind it; where that ends."""
    left = first + end - at
    kept[first:left] = kept[at:end].copy()
    kept[left : left + len(drawn)] = drawn
    return left + len(drawn)
