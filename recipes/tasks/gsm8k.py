"""GSM8K (Cobbe et al., 2021): 8,500 grade-school problems; the worked answer ends in `#### <number>`."""

from recipes.tasks import Task
from recipes.tasks.loading import load_question_answer


def load(dataset_name: str | None, dataset_config: str | None, seed: int):
    return load_question_answer(dataset_name or "openai/gsm8k", dataset_config)


task = Task(load=load)
