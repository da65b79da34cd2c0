"""DeepSeek-R1's pipeline (2501.12948), and two shorter ways: R1-Zero, and distillation against RL.

    make r1-gsm8k          # cold start (SFT) -> GRPO -> rejection sampling -> SFT of the base on the samples -> GRPO
    make r1-zero-gsm8k     # GRPO straight from the base model
    make distill-gsm8k     # a trained model teaches a fresh one by SFT; RL on a fresh one, at equal compute, beside it
    make r1-gsm8k FROM=sft ARGS="--model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --rl.max_steps 100"

Each stage is a run of a recipe in a folder of its own, runs/r1-<task>/<stage>, which the next stage reads. The same
command goes on where it stopped; FROM=stage does that stage, if it has ended, and the later ones anew, or begins with
it, and the command without FROM goes on from there. pipeline.yaml keeps the base model and the stages left out.
`--<stage>.<flag> value` sets a flag of one stage.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

from recipes import hardware
from recipes.errors import exit_kindly
from recipes.models import find_model
from recipes.run import is_worth_keeping, read_yaml
from recipes.stage_flags import check_stage, parse_pipeline
from recipes.stages import (
    delete_stages,
    has_begun,
    made_and_locked,
    print_stages,
    run_stage,
    stages_left_out,
    was_given,
    write_pipeline,
)
from recipes.tasks import load_task
from rewards import language_consistency_reward


@dataclass
class Stage:
    """One recipe of a pipeline, and what it takes from the stages before it."""

    name: str
    recipe: str
    models: tuple[str, ...] = ()  # goes on from the first of these stages that was run; else from the base model
    samples: str | None = None  # reads the samples of this stage
    settings: dict = field(default_factory=dict)
    starter_settings: dict = field(default_factory=dict)  # besides or in place of those, for the miniature
    needs: tuple[str, ...] = ()  # cannot begin without the results of these


LANGUAGE = language_consistency_reward.__name__  # measured after every stage, and paid by RL
# A cold start is small: it shows the form, and RL finds out the rest.
R1 = [
    Stage("cold_start", "sft", (), None, {"num_train_rows": 2000, "num_train_epochs": 1}, {"num_train_rows": 96}),
    Stage("rl", "grpo", ("cold_start",), None, {}, {"max_steps": 40}),
    Stage("samples", "sample", ("rl", "cold_start"), None, {"num_prompts": 1000}, {"num_generations": 4}),
    Stage("sft", "sft", (), "samples", {"keep_per_prompt": 2, "keep": "random"}),
    Stage(
        "final", "grpo", ("sft", "rl", "cold_start"), None, {"max_steps": 100}, {"max_steps": 20, "learning_rate": 3e-4}
    ),
]
R1_ZERO = [Stage("rl", "grpo")]
DISTILL = [
    Stage("teacher", "grpo"),
    Stage("samples", "sample", ("teacher",), None, {"num_prompts": 1000, "num_generations": 4}),
    Stage("student", "sft", (), "samples", {"keep_per_prompt": 2, "keep": "random"}),
    Stage("rl", "grpo", needs=("samples", "student")),  # as long as these two took
]
PIPELINES = {"r1": R1, "r1_zero": R1_ZERO, "distill": DISTILL}


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    args, stages, flags = parse(sys.argv[1:] if argv is None else argv)
    folder, machine = Path(args.output_dir), hardware.detect()
    checked = {
        stage.name: check_stage(
            stage.name, stage.recipe, settings_of(stage, args, {}) | flags.get(stage.name, {}), machine
        )
        for stage in stages
    }
    left_out = stages_left_out(args, stages)
    with made_and_locked(folder):
        run_stages(args, stages, flags, left_out, completions_per_step(checked[stages[-1].name]))


def run_stages(args, stages: list[Stage], flags: dict[str, dict], left_out: list[str], per_step: int) -> None:
    """One after the other, as far as they have not ended; `per_step` completions cost one step of distill's RL."""
    folder, results = Path(args.output_dir), {}
    pipeline = {"pipeline": args.pipeline, "task": args.task, "model_name_or_path": args.model_name_or_path}
    pipeline["left_out"] = left_out
    if not has_begun(folder, stages):
        write_pipeline(folder, pipeline)
    for number, stage in enumerate(stages):
        if stage.name in left_out:
            print(f"Stage {stage.name}: left out. FROM={stage.name} begins with it.")
            continue
        print(f"\nStage {number + 1} of {len(stages)}: {stage.name}", flush=True)
        settings = settings_of(stage, args, results, per_step) | flags.get(stage.name, {})
        own = folder / stage.name
        if stage.name == args.from_stage:  # only now: what is kept before it has proved to be of these settings
            unfinished = was_given(own, settings) and not (own / "result.json").exists()
            delete_stages([folder / later.name for later in stages[number + unfinished :]])
            write_pipeline(folder, pipeline)
        try:
            results[stage.name] = run_stage(stage.recipe, settings)
        except SystemExit as stop:
            if is_worth_keeping(own) and not was_given(own, settings):
                print(
                    f"FROM={stage.name} does that stage and the later ones anew; a pipeline takes no --overwrite.",
                    file=sys.stderr,
                )
            elif args.from_stage and stop.code != 2:
                print("Go on without FROM: with it, what has ended is done anew.", file=sys.stderr)
            raise
    compute = None
    if args.pipeline == "distill":
        compute = passes(results, completions_per_step(read_yaml(folder / "rl" / "config.yaml")))
    product = "student" if args.pipeline == "distill" else stages[-1].name
    print_stages(folder, results, product, compute)


