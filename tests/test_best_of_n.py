"""Best-of-n from N samples is the mean over every choice of n of them."""

import itertools
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.best_of_n import best_of_n, kl_of_best_of_n
from recipes.errors import InputError

samples = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 1)), min_size=1, max_size=7)


@given(samples, st.data())
def test_it_is_the_mean_over_all_choices_and_equals_share_their_gold(pairs, data):
    n = data.draw(st.integers(1, len(pairs)))
    proxy, gold = ([float(value) for value in values] for values in zip(*pairs, strict=True))
    of_equals = {p: fmean(g for q, g in pairs if q == p) for p, _ in pairs}
    best = [max(choice) for choice in itertools.combinations(proxy, n)]
    expected = fmean(best), fmean(of_equals[value] for value in best)
    assert best_of_n(proxy, gold, n) == pytest.approx(expected)


def test_one_sample_is_the_mean_and_all_of_them_the_maximum():
    assert best_of_n([1.0, 2.0, 6.0], [1.0, 1.0, 0.0], 1) == pytest.approx((3.0, 2 / 3))
    assert best_of_n([1.0, 2.0, 6.0], [1.0, 1.0, 0.0], 3) == (6.0, 0.0)


def test_the_kl_begins_at_zero_and_grows_with_the_logarithm():
    assert kl_of_best_of_n(1) == 0
    assert kl_of_best_of_n(2) == pytest.approx(math.log(2) - 0.5)


@pytest.mark.parametrize("n", [0, 3])
def test_too_many_or_no_samples_are_one_sentence(n):
    with pytest.raises(InputError, match=f"Best of {n} needs"):
        best_of_n([1.0, 2.0], [1.0, 0.0], n)
