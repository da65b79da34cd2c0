"""Which curves a run has, and what is healthy about each."""

from dataclasses import dataclass, field, replace

import numpy as np

from recipes.intervals import wilson_interval
from recipes.reporting.files import number
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.series import window_of

MOST_POINTS = 300  # of a line: more cannot be told apart in a small figure
WINDOWS = 15  # a moving mean is over this part of the run


@dataclass(frozen=True)
class Dot:
    """A figure of the held-out problems at one step; `few` where only the first of them were solved."""

    step: float
    value: float
    low: float | None = None
    high: float | None = None
    few: bool = False


@dataclass(frozen=True)
class Line:
    """One logged value over the steps: `raw`, its moving mean, and `low` to `high` around that; NaN is a gap.

    Attributes:
        ends (`tuple[float, float]`): where it began and where it ended, each a mean over the rows of a window, as the
            health checks have them.
    """

    label: str
    steps: np.ndarray
    raw: np.ndarray
    mean: np.ndarray
    ends: tuple[float, float]
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: list[Dot] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """One small figure.

    Attributes:
        unit (`str`): of the vertical axis; "" for a share or a plain number.
        healthy (`str`): what a healthy run looks like, in one line.
        mark (`str`): what else has to be known, such as "measured only".
        is_share (`bool`): the axis is [0, 1] where the values are.
    """

    title: str
    unit: str
    healthy: str
    lines: list[Line]
    mark: str = ""
    is_share: bool = False


# Title, unit, (label, key) of each line, whether it is a share, what is healthy. Of the recipes that log these keys.
CURVES = [
    (
        "KL to the reference",
        "nats a completion",
        (("", "objective/kl"),),
        False,
        "Rises slowly and levels off. A jump says that the policy runs away from where it began.",
    ),
    (
        "Entropy",
        "nats a token",
        (("", "entropy"),),
        False,
        "Falls slowly. Near 0 while the reward is still low is a collapse: nothing new is tried any more.",
    ),
    (
        "Completion length",
        "tokens",
        (("", "completions/mean_length"),),
        False,
        "May grow while correctness grows. Growth without that is padding.",
    ),
    (
        "Cut off",
        "share of completions",
        (("", "completions/clipped_ratio"),),
        False,
        "Near 0. What is cut off has no answer, and is punished for its length alone.",
    ),
    (
        "Groups without signal",
        "share of groups",
        (("", "frac_reward_zero_std"),),
        True,
        "Low at first; it rises as problems are solved. Above half, most of the work teaches nothing.",
    ),
    (
        "Clip ratio",
        "share of tokens",
        (("", "clip_ratio/region_mean"),),
        False,
        "Below 0.2. Always 0 where there is one update for each batch of completions.",
    ),
    (
        "Value loss",
        "half the squared error, clipped",
        (("", "value/loss"),),
        False,
        "Falls, then follows the spread of the returns.",
    ),
    (
        "Explained variance",
        "share of the returns' variance",
        (("", "value/explained_variance"),),
        False,
        "Above 0.3 while there is something to learn. Below 0 the critic does harm.",
    ),
    (
        "Rewards of the pairs",
        "beta x log ratio, nats",
        (("chosen", "rewards/chosen"), ("rejected", "rewards/rejected")),
        False,
        "They part. Best if the chosen rises or stays; both falling is likelihood displacement.",
    ),
    (
        "Margin of chosen over rejected",
        "nats",
        (("", "rewards/margins"),),
        False,
        "Rises, ever more slowly.",
    ),
    (
        "Pairs in the right order",
        "share of pairs",
        (("", "rewards/accuracies"),),
        True,
        "Rises well above 0.5. At 1 from early on, the pairs are too easy or too few.",
    ),
    (
        "Log-probability of the pairs",
        "nats a completion",
        (("chosen", "logps/chosen"), ("rejected", "logps/rejected")),
        False,
        "The rejected falls. The chosen should not fall far with it.",
    ),
    (
        "Tokens foreseen",
        "share of tokens",
        (("", "mean_token_accuracy"),),
        True,
        "Rises fast, then levels off.",
    ),
    ("Pairs in the right order", "share of pairs", (("", "accuracy"),), True, "Rises well above 0.5 and levels off."),
    ("Margin", "reward of chosen minus rejected", (("", "margin"),), False, "Rises, ever more slowly."),
    (
        "Reward",
        "mean of both completions",
        (("", "mean_reward"),),
        False,
        "Only differences are learned, so its level says nothing.",
    ),
    ("Loss", "of a step", (("", "loss"),), False, "Falls, then levels off."),
    (
        "Gradient norm",
        "before clipping",
        (("", "grad_norm"),),
        False,
        "Steady. Spikes ask for a lower learning rate.",
    ),
    ("Learning rate", "of a step", (("", "learning_rate"),), False, "As it was asked for."),
]
HELD_OUT_LENGTH = "Completion length"


def curves_of(run: RunFolder, keep_constant: bool = False) -> tuple[list[Panel], list[tuple[str, float]]]:
    """The panels of `run`, and what never changed: its title and its value (with `keep_constant` a panel as well)."""
    steps = np.array([row["step"] for row in run.metrics])
    if not len(steps):
        return [], []
    panels, constant = reward_panels(run, steps) or held_out_panel(run), []
    for title, unit, keys, is_share, healthy in CURVES:
        if title == "Loss" and is_logged(run, "reward"):  # of a policy gradient it says nothing
            continue
        lines = [line_of(label, steps, values_of(run, key)) for label, key in keys if is_logged(run, key)]
        if not lines:
            continue
        known = np.concatenate([line.raw for line in lines])
        known = known[~np.isnan(known)]
        if len(known) > 1 and np.ptp(known) == 0 and len(lines) == 1 and not keep_constant:
            constant.append((title, float(known[0])))
            continue
        if title == HELD_OUT_LENGTH:
            lines = [replace(lines[0], dots=held_out_dots(run, "length"))]
        panels.append(Panel(title, unit, healthy, lines, is_share=is_share))
    return panels, constant


