"""GRPO (Shao et al., 2024) with rule-based rewards, on a LoRA adapter over a frozen 4-bit model.

    make grpo-gsm8k
    make grpo-gsm8k ARGS="--model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --max_steps 100"
    python -m recipes.grpo --task word_problems --seed 1 --output_dir runs/seed1
    python -m recipes.grpo --config my.yaml --learning_rate 2e-5

For each prompt the model writes `num_generations` completions; rules judge them; the better ones of each group
become more likely. The folder of the run, runs/grpo-<task>, holds everything: see recipes/run.py.
"""

from dataclasses import dataclass

from trl import GRPOConfig, GRPOTrainer

from recipes.errors import exit_kindly, refused_settings
from recipes.job import begin, train


@dataclass
class GRPODefaults(GRPOConfig):
    """What the recipe sets for GRPO; batch, length and precision come from recipes/hardware.py."""

    num_generations: int = 8
    temperature: float = 1.0
    beta: float = 0.0  # no KL term and no reference model, as in DAPO and Dr. GRPO
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    job = begin("grpo", GRPODefaults, __doc__, argv)
    if job is None:
        return
    with refused_settings():
        model, peft_config = job.load_model()
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=job.checked.rewards,
            args=job.config,
            train_dataset=job.checked.train,
            processing_class=job.checked.tokenizer,
            peft_config=peft_config,
        )
    train(job, trainer)


if __name__ == "__main__":
    main()
