"""Which completions to show: the same problems over time, and the best, the worst and the odd ones of training."""

from dataclasses import dataclass

from recipes.reporting.curves import readable
from recipes.reporting.files import number
from recipes.reporting.held_out_figures import paired, problem_of
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.text import Shown, as_text, shown

PROBLEMS = 8  # held-out ones, side by side
TURNED_WRONG = 2  # and of those that only the untrained model solved
IN_BETWEEN = 3  # columns between before and after
EACH = 3  # of the best, the worst and the odd ones
APART = 0.75  # of their ranges that two rewards must differ by


@dataclass(frozen=True)
class Cell:
    """One completion with its rewards: `chips` are (name, value, "high" | "low" | ""), `heading` says when."""

    heading: str
    completion: Shown
    chips: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Problem:
    question: Shown
    answer: Shown | None
    cells: list[Cell]
    remark: str = ""


def side_by_side(
    columns: list[tuple[str, str, list[dict]]],
    rewards: list[str],
    correctness: str,
    lost_is: str = "Right at first, wrong at the end",
) -> list[Problem]:
    """The same problems as each of `columns` (heading, file, rows) has solved them.

    The first ones of the first column, then some that the first has right and the last wrong, which `lost_is` says.
    """
    columns = [column for column in columns if column[2]]
    if not columns:
        return []
    by_problem = [{problem_of(row): row for row in reversed(rows)} for _, _, rows in columns]
    ends = paired(columns[0][2], columns[-1][2])
    chosen = [(row, "") for row, _ in ends[:PROBLEMS]]
    lost = [row for row, last in ends[PROBLEMS:] if row.get(correctness) == 1 and last.get(correctness) == 0]
    chosen += [(row, lost_is) for row in lost[:TURNED_WRONG]]
    problems = []
    for row, remark in chosen:
        cells = [
            cell_of(heading, rows[problem_of(row)], file, rewards)
            for (heading, file, _), rows in zip(columns, by_problem, strict=True)
            if problem_of(row) in rows
        ]
        problems.append(Problem(shown(row.get("question"), columns[0][1]), gold_of(row, columns[0][1]), cells, remark))
    return problems


def over_time(run: RunFolder) -> list[tuple[str, str, list[dict]]]:
    """The columns of one run: before, up to three steps in between, after."""
    steps = list(run.during)
    places = [round((place + 1) * (len(steps) + 1) / (IN_BETWEEN + 1)) - 1 for place in range(IN_BETWEEN)]
    between = steps if len(steps) <= IN_BETWEEN else [steps[place] for place in places]
    return [
        ("Before", "samples/before.jsonl", run.before),
        *((f"Step {step}", f"samples/during_{step:06d}.jsonl", run.during[step]) for step in between),
        ("After", "samples/after.jsonl", run.after),
    ]


def gold_of(row: dict, file: str) -> Shown | None:
    """The gold answer: of a worked solution only what it ends in."""
    if row.get("answer") is None:
        return None
    return shown(as_text(row["answer"]).rpartition("####")[2].strip(), file)


def cell_of(heading: str, row: dict, file: str, rewards: list[str]) -> Cell:
    chips = []
    for name in (name for name in rewards if name in row):
        value = number(row[name])
        told = "not judged" if value is None else f"{value:.3g}"
        chips.append(
            (readable(name), told, "" if value is None else "high" if value >= 1 else "low" if value <= 0 else "")
        )
    length = number(row.get("length"))
    if length is not None:
        chips.append(("tokens", f"{length:.0f}", ""))
    if row.get("truncated") is True:
        chips.append(("cut off", "", "low"))
    return Cell(heading, shown(row.get("completion"), file), chips)


def notable(run: RunFolder) -> tuple[str, list[tuple[str, str, list[Problem]]]]:
    """Where they are from, and groups of title, explanation and problems: best, worst, and where rewards disagree."""
    sampled, source = run.last_samples, "From the last steps of training"
    if not sampled:
        sampled, source = [("samples/after.jsonl", row) for row in run.after], "Of the held-out problems after training"
    rewards = list(run.rewards)
    totals = [(total_of(row, run.rewards), file, row) for file, row in sampled]
    totals = [entry for entry in totals if entry[0] is not None]
    if not totals or not rewards:
        return source, []
    totals.sort(key=lambda entry: -entry[0])  # stable: of equals the first
    groups = [("Best", "the highest weighted total", distinct(totals))]
    if totals[-1][0] < totals[0][0]:
        groups.append(("Worst", "the lowest weighted total", distinct(totals[::-1])))
        odd, shown_already = disagreeing(totals, rewards), [*groups[0][2], *groups[1][2]]
        others = [entry for entry in odd if entry not in shown_already]
        groups.append(("Rewards disagree", "one is high in its range, another low", distinct(others or odd)))
    return source, [
        (title, why, [as_problem(entry, rewards) for entry in found]) for title, why, found in groups if found
    ]


def total_of(row: dict, weights: dict[str, float]) -> float | None:
    """The weighted sum of the rewards, as training forms it; `None` where none was judged."""
    judged = [weight * value for name, weight in weights.items() if (value := number(row.get(name))) is not None]
    return sum(judged) if judged else None


def distinct(entries: list[tuple[float, str, dict]]) -> list[tuple[float, str, dict]]:
    """The first `EACH` with different prompts and completions."""
    found, seen = [], set()
    for entry in entries:
        keys = {question_of(entry[2]), as_text(entry[2].get("completion"))}
        if not keys & seen:
            seen |= keys
            found.append(entry)
        if len(found) == EACH:
            break
    return found


def disagreeing(entries: list[tuple[float, str, dict]], rewards: list[str]) -> list[tuple[float, str, dict]]:
    """Those with one reward high in its range and another low, furthest apart first."""
    ranges = {}
    for name in rewards:
        values = [value for _, _, row in entries if (value := number(row.get(name))) is not None]
        if values and max(values) > min(values):
            ranges[name] = min(values), max(values)

    def apart(row: dict) -> float:
        places = [
            (value - low) / (high - low)
            for name, (low, high) in ranges.items()
            if (value := number(row.get(name))) is not None
        ]
        return max(places) - min(places) if places else 0.0

    return sorted((entry for entry in entries if apart(entry[2]) >= APART), key=lambda entry: -apart(entry[2]))


def question_of(row: dict) -> str:
    """What was asked: the held-out question, or the last message of the prompt."""
    asked = row.get("question", row.get("prompt"))
    if isinstance(asked, list) and asked and isinstance(asked[-1], dict) and isinstance(asked[-1].get("content"), str):
        return asked[-1]["content"]
    return as_text(asked)


def as_problem(entry: tuple[float, str, dict], rewards: list[str]) -> Problem:
    total, file, row = entry
    cell = cell_of(f"total {total:.3g}", row, file, rewards)
    answer = row.get("gold_answer", row.get("answer"))
    return Problem(shown(question_of(row), file), gold_of({"answer": answer}, file), [cell])
