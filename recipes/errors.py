"""A user's mistake is one sentence and exit code 2, never a traceback."""

import contextlib
import difflib
import errno
import functools
import os
import signal
import sys
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from recipes.processes import be_silent_unless_first, is_first
from rewards.sandbox import SandboxError


class InputError(Exception):
    """Something the user gave is wrong; the message is one sentence that names it and the fix."""


class Preempted(BaseException):
    """SIGTERM: the machine is taken back, by Slurm for one. Not an `Exception`: no reward's fault, and no library's."""


OUT_OF_MEMORY = """\
The GPU ran out of memory. Lower these flags, in this order:
  1. --per_device_train_batch_size  (halve it and double --gradient_accumulation_steps: slower, same result)
  2. --max_completion_length        (shorter thoughts)
  3. --generation_batch_size        (fewer completions at a time; a multiple of the batch size)
  For sampling and evaluation: --per_device_eval_batch_size
The first goes on where this run stopped; the others make another run: add --overwrite.
Or take a smaller model with --model_name_or_path."""
NO_SPACE = "No space is left on the disk: free some, and run the same command to go on. What was saved is kept."
STOPPED = "Stopped. What was saved is kept: run the same command to go on."
FIRST_SPEAKS = 5  # seconds that another process waits before it says itself what is wrong
LONGEST = 2000  # characters of a message: what it quotes may come from a file of any size


@contextlib.contextmanager
def refused_settings(who: str = "The trainer"):
    """Around a library's construction: what it refuses is a user's mistake, said in the library's words."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # libraries raise many kinds
        if is_out_of_memory(error):
            raise
        raise InputError(f"{who} refuses these settings: {type(error).__name__}: {one_line(error)}") from error


def refuse(message: str) -> None:
    """An `ArgumentParser.error`: raises `InputError`."""
    raise InputError(f"{message[:1].upper()}{message[1:]}. See --help.")


def one_line(message: object) -> str:
    """A message without its line breaks; an exception without one by its name."""
    return " ".join(str(message).split()) or type(message).__name__


def printable(text: str) -> str:
    """`text` without control characters: a terminal obeys them, and a model or a stranger wrote this."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """ " Did you mean ...?" with the nearest known name; empty where none is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f" Did you mean {near[0]}?" if near else ""


def listed(names: Iterable[str]) -> str:
    """Column names in a sentence: `a`, `b` and `c`."""
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def path_of(name: str | Path) -> Path:
    """The path called `name`, `~` written out; raises `InputError` for what no file system can hold."""
    try:
        path = Path(name).expanduser()
        path.exists()
        return path
    except (RuntimeError, OSError, ValueError) as error:  # no such user; too long; a null character
        reason = one_line(getattr(error, "strerror", None) or error).rstrip(".")
        raise InputError(f"{name!s:.60} cannot be a path: {reason}.") from error


def near_path(path: str | Path) -> str:
    """ " Did you mean ...?" with what lies beside a path that does not exist: a file, or a folder that holds something.

    First one that begins alike: without a GPU runs/grpo-gsm8k is called runs/grpo-word_problems.
    """
    path = path_of(path)
    begins, dash, _ = path.name.partition("-")
    beside = [one for one in path.parent.glob("*") if one.name != path.name]
    there = {one.name: str(one) for one in beside if one.is_file() or any(one.glob("[!_]*"))}
    alike = [name for name in there if dash and name.startswith(f"{begins}-")]
    near = difflib.get_close_matches(path.name, alike, n=1, cutoff=0) or difflib.get_close_matches(
        path.name, there, n=1
    )
    return f" Did you mean {there[near[0]]}?" if near else ""


def is_out_of_memory(error: Exception) -> bool:
    # By name and words, so that a script can be decorated without importing torch first.
    words = str(error)
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and ("out of memory" in words or "ALLOC_FAILED" in words))


def is_disk_full(error: BaseException) -> bool:
    """Whether it is about a full disk or a full quota, whichever library has met it."""
    texts = ("No space left", "Disk quota exceeded", "unexpected pos")  # the last is what torch.save says
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in texts)
    before = error.__cause__ or error.__context__
    return full or (before is not None and is_disk_full(before))


def exit_kindly(main):
    """Decorate a script's `main`: input errors exit with 2, Ctrl-C with 130, SIGTERM to a run with 0.

    Out of memory and a full disk exit with 1 and advice.
    A sandbox that is missing here (`SandboxError`) is said in one sentence, too, and exits with 2.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        be_silent_unless_first()
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            try:
                return main(*args, **kwargs)
            finally:
                if signal.getsignal(signal.SIGTERM) is not on_sigterm:  # a run has set its own
                    signal.signal(signal.SIGTERM, on_sigterm)
        except (InputError, SandboxError) as error:
            message = printable(one_line(error))
            cut = " ..." if len(message) > LONGEST else ""
            if not is_first():
                time.sleep(FIRST_SPEAKS)  # and with its end the launcher ends this one
            print(f"error: {message[:LONGEST]}{cut}", file=sys.stderr)
            sys.exit(2)
        except BrokenPipeError:  # what reads the output, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except KeyboardInterrupt:
            print(f"\n{STOPPED}", file=sys.stderr)
            sys.exit(130)
        except Preempted:
            print(f"\n{STOPPED}", file=sys.stderr)
            sys.exit(0)
        except Exception as error:
            advice = OUT_OF_MEMORY if is_out_of_memory(error) else NO_SPACE if is_disk_full(error) else None
            if not advice:
                raise
            print(f"error: {advice}", file=sys.stderr)
            sys.exit(1)

    return wrapped
