"""Score the completions of a JSONL file with any rewards, chunk by chunk."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rewards.calling import (
    FROM_TRL,
    InputError,
    call_reward,
    describe,
    is_messages,
    load_reward,
    missing_columns,
    padded,
    printable,
    read_rows,
    width_of,
)

CHUNK = 256  # completions; a chunk ends only where the prompt changes


@dataclass
class Sample:
    """One completion of a row."""

    label: str  # the line's number, with the completion's place where a line has several
    row: dict
    completion: str | list
    tokens: list | None
    rewards: dict = field(default_factory=dict)


@dataclass
class Tally:
    """What is reported of one reward."""

    count: int = 0
    none: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, reward: float | None) -> None:
        if reward is None:
            self.none += 1
            return
        self.count += 1
        self.total += reward
        self.least, self.most = min(self.least, reward), max(self.most, reward)


@dataclass
class Scores:
    """The first samples, and the figures of all."""

    shown: list[Sample]
    tallies: dict[str, Tally]
    samples: int = 0
    groups: dict = field(default_factory=dict)  # prompt: [size, each reward's one value or "differs"]


def score(path: str, names: list[str], output: str | None = None, overwrite: bool = False, rows: int = 10) -> Scores:
    """Judge every completion of the file `path` (`-`: standard input) by the rewards called `names`.

    Args:
        path (`str`): a JSONL file. A row has `completion` or `completions`: a string, a list of chat messages, or a
            list of either; and `prompt`, `answer` and any other columns, which go to the rewards.
        names (`list[str]`): rewards of this package, or dotted paths.
        output (`str`, *optional*): a JSONL file to write: each completion with its row and its rewards by name.
        overwrite (`bool`): replace `output` if it exists, once all is judged; until then the rows are in `output.part`.
        rows (`int`): how many completions to keep for the table.

    Raises:
        `InputError`: anything that is wrong with the file, the names or a reward; what is in `output.part` stays.
    """
    rewards = {name: load_reward(name) for name in dict.fromkeys(names)}
    labels = _labels(list(rewards))
    rewards = {labels[name]: reward for name, reward in rewards.items()}
    partial, target = _output_files(path, output, overwrite)
    scores = Scores([], {name: Tally() for name in rewards})
    try:
        _score(path, rewards, partial, rows, scores)
        if partial != target:
            os.replace(partial, target)
    except (InputError, OSError, KeyboardInterrupt) as error:
        kind = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError
        said = f"{error.filename or path}: {error.strerror}" if isinstance(error, OSError) else str(error) or "Stopped"
        kept = f"; {partial} holds the rows before" if partial and scores.samples else ""
        raise kind(f"{said.rstrip('.')}{kept}.") from error
    return scores


def _score(path: str, rewards: dict, output: str | None, rows: int, scores: Scores) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        bar = stack.enter_context(_progress_bar(path))
        written = None
        columns = {}  # every column seen so far, so that a chunk of rows without one is not a file without one
        for chunk in _chunks(_samples(file, path, bar)):
            columns |= dict.fromkeys(key for sample in chunk for key in sample.row)
            _check_chunk(chunk, scores, rewards if output else ())
            _judge(chunk, rewards, list(columns))
            if output is not None:
                written = written or stack.enter_context(_writable(output))
                _write(written, chunk)
            for sample in chunk:
                _count(sample, scores)
            scores.shown += chunk[: max(0, rows - len(scores.shown))]


def _labels(names: list[str]) -> dict[str, str]:
    """The last part of each dotted path; the whole path where two end alike."""
    short = [name.rpartition(".")[2] for name in names]
    return {name: part if short.count(part) == 1 else name for name, part in zip(names, short, strict=True)}


def _output_files(path: str, output: str | None, overwrite: bool) -> tuple[str | None, str | None]:
    """Where the rows are written, and the file that this becomes when all are; a device is written as it is."""
    if output is None:
        return None, None
    if not output:
        raise InputError("--output needs the name of a file.")
    target = os.path.realpath(output) if os.path.islink(output) else output
    partial = target if os.path.exists(target) and not os.path.isfile(target) else f"{target}.part"
    for name in filter(os.path.exists, (output, partial)):
        if path != "-" and os.path.exists(path) and os.path.samefile(path, name):
            raise InputError(f"--output {output} is the file that is read: give another name.")
        if not overwrite:
            raise InputError(f"{name} exists: give another --output, or add --overwrite to replace it.")
    return partial, target


@contextlib.contextmanager
def _opened(path: str) -> Iterator:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        yield file


def _writable(output: str):
    try:
        return open(output, "w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}.") from error


def _write(file, chunk: list[Sample]) -> None:
    try:
        file.writelines(json.dumps(_row(sample)) + "\n" for sample in chunk)
        file.flush()  # what is judged is not lost, however the run ends
    except OSError as error:
        with contextlib.suppress(OSError):
            file.close()  # which tries once more
        raise InputError(f"{file.name} cannot be written: {error.strerror}.") from error


def _progress_bar(path: str):
    """Bytes read, on standard error if that is a terminal; nothing where tqdm is not installed."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext()
    total = None if path == "-" else os.path.getsize(path)
    # A small file is done before the delay is over.
    return tqdm(total=total, unit="B", unit_scale=True, desc="scoring", leave=False, delay=1)


