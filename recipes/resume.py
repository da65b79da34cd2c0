"""Train from where a run was left."""

from pathlib import Path

from transformers import Trainer, TrainerState
from trl import GRPOTrainer

from recipes.ppo_trainer import PPOTrainer, after_epochs


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
            get_sampler, done = trainer._get_train_sampler, int(state.epoch + 1e-6)
            trainer._get_train_sampler = lambda *args: after_epochs(done, get_sampler(*args))
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
