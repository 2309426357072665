"""What SQLite's write-ahead log says about itself after a crash: whole, cut short, or damaged.

SQLite takes a log up to its first frame whose checksum fails and drops the rest without a word. After a power cut that
is right: the rest was never acknowledged. After a flipped bit it is wrong: what follows was durable, and a member that
forgets its votes may contradict them. This module tells the two apart as far as that can be done.

Format: SQLite's documentation, "Database File Format", section 4 (the write-ahead log).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Literal

State = Literal["whole", "torn", "damaged"]

_HEADER: Final = Struct(">8I")
_FRAME: Final = Struct(">6I")
_MAGIC: Final = 0x377F0682  # the last bit says in which byte order checksums are taken
_ALL: Final = 0xFFFFFFFF


def state_of(log: bytes) -> State:
    """What this log is, as it was found before SQLite opened it.

    * whole: everything in it counts (also: empty, or older frames behind the newest, which do not count);
    * torn: its last transaction does not hold. A power cut does that, and then nobody was told of it; a flipped bit in
      the last transaction looks the same;
    * damaged: a frame does not hold and something was committed after it, which no power cut does.

    A log that was cut off between two transactions is whole.
    """
    if not log.strip(b"\0"):
        return "whole"  # made, and never written to as far as the disk knows
    if len(log) < _HEADER.size:
        return "damaged"
    magic, _, page, _, *salts_and_sums = _HEADER.unpack_from(log)
    salts, sums = tuple(salts_and_sums[:2]), tuple(salts_and_sums[2:])
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or page not in range(512, 65537) or page & page - 1:
        return "damaged"
    if _checksum(log[: _HEADER.size - 8], (0, 0), order) != sums:
        return "damaged"
    broken, commits = False, 0
    for at in range(_HEADER.size, len(log) - page - _FRAME.size + 1, page + _FRAME.size):
        _, grown, *rest = _FRAME.unpack_from(log, at)
        own, stored = tuple(rest[:2]), tuple(rest[2:])
        body = log[at : at + 8] + log[at + _FRAME.size : at + _FRAME.size + page]
        holds = _checksum(body, sums, order) == stored
        if holds and own != salts:
            return "damaged"  # an older frame would not follow on this one
        if own == salts:
            broken = broken or not holds
            commits += broken and grown > 0
        elif not broken and commits == 0 and not _any_of(log, at + page + _FRAME.size, page, salts):
            return "whole"  # what follows is from before the log was started anew
        sums = stored
    if not broken:
        return "whole"
    return "damaged" if commits > 1 else "torn"


def _any_of(log: bytes, first: int, page: int, salts: tuple[int, ...]) -> bool:
    """Whether a frame from *first* on belongs to the log as it is now."""
    size = page + _FRAME.size
    return any(
        tuple(_FRAME.unpack_from(log, at)[2:4]) == salts for at in range(first, len(log) - size + 1, size)
    )


def _checksum(data: bytes, start: tuple[int, ...], order: str) -> tuple[int, int]:
    """SQLite's: two sums over pairs of 32-bit words, each fed with the other."""
    first, second = start
    words = Struct(f"{order}{len(data) >> 2}I").unpack(data)
    for at in range(0, len(words), 2):
        first = first + words[at] + second & _ALL
        second = second + words[at + 1] + first & _ALL
    return first, second
