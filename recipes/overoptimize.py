"""Over-optimization made visible (Gao et al., 2023, 2210.10760): the proxy rises while the truth falls.

    make overoptimize-word_problems
    make overoptimize-word_problems ARGS="--kl_coefs 0.001 0.03 0.3 --max_steps 100 --sample_prompts 30"
    make overoptimize-word_problems ARGS="--grpo.learning_rate 5e-4 --rm.num_train_epochs 3"     # flags of a recipe

A reward model is trained on few pairs: the proxy. GRPO and PPO are trained on its score, once for each KL coefficient,
while the rule-based reward is only measured: the gold. Best-of-n by the proxy stands beside them. Each is a run of a
recipe in a folder of its own, runs/overoptimize-<task>/<name>; the same command goes on where it stopped. The picture,
overoptimization.png, has proxy and gold over the square root of the KL to the model that everything began with.
"""

import argparse
import contextlib
import itertools
import json
import math
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from recipes import hardware
from recipes.best_of_n import best_of_n, kl_of_best_of_n
from recipes.errors import InputError, exit_kindly, refuse
from recipes.intervals import mean_interval, paired_bootstrap
from recipes.models import find_model
from recipes.record import read_metrics
from recipes.report import report_line, save_picture
from recipes.reporting.files import number
from recipes.reporting.overoptimization_page import FLAG, WINDOW, is_judged, lost, roots, told
from recipes.reporting.series import Series, kl_of_a_completion
from recipes.run import is_report, is_run, write_atomically
from recipes.stage_flags import check_stage, stage_flags
from recipes.stages import (
    delete_stages,
    has_ended,
    made_and_locked,
    other_settings,
    pipeline_to_go_on,
    run_stage,
    write_pipeline,
)
from recipes.tasks import load_task

PROXY = "reward_model"
OWN = ("measure_only", "reward_weights", "extra_rewards")  # settings of every run
SHARED = ("dataset_name", "dataset_config", "model_name_or_path", "seed")
RESULTS = ("result.json", "overoptimization.png", "report.html")
RECIPES = {"rm": "rm", "samples": "sample", "grpo": "grpo", "ppo": "ppo"}  # whose flags can be given
BEST_OF = (1, 2, 4, 8, 16, 32, 64)
WIDTH = 100  # of the table
COLOURS = ("#d1495b", "#edae49", "#2a6f97", "#66a182", "#8d6a9f")


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    args, flags = parse(sys.argv[1:] if argv is None else argv)
    folder, stages = Path(args.output_dir), stages_of(args, flags)
    for name, (recipe, settings) in stages.items():
        not_yet = (PROXY, "measure_only")  # the proxy is not there yet, and without it nothing would be trained on
        kind = "rm" if recipe == "reward_model" else recipe
        check_stage(name, kind, {key: value for key, value in settings.items() if key not in not_yet}, args.machine)
    with made_and_locked(folder):
        earlier = runs_besides(folder, args, flags)
        make_room(folder, {name: settings for name, (_, settings) in (stages | earlier).items()}, args.overwrite)
        earlier = {name: earlier[name] for name in earlier if has_ended(folder / name, earlier[name][1])}
        pipeline = {"pipeline": "overoptimize", "task": args.task, "model_name_or_path": args.model_name_or_path}
        write_pipeline(folder, pipeline)
        for number, (name, (recipe, settings)) in enumerate(stages.items(), start=1):
            print(f"\n{number} of {len(stages)}: {name}", flush=True)
            run_stage(recipe, settings)
        gold = load_task(args.task).correctness.__name__
        runs = {name: steps_of(folder / name, gold) for name in by_name([*stages, *earlier])}
        if earlier:  # the picture is of all of them
            args.given["kl_coefs"] = sorted({float(name.partition("-")[2]) for name in runs})
        result = {
            "task": args.task,
            "model": args.model_name_or_path,
            "seed": args.seed,
            "given": args.given,
            "gold": gold,
            "best_of_n": best_of_n_curve(folder / "samples" / "samples.jsonl", gold),
            "runs": {name: curve(rows, gold) for name, rows in runs.items()},
            "noise": {name: noise_of(rows, gold) for name, rows in runs.items()},
        }
        write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
        plot(result, folder / "overoptimization.png")
        print_table(result)
        print(f"The picture is {folder}/overoptimization.png.")
        print(report_line(folder))


