"""Generalized advantage estimation against a plain loop, and its limits at lam and gamma 0 and 1."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.gae import compute_gae

unit = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)
junk = st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -7.0])


def random_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards, values and mask in float64: right padding, holes inside, rows that are empty."""
    generator = torch.Generator().manual_seed(seed)
    rows, length = (int(torch.randint(1, high, (), generator=generator)) for high in (6, 16))
    rewards, values = torch.randn(2, rows, length, generator=generator, dtype=torch.float64)
    ends = torch.randint(0, length + 1, (rows, 1), generator=generator)
    written = torch.rand(rows, length, generator=generator) < 0.8
    return rewards, values, ((torch.arange(length) < ends) & written).long()


def loop(rewards, values, mask, gamma, lam) -> torch.Tensor:
    """Equation 16 as it stands, on lists of floats; a token that does not count is not there."""
    advantages = torch.zeros_like(rewards)
    for b in range(len(rewards)):
        times = [t for t in range(mask.size(1)) if mask[b, t]]
        r, v = [float(rewards[b, t]) for t in times], [float(values[b, t]) for t in times] + [0.0]
        delta = [r[i] + gamma * v[i + 1] - v[i] for i in range(len(times))]
        for i, t in enumerate(times):
            advantages[b, t] = sum((gamma * lam) ** (j - i) * delta[j] for j in range(i, len(times)))
    return advantages


def assert_close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@given(seeds, unit, unit)
def test_it_equals_the_plain_loop(seed, gamma, lam):
    batch = random_batch(seed)
    assert_close(compute_gae(*batch, gamma, lam), loop(*batch, gamma, lam))


def test_a_case_by_hand():
    rewards, values = torch.tensor([[1.0, 9.0, 2.0, 9.0]]), torch.tensor([[0.5, 9.0, 1.0, 9.0]])
    mask = torch.tensor([[1, 0, 1, 0]])
    last = 2 - 1
    first = (1 + 0.5 * 1 - 0.5) + 0.5 * 0.5 * last
    assert_close(compute_gae(rewards, values, mask, 0.5, 0.5), torch.tensor([[first, 0, last, 0]]))


@given(seeds)
def test_without_discount_and_with_lam_1_it_is_what_came_minus_what_was_expected(seed):
    rewards, values, mask = random_batch(seed)
    returns = (rewards * mask).flip(1).cumsum(1).flip(1)
    assert_close(compute_gae(rewards, values, mask, 1.0, 1.0), (returns - values) * mask)


@given(seeds, unit)
def test_with_lam_1_advantages_plus_values_are_the_discounted_returns(seed, gamma):
    rewards, values, mask = random_batch(seed)
    returns = loop(rewards, torch.zeros_like(values), mask, gamma, 1.0)
    assert_close(compute_gae(rewards, values, mask, gamma, 1.0) + values * mask, returns)


@given(seeds, unit)
def test_with_lam_0_it_is_the_error_of_one_step(seed, gamma):
    rewards, values, mask = random_batch(seed)
    expected = torch.zeros_like(rewards)
    for b, row in enumerate(mask):
        times = row.nonzero().flatten().tolist()
        for i, t in enumerate(times):
            ahead = values[b, times[i + 1]] if i + 1 < len(times) else 0
            expected[b, t] = rewards[b, t] + gamma * ahead - values[b, t]
    assert_close(compute_gae(rewards, values, mask, gamma, 0.0), expected)


@given(seeds, unit)
def test_with_discount_0_a_token_is_worth_its_own_reward(seed, lam):
    rewards, values, mask = random_batch(seed)
    assert_close(compute_gae(rewards, values, mask, 0.0, lam), (rewards - values) * mask)


@given(seeds, unit, unit, junk, junk)
def test_what_stands_where_the_mask_is_0_is_never_read(seed, gamma, lam, reward, value):
    rewards, values, mask = random_batch(seed)
    expected = compute_gae(rewards, values, mask, gamma, lam)
    spoiled = (rewards.where(mask.bool(), reward), values.where(mask.bool(), value))
    assert torch.equal(compute_gae(*spoiled, mask, gamma, lam), expected)


@given(seeds, unit, unit)
def test_it_is_0_where_the_mask_is_0(seed, gamma, lam):
    rewards, values, mask = random_batch(seed)
    assert not compute_gae(rewards, values, mask, gamma, lam)[mask == 0].any()


@given(seeds, unit, unit)
def test_padding_and_holes_move_nothing(seed, gamma, lam):
    """A row by itself, with only the tokens that count, has the same advantages."""
    rewards, values, mask = random_batch(seed)
    advantages = compute_gae(rewards, values, mask, gamma, lam)
    for b, counts in enumerate(mask.bool()):
        if counts.any():
            alone = [x[b : b + 1, counts] for x in (rewards, values, mask)]
            assert torch.equal(compute_gae(*alone, gamma, lam)[0], advantages[b, counts])


@given(seeds)
def test_a_critic_that_is_right_leaves_no_advantage(seed):
    rewards, _, mask = random_batch(seed)
    values = loop(rewards, torch.zeros_like(rewards), mask, 0.9, 1.0)
    assert_close(compute_gae(rewards, values, mask, 0.9, 0.7), torch.zeros_like(rewards))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask_dtype", [torch.long, torch.bool, torch.float32])
def test_it_keeps_the_dtype_of_the_rewards(dtype, mask_dtype):
    rewards, values, mask = random_batch(3)
    advantages = compute_gae(rewards.to(dtype), values.to(dtype), mask.to(mask_dtype), 0.9, 0.8)
    assert advantages.dtype == dtype
    expected = loop(rewards, values, mask, 0.9, 0.8)
    assert_close(advantages.double(), expected, atol=10 * torch.finfo(dtype).eps * expected.abs().max().item())


def test_its_arguments_are_left_as_they_were():
    batch = random_batch(5)
    copies = [x.clone() for x in batch]
    compute_gae(*batch, 0.9, 0.8)
    assert all(torch.equal(x, copy) for x, copy in zip(batch, copies, strict=True))
