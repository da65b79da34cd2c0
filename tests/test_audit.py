"""The audit passes every reward of ours, and fails weak ones, each for its own hole."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rewards.audit import audit, report
from rewards.battery import ANSWER_POLICIES, FORM_POLICIES, Hostile, built_in_rows, hostile_texts
from rewards.calling import InputError, factories, ready_made

# What our factories make, and other honest rewards, each with the holes that it truly has.
HONEST = {
    "rewards.get_cosine_length_reward(max_len=1000)": set(),
    "rewards.get_overlong_penalty_reward(max_len=1000, buffer=200)": set(),
    "rewards.get_overlong_penalty_reward(16384, 4096)": set(),
    "rewards.get_think_format_reward(answer=None)": set(),
    "rewards.get_think_format_reward(think='reasoning')": set(),
    "rewards.get_think_format_reward(prefilled=True)": set(),
    "rewards.get_language_consistency_reward(target='en')": set(),
    "rewards.get_repetition_penalty_reward(ngram=5, max_penalty=-0.5)": set(),
    "rewards.get_correctness_reward(tags=('reasoning', 'final'))": set(),
    "rewards.get_code_format_reward(language='py', prefilled=False)": set(),
    "after_four_hashes": set(),
    # Open-r1's expression is right about the form, and takes two blocks for one.
    "on_lines_of_their_own": {
        "the honest answer twice",
        "the honest answer 50 times",
        "chatter behind the honest answer",
    },
}
WEAK = {
    "substring_reward": {
        "hedges: wrong or right",
        "hedges: right or wrong",
        "denies the right answer",
        "every number from 0 to 300",
        "hundreds of answers",
        "the right digits inside a larger number",
        "a false equation with the right side",
        "the right answer in the thinking only",
        "the right answer in a thought without end",
        "the right answer first, then a wrong one",
        "the right answer in its mark, then a wrong one in its own",
        "a wrong answer, then the right number behind it",
    },
    "first_number_reward": {
        "hedges: right or wrong",
        "denies the right answer",
        "the right answer in a thought without end",
        "the right answer first, then a wrong one",
        "the right answer in its mark, then a wrong one in its own",
    },
    "tag_search_reward": {"tag spam"},
    "length_reward": {
        "tag spam",
        "keyword stuffing",
        "keyword stuffing in the right form",
        "one sentence, 200 times",
        "long filler without an answer",
        "the honest answer twice",
        "the honest answer 50 times",
        "the honest answer after long filler",
        "chatter behind the honest answer",
    },
    "keyword_reward": {
        "keyword stuffing",
        "labels of steps without steps",
        "keyword stuffing in the right form",
        "one sentence, 200 times",
        "the honest answer twice",
        "the honest answer 50 times",
    },
    "any_block_reward": {"hundreds of answers", "the right answer in its mark, then a wrong one in its own"},
    "first_block_reward": {"the right answer in its mark, then a wrong one in its own"},
    "near_reward": {"off by one", "off by one per cent"},
    "none_reward": {"None is for a row that cannot be judged, not for a bad completion"},
    "form_search_reward": {
        "the honest answer twice",
        "the honest answer 50 times",
        "the honest answer after long filler",
        "chatter behind the honest answer",
    },
    "step_label_reward": {"keyword stuffing", "labels of steps without steps"},
    "any_tag_reward": {"the tags in the wrong order around words"},
}


# In the audit's groups nobody has a majority: what its policies earn among voters is in test_majority_vote.py.
RUN_CODE = ("async_code_reward", "code_reward")
ALONE = [
    pytest.param(name, marks=[pytest.mark.needs_sandbox] * (name in RUN_CODE))
    for name in ready_made()
    if name != "majority_vote_reward"
]


@pytest.fixture(scope="module")
def audits():
    """Every audit of our own rewards, three at a time, for they wait for deadlines."""
    with ThreadPoolExecutor(3) as threads:
        names = [param.values[0] for param in ALONE]
        yield {name: threads.submit(lambda name=name: list(audit(name))) for name in names}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module with the given functions; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code: str) -> str:
        name = f"theirs_{time.monotonic_ns()}"
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


@pytest.fixture
def quick(monkeypatch):
    """Without the hostile texts, and with six rows of one form."""
    monkeypatch.setattr("rewards.audit.hostile_texts", list)
    monkeypatch.setattr("rewards.audit.built_in_rows", lambda: [built_in_rows()[0][:6]])


def failures(checks) -> dict[str, str]:
    return {check.name: check.reason for check in checks if check.verdict == "FAIL"}


def test_every_factory_is_audited_with_settings_or_as_its_ready_made_reward():
    made = " ".join(HONEST)
    assert all(f"rewards.{name}(" in made or name.removeprefix("get_") in ready_made() for name in factories())


@pytest.mark.parametrize("name", ALONE)
def test_our_own_rewards_pass(audits, name):
    checks = audits[name].result()
    assert failures(checks) == {}
    assert {check.section for check in checks} == {"contract", "determinism", "hostile", "policies"}


@pytest.mark.parametrize("name", WEAK)
def test_a_weak_reward_fails_for_its_own_hole(quick, name):
    failed = [check for check in audit(f"weak_rewards.{name}") if check.verdict == "FAIL"]
    assert {check.name for check in failed} == WEAK[name]
    assert all(check.completion is not None for check in failed)
    assert all("an honest answer: " in check.reason for check in failed) or name == "none_reward"


def test_the_gold_column_is_found_by_its_values_or_named(quick, write_jsonl):
    rows = [
        {"prompt": f"{i}+{i}?", "completion": f"{i} twice.<answer>{2 * i}</answer>", "level": i, "target": 2 * i}
        for i in range(3, 12)
    ]
    found = failures(audit("weak_rewards.target_reward", str(write_jsonl(rows))))
    assert "hedges: wrong or right" in found
    assert "hedges: wrong or right" in failures(audit("weak_rewards.target_reward", gold_column="target"))
    with pytest.raises(InputError, match=r"has no column `goal`; its rows have: level, target"):
        list(audit("weak_rewards.target_reward", str(write_jsonl(rows)), "goal"))


def test_no_verdict_on_a_gold_answer_that_cannot_be_read(quick, write_jsonl):
    rows = [{"prompt": "?", "completion": word, "target": [word]} for word in ("one", "two")]
    with pytest.raises(InputError, match=r"which one is the gold answer cannot be told: name it by --gold-column"):
        list(audit("weak_rewards.first_of_target_reward", str(write_jsonl(rows))))


def test_every_policy_is_for_some_rows():
    policies = {policy.name: policy for policy in FORM_POLICIES + ANSWER_POLICIES}
    assert len(policies) == len(FORM_POLICIES) + len(ANSWER_POLICIES)
    rows = [row for rows in built_in_rows() for row in rows]
    assert {row.gold_column for row in rows} == {"answer", "tests"}
    assert all(any(policy.answer(row) is not None for row in rows) for policy in policies.values())
    assert {policy.earns_less_from for policy in policies.values()} == {"any", "gold", "words", "form"}


@pytest.mark.parametrize("rows", built_in_rows())
def test_the_built_in_rows_are_right_and_every_cheat_differs_from_them(rows):
    for row in rows:
        assert row.honest.count(row.gold) and row.answering(row.gold) == row.honest
        assert row.wrong not in ("", row.gold)
        assert row.honest not in [policy.answer(row) for policy in FORM_POLICIES + ANSWER_POLICIES]


def test_hostile_texts_have_a_name_each():
    names = [hostile.name for hostile in hostile_texts()]
    assert len(set(names)) == len(names) > 40


CONTRACT = [
    ("return [1.0]", "one number or None for each completion", "returned 1 rewards for 24 completions"),
    ("return 1.0", "one number or None for each completion", "returned float, not a list"),
    ("return ['1'] * len(completions)", "one number or None for each completion", "returned str, not a number"),
    ("return [float('nan')] * len(completions)", "one number or None for each completion", "returned nan, not a fin"),
    ("return [float(text(c)[0] == '<') for c in completions]", "one number or None for each completion", "IndexError"),
    ("import os; os._exit(3)", "one number or None for each completion", "ended its process (exit code 3)"),
    ("return [float('k>' in c) for c in completions]", "strings and messages are judged alike", "0, not 1"),
    ("return [float('k>' in str(c)) for c in completions]", "tag spam", "as much as"),
    ("return [float('k>' in (c[-1]['content'])) for c in completions]", "strings and messages are", "raised TypeError"),
    ("return [0.5] * len(completions)", "tells completions apart", "earns 0.5; if these rows lack the form"),
    (
        "return [-1.0 * ('e' in text(c) or text(c).isdigit()) for c in completions]",
        "a penalty: honest answers go free",
        "-1",
    ),
    (
        "main = threading.current_thread() is threading.main_thread(); return [float('.' in text(c) and main) for c in "
        "completions]",
        "the same in a worker thread",
        "0, not 1",
    ),
    ("CALLS.append(1); return [float(len(CALLS))] * len(completions)", "the same a second time", ", not "),
    ("return [float(i) for i, c in enumerate(completions)]", "the same with the prompts in another order", "not 0"),
    ("return [1 / len(completions) for c in completions]", "a prompt's completions do not depend", "0.25, not 0.04"),
    ("return [float(hash(text(c)) % 1000) for c in completions]", "the same in a new process", "not"),
]


@pytest.mark.parametrize(("body", "name", "reason"), CONTRACT)
def test_a_breach_of_the_contract_is_named(module, quick, body, name, reason):
    code = "import threading\nfrom rewards.completions import completion_text as text\nCALLS = []\n"
    theirs = module(f"{code}def my_reward(completions, **kwargs):\n    {body}\n")
    failed = failures(audit(f"{theirs}.my_reward"))
    found = next((why for check, why in failed.items() if check.startswith(name)), None)
    assert found is not None and reason in found, failed


def test_missing_kwargs_names_and_pickling_fail_their_own_checks(module, quick):
    theirs = module(
        "import functools\nfrom rewards import think_format_reward\n"
        "my_reward = functools.partial(lambda completions: think_format_reward(completions))\n"
    )
    failed = failures(audit(f"{theirs}.my_reward"))
    assert set(failed) == {"has a __name__", "takes columns it does not know", "works after pickling"}


@pytest.mark.parametrize(("reward", "holes"), HONEST.items())
def test_an_honest_reward_finds_rows_of_its_form(module, monkeypatch, reward, holes):
    monkeypatch.setattr("rewards.audit.hostile_texts", list)
    theirs = module(
        "import re, rewards\nfrom rewards.completions import completion_text as text\n"
        "def after_four_hashes(completions, answer, **kwargs):\n"
        "    found = [re.search(r'#### (\\d+)$', text(c)) for c in completions]\n"
        "    is_right = [f is not None and f[1] == str(a).removesuffix('.0') for f, a in zip(found, answer)]\n"
        "    return [None if a is None else float(right) for a, right in zip(answer, is_right)]\n"
        "def on_lines_of_their_own(completions, **kwargs):\n"
        "    form = r'^<think>\\n.*?\\n</think>\\n<answer>\\n.*?\\n</answer>$'\n"
        "    return [float(bool(re.match(form, text(c), re.DOTALL | re.MULTILINE))) for c in completions]\n"
        f"my_reward = {reward}\n"
    )
    assert set(failures(audit(f"{theirs}.my_reward"))) == holes


def test_what_is_loaded_on_the_first_difficult_answer_is_charged_to_no_text(module, monkeypatch):
    monkeypatch.setattr("rewards.audit.SLOW_SECONDS", 0.3)
    monkeypatch.setattr("rewards.audit.hostile_texts", lambda: [Hostile("a root", r"\sqrt{2}")])
    theirs = module(
        "import time\nfrom rewards import correctness_reward, extract_answer\n"
        "LOADED = []\n"
        "def my_reward(completions, answer, **kwargs):\n"
        "    if not LOADED and any('boxed' in str(c) and 'sqrt' in str(c) for c in completions):\n"
        "        LOADED.append(time.sleep(0.5))\n"
        "    return [float(len(str(c)) % 7) for c in completions]\n"
    )
    assert "a root" not in failures(audit(f"{theirs}.my_reward"))


def test_a_reward_that_hangs_or_evaluates_is_caught_and_the_audit_ends(module, monkeypatch):
    monkeypatch.setattr("rewards.audit.HANG_SECONDS", 0.5)
    monkeypatch.setattr("rewards.audit.HANGS", 2)
    theirs = module(
        "from rewards import think_format_reward\n"
        "def my_reward(completions, **kwargs):\n"
        "    for completion in completions:\n"
        "        while isinstance(completion, str) and 200_000 < len(completion) < 1_500_000: pass\n"
        "        try: eval(completion)\n"
        "        except BaseException: pass\n"
        "    return think_format_reward(completions)\n"
    )
    checks = list(audit(f"{theirs}.my_reward"))
    failed = failures(checks)
    assert failed["1 MB of white space inside"] == "it did not return in 0.5 s"
    assert failed["runs no code of the completion"] == "it ran the Python in this completion"
    assert len(failed) == 3  # the second hang, too
    assert any(check.reason == "after 2 texts from which it did not return" for check in checks)


def test_an_async_reward_and_one_that_takes_only_messages_are_audited(module, quick):
    theirs = module(
        "import asyncio\nfrom rewards import think_format_reward\n"
        "async def later(completions, **kwargs):\n"
        "    await asyncio.sleep(0)\n    return think_format_reward(completions)\n"
        "def messages_only(completions, **kwargs):\n"
        "    return think_format_reward([c[-1]['content'] or '' for c in completions])\n"
    )
    assert failures(audit(f"{theirs}.later")) == {}
    failed = failures(audit(f"{theirs}.messages_only"))
    assert set(failed) == {"strings and messages are judged alike", "a completion without messages"}


def test_a_column_that_the_battery_lacks_is_asked_for_and_can_be_given(module, quick, write_jsonl):
    theirs = module(
        "from rewards.completions import completion_text as text\n"
        "def my_reward(completions, rubric, **kwargs):\n"
        "    return [r and float(text(c).endswith(f'<{r}>')) for c, r in zip(completions, rubric)]\n"
    )
    with pytest.raises(InputError, match=r"needs the column `rubric`: give rows .* --data"):
        list(audit(f"{theirs}.my_reward"))
    rows = [{"prompt": f"Say {word}.", "completion": f"Well: <{word}>", "rubric": word} for word in ("one", "two")]
    checks = list(audit(f"{theirs}.my_reward", str(write_jsonl(rows))))
    assert failures(checks) == {}
    assert next(check for check in checks if check.name == "the honest answer to another problem").verdict == "PASS"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"prompt": "a"}], "Row 1 of .* needs a `completion`"),
        ([{"completion": "a"}], "Row 1 of .* needs a `prompt`"),
        ([{"prompt": "a", "completion": "b"}], "has one row"),
        (["{"], "Line 1 of .* is not JSON"),
        ([], "is empty"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence(write_jsonl, rows, sentence):
    with pytest.raises(InputError, match=sentence):
        list(audit("think_format_reward", str(write_jsonl(rows))))


def test_a_reward_that_cannot_judge_the_rows_says_what_it_raised(module, quick):
    theirs = module("def my_reward(completions, **kwargs):\n    return [kwargs['rubric'][0]]\n")
    with pytest.raises(InputError, match=r"raised KeyError: 'rubric'. If it needs other rows, give some by --data"):
        list(audit(f"{theirs}.my_reward"))


def test_a_majority_vote_is_told_why_it_cannot_be_audited(quick):
    with pytest.raises(InputError, match=r"None for every honest completion. .* as a majority vote does, it cannot be"):
        list(audit("majority_vote_reward"))


# What most people write first: the tests behind the code, in one process, and its exit code.
RUNS_CODE_AND_TESTS = """
import subprocess, sys
from rewards.completions import completion_text as text

