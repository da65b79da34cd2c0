"""Code rewards from completion to number, in the real sandbox: what is paid, what it may cost, and what is refused."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import GRPOConfig, GRPOTrainer

import rewards.code
from recipes.hardware import STARTER_FOLDER
from rewards import async_code_reward, code_compiles_reward, code_reward, get_code_compiles_reward, get_code_reward
from rewards import sandbox as sandbox_module
from rewards.code_execution import same_output
from rewards.sandbox import Bubblewrap, SandboxError, Unsandboxed, find_sandbox

SLACK = 3  # seconds beyond the time that code may take, for a machine that others use too
RIGHT = "def f(x):\n    return x + 1"
WRONG = "def f(x):\n    return x"
LOOP = "def f(x):\n    while x == 2: pass\n    return x + 1"
TESTS = "assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4\nassert f(4) == 5"
PROGRAM = "print(int(input()) + 1)"
PAIRS = {"inputs": ["1\n", "2\n", "3\n", "4\n"], "outputs": ["2\n", "3\n", "4\n", "5\n"]}


def block(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


def paid(code: str, tests, reward=code_reward, **columns) -> float | None:
    return reward(completions=[block(code)], tests=[tests], **columns)[0]


def verdict(code: str, tests, reward=code_reward) -> str:
    logged = {}
    paid(code, tests, reward, log_extra=logged.__setitem__)
    return logged["code_verdict"][0]


# What is paid


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("tests", "right", "wrong"),
    [
        (TESTS, RIGHT, WRONG),
        (TESTS.split("\n"), RIGHT, WRONG),
        (json.dumps(TESTS.split("\n")), RIGHT, WRONG),
        (PAIRS, PROGRAM, "print(input())"),
        (json.dumps(PAIRS), PROGRAM, "print(2)"),
        ([{"input": "1", "output": "2"}, {"input": "2", "output": "3"}], PROGRAM, "print(2)"),
        ({"test_cases": [{"type": "stdin_stdout", "input": "1", "output": "2"}]}, PROGRAM, "print(1)"),
        ({"fn_name": "f", "inputs": [[1], [2]], "outputs": [2, 3]}, RIGHT, WRONG),
        (json.dumps([{"fn_name": "f", "input": [1], "output": 2}]), RIGHT, WRONG),
        ("from solution import f\n\ndef test_f():\n    assert f(1) == 2\n", RIGHT, WRONG),
        ("def check(candidate):\n    assert candidate(1) == 2\n", RIGHT, WRONG),
        ("import math\nassert math.isclose(f(0.5), 1.5)", RIGHT, WRONG),
        ("assert math.isclose(f(0.5), 1.5)", RIGHT, WRONG),
        ("try:\n    f('x')\n    assert False\nexcept TypeError:\n    pass", RIGHT, "def f(x):\n    return 1"),
        ("def check(candidate):\n    assert candidate(1) == 2\n\ncheck(f)", RIGHT, WRONG),
        ("def test():\n    assert f(1) == 2\n\nif __name__ == '__main__':\n    test()", RIGHT, WRONG),
        ("if __name__ == '__main__':\n    assert f(1) == 2", RIGHT, WRONG),
        ("def test():\n    assert f(1) == 2\n\nif __name__ == '__main__':\n    exit()", RIGHT, WRONG),
        ("assert sum(1, 2) == 3", "def sum(a, b):\n    return a + b", "def sum(a, b):\n    return a"),
    ],
    ids=repr,
)
def test_right_code_is_paid_and_wrong_code_is_not_in_every_form_of_tests(tests, right, wrong):
    completions = [block(right), block(wrong), block(""), "no code", block(right, "javascript")]
    count = len(completions)
    entry_points = ["f" if "check" in str(tests) else None] * count
    values = code_reward(completions=completions, tests=[tests] * count, entry_point=entry_points)
    assert values == [1.0, 0.0, 0.0, 0.0, 0.0] and all(type(value) is float for value in values)


@pytest.mark.needs_sandbox
def test_the_last_block_of_the_answer_is_run():
    for completion in (
        f"<think>{block(WRONG)}</think>First\n{block(WRONG)}\nand then\n{block(RIGHT)}\nThat is it.",
        f"<think>I add.</think><answer>{block(RIGHT)}</answer>",
        [{"role": "assistant", "content": block(RIGHT)}],
        [{"role": "assistant", "content": block(RIGHT), "reasoning_content": block(WRONG)}],
        block(RIGHT, "py"),
        block(RIGHT, ""),
    ):
        assert code_reward(completions=[completion], tests=[TESTS]) == [1.0], completion
    for completion in (
        f"<think>{block(RIGHT)}</think>{block(WRONG)}",
        f"<think>{block(RIGHT)}</think>I have written it above.",
        f"<think>{block(RIGHT)}",
        f"```python\n{RIGHT}",
        RIGHT,
        [{"role": "assistant", "content": "", "reasoning_content": block(RIGHT)}],
        [{"role": "user", "content": block(RIGHT)}],
        None,
    ):
        assert code_reward(completions=[completion], tests=[TESTS]) == [0.0], completion


@pytest.mark.needs_sandbox
def test_values_are_in_the_order_of_the_completions():
    codes = [RIGHT, "import os; os._exit(0)", WRONG, LOOP, RIGHT, "x = (", RIGHT, WRONG]
    reward = get_code_reward(timeout=1)
    values = reward(completions=[block(code) for code in codes], tests=[TESTS] * len(codes))
    assert values == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert code_reward(completions=[], tests=[]) == []


@pytest.mark.needs_sandbox
def test_each_row_has_its_own_tests_and_entry_point():
    check = "def check(candidate):\n    assert candidate(1) == 2"
    completions = [block(RIGHT), block(PROGRAM), block("def g(x):\n    return 2"), block(RIGHT)]
    columns = {"tests": [TESTS, PAIRS, check, check], "entry_point": [None, None, "g", "g"]}
    assert code_reward(completions=completions, **columns) == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.needs_sandbox
def test_columns_may_have_other_names():
    reward = get_code_reward(tests_column="test", entry_point_column="name")
    check = "def check(candidate):\n    assert candidate(1) == 2"
    assert reward(completions=[block(RIGHT)], test=[check], name=["f"], tests=["assert f(1) == 7"]) == [1.0]


@pytest.mark.needs_sandbox
def test_what_is_logged_says_why():
    logged = {}
    completions = [block(RIGHT), block(WRONG), "no code", block("1/0"), block(RIGHT)]
    tests = [TESTS, TESTS, TESTS, PAIRS, "assert"]
    assert code_reward(completions=completions, tests=tests, log_extra=logged.__setitem__)[-1] is None
    passed, *others, unusable = logged.pop("code_verdict")
    assert (passed, *others) == ("passed", "test 1: a wrong result", "no code", "test 1: exit code 1")
    assert "do not compile" in unusable and not logged
    first_of_two = "n = int(input())\nassert n != 4\nprint(2)"
    assert verdict(first_of_two, PAIRS, get_code_reward(mode="fraction")) == "test 2: wrong output"


# A part of the tests


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("code", "tests", "fraction"),
    [
        (RIGHT, TESTS, 1.0),
        (WRONG, TESTS, 0.0),
        ("def f(x):\n    return 2", TESTS, 0.25),
        ("def f(x):\n    return 4", TESTS, 0.25),
        ("def f(x):\n    assert x != 1\n    return x + 1", TESTS, 0.75),
        ("import os\ndef f(x):\n    return os._exit(0) if x == 3 else x + 1", TESTS, 0.5),
        ("def f(x):\n    return exit() if x == 3 else x + 1", TESTS, 0.5),
        (LOOP, TESTS, 0.25),
        (PROGRAM, PAIRS, 1.0),
        ("print(2)", PAIRS, 0.25),
        ("n = int(input())\nassert n != 1\nprint(n + 1)", PAIRS, 0.75),
        ("n = int(input())\nwhile n == 2: pass\nprint(n + 1)", PAIRS, 0.25),
        ("x = (", PAIRS, 0.0),
        ("x = (", TESTS, 0.0),
        (LOOP, {"fn_name": "f", "inputs": [[1], [2]], "outputs": [2, 3]}, 0.5),
    ],
)
def test_a_fraction_is_the_share_of_the_tests_that_passed_before_the_code_or_its_time_ended(code, tests, fraction):
    reward = get_code_reward(mode="fraction", timeout=0.7)
    assert paid(code, tests, reward) == fraction
    assert paid(code, tests, get_code_reward(timeout=0.7)) == float(fraction == 1.0)


# What programs print


@pytest.mark.parametrize(
    ("printed", "expected", "tolerance", "equal"),
    [
        ("1\n2\n", "1\n2\n", None, True),
        ("1\n2", "1\n2\n", None, True),
        ("1\n2\n\n \n", "1\n2", None, True),
        ("1  \n2\t\n", "1\n2", None, True),
        ("1\r\n2\r\n", "1\n2", None, True),
        ("1\n2", "1\r\n2\r\n", None, True),
        ("1", "1\n2", None, False),
        ("1\n2", "1", None, False),
        ("2\n1", "1\n2", None, False),
        ("\n1\n2", "1\n2", None, False),
        ("1\n\n2", "1\n2", None, False),
        (" 1", "1", None, False),
        ("1 2", "1  2", None, False),
        ("YES", "Yes", None, False),
        ("", "1", None, False),
        ("", "", None, True),
        ("0.30000000000000004", "0.3", None, False),
        ("1.0", "1", None, False),
        ("0.3001", "0.3", 1e-3, True),
        ("0.302", "0.3", 1e-3, False),
        ("1000.9", "1000", 1e-3, True),
        ("1002", "1000", 1e-3, False),
        ("0.0009", "0", 1e-3, True),
        ("0.0011", "0", 1e-3, False),
        ("1", "1.0", 0.0, True),
        ("1e3 -.5 +2.", "1000 -0.5 2", 1e-9, True),
        ("case 1:  0.30001\nx", "case 1: 0.3\nx", 1e-3, True),
        ("case 2: 0.30001", "case 1: 0.3", 1e-3, False),
        ("0.3 0.3", "0.3", 1e-3, False),
        ("0.3\n0.3", "0.3", 1e-3, False),
        ("x0.3001", "x0.3", 1e-3, False),
        ("1_0", "10", 1e-3, False),
        ("nan", "nan", 1e-3, True),
        ("nan", "1", 1e-3, False),
        ("inf", "1", 1e-3, False),
        ("1", "nan", 1e-3, False),
        ("5", "1e999", 1e-3, False),
        ("1e999", "5", 1e-3, False),
        ("9" * 500, "9" * 499, 1e-3, False),
        ("9" * 500, "9" * 500, 1e-3, True),
    ],
)
def test_all_that_is_printed_is_compared_but_for_white_space_at_the_ends(printed, expected, tolerance, equal):
    assert same_output(printed, expected, tolerance) is equal


@given(st.text("1.e+- \n\tx\ud800²", max_size=40), st.text("1.e+- \n\tx²", max_size=40), st.none() | st.just(1e-3))
def test_any_two_outputs_are_compared_without_an_exception(printed, expected, tolerance):
    assert same_output(printed, expected, tolerance) in (True, False)
    assert same_output(printed, printed, tolerance) is True


@pytest.mark.parametrize("piece", ["1" * 390 + "x ", "1\n", " ", "\n", "x\t", "-", "1.", "1e9 "])
def test_long_outputs_are_compared_in_linear_time(piece):
    text = piece * (1_000_000 // len(piece))
    begin = time.process_time()
    same_output(text + "y", text + "z", 1e-3)
    assert time.process_time() - begin < 2


@pytest.mark.needs_sandbox
def test_a_tolerance_is_for_programs_and_calls():
    third, third_of_f = "print(0.33333)", "def f(x):\n    return [x / 3.00001]"
    outputs, calls = (
        {"inputs": [""], "outputs": ["0.333333333"]},
        {"fn_name": "f", "inputs": [[1]], "outputs": [[0.3333333]]},
    )
    near = get_code_reward(tolerance=1e-4)
    assert [paid(third, outputs, near), paid(third_of_f, calls, near)] == [1.0, 1.0]
    assert [paid(third, outputs), paid(third_of_f, calls)] == [0.0, 0.0]
    assert paid(third_of_f, "assert f(1) == [0.3333333]", near) == 0.0


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("print('é\\nx', end='')", 1.0),
        ("import sys\nsys.stdout.buffer.write('é\\nx'.encode())", 1.0),
        ("if __name__ == '__main__':\n    print('é\\nx')", 1.0),
        ("import sys\nprint(sys.stdin.read())", 1.0),
        ("import sys\nfor line in sys.stdin: print(line, end='')", 1.0),
        ("print(input())\nprint(input())", 1.0),
        ("print(open(0).read())", 1.0),
        ("import sys\nprint(sys.stdin.read())\nsys.exit()", 1.0),
        ("import sys\nprint(sys.stdin.read())\nexit(0)", 1.0),
        ("import sys\nprint(sys.stdin.read())\nsys.stderr.write('debug')", 1.0),
        ("import os\nprint('é\\nx', flush=True)\nos._exit(0)", 1.0),
        ("import sys\nprint(sys.stdin.read())\nsys.exit(1)", 0.0),
        ("import sys\nprint(sys.stdin.read())\n1/0", 0.0),
        ("print(input())", 0.0),
        ("import sys\nprint(sys.stdin.read(), 'x')", 0.0),
        ("import sys\nsys.stdout.buffer.write(b'\\xe9\\nx')", 0.0),
    ],
)
def test_a_program_is_judged_by_all_that_it_prints_and_by_its_end(code, value):
    assert paid(code, {"inputs": ["é\nx"], "outputs": ["é\nx"]}) == value


# Bounds


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("code", "tests"),
    [
        (LOOP, TESTS),
        ("while True: pass", TESTS),
        ("while True: pass", PAIRS),
        ("import time\ntime.sleep(60)", PAIRS),
        ("import time\ndef f(x):\n    time.sleep(0.4)\n    return x + 1", TESTS),
        ("import time\ntime.sleep(0.4)\nprint(int(input()) + 1)", PAIRS),
        ("import signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
         "    except (OSError, ValueError): pass\nwhile True: pass", PAIRS),
        (RIGHT, f"while f(1): pass\n{TESTS}"),
        ("def f(x):\n    while True: yield 1", "assert list(f(1)) == [1]"),
    ],
)  # fmt: skip
def test_the_time_for_all_tests_together_is_bounded(code, tests):
    reward = get_code_reward(timeout=1)
    begin = time.monotonic()
    assert paid(code, tests, reward) == 0.0
    assert time.monotonic() - begin < 1 + SLACK


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(("code", "tests"), [(LOOP, TESTS), ("while True: pass", TESTS), ("while True: pass", PAIRS)])
def test_what_took_too_long_is_always_said_to_be_too_slow(code, tests):
    """Whichever of the two processes is ended first."""
    reward = get_code_reward(timeout=0.2)
    logged = {}
    reward(completions=[block(code)] * 6, tests=[tests] * 6, log_extra=logged.__setitem__)
    assert all("too slow" in said for said in logged["code_verdict"]), logged


@pytest.mark.needs_sandbox
def test_slow_code_costs_the_others_of_its_batch_nothing():
    codes = [RIGHT, LOOP, RIGHT, RIGHT, LOOP, RIGHT]
    values = get_code_reward(timeout=1)(completions=[block(code) for code in codes], tests=[TESTS] * 6)
    assert values == [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]


@pytest.mark.needs_sandbox
def test_memory_is_bounded():
    takes = "def f(x):\n    return len(bytes(300 * 2**20)) and x + 1"
    assert paid(takes, TESTS) == 1.0
    assert paid(takes, TESTS, get_code_reward(memory_mb=256)) == 0.0
    assert paid(f"bytes(300 * 2**20)\n{PROGRAM}", PAIRS, get_code_reward(memory_mb=256)) == 0.0
    assert (
        paid(RIGHT, TESTS, get_code_reward(memory_mb=64)) == paid(PROGRAM, PAIRS, get_code_reward(memory_mb=64)) == 1.0
    )


@pytest.mark.needs_sandbox
def test_output_is_bounded():
    begin = time.monotonic()
    assert paid("while True: print('x' * 10_000)", PAIRS) == 0.0
    assert time.monotonic() - begin < 5 + SLACK


@pytest.mark.needs_sandbox
def test_a_verdict_is_the_same_every_time_also_where_code_prints_a_set():
    words = [f"word{i}" for i in range(30)]
    code = f"def f(x):\n    return list({set(words)!r})"
    program = f"import sys; sys.path.insert(0, {str(Path(rewards.__file__).parent.parent)!r})\nimport rewards\n"
    program += (
        f"print(rewards.code_reward(completions=[{block(code)!r}], tests=[{f'assert f(1) == list({words!r})'!r}]))"
    )
    seen = {subprocess.check_output([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed})
            for seed in ("1", "2", "random")}  # fmt: skip
    assert len(seen) == 1
    assert len({verdict(f"print(*{set(words)!r})", {"inputs": ["", ""], "outputs": ["x", "x"]}) for _ in range(3)}) == 1
    order = f"assert f(1) == list({{{', '.join(map(repr, words))}}})"
    assert paid(f"def f(x):\n    return list({{{', '.join(map(repr, words))}}})", order) == 1.0


# Rows that cannot be judged


@pytest.mark.needs_sandbox
def test_unusable_tests_are_none_and_one_warning_names_the_first(caplog):
    tests = [TESTS, "assert", None, "import numpy\nassert f(1) == 2", {"inputs": ["1"], "outputs": []}]
    assert code_reward(completions=[block(RIGHT)] * 5, tests=tests) == [1.0, None, None, None, None]
    [record] = caplog.records
    said = record.getMessage()
    assert record.levelno == logging.WARNING and record.name.startswith("rewards.")
    assert "code_reward" in said and "4 of 5 rows" in said and "`tests` of row 1" in said and "do not compile" in said


@pytest.mark.needs_sandbox
def test_a_fault_of_the_tests_does_not_depend_on_the_completion():
    faulty = "assert f(1) == 2\nassert f(lambda: 1) == 2"
    assert (
        code_reward(completions=[block(RIGHT), block(WRONG), "no code", block("x = (")], tests=[faulty] * 4)[0] is None
    )


@pytest.mark.needs_sandbox
def test_usable_tests_warn_of_nothing(caplog):
    code_reward(completions=[block(RIGHT), block(WRONG)], tests=[TESTS] * 2)
    assert not caplog.records


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({}, "add a column `tests`"),
        ({"test": ["assert f(1)"]}, "add a column `tests`"),
        ({"tests": []}, "The column `tests` has 0 values for 1 completions"),
        ({"tests": ["assert f(1)"] * 2}, "The column `tests` has 2 values for 1 completions"),
        ({"tests": "assert f(1)"}, "The column `tests` is one string"),
        ({"tests": ["assert f(1)"], "entry_point": "f"}, "The column `entry_point` is one string"),
        ({"tests": ["assert f(1)"], "entry_point": ["f", "g"]}, "The column `entry_point` has 2 values"),
    ],
)
def test_a_missing_or_short_column_is_named(columns, why):
    with pytest.raises(ValueError, match=why):
        code_reward(completions=[block(RIGHT)], **columns)
    with pytest.raises(ValueError, match=why):
        asyncio.run(async_code_reward(completions=[block(RIGHT)], **columns))


def test_one_string_is_no_list_of_completions():
    with pytest.raises(ValueError, match="give a list of completions"):
        code_reward(completions=block(RIGHT), tests=["assert f(1)"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *[("tests_column", value) for value in ("", None, 3)],
        *[("entry_point_column", value) for value in ("", None, 3)],
        *[("mode", value) for value in ("ALL", "any", None, 1)],
        *[("timeout", value) for value in (0, -1, float("inf"), float("nan"), "5", None, True)],
        *[("memory_mb", value) for value in (63, 0, -1, 512.0, "512", None, True)],
        *[("tolerance", value) for value in (-1e-9, float("inf"), float("nan"), "0", True)],
        *[("sandbox", value) for value in (3, "docker", len)],
    ],
)
def test_an_argument_that_makes_no_sense_is_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must ") as error:
        get_code_reward(**{argument: value})
    assert "\n" not in str(error.value)


@pytest.mark.needs_sandbox
def test_the_least_that_arguments_may_be():
    for arguments in ({"timeout": 0.01}, {"memory_mb": 64}, {"tolerance": 0}, {"tolerance": 0.0}, {"timeout": 7}):
        get_code_reward(**arguments)


# As a trainer calls it


@pytest.mark.needs_sandbox
def test_a_pickled_reward_judges_as_before():
    for reward in (code_reward, get_code_reward(mode="fraction", timeout=2, tolerance=0.1)):
        copy = pickle.loads(pickle.dumps(reward))
        assert copy.__name__ == reward.__name__ == "code_reward"
        assert paid("def f(x):\n    return 2", TESTS, copy) == paid("def f(x):\n    return 2", TESTS, reward)
    assert pickle.loads(pickle.dumps(async_code_reward)).__name__ == "async_code_reward"
    assert pickle.loads(pickle.dumps(code_compiles_reward))(completions=[block("x = (")]) == [0.0]


@pytest.mark.needs_sandbox
def test_many_threads_judge_at_once():
    batch = {"completions": [block(RIGHT), block(WRONG), block(PROGRAM)], "tests": [TESTS, TESTS, PAIRS]}
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda _: code_reward(**batch), range(6))) == [[1.0, 0.0, 1.0]] * 6


@pytest.mark.needs_sandbox
def test_async_rewards_run_while_others_do():
    ticks = [time.monotonic()]

    async def other():
        for _ in range(20):
            ticks.append(time.monotonic())
            await asyncio.sleep(0.05)
        return "other"

    async def both():
        slow = get_code_reward(timeout=1, run_async=True)
        call = slow(completions=[block(LOOP), block(RIGHT)], tests=[TESTS] * 2)
        return await asyncio.gather(call, other(), async_code_reward(completions=[block(RIGHT)], tests=[TESTS]))

    assert asyncio.run(both()) == [[0.0, 1.0], "other", [1.0]]
    assert max(later - sooner for sooner, later in itertools.pairwise(ticks)) < 0.8


@pytest.mark.needs_sandbox
def test_a_trainer_gathers_the_async_reward_with_another(caplog):
    async def written(completions, tests, log_extra, **columns):
        """As if the model had written code: the starter cannot."""
        answers = [block(RIGHT if i % 2 else WRONG) for i in range(len(completions))]
        return await async_code_reward(completions=answers, tests=tests)

    rows = [{"prompt": f"What is {i} + 1?", "tests": TESTS if i else "assert"} for i in range(4)]
    args = GRPOConfig(
        output_dir="out", use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=1,
        log_completions=True, num_completions_to_print=0, max_steps=1, per_device_train_batch_size=8,
        num_generations=2, max_completion_length=8, seed=1,
    )  # fmt: skip
    funcs = [async_code_reward, written, code_compiles_reward]
    trainer = GRPOTrainer(str(STARTER_FOLDER), funcs, args=args, train_dataset=Dataset.from_list(rows))
    trainer.train()
    logs = trainer._logs
    verdicts = list(logs["extra"]["code_verdict"])
    assert set(verdicts) == {"no code", next(said for said in verdicts if said != "no code")}
    unusable = [said != "no code" for said in verdicts]
    assert sum(unusable) == 2
    values = list(logs["rewards"]["async_code_reward"])
    assert [value is None or value != value for value in values] == unusable
    assert (
        sorted(value for value in logs["rewards"]["written"] if value == value and value is not None)
        == [0.0] * 3 + [1.0] * 3
    )
    assert "cannot judge 2 of 8 rows" in caplog.text


# Other sandboxes, and none


class Counting:
    """Anybody's sandbox: here the same one, which counts."""

    def __init__(self, inner):
        self.inner, self.started, self.ended = inner, [], 0

    @contextlib.contextmanager
    def start(self, command, stdin):
        self.started.append(command)
        with self.inner.start(command, stdin) as process:
            yield process
        self.ended += 1


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    ("completion", "tests", "mode", "starts"),
    [
        (block(RIGHT), TESTS, "all", 2),
        (block(PROGRAM), PAIRS, "all", 4),
        (block("print(2)"), PAIRS, "all", 2),
        (block("print(2)"), PAIRS, "fraction", 4),
        (block("while True: pass"), PAIRS, "fraction", 1),
        ("no code", TESTS, "all", 0),
        (block(RIGHT), "assert", "all", 0),
        (block("# \ud800"), TESTS, "all", 0),
    ],
)
def test_code_runs_in_the_sandbox_that_is_given_and_no_more_often_than_needed(completion, tests, mode, starts):
    sandbox = Counting(Bubblewrap())
    get_code_reward(sandbox=sandbox, mode=mode, timeout=1)(completions=[completion], tests=[tests])
    assert len(sandbox.started) == sandbox.ended == starts
    assert all(command[0] == "python" for command in sandbox.started)


