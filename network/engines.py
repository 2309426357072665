"""Which engines there are, and what each covers. None is a second model: where it covers a run, its trace digest is
the reference's."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, TypeVar, cast

from tradebft.consensus.pbft import Replica as Pbft
from tradebft.network.cluster import Cluster, Settings

ENGINES: Final = ("auto", "reference", "compiled")
COMPILED_NODES: Final = range(2, 1001)
COMPILED_CLIENTS: Final = 10_000  # a table of two windows for each
Result = TypeVar("Result")


class Uncovered(Exception):
    """The run is, or came to be, one that the engine does not cover; its words say why. The reference can do it."""


def first_that_covers(wanted: str, run: Callable[[str], Result]) -> tuple[str, Result, str]:
    """*run* by the engine that is *wanted*; "auto": by the fastest that covers it.

    Which one it was, what came of it, and why none of the faster ones. `Uncovered` where the one that is wanted cannot.
    """
    if wanted != "auto":
        return wanted, run(wanted), ""
    try:
        return "compiled", run("compiled"), ""
    except Uncovered as why:
        return "reference", run("reference"), f"compiled does not cover {why}"


def built(settings: Settings, engine: str) -> Cluster:
    """The network of *settings*, at time 0. `Uncovered`."""
    if engine == "reference":
        return Cluster(settings)
    if why := not_compiled(settings):
        raise Uncovered(why)
    from tradebft.network.compiled.cluster import CompiledCluster

    return cast(Cluster, CompiledCluster(settings))  # it answers to all that scenarios ask of one


def not_compiled(settings: Settings) -> str:
    """What of *settings* the compiled engine does not cover; nothing if it covers them."""
    wire, config = settings.wire, settings.config
    reasons: list[tuple[Any, str]] = [
        (find_spec("numba") is None, "anything here: numba is not installed (pip install 'tradebft[fast]')"),
        (config.nodes not in COMPILED_NODES, f"{config.nodes} nodes"),
        (len(settings.clients) > COMPILED_CLIENTS, f"{len(settings.clients)} clients"),
        (settings.protocol is not Pbft, "a protocol of one's own"),
        (config.log_window > 4 * config.checkpoint_interval, "a log of more than four checkpoints"),
        (not wire.topology.direct, "messages by way of others"),
        (wire.loss, "loss"),
        (settings.faults, "faults"),
        (settings.byzantine or settings.dishonest_clients, "adversaries"),
        (settings.spare or settings.later_keys, "changes of members"),
        (settings.machine is not None, "one machine for all"),
        (settings.apart, "an execution for each replica"),
    ]
    return next((reason for found, reason in reasons if found), "")
