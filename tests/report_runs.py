"""Folders of runs as training leaves them, small, for the tests of the report."""

import json
from pathlib import Path

from recipes.run import FIRST_LINE

REWARDS = {"correctness_reward": 1.0, "think_format_reward": 0.2}


def write_run(
    folder: Path,
    *,
    recipe: str = "grpo",
    steps: int = 12,
    before: int | None = 4,
    after: int | None = 9,
    problems: int = 10,
    finished: bool = True,
    given: dict | None = None,
    settings: dict | None = None,
    metrics: list[dict] | None = None,
    about: dict | None = None,
    result: dict | None = None,
) -> Path:
    """A run of which `before` and `after` of the held-out problems were solved, the first ones; None: none was."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    given = {"task": "gsm8k"} if given is None else given
    settings = {"max_steps": steps, "task": "word_problems", "reward_weights": [1.0, 0.2], **given, **(settings or {})}
    (folder / "given.yaml").write_text(FIRST_LINE + json.dumps(given))
    (folder / "config.yaml").write_text(json.dumps(settings))
    told = {"recipe": recipe, "task": "word_problems", "machine": "CPU, 2 cores", "versions": {"trl": "1.16.0"}}
    told |= {"rewards": REWARDS, "correctness": "correctness_reward", "format": "think_format_reward"}
    write_json(folder / "about.json", told | (about or {}))
    rows = [metrics_row(step, steps) for step in range(1, steps + 1)] if metrics is None else metrics
    write_rows(folder / "metrics.jsonl", rows)
    for name, right in (("before", before), ("after", after)):
        if right is not None:
            solved = [solved_row(i, i < right, formed=name == "after") for i in range(problems)]
            write_rows(folder / "samples" / f"{name}.jsonl", solved)
    if finished:
        told = {"task": "word_problems", "trainer": recipe, "model": "starter", "seed": 42, "steps": steps}
        write_json(folder / "result.json", told | {"minutes": 1.5, "peak_memory_gb": 1.25} | (result or {}))
    return folder


def metrics_row(step: int, steps: int, **more) -> dict:
    """What GRPO logs at a step of a healthy run."""
    done = step / steps
    row = {"step": step, "minutes": step / 10, "loss": 0.01, "grad_norm": 0.3 + 0.1 * (step % 3), "learning_rate": 1e-3}
    row |= {"rewards/correctness_reward/mean": 0.4 + 0.5 * done, "rewards/correctness_reward/std": 0.4}
    row |= {"rewards/think_format_reward/mean": done, "rewards/think_format_reward/std": 0.2}
    row |= {
        "reward": 0.4 + 0.7 * done,
        "reward_std": 0.4,
        "frac_reward_zero_std": 0.1 * done,
        "entropy": 0.4 - 0.2 * done,
    }
    return row | {"completions/mean_length": 10 + 10 * done, "completions/clipped_ratio": 0.0} | more


def solved_row(number: int, right: bool, formed: bool = True, **more) -> dict:
    """A held-out problem as it was solved."""
    answer = number if right else number + 1
    text = f"<think>{number}+0={answer}</think><answer>{answer}</answer>" if formed else f"<answer>{answer}</answer>"
    row = {"question": f"What is {number} + 0?", "answer": f"{number}+0={number}\n#### {number}", "completion": text}
    row |= {"length": 20, "truncated": False}
    return row | {"correctness_reward": float(right), "think_format_reward": float(formed)} | more


def sampled_row(number: int, answers: list[str | None]) -> dict:
    """A held-out problem whose right answer is `number`, sampled once for each of `answers`; None: without one."""
    texts = ["Hm." if answer is None else f"<answer>{answer}</answer>" for answer in answers]
    right = [float(answer == str(number)) for answer in answers]
    row = {"task": "word_problems", "question": f"What is {number} + 0?", "answer": str(number), "completions": texts}
    return row | {"rewards": {"correctness_reward": right, "think_format_reward": [1.0] * len(texts)}}


def write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def write_rows(path: Path, rows: list) -> None:
    """Rows as JSON lines; a string stands for itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
