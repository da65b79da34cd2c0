"""Run code against its tests in a sandbox, within bounds of time, memory and output, and say what came of it."""

import contextlib
import marshal
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rewards.code_tests import Assertions, Calls, Programs, Tests
from rewards.in_sandbox import STARTED, Channel, decode, encode
from rewards.sandbox import Sandbox, SandboxError

START_SECONDS = 30  # for a sandbox to come to life, on a busy machine
LONGEST_OUTPUT = 16 * 2**20  # bytes that a program may print
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class Bounds(NamedTuple):
    """What one completion may take."""

    seconds: float  # by the clock, over all its tests
    memory_mb: int  # of each process


class Verdict(NamedTuple):
    """How many tests passed, of those that were run, and in a few words why not all did."""

    passed: int | None  # None: the tests themselves cannot be run
    said: str = ""


class NotStarted(Exception):
    """The sandbox has not come to life: the machine, not the code, is at fault."""


def check(code: str, tests: Tests, sandbox: Sandbox, bounds: Bounds, stop_early: bool, tolerance: float | None):
    """The `Verdict` on `code` (`str`); with `stop_early` no test is run after one that failed."""
    try:
        source = code.encode()
    except UnicodeEncodeError:
        return Verdict(0, "no Unicode text")
    run_tests = _check_program if isinstance(tests, Programs) else _check_functions
    try:
        return run_tests(source, tests, sandbox, bounds, stop_early, tolerance)
    except SandboxError:
        raise
    except (NotStarted, OSError, RuntimeError) as error:  # no more files, threads or processes are to be had
        return Verdict(None, f"the sandbox did not start ({error})")


def inside(role: str, bounds: Bounds, *more: object) -> list[str]:
    """The command that runs rewards/in_sandbox.py: Python without packages and without the user's environment.

    The file itself is what its stdin must begin with: `load()`.
    """
    limits = (bounds.memory_mb * 2**20, math.ceil(bounds.seconds) + 1)
    return ["python", "-P", "-s", "-S", "-X", "utf8", "-c", _START, role, *map(str, (*limits, *more))]


@cache
def load() -> bytes:
    """rewards/in_sandbox.py as source, and compiled for this Python: to compile it takes as long as Python's start."""
    source = Path(__file__).with_name("in_sandbox.py").read_bytes()
    compiled = marshal.dumps(compile(source, "in_sandbox.py", "exec", dont_inherit=True, optimize=2))
    return b"".join(len(part).to_bytes(8) + part for part in (_THIS.encode(), compiled, source))


_THIS = f"{sys.implementation.cache_tag} {sys.hexversion}"  # what can read the compiled form
_START = """
import marshal, os, sys
def take(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        data += part or sys.exit("nothing to run")
    return data
made_by, compiled, source = (take(int.from_bytes(take(8))) for _ in range(3))
this = f"{sys.implementation.cache_tag} {sys.hexversion}"
exec(marshal.loads(compiled) if made_by == this.encode() else source)
"""


def run(command: list[str], stdin: bytes, sandbox: Sandbox, seconds: float) -> tuple[bytes, int | None, float]:
    """What `command`, made by `inside`, prints when it is given `stdin`, its exit code, and the seconds that it took.

    The code is None where the command was ended for its time or for printing too much. Raises `NotStarted`.
    """
    # A file, not a pipe, which would have to be filled while stdout is emptied; without a name, and only to be read.
    writing, name = tempfile.mkstemp()
    with open(writing, "wb") as file, open(name, "rb") as given:
        os.unlink(name)
        file.write(load() + stdin)
        file.flush()
        with sandbox.start(command, given) as process:
            _await_start(process)
            begin = time.monotonic()
            with _ended_after(seconds, process) as late:
                output = process.stdout.read(LONGEST_OUTPUT + 1)
                code = process.wait() if len(output) <= LONGEST_OUTPUT else None
            return output, None if late.is_set() else code, time.monotonic() - begin


def _await_start(process: subprocess.Popen) -> None:
    """Wait for the byte that says that the limits are set: from here on the code's time runs."""
    with _ended_after(START_SECONDS, process):
        if process.stdout.read(1) != STARTED:
            raise NotStarted("it gave no sign of life")


