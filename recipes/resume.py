"""Train from where a run was left."""

from pathlib import Path

import torch
from transformers import Trainer, TrainerState
from trl import GRPOTrainer

from recipes.ppo_trainer import PPOTrainer


def train_from(trainer: Trainer, checkpoint: Path | None) -> None:
    """`trainer.train`, from `checkpoint` where there is one.

    A checkpoint of the last step is only loaded: `Trainer.train` would take one step more before it noticed.
    """
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step >= state.max_steps:
            trainer._load_from_checkpoint(str(checkpoint))
            trainer.state = state
            return
        print(f"Going on from step {state.global_step} of {state.max_steps}.", flush=True)
        if isinstance(trainer, GRPOTrainer) and not isinstance(trainer, PPOTrainer):  # which does so by itself
            pass_over_epochs(trainer, int(state.epoch + 1e-6))
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


def pass_over_epochs(trainer: GRPOTrainer, epochs: int) -> None:
    """Let the rows come in the order of the epoch that is gone on with: TRL's sampler begins with the first one's."""
    get_sampler = trainer._get_train_sampler

    def get_later_sampler(*args):
        sampler = get_sampler(*args)
        for _ in range(epochs if sampler.shuffle else 0):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler

    trainer._get_train_sampler = get_later_sampler
