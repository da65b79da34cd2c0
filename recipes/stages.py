"""Several recipes one after the other, each in a process and a run folder of its own that the next one reads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from recipes.job import Job
from recipes.report import print_result
from recipes.run import write_atomically


def run_stage(module: str, settings: dict) -> dict:
    """Run `python -m recipes.<module>` with `settings`, and return its result.json.

    A stage that has ended is not done again. One that fails has said why: this process ends with its exit code.
    """
    folder = Path(settings["output_dir"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_name(folder.name + ".yaml")
    write_atomically(config, yaml.safe_dump(settings, sort_keys=False))
    stage = subprocess.Popen([sys.executable, "-m", f"recipes.{module}", "--config", str(config)])
    while True:
        try:
            code = stage.wait()
            break
        except KeyboardInterrupt:  # the stage has had it too, and saves before it stops
            continue
    if code:
        sys.exit(code)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def print_stages(folder: Path, results: dict[str, dict], passes: dict[str, int] | None) -> None:
    """The held-out figures after each stage, as a table and in result.json; the last stage's model as the folder's."""
    trained = {name: result for name, result in results.items() if result.get("after")}
    if not trained:
        return
    figures = {"base": next(iter(trained.values()))["before"]} | {name: r["after"] for name, r in trained.items()}
    minutes = {name: result["minutes"] for name, result in trained.items()}
    summary = {"stages": figures, "minutes": minutes} | ({"passes": passes} if passes else {})
    write_atomically(folder / "result.json", json.dumps(summary, indent=2) + "\n")
    shutil.copytree(folder / [*trained][-1] / "adapter", folder / "adapter", dirs_exist_ok=True)
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{folder}, {figures['base']['n']} held-out problems", title_justify="left"
    )
    for column in ("after", "accuracy", "95 % interval", "strict accuracy", "format", "language", "length"):
        table.add_column(column, justify="left" if column == "after" else "right")
    for name, found in figures.items():
        language = found.get("language_consistency_reward")
        shares = [found["strict_accuracy"], found["format"], language]
        told = ["-" if share is None else f"{share:.3f}" for share in shares]
        interval = "{:.3f}-{:.3f}".format(*found["ci95"])
        table.add_row(name, f"{found['accuracy']:.3f}", interval, *told, f"{found['mean_length']:.1f}")
    Console().print(table)
    if passes:
        print("Cost in passes over a completion: " + ", ".join(f"{arm} {count}" for arm, count in passes.items()) + ".")
    print(f"{sum(minutes.values()):.1f} minutes of training; the last model is {folder}/adapter.")


def train_in_rounds(job: Job) -> None:
    """Iterative DPO: `--rounds` runs of the same settings, each on samples of the model of the round before."""
    own = {"rounds", "output_dir", "overwrite"}
    given = {key: value for key, value in job.parser.given.items() if key not in own}
    given["task"] = job.args.task
    results, folder = [], job.run.folder
    for number in range(1, job.args.rounds + 1):
        print(f"\nRound {number} of {job.args.rounds}", flush=True)
        round_folder = folder / f"round_{number}"
        results.append(run_stage("dpo", given | {"output_dir": str(round_folder)}))
        given |= {"model_name_or_path": str(round_folder)}
        given.pop("samples", None)  # of another model than this one
    shutil.copytree(round_folder / "adapter", folder / "adapter", dirs_exist_ok=True)
    last = results[-1]
    job.run.finish(**{**last, "before": results[0]["before"], "rounds": [result["after"] for result in results]})
    for name, source in (("before", "round_1"), ("after", round_folder.name)):
        shutil.copy(folder / source / "samples" / f"{name}.jsonl", folder / "samples")
    print_result(job.run)
