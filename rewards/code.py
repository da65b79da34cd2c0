"""Is the code right? Kimi k1.5 and DeepSeek-R1 reward code by its compiler and by test cases: both, in a sandbox."""

import asyncio
import functools
import logging
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rewards.code_blocks import ALIASES, completion_code
from rewards.code_execution import Bounds, NotStarted, Verdict, check, inside, run
from rewards.code_tests import Tests, read_tests
from rewards.completions import Completion, check_column
from rewards.sandbox import ENVIRONMENT, Bubblewrap, Sandbox, SandboxError, Unsandboxed, find_sandbox

logger = logging.getLogger(__name__)

# Compilers' modes that only look at the syntax, of source that comes by stdin.
_COMPILERS = {
    "c": ("gcc", "-fsyntax-only", "-w", "-x", "c", "-"),
    "cpp": ("g++", "-fsyntax-only", "-w", "-x", "c++", "-"),
    "javascript": ("node", "--check", "-"),
}
_SYNTAX = Bounds(seconds=10.0, memory_mb=1024)


class _CodeReward:
    """1.0 where the code passes all of its tests, 0.0 where it does not.

    r = 1[ every test of the row passes ], for the last fenced block of Python in the answer (Kimi k1.5, arXiv
    2501.12599, 2.3.5; DeepSeek-R1, arXiv 2501.12948, 2.2.2). `get_code_reward` makes one for partial credit, other
    limits or another sandbox.

    The code runs in bubblewrap (Linux: `apt install bubblewrap`), without network, files and environment, for at most
    5 seconds and with 512 MB of memory, with Python's standard library and no package. Tests run in a second sandbox:
    the code under test cannot read them and has no hand in the verdict; it only gets the arguments of each call, or a
    program's input, and what it returns or prints is compared outside. So nothing is earned by `sys.exit(0)`, an
    object that equals everything, or a function of the tests that is patched. A batch runs on all cores.

    Range: 0 or 1, None for unusable tests

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        tests (`list`): B rows' tests, of one of these forms, or the JSON of it:
            Python source with top-level `assert`s (or a list of such lines, as in MBPP), with `test_...` functions, or
            with HumanEval's `check(candidate)`, whose function the column `entry_point` names;
            `{"inputs": [...], "outputs": [...]}`, texts for a program's standard input and output (APPS);
            the same with `"fn_name": ...`, each input a list of arguments and each output the result.
        log_extra (`callable`, *optional*): TRL's; gets a column `code_verdict` that says what went wrong.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` where the row's tests do not compile, are empty or cannot
        be run, and one warning then names the first such row. A completion without code is 0.0.

    Raises:
        `ValueError`: the column of tests is missing, or not as long as `completions`.
        `rewards.sandbox.SandboxError`: bubblewrap is missing or cannot work here; the message says what to do.

    Example:
    >>> from rewards import code_reward
    >>> right = "<think>Add them.</think>\\n```python\\ndef add(a, b):\\n    return a + b\\n```"
    >>> code_reward(completions=[right, right.replace("+", "-")], tests=["assert add(1, 2) == 3"] * 2)  # doctest: +SKIP
    [1.0, 0.0]
    """

    __name__ = "code_reward"

    def __init__(self, tests_column, entry_point_column, mode, bounds, tolerance, sandbox, allow_unsandboxed):
        self.tests_column, self.entry_point_column, self.mode = tests_column, entry_point_column, mode
        self.bounds, self.tolerance = bounds, tolerance
        self.sandbox, self.allow_unsandboxed = sandbox, allow_unsandboxed

    def __call__(self, completions: list[Completion], log_extra=None, **columns) -> list[float | None]:
        if self.tests_column not in columns:
            raise ValueError(
                f"code_reward needs the tests of each row: add a column `{self.tests_column}` to the data set, or name "
                "yours by get_code_reward(tests_column=...)."
            )
        given = columns[self.tests_column]
        check_column(self.tests_column, given, completions)
        entry_points = columns.get(self.entry_point_column) or [None] * len(completions)
        check_column(self.entry_point_column, entry_points, completions)
        sandbox = self.sandbox or find_sandbox(self.allow_unsandboxed)

        def judge(completion: Completion, given, entry_point) -> tuple[float | None, str]:
            try:
                tests = read_tests(given, entry_point)
            except ValueError as error:
                return None, str(error)
            code = completion_code(completion, "python")
            if code is None:
                return 0.0, "no code"
            verdict = check(code, tests, sandbox, self.bounds, self.mode == "all", self.tolerance)
            return self._reward(verdict, tests), verdict.said

        judged = _in_parallel(judge, completions, given, entry_points)
        _warn_of_unusable(self.__name__, self.tests_column, judged)
        if log_extra is not None:
            log_extra("code_verdict", [said or "passed" for _, said in judged])
        return [reward for reward, _ in judged]

    def _reward(self, verdict: Verdict, tests: Tests) -> float | None:
        if verdict.passed is None:
            return None
        return verdict.passed / len(tests) if self.mode == "fraction" else float(verdict.passed == len(tests))


