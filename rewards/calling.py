"""A reward by its name, called as TRL calls it; rows of a JSONL file; text that any terminal can show.

Only the command line uses this: `import rewards` does not load it.
"""

import asyncio
import difflib
import functools
import importlib
import inspect
import json
import math
import numbers
import sys
import threading
import types
import unicodedata
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import rewards

# What TRL gives to every reward beside the data set's columns.
FROM_TRL = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")


class InputError(Exception):
    """Something the user gave is wrong; the message is one sentence that names it."""


class WrongReturn(Exception):
    """A reward returned something else than one number or None for each completion."""


def ready_made() -> list[str]:
    """The names of `rewards` that can be given to a trainer as they are."""
    return [name for name in rewards.__all__ if name.endswith("_reward") and not name.startswith("get_")]


def factories() -> list[str]:
    return [name for name in rewards.__all__ if name.startswith("get_") and name.endswith("_reward")]


def load_reward(name: str):
    """The reward of that name: one of ours, or a dotted path to anybody's; the working folder is importable."""
    module_name, _, attribute = name.rpartition(".")
    if not module_name and name not in rewards.__all__:
        near = difflib.get_close_matches(name, ready_made(), n=1)
        hint = (
            f"did you mean {near[0]}?" if near else "give one of `list`, or a dotted path such as mymodule.my_reward."
        )
        raise InputError(f"There is no reward {name!r}: {hint}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    argv, sys.argv = sys.argv, sys.argv[:1]  # a module that parses the command line when imported reads none of ours
    try:
        module = importlib.import_module(module_name) if module_name else rewards
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's module may raise anything, and exit
        raise InputError(f"The module {module_name!r} cannot be imported: {describe(error)}") from error
    finally:
        sys.argv = argv
    try:
        reward = getattr(module, attribute)
    except AttributeError:
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"The module {module_name!r} has no {attribute!r}.{hint}") from None
    if module is rewards and attribute in factories():
        raise InputError(
            f"{attribute} makes rewards and is none: in a module of your own write `my_reward = {attribute}(...)`, "
            "and give mymodule.my_reward."
        )
    if inspect.isclass(reward):
        raise InputError(f"{name} is a class: give the name of an instance of it.")
    if not callable(reward) or (module is rewards and attribute not in ready_made()):
        raise InputError(f"{name} is no reward function.")
    return reward


def missing_columns(reward, columns: Iterable[str]) -> list[str]:
    """The names that the reward's signature asks for and that neither TRL nor `columns` gives."""
    given = {*columns, *FROM_TRL} - ({"prompts", "completion_ids"} - set(columns))
    return [
        name
        for name, parameter in _parameters(reward).items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in given
    ]


def takes_any_keyword(reward) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(reward).values())


def _parameters(reward) -> dict:
    try:
        return dict(inspect.signature(reward).parameters)
    except (TypeError, ValueError):  # some built-in callables have no signature
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def call_reward(reward, columns: dict) -> list[float | None]:
    """Call as TRL does, all by keyword, and await an async reward; raises `WrongReturn`, and what the reward raises."""
    output = reward(
        **columns,
        trainer_state=types.SimpleNamespace(global_step=0, max_steps=1, epoch=0.0, num_train_epochs=1),
        log_extra=lambda *_: None,
        log_metric=lambda *_: None,
    )
    if inspect.isawaitable(output):
        output = asyncio.run_coroutine_threadsafe(_awaited(output), _event_loop()).result()
    output = output.tolist() if hasattr(output, "tolist") else output  # an array or a tensor
    if not isinstance(output, list | tuple):
        raise WrongReturn(f"returned {type(output).__name__}, not a list")
    if len(output) != len(columns["completions"]):
        raise WrongReturn(f"returned {len(output)} rewards for {len(columns['completions'])} completions")
    return [_number(value) for value in output]


def _number(value) -> float | None:
    value = value.item() if hasattr(value, "item") else value
    if value is None:
        return None
    if not isinstance(value, numbers.Real):
        raise WrongReturn(f"returned {type(value).__name__}, not a number or None")
    if not math.isfinite(value):
        raise WrongReturn(f"returned {value}, not a finite number or None")
    return float(value)


async def _awaited(awaitable):
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:  # they would end the loop, and the caller would wait for ever
        raise RuntimeError(describe(error)) from error


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One loop in a thread, for every async reward and every call, as TRL keeps it: clients are bound to their loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def read_rows(file: BinaryIO, name: str) -> Iterator[tuple[int, dict, int]]:
    """Each line's number, object and size in bytes; blank lines are passed over."""
    empty = True
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            row = json.loads(text, parse_float=_finite, parse_constant=_finite) if text else None
        except UnicodeDecodeError as error:
            raise InputError(f"Line {number} of {name} is not UTF-8 text.") from error
        except (ValueError, RecursionError) as error:  # also a number of more than 4,300 digits
            raise InputError(f"Line {number} of {name} is not JSON: {describe(error)}") from error
        if text:
            if not isinstance(row, dict):
                raise InputError(f"Line {number} of {name} is not a JSON object: each line must be one row.")
            empty = False
            yield number, row, len(line)
    if empty:
        raise InputError(f"{name} is empty: it must hold one JSON object on each line.")


def _finite(number: str) -> float:
    """NaN and numbers beyond a float, which no JSON may hold when it is written again, are refused."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no finite number")
    return value


def is_messages(value) -> bool:
    return isinstance(value, list) and all(isinstance(message, dict) for message in value)


def describe(error: BaseException) -> str:
    """An exception in one short line, with its kind where the words alone may not say it."""
    message = message_of(error)
    if isinstance(error, WrongReturn) or (type(error) in (ValueError, json.JSONDecodeError) and message):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def message_of(error: BaseException) -> str:
    try:
        return printable(" ".join(str(error).split()), 300)
    except Exception:  # anybody's exception may fail to say what it is
        return ""


def printable(text: object, width: int = 60) -> str:
    """One line of at most `width` columns: what is invisible or unprintable is escaped, the middle is cut out."""
    text = text if isinstance(text, str) else str(text)
    if len(text) > 8 * width:
        text = text[: 4 * width] + "…" + text[-4 * width :]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    if width_of(text) <= width:
        return text
    tail = text[-(width // 3) :]
    while width_of(tail) > width // 3:
        tail = tail[1:]
    head = text[:width]
    while width_of(head) > width - 1 - width_of(tail):
        head = head[:-1]
    return f"{head}…{tail}"


def width_of(text: str) -> int:
    """How wide the text is on a terminal: Chinese characters take two columns, accents none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))
