"""The task code: rows of MBPP's two forms and of its own, the self-test, and the recipes on the built-in problems."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

from recipes import dpo, evaluate, grpo, hardware, ppo, sample, sft
from recipes.errors import InputError
from recipes.generation import Completion
from recipes.guard import GuardedReward
from recipes.merge import agreement
from recipes.preflight import held_out_texts, usable_rows
from recipes.samples import problem, read_samples
from recipes.tasks import load_task, task_names
from recipes.tasks.code import outline
from rewards import sandbox
from rewards.code_tests import Assertions, Calls, Programs, read_tests

TASK = load_task("code")
SHORT = ["--task", "code", "--report_to", "none", "--eval_samples", "1"]


def sanitized(n: int) -> list[dict]:
    return [
        {
            "source_file": "x.ipynb",
            "task_id": i,
            "prompt": f"Write a function to find the distance of a point from 0, plus {i}.",
            "code": f"import math\ndef sq(x):\n  return x*x\ndef dist_{i}(a, b=0):\n  return sq(a + b) ** .5 + {i}",
            "test_imports": ["import math"],
            "test_list": [f"assert math.isclose(dist_{i}(3, 4), {7 + i})", f"assert dist_{i}(7) == {7 + i}"],
        }
        for i in range(n)
    ]


def full(n: int) -> list[dict]:
    return [
        {
            "text": f"Write a function to add {i}.",
            "code": f"def add_{i}(x): \r\n\treturn x + {i} ",
            "task_id": i,
            "test_setup_code": f"one = {i}",
            "test_list": [f"assert add_{i}(one) == {i + i}", f"assert add_{i}(1) == {1 + i} "],
            "challenge_test_list": [],
        }
        for i in range(n)
    ]


def own(**changes) -> dict:
    solution, tests = "print(int(input()) * 2)", {"inputs": ["4\n", "-1"], "outputs": ["8\n", "-2"]}
    return {"question": "Double a number.", "answer": solution, "tests": json.dumps(tests)} | changes


@pytest.fixture
def refused(capsys):
    """Runs a recipe, which must end with exit code 2 and one sentence before a model is loaded; returns the sentence.

    What `datasets` says of a file that it reads may stand before it.
    """

    def run(main, *argv):
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        *progress, sentence = captured.err.replace("\r", "\n").strip().split("\n")
        assert stop.value.code == 2 and sentence.startswith("error: ")
        assert not any("error" in line or "Loading weights" in line for line in progress), captured.err
        return sentence

    return run


def test_the_problems_are_no_task():
    assert task_names() == ["code", "gsm8k", "word_problems"]


def test_a_row_of_sanitized_mbpp_is_asked_by_its_text_and_the_first_line_of_what_is_tested(write_jsonl):
    train, held_out = TASK.load(str(write_jsonl(sanitized(20))), None, 0)
    assert (len(train), len(held_out)) == (18, 2)
    assert train.column_names == held_out.column_names == ["question", "answer", "tests"]
    [row] = [row for row in [*train, *held_out] if "plus 7" in row["question"]]
    assert row["question"] == (
        "Write a function to find the distance of a point from 0, plus 7.\n\n"
        "Define:\n```python\ndef dist_7(a, b=0):\n    ...\n```"
    )
    assert row["answer"] == sanitized(8)[7]["code"]
    assert row["tests"] == "import math\nassert math.isclose(dist_7(3, 4), 14)\nassert dist_7(7) == 14"


def test_a_row_of_full_mbpp_has_its_setup_among_the_tests(write_jsonl):
    train, _ = TASK.load(str(write_jsonl(full(5))), None, 0)
    [row] = [row for row in train if "add_3" in row["question"]]
    assert row["question"].startswith("Write a function to add 3.") and "def add_3(x):" in row["question"]
    assert row["answer"] == "def add_3(x): \n\treturn x + 3 "
    assert row["tests"].split("\n")[:2] == ["one = 3", "assert add_3(one) == 6"]


def test_a_program_is_asked_to_read_and_print(write_jsonl):
    train, held_out = TASK.load(str(write_jsonl([own(), own(question="Twice?")])), None, 0)
    for row in (*train, *held_out):
        assert "standard input" in row["question"] and "def" not in row["question"]
        assert json.loads(row["tests"])["inputs"] == ["4\n", "-1"]


@pytest.mark.parametrize(
    ("tests", "kind"),
    [
        (["assert add(1, 2) == 3", "assert add(0, 0) == 0"], Assertions),
        ({"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}, Calls),
        ({"inputs": ["1 2"], "outputs": ["3"]}, Programs),
        ("def check(candidate):\n    assert candidate(1, 2) == 3\n", Assertions),
    ],
)
def test_tests_may_be_lists_or_objects_and_name_their_function_in_a_column_as_the_reward_takes_them(
    tests, kind, write_jsonl
):
    row = {"question": "Add.", "answer": "def add(a, b):\n    return a + b", "tests": tests, "entry_point": "add"}
    train, _ = TASK.load(str(write_jsonl([row, {**row, "question": "Add up."}])), None, 0)
    read = read_tests(train[0]["tests"])
    assert isinstance(read, kind) and len(read) == (2 if isinstance(tests, list) else 1)


def test_a_held_out_problem_is_known_without_what_the_task_adds_to_its_text(write_jsonl):
    _, held_out = TASK.load(str(write_jsonl(sanitized(20))), None, 0)
    texts = held_out_texts(TASK, held_out)
    assert all(question in texts and question.partition("\n\nDefine")[0] in texts for question in held_out["question"])
    _, programs = TASK.load(str(write_jsonl([own(question="Double."), own(question="Twice.")])), None, 0)
    assert {"Double.", "Twice."} & held_out_texts(TASK, programs)


def test_validation_and_prompt_are_trained_on_where_there_is_a_test_split(write_jsonl):
    rows = sanitized(10)
    for name, some in (("train", rows[:4]), ("test", rows[4:7]), ("validation", rows[7:9]), ("prompt", rows[9:])):
        folder = write_jsonl(some, f"mbpp/{name}.jsonl").parent
    files = "".join(
        f"  - split: {name}\n    path: {name}.jsonl\n" for name in ("train", "test", "validation", "prompt")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    train, held_out = TASK.load(str(folder), None, 0)
    assert len(train) == 7 and len(held_out) == 3
    assert not set(train["question"]) & set(held_out["question"])
    for name in ("test", "prompt"):
        (folder / f"{name}.jsonl").unlink()
    (folder / "README.md").unlink()
    train, held_out = TASK.load(str(folder), None, 0)
    assert len(train) == 4 and len(held_out) == 2


def test_of_several_configurations_the_sanitized_one_is_taken(write_jsonl):
    """As in a snapshot of the hub's repository."""
    for name, rows in (("full", full(9)), ("sanitized", sanitized(4))):
        write_jsonl(rows, f"mbpp/{name}/train.jsonl")
        folder = write_jsonl(rows[:2], f"mbpp/{name}/test.jsonl").parent.parent
    files = [f"- config_name: {name}\n  data_dir: {name}" for name in ("full", "sanitized")]
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(files) + "\n---\n")
    assert len(TASK.load(str(folder), None, 0)[0]) == 4
    assert len(TASK.load(str(folder), "full", 0)[0]) == 9


