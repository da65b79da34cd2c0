"""Start a recipe in several processes, through `accelerate launch`; where there is no GPU they talk by gloo.

    make grpo-gsm8k LAUNCH="--num_processes 2"
    make grpo-gsm8k LAUNCH="--config_file zero3 --num_processes 4"      # a file, or one that TRL ships by its name
    python -m recipes.launch --num_processes 2 -m recipes.grpo --task gsm8k
    python -m recipes.launch --num_machines 2 --machine_rank 0 --main_process_ip node1 --main_process_port 29500 \
        --num_processes 16 -m recipes.grpo --task gsm8k               # on the first of two machines

What stands before -m is the launcher's: every flag of `accelerate launch`. What the launcher itself would add to the
message of a recipe that stops is left out.
"""

import contextlib
import importlib.resources
import importlib.util
import logging
import os
import pkgutil
import signal
import sys
import warnings
from pathlib import Path

import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from yaml import YAMLError

import recipes
from recipes.errors import InputError, did_you_mean, exit_kindly, one_line, refuse

OTHER_KINDS = {"--config_file", "--multi_gpu", "--use_fsdp", "--use_deepspeed"}  # accelerate wants one of them
TO_SAVE = "600"  # seconds that the processes have for the step that a signal finds them in, and for its checkpoint


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    own = argv[: argv.index("-m")] if "-m" in argv else argv
    given = [part for word in own for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if "-m" not in argv or argv[-1] == "-m":
        raise InputError(
            "Name a recipe behind -m: python -m recipes.launch --num_processes 2 -m recipes.grpo --task gsm8k."
        )
    if own and not own[0].startswith("-"):
        raise InputError(f"{own[0]!r} is no flag of the launcher: write --num_processes 2, for one.")
    parser = launch_command_parser()
    parser.error = refuse
    words = with_shipped_config(given)
    if not torch.cuda.is_available():  # accelerate would want MPI
        os.environ["ACCELERATE_USE_CPU"] = "true"
        words = [word for word in words if word != "--cpu"]
    if not {"--num_machines", "--main_process_port", "--config_file"} & set(words):
        words += ["--main_process_port", "0"]  # a free one: two runs may begin at once
    warnings.filterwarnings("ignore", message="Port")  # where it finds another by itself
    args = parser.parse_args([*words, *argv[len(own) :]])
    check_module(argv[len(own) + 1])
    if not OTHER_KINDS & set(words):
        check_machines(args)
        if args.num_processes == 1:  # needs no launcher, whose part in signals and exit codes falls away
            os.execv(sys.executable, [sys.executable, *argv[len(own) :]])
        # By itself accelerate starts the processes of a machine without a GPU, or with one, as runs of their own.
        args.multi_gpu = (args.num_machines or 1) > 1 or not torch.cuda.is_available() or args.multi_gpu
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", TO_SAVE)  # torch's 30 are less than a step on a GPU
    logging.getLogger("accelerate.commands.launch").setLevel(logging.ERROR)  # it tells its defaults
    for name in ("torch.distributed.elastic", "torch.distributed.elastic.agent.server.api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the recipe has said why it stopped
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        launch_command(args)
    except ChildFailedError as error:
        sys.exit(max((failure.exitcode for failure in error.failures.values()), default=1))
    except (ImportError, ValueError, OSError, YAMLError) as error:  # DeepSpeed; flags that differ; a port; a file
        raise InputError(f"{one_line(error)}") from error
    except SignalException as stop:
        sys.exit(0 if stop.sigval == signal.SIGTERM else 128 + stop.sigval)  # SIGTERM: they have saved


def check_module(name: str) -> None:
    """Raises `InputError` where there is no module `name`, with the recipe that is called nearly so."""
    with contextlib.suppress(ModuleNotFoundError):  # of a package that is none
        if importlib.util.find_spec(name):
            return
    names = [f"recipes.{module.name}" for module in pkgutil.iter_modules(recipes.__path__)]
    raise InputError(f"There is no module {name}.{did_you_mean(name, names)}")


def check_machines(args) -> None:
    """Raises `InputError` where the flags of several machines do not make one run."""
    machines = args.num_machines or 1
    if machines == 1:
        return
    missing = [name for name in ("machine_rank", "main_process_ip", "num_processes") if getattr(args, name) is None]
    if missing:
        raise InputError(
            f"--num_machines {machines} needs {' and '.join(f'--{name}' for name in missing)}: start the same command "
            "on every machine, with --machine_rank 0 on the one that --main_process_ip names, 1 on the next and so on."
        )
    if not 0 <= args.machine_rank < machines:
        raise InputError(f"--machine_rank {args.machine_rank} of {machines} machines: give 0 to {machines - 1}.")
    if args.num_processes < 1 or args.num_processes % machines:
        raise InputError(
            f"--num_processes {args.num_processes} is that of all machines together: give a multiple of {machines}."
        )


def with_shipped_config(words: list[str]) -> list[str]:
    """The words, with the path of `--config_file zero3` where that names a configuration that TRL ships."""
    if "--config_file" not in words[:-1]:
        return words
    place = words.index("--config_file") + 1
    shipped = {
        path.name.removesuffix(".yaml"): path
        for path in importlib.resources.files("trl.accelerate_configs").iterdir()
        if path.name.endswith(".yaml")
    }
    name = words[place]
    if not Path(name).is_file() and name not in shipped:
        raise InputError(
            f"--config_file {name} is no file.{did_you_mean(name, shipped)} TRL ships {', '.join(sorted(shipped))}."
        )
    path = name if Path(name).is_file() else str(shipped[name])
    return [*words[:place], path, *words[place + 1 :]]


if __name__ == "__main__":
    main()