def runs_besides(folder: Path, args: argparse.Namespace, flags: dict) -> dict[str, tuple[str, dict]]:
    """The trainings in `folder` that an earlier command made and this one does not ask for, as it would make them."""
    asked, found = stages_of(args, flags), {}
    for path in folder.iterdir():
        trainer, dash, coef = path.name.partition("-")
        if trainer in FLAG and dash and is_run(path):
            with contextlib.suppress(ValueError):
                alone = argparse.Namespace(**{**vars(args), "trainers": [trainer], "kl_coefs": [float(coef)]})
                found |= {name: stage for name, stage in stages_of(alone, flags).items() if name == path.name}
    return {name: stage for name, stage in found.items() if name not in asked}


def by_name(names: list[str]) -> list[str]:
    """The trainings among them: by trainer, and by the weight of the KL."""
    trainings = [name for name in names if name.partition("-")[0] in FLAG]
    order = [*FLAG]
    return sorted(trainings, key=lambda name: (order.index(name.partition("-")[0]), float(name.partition("-")[2])))


def make_room(folder: Path, stages: dict[str, dict], overwrite: bool) -> None:
    """Delete what `overwrite` replaces: what has ended, or is of other settings; raises `InputError` without it.

    What is unfinished and of these settings goes on even so.
    """
    others = other_settings(folder, stages)
    if others and not overwrite:
        raise InputError(
            f"{folder} holds runs of other settings ({others}): choose another --output_dir, or do everything in it "
            "anew with --overwrite."
        )
    if overwrite and (others or (folder / "result.json").exists()):
        delete_stages([folder / name for name in stages])
        for name in (*RESULTS, *(f"{name}.yaml" for name in stages)):
            if name != "report.html" or is_report(folder / name):
                (folder / name).unlink(missing_ok=True)


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, dict]]:
    """The command line, `given` what of it is no default, and the flags of each recipe; raises `InputError`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = refuse
    parser.add_argument("--task", default="gsm8k", help="As in the recipes (default: %(default)s).")
    for name in ("dataset_name", "dataset_config", "model_name_or_path", "output_dir"):
        parser.add_argument(f"--{name}", help="As in the recipes.")
    parser.add_argument(
        "--kl_coefs",
        type=float,
        nargs="+",
        default=[0.001, 0.03, 0.3],
        help="Weights of the KL (default: 0.001 0.03 0.3).",
    )
    parser.add_argument("--trainers", nargs="+", choices=[*FLAG], default=[*FLAG], help="Which (default: both).")
    parser.add_argument(
        "--max_steps", type=int, help="Of each training (default: 45 for the starter, 200 for other models)."
    )
    parser.add_argument(
        "--sample_prompts",
        type=int,
        default=60,
        help="Prompts whose pairs the proxy is trained on (default: %(default)s).",
    )
    parser.add_argument(
        "--num_train_epochs", type=float, default=6, help="Of the proxy, over its pairs (default: %(default)s)."
    )
    parser.add_argument(
        "--num_generations", type=int, default=64, help="Samples that the best is taken of (default: %(default)s)."
    )
    parser.add_argument(
        "--num_prompts", type=int, default=64, help="Held-out problems sampled for that (default: %(default)s)."
    )
    parser.add_argument(
        "--eval_samples", type=int, default=100, help="Held-out problems, around each (default: %(default)s)."
    )
    parser.add_argument("--seed", type=int, default=42, help="Of every run (default: %(default)s).")
    parser.add_argument("--report_to", default="none", help="As in the recipes.")
    parser.add_argument(
        "--overwrite", action="store_true", help="Delete the runs in --output_dir that have ended or are others."
    )
    args, rest = parser.parse_known_args(argv)
    flags = stage_flags(rest, RECIPES, [option for action in parser._actions for option in action.option_strings])
    for recipe, given in flags.items():
        for name in {PROXY, *OWN, *SHARED, FLAG.get(recipe)} & given.keys():
            by = "this pipeline, whose proxy is all that is trained on"
            by = "--kl_coefs" if name == FLAG.get(recipe) else f"--{name}, for all" if name in SHARED else by
            raise InputError(f"--{recipe}.{name}: it is set by {by}.")
    if not all(0 < coef < math.inf for coef in args.kl_coefs):
        raise InputError(
            "--kl_coefs must be above 0: without a weight the KL is not measured. Give a small one, 0.001."
        )
    named = {name: value for name, value in vars(args).items() if value is not None}
    found_by = sorted(named.keys() - {"output_dir", "overwrite"})
    args.given = {name: named[name] for name in found_by if named[name] != parser.get_default(name)}
    args.given |= {f"{recipe}.{name}": value for recipe, of in flags.items() for name, value in of.items()}
    args.machine = hardware.detect()
    load_task(args.task)
    args.task = hardware.task_for(args.machine, args.task, named)
    args.output_dir = args.output_dir or f"runs/overoptimize-{args.task}"
    begun = pipeline_to_go_on(Path(args.output_dir), "overoptimize", args.task)
    if args.model_name_or_path is None and not args.overwrite:  # whatever memory is free today
        args.model_name_or_path = begun.get("model_name_or_path")
    if args.model_name_or_path is None:
        args.model_name_or_path = hardware.defaults(args.machine, load_task(args.task), named)["model_name_or_path"]
    return args, flags


def stages_of(args: argparse.Namespace, flags: dict[str, dict]) -> dict[str, tuple[str, dict]]:
    """Each run's name, its recipe and its settings, in order."""
    shared = {name: getattr(args, name) for name in ("task", *SHARED) if getattr(args, name) is not None}
    task, proxy = load_task(args.task), f"{args.output_dir}/rm"
    # The rules are measured, and only the proxy is trained on.
    judged = {**shared, PROXY: proxy, "measure_only": task.reward_names}
    training = {
        "eval_samples": args.eval_samples,
        "calibration_samples": 0,
        "max_steps": 200 if args.max_steps is None else args.max_steps,
        "report_to": args.report_to,
    }
    of_proxy = {"sample_prompts": args.sample_prompts, "num_train_epochs": args.num_train_epochs}
    of_samples = {"split": "test", "num_prompts": args.num_prompts, "num_generations": args.num_generations}
    stages = {
        "rm": ("reward_model", {**shared, **of_proxy, "report_to": args.report_to}),
        "samples": ("sample", {**judged, **of_samples}),
    }
    if find_model(args.model_name_or_path).is_starter:
        training["learning_rate"] = hardware.STARTER_TRAINING["learning_rate"]  # both go as fast, and as far
        training["max_steps"] = 45 if args.max_steps is None else args.max_steps
    for trainer in args.trainers:
        for coef in sorted(set(args.kl_coefs)):
            stages[f"{trainer}-{coef:g}"] = (trainer, {**judged, **training, FLAG[trainer]: coef})
    for name, (_, settings) in stages.items():
        settings |= flags.get(name.partition("-")[0], {}) | {"output_dir": f"{args.output_dir}/{name}"}
    return stages