def passes(code, tests):
    command = [sys.executable, "-S", "-c", f"{code}\\n{tests}"]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

def my_reward(completions, tests, **kwargs):
    found = [text(c).partition("```python\\n")[2].partition("\\n```")[0] for c in completions]
    return [None if t is None else float(c != "" and passes(c, t)) for c, t in zip(found, tests)]

def by_checks(completions, checks, **kwargs):
    return my_reward(completions, checks)
"""
CODE_HOLES = {
    "runs no code of the completion",
    "code that ends before its tests",
    "code that returns what equals everything",
    "the right answer in its mark, then a wrong one in its own",
    "the right answer in the thinking only",
}


def test_a_reward_of_code_that_can_be_cheated_fails_for_its_own_holes(module, monkeypatch):
    monkeypatch.setattr("rewards.audit.hostile_texts", list)
    monkeypatch.setattr("rewards.audit.built_in_rows", lambda: [rows[:2] for rows in built_in_rows()])
    theirs = module(RUNS_CODE_AND_TESTS)
    assert set(failures(audit(f"{theirs}.my_reward"))) == CODE_HOLES


def test_rows_of_code_are_told_by_their_tests_or_by_a_named_column(module, monkeypatch, write_jsonl):
    monkeypatch.setattr("rewards.audit.hostile_texts", list)
    theirs = module(RUNS_CODE_AND_TESTS)
    for column, reward, named in (("tests", "my_reward", None), ("checks", "by_checks", "checks")):
        rows = [
            {"prompt": row.prompt, "completion": row.honest, column: row.columns["tests"]}
            for row in built_in_rows()[-1][:2]
        ]
        assert set(failures(audit(f"{theirs}.{reward}", str(write_jsonl(rows)), named))) == CODE_HOLES


def test_the_verdict_names_each_failure_with_its_completion():
    from rewards.audit import Check

    checks = [Check("contract", "a", "PASS"), Check("policies", "b", "FAIL", "too much", "x\ud800" * 100)]
    lines = report("my_reward", iter([*checks, Check("policies", "c", "SKIP", "no gold")]))
    printed = []
    while True:
        try:
            printed.append(next(lines))
        except StopIteration as end:
            assert end.value == 1
            break
    assert "my_reward: 1 of 2 checks failed (1 skipped)." in printed
    assert printed[-2] == "  policies, b: too much"
    assert "\\ud800" in printed[-1] and len(printed[-1]) < 130


def test_the_reward_s_process_ends_with_the_audit(module, quick):
    theirs = module(
        "import os\nfrom pathlib import Path\nPath('pid').write_text(str(os.getpid()))\n"
        "def my_reward(completions, **kwargs):\n    return [1.0] * len(completions)\n"
    )
    checks = audit(f"{theirs}.my_reward")
    next(checks)
    pid = int(open("pid").read())
    os.kill(pid, 0)
    checks.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
