"""Score completions by a task's rewards, and write them down: one JSONL row per prompt, as recipes/samples.py reads."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from recipes.errors import InputError, listed
from recipes.generation import Completion
from recipes.samples import totals
from recipes.tasks import Task
from rewards import calling
from rewards.completions import completion_text

ROWS_AT_ONCE = 64  # of completions made elsewhere
SCORED_FILE = "samples/scored_file.json"  # of the run's folder: which file its samples.jsonl scores


def scored(rows: list[dict], groups: list[list[Completion]], task_name: str, rewards: list, weights) -> list[dict]:
    """`rows` (`question`, `answer`, `prompt` and the task's own columns) with their completions, rewards and total."""
    repeated = [row for row, group in zip(rows, groups, strict=True) for _ in group]
    completions = [[{"role": "assistant", "content": completion.text}] for group in groups for completion in group]
    own = [name for name in rows[0] if name not in ("question", "prompt", "answer", "completions")] if rows else []
    columns = {name: [row[name] for row in repeated] for name in ("question", "answer", *own)}
    prompts = [row["prompt"] for row in repeated]
    values = {reward.__name__: iter(reward(prompts=prompts, completions=completions, **columns)) for reward in rewards}
    written = []
    for row, group in zip(rows, groups, strict=True):
        judged = {name: list(itertools.islice(rest, len(group))) for name, rest in values.items()}
        written.append(
            {
                "task": task_name,
                **{name: row[name] for name in ("question", "prompt", "answer", *own)},
                "completions": [completion.text for completion in group],
                "completion_tokens": [completion.length for completion in group],
                "truncated": [completion.truncated for completion in group],
                "rewards": judged,
                "total": totals([*judged.values()], weights),
            }
        )
    return written


@contextlib.contextmanager
def appending(file: Path):
    """`file`, opened for `write`; half a character, which is no Unicode text, becomes a question mark."""
    with file.open("a", encoding="utf-8", errors="replace") as out:
        try:
            yield out
        except BaseException:
            if not out.tell():  # settings that were refused at the first batch have not begun a run
                file.unlink()
            raise


def write(file, rows: list[dict]) -> None:
    """Append rows; what is written survives a kill of the process."""
    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.flush()


def whole_lines(file: Path) -> int:
    """How many rows `file` holds; a last line that a crash cut off is dropped from it, and that is said."""
    if not file.exists():
        return 0
    lines, end = 0, 0
    with file.open("rb+") as content:
        for line in content:
            if line.endswith(b"\n"):
                lines, end = lines + 1, end + len(line)
        if end < os.path.getsize(file):
            print(f"The last line of {file} was cut off: it is dropped and made anew.")
            content.truncate(end)
    return lines


def score_file(given: Path, file: Path, job) -> None:
    """Score completions made elsewhere into `file`.

    Its rows have `question` or `prompt`, `answer`, what else the task's rewards read (`columns`), and `completions`.
    Goes on where `file` ends. Raises `InputError` where `given` is not what it was then, unless `--overwrite` is given.
    """
    if not given.is_file():
        raise InputError(f"There is no file {given}: give --completions a JSONL file.")
    total = sum(1 for _ in _given_rows(given, job.task))  # to the end first: a mistake in the last line costs no hour
    with given.open("rb") as content:
        scores = {"sha256": hashlib.file_digest(content, "sha256").hexdigest()}
    done = whole_lines(file)
    if done and job.run.load(SCORED_FILE) != scores:
        if not job.args.overwrite:
            raise InputError(f"{given} has changed since {file} was begun: add --overwrite to score all of it anew.")
        file.unlink()
        done = 0
    job.run.save(SCORED_FILE, scores)
    rows = itertools.islice(_given_rows(given, job.task), done, None)
    with appending(file) as out, tqdm(total=total, initial=done, desc="scoring", disable=None) as bar:
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            groups = [row["completions"] for row in some]
            write(out, scored(some, groups, job.args.task, job.checked.rewards, job.config.reward_weights))
            bar.update(len(some))


def _given_rows(file: Path, task: Task) -> Iterator[dict]:
    try:
        with file.open("rb") as lines:
            for number, row, _ in calling.read_rows(lines, str(file)):
                yield _given_row(row, task, f"Line {number} of {file}")
    except calling.InputError as error:
        raise InputError(str(error)) from error


def _given_row(row: dict, task: Task, where: str) -> dict:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if prompt is not None and not (isinstance(prompt, list) and all(map(_is_message, prompt))):
        raise InputError(f"{where}: `prompt` must be a text or a list of chat messages.")
    asked = [message["content"] for message in prompt or [] if message["role"] == "user"]
    question = row.get("question") or (asked[-1] if asked else None)
    read = ("answer", *task.columns)
    missing = [name for name in (*read, "completions") if row.get(name) is None] + ["question"] * (not question)
    if missing:
        needed = f"a row needs `question` (or `prompt`), {listed((*read, 'completions'))}"
        raise InputError(f"{where} has no `{missing[0]}`: {needed}.")
    if not isinstance(question, str) or not all(isinstance(row[name], str | int | float) for name in read):
        raise InputError(f"{where}: {listed(('question', *read))} must be texts.")
    texts = row["completions"]
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) or calling.is_messages(t) for t in texts):
        raise InputError(f"{where}: `completions` must be a list of texts, or of chat messages each.")
    columns = []
    for name, kind, values_are in (("completion_tokens", int, "whole numbers"), ("truncated", bool, "true or false")):
        values = [None] * len(texts) if row.get(name) is None else row[name]
        if not isinstance(values, list) or len(values) != len(texts) or {type(v) for v in values} - {kind, type(None)}:
            raise InputError(f"{where}: `{name}` must be a list of {values_are} or null, one for each completion.")
        columns.append(values)
    texts = [_unicode(completion_text(text)) for text in texts]
    question = _unicode(question)
    prompt = [{**message, "content": _unicode(message["content"])} for message in prompt or task.prompt(question)]
    return {
        "question": question,
        **{name: _unicode(str(row[name])) for name in read},
        "prompt": prompt,
        "completions": [Completion(*columns) for columns in zip(texts, *columns, strict=True)],
    }


def _unicode(text: str) -> str:
    """Half a character (JSON's "\\ud800"), which no file, tokenizer or table takes, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _is_message(value) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("role", "content"))