def test_nothing_of_the_tests_is_in_the_commands():
    sandbox = Counting(Unsandboxed())
    reward = get_code_reward(sandbox=sandbox)
    assert paid(RIGHT, "assert f(12345) == 12346", reward) == 1.0
    assert paid(PROGRAM, {"inputs": ["12345"], "outputs": ["12346"]}, reward) == 1.0
    assert len(sandbox.started) == 3 and "1234" not in str(sandbox.started) and "x + 1" not in str(sandbox.started)


def test_a_sandbox_that_is_given_is_the_only_one_that_is_needed(path_with):
    path_with()
    assert paid(RIGHT, TESTS, get_code_reward(sandbox=Unsandboxed())) == 1.0


@pytest.fixture
def path_with(tmp_path, monkeypatch):
    """A PATH of nothing but the scripts that are given, each by its name and text."""
    caches = [item for item in vars(sandbox_module).values() if hasattr(item, "cache_clear")]
    caches += [item for item in vars(rewards.code).values() if hasattr(item, "cache_clear")]

    def forget():
        for cached in caches:
            cached.cache_clear()

    def make(**scripts: str) -> Path:
        folder = tmp_path / "only_these"
        folder.mkdir()
        for name, text in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        forget()
        return folder

    yield make
    monkeypatch.undo()
    forget()