class _AsyncCodeReward:
    """`code_reward` for a trainer that waits for several rewards at once: 1.0 where the code passes all of its tests.

    TRL gathers async rewards, so this one runs while others wait, for a remote judge for one.
    `get_code_reward(run_async=True)` makes one of other settings.

    Range: 0 or 1, None for unusable tests

    Args, returns and errors: as of `code_reward`, see `help(rewards.code_reward)`.

    Example:
    >>> import asyncio
    >>> from rewards import async_code_reward
    >>> asyncio.run(async_code_reward(completions=["no code"], tests=["assert add(1, 2) == 3"]))  # doctest: +SKIP
    [0.0]
    """

    __name__ = "async_code_reward"

    def __init__(self, reward: _CodeReward):
        self.reward = reward

    async def __call__(self, completions: list[Completion], **columns) -> list[float | None]:
        return await asyncio.to_thread(self.reward, completions, **columns)


def get_code_reward(
    *,
    tests_column: str = "tests",
    entry_point_column: str = "entry_point",
    mode: str = "all",
    timeout: float = 5.0,
    memory_mb: int = 512,
    tolerance: float | None = None,
    sandbox: Sandbox | None = None,
    allow_unsandboxed: bool = False,
    run_async: bool = False,
) -> _CodeReward | _AsyncCodeReward:
    """A `code_reward` of other columns, limits or sandbox, or with partial credit.

    r = 1[ every test passes ], or with `mode="fraction"` the share of the tests that pass (Kimi k1.5, arXiv
    2501.12599, 2.3.5)

    Range: 0 to 1, None for unusable tests

    Args:
        tests_column (`str`): the data set's column of tests.
        entry_point_column (`str`): the column that names the function for HumanEval's `check`, where there is one.
        mode (`str`): `"all"` or `"fraction"`. A fraction invites code that returns what the most tests expect. An
            assert, a `test_...` function, a pair and HumanEval's whole `check` are each one test.
        timeout (`float`): seconds by the clock for all tests of a completion together, above 0.
        memory_mb (`int`): address space of a process, at least 64.
        tolerance (`float`, *optional*): numbers that a program prints, or that a function returns to `fn_name` tests,
            may differ by this much, absolutely or of the expected one, 0 or more; two whole numbers may not. Asserts
            compare as they say.
        sandbox (`rewards.sandbox.Sandbox`, *optional*): where the code runs, in place of bubblewrap: a container, say.
        allow_unsandboxed (`bool`): where bubblewrap is missing, run the code under the limits alone, with one warning:
            it can then read and delete what you can.
        run_async (`bool`): an async reward, which TRL gathers with others.

    Returns:
        a picklable reward function, see `help(rewards.code_reward)`.

    Raises:
        `ValueError`: an argument is none of what it may be.
        `rewards.sandbox.SandboxError`: bubblewrap is missing or cannot work here; the message says what to do.

    Example:
    >>> from rewards import get_code_reward
    >>> reward = get_code_reward(mode="fraction", timeout=2)  # doctest: +SKIP
    >>> one = "```python\\ndef one():\\n    return 1\\n```"
    >>> reward(completions=[one], tests=["assert one() == 1\\nassert one() == 2"])  # doctest: +SKIP
    [0.5]
    """
    for name, column in (("tests_column", tests_column), ("entry_point_column", entry_point_column)):
        if not isinstance(column, str) or not column:
            raise ValueError(f"`{name}` must be the name of a column, not {column!r}.")
    if mode not in ("all", "fraction"):
        raise ValueError(f'`mode` must be "all" or "fraction", not {mode!r}.')
    if not _is_number(timeout) or not 0 < timeout < math.inf:
        raise ValueError(f"`timeout` must be a number of seconds above 0, not {timeout!r}.")
    if isinstance(memory_mb, bool) or not isinstance(memory_mb, int) or memory_mb < 64:
        raise ValueError(f"`memory_mb` must be a whole number of at least 64, not {memory_mb!r}.")
    if tolerance is not None and (not _is_number(tolerance) or not 0 <= tolerance < math.inf):
        raise ValueError(f"`tolerance` must be a number of 0 or more, not {tolerance!r}.")
    if sandbox is None:
        find_sandbox(allow_unsandboxed)
    elif not callable(getattr(sandbox, "start", None)):
        raise ValueError(
            f"`sandbox` must have the method `start` of rewards.sandbox.Sandbox, and {sandbox!r} has none."
        )
    bounds = Bounds(float(timeout), memory_mb)
    reward = _CodeReward(tests_column, entry_point_column, mode, bounds, tolerance, sandbox, allow_unsandboxed)
    return _AsyncCodeReward(reward) if run_async else reward