def _samples(file, path: str, bar) -> Iterator[Sample]:
    before = {}
    for number, row, size in read_rows(file, "standard input" if path == "-" else path):
        for column, has in (("prompt", "prompt" in row), ("completion_ids", row.get("completion_ids") is not None)):
            if before.setdefault(column, has) != has:
                raise InputError(f"Row {number} has {'a' if has else 'no'} `{column}`, unlike the rows before it.")
        yield from _samples_of(number, row)
        if bar is not None:
            bar.update(size)


def _samples_of(number: int, row: dict) -> list[Sample]:
    key = "completion" if "completion" in row else "completions"
    if key not in row:
        raise InputError(f"Row {number} has no `completion` and no `completions`.")
    if "completion" in row and "completions" in row:
        raise InputError(f"Row {number} has `completion` and `completions`: leave one out.")
    value, tokens = row[key], row.get("completion_ids")
    columns = {
        name: column for name, column in row.items() if name not in ("completion", "completions", "completion_ids")
    }
    if isinstance(value, str) or (is_messages(value) and (value or key == "completion")):
        if tokens is not None and not _is_token_ids(tokens):
            raise InputError(f"The `completion_ids` of row {number} are no list of whole numbers.")
        return [Sample(str(number), columns, value, tokens)]
    if not isinstance(value, list):
        raise InputError(f"The completion of row {number} is {_kind(value)}, not text or a list of messages.")
    if not value:
        raise InputError(f"Row {number} has an empty list of completions.")
    if tokens is None:
        tokens = [None] * len(value)
    elif not isinstance(tokens, list) or len(tokens) != len(value) or not all(map(_is_token_ids, tokens)):
        raise InputError(f"Row {number} needs one list of `completion_ids` for each of its {len(value)} completions.")
    for completion in value:
        if not isinstance(completion, str) and not is_messages(completion):
            raise InputError(f"A completion of row {number} is {_kind(completion)}, not text or a list of messages.")
    return [
        Sample(f"{number}.{place}", columns, completion, ids)
        for place, (completion, ids) in enumerate(zip(value, tokens, strict=True), start=1)
    ]


def _is_token_ids(value) -> bool:
    return isinstance(value, list) and all(type(token) is int for token in value)


