"""Rewards that people do write, each with a hole that a policy finds. The audit must find it first."""

import re

from rewards.completions import completion_text


def substring_reward(completions, answer, **kwargs):
    """Pays wherever the gold answer's characters stand."""
    return [
        None if gold is None else float(_whole(gold) in completion_text(completion))
        for completion, gold in zip(completions, answer, strict=True)
    ]


def first_number_reward(completions, answer, **kwargs):
    """Pays the first number after the thought, whatever is said behind it."""
    rewards = []
    for completion, gold in zip(completions, answer, strict=True):
        found = re.search(r"-?\d+(\.\d+)?", completion_text(completion).rpartition("</think>")[2])
        rewards.append(None if gold is None else float(found is not None and found[0] == _whole(gold)))
    return rewards


def tag_search_reward(completions, **kwargs):
    """Pays wherever a thought is opened and closed again, empty or repeated."""
    return [float(re.search("<think>.*</think>", completion_text(c), re.DOTALL) is not None) for c in completions]


def length_reward(completions, **kwargs):
    """Pays for length alone."""
    return [min(len(completion_text(completion)) / 2000, 1.0) for completion in completions]


def keyword_reward(completions, **kwargs):
    """Pays for each word that a careful answer would have."""
    words = ("First", "Second", "Step", "Therefore", "because", "Finally", "correct")
    return [float(sum(completion_text(completion).count(word) for word in words)) for completion in completions]


def _whole(gold) -> str:
    return str(int(gold)) if isinstance(gold, float) else str(gold)
