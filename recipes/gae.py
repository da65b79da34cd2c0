"""Generalized advantage estimation (Schulman et al., 2016) over the tokens of completions."""

import torch


def compute_gae(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float = 1.0, lam: float = 0.95
) -> torch.Tensor:
    """The advantage of every token over what the critic expected before it.

    A_t = delta_t + gamma * lam * A_{t+1}, where delta_t = r_t + gamma * V_{t+1} - V_t, and V is 0 after the last
    token. Where `mask` is 0 (padding, what a tool wrote) time stands still: the next token that counts is the next one
    in time. Advantages plus values are the returns.

    Args:
        rewards (`torch.Tensor` of shape `(B, T)`): the reward of each token, r_t.
        values (`torch.Tensor` of shape `(B, T)`): the critic's value of the state before each token, V_t.
        mask (`torch.Tensor` of shape `(B, T)`): 1 for the tokens that count, else 0; what stands elsewhere is not read.
        gamma (`float`): discount of later rewards, in [0, 1].
        lam (`float`): 0 trusts the critic after one token, 1 waits for the rewards, in [0, 1].

    Returns:
        `torch.Tensor` of shape `(B, T)`: the advantages, 0 where `mask` is 0, of `rewards`' dtype.

    Source: High-Dimensional Continuous Control Using Generalized Advantage Estimation (1506.02438), equation 16.

    >>> compute_gae(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.5, 0.5]]), torch.ones(1, 3), lam=1.0)
    tensor([[0.5000, 0.5000, 0.5000]])
    """
    advantages = torch.zeros_like(rewards)
    advantage = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.size(1))):
        counts = mask[:, t].bool()
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = torch.where(counts, delta + gamma * lam * advantage, advantage)
        next_value = torch.where(counts, values[:, t], next_value)
        advantages[:, t] = torch.where(counts, advantage, 0)
    return advantages
