"""Logged metrics as series over the steps, and what of a change is more than noise.

What is compared is the mean of the first rows with that of the last, and a difference counts only beyond the noise that
the rows themselves show: the share of right answers among 64 completions moves by 0.06 (one standard deviation) by
chance alone, and by more where they are eight answers each to eight problems.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recipes.reporting.files import number

FEWEST_ROWS = 6  # two windows of three
WINDOW, LEAST_WINDOW = 0.1, 8  # the first and the last tenth; eight rows of 64 completions are 512
SURE = 3.0  # standard errors: with a dozen checks, two would raise a false alarm in nearly every other run
SURE_OF_PEAK = 4.0  # standard errors: the highest of ten windows is high by chance as well
LEAST_CHANGE = 0.05  # of a mean reward: less is of no consequence, however sure
AT_CEILING = 0.9  # share of right answers: little is left to gain
NONE_RIGHT, SOME_RIGHT = 0.02, 0.25  # share of right answers: one in 64; two in eight, no chance find


@dataclass(frozen=True)
class Series:
    """One metric over the steps, where it was a finite number: two arrays of the same length, six at least."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def window(self) -> int:
        return window_of(len(self.values))

    @cached_property
    def means(self) -> np.ndarray:
        """Of every window, in order."""
        return np.convolve(self.values, np.ones(self.window) / self.window, mode="valid")

    @property
    def first(self) -> float:
        return float(self.means[0])

    @property
    def last(self) -> float:
        return float(self.means[-1])

    @property
    def median_at_end(self) -> float:
        """For what can be a thousand times as large for a single step."""
        return float(np.median(self.values[-self.window :]))

    @property
    def noise(self) -> float:
        """The standard deviation of a row, by the differences of neighbours: a trend is no noise, and a jump little."""
        return math.sqrt(float((np.diff(self.values) ** 2).mean()) / 2)

    @property
    def error(self) -> float:
        """The standard error of `last - first`."""
        return self.noise * math.sqrt(2 / self.window)

    def moved(self, least: float = LEAST_CHANGE) -> int:
        """1 where it rose from `first` to `last` beyond `least` and noise, -1 where it fell, else 0."""
        change = self.last - self.first
        return int(math.copysign(1, change)) if abs(change) > max(least, SURE * self.error) else 0

    def peak(self) -> int | None:
        """Where the highest window begins, if the last one is surely below it."""
        earlier = self.means[: -self.window]
        peak = int(earlier.argmax())
        return peak if earlier[peak] - self.last > max(LEAST_CHANGE, SURE_OF_PEAK * self.error) else None

    def from_row(self, start: int) -> "Series":
        start = min(start, len(self.values) - FEWEST_ROWS)
        return Series(self.steps[start:], self.values[start:])

    @property
    def second_half(self) -> "Series":
        return self.from_row(len(self.values) // 2)

    def __str__(self) -> str:
        return f"{said(self.first)} to {said(self.last)}"


@dataclass(frozen=True)
class Logged:
    """A run as it was logged, and what several checks ask of it."""

    metrics: list[dict]
    settings: dict
    rewards: dict[str, float]
    correctness: str
    format: str

    def series(self, key: str) -> Series | None:
        return self.series_of(lambda row: number(row.get(key)))

    def series_of(self, value: Callable[[dict], float | None]) -> Series | None:
        """None where fewer than six rows have a value."""
        found = [(step_of(row, i), x) for i, row in enumerate(self.metrics, 1) if (x := value(row)) is not None]
        return Series(*np.array(found, dtype=float).T) if len(found) >= FEWEST_ROWS else None

    def mean(self, reward: str) -> Series | None:
        return self.series(f"rewards/{reward}/mean")

    def setting(self, name: str, default: float) -> float:
        value = number(self.settings.get(name))
        return default if value is None else value

    @cached_property
    def weights(self) -> dict[str, float]:
        return {name: weight for name, given in self.rewards.items() if (weight := number(given)) is not None}

    @cached_property
    def is_ppo(self) -> bool:
        return any("value/loss" in row or "objective/kl" in row for row in self.metrics)

    @cached_property
    def right(self) -> Series | None:
        """The share of right answers; None also where the problems get harder, so that it says nothing of the model."""
        return None if self.settings.get("curriculum") else self.mean(self.correctness)

    @property
    def learns(self) -> bool:
        return self.right is not None and self.right.moved() > 0

    @property
    def lost_at_once(self) -> bool:
        """Right answers that are gone after so few steps that the first rows hardly have any."""
        return self.right is not None and self.right.last < NONE_RIGHT and self.right.values[0] >= SOME_RIGHT

    @property
    def unlearns(self) -> bool:
        return self.right is not None and (self.right.moved() < 0 or self.lost_at_once)

    @property
    def at_ceiling(self) -> bool:
        return self.right is not None and self.right.last >= AT_CEILING

    @property
    def meanwhile(self) -> str:
        """What became of the right answers, as the end of a clause."""
        if self.right is None:
            return ""
        verb = "rose" if self.learns else "fell" if self.unlearns else "stayed about the same"
        return f" while the share of right answers {verb} ({self.right})"

    @property
    def hold(self) -> str:
        """The flag that holds the policy near its reference."""
        return "--kl_coef" if self.is_ppo else "--beta"

    @property
    def cold_start(self) -> str:
        task = self.settings.get("task")
        return f"make sft-{task if isinstance(task, str) and task.isidentifier() else 'gsm8k'}"


def window_of(rows: int) -> int:
    """How many rows at each end of so many are compared: a tenth, eight at least, but never half and more."""
    return max(1, min(rows // 2, max(int(rows * WINDOW), LEAST_WINDOW)))


def kl_of_a_completion(row: dict) -> float | None:
    """GRPO's KL, which is logged as a mean over tokens, in nats a completion."""
    a_token, tokens = number(row.get("kl")), number(row.get("completions/mean_length"))
    return None if a_token is None or tokens is None else a_token * tokens


def step_of(row: dict, index: int) -> float:
    """The row's step; its place in the file where that is missing."""
    step = number(row.get("step"))
    return float(index) if step is None else step


def said(value: float) -> str:
    """A number as in a sentence: 0.953, 22.4, 1,234."""
    size = abs(value)
    form = ".3f" if size < 10 else ".1f" if size < 1000 else ",.0f" if size < 1e6 else ".1e"
    return f"{value:{form}}".replace("-0.000", "0.000")
