"""Is the completion as short as it can be? Each of these goes beside a reward for the right answer."""

import hashlib
import json
import math
from collections import defaultdict

from rewards.completions import Completion, check_column, completion_text
from rewards.correctness import correctness_reward


def length_reward(
    completions: list[Completion],
    prompts: list[str] | list[list[dict]] | None = None,
    completion_ids: list[list[int]] | None = None,
    answer: list | None = None,
    solution: list | None = None,
    **kwargs,
) -> list[float | None]:
    r"""Short beats long among the completions of one prompt, and only a right answer gains by it.

    λ = 0.5 - (len - min_len) / (max_len - min_len), with the lengths of the prompt's own group; a right completion
    gets λ, a wrong one min(0, λ). A group whose completions are all of one length gets 0. The length penalty of
    Kimi k1.5 (Kimi Team, 2025, arXiv 2501.12599, section 2.3.3). Add it to `correctness_reward` with a weight below
    1, for by itself it ranks a short wrong answer above a long right one.

    The length is in tokens where `completion_ids` is given, else in characters: λ only compares, so the unit does not
    matter, and words would make a Chinese text one word long. A group is the rows of this batch that have the same
    prompt. In a run on several processes TRL hands each its own slice: let the number of completions per process be
    a multiple of `num_generations`, or a group is split and each part is compared within itself.

    Range: [-0.5, 0.5], None for a group with an unusable gold

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        prompts (`list[str]` or `list[list[dict]]`): B prompts, as TRL passes them.
        completion_ids (`list[list[int]]`, *optional*): B lists of token ids, as TRL passes them.
        answer, solution (`list`): the gold column, B values, read as `correctness_reward` reads it.

    Returns:
        `list[float | None]`: B values in [-0.5, 0.5]; `None` for the whole group of a gold answer that
        cannot be read.

    Raises:
        `ValueError`: there are no prompts or no gold column, or one is not as long as `completions`.

    Example:
    >>> from rewards import length_reward
    >>> answers = ["<answer>5</answer>", "It is <answer>5</answer>", "<answer>6</answer>"]
    >>> length_reward(completions=answers, prompts=["2+3?"] * 3, answer=["5"] * 3)
    [0.5, -0.5, 0.0]
    """
    groups = prompt_groups("length_reward", prompts, completions)
    if completion_ids is None:
        lengths = [len(completion_text(completion)) for completion in completions]
    else:
        lengths = _token_counts("length_reward", completion_ids, completions)
    verdicts = correctness_reward(completions=completions, answer=answer, solution=solution)

    rewards: list[float | None] = [None] * len(completions)
    for rows in groups:
        if any(verdicts[row] is None for row in rows):
            continue
        shortest, longest = min(lengths[row] for row in rows), max(lengths[row] for row in rows)
        for row in rows:
            value = 0.5 - (lengths[row] - shortest) / (longest - shortest) if longest > shortest else 0.0
            rewards[row] = value if verdicts[row] else min(0.0, value)
    return rewards


def prompt_groups(reward: str, prompts: list | None, completions: list[Completion]) -> list[list[int]]:
    """The rows of each prompt; a `ValueError` that names `reward` where there are no prompts."""
    if prompts is None:
        raise ValueError(f"{reward} compares the completions of one prompt: give `prompts`, as TRL does.")
    check_column("prompts", prompts, completions)
    groups = defaultdict(list)
    for row, prompt in enumerate(prompts):
        groups[prompt if isinstance(prompt, str) else json.dumps(prompt, default=_fingerprint)].append(row)
    return list(groups.values())


def _fingerprint(value) -> str:
    """What stands for an image in a prompt's key: its content, for it is loaded anew for each row."""
    return hashlib.sha256(value.tobytes()).hexdigest() if hasattr(value, "tobytes") else repr(value)


