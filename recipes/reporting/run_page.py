"""The page of one run."""

from itertools import count

from recipes.reporting import calibration
from recipes.reporting.drawing import drawn_curves, short
from recipes.reporting.evaluation import differences_of, models_of
from recipes.reporting.examples import notable, over_time, side_by_side
from recipes.reporting.files import number
from recipes.reporting.health import Finding, check_health
from recipes.reporting.held_out_figures import Comparison, compared
from recipes.reporting.rendering import contents, eyebrow, labels_of, minutes_told, recipe_name, render, scale_of
from recipes.reporting.reproduce import as_word, command_of, exactly, make_of
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.verdict import verdict_of


def run_page(run: RunFolder) -> str:
    """The report of one run."""
    verdict, numbers = verdict_of(run), count()
    drawn, constant = drawn_curves(run, numbers)
    found, models = findings_of(run), models_of(run.result)
    problems = side_by_side(over_time(run), list(run.rewards), run.correctness)
    source, groups = notable(run)
    sampled = sampled_calibrations(run)
    calibrations = [
        (when, one, calibration.draw_reliability(one, f"c{next(numbers)}")) for when, one in sampled.items()
    ]
    solves = run.recipe not in ("rm", "sample", "eval")
    both = list(sampled.values()) if len(sampled) == 2 else []
    lines = [line for one in drawn for line in one["panel"].lines]
    return render(
        "run.html",
        title=f"{run.name}: {verdict.headline}",
        eyebrow=eyebrow(recipe_name(run.recipe), run.task, model=run.model),
        verdict=verdict,
        scale=scale_of({"before": verdict.before, "after": verdict.after}),
        notes=run.notes,
        contents=contents(
            ("run", "The run", True),
            ("health", "Health", found),
            ("curves", "Curves", drawn),
            ("samples", "Samples", problems or groups),
            ("calibration", "Calibration", solves),
        ),
        made_of=f"{run.name}/",
        facts=facts_of(run),
        table=[
            (label, verdict.before.get(label), verdict.after.get(label)) for label in verdict.before | verdict.after
        ],
        models=models,
        labels=labels_of(models),
        differences=differences_of(run.result),
        has_before=bool(verdict.before),
        has_after=bool(verdict.after),
        rewards=[(name, f"{weight:g}", role_of(run, name)) for name, weight in run.rewards.items()],
        given={name: value for name, value in run.given.items() if name != "output_dir"},
        command=command_of(run.recipe, given_to(run)),
        make=make_of(run.recipe, given_to(run)),
        exactly=exactly(run.recipe, run.path, run.task),
        settings=[(name, as_word(value)) for name, value in sorted(run.settings.items())],
        findings=found,
        panels=drawn,
        constant=constant,
        has_spread=any(line.low is not None for line in lines),
        has_dots=any(not dot.few for line in lines for dot in line.dots),
        has_few=any(dot.few for line in lines for dot in line.dots),
        problems=problems,
        has_during=bool(run.during),
        source=source,
        notable=groups,
        has_calibration=solves,
        calibrations=calibrations,
        calibration_change=calibration.change(*both) if both else "",
        calibration_missing=calibration_missing(run),
    )


def given_to(run: RunFolder) -> dict:
    """What the user gave; of several models the first is kept as the run's own, too."""
    several = "models" in run.given
    return {name: value for name, value in run.given.items() if not (several and name == "model_name_or_path")}


def findings_of(run: RunFolder) -> list[Finding]:
    """The health of a run, and what became of the held-out problems; nothing where nothing was trained."""
    if not run.metrics:
        return []
    found = check_health(run.metrics, run.settings, run.rewards, run.correctness, run.form)
    test = compared(run.before, run.after, run.correctness) if run.finished else None
    if test is None or not test.significant:
        return found
    if test.difference < 0:
        return [fallen(run, test), *found]
    # Few steps show no gain beyond their noise where hundreds of problems do.
    return [
        Finding("ok", one.name, "The samples of training are too few to show it; the held-out problems do.")
        if (one.name, one.level) == ("right answers", "watch")
        else one
        for one in found
    ]


def fallen(run: RunFolder, test: Comparison) -> Finding:
    """Fewer held-out problems are solved than before."""
    advice = {
        "dpo": "lower --learning_rate, raise --beta, or train on more pairs (--sample_prompts)",
        "sft": "lower --learning_rate or --num_train_epochs, or train on more and better examples",
        "ppo": "lower --learning_rate, raise --kl_coef, or stop earlier (--max_steps)",
    }.get(run.recipe, "lower --learning_rate, raise --beta, or stop earlier (--max_steps)")
    went = f"{-test.difference * 100:.1f} points fewer are solved than before training, more than chance"
    return Finding("bad", "held-out problems", f"{went}: {advice}.")


def sampled_calibrations(run: RunFolder) -> dict[str, calibration.Calibration]:
    found = {
        when: calibration.calibrate(run.held_out(f"{when}_sampled"), run.correctness) for when in ("before", "after")
    }
    return {when.capitalize(): one for when, one in found.items() if one}


def calibration_missing(run: RunFolder) -> str:
    """Why there is no calibration."""
    if not run.finished:
        return "the run has not ended."
    there = any((run.path / "samples" / f"{when}_sampled.jsonl").exists() for when in ("before", "after"))
    if there:
        return "none of the sampled problems has an answer that could be judged."
    return "no held-out problems were sampled several times (--calibration_samples)."


def facts_of(run: RunFolder) -> list[tuple[str, str]]:
    """What, on what, how long: (name, value)."""
    of, seed = number(run.settings.get("max_steps")), run.result.get("seed", run.settings.get("seed"))
    steps = f"{run.steps:,}" if run.finished or not of or of <= 0 else f"{run.steps:,} of {of:,.0f}"
    memory = number(run.result.get("peak_memory_gb"))
    facts = [
        ("Recipe", recipe_name(run.recipe)),
        ("Model", "" if "models" in run.given else run.model),
        ("Models", as_word(run.given.get("models") or "")),
        ("Task", run.task),
        ("Seed", "" if seed is None else str(seed)),
        ("Steps", steps if run.metrics else ""),
        ("Time", f"{minutes_told(run.minutes)} minutes" if run.minutes else ""),
        ("Peak memory", f"{memory:.2f} GB" if memory else ""),
        ("Machine", str(run.about.get("machine") or "")),
        ("Versions", versions_of(run)),
        ("Folder", str(run.path)),
    ]
    for name in ("pairs", "samples"):
        if isinstance(run.result.get(name), dict):
            counts = (f"{key.replace('_', ' ')} {count_told(value)}" for key, value in run.result[name].items())
            facts.append((name.capitalize(), ", ".join(counts)))
    return [(name, value) for name, value in facts if value]


def count_told(value) -> str:
    """A count, or a mean, of what was trained on."""
    return as_word(value) if number(value) is None else short(number(value))


def versions_of(run: RunFolder) -> str:
    versions = run.about.get("versions")
    return ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""


def role_of(run: RunFolder, name: str) -> str:
    """What a reward is for."""
    roles = {run.correctness: "is the answer right", run.form: "is it well formed"}
    told = [roles[name]] if name in roles else []
    if run.rewards[name] == 0:
        told.append("measured only, not trained on")
    return "; ".join(told) or "trained on"
