"""A run of a recipe in a process of its own that a real signal meets at a moment that is told beforehand.

A moment is a part of the run, how manieth time it is entered, and seconds after that.
"""

import functools
import importlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path

from recipes.tasks import gsm8k

# Recipes are imported once, in a process from which every run is forked.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["recipes.grpo", "recipes.ppo", "recipes.dpo", "doomed"])

# What each part of a run is in the code.
PARTS = {
    "generation": ["transformers:GenerationMixin.generate"],
    "update": ["torch.optim:AdamW.step"],
    "saving": ["transformers:Trainer._save_checkpoint"],
    "evaluation": ["recipes.held_out:HeldOut.evaluate_once", "recipes.held_out:HeldOut.solve"],
    "report": ["recipes.job:plot_curve", "recipes.job:report_line"],
    "step": ["transformers:Trainer.training_step"],
    "setup": ["transformers:Trainer.create_scheduler"],
    "loading": ["transformers:Trainer._load_from_checkpoint"],
}


def run(recipe: str, argv: list[str], place: Path, moment=None, sent=signal.SIGKILL, reward=None) -> tuple:
    """The exit code of `recipe` in the folder `place`, what it printed, and seconds from the signal to its end.

    Args:
        moment (`tuple`): part, count from 0, and seconds, at which `sent` comes; None: never.
        reward (`str`): a function of this file, as a third reward of gsm8k.
    """
    when = PROCESSES.Value("d", 0.0)
    process = PROCESSES.Process(target=_run, args=(recipe, argv, place, moment, int(sent), reward, when))
    process.start()
    process.join(120)
    took, code = time.time() - when.value, process.exitcode
    process.kill()
    log = (place / "log.txt").read_text()
    assert code is not None, log
    return code, log, took


def seconds_of(part: str, place: Path) -> list[float]:
    """How long the parts of this name took in the run in the folder `place`, which came to its end."""
    return json.loads((place / "parts.json").read_text())[part]


def _run(recipe, argv, place, moment, sent, reward, when):
    os.chdir(place)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    took, inside = defaultdict(list), []

    def told(part, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            if "evaluation" in inside:  # generates as well
                return function(*args, **kwargs)
            timer = None
            if moment and moment[:2] == (part, len(took[part])):
                timer = threading.Timer(moment[2], end)
                timer.start()
            inside.append(part)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took[inside.pop()].append(time.perf_counter() - started)
                if timer and not when.value:  # faster than the run that the moment is taken from
                    timer.cancel()
                    end()

        return wrapped

    def end():
        when.value = time.time()
        os.kill(os.getpid(), sent)

    for part, places in PARTS.items():
        for place in places:
            module, _, path = place.partition(":")
            *owners, name = path.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            setattr(owner, name, told(part, getattr(owner, name)))
    if reward:
        gsm8k.task = gsm8k.task._and(globals()[reward], 1.0)
    importlib.import_module(f"recipes.{recipe}").main(argv)
    Path("parts.json").write_text(json.dumps(took))


def run_to_its_end(command: list[str]) -> int:
    """The exit code of `python -m recipes.<name> ...`, without the seconds that importing takes."""
    process = PROCESSES.Process(target=_main, args=(command[2], command[3:], Path.cwd()))
    process.start()
    process.join()
    return process.exitcode


def _main(module: str, argv: list[str], place: Path) -> None:
    os.chdir(place)
    importlib.import_module(module).main(argv)


def hangs(completions, **columns):
    if len(completions) == 1:
        return [0.5]
    while True:
        time.sleep(0.01)


def raises(completions, **columns):
    raise ZeroDivisionError("in a reward")


def is_no_number(completions, **columns):
    return [float("nan"), float("inf"), *[1.0] * (len(completions) - 2)][: len(completions)]


def is_too_short(completions, **columns):
    return [1.0] * (len(completions) - 1)


def is_none(completions, **columns):
    return [None] * len(completions)
