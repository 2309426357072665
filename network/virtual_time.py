"""Virtual time: SimPy's clock, and beside its event queue a lane for messages.

SimPy drives timers, faults, officers and workload. Messages are too many for an event each (0.1-0.8 million a second);
in the lane one entry stands for a whole *broadcast* and is moved on to its next arrival, so that the heap holds one
entry a broadcast in flight, not one a message; of what waits for one processor it holds the first. Both queues are
served in one order: by time, messages before SimPy's events at the same instant, and by the order of sending among
messages. Time is integer nanoseconds.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any

import simpy
from simpy.events import NORMAL, Event

_runs = count()

Entry = tuple[int, int, "Flight"]
"""In the lane: the next arrival, the number of the launching, and what arrives."""


def collect_seldom() -> None:
    """From now on Python's cycle collector runs seldom, and over everything hardly ever: many objects, few cycles."""
    gc.set_threshold(200_000, 20, 100)


@contextmanager
def rare_collections() -> Iterator[None]:
    """A run, during which Python's cycle collector runs seldom (5-15 % faster).

    A cluster refers to itself in circles, so that a thousand small runs in one process would keep the memory of all:
    each begins by collecting what those before left. What is there when the first and the second begin is set apart for
    good: it is modules, which would take longer to look through than a small run takes (of the second: those that only
    the first run needed). Of the last run nothing is collected; the process ends, or goes on as usual.
    """
    number = next(_runs)
    if number:
        gc.collect()
    if number < 2:
        gc.freeze()
    before = gc.get_threshold()
    collect_seldom()
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Flight:
    """One message on its way to several receivers, nearest arrival first.

    *places* are indices into the environment's `receivers`; *delays* (ns after *start*) are sorted and belong to them.
    *sender* is the endpoint from which it leaves at *start*; -1: from none.
    """

    __slots__ = ("count", "delays", "message", "next", "places", "sender", "start")

    def __init__(
        self, start: int, message: Any, places: list[int], delays: list[int], sender: int = -1
    ) -> None:
        self.start, self.message, self.places, self.delays = start, message, places, delays
        self.sender = sender
        self.count = len(places)
        self.next = 0


class Line(Flight):
    """What one receiver gets, one after the other, in the order in which it was put there: a processor's work.

    Only its first is in the lane, which stays short however long the line is. *waiting*: arrival, number of the
    launching and message of the others.
    """

    __slots__ = ("last", "waiting")

    def __init__(self, place: int) -> None:
        super().__init__(0, None, [place], [0])
        self.waiting: deque[tuple[int, int, Any]] = deque()
        self.last = -1  # the last one's arrival; -1: nobody is there

    def clear(self) -> None:
        """Nobody is there any more."""
        self.waiting.clear()
        self.last = -1

    def entries(self) -> Iterator[Entry]:
        """Those that wait, each as a flight of its own."""
        for at, number, message in self.waiting:
            yield at, number, Flight(at, message, self.places, self.delays)


class VirtualTime(simpy.Environment):
    """A SimPy environment whose time is integer nanoseconds from 0, with a lane for messages."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self.receivers: list[Callable[[int, Any], None]] = []
        self._delivered = 0
        self._lane: list[Entry] = []
        self._launched = 0

    @property
    def time(self) -> int:
        """The current time in ns. SimPy's `now` is the same number, typed more loosely."""
        return int(self._now)

    @property
    def delivered(self) -> int:
        """Messages so far."""
        return self._delivered

    def next_number(self) -> int:
        """The number of the next event: among those of one time, its place."""
        number: int = next(self._eid)
        return number

    def event_at(self, time: int, number: int) -> Event:
        """An event at *time* that bears that number (`next_number`)."""
        event = Event(self)
        event._ok, event._value = True, None
        heappush(self._queue, (time, NORMAL, number, event))
        return event

    def resume(self, now: int, delivered: int, launched: int, lane: list[Entry]) -> None:
        """Go on where something else stood: what is on its way (next arrival, number of its launching), and how many
        were launched and delivered."""
        self._now, self._delivered, self._launched = now, delivered, launched
        self._lane[:] = lane
        heapify(self._lane)

    def on_its_way(self) -> list[Entry]:
        """What is in the lane or in line: its next arrival, the number of its launching."""
        return sorted([*self._lane, *(entry for line in self._lines() for entry in line.entries())])

    def _lines(self) -> list[Line]:
        return [flight for _, _, flight in self._lane if isinstance(flight, Line)]

    def suspend(self) -> int:
        """Something else goes on with what is in the lane; how many were launched."""
        for line in self._lines():
            line.clear()
        self._lane.clear()
        return self._launched

    def withdraw(self, numbers: set[int]) -> None:
        """Take the events with these numbers out of the queue."""
        self._queue[:] = [entry for entry in self._queue if entry[2] not in numbers]
        heapify(self._queue)

    def launch(self, flight: Flight) -> None:
        """Put *flight* on its way. It needs at least one receiver and no arrival before now."""
        self._launched += 1
        heappush(self._lane, (flight.start + flight.delays[0], self._launched, flight))

    def line_up(self, line: Line, at: int, message: Any) -> None:
        """*message* reaches the receiver of *line* at *at*, mostly as the last of those that are there."""
        self._launched += 1
        if line.last < 0:
            line.start, line.message, line.last = at, message, at
            heappush(self._lane, (at, self._launched, line))
        elif at >= line.last:
            line.waiting.append((at, self._launched, message))
            line.last = at
        else:  # for a processor that crashed and is back, before what it had to do then
            heappush(self._lane, (at, self._launched, Flight(at, message, line.places, line.delays)))

    def in_flight(self) -> list[Flight]:
        """What has not fully arrived yet."""
        return [flight for _, _, flight in self.on_its_way()]

    def recall(self, sender: int) -> list[Flight]:
        """Take out what *sender* was to send after now; return it."""
        waiting = [entry for entry in self._lane if entry[2].sender == sender and entry[2].start > self.time]
        if waiting:
            gone = {number for _, number, _ in waiting}
            # In place: whoever serves the lane now goes on with the same list.
            self._lane[:] = [entry for entry in self._lane if entry[1] not in gone]
            heapify(self._lane)
        return [flight for _, _, flight in sorted(waiting)]

    def peek(self) -> Any:
        """The time of the next message or event; infinity when there is none."""
        event = super().peek()
        return min(event, self._lane[0][0]) if self._lane else event

    def step(self) -> None:
        """Deliver every message that is due before SimPy's next event, or process that event."""
        lane, queue = self._lane, self._queue
        if not lane or (queue and queue[0][0] < lane[0][0]):
            super().step()
            return
        receivers = self.receivers
        delivered = 0
        try:
            while lane:
                time, number, flight = lane[0]
                if queue and queue[0][0] < time:
                    break
                self._now = time
                place = flight.next
                receiver, message = receivers[flight.places[place]], flight.message
                place += 1
                if place < flight.count:
                    flight.next = place
                    heapreplace(lane, (flight.start + flight.delays[place], number, flight))
                elif isinstance(flight, Line) and flight.waiting:
                    flight.start, number, flight.message = flight.waiting.popleft()
                    heapreplace(lane, (flight.start, number, flight))
                else:
                    if isinstance(flight, Line):
                        flight.last = -1
                    heappop(lane)
                delivered += 1
                receiver(time, message)
        finally:
            self._delivered += delivered
