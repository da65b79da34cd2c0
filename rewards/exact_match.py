"""Is the answer the gold answer, letter for letter? For names, dates and labels, where algebra has no say."""

import unicodedata

from rewards.answers import extract_answer
from rewards.completions import Completion, after_thinking, completion_text
from rewards.correctness import gold_values, warn_of_unusable
from rewards.equivalence import gold_answer

_LONGEST = 20_000


def exact_match_reward(completions: list[Completion], answer=None, solution=None, **kwargs) -> list[float | None]:
    """1.0 where the final answer and the gold are the same text, 0.0 where they are not.

    r = 1[ fold(answer) = fold(gold) ], where fold applies Unicode NFKC and case folding, makes any white space one
    space, and drops final punctuation, quotes and emphasis around the whole. The exact match of SQuAD (Rajpurkar et
    al., 2016, arXiv 1606.05250), without its dropping of articles. The final answer is what `extract_answer` finds,
    else all that follows the thinking.

    Range: 0 or 1, None for an unusable gold

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        answer, solution (`list`): the gold column, B values; `answer` is taken where both are given.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` where the gold is empty or missing.

    Raises:
        `ValueError`: there is no gold column, or it is not as long as `completions`.

    Example:
    >>> from rewards import exact_match_reward
    >>> exact_match_reward(completions=["<answer>  new   YORK.</answer>", "York"], answer=["New York", "New York"])
    [1.0, 0.0]
    """
    columns = {"answer": answer, "solution": solution}
    column, golds = gold_values("exact_match_reward", completions, columns)
    rewards = []
    for completion, gold in zip(completions, golds, strict=True):
        if isinstance(gold, float) and gold.is_integer():
            gold = int(gold)  # a table with gaps makes 42 a 42.0
        wanted = fold(gold_answer(gold))
        text = completion_text(completion)
        found = extract_answer(text) or after_thinking(text) or ""
        unusable = wanted in ("", "nan")
        rewards.append(None if unusable else float(len(found) <= _LONGEST and fold(found) == wanted))
    warn_of_unusable("exact_match_reward", column, golds, rewards)
    return rewards


def fold(text: str) -> str:
    """`text` in Unicode NFKC, without case, with single spaces, without final punctuation, quotes or emphasis."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    before = None
    while folded != before:
        before = folded
        folded = folded.rstrip(".,;:!?。 ").strip('*_`"“”‘’ ')
        if folded.startswith("'") and folded.endswith("'"):
            folded = folded[1:-1]
    return folded
