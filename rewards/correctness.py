"""Is the final answer right? The one reward that everything else serves."""

import logging
import re

from rewards.answers import extract_answer
from rewards.completions import Completion, check_column, completion_text
from rewards.equivalence import are_equivalent, check_timeout, gold_answer

logger = logging.getLogger(__name__)


def get_correctness_reward(
    *,
    gold_column: str | None = None,
    lenient: bool = False,
    timeout: float = 1.0,
    tags: tuple[str | None, str | None] = ("think", "answer"),
):
    r"""`correctness_reward` with other settings.

    r = 1[ extract_answer(completion) = gold ] (Guo et al., 2025, arXiv 2501.12948, section 2.2.2).

    Range: 0 or 1, None for an unusable gold

    Args:
        gold_column (`str`, *optional*): the column of the gold answers; by default `answer`, else `solution`.
        lenient (`bool`): where there is no marker, judge the last number or expression. For evaluation: in training
            it pays for any number. The reward is then called `lenient_correctness_reward`.
        timeout (`float`): seconds that comparing one pair of expressions may take; then the completion gets 0.0. The
            start of the worker processes, about a second and once, is not counted.
        tags (`tuple`): the names of the tags around the thought and around the answer; `None` for no such tag.

    Returns:
        A reward function that pickles; see `correctness_reward`.

    Raises:
        `ValueError`: an impossible `timeout`, `tags` or `gold_column`.

    Example:
    >>> from rewards import get_correctness_reward
    >>> reward = get_correctness_reward(gold_column="target", tags=("reasoning", "final"))
    >>> reward(completions=["<reasoning>6*7</reasoning><final>42</final>"], target=["42"])
    [1.0]
    """
    return _CorrectnessReward(gold_column, lenient, timeout, tags)


class _CorrectnessReward:
    r"""1.0 where the completion's final answer equals the gold answer, 0.0 where it does not.

    r = 1[ extract_answer(completion) = gold ], as `is_equivalent` decides. The accuracy reward of DeepSeek-R1 (Guo et
    al., 2025, arXiv 2501.12948, section 2.2.2). What stands only inside the thinking is no answer. The expressions of
    a batch that need algebra are compared in parallel.

    Range: 0 or 1, None for an unusable gold

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        answer, solution (`list`): the gold column, B values; `answer` is taken where both are given. A value is a
            string, LaTeX with or without dollar signs, an int, a float, or a worked solution that ends in `#### 72`
            or `\boxed{72}`.
        log_extra (`callable`, *optional*): TRL's; gets the extracted answers and the golds as columns.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` where the gold answer is unusable, so that the row cannot
        be judged (one warning names the first such row).

    Raises:
        `ValueError`: there is no gold column, or it is not as long as `completions`.

    Example:
    >>> from rewards import correctness_reward
    >>> correctness_reward(completions=["<answer>72</answer>", "I think 71. #### 71"], answer=["#### 72", 72])
    [1.0, 0.0]
    >>> correctness_reward(completions=[r"So it is \boxed{(x-1)^2}."], solution=["x^2 - 2x + 1"])
    [1.0]
    """

    def __init__(self, gold_column, lenient, timeout, tags):
        if gold_column is not None and not (isinstance(gold_column, str) and gold_column):
            raise ValueError(f"gold_column must be the name of a column, not {gold_column!r}.")
        names = tags if isinstance(tags, tuple | list) else ()
        are_names = all(name is None or (isinstance(name, str) and re.fullmatch(r"[^\s<>/]+", name)) for name in names)
        if len(names) != 2 or not are_names or (names[0] == names[1] is not None):
            raise ValueError(
                "tags must be the names of the thought's and the answer's tags, without < and >, or None: "
                f"for example ('think', 'answer'), not {tags!r}."
            )
        if not isinstance(lenient, bool):
            raise ValueError(f"lenient must be True or False, not {lenient!r}.")
        check_timeout(timeout)
        self.gold_column, self.lenient, self.timeout, self.tags = gold_column, lenient, timeout, tuple(tags)
        # Beside the strict one in a trainer, its metrics and its columns need names of their own.
        self.prefix = "lenient_" if lenient else ""
        self.__name__ = f"{self.prefix}correctness_reward"

    def __call__(
        self, completions: list[Completion], *, answer=None, solution=None, log_extra=None, **columns
    ) -> list[float | None]:
        columns |= {"answer": answer, "solution": solution}
        column, golds = gold_values(self.__name__, completions, columns, self.gold_column)
        texts = [completion_text(completion, self.tags[0]) for completion in completions]
        answers = [extract_answer(text, lenient=self.lenient, tags=self.tags) for text in texts]
        verdicts = are_equivalent(answers, golds, timeout=self.timeout)
        if log_extra is not None:
            log_extra(f"{self.prefix}extracted_answer", [found or "" for found in answers])
            log_extra(f"{self.prefix}gold_answer", [gold_answer(gold) for gold in golds])
        rewards = [None if verdict is None else float(verdict) for verdict in verdicts]
        warn_of_unusable(self.__name__, column, golds, rewards)
        return rewards

    def __repr__(self):
        return f"<{self.__name__}>"


def gold_values(reward: str, completions: list, columns: dict, gold_column: str | None = None) -> tuple[str, list]:
    """The name and the values of the gold column among `columns`, as long as `completions`."""
    names = [gold_column] if gold_column else ["answer", "solution"]
    given = [name for name in names if columns.get(name) is not None]
    if not given:
        wanted = " or ".join(f"`{name}`" for name in names)
        another = "" if gold_column or reward != "correctness_reward" else ", or name another by gold_column"
        raise ValueError(f"{reward} needs the gold answers: give the data set a column {wanted}{another}.")
    for name in given:
        check_column(name, columns[name], completions)
    return given[0], columns[given[0]]


def warn_of_unusable(reward: str, column: str, golds: list, rewards: list[float | None]) -> None:
    """One warning that names the first row whose gold cannot be used."""
    unusable = [row for row, value in enumerate(rewards) if value is None]
    if unusable:
        logger.warning(
            "%s cannot judge %d of %d rows: `%s` of row %d, %s, is no usable gold answer.",
            reward,
            len(unusable),
            len(rewards),
            column,
            unusable[0],
            _shown(golds[unusable[0]]),
        )


def _shown(gold) -> str:
    try:
        return f"{gold!r:.80}"
    except ValueError:  # an int of more than 4,300 digits
        return "an int of too many digits"


correctness_reward = get_correctness_reward()
