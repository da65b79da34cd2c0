"""How fast the rewards are, against TRL's where it has one, and against the bare floor: `make bench-rewards`.

Everything runs in one process, ours and theirs in turn, round by round, each round on completions that neither has
seen; our caches are emptied before each. A figure is the median of the rounds' ratios, so the machine cancels out. The
floor is the comparison of the answer's string with the gold's, which knows no other spelling.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # else `import rewards` would find this file

import argparse
import json
import logging
import random
import statistics
import subprocess
import time

import psutil
from tqdm import tqdm
from trl import rewards as theirs

import rewards
from recipes.errors import exit_kindly
from recipes.tasks import load_task
from rewards import equivalence, symbolic

HOSTILE = [  # what Math-Verify would work on for seconds or for ever, and the cheap guards let pass
    r"\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(\sin(x))))))))))))))",
    r"\int\int\int\int\int e^{xyz} dx",
    r"\Gamma(10^{10})",
    r"\binom{10^{9}}{5 \cdot 10^{8}}",
    r"\sum_{n=1}^{\infty} \sin(n!)",
    r"(3^{9999})^{9999}",
    r"\sin^{40}(\cos^{40}(\tan^{40}(x)))",
    "|" * 80 + "x",
]


def as_messages(texts: list[str]) -> list[list[dict]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def gsm8k(dataset_name: str | None, rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Worked solutions that end in a box, one in four of them wrong, and the bare gold answers."""
    train, _ = load_task("gsm8k").load(dataset_name, None, 0)
    random.seed(seed)
    texts, golds = [], []
    for row in train.select(random.sample(range(len(train)), rows)):
        work, _, gold = row["answer"].rpartition("####")
        golds.append(gold.strip())
        found = golds[-1] if random.random() < 0.75 else f"{random.randint(0, 999)}"
        texts.append(f"{work.strip()} The answer is \\boxed{{{found}}}.")
    return texts, golds