NEW = 'if [ "$1" = --version ]; then echo bubblewrap 0.8.0; exit; fi\n'
BROKEN = {
    "missing": (None, "there is no bwrap on the PATH: install it"),
    "old": ("echo bubblewrap 0.4.1", "bubblewrap 0.4.1 is too old"),
    "of no version": ("exit 1", "bwrap"),
    "forbidden": (
        f"{NEW}echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1",
        "cannot make its name spaces here \\(setting up uid map: Permission denied\\): allow it",
    ),
    "silent": (f"{NEW}exit 7", "cannot make its name spaces here \\(exit code 7\\)"),
    "lying": (f"{NEW}echo hello", "cannot make its name spaces here"),
}


@pytest.mark.parametrize("state", BROKEN)
def test_bubblewrap_that_is_missing_or_does_not_work_is_one_sentence_that_says_what_to_do(path_with, state, caplog):
    script, why = BROKEN[state]
    path_with(**({"bwrap": script} if script else {}))
    calls = (
        lambda: code_reward(completions=[block(RIGHT)], tests=[TESTS]),
        lambda: asyncio.run(async_code_reward(completions=[block(RIGHT)], tests=[TESTS])),
        get_code_reward,
        lambda: get_code_reward(run_async=True),
        Bubblewrap,
        find_sandbox,
    )
    for call in calls:
        with pytest.raises(SandboxError, match=why) as error:
            call()
        said = str(error.value)
        assert isinstance(error.value, RuntimeError) and said[0].isalpha() and said.endswith(".") and "\n" not in said
        assert "allow_unsandboxed=True" in said
    assert not caplog.records


