"""What a run has achieved, in one sentence that says how sure it is."""

from dataclasses import dataclass

import numpy as np

from recipes.reporting.curves import is_logged, line_of, values_of
from recipes.reporting.evaluation import best_of
from recipes.reporting.files import number
from recipes.reporting.held_out_figures import Comparison, Figure, compared, figures_of
from recipes.reporting.run_folder import RunFolder

CHANCE = 0.5  # of a pair in the right order


@dataclass(frozen=True)
class Verdict:
    """What to say of a run.

    Attributes:
        headline (`str`): a few words.
        sentence (`str`): the same with numbers, intervals and the test.
        before, after (`dict[str, Figure]`): of the held-out problems; empty where they were not solved.
        comparison (`Comparison` or `None`): after against before.
    """

    headline: str
    sentence: str
    before: dict[str, Figure]
    after: dict[str, Figure]
    comparison: Comparison | None = None


def verdict_of(run: RunFolder) -> Verdict:
    """The verdict on one run, whatever it is of and however far it came."""
    before, after = held_out_figures(run)
    if before and after and run.finished:
        return on_accuracies(before, after, compared(run.before, run.after, run.correctness))
    return Verdict(*without_both(run, before), before, after)


def held_out_figures(run: RunFolder) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """The figures before and after training."""
    extra = [name for name in run.rewards if name not in (run.correctness, run.form)]
    return tuple(
        figures_of(rows, run.result.get(when), run.correctness, run.form, extra)
        for when, rows in (("before", run.before), ("after", run.after))
    )


def on_accuracies(before: dict[str, Figure], after: dict[str, Figure], comparison: Comparison | None) -> Verdict:
    """Two evaluations on the same problems, and whether the difference is more than chance."""
    old, new = before["accuracy"], after["accuracy"]
    on = f"Accuracy on {new.n:,} held-out problems" if new.n else "Accuracy on the held-out problems"
    went = f"from {with_interval(old)} to {with_interval(new)}"
    if comparison is None:
        why = "Whether that is more than chance cannot be said: the solved problems are missing."
        return Verdict(f"Accuracy went {from_to(old, new)}", f"{on} went {went}. {why}", before, after)
    points = f"{abs(comparison.difference) * 100:.1f} points"
    interval = f"95 % interval {signed(comparison.low)} to {signed(comparison.high)}"
    test = f"paired test on the same {comparison.n:,} problems, {p_told(comparison.p)}"
    if comparison.difference == 0:
        headline = "Accuracy did not change"
        sentence = f"{on} stayed at {with_interval(new)}; {comparison.turned_right:,} turned right and as many wrong."
    elif not comparison.significant:
        headline = "No change that chance would not explain"
        points = f"{signed(comparison.difference)} points"
        sentence = f"{on} went {went}: {points} ({interval}), which chance brings as well ({test})."
    else:
        moved, change = ("rose", "gain") if comparison.difference > 0 else ("fell", "loss")
        headline = f"Accuracy {moved} {from_to(old, new)}"
        sentence = f"{on} {moved} {went}: a {change} of {points} ({interval}), more than chance ({test})."
    return Verdict(headline, sentence, before, after, comparison)


def without_both(run: RunFolder, before: dict[str, Figure]) -> tuple[str, str]:
    """Headline and sentence where there is no before and after."""
    pairs, accuracy = (number(run.result.get(key)) for key in ("pair_accuracy", "accuracy"))
    if pairs is not None:
        return on_pairs(run, pairs)
    if accuracy is not None:
        told = figures_of([], run.result, "", "", [])["accuracy"]
        prompts, completions = (int(number(run.result.get(key)) or 0) for key in ("prompts", "completions"))
        sentence = f"Of {completions:,} completions of {prompts:,} prompts {with_interval(told)} are right."
        return f"{percent(accuracy)} of the samples are right", sentence
    if best := best_of(run.result):
        return on_models(run, *best)
    if not run.finished:
        of = number(run.settings.get("max_steps"))
        far = f"{run.steps:,} of {of:,.0f} steps" if of and of > 0 else f"{run.steps:,} steps"
        where = f"Accuracy before training was {with_interval(before['accuracy'])}." if before else ""
        on = "The same command goes on from its last checkpoint."
        said = " ".join(part for part in (so_far(run), where, on) if part)
        return f"Not finished: {far}" if run.metrics else "Not begun", said
    why = "No held-out problems were solved before and after (--eval_samples 0), so nothing is known of its accuracy."
    return "Trained, not evaluated", f"{why} {so_far(run)}".strip()


def on_models(run: RunFolder, best: str, solved: Figure, against: str) -> tuple[str, str]:
    """An evaluation: the best of its models."""
    count = len(run.result["models"])
    headline = f"{count} model{'' if count == 1 else 's'} evaluated"
    return headline, f"{best} solves {with_interval(solved)} at the first try (pass@1){against and ', '}{against}."


def on_pairs(run: RunFolder, accuracy: float) -> tuple[str, str]:
    """A reward model: how many held-out pairs it puts in the right order."""
    interval, n = run.result.get("pair_ci95"), number(run.result.get("held_out_pairs"))
    ends = [number(end) for end in interval] if isinstance(interval, list) else []
    known = len(ends) == 2 and None not in ends
    figure = Figure(accuracy, *ends) if known else Figure(accuracy)
    sentence = f"Of {f'{n:,.0f}' if n else 'the'} held-out pairs {with_interval(figure)} are put in the right order"
    if known:
        better = ends[0] > CHANCE
        sentence += ", more than the half that guessing gets" if better else ", which guessing may get as well"
    return f"{percent(accuracy)} of pairs in the right order", f"{sentence}."


def so_far(run: RunFolder) -> str:
    """How the figure that training is about has moved, in a sentence; "" where nothing was logged."""
    names = {
        f"rewards/{run.correctness}/mean": "The share of right samples",
        "reward": "The reward",
        "rewards/accuracies": "The share of pairs in the right order",
        "accuracy": "The share of pairs in the right order",
        "loss": "The loss",
    }
    for key, what in names.items():
        if is_logged(run, key):
            line = line_of("", np.array([row["step"] for row in run.metrics]), values_of(run, key))
            return f"{what} went from {line.ends[0]:.2f} to {line.ends[1]:.2f} in training."
    return ""


def with_interval(figure: Figure) -> str:
    if figure.low is None:
        return percent(figure.value)
    return f"{percent(figure.value)} ({points(figure.low)} to {points(figure.high)})"


def from_to(old: Figure, new: Figure) -> str:
    return f"from {percent(old.value)} to {percent(new.value)}"


def signed(difference: float) -> str:
    """A difference of two shares in points, with its sign."""
    return f"{difference * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    return f"{points(share)}\N{NO-BREAK SPACE}%"


def points(share: float) -> str:
    """A share of a hundred, rounded as the README rounds it: 0.4525 is 0.453 and so 45.3."""
    return f"{float(f'{share:.3f}') * 100:.1f}"


def p_told(p: float) -> str:
    told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
    return told.replace(" ", "\N{NO-BREAK SPACE}")
