"""What a run did, at a glance, and its report: one HTML file with curves, samples and verdicts.

    python -m recipes.report runs/grpo-gsm8k                       # that run's report.html anew, as training writes it
    python -m recipes.report runs/r1-gsm8k                         # of a pipeline, all of its stages
    python -m recipes.report runs/grpo-gsm8k runs/ppo-gsm8k        # side by side: runs/report.html

Nothing is loaded to make one: it is read from the run's folder, whatever is there of it (recipes/reporting/).
"""

import argparse
import os
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipes.errors import InputError, exit_kindly, one_line, path_of, printable, refuse
from recipes.reporting.comparison_page import comparison_page
from recipes.reporting.files import read_metrics
from recipes.reporting.overoptimization_page import overoptimization_page
from recipes.reporting.pipeline_folder import as_run, is_pipeline, open_pipeline
from recipes.reporting.pipeline_page import pipeline_page
from recipes.reporting.run_folder import RunFolder, looks_like_run, open_run
from recipes.reporting.run_page import run_page
from recipes.run import Run, is_report, write_atomically
from recipes.tasks import Task

SAMPLES_SHOWN = 3
REPORT = "report.html"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="FOLDER", help="The folder of a run or of a pipeline.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Where to write; default: see above.")
    parser.error = refuse
    args = parser.parse_args(argv)
    if not args.runs:
        raise InputError("Name the folder of a run: make report RUN=runs/grpo-gsm8k.")
    folders = list(dict.fromkeys(map(path_of, args.runs)))
    if len(folders) == 1:
        path = write_report(folders[0], args.output)
    else:
        path = write_comparison(folders, args.output)
    print(printable(f"The report is in {path}."))


def write_report(folder: str | Path, output: Path | None = None) -> Path:
    """Write the report of a run or a pipeline to report.html in its folder, in place of an older one.

    Args:
        folder: of a run or a pipeline, of this version or an older one, finished or not.
        output (`Path`, *optional*): another file to write.

    Returns:
        `Path`: the file.

    Raises `InputError` where the folder is none of ours, and where the file to write is no report or another run's.
    """
    folder = Path(folder)
    if not is_pipeline(folder):
        page = run_page(open_run(folder))
    elif (pipeline := open_pipeline(folder)).name == "overoptimize":
        page = overoptimization_page(folder)
    else:
        page = pipeline_page(pipeline)
    return write_page(output or folder / REPORT, page, own=folder)


def report_line(folder: str | Path) -> str:
    """The last line of a recipe: its report, which is written, or why there is none. What has ended has ended."""
    try:
        return f"The report is {write_report(folder)}."
    except InputError as error:
        return f"warning: there is no report of {folder}: {error}"
    except Exception as error:  # a fault of ours costs the page, and not the run
        what = f"{type(error).__name__}: {one_line(error)}"
        return f"warning: the report of {folder} failed ({what}); `python -m recipes.report {folder}` shows where."


def has_report(folder: Path) -> bool:
    """Whether there is a report of how the run in `folder` ended."""
    report, result = folder / REPORT, folder / "result.json"
    return report.exists() and report.stat().st_mtime >= result.stat().st_mtime


def write_comparison(folders: list[Path], output: Path | None = None) -> Path:
    """Write the report of several runs side by side: by default to the folder that holds them all.

    Returns:
        `Path`: the file.

    Raises `InputError` as `write_report` does.
    """
    runs = [open_any(folder) for folder in folders]
    if output is None:
        common, here = Path(os.path.commonpath([run.path.resolve().parent for run in runs])), Path.cwd()
        output = (common.relative_to(here) if common.is_relative_to(here) else common) / REPORT
    return write_page(output, comparison_page(runs, output.parent), own=None)


def open_any(folder: Path) -> RunFolder:
    """A run; of a pipeline, the run from its base model to its last stage."""
    if not is_pipeline(folder):
        return open_run(folder)
    pipeline = open_pipeline(folder)
    if pipeline.name == "overoptimize":
        runs = [stage.name for stage in pipeline.stages if stage.metrics and stage.recipe != "rm"]
        hint = f", such as {folder / runs[0]}" if runs else ""
        raise InputError(f"{folder} holds several runs: name those to compare{hint}.")
    return as_run(pipeline)


def write_page(path: Path, page: str, own: Path | None) -> Path:
    """Write `page`, but never over what is no report of ours, nor over that of a run other than `own`."""
    another = path.name == REPORT and (is_pipeline(path.parent) or looks_like_run(path.parent))
    if another and (own is None or path.parent.resolve() != own.resolve()):
        raise InputError(f"{path} is the report of the run in {path.parent}: give --output FILE for this one.")
    try:
        if path.exists() and not is_report(path):
            raise InputError(f"{path} exists and is no report of ours: give another --output.")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page)
    except OSError as error:
        raise InputError(f"The report {path} cannot be written: {error.strerror}.") from error
    return path


