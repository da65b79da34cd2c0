"""What an evaluation (recipes/evaluate.py) found: a row for each model, and how far it is from the first."""

from recipes.reporting.files import number
from recipes.reporting.held_out_figures import SIGNIFICANT, Figure

LABELS = {"format": "format", "mean_length": "mean length"}  # behind pass@k and maj@k


def models_of(result: dict) -> dict[str, dict[str, Figure]]:
    """The figures of each model by their labels; empty for what is no evaluation, or a broken one."""
    models = result.get("models")
    found = {name: figures_of(told) for name, told in models.items()} if isinstance(models, dict) else {}
    return {name: figures for name, figures in found.items() if figures}


def figures_of(told) -> dict[str, Figure]:
    """pass@k, maj@k (of one sample there is no majority), format and length, with their intervals."""
    if not isinstance(told, dict):
        return {}
    intervals = told.get("intervals") if isinstance(told.get("intervals"), dict) else {}
    names = [name for name in told if "@" in str(name) and name != "maj@1"] + list(LABELS)
    figures = {}
    for name in names:
        value, ends = number(told.get(name)), intervals.get(name)
        low, high = map(number, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
        if value is not None:
            figures[LABELS.get(name, name)] = Figure(value, *((None, None) if None in (low, high) else (low, high)))
    return figures


def differences_of(result: dict) -> dict[str, tuple[float, float, float, float]]:
    """Of each model but the first: pass@1 minus that of the first, the ends of its interval, and p."""
    told, found = result.get("differences"), {}
    for name, one in told.items() if isinstance(told, dict) else ():
        ends = one.get("ci95") if isinstance(one, dict) else None
        if isinstance(ends, list) and len(ends) == 2:
            values = tuple(map(number, (one.get("difference"), *ends, one.get("p"))))
            if None not in values:
                found[name] = values
    return found


def best_of(result: dict) -> tuple[str, Figure, str] | None:
    """The model that solves the most at the first try, its share, and how that stands against the first model's."""
    models = {name: figures["pass@1"] for name, figures in models_of(result).items() if "pass@1" in figures}
    if not models:
        return None
    best, first = max(models, key=lambda name: models[name].value), next(iter(models))
    if best == first:
        return best, models[best], "" if len(models) == 1 else "the first of them"
    difference = differences_of(result).get(best)
    if difference is None:
        return best, models[best], ""
    p = difference[3] * (len(models) - 1)  # the best of so many is better by chance more often (Bonferroni)
    told = "more than chance" if p < SIGNIFICANT else "which chance brings as well"
    return best, models[best], f"{difference[0] * 100:+.1f} points against {first}, {told}"
