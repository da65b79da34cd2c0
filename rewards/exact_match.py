"""Is the answer the gold answer, letter for letter? For names, dates and labels, where algebra has no say."""

import re
import unicodedata

from rewards.answers import extract_answer
from rewards.completions import Completion, after_thinking, completion_text
from rewards.correctness import gold_values, warn_of_unusable
from rewards.equivalence import gold_answer
from rewards.latex import TEXT
from rewards.numerals import INVISIBLE

_LONGEST = 10_000  # characters; normal forms take quadratic time on a heap of accents
_STOPS = ".,;:!?。 "
# Only in pairs: A* is another grade than A, and 5" is no 5.
_PAIRS = {"*": "*", "_": "_", "`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "$": "$"}
# "The answer is the Eiffel Tower": `extract_answer` takes words for an answer only where nothing speaks against it.
_LEAD_IN = re.compile(r"\A(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:final |correct )?answer(?: is\b:?|:) ?")


def exact_match_reward(completions: list[Completion], answer=None, solution=None, **kwargs) -> list[float | None]:
    r"""1.0 where the final answer and the gold are the same text, 0.0 where they are not.

    r = 1[ fold(answer) = fold(gold) ], where fold applies Unicode NFKC and case folding, makes any white space one
    space, and drops invisible characters, final punctuation, and quotes, emphasis, dollar signs or LaTeX's `\text{}`
    around the whole. The exact match of SQuAD (Rajpurkar et al., 2016, arXiv 1606.05250), without its dropping of
    articles. The final answer is what `extract_answer` finds, else all that follows the thinking; "The answer is" in
    front of it is read past.

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
        wanted = fold(gold_text(gold))
        text = completion_text(completion)
        found = extract_answer(text) or after_thinking(text) or ""
        if wanted in ("", "nan"):
            rewards.append(None)
        elif len(found) > _LONGEST:
            rewards.append(0.0)
        else:
            said = fold(found)
            rewards.append(float(wanted in (said, fold(_LEAD_IN.sub("", said)))))
    warn_of_unusable("exact_match_reward", column, golds, rewards)
    return rewards


def gold_text(gold) -> str:
    """The gold as text; a table with gaps has made 42 a 42.0."""
    return gold_answer(int(gold) if isinstance(gold, float) and gold.is_integer() else gold)


def plain(text: str) -> str:
    """`text` in Unicode NFKC, with single spaces, without invisible characters and LaTeX's `\\text{}`."""
    return " ".join(TEXT.sub(r"\1", unicodedata.normalize("NFKC", INVISIBLE.sub("", text))).split())


def fold(text: str) -> str:
    """`text` as `plain` gives it, without case, final punctuation, quotes or emphasis."""
    folded = plain(text).casefold()
    before = None
    while folded != before:
        before = folded
        folded = folded.rstrip(_STOPS)
        if len(folded) > 1 and _PAIRS.get(folded[0]) == folded[-1]:
            folded = folded[1:-1].strip()
    return folded
