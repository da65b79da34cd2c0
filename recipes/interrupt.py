"""Ctrl-C saves before it stops."""

import math
import signal
import time

from accelerate.utils import gather_object
from transformers import TrainerCallback

from recipes.processes import count

AT_ONCE = 5  # seconds


def save_on_interrupt(trainer) -> "SaveOnInterrupt":
    """Add the callback to `trainer`; its `stopped` says afterwards whether training was interrupted."""
    callback = SaveOnInterrupt()
    trainer.add_callback(callback)
    return callback


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C (or SIGTERM) once: finish this step, save a checkpoint, stop. Twice: stop at once.

    Several processes stop after the same step, and take what comes from the terminal and from the launcher for once.
    """

    def __init__(self):
        self.stopped, self._since = False, -math.inf
        self._handlers = {}

    def on_train_begin(self, args, state, control, **kwargs):
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args, state, control, **kwargs):
        if count() > 1:
            self.stopped = any(gather_object([self.stopped]))
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self._restore()

    def _stop(self, number, frame):
        now = time.monotonic()
        if count() > 1 and now - self._since < AT_ONCE:
            return
        if self.stopped and count() > 1:
            raise KeyboardInterrupt
        self.stopped, self._since = True, now
        if count() == 1:
            self._restore()  # the second time means now
        print("\nStopping after this step, and saving it. Once more stops at once.", flush=True)

    def _restore(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
