"""The lane: what is in line arrives as if each had been launched by itself."""

from hypothesis import given
from hypothesis import strategies as st
from tradebft.network.virtual_time import Flight, Line, VirtualTime

PLACES = 3
# For whom, and how long after now it is done.
works = st.tuples(st.integers(0, PLACES - 1), st.integers(0, 30))


def network(in_line):
    """A lane that leads to `PLACES` receivers, what they heard, and how to hand one of them work."""
    env, heard = VirtualTime(), []
    lines = [Line(place) for place in range(PLACES)]

    def hand(place, at, message):
        if in_line:
            env.line_up(lines[place], at, message)
        else:
            env.launch(Flight(at, message, [place], [0]))

    def receiver(place):
        def receive(now, message):
            heard.append((now, place, message[0]))
            for k, (other, delay) in enumerate(message[1]):  # what it leads to
                hand(other, now + delay, ((*message[0], k), []))

        return receive

    env.receivers = [receiver(place) for place in range(PLACES)]
    return env, heard, hand


def shown(entries):
    return [(at, number, f.start, f.places, f.delays, f.message) for at, number, f in entries]


@given(st.lists(st.tuples(works, st.lists(works, max_size=3)), max_size=20), st.integers(0, 40))
def test_work_in_line_is_done_in_the_order_of_time_and_handing_in(first, until):
    """Also where the second piece is done before the first: for whoever crashed and is back."""
    stands = []
    for in_line in (True, False):
        env, heard, hand = network(in_line)
        for k, ((place, delay), then) in enumerate(first):
            hand(place, delay, ((k,), then))
        env.timeout(until)
        env.run(until=until + 0.5)
        midway = shown(env.on_its_way())
        assert [f.message for f in env.in_flight()] == [entry[-1] for entry in midway]
        env.run()
        stands.append((heard, midway, env.delivered))
    assert stands[0] == stands[1]


def test_only_the_first_in_line_is_in_the_lane():
    env, heard, hand = network(True)
    for at in range(1000):
        hand(0, at, ((at,), []))
    assert len(env._lane) == 1
    env.run()
    assert [now for now, *_ in heard] == list(range(1000))


def test_what_is_suspended_leaves_its_line():
    env, heard, hand = network(True)
    for at in (10, 20, 30):
        hand(0, at, (("before",), []))
    assert env.suspend() == 3
    assert env.on_its_way() == []
    for at in (5, 40):
        hand(0, at, (("after",), []))
    env.run()
    assert heard == [(5, 0, ("after",)), (40, 0, ("after",))]
