"""The command that a run was started by, from what was given; and in which settings runs differ."""

import json
import re
import shlex
from pathlib import Path

from recipes.reporting.run_folder import RunFolder
from recipes.run import NOT_COMPARED

MODULES = {"rm": "reward_model", "eval": "evaluate"}  # of recipes that are not called as their file is
SHELL_SAFE = re.compile(r"[\w./:=@%+,-]+")  # needs no quotes, inside of others either


def command_of(recipe: str, given: dict) -> str:
    """`python -m recipes.grpo --task ...`, quoted for a shell."""
    words = ["python", "-m", f"recipes.{MODULES.get(recipe, recipe)}"]
    for name in sorted(given, key=lambda name: name != "task"):  # the task first
        words += flag_of(name, given[name])
    return shlex.join(words)


def make_of(recipe: str, given: dict) -> str:
    """The same as `make grpo-gsm8k ARGS="..."`; "" where the quotes of both would not agree."""
    words = [word for name in given if name != "task" for word in flag_of(name, given[name])]
    if not all(SHELL_SAFE.fullmatch(word) for word in (recipe, str(given.get("task", "gsm8k")), *words)):
        return ""
    command = f"make {recipe}-{given.get('task', 'gsm8k')}"
    return f'{command} ARGS="{" ".join(words)}"' if words else command


def flag_of(name: str, value) -> list[str]:
    """A setting as words of the command line; none for what is not set."""
    if value is None or value == []:
        return []
    values = value if isinstance(value, list) else [value]
    return [f"--{name}", *(as_word(value) for value in values)]


def as_word(value) -> str:
    """A setting's value as text; of a list, its values with spaces."""
    if isinstance(value, list):
        return " ".join(map(as_word, value))
    return json.dumps(value, default=str, skipkeys=True) if isinstance(value, dict) else str(value)


def exactly(recipe: str, folder: Path, task: str) -> list[str]:
    """The command that repeats a run with all of its settings, on whatever machine: by make, if it can, and without."""
    again = {"config": str(folder / "config.yaml"), "output_dir": str(folder.with_name(f"{folder.name}-again"))}
    by_make = make_of(recipe, {"task": task, **again}) if task else ""
    return [command for command in (by_make, command_of(recipe, again)) if command]


def differing(runs: list[RunFolder], shared: bool) -> list[tuple[str, list[str]]]:
    """The settings that are not the same in all `runs`, each with its value in every run.

    Args:
        shared (`bool`): those that every run has; else those that only some have, such as a recipe's own.
    """
    names = sorted({name for run in runs for name in run.settings} - NOT_COMPARED)
    names = [name for name in names if shared == all(name in run.settings for run in runs)]
    rows = [(name, [as_word(run.settings[name]) if name in run.settings else "" for run in runs]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