def test_the_built_in_problems_are_of_every_form_and_always_split_alike():
    train, held_out = TASK.load("built_in", None, 0)
    assert (len(train), len(held_out)) == (9, 3)
    forms = [type(read_tests(row["tests"])) for row in (*train, *held_out)]
    assert [forms.count(form) for form in (Assertions, Programs, Calls)] == [6, 4, 2]
    assert {type(read_tests(tests)) for tests in held_out["tests"]} == {Assertions, Programs, Calls}
    assert len(set(train["question"]) | set(held_out["question"])) == 12
    assert TASK.load("built_in", None, 1)[1]["question"] == held_out["question"]


def test_no_question_shows_a_test_or_what_the_solution_does(write_jsonl):
    rows = [row for name in ("built_in", str(write_jsonl(sanitized(9)))) for row in TASK.load(name, None, 0)[0]]
    for row in rows:
        tests = read_tests(row["tests"])
        assert "assert" not in row["question"] and "return" not in row["question"].partition("```")[2]
        if isinstance(tests, Programs):
            assert not any(text.strip() in row["question"] for text in tests.inputs if len(text) > 3)
        if isinstance(tests, Assertions):
            assert not any(source in row["question"] for source, _ in tests.pieces)


def test_an_outline_has_what_a_caller_needs_and_no_more():
    source = (
        "from functools import cache\n@cache\ndef f(a: int, *rest, key=1) -> int:\n    return a\n"
        "class Box(Base):\n    size = 1\n    def __init__(self, n):\n        self.n = n\n"
        "    @property\n    def twice(self):\n        return 2 * self.n\n"
        "def helper(): pass\nclass Empty: pass\n"
    )
    assert outline(source, ["f"]) == "def f(a: int, *rest, key=1) -> int:\n    ..."
    box = outline(source, ["Box"])
    assert "class Box(Base):" in box and "def __init__(self, n):" in box and "@property" in box
    assert "size" not in box and "self.n" not in box
    assert outline(source, ["Empty"]) == "class Empty:\n    ..."
    assert "helper" in outline(source) and "cache" not in outline(source)