@pytest.mark.parametrize("state", BROKEN)
def test_code_runs_without_a_sandbox_where_that_is_allowed_and_one_warning_says_so(path_with, state, caplog):
    script, _ = BROKEN[state]
    path_with(**({"bwrap": script} if script else {}))
    reward = get_code_reward(allow_unsandboxed=True, timeout=2)
    codes = [RIGHT, WRONG, "import os; os._exit(0)"]
    for _ in range(2):
        assert reward(completions=[block(code) for code in codes], tests=[TESTS] * 3) == [1.0, 0.0, 0.0]
    assert paid(PROGRAM, PAIRS, reward) == 1.0
    [record] = caplog.records
    assert "without a sandbox" in record.getMessage() and record.levelno == logging.WARNING


def test_without_a_sandbox_time_and_memory_are_bounded_and_children_end_too(tmp_path):
    reward = get_code_reward(sandbox=Unsandboxed(), timeout=1)
    begin = time.monotonic()
    write = f"open({str(tmp_path / 'late')!r}, 'w')"
    late = f"import os, time\nif os.fork() == 0:\n    time.sleep(2)\n    {write}\nelse:\n    time.sleep(9)"
    assert paid(late, PAIRS, reward) == 0.0
    assert time.monotonic() - begin < 1 + SLACK
    assert paid("bytes(10**9)\n" + RIGHT, TESTS, reward) == 0.0
    time.sleep(max(0, 2.5 - (time.monotonic() - begin)))
    assert not (tmp_path / "late").exists()


