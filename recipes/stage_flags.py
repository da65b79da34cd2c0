"""The command line of a pipeline: its own flags, and those of single stages, --rl.max_steps 100 --sft.bf16 False."""

import argparse
from dataclasses import replace
from pathlib import Path

from recipes import hardware
from recipes.arguments import RecipeArguments, RecipeParser
from recipes.dpo import DPOArguments, DPODefaults
from recipes.errors import InputError, did_you_mean, refuse
from recipes.grpo import GRPODefaults
from recipes.ppo import PPODefaults
from recipes.qlora import QLoRA
from recipes.reward_model import RewardModelArguments, RewardModelDefaults
from recipes.sample import SampleArguments, SampleConfig
from recipes.sft import SFTArguments, SFTDefaults
from recipes.stages import has_begun, pipeline_to_go_on
from recipes.tasks import load_task

OF_THE_PIPELINE = ("task", "output_dir", "overwrite", "dry_run")
FLAGS_OF = {
    "grpo": (GRPODefaults, RecipeArguments),
    "dpo": (DPODefaults, DPOArguments),
    "sft": (SFTDefaults, SFTArguments),
    "sample": (SampleConfig, SampleArguments),
    "ppo": (PPODefaults, RecipeArguments),
    "rm": (RewardModelDefaults, RewardModelArguments),
}


class SettingsParser(RecipeParser):
    """Checks settings as the recipe will, but builds no config of them: that would take the GPU."""

    def parse_args_into_dataclasses(self, *args, **kwargs):
        return self.arguments(), None, None


def check_stage(name: str, recipe: str, settings: dict, machine: hardware.Machine) -> dict:
    """Every setting that the stage will have, its defaults among them; raises `InputError`, and reads no model."""
    config, arguments = FLAGS_OF[recipe]
    parser = SettingsParser(recipe, config, QLoRA, "", arguments)
    argv = []
    for key, value in settings.items():
        argv += [f"--{key}", *map(str, value)] if isinstance(value, list) else [f"--{key}={value}"]
    try:
        parser.parse(argv, machine)
    except InputError as error:
        raise InputError(f"Stage {name}: {error}") from error
    return parser.settings


def stage_flags(rest: list[str], recipes: dict[str, str], own: list[str]) -> dict[str, dict]:
    """`--rl.max_steps 100` as {"rl": {"max_steps": "100"}}, each name checked by its recipe's own parser.

    `recipes` names each stage's recipe; `own` are the pipeline's flags, which are not among `rest`.
    """
    flags: dict[str, dict] = {}
    for word in rest:
        name, dot, key = word.removeprefix("--").partition("=")[0].partition(".")
        if word.startswith("--") and not (dot and name in recipes):
            flag = word.partition("=")[0]
            of_stages = ", ".join(f"--{stage}.flag" for stage in recipes)
            near = did_you_mean(f"--{name}", [f"--{stage}" for stage in recipes]).replace("?", f".{key}?")
            near = near if dot else did_you_mean(flag, own)
            raise InputError(f"Unknown flag {flag}.{near} Flags of a stage are written {of_stages}.")
        if word.startswith("--"):
            config, arguments = FLAGS_OF[recipes[name]]
            known = [
                flag.removeprefix("--") for flag in RecipeParser(recipes[name], config, QLoRA, "", arguments).known
            ]
            if key not in known:
                near = did_you_mean(f"--{name}.{key}", [f"--{name}.{flag}" for flag in known])
                raise InputError(f"Unknown flag --{name}.{key}.{near}")
            if key in OF_THE_PIPELINE:
                raise InputError(f"--{name}.{key}: a stage's {key} is set by the pipeline.")
            values = flags.setdefault(name, {}).setdefault(key, [])
            values += [word.partition("=")[2]] if "=" in word else []
        elif not flags:
            raise InputError(f"Unexpected word {word!r}: settings are given as --name value.")
        else:
            values.append(word)
    alone = {name: {key: v[0] if len(v) == 1 else v or True for key, v in of.items()} for name, of in flags.items()}
    return alone


def parse_pipeline(argv: list[str], pipelines: dict[str, list], doc: str) -> tuple[argparse.Namespace, list, dict]:
    """The command line, the stages, and the flags of single stages; raises `InputError`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = refuse
    parser.add_argument("--pipeline", choices=[*pipelines], default="r1")
    parser.add_argument("--task", default="gsm8k")
    for name in ("dataset_name", "dataset_config", "model_name_or_path", "output_dir"):
        parser.add_argument(f"--{name}", help="As in the recipes.")
    parser.add_argument("--report_to", help="As in the recipes.", default="none")
    parser.add_argument(
        "--from_stage", help="Do this stage, if it has ended, and the later ones anew, or begin with it."
    )
    parser.add_argument("--final", choices=["grpo", "dpo"], default="grpo", help="The recipe of r1's last stage.")
    parser.add_argument("--teacher", help="Distill from this model, and train no teacher.")
    parser.add_argument("--eval_samples", type=int, help="Held-out problems to solve before and after each training.")
    parser.add_argument("--seed", type=int, default=42)
    args, rest = parser.parse_known_args(argv)

    machine, named = hardware.detect(), {key: value for key, value in vars(args).items() if value is not None}
    load_task(args.task)
    args.task = hardware.task_for(machine, args.task, named)
    args.output_dir = args.output_dir or f"runs/{args.pipeline}-{args.task}"
    stages = [
        replace(stage, recipe=args.final if stage.name == "final" else stage.recipe)
        for stage in pipelines[args.pipeline]
    ]
    if args.teacher:
        stages = [stage for stage in stages if stage.name != "teacher"]
    if args.from_stage and args.from_stage not in [stage.name for stage in stages]:
        known = [stage.name for stage in stages]
        raise InputError(
            f"Unknown stage {args.from_stage!r}.{did_you_mean(args.from_stage, known)} One of {', '.join(known)}."
        )
    if args.teacher and args.pipeline != "distill":
        raise InputError("--teacher is for --pipeline distill: drop it.")
    folder = Path(args.output_dir)
    old = pipeline_to_go_on(folder, args.pipeline, args.task)
    if args.model_name_or_path is None:  # one base for all stages, whatever memory is free when they begin
        kept = old if has_begun(folder, stages) else {}
        args.model_name_or_path = (hardware.defaults(machine, load_task(args.task), named) | kept)["model_name_or_path"]
    own = [option for action in parser._actions for option in action.option_strings]
    return args, stages, stage_flags(rest, {stage.name: stage.recipe for stage in stages}, own)
