"""The files of a run's folder, read tolerantly: what cannot be read is left out, and a note says so."""

import json
import math
from itertools import islice
from pathlib import Path

import yaml

LARGEST = 1e12  # no figure of training is beyond: a value that is would only flatten its curve


def read_json(path: Path, notes: list[str]) -> dict:
    """The object in a JSON file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        notes.append(f"{path.name} cannot be read and is left out.")
        return {}
    return content


def read_settings(path: Path, notes: list[str]) -> dict:
    """The mapping in a YAML file; empty where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "{}"
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the same, ten times as fast
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        content = ""
    if content is not None and not isinstance(content, dict):
        notes.append(f"{path.name} cannot be read and is left out.")
        content = None
    return {str(key): value for key, value in (content or {}).items()}


def read_rows(path: Path, notes: list[str], at_most: int | None = None) -> list[dict]:
    """The objects in a JSONL file, the first `at_most` lines of it; empty where there is none."""
    rows, broken = [], 0
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in islice(lines, at_most):
                try:
                    row = json.loads(line) if line.strip() else None
                except (ValueError, RecursionError):
                    row = ()
                if isinstance(row, dict):
                    rows.append(row)
                broken += row is not None and not isinstance(row, dict)
    except FileNotFoundError:
        pass
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}.")
    if broken:
        lines = "One line" if broken == 1 else f"{broken:,} lines"
        notes.append(f"{lines} of {path.name} cannot be read and {'is' if broken == 1 else 'are'} left out.")
    return rows


def read_metrics(path: Path, notes: list[str]) -> list[dict]:
    """The logged steps in order, every value a finite float or `None`; of a step logged twice the later one."""
    steps = {}
    for position, row in enumerate(read_rows(path, notes), start=1):
        values = {key: number(value) for key, value in row.items()}
        step = values.get("step")
        steps[position if step is None else step] = values | {"step": position if step is None else step}
    return [steps[step] for step in sorted(steps)]


def number(value) -> float | None:
    """`value` as a float; `None` for what is no number, not finite or absurdly large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LARGEST and math.isfinite(value) else None