def test_without_a_sandbox_the_code_sees_neither_the_environment_nor_the_callers_folder(monkeypatch):
    monkeypatch.setenv("SECRET", "7")
    code = "import os\nopen('x', 'w').close()\ndef f(x):\n    return [sorted(os.listdir()), os.environ.get('SECRET')]"
    assert paid(code, "assert f(1) == [['x'], None]", get_code_reward(sandbox=Unsandboxed())) == 1.0
    assert not Path("x").exists()


@pytest.mark.needs_sandbox
def test_bubblewrap_is_asked_for_when_code_is_judged_and_not_on_import(path_with):
    path_with()
    code = "import rewards; print(rewards.code_reward.__name__)"
    folder = Path(rewards.__file__).parent.parent
    assert subprocess.check_output([sys.executable, "-c", code], cwd=folder) == b"code_reward\n"


# Does it compile?

COMPILE = {
    "python": ("x = 1", "x = ("),
    "c": ("#include <stdio.h>\nint main(void) { puts(\"\"); }", "int main(void) { puts(; }"),
    "cpp": ("#include <vector>\nint main() { std::vector<int> v; }", "int main() { class }"),
    "javascript": ("const x = async () => 1;", "const x = ;"),
}  # fmt: skip
COMPILER = {"python": "sh", "c": "gcc", "cpp": "g++", "javascript": "node"}
HOSTILE = {
    "parentheses": "(" * 30_000,
    "braces": "{" * 30_000 + "}" * 30_000,
    "brackets": "[" * 30_000 + "]" * 30_000,
    "minus": "-" * 100_000 + "1",
    "a surrogate": "# // \ud800",
    "NUL": "x = 1\0;",
    "5 MB of lines": "int x;\n" * 700_000,
    "5 MB of a name": "a" * 5_000_000,
    "5 MB of white space": " " * 5_000_000 + "\n(",
}