def test_a_wrong_program_defines_the_same_and_does_nothing():
    source = "from math import pi\ndef area(r: float = pi) -> float:\n    return r * r * pi"
    assert TASK.wrong(source) == "from math import pi\ndef area(r: float=pi) -> float:\n    ..."
    assert TASK.wrong("print(1)").strip() == "pass"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [{"question": "a", "answer": "b"}] * 3,
            "has no column tests (it has question, answer); rename its columns to",
        ),
        ([{"text": "a", "code": "b"}] * 3, "has no column test_list"),
        (
            [own(answer="def (")] * 3,
            "2 of 2 train rows make no problem ('Double a number.': its solution does not compile",
        ),
        ([own(tests="assert")] * 3, "its tests are of no use: they do not compile"),
        ([own(tests='{"inputs": ["1"], "outputs": []}')] * 3, "they have 1 `inputs` and 0 `outputs`"),
        ([own(tests="assert double(1) == 2")] * 3, "defines nothing of what its tests call (double)"),
        ([own(tests=None), own(answer=None), own(question=" "), own()], "it has no tests"),
        ([{**row, "test_list": []} for row in full(3)], "there is no assert"),
        (
            ["[1]"],
            "line 1 is not a JSON object with `prompt`, `code` and `test_list`, or `text`, `code` and `test_list`",
        ),
    ],
)
def test_what_makes_no_problem_is_refused_in_a_sentence(rows, sentence, write_jsonl, refused):
    assert sentence in refused(grpo.main, *SHORT, "--dataset_name", write_jsonl(rows))


def test_a_few_rows_that_make_no_problem_are_counted_and_left_out(write_jsonl, capsys):
    train, held_out = TASK.load(str(write_jsonl([*sanitized(19), {**sanitized(1)[0], "code": "x ="}])), None, 0)
    assert len(train) + len(held_out) == 19
    assert "its solution does not compile" in capsys.readouterr().out


