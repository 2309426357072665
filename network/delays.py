"""The weather: how long each transmission takes, drawn in blocks and yet a pure function of who sends what when.

The k-th *broadcast* of replica a reaches replica b after ``f(seed, "link", a; k, b)``; the k-th message that a sends to
b alone after ``f(seed, "alone", a, b; k)``. Two runs with one seed and different consensus settings meet the same
weather, and another engine can reproduce every delay. Loss is drawn likewise ("loss").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tradebft.network.chance import Chance, Stream
from tradebft.network.links import LinkModel

_FIRST_ROWS = 8
_FIRST_DRAWS = 1 << 10  # of one sender: fewer would not be sooner
_BLOCK_DRAWS = 1 << 14  # of one sender
_ALL_DRAWS = 1 << 21  # of as many senders as there are receivers: with a thousand of each, blocks are short
_ALONE_FIRST, _ALONE_MOST = 32, 4096
REPLIES_AHEAD: Final = 1024
FIRST_AHEAD: Final = 16


def ahead(drawn: int, fewest: int, most: int) -> int:
    """How much the next block has: as much as there was in all so far, within bounds. Short runs are many."""
    return min(most, max(fewest, drawn))


class Row(NamedTuple):
    """One broadcast: delays (ns) by receiver, and the same sorted, nearest receiver first."""

    delays: NDArray[np.int64]
    places: list[int]
    sorted: list[int]
    losses: NDArray[np.float64] | None  # uniform draws by receiver; None where nothing is ever lost


class Broadcasts:
    """The delays of one sender's broadcasts to a fixed list of receivers, from its *start*-th on."""

    __slots__ = (
        "_at",
        "_chance",
        "_delays",
        "_drawn",
        "_fewest",
        "_link",
        "_losses",
        "_lossy",
        "_most",
        "_orders",
        "_places",
        "_sender",
        "_sorted",
        "receivers",
    )

    def __init__(
        self,
        chance: Chance,
        link: LinkModel,
        sender: int,
        receivers: list[int],
        lossy: bool,
        start: int = 0,
    ) -> None:
        self._chance, self._link, self._sender, self._lossy = chance, link, sender, lossy
        self.receivers = np.array(receivers, dtype=np.int64)
        self._places = np.array(receivers, dtype=object)  # whose integers all rows share
        lanes = max(1, len(receivers))
        self._fewest = max(_FIRST_ROWS, _FIRST_DRAWS // lanes)
        self._most = max(1, min(_BLOCK_DRAWS // lanes, _ALL_DRAWS // lanes**2))
        self._at, self._drawn = 0, start  # of this block, and in all
        self._delays = self._sorted = np.empty((0, 0), dtype=np.int64)
        self._orders = np.empty((0, 0), dtype=object)
        self._losses: NDArray[np.float64] | None = None

    @property
    def used(self) -> int:
        """How many broadcasts there were, before this began as well."""
        return self._drawn - len(self._delays) + self._at

    def next(self) -> Row:
        """The next broadcast's draws."""
        if self._at == len(self._delays):
            self._draw()
        place = self._at
        self._at += 1
        losses = self._losses[place] if self._losses is not None else None
        return Row(self._delays[place], self._orders[place].tolist(), self._sorted[place].tolist(), losses)

    def _draw(self) -> None:
        lanes, start = len(self.receivers), self._drawn
        rows = ahead(start, self._fewest, self._most)
        u = self._chance.stream("link", self._sender).uniform_block(start, rows, lanes)
        self._delays = self._link.delays(self._sender, self.receivers, u)
        order = np.argsort(self._delays, axis=1, kind="stable")
        self._sorted = np.take_along_axis(self._delays, order, axis=1)
        self._orders = self._places[order]
        if self._lossy:
            self._losses = self._chance.stream("loss", self._sender).uniform_block(start, rows, lanes)
        self._at, self._drawn = 0, start + rows


class Alone:
    """The delays of messages from one endpoint to one other, from the *start*-th on."""

    __slots__ = ("_at", "_chance", "_delays", "_drawn", "_link", "_losses", "_lossy", "_receiver", "_sender")

    def __init__(
        self, chance: Chance, link: LinkModel, sender: int, receiver: int, lossy: bool, start: int = 0
    ) -> None:
        self._chance, self._link, self._sender, self._receiver = chance, link, sender, receiver
        self._lossy = lossy
        self._at, self._drawn = 0, start  # of this block, and in all
        self._delays: list[int] = []
        self._losses: list[float] = []

    @property
    def used(self) -> int:
        """How many messages there were, before this began as well."""
        return self._drawn - len(self._delays) + self._at

    def next(self) -> tuple[int, float]:
        """The next message's delay (ns), and the uniform draw that decides whether it is lost; 1 where nothing is."""
        if self._at == len(self._delays):
            self._draw()
        place = self._at
        self._at += 1
        return self._delays[place], self._losses[place] if self._lossy else 1.0

    def _draw(self) -> None:
        start = self._drawn
        count = ahead(start, _ALONE_FIRST, _ALONE_MOST)
        u = self._chance.stream("alone", self._sender, self._receiver).uniforms(start, count)
        receivers = np.array([self._receiver], dtype=np.int64)
        self._delays = self._link.delays(self._sender, receivers, u[:, None])[:, 0].tolist()
        if self._lossy:
            self._losses = (
                self._chance.stream("loss", self._sender, self._receiver).uniforms(start, count).tolist()
            )
        self._at, self._drawn = 0, start + count


Draw = Callable[[LinkModel, Stream, int, int, int, NDArray[np.int64]], NDArray[np.int64]]


def drawn(
    links: LinkModel, stream: Stream, start: int, count: int, sender: int, receivers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(count, receivers), ns: what *sender* says *count* times, from the *start*-th time on."""
    return links.delays(sender, receivers, stream.uniform_block(start, count, len(receivers)))


class RepliesAhead:
    """How long replies to one client take: the k-th that each replica sends it, from its *starts*-th on. *draw* is
    `drawn` or the same sooner."""

    def __init__(
        self, chance: Chance, links: LinkModel, starts: list[int], client: int, draw: Draw = drawn
    ) -> None:
        self._draw, self._starts, replicas = draw, starts, len(starts)
        self._streams = [chance.stream("alone", r, client) for r in range(replicas)]
        self._links, self._client = links, np.array([client], dtype=np.int64)
        self._drawn, self._at, self._block = 0, 0, np.empty((0, replicas), dtype=np.int64)

    def next(self) -> NDArray[np.int64]:
        """Delays (ns) of the next reply, by replica."""
        if self._at == len(self._block):
            count = ahead(self._drawn, FIRST_AHEAD, REPLIES_AHEAD)
            columns = [
                self._draw(self._links, stream, self._starts[r] + self._drawn, count, r, self._client)[:, 0]
                for r, stream in enumerate(self._streams)
            ]
            self._block = np.stack(columns, axis=1)
            self._drawn, self._at = self._drawn + count, 0
        self._at += 1
        row: NDArray[np.int64] = self._block[self._at - 1]
        return row


class LuckAhead:
    """The uniform draws that decide whether replies to one client are lost, as `RepliesAhead` has their delays."""

    def __init__(self, chance: Chance, starts: list[int], client: int) -> None:
        self._starts = starts
        self._streams = [chance.stream("loss", r, client) for r in range(len(starts))]
        self._at, self._block = 0, np.empty((0, len(starts)), dtype=np.float64)

    def next(self) -> NDArray[np.float64]:
        """Of the next reply, by replica."""
        place = self._at % FIRST_AHEAD
        if not place:
            begun = zip(self._streams, self._starts, strict=True)
            columns = [stream.uniforms(start + self._at, FIRST_AHEAD) for stream, start in begun]
            self._block = np.stack(columns, axis=1)
        self._at += 1
        row: NDArray[np.float64] = self._block[place]
        return row
