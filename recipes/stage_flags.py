"""Flags of single stages on the command line of a pipeline: --rl.max_steps 100 --sft.learning_rate 1e-4."""

from recipes import hardware
from recipes.arguments import RecipeArguments, RecipeParser
from recipes.dpo import DPOArguments, DPODefaults
from recipes.errors import InputError, did_you_mean
from recipes.grpo import GRPODefaults
from recipes.qlora import QLoRA
from recipes.sample import SampleArguments, SampleConfig
from recipes.sft import SFTArguments, SFTDefaults

OF_THE_PIPELINE = ("task", "output_dir", "overwrite", "dry_run")
FLAGS_OF = {
    "grpo": (GRPODefaults, RecipeArguments),
    "dpo": (DPODefaults, DPOArguments),
    "sft": (SFTDefaults, SFTArguments),
    "sample": (SampleConfig, SampleArguments),
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
            raise InputError(f"Unknown flag {flag}.{did_you_mean(flag, own)} Flags of a stage are written {of_stages}.")
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