def polynomials(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Quadratics: as the gold is written, factored, in another order, and wrong."""
    random.seed(seed)
    texts, golds = [], []
    for row in range(rows):
        a, b = random.randint(1, 99), random.randint(1, 99)
        golds.append(f"x^2 + {a + b}x + {a * b}")
        written = [golds[-1], f"(x + {a})(x + {b})", f"{a * b} + x^2 + {a + b}x", f"x^2 + {a + b}x + {a * b + 1}"]
        texts.append(f"We multiply both, and so it is $\\boxed{{{written[row % 4]}}}$.")
    return texts, golds


def radicals(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Roots in another form, one in two wrong: nothing but algebra can decide them."""
    random.seed(seed)
    texts, golds = [], []
    for row in range(rows):
        a, b, c = random.randint(2, 99), random.choice([2, 3, 5, 6, 7, 10, 11]), random.randint(2, 99)
        golds.append(f"\\frac{{{a}\\sqrt{{{b}}}}}{{{c}}}")
        texts.append(f"And so it is $\\boxed{{\\frac{{{a + row % 2}}}{{{c}}}\\sqrt{{{b}}}}}$.")
    return texts, golds


def forget() -> None:
    for cached in (equivalence._marked_gold, equivalence._cached_by_spelling):
        cached.cache_clear()


def seconds(function, *args, **kwargs) -> float:
    start = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - start


def against(make, ours, other, rounds: int) -> dict:
    """The median, lowest and highest ratio of the two rates, and our rate; `make(seed)` gives a round's arguments."""
    ratios, rates = [], []
    for seed in range(rounds + 1):
        mine, others, rows = make(seed)
        forget()
        times = {}
        for name, function, kwargs in ((("ours"), ours, mine), ("other", other, others))[:: 1 if seed % 2 else -1]:
            times[name] = seconds(function, **kwargs)
        if seed:  # the first round warms up
            ratios.append(times["other"] / times["ours"])
            rates.append(rows / times["ours"])
    return {
        "ratio": round(statistics.median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
        "ours_per_second": round(statistics.median(rates)),
    }


def floor(texts: list[str], golds: list[str]) -> list[float]:
    return [float(text[text.rfind("{") + 1 : text.rfind("}")] == gold) for text, gold in zip(texts, golds, strict=True)]


def import_seconds() -> float:
    code = "import time; t = time.perf_counter(); import rewards; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return round(statistics.median(float(run.stdout) for run in runs), 3)


def grown_megabytes(calls: int) -> float:
    """Memory that this process and the workers take more after `calls` calls than after the first tenth of them."""
    this = psutil.Process()
    sizes = []
    for call in tqdm(range(calls), desc="memory", disable=None):
        texts = [f"<think>{call} is odd. {call * 7} too.</think><answer>{call}</answer>"]
        rewards.correctness_reward(completions=texts, answer=[str(call)])
        if call % 100 == 0:
            rewards.correctness_reward(completions=[f"\\boxed{{\\sqrt{{{call}}}}}"], answer=["\\sqrt{2}+\\sin x"])
        rewards.think_format_reward(completions=texts)
        rewards.repetition_penalty_reward(completions=texts)
        rewards.language_consistency_reward(completions=texts, language=["en"])
        if call in (calls // 10, calls - 1):
            processes = [this, *this.children(recursive=True)]
            sizes.append(sum(process.memory_info().rss for process in processes) / 2**20)
    return round(sizes[-1] - sizes[0], 1)


@exit_kindly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset_name", help="GSM8K: a hub id, a folder or a JSONL file; openai/gsm8k by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=100_000, help="for the growth of memory")
    parser.add_argument("--output", default="benchmarks/results/rewards.json")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    symbolic.check([("x", "y")], 1.0)  # start the workers

    def on_gsm8k(seed, rows=200):
        texts, golds = gsm8k(args.dataset_name, rows, seed)
        chat = as_messages(texts)
        return {"completions": chat, "answer": golds}, {"completions": chat, "solution": golds}, rows

    def algebra(write, rows):
        def make(seed):
            texts, golds = write(rows, seed)
            chat = as_messages(texts)
            dollars = [f"${gold}$" for gold in golds]  # TRL misreads bare LaTeX
            return {"completions": chat, "answer": golds}, {"completions": chat, "solution": dollars}, rows

        return make

    def formatted(seed):
        texts, _ = gsm8k(args.dataset_name, 1000, seed)
        chat = as_messages([f"<think>\n{text}\n</think>\n<answer>{seed}</answer>" for text in texts])
        return {"completions": chat}, {"completions": chat}, 1000

    def in_english(seed):
        texts, _ = gsm8k(args.dataset_name, 1000, seed)
        return {"completions": texts, "language": ["en"] * 1000}, None, 1000

    def against_floor(seed):
        texts, golds = gsm8k(args.dataset_name, 2000, seed)
        return {"completions": texts, "answer": golds}, {"texts": texts, "golds": golds}, 2000

    def with_tokens(seed):
        random.seed(seed)
        ids = [[random.randint(0, 999) for _ in range(random.randint(50, 300))] for _ in range(500)]
        return ({"completions": [""] * 500, "completion_ids": ids},) * 2 + (500,)

    theirs_repetition = theirs.get_repetition_penalty_reward(ngram_size=3, max_penalty=-1.0)
    theirs_overlong = theirs.get_soft_overlong_punishment(max_completion_len=200, soft_punish_cache=50)
    ours_overlong = rewards.get_overlong_penalty_reward(200, 50)
    comparisons = {
        "correctness, GSM8K / TRL": (on_gsm8k, rewards.correctness_reward, theirs.accuracy_reward),
        "correctness, polynomials / TRL": (
            algebra(polynomials, 64),
            rewards.correctness_reward,
            theirs.accuracy_reward,
        ),
        "correctness, radicals / TRL": (algebra(radicals, 64), rewards.correctness_reward, theirs.accuracy_reward),
        "correctness, GSM8K / string comparison": (against_floor, rewards.correctness_reward, floor),
        "think_format / TRL": (formatted, rewards.think_format_reward, theirs.think_format_reward),
        "repetition_penalty / TRL": (with_tokens, rewards.repetition_penalty_reward, theirs_repetition),
        "overlong_penalty / TRL": (with_tokens, ours_overlong, theirs_overlong),
    }
    results = {}
    for name, (make, ours, other) in tqdm(comparisons.items(), desc="rewards", disable=None):
        results[name] = against(make, ours, other, args.rounds)
    rates = []
    for seed in range(args.rounds):
        mine, _, rows = in_english(seed)
        rates.append(rows / seconds(rewards.language_consistency_reward, **mine))
    texts, golds = radicals(56, 99)
    batch = {"completions": texts + [f"\\boxed{{{text}}}" for text in HOSTILE], "answer": golds + ["\\sqrt{2}+x"] * 8}
    results |= {
        "language_consistency per second": round(statistics.median(rates)),
        "seconds of a batch of 64 with 8 hostile": round(seconds(rewards.correctness_reward, **batch), 2),
        "seconds of import rewards": import_seconds(),
        "megabytes grown": grown_megabytes(args.calls),
        "calls": args.calls,
    }
    Path(args.output).write_text(json.dumps(results, indent=2) + "\n")
    print("| reward | ratio of rates, median | lowest | highest |\n| --- | --- | --- | --- |")
    for name, found in results.items():
        if isinstance(found, dict):
            print(f"| {name} | {found['ratio']} | {found['lowest']} | {found['highest']} |")
        else:
            print(f"{name}: {found}")


if __name__ == "__main__":
    main()
