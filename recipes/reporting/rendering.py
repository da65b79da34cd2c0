"""A page from a template: one HTML file without a script, and with nothing from elsewhere; and how things are told."""

import os
import re
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from recipes.reporting.drawing import short
from recipes.reporting.held_out_figures import Figure
from recipes.reporting.text import visible
from recipes.reporting.verdict import p_told, percent, points, signed
from recipes.run import GENERATOR

TEMPLATES = Path(__file__).parent / "page"
RECIPES = {
    "grpo": "GRPO",
    "ppo": "PPO",
    "dpo": "DPO",
    "sft": "SFT",
    "rm": "Reward model",
    "sample": "Samples",
    "eval": "Evaluation",
}
PIPELINES = {"r1": "R1 pipeline", "r1_zero": "R1-Zero", "distill": "Distillation", "rounds of DPO": "Rounds of DPO"}


def render(template: str, **context) -> str:
    """A page; whatever is text is shown as text, with what cannot be seen as escapes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters |= {
        "figure": told,
        "interval": interval_told,
        "percent": percent,
        "points": signed,
        "p_value": p_told,
        "sentence_case": lambda text: text[:1].upper() + text[1:],
        "with_flags": with_flags,
        "in_words": in_words,
    }
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, generator=GENERATOR, **context)


def with_flags(sentence: str) -> Markup:
    """A sentence whose flags, such as --beta, are marked as code."""
    pieces = re.split(r"(--\w+(?:\.\w+)*)", visible(sentence))
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece) for place, piece in enumerate(pieces)
    )


def in_words(command: str) -> Markup:
    """A command that breaks between its flags alone, if it can."""
    pieces = re.split(r" (?=--\w|ARGS=)", visible(command))
    return Markup(" ").join(Markup("<span>{}</span>").format(piece) for piece in pieces)


def told(figure: Figure, label: str) -> str:
    return percent(figure.value) if is_share(label) else short(figure.value)


def interval_told(figure: Figure, label: str) -> str:
    ends = (figure.low, figure.high)
    low, high = (points(end) if is_share(label) else short(end) for end in ends)
    return f"{low} to {high}"


def is_share(label: str) -> bool:
    return label in ("accuracy", "strict accuracy", "format") or label.startswith(("pass@", "maj@"))


def labels_of(figures: dict[str, dict[str, Figure]]) -> list[str]:
    """The columns of a table of figures; the length, which every run has, is the last."""
    labels = dict.fromkeys(label for found in figures.values() for label in found)
    return sorted(labels, key=lambda label: label == "mean length")


def scale_of(figures: dict[str, dict[str, Figure]]) -> list[tuple[str, Figure, bool]]:
    """Label, accuracy, and whether it is the first of several."""
    found = [(label, one["accuracy"]) for label, one in figures.items() if "accuracy" in one]
    return [(label, figure, place == 0 and len(found) > 1) for place, (label, figure) in enumerate(found)]


def recipe_name(recipe: str) -> str:
    return RECIPES.get(recipe) or PIPELINES.get(recipe, recipe)


def model_name(model: str) -> str:
    """A hub id as it is, a path by its last part."""
    return model if model.count("/") <= 1 and not model.startswith((".", "/")) else Path(model).name


def eyebrow(*words: str, model: str) -> str:
    """The line above the headline: what was done, on what."""
    return " · ".join(part for part in (*words, model_name(model)) if part)


def minutes_told(minutes: float | None) -> str:
    return "" if minutes is None else f"{minutes:.1f}"


def contents(*sections: tuple[str, str, object]) -> list[tuple[str, str]]:
    """Anchor and label of the sections that are there."""
    return [(anchor, label) for anchor, label, there in sections if there]


def link(report: Path, page_folder: Path) -> str:
    """The relative address of another report; "" where it does not exist."""
    relative = os.path.relpath(report, page_folder).replace(os.sep, "/")
    return quote(os.fsencode(relative)) if report.is_file() else ""
