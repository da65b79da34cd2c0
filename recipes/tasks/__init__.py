"""A task is data: where the rows come from, and which rewards with which weights judge a completion.

One file per task in this folder, each with a module-level `task`. Adding a task is adding a file.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import rewards
from recipes.errors import InputError, did_you_mean
from rewards import correctness_reward, think_format_reward
from rewards.equivalence import gold_answer

SYSTEM_PROMPT = (
    "Solve the problem. First think step by step inside <think> and </think>. "
    "Then write the final answer, and nothing else, inside <answer> and </answer>."
)
NO_TASKS = ("loading", "code_problems")  # what else lies in this folder


@dataclass(frozen=True)
class Task:
    """What a recipe needs to know of a task.

    `load(dataset_name, dataset_config, seed)` returns the train and the held-out rows as `datasets.Dataset`s with
    the string columns `question`, `answer` and those of `columns`; the two names are the user's, or None for the task's
    own data.

    A task whose answers are no short texts says in a class of its own what is a gold, a right and a wrong one.
    """

    load: Callable
    correctness: Callable = correctness_reward  # 1.0 means right: accuracy is counted by it
    format: Callable = think_format_reward  # 1.0 means well formed: strict accuracy needs both
    reward_weights: tuple[float, ...] = (1.0, 0.2)
    system_prompt: str = SYSTEM_PROMPT
    max_completion_length: int = 1024  # tokens
    extra: tuple[Callable, ...] = ()  # rewards beside these two
    columns: tuple[str, ...] = ()  # what the rewards read of a row beside `question` and `answer`
    needed: str = "a `question`, and an `answer` that is short or ends in `#### answer`"  # of a row, for messages
    voted: bool = True  # answers can be told apart, so that a majority of them can be asked for (maj@k)
    for_the_starter: str | None = None  # --dataset_name where the bundled miniature is the model

    @property
    def reward_funcs(self) -> list[Callable]:
        return [self.correctness, self.format, *self.extra]

    @property
    def reward_names(self) -> list[str]:
        return [reward.__name__ for reward in self.reward_funcs]

    def with_rewards(self, names: list[str], learned: Callable | None = None, measured: list[str] = ()) -> "Task":
        """The same task with more rewards.

        Args:
            names: of the library, to add at a weight of 0.1 each.
            learned: a reward model, to add at a weight of 1.
            measured: of the task, those above or the library, at a weight of 0: logged, and not trained on.

        Raises `InputError` for a name that is unknown or there already.
        """
        for flag, given in (("extra_rewards", names), ("measure_only", measured)):
            twice = [name for name in given if list(given).count(name) > 1]
            if twice:
                raise InputError(f"--{flag} {twice[0]}: it is named twice.")
        task = self
        if len(task.reward_names) != len(task.reward_weights):
            raise InputError(
                f"The task has {len(task.reward_weights)} reward_weights for {len(task.reward_names)} rewards "
                f"({', '.join(task.reward_names)}): give each of them one."
            )
        for name in names:
            if name in task.reward_names:
                raise InputError(f"--extra_rewards {name}: this task has that reward already.")
            task = task._and(_of_the_library(name, "extra_rewards"), 0.1)
        if learned is not None:
            task = task._and(learned, 1.0)
        for name in measured:
            if name not in task.reward_names:
                task = task._and(_of_the_library(name, "measure_only", task.reward_names), 0.0)
        weights = zip(task.reward_names, task.reward_weights, strict=True)
        return replace(task, reward_weights=tuple(0.0 if name in measured else weight for name, weight in weights))

    def _and(self, reward: Callable, weight: float) -> "Task":
        return replace(self, extra=(*self.extra, reward), reward_weights=(*self.reward_weights, weight))

    def prompt(self, question: str) -> list[dict]:
        """The chat messages that ask `question`."""
        return [{"role": "system", "content": self.system_prompt}, {"role": "user", "content": question}]

    def prompt_without_system(self, question: str) -> list[dict]:
        """The same, for a chat template that refuses a system message."""
        return [{"role": "user", "content": f"{self.system_prompt}\n\n{question}"}]

    def gold(self, answer: str) -> str:
        """The bare gold answer of a row: "19" of a solution that ends in `#### 19`."""
        return gold_answer(answer)

    def worked(self, answer: str) -> str | None:
        """A solution ("12+7=19\\n#### 19") as a perfect completion would give it; None where nothing is worked."""
        steps, marker, final = answer.rpartition("####")
        steps = re.sub(r"<<[^<>]*>>", "", steps).strip()  # GSM8K's notes for a calculator
        return f"<think>{steps}</think><answer>{final.strip()}</answer>" if marker and steps else None

    def written(self, answer: str) -> str:
        """An answer in the expected form, as a perfect completion would give it."""
        return f"<think>\nWork it out.\n</think>\n<answer>\n{answer}\n</answer>"

    def bare(self, question: str) -> str:
        """The text of a problem, without what the task adds to it."""
        return question

    def wrong(self, gold: str) -> str:
        """An answer that is not `gold`: a "1" in front makes another number of any number."""
        return "1" + gold


def _of_the_library(name: str, flag: str, more: Iterable[str] = ()) -> Callable:
    known = [name for name in rewards.__all__ if name.endswith("_reward") and not name.startswith(("get_", "async_"))]
    if name not in known:
        known = list(dict.fromkeys([*more, *known]))
        raise InputError(f"Unknown reward {name!r} in --{flag}.{did_you_mean(name, known)} One of {', '.join(known)}.")
    return getattr(rewards, name)


def task_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in NO_TASKS)


def load_task(name: str) -> Task:
    """The task called `name`; raises `InputError` with the nearest known name."""
    names = task_names()
    if name not in names:
        raise InputError(f"Unknown task {name!r}.{did_you_mean(name, names)} Tasks: {', '.join(names)}.")
    return importlib.import_module(f"recipes.tasks.{name}").task
