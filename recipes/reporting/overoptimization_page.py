"""The page of recipes/overoptimize.py: proxy and gold over the square root of the KL, for each weight of the KL."""

import math
from itertools import count
from pathlib import Path

from markupsafe import Markup

from recipes.errors import InputError
from recipes.reporting.drawing import DASHES, STAND_INS, drawing, short
from recipes.reporting.files import number, read_json
from recipes.reporting.held_out_figures import Figure
from recipes.reporting.pipeline_folder import PipelineFolder, open_pipeline
from recipes.reporting.rendering import contents, eyebrow, link, minutes_told, recipe_name, render
from recipes.reporting.reproduce import command_of, make_of
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.run_page import versions_of
from recipes.reporting.series import SURE_OF_PEAK
from recipes.reporting.verdict import Verdict, held_out_figures, p_told, percent, signed, verdict_of, with_interval

FLAG = {"grpo": "beta", "ppo": "kl_coef"}  # how each recipe calls the weight of the KL
WINDOW = 10  # steps that a point is the mean of: the gold of one step's 64 completions varies by 0.06 to 0.1
LOST = 0.1  # of the share of right answers, from its peak: less is of no consequence
UNNOTICED = 0.1  # standard deviations by which the proxy may have fallen since
PANELS = (
    ("proxy", "the reward model's score, in standard deviations", "What is trained on: it should rise."),
    ("gold", "share of right answers, by rule", "Where it turns down while the proxy rises, the proxy is fooled."),
)


def overoptimization_page(folder: Path) -> str:
    """The report of `folder`; raises `InputError` where the pipeline in it has not ended, or its result is broken."""
    result = read_json(folder / "result.json", [])
    try:
        runs = {name: checked(points) for name, points in result["runs"].items() if name.partition("-")[0] in FLAG}
        best_of_n = checked(result["best_of_n"])
        if not runs:
            raise ValueError("no runs")
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(
            f"{folder} is unfinished: its command, again, goes on to the end and writes the report."
        ) from None
    told_noise = result.get("noise") if isinstance(result.get("noise"), dict) else {}
    noise = {name: number(value) or 0.0 for name, value in told_noise.items()}
    pipeline = open_pipeline(folder)
    stages = {stage.name: stage for stage in pipeline.stages}
    given = result.get("given") if isinstance(result.get("given"), dict) else {}
    best_of = f"best of 1 to {best_of_n[-1].get('n', 'n')}"
    return render(
        "overoptimization.html",
        title=f"{folder.name}: proxy and gold",
        eyebrow=eyebrow("Over-optimization", str(result.get("task", "")), model=str(result.get("model", ""))),
        verdict=Verdict(*verdict(runs, noise), {}, {}),
        notes=pipeline.notes,
        contents=contents(("curves", "Proxy and gold", True), ("runs", "Runs", True), ("setting", "The setting", True)),
        window=WINDOW,
        lost=f"{100 * LOST:.0f}",
        best_of_n=end_of(best_of_n),
        facts=facts_of(result, pipeline),
        command=command_of("overoptimize", given),
        make=make_of("overoptimize", given),
        made_of=f"{folder.name}/",
        trainers=drawn(runs, best_of_n),
        rows=[
            (
                label_of(name),
                link(folder / name / "report.html", folder),
                [*told(points), held_out(stages.get(name))],
                f"{100 * lost(points):.0f}" if is_judged(points) else "too short",
            )
            for name, points in {**runs, best_of: best_of_n}.items()
        ],
        columns=("KL, nats", "proxy", "gold", "held-out accuracy"),
    )


