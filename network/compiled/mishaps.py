"""Faults of a compiled run: what `Cluster` and `SimulatedBus` do about them, as the kernel's memory wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from tradebft.consensus.membership import sizes
from tradebft.network.arrays import Clock
from tradebft.network.cluster import LOSS_TIMELY, Cluster, Settings
from tradebft.network.compiled import memory
from tradebft.network.compiled.memory import Memory
from tradebft.network.engines import borne
from tradebft.network.faults import Transition, Weather, play
from tradebft.network.recorder import Recorder

_DROPPED: Final = {
    memory.CRASHED: "crash",
    memory.PARTED: "partition",
    memory.ONE_WAY: "one-way",
    memory.LOST: "loss",
    memory.FULL: "interface full",
}
_INJECTED: Final = {
    memory.PARTED: "partition",
    memory.ONE_WAY: "one-way",
    memory.SLOWED: "slow",
    memory.LOST: "loss",
}
_CUTS: Final = {None: 0, "partition": memory.PARTED, "one-way": memory.ONE_WAY}


class Mishaps:
    """Applies the schedule; says what clients' requests meet. *recall*: what that replica was to send is not sent."""

    def __init__(
        self,
        settings: Settings,
        env: Clock,
        recorder: Recorder,
        m: Memory,
        recall: Callable[[int], None],
        hand_over: Callable[[str], Cluster],
    ) -> None:
        self._nodes, self._wire, self._faults = settings.config.nodes, settings.wire, settings.faults
        self._env, self._recorder, self._m, self._recall = env, recorder, m, recall
        self._hand_over = hand_over
        self.rest: Cluster | None = None  # who applies the rest of the schedule
        self.weather = Weather(settings.faults, self._nodes, self._nodes + len(settings.clients))
        self._wrong = {one.node for one in settings.byzantine}
        self.changed_ns = 0
        self.down_since: dict[int, int] = {}
        self.present = bool(settings.faults or settings.wire.loss)
        for one in settings.byzantine:
            m.replica[one.node, memory.R_MUTE] = 1
        if self.present:
            self._obey()
            env.process(play(env, settings.faults, self._happens))

    @property
    def calm_since(self) -> int | None:
        """Since when network and timers are timely and at most f replicas are down; None while they are not."""
        timely = self.weather.timely and self._wire.loss < LOSS_TIMELY
        down = self._wrong | self.down_since.keys()
        return self.changed_ns if timely and len(down) <= sizes(self._nodes)[0] else None

    def request(self, delay: int, draw: float) -> int:
        """How long a request takes to the primary; -1: it is lost."""
        m, primary = self._m, self._primary
        if self.weather.slowed:
            factor = self.weather.link_factor(self._nodes, primary)
            if factor != 1:
                m.numbers[memory.MISHAPS + memory.SLOWED] += 1
            delay = int(delay * factor)
        if draw < self._lost(self._nodes, primary):
            m.numbers[memory.MISHAPS + memory.LOST] += 1
            return -1
        return delay

    @property
    def _primary(self) -> int:
        return int(self._m.numbers[memory.PRIMARY])

    def resume(self, changed_ns: int, down: list[int]) -> None:
        """Go on where another engine applied the schedule: when something last changed, and who was *down* already."""
        self.rest, self.changed_ns = None, changed_ns
        self.down_since = dict.fromkeys(down, -1)
        if self.present:
            self._obey()

    def finish(self) -> None:
        """Hand the counts over."""
        counts = self._m.numbers[memory.MISHAPS :]
        for names, kept in ((_DROPPED, self._recorder.dropped), (_INJECTED, self._recorder.injected)):
            kept.update({name: int(counts[place]) for place, name in names.items() if counts[place]})
        counts[: memory.HEADER - memory.MISHAPS] = 0

    # --- the schedule ---

    def _happens(self, transition: Transition) -> None:
        fault, rest = self._faults[transition.fault], self.rest
        if rest is None and not borne(fault, self._nodes, self._primary):
            rest = self._hand_over(f"a fault ({fault.kind})")
        if rest is not None:
            rest.happens(transition)
            return
        change = self.weather.apply(transition)
        self.changed_ns = self._env.time
        self._obey()
        for index in change.crashed:
            if not self._m.replica[index, memory.R_DOWN]:
                self._fail(index)

    def _fail(self, index: int) -> None:
        """A member goes down, for good."""
        m = self._m
        self._recorder.injected["crash"] += 1
        self.down_since[index] = self._env.time
        m.replica[index, memory.R_DOWN] = 1
        m.timer[index, :, memory.T_DEADLINE] = -1
        self._recall(index)

    def _lost(self, a: int, b: int) -> float:
        """The share that vanishes, as `SimulatedBus` reckons it."""
        if not self.weather.losing:
            return self._wire.loss
        return self._wire.loss_with(self.weather.loss(a, b))

    def _obey(self) -> None:
        """Write down what holds now; while all is calm nobody looks."""
        m, weather = self._m, self.weather
        m.numbers[memory.ROUGH] = rough = bool(self._wire.loss or not weather.timely)
        if not rough:
            return
        slow, loss = m.slow.view(np.float64), m.loss.view(np.float64)
        for a in range(self._nodes):
            for b in range(self._nodes + 1):
                client = b == self._nodes
                m.cut[a, b] = _CUTS[None if client or a == b else weather.cut(a, b)]
                slow[a, b] = weather.factor(a) if client else weather.link_factor(a, b)
                loss[a, b] = self._lost(a, b)
