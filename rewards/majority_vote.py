"""Does the completion agree with the others of its prompt? For problems without a gold answer, and for maj@k."""

import itertools
from collections import Counter
from collections.abc import Callable

from rewards.answers import extract_answer
from rewards.completions import Completion, completion_text
from rewards.equivalence import are_equivalent
from rewards.length import prompt_groups
from rewards.numerals import clean, read_number, same_number

# Bound, so that no group takes long: pairs of answers that are compared, where the completions are no more than these.
_PAIRS = 64


class _MajorityVoteReward:
    r"""1.0 where the final answer is the one that most completions of the prompt give, 0.0 where it is not.

    r = 1[ extract_answer(completion) = label ], where the label is the answer of more than half of the prompt's
    completions; another share by `get_majority_vote_reward`. No gold answer is used: the label of self-consistency
    (Wang et al., 2022, arXiv 2203.11171) as the reward of test-time RL (TTRL, Zuo et al., 2025, arXiv 2504.16084).
    Answers are one where `is_equivalent` says so: 1/2, 0.5 and \frac12 are one vote each for the same.

    A completion without an answer votes for nothing, and still counts among the completions: 3 equal answers of 8 are
    no majority, whatever the other 5 lack. An answer that could be no gold (`unknown`, broken LaTeX) is none. A group
    is the rows of this batch that have the same prompt. In a run on several processes TRL hands each its own slice: let
    the number of completions per process be a multiple of `num_generations`, or each part of a group votes by itself.
    What most completions say may be wrong, and is then learned: begin with a model that is mostly right.

    Range: 0 or 1, None for a group without a majority

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        prompts (`list[str]` or `list[list[dict]]`): B prompts, as TRL passes them.
        log_extra (`callable`, *optional*): TRL's; gets the label of each completion as a column, "" where there is
            none.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` for the whole group where no answer has the share, where
        two tie for the first place, and where the group is one completion. No warning: it is common, and a group of
        `None` teaches nothing.

    Raises:
        `ValueError`: there are no prompts, or they are not as long as `completions`.

    Example:
    >>> from rewards import majority_vote_reward
    >>> answers = ["<answer>0.5</answer>", "So it is \\boxed{\\frac12}.", "<answer>2</answer>", "#### 1/2", "Hm."]
    >>> majority_vote_reward(completions=answers, prompts=["Half of one?"] * 5)
    [1.0, 1.0, 0.0, 1.0, 0.0]
    """

    __name__ = "majority_vote_reward"

    def __init__(self, min_share: float):
        self.min_share = min_share

    def __call__(
        self,
        completions: list[Completion],
        prompts: list[str] | list[list[dict]] | None = None,
        log_extra=None,
        **kwargs,
    ) -> list[float | None]:
        groups = prompt_groups(self.__name__, prompts, completions)
        answers = [extract_answer(completion_text(completion)) for completion in completions]
        rewards: list[float | None] = [None] * len(completions)
        labels = [""] * len(completions)
        for rows in groups:
            classes = answer_classes([answers[row] for row in rows])
            elected = self._elected(classes)
            if elected is None:
                continue
            label = answers[rows[classes.index(elected)]]
            for row, number in zip(rows, classes, strict=True):
                rewards[row], labels[row] = float(number == elected), label
        if log_extra is not None:
            log_extra("majority_answer", labels)
        return rewards

    def _elected(self, classes: list[int | None]) -> int | None:
        """The class with the most votes; `None` for a tie, too small a share, or a single voter."""
        ranking = Counter(number for number in classes if number is not None).most_common(2)
        is_tie = len(ranking) == 2 and ranking[0][1] == ranking[1][1]
        if len(classes) < 2 or not ranking or is_tie or ranking[0][1] / len(classes) <= self.min_share:
            return None
        return ranking[0][0]


