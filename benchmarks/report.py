"""What the report of a long run costs: `python -m benchmarks.report`.

Builds the folder of a GRPO run of 1,000 steps with 10,000 sampled completions of some 900 characters, 400 held-out
problems before and after training, the same sampled 8 times each, and 20 looks in between. Then `python -m
recipes.report` is run on it several times, each in a process of its own, in turns with one that only imports what a
training needs. Measured are the seconds of the whole process, its peak memory, and the size of the file. The figures
are random, but of a healthy run's shape.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recipes.run import FIRST_LINE

REWARDS = {"correctness_reward": 1.0, "think_format_reward": 0.2, "language_consistency_reward": 0.0}
WORDS = "so then we first add multiply both numbers which gives the total number of boxes because each holds".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=10_000, help="Completions of training, in all.")
    parser.add_argument("--keep", type=Path, help="Build the run in this folder and leave it there.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "report.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = args.keep or Path(folder) / "grpo-gsm8k"
        build(run, args.steps, args.samples)
        report, imports = ["-m", "recipes.report", str(run)], ["-c", "import trl, peft, datasets, torch"]
        # In turns, so that a busy machine slows both.
        rounds = [(measure(report), measure(imports)) for _ in range(args.rounds)]
        (seconds, memory), (baseline, _) = (zip(*side, strict=True) for side in zip(*rounds, strict=True))
        result = {
            "what": "python -m recipes.report on one run, the whole process",
            "seconds": {"median": round(statistics.median(seconds), 2), "low": round(min(seconds), 2)}
            | {"high": round(max(seconds), 2)},
            "seconds_of_the_imports_of_training": round(statistics.median(baseline), 2),
            "ratio_to_the_imports_of_training": round(
                statistics.median(a / b for a, b in zip(seconds, baseline, strict=True)), 2
            ),
            "peak_memory_mb": round(max(memory)),
            "file_mb": round((run / "report.html").stat().st_size / 1e6, 2),
            "run_mb": round(sum(file.stat().st_size for file in run.rglob("*.jsonl")) / 1e6, 1),
            "steps": args.steps,
            "samples": args.samples,
            "rounds": args.rounds,
            "cores": os.cpu_count(),
        }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(argv: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one Python process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    return time.perf_counter() - started, usage.ru_maxrss / (1e6 if platform.system() == "Darwin" else 1e3)


def build(folder: Path, steps: int, samples: int) -> None:
    """The folder of a run, as training leaves it."""
    rng = random.Random(0)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "about.json",
        {
            "recipe": "grpo",
            "task": "gsm8k",
            "machine": "some GPU, 24.0 GB free",
            "versions": {"python": platform.python_version(), "trl": "1.16.0"},
            "rewards": REWARDS,
            "correctness": "correctness_reward",
            "format": "think_format_reward",
        },
    )
    given = f"max_steps: {steps}\nbeta: 0.02\nseed: 7\ntask: gsm8k\n"
    (folder / "given.yaml").write_text(FIRST_LINE + given)
    more = "num_generations: 8\nmax_completion_length: 512\nlearning_rate: 1.0e-05\ntemperature: 1.0\n"
    (folder / "config.yaml").write_text(given + more + "model_name_or_path: Qwen/Qwen2.5-1.5B-Instruct\n")
    write_rows(folder / "metrics.jsonl", (metrics(step, steps, rng) for step in range(1, steps + 1)))
    each = samples // steps
    for step in range(1, steps + 1):
        rows = [training_row(skill(step / steps), rng) for _ in range(each)]
        write_rows(folder / "samples" / f"step_{step:06d}.jsonl", rows)
    problems = [problem(rng) for _ in range(400)]
    for name, done in (("before", 0), ("after", 1)):
        write_rows(folder / "samples" / f"{name}.jsonl", [held_out_row(*one, skill(done), rng) for one in problems])
        rows = [sampled_row(*one, skill(done), rng) for one in problems]
        write_rows(folder / "samples" / f"{name}_sampled.jsonl", rows)
    for step in range(steps // 20, steps, max(1, steps // 20)):
        rows = [held_out_row(*one, skill(step / steps), rng) for one in problems[:8]]
        write_rows(folder / "samples" / f"during_{step:06d}.jsonl", rows)
    result = {"task": "gsm8k", "trainer": "grpo", "model": "Qwen/Qwen2.5-1.5B-Instruct", "seed": 7, "steps": steps}
    write_json(folder / "result.json", result | {"minutes": 412.5, "peak_memory_gb": 19.31})


def skill(done: float) -> float:
    """The share of right answers after a part of the run."""
    return 0.45 + 0.4 * (1 - math.exp(-3 * done))


def metrics(step: int, steps: int, rng: random.Random) -> dict:
    right = min(1, max(0, rng.gauss(skill(step / steps), 0.06)))
    formed = min(1, max(0, rng.gauss(1 - 0.8 * math.exp(-6 * step / steps), 0.03)))
    rewards = {"correctness_reward": right, "think_format_reward": formed, "language_consistency_reward": 0.97}
    row = {"step": step, "minutes": 0.4 * step, "loss": rng.gauss(0, 0.01), "grad_norm": abs(rng.gauss(0.3, 0.08))}
    for name, mean in rewards.items():
        row |= {f"rewards/{name}/mean": mean, f"rewards/{name}/std": math.sqrt(mean * (1 - mean))}
    return row | {
        "learning_rate": 1e-5 * min(1, step / 10),
        "reward": right + 0.2 * formed,
        "reward_std": 0.4,
        "frac_reward_zero_std": min(1, max(0, rng.gauss(0.1 + 0.3 * step / steps, 0.1))),
        "completions/mean_length": rng.gauss(180 + 60 * step / steps, 9),
        "completions/clipped_ratio": max(0, rng.gauss(0.01, 0.01)),
        "entropy": rng.gauss(0.35 - 0.2 * step / steps, 0.02),
        "clip_ratio/region_mean": abs(rng.gauss(0.01, 0.004)),
        "kl": 0.02 * step / steps * rng.uniform(0.8, 1.2),
    }


def problem(rng: random.Random) -> tuple[str, str]:
    a, b, c = (rng.randint(2, 99) for _ in "abc")
    return f"A box holds {a} marbles and {b} coins. How many are in {c} boxes?", str((a + b) * c)


def completion(answer: str, right: bool, rng: random.Random) -> str:
    thought = " ".join(rng.choices(WORDS, k=150))
    said = answer if right else str(int(answer) + rng.choice((-10, -1, 1, 10)))
    return f"<think>{thought}</think><answer>{said}</answer>"


def held_out_row(question: str, answer: str, rate: float, rng: random.Random) -> dict:
    right = rng.random() < rate
    row = {"question": question, "answer": f"worked out\n#### {answer}", "completion": completion(answer, right, rng)}
    return row | {"length": rng.randint(150, 250), "truncated": False, **judged(right)}


def training_row(rate: float, rng: random.Random) -> dict:
    (question, answer), right = problem(rng), rng.random() < rate
    texts = {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": completion(answer, right, rng)}],
    }
    return texts | judged(right) | {"gold_answer": answer, "advantage": rng.gauss(0, 1)}


def sampled_row(question: str, answer: str, rate: float, rng: random.Random) -> dict:
    own = min(1, max(0, rng.gauss(rate, 0.3)))  # some problems are harder
    right = [rng.random() < own for _ in range(8)]
    return {
        "task": "gsm8k",
        "question": question,
        "answer": answer,
        "completions": [completion(answer, one, rng) for one in right],
        "rewards": {name: [judged(one)[name] for one in right] for name in REWARDS},
    }


def judged(right: bool) -> dict[str, float]:
    return {"correctness_reward": float(right), "think_format_reward": 1.0, "language_consistency_reward": 0.97}


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_rows(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
