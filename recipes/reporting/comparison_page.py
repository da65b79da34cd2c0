"""Several runs on one page: who solves more, by how much more than chance, and what else differs."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from recipes.reporting.curves import Panel, curves_of
from recipes.reporting.drawing import drawn
from recipes.reporting.examples import side_by_side
from recipes.reporting.files import number
from recipes.reporting.held_out_figures import Figure, compared
from recipes.reporting.rendering import contents, labels_of, link, minutes_told, recipe_name, render, scale_of
from recipes.reporting.reproduce import differing
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.run_page import findings_of
from recipes.reporting.verdict import Verdict, held_out_figures, p_told, percent, signed, verdict_of, with_interval


def comparison_page(runs: list[RunFolder], page_folder: Path) -> str:
    """The report of two runs and more; `page_folder` is where it will lie."""
    names, numbers = distinct_names(runs), count()
    figures = {name: held_out_figures(run)[1] for name, run in zip(names, runs, strict=True)}
    rows = [row_of(name, run, figures[name], runs[0], page_folder) for name, run in zip(names, runs, strict=True)]
    panels = [(len(places), drawn(panel, f"c{next(numbers)}", places)) for panel, places in overlaid(names, runs)]
    columns = [(name, f"{name}/samples/after.jsonl", run.after) for name, run in zip(names, runs, strict=True)]
    rewards = list(dict.fromkeys(reward for run in runs for reward in run.rewards))
    solved = [name for name, run in zip(names, runs, strict=True) if run.after]
    lost_is = f"Right by {solved[0]}, wrong by {solved[-1]}" if solved else ""
    problems = side_by_side(columns, rewards, runs[0].correctness, lost_is) if len(solved) > 1 else []
    return render(
        "comparison.html",
        title=f"{len(runs)} runs side by side",
        eyebrow=f"{len(runs)} runs side by side",
        verdict=verdict_of_runs(names, runs, figures),
        scale=[(label, figure, False) for label, figure, _ in scale_of(figures)],
        notes=[f"{name}: {note}" for name, run in zip(names, runs, strict=True) for note in run.notes],
        contents=contents(
            ("runs", "Side by side", True),
            ("settings", "What differs", True),
            ("health", "Health", True),
            ("curves", "Curves", panels),
            ("samples", "Samples", problems),
        ),
        made_of=", ".join(f"{name}/" for name in names),
        labels=labels_of(figures),
        rows=rows,
        is_tested=any(row["p"] for row in rows),
        differing=differing(runs, shared=True),
        of_some=differing(runs, shared=False),
        panels=[one for lines, one in panels if lines > 1],
        single=[one for lines, one in panels if lines == 1],
        problems=problems,
    )


def row_of(name: str, run: RunFolder, figures: dict[str, Figure], first: RunFolder, page_folder: Path) -> dict:
    """A line of the table: what one run ended with, against the first."""
    test = compared(first.after, run.after, run.correctness) if run is not first else None
    memory, found = number(run.result.get("peak_memory_gb")), findings_of(run)
    serious = [finding for finding in found if finding.level in ("bad", "watch")]
    fine = len(found) - len(serious)
    against = "" if test is None else f"{signed(test.difference)} points"
    return {
        "name": name,
        "link": link(run.path / "report.html", page_folder),
        "recipe": recipe_name(run.recipe),
        "figures": figures,
        "against": against or ("" if run is first else why_none(run, first)),
        "p": p_told(test.p) if test else "",
        "minutes": minutes_told(run.minutes),
        "memory": f"{memory:.2f} GB" if memory else "",
        "findings": serious,
        "healthy": healthy_told(fine, found),
    }


def why_none(run: RunFolder, first: RunFolder) -> str:
    """Why two runs are not compared by their held-out problems."""
    if not run.finished:
        return "not finished"
    if not run.after:
        return "not evaluated"
    return (
        "no problem in common"
        if first.after
        else "the first has none"
        if first.finished
        else "the first is not finished"
    )


def healthy_told(fine: int, found: list) -> str:
    if not found:
        return "Nothing was logged to judge it by."
    return f"{fine} check{'' if fine == 1 else 's'} fine." if fine else ""


def verdict_of_runs(names: list[str], runs: list[RunFolder], figures: dict[str, dict[str, Figure]]) -> Verdict:
    """The best of them, and whether it is better than the next by more than chance."""
    places = [place for place, name in enumerate(names) if "accuracy" in figures[name]]
    places.sort(key=lambda place: -figures[names[place]]["accuracy"].value)
    if not places:
        told = "; ".join(f"{name}: {verdict_of(run).headline}" for name, run in zip(names, runs, strict=True))
        return Verdict("No held-out accuracy to compare", f"{told}.", {}, {})
    best = places[0]
    accuracy = figures[names[best]]["accuracy"]
    sentence = f"{names[best]} solves {with_interval(accuracy)} of the held-out problems"
    if len(places) == 1:
        return Verdict(f"Only {names[best]} was evaluated", f"{sentence}.", {}, {})
    following = places[1]
    sentence += f", {names[following]} {with_interval(figures[names[following]]['accuracy'])}"
    test = compared(runs[following].after, runs[best].after, runs[best].correctness)
    if test is None:
        sentence += "; whether that is more than chance cannot be said, for they solved different problems."
        return Verdict(f"{names[best]}: {percent(accuracy.value)}", sentence, {}, {})
    words = f"paired test on the same {test.n:,} problems, {p_told(test.p)}"
    if not test.significant:
        sentence += f": a difference that chance brings as well ({words})."
        return Verdict("The best two cannot be told apart", sentence, {}, {})
    sentence += f": a difference of {abs(test.difference) * 100:.1f} points, more than chance ({words})."
    return Verdict(f"{names[best]} is the best, {percent(accuracy.value)}", sentence, {}, {})


def overlaid(names: list[str], runs: list[RunFolder]) -> list[tuple[Panel, list[int]]]:
    """Panels with a line for each run that has the curve, and the runs' places; lines of one panel are kept apart."""
    found: dict[tuple[str, str], tuple[Panel, list[int]]] = {}
    for place, (name, run) in enumerate(zip(names, runs, strict=True)):
        panels, _ = curves_of(run, keep_constant=True)
        for panel in panels:
            for line in panel.lines:
                title = f"{panel.title}: {line.label}" if line.label else panel.title
                whole, places = found.setdefault((title, panel.unit), (replace(panel, title=title, lines=[]), []))
                whole.lines.append(replace(line, label=name, low=None, high=None, dots=[]))
                places.append(place)
    varied = [entry for entry in found.values() if not all(is_level(line.raw) for line in entry[0].lines)]
    # A weight is one run's, and there are no dots here.
    return [
        (replace(panel, mark="", healthy=panel.healthy.partition(" The held-out dots")[0]), places)
        for panel, places in varied
    ]


def is_level(values: np.ndarray) -> bool:
    """Whether nothing changes in it."""
    known = values[~np.isnan(values)]
    return not known.size or known.min() == known.max()


def distinct_names(runs: list[RunFolder]) -> list[str]:
    """Each run by its folder's name, with as many of the folders above as tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    names = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names
