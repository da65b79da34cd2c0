"""What the held-out problems say: figures with intervals, and two models compared problem by problem."""

from dataclasses import dataclass
from statistics import fmean

from recipes.intervals import mean_interval, paired_bootstrap, wilson_interval
from recipes.reporting.files import number

SIGNIFICANT = 0.05  # of p


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % interval, where that is known."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models on the same problems; differences are shares, second minus first.

    Attributes:
        turned_right, turned_wrong, stayed_right, stayed_wrong (`int`): problems.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    turned_right: int
    turned_wrong: int
    stayed_right: int
    stayed_wrong: int

    @property
    def significant(self) -> bool:
        return self.p < SIGNIFICANT


def figures_of(rows: list[dict], told, correctness: str, form: str, extra: list[str]) -> dict[str, Figure]:
    """accuracy, strict accuracy, format, the means of the rewards `extra`, and length.

    Args:
        rows (`list[dict]`): the solved problems; those that `correctness` could not judge are not counted.
        told (`dict` or anything): what result.json says, for a run whose samples are missing.
    """
    judged = [row for row in rows if number(row.get(correctness)) is not None]
    if not judged:
        return _told(told if isinstance(told, dict) else {})
    right = [row[correctness] == 1 for row in judged]
    formed = [row.get(form) == 1 for row in judged]
    figures = {"accuracy": _share(right)}
    if form and any(form in row for row in judged):
        figures["strict accuracy"] = _share([a and b for a, b in zip(right, formed, strict=True)])
        figures["format"] = _share(formed)
    columns = {name.removesuffix("_reward").replace("_", " "): name for name in extra}
    for label, column in (columns | {"mean length": "length"}).items():
        values = [value for row in judged if (value := number(row.get(column))) is not None]
        if values:
            figures[label] = Figure(fmean(values), *mean_interval(values), len(values))
    return figures


def _share(flags: list[bool]) -> Figure:
    return Figure(sum(flags) / len(flags), *wilson_interval(sum(flags), len(flags)), len(flags))


def _told(told: dict) -> dict[str, Figure]:
    figures = {}
    n, interval = number(told.get("n")), told.get("ci95")
    for key in ("accuracy", "strict_accuracy", "format", "mean_length"):
        value = number(told.get(key))
        if value is not None:
            ends = [number(end) for end in interval] if key == "accuracy" and isinstance(interval, list) else []
            low, high = ends if len(ends) == 2 and None not in ends else (None, None)
            figures[key.replace("_", " ")] = Figure(value, low, high, int(n) if n else None)
    return figures


def compared(first: list[dict], second: list[dict], correctness: str) -> Comparison | None:
    """The problems that both have solved, one against the other; `None` where there are none."""
    pairs = paired(first, second)
    values = [(number(a.get(correctness)), number(b.get(correctness))) for a, b in pairs]
    right = [(a == 1, b == 1) for a, b in values if a is not None and b is not None]
    if not right:
        return None
    found = paired_bootstrap([float(a) for a, _ in right], [float(b) for _, b in right])
    return Comparison(
        n=found["n"],
        difference=found["difference"],
        low=found["ci95"][0],
        high=found["ci95"][1],
        p=found["p"],
        turned_right=right.count((False, True)),
        turned_wrong=right.count((True, False)),
        stayed_right=right.count((True, True)),
        stayed_wrong=right.count((False, False)),
    )


def paired(first: list[dict], second: list[dict]) -> list[tuple[dict, dict]]:
    """The rows of the same problems, in the order of `first`; a problem that comes twice is met twice."""
    waiting: dict[tuple, list[dict]] = {}
    for row in reversed(second):
        waiting.setdefault(problem_of(row), []).append(row)
    return [(row, waiting[key].pop()) for row in first if waiting.get(key := problem_of(row))]


def problem_of(row: dict) -> tuple[str, str]:
    """By what a problem is known: its question and its gold answer."""
    return str(row.get("question")), str(row.get("answer"))
