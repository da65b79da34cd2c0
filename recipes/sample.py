"""Sample a model on a task and score every completion: the data of evaluation, DPO, rejection sampling and curricula.

    make sample-gsm8k ARGS="--model_name_or_path runs/grpo-gsm8k --num_generations 8"
    python -m recipes.sample --task word_problems --num_prompts 500 --temperature 0.8 --output_dir runs/samples
    python -m recipes.sample --task gsm8k --completions theirs.jsonl      # only scores what was written elsewhere

One row per prompt is written to samples.jsonl of the run's folder as soon as it is there, the longest prompts first.
The same command after a crash goes on with the first row that is missing, and ends with the same file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from datasets import Dataset
from tqdm.auto import tqdm

from recipes.arguments import TaskArguments, flag
from recipes.errors import InputError, exit_kindly, path_of
from recipes.generation import Completion, Generate, Sampling, with_transformers, with_vllm
from recipes.job import Job, begin
from recipes.measures import measure
from recipes.models import find_model, load_model
from recipes.report import report_line
from recipes.run import Run
from recipes.samples import is_samples
from recipes.scoring import appending, score_file, scored, whole_lines, write

VLLM_BATCHES = 16  # vLLM itself chooses how many fit: its batches only have to be large


@dataclass
class SampleArguments(TaskArguments):
    """Which prompts."""

    split: Literal["train", "test"] = flag("train", "train, or test for the held-out problems.")
    num_prompts: int = flag(1000, "How many of them, at most.")
    completions: str | None = flag(None, "A JSONL file of completions made elsewhere, to score; no model is loaded.")


@dataclass
class SampleConfig(Sampling):
    """The rest of what a trainer's config would say."""

    use_vllm: bool = flag(False, "Sample with vLLM (pip install vllm), which reads no 4-bit weights here.")
    output_dir: str = "runs/sample"
    seed: int = 42
    per_device_eval_batch_size: int = flag(64, f"Completions at a time; with --use_vllm {VLLM_BATCHES} times as many.")
    use_cpu: bool = False
    trust_remote_code: bool = False
    model_init_kwargs: dict | str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.use_cpu:  # as a trainer's config does: it decides where TRL loads the model
            PartialState(cpu=True)


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    job = begin("sample", SampleConfig, __doc__, argv, arguments=SampleArguments, doing="Sampling", show=print_figures)
    if job is None:
        return
    file = job.run.folder / "samples.jsonl"
    if job.args.completions:
        score_file(path_of(job.args.completions), file, job)
    else:
        rows = job.checked.train if job.args.split == "train" else job.checked.held_out
        rows = rows.select(range(min(len(rows), job.args.num_prompts)))
        sample_to_file(file, generator(job), rows, job)
    with file.open(encoding="utf-8") as rows:
        job.run.finish(task=job.args.task, **measure(map(json.loads, rows), job.task).figures())
    print_figures(job.run)
    print(f"The samples are in {file}.")
    print(report_line(job.run.folder))


def generator(job: Job) -> Generate:
    """The job's model, loaded, as a function from prompts to completions."""
    config, tokenizer, name = job.config, job.checked.tokenizer, job.model_args.model_name_or_path
    if config.use_vllm:
        # vLLM keeps its memory until the process ends: a second engine would find none.
        if sum(not is_samples(other) for other in getattr(job.args, "models", None) or []) > 1:
            raise InputError(
                "--use_vllm samples one model a run: sample each with `python -m recipes.sample --split test` and give "
                "--models the folders of these runs."
            )
        return with_vllm(find_model(name), tokenizer, config, job.model_args)
    model = load_model(name, config, job.model_args)
    return with_transformers(model, tokenizer, config, config.temperature)


def sample_to_file(file: Path, generate: Generate, rows: Dataset, job: Job) -> None:
    """Write `num_generations` scored completions of each of `rows` to `file`, going on where it ends.

    A batch is always made of the same prompts and begins with a seed of its own: a file that was interrupted ends up
    the same (with vLLM, as far as vLLM promises it: see `with_vllm`), and what is held in memory does not depend on how
    many rows there are.
    """
    n, size, seed = job.config.num_generations, job.config.per_device_eval_batch_size, job.config.seed
    size *= VLLM_BATCHES if getattr(job.config, "use_vllm", False) else 1
    order = sorted(range(len(rows)), key=[-len(question) for question in rows["question"]].__getitem__)
    total, done = len(rows) * n, whole_lines(file) * n
    going_on = f", going on with prompt {done // n + 1:,}" if done else ""
    print(f"sampling {len(rows):,} prompts x {n}{going_on}", flush=True)
    pending: list[Completion] = []  # of rows that are not complete
    bar = tqdm(total=total, initial=done, desc="sampling", unit="completion", disable=None, smoothing=0.1)
    with appending(file) as out, bar, torch.random.fork_rng():
        for start in range(done // size * size, total, size):
            batch = [order[i // n] for i in range(start, min(start + size, total))]
            torch.manual_seed(hash((seed, start)) % 2**63)  # of numbers, so the same in every process
            completions = generate([rows[row]["prompt"] for row in batch])
            pending += completions[max(done - start, 0) :]
            ready = len(pending) // n
            first = (start + len(batch) - len(pending)) // n
            sampled = [rows[order[first + i]] for i in range(ready)]
            groups = [pending[i * n : (i + 1) * n] for i in range(ready)]
            write(out, scored(sampled, groups, job.args.task, job.checked.rewards, job.config.reward_weights))
            pending = pending[ready * n :]
            bar.update(len(completions) - max(done - start, 0))


def print_figures(run: Run) -> None:
    """One line of what was sampled."""
    result = run.result
    shares = {"right": "accuracy", "well formed": "format", "cut off": "truncated"}
    told = ", ".join(f"{result[key]:.3f} {word}" for word, key in shares.items() if result[key] is not None)
    print(
        f"{result['prompts']} prompts, {result['completions']} completions. On average over the prompts: {told}. On "
        f"{result['always']} prompts all are right, on {result['never']} none."
    )


if __name__ == "__main__":
    main()
