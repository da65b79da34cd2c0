"""Is the final answer right? The one reward that everything else serves."""

import logging

from rewards.answers import extract_answer, gold_answer, is_equivalent
from rewards.completions import Completion, completion_text

logger = logging.getLogger(__name__)


def correctness_reward(
    completions: list[Completion],
    answer: list | None = None,
    solution: list | None = None,
    log_extra=None,
    **kwargs,
) -> list[float | None]:
    r"""1.0 where the completion's final answer equals the gold answer, 0.0 where it does not.

    r = 1[ number(extract_answer(completion)) = number(gold) ], in exact arithmetic. The accuracy reward of
    DeepSeek-R1 (Guo et al., 2025, section 2.2.2). What stands only inside the thinking is no answer.

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        answer, solution (`list`): the gold column, B values; `answer` is taken where both are given. A value is a
            string, an int, a float, or a worked solution that ends in `#### 72`.
        log_extra (`callable`, *optional*): TRL's; gets the extracted answers and the golds as columns.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` where the gold answer is not a number, so that the
        row cannot be judged (one warning names the first such row).

    Raises:
        `ValueError`: there is no gold column, or it is not as long as `completions`.

    Example:
    >>> from rewards import correctness_reward
    >>> correctness_reward(completions=["<answer>72</answer>", "I think 71. #### 71"], answer=["#### 72", 72])
    [1.0, 0.0]
    """
    column = "answer" if answer is not None else "solution"
    golds = answer if answer is not None else solution
    if golds is None:
        raise ValueError(
            "correctness_reward needs the gold answers: give the data set a column `answer` or `solution`."
        )
    if isinstance(golds, str):
        raise ValueError(f"The column `{column}` is one string: give a list, one gold answer for each completion.")
    if len(golds) != len(completions):
        raise ValueError(f"The column `{column}` has {len(golds)} values for {len(completions)} completions.")
    answers = [extract_answer(completion_text(completion)) for completion in completions]
    verdicts = [is_equivalent(found, gold) for found, gold in zip(answers, golds, strict=True)]
    unusable = [row for row, verdict in enumerate(verdicts) if verdict is None]
    if unusable:
        logger.warning(
            "correctness_reward cannot judge %d of %d rows: the gold answer of row %d, %.80r, is not a number.",
            len(unusable),
            len(golds),
            unusable[0],
            golds[unusable[0]],
        )
    if log_extra is not None:
        log_extra("extracted_answer", [found or "" for found in answers])
        log_extra("gold_answer", [gold_answer(gold) for gold in golds])
    return [None if verdict is None else float(verdict) for verdict in verdicts]
