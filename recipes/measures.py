"""What scored samples say of a model: pass@1, pass@k, maj@k, format, length and truncation, with 95 % intervals."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from recipes.errors import InputError
from recipes.intervals import mean_interval
from recipes.pass_at_k import majority_at_k, pass_at_k
from recipes.samples import pass_rate, problem
from recipes.tasks import Task
from rewards import extract_answer
from rewards.majority_vote import answer_classes


@dataclass
class Measures:
    """Every figure of every prompt; the mean of a figure is the model's."""

    prompts: list[tuple[str, str]] = field(default_factory=list)  # question and gold answer
    values: dict[str, list[float]] = field(default_factory=dict)
    completions: int = 0
    unjudged: int = 0  # prompts whose gold answer is unusable: they are not counted

    def add(self, name: str, value: float | None) -> None:
        if value is not None:
            self.values.setdefault(name, []).append(value)

    def mean(self, name: str) -> float | None:
        return fmean(self.values[name]) if self.values.get(name) else None

    def interval(self, name: str) -> list[float] | None:
        return list(mean_interval(self.values[name])) if self.values.get(name) else None

    def figures(self) -> dict:
        """The means, for a JSON file; `intervals` are of 95 %, over problems, `ci95` is that of the accuracy."""
        rates = self.values["accuracy"]
        shares = [name for name in self.values if name != "mean_length" and not name.startswith("rewards/")]
        return {
            "prompts": len(self.prompts),
            "completions": self.completions,
            "unjudged": self.unjudged,
            "always": sum(rate == 1 for rate in rates),
            "never": sum(rate == 0 for rate in rates),
            "ci95": self.interval("accuracy"),
            **{name: self.mean(name) for name in ("accuracy", "strict_accuracy", "format", "mean_length", "truncated")},
            **{name: self.mean(name) for name in self.values if "@" in name or name.startswith("rewards/")},
            "intervals": {name: self.interval(name) for name in shares},
        }


def measure(rows: Iterable[dict], task: Task, ks: Iterable[int] = ()) -> Measures:
    """The figures of `rows`, as `recipes.samples` describes them; accuracy is pass@1.

    Args:
        ks (`Iterable[int]`): pass@k (Chen et al., 2021) and, where `task.voted`, maj@k (Wang et al., 2022) for each; at
            most as many as the fewest completions of a prompt.
    """
    found, correctness, form = Measures(), task.correctness.__name__, task.format.__name__
    for row in rows:
        rate, n = pass_rate(row, correctness), len(row["completions"])
        if rate is None or None in row["rewards"][correctness]:
            found.unjudged += 1
            continue
        right = [value == 1.0 for value in row["rewards"][correctness]]
        formed = [value == 1.0 for value in row["rewards"][form]]
        found.prompts.append(problem(row, task))
        found.completions += n
        found.add("accuracy", rate)
        found.add("strict_accuracy", fmean(a and b for a, b in zip(right, formed, strict=True)))
        found.add("format", fmean(formed))
        for name, column in (("mean_length", "completion_tokens"), ("truncated", "truncated")):
            known = [value for value in row.get(column) or [] if value is not None]
            found.add(name, fmean(known) if known else None)
        for name, values in row["rewards"].items():
            if name not in (correctness, form):
                judged = [value for value in values if value is not None]
                found.add(f"rewards/{name}", fmean(judged) if judged else None)
        voted = bool(ks) and task.voted
        classes = answer_classes([extract_answer(text) for text in row["completions"]]) if voted else []
        for k in ks:
            found.add(f"pass@{k}", pass_at_k(n, sum(right), k))
            found.add(f"maj@{k}", majority_at_k(classes, right, k) if voted else None)
    if not found.prompts:
        raise InputError(f"{correctness} could judge none of the samples: are their gold answers usable?")
    return found
