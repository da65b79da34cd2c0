"""Best-of-n: of n samples the one that a proxy likes best; the plainest way to optimize a proxy, without training."""

import math

from recipes.errors import InputError


def best_of_n(proxy: list[float], gold: list[float], n: int) -> tuple[float, float]:
    """What the sample that the proxy likes best among n earns, on average over all choices of n of the N samples.

    Without bias, as pass@k is: sorted by the proxy, the i-th of N (from 1) is the best of C(i - 1, n - 1) of the
    C(N, n) subsets (Nakano et al., 2021, 2112.09332, appendix; Gao et al., 2023, 2210.10760, section 2). Among equals
    the order decides, so equals share their mean.

    Args:
        proxy, gold (`list[float]`): what the two rewards give each of the N samples of one prompt.
        n (`int`): 1 to N.

    Returns:
        `tuple[float, float]`: the expected proxy and the expected gold of the best.
    """
    if len(proxy) != len(gold) or not 1 <= n <= len(proxy):
        raise InputError(f"Best of {n} needs at least as many samples of every prompt, not {len(proxy)}.")
    of_equals = {value: [g for p, g in zip(proxy, gold, strict=True) if p == value] for value in set(proxy)}
    ranked = sorted(proxy)
    weights = [math.comb(i, n - 1) / math.comb(len(proxy), n) for i in range(len(proxy))]
    expected = [sum(of_equals[value]) / len(of_equals[value]) for value in ranked]
    return tuple(sum(w * value for w, value in zip(weights, values, strict=True)) for values in (ranked, expected))


def kl_of_best_of_n(n: int) -> float:
    """The most that the KL of best-of-n to the policy that it samples can be, in nats: log n - (n - 1) / n.

    Stiennon et al., 2020, 2009.01325, appendix G.3, have it as the KL itself. It is an upper bound (Beirami et al.,
    2024, 2401.01879, theorem 1), and far above the KL where a few completions make up most of what is sampled.
    """
    return math.log(n) - (n - 1) / n
