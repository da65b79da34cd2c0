"""What the sampler costs over a bare `model.generate` loop: `make bench-sample`.

    python -m benchmarks.sample --rounds 8 --num_prompts 64

On the bundled starter, in 4-bit, on one thread, side by side in one process, in turns: the sampler (`recipes.sample`:
sorted, scored, written as it goes), a loop of `model.generate` at the same batch size over the same prompts, sorted
longest first as the sampler does, which only decodes, and the same loop with one prompt at a time. So no part of a
ratio, which is of completions per second, is the gain from sorting.
Scoring's share is that of the time that the sampler spends judging and writing. Memory is the process's resident
memory after the sampler has seen the first prompts, and after it has seen all: it must not grow with their number.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import psutil
import torch
from datasets import Dataset
from tqdm import tqdm

from recipes import hardware, sample
from recipes.job import Job, begin
from recipes.texts import as_text


def bare(model, tokenizer, rows: Dataset, job: Job, size: int) -> int:
    """The loop that one would write, over the sampler's batches; returns how many completions it made."""
    config, made = job.config, 0
    longest_first = sorted(rows, key=lambda row: -len(row["question"]))
    prompts = [row["prompt"] for row in longest_first for _ in range(config.num_generations)]
    for start in range(0, len(prompts), size):
        texts = as_text(tokenizer, prompts[start : start + size], config)
        inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        with torch.inference_mode():
            outputs = model.generate(
                **inputs,
                do_sample=True,
                temperature=config.temperature,
                top_k=0,
                max_new_tokens=config.max_completion_length,
                pad_token_id=tokenizer.pad_token_id,
            )
        made += len(tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--num_prompts", type=int, default=64, help="Of a round, 8 completions each.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sample.json")
    args = parser.parse_args()
    spent = [0.0]
    for name in ("scored", "write"):  # the two steps that are not sampling
        setattr(sample, name, timed(getattr(sample, name), spent))
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--task", "word_problems", "--output_dir", f"{folder}/run"]
        with contextlib.redirect_stdout(io.StringIO()):
            job = begin("sample", sample.SampleConfig, "", flags, arguments=sample.SampleArguments, doing="Sampling")
        torch.set_num_threads(1)
        result = measure(job, Path(folder), args, spent)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(job: Job, folder: Path, args, spent: list[float]) -> dict:
    model = sample.load_model(job.model_args.model_name_or_path, job.config, job.model_args)
    tokenizer, config = job.checked.tokenizer, job.config
    generate = sample.with_transformers(model, tokenizer, config, config.temperature)
    rows, n = job.checked.train, args.num_prompts
    rates: dict[str, list[float]] = {"sampler": [], "bare loop": [], "one at a time": []}
    shares, memory = [], []
    bare(model, tokenizer, rows.select(range(16)), job, config.per_device_eval_batch_size)  # warm up
    with contextlib.redirect_stdout(io.StringIO()):
        sample.sample_to_file(folder / "warm_up.jsonl", generate, rows.select(range(16)), job)
    for number in tqdm(range(args.rounds), disable=None):
        part = rows.select(range(number * n, (number + 1) * n))
        few = part.select(range(max(1, n // 16)))

        def sampler(part=part, number=number):
            spent[0] = 0.0
            sample.sample_to_file(folder / f"{number}.jsonl", generate, part, job)
            return len(part) * config.num_generations

        turns = {
            "sampler": sampler,
            "bare loop": lambda part=part: bare(model, tokenizer, part, job, config.per_device_eval_batch_size),
            "one at a time": lambda few=few: bare(model, tokenizer, few, job, 1),
        }
        for name in sorted(turns, reverse=number % 2):  # each goes first in every other round
            started = time.perf_counter()
            made = turns[name]()
            seconds = time.perf_counter() - started
            rates[name].append(made / seconds)
            if name == "sampler":
                shares.append(spent[0] / seconds)
        memory.append(psutil.Process().memory_info().rss / 1e6)
    ratios = {
        f"sampler / {other}": sorted(a / b for a, b in zip(rates["sampler"], rates[other], strict=True))
        for other in ("bare loop", "one at a time")
    }
    return {
        "what": "ratios of completions per second, one a round",
        "ratios": {
            name: {"median": round(statistics.median(found), 2), "low": round(found[0], 2), "high": round(found[-1], 2)}
            for name, found in ratios.items()
        },
        "scoring_share": {"median": round(statistics.median(shares), 4), "high": round(max(shares), 4)},
        "memory_mb": {"after_round": [round(value) for value in memory], "prompts_a_round": n},
        "rounds": args.rounds,
        "completions_a_round": n * config.num_generations,
        "batch_size": config.per_device_eval_batch_size,
        "threads": torch.get_num_threads(),
    }


def timed(function, spent: list[float]):
    """`function`, whose seconds are added to `spent`."""

    def wrapped(*args, **kwargs):
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[0] += time.perf_counter() - started

    return wrapped


if __name__ == "__main__":
    hardware.limit_threads(hardware.STARTER)
    main()
