from __future__ import annotations

import pytest
from tradebft.network.faults import Change, Fault, Transition, Weather, transitions
from tradebft.network.twists import Twist

S = 1_000_000_000


def play(faults, members=7):
    """The weather after each transition, as (time, change, weather) with one weather object."""
    weather = Weather(faults, members)
    for transition in transitions(faults):
        yield transition.time_ns, weather.apply(transition), weather


def test_transitions_come_in_order_of_time_and_list():
    faults = [
        Fault(5 * S, 2 * S, "crash", (1,)),
        Fault(1 * S, None, "crash", (2,)),
        Fault(5 * S, 1 * S, "slow", (3,), factor=2),
    ]
    assert transitions(faults) == [
        Transition(1 * S, 0, True, 1),
        Transition(5 * S, 1, True, 0),
        Transition(5 * S, 2, True, 2),
        Transition(6 * S, 3, False, 2),
        Transition(7 * S, 4, False, 0),
    ]


def test_a_node_in_two_overlapping_crashes_comes_back_after_both():
    faults = [Fault(1, 10, "crash", (3, 4)), Fault(5, 10, "crash", (4, 5))]
    seen = [(time, change, [w.up(n) for n in (3, 4, 5)]) for time, change, w in play(faults)]
    assert seen == [
        (1, Change((3, 4), ()), [False, False, True]),
        (5, Change((4, 5), ()), [False, False, False]),  # whoever is down already is struck again
        (11, Change((), (3,)), [True, False, False]),
        (15, Change((), (4, 5)), [True, True, True]),
    ]


def test_a_crash_that_follows_another_without_a_gap_is_one_crash():
    changes = [change for _, change, _ in play([Fault(1, 4, "crash", (0,)), Fault(5, 4, "crash", (0,))])]
    assert changes == [Change((0,), ()), Change((0,), ()), Change((), ()), Change((), (0,))]


def test_a_crash_without_end_lasts():
    *_, (_, _, weather) = play([Fault(1, None, "crash", (0, 0))])
    assert not weather.up(0)


def test_whoever_is_in_no_group_forms_one_more():
    _, _, weather = next(play([Fault(1, 5, "partition", groups=((0, 1), (2, 3)))]))
    sides = [(0, 1), (2, 3), (4, 5, 6)]
    for a in range(7):
        for b in range(7):
            assert weather.connected(a, b) == any(a in side and b in side for side in sides)
    assert weather.partitioned


def test_overlapping_partitions_part_whom_either_parts():
    states = [
        (w.connected(0, 1), w.connected(1, 2), w.connected(0, 2), w.partitioned)
        for _, _, w in play(
            [Fault(1, 10, "partition", groups=((0,),)), Fault(5, 10, "partition", groups=((2,),))]
        )
    ]
    assert states == [
        (False, True, False, True),
        (False, False, False, True),
        (True, False, False, True),
        (True, True, True, False),
    ]


def test_clients_and_relays_that_no_group_names_are_never_parted_from_anybody():
    _, _, weather = next(play([Fault(1, 5, "partition", groups=((0, 1, 2),))], members=7))
    assert weather.connected(0, 7)
    assert weather.connected(9, 6)


def test_a_partition_may_name_clients_as_the_endpoints_behind_the_members():
    weather = Weather([fault := Fault(1, 5, "partition", groups=((0, 7), (1,)))], members=7, endpoints=9)
    weather.apply(transitions([fault])[0])
    assert weather.connected(7, 0)
    assert not weather.connected(7, 1)
    assert not weather.connected(6, 7)
    assert all(weather.connected(8, other) for other in range(8))


def test_one_way_parts_in_one_direction_and_says_so():
    faults = [Fault(1, 10, "one-way", groups=((0,), (1, 2))), Fault(5, 10, "partition", groups=((1,),))]
    states = [(w.cut(0, 1), w.cut(0, 2), w.cut(1, 0), w.cut(0, 3), w.partitioned) for _, _, w in play(faults)]
    assert states == [
        ("one-way", "one-way", None, None, True),
        ("partition", "one-way", "partition", None, True),
        ("partition", None, "partition", None, True),
        (None, None, None, None, False),
    ]


