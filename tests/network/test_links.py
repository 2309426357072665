from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tradebft.network.chance import Chance
from tradebft.network.cities import CITIES, GUIZHOU, distance_km, placement
from tradebft.network.links import (
    MAX_DELAY_NS,
    Constant,
    Distance,
    Lognormal,
    Normal,
    Uniform,
    link_model,
)

MS = 1_000_000
RECEIVERS = np.array([1, 2, 3], dtype=np.int64)
EXTREMES = np.array([[2.0**-53] * 3, [0.5] * 3, [1 - 2.0**-53] * 3])
PLACES = ("Guiyang", "Zunyi", "Beijing", "Shanghai")

MODELS = [
    Constant(5 * MS),
    Uniform(3 * MS, 9 * MS),
    Normal(250 * MS, 50 * MS),
    Normal(250 * MS, 10 * MS),
    Lognormal(18 * MS, 0.4),
    Distance(PLACES),
    Distance(("Guiyang", "Guiyang", "Beijing", "Shanghai")),
]


@pytest.mark.parametrize("model", MODELS)
def test_delays_are_whole_ns_and_never_below_the_minimum(model):
    u = np.concatenate([EXTREMES, Chance(1).stream("u").uniform_block(0, 2000, 3)])
    for sender in range(4):
        others = np.array([place for place in range(4) if place != sender])
        delays = model.delays(sender, others, u)
        assert delays.dtype == np.int64
        assert delays.shape == u.shape
        assert delays.min() >= model.minimum_ns >= 0


@pytest.mark.parametrize("model", MODELS)
def test_delays_grow_with_the_draw_and_do_not_depend_on_the_block(model):
    u = np.sort(Chance(1).stream("u").uniform_block(0, 500, 3), axis=0)
    block = model.delays(0, RECEIVERS, u)
    assert np.all(np.diff(block, axis=0) >= 0)
    one_by_one = [
        [int(model.delays(0, RECEIVERS[j : j + 1], u[k, j : j + 1])[0]) for j in range(3)] for k in range(9)
    ]
    assert block[:9].tolist() == one_by_one


@pytest.mark.parametrize(
    ("model", "theory"),
    [
        (Uniform(3 * MS, 9 * MS), stats.uniform(3 * MS, 6 * MS)),
        (Normal(250 * MS, 50 * MS), stats.norm(250 * MS, 50 * MS)),
        (Lognormal(18 * MS, 0.4), stats.lognorm(0.4, scale=18 * MS)),
    ],
)
def test_delays_have_the_distribution_asked_for(model, theory):
    delays = model.delays(0, RECEIVERS, Chance(8).stream("link", 0).uniform_block(0, 10_000, 3))
    assert stats.kstest(delays.ravel(), theory.cdf).pvalue > 1e-4


def test_a_normal_draw_below_zero_counts_as_zero():
    model = Normal(50, 50)
    delays = model.delays(0, RECEIVERS, Chance(8).stream("link", 0).uniform_block(0, 10_000, 3))
    assert model.minimum_ns == 0
    assert delays.min() == 0
    assert np.mean(delays == 0) == pytest.approx(stats.norm.cdf(-0.99), abs=0.01)


def test_the_minimum_is_how_far_a_simulation_may_look_ahead():
    assert Constant(5 * MS).minimum_ns == 5 * MS
    assert Uniform(3 * MS, 9 * MS).minimum_ns == 3 * MS
    assert Normal(250 * MS, 10 * MS).minimum_ns == pytest.approx((250 - 82.1) * MS, rel=1e-3)
    assert 0 < Lognormal(18 * MS, 0.4).minimum_ns < MS
    near = distance_km("Guiyang", "Zunyi") * 1.6 / (299792.458 / 1.468) * 1e9
    assert Distance(PLACES).minimum_ns == pytest.approx(MS + near, abs=2)
    assert Distance(("Guiyang", "Guiyang", "Beijing")).minimum_ns == MS
    assert Distance(("Guiyang",)).minimum_ns == MS


def test_distance_is_fibre_plus_overhead_plus_jitter():
    still = Distance(PLACES, route_factor=1.5, overhead_ns=2 * MS, jitter_ns=0)
    delays = still.delays(2, np.array([3, 2]), np.array([[0.1, 0.9]]))[0]
    # Beijing to Shanghai: 1067 km of great circle, 1600 km of fibre at 204,218 km/s
    assert delays[0] == pytest.approx(2 * MS + 1067 * 1.5 / 204_218 * 1e9, rel=0.002)
    assert delays[1] == 2 * MS
    restless = Distance(PLACES, jitter_ns=MS)
    extra = restless.delays(0, np.array([0]), Chance(1).stream("j").uniform_block(0, 20_000, 1)) - MS
    assert stats.kstest(extra.ravel(), stats.expon(scale=MS).cdf).pvalue > 1e-4


