"""Question-answer rows from the hub, a local folder or one JSONL file, all read through `datasets`."""

import json
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, DatasetDict, concatenate_datasets, get_dataset_config_names, load_dataset

from recipes import hub
from recipes.errors import InputError, listed, one_line, path_of
from recipes.pairs import check_preferences

COLUMNS = ["question", "answer"]
HELD_OUT = 0.1  # the share held out where the data set has no test split


def load_question_answer(dataset_name: str, dataset_config: str | None) -> tuple[Dataset, Dataset]:
    """The train and the held-out rows of `load_rows`, with the columns `question` and `answer`."""
    train, held_out = load_rows(dataset_name, dataset_config)
    return train.select_columns(COLUMNS), held_out.select_columns(COLUMNS)


def load_rows(
    dataset_name: str,
    dataset_config: str | None,
    layouts: Sequence[Sequence[str]] = (COLUMNS,),
    main_config: str = "main",
    also_train: Sequence[str] = (),
) -> tuple[Dataset, Dataset]:
    """The train and the held-out rows of `dataset_name`: a hub id, a folder, or a JSONL file.

    Without a `test` (or `validation`) split a tenth of the rows is held out, whatever the run's seed is: what one run
    was trained on must not be what another is judged by.

    Args:
        layouts (`Sequence[Sequence[str]]`): lists of columns; every split must have all the columns of one of them.
        main_config (`str`): which configuration is meant where a data set has several and none is named.
        also_train (`Sequence[str]`): splits that are trained on, too, where they are not held out.

    Raises `InputError` for whatever is missing, empty, unreadable or without the columns.
    """
    columns = ", or ".join(map(listed, layouts))
    splits = _read(dataset_name, dataset_config, columns=columns, main_config=main_config)
    train = splits.get("train") or next(iter(splits.values()))
    held_out = splits.get("test") or splits.get("validation")
    more = [splits[name] for name in also_train if name in splits and splits[name] not in (train, held_out)]
    if held_out is train:
        held_out = None
    for split in filter(None, (train, held_out, *more)):
        missing = min(([name for name in layout if name not in split.column_names] for layout in layouts), key=len)
        if missing:
            raise InputError(
                f"The data set {dataset_name} has no column {' and no column '.join(missing)} "
                f"(it has {', '.join(split.column_names)}); rename its columns to {columns}."
            )
    if more:
        train = concatenate_datasets([train, *more])
    if len(train) < 2:
        raise InputError(f"The data set {dataset_name} has {len(train)} rows to train on; it needs at least 2.")
    if held_out is None:
        parts = train.train_test_split(test_size=max(1, round(len(train) * HELD_OUT)), seed=0)
        train, held_out = parts["train"], parts["test"]
    return train, held_out


def load_preferences(name: str) -> Dataset:
    """The train rows of a preference set, `prompt` (or none), `chosen` and `rejected`, from where task rows come."""
    splits = _read(name, None, "`prompt`, `chosen` and `rejected`", "--preferences")
    rows = splits.get("train") or next(iter(splits.values()))
    check_preferences(rows.column_names, name)
    return rows.select_columns([column for column in ("prompt", "chosen", "rejected") if column in rows.column_names])


def _read(
    name: str, config: str | None, columns: str, flag: str = "--dataset_name", main_config: str = "main"
) -> DatasetDict:
    path = path_of(name)
    if path.is_file() and ".json" not in path.suffixes and ".jsonl" not in path.suffixes:
        raise InputError(f"{path} is no JSONL file: give {flag} a folder, a .jsonl file or a hub id.")
    for file in [path] if path.suffix == ".jsonl" and path.is_file() else sorted(path.glob("*.jsonl")):
        _check_jsonl(file, columns)
    if path.is_file() and config:
        raise InputError(f"{path} is one file and has no configurations: drop --dataset_config {config}.")
    try:
        if path.is_file():
            return load_dataset("json", data_files={"train": str(path)})
        if path.is_dir():
            return load_dataset(str(path), config or _main_configuration(str(path), main_config))
    except Exception as error:  # `datasets` raises many kinds; all mean that the files cannot be read
        raise InputError(f"The data set {name} cannot be read: {one_line(error).rstrip('.')}.") from error
    if hub.is_local_path(name):
        raise InputError(f"The data set {name} does not exist: give {flag} a folder, a JSONL file or a hub id.")
    hub.go_offline_if_unreachable()
    try:
        return load_dataset(name, config or _main_configuration(name, main_config))
    except Exception as error:
        raise InputError(
            f"The data set {name} cannot be loaded from the hub ({one_line(error).rstrip('.')}). "
            f"Check the name and the connection, or give a local copy: {flag} PATH (folder or JSONL file)."
        ) from error


def _main_configuration(name: str, main: str) -> str | None:
    """`main` where a data set has several configurations, one of that name."""
    return main if main in get_dataset_config_names(name) else None


def _check_jsonl(file: Path, columns: str) -> None:
    """`datasets` names neither the file nor the line of a syntax error."""
    rows = 0
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{file}, line {number} is not JSON: {error.msg}.") from error
            if not isinstance(row, dict):
                raise InputError(f"{file}, line {number} is not a JSON object with {columns}.")
            rows += 1
    if not rows:
        raise InputError(f"{file} is empty: give one JSON object with {columns} on each line.")
