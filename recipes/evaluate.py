"""Evaluate models side by side on a task's held-out problems: pass@1, pass@k, maj@k, format, length, truncation.

    make eval-gsm8k
    make eval-gsm8k ARGS="--models Qwen/Qwen2.5-1.5B-Instruct runs/grpo-gsm8k runs/dpo-gsm8k"
    python -m recipes.evaluate --task word_problems --models starter runs/sft --num_generations 16 --k 1 4 16
    python -m recipes.evaluate --task gsm8k --models runs/sample-gsm8k/samples.jsonl    # samples that exist

A model is a hub id, a folder, a run, an adapter, or a file of scored samples. All are judged on the problems that they
have in common, so that the difference to the first is tested problem by problem: a paired bootstrap gives its interval,
a paired randomization test its p. Sampled at temperature 0.6 and top-p 0.95,
as DeepSeek-R1 was evaluated; `--temperature 0 --num_generations 1` decodes greedily.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from recipes.arguments import TaskArguments, flag
from recipes.errors import InputError, exit_kindly
from recipes.intervals import paired_bootstrap
from recipes.job import Job, begin, check
from recipes.measures import Measures, measure
from recipes.models import OF_LOADING, loading_of
from recipes.qlora import QLoRA
from recipes.report import report_line
from recipes.run import Run
from recipes.sample import SampleConfig, generator, sample_to_file
from recipes.samples import is_samples, problem, read_samples

WIDTH = 116  # characters: an interval that is broken in two cannot be read


@dataclass
class EvaluateArguments(TaskArguments):
    """What is compared, and by what."""

    models: list[str] | None = flag(
        None, "Models, or files of scored samples; the first is what others are compared to."
    )
    k: list[int] | None = flag(None, "The k of pass@k and maj@k; default: 1 and as many as there are completions.")
    eval_samples: int = flag(400, "Held-out problems.")


@dataclass
class EvaluateConfig(SampleConfig):
    """As DeepSeek-R1 was evaluated (2501.12948, section 3)."""

    temperature: float = 0.6
    top_p: float = 0.95


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    how = {"arguments": EvaluateArguments, "doing": "Evaluating", "show": print_table}
    job = begin("eval", EvaluateConfig, __doc__, argv, **how, check_more=plan_of)
    if job is None:
        return
    plan, measured = job.more, {}
    names, rows = plan.names, plan.rows
    for number, name in enumerate(names, start=1):
        print(f"{number} of {len(names)}: {name}", flush=True)
        if name in plan.jobs:
            file, own = job.run.folder / "samples" / f"{number}.jsonl", plan.jobs[name]
            sample_to_file(file, generator(own), own.checked.held_out, own)
        found = rows.pop(name) if name in rows else read(file, job)
        measured[name] = measure([row for row in found if problem(row, job.task) in plan.common], job.task, plan.ks)
    first = measured[names[0]]
    job.run.finish(
        task=job.args.task,
        temperature=job.config.temperature if plan.jobs else None,
        num_generations=job.config.num_generations if plan.jobs else None,
        models={name: found.figures() for name, found in measured.items()},
        differences={name: difference(first, measured[name]) for name in names[1:]},
    )
    print_table(job.run)
    print(report_line(job.run.folder))


@dataclass
class Plan:
    """What is compared."""

    names: list[str]  # models and files, in order
    rows: dict[str, list[dict]]  # of each file, its samples
    jobs: dict[str, Job]  # of each model, how it is sampled
    common: set  # the problems that all of them are asked
    ks: list[int]  # of pass@k


def plan_of(job: Job) -> Plan:
    """Every file is read and every model looked at before the first one is sampled; raises `InputError`."""
    names = job.args.models or [job.model_args.model_name_or_path]
    if len(set(names)) < len(names):
        raise InputError("--models names a model twice: name each once.")
    rows = {name: read(name, job) for name in names if is_samples(name)}
    counts = [len(row["completions"]) for name in rows for row in rows[name]]
    n = min([*counts, *([job.config.num_generations] if len(rows) < len(names) else [])])
    ks = job.args.k or sorted({1, n})
    if max(ks) > n:
        raise InputError(f"--k {max(ks)} needs as many completions of every problem, not {n}: see --num_generations.")
    asked = [{problem(row, job.task) for row in found} for found in rows.values()]
    asked += [{problem(row, job.task) for row in job.checked.held_out}] if len(rows) < len(names) else []
    common = set.intersection(*asked)
    if not common:
        raise InputError("These models and files have no problem in common: sample the files with --split test.")
    for name, found in zip(rows, asked, strict=False):
        if len(found) > len(common):
            print(
                f"{name}: {len(common)} of its {len(found)} problems are in the others, too; only these are compared."
            )
    return Plan(names, rows, {name: for_model(job, name) for name in names if name not in rows}, common, ks)


def read(file: str | Path, job: Job) -> list[dict]:
    return read_samples(file, job.args.task, needs=[job.task.correctness.__name__, job.task.format.__name__])


def for_model(job: Job, name: str) -> Job:
    """The same job for the model called `name`, looked at but not loaded."""
    if name == job.model_args.model_name_or_path:
        return job
    own = {field.name: field.default for field in fields(QLoRA) if field.name in OF_LOADING} | loading_of(name)
    own = {flag: value for flag, value in own.items() if flag not in job.parser.given}
    of_config = {flag: own.pop(flag) for flag in ("chat_template_kwargs", "trust_remote_code") if flag in own}
    model_args = replace(job.model_args, model_name_or_path=name, **own)
    job = replace(job, model_args=model_args, config=replace(job.config, **of_config))
    return replace(job, checked=check(job, model_args))


def difference(first: Measures, other: Measures) -> dict | None:
    """pass@1 of the other minus that of the first, problem by problem; None where none was judged for both."""
    a, b = (dict(zip(found.prompts, found.values["accuracy"], strict=True)) for found in (first, other))
    both = [prompt for prompt in a if prompt in b]
    return paired_bootstrap([a[prompt] for prompt in both], [b[prompt] for prompt in both]) if both else None


def print_table(run: Run) -> None:
    """A row for each model, and below it how far it is from the first."""
    result, console = run.result, Console(width=max(Console().width, WIDTH))
    names = [name for name in next(iter(result["models"].values())) if "@" in name and name != "maj@1"]
    problems = next(iter(result["models"].values()))["prompts"]
    title = f"{result['task']}, {problems} problems, with 95 % intervals"
    if result["num_generations"]:
        title += f"; {result['num_generations']} completions a problem at temperature {result['temperature']}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in ("model", *names, "format", "length", "cut off"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=column != "model")
    for name, figures in result["models"].items():
        shares = [
            "{:.3f}\n{:.3f}-{:.3f}".format(figures[key], *figures["intervals"][key]) for key in (*names, "format")
        ]
        length, cut = figures["mean_length"], figures["truncated"]
        rest = ["-" if length is None else f"{length:.1f}", "-" if cut is None else f"{cut:.3f}"]
        table.add_row(name, *shares, *rest)
    console.print(table)
    first = next(iter(result["models"]))
    for name, found in result["differences"].items():
        if found:
            low, high = found["ci95"]
            print(
                f"{name} - {first}: pass@1 {found['difference']:+.3f} ({low:+.3f} to {high:+.3f}), p = {found['p']:.4f}"
            )


if __name__ == "__main__":
    main()
