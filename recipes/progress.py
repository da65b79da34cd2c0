"""What is seen of a recipe while it trains: the panel of recipes/live.py on a terminal, else about ten lines."""

import os
import sys
from pathlib import Path
from statistics import fmean

from rich.console import Console
from tqdm.auto import tqdm

from recipes.live import LivePanel


def progress(trainer, settings: dict, recipe: str = "", watch: bool | None = None) -> "LivePanel | Lines":
    """A panel where it is wanted and the terminal can show it, else lines.

    Args:
        trainer (`transformers.Trainer`): of any recipe; with `--disable_tqdm` it has lines in any case.
        settings (`dict`): the run's; `task` and `model_name_or_path` stand in the panel's title.
        watch (`bool` or `None`): `None` is yes, but for a notebook's `!command`: a cell's cursor does not move.
    """
    console = Console(file=sys.stdout)  # this very file: what is called sys.stdout will change
    if watch is None:
        watch = "JPY_PARENT_PID" not in os.environ
    elif watch and not shows_a_panel(console):
        print("--watch needs a terminal that moves its cursor and knows UTF-8: here are lines instead.")
    names = figures(trainer)
    if not watch or trainer.args.disable_tqdm or not shows_a_panel(console):
        return Lines(names, trainer.args.disable_tqdm)
    title = [recipe, settings.get("task"), Path(settings.get("model_name_or_path") or "").name]
    rewards = reward_names(trainer)
    weights = map(float, getattr(trainer, "reward_weights", [1.0] * len(rewards)))
    return LivePanel(console, " · ".join(filter(None, title)), names, dict(zip(rewards, weights, strict=True)))


def shows_a_panel(console: Console) -> bool:
    """Whether it is a terminal, not called "dumb", whose characters are Unicode's."""
    return console.file.isatty() and console.is_interactive and console.encoding.lower().startswith("utf")


def reward_names(trainer) -> list[str]:
    return getattr(trainer, "reward_func_names", [])


def figures(trainer) -> dict[str, str]:
    """Which of the logged metrics matter, with the name by which each is shown."""
    names = {f"rewards/{name}/mean": name.removesuffix("_reward") for name in reward_names(trainer)}
    if not names:  # DPO's, the reward model's and SFT's
        names = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "pairs right"}
        names |= {"margin": "margin", "accuracy": "pairs right", "mean_token_accuracy": "tokens right"}
    names |= {"completions/mean_length": "length", "entropy": "entropy"}
    return names | {"objective/kl": "kl", "value/explained_variance": "explained"}  # PPO's


class Lines:
    """About ten lines in a run, and a progress bar where somebody is watching."""

    def __init__(self, names: dict[str, str], disable_tqdm: bool = False):
        self.names, self.disable_tqdm = names, disable_tqdm
        self.since_last_line, self.of_last_line = [], []

    def begin(self, state, rows: list[dict]) -> None:
        # disable=None: no bar where nobody is watching
        self.bar = tqdm(total=state.max_steps, dynamic_ncols=True, disable=self.disable_tqdm or None)

    def step(self, state) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def log(self, state, row: dict, sample: dict | None) -> None:
        self.since_last_line.append({name: row[key] for key, name in self.names.items() if row.get(key) is not None})
        self.bar.set_postfix({name: f"{value:.2f}" for name, value in self.since_last_line[-1].items()})
        if state.global_step % max(1, state.max_steps // 10) == 0 or state.global_step == state.max_steps:
            # The mean since the last line: a single step is noisy, and so is what is left over at the end.
            if len(self.since_last_line) < len(self.of_last_line) / 2:
                self.since_last_line = self.of_last_line + self.since_last_line
            columns = {name: [row[name] for row in self.since_last_line if name in row] for name in self.names.values()}
            line = "  ".join(f"{name} {fmean(values):.2f}" for name, values in columns.items() if values)
            self.of_last_line, self.since_last_line = self.since_last_line, []
            self.bar.write(f"step {state.global_step:4d}/{state.max_steps}  {line}")

    def end(self) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