class _CosineLengthReward:
    r"""A right answer gains by being short, a wrong one by being long: both along a cosine.

    r = low + (high - low) * (1 + cos(π * min(len, max_len) / max_len)) / 2, from `high` at length 0 to `low` at max_len
    tokens and beyond. A right completion goes from max_value_correct (1.0) down to min_value_correct (0.5), a wrong one
    from min_value_wrong (-1.0) up to max_value_wrong (-0.5), so that it pays to think longer about what is hard.
    The cosine reward of Yeo et al. (2025, "Demystifying Long Chain-of-Thought Reasoning", arXiv 2502.03373, appendix
    C.1) with their penalty for exceeding the length left to `get_overlong_penalty_reward`. Beyond max_len the reward
    stays where it is; the bare cosine would climb again.

    Range: [min_value_wrong, max_value_correct], None for an unusable gold

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        completion_ids (`list[list[int]]`): B lists of token ids, as TRL passes them.
        answer, solution (`list`): the gold column, B values, read as `correctness_reward` reads it.

    Returns:
        `list[float | None]`: B values in [min_value_wrong, max_value_wrong] or [min_value_correct,
        max_value_correct]; `None` where the gold answer cannot be read.

    Raises:
        `ValueError`: there are no `completion_ids` or no gold column, or one is not as long as `completions`.

    Example:
    >>> from rewards import get_cosine_length_reward
    >>> reward = get_cosine_length_reward(max_len=100)
    >>> right, wrong = "<answer>5</answer>", "<answer>6</answer>"
    >>> reward(completions=[right, right, wrong], completion_ids=[[7] * 50, [7] * 300, [7] * 50], answer=["5"] * 3)
    [0.75, 0.5, -0.75]
    """

    __name__ = "cosine_length_reward"

    def __init__(self, max_len: int, wrong: tuple[float, float], correct: tuple[float, float]):
        self.max_len, self.wrong, self.correct = max_len, wrong, correct

    def __call__(
        self,
        completions: list[Completion],
        completion_ids: list[list[int]] | None = None,
        answer: list | None = None,
        solution: list | None = None,
        **kwargs,
    ) -> list[float | None]:
        lengths = _token_counts(self.__name__, completion_ids, completions)
        verdicts = correctness_reward(completions=completions, answer=answer, solution=solution)
        return [
            None if verdict is None else self._value(length, bool(verdict))
            for verdict, length in zip(verdicts, lengths, strict=True)
        ]

    def _value(self, length: int, is_correct: bool) -> float:
        at_zero, at_max_len = reversed(self.correct) if is_correct else self.wrong
        cosine = math.cos(math.pi * min(length / self.max_len, 1.0))
        return at_max_len + (at_zero - at_max_len) * (1 + cosine) / 2


def get_cosine_length_reward(
    max_len: int,
    *,
    min_value_wrong: float = -1.0,
    max_value_wrong: float = -0.5,
    min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
) -> _CosineLengthReward:
    r"""A reward for the right answer that depends on its length, along a cosine (Yeo et al., 2025).

    r = low + (high - low) * (1 + cos(π * min(len, max_len) / max_len)) / 2, where low and high are the bounds of a
    right completion, and those of a wrong one the other way round (arXiv 2502.03373, appendix C.1).

    Range: [min_value_wrong, max_value_correct], None for an unusable gold

    Args:
        max_len (`int`): the length in tokens from which on the reward no longer changes; as a rule the trainer's
            `max_completion_length`.
        min_value_wrong (`float`): a wrong completion of length 0.
        max_value_wrong (`float`): a wrong completion of max_len tokens or more.
        min_value_correct (`float`): a right completion of max_len tokens or more.
        max_value_correct (`float`): a right completion of length 0.

    Returns:
        a picklable reward function, whose `help` has the formula, range and None rule.

    Raises:
        `ValueError`: `max_len` is no whole number of at least 1; the values are not finite, or not in the order
            min_value_wrong, max_value_wrong, min_value_correct, max_value_correct (equal is allowed).

    Example:
    >>> from rewards import get_cosine_length_reward
    >>> reward = get_cosine_length_reward(256, max_value_correct=2.0)
    >>> reward(completions=["<answer>5</answer>"], completion_ids=[[]], answer=["5"])
    [2.0]
    """
    _check_whole_number("max_len", max_len, at_least=1)
    values = (min_value_wrong, max_value_wrong, min_value_correct, max_value_correct)
    names = "`min_value_wrong`, `max_value_wrong`, `min_value_correct` and `max_value_correct`"
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in values):
        raise ValueError(f"{names} must be finite numbers, not {values}.")
    if list(values) != sorted(values):
        raise ValueError(f"{names} must not fall in this order, as {values} do.")
    return _CosineLengthReward(
        max_len, (float(min_value_wrong), float(max_value_wrong)), (float(min_value_correct), float(max_value_correct))
    )


