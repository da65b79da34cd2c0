"""Ctrl-C saves before it stops; SIGTERM, by which a machine is taken back, saves at once and ends with 0."""

import contextlib
import math
import random
import signal
import time
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback

from recipes.errors import Preempted
from recipes.processes import count

AT_ONCE = 5  # seconds
# What a trainer of ours or TRL's keeps from step to step beside its state, and PPO saves.
OF_TRAINER = ("_step", "_buffered_inputs", "kl_coef")


def save_on_interrupt(trainer) -> "SaveOnInterrupt":
    """Add the callback to `trainer`; its `stopped` says afterwards whether training was interrupted."""
    callback = SaveOnInterrupt(trainer)
    trainer.add_callback(callback)
    return callback


def stop_on_sigterm() -> None:
    """Until the script ends, SIGTERM raises `Preempted`; not outside the main thread, where no signal arrives."""

    def stop(number, frame):
        raise Preempted

    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, stop)


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C once: finish this step, save a checkpoint, stop. Twice: stop at once.

    SIGTERM: give this step up, save the one before, stop. Whoever sends it waits for some seconds (Slurm 30), and a
    step may take minutes. What the step has changed goes back, so that it is repeated as it would have been.

    Several processes stop after the same step whichever it was, since none can leave the others alone in the middle of
    one; and take what comes from the terminal and from the launcher for once.

    Attributes:
        stopped (`int` or `None`): the number of the signal.
    """

    def __init__(self, trainer):
        self.trainer, self.stopped, self._since = trainer, None, -math.inf
        self._handlers = {}
        self._in_step = False  # where nothing is lost that is not repeated
        self._gave_up = False
        self._after_step = None  # what the last one left

    def on_train_begin(self, args, state, control, **kwargs):
        with contextlib.suppress(ValueError):  # outside the main thread no signal arrives
            self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_step_begin(self, args, state, control, **kwargs):
        self._in_step = True
        if self.stopped == signal.SIGTERM and count() == 1:
            self._give_up()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._in_step = False  # until the next one: an update, a log or a checkpoint is not left half done

    def on_step_end(self, args, state, control, **kwargs):
        own = {name: getattr(self.trainer, name) for name in OF_TRAINER if hasattr(self.trainer, name)}
        self._after_step = random_states(), state.num_input_tokens_seen, own
        if count() > 1:
            self.stopped = max(filter(None, gather_object([self.stopped])), default=None)
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self.restore()

    @contextlib.contextmanager
    def saved_by(self):
        """Around training: a step that was given up is followed by a checkpoint of the one before."""
        try:
            yield
        except Preempted:
            if not self._gave_up:  # it came while training was prepared
                raise
            state = self.trainer.state
            folder = Path(self.trainer.args.output_dir) / f"checkpoint-{state.global_step}"
            if self._after_step and not (folder / "trainer_state.json").exists():
                states, state.num_input_tokens_seen, own = self._after_step
                set_random_states(states)
                for name, value in own.items():
                    setattr(self.trainer, name, value)
                self.trainer._save_checkpoint(self.trainer.model, trial=None)
        finally:
            self.restore()

    def _stop(self, number, frame):
        now = time.monotonic()
        if count() > 1 and now - self._since < AT_ONCE:
            return
        if self.stopped and count() > 1:
            raise KeyboardInterrupt
        self.stopped, self._since = number, now
        if number == signal.SIGTERM and count() == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what follows is not to be disturbed
            say("\nSIGTERM: what this step has done is given up, the last one is saved.")
            if self._in_step:
                self._give_up()
            return
        if count() == 1:
            signal.signal(number, signal.default_int_handler)  # the second time means now
        say("\nStopping after this step, and saving it. Once more stops at once.")

    def _give_up(self):
        self._in_step, self._gave_up = False, True
        raise Preempted

    def restore(self):
        """The handlers that were there before; after SIGTERM it stays ignored, until the script ends."""
        for number, handler in self._handlers.items():
            if not (number == signal.SIGTERM == self.stopped):
                signal.signal(number, handler)
        self._handlers = {}


def say(text: str) -> None:
    with contextlib.suppress(RuntimeError):  # the signal came in the middle of another print
        print(text, flush=True)


def random_states() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.cuda.get_rng_state_all()


def set_random_states(states: tuple) -> None:
    of_python, of_numpy, of_torch, of_cuda = states
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.set_rng_state(of_torch)
    torch.cuda.set_rng_state_all(of_cuda)
