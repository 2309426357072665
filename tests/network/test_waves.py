"""Order statistics: a wave is what the k-th arrivals say it is; bulk mixing and drawing are the plain ones, faster."""

import numpy as np
import pytest
from event_values import event_value
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tradebft.consensus.membership import sizes
from tradebft.network.chance import Chance
from tradebft.network.delays import Broadcasts
from tradebft.network.links import Constant, Lognormal
from tradebft.network.wavefront import bulk
from tradebft.network.wavefront.order import NEVER, Members, agreement, wave
from tradebft.network.wavefront.weather import Weather

MS = 1_000_000


def matrix(n, value):
    return np.where(np.eye(n, dtype=bool), 0, np.int64(value))


@pytest.mark.parametrize("n", [2, 3, 4, 7, 10, 31])
def test_equal_delays_give_one_hop_a_phase(n):
    """PrePrepare, Prepare, Commit: 3 d after the proposal a replica executes; 4 d after it a checkpoint is stable. With
    two replicas the primary has all Prepares that there are when the backup's arrives, and the backup at once."""
    d, everybody = 5 * MS, Members.all(n, *sizes(n))
    quorum = everybody.quorum
    made = wave(7, matrix(n, d), matrix(n, d), everybody)
    assert made.accepted.tolist() == [7, *[7 + d] * (n - 1)]
    alone = quorum - 1 == 1  # its own Prepare is enough for a backup
    prepared = [7 + 2 * d, *[7 + (1 if alone else 2) * d] * (n - 1)]
    assert made.prepared.tolist() == prepared
    if n > 3:
        assert made.executed.tolist() == [7 + 3 * d] * n
        votes = agreement(made.executed, matrix(n, d), everybody)
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
    made = wave(0, first, second, Members.all(n, faults, quorum))
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


def test_who_is_silent_counts_for_itself_and_who_is_gone_for_nobody():
    """Seven members, constant delays: with two silent ones the other five are a quorum, and a sixth that goes would
    leave none."""
    n, d = 7, 5 * MS
    until, mute = np.full(n, NEVER - 1), np.zeros(n, dtype=bool)
    mute[5] = True
    until[6] = d  # it gets the proposal at d, and says Prepare
    made = wave(0, matrix(n, d), matrix(n, d), Members(*sizes(n), until, mute))
    assert made.accepted.tolist() == [0, d, d, d, d, d, d]
    assert made.prepared.tolist() == [2 * d] * 6 + [NEVER]
    assert made.executed.tolist() == [3 * d] * 6 + [NEVER]
    mute[4] = True
    made = wave(0, matrix(n, d), matrix(n, d), Members(*sizes(n), until, mute))
    assert made.executed[:4].tolist() == [NEVER] * 4, "four Commits are no quorum"
    assert made.executed[4] == made.executed[5] == 3 * d, "with its own it has five"


@given(delays(), st.integers(0, 2**64 - 1), st.booleans())
def test_mixing_in_bulk_is_mixing_one_by_one(drawn, digest, compiled):
    n, first, times = drawn
    last = np.full(n, 5 * 10**8)
    rows = np.where(first[:2] > 9 * 10**8, NEVER, first[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "COMPILED", compiled and bulk.COMPILED)
        mixer, halves = bulk.Mixer(), bulk.Mixer()
        mixer.deliveries(3, 1, 12, digest, np.ascontiguousarray(times[1:]), last)
        kinds, digests = np.array([5, 64]), np.array([digest, 1], dtype=np.uint64)
        halves.told(kinds, np.array([12, 12]), digests, np.array([n, 0]), rows)
        found, whole = mixer.total(), halves.total()
    expected = sum(
        event_value(3, s, 0, 12, digest, r, int(times[s, r]))
        for s in range(1, n)
        for r in range(n)
        if r != s and times[s, r] <= last[r]
    )
    assert found % 2**128 == expected % 2**128
    expected = sum(
        event_value(kind, r, 0, 12, value, to, int(rows[i, r]))
        for i, (kind, value, to) in enumerate(((5, digest, n), (64, 1, 0)))
        for r in range(n)
        if rows[i, r] < NEVER
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
