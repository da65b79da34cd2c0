"""Does the completion say the same thing again and again?"""

import math
import re

from rewards.completions import Completion, check_column, completion_text

# Scripts that set no spaces between words, as a part of a regular expression's character class:
# Thai and Lao, Myanmar, Khmer; kana and Han; compatibility Han, half-width kana, the rarer Han.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    + "\u3040-\u30ff\u31f0-\u9fff"
    + "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# ASCII, then Latin-1, general and CJK punctuation, then its full-width forms.
_PUNCTUATION = (
    "!-/:-@\\[-`{-~"
    + "\u00a1-\u00bf\u2000-\u206f\u3000-\u303f"
    + "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
# Beyond these: money, letter-like signs, arrows, mathematics, boxes, dingbats; CJK strokes and radicals; signs of
# full width; notes; emoji.
_SYMBOLS = (
    "\u00d7\u00f7\u02c2-\u02df\u20a0-\u20cf\u2100-\u214f\u2190-\u2bff"
    + "\u2e80-\u2fff\u3190-\u319f\u31c0-\u31ef\ufe62-\ufe66\uffe0-\uffee\ufffc\ufffd"
    + "\U0001d000-\U0001d3ff\U0001f000-\U0001fbff"
)
_ALONE = UNSPACED + _PUNCTUATION + _SYMBOLS
# A word is cut after 30 characters: "lalalala..." without a space repeats itself all the same.
_WORD = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]{{1,30}}")
# Bound, so that no completion takes long: tokens, or characters of the text, that are read.
_LONGEST = 100_000


class _RepetitionPenaltyReward:
    """0.0 where no sequence of three tokens stands twice, down towards -1.0 the more of them are repeated.

    r = max_penalty * (1 - distinct n-grams / n-grams), with n = 3 and max_penalty = -1.0; others by
    `get_repetition_penalty_reward`. After the repetition penalty of Yeo et al. (2025, "Demystifying Long
    Chain-of-Thought Reasoning", arXiv 2502.03373, appendix C.2), which falls on each repeated token; here it is one
    number for the completion, as in open-r1 and TRL. A completion of fewer than n tokens repeats nothing: 0.0. Add it
    to a reward for the right answer: alone it pays an empty completion best.

    Range: [max_penalty, 0], never None

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        completion_ids (`list[list[int]]`, *optional*): B lists of token ids, as TRL passes them; the n-grams are of
            tokens then. Without them they are of words in lower case, each punctuation mark and each symbol or emoji
            being a word. A script without spaces (Chinese, Japanese, Thai, ...) is split by character. The first
            100,000 tokens, or characters of the text, are read.

    Returns:
        `list[float]`: B values in [max_penalty, 0.0], never `None`.

    Raises:
        `ValueError`: `completion_ids` is not as long as `completions`.

    Example:
    >>> from rewards import repetition_penalty_reward
    >>> repetition_penalty_reward(completions=["12 and 7 make 19", "so so so so so so"])
    [0.0, -0.75]
    >>> repetition_penalty_reward(completions=["any", "text"], completion_ids=[[1, 2, 3, 4], [5, 5, 5, 5]])
    [0.0, -0.5]
    """

    __name__ = "repetition_penalty_reward"

    def __init__(self, ngram: int, max_penalty: float):
        self.ngram, self.max_penalty = ngram, max_penalty

    def __call__(
        self, completions: list[Completion], completion_ids: list[list[int]] | None = None, **kwargs
    ) -> list[float]:
        if completion_ids is not None:
            check_column("completion_ids", completion_ids, completions)
            return [self._penalty(ids[:_LONGEST]) for ids in completion_ids]
        texts = (completion_text(completion)[:_LONGEST].casefold() for completion in completions)
        return [self._penalty(_WORD.findall(text)) for text in texts]

    def _penalty(self, tokens: list) -> float:
        count = len(tokens) - self.ngram + 1
        if count < 2:
            return 0.0
        distinct = len(set(zip(*(tokens[shift:] for shift in range(self.ngram)), strict=False)))
        return self.max_penalty * (1 - distinct / count) if distinct < count else 0.0


def get_repetition_penalty_reward(ngram: int = 3, max_penalty: float = -1.0) -> _RepetitionPenaltyReward:
    """A `repetition_penalty_reward` for other n-grams or another penalty.

    r = max_penalty * (1 - distinct n-grams / n-grams), 0.0 for fewer than n tokens (after Yeo et al., 2025, C.2)

    Range: [max_penalty, 0], never None

    Args:
        ngram (`int`): how many tokens (or words) in a row are compared, 1 to 100. The more, the milder.
        max_penalty (`float`): the limit that a completion of nothing but repetition comes near, 0 or below.

    Returns:
        a picklable reward function, see `help(rewards.repetition_penalty_reward)`.

    Raises:
        `ValueError`: `ngram` is no whole number from 1 to 100, or `max_penalty` no finite number of 0 or below.

    Example:
    >>> from rewards import get_repetition_penalty_reward
    >>> get_repetition_penalty_reward(ngram=1, max_penalty=-0.5)(completions=["yes no yes no"])
    [-0.25]
    """
    if isinstance(ngram, bool) or not isinstance(ngram, int) or not 1 <= ngram <= 100:
        raise ValueError(f"`ngram` must be a whole number from 1 to 100, not {ngram!r}.")
    if isinstance(max_penalty, bool) or not isinstance(max_penalty, int | float) or not -math.inf < max_penalty <= 0:
        raise ValueError(f"`max_penalty` must be a finite number, 0 or below, not {max_penalty!r}.")
    return _RepetitionPenaltyReward(ngram, float(max_penalty))


repetition_penalty_reward = get_repetition_penalty_reward()
