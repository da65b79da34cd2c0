"""The command line of every recipe: TRL's parser, strict, with few words of help and one sentence per mistake.

Later wins: the dataclasses' defaults, the task's, what fits the machine, the YAML file of `--config`, the flags.
"""

import argparse
import difflib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from transformers import HfArgumentParser
from trl import TrlParser

from recipes import hardware
from recipes.errors import InputError
from recipes.preflight import check_batch
from recipes.tasks import load_task


@dataclass
class RecipeArguments:
    """What the recipes add to the flags of TRL and transformers."""

    task: str = field(default="gsm8k", metadata={"help": "The task: the name of a file in recipes/tasks."})
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Rows with `question` and `answer`: a hub id, a folder or a JSONL file; else the task's own."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "The data set's configuration on the hub."})
    eval_samples: int = field(
        default=400, metadata={"help": "Held-out problems to solve before and after training; 0 skips both."}
    )
    eval_temperature: float = field(
        default=0.0, metadata={"help": "Temperature of the two evaluations; 0 is greedy decoding."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Delete the run that --output_dir holds, and start anew."})
    dry_run: bool = field(default=False, metadata={"help": "Check everything, print every setting, train nothing."})


class RecipeParser(TrlParser):
    """TRL's parser over `RecipeArguments`, a trainer's config and a model config.

    Attributes:
        settings (`dict`): after `parse`, every flag's value, as `--config` can read it back.
        given (`dict`): the part of it that the user gave.
    """

    def __init__(self, trainer: str, config_class: type, model_class: type, doc: str):
        super().__init__([RecipeArguments, config_class, model_class], allow_abbrev=False, add_help=False)
        self.trainer, self.doc = trainer, doc

    def parse(self, argv: list[str] | None, machine: hardware.Machine) -> tuple:
        """Returns `(task, RecipeArguments, trainer config, model config)`; raises `InputError`."""
        argv = sys.argv[1:] if argv is None else list(argv)
        argv = [part for arg in argv for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
        if {"-h", "--help", "--help-all"} & set(argv):
            self.print_recipe_help(everything="--help-all" in argv)
            sys.exit(0)
        self.given = self._what_the_user_gave(argv)
        name = self.given.get("task", RecipeArguments.task)
        load_task(name)  # an unknown name is an error even where the machine decides for another task
        name = hardware.task_for(machine, name, self.given)
        task = load_task(name)
        self.set_defaults_with_config(
            reward_weights=list(task.reward_weights),
            output_dir=f"runs/{self.trainer}-{name}",
            **hardware.defaults(machine, task, self.given),
        )
        self.set_defaults_with_config(**_settings_of_unfinished_run(self, self.given))
        settings = {action.dest: action.default for action in self._actions} | self.given
        if "num_generations" in settings:
            check_batch(settings)
        try:
            args, config, model_args = self.parse_args_and_config(argv)
        except (ValueError, TypeError) as error:  # TRL's own checks of its configs
            raise InputError(f"These settings do not go together: {_one_line(error)}") from error
        args.task = self.settings["task"] = name
        return task, args, config, model_args

    def parse_known_args(self, args=None, namespace=None):
        namespace, rest = super().parse_known_args(args, namespace)
        self.settings = dict(vars(namespace))
        return namespace, rest

    def error(self, message: str):
        raise InputError(f"{_one_line(message)}. See --help.")

    def print_recipe_help(self, everything: bool) -> None:
        own = HfArgumentParser([RecipeArguments], usage=argparse.SUPPRESS, add_help=False)
        print(self.doc.strip(), own.format_help(), sep="\n\n")
        if everything:
            self.usage = argparse.SUPPRESS
            print(self.format_help())
        else:
            print("Every flag of TRL's GRPOConfig and ModelConfig works too: --help-all lists them.")

    def _what_the_user_gave(self, argv: list[str]) -> dict:
        """The values of the YAML file and the flags alone, checked for unknown names."""
        known = [option for action in self._actions for option in action.option_strings]
        given, argv = {}, list(argv)
        if "--config" in argv:
            at = argv.index("--config")
            if at + 1 == len(argv):
                raise InputError("--config needs the path of a YAML file.")
            given = _read_yaml(argv[at + 1])
            del argv[at : at + 2]
        for key in given:
            if f"--{key}" not in known and key != "env":
                raise InputError(f"Unknown key {key!r} in the config file.{_nearest(f'--{key}', known, strip=True)}")
        defaults = {action: action.default for action in self._actions}
        for action in defaults:
            action.default = argparse.SUPPRESS
        namespace, unknown = self.parse_known_args(argv)
        for action, default in defaults.items():
            action.default = default
        if unknown:
            flag = unknown[0].split("=")[0]
            raise InputError(f"Unknown flag {flag}.{_nearest(flag, known)} See --help.")
        return {**given, **vars(namespace)}


def _settings_of_unfinished_run(parser: RecipeParser, given: dict) -> dict:
    """An unfinished run goes on as the machine was when it began, whatever memory is free today."""
    folder = Path(given.get("output_dir", parser.get_default("output_dir")))
    if given.get("overwrite") or (folder / "result.json").exists() or not (folder / "config.yaml").exists():
        return {}
    stored = _read_yaml(str(folder / "config.yaml"))
    return {key: stored[key] for key in hardware.CHOSEN_BY_MACHINE if key in stored}


def _read_yaml(path: str) -> dict:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The config file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The config file {path} is not YAML: {_one_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The config file {path} must hold `name: value` lines, one setting on each.")
    return content


def _nearest(name: str, known: list[str], strip: bool = False) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0].lstrip('-') if strip else near[0]}?" if near else ""


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
