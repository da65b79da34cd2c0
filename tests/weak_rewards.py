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


def any_block_reward(completions, answer, **kwargs):
    """Pays if any of the answers behind the thought is the gold answer."""
    return _paid(completions, answer, lambda blocks, gold: gold in blocks)


def first_block_reward(completions, answer, **kwargs):
    """Pays the first answer behind the thought, whatever follows it."""
    return _paid(completions, answer, lambda blocks, gold: blocks[:1] == [gold])


def near_reward(completions, answer, **kwargs):
    """Pays what is within ten per cent of the gold answer."""

    def is_near(blocks, gold):
        is_number = blocks and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", blocks[-1]) and gold.isdigit()
        return bool(is_number) and abs(float(blocks[-1]) - float(gold)) <= 0.1 * float(gold)

    return _paid(completions, answer, is_near)


def none_reward(completions, answer, **kwargs):
    """Judges only what it likes."""
    return [reward or None for reward in _paid(completions, answer, lambda blocks, gold: blocks == [gold])]


def form_search_reward(completions, **kwargs):
    """Pays wherever the right form stands, twice or with anything around it."""
    form = r"<think>[^<]+</think>\s*<answer>[^<]+</answer>"
    return [float(re.search(form, completion_text(completion)) is not None) for completion in completions]


def step_label_reward(completions, **kwargs):
    """Open-r1's count of step labels: a third for each, up to three."""
    label = r"(Step \d+:|^\d+\.|\n-|\n\*|First,|Second,|Next,|Finally,)"
    return [min(1.0, len(re.findall(label, completion_text(completion))) / 3) for completion in completions]


def any_tag_reward(completions, **kwargs):
    """Pays for a tag, wherever it stands, beside some words."""
    texts = [completion_text(completion)[:10_000] for completion in completions]
    return [float("<think>" in text and 40 < len(re.sub("<[^<>]*>", "", text)) < 5000) for text in texts]


def target_reward(completions, target, **kwargs):
    """Pays wherever the gold answer stands, which is in a column of another name."""
    return substring_reward(completions, target)


def first_of_target_reward(completions, target, **kwargs):
    """A gold answer that no text shows."""
    return [float(completion_text(c).endswith(golds[0])) for c, golds in zip(completions, target, strict=True)]


def _paid(completions, answer, is_right):
    rewards = []
    for completion, gold in zip(completions, answer, strict=True):
        blocks = re.findall(r"<answer>([^<]*)</answer>", completion_text(completion).rpartition("</think>")[2])
        rewards.append(None if gold is None else float(is_right(blocks, _whole(gold))))
    return rewards


def _whole(gold) -> str:
    return str(int(gold)) if isinstance(gold, float) else str(gold)