def steps_of(folder: Path, gold: str) -> list[dict]:
    """The logged steps of a run whose figures are numbers."""
    rows = [row for row in read_metrics(folder) if None not in figures_of(row, gold)]
    if not rows:
        raise InputError(
            f"{folder} has logged no step with finite figures: lower --{folder.name.partition('-')[0]}.learning_rate, "
            "or raise --max_steps."
        )
    return rows


def noise_of(rows: list[dict], gold: str) -> float:
    """The standard deviation of a step's gold, by the differences of neighbours."""
    values = np.array([figures_of(row, gold)[2] for row in rows])
    return Series(np.arange(len(values)), values).noise if len(values) > 1 else 0.0


def curve(rows: list[dict], gold: str) -> list[dict]:
    """`kl` (nats a completion), `proxy` and `gold` at each step: means over the last ten."""
    points = []
    for end in range(min(WINDOW, len(rows)), len(rows) + 1):
        some = rows[max(0, end - WINDOW) : end]
        kl, proxy, right = map(fmean, zip(*(figures_of(row, gold) for row in some), strict=True))
        points.append({"step": some[-1]["step"], "kl": kl, "proxy": proxy, "gold": right})
    return points


def figures_of(row: dict, gold: str) -> tuple[float | None, float | None, float | None]:
    """KL of a completion, proxy and gold of a step; PPO logs the KL so, GRPO's is the mean over the tokens."""
    kl = row["objective/kl"] if "objective/kl" in row else kl_of_a_completion(row)
    return kl, row.get(f"rewards/{PROXY}/mean"), row.get(f"rewards/{gold}/mean")