def installed(language: str):
    reason = f"{COMPILER[language]} is not installed"
    return pytest.param(language, marks=pytest.mark.skipif(shutil.which(COMPILER[language]) is None, reason=reason))


@pytest.mark.parametrize("language", map(installed, COMPILE))
def test_code_that_compiles_is_paid(language):
    reward = get_code_compiles_reward(language)
    right, wrong = COMPILE[language]
    other = "c" if language == "python" else "python"
    completions = [block(right, language), block(wrong, language), block(right, ""), block(right, other), right, ""]
    completions += [f"{block(wrong, language)}\n{block(right, language)}", f"<think>{block(right, language)}</think>"]
    assert reward(completions=completions, answer=["x"] * 8) == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert reward.__name__ == ("code_compiles_reward" if language == "python" else f"{language}_compiles_reward")


@pytest.mark.parametrize("language", map(installed, COMPILE))
def test_hostile_code_compiles_or_not_in_bounded_time(language, monkeypatch):
    monkeypatch.setattr(rewards.code, "_SYNTAX", rewards.code._SYNTAX._replace(seconds=1.5))
    begin = time.monotonic()
    completions = [block(code, language) for code in HOSTILE.values()]
    values = dict(zip(HOSTILE, get_code_compiles_reward(language)(completions=completions), strict=True))
    assert time.monotonic() - begin < 1.5 * len(HOSTILE) + SLACK
    assert set(values.values()) <= {0.0, 1.0}
    for name in ("parentheses", "a surrogate", "5 MB of white space"):
        assert values[name] == 0.0, name