def completions_per_step(settings: dict) -> int:
    return settings.get("per_device_train_batch_size", 1) * settings.get("gradient_accumulation_steps", 1)


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[Stage], dict[str, dict]]:
    """The command line, the stages, and the flags of single stages; raises `InputError`."""
    return parse_pipeline(argv, PIPELINES, __doc__)


def settings_of(stage: Stage, args, results: dict, per_step: int = hardware.COMPLETIONS_PER_STEP) -> dict:
    """A stage's flags: what every stage is given, what this one sets, and what the stages before it have made."""
    shared = ("task", "dataset_name", "dataset_config", "seed", "report_to", "eval_samples", "model_name_or_path")
    settings = {name: getattr(args, name) for name in shared if getattr(args, name) is not None}
    settings |= stage.settings | (stage.starter_settings if find_model(args.model_name_or_path).is_starter else {})
    settings["output_dir"] = f"{args.output_dir}/{stage.name}"
    model = next((name for name in stage.models if name in results), None)
    if model:
        settings["model_name_or_path"] = f"{args.output_dir}/{model}"
    elif stage.name == "samples" and args.teacher:
        settings["model_name_or_path"] = args.teacher
    if stage.samples:
        settings["samples"] = f"{args.output_dir}/{stage.samples}"
    if stage.recipe == "sample":
        settings.pop("report_to", None)
        settings.pop("eval_samples", None)
    elif LANGUAGE not in [reward.__name__ for reward in load_task(args.task).reward_funcs]:
        settings["extra_rewards"] = [LANGUAGE]
    if stage.needs and "student" in results:  # as many steps as cost what the distillation did
        settings["max_steps"] = max(1, round(passes(results, per_step)["student"] / (3 * per_step)))
    return settings


def passes(results: dict, per_step: int) -> dict[str, int]:
    """What both arms of a distillation cost, in passes over a completion; the teacher's own training is not counted.

    `per_step` is the number of completions in a step of RL: batch x accumulation.
    Writing one is a forward pass, training on one a forward and a backward pass (under LoRA the weights' own gradients
    fall away).
    """
    student = results["student"]
    found = {"student": round(results["samples"]["completions"] + 2 * student["examples"] * student["epochs"])}
    if "rl" in results:
        found["rl"] = 3 * per_step * results["rl"]["steps"]
    return found


if __name__ == "__main__":
    main()
