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

from recipes.arguments import flag
from recipes.errors import exit_kindly, refused_settings
from recipes.generation import Sampling
from recipes.job import begin, train
from recipes.pair_sources import PairArguments, given_pairs, own_pairs
from recipes.preference import PreferenceConfig, preference_trainer
from recipes.stages import train_in_rounds


@dataclass
class DPOArguments(PairArguments):
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
        rows, counts = own_pairs(job, model)
    with refused_settings():
        trainer = preference_trainer(job.config, model, rows, job.checked.tokenizer, peft_config)
    train(job, trainer, pairs=counts)


if __name__ == "__main__":
    main()