def get_majority_vote_reward(min_share: float = 0.5) -> _MajorityVoteReward:
    """A `majority_vote_reward` for another share of the votes.

    r = 1[ extract_answer(completion) = label ], where the label is the answer that most of the prompt's completions
    give, and more than `min_share` of them (Zuo et al., 2025, arXiv 2504.16084).

    Range: 0 or 1, None for a group without a majority

    Args:
        min_share (`float`): the label needs more than this share of the group's completions, those without an answer
            included, 0 or more and below 1. 0.5 is a literal majority, 0.0 the plurality of TTRL; a higher one leaves
            out more prompts, and more wrong labels. A tie for the first place is no majority at any share.

    Returns:
        a picklable reward function, see `help(rewards.majority_vote_reward)`.

    Raises:
        `ValueError`: `min_share` is no number of at least 0 and below 1.

    Example:
    >>> from rewards import get_majority_vote_reward, majority_vote_reward
    >>> batch = {"completions": ["#### 3", "#### 3", "#### 4", "#### 5"], "prompts": ["1+2?"] * 4}
    >>> get_majority_vote_reward(min_share=0.0)(**batch), majority_vote_reward(**batch)
    ([1.0, 1.0, 0.0, 0.0], [None, None, None, None])
    """
    if isinstance(min_share, bool) or not isinstance(min_share, int | float) or not 0 <= min_share < 1:
        raise ValueError(f"`min_share` must be a number of at least 0 and below 1, not {min_share!r}.")
    return _MajorityVoteReward(float(min_share))


majority_vote_reward = get_majority_vote_reward()


def answer_classes(answers: list[str | None]) -> list[int | None]:
    r"""Which of the answers to one problem are the same answer: the number of each one's class.

    Answers are the same as `is_equivalent` decides. Equal strings and numbers are compared without a limit; of the
    other pairs no more than there are answers, and at least 64, those of the most frequent answers first. So what a
    hostile group takes is bounded, and 11 different answers are always compared in full. The classes do not depend on
    the order of the answers, but for their numbers.

    Args:
        answers (`list[str | None]`): n answers, as `extract_answer` returns them.

    Returns:
        `list[int | None]`: n numbers, from 0 in the order in which the classes appear; `None` for no answer, and for
        one that could be no gold answer (`unknown`, broken LaTeX, more than 1,000 characters).

    Example:
    >>> from rewards.majority_vote import answer_classes
    >>> answer_classes(["1/2", "3", None, "0.5", r"\frac12", "(x+1)^2", "x^2+2x+1", "3.0"])
    [0, 1, None, 0, 0, 2, 2, 1]
    """
    votes = Counter(answer for answer in answers if answer is not None)
    texts = sorted(votes, key=lambda text: (-votes[text], len(text), text))
    texts = [text for text, is_gold in zip(texts, are_equivalent(texts, texts), strict=True) if is_gold]
    numbers = {text: read_number(clean(text)) for text in texts}

    def are_numbers(one: str, other: str) -> bool:
        return numbers[one] is not None and numbers[other] is not None

    by_number = _firsts(texts, lambda one, other: are_numbers(one, other) and same_number(numbers[one], numbers[other]))
    # The first with all others, then the second: the most frequent answer meets every other spelling of itself.
    pairs = itertools.combinations(dict.fromkeys(by_number.values()), 2)
    pairs = [*itertools.islice((pair for pair in pairs if not are_numbers(*pair)), max(_PAIRS, len(answers)))]
    verdicts = are_equivalent([later for _, later in pairs], [first for first, _ in pairs])
    same = {pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict}
    by_algebra = _firsts(by_number.values(), lambda one, other: (other, one) in same)

    places: dict[str, int] = {}
    firsts = [by_algebra[by_number[answer]] if answer in by_number else None for answer in answers]
    return [None if first is None else places.setdefault(first, len(places)) for first in firsts]


def _firsts(texts, same: Callable[[str, str], bool]) -> dict[str, str]:
    """For each text the first that is the same and that is not itself the same as one before it."""
    firsts, found = [], {}
    for text in dict.fromkeys(texts):
        found[text] = next((first for first in firsts if same(text, first)), text)
        if found[text] == text:
            firsts.append(text)
    return found
