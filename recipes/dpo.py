"""DPO (Rafailov et al., 2023) without a human label: the model's own samples, judged by rule, are the pairs.

    make dpo-gsm8k
    make dpo-gsm8k ARGS="--loss_type simpo --sample_prompts 2000"
    make dpo-gsm8k ARGS="--samples runs/sample-gsm8k"                # pairs of samples that exist
    make dpo-gsm8k ARGS="--preferences trl-lib/ultrafeedback_binarized"
    make dpo-gsm8k ARGS="--rounds 3"                                 # sample, pair, train, three times over

For each prompt the model writes `num_generations` completions; rules judge them; the best and the worst make a pair,
where one is right and one is wrong. The folder of the run, runs/dpo-<task>, holds everything: see recipes/run.py.
"""

from dataclasses import dataclass

from datasets import Dataset

from recipes.arguments import RecipeArguments, flag
from recipes.errors import InputError, exit_kindly, refused_settings
from recipes.generation import Sampling, with_transformers
from recipes.job import Job, begin, train
from recipes.pairs import MIN_MARGIN, preference_pairs
from recipes.preference import PreferenceConfig, preference_trainer
from recipes.preflight import held_out_texts
from recipes.sample import sample_to_file
from recipes.samples import read_samples, totals
from recipes.stages import train_in_rounds
from recipes.tasks.loading import load_preferences


@dataclass
class DPOArguments(RecipeArguments):
    """Where the pairs come from."""

    preferences: str | None = flag(None, "A preference set with `prompt`, `chosen`, `rejected`: hub id, folder, JSONL.")
    sample_prompts: int = flag(1000, "Train prompts to sample, where neither --samples nor --preferences is given.")
    pairs_per_prompt: int = flag(1, "The best with the worst, the second best with the second worst, and so on.")
    min_margin: float = flag(MIN_MARGIN, "Least difference of the two totals; 1.0 against 0.2 passes.")
    balance_length: bool = flag(False, "Pair completions of similar length, since DPO learns length as well.")
    rounds: int = flag(1, "Repeat sample, pair, train with the model of the round before (iterative DPO).")


@dataclass
class DPODefaults(Sampling, PreferenceConfig):
    """What the recipe sets for DPO; batch, length and precision come from recipes/hardware.py."""

    num_train_epochs: float = 1
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    job = begin("dpo", DPODefaults, __doc__, argv, arguments=DPOArguments)
    if job is None:
        return
    if job.args.rounds > 1:
        return train_in_rounds(job)
    rows, counts = given_pairs(job)
    model, peft_config = job.load_model()
    if rows is None:
        rows, counts = pairs(job, sampled(job, model))
    with refused_settings():
        trainer = preference_trainer(job.config, model, rows, job.checked.tokenizer, peft_config)
    train(job, trainer, pairs=counts)


def given_pairs(job: Job) -> tuple[Dataset | None, dict]:
    """The pairs of --preferences or --samples, before a weight is loaded; None where the model has to write them."""
    if job.args.preferences and job.args.samples:
        raise InputError("--preferences and --samples are two sources of pairs: give one of them.")
    if job.args.preferences:
        rows = load_preferences(job.args.preferences)
        kept_out = held_out_texts(job.task, job.checked.held_out)
        kept = [i for i, row in enumerate(rows) if asked(row) not in kept_out]
        if len(kept) < len(rows):
            print(f"{len(rows) - len(kept)} of {len(rows)} pairs are of held-out problems: they are left out.")
        if not kept:
            raise InputError(f"{job.args.preferences} has no pair to train on: all are of held-out problems.")
        return rows.select(kept), {"pairs": len(kept), "held_out": len(rows) - len(kept)}
    samples = job.checked.samples
    if samples and "reward_weights" in job.parser.given:  # in place of those that the samples were weighed by
        names = [reward.__name__ for reward in job.task.reward_funcs]
        for row in samples:
            unknown = [None] * len(row["completions"])
            row["total"] = totals([row["rewards"].get(name, unknown) for name in names], job.config.reward_weights)
    return pairs(job, samples) if samples else (None, {})


def asked(row: dict) -> str:
    """What a pair asks: its last question."""
    prompt = row.get("prompt") or row["chosen"]
    if not isinstance(prompt, str):
        prompt = next((message["content"] for message in reversed(prompt) if message["role"] == "user"), "")
    return prompt.strip()


def sampled(job: Job, model) -> list[dict]:
    """`num_generations` scored completions of each of `sample_prompts` train prompts."""
    file, tokenizer, config = job.run.folder / "samples.jsonl", job.checked.tokenizer, job.config
    rows = job.checked.train.select(range(min(len(job.checked.train), job.args.sample_prompts)))
    generate = with_transformers(model, tokenizer, config, config.temperature)
    sample_to_file(file, generate, rows, job)
    return read_samples(file, job.args.task)


def pairs(job: Job, samples: list[dict]) -> tuple[Dataset, dict]:
    """Prompt, chosen and rejected, and how they were found."""
    args = job.args
    rows, counts = preference_pairs(
        samples,
        job.task,
        pairs_per_prompt=args.pairs_per_prompt,
        min_margin=args.min_margin,
        balance_length=args.balance_length,
        seed=job.config.seed,
    )
    told = {name: f"{n:.1f}" if isinstance(n, float) else n for name, n in counts.items()}
    print("pairs: " + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in told.items()))
    return Dataset.from_list(rows), counts


if __name__ == "__main__":
    main()
