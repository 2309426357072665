"""Timers by name, as alarms in SimPy's queue."""

from __future__ import annotations

from collections.abc import Callable

from simpy.events import Event
from tradebft.network.virtual_time import VirtualTime


class _Timer:
    __slots__ = ("alarm_at", "deadline", "number")

    def __init__(self) -> None:
        self.deadline = self.alarm_at = -1
        self.number = 0  # of the alarm's event


class Timers:
    """A timer that is set again keeps its one alarm in the queue, which is moved when it goes off early.

    *fire* is told when, whose timer, and its name.
    """

    def __init__(self, env: VirtualTime, fire: Callable[[int, int, str], None]) -> None:
        self._env, self.fire = env, fire
        self._timers: dict[tuple[int, str], _Timer] = {}

    def set(self, now: int, endpoint: int, name: str, delay_ns: int) -> None:
        """Run out *delay_ns* after *now*; one of that name that runs is replaced."""
        timer = self._timers.get((endpoint, name))
        if timer is None:
            timer = self._timers[endpoint, name] = _Timer()
        timer.deadline = now + delay_ns
        if timer.alarm_at < 0 or timer.alarm_at > timer.deadline:
            self._alarm(endpoint, name, timer, timer.deadline)

    def cancel(self, endpoint: int, name: str) -> None:
        """Stop it, if it runs."""
        timer = self._timers.get((endpoint, name))
        if timer is not None:
            timer.deadline = -1

    def stop(self, endpoint: int) -> None:
        """Stop all that *endpoint* has."""
        for (owner, _), timer in self._timers.items():
            if owner == endpoint:
                timer.deadline = -1

    def resume(self, endpoint: int, name: str, deadline: int, alarm_at: int, number: int) -> None:
        """A timer that ran elsewhere: it runs out at *deadline* (-1: it was stopped); its alarm goes off at *alarm_at*,
        as the event of that number."""
        timer = self._timers[endpoint, name] = _Timer()
        timer.deadline = deadline
        self._alarm(endpoint, name, timer, alarm_at, number)

    def withdraw(self, endpoints: range) -> list[tuple[int, str, int, int, int]]:
        """Timers of *endpoints* run elsewhere from now on: whose, its name, and what `resume` is told of it."""
        running = [(*key, timer) for key, timer in self._timers.items() if key[0] in endpoints]
        found = []
        for endpoint, name, timer in running:
            if timer.alarm_at >= 0:
                found.append((endpoint, name, timer.deadline, timer.alarm_at, timer.number))
            timer.alarm_at = -1
            del self._timers[endpoint, name]
        self._env.withdraw({number for *_, number in found})
        return found

    def _alarm(self, endpoint: int, name: str, timer: _Timer, due: int, number: int | None = None) -> None:
        timer.alarm_at = due

        def ring(_: Event) -> None:
            if timer.alarm_at != due:
                return  # an earlier alarm took its place
            timer.alarm_at = -1
            if timer.deadline < 0:
                return
            if timer.deadline > due:
                self._alarm(endpoint, name, timer, timer.deadline)
                return
            timer.deadline = -1
            self.fire(due, endpoint, name)

        timer.number = self._env.next_number() if number is None else number
        event = self._env.event_at(due, timer.number)
        assert event.callbacks is not None
        event.callbacks.append(ring)