def reward_panels(run: RunFolder, steps: np.ndarray) -> list[Panel]:
    """Every reward's mean with its spread, and the weighted total."""
    panels = []
    roles = {
        run.correctness: "Rises, then levels off. The held-out dots rise with it, or it is learned by heart.",
        run.form: "Rises early to nearly 1. Alone it is worth nothing: look at correctness beside it.",
    }
    for name, weight in run.rewards.items():
        key = f"rewards/{name}/mean"
        if not is_logged(run, key):
            continue
        healthy = roles.get(name, "Rises or stays level. A jump while correctness stays flat is a reward being gamed.")
        if weight == 0:
            healthy = "Not trained on: if it falls while the total rises, the other rewards are being gamed."
        line = line_of("", steps, values_of(run, key), values_of(run, f"rewards/{name}/std"))
        if name in (run.correctness, run.form):
            line = replace(line, dots=held_out_dots(run, name))
        mark = "measured only" if weight == 0 else f"weight {weight:g}"
        panels.append(Panel(readable(name).capitalize(), "mean of the samples", healthy, [line], mark, is_share=True))
    if is_logged(run, "reward") and len(run.rewards) > 1:
        line = line_of("", steps, values_of(run, "reward"), values_of(run, "reward_std"))
        panels.append(Panel("Total reward", "weighted sum", "Rises: it is what training maximizes.", [line]))
    return panels


def held_out_panel(run: RunFolder) -> list[Panel]:
    """Of a run that logs no rewards: its accuracy on the held-out problems, where it was measured twice or more."""
    dots = held_out_dots(run, run.correctness)
    whole = [dot for dot in dots if not dot.few]
    if len(dots) < 2 or not whole:
        return []
    steps, values = (np.array([getattr(dot, name) for dot in whole], dtype=float) for name in ("step", "value"))
    healthy = "Rises. What it is trained on is not what it is judged by, so look here first."
    line = Line("", steps, values, values, (whole[0].value, whole[-1].value), dots=dots)
    return [Panel("Held-out accuracy", "share of problems", healthy, [line], is_share=True)]


def values_of(run: RunFolder, key: str) -> np.ndarray:
    """One logged value at every step; GRPO's KL, which is a mean over tokens, as that of a completion."""
    values = np.array([np.nan if row.get(key) is None else row[key] for row in run.metrics])
    if key == "objective/kl" and not any(key in row for row in run.metrics):
        return values_of(run, "kl") * values_of(run, "completions/mean_length")
    return values


def is_logged(run: RunFolder, key: str) -> bool:
    return bool(len(run.metrics)) and not np.isnan(values_of(run, key)).all()


def line_of(label: str, steps: np.ndarray, raw: np.ndarray, std: np.ndarray | None = None) -> Line:
    """`raw` with its moving mean and, where `std` is known, the spread around that."""
    width = max(1, len(raw) // WINDOWS) if len(raw) > 8 else 1
    mean = moving_mean(raw, width)
    low = high = None
    if std is not None and not np.isnan(std).all():
        spread = moving_mean(np.abs(std), width)
        known = mean[~np.isnan(mean)]
        # A reward in [0, 1] or [-1, 0] has no completions beyond.
        bottom = 0 if known.min() >= 0 else -1 if known.min() >= -1 and known.max() <= 0 else -np.inf
        top = 0 if bottom == -1 else 1 if known.max() <= 1 and bottom == 0 else np.inf
        low, high = np.clip(mean - spread, bottom, None), np.clip(mean + spread, None, top)
    steps, thin, mean, low, high = (thinned(column) for column in (steps, raw, mean, low, high))
    known = raw[~np.isnan(raw)]
    size = window_of(len(known))
    return Line(label, steps, thin, mean, (float(known[:size].mean()), float(known[-size:].mean())), low, high)


def moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the `width` values on either side and the value itself; a gap stays a gap."""
    known = ~np.isnan(values)
    sums, counts = (np.concatenate([[0], np.cumsum(column)]) for column in (np.where(known, values, 0), known))
    at = np.arange(len(values))
    first, last = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, (sums[last] - sums[first]) / (counts[last] - counts[first]), np.nan)


def thinned(values: np.ndarray | None) -> np.ndarray | None:
    """At most `MOST_POINTS` values, each the mean of its neighbours."""
    if values is None or len(values) <= MOST_POINTS:
        return values
    starts = np.arange(MOST_POINTS) * len(values) // MOST_POINTS
    known = ~np.isnan(values)
    sums, counts = (np.add.reduceat(column, starts) for column in (np.where(known, values, 0), known.astype(int)))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def held_out_dots(run: RunFolder, column: str) -> list[Dot]:
    """What the held-out problems gave before, during and after training: the share at 1.0, or the mean length."""
    solved = [(0, run.before, False), *((step, rows, True) for step, rows in run.during.items())]
    solved.append((run.steps, run.after, False))
    dots = []
    for step, rows, few in solved:
        values = [value for row in rows if (value := number(row.get(column))) is not None]
        if not values:
            continue
        if column == "length":
            dots.append(Dot(step, sum(values) / len(values), few=few))
        else:
            right = sum(value == 1 for value in values)
            low, high = (None, None) if few else wilson_interval(right, len(values))
            dots.append(Dot(step, right / len(values), low, high, few))
    return dots


def readable(name: str) -> str:
    """A reward's name in prose: `think_format_reward` is think format."""
    return name.removesuffix("_reward").replace("_", " ") or name
