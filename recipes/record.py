"""Write every logged step to metrics.jsonl and every sampled completion to samples/, and show progress."""

import json
import math
import time
from statistics import fmean

from tqdm.auto import tqdm
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recipes.run import Run, write_atomically


def record(run: Run, trainer) -> "Recorder":
    """Add a `Recorder` to `trainer`, in place of its own progress bar and of a dictionary printed at every log."""
    for shown_instead in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(shown_instead)
    recorder = Recorder(run, trainer)
    trainer.add_callback(recorder)
    return recorder


class Recorder(ProgressCallback):
    """The trainer's progress bar with the figures that matter, and the run's two records.

    A resumed run goes on in the same files: what was logged after the checkpoint is dropped first.
    """

    def __init__(self, run: Run, trainer):
        super().__init__()
        self.run, self.trainer = run, trainer
        self.started, self.since_last_line = time.monotonic(), []
        self.minutes_before = max((row["minutes"] for row in read_metrics(run)), default=0.0)

    @property
    def minutes(self) -> float:
        """Of all the processes that worked on this run, up to now."""
        return self.minutes_before + (time.monotonic() - self.started) / 60

    def on_train_begin(self, args, state, control, **kwargs):
        self.current_step = 0
        if not state.is_world_process_zero:
            return
        # disable=None: no bar where nobody is watching
        self.training_bar = tqdm(total=state.max_steps, dynamic_ncols=True, disable=args.disable_tqdm or None)
        (self.run.folder / "after.json").unlink(missing_ok=True)  # of a model that is about to change
        kept = [row for row in read_metrics(self.run) if row["step"] <= state.global_step]
        write_atomically(self.run.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
        for file in (self.run.folder / "samples").glob("step_*.jsonl"):
            if int(file.stem.removeprefix("step_")) > state.global_step:
                file.unlink()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or "loss" not in logs:
            return
        row = {"step": state.global_step, "minutes": round(self.minutes, 5)}
        row |= {key: _finite(value) for key, value in logs.items() if isinstance(value, int | float)}
        with (self.run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if hasattr(self.trainer, "_logs"):  # it samples
            self.run.save_samples(f"step_{state.global_step:06d}", self._samples())
        self._show(state, row)

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

    def _show(self, state, row: dict) -> None:
        rewards = getattr(self.trainer, "reward_func_names", [])
        names = {f"rewards/{name}/mean": name.removesuffix("_reward") for name in rewards}
        if not rewards:  # DPO's and SFT's
            names = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "pairs right"}
            names |= {"mean_token_accuracy": "tokens right"}
        names |= {"completions/mean_length": "length", "entropy": "entropy"}
        names |= {"objective/kl": "kl", "value/explained_variance": "explained"}  # PPO's
        self.since_last_line.append({short: row[key] for key, short in names.items() if row.get(key) is not None})
        self.training_bar.set_postfix({name: f"{value:.2f}" for name, value in self.since_last_line[-1].items()})
        if state.global_step % max(1, state.max_steps // 10) == 0 or state.global_step == state.max_steps:
            # The mean since the last line: a single step is noisy.
            columns = {name: [row[name] for row in self.since_last_line if name in row] for name in names.values()}
            line = "  ".join(f"{name} {fmean(values):.2f}" for name, values in columns.items() if values)
            self.since_last_line = []
            line = f"step {state.global_step:4d}/{state.max_steps}  {line}"
            self.training_bar.write(line)


def read_metrics(run: Run) -> list[dict]:
    """The logged steps; a last line that a crash cut off is left out."""
    rows = []
    path = run.folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def mean_at_the_end(run: Run, name: str, steps: int = 5) -> float | None:
    """The mean of a metric over the last logged steps; a single step is noisy."""
    values = [row[name] for row in read_metrics(run)[-steps:] if row.get(name) is not None]
    return fmean(values) if values else None


def _finite(value: float | None) -> float | None:
    """NaN and infinity are no JSON."""
    return value if value is not None and math.isfinite(value) else None
