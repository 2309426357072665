"""Whose turn it is: when the engine may take a run back from the reference, and who had it when.

To hand over and to take back costs some milliseconds, as much as the reference needs for thousands of messages. Where
the engine keeps a run for a moment only, again and again, it lets the reference have it twice as long each time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LEAST: Final = 4_000  # messages that the reference delivers at least before anybody looks
LOOK: Final = 1_000  # and before somebody looks again
ROUNDS: Final = 4  # of everybody telling everybody: with many members to look takes longer, too
SHORT: Final = 40_000  # messages: the engine had the run for a moment only
DOUBLINGS: Final = 12
NAMED: Final = 3  # turns that are told one by one


class _Turn(NamedTuple):
    begun_ns: int
    ended_ns: int  # -1: it goes on
    why: str

    def __str__(self) -> str:
        until = "on" if self.ended_ns < 0 else f"to {self.ended_ns / 1e9:g} s"
        return f"from {self.begun_ns / 1e9:g} s {until}, for {self.why}"


class Turns:
    """The reference's turns, among so many *nodes*. Times in ns; how long a turn lasts is counted in messages
    delivered, which every machine counts alike."""

    def __init__(self, nodes: int) -> None:
        self._least, self._again = max(LEAST, 2 * ROUNDS * nodes**2), max(LOOK, ROUNDS * nodes**2)
        self._turns: list[_Turn] = []
        self._short = 0
        self._look_at = 0
        self._had_from = 0  # since when the engine has it

    def reference(self, now: int, delivered: int, why: str) -> None:
        """The reference goes on."""
        if self._turns:
            self._short += delivered - self._had_from < SHORT
        self._turns.append(_Turn(now, -1, why))
        self._look_at = delivered + (self._least << min(self._short, DOUBLINGS))

    def engine(self, now: int, delivered: int) -> None:
        """The engine goes on."""
        self._turns[-1] = self._turns[-1]._replace(ended_ns=now)
        self._had_from = delivered

    def look(self, delivered: int) -> bool:
        """Whether to look if the engine could go on; if it cannot, some time passes before the next look."""
        if delivered < self._look_at:
            return False
        self._look_at = delivered + self._again
        return True

    def __str__(self) -> str:
        turns = self._turns
        if len(turns) <= NAMED:
            told = "; ".join(map(str, turns))
        else:
            told = f"{len(turns)} times, first {turns[0]}; last {turns[-1]}"
        return f"the reference {told}" if turns else ""
