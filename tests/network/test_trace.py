"""The trace digest: bulk mixing equals the definition, and order does not matter."""

import numpy as np
from event_values import event_value
from hypothesis import given
from hypothesis import strategies as st
from tradebft.network import trace as trace_module
from tradebft.network.trace import TraceDigest

FIELDS = st.tuples(*[st.integers(0, 2**63)] * 7)


@given(st.lists(FIELDS, max_size=30), st.randoms(use_true_random=False))
def test_the_digest_is_the_sum_of_the_events_in_any_order(events, random):
    expected = sum(event_value(*event) for event in events) % 2**128
    random.shuffle(events)
    trace = TraceDigest(4)
    for event in events:
        trace.event(*event)
    assert trace.hex() == f"{expected:032x}"


@given(st.integers(0, 3), st.integers(0, 2**40), st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_a_broadcast_is_its_deliveries_one_by_one(sender, start, delays):
    together, apart = TraceDigest(4), TraceDigest(4)
    together.broadcast(2, sender, 0, 9, 77, start, np.array(delays, dtype=np.int64))
    others = [replica for replica in range(4) if replica != sender]
    for receiver, delay in zip(others, delays, strict=True):
        apart.event(2, sender, 0, 9, 77, receiver, start + delay)
    assert together.hex() == apart.hex()


@given(st.lists(FIELDS, max_size=30), st.lists(FIELDS, max_size=30))
def test_a_withdrawn_delivery_never_happened(happened, withdrawn):
    trace, without = TraceDigest(4), TraceDigest(4)
    for event in withdrawn + happened:
        trace.event(*event)
    for event in withdrawn:
        trace.withdraw(*event)
    for event in happened:
        without.event(*event)
    assert trace.hex() == without.hex()


def test_no_more_than_a_few_thousand_events_wait_to_be_mixed(monkeypatch):
    monkeypatch.setattr(trace_module, "_FLUSH_AT", 3)
    trace = TraceDigest(4)
    for time in range(10):
        trace.event(1, 0, 0, 1, 5, 1, time)
        trace.withdraw(1, 0, 0, 1, 5, 2, time)
        assert max(len(trace._events), len(trace._withdrawn)) < 3
    for time in range(10):
        trace.event(1, 0, 0, 1, 5, 2, time)
        trace.withdraw(1, 0, 0, 1, 5, 1, time)
    assert trace.hex() == TraceDigest(4).hex()


def test_every_field_counts():
    fields = [1, 2, 3, 4, 5, 6, 7]
    values = {event_value(*fields)}
    for place in range(7):
        changed = list(fields)
        changed[place] += 1
        values.add(event_value(*changed))
    assert len(values) == 8