@pytest.mark.needs_sandbox
def test_a_row_must_pay_its_own_solution_and_not_one_that_does_nothing(capsys):
    rows = [
        own(),
        own(question="wrong", answer="print(int(input()) * 3)"),
        own(question="idle", answer="def f(x):\n    pass", tests="assert f(1) is None\nassert f(2) is None"),
        own(question="broken", answer="def f(x):\n    pass", tests="import numpy\nassert f(1) is None"),
        own(question="right", answer="def f(x):\n    return -x", tests="assert f(1) == -1"),
        own(question="right, too", answer="def f(x):\n    return []", tests="assert f(1) == []"),
        own(question="and this", answer="def f(x):\n    return 0", tests="assert f(1) == 0"),
    ]
    usable = usable_rows(Dataset.from_list(rows), TASK, "t")
    assert usable["question"] == ["Double a number.", "right", "right, too", "and this"]
    said = capsys.readouterr().out
    assert "'wrong': its own gold answer 'print(int(input()) * 3)' scores [0.0, 1.0]" in said
    assert "'idle': a wrong answer is paid 1.0" in said and "'broken': its tests cannot be used" in said
    with pytest.raises(InputError, match="a row needs a text, a reference solution, and tests"):
        usable_rows(Dataset.from_list(rows[1:4]), TASK, "t")


@pytest.mark.needs_sandbox
def test_grpo_trains_the_miniature_on_the_built_in_problems_and_says_what_that_is_worth(capsys):
    grpo.main([*SHORT, "--max_steps", "2", "--per_device_train_batch_size", "16"])
    output = capsys.readouterr().out
    assert "cannot write code" in output and "name a real model by --model_name_or_path" in output
    assert "--dataset_name built_in" in output
    run = Path("runs/grpo-code")
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2] and "rewards/code_reward/mean" in metrics[0]
    samples = [json.loads(line) for line in (run / "samples" / "step_000002.jsonl").read_text().splitlines()]
    assert len(samples) == 16 and {"code_reward", "code_format_reward", "code_verdict"} <= samples[0].keys()
    assert json.loads((run / "result.json").read_text())["after"]["n"] == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["dataset_name"] == "built_in"


def test_only_the_miniature_is_given_the_built_in_problems():
    cpu = hardware.Machine("cpu", "CPU", 16.0, bf16=False)
    assert hardware.defaults(cpu, TASK, {})["dataset_name"] == "built_in"
    assert "dataset_name" not in hardware.defaults(cpu, TASK, {"model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"})
    assert "dataset_name" not in hardware.defaults(cpu, load_task("word_problems"), {})
    assert "trains Qwen/Qwen2.5-1.5B-Instruct on MBPP" in hardware.first_line(cpu, "code", "code", "starter")


@pytest.mark.needs_sandbox
@pytest.mark.parametrize("recipe", [grpo, ppo])
def test_the_built_in_problems_are_enough_for_a_batch(recipe, capsys):
    recipe.main(["--task", "code", "--dry_run"])
    passed = "9 train and 3 held-out rows pass the gold self-test; a generation batch is 64 completions = 8 prompts x 8"
    assert passed in capsys.readouterr().out


@pytest.mark.needs_sandbox
def test_ppo_trains_on_them_too():
    ppo.main([*SHORT, "--max_steps", "1", "--per_device_train_batch_size", "16"])
    assert json.loads(Path("runs/ppo-code/result.json").read_text())["steps"] == 1


@pytest.fixture
def scored_file(write_jsonl) -> Path:
    """The built-in train problems with a right and a wrong completion of each, scored by the sampler."""
    rows = [
        {**row, "completions": [TASK.written(row["answer"]), TASK.written(TASK.wrong(row["answer"])), "No code."]}
        for row in TASK.load("built_in", None, 0)[0]
    ]
    sample.main(["--task", "code", "--completions", str(write_jsonl(rows)), "--output_dir", "runs/scored"])
    return Path("runs/scored/samples.jsonl")


