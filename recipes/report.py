"""What a run did, at a glance: the table of before and after, three samples side by side, and the curve."""

from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipes.errors import printable
from recipes.record import read_metrics
from recipes.run import Run
from recipes.tasks import Task

SAMPLES_SHOWN = 3


def print_result(run: Run) -> None:
    """The table of `result.json` and three held-out problems, before and after."""
    console, result = Console(), run.result
    before, after = result["before"], result["after"]
    if before is None:
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


def plot_curve(run: Run, task: Task) -> Path:
    """Draw curve.png: the curves of DeepSeek-R1-Zero (accuracy, length), the price of them (entropy), and PPO's own."""
    metrics = read_metrics(run)
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
    path = run.folder / "curve.png"
    figure.savefig(path, dpi=120)
    return path
