"""Write every logged step to metrics.jsonl and every sampled completion to samples/."""

import json
import math
import time
from pathlib import Path
from statistics import fmean

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recipes.progress import progress
from recipes.run import Run, write_atomically
from recipes.samples import totals

SAME = 1e-6  # totals are sums of floats


def record(run: Run, trainer, recipe: str = "", watch: bool | None = None) -> "Recorder":
    """Add a `Recorder` to `trainer`, in place of its own progress bar and of a dictionary printed at every log."""
    for shown_instead in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(shown_instead)
    recorder = Recorder(run, trainer, progress(trainer, run.settings, recipe, watch))
    trainer.add_callback(recorder)
    return recorder


class Recorder(TrainerCallback):
    """The run's two records; what is logged is shown by `shown`, too, the panel or the lines of recipes/progress.py.

    A resumed run goes on in the same files: what was logged after the checkpoint is dropped first. As a context manager
    it leaves the terminal in order, whatever ends training.
    """

    def __init__(self, run: Run, trainer, shown):
        self.run, self.trainer, self.shown = run, trainer, shown
        self.started = time.monotonic()
        self.without_signal: list[float] = []  # shares of groups, a step each
        self.minutes_before = max((row["minutes"] for row in read_metrics(run.folder)), default=0.0)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception) -> None:
        self.shown.end()

    @property
    def minutes(self) -> float:
        """Of all the processes that worked on this run, up to now."""
        return self.minutes_before + (time.monotonic() - self.started) / 60

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        (self.run.folder / "after.json").unlink(missing_ok=True)  # of a model that is about to change
        kept = [row for row in read_metrics(self.run.folder) if row["step"] <= state.global_step]
        write_atomically(self.run.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
        if kept and hasattr(self.trainer, "_total_train_tokens"):  # TRL would count anew, but for GRPO
            self.trainer._total_train_tokens = kept[-1].get("num_tokens", 0)
        samples = self.run.folder / "samples"
        for file in (*samples.glob("step_*.jsonl"), *samples.glob("during_*.jsonl")):
            if int(file.stem.partition("_")[2]) > state.global_step:
                file.unlink()
        self.shown.begin(state, kept)

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            if getattr(self.trainer, "_logs", {}).get("rewards"):
                self.without_signal.append(self._groups_without_signal())
            self.shown.step(state)

    def on_train_end(self, args, state, control, **kwargs):
        self.shown.end()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or "loss" not in logs:
            return
        row = {"step": state.global_step, "minutes": round(self.minutes, 5)}
        row |= {key: _finite(value) for key, value in logs.items() if isinstance(value, int | float)}
        samples = self._samples() if hasattr(self.trainer, "_logs") else []
        if "frac_reward_zero_std" in row and self.without_signal:
            row["frac_reward_zero_std"] = fmean(self.without_signal)  # of the steps since the last row
        self.without_signal = []
        with (self.run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if samples:
            self.run.save_samples(f"step_{state.global_step:06d}", samples)
        self.shown.log(state, row, samples[-1] if samples else None)

    def _samples(self) -> list[dict]:
        """The completions of the last generation batch, as TRL keeps them for its own completions table."""
        logs = self.trainer._logs
        samples = zip(logs["prompt"], logs["completion"], logs["advantages"], strict=True)
        return [
            {
                "prompt": prompt,
                "completion": completion,
                **{name: _finite(values[i]) for name, values in logs["rewards"].items()},
                **{name: values[i] for name, values in logs["extra"].items()},
                "advantage": _finite(advantage),
            }
            for i, (prompt, completion, advantage) in enumerate(samples)
        ]

    def _groups_without_signal(self) -> float:
        """Share of groups whose completions all earn the same; TRL's takes the rounding of 1.0 + 0.2 for spread."""
        names, n = self.trainer.reward_func_names, self.trainer.num_generations
        logged = [[_finite(value) for value in self.trainer._logs["rewards"][name]] for name in names]
        earned = totals(logged, self.trainer.reward_weights.tolist())
        groups = [[total or 0.0 for total in earned[i : i + n]] for i in range(0, len(earned), n)]
        return fmean(max(group) - min(group) < SAME for group in groups)


def read_metrics(folder: Path) -> list[dict]:
    """The logged steps of the run in `folder`; a last line that a crash cut off is left out."""
    rows = []
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def mean_at_the_end(run: Run, name: str, steps: int = 5) -> float | None:
    """The mean of a metric over the last logged steps; a single step is noisy."""
    values = [row[name] for row in read_metrics(run.folder)[-steps:] if row.get(name) is not None]
    return fmean(values) if values else None


def _finite(value: float | None) -> float | None:
    """NaN and infinity are no JSON."""
    return value if value is not None and math.isfinite(value) else None