@pytest.mark.needs_sandbox
def test_completions_from_elsewhere_are_scored_by_their_tests_and_keep_them(scored_file):
    rows = read_samples(scored_file, "code", needs=["code_reward", "code_format_reward"])
    assert [row["rewards"]["code_reward"] for row in rows] == [[1.0, 0.0, 0.0]] * 9
    assert [row["rewards"]["code_format_reward"] for row in rows] == [[1.0, 1.0, 0.0]] * 9
    assert [row["tests"] for row in rows] == TASK.load("built_in", None, 0)[0]["tests"]
    again = ["--task", "code", "--completions", str(scored_file), "--output_dir", "runs/again"]
    sample.main(again)
    assert Path("runs/again/samples.jsonl").read_text() == scored_file.read_text()


def test_completions_from_elsewhere_without_tests_are_refused(write_jsonl, refused_by):
    row = {"question": "Double a number.", "answer": "print(2)", "completions": ["a"]}
    for given, sentence in (
        (row, "has no `tests`: a row needs `question` (or `prompt`), `answer`, `tests` and `completions`"),
        ({**row, "tests": ["assert f(1)"]}, "`question`, `answer` and `tests` must be texts"),
    ):
        assert sentence in refused_by(sample.main, "--task", "code", "--completions", write_jsonl([given]))


@pytest.mark.needs_sandbox
def test_what_was_right_is_trained_on_by_sft_and_dpo(scored_file):
    for recipe, figures in ((sft, "samples"), (dpo, "pairs")):
        argv = ["--samples", str(scored_file), "--max_steps", "1", "--output_dir", f"runs/{figures}"]
        recipe.main([*SHORT, "--eval_samples", "0", *argv])
    assert json.loads(Path("runs/samples/result.json").read_text())["samples"]["kept"] == 9
    assert json.loads(Path("runs/pairs/result.json").read_text())["pairs"]["pairs"] == 9


@pytest.mark.needs_sandbox
def test_reference_solutions_are_no_thoughts_to_imitate(refused):
    assert "there are no thoughts to imitate" in refused(sft.main, *SHORT)


@pytest.mark.needs_sandbox
def test_code_has_pass_at_k_and_no_majority(scored_file, capsys):
    evaluate.main(["--task", "code", "--models", str(scored_file), "--k", "1", "3"])
    [figures] = json.loads(Path("runs/eval-code/result.json").read_text())["models"].values()
    assert figures["pass@1"] == pytest.approx(1 / 3) and figures["pass@3"] == 1.0
    assert not any(name.startswith("maj@") for name in figures) and "maj@" not in capsys.readouterr().out


@pytest.mark.needs_sandbox
def test_two_models_are_compared_by_the_tests_of_each_row():
    rows = TASK.load("built_in", None, 0)[1].map(lambda row: {"prompt": TASK.prompt(row["question"])})
    right, wrong = (
        [Completion(TASK.written(change(answer)), 1, False) for answer in rows["answer"]]
        for change in (str, TASK.wrong)
    )
    found = agreement(right, wrong, rows, GuardedReward(TASK.correctness))
    assert (found["right_apart"], found["right_merged"], found["same_verdict"]) == (3, 0, 0)


def test_a_problem_is_known_by_all_of_its_solution():
    row = {"question": "q", "answer": "# the answer is 4\ndef f():\n    return 4  #### 5"}
    assert problem(row, TASK) == ("q", row["answer"])


@pytest.fixture
def without_bubblewrap(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    sandbox._check_bubblewrap.cache_clear()  # it remembers that it was found


def test_without_a_sandbox_a_recipe_ends_before_a_model_is_loaded(without_bubblewrap, refused_by):
    message = refused_by(grpo.main, *SHORT)
    assert "there is no bwrap on the PATH" in message and "apt install bubblewrap" in message
    assert not Path("runs").exists()


def test_without_a_sandbox_nothing_is_scored(without_bubblewrap, write_jsonl, refused_by):
    path = write_jsonl([{**own(), "completions": ["```python\nprint(int(input()) * 2)\n```"]}])
    assert "no bwrap on the PATH" in refused_by(sample.main, "--task", "code", "--completions", path)
    assert not Path("runs/sample-code/samples.jsonl").exists()
