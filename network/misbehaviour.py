"""Who misbehaves in a simulated network, how and when; and the replica or client that results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tradebft.consensus import byzantine
from tradebft.consensus.byzantine import Behaviour, Coalition
from tradebft.consensus.byzantine.clients import BEHAVIOURS as CLIENT_BEHAVIOURS
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Replica


@dataclass(frozen=True)
class Misbehaviour:
    """Member *node* misbehaves as *behaviour* says: a name, or "module:Class" of a `Behaviour` of your own.

    From *at_ns* until *until_ns* (None: for ever). Several on one node stack, the last one outermost.
    """

    node: int
    behaviour: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    at_ns: int = 0
    until_ns: int | None = None


def misbehaving(replica: Replica, misbehaviours: Sequence[Misbehaviour], coalition: Coalition) -> Replica:
    """*replica* with everything that is in store for it; ValueError for a behaviour that there is not."""
    for one in misbehaviours:
        if one.node == replica.me:
            times = {"at_ns": one.at_ns, "until_ns": one.until_ns}
            parameters = {**one.parameters, **times}
            if ":" in one.behaviour:
                replica = _own(one.behaviour)(replica, coalition, parameters)
            else:
                replica = byzantine.wrap(replica, one.behaviour, parameters, coalition)
    return replica


def dishonest(client: Client, behaviour: str) -> Any:
    """*client* as *behaviour* has it; ValueError for a behaviour that there is not."""
    kind = CLIENT_BEHAVIOURS.get(behaviour)
    if kind is None:
        raise ValueError(f"no behaviour {behaviour!r} of clients; there are {', '.join(CLIENT_BEHAVIOURS)}")
    return kind(client)


def _own(name: str) -> type[Behaviour]:
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"behaviour {name}: {error}") from None
    if not isinstance(kind, type) or not issubclass(kind, Behaviour):
        raise ValueError(f"behaviour {name}: not a subclass of tradebft.consensus.byzantine.Behaviour")
    return kind
