"""Code: MBPP (Austin et al., 2021, arXiv 2108.07732), Python problems with tests, in the version that people checked.

The tests are not shown: a model that sees three asserts can write them down. The question gives the first lines of the
definitions under test in their place, since their names are asked for.
"""

import ast
import json
import re

from datasets import Dataset

from recipes.errors import InputError
from recipes.tasks import Task
from recipes.tasks.code_problems import HELD_OUT, TRAIN
from recipes.tasks.loading import load_rows
from rewards import code_format_reward, code_reward
from rewards.code_tests import Calls, Programs, read_tests

MBPP = "google-research-datasets/mbpp"
BUILT_IN = "built_in"  # --dataset_name of the problems in code_problems.py
# Those of MBPP, sanitized and full, and our own.
LAYOUTS = [["prompt", "code", "test_list"], ["text", "code", "test_list"], ["question", "answer", "tests"]]
SHOWN = ("property", "staticmethod", "classmethod")  # decorators that say how something is called
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# What a question adds to the problem's text.
DEFINE = "\n\nDefine:\n"
PROGRAM = "\n\nWrite a program that reads from standard input and prints to standard output."

SYSTEM_PROMPT = (
    "Solve the problem in Python. First think step by step inside <think> and </think>. "
    "Then write the whole code, and no other code, in one block that begins with ```python and ends with ```."
)


class CodeTask(Task):
    """A task whose answer is Python source, judged by the row's tests."""

    def gold(self, answer: str) -> str:
        return answer

    def worked(self, answer: str) -> None:
        """A reference solution holds no thoughts."""

    def written(self, answer: str) -> str:
        return f"<think>\nWork it out.\n</think>\n```python\n{answer}\n```"

    def bare(self, question: str) -> str:
        return question.partition(DEFINE)[0].partition(PROGRAM)[0]

    def wrong(self, gold: str) -> str:
        """Code that defines what `gold` defines and does nothing."""
        imports = [node for node in ast.parse(gold).body if isinstance(node, ast.Import | ast.ImportFrom)]
        return f"{ast.unparse(ast.Module(imports, []))}\n{outline(gold) or 'pass'}"


def load(dataset_name: str | None, dataset_config: str | None, seed: int) -> tuple[Dataset, Dataset]:
    """MBPP's rows, or those of `dataset_name`: a hub id, a folder or a JSONL file; or the built-in ones.

    Of MBPP the splits `validation` and `prompt` (examples for few-shot prompts, which nobody needs here) are trained on
    with `train`: alone it is 120 problems. `test` is held out.
    """
    if dataset_name == BUILT_IN:
        train, held_out = ([*problems.values()] for problems in (TRAIN, HELD_OUT))
    else:
        name, also = dataset_name or MBPP, ("validation", "prompt")
        train, held_out = load_rows(name, dataset_config, LAYOUTS, main_config="sanitized", also_train=also)
    return problems(train, "train"), problems(held_out, "held-out")


def problems(given, split: str) -> Dataset:
    """The rows of `given` with the columns `question`, `answer` and `tests`.

    Rows that make no problem are named and left out; over half: `InputError`.
    """
    rows, faults = [], []
    for row in given:
        try:
            rows.append(as_row(row))
        except ValueError as error:
            faults.append(f"{text_of(row)!r:.60}: {error}")
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    verdict = f"{len(faults)} of {len(given)} {split} rows make no problem ({'; '.join(faults[:3])}{more})"
    if 2 * len(faults) > len(given):
        raise InputError(f"{verdict}: a row needs {task.needed}.")
    if faults:
        print(f"warning: {verdict}; they are left out.")
    return Dataset.from_list(rows)


def as_row(given: dict) -> dict[str, str]:
    """A row of any of the `LAYOUTS` as `question`, `answer` and `tests`; raises `ValueError` with what is wrong."""
    if "test_list" in given:
        solution = given["code"]
        imports = given.get("test_imports") or [given.get("test_setup_code") or ""]
        tests = [*imports, *(given["test_list"] or [])]
        tests = "\n".join(tests) if all(isinstance(line, str) for line in tests) else None
    else:
        solution, tests = given["answer"], given["tests"]
        tests = json.dumps(tests) if isinstance(tests, list | dict) and tests else tests
        if isinstance(tests, str) and re.search(r"^def check\(", tests, re.MULTILINE) and given.get("entry_point"):
            tests += f"\n\ncheck({given['entry_point']})"  # HumanEval names the function in a column of its own
    text = text_of(given)
    for value, what in ((text, "text"), (solution, "reference solution"), (tests, "tests")):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"it has no {what}")
    solution = solution.replace("\r\n", "\n").strip("\n")
    return {"question": asked(text, solution, tests), "answer": solution, "tests": tests}


def text_of(given: dict) -> str | None:
    return given.get("prompt") or given.get("text") if "test_list" in given else given["question"]


def asked(text: str, solution: str, tests: str) -> str:
    """The problem as the model is given it: the text, and how the code is called, without any test."""
    try:
        wanted = read_tests(tests)
    except ValueError as error:
        raise ValueError(f"its tests are of no use: {error}") from error
    names = [wanted.function, "Solution"] if isinstance(wanted, Calls) else getattr(wanted, "names", ())
    definitions = outline(solution, names)
    if isinstance(wanted, Programs):
        return text.strip() + PROGRAM
    if not definitions:
        raise ValueError(f"its solution defines nothing of what its tests call ({', '.join(names)})")
    return f"{text.strip()}{DEFINE}```python\n{definitions}\n```"


def outline(source: str, names=None) -> str:
    """The functions and classes of `source` (those called `names`) without what they do; nothing is run."""
    try:
        body = ast.parse(source).body
        defined = {node.name: node for node in body if isinstance(node, DEFINITIONS)}  # of two the later one holds
        shown = [_emptied(node) for name, node in defined.items() if names is None or name in names]
        return ast.unparse(ast.Module(shown, []))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"its solution does not compile ({error})") from error


def _emptied(node):
    inner = [_emptied(part) for part in node.body if isinstance(part, DEFINITIONS)]
    node.body = inner if isinstance(node, ast.ClassDef) and inner else [ast.Expr(ast.Constant(...))]
    node.decorator_list = [name for name in node.decorator_list if ast.unparse(name) in SHOWN]
    return node


task = CodeTask(
    load=load,
    correctness=code_reward,
    format=code_format_reward,
    system_prompt=SYSTEM_PROMPT,
    max_completion_length=768,
    columns=("tests",),
    needed="a text, a reference solution, and tests that it passes and code that does nothing fails",
    voted=False,
    for_the_starter=BUILT_IN,
)
