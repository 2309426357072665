"""Order statistics: a wave is what the k-th arrivals say it is; bulk mixing and drawing are the plain ones, faster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tradebft.consensus.membership import sizes
from tradebft.network.chance import Chance
from tradebft.network.delays import Broadcasts
from tradebft.network.links import Constant, Lognormal
from tradebft.network.trace import event_value
from tradebft.network.wavefront import bulk
from tradebft.network.wavefront.order import agreement, wave
from tradebft.network.wavefront.weather import Weather

MS = 1_000_000


def matrix(n, value):
    return np.where(np.eye(n, dtype=bool), 0, np.int64(value))


@pytest.mark.parametrize("n", [2, 3, 4, 7, 10, 31])
def test_equal_delays_give_one_hop_a_phase(n):
    """PrePrepare, Prepare, Commit: 3 d after the proposal a replica executes; 4 d after it a checkpoint is stable. With
    two replicas the primary has all Prepares that there are when the backup's arrives, and the backup at once."""
    d, (faults, quorum) = 5 * MS, sizes(n)
    made = wave(7, matrix(n, d), matrix(n, d), faults, quorum)
    assert made.accepted.tolist() == [7, *[7 + d] * (n - 1)]
    alone = quorum - 1 == 1  # its own Prepare is enough for a backup
    prepared = [7 + 2 * d, *[7 + (1 if alone else 2) * d] * (n - 1)]
    assert made.prepared.tolist() == prepared
    if n > 3:
        assert made.executed.tolist() == [7 + 3 * d] * n
        votes = agreement(made.executed, matrix(n, d), quorum)
        assert votes.stable.tolist() == [7 + 4 * d] * n


@st.composite
def delays(draw):
    n = draw(st.integers(2, 10))
    square = arrays(np.int64, (n, n), elements=st.integers(1, 10**9))
    first, second = draw(square), draw(square)
    np.fill_diagonal(first, 0)
    np.fill_diagonal(second, 0)
    return n, first, second


@given(delays())
def test_a_wave_is_what_counting_votes_one_by_one_gives(drawn):
    n, first, second = drawn
    faults, quorum = sizes(n)
    made = wave(0, first, second, faults, quorum)
    prepared, executed = [], []
    for r in range(n):
        accepted = int(first[0, r])
        arrivals = sorted(int(first[0, s]) + int(first[s, r]) for s in range(1, n))
        prepared.append(
            next(
                t
                for t in [accepted, *arrivals]
                if t >= accepted and sum(a <= t for a in arrivals) >= quorum - 1
            )
        )
    for r in range(n):
        arrivals = sorted(prepared[s] + int(second[s, r]) for s in range(n))
        executed.append(
            next(
                t
                for t in sorted([prepared[r], *arrivals])
                if t >= prepared[r] and sum(a <= t for a in arrivals) >= quorum
            )
        )
    assert made.prepared.tolist() == prepared
    assert made.executed.tolist() == executed


@given(delays(), st.integers(0, 2**64 - 1), st.booleans())
def test_mixing_in_bulk_is_mixing_one_by_one(drawn, digest, compiled):
    n, first, times = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "COMPILED", compiled and bulk.COMPILED)
        mixer, halves = bulk.Mixer(), bulk.Mixer()
        mixer.deliveries(3, 1, 12, digest, np.ascontiguousarray(times[1:]))
        found = mixer.total()
        halves.told(
            np.array([5, 64]),
            np.array([12, 12]),
            np.array([digest, 1], dtype=np.uint64),
            np.array([n, 0]),
            first[:2],
        )
        whole = halves.total()
    expected = sum(
        event_value(3, s, 0, 12, digest, r, int(times[s, r])) for s in range(1, n) for r in range(n) if r != s
    )
    assert found % 2**128 == expected % 2**128
    expected = sum(
        event_value(5, r, 0, 12, digest, n, int(first[0, r]))
        + event_value(64, r, 0, 12, 1, 0, int(first[1, r]))
        for r in range(n)
    )
    assert whole % 2**128 == expected % 2**128


@pytest.mark.parametrize("compiled", [False, True])
def test_draws_are_those_of_the_bus(compiled, monkeypatch):
    monkeypatch.setattr(bulk, "COMPILED", compiled and bulk.COMPILED)
    chance, links = Chance(7), Lognormal(5 * MS, 0.4)
    weather = Weather(chance, links, 5)
    senders = [Broadcasts(chance, links, s, [r for r in range(5) if r != s], False) for s in range(5)]
    for _ in range(40):
        row = weather.next()
        assert not row.diagonal().any()
        for sender, broadcasts in enumerate(senders):
            assert np.delete(row[sender], sender).tolist() == broadcasts.next().delays.tolist()


def test_constant_delays_are_constant():
    assert Weather(Chance(1), Constant(3), 4).next().tolist() == matrix(4, 3).tolist()