def facts_of(result: dict, pipeline: PipelineFolder) -> list[tuple[str, str]]:
    """What, on what, how long: (name, value)."""
    stages, first = pipeline.stages, (pipeline.stages or [None])[0]
    pairs = next((stage for stage in stages if stage.recipe == "rm"), None)
    memory = [number(stage.result.get("peak_memory_gb")) or 0.0 for stage in stages]
    facts = [
        ("Model", result.get("model")),
        ("Task", result.get("task")),
        ("Seed", result.get("seed")),
        ("Proxy", verdict_of(pairs).sentence if pairs else ""),
        ("Time", f"{minutes_told(sum(stage.minutes or 0 for stage in stages))} minutes of training and sampling"),
        ("Peak memory", f"{max(memory):.2f} GB" if any(memory) else ""),
        ("Machine", first.about.get("machine") if first else ""),
        ("Versions", versions_of(first) if first else ""),
        ("Folder", pipeline.path),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def held_out(run: RunFolder | None) -> str:
    """The accuracy on held-out problems, before and after training."""
    before, after = held_out_figures(run) if run else ({}, {})
    if "accuracy" not in before or "accuracy" not in after:
        return ""
    return f"{percent(before['accuracy'].value)} \N{RIGHTWARDS ARROW} {with_interval(after['accuracy'])}"


def end_of(best_of_n: list[dict]) -> str:
    """The last point's gold with its interval, and its fall from the peak with the test; "" where these are unknown."""
    last, ends, fall = best_of_n[-1], best_of_n[-1].get("gold_ci95"), best_of_n[-1].get("against_peak")
    low, high = map(number, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
    if low is None or high is None or not isinstance(fall, dict):
        return ""
    ended = f"The best of {last.get('n')} is right in {with_interval(Figure(last['gold'], low, high))}"
    difference, p, problems = (number(fall.get(key)) for key in ("difference", "p", "n"))
    if not difference or p is None or problems is None:
        return f"{ended}."
    against = f"{signed(difference)} points against the best of {fall.get('peak')}"
    return f"{ended}, {against} (paired test on {problems:.0f} problems, {p_told(p)})."


def checked(points: list[dict]) -> list[dict]:
    if not points or any(number(point[key]) is None for point in points for key in ("kl", "proxy", "gold")):
        raise ValueError("no points")
    return points


def peak_of(points: list[dict]) -> dict:
    return max(points, key=lambda point: point["gold"])


def lost(points: list[dict]) -> float:
    """How far the gold has fallen since its peak."""
    return peak_of(points)["gold"] - points[-1]["gold"]


def is_judged(points: list[dict]) -> bool:
    """Long enough that its first and its last point are of different steps."""
    return "n" in points[0] or len(points) > WINDOW


def is_fooled(points: list[dict], noise: float = 0.0) -> bool:
    """The gold fell from its peak by more than chance, and the proxy has not noticed.

    `noise` is the standard deviation of a step's gold. The peak is the highest of many points, and high by chance too.
    """
    by_chance = SURE_OF_PEAK * noise * math.sqrt(2 / WINDOW)
    return lost(points) > max(LOST, by_chance) and points[-1]["proxy"] > peak_of(points)["proxy"] - UNNOTICED


def verdict(runs: dict[str, list[dict]], noise: dict[str, float]) -> tuple[str, str]:
    """Headline and sentence: the run that lost the most, and the one that ended with the most right."""
    judged = {name: points for name, points in runs.items() if is_judged(points)}
    fooled = {name: points for name, points in judged.items() if is_fooled(points, noise.get(name, 0.0))}
    best = max(runs, key=lambda name: runs[name][-1]["gold"])
    ended = f"The best end has {label_of(best)}: {percent(runs[best][-1]['gold'])} of its samples right."
    if not judged:
        return "Too short to judge", f"With fewer than {2 * WINDOW} steps no start and end can be told apart. {ended}"
    if not fooled:
        by = f"by more than {100 * LOST:.0f} points and more than chance"
        return "No over-optimization seen", f"In no run did the gold fall {by} while the proxy stayed high. {ended}"
    worst = max(fooled, key=lambda name: lost(fooled[name]))
    peak, end = peak_of(runs[worst]), runs[worst][-1]
    went = "rose" if end["proxy"] > peak["proxy"] else "stayed high"
    return f"The proxy {went}, the truth fell", (
        f"With {label_of(worst)} the proxy {went} ({short(peak['proxy'])} to {short(end['proxy'])}) while the share of "
        f"right answers fell from {percent(peak['gold'])} to {percent(end['gold'])}. {ended}"
    )


def label_of(name: str) -> str:
    """GRPO, --beta 0.1"""
    trainer, dash, coef = name.partition("-")
    return f"{recipe_name(trainer)}, --{FLAG[trainer]} {coef}" if dash and trainer in FLAG else name


def told(points: list[dict], arrow: str = "\N{RIGHTWARDS ARROW}") -> list[str]:
    """KL, proxy and gold at the start, at the gold's peak and at the end."""
    moments, digits = (points[0], peak_of(points), points[-1]), {"kl": 1, "proxy": 2, "gold": 2}
    return [f" {arrow} ".join(f"{p[key]:.{n}f}" for p in moments) for key, n in digits.items()]


def drawn(runs: dict[str, list[dict]], best_of_n: list[dict]) -> list[dict]:
    """For each trainer its two figures, and the key to both."""
    numbers, trainers = count(), []
    for trainer in dict.fromkeys(name.partition("-")[0] for name in runs):
        own = {name: points for name, points in runs.items() if name.startswith(f"{trainer}-")}
        figures = [
            {"key": key, "unit": unit, "healthy": healthy, "svg": figure(own, best_of_n, key, f"o{next(numbers)}")}
            for key, unit, healthy in PANELS
        ]
        labels = [f"--{FLAG[trainer]} {name.partition('-')[2]}" for name in own]
        trainers.append({"name": recipe_name(trainer), "labels": labels, "figures": figures})
    return trainers


def figure(runs: dict[str, list[dict]], best_of_n: list[dict], key: str, name: str) -> Markup:
    """One quantity over the square root of the KL; a run's end is a dot, best-of-n has a cross for each n."""
    ends = (f"{label_of(run)} {short(points[0][key])} to {short(points[-1][key])}" for run, points in runs.items())
    description = f"{key} over the square root of the KL: {'; '.join(ends)}."
    with drawing(name, description, size=(420, 230), x_label="square root of the KL") as (axes, finished):
        axes.plot(
            roots(best_of_n),
            [p[key] for p in best_of_n],
            color=STAND_INS["muted"],
            marker="x",
            markersize=5,
            linewidth=1,
        )
        for place, points in enumerate(runs.values()):
            colour = STAND_INS[f"series-{place % 8 + 1}"]
            axes.plot(roots(points), [p[key] for p in points], color=colour, linewidth=2.2, linestyle=DASHES[place % 4])
            axes.plot(roots(points)[-1:], [points[-1][key]], "o", color=colour, markersize=6)
    return finished[0]


def roots(points: list[dict]) -> list[float]:
    return [math.sqrt(max(point["kl"], 0)) for point in points]
