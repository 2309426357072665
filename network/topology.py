"""Who is connected to whom, and the way a message takes where that is not everybody.

Endpoints are numbered: replicas 0 .. members - 1, then clients, then relays. A full mesh keeps no table at all; a star
has one relay, the broker, through which everything goes; any other graph of the replicas routes along shortest paths
(`graphs`).
"""

from __future__ import annotations

from typing import Final, Protocol


class Topology(Protocol):
    """What the network asks of a topology. Endpoints are indices."""

    @property
    def relays(self) -> int:
        """Number of extra nodes that only forward; they come last."""
        ...

    @property
    def direct(self) -> bool:
        """Whether every pair of endpoints is one hop apart."""
        ...

    def next_hop(self, node: int, destination: int) -> int:
        """The endpoint to which `node` hands a message for `destination`, another node."""
        ...

    def hops(self, node: int, destination: int) -> int:
        """Number of links on the way; 0 to itself."""
        ...

    def edges(self) -> list[tuple[int, int]]:
        """Links among replicas and relays, (lower, higher), sorted; clients are left out."""
        ...


class Mesh:
    """Everybody reaches everybody in one hop."""

    __slots__ = ("members",)
    relays: Final = 0
    direct: Final = True

    def __init__(self, members: int) -> None:
        self.members = checked(members)

    def next_hop(self, node: int, destination: int) -> int:
        """The destination itself."""
        return destination

    def hops(self, node: int, destination: int) -> int:
        """1, or 0 to itself."""
        return int(node != destination)

    def edges(self) -> list[tuple[int, int]]:
        """All n (n - 1) / 2 pairs."""
        return [(a, b) for a in range(self.members) for b in range(a + 1, self.members)]


class Star:
    """Everybody, clients included, is connected to one broker and to nobody else."""

    __slots__ = ("broker", "members")
    relays: Final = 1
    direct: Final = False

    def __init__(self, members: int, clients: int = 0) -> None:
        self.members = checked(members)
        self.broker = members + clients
        """The broker's endpoint index: the last."""

    def next_hop(self, node: int, destination: int) -> int:
        """The broker, and from it the destination."""
        return destination if node == self.broker else self.broker

    def hops(self, node: int, destination: int) -> int:
        """2, or 1 from or to the broker."""
        return 0 if node == destination else 1 if self.broker in (node, destination) else 2

    def edges(self) -> list[tuple[int, int]]:
        """One link a replica."""
        return [(member, self.broker) for member in range(self.members)]


def checked(members: int) -> int:
    """The number of members. ValueError if there are none."""
    if members < 1:
        raise ValueError(f"nodes must be at least 1, got {members}")
    return members
