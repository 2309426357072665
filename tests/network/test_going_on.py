"""What another engine began, the reference goes on with: each part of it, beside the comparison of whole runs
(`test_engines`)."""

import numpy as np
import pytest
from tradebft.consensus.pbft.quota import Quota
from tradebft.network.chance import Chance
from tradebft.network.delays import Alone, Broadcasts
from tradebft.network.links import Normal
from tradebft.network.timers import Timers
from tradebft.network.virtual_time import Flight, VirtualTime

LINKS = Normal(5_000_000, 1_000_000)


@pytest.mark.parametrize("lossy", [False, True])
def test_delays_go_on_where_they_stood(lossy):
    chance = Chance(7)
    whole, rest = (Broadcasts(chance, LINKS, 1, [0, 2, 3], lossy, start) for start in (0, 30))
    pair, pair_rest = (Alone(chance, LINKS, 1, 2, lossy, start) for start in (0, 30))
    for _ in range(30):
        whole.next()
        pair.next()
    for _ in range(50):
        one, other = whole.next(), rest.next()
        assert np.array_equal(one.delays, other.delays)
        assert one.places == other.places
        assert lossy is (one.losses is not None)
        assert not lossy or np.array_equal(one.losses, other.losses)
        assert pair.next() == pair_rest.next()


def test_alarms_of_one_instant_go_off_in_the_order_that_they_had():
    env, rung = VirtualTime(), []
    for _ in range(10):
        next(env._eid)
    env.timeout(50).callbacks.append(lambda _: rung.append("an event"))  # its number is 10
    timers = Timers(env, lambda due, endpoint, name: rung.append((due, endpoint, name)))
    timers.resume(1, "late", 50, 50, 11)
    timers.resume(2, "early", 50, 50, 3)
    timers.resume(3, "moved", 70, 50, 4)  # its alarm goes off and is moved to when it runs out
    timers.resume(4, "stopped", -1, 50, 5)
    timers.resume(5, "set again", 60, 60, 6)
    timers.set(0, 5, "set again", 40)
    env.run()
    assert rung == [(40, 5, "set again"), (50, 2, "early"), "an event", (50, 1, "late"), (70, 3, "moved")]


def test_timers_that_are_given_up_ring_elsewhere_at_their_place():
    env, rung = VirtualTime(), []
    timers = Timers(env, lambda due, endpoint, name: rung.append((due, endpoint, name)))
    for endpoint, delay in ((0, 50), (1, 50), (7, 50), (0, 30)):  # the first alarm of 0 stays in the queue
        timers.set(0, endpoint, "a", delay)
    timers.set(0, 1, "b", 40)
    timers.cancel(1, "b")
    given_up = timers.withdraw(range(2))
    assert [one[:4] for one in given_up] == [(0, "a", 30, 30), (1, "a", 50, 50), (1, "b", -1, 40)]
    env.run(until=45)
    assert rung == []
    for one in given_up[1:]:
        if one[3] >= env.time:
            timers.resume(*one)
    env.run()
    assert rung == [(50, 1, "a"), (50, 7, "a")]


def test_draws_that_were_used_are_counted():
    chance = Chance(7)
    said, alone = Broadcasts(chance, LINKS, 1, [0, 2, 3], False, 30), Alone(chance, LINKS, 1, 2, False, 5)
    assert (said.used, alone.used) == (30, 5)
    for _ in range(11):
        said.next()
        alone.next()
    assert (said.used, alone.used) == (41, 16)


def test_messages_on_their_way_arrive_in_the_order_of_their_launching():
    env, heard = VirtualTime(), []
    env.receivers = [lambda now, what, to=to: heard.append((now, what, to)) for to in range(3)]
    flights = [
        (20, 7, Flight(0, "second", [1], [20])),
        (20, 4, Flight(10, "first", [0, 2], [10, 15])),
        (15, 9, Flight(15, "before", [0], [0])),
    ]
    env.resume(12, 100, 9, flights)
    assert (env.time, env.delivered) == (12, 100)
    env.launch(Flight(20, "third", [0], [0]))
    env.run()
    assert heard == [
        (15, "before", 0),
        (20, "first", 0),
        (20, "second", 1),
        (20, "third", 0),
        (25, "first", 2),
    ]
    assert env.delivered == 105


def test_a_quota_goes_on_with_what_was_used():
    whole, rest = Quota(4, 100), Quota(4, 100)
    for now in (0, 10, 120):
        whole.allows(now, 1)
    rest.resume(1, 2, 100)  # three were used, and one had grown back at 100
    asked = [(now, whole.allows(now, 1), rest.allows(now, 1)) for now in (130, 140, 150, 160, 210, 220)]
    assert all(one == other for _, one, other in asked), asked
    assert not all(one for _, one, _ in asked)
