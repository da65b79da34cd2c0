"""The page of a pipeline."""

from itertools import count

from recipes.reporting.drawing import drawn_curves
from recipes.reporting.examples import Problem, side_by_side
from recipes.reporting.held_out_figures import Figure
from recipes.reporting.pipeline_folder import PipelineFolder, figures_after, verdict_of_pipeline
from recipes.reporting.rendering import (
    PIPELINES,
    contents,
    eyebrow,
    labels_of,
    link,
    minutes_told,
    recipe_name,
    render,
    scale_of,
)
from recipes.reporting.reproduce import command_of, make_of
from recipes.reporting.run_page import findings_of, versions_of
from recipes.reporting.verdict import verdict_of

SHARED = ("seed", "eval_samples", "dataset_name", "dataset_config")  # flags of a pipeline that every stage is given


def pipeline_page(pipeline: PipelineFolder) -> str:
    """The report of a pipeline: its verdict, the figures after each stage, the same problems, the health of each."""
    figures = figures_after(pipeline)
    verdict, labels = verdict_of_pipeline(pipeline, figures), labels_of(figures)
    stages, problems = stages_of(pipeline), problems_of(pipeline)
    command, make = commands_of(pipeline)
    return render(
        "pipeline.html",
        title=f"{pipeline.path.name}: {verdict.headline}",
        eyebrow=eyebrow(PIPELINES.get(pipeline.name, pipeline.name), task_of(pipeline), model=model_of(pipeline)),
        verdict=verdict,
        scale=scale_of(figures),
        notes=pipeline.notes,
        contents=contents(
            ("stages", "Stages", True), ("samples", "Samples", problems), ("curves", "Stage by stage", stages)
        ),
        made_of=f"{pipeline.path.name}/",
        labels=labels,
        tops=tops_of(figures, labels),
        rows=rows_of(pipeline, figures),
        product=pipeline.product.name if pipeline.product else "",
        facts=facts_of(pipeline),
        command=command,
        make=make,
        problems=problems,
        stages=stages,
    )


def stages_of(pipeline: PipelineFolder) -> list[dict]:
    """Each stage's verdict, health and curves."""
    numbers, stages = count(), []
    for stage in pipeline.stages:
        panels, constant = drawn_curves(stage, numbers)
        stages.append(
            {
                "name": stage.name,
                "recipe": recipe_name(stage.recipe),
                "sentence": verdict_of(stage).sentence,
                "link": link(stage.path / "report.html", pipeline.path),
                "findings": findings_of(stage),
                "panels": panels,
                "constant": constant,
            }
        )
    return stages


def problems_of(pipeline: PipelineFolder) -> list[Problem]:
    """The same held-out problems, as the base model and that of every stage solve them."""
    columns = [("Base", f"{stage.name}/samples/before.jsonl", stage.before) for stage in pipeline.trained[:1]]
    columns += [(f"After {stage.name}", f"{stage.name}/samples/after.jsonl", stage.after) for stage in pipeline.trained]
    rewards = list(dict.fromkeys(name for stage in pipeline.trained for name in stage.rewards))
    return side_by_side(columns, rewards, pipeline.product.correctness if pipeline.product else "")


def rows_of(pipeline: PipelineFolder, figures: dict[str, dict[str, Figure]]) -> list[tuple]:
    """The table's rows: name, address of the stage's report, figures, minutes."""
    stages = {stage.name: stage for stage in pipeline.stages}
    rows = []
    for name, found in figures.items():
        stage = stages.get(name)  # of the base model none
        address = link(stage.path / "report.html", pipeline.path) if stage else ""
        rows.append((name, address, found, minutes_told(stage.minutes) if stage else ""))
    return rows


def tops_of(figures: dict[str, dict[str, Figure]], labels: list[str]) -> dict[str, float]:
    """Where the track of each figure ends: a share's at 1, that of a length at the longest; none below 0."""
    tops = {}
    for label in labels:
        found = [one[label] for one in figures.values() if label in one]
        if min(figure.value if figure.low is None else figure.low for figure in found) >= 0:
            tops[label] = max(1.0, *(figure.value if figure.high is None else figure.high for figure in found))
    return tops


def commands_of(pipeline: PipelineFolder) -> tuple[str, str]:
    """As `python -m ...` and as `make ...`; "" for what cannot be told."""
    first = pipeline.stages[0].given if pipeline.stages else {}
    if "pipeline" not in pipeline.settings:  # rounds of DPO
        own = {name: value for name, value in first.items() if name != "output_dir"}
        return (command_of("dpo", own | {"rounds": len(pipeline.stages)}), "") if pipeline.stages else ("", "")
    names = ("task", "model_name_or_path")
    given = {name: pipeline.settings[name] for name in names if pipeline.settings.get(name)}
    given |= {name: first[name] for name in SHARED if first.get(name) is not None}
    return command_of("r1", {"pipeline": pipeline.name, **given}), make_of(pipeline.name.replace("_", "-"), given)


def model_of(pipeline: PipelineFolder) -> str:
    return str(pipeline.settings.get("model_name_or_path") or (pipeline.stages[0].model if pipeline.stages else ""))


def task_of(pipeline: PipelineFolder) -> str:
    return str(pipeline.settings.get("task") or (pipeline.stages[0].task if pipeline.stages else ""))


def facts_of(pipeline: PipelineFolder) -> list[tuple[str, str]]:
    """What, on what, how long: (name, value)."""
    left_out = pipeline.settings.get("left_out")
    facts = [
        ("Base model", model_of(pipeline)),
        ("Task", task_of(pipeline)),
        ("Time", f"{pipeline.minutes:.1f} minutes of training" if pipeline.minutes else ""),
        ("Left out", ", ".join(map(str, left_out)) if isinstance(left_out, list) else ""),
        ("Folder", str(pipeline.path)),
    ]
    for stage in pipeline.stages[:1]:
        facts += [("Machine", str(stage.about.get("machine") or "")), ("Versions", versions_of(stage))]
    return [(name, value) for name, value in facts if value]
