"""Does a model know what it knows? How often its samples agree, against how often what most of them say is right.

The share that agrees with the majority is what is drawn. It is too high by itself, since the same few samples have
chosen that majority: of a model that is as sure as it is right, eight samples would look overconfident. So the gap is
taken from each answer and the *other* samples of its problem, which is free of that: the expected share of others that
agree with an answer is the probability that the model gives it.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from markupsafe import Markup
from matplotlib.ticker import MultipleLocator

from recipes.intervals import mean_interval, wilson_interval
from recipes.reporting.drawing import STAND_INS, drawing
from recipes.reporting.files import number
from rewards import extract_answer
from rewards.majority_vote import answer_classes

BINS = 10
FEWEST = 10  # problems: of fewer nothing can be said
ROUNDING = 1e-9  # an end of an interval nearer to 0 is 0


@dataclass(frozen=True)
class Calibration:
    """One model on n problems, each sampled several times.

    Attributes:
        stated (`list[float]`): of each problem the share of its samples that give the most frequent answer, (0, 1].
        right (`list[bool]`): of each problem whether that answer is right.
        gaps (`list[float]`): of each problem the mean over its samples of: the share of the other samples that give
            the same answer, less 1 where it is right; 0 for a sample without an answer, which says nothing. [-1, 1].
        unanswered, unjudged (`int`): problems left out: no sample has an answer, or the reward could not judge it.
        samples (`int`): of a problem, at most.
    """

    stated: list[float]
    right: list[bool]
    gaps: list[float]
    unanswered: int
    unjudged: int
    samples: int

    @property
    def confidence(self) -> float:
        return fmean(self.stated)

    @property
    def accuracy(self) -> float:
        return fmean(self.right)

    @property
    def gap(self) -> float:
        """By how much it is surer of an answer than that is right, on average: above 0 it is overconfident."""
        return fmean(self.gaps)

    @cached_property
    def gap_interval(self) -> tuple[float, float]:
        """Of 95 %: the bootstrap's over problems, but never surer than the share of right majorities is known.

        Where hardly an answer is wrong, or right, the problems at hand vary less than others would.
        """
        low, high = mean_interval(self.gaps)
        least, most = wilson_interval(sum(self.right), len(self.right))
        return min(low, self.gap - (most - self.accuracy)), max(high, self.gap + (self.accuracy - least))

    @property
    def groups(self) -> list[tuple[float, float, int]]:
        """Of each tenth of the scale: mean confidence, share right, problems; empty ones are left out."""
        bins: dict[int, list[int]] = {}
        for row, stated in enumerate(self.stated):
            bins.setdefault(min(int(stated * BINS + 1e-9), BINS - 1), []).append(row)
        return [
            (fmean(self.stated[i] for i in rows), fmean(self.right[i] for i in rows), len(rows))
            for _, rows in sorted(bins.items())
        ]

    @property
    def unbiased(self) -> str:
        return f"neither over- nor underconfident, as far as {len(self.stated):,} problems can tell"

    def in_words(self) -> str:
        """Overconfident, underconfident, or neither as far as can be told."""
        low, high = self.gap_interval
        if len(self.stated) < FEWEST:
            return self.unbiased
        points = f"{abs(self.gap) * 100:.0f} point{'' if round(abs(self.gap) * 100) == 1 else 's'}"
        if low > ROUNDING:
            return f"overconfident by {points}"
        return f"underconfident by {points}" if high < -ROUNDING else self.unbiased


def calibrate(rows: list[dict], correctness: str) -> Calibration | None:
    """The calibration of sampled problems (rows as in recipes/samples.py); `None` where none can be counted."""
    stated, right, gaps, unanswered, unjudged, samples = [], [], [], 0, 0, 0
    for row in rows:
        texts, rewards = row.get("completions"), row.get("rewards")
        values = rewards.get(correctness) if isinstance(rewards, dict) else None
        if not isinstance(texts, list) or not isinstance(values, list) or len(values) != len(texts) or len(texts) < 2:
            unjudged += 1
            continue
        classes = answer_classes([extract_answer(text) if isinstance(text, str) else None for text in texts])
        votes = Counter(one for one in classes if one is not None)
        if not votes:
            unanswered += 1
            continue
        judged = [(one, number(value)) for one, value in zip(classes, values, strict=True)]
        verdicts = {one: float(value == 1) for one, value in reversed(judged) if value is not None}
        if not votes.keys() <= verdicts.keys():
            unjudged += 1
            continue
        majority, count = votes.most_common(1)[0]  # of a tie the first
        stated.append(count / len(texts))
        right.append(verdicts[majority] == 1)
        agree = {one: (n - 1) / (len(texts) - 1) for one, n in votes.items()}
        gaps.append(sum(n * (agree[one] - verdicts[one]) for one, n in votes.items()) / len(texts))
        samples = max(samples, len(texts))
    return Calibration(stated, right, gaps, unanswered, unjudged, samples) if stated else None


def change(before: Calibration, after: Calibration) -> str:
    """What training has changed, in one sentence."""
    surer, righter = moved(before.stated, after.stated), moved(before.right, after.right)
    surer = f"Its samples agree {surer} often ({before.confidence:.0%} -> {after.confidence:.0%})"
    so = f"the answer that most of them give is right {righter} often ({before.accuracy:.0%} -> {after.accuracy:.0%})"
    same = before.in_words() == after.in_words()
    was = f"it was {before.in_words()}, and is now {after.in_words()}"
    if same:
        was = f"before and after it is {after.in_words()}"
    return f"{surer}, {so}: {was}.".replace("%", "\N{NO-BREAK SPACE}%").replace("->", "\N{RIGHTWARDS ARROW}")


def moved(before: list[float], after: list[float]) -> str:
    """more, less, or about as: whether a mean of shares has changed by more than chance, as if of other problems."""
    halves = []
    for values in (before, after):
        low, high = wilson_interval(sum(values), len(values))
        halves.append(max(fmean(values) - low, high - fmean(values)))
    change = fmean(after) - fmean(before)
    few = min(len(before), len(after)) < FEWEST
    return "about as" if few or abs(change) <= math.hypot(*halves) else "more" if change > 0 else "less"


def draw_reliability(found: Calibration, name: str) -> Markup:
    """Stated against actual; a point is as large as it has problems."""
    told = "; ".join(f"of {n} problems stated {stated:.0%}, right {right:.0%}" for stated, right, n in found.groups)
    description = f"Reliability diagram: {told}."
    with drawing(name, description, (330, 280), "share of samples that agree") as (axes, finished):
        axes.plot([0, 1], [0, 1], color=STAND_INS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        for stated, right, n in found.groups:
            low, high = wilson_interval(round(right * n), n)
            axes.plot([stated] * 2, [low, high], color=STAND_INS["series-1"], linewidth=1.4, alpha=0.55)
            area = 24 + 420 * n / len(found.stated)
            axes.scatter([stated], [right], s=area, color=STAND_INS["series-1"], alpha=0.85, linewidth=0, zorder=3)
        axes.set_xlim(0, 1.06)
        axes.set_ylim(-0.04, 1.06)
        axes.xaxis.set_major_locator(MultipleLocator(0.25))
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
    return finished[0]
