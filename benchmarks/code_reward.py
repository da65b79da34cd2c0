"""What the sandbox of `code_reward` costs over running the same code bare: `make bench-code`.

    python -m benchmarks.code_reward --rounds 7 --completions 100

Both sides run the same completions against the same tests, in turns, in one process. Bare is what one would write:
`subprocess.run([sys.executable, file])` on the code with its asserts below it, or on the program with its input on
stdin; one process, no limits, and verdicts that the code can forge. `python -I -S` is the same with the quickest start
that Python has. One core: both sides and all that they start are bound to it. All cores: as many threads as cores.
Ratios are of completions per second. Memory and open files are of this process, after the first round and the last.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from tqdm import tqdm

from rewards import code_reward

# Code and its asserts; programs with an input and the output.
FUNCTIONS = [
    ("def add(a, b):\n    return a + b", "assert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add(2, 2) == 4"),
    ("def flat(rows):\n    return [x for row in rows for x in row]", "assert flat([[1], [2, 3]]) == [1, 2, 3]"),
    ("def vowels(text):\n    return sum(c in 'aeiou' for c in text)", "assert vowels('education') == 5"),
    ("def evens(n):\n    return list(range(0, n, 2))", "assert evens(5) == [0, 2, 4]\nassert evens(0) == []"),
]
PROGRAMS = [
    ("a, b = map(int, input().split())\nprint(a + b)", "2 3\n", "5\n"),
    ("print(input()[::-1])", "abc\n", "cba\n"),
    ("import sys\nprint(max(map(int, sys.stdin.read().split())))", "1\n7\n3\n", "7\n"),
    ("n = int(input())\nfor i in range(1, n + 1):\n    print(i * i)", "3\n", "1\n4\n9\n"),
]

Judge = Callable[[list[tuple]], list[bool]]


def ours(rows: list[tuple]) -> list[bool]:
    completions = [f"```python\n{code}\n```" for code, *_ in rows]
    tests = [row[1] if len(row) == 2 else json.dumps({"inputs": [row[1]], "outputs": [row[2]]}) for row in rows]
    return [reward == 1.0 for reward in code_reward(completions=completions, tests=tests)]


def bare(*flags: str) -> Judge:
    """The same by `subprocess.run`, with flags of Python's."""

    def judge_one(row: tuple) -> bool:
        code, *tests = row
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(code if len(tests) == 2 else f"{code}\n{tests[0]}\n")
            file.flush()
            given = tests[0] if len(tests) == 2 else None
            command = [sys.executable, *flags, file.name]
            done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=5)
        return done.returncode == 0 and (len(tests) == 1 or done.stdout == tests[1])

    def judge(rows: list[tuple]) -> list[bool]:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(judge_one, rows))

    return judge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--completions", type=int, default=100, help="Of a round and a kind.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "code_reward.json")
    args = parser.parse_args()
    cores = os.sched_getaffinity(0)
    kinds = {"functions": FUNCTIONS, "programs": PROGRAMS}
    sides = {"sandbox": ours, "bare": bare(), "bare -I -S": bare("-I", "-S")}
    places = {"one core": {min(cores)}, "all cores": cores}
    rates: dict[tuple, list[float]] = {(k, p, s): [] for k in kinds for p in places for s in sides}
    used = []
    for number in tqdm(range(args.rounds), disable=None):
        for kind, place, side in sorted(rates, reverse=number % 2):  # each goes first in every other round
            rows = [kinds[kind][i % len(kinds[kind])] for i in range(args.completions)]
            os.sched_setaffinity(0, places[place])
            started = time.perf_counter()
            verdicts = sides[side](rows)
            rates[kind, place, side].append(len(rows) / (time.perf_counter() - started))
            os.sched_setaffinity(0, cores)
            if not all(verdicts):
                sys.exit(f"error: {side} has denied right code: {verdicts}")
        process = psutil.Process()
        used.append({"memory_mb": round(process.memory_info().rss / 1e6, 1), "open_files": process.num_fds()})

    def ratio(one: tuple, other: tuple) -> dict:
        found = sorted(a / b for a, b in zip(rates[one], rates[other], strict=True))
        return {key: round(value, 2) for key, value in zip(("ratio", "lowest", "highest"), _spread(found), strict=True)}

    result = {
        f"{kind}, {place} / {side}": ratio((kind, place, "sandbox"), (kind, place, side))
        for kind in kinds
        for place in places
        for side in list(sides)[1:]
    }
    for kind in kinds:
        scaling = ratio((kind, "all cores", "sandbox"), (kind, "one core", "sandbox"))
        result[f"{kind}, all cores / sandbox on one core"] = scaling
    per_round = args.completions * len(kinds) * len(places)
    result |= {"cores": len(cores), "rounds": args.rounds, "executions_a_round": per_round}
    result |= {"after_the_first_round": used[0], "after_the_last_round": used[-1]}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _spread(found: list[float]) -> tuple[float, float, float]:
    return statistics.median(found), found[0], found[-1]


if __name__ == "__main__":
    main()
