"""The task of benchmarks/gpu.py: prompts of about 200 tokens, for models of random weights that write no readable text.

benchmarks/gpu.py lays this folder beside recipes/tasks, so that the recipes find it by its name.
"""

import itertools

from datasets import Dataset

from recipes.tasks import Task
from recipes.tasks.word_problems import generate

IN_A_PROMPT = 2  # problems of some 90 tokens: a byte is a token


def load(dataset_name: None, dataset_config: None, seed: int) -> tuple[Dataset, Dataset]:
    """512 train and 8 held-out rows; a question is several word problems, the answer that of the last."""
    return _rows(generate(seed), 512), _rows(generate(0, held_out=True), 8)


def _rows(problems, count: int) -> Dataset:
    asked = [list(itertools.islice(problems, IN_A_PROMPT)) for _ in range(count)]
    return Dataset.from_list(
        [{"question": " ".join(one["question"] for one in some), "answer": some[-1]["answer"]} for some in asked]
    )


def even_tokens_reward(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """The share of even token numbers: no two completions of random tokens are alike, so every group has a signal."""
    return [sum(token % 2 == 0 for token in tokens) / max(len(tokens), 1) for tokens in completion_ids]


task = Task(load=load, extra=(even_tokens_reward,), reward_weights=(1.0, 0.2, 1.0))