@contextlib.contextmanager
def _ended_after(seconds: float, *processes: subprocess.Popen) -> Iterator[threading.Event]:
    """Kill the processes when the time is over; the event tells whether it is."""
    late = threading.Event()

    def end() -> None:
        late.set()
        for process in processes:
            process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def _check_program(source: bytes, tests: Programs, sandbox, bounds, stop_early, tolerance) -> Verdict:
    passed, said, left = 0, "", bounds.seconds
    for number, (given, expected) in enumerate(zip(tests.inputs, tests.outputs, strict=True), start=1):
        command, stdin = inside("program", bounds, len(source)), source + given.encode("utf-8", "replace")
        output, code, took = run(command, stdin, sandbox, left)
        left -= took
        if code == 0 and same_output(output.decode("utf-8", "replace"), expected, tolerance):
            passed += 1
        else:
            why = "too slow, or too much output" if code is None else f"exit code {code}" if code else "wrong output"
            said = said or f"test {number}: {why}"
        if left <= 0 or (said and stop_early):
            break
    return Verdict(passed, said)


def _check_functions(source: bytes, tests: Calls | Assertions, sandbox, bounds, stop_early, tolerance) -> Verdict:
    job = {"all": stop_early, "tolerance": tolerance, "function": None}
    if isinstance(tests, Calls):
        job |= {"function": tests.function, "calls": tests.calls, "names": [tests.function, "Solution"]}
    else:
        job |= {"pieces": tests.pieces, "names": tests.names, "needs_all": not tests.has_star}
    passed = []
    with (
        sandbox.start(inside("functions", bounds), subprocess.PIPE) as tested,
        sandbox.start(inside("tests", bounds), subprocess.PIPE) as testing,
    ):
        for process in (tested, testing):
            with contextlib.suppress(BrokenPipeError):  # it has not started
                process.stdin.write(load())
                process.stdin.flush()
        for process in (tested, testing):
            _await_start(process)
        code, judge = (Channel(process.stdout, process.stdin) for process in (tested, testing))
        with _ended_after(bounds.seconds, tested, testing) as late:
            try:
                judge.send(encode(job))
                with contextlib.suppress(OSError):
                    code.send(source)
                usable, said = decode(_verdict(code, judge, passed))
            except (EOFError, OSError):
                usable, said = True, "too slow" if late.is_set() else "its tests have ended"
            except (ValueError, TypeError, RecursionError):  # the tests are hostile themselves
                usable, said = False, "the tests gave no verdict"
    if not usable:
        return Verdict(None, str(said))
    if late.is_set() and len(passed) < len(tests):  # the code was ended first, and the tests have said so
        said = "too slow"
    failed = passed.index(False) + 1 if False in passed else len(passed) + 1
    return Verdict(sum(passed[: len(tests)]), f"test {failed}: {said}" if said else "")


def _verdict(code: Channel, judge: Channel, passed: list[bool]) -> bytes:
    """Carry what the tests ask to the code and its replies back, and note what passed, until the tests are done."""
    while True:
        message = judge.receive()
        kind, content = message[:1], message[1:]
        if kind == b"!":
            return content
        if kind == b"=":
            passed.append(content == b"1")
            continue
        try:
            code.send(content)
            reply = code.receive()
        except (EOFError, OSError):
            reply = b""  # the code is gone
        judge.send(reply)


def same_output(output: str, expected: str, tolerance: float | None = None) -> bool:
    """Whether a program has printed what it should: all lines, but for white space at their ends and at the end.

    Args:
        tolerance (`float`, *optional*): numbers may differ by this much, absolutely or of the expected one; the white
            space between words does not count then.

    Example:
    >>> from rewards.code_execution import same_output
    >>> same_output("1 \\n2\\n\\n", "1\\n2"), same_output("1", "1\\n2"), same_output("0.3333", "0.33333", 1e-3)
    (True, False, True)
    """
    printed, wanted = ([line.rstrip() for line in text.rstrip().split("\n")] for text in (output, expected))
    if len(printed) != len(wanted):
        return False
    return all(_same_line(*lines, tolerance) for lines in zip(printed, wanted, strict=True))


def _same_line(printed: str, wanted: str, tolerance: float | None) -> bool:
    if printed == wanted or tolerance is None:
        return printed == wanted
    words = printed.split(), wanted.split()
    return len(words[0]) == len(words[1]) and all(_same_word(*pair, tolerance) for pair in zip(*words, strict=True))


def _same_word(printed: str, wanted: str, tolerance: float) -> bool:
    if printed == wanted or max(len(printed), len(wanted)) > 400:
        return printed == wanted
    if not (_NUMBER.fullmatch(printed) and _NUMBER.fullmatch(wanted)):
        return False
    if printed.lstrip("+-").isdigit() and wanted.lstrip("+-").isdigit():  # whole numbers are exact
        return int(printed) == int(wanted)
    one, other = float(printed), float(wanted)
    return math.isfinite(other) and abs(one - other) <= tolerance * max(1.0, abs(other))
