"""Held-out accuracy, counted by the same reward functions that train the model."""

import torch
from trl.models.utils import unwrap_model_for_generation

from recipes.errors import InputError
from recipes.generation import sample, with_transformers
from recipes.intervals import wilson_interval
from recipes.preflight import Checked
from recipes.run import Run
from recipes.tasks import Task


def evaluate(trainer, config, checked: Checked, task: Task, temperature: float) -> tuple[dict, list[dict]]:
    """Solve the held-out rows with the trainer's model as it is now, sampled as `config` (a `Generation`) says.

    Returns:
        `dict`: accuracy (`task.correctness` is 1.0), its `ci95`, strict_accuracy (and `task.format` too), format,
            mean_length in tokens, n; rows that `task.correctness` cannot judge are not counted.
        `list[dict]`: every row with its completion, length and rewards.
    """
    rows, tokenizer = checked.held_out, checked.tokenizer
    columns = {name: list(rows[name]) for name in rows.column_names}
    prompts = columns.pop("prompt")
    with (
        unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model,
        torch.random.fork_rng(),
    ):
        torch.manual_seed(config.seed)
        generate = with_transformers(model, tokenizer, config, temperature)
        completions = sample(generate, prompts, config.per_device_eval_batch_size)
    messages = [[{"role": "assistant", "content": completion.text}] for completion in completions]
    judged = {reward.__name__: reward(prompts=prompts, completions=messages, **columns) for reward in checked.rewards}
    samples = [
        {
            "question": columns["question"][i],
            "answer": columns["answer"][i],
            "completion": completion.text,
            "length": completion.length,
            "truncated": completion.truncated,
            **{name: values[i] for name, values in judged.items()},
        }
        for i, completion in enumerate(completions)
    ]
    return summary(samples, task), samples


def evaluate_once(
    run: Run, when: str, trainer, config, checked: Checked, task: Task, temperature: float
) -> dict | None:
    """`evaluate` on the held-out rows, kept in the run's folder: a resumed run does not measure "before" again."""
    if not len(checked.held_out):
        return None
    figures = run.load(f"{when}.json")
    if figures is None:
        print(f"{when} training: solving {len(checked.held_out)} held-out problems", flush=True)
        figures, samples = evaluate(trainer, config, checked, task, temperature)
        run.save_samples(when, samples)
        run.save(f"{when}.json", figures)
    return figures


def summary(samples: list[dict], task: Task) -> dict:
    """The figures of `result.json` for one evaluation."""
    samples = [sample for sample in samples if sample[task.correctness.__name__] is not None]
    n = len(samples)
    if not n:
        raise InputError(f"{task.correctness.__name__} could judge none of the held-out rows: see the warnings above.")
    right = [sample[task.correctness.__name__] == 1.0 for sample in samples]
    formed = [sample[task.format.__name__] == 1.0 for sample in samples]
    return {
        "accuracy": sum(right) / n,
        "ci95": list(wilson_interval(sum(right), n)),
        "strict_accuracy": sum(a and b for a, b in zip(right, formed, strict=True)) / n,
        "format": sum(formed) / n,
        "mean_length": sum(sample["length"] for sample in samples) / n,
        **{reward.__name__: _mean(sample[reward.__name__] for sample in samples) for reward in task.extra},
        "n": n,
    }


def _mean(values) -> float | None:
    judged = [value for value in values if value is not None]
    return sum(judged) / len(judged) if judged else None
