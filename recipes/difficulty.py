"""Train on what is neither too easy nor too hard, by the pass rate of each question in scored samples.

A question that is always or never solved teaches a group-relative method nothing: DAPO (arXiv 2503.14476), section 3.2,
leaves both out. Easy questions first: Kimi k1.5 (arXiv 2501.12599), section 2.3.
"""

from collections import Counter, defaultdict

from datasets import Dataset

from recipes.errors import InputError
from recipes.samples import pass_rate, problem
from recipes.tasks import Task


def by_difficulty(
    rows: Dataset,
    samples: list[dict],
    task: Task,
    *,
    min_pass_rate: float = 0.0,
    max_pass_rate: float = 1.0,
    curriculum: bool = False,
) -> tuple[Dataset, str]:
    """The rows whose pass rate is within the bounds, both included; a row that was not sampled is left out.

    A row is found in `samples` by its question and its bare gold answer; several samples of one are put together.

    Args:
        rows (`datasets.Dataset`): with the string columns `question` and `answer`; its text is not copied.
        samples (`list[dict]`): see recipes/samples.py.
        min_pass_rate, max_pass_rate (`float`): the share of right completions among those judged, in [0, 1].
        curriculum (`bool`): order the rows from easy to hard, equals as they were. The trainer must then not shuffle:
            `shuffle_dataset=False`.

    Returns:
        `datasets.Dataset`: the rows that are kept.
        `str`: one sentence with how many were kept and left out.

    Raises `InputError` for impossible bounds, for samples of other rows, and where nothing is left.
    """
    if not 0 <= min_pass_rate <= max_pass_rate <= 1:
        raise InputError(
            f"--min_pass_rate {min_pass_rate} and --max_pass_rate {max_pass_rate} leave nothing: give two shares of "
            "0 to 1, the smaller one first."
        )
    name = task.correctness.__name__
    judged = defaultdict(list)
    for row in samples:
        judged[problem(row, task)] += row["rewards"][name]
    rates = {key: pass_rate({"rewards": {name: values}}, name) for key, values in judged.items()}

    keys = list(zip(rows["question"], map(task.gold, rows["answer"]), strict=True))
    if rates.keys().isdisjoint(keys):
        raise InputError(
            f"No question of the {len(rates):,} in the samples is among the {len(rows):,} rows with the same answer: "
            "are the samples of another task, data set, split or --seed?"
        )
    kept, left_out = [], Counter()
    for index, key in enumerate(keys):
        rate = rates.get(key)
        if rate is None:
            left_out["not judged" if key in rates else "not sampled"] += 1
        elif rate > max_pass_rate:
            left_out["too easy"] += 1
        elif rate < min_pass_rate:
            left_out["too hard"] += 1
        else:
            kept.append(index)
    reasons = ("too easy", "too hard", "not judged", "not sampled")
    counted = ", ".join(f"{left_out[reason]:,} {reason}" for reason in reasons if left_out[reason]) or "none left out"
    if not kept:
        raise InputError(
            f"No row has a pass rate of {min_pass_rate:g} to {max_pass_rate:g} ({counted}): widen --min_pass_rate and "
            "--max_pass_rate, or sample more completions a prompt."
        )
    if curriculum:
        kept.sort(key=lambda index: -rates[keys[index]])
    order = ", from easy to hard" if curriculum else ""
    within = f"with a pass rate of {min_pass_rate:g} to {max_pass_rate:g}"
    return rows.select(kept), f"Kept {len(kept):,} of {len(rows):,} rows, {within}{order} ({counted})."