# Not by the factory: bubblewrap is asked for when code is to be run, not when the library is imported.
code_reward = _CodeReward("tests", "entry_point", "all", Bounds(5.0, 512), None, None, False)
async_code_reward = _AsyncCodeReward(code_reward)


class _CodeCompilesReward:
    """1.0 where the last block of code in the answer compiles, 0.0 where it does not or there is none.

    r = 1[ the block parses ], as the compiler feedback of DeepSeek-R1 (arXiv 2501.12948, 2.2.2). Nothing is run.
    Python is compiled by this interpreter, in a process of its own. `get_code_compiles_reward("c")` and others ask a
    compiler for its syntax check. It says nothing about whether the code is right: give it a small weight.

    Range: 0 or 1, None where there is no compiler

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; all `None`, and one warning, where the language's compiler is not
        installed.

    Example:
    >>> from rewards import code_compiles_reward
    >>> code_compiles_reward(completions=["```python\\nx = 1\\n```", "```python\\nx = (\\n```", "x = 1"])
    [1.0, 0.0, 0.0]
    """

    def __init__(self, language: str):
        self.language = language
        self.__name__ = "code_compiles_reward" if language == "python" else f"{language}_compiles_reward"

    def __call__(self, completions: list[Completion], **kwargs) -> list[float | None]:
        compiler = _COMPILERS.get(self.language)
        if compiler and shutil.which(compiler[0], path=ENVIRONMENT["PATH"]) is None:  # one in a home is out of reach
            _warn_of_missing(compiler[0], self.language)
            return [None] * len(completions)
        sandbox = _for_compilers(needs_processes=compiler is not None)

        # node reserves far more address space than it takes
        bounds = _SYNTAX._replace(memory_mb=0) if self.language == "javascript" else _SYNTAX

        def judge(completion: Completion) -> float | None:
            code = completion_code(completion, self.language)
            if code is None:
                return 0.0
            role = ("command", bounds, *compiler) if compiler else ("compile", bounds)
            try:
                return float(run(inside(*role), code.encode(), sandbox, bounds.seconds)[1] == 0)
            except UnicodeEncodeError:
                return 0.0
            except SandboxError:
                raise
            except (NotStarted, OSError, RuntimeError):  # the machine is at its limits
                return None

        return _in_parallel(judge, completions)


def get_code_compiles_reward(language: str = "python") -> _CodeCompilesReward:
    """A `code_compiles_reward` for another language.

    r = 1[ the last block of that language in the answer parses ] (DeepSeek-R1, arXiv 2501.12948, 2.2.2)

    Range: 0 or 1, None where there is no compiler

    Args:
        language (`str`): `python`, `c` (by gcc), `cpp` (g++) or `javascript` (node), or another name of one of them.

    Returns:
        a picklable reward function, see `help(rewards.code_compiles_reward)`.

    Raises:
        `ValueError`: another language.

    Example:
    >>> from rewards import get_code_compiles_reward
    >>> get_code_compiles_reward("py")(completions=["```py\\nprint(1)\\n```"])
    [1.0]
    """
    known = ALIASES.get(language.lower()) if isinstance(language, str) else None
    if known is None:
        raise ValueError(f"`language` must be one of {', '.join(('python', *_COMPILERS))}, not {language!r}.")
    return _CodeCompilesReward(known)


code_compiles_reward = get_code_compiles_reward()


def _for_compilers(needs_processes: bool) -> Sandbox:
    """A sandbox where there is one: source that is only read may do without."""
    try:
        return Bubblewrap(processes=needs_processes)
    except SandboxError:
        return Unsandboxed()


def _in_parallel(judge: Callable, *columns: list) -> list:
    """`judge` of each row, in order, a row to a core; no more than 64 at once, for each holds some ten open files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(max(1, min(cores, 64, len(columns[0])))) as threads:
        try:
            return list(threads.map(judge, *columns))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _warn_of_unusable(reward: str, column: str, judged: list[tuple[float | None, str]]) -> None:
    """One warning that names the first row whose tests cannot be used."""
    unusable = [row for row, (value, _) in enumerate(judged) if value is None]
    if unusable:
        count, first = f"{len(unusable)} of {len(judged)}", unusable[0]
        logger.warning("%s cannot judge %s rows: `%s` of row %d: %s.", reward, count, column, first, judged[first][1])


@functools.cache
def _warn_of_missing(compiler: str, language: str) -> None:
    logger.warning("%s is not installed below /usr: whether %s compiles is not judged.", compiler, language)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