class _OverlongPenaltyReward:
    r"""0.0 up to max_len - buffer tokens, then down in a straight line to -1.0 at max_len tokens, and -1.0 beyond.

    r = 0 if len <= max_len - buffer; (max_len - buffer - len) / buffer up to max_len; -1 beyond. The soft overlong
    punishment of DAPO (Yu et al., 2025, arXiv 2503.14476, equation 13). TRL cuts a completion at
    `max_completion_length`, so that is the highest useful max_len, and with a buffer of 0 a cut one goes free there.
    In `completion_ids` the tokens of tools' results count too, as TRL passes them.

    Range: [-1, 0], never None

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages; not read.
        completion_ids (`list[list[int]]`): B lists of token ids, as TRL passes them.

    Returns:
        `list[float]`: B values in [-1.0, 0.0], never `None`.

    Raises:
        `ValueError`: there are no `completion_ids`, or they are not as long as `completions`.

    Example:
    >>> from rewards import get_overlong_penalty_reward
    >>> reward = get_overlong_penalty_reward(max_len=100, buffer=20)
    >>> reward(completions=["a", "b", "c"], completion_ids=[[7] * 80, [7] * 90, [7] * 101])
    [0.0, -0.5, -1.0]
    """

    __name__ = "overlong_penalty_reward"

    def __init__(self, max_len: int, buffer: int):
        self.max_len, self.buffer = max_len, buffer

    def __call__(
        self, completions: list[Completion], completion_ids: list[list[int]] | None = None, **kwargs
    ) -> list[float]:
        free = self.max_len - self.buffer
        return [
            0.0 if length <= free else (free - length) / self.buffer if length <= self.max_len else -1.0
            for length in _token_counts(self.__name__, completion_ids, completions)
        ]


def get_overlong_penalty_reward(max_len: int, buffer: int) -> _OverlongPenaltyReward:
    r"""A penalty for completions near and beyond the length limit (DAPO, equation 13).

    r = 0 if len <= max_len - buffer; (max_len - buffer - len) / buffer up to max_len; -1 beyond (Yu et al., 2025,
    arXiv 2503.14476).

    Range: [-1, 0], never None

    Args:
        max_len (`int`): the length in tokens from which on the penalty is -1; as a rule the trainer's
            `max_completion_length`.
        buffer (`int`): over how many tokens before `max_len` the penalty grows; 0: it begins at once beyond `max_len`.

    Returns:
        a picklable reward function, whose `help` has the formula and range.

    Raises:
        `ValueError`: `max_len` is no whole number of at least 1, or `buffer` none from 0 to `max_len`.

    Example:
    >>> from rewards import get_overlong_penalty_reward
    >>> get_overlong_penalty_reward(1024, 128)(completions=["short"], completion_ids=[[7, 8]])
    [0.0]
    """
    _check_whole_number("max_len", max_len, at_least=1)
    _check_whole_number("buffer", buffer, at_least=0)
    if buffer > max_len:
        raise ValueError(f"`buffer` must not be greater than `max_len`: {buffer} > {max_len}.")
    return _OverlongPenaltyReward(max_len, buffer)


def _check_whole_number(option: str, value: int, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"`{option}` must be a whole number of at least {at_least}, not {value!r}.")


def _token_counts(reward: str, completion_ids: list[list[int]] | None, completions: list[Completion]) -> list[int]:
    if completion_ids is None:
        raise ValueError(f"{reward} counts tokens: give `completion_ids`, as TRL does.")
    check_column("completion_ids", completion_ids, completions)
    try:
        return [len(ids) for ids in completion_ids]
    except TypeError:
        raise ValueError("`completion_ids` must have a list of token ids for each completion.") from None