def test_the_longest_delays_are_cut_so_that_times_stay_in_64_bits():
    assert Lognormal(3600 * 10**9, 5).delays(0, RECEIVERS, EXTREMES).max() == MAX_DELAY_NS


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Constant(-1), "delay must be from 0"),
        (lambda: Constant(MAX_DELAY_NS + 1), "delay must be"),
        (lambda: Uniform(-1, 5), "low must be from 0"),
        (lambda: Uniform(6, 5), r"low must be at most high \(5 ns\), got 6 ns"),
        (lambda: Normal(5, -1), "std must be from 0"),
        (lambda: Lognormal(5, float("nan")), "sigma must be from 0 to 5, got nan"),
        (lambda: Lognormal(-5, 0), "median must be"),
        (lambda: Distance(("Guiyang", "Atlantis")), "places: 'Atlantis'"),
        (lambda: Distance(PLACES, route_factor=0.5), "route_factor must be from 1 to 10"),
        (lambda: Distance(PLACES, jitter_ns=-1), "jitter must be"),
        (lambda: link_model("wormhole", {}), "expected one of constant, uniform"),
        (lambda: link_model("constant", {"delay": 5}), "constant: .*delay"),
        (lambda: link_model("normal", {"mean_ns": 5}), "std_ns"),
    ],
)
def test_impossible_values_are_refused_by_name_and_limit(build, field):
    with pytest.raises(ValueError, match=field):
        build()


def test_models_are_made_by_name_and_get_the_places_if_they_take_them():
    assert link_model("constant", {"delay_ns": 7}, PLACES) == Constant(7)
    assert link_model("distance", {"jitter_ns": 0}, PLACES) == Distance(PLACES, jitter_ns=0)


OWN_MODEL = """
import numpy as np

class Snail:
    minimum_ns = 10

    def __init__(self, slime, places):
        self.slime, self.places = slime, places

    def delays(self, sender, receivers, u):
        return np.full(u.shape, 10 + self.slime, dtype=np.int64)
"""


def test_a_class_of_your_own_may_be_named_as_a_model(tmp_path, monkeypatch):
    (tmp_path / "own_snail_model.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    model = link_model("own_snail_model:Snail", {"slime": 3}, PLACES)
    assert model.delays(0, RECEIVERS, EXTREMES).tolist() == [[13] * 3] * 3
    assert model.places == PLACES
    with pytest.raises(ImportError, match="no 'Slug'"):
        link_model("own_snail_model:Slug", {})


@pytest.mark.parametrize(
    ("a", "b", "kilometres"),
    [
        ("Beijing", "Shanghai", 1067),
        ("Beijing", "Guangzhou", 1888),
        ("Guiyang", "Beijing", 1730),
        ("Guiyang", "Chongqing", 324),
        ("Shanghai", "Shenzhen", 1214),
        ("Urumqi", "Shanghai", 3270),
        ("Guiyang", "Zunyi", 123),
    ],
)
def test_great_circle_distances_are_the_known_ones(a, b, kilometres):
    assert distance_km(a, b) == pytest.approx(kilometres, rel=0.01)
    assert distance_km(a, b) == pytest.approx(distance_km(b, a))


def test_the_cities_are_in_china_and_guizhous_seats_are_in_guizhou():
    assert len(CITIES) >= 30
    assert all(18 <= lat <= 54 and 73 <= lon <= 136 for lat, lon in CITIES.values())
    assert len(set(GUIZHOU)) == 9
    assert all(24.6 <= CITIES[seat].latitude <= 29.3 for seat in GUIZHOU)
    assert all(103.6 <= CITIES[seat].longitude <= 109.7 for seat in GUIZHOU)
    assert all(distance_km("Guiyang", seat) < 300 for seat in GUIZHOU)


def test_members_are_placed_in_guizhou_unless_told_otherwise():
    names = ["administrator", "policy_bank", *(f"commercial_bank.{i}" for i in range(1, 11))]
    cities = placement(names, {"commercial_bank.2": "Shanghai", "replica.0": "Beijing"})
    assert cities[:5] == ["Beijing", "Guiyang", "Zunyi", "Shanghai", "Anshun"]
    assert cities[-2:] == ["Guiyang", "Zunyi"]
    assert set(placement([f"replica.{i}" for i in range(9)])) == set(GUIZHOU)
    with pytest.raises(ValueError, match="'Atlantis'"):
        placement(names, {"policy_bank": "Atlantis"})
    with pytest.raises(ValueError, match=r"'replica\.12' is none of the 12"):
        placement(names, {"replica.12": "Beijing"})
