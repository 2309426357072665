from __future__ import annotations

import networkx as nx
import pytest
from tradebft.network.chance import Chance
from tradebft.network.graphs import GENERATORS, Graph, generated_edges
from tradebft.network.topology import Mesh, Star


def way(topology, node, destination):
    stations = [node]
    while stations[-1] != destination:
        stations.append(topology.next_hop(stations[-1], destination))
        assert len(stations) < 100, "a loop"
    return stations


def test_a_mesh_has_one_hop_everywhere_and_no_tables():
    mesh = Mesh(1000)
    assert mesh.direct
    assert mesh.relays == 0
    assert mesh.next_hop(3, 999) == 999
    assert mesh.hops(3, 999) == 1
    assert mesh.hops(3, 3) == 0
    assert Mesh(3).edges() == [(0, 1), (0, 2), (1, 2)]


def test_in_a_star_everything_goes_through_the_broker_clients_included():
    star = Star(4, clients=2)
    assert star.broker == 6
    assert star.relays == 1
    assert not star.direct
    assert way(star, 0, 3) == [0, 6, 3]
    assert way(star, 5, 1) == [5, 6, 1]
    assert [star.hops(0, 3), star.hops(0, 6), star.hops(6, 5), star.hops(2, 2)] == [2, 1, 1, 0]
    assert star.edges() == [(0, 6), (1, 6), (2, 6), (3, 6)]


def test_a_graph_routes_along_shortest_paths():
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 3)]
    graph = Graph(5, edges)
    reference = nx.Graph(edges)
    for a in range(5):
        for b in range(5):
            assert graph.hops(a, b) == nx.shortest_path_length(reference, a, b) == len(way(graph, a, b)) - 1
    assert graph.edges() == sorted((min(e), max(e)) for e in edges)


def test_of_two_paths_of_one_length_the_lower_neighbour_is_taken():
    square = [(0, 1), (1, 2), (2, 3), (3, 0)]
    for edges in (square, square[::-1]):
        assert way(Graph(4, edges), 0, 2) == [0, 1, 2]


def test_lengths_decide_where_they_are_given():
    kilometres = {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 5.0}
    graph = Graph(3, kilometres, length=lambda a, b: kilometres[a, b])
    assert way(graph, 0, 2) == [0, 1, 2]
    with pytest.raises(ValueError, match="positive"):
        Graph(2, [(0, 1)], length=lambda a, b: 0)


def test_clients_reach_every_replica_of_a_graph_directly():
    line = Graph(3, [(0, 1), (1, 2)])
    assert way(line, 7, 2) == [7, 2]
    assert way(line, 2, 7) == [2, 7]
    assert line.hops(7, 2) == 1


@pytest.mark.parametrize(
    ("edges", "why"),
    [
        ([(0, 1), (2, 3)], "2 parts; no way from replica 0 to replica 2"),
        ([], "4 parts"),
        ([(0, 4)], r"two of 4 replicas, got \(0, 4\)"),
        ([(1, 1)], r"got \(1, 1\)"),
    ],
)
def test_a_graph_must_connect_all_replicas(edges, why):
    with pytest.raises(ValueError, match=why):
        Graph(4, edges)


@pytest.mark.parametrize("generator", GENERATORS)
def test_generated_graphs_are_connected_and_the_same_for_one_seed(generator):
    edges = generated_edges(generator, 20, 4, Chance(5))
    assert edges == generated_edges(generator, 20, 4, Chance(5))
    Graph(20, edges)
    drawn = generator in ("regular", "small-world", "scale-free")
    assert (edges != generated_edges(generator, 20, 4, Chance(6))) == drawn


@pytest.mark.parametrize(
    ("generator", "links", "degrees"),
    [("ring", 12, {2}), ("line", 11, {1, 2}), ("tree", 11, {1, 2, 3, 4}), ("regular", 24, {4})],
)
def test_generated_graphs_have_the_shape_of_their_name(generator, links, degrees):
    edges = generated_edges(generator, 12, 4, Chance(5))
    assert len(edges) == links
    assert {degree for _, degree in nx.Graph(edges).degree} <= degrees


@pytest.mark.parametrize("generator", GENERATORS)
def test_small_networks_are_no_trouble(generator):
    for members in (1, 2, 3):
        if generator in ("ring", "line", "tree"):
            Graph(members, generated_edges(generator, members, 4, Chance(5)))
    if generator not in ("ring", "line", "tree"):
        Graph(3, generated_edges(generator, 3, 2, Chance(5)))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("web", 5, 2), "expected one of ring"),
        (("regular", 5, 3), "degree must be even for 5 nodes"),
        (("scale-free", 4, 4), "less than the 4 nodes"),
        (("ring", 4, 0), "degree must be at least 1"),
        (("ring", 0, 2), "nodes must be at least 1"),
        (("regular", 10, 1), "too rarely"),
    ],
)
def test_impossible_graphs_are_refused(arguments, why):
    with pytest.raises(ValueError, match=why):
        generated_edges(*arguments, Chance(1))
