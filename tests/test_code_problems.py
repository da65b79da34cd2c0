"""The built-in problems of the task code: their own solutions are paid, and the mistakes that one makes are not."""

import re
from collections import Counter
from pathlib import Path

import pytest

from recipes.tasks.code import task
from recipes.tasks.code_problems import HELD_OUT, TRAIN
from rewards import code_reward, get_code_reward

PROBLEMS = TRAIN | HELD_OUT
WRONG = (Path(__file__).parent / "cases" / "code_wrong.md").read_text()
MISTAKES = re.findall(r"^## (\w+): ([^\n]*)\n\n```python\n(.*?)\n```$", WRONG, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.needs_sandbox


def test_every_reference_solution_passes_its_tests():
    right = [task.written(problem["answer"]) for problem in PROBLEMS.values()]
    tests = [problem["tests"] for problem in PROBLEMS.values()]
    assert dict(zip(PROBLEMS, code_reward(completions=right, tests=tests), strict=True)) == dict.fromkeys(PROBLEMS, 1.0)


def test_no_mistake_passes_the_tests():
    paid = judged(code_reward)
    assert {mistake: reward for mistake, reward in paid.items() if reward != 0} == {}


def test_every_mistake_is_a_plausible_one():
    """It passes some of the tests: it is not their first one alone that tells right from wrong."""
    shares = judged(get_code_reward(mode="fraction"))
    assert {mistake: share for mistake, share in shares.items() if not 0 < share < 1} == {}


def test_each_problem_has_at_least_three_mistakes():
    assert WRONG.count("\n## ") == len(MISTAKES)
    counted = Counter(name for name, _, _ in MISTAKES)
    assert counted.keys() == PROBLEMS.keys() and min(counted.values()) >= 3


def judged(reward) -> dict:
    wrong = [task.written(source) for _, _, source in MISTAKES]
    rewards = reward(completions=wrong, tests=[PROBLEMS[name]["tests"] for name, _, _ in MISTAKES])
    return {(name, what): value for (name, what, _), value in zip(MISTAKES, rewards, strict=True)}
