from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tradebft.network import chance
from tradebft.network.chance import Chance

SNAPSHOT_BITS = [11586602853537022045, 2760706084556594642, 9344645450095830210]
SNAPSHOT_BLOCK = [
    [0.051037219182072824, 0.05985009878172576],
    [0.5081715394889815, 0.4116194388205271],
]


def independent_bits(seed_stream: tuple[int, int], i: int, lane: int) -> int:
    """The module's documented definition, written again with plain integers."""
    k0, k1 = seed_stream
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(x: int) -> int:
        x ^= x >> 30
        x = x * 0xBF58476D1CE4E5B9 & mask
        x ^= x >> 27
        x = x * 0x94D049BB133111EB & mask
        return x ^ x >> 31

    return mix((mix((k0 + i * golden) & mask) ^ k1) + lane * golden & mask)


@pytest.mark.parametrize("start", [0, 1, 12_345, 2**63 - 3, 2**64 - 5])
def test_one_number_and_a_block_give_the_same_bits(start):
    stream = Chance(7).stream("link", 3)
    block = stream.uniforms(start, 5)
    assert block.tolist() == [stream.uniform(start + k) for k in range(5)]
    assert stream.normals(start, 5).tolist() == [stream.normal(start + k) for k in range(5)]


def test_a_block_with_lanes_is_a_function_of_row_and_lane_only():
    stream = Chance(7).stream("link", 3)
    whole = stream.uniform_block(100, 40, 9)
    assert whole.shape == (40, 9)
    assert np.array_equal(whole[7:12, :4], stream.uniform_block(107, 5, 4))
    assert np.array_equal(whole[:, 0], stream.uniforms(100, 40))
    keys = (stream.k0, stream.k1)
    for k, j in [(0, 0), (3, 8), (39, 1)]:
        assert whole[k, j] == ((independent_bits(keys, 100 + k, j) >> 12) + 0.5) * 2.0**-52


def test_the_same_names_give_the_same_stream_and_other_names_another():
    def first(seed, *names):
        return Chance(seed).stream(*names).bits(0)

    assert first(1, "link", 2) == first(1, "link", 2)
    different = [
        first(1, "link", 2),
        first(2, "link", 2),
        first(1, "link", 3),
        first(1, "link", "2"),
        first(1, "link"),
        first(1, "link2"),
        first(1, "lin", "k2"),
        first(1, 2, "link"),
        first(1, "link", -2),
        first(1, "link", 2 + 2**64),
    ]
    assert len(set(different)) == len(different)


def test_snapshot_of_the_first_draws():
    """A snapshot, not an oracle: these numbers may change only with the definition, and every result with them."""
    stream = Chance(1).stream("link", 0, 1)
    assert [stream.bits(i) for i in range(3)] == SNAPSHOT_BITS
    assert stream.uniform_block(5, 2, 2).tolist() == SNAPSHOT_BLOCK


def test_a_seed_out_of_range_is_refused():
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed"):
            Chance(seed)


def test_uniforms_are_inside_the_open_interval_at_both_ends():
    smallest, largest = 0, 2**64 - 1
    assert ((smallest >> 12) + 0.5) * 2.0**-52 > 0
    assert ((largest >> 12) + 0.5) * 2.0**-52 < 1


@pytest.mark.parametrize("names", [("a",), ("link", 0), ("link", 1), ("link", 0, 1)])
def test_draws_are_uniform_along_the_index_and_along_the_lanes(names):
    stream = Chance(11).stream(*names)
    assert stats.kstest(stream.uniforms(0, 50_000), "uniform").pvalue > 1e-4
    assert stats.kstest(stream.uniform_block(3, 1, 50_000)[0], "uniform").pvalue > 1e-4
    assert stats.kstest(stream.uniform_block(9, 250, 200).ravel(), "uniform").pvalue > 1e-4


def test_every_bit_is_set_half_of_the_time():
    stream = Chance(5).stream("bits")
    draws = np.array([stream.bits(i) for i in range(20_000)], dtype=np.uint64)
    for bit in range(64):
        ones = int(((draws >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - 10_000) < 5 * 70.8, f"bit {bit}: {ones}"


def test_streams_indices_and_lanes_are_independent_of_one_another():
    count = 40_000
    limit = 5 / np.sqrt(count)
    source = Chance(3)
    first = source.stream("link", 0).uniforms(0, count)
    for other in (
        source.stream("link", 1).uniforms(0, count),
        source.stream("link", "0").uniforms(0, count),
        Chance(4).stream("link", 0).uniforms(0, count),
        source.stream("link", 0).uniforms(1, count),
        source.stream("link", 0).uniform_block(0, count, 3)[:, 2],
    ):
        assert abs(np.corrcoef(first, other)[0, 1]) < limit
        joint = np.histogram2d(first, other, bins=16)[0]
        assert stats.chisquare(joint.ravel()).pvalue > 1e-4


def test_no_draw_repeats_in_a_large_block():
    block = Chance(3).stream("link", 0).uniform_block(0, 1000, 500)
    assert len(np.unique(block)) == block.size


@pytest.mark.parametrize(
    ("function", "arguments", "theory"),
    [
        (chance.normal, (250.0, 50.0), stats.norm(250, 50)),
        (chance.exponential, (3.0,), stats.expon(scale=3)),
        (chance.lognormal, (18.0, 0.4), stats.lognorm(0.4, scale=18)),
        (chance.triangular, (1.0, 2.0, 5.0), stats.triang(0.25, 1, 4)),
        (chance.triangular, (1.0, 1.0, 5.0), stats.triang(0, 1, 4)),
        (chance.negative_binomial, (30.0, 8.0), stats.nbinom(8, 8 / 38)),
        (chance.negative_binomial, (0.6, 1.3), stats.nbinom(1.3, 1.3 / 1.9)),
        (chance.negative_binomial, (0.04, 0.5), stats.nbinom(0.5, 0.5 / 0.54)),
        (chance.negative_binomial, (20_000.0, 4.0), stats.nbinom(4, 4 / 20_004)),
    ],
)
def test_inverse_cdfs_agree_with_theory_and_with_themselves(function, arguments, theory):
    u = np.concatenate([Chance(2).stream("q").uniforms(0, 2000), [1e-12, 1 - 1e-12]])
    drawn = function(u, *arguments)
    assert drawn == pytest.approx(theory.ppf(u), rel=1e-9, abs=1e-12)
    assert drawn[:40].tolist() == [function(float(x), *arguments) for x in u[:40]]


def test_choice_follows_the_weights_and_never_takes_a_weight_of_zero():
    u = Chance(2).stream("q").uniforms(0, 30_000)
    chosen = chance.choice(u, [1, 0, 2, 1])
    counts = [(chosen == k).sum() for k in range(4)]
    assert counts[1] == 0
    assert stats.chisquare([counts[0], counts[2], counts[3]], [7500, 15000, 7500]).pvalue > 1e-4
    assert chance.choice(0.999999, [1, 0, 2, 1]) == 3
    for weights in ([], [0, 0], [float("inf")]):
        with pytest.raises(ValueError, match="weights"):
            chance.choice(0.5, weights)


def test_triangular_refuses_a_mode_outside_its_ends():
    with pytest.raises(ValueError, match="mode"):
        chance.triangular(0.5, 1, 9, 5)


def test_zipf_weights_fall_as_a_power_of_the_rank():
    weights = chance.zipf_weights(1500, 0.9)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] / weights[9] == pytest.approx(10**0.9)