def _kind(value) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def _chunks(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Lists of about `CHUNK` samples; consecutive rows of one prompt stay together, for group-relative rewards."""
    chunk: list[Sample] = []
    for sample in samples:
        if len(chunk) >= CHUNK and _prompt_key(sample) != _prompt_key(chunk[-1]):
            yield chunk
            chunk = []
        chunk.append(sample)
    if chunk:
        yield chunk


def _prompt_key(sample: Sample) -> int:
    # Without prompts each row is a group of its own, of all the completions on its line.
    prompt = sample.row.get("prompt", f"row {sample.label.partition('.')[0]}")
    return hash(json.dumps(prompt, sort_keys=True))  # a message is the same, whatever the order of its keys


def _check_chunk(chunk: list[Sample], scores: Scores, names: Iterable[str]) -> None:
    for sample in chunk:
        if _prompt_key(sample) in scores.groups:
            raise InputError(
                f"Row {sample.label} has the prompt of rows that stand far before it: sort the file by prompt, for "
                "some rewards compare all completions of one prompt."
            )
        if taken := [name for name in names if name in sample.row or name in ("completion", "completion_ids")]:
            raise InputError(
                f"Row {sample.label} has a column `{taken[0]}` of its own, and the reward of that name would replace "
                "it in the output: rename the column."
            )


def _judge(chunk: list[Sample], rewards: dict, columns: list[str]) -> None:
    for name, reward in rewards.items():
        arguments = _arguments(chunk, columns)
        if missing := missing_columns(reward, arguments):
            needed = " and ".join(f"`{column}`" for column in missing)
            raise InputError(f"{name} needs the column {needed}; the rows have: {', '.join(columns) or 'none'}.")
        try:
            values = call_reward(reward, arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # anybody's reward may raise anything, and exit
            raise InputError(f"{name}, {_culprit(chunk, reward, columns)}: {describe(error)}") from error
        for sample, value in zip(chunk, values, strict=True):
            sample.rewards[name] = value


def _arguments(chunk: list[Sample], columns: list[str]) -> dict:
    arguments = {"completions": [sample.completion for sample in chunk]}
    if "prompt" in columns:
        arguments["prompts"] = [sample.row["prompt"] for sample in chunk]
    if all(sample.tokens is not None for sample in chunk):
        arguments["completion_ids"] = [sample.tokens for sample in chunk]
    data = [key for key in columns if key != "prompt" and key not in FROM_TRL]
    return arguments | {key: [sample.row.get(key) for sample in chunk] for key in data}


def _culprit(chunk: list[Sample], reward, columns: list[str]) -> str:
    """Which row makes the reward raise: the first that does so alone, else the whole chunk."""
    for sample in chunk:
        try:
            call_reward(reward, _arguments([sample], columns))
        except KeyboardInterrupt:
            raise
        except BaseException:
            return f"row {sample.label}"
    return f"rows {chunk[0].label} to {chunk[-1].label} together"


def _row(sample: Sample) -> dict:
    tokens = {} if sample.tokens is None else {"completion_ids": sample.tokens}
    return {**sample.row, "completion": sample.completion, **tokens, **sample.rewards}


def _count(sample: Sample, scores: Scores) -> None:
    scores.samples += 1
    for name, value in sample.rewards.items():
        scores.tallies[name].add(value)
    group = scores.groups.setdefault(_prompt_key(sample), [0, dict(sample.rewards)])
    group[0] += 1
    for name, value in sample.rewards.items():
        if group[1][name] != value:
            group[1][name] = "differs"


def table(scores: Scores) -> list[str]:
    """The lines to print: the first samples with their rewards, then each reward's figures."""
    names = list(scores.tallies)
    rows = [
        [sample.label, printable(_text(sample.completion), 60), *(_shown(sample.rewards[name]) for name in names)]
        for sample in scores.shown
    ]
    lines = _aligned(["row", "completion", *names], rows, numeric_from=2) if rows else []
    if scores.samples > len(rows) > 0:
        lines.append(f"... and {scores.samples - len(rows)} more")
    several = [equal for size, equal in scores.groups.values() if size > 1]
    header = ["reward", "mean", "min", "max", "None", "groups without signal"]
    figures = []
    for name, tally in scores.tallies.items():
        spread = (tally.total / tally.count, tally.least, tally.most) if tally.count else (None, None, None)
        silent = sum(equal[name] != "differs" for equal in several)
        signal = f"{silent} of {len(several)}" if several else "-"
        figures.append([name, *(_shown(value) for value in spread), str(tally.none), signal])
    lines += [""] * bool(lines) + _aligned(header, figures, numeric_from=1)
    if several:
        silent = sum("differs" not in equal.values() for equal in several)
        lines += [
            "",
            f"{silent} of {len(several)} prompts have no signal in any reward: GRPO learns nothing from them.",
        ]
    else:
        lines += ["", "Every prompt has one completion: there are no groups to compare."]
    return lines


def _text(completion: str | list) -> str:
    if isinstance(completion, str):
        return completion
    return "" if not completion else str(completion[-1].get("content"))


def _shown(value: float | None) -> str:
    return "None" if value is None else f"{value:.3f}"


def _aligned(header: list[str], rows: list[list[str]], numeric_from: int) -> list[str]:
    widths = [max(width_of(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(
            padded(cell, width) if i < numeric_from else " " * (width - width_of(cell)) + cell
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]
