"""pass@k and maj@k of one problem, from n samples of it."""

import math
from collections import Counter

from recipes.errors import InputError


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that at least one of k samples is right, without bias.

    pass@k = 1 - C(n - right, k) / C(n, k): the share of the subsets of k samples that hold a right one (Chen et al.,
    2021, arXiv 2107.03374, equation 1). In whole numbers, so exact but for the last division.

    Args:
        n (`int`): samples of the problem.
        right (`int`): how many of them are right, 0 to n.
        k (`int`): 1 to n.

    Returns:
        `float`: in [0, 1].

    Raises:
        `InputError`: k is below 1 or above n.
    """
    _check_k(k, n)
    subsets = math.comb(n, k)
    return (subsets - math.comb(n - right, k)) / subsets


def majority_at_k(classes: list[int | None], right: list[bool], k: int) -> float:
    """The expected share of right majority votes among k samples (self-consistency, Wang et al., 2022, 2203.11171).

    The mean over the n // k disjoint groups of k consecutive samples; the n % k samples behind them are not used. The
    most frequent class of a group is its vote. Where several tie it is drawn among them, so that the group counts
    the share of them that are right; a group without an answer counts 0.

    Args:
        classes (`list[int | None]`): n classes, as `rewards.majority_vote.answer_classes` gives them; `None` for a
            sample without an answer, which has no vote.
        right (`list[bool]`): n verdicts. A class is right if its first member among the n samples is.
        k (`int`): 1 to n.

    Returns:
        `float`: in [0, 1].

    Raises:
        `InputError`: k is below 1 or above n.
    """
    n = len(classes)
    _check_k(k, n)
    is_right: dict[int | None, bool] = {}
    for number, verdict in zip(classes, right, strict=True):
        is_right.setdefault(number, verdict)
    groups = [classes[start : start + k] for start in range(0, n - k + 1, k)]
    return sum(_vote(group, is_right) for group in groups) / len(groups)


def _vote(group: list[int | None], is_right: dict[int | None, bool]) -> float:
    votes = Counter(number for number in group if number is not None)
    most = max(votes.values(), default=0)
    tied = [number for number, count in votes.items() if count == most]
    return sum(is_right[number] for number in tied) / len(tied) if tied else 0.0


def _check_k(k: int, n: int) -> None:
    if k < 1:
        raise InputError(f"--k must be at least 1, not {k}.")
    if k > n:
        raise InputError(f"--k {k} needs at least {k} completions a prompt; these samples have {n}.")
