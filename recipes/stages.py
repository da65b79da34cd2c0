"""Several recipes one after the other, each in a process and a run folder of its own that the next one reads."""

import contextlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from recipes.errors import InputError
from recipes.job import Job
from recipes.report import print_result, report_line
from recipes.run import (
    delete_rounds,
    delete_run,
    holds_files,
    is_run,
    is_worth_keeping,
    lock,
    read_yaml,
    stored,
    write_atomically,
)

IN_PROCESSES = ("grpo", "ppo", "dpo", "sft", "reward_model")  # recipes that several processes can share
FIRST_LINE = "# A pipeline of trl-recipes.\n"


def pipeline_to_go_on(folder: Path, name: str, task: str) -> dict:
    """`read_pipeline`, of the pipeline `name` on `task`; raises `InputError` where the folder holds another one."""
    old = read_pipeline(folder)
    if old and (old.get("pipeline"), old.get("task")) != (name, task):
        held = f"the pipeline {old.get('pipeline')} of {old.get('task')}"
        raise InputError(f"{folder} holds {held}: choose another --output_dir.")
    return old


def read_pipeline(folder: Path) -> dict:
    """What pipeline.yaml says of the pipeline in `folder`; empty where the folder is.

    Raises `InputError` where the folder holds something else: a pipeline writes its adapter and its result there.
    """
    marker = folder / "pipeline.yaml"
    if marker.is_file() and marker.read_text(encoding="utf-8", errors="replace").startswith(FIRST_LINE):
        return read_yaml(marker)
    if holds_files(folder):
        raise InputError(f"{folder} holds files that are no pipeline of ours: choose another --output_dir.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file: choose a folder.")
    return {}


def made_and_locked(folder: Path):
    """The lock file of a pipeline's folder, which is made; raises `InputError` where that cannot be, or it is held."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock(folder)
    except OSError as error:
        raise InputError(f"--output_dir {folder} cannot be written: {error.strerror}.") from error


def write_pipeline(folder: Path, pipeline: dict) -> None:
    write_atomically(folder / "pipeline.yaml", FIRST_LINE + yaml.safe_dump(pipeline, sort_keys=False))


def other_settings(folder: Path, stages: dict[str, dict]) -> str:
    """What of the runs in `folder` was given other settings than `stages` are, by name; "" where nothing was."""
    for name, settings in stages.items():
        own = folder / name
        if is_worth_keeping(own) and not was_given(own, settings):
            old, new = read_yaml(own / "given.yaml") if is_run(own) else {}, stored(settings)
            differ = [key for key in old.keys() | new.keys() if _read(old.get(key)) != _read(new.get(key))]
            return f"{own}: " + ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in sorted(differ)[:4])
    return ""


def delete_stages(folders: list[Path]) -> None:
    """Delete the runs in `folders`, the last one first; none where another process is at work in one of them."""
    with contextlib.ExitStack() as locks:
        for folder in filter(is_run, folders):
            locks.enter_context(lock(folder))
        for folder in reversed(folders):
            delete_run(folder)


def run_stage(module: str, settings: dict) -> dict:
    """Run `python -m recipes.<module>` with `settings`, and return its result.json.

    A stage that has ended is not done again. One that fails has said why: this process ends with its exit code.
    """
    folder = Path(settings["output_dir"])
    if has_ended(folder, settings):
        print(f"{folder} is finished.", flush=True)
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_name(folder.name + ".yaml")
    write_atomically(config, yaml.safe_dump(settings, sort_keys=False))
    launch = shlex.split(os.environ.get("LAUNCH", "")) if module in IN_PROCESSES else []  # of make
    launcher = ["recipes.launch", *launch, "-m"] if launch else []
    if code := run_to_its_end([sys.executable, "-m", *launcher, f"recipes.{module}", "--config", str(config)]):
        sys.exit(code)
    if not (folder / "result.json").exists():  # SIGTERM: it has saved, and said so
        sys.exit(0)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def run_to_its_end(command: list[str]) -> int:
    """The exit code of `command`, as a shell counts it; 130 where it ended well after a Ctrl-C.

    After SIGTERM this process ends as well, with 0 where the command has saved what it had done.
    """
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # the same code as here
    stage, stopped = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}), []

    def stop(number, frame):  # the stage saves before it stops; Ctrl-C reaches it by itself
        stopped.append(number)
        if number == signal.SIGTERM:
            stage.terminate()

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = stage.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if signal.SIGTERM in stopped and code in (0, -signal.SIGTERM):
        sys.exit(0)
    if code < 0 and not stopped:
        print(f"error: a stage was ended by signal {-code}: the same command goes on with it.", file=sys.stderr)
    if code < 0:
        return 128 - code
    return code or (130 if stopped else 0)


def has_ended(folder: Path, settings: dict) -> bool:
    """Whether the run in `folder` was given these settings and has ended; where in doubt, not."""
    return (folder / "result.json").exists() and was_given(folder, settings)


def was_given(folder: Path, settings: dict) -> bool:
    """Whether there is a run in `folder` that was given these settings; where in doubt, not."""
    if not is_run(folder):
        return False
    old, new = read_yaml(folder / "given.yaml"), stored(settings)
    return old.keys() == new.keys() and all(_read(old[key]) == _read(new[key]) for key in old)


def _read(value):
    """A setting as the command line reads it: 1, 1.0, "1" and [1] are the same, and so are True and "true"."""
    if isinstance(value, list):
        return _read(value[0]) if len(value) == 1 else [_read(one) for one in value]
    if str(value).lower() in ("true", "false"):
        return str(value).lower()
    with contextlib.suppress(TypeError, ValueError):
        return float(value) if math.isfinite(float(value)) else str(value)
    with contextlib.suppress(ValueError):
        return json.loads(value) if isinstance(value, str) and value.startswith("{") else value
    return value


def print_stages(folder: Path, results: dict[str, dict], product: str, passes: dict[str, int] | None) -> None:
    """The held-out figures after each stage, as a table and in result.json; the model of `product` as the folder's."""
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    shutil.copytree(folder / product / "adapter", folder / "adapter")
    trained = {name: result for name, result in results.items() if result.get("after")}
    if not trained:
        return
    figures = {"base": next(iter(trained.values()))["before"]} | {name: r["after"] for name, r in trained.items()}
    minutes = {name: result["minutes"] for name, result in trained.items()}
    summary = {"stages": figures, "minutes": minutes} | ({"passes": passes} if passes else {})
    write_atomically(folder / "result.json", json.dumps(summary, indent=2) + "\n")
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{folder}, {figures['base']['n']} held-out problems", title_justify="left"
    )
    for column in ("after", "accuracy", "95 % interval", "strict", "format", "language", "length"):
        table.add_column(column, justify="left" if column == "after" else "right", no_wrap=True)
    for name, found in figures.items():
        language = found.get("language_consistency_reward")
        shares = [found["strict_accuracy"], found["format"], language]
        told = ["-" if share is None else f"{share:.3f}" for share in shares]
        interval = "{:.3f}-{:.3f}".format(*found["ci95"])
        table.add_row(name, f"{found['accuracy']:.3f}", interval, *told, f"{found['mean_length']:.1f}")
    Console().print(table)
    if passes:
        print("Cost in passes over a completion: " + ", ".join(f"{arm} {count}" for arm, count in passes.items()) + ".")
    print(f"{sum(minutes.values()):.1f} minutes of training; the model of {product} is in {folder}/adapter.")
    print(report_line(folder))


