"""The command line of every recipe: TRL's parser, strict, with few words of help and one sentence per mistake.

Later wins: the dataclasses' defaults, the task's, what fits the machine, the YAML file of `--config`, the flags.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser
from trl import TrlParser

from recipes import hardware, processes
from recipes.errors import InputError, did_you_mean, near_path, one_line, path_of
from recipes.hub import is_local_path
from recipes.learned_reward import LearnedReward
from recipes.models import loading_of
from recipes.run import changed, is_run, read_yaml, stored
from recipes.samples import is_samples
from recipes.settings import check_settings
from recipes.tasks import Task, load_task


def flag(default, help: str):
    """A field of a dataclass of flags, with its sentence for --help."""
    return field(default=default, metadata={"help": help})


@dataclass
class TaskArguments:
    """What every script here adds to the flags of TRL and transformers."""

    task: str = flag("gsm8k", "The task: the name of a file in recipes/tasks.")
    dataset_name: str | None = flag(
        None, "Rows with `question`, `answer` (code: as MBPP, or built_in): hub id, folder or JSONL."
    )
    dataset_config: str | None = flag(None, "The data set's configuration on the hub.")
    extra_rewards: list[str] | None = flag(
        None, "Rewards of the library to add to the task's, such as language_consistency_reward; weight 0.1 each."
    )
    reward_model: str | None = flag(
        None, "A reward model, such as runs/rm-gsm8k, whose score is added as a reward of weight 1."
    )
    measure_only: list[str] | None = flag(
        None, "Rewards that are logged and not trained on: of the task, or more of the library, at weight 0."
    )
    samples: str | None = flag(
        None, "Scored samples: what DPO and SFT train on, and the pass rates by which every recipe can choose problems."
    )
    min_pass_rate: float = flag(0.0, "Leave out problems that --samples show to be solved less often than this.")
    max_pass_rate: float = flag(1.0, "Leave out problems that --samples show to be solved more often than this.")
    curriculum: bool = flag(False, "Order the problems from easy to hard, by the pass rates of --samples.")
    reward_timeout: float = flag(
        300.0, "Seconds that a reward of your own may take for a batch; then its rows are judged None. 0: any time."
    )
    overwrite: bool = flag(False, "Replace the run that --output_dir holds, if it is finished or another.")
    dry_run: bool = flag(False, "Check everything, print every setting, and stop.")


@dataclass
class RecipeArguments(TaskArguments):
    """What every trainer's recipe adds."""

    eval_samples: int = flag(400, "Held-out problems to solve before and after training; 0 skips both.")
    eval_temperature: float = flag(0.0, "Temperature of the two evaluations; 0 is greedy decoding.")
    watch: bool | None = field(
        default=None,
        metadata={
            "help": "A live panel while it trains, in place of lines; it needs a terminal. Default: where one is, but "
            "for a notebook's !command.",
            **{"nargs": "?", "const": True},  # --watch alone is True
        },
    )
    calibration_samples: int = flag(
        50, "Held-out problems to solve 8 times, before and after, for how sure the model is; 0 skips both."
    )


