"""Ctrl-C saves before it stops."""

import signal

from transformers import TrainerCallback


def save_on_interrupt(trainer) -> "SaveOnInterrupt":
    """Add the callback to `trainer`; its `stopped` says afterwards whether training was interrupted."""
    callback = SaveOnInterrupt()
    trainer.add_callback(callback)
    return callback


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C (or SIGTERM) once: finish this step, save a checkpoint, stop. Twice: stop at once."""

    def __init__(self):
        self.stopped = False
        self._handlers = {}

    def on_train_begin(self, args, state, control, **kwargs):
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_step_end(self, args, state, control, **kwargs):
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self._restore()

    def _stop(self, number, frame):
        self.stopped = True
        self._restore()  # the second time means now
        print("\nStopping after this step, and saving it. Once more stops at once.", flush=True)

    def _restore(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