def test_names_of_languages_are_as_in_blocks_of_code():
    assert get_code_compiles_reward("C++").__name__ == "cpp_compiles_reward"
    assert get_code_compiles_reward("py").__name__ == "code_compiles_reward"
    for unknown in ("rust", "", None, 3):
        with pytest.raises(ValueError, match="`language` must be one of python, c, cpp, javascript, not"):
            get_code_compiles_reward(unknown)


def test_python_is_compiled_and_never_run(tmp_path):
    target = tmp_path / "written"
    codes = [f"open({str(target)!r}, 'w')", f"class A:\n    open({str(target)!r}, 'w')", "raise SystemExit(1)", "1/0"]
    assert code_compiles_reward(completions=[block(code) for code in codes]) == [1.0] * 4
    assert not target.exists()
    for code in ("return 1", "x = 1\n  y = 2", "print 'x'", "await x", "def f(x, x): pass"):
        assert code_compiles_reward(completions=[block(code)]) == [0.0], code


@pytest.mark.parametrize("language", map(installed, ["c", "cpp"]))
@pytest.mark.parametrize("file", ["/dev/zero", "/dev/stdin", "/etc/passwd", "/proc/self/environ"])
def test_a_compiler_reads_no_file_of_the_machine_and_ends(language, file):
    begin = time.monotonic()
    code = f'#include "{file}"\nint main(void) {{ return 0; }}'
    assert get_code_compiles_reward(language)(completions=[block(code, language)]) == [0.0]
    assert time.monotonic() - begin < 10 + SLACK