class RecipeParser(TrlParser):
    """TRL's parser over the recipe's arguments, a trainer's config and a model config.

    Attributes:
        machine (`Machine`): the one that is trained on; `--use_cpu` leaves a GPU alone.
        asked_task (`str`): the task that the user named, where the machine may decide for another.
        settings (`dict`): after `parse`, every flag's value, as `--config` can read it back.
        given (`dict`): the part of it that the user gave, by YAML file or flag.
    """

    def __init__(self, trainer: str, config_class: type, model_class: type, doc: str, arguments=RecipeArguments):
        super().__init__([arguments, config_class, model_class], allow_abbrev=False, add_help=False)
        self.trainer, self.config_class, self.arguments, self.doc = trainer, config_class, arguments, doc
        self.known = [option for action in self._actions for option in action.option_strings]

    def parse(self, argv: list[str] | None, machine: hardware.Machine, like_run: tuple[str, ...] = ()) -> tuple:
        """Returns `(task, arguments, trainer config, model config)`; raises `InputError`.

        Args:
            like_run (`tuple[str]`): settings that are, by default, those of the run that the model is of.
        """
        argv = sys.argv[1:] if argv is None else list(argv)
        if {"-h", "--help", "--help-all"} & set(argv):
            self.print_recipe_help(everything="--help-all" in argv)
            sys.exit(0)
        argv = self._with_config_file(argv)
        self.given = self._given(argv)
        for name in self.given.get("models") or []:  # before a folder that holds an earlier evaluation is spoken of
            if is_local_path(name) and not path_of(name).exists():
                raise InputError(f"There is no {name}: give --models runs, folders, files or hub ids.{near_path(name)}")
        # Of an evaluation's models the first decides what suits the machine.
        for name in [name for name in self.given.get("models") or [] if not is_samples(name)][:1]:
            self.given["model_name_or_path"] = name
        if like_run:
            self.given = loading_of(self.given.get("model_name_or_path", ""), like_run) | self.given
        self.asked_task = self.given.get("task", TaskArguments.task)
        load_task(self.asked_task)  # an unknown name is an error even where the machine decides for another task
        if self.given.get("use_cpu"):
            machine = hardware.cpu()
        if processes.count() > 1:  # all choose by the memory that the first one has free
            processes.meet(on_cpu=machine.device == "cpu")
            machine = processes.of_first(machine)
        self.machine = machine
        name = hardware.task_for(machine, self.asked_task, self.given)
        learned = LearnedReward(self.given["reward_model"]) if self.given.get("reward_model") else None
        measured = self.given.get("measure_only") or []
        task = load_task(name).with_rewards(self.given.get("extra_rewards") or [], learned, measured)
        defaults = {
            "reward_weights": list(task.reward_weights),
            "output_dir": f"runs/{self.trainer}-{name}",
            **hardware.defaults(machine, task, self.given, self.trainer),
        }
        defaults["model_name_or_path"] = self.given.get("model_name_or_path", defaults["model_name_or_path"])
        defaults |= loading_of(defaults["model_name_or_path"])
        self.set_defaults(**{key: value for key, value in defaults.items() if f"--{key}" in self.known})
        self.set_defaults(**self._chosen_when_the_run_began())
        if like_run:
            self.set_defaults(**self.given)
        self.settings = vars(self.parse_known_args(argv)[0]) | {"task": name}
        check_settings(self.settings)
        weights, names = self.settings.get("reward_weights"), [reward.__name__ for reward in task.reward_funcs]
        if weights is not None and len(weights) != len(names):
            raise InputError(f"--reward_weights has {len(weights)} values; give {len(names)}, for {', '.join(names)}.")
        if weights is not None and not all(map(math.isfinite, weights)):
            raise InputError(f"--reward_weights {' '.join(map(str, weights))}: give finite numbers.")
        for reward, weight in zip(names, weights or (), strict=False):
            if weight and reward in measured:
                raise InputError(f"--measure_only {reward} weighs {weight}: set that to 0 in --reward_weights.")
        self._check_what_is_chosen_by(task, weights)
        if weights is not None and not any(weights):
            raise InputError("All rewards are only measured: give one of them a weight, by --reward_weights.")
        try:
            args, config, model_args = self.parse_args_into_dataclasses(argv, look_for_args_file=False)
        except (ValueError, TypeError, ImportError) as error:  # TRL's own checks of its configs
            raise InputError(f"These settings do not go together: {one_line(error)}") from error
        args.task = name
        return task, args, config, model_args

    def _check_what_is_chosen_by(self, task: Task, weights: list[float] | None) -> None:
        """What pairs and kept samples are chosen by is trained on, whatever it weighs."""
        by = {"dpo": [task.correctness], "rm": [task.correctness], "sft": [task.correctness, task.format]}
        if self.settings.get("preferences") or (self.trainer == "sft" and not self.settings.get("samples")):
            return
        weight_of = dict(zip(task.reward_names, weights or task.reward_weights, strict=True))
        for reward in by.get(self.trainer, []):
            if not weight_of[reward.__name__]:
                what = "Samples are kept" if self.trainer == "sft" else "Pairs are right against wrong"
                raise InputError(f"{what} by {reward.__name__}, so it is trained on: it cannot be measured only.")

    def error(self, message: str):
        raise InputError(f"{one_line(message)}. See --help.")

    def print_recipe_help(self, everything: bool) -> None:
        own = HfArgumentParser([self.arguments], usage=argparse.SUPPRESS, add_help=False)
        # The recipe's own defaults repeat names of TRL; what our other classes bring is new.
        classes = [c for c in self.config_class.__mro__[1:] if c.__module__.startswith("recipes.")]
        for action in self._actions:
            if any(action.dest in vars(c).get("__annotations__", {}) for c in classes):
                own._add_action(action)
        print(self.doc.strip(), own.format_help(), sep="\n\n")
        if everything:
            self.usage = argparse.SUPPRESS
            print(self.format_help())
        else:
            bases = [c.__name__ for c in self.config_class.__mro__ if c.__module__.startswith("trl.")][:1]
            print(f"Every flag of TRL's {' and '.join([*bases, 'ModelConfig'])} works too: --help-all lists them.")

    def _with_config_file(self, argv: list[str]) -> list[str]:
        """`argv` with the settings of `--config FILE` written out as flags, in front, so that the others win."""
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config", action="append", nargs="?")
        found, argv = finder.parse_known_args(argv)
        if not found.config:
            return argv
        if len(found.config) > 1 or not found.config[0]:
            raise InputError("--config needs the path of one YAML file.")
        flags = []
        for key, value in read_yaml(Path(found.config[0])).items():
            flag = f"--{key}"
            if flag not in self.known:
                raise InputError(f"Unknown key {key!r} in the config file.{self._nearest(flag).replace('--', '')}")
            if value is False and "no" in (self._choices(flag) or ()):
                value = "no"  # YAML reads a bare `no` as False
            if isinstance(value, list):
                flags += [flag, *map(str, value)] if value else []
            elif value is not None:
                flags.append(f"{flag}={json.dumps(value) if isinstance(value, dict) else value}")
        return flags + argv

    def _given(self, argv: list[str]) -> dict:
        """The values in `argv` alone, without any default; an unknown flag is an error."""
        defaults = {action: action.default for action in self._actions}
        for action in defaults:
            action.default = argparse.SUPPRESS
        namespace, unknown = self.parse_known_args(argv)
        for action, default in defaults.items():
            action.default = default
        if unknown and not unknown[0].startswith("-"):
            raise InputError(f"Unexpected word {unknown[0]!r}: settings are given as --name value. See --help.")
        if unknown:
            flag = unknown[0].split("=")[0]
            raise InputError(f"Unknown flag {flag}.{self._nearest(flag)} See --help.")
        return vars(namespace)

    def _choices(self, flag: str) -> list | None:
        return next(action.choices for action in self._actions if flag in action.option_strings)

    def _nearest(self, flag: str) -> str:
        return did_you_mean(flag, self.known, cutoff=0.5)

    def _chosen_when_the_run_began(self) -> dict:
        """A run goes on as the machine was when it began, whatever memory is free today."""
        folder = Path(self.given.get("output_dir", self.get_default("output_dir")))
        if not is_run(folder) or not (folder / "config.yaml").exists():
            return {}
        old, given = read_yaml(folder / "config.yaml"), read_yaml(folder / "given.yaml")
        anew = self.given.get("overwrite") and (folder / "result.json").exists()
        if anew or changed(given, stored(self.given)):
            return {}
        return {key: old[key] for key in hardware.CHOSEN_BY_MACHINE if key in old and key not in given}
