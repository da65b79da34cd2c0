"""PPO (Schulman et al., 2017) with rule-based rewards, on two LoRA adapters over one frozen 4-bit model.

    make ppo-gsm8k
    make ppo-gsm8k ARGS="--model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --max_steps 100"
    python -m recipes.ppo --task word_problems --seed 1 --output_dir runs/seed1
    python -m recipes.ppo --config my.yaml --learning_rate 2e-5

For each prompt the model writes a completion; rules judge it; a critic says for each token how much better things went
than it had expected, and the token becomes that much more likely. One base model serves as actor, critic and reference:
recipes/ppo_trainer.py. The folder of the run, runs/ppo-<task>, holds everything: see recipes/run.py.
"""

from dataclasses import dataclass

from recipes.errors import exit_kindly, refused_settings
from recipes.job import begin, train
from recipes.ppo_trainer import PPOConfig, PPOTrainer


@dataclass
class PPODefaults(PPOConfig):
    """What the recipe sets for PPO; batch, length and precision come from recipes/hardware.py."""

    temperature: float = 1.0
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    job = begin("ppo", PPODefaults, __doc__, argv)
    if job is None:
        return
    with refused_settings():
        model, peft_config = job.load_model()
        trainer = PPOTrainer(
            model=model,
            reward_funcs=job.checked.rewards,
            args=job.config,
            train_dataset=job.checked.train,
            processing_class=job.checked.tokenizer,
            peft_config=peft_config,
        )
    train(job, trainer, metrics=("objective/kl", "entropy", "value/explained_variance"))


if __name__ == "__main__":
    main()