@pytest.mark.needs_sandbox
@pytest.mark.parametrize("language", map(installed, ["c", "cpp"]))
def test_a_compiler_in_the_sandbox_sees_no_file_of_the_user(language, tmp_path):
    (tmp_path / "secret.h").write_text("int secret;")
    code = f'#include "{tmp_path}/secret.h"\nint main(void) {{ return secret; }}'
    assert get_code_compiles_reward(language)(completions=[block(code, language)]) == [0.0]


@pytest.mark.parametrize("language", ["c", "cpp", "javascript"])
def test_a_missing_compiler_is_none_and_one_warning(path_with, monkeypatch, caplog, language):
    """Also one that is on the caller's PATH and not within the sandbox."""
    for missing in (f"no-such-{language}", "homegrown"):
        path_with(homegrown="exit 0")
        Path("only_these").rename(f"only_{missing}")
        monkeypatch.setenv("PATH", f"{os.getcwd()}/only_{missing}:/usr/bin:/bin")
        monkeypatch.setitem(rewards.code._COMPILERS, language, (missing, "-"))
        caplog.clear()
        reward = get_code_compiles_reward(language)
        for _ in range(2):
            assert reward(completions=[block("x", language), "no code"]) == [None, None]
        [record] = caplog.records
        assert f"{missing} is not installed below /usr" in record.getMessage() and language in record.getMessage()


def test_python_compiles_without_a_sandbox_too(path_with):
    path_with()
    assert code_compiles_reward(completions=[block("x = 1"), block("x = (")]) == [1.0, 0.0]


# The command line


def command(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "rewards", *argv], capture_output=True, text=True, check=False)


@pytest.mark.needs_sandbox
def test_rows_of_code_are_scored_from_a_file(write_jsonl):
    check = "def check(candidate):\n    assert candidate(1) == 2"
    rows = [
        {"prompt": "Add.", "completions": [block(RIGHT), block(WRONG)], "tests": TESTS, "entry_point": None},
        {"prompt": "Read.", "completion": block(PROGRAM), "tests": PAIRS, "entry_point": None},
        {"prompt": "Check.", "completion": block(RIGHT), "tests": check, "entry_point": "f"},
        {"prompt": "Broken.", "completion": block(RIGHT), "tests": "assert", "entry_point": "f"},
    ]
    names = ["code_reward", "async_code_reward", "code_compiles_reward"]
    done = command("score", str(write_jsonl(rows)), "--rewards", *names, "--output", "scored.jsonl")
    assert done.returncode == 0, done.stderr
    scored = [json.loads(line) for line in Path("scored.jsonl").read_text().splitlines()]
    for name in names[:2]:
        assert [row[name] for row in scored] == [1.0, 0.0, 1.0, 1.0, None]
    assert [row["code_compiles_reward"] for row in scored] == [1.0] * 5


def test_rows_without_tests_are_refused_in_a_sentence(write_jsonl):
    done = command(
        "score", str(write_jsonl([{"prompt": "Add.", "completion": block(RIGHT)}])), "--rewards", "code_reward"
    )
    assert "Traceback" not in done.stderr and "column `tests`" in done.stdout + done.stderr


def test_the_code_rewards_are_listed():
    listed = command("list").stdout
    for name in ("code_reward", "async_code_reward", "code_compiles_reward", "get_code_reward"):
        assert f"\n{name} " in listed
