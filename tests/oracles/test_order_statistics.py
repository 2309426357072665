"""The oracle itself against theory, and against tables computed by others."""

from __future__ import annotations

import numpy as np
import order_statistics as oracle
import pytest
from scipy import integrate, stats

RUNS = {4: 60_000, 7: 40_000, 16: 8_000, 31: 2_000}

# (delays, n) -> mean ms of: primary committed, committed over replicas, q-th replica, last replica, client. Computed
# beforehand by an independent script, 400,000 runs (100,000 at n = 31). For N(250, 50) the q-th column also agrees
# within 0.4 % with a re-run of the published simulator of Wang et al. (BFT-Simulator, DSN 2022): 734.3, 770.8, 793.7.
TABLE = {
    ("normal", 4): (709.445, 720.595, 733.536, 763.410, 1201.071),
    ("normal", 7): (761.965, 764.023, 773.356, 800.525, 1243.913),
    ("normal", 16): (786.891, 787.210, 793.735, 817.208, 1266.366),
    ("normal", 31): (794.569, 794.718, 799.537, 819.374, 1273.566),
    ("wide normal", 16): (823.933, 824.562, 837.609, 884.546, 1283.070),
    ("uniform", 4): (1.36611, 1.39284, 1.45674, 1.62275, 2.27813),
    ("uniform", 7): (1.59000, 1.59990, 1.66522, 1.82399, 2.46898),
    ("uniform", 16): (1.74128, 1.74325, 1.79402, 1.93043, 2.59663),
    ("uniform", 31): (1.79492, 1.79518, 1.83281, 1.95263, 2.63833),
    ("exponential", 4): (2.62853, 2.66465, 2.77455, 3.35341, 4.20757),
    ("exponential", 16): (3.33147, 3.36009, 3.45489, 4.23031, 4.80729),
}
SAMPLERS = {
    "normal": oracle.normal(250, 50),
    "wide normal": oracle.normal(250, 100),
    "uniform": oracle.uniform(0, 1),
    "exponential": oracle.exponential(1),
}


def agrees(sample: np.ndarray, expected: float, relative: float = 0.003) -> bool:
    """Within 0.3 %, or within four standard errors where the sample is too small to tell."""
    error = 4 * sample.std() / np.sqrt(len(sample))
    return abs(sample.mean() - expected) < max(relative * expected, error)


@pytest.mark.parametrize(("delays", "n"), TABLE)
def test_the_oracle_agrees_with_the_tables(delays, n):
    times = oracle.simulate(n, SAMPLERS[delays], RUNS[n], seed=1)
    primary, mean, decided, last, client = TABLE[delays, n]
    assert agrees(times.committed[:, 0], primary)
    assert agrees(times.committed.mean(axis=1), mean)
    assert agrees(times.decision(oracle.quorum(n)), decided)
    assert agrees(times.all_commit, last)
    assert agrees(times.client, client)


@pytest.mark.parametrize(
    ("n", "silent", "mean", "client"),
    [
        (4, 1, 809.1, 1310.0),
        (7, 2, 881.6, 1381.2),
        (10, 3, 915.3, 1414.6),
        (16, 1, 802.4, 1284.8),
        (16, 5, 952.0, 1451.5),
    ],
)
def test_the_oracle_agrees_with_the_tables_for_silent_backups(n, silent, mean, client):
    """Normal delays of 250 ms, standard deviation 50; means over the replicas that speak."""
    times = oracle.simulate(n, oracle.normal(250, 50), 8_000, seed=2, silent=silent)
    assert times.committed.shape == (8_000, n - silent)
    assert agrees(times.committed.mean(axis=1), mean)
    assert agrees(times.client, client)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 16, 31])
def test_constant_delays_give_two_three_and_five_delays_everywhere(n):
    times = oracle.simulate(n, oracle.constant(40), 3, seed=1)
    assert np.all(times.prepared == 80)
    assert np.all(times.committed == 120)
    assert np.all(times.client == 200)
    assert np.all(oracle.decision_ms(n, oracle.constant(40), 3, seed=1) == 120)


@pytest.mark.parametrize("n", [4, 7, 16])
def test_the_primary_is_prepared_at_an_order_statistic_of_round_trips(n):
    """E of the (q-1)-th of n-1 round trips, by quadrature: the sum of two normal delays is normal."""
    k, m = oracle.quorum(n) - 1, n - 1
    trip = stats.norm(500, 50 * np.sqrt(2))
    expected = integrate.quad(lambda x: stats.binom.cdf(k - 1, m, trip.cdf(x)), 0, 1000, limit=200)[0]
    assert agrees(oracle.simulate(n, oracle.normal(250, 50), RUNS[n], seed=3).prepared[:, 0], expected)


def test_with_two_replicas_the_decision_takes_the_whole_round():
    """q = 2: both must prepare and commit, and neither can do without the other."""
    times = oracle.simulate(2, oracle.uniform(1, 3), 20_000, seed=4)
    assert agrees(times.prepared[:, 0], 4)
    assert agrees(times.prepared[:, 1], 2)
    assert agrees(oracle.decision_ms(2, oracle.uniform(1, 3), 20_000, seed=4), 6)


def test_alone_a_replica_decides_at_once():
    assert np.all(oracle.decision_ms(1, oracle.constant(40), 3, seed=1) == 0)


def test_runs_split_into_parts_are_all_there(monkeypatch):
    monkeypatch.setattr(oracle, "CELLS", 16 * 10)
    assert oracle.decision_ms(4, oracle.uniform(0, 1), 25, seed=1).shape == (25,)


def test_more_silent_backups_than_a_quorum_can_spare_are_refused():
    with pytest.raises(ValueError, match="no quorum"):
        oracle.simulate(4, oracle.constant(1), 1, seed=1, silent=2)


@pytest.mark.parametrize(
    ("n", "q"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (32, 22), (100, 67)]
)
def test_two_quorums_share_more_than_f_replicas(n, q):
    assert oracle.quorum(n) == q
    assert 2 * q - n > oracle.faults(n)


@pytest.mark.parametrize(("n", "total"), [(4, 24), (7, 84), (10, 180), (16, 480), (31, 1860), (100, 19800)])
def test_message_counts_sum_to_two_n_times_n_minus_one(n, total):
    counts = oracle.message_counts(n)
    assert counts["PrePrepare"] + counts["Prepare"] + counts["Commit"] == total == 2 * n * (n - 1)
    assert counts["Reply"] == n


def test_message_counts_with_faults():
    assert oracle.message_counts(7, silent=2) == {"PrePrepare": 6, "Prepare": 24, "Commit": 30, "Reply": 5}
    assert oracle.checkpoint_messages(4, decided=300, interval=128) == 24
    assert oracle.view_change_messages(7, dead=2) == {"ViewChange": 60, "NewView": 6}
    assert oracle.reply_after_view_change_ms(1, 10, 2000, 1000, 1000) == 3060
    assert oracle.reply_after_view_change_ms(3, 10, 2000, 1000, 1000) == 3060 + 10 + 1000 + 10 + 2000
