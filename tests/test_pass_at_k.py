"""pass@k against counting every subset; maj@k against the votes by hand."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.errors import InputError
from recipes.pass_at_k import majority_at_k, pass_at_k
from rewards.majority_vote import answer_classes


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_all_subsets_that_hold_a_right_one(n):
    for right, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = [any(i < right for i in subset) for subset in itertools.combinations(range(n), k)]
        assert pass_at_k(n, right, k) == sum(subsets) / len(subsets)


def test_pass_at_k_is_exact_where_factorials_are_huge():
    assert pass_at_k(200, 1, 100) == 0.5
    assert pass_at_k(100_000, 1, 1) == 1e-5
    assert pass_at_k(10_000, 1, 9_999) == 0.9999
    assert pass_at_k(10_000, 5_000, 10) == pytest.approx(1 - 0.5**10, abs=1e-5) != 1.0


@settings(max_examples=30)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_rises_from_the_mean_and_stays_within_0_and_1(sample):
    n, right = sample
    rising = [pass_at_k(n, right, k) for k in range(1, n + 1)]
    assert rising == sorted(rising) and rising[0] == right / n and rising[-1] == float(right > 0)


@pytest.mark.parametrize(
    ("classes", "right", "k", "expected", "why"),
    [
        ([0, 0, 1], [1, 1, 0], 3, 1.0, "the majority is right"),
        ([0, 0, 1], [0, 0, 1], 3, 0.0, "the majority is wrong"),
        ([0, 1], [1, 0], 2, 0.5, "one of two tied is right"),
        ([0, 1, 2, 2, 1, 0], [1, 0, 0, 0, 0, 1], 6, 1 / 3, "one of three tied is right"),
        ([0, 1, 1, None], [1, 0, 0, 0], 4, 0.0, "no answer has no vote"),
        ([0, None, None, None], [1, 0, 0, 0], 4, 1.0, "one vote is the most"),
        ([None, None], [0, 0], 2, 0.0, "no vote at all"),
        ([0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 1], 3, 0.5, "the mean of two groups"),
        ([0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0], 2, 1 / 3, "the seventh sample is in no group"),
        ([0, 1, 1, 0, 0], [1, 0, 1, 0, 0], 5, 1.0, "a class is right if its first member is"),
    ],
)
def test_the_most_frequent_class_votes_and_ties_share(classes, right, k, expected, why):
    assert majority_at_k(classes, [bool(verdict) for verdict in right], k) == pytest.approx(expected), why


def test_spellings_of_one_answer_are_one_vote():
    answers = ["1/2", "3", "0.5", "3.0", r"\frac{1}{2}", None]
    right = [True, False, True, False, True, False]
    assert majority_at_k(answer_classes(answers), right, 5) == 1.0
    assert majority_at_k(list(range(5)), right[:5], 5) == 0.6  # as strings they would tie


@settings(max_examples=50)
@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=12))
def test_of_one_sample_the_majority_is_the_sample(classes):
    right = [number == 0 for number in classes]
    assert majority_at_k(classes, right, 1) == pytest.approx(sum(right) / len(right))
    # The shares of the tied sum to 1 over what could be right, where anybody has voted.
    shares = [majority_at_k(classes, [number == each for number in classes], len(classes)) for each in range(3)]
    assert math.isclose(sum(shares), float(any(number is not None for number in classes)))


@pytest.mark.parametrize("measure", [lambda k: pass_at_k(8, 3, k), lambda k: majority_at_k([0] * 8, [True] * 8, k)])
def test_a_k_that_the_samples_do_not_allow_is_one_sentence(measure):
    with pytest.raises(InputError, match=r"^--k 16 needs at least 16 completions a prompt; these samples have 8\.$"):
        measure(16)
    for k in (0, -1):
        with pytest.raises(InputError, match=rf"^--k must be at least 1, not {k}\.$"):
            measure(k)
    assert measure(8) == 1.0