def train_in_rounds(job: Job) -> None:
    """Iterative DPO: `--rounds` runs of the same settings, each on samples of the model of the round before."""
    own = {"rounds", "output_dir", "overwrite"}
    of_the_first = {"samples", "preferences", "min_pass_rate", "max_pass_rate", "curriculum"}  # later models write anew
    given = {key: value for key, value in job.parser.given.items() if key not in own}
    given |= {"task": job.args.task, "model_name_or_path": job.model_args.model_name_or_path}
    results, folder = [], job.run.folder
    if job.args.overwrite and job.run.changed:  # of an unfinished run
        delete_rounds(folder)
    for number in range(1, job.args.rounds + 1):
        print(f"\nRound {number} of {job.args.rounds}", flush=True)
        round_folder = folder / f"round_{number}"
        results.append(run_stage("dpo", given | {"output_dir": str(round_folder)}))
        given = {key: value for key, value in given.items() if key not in of_the_first}
        given["model_name_or_path"] = str(round_folder)
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    shutil.copytree(round_folder / "adapter", folder / "adapter")
    if results[0]["before"]:
        for name, source in (("before", "round_1"), ("after", round_folder.name)):
            shutil.copy(folder / source / "samples" / f"{name}.jsonl", folder / "samples")
    first, last = results[0], results[-1]
    sums = {key: round(sum(result[key] for result in results), 2) for key in ("steps", "minutes")}
    job.run.finish(**{**last, **sums, "model": first["model"], "before": first["before"], "rounds": results})
    print_result(job.run)
    print(f"{job.run.result['minutes']} minutes of training in {job.args.rounds} rounds; everything is in {folder}/")
    print(report_line(folder))


def stages_left_out(args, stages: list) -> list[str]:
    """The stages before FROM that have not ended; without FROM, those of an earlier one.

    Raises `InputError` where a stage that is to run needs one of them.
    """
    names, folder = [stage.name for stage in stages], Path(args.output_dir)
    unended = [name for name in names if not (folder / name / "result.json").exists()]
    first = names.index(args.from_stage or names[0])
    before = names[:first] if args.from_stage else read_pipeline(folder).get("left_out", [])
    left_out = [name for name in unended if name in before]
    for stage in stages:
        to_run = stage.name in unended or (args.from_stage and names.index(stage.name) >= first)
        for name in (stage.samples, *stage.needs) if to_run and stage.name not in left_out else ():
            if name in left_out:
                raise InputError(f"The stage {stage.name} needs what {name} makes: begin with FROM={name}.")
    return left_out


def has_begun(folder: Path, stages: list) -> bool:
    return any(is_worth_keeping(folder / stage.name) for stage in stages)
