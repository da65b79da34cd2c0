"""A pipeline's folder (R1, distillation, rounds of DPO): its stages in order, and the figures after each."""

from dataclasses import dataclass
from pathlib import Path

from recipes.errors import InputError
from recipes.reporting.files import number, read_json, read_settings
from recipes.reporting.held_out_figures import Figure, compared
from recipes.reporting.run_folder import RunFolder, looks_like_run
from recipes.reporting.verdict import Verdict, held_out_figures, on_accuracies

# As in recipes/r1.py, which imports too much for a report.
ORDER = {
    "r1": ("cold_start", "rl", "samples", "sft", "final"),
    "r1_zero": ("rl",),
    "distill": ("teacher", "samples", "student", "rl"),
}
PRODUCT = {"distill": "student"}  # whose model is the pipeline's; else that of the last stage


@dataclass
class PipelineFolder:
    """The stages that have begun, each a run; `product` is the one whose model is the pipeline's."""

    path: Path
    name: str
    settings: dict
    stages: list[RunFolder]
    notes: list[str]
    minutes: float | None

    @property
    def trained(self) -> list[RunFolder]:
        """The stages after which the held-out problems were solved."""
        return [stage for stage in self.stages if stage.after and stage.finished]

    @property
    def product(self) -> RunFolder | None:
        wanted = PRODUCT.get(self.name)
        named = [stage for stage in self.trained if stage.name == wanted]
        return (named or self.trained or [None])[-1]

    @property
    def finished(self) -> bool:
        order = ORDER.get(self.name)
        return all(stage.finished for stage in self.stages) and (
            not order or {stage.name for stage in self.stages} >= set(order) - set(self.settings.get("left_out") or [])
        )


def is_pipeline(folder: Path) -> bool:
    """Whether `folder` holds a pipeline, or the rounds of iterative DPO."""
    return (folder / "pipeline.yaml").is_file() or looks_like_run(folder / "round_1")


def open_pipeline(folder: Path) -> PipelineFolder:
    notes: list[str] = []
    settings = read_settings(folder / "pipeline.yaml", notes)
    name = str(settings.get("pipeline") or ("rounds of DPO" if looks_like_run(folder / "round_1") else "pipeline"))
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and looks_like_run(path)]
    order = ORDER.get(name, ())
    found.sort(key=lambda path: (order.index(path.name) if path.name in order else len(order), natural(path.name)))
    minutes = read_json(folder / "result.json", notes).get("minutes")
    told = [number(value) or 0 for value in minutes.values()] if isinstance(minutes, dict) else [number(minutes)]
    stages = [RunFolder(path) for path in found]
    notes += [f"{stage.name}: {note}" for stage in stages for note in stage.notes]
    total = sum(told) if None not in told else sum(stage.minutes or 0 for stage in stages)
    return PipelineFolder(folder, name, settings, stages, notes, total or None)


def as_run(pipeline: PipelineFolder) -> RunFolder:
    """The pipeline as one run, for a comparison: its last stage, from the base model on, with the minutes of all."""
    if not pipeline.stages:
        raise InputError(f"{pipeline.path} is a pipeline that has not begun: there is nothing to report.")
    run = RunFolder((pipeline.product or pipeline.stages[-1]).path)
    run.path, run.about = pipeline.path, {**run.about, "recipe": pipeline.name}
    run.result = {**run.result, "minutes": pipeline.minutes} if run.result else {}
    run.before = pipeline.trained[0].before if pipeline.trained else []
    return run


def natural(name: str) -> tuple[str, int]:
    """round_2 before round_10."""
    word, _, digits = name.rpartition("_")
    return (word, int(digits)) if digits.isdecimal() and len(digits) < 10 else (name, 0)


def figures_after(pipeline: PipelineFolder) -> dict[str, dict[str, Figure]]:
    """The held-out figures of the base model and after each stage that has them."""
    if not pipeline.trained:
        return {}
    figures = {"base": held_out_figures(pipeline.trained[0])[0]}
    figures |= {stage.name: held_out_figures(stage)[1] for stage in pipeline.trained}
    return {name: found for name, found in figures.items() if found}


def verdict_of_pipeline(pipeline: PipelineFolder, figures: dict[str, dict[str, Figure]]) -> Verdict:
    """The base model against that of the last stage, or of the stage whose model is kept."""
    product = pipeline.product
    if product is None or "base" not in figures or product.name not in figures:
        begun = ", ".join(stage.name for stage in pipeline.stages) or "none"
        headline = "Trained, not evaluated" if pipeline.finished else "Not finished"
        on = "" if pipeline.finished else " The same command goes on where it stopped."
        return Verdict(headline, f"Stages that have begun: {begun}.{on}", {}, {})
    before, after = figures["base"], figures[product.name]
    comparison = compared(pipeline.trained[0].before, product.after, product.correctness)
    verdict = on_accuracies(before, after, comparison)
    if pipeline.finished:
        return verdict
    sentence = f"After the stage {product.name}: {verdict.sentence} The same command goes on where it stopped."
    return Verdict(f"Not finished, so far: {verdict.headline}", sentence, before, after, comparison)