def print_result(run: Run) -> None:
    """The table of `result.json` and three held-out problems, before and after."""
    console, result = Console(), run.result
    before, after = result.get("before"), result.get("after")
    if "pair_accuracy" in result:  # a reward model's
        told = "{:.3f} of {} held-out pairs are in the right order (95 % interval {:.3f}-{:.3f})."
        print(told.format(result["pair_accuracy"], result["held_out_pairs"], *result["pair_ci95"]))
    if not before or not after:
        return
    table = Table(box=box.SIMPLE_HEAD, title=f"{after['n']} held-out problems", title_justify="left")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ("accuracy", "strict_accuracy", "format"):
        table.add_row(name.replace("_", " "), f"{before[name]:.3f}", f"{after[name]:.3f}")
        if name == "accuracy":
            table.add_row("  95 % interval", *("{:.3f}-{:.3f}".format(*figures["ci95"]) for figures in (before, after)))
    table.add_row("mean length", f"{before['mean_length']:.1f}", f"{after['mean_length']:.1f}")
    console.print(table)

    samples = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for column in ("problem", "before", "after"):
        samples.add_column(column, ratio=1, overflow="fold")
    for old, new in list(zip(run.load_samples("before"), run.load_samples("after"), strict=False))[:SAMPLES_SHOWN]:
        samples.add_row(*(Text(printable(text)) for text in (old["question"], old["completion"], new["completion"])))
    console.print(samples)


# What a trainer's curves are called: (logged name, title, the figure of the evaluations that goes with it).
PREFERENCE = [
    ("loss", "loss", None),
    ("rewards/margins", "margin of chosen over rejected", None),
    ("rewards/accuracies", "share of pairs in the right order", None),
    ("logps/chosen", "log-probability of the chosen", None),
]
SUPERVISED = [
    ("loss", "loss (nats a token)", None),
    ("mean_token_accuracy", "share of tokens foreseen", None),
    ("entropy", "entropy of the policy (nats)", None),
    ("grad_norm", "gradient norm", None),
]
REWARD_MODEL = [
    ("loss", "loss", None),
    ("margin", "margin of chosen over rejected", None),
    ("accuracy", "share of pairs in the right order", None),
    ("grad_norm", "gradient norm", None),
]


def plot_curve(run: Run, task: Task) -> Path:
    """Draw curve.png: the curves of DeepSeek-R1-Zero (accuracy, length), the price of them (entropy), and PPO's own."""
    metrics = read_metrics(run.folder / "metrics.jsonl", notes=[])
    correctness, form = (f"rewards/{reward.__name__}/mean" for reward in (task.correctness, task.format))
    panels = [
        (correctness, "correctness of the samples", "accuracy"),
        (form, "format", "format"),
        ("completions/mean_length", "mean length (tokens)", "mean_length"),
        ("entropy", "entropy of the policy (nats)", None),
    ]
    if any("value/loss" in row for row in metrics):
        panels.insert(2, ("objective/kl", "KL to the reference (nats a completion)", None))
        panels.append(("value/explained_variance", "explained variance of the returns", None))
    if not any(correctness in row for row in metrics):
        panels = PREFERENCE if any("rewards/margins" in row for row in metrics) else SUPERVISED
        panels = REWARD_MODEL if any("margin" in row for row in metrics) else panels
    columns = len(panels) // 2
    figure = Figure(figsize=(5 * columns, 5.6), layout="constrained")
    for axes, (key, title, held_out) in zip(figure.subplots(2, columns).flat, panels, strict=True):
        points = [(row["step"], row[key]) for row in metrics if row.get(key) is not None]
        axes.plot(*zip(*points, strict=True) if points else ([], []), color="#2a6f97", label="training samples")
        if held_out and run.result and run.result["before"]:
            ends = [run.result["before"][held_out], run.result["after"][held_out]]
            axes.plot([0, run.result["steps"]], ends, "o", color="#d1495b", label="held-out, greedy")
            axes.legend(frameon=False, fontsize=8, loc="lower right")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        lowest = min((value for _, value in points), default=0)
        if lowest >= 0 or key == "value/explained_variance":  # which can fall far before the critic has learned
            axes.set_ylim(bottom=0 if lowest >= 0 else max(lowest, -1))
    return save_picture(figure, run.folder / "curve.png")


def save_picture(figure: Figure, path: Path) -> Path:
    """A crash leaves the old picture or the new one, never half of one."""
    draft = path.with_name(path.name + ".part")
    figure.savefig(draft, format="png", dpi=120)
    return draft.replace(path)


if __name__ == "__main__":
    main()
