"""Blocks of a simulated run, submitted to real members in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from tradebft.chain.codec import encode
from tradebft.network.live.client import LiveClient
from tradebft.network.live.clock import Clock
from tradebft.network.recorded import RecordedBlock

REPLAYER: Final = "replay"
"""The client that submits them."""
AHEAD: Final = 16  # blocks under way at once


class Replay:
    """Submits *blocks* through *client*, each once the network can take it.

    A block whose turn has not come is refused by the ledger (an empty result): then it is submitted again. So the order
    is kept whatever becomes of requests on the way, and a replay that was broken off can be done over.
    """

    def __init__(self, client: LiveClient, blocks: Sequence[RecordedBlock], clock: Clock) -> None:
        self._client, self._blocks, self._clock = client, blocks, clock
        self.began_ns = clock.now()
        self.total, self.done = len(blocks), 0
        self.rows: list[tuple[Any, ...]] = []  # of the requests table
        self.root = b""  # of the ledger after the last block

    async def run(self) -> None:
        """Submit everything; return when every block was executed."""
        self.began_ns = self._clock.now()
        while self.done < self.total:
            under_way = self._blocks[self.done : self.done + AHEAD]
            answers = await asyncio.gather(*(self._client.submit(encode(block)) for block in under_way))
            for answer in answers:
                submitted, replied = answer.submitted_ns - self.began_ns, answer.answered_ns - self.began_ns
                self.rows.append(
                    (REPLAYER, answer.sequence, submitted, submitted, replied, answer.seq, "", "")
                )
            self.done += sum(bool(answer.result) for answer in answers)
            self.root = answers[-1].result
