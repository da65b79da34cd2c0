"""How sure is a mean over problems, and a difference of two?"""

import math

import numpy as np

from recipes.errors import InputError

Z95 = 1.959964  # the normal distribution's 97.5 % quantile
RESAMPLES = 10_000
_AT_ONCE = 1_000_000  # values that are drawn at a time: some 10 MB
_ROUNDING = 1e-12  # a mean nearer to 0 is 0: sums of 0.1, 0.2 and -0.3 are not


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson, 1927); unlike the normal one it never leaves [0, 1]."""
    p, z2 = right / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)  # rounding alone could leave [0, 1]


def mean_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % confidence interval of a mean over problems.

    Wilson's where every value is 0 or 1, else the percentile bootstrap over problems (Efron and Tibshirani, 1993,
    chapter 13) with 10,000 resamples and a fixed seed: the same values in the same order have the same interval.

    Args:
        values (`list[float]`): one finite value for each of n problems, such as its pass@k.

    Returns:
        `tuple[float, float]`: low and high; within the least and the greatest of `values` where the bootstrap is used.

    Raises:
        `InputError`: there are no values.
    """
    if not len(values):
        raise InputError("There is no problem to take a mean of: the samples must have a row that could be judged.")
    if all(value in (0, 1) for value in values):
        return wilson_interval(int(sum(values)), len(values))
    low, high = np.quantile(_resampled_means(values), [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap(a: list[float], b: list[float]) -> dict:
    """Is b better than a on the same problems? The problems are resampled, and each brings both of its values.

    Args:
        a, b (`list[float]`): one finite value for each of n problems, the same problems in the same order.

    Returns:
        `dict`: `n`; `difference`, mean(b) - mean(a); `ci95`, its percentile interval as a list of two floats; `p`, the
            share of 10,000 random turns of the differences' signs that bring a difference as large, in [1 / 10,001, 1]
            (paired randomization test, Fisher, 1935; Dror et al., 2018). Where b wins a handful of problems and loses
            none, the interval is too narrow to be trusted, and p is right.

    Raises:
        `InputError`: there are no problems, or a and b do not have as many.
    """
    if len(a) != len(b) or not len(a):
        raise InputError(f"These runs have {len(a)} and {len(b)} problems: compare two runs on the same problems.")
    differences = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    moved = differences[np.abs(differences) > _ROUNDING]  # the others stay 0, whatever their sign
    random = np.random.default_rng(0)
    as_large = 0
    for start in range(0, RESAMPLES, rows := max(1, _AT_ONCE // max(1, len(moved)))):
        turns = random.integers(2, size=(min(rows, RESAMPLES - start), len(moved)), dtype=np.int8) * 2 - 1
        as_large += int((np.abs(turns @ moved) >= abs(moved.sum()) - _ROUNDING).sum())
    return {
        "n": len(differences),
        "difference": float(differences.mean()),
        "ci95": np.quantile(_resampled_means(differences), [0.025, 0.975]).tolist(),
        "p": (1 + as_large) / (1 + RESAMPLES),
    }


def _resampled_means(values) -> np.ndarray:
    """The means of `RESAMPLES` draws of n values out of `values`, with replacement; shape (RESAMPLES,)."""
    values = np.asarray(values, dtype=float)
    random = np.random.default_rng(0)
    rows = max(1, _AT_ONCE // len(values))
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    draws = (random.integers(len(values), size=(size, len(values)), dtype=np.int32) for size in sizes)
    means = np.concatenate([values[draw].mean(axis=1) for draw in draws])
    return means.clip(values.min(), values.max())  # rounding alone could leave them
