"""The trace digest: one number that two runs share exactly when the same things happened at the same times.

It is the sum, modulo 2^128, of a strong integer mix of every event's fields: deliveries, commits, executions, replies
and timers. A sum does not depend on the order in which an engine happens to process simultaneous or independent
events, so that another engine, vectorised or compiled, can compute the same digest.

For each of two 64-bit lanes, from the lane's constant, over the fields (kind, sender, view, seq, first 8 bytes of the
digest, receiver, time in ns): ``h = mix64((h ^ field) + GOLDEN)``, where mix64 is the finaliser of SplitMix64. The
event's value is ``lane 0 << 64 | lane 1``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tradebft.consensus.messages import KINDS

GOLDEN: Final = 0x9E3779B97F4A7C15
LANES: Final = (0x243F6A8885A308D3, 0x13198A2E03707344)  # the first digits of pi
_FLUSH_AT: Final = 4096

CODES: Final = {kind: code for code, kind in enumerate(KINDS, start=1)}  # of messages, as fields of events

U64 = NDArray[np.uint64]


def _fold(h: U64, field: U64) -> U64:
    x = (h ^ field) + np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _total(high: U64, low: U64) -> int:
    """The exact sum of ``high << 64 | low`` over arrays: halves are summed apart so that nothing overflows."""
    half, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    low_sum = int((low & half).sum()) + (int((low >> shift).sum()) << 32)
    return (int(high.sum()) << 64) + low_sum


def mixed(*fields: Any) -> int:
    """The sum of the values of events given as the seven fields, arrays that are broadcast to one shape."""
    lanes = []
    with np.errstate(over="ignore"):
        for lane in LANES:
            h = np.asarray(lane, dtype=np.uint64)
            for field in fields:
                h = _fold(h, np.asarray(field).astype(np.uint64))
            lanes.append(h)
    return _total(*lanes)


def _sum_of(events: list[tuple[int, ...]]) -> int:
    return mixed(*np.array(events, dtype=np.uint64).T) if events else 0


def total(parts: U64) -> int:
    """The sum, to be taken modulo 2^128, of which *parts* has the high halves and the two quarters of the low ones."""
    high, upper, lower = (int(part) for part in parts)
    return (high << 64) + (upper << 32) + lower


class TraceDigest:
    """Collects events and mixes them in bulk."""

    def __init__(self, replicas: int) -> None:
        self._sum = 0
        self._events: list[tuple[int, ...]] = []
        self._withdrawn: list[tuple[int, ...]] = []
        self._heads: list[tuple[int, int, int, int, int]] = []
        self._starts: list[int] = []
        self._rows: list[NDArray[np.int64]] = []
        self._flush_broadcasts_at = max(16, (1 << 18) // max(1, replicas))
        others = [[r for r in range(replicas) if r != sender] for sender in range(replicas)]
        self._others = np.array(others, dtype=np.uint64).reshape(replicas, max(0, replicas - 1))

    def event(
        self, kind: int, sender: int, view: int, seq: int, digest: int, receiver: int, time: int
    ) -> None:
        """One event. All fields are non-negative and below 2^64."""
        self._events.append((kind, sender, view, seq, digest, receiver, time))
        if len(self._events) >= _FLUSH_AT:
            self._flush_events()

    def broadcast(
        self, kind: int, sender: int, view: int, seq: int, digest: int, start: int, delays: NDArray[np.int64]
    ) -> None:
        """One delivery to each replica but *sender*, *delays* (ns) after *start*, in the order of their indices."""
        self._heads.append((kind, sender, view, seq, digest))
        self._starts.append(start)
        self._rows.append(delays)
        if len(self._heads) >= self._flush_broadcasts_at:
            self._flush_broadcasts()

    def withdraw(
        self, kind: int, sender: int, view: int, seq: int, digest: int, receiver: int, time: int
    ) -> None:
        """A delivery that was announced and did not happen."""
        self._withdrawn.append((kind, sender, view, seq, digest, receiver, time))
        if len(self._withdrawn) >= _FLUSH_AT:
            self._flush_events()

    def add(self, value: int) -> None:
        """The sum over events that were mixed elsewhere."""
        self._sum += value

    def hex(self) -> str:
        """The digest of everything so far, 32 hexadecimal digits."""
        self._flush_events()
        self._flush_broadcasts()
        return f"{self._sum % (1 << 128):032x}"

    def _flush_events(self) -> None:
        self._sum += _sum_of(self._events) - _sum_of(self._withdrawn)
        self._events, self._withdrawn = [], []

    def _flush_broadcasts(self) -> None:
        if not self._heads or not self._rows[0].size:
            self._heads, self._starts, self._rows = [], [], []
            return
        heads = np.array(self._heads, dtype=np.uint64).T
        times = np.stack(self._rows) + np.array(self._starts, dtype=np.int64)[:, None]
        receivers = self._others[heads[1].astype(np.int64)]
        self._heads, self._starts, self._rows = [], [], []
        self._sum += mixed(*(column[:, None] for column in heads), receivers, times)


def short(digest: bytes) -> int:
    """The first 8 bytes of a digest as an integer, the form in which digests enter the trace."""
    return int.from_bytes(digest[:8], "big")