def best_of_n_curve(file: Path, gold: str) -> list[dict]:
    """`n`, `kl` (at most), and the `proxy` and `gold` of the best of n by the proxy, means over the prompts of samples.

    `gold_ci95` is the interval over the prompts; the last point has `against_peak`, the paired test against the best n.
    """
    prompts = [json.loads(line)["rewards"] for line in file.read_text(encoding="utf-8").split("\n") if line]
    prompts = [rewards for rewards in prompts if None not in rewards[gold]]
    if not prompts:
        raise InputError(f"{gold} could judge none of {file}: are the gold answers usable?")
    if any(number(score) is None for rewards in prompts for score in rewards[PROXY]):
        raise InputError(f"The reward model's scores in {file} are no numbers: lower --rm.learning_rate.")
    points, gold_of = [], {}
    for n in [n for n in BEST_OF if n <= len(prompts[0][gold])]:
        best = [best_of_n(rewards[PROXY], rewards[gold], n) for rewards in prompts]
        proxies, golds = gold_of[n] = tuple(zip(*best, strict=True))
        of_gold = {"gold": fmean(golds), "gold_ci95": list(mean_interval(golds))}
        points.append({"n": n, "kl": kl_of_best_of_n(n), "proxy": fmean(proxies), **of_gold})
    peak = max(points, key=lambda point: point["gold"])
    points[-1]["against_peak"] = paired_bootstrap(gold_of[peak["n"]][1], golds) | {"peak": peak["n"]}
    return points


def plot(result: dict, path: Path) -> None:
    """Proxy above, gold below, over the square root of the KL: a column for each trainer, best-of-n in each."""
    trainers = list(dict.fromkeys(name.partition("-")[0] for name in result["runs"]))
    figure = Figure(figsize=(5 * len(trainers), 6.4), layout="constrained")
    grid = figure.subplots(2, len(trainers), squeeze=False, sharex="col", sharey="row")
    for column, trainer in enumerate(trainers):
        runs = {name: points for name, points in result["runs"].items() if name.startswith(f"{trainer}-")}
        for axes, key in zip(grid[:, column], ("proxy", "gold"), strict=True):
            for colour, (name, points) in zip(itertools.cycle(COLOURS), runs.items(), strict=False):
                x = roots(points)
                y = [point[key] for point in points]
                axes.plot(x, y, color=colour, label=f"--{FLAG[trainer]} {name.partition('-')[2]}")
                axes.plot(x[-1:], y[-1:], "o", color=colour)
            axes.plot(
                roots(result["best_of_n"]),
                [point[key] for point in result["best_of_n"]],
                ":",
                color="#888888",
                label="best of n (KL: at most)",
            )
            axes.spines[["top", "right"]].set_visible(False)
        grid[0, column].set_title(trainer.upper(), loc="left", fontsize=10)
        grid[0, column].legend(frameon=False, fontsize=8, loc="best")
        grid[1, column].set_xlabel("square root of the KL (nats a completion)", fontsize=8)
    grid[0, 0].set_ylabel("proxy: the reward model's score", fontsize=9)
    grid[1, 0].set_ylabel("gold: share of right answers", fontsize=9)
    save_picture(figure, path)


def print_table(result: dict) -> None:
    """For each run proxy and gold at its beginning, where the gold was highest, and at its end."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        title=f"Means over up to {WINDOW} steps: start -> peak of the gold -> end",
        title_justify="left",
    )
    for name in ("run", "KL", "proxy", "gold", "gold lost"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    best_of_n = result["best_of_n"]
    for name, points in {**result["runs"], f"best of 1 to {best_of_n[-1]['n']}": best_of_n}.items():
        table.add_row(name, *told(points, "->"), f"{lost(points):.2f}" if is_judged(points) else "too short")
    Console(width=max(Console().width, WIDTH)).print(table)


if __name__ == "__main__":
    main()
