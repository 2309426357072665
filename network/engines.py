"""Which engines there are, and what each covers. None is a second model: where it covers a run, its trace digest is
the reference's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeVar, cast

import numpy as np
from tradebft.consensus.pbft import Replica as Pbft
from tradebft.network.cluster import Cluster, Settings
from tradebft.network.faults import Fault
from tradebft.network.misbehaviour import Misbehaviour

ENGINES: Final = ("auto", "reference", "wavefront", "compiled")
NODES: Final = range(2, 1001)
HANDED_OVER: Final = 126  # members of which the compiled engine keeps whose votes came
COMPILED_CLIENTS: Final = 10_000  # a table of two windows for each
Result = TypeVar("Result")
WAVES_FROM: Final = 32  # members; see docs/engines.md
_CLUSTERS: Final = {
    "wavefront": ("tradebft.network.wavefront.cluster", "WavefrontCluster"),
    "compiled": ("tradebft.network.compiled.cluster", "CompiledCluster"),
}


class Uncovered(Exception):
    """The run is, or came to be, one that the engine does not cover; its words say why. The reference can do it."""


def fastest(nodes: int) -> tuple[str, ...]:
    """The engines to try for so many members, the fastest first; the reference is the last resort."""
    if find_spec("numba") is None:
        return ("wavefront",)
    # With few members an array is small, and what numpy does before it begins costs more than the compiled loop.
    return ("wavefront", "compiled") if nodes >= WAVES_FROM else ("compiled",)


def first_that_covers(wanted: str, nodes: int, run: Callable[[str], Result]) -> tuple[str, Result, str]:
    """*run* of so many members by the engine that is *wanted*; "auto": by the fastest that covers it.

    Which one it was, what came of it, and why none of the faster ones. `Uncovered` where the one that is wanted cannot.
    """
    if wanted != "auto":
        return wanted, run(wanted), ""
    whys: list[str] = []
    for engine in fastest(nodes):
        try:
            return engine, run(engine), "; ".join(whys)
        except Uncovered as why:
            whys.append(f"{engine} does not cover {why}")
    return "reference", run("reference"), "; ".join(whys)


def built(settings: Settings, engine: str) -> Cluster:
    """The network of *settings*, at time 0. `Uncovered`."""
    if engine == "reference":
        return Cluster(settings)
    if why := uncovered(settings, engine):
        raise Uncovered(why)
    module, name = _CLUSTERS[engine]
    made = getattr(import_module(module), name)(settings)
    return cast(Cluster, made)  # it answers to all that scenarios ask of one


def uncovered(settings: Settings, engine: str) -> str:
    """What of *settings* an engine does not cover; nothing if it covers them."""
    wire, config = settings.wire, settings.config
    reasons: list[tuple[Any, str]] = [
        (config.nodes not in NODES, f"{config.nodes} nodes"),
        (settings.protocol is not Pbft, "a protocol of one's own"),
        (not wire.topology.direct, "messages by way of others"),
        (settings.dishonest_clients, "adversaries"),
        (settings.spare or settings.later_keys, "changes of members"),
        (settings.machine is not None, "one machine for all"),
        (settings.apart, "an execution for each replica"),
    ]
    reasons += _not_compiled(settings) if engine == "compiled" else _not_waves(settings)
    return next((reason for found, reason in reasons if found), "")


def _not_compiled(settings: Settings) -> list[tuple[Any, str]]:
    config = settings.config
    alone = config.nodes > HANDED_OVER  # with so many, nobody goes on where the engine stops
    return [
        (
            alone and not all(borne(fault, config.nodes) for fault in settings.faults),
            "faults other than backups that crash for good, members parted or slow, and loss",
        ),
        (
            not all(_silent(one) and not (alone and one.node == 0) for one in settings.byzantine),
            "adversaries other than silent members",
        ),
        (find_spec("numba") is None, "anything here: numba is not installed (pip install 'tradebft[fast]')"),
        (len(settings.clients) > COMPILED_CLIENTS, f"{len(settings.clients)} clients"),
        (config.log_window > 4 * config.checkpoint_interval, "a log of more than four checkpoints"),
    ]


def _not_waves(settings: Settings) -> list[tuple[Any, str]]:
    return [
        (
            not all(_for_good(fault) for fault in settings.faults),
            "faults other than backups that crash for good",
        ),
        (
            not all(_silent(one) and one.node != 0 for one in settings.byzantine),
            "adversaries other than silent backups",
        ),
        (settings.wire.loss, "loss"),
        (settings.costs is not None, "processors that take time"),
        (settings.wire.bandwidth_bps is not None, "bandwidth"),
        (_instant(settings), "messages that take no time"),
    ]


def _instant(settings: Settings) -> bool:
    """Whether messages of the primary, or to it, usually arrive as they are sent: then all happens in one nanosecond,
    and what is first follows from causes that waves do not look at."""
    links, n = settings.wire.links, settings.config.nodes
    said = links.delays(0, np.arange(1, n), np.full(n - 1, 0.5))
    if not settings.clients:
        return not said.all()
    asked = links.delays(n, np.zeros(1, dtype=np.int64), np.full(1, 0.5))
    return not (said.all() and asked.all())


def _for_good(fault: Fault, primary: int = 0) -> bool:
    ends = fault.duration_ns is not None or fault.torn
    return fault.kind == "crash" and not ends and primary not in fault.nodes


def borne(fault: Fault, nodes: int, primary: int = 0) -> bool:
    """Whether the compiled engine goes on when *fault* begins, while *primary* leads."""
    parted = fault.kind in ("partition", "one-way") and all(node < nodes for node in fault.named)
    return _for_good(fault, primary) or parted or fault.kind in ("slow", "loss")


def _silent(one: Misbehaviour) -> bool:
    return one.behaviour == "silent" and not one.at_ns and one.until_ns is None
