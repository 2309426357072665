"""How long a message is under way: link models, each the inverse CDF of one uniform draw a message.

A model answers for all receivers of one sender at once and knows the least delay it can ever give, which is how far a
simulation may look ahead. Delays are integer nanoseconds, from 0 to `MAX_DELAY_NS`. A model of your own is a class with
`minimum_ns` and `delays` as in `LinkModel`; a scenario names it as `module:Class`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from tradebft.network import chance
from tradebft.network.cities import CITIES, distance_km

__all__ = [
    "LINK_MODELS",
    "MAX_DELAY_NS",
    "Constant",
    "Distance",
    "LinkModel",
    "Lognormal",
    "Normal",
    "Uniform",
    "link_model",
]

Floats = NDArray[np.float64]
Nanoseconds = NDArray[np.int64]

MAX_DELAY_NS: Final = 10**17
"""Three years. Longer delays are cut here, so that no sum of a time and a few delays leaves 64 bits."""

FIBRE_KM_PER_S: Final = 299_792.458 / 1.468
"""Speed of light in glass: c over the group index of standard single-mode fibre (ITU-T G.652), 1.468 at 1550 nm."""

_LEAST_UNIFORM: Final = 2.0**-53
_ANYONE: Final = np.zeros(1, dtype=np.int64)


class LinkModel(Protocol):
    """What the network asks of its links."""

    @property
    def minimum_ns(self) -> int:
        """No delay is shorter, whoever sends to whom."""
        ...

    def delays(self, sender: int, receivers: Nanoseconds, u: Floats) -> Nanoseconds:
        """Delays in ns, of the shape of `u`.

        `receivers` are R endpoint indices, `u` uniform draws of shape (..., R): `u[..., j]` is for `receivers[j]`. The
        delay grows with the draw.
        """
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Every message takes the same time."""

    delay_ns: int

    def __post_init__(self) -> None:
        _check_ns("delay", self.delay_ns)

    @property
    def minimum_ns(self) -> int:
        """The delay."""
        return self.delay_ns

    def delays(self, sender: int, receivers: Nanoseconds, u: Floats) -> Nanoseconds:
        """See `LinkModel.delays`."""
        return np.full(u.shape, self.delay_ns, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Delays drawn evenly from an interval."""

    low_ns: int
    high_ns: int

    def __post_init__(self) -> None:
        _check_ns("low", self.low_ns)
        _check_ns("high", self.high_ns)
        if self.low_ns > self.high_ns:
            raise ValueError(f"low must be at most high ({self.high_ns} ns), got {self.low_ns} ns")

    @property
    def minimum_ns(self) -> int:
        """The lower end."""
        return self.low_ns

    def delays(self, sender: int, receivers: Nanoseconds, u: Floats) -> Nanoseconds:
        """See `LinkModel.delays`."""
        return _whole_ns(self.low_ns + u * (self.high_ns - self.low_ns))


@dataclass(frozen=True, slots=True)
class Normal:
    """Normally distributed delays. A draw below zero counts as zero: where the mean is only a few standard
    deviations, the mean delay lies a little above the mean asked for (by 8 % of `std` at mean = std).
    """

    mean_ns: int
    std_ns: int

    def __post_init__(self) -> None:
        _check_ns("mean", self.mean_ns)
        _check_ns("std", self.std_ns)

    @property
    def minimum_ns(self) -> int:
        """Mean less 8.2 standard deviations, the least draw there is; at least 0."""
        return _least(self)

    def delays(self, sender: int, receivers: Nanoseconds, u: Floats) -> Nanoseconds:
        """See `LinkModel.delays`."""
        return _whole_ns(chance.normal(u, self.mean_ns, self.std_ns))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lognormally distributed delays: a few messages take much longer than most. `sigma` is the standard deviation
    of the delay's natural logarithm.
    """

    median_ns: int
    sigma: float

    def __post_init__(self) -> None:
        _check_ns("median", self.median_ns)
        _check_between("sigma", self.sigma, 0, 5)

    @property
    def minimum_ns(self) -> int:
        """Median times exp(-8.2 sigma), the least draw there is."""
        return _least(self)

    def delays(self, sender: int, receivers: Nanoseconds, u: Floats) -> Nanoseconds:
        """See `LinkModel.delays`."""
        return _whole_ns(chance.lognormal(u, self.median_ns, self.sigma))


@dataclass(frozen=True, slots=True)
class Distance:
    """Delay by distance between cities: great circle x `route_factor` at the speed of light in fibre, plus a fixed
    `overhead_ns` a message (last mile, equipment), plus exponential jitter of mean `jitter_ns`.

    `places` gives the city of each endpoint, by its index. Defaults are assumptions; fibre follows railways and roads,
    which are rarely less than a third longer than the great circle.
    """

    places: Sequence[str]
    route_factor: float = 1.6
    overhead_ns: int = 1_000_000
    jitter_ns: int = 500_000
    _city: Nanoseconds = field(init=False, repr=False, compare=False)
    _propagation: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_between("route_factor", self.route_factor, 1, 10)
        _check_ns("overhead", self.overhead_ns)
        _check_ns("jitter", self.jitter_ns)
        cities = sorted(set(self.places))
        for city in cities:
            if city not in CITIES:
                raise ValueError(f"places: {city!r} is not among the known cities")
        kilometres = np.array([[distance_km(a, b) for b in cities] for a in cities], dtype=np.float64)
        numbers = {city: number for number, city in enumerate(cities)}
        object.__setattr__(self, "_city", np.array([numbers[city] for city in self.places], dtype=np.int64))
        object.__setattr__(self, "_propagation", kilometres * (self.route_factor / FIBRE_KM_PER_S * 1e9))

    @property
    def minimum_ns(self) -> int:
        """The overhead, plus the shortest way between two endpoints (none where two share a city)."""
        apart = self._propagation[~np.eye(len(self._propagation), dtype=bool)]
        shared = len(self._propagation) < len(self.places)
        return self.overhead_ns + (0 if shared or not apart.size else int(apart.min()))

    def delays(self, sender: int, receivers: Nanoseconds, u: Floats) -> Nanoseconds:
        """See `LinkModel.delays`."""
        return _whole_ns(self.fixed_ns(sender, receivers) + chance.exponential(u, self.jitter_ns))

    def fixed_ns(self, sender: int, receivers: Nanoseconds) -> Floats:
        """What a message from *sender* to each receiver takes without jitter."""
        fixed: Floats = self._propagation[self._city[sender], self._city[receivers]] + self.overhead_ns
        return fixed


LINK_MODELS: Final[Mapping[str, Callable[..., LinkModel]]] = {
    "constant": Constant,
    "uniform": Uniform,
    "normal": Normal,
    "lognormal": Lognormal,
    "distance": Distance,
}
"""The kinds a scenario may name. The parameters are the fields of the class."""


def link_model(kind: str, parameters: Mapping[str, Any], places: Sequence[str] = ()) -> LinkModel:
    """The link model of that kind, with those parameters as keywords.

    `kind` is one of `LINK_MODELS` or a class of your own as `module:Class`. `places`, the city of each endpoint by
    index, is handed to models that have a parameter of that name.

    Raises:
        ValueError: no such kind, a parameter the model does not take or lacks, or a value it refuses.
        ImportError: a class of your own cannot be imported.
    """
    build: Callable[..., LinkModel] | None
    if kind in LINK_MODELS:
        build = LINK_MODELS[kind]
    elif ":" in kind:
        module, _, name = kind.partition(":")
        build = getattr(importlib.import_module(module), name, None)
        if build is None:
            raise ImportError(f"module {module!r} has no {name!r}")
    else:
        known = ", ".join(LINK_MODELS)
        raise ValueError(f"links: expected one of {known} or a class as 'module:Class', got {kind!r}")
    signature = inspect.signature(build)
    given = dict(parameters)
    if "places" in signature.parameters:
        given.setdefault("places", tuple(places))
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ValueError(f"links: {kind}: {error}") from None
    return build(**given)


def _least(model: LinkModel) -> int:
    """The delay at the least uniform draw; models are monotone, so none is shorter."""
    return int(model.delays(0, _ANYONE, np.full(1, _LEAST_UNIFORM))[0])


def _whole_ns(delays: Floats) -> Nanoseconds:
    return cast(Nanoseconds, np.rint(np.clip(delays, 0, MAX_DELAY_NS)).astype(np.int64))


def _check_ns(name: str, value: int) -> None:
    if not 0 <= value <= MAX_DELAY_NS:
        raise ValueError(f"{name} must be from 0 to {MAX_DELAY_NS} ns, got {value} ns")


def _check_between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")
