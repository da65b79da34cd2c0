"""A run as its folder tells it, of this version or an older one, finished or not."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recipes.errors import InputError, near_path
from recipes.reporting.files import number, read_json, read_metrics, read_rows, read_settings
from recipes.run import is_run

# A key of metrics.jsonl or config.yaml that only one recipe writes, for runs that do not say which they are of.
TELLTALES = {
    "value/loss": "ppo",
    "rewards/margins": "dpo",
    "reward": "grpo",
    "mean_token_accuracy": "sft",
    "margin": "rm",
    "num_prompts": "sample",
    "models": "eval",
}
NOT_REWARDS = {"question", "answer", "completion", "length", "truncated"}
LAST_STEPS = 4  # of training whose samples are looked through


@dataclass
class RunFolder:
    """Everything that a report shows of one run; what it is not asked for is not read.

    Attributes:
        notes (`list[str]`): what could not be read, one sentence each.
        metrics (`list[dict]`): the logged steps; every value is a finite float or `None`.
        before, after (`list[dict]`): the held-out problems as they were solved; empty where they were not.
    """

    path: Path
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.about = read_json(self.path / "about.json", self.notes)
        self.result = read_json(self.path / "result.json", self.notes)
        self.given = read_settings(self.path / "given.yaml", self.notes)
        self.settings = read_settings(self.path / "config.yaml", self.notes)
        self.metrics = read_metrics(self.path / "metrics.jsonl", self.notes)
        self.before, self.after = self.held_out("before"), self.held_out("after")

    @property
    def name(self) -> str:
        return self.path.name or str(self.path)

    @property
    def finished(self) -> bool:
        return bool(self.result)

    @cached_property
    def recipe(self) -> str:
        """grpo, ppo, dpo, sft, rm, sample or eval; "" where nothing tells."""
        told = self.about.get("recipe") or self.result.get("trainer")
        if isinstance(told, str):
            return told
        keys = {key for row in self.metrics for key in row} | self.settings.keys()
        return next((recipe for key, recipe in TELLTALES.items() if key in keys), "")

    @cached_property
    def task(self) -> str:
        told = (source.get("task") for source in (self.about, self.result, self.settings))
        return next((task for task in told if isinstance(task, str)), "")

    @cached_property
    def model(self) -> str:
        told = self.result.get("model") or self.settings.get("model_name_or_path")
        return str(told) if told else ""

    @cached_property
    def rewards(self) -> dict[str, float]:
        """The weight of each reward by its name: 0.0 is measured only."""
        told = self.about.get("rewards")
        if isinstance(told, dict) and told:
            return {name: number(weight) or 0.0 for name, weight in told.items()}
        logged = {
            key: None for row in self.metrics for key in row if key.startswith("rewards/") and key[-5:] == "/mean"
        }
        names = [key[len("rewards/") : -len("/mean")] for key in logged]
        if not names:
            judged = (self.before or self.after or [{}])[0]
            names = [key for key in judged if key not in NOT_REWARDS and key.endswith("_reward")]
        weights = self.settings.get("reward_weights")
        if not isinstance(weights, list) or len(weights) != len(names):
            weights = [1.0] * len(names)
        return {name: number(weight) or 0.0 for name, weight in zip(names, weights, strict=True)}

    @cached_property
    def correctness(self) -> str:
        """The reward that is 1.0 where the answer is right; "" where there is none."""
        return self._role("correctness", 0)

    @cached_property
    def form(self) -> str:
        """The reward that is 1.0 where the completion is well formed; "" where there is none."""
        return self._role("format", 1)

    def _role(self, role: str, place: int) -> str:
        told, names = self.about.get(role), list(self.rewards)
        if isinstance(told, str):
            return told
        named = [name for name in names if role in name]
        return (named or names[place : place + 1] or [""])[0]

    @cached_property
    def during(self) -> dict[int, list[dict]]:
        """The few held-out problems that were solved while training, by step."""
        files = {step_of(file): file for file in (self.path / "samples").glob("during_*.jsonl")}
        return {step: self.held_out(files[step].stem) for step in sorted(files) if step is not None}

    def held_out(self, name: str) -> list[dict]:
        return read_rows(self.path / "samples" / f"{name}.jsonl", self.notes)

    @cached_property
    def last_samples(self) -> list[tuple[str, dict]]:
        """The completions of the last steps of training, each with the name of its file."""
        files = {step_of(file): file for file in (self.path / "samples").glob("step_*.jsonl")}
        last = [files[step] for step in sorted(step for step in files if step is not None)[-LAST_STEPS:]]
        return [(f"samples/{file.name}", row) for file in last for row in read_rows(file, self.notes)]

    @property
    def steps(self) -> int:
        return int(number(self.result.get("steps")) or max((row["step"] for row in self.metrics), default=0))

    @property
    def minutes(self) -> float | None:
        return number(self.result.get("minutes")) or max(
            (row.get("minutes") or 0 for row in self.metrics), default=None
        )


def step_of(file: Path) -> int | None:
    digits = file.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() and len(digits) < 12 else None


def open_run(folder: Path) -> RunFolder:
    """The run in `folder`; raises `InputError` where there is none."""
    if not folder.exists():
        raise InputError(f"There is no folder {folder}.{near_path(folder)}")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give the folder of a run, such as runs/grpo-word_problems.")
    if not looks_like_run(folder):
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and looks_like_run(path))
        hint = f" It holds the runs {', '.join(inside[:8])}: give these." if inside else ""
        raise InputError(f"{folder} is no run: it has neither given.yaml nor metrics.jsonl nor result.json.{hint}")
    return RunFolder(folder)


def looks_like_run(folder: Path) -> bool:
    return is_run(folder) or any((folder / name).is_file() for name in ("metrics.jsonl", "result.json"))
