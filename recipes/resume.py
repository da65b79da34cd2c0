"""Train from where a run was left."""

from pathlib import Path

from transformers import Trainer, TrainerState


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
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
