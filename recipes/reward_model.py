"""A reward model (Bradley-Terry, 1952; Stiennon et al., 2020), in 4-bit LoRA, on pairs that rules have judged.

    make rm-gsm8k
    make rm-gsm8k ARGS="--sample_prompts 60 --num_train_epochs 8"       # few pairs: a proxy that can be fooled
    make rm-gsm8k ARGS="--samples runs/sample-gsm8k"                    # pairs of samples that exist
    make rm-gsm8k ARGS="--preferences trl-lib/ultrafeedback_binarized"
    make grpo-gsm8k ARGS="--reward_model runs/rm-gsm8k --measure_only correctness_reward think_format_reward"

Where rules can judge, nobody needs a learned reward: this one shows what happens where they cannot. It learns to score
the chosen completion of a pair above the rejected one, and is judged by pairs of held-out problems. The folder of the
run, runs/rm-<task>, holds everything: see recipes/run.py.
"""

import argparse
import gc
import math
import random
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from recipes.arguments import flag
from recipes.errors import InputError, exit_kindly, refused_settings
from recipes.generation import Sampling
from recipes.intervals import wilson_interval
from recipes.job import Job, begin, train
from recipes.learned_reward import ended, scores_of
from recipes.models import load_model
from recipes.pair_sources import PairArguments, asked, given_pairs, own_pairs, pairs, sampled
from recipes.preference import pairs_as_text

HELD_OUT = 0.1  # of a preference set


@dataclass
class RewardModelArguments(PairArguments):
    eval_samples: int = flag(200, "Held-out problems to sample for the pairs that the model is judged by.")
    eval_temperature: float = flag(0.0, argparse.SUPPRESS)  # of evaluations by solving, as the next: there is none here
    calibration_samples: int = flag(0, argparse.SUPPRESS)


@dataclass
class RewardModelDefaults(Sampling, RewardConfig):
    """What the recipe sets; batch, length and precision come from recipes/hardware.py."""

    num_train_epochs: float = 1
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    job = begin("rm", RewardModelDefaults, __doc__, argv, arguments=RewardModelArguments)
    if job is None:
        return
    rows, counts, held_out = pairs_to_train_on(job)
    model, peft_config = job.load_model(scores=True)
    with refused_settings():
        trainer = RewardTrainer(
            model=model,
            args=job.config,
            train_dataset=rows,
            processing_class=job.checked.tokenizer,
            peft_config=peft_config,
        )
    train(job, trainer, solves=False, measure_after=lambda: judge(trainer, rows, held_out), pairs=counts)


def pairs_to_train_on(job: Job) -> tuple[Dataset, dict, Dataset | None]:
    """Train pairs as text, how they were found, and held-out pairs."""
    rows, counts = given_pairs(job)
    if job.args.preferences:
        rows, held_out = split_by_prompt(rows, job.args.preferences)
    else:
        held_out, policy = None, None
        if rows is None or len(job.checked.held_out):
            policy = load_model(job.model_args.model_name_or_path, job.config, job.model_args)
        if rows is None:
            rows, counts = own_pairs(job, policy)
        if len(job.checked.held_out):
            samples = sampled(job, policy, job.checked.held_out, "samples/held_out.jsonl")
            try:
                held_out, _ = pairs(job, samples, "held-out pairs")
            except InputError as error:
                print(f"warning: no held-out pair judges the reward model. {error}")
        del policy
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # for the reward model, which is as large
    texts = [found and pairs_as_text(found, job.checked.tokenizer, job.config) for found in (rows, held_out)]
    return texts[0], counts, texts[1]


def split_by_prompt(rows: Dataset, name: str) -> tuple[Dataset, Dataset]:
    """A tenth of the prompts of a preference set is held out, with all their pairs."""
    prompts = sorted({asked(row) for row in rows})
    if len(prompts) < 2:
        raise InputError(f"{name} has pairs of one prompt only: give more, since some are held out.")
    held_out = set(random.Random(0).sample(prompts, max(1, round(len(prompts) * HELD_OUT))))
    return tuple(rows.filter(lambda row, out=out: (asked(row) in held_out) == out) for out in (False, True))


def judge(trainer: RewardTrainer, rows: Dataset, held_out: Dataset | None) -> dict:
    """The figures of result.json.

    `score_mean` and `score_std` of the texts of the held-out pairs (of `rows` where there are none): the scale in which
    recipes/learned_reward.py gives the scores. `pair_accuracy`, with its interval: the share of the held-out pairs in
    the right order.
    """
    pairs = held_out or rows
    tokenizer = trainer.processing_class
    texts = [ended(row["prompt"] + row[side], tokenizer) for side in ("chosen", "rejected") for row in pairs]
    scores = scores_of(trainer.model, tokenizer, texts)
    if not all(map(math.isfinite, scores)):
        raise InputError(
            "The reward model has diverged, its scores are no numbers: lower --learning_rate, and add --overwrite."
        )
    scale = {"score_mean": fmean(scores), "score_std": max(pstdev(scores), 1e-6)}
    if not held_out:
        return scale
    right = sum(chosen > rejected for chosen, rejected in zip(scores[: len(pairs)], scores[len(pairs) :], strict=True))
    low, high = wilson_interval(right, len(pairs))
    return {"pair_accuracy": right / len(pairs), "pair_ci95": [low, high], "held_out_pairs": len(pairs), **scale}


if __name__ == "__main__":
    main()
