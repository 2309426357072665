"""Graphs of replicas that are not all connected directly: the way a message takes, and graphs that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import networkx as nx
from tradebft.network.chance import Chance
from tradebft.network.topology import checked

GENERATORS: Final = ("ring", "line", "tree", "regular", "small-world", "scale-free")
REWIRED: Final = 0.1
"""Share of a small world's edges that lead elsewhere (assumption; Watts and Strogatz, Nature 393, 1998)."""


class Graph:
    """The replicas are connected by the edges given, and forward for one another along shortest paths.

    Among paths of equal length the one over the neighbour of the lowest index is taken, so that routes are the same
    in every run. Clients reach every replica directly: the graph is the network of the members, not of the public.
    """

    __slots__ = ("_graph", "_tables", "members")
    relays: Final = 0
    direct: Final = False

    def __init__(
        self,
        members: int,
        edges: Iterable[tuple[int, int]],
        length: Callable[[int, int], float] | None = None,
    ) -> None:
        """`length` is what a link counts for (kilometres, say; positive); by default all count the same.

        ValueError unless the edges connect all of the replicas.
        """
        self.members = checked(members)
        self._graph = nx.Graph()
        self._graph.add_nodes_from(range(members))
        for a, b in edges:
            if not (0 <= a < members and 0 <= b < members) or a == b:
                raise ValueError(f"topology: expected edges between two of {members} replicas, got {(a, b)}")
            weight = 1 if length is None else length(a, b)
            if weight <= 0:
                raise ValueError(f"topology: expected positive lengths, got {weight} for {(a, b)}")
            self._graph.add_edge(a, b, length=weight)
        parts = sorted(sorted(part) for part in nx.connected_components(self._graph))
        if len(parts) > 1:
            raise ValueError(
                f"topology: expected a connected graph, got {len(parts)} parts; "
                f"no way from replica {parts[0][0]} to replica {parts[1][0]}"
            )
        self._tables: dict[int, list[int]] = {}

    def next_hop(self, node: int, destination: int) -> int:
        """The neighbour of `node` on the shortest path to `destination`."""
        if node >= self.members or destination >= self.members:
            return destination
        table = self._tables.get(destination)
        if table is None:
            table = self._tables[destination] = self._table(destination)
        return table[node]

    def hops(self, node: int, destination: int) -> int:
        """Number of links on the way that messages take."""
        count = 0
        while node != destination:
            node = self.next_hop(node, destination)
            count += 1
        return count

    def edges(self) -> list[tuple[int, int]]:
        """The edges given, each once."""
        return sorted((min(edge), max(edge)) for edge in self._graph.edges)

    def _table(self, destination: int) -> list[int]:
        """For each replica the next one on its way to `destination`."""
        graph = self._graph
        left = nx.single_source_dijkstra_path_length(graph, destination, weight="length")
        hop = [destination] * self.members
        for node in range(self.members):
            if node != destination:
                hop[node] = min(
                    graph[node], key=lambda near: (left[near] + graph[node][near]["length"], near)
                )
        return hop


def generated_edges(generator: str, members: int, degree: int, chance: Chance) -> list[tuple[int, int]]:
    """Edges of a drawn graph of `members` replicas that is connected; `generator` is one of `GENERATORS`.

    `degree` is the number of neighbours of a node in "regular"; the mean of it in "small-world" and "scale-free"
    (an odd one counts as the even number below); one more than the children of a node in "tree".
    ValueError when no such graph exists.
    """
    checked(members)
    if generator not in GENERATORS:
        raise ValueError(f"generator: expected one of {', '.join(GENERATORS)}, got {generator!r}")
    if degree < 1:
        raise ValueError(f"degree must be at least 1, got {degree}")
    if generator in ("regular", "small-world", "scale-free"):
        if degree >= members:
            raise ValueError(f"degree must be less than the {members} nodes, got {degree}")
        if generator == "regular" and degree * members % 2:
            raise ValueError(f"degree must be even for {members} nodes, got {degree}")
    draws = chance.stream("topology", generator)
    for attempt in range(100):
        graph = _draw(generator, members, degree, draws.bits(attempt) & 0xFFFF_FFFF)
        graph.remove_edges_from(list(nx.selfloop_edges(graph)))
        if nx.is_connected(graph):
            return sorted((min(edge), max(edge)) for edge in graph.edges)
    raise ValueError(f"degree {degree} connects {members} nodes too rarely ({generator}); use a larger one")


def _draw(generator: str, members: int, degree: int, seed: int) -> nx.Graph[int]:
    if generator == "ring":
        return nx.cycle_graph(members)
    if generator == "line":
        return nx.path_graph(members)
    if generator == "tree":
        return nx.full_rary_tree(max(1, degree - 1), members)
    if generator == "regular":
        return nx.random_regular_graph(degree, members, seed=seed)
    if generator == "small-world":
        return nx.watts_strogatz_graph(members, max(2, degree), REWIRED, seed=seed)
    return nx.barabasi_albert_graph(members, max(1, degree // 2), seed=seed)
