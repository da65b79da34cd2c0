"""Held-out problems before, during and after training, judged by the same reward functions that train the model."""

from dataclasses import dataclass

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.models.utils import unwrap_model_for_generation

from recipes.errors import InputError
from recipes.generation import Completion, sample, with_transformers
from recipes.intervals import wilson_interval
from recipes.preflight import Checked
from recipes.processes import mine, of_first, place, together
from recipes.run import Run
from recipes.scoring import scored
from recipes.tasks import Task

FOLLOWED = 8  # problems whose completions are kept during training, too
MOMENTS = 4  # parts of training, between which they are
COMPLETIONS = 8  # of a problem, to see how sure the model is of its answer


@dataclass
class HeldOut:
    """The held-out problems of a run, solved by its trainer's model as it is at the time.

    Args:
        config: the trainer's; a `Generation` or `trl.GRPOConfig` that says how completions are written.
        temperature (`float`): of the two evaluations; 0 is greedy.
        calibration (`int`): how many of the problems are sampled 8 times before and after, at the temperature of
            training: what the calibration in the report is made of.
    """

    run: Run
    trainer: object
    config: object
    checked: Checked
    task: Task
    temperature: float
    calibration: int = 0

    def evaluate_once(self, when: str) -> dict | None:
        """The figures of `when` (before, after), kept in the run's folder: a resumed run takes these."""
        run, rows = self.run, self.checked.held_out
        if not len(rows):
            return None
        figures = of_first(run.load(f"{when}.json"))
        if figures is not None:
            return figures
        print(f"{when} training: solving {len(rows)} held-out problems", flush=True)
        samples = self.solve(rows)
        figures = summary(samples, self.task)
        if self.calibration and self.task.voted:
            few = rows.select(range(min(self.calibration, len(rows))))
            print(f"{when} training: solving {len(few)} of them {COMPLETIONS} times, for how sure it is", flush=True)
            run.save_samples(f"{when}_sampled", self.sample(few))
        run.save_samples(when, samples)
        run.save(f"{when}.json", figures)
        return figures

    def follow(self) -> TrainerCallback:
        """Solves the first few problems at three moments of training as well."""
        return _Following(self)

    def solve(self, rows: Dataset) -> list[dict]:
        """Every row with its completion, length and rewards; each process solves its part of them."""
        rows = rows.select(mine(len(rows)))
        completions = self._complete(rows, self.temperature)
        columns = {name: list(rows[name]) for name in rows.column_names}
        prompts = columns.pop("prompt")
        messages = [[{"role": "assistant", "content": completion.text}] for completion in completions]
        rewards = self.checked.rewards
        judged = {reward.__name__: reward(prompts=prompts, completions=messages, **columns) for reward in rewards}
        solved = [
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
        return together(solved)

    def sample(self, rows: Dataset) -> list[dict]:
        """Eight completions of every row, scored; rows as recipes/samples.py describes them."""
        rows = rows.select(mine(len(rows)))
        repeated = rows.select([i for i in range(len(rows)) for _ in range(COMPLETIONS)])
        completions = self._complete(repeated, getattr(self.config, "temperature", 1.0))
        groups = [completions[i : i + COMPLETIONS] for i in range(0, len(completions), COMPLETIONS)]
        weights = getattr(self.config, "reward_weights", None) or self.task.reward_weights
        return together(scored(list(rows), groups, self.run.settings["task"], self.checked.rewards, weights))

    def _complete(self, rows: Dataset, temperature: float) -> list[Completion]:
        trainer = self.trainer
        with (
            unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model,
            torch.random.fork_rng(),
        ):
            torch.manual_seed(self.config.seed + place())
            generate = with_transformers(model, self.checked.tokenizer, self.config, temperature)
            return sample(generate, list(rows["prompt"]), self.config.per_device_eval_batch_size)


class _Following(TrainerCallback):
    def __init__(self, held_out: HeldOut):
        self.held_out = held_out

    def on_step_begin(self, args, state, control, **kwargs):  # of the next step, which can be given up
        rows, steps = self.held_out.checked.held_out, state.max_steps
        moments = {steps * part // MOMENTS for part in range(1, MOMENTS)} - {0}
        if len(rows) and state.global_step in moments:
            samples = self.held_out.solve(rows.select(range(min(FOLLOWED, len(rows)))))
            self.held_out.run.save_samples(f"during_{state.global_step:06d}", samples)


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
