"""SFT in 4-bit LoRA, on worked solutions (a cold start), on a model's own best samples, or on a teacher's.

    make sft-gsm8k                                                    # the task's worked solutions
    make sft-gsm8k ARGS="--samples runs/sample-gsm8k"                 # rejection sampling: what was right and in form
    make sft-gsm8k ARGS="--samples runs/teacher --keep_per_prompt 4"  # distillation: samples of another model

The loss is on the completion only. Samples come from `make sample-gsm8k`: their rewards say which are kept. The folder
of the run, runs/sft-<task>, holds everything: see recipes/run.py.
"""

import itertools
import random
from dataclasses import dataclass
from typing import Literal

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from recipes.arguments import RecipeArguments, flag
from recipes.errors import InputError, exit_kindly, refused_settings
from recipes.generation import Generation
from recipes.job import Job, begin, train
from recipes.rejection_sampling import kept_completions
from recipes.texts import end_of_turn, prompts_to_train_on, that_fit
from rewards.completions import completion_text


@dataclass
class SFTArguments(RecipeArguments):
    """What is trained on."""

    keep_per_prompt: int = flag(1, "Of --samples: at most this many completions of a prompt.")
    keep: Literal["shortest", "random"] = flag("shortest", "Of --samples: which of them.")
    num_train_rows: int | None = flag(None, "Train on this many rows at most; R1's cold start took a few thousand.")


@dataclass
class SFTDefaults(Generation, SFTConfig):
    """What the recipe sets for SFT; batch, length and precision come from recipes/hardware.py."""

    num_train_epochs: float = 2
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    job = begin("sft", SFTDefaults, __doc__, argv, arguments=SFTArguments)
    if job is None:
        return
    rows, kept = examples(job)
    with refused_settings():
        model, peft_config = job.load_model()
        trainer = SFTTrainer(
            model=model,
            args=job.config,
            train_dataset=rows,
            processing_class=job.checked.tokenizer,
            peft_config=peft_config,
        )
    seen = job.config.max_steps * job.config.per_device_train_batch_size * job.config.gradient_accumulation_steps
    epochs = round(seen / len(rows), 2) if seen > 0 else job.config.num_train_epochs
    train(job, trainer, examples=len(rows), epochs=epochs, **kept)


def examples(job: Job) -> tuple[Dataset, dict]:
    """Prompts and completions to imitate, and how the samples among them were chosen."""
    args, seed = job.args, job.config.seed
    if not args.samples:
        return as_written(worked_solutions(job), job), {}
    rows, kept = kept_completions(
        job.checked.samples, job.task, keep_per_prompt=args.keep_per_prompt, keep=args.keep, seed=seed
    )
    told = {"prompts_without": "prompts without any kept"}
    print("samples: " + ", ".join(f"{told.get(name, name.replace('_', ' '))} {n}" for name, n in kept.items()))
    if not args.curriculum:  # the file begins with the longest prompts
        random.Random(seed).shuffle(rows)
    return as_written(rows[: args.num_train_rows], job), {"samples": kept}


def worked_solutions(job: Job) -> list[dict]:
    """The task's own worked solutions, as perfect completions."""
    worked = ((row["prompt"], job.task.worked(row["answer"])) for row in job.checked.train)
    found = ({"prompt": prompt, "completion": text} for prompt, text in worked if text is not None)
    rows = list(itertools.islice(found, job.args.num_train_rows))
    if not rows:
        raise InputError(
            "The task's answers are not worked out (`... #### 72`), so there are no thoughts to imitate: "
            "sample a model that solves it and give --samples FILE."
        )
    prefill = job.checked.rewards[0].prefill.strip()  # the chat template has written that
    return [{**row, "completion": row["completion"].removeprefix(prefill)} for row in rows]


def as_written(rows: list[dict], job: Job) -> Dataset:
    """`rows` as text, so that the model learns to write what was sampled and not what its template makes of it."""
    tokenizer, config = job.checked.tokenizer, job.config
    end = end_of_turn(tokenizer, config)
    prompts = prompts_to_train_on(tokenizer, [row["prompt"] for row in rows], config)
    texts = [
        {"prompt": prompt, "completion": completion_text(row["completion"]) + end}
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    return Dataset.from_list(that_fit(tokenizer, texts, ("completion",), config.max_length, "example"))


if __name__ == "__main__":
    main()
