"""Intervals that hold the truth as often as they say, and a comparison that never says "impossible"."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import InputError
from recipes.intervals import mean_interval, paired_bootstrap, wilson_interval

RATES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0]), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe (1998), table I, method 3 (the score interval without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_wilson_interval_is_that_of_the_literature(right, n, low, high):
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=50)
@given(st.integers(1, 2_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_holds_the_proportion_and_stays_within_0_and_1(counts):
    right, n = counts
    low, high = wilson_interval(right, n)
    assert 0.0 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1.0
    assert wilson_interval(n - right, n) == pytest.approx((1 - high, 1 - low))


def test_the_wilson_interval_of_all_right_ends_at_1_and_not_beyond():
    assert wilson_interval(400, 400)[1] == 1.0 and wilson_interval(0, 400)[0] == 0.0
    for n in range(1, 400):
        assert 0.0 <= wilson_interval(0, n)[0] < 1e-15 and 1 - 1e-15 < wilson_interval(n, n)[1] <= 1.0


def test_the_wilson_interval_holds_the_truth_19_times_of_20():
    n, truths = 50, [i / 40 for i in range(1, 40)]
    intervals = [wilson_interval(right, n) for right in range(n + 1)]
    covered = [
        sum(
            math.comb(n, right) * truth**right * (1 - truth) ** (n - right)
            for right, (low, high) in enumerate(intervals)
            if low <= truth <= high
        )
        for truth in truths
    ]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)


def test_a_mean_of_zeros_and_ones_has_wilsons_interval():
    assert mean_interval([1.0, 0.0, 0.0, True]) == wilson_interval(2, 4)
    assert mean_interval([1.0] * 20) == wilson_interval(20, 20)  # where a bootstrap would say: 1 to 1
    assert mean_interval([1.0, 0.0, 0.0, 0.5]) != wilson_interval(1, 4)


@settings(max_examples=25)
@given(RATES)
def test_the_interval_of_a_mean_holds_it_and_stays_within_the_values(values):
    low, high = mean_interval(values)
    assert low <= sum(values) / len(values) + 1e-12 and sum(values) / len(values) - 1e-12 <= high
    if set(values) - {0.0, 1.0}:
        assert min(values) <= low <= high <= max(values)
    assert mean_interval(values) == (low, high)


def test_rounding_moves_no_end_beyond_the_values():
    assert mean_interval([0.1] * 3) == (0.1, 0.1)


def test_the_bootstrap_holds_the_truth_about_19_times_of_20():
    random = np.random.default_rng(0)
    rates = random.binomial(8, random.beta(0.5, 1.0, size=(100, 50))) / 8  # pass rates of 50 problems, 100 times
    held = [low <= 1 / 3 <= high for low, high in map(mean_interval, rates.tolist())]
    assert 0.90 <= sum(held) / len(held) <= 0.99


def test_the_bootstrap_is_as_wide_as_the_normal_interval_of_many_problems():
    values = [(i % 9) / 8 for i in range(900)]
    low, high = mean_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * np.std(values) / 30, rel=0.05)


def test_thousands_of_problems_need_little_memory():
    tracemalloc.start()
    low, high = mean_interval([(i % 9) / 8 for i in range(4_000)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert low < 0.5 < high and peak < 50 * 2**20  # all resamples at once would be 480 MB


def test_a_clear_gain_a_clear_loss_and_no_difference():
    worse, better = [0.0] * 50 + [1.0] * 50, [0.0] * 20 + [1.0] * 80
    gain, loss = paired_bootstrap(worse, better), paired_bootstrap(better, worse)
    assert gain["difference"] == pytest.approx(0.3) and 0.2 < gain["ci95"][0] < 0.3 < gain["ci95"][1] < 0.4
    assert gain["p"] == loss["p"] == 1 / 10_001  # never 0
    assert [-end for end in loss["ci95"]] == pytest.approx(gain["ci95"][::-1], abs=0.011)
    assert paired_bootstrap(worse, worse) == {"n": 100, "difference": 0.0, "ci95": [0.0, 0.0], "p": 1.0}


def test_pairs_are_kept_together():
    """A gain of 0.1 on each problem is sure, however much the problems differ."""
    a = [i / 100 for i in range(90)]
    figures = paired_bootstrap(a, [value + 0.1 for value in a])
    assert figures["ci95"] == pytest.approx([0.1, 0.1]) and figures["p"] == 1 / 10_001
    shuffled = paired_bootstrap(a, [value + 0.1 for value in a[::-1]])
    assert shuffled["difference"] == pytest.approx(0.1) and shuffled["p"] > 0.05


@pytest.mark.parametrize("won", [1, 2, 4, 6])
def test_p_of_a_few_problems_won_and_none_lost_is_that_of_an_exact_test(won):
    """McNemar's: each of them could as well have been lost, so 2 / 2^won."""
    figures = paired_bootstrap([0.0] * 400, [1.0] * won + [0.0] * (400 - won))
    assert figures["p"] == pytest.approx(min(1.0, 2 / 2**won), abs=0.015)


def test_rounding_alone_is_no_difference():
    assert paired_bootstrap([0.3] * 3, [0.1 + 0.2] * 3)["p"] == 1.0


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0])] * 2), min_size=1, max_size=30))
def test_turning_round_turns_the_sign(pairs):
    a, b = [one for one, _ in pairs], [other for _, other in pairs]
    figures, turned = paired_bootstrap(a, b), paired_bootstrap(b, a)
    low, high = figures["ci95"]
    assert low - 1e-12 <= figures["difference"] <= high + 1e-12
    assert turned["difference"] == -figures["difference"] and turned["p"] == figures["p"]
    assert 0.0 < figures["p"] <= 1.0


def test_figures_are_the_same_every_time_and_plain_numbers():
    a, b = [0.1, 0.9, 0.4] * 9, [0.3, 0.8, 0.6] * 9
    figures = paired_bootstrap(a, b)
    assert figures == paired_bootstrap(a, b)
    assert all(type(value) is float for value in (figures["difference"], figures["p"], *figures["ci95"]))
    assert all(type(value) is float for value in itertools.chain(mean_interval(a), mean_interval([1, 0])))


def test_problems_that_are_missing_are_one_sentence():
    with pytest.raises(InputError, match="no problem to take a mean of"):
        mean_interval([])
    for a, b in (([1.0], []), ([], []), ([1.0], [1.0, 0.0])):
        with pytest.raises(InputError, match=f"have {len(a)} and {len(b)} problems: compare two runs on the same"):
            paired_bootstrap(a, b)