def test_drifts_multiply():
    faults = [Fault(1, 10, "drift", (0, 1), factor=2), Fault(5, 10, "drift", (1,), factor=0.25)]
    states = [(w.drift(0), w.drift(1), w.drift(2), w.drifting) for _, _, w in play(faults)]
    assert states == [(2, 2, 1, True), (2, 0.5, 1, True), (1, 0.25, 1, True), (1, 1, 1, False)]


def test_twists_hold_in_the_order_of_the_list():
    """Whichever began first: the draws of a message go to the faults in one order."""
    faults = [Fault(5, 5, "spike", (3,), loss=0.1, spread_ns=7), Fault(1, 5, "duplicate", loss=0.2)]
    late = Twist("spike", 0.1, 7, frozenset({3}))
    again = Twist("duplicate", 0.2, 0, frozenset())
    assert [w.twists for _, _, w in play(faults)] == [[again], [late, again], [late], []]


def test_factors_multiply_and_a_fault_on_both_ends_counts_once():
    faults = [Fault(1, 10, "slow", (0, 1), factor=10), Fault(5, 10, "slow", (1,), factor=3)]
    states = [
        (w.factor(0), w.factor(1), w.factor(2), w.link_factor(0, 1), w.link_factor(0, 2), w.slowed)
        for _, _, w in play(faults)
    ]
    assert states == [
        (10, 10, 1, 10, 10, True),
        (10, 30, 1, 30, 10, True),
        (1, 3, 1, 3, 1, True),
        (1, 1, 1, 1, 1, False),
    ]


def test_losses_add_as_independent_chances():
    faults = [Fault(1, 10, "slow", (0,), factor=2, loss=0.5), Fault(5, 10, "loss", loss=0.2)]
    states = [(w.loss(0, 1), w.loss(2, 3), w.losing) for _, _, w in play(faults)]
    assert states == [
        (0.5, 0, True),
        (pytest.approx(0.6), pytest.approx(0.2), True),
        (pytest.approx(0.2), pytest.approx(0.2), True),
        (0, 0, False),
    ]


def test_a_slow_fault_without_factor_or_loss_changes_nothing():
    _, change, weather = next(play([Fault(1, 10, "slow", (0,))]))
    assert change == Change((), ())
    assert not weather.slowed
    assert not weather.losing


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"at_ns": -1}, "at must be at least 0"),
        ({"duration_ns": 0}, "for must be above 0"),
        ({"kind": "flood"}, "expected one of crash, partition, one-way, slow, loss"),
        ({"nodes": ()}, "a crash needs at least one node"),
        ({"kind": "partition"}, "a partition needs at least one group"),
        ({"kind": "partition", "groups": ((1, 2), (2,))}, "at most one group"),
        ({"kind": "slow", "factor": 0.5}, "factor must be at least 1"),
        ({"kind": "slow", "factor": float("inf")}, "finite"),
        ({"kind": "loss", "loss": 1.5}, "loss must be from 0 to 1"),
        ({"kind": "drift", "nodes": ()}, "a drift needs at least one node"),
        ({"kind": "drift", "factor": 0}, "factor must be from 0.01 to 10"),
        ({"kind": "drift", "factor": 11}, "factor must be from 0.01 to 10"),
        ({"kind": "one-way", "groups": ((1,),)}, "one-way needs two groups"),
        ({"kind": "one-way", "groups": ((1,), ())}, "one-way needs two groups"),
        ({"kind": "reorder", "loss": 0.5}, "a reorder needs a spread above 0"),
        ({"kind": "spike", "loss": 0.5}, "a spike needs a spread above 0"),
        ({"kind": "duplicate", "loss": 0.5, "spread_ns": -1}, "a duplicate needs a spread"),
    ],
)
def test_impossible_faults_are_refused(arguments, why):
    with pytest.raises(ValueError, match=why):
        Fault(**{"at_ns": 0, "duration_ns": 5, "kind": "crash", "nodes": (1,), **arguments})


def test_a_fault_on_a_node_that_does_not_exist_is_refused():
    for fault in (Fault(0, 1, "crash", (7,)), Fault(0, 1, "partition", groups=((0,), (8,)))):
        with pytest.raises(ValueError, match="no such node"):
            Weather([fault], members=7)
    for fault in (Fault(0, 1, "crash", (7,)), Fault(0, 1, "one-way", groups=((0,), (9,)))):
        with pytest.raises(ValueError, match="no such node"):
            Weather([fault], members=7, endpoints=9)  # only groups may name clients
