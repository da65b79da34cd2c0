"""Scored samples of word problems as the sampler writes them, with as many right completions as a test needs."""

import itertools
from dataclasses import replace

from datasets import Dataset

from recipes.tasks import load_task, word_problems
from recipes.tasks.word_problems import generate

TASK = load_task("word_problems")


def use_few_problems(patch) -> None:
    """The first train and held-out problems only: most of a short run's time would be the self-test of 10,000."""

    def load(dataset_name, dataset_config, seed):
        splits = generate(seed), generate(0, held_out=True)
        return tuple(Dataset.from_list(list(itertools.islice(split, 100))) for split in splits)

    patch.setattr(word_problems, "task", replace(TASK, load=load))


def sampled(right: list[int], n: int = 4, held_out: bool = False) -> list[dict]:
    """A row for each of the first problems that the recipes train on by default, or hold out.

    Of its `n` completions the first `right[i]` are right and well formed, each longer than the one before.
    """
    problems = itertools.islice(generate(0 if held_out else 42, held_out=held_out), len(right))
    return [_row(problem, count, n) for problem, count in zip(problems, right, strict=True)]


def _row(problem: dict, right: int, n: int) -> dict:
    worked = TASK.worked(problem["answer"])
    good = [worked.replace("</think>", "." * i + "</think>") for i in range(right)]
    return {
        "task": "word_problems",
        **problem,
        "prompt": TASK.prompt(problem["question"]),
        "completions": good + [f"<answer>{900 + i}</answer>" for i in range(n - right)],
        "completion_tokens": [20 + i for i in range(right)] + [4] * (n - right),
        "truncated": [False] * n,
        "rewards": {
            name: [1.0] * right + [0.0] * (n - right) for name in ("correctness_reward", "think_format_reward")
        },
        "total": [1.2] * right + [0.0] * (n - right),
    }
