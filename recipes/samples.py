"""Scored samples as `python -m recipes.sample` writes them: read, checked, and told apart by prompt.

A row is one prompt with its n completions; every list below has n values, in the same order:

    {"task": "gsm8k", "question": str, "prompt": [chat messages], "answer": str (the gold answer),
     "completions": [str], "completion_tokens": [int or null], "truncated": [bool or null],
     "rewards": {"correctness_reward": [float or null], ...}, "total": [float or null]}

Behind the answer come the columns that only some tasks have, such as the tests of code.
`total` is the weighted sum of the rewards, as TRL forms it. null is a reward that could not be judged.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from recipes.errors import InputError, near_path, path_of
from recipes.run import is_run, read_yaml
from recipes.tasks import Task
from rewards import calling


@dataclass(frozen=True)
class Scored:
    """One completion; `None` is what is not known."""

    text: str
    correctness: float | None  # 1.0 is right
    format: float | None  # 1.0 is well formed
    total: float | None
    tokens: int | None
    truncated: bool | None


@dataclass(frozen=True)
class Prompt:
    """One prompt with all its completions."""

    question: str
    messages: list[dict]
    completions: list[Scored]


def read_samples(path: str | Path, task_name: str, needs: Iterable[str] = ()) -> list[dict]:
    """The rows of a JSONL file, or of `samples.jsonl` in the folder `path`, each with a `question`.

    Args:
        task_name (`str`): the task that the rows must be of; a row that names none is taken for it.
        needs (`Iterable[str]`): the names that every row's `rewards` must hold.

    Returns:
        `list[dict]`: rows as above. `question` is the last user message where a row has only `prompt`;
            `completion_tokens` and `truncated` are all `None` where they are missing; `prompt`, `task` and `total`
            may be missing.

    Raises `InputError` for a file that is missing, empty or broken, a row of another task, a missing column or reward,
    lists of unequal length and values that are no finite numbers. A last line that a crash cut off is left out, and
    one sentence is printed.
    """
    path, needs = path_of(path), list(needs)
    file = path / "samples.jsonl" if path.is_dir() else path
    if not file.is_file():
        where = f"The folder {path} holds no samples.jsonl" if path.is_dir() else f"There is no file or folder {path}"
        raise InputError(
            f"{where}: give a JSONL file or a folder that `python -m recipes.sample` wrote.{near_path(path)}"
        )
    if path.is_dir() and is_run(path) and not (path / "result.json").exists():
        print(f"warning: {path} is unfinished: what it has sampled so far is taken.")
    try:
        with file.open("rb") as lines:
            numbered = calling.read_rows(_whole_lines(lines, file), str(file))
            return [_checked(row, f"Line {number} of {file}", file, task_name, needs) for number, row, _ in numbered]
    except calling.InputError as error:
        raise InputError(f"{str(error).rstrip('.')}; `python -m recipes.sample` writes such files.") from error
    except OSError as error:
        raise InputError(f"The samples {file} cannot be read: {error.strerror}.") from error


def is_samples(name: str) -> bool:
    """Whether `name` is a file of samples, or the folder of a run of the sampler, rather than a model."""
    path = path_of(name)
    config = path / "config.yaml"
    if is_run(path) and config.exists() and "num_prompts" not in read_yaml(config):
        return False  # DPO's run holds samples, too, but is of a model
    return path.is_file() or ((path / "samples.jsonl").is_file() and not (path / "adapter").exists())


def task_of(name: str) -> str | None:
    """The task that the first row of a file of samples names; None where it names none."""
    path = path_of(name)
    with (path / "samples.jsonl" if path.is_dir() else path).open("rb") as lines:
        with contextlib.suppress(ValueError, AttributeError):  # what is wrong with the file is said when it is read
            return json.loads(lines.readline()).get("task")


def problem(row: dict, task: Task) -> tuple[str, str]:
    """By what a problem is known in samples and data sets: its question and its bare gold answer."""
    return row["question"], task.gold(row["answer"])


def pass_rate(row: dict, correctness: str) -> float | None:
    """The share of completions with the reward `correctness` at 1.0, of those judged; `None` where none was."""
    judged = [value for value in row["rewards"][correctness] if value is not None]
    return sum(value == 1.0 for value in judged) / len(judged) if judged else None


def by_prompt(rows: list[dict], task: Task) -> list[Prompt]:
    """Each prompt once, in the order of the rows; rows of the same prompt and gold answer are put together.

    A missing `prompt` is asked as `task` asks, a missing `total` is summed up with `task.reward_weights`.
    """
    prompts: dict[str, Prompt] = {}
    for row in rows:
        messages = row.get("prompt") or task.prompt(row["question"])
        key = json.dumps([messages, task.gold(row["answer"])])
        prompt = prompts.setdefault(key, Prompt(row["question"], messages, []))
        prompt.completions.extend(_scored(row, task))
    return list(prompts.values())


def lengths(completions: list[Scored]) -> list[int]:
    """Tokens, or characters of all where the tokens of one are not known: only like is compared with like."""
    tokens = [completion.tokens for completion in completions]
    return [len(completion.text) for completion in completions] if None in tokens else tokens


def totals(rewards: list[list[float | None]], weights: Iterable[float]) -> list[float | None]:
    """The weighted sum of each completion's `rewards` (a list for each reward, a value for each completion).

    As TRL sums: a reward of None adds nothing; where all are None, there is no total.
    """
    weights, sums = list(weights), []
    for values in zip(*rewards, strict=True):
        terms = [weight * value for weight, value in zip(weights, values, strict=True) if value is not None]
        sums.append(sum(terms) if terms else None)
    return sums


def _scored(row: dict, task: Task) -> list[Scored]:
    unknown = [None] * len(row["completions"])
    correctness = row["rewards"][task.correctness.__name__]
    form = row["rewards"].get(task.format.__name__, unknown)
    total = row.get("total")
    if total is None:
        rewards = [row["rewards"].get(reward.__name__, unknown) for reward in task.reward_funcs]
        total = totals(rewards, task.reward_weights)
    tokens, truncated = (row.get(name) or unknown for name in ("completion_tokens", "truncated"))
    return [
        Scored(*values) for values in zip(row["completions"], correctness, form, total, tokens, truncated, strict=True)
    ]


def _whole_lines(lines: BinaryIO, file: Path) -> Iterator[bytes]:
    for line in lines:
        if not line.endswith(b"\n"):  # only the last: a whole row, or one that was being written
            try:
                json.loads(line)
            except ValueError:
                print(f"The last line of {file} was cut off by a crash and is left out.")
                return
            except RecursionError:
                pass  # said by `read_rows`
        yield line


def _checked(row: dict, where: str, file: Path, task_name: str, needs: list[str]) -> dict:
    score = f"`python -m recipes.sample --completions {file} --task {task_name}` scores it"
    if row.get("task") not in (None, task_name):
        raise InputError(f"{where} is of the task {row['task']}, not {task_name}: give that --task or other samples.")
    rewards = row.get("rewards")
    if rewards is None:
        raise InputError(f"{where} has no column `rewards`: {score}.")
    if not isinstance(rewards, dict):
        raise InputError(f"{where} has `rewards` that are no lists by name: {score}.")
    if not isinstance(row.get("question"), str):
        row["question"] = _question(row, where)
    if row.get("prompt") is not None and not _is_conversation(row["prompt"]):
        raise InputError(f"{where} has a `prompt` that is no list of chat messages: give messages, or `question` only.")
    for column in ("answer", "completions"):
        if column not in row:
            raise InputError(f"{where} has no column `{column}` (it has {', '.join(row)}): add it, or sample anew.")
    texts = row["completions"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where} has `completions` that are no list of strings: sample anew.")
    for name in needs:
        if name not in rewards:
            raise InputError(f"{where} has no reward `{name}` (it has {', '.join(rewards) or 'none'}): {score}.")
    for name in ("completion_tokens", "truncated"):
        if row.get(name) is None:
            row[name] = [None] * len(texts)
    if row.get("total", ()) is None:
        del row["total"]
    columns = {name: row[name] for name in ("completion_tokens", "truncated", "total") if name in row}
    for name, values in {**columns, **rewards}.items():
        if not isinstance(values, list) or len(values) != len(texts):
            has = f"{len(values)} values" if isinstance(values, list) else "no list"
            raise InputError(f"{where} has {has} in `{name}` for {len(texts)} completions: {score}.")
        fits = {"truncated": _is_flag, "completion_tokens": _is_count}.get(name, _is_number)
        if not all(value is None or fits(value) for value in values):
            raise InputError(f"{where} has a value in `{name}` that is not what `python -m recipes.sample` writes.")
    return row


def _question(row: dict, where: str) -> str:
    if row.get("prompt") is None:
        raise InputError(f"{where} has neither `question` nor `prompt` (it has {', '.join(row)}): add one of them.")
    messages = row["prompt"] if _is_conversation(row["prompt"]) else []
    asked = [message["content"] for message in messages if message["role"] == "user"]
    if not asked:
        raise InputError(f"{where} has no `question`, and no user message in `prompt`: add one of them.")
    return asked[-1]


def _is_conversation(value) -> bool:
    return calling.is_messages(value) and all(
        isinstance(message.get("role"), str) and isinstance(message.get("content"), str) for message in value
    )


def _is_flag(value) -> bool:
    return isinstance(value, bool)


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value) -> bool:
    # JSON may hold an int beyond any float; NaN and infinity were refused when the file was read.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
