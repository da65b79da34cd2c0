"""SFT in 4-bit LoRA, on worked solutions (a cold start), on a model's own best samples, or on a teacher's.

    make sft-gsm8k                                                    # the task's worked solutions
    make sft-gsm8k ARGS="--samples runs/sample-gsm8k"                 # rejection sampling: what was right and in form
    make sft-gsm8k ARGS="--samples runs/teacher --keep_per_prompt 4"  # distillation: samples of another model

The loss is on the completion only. Samples come from `make sample-gsm8k`: their rewards say which are kept. The folder
of the run, runs/sft-<task>, holds everything: see recipes/run.py.
"""

from dataclasses import dataclass
from typing import Literal

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from recipes.arguments import RecipeArguments, flag
from recipes.errors import InputError, exit_kindly, refused_settings
from recipes.generation import Generation, as_text, end_of_turn
from recipes.job import Job, begin, train
from recipes.rejection_sampling import kept_completions


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
    train(job, trainer, examples=len(rows), epochs=job.config.num_train_epochs, **kept)


def examples(job: Job) -> tuple[Dataset, dict]:
    """Prompts and completions to imitate, and how the samples among them were chosen."""
    args, kept = job.args, {}
    if args.samples:
        found, kept = kept_completions(
            job.checked.samples, job.task, keep_per_prompt=args.keep_per_prompt, keep=args.keep, seed=job.config.seed
        )
        print("samples: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in kept.items()))
        prompts = [row["prompt"] for row in found]
        completions = [row["completion"][0]["content"] for row in found]
    else:
        train = job.checked.train
        worked = [job.task.worked(answer) for answer in train["answer"]]
        keep = [i for i, completion in enumerate(worked) if completion is not None]
        if not keep:
            raise InputError(
                "The task's answers are not worked out (`... #### 72`), so there is nothing to imitate: "
                "sample a model that solves it and give --samples FILE."
            )
        prompts, completions = train.select(keep)["prompt"], [worked[i] for i in keep]
    # As text, so that the model learns to write what was sampled and not what its template makes of it.
    end = end_of_turn(job.checked.tokenizer, job.config)
    texts = as_text(job.checked.tokenizer, prompts, job.config)
    rows = [{"prompt": text, "completion": c + end} for text, c in zip(texts, completions, strict=True)]
    return Dataset.from_list(rows[: args.num_train_rows]), {"samples": kept} if kept else {}


if __name__ == "__main__":
    main()
