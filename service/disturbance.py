"""Other work between two measurements, and how fast this machine was meanwhile.

In a loop of its own every step is faster than among others, since its code and data stay in the caches: by a third and
more on the machines that this was tried on. And a machine that is shared is not equally fast from one second to the
next: one check of a signature took 62 us or 105 us on the same processor, for some seconds each. So what is measured
is told as a multiple of two fixed pieces of work that are done in between, a signature's check and this module's other
work; and those are looked at again while the thing that is to be predicted happens.
"""

from __future__ import annotations

import json
import time
from collections import deque
from functools import cache
from statistics import mean
from typing import Final, NamedTuple

from tradebft.chain.crypto import Keyring, make_identities

_DATA: Final = bytes(range(256)) * 4096  # a megabyte: more than the nearest caches hold
_TEXT: Final = json.dumps([{"name": f"n{k}", "values": list(range(20))} for k in range(40)])
_PAYLOAD: Final = bytes(200)


class Pace(NamedTuple):
    """Processor time in ns, on average: one check of a signature, and one piece of other work."""

    check: float
    other: float

    def of(self, name: str) -> float:
        """The piece that a cost of that name goes with."""
        return self.check if name in ("sign", "verify") else self.other


PIECES_KEPT: Final = 1 << 16
_pieces: Final[deque[tuple[int, int]]] = deque(maxlen=PIECES_KEPT)  # since somebody asked last: check, other


@cache
def _signed() -> tuple[Keyring, bytes]:
    signers, keyring = make_identities(["a"], "real", 1)
    return keyring, signers["a"].sign(_PAYLOAD)


def disturb() -> None:
    """Something else, of half a millisecond."""
    keyring, signature = _signed()
    begun = time.thread_time_ns()
    _DATA.count(b"tradebft")
    json.dumps(json.loads(_TEXT))
    between = time.thread_time_ns()
    keyring.verify("a", _PAYLOAD, signature)
    _pieces.append((time.thread_time_ns() - between, between - begun))


def pace() -> Pace:
    """How fast the machine was at what `disturb` did since this was last asked; one piece at least is done."""
    if not _pieces:
        disturb()
    found = Pace(*(mean(kind) for kind in zip(*_pieces, strict=True)))
    _pieces.clear()
    return found
