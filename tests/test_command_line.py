"""`python -m rewards list | score | audit`: what it prints, what it refuses, and how it ends."""

import json
import os
import subprocess
import sys

import pytest

import rewards
from rewards import score as score_module
from rewards.__main__ import described, main
from rewards.calling import InputError, describe, factories, load_reward, printable, ready_made, width_of
from rewards.score import score, table

RIGHT = "<think>1+1=2</think><answer>2</answer>"
ROWS = [
    {"prompt": "1+1?", "completions": [RIGHT, "3"], "answer": "2"},
    {"prompt": "2+2?", "completion": [{"role": "assistant", "content": "#### 4"}], "answer": 4},
    {"prompt": "2+2?", "completion": "#### 4 ", "answer": 4},
    {"prompt": "x?", "completions": "#### 9", "answer": None},
]


def command(*argv, stdin: bytes = b"", **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rewards", *map(str, argv)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def theirs(tmp_path):
    """A module of the user's own in the working folder."""
    (tmp_path / "their_rewards.py").write_text(
        "def length(completions, **kwargs):\n    return [len(c) for c in completions]\n"
        "def short(completions, **kwargs):\n    return [1.0]\n"
        "def text(completions, **kwargs):\n    return ['good'] * len(completions)\n"
        "def nan(completions, **kwargs):\n    return [float('nan')] * len(completions)\n"
        "def rubric(completions, rubric, **kwargs):\n    return [1.0] * len(completions)\n"
        "def fussy(completions, **kwargs):\n    return [1 / (c != '#### 9') for c in completions]\n"
        "def tokens(completion_ids, **kwargs):\n    return [len(ids) for ids in completion_ids]\n"
        "def groups(prompts, **kwargs):\n    return [prompts.count(prompt) for prompt in prompts]\n"
        "def seen(log_extra, log_metric, trainer_state, **kwargs):\n"
        "    log_extra('a', [1]); log_metric('b', 1.0)\n"
        "    return [trainer_state.global_step + len(kwargs)] * len(kwargs['completions'])\n"
        "class Reward:\n    pass\n"
        "def leaves(completions, **kwargs):\n    raise SystemExit(3)\n"
        "async def leaves_later(completions, **kwargs):\n    raise SystemExit(3)\n"
        "class Silent(BaseException):\n    def __str__(self):\n        raise ValueError\n"
        "def silent(completions, **kwargs):\n    raise Silent\n"
        "def level(completions, level, **kwargs):\n    return [1.0] * len(completions)\n"
        "def written(completions, **kwargs):\n    return [len(open('out.jsonl.part').readlines())] * len(completions)\n"
        "async def later(completions, **kwargs):\n"
        "    import asyncio\n    await asyncio.sleep(0)\n    return [1] * len(completions)\n"
    )


# In real processes


def test_list_shows_every_reward_with_its_range():
    done = command("list")
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["name", *ready_made(), *factories()]


def test_score_reads_anybody_s_reward_and_writes_every_reward_by_name(theirs, write_jsonl, tmp_path):
    path = write_jsonl(ROWS)
    names = ["think_format_reward", "their_rewards.length", "their_rewards.later"]
    done = command("score", path, "--rewards", *names, "--output", "scored.jsonl")
    assert done.returncode == 0 and not done.stderr
    printed = done.stdout.decode()
    assert "5 rows are in scored.jsonl." in printed and "1.2  3 " in printed
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "prompt": "1+1?",
        "answer": "2",
        "completion": RIGHT,
        "think_format_reward": 1.0,
        "length": len(RIGHT),
        "later": 1.0,
    }
    assert len(rows) == 5


def test_score_reads_standard_input_and_a_terminal_without_utf_8_shows_what_it_can():
    row = {"prompt": "?", "completion": "答案是 4 \ud800 \u202e", "answer": "4"}
    done = command(
        "score", "-", "--rewards", "think_format_reward", stdin=json.dumps(row).encode(), PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0 and not done.stderr
    assert b"\\u7b54\\u6848\\u662f 4 \\ud800 \\u202e" in done.stdout


def test_a_closed_pipe_is_quiet(write_jsonl):
    path = write_jsonl([{"prompt": str(i), "completion": "a" * 60} for i in range(3000)])
    done = subprocess.run(
        f"{sys.executable} -m rewards score {path} --rewards think_format_reward --rows 3000 | head -1",
        shell=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout.startswith(b"row") and not done.stderr


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("list >/dev/full", 2, "error: Standard output cannot be written: No space left on device.\n"),
        ("score rows.jsonl --rewards think_format_reward >/dev/full", 2, "error: Standard output cannot be written"),
        ("score rows.jsonl --rewards think_format_reward >&-", 0, ""),
        ("score rows.jsonl --rewards zzz >&- 2>&-", 2, ""),
        ("score - --rewards think_format_reward <&-", 2, "error: standard input is empty"),
    ],
)
def test_a_full_or_closed_stream_is_one_sentence_or_none(write_jsonl, line, code, error):
    write_jsonl(ROWS)
    done = subprocess.run(
        f"{sys.executable} -m rewards {line}", shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stderr.startswith(error) and done.stderr.count("\n") == bool(error)


def test_a_module_that_reads_the_command_line_reads_nothing_of_ours(write_jsonl, tmp_path):
    (tmp_path / "parses.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', default=1)\n"
        "args = parser.parse_args()\ndef reward(completions, **kwargs):\n    return [args.lr] * len(completions)\n"
    )
    done = command("score", write_jsonl(ROWS), "--rewards", "parses.reward")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_failed_audit_is_exit_code_1_and_its_verdict_the_last_words(theirs):
    done = command("audit", "their_rewards.short")
    assert (done.returncode, done.stderr) == (1, b"")
    *_, verdict, failure = done.stdout.decode().splitlines()
    assert verdict == "their_rewards.short: 1 of 1 checks failed."
    assert failure.endswith("it returned 1 rewards for 48 completions")


def test_a_passed_audit_is_exit_code_0(capsys, monkeypatch):
    monkeypatch.setattr("rewards.audit.hostile_texts", list)
    assert main(["audit", "think_format_reward"]) == 0
    assert "think_format_reward: all " in capsys.readouterr().out.splitlines()[-1]


def test_nothing_of_it_is_loaded_with_the_rewards():
    code = "import sys, rewards; print([name for name in sys.modules if name.startswith('rewards.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "rewards.completions" in loaded
    assert not any(f"rewards.{name}'" in loaded for name in ("calling", "score", "audit", "battery", "__main__"))


# What is refused


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "the following arguments are required"),
        (["scor"], "invalid choice: 'scor'"),
        (["score", "rows.jsonl"], "required: --rewards"),
        (["score", "none.jsonl", "--rewards", "think_format_reward"], "none.jsonl cannot be read: No such file"),
        (["score", ".", "--rewards", "think_format_reward"], ". cannot be read: Is a directory"),
        (["score", "rows.jsonl", "--rewards", "think_format"], "did you mean think_format_reward?"),
        (["score", "rows.jsonl", "--rewards", "zzz"], "There is no reward 'zzz': give one of `list`"),
        (["score", "rows.jsonl", "--rewards", "extract_answer"], "extract_answer is no reward function"),
        (["score", "rows.jsonl", "--rewards", "their_rewards.lengt"], "has no 'lengt'. Did you mean length?"),
        (["score", "rows.jsonl", "--rewards", "their_rewards.Reward"], "is a class"),
        (["score", "rows.jsonl", "--rewards", "no_module.x"], "'no_module' cannot be imported: ModuleNotFoundError"),
        (
            ["score", "rows.jsonl", "--rewards", "their_rewards.rubric"],
            "rubric needs the column `rubric`; the rows have",
        ),
        (["score", "rows.jsonl", "--rewards", "their_rewards.tokens"], "tokens needs the column `completion_ids`"),
        (["score", "rows.jsonl", "--rewards", "their_rewards.short"], "returned 1 rewards for 5 completions"),
        (
            ["score", "rows.jsonl", "--rewards", "their_rewards.text"],
            "text, row 1.1: returned str, not a number or None",
        ),
        (["score", "rows.jsonl", "--rewards", "their_rewards.leaves"], "leaves, row 1.1: SystemExit: 3"),
        (["score", "rows.jsonl", "--rewards", "their_rewards.leaves_later"], "row 1.1: RuntimeError: SystemExit: 3"),
        (["score", "rows.jsonl", "--rewards", "their_rewards.silent"], "silent, row 1.1: Silent"),
        (["score", "rows.jsonl", "--rewards", "exits.x"], "'exits' cannot be imported: SystemExit: 0"),
        (["audit", "exits.x"], "'exits' cannot be imported: SystemExit: 0"),
        (["score", "rows.jsonl", "--rewards", "think_format_reward", "--output", ""], "--output needs the name of a"),
        (
            ["score", "rows.jsonl", "--rewards", "think_format_reward", "--output", "kept"],
            "kept.part exists: give another",
        ),
        (
            ["score", "rows.jsonl", "--rewards", "think_format_reward", "--output", "/dev/full", "--overwrite"],
            "/dev/full cannot be written: No space left on device.",
        ),
        (
            ["score", "columns.jsonl", "--rewards", "their_rewards.level", "--output", "out.jsonl"],
            "Row 1 has a column `level` of its own",
        ),
        (["score", "rows.jsonl", "--rewards", "their_rewards.nan"], "nan, row 1.1: returned nan, not a finite number"),
        (["score", "rows.jsonl", "--rewards", "their_rewards.fussy"], "fussy, row 4: ZeroDivisionError: "),
        (
            ["score", "rows.jsonl", "--rewards", "think_format_reward", "--output", "rows.jsonl"],
            "is the file that is read",
        ),
        (
            ["score", "rows.jsonl", "--rewards", "think_format_reward", "--output", "there"],
            "there exists: give another",
        ),
        (
            ["score", "rows.jsonl", "--rewards", "think_format_reward", "--output", "no/x"],
            "no/x.part cannot be written: No such",
        ),
        (["score", "rows.jsonl", "--rewards", "think_format_reward", "--rows", "-1"], "--rows must be 0 or more"),
        (["score", "bare.jsonl", "--rewards", "correctness_reward"], "`answer` or `solution`"),
        (["audit", "their_rewards.rubric"], "needs the column `rubric`"),
        (["audit", "no_module.x"], "cannot be imported"),
        (["audit", "think_format_reward", "--data", "none.jsonl"], "none.jsonl cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(theirs, write_jsonl, tmp_path, monkeypatch, capsys, argv, sentence):
    write_jsonl(ROWS)
    write_jsonl([{"prompt": "?", "completion": "4"}], "bare.jsonl")
    write_jsonl([{"prompt": "?", "completion": "4", "level": 1}], "columns.jsonl")
    (tmp_path / "there").write_text("kept")
    (tmp_path / "kept.part").write_text("")
    (tmp_path / "exits.py").write_text("import sys; sys.exit(0)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_rewards", raising=False)
    try:
        code = main(argv)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and sentence in error
    assert (tmp_path / "there").read_text() == "kept"
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(ROWS)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "Line 2 of rows.jsonl is not JSON"),
        ('{"prompt": "?", "completion": "", "n": ' + "7" * 5000 + "}", "Line 2 of rows.jsonl is not JSON"),
        ("[" * 100_000, "Line 2 of rows.jsonl is not JSON: RecursionError"),
        ("[1]", "Line 2 of rows.jsonl is not a JSON object"),
        ({"prompt": "?"}, "Row 2 has no `completion` and no `completions`."),
        ({"prompt": "?", "completion": 5}, "The completion of row 2 is of type int"),
        ({"prompt": "?", "completion": None}, "The completion of row 2 is null"),
        ({"prompt": "?", "completions": []}, "Row 2 has an empty list of completions"),
        ({"prompt": "?", "completions": ["a", 5]}, "A completion of row 2 is of type int"),
        ({"prompt": "?", "completion": "a", "completions": "a"}, "Row 2 has `completion` and `completions`"),
        ({"prompt": "?", "completion": "a", "completion_ids": [1]}, "Row 2 has a `completion_ids`, unlike the rows"),
        ('{"prompt": "?", "completion": "a", "n": NaN}', "Line 2 of rows.jsonl is not JSON: NaN is no finite number"),
        ('{"prompt": "?", "completion": "a", "n": 1e999}', "Line 2 of rows.jsonl is not JSON: 1e999 is no finite"),
        ({"completion": "a"}, "Row 2 has no `prompt`, unlike the rows before it"),
    ],
)
def test_a_bad_row_is_named_by_its_line(write_jsonl, line, sentence):
    write_jsonl([{"prompt": "?", "completion": "a"}, line])
    with pytest.raises(InputError) as refused:
        score("rows.jsonl", ["think_format_reward"])
    assert sentence in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"completions": ["a", "b"], "completion_ids": [[1]]}, "Row 1 needs one list of `completion_ids` for each"),
        ({"completions": ["a", "b"], "completion_ids": [[1], None]}, "Row 1 needs one list of `completion_ids`"),
        ({"completion": "a", "completion_ids": "abc"}, "The `completion_ids` of row 1 are no list of whole numbers"),
        ({"completion": "a", "completion_ids": [1.5]}, "The `completion_ids` of row 1 are no list of whole numbers"),
    ],
)
def test_tokens_are_lists_of_whole_numbers(write_jsonl, row, sentence):
    with pytest.raises(InputError, match=sentence):
        score(str(write_jsonl([row])), ["think_format_reward"])


def test_tokens_in_some_rows_only_are_refused(write_jsonl):
    rows = [{"completion": "a", "completion_ids": [1]}, {"completion": "a", "completion_ids": None}]
    with pytest.raises(InputError, match="Row 2 has no `completion_ids`, unlike the rows before it"):
        score(str(write_jsonl(rows)), ["think_format_reward"])


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"", "is empty"), (b"\n\n", "is empty"), (b"\xff\xfe", "not UTF-8")]
)
def test_a_file_without_rows_is_refused(tmp_path, content, sentence):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        score("rows.jsonl", ["think_format_reward"])


# Scoring


@pytest.fixture
def their_module(theirs, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_rewards", raising=False)


def test_figures_are_means_of_what_could_be_judged_and_groups_are_prompts(write_jsonl):
    scores = score(str(write_jsonl(ROWS)), ["correctness_reward", "think_format_reward"], rows=2)
    lines = table(scores)
    assert [line.split() for line in lines[:3]] == [
        ["row", "completion", "correctness_reward", "think_format_reward"],
        ["1.1", RIGHT.split()[0], "1.000", "1.000"],
        ["1.2", "3", "0.000", "0.000"],
    ]
    assert "... and 3 more" in lines
    assert "correctness_reward 0.750 0.000 1.000 1 1 of 2".split() in [line.split() for line in lines]
    assert "think_format_reward 0.200 0.000 1.000 0 1 of 2".split() in [line.split() for line in lines]
    assert lines[-1].startswith("1 of 2 prompts have no signal in any reward")


def test_a_prompt_s_rows_are_judged_together_however_small_the_chunks(their_module, write_jsonl, monkeypatch):
    monkeypatch.setattr(score_module, "CHUNK", 2)
    path = write_jsonl([{"prompt": prompt, "completion": "a"} for prompt in "abbbbbccd"])
    scores = score(str(path), ["their_rewards.groups"], rows=20)
    assert [sample.rewards["groups"] for sample in scores.shown] == [1, 5, 5, 5, 5, 5, 2, 2, 1]


def test_columns_tokens_and_trl_s_own_arguments_reach_the_reward(their_module, write_jsonl):
    rows = [{"prompt": "a", "completions": ["x", "y"], "completion_ids": [[1], [1, 2]], "level": 3, "prompts": "no"}]
    scores = score(str(write_jsonl(rows)), ["their_rewards.tokens", "their_rewards.seen"])
    assert [sample.rewards for sample in scores.shown] == [{"tokens": 1, "seen": 4}, {"tokens": 2, "seen": 4}]


def test_a_list_of_messages_is_one_completion_and_a_list_of_lists_several(write_jsonl):
    message = [{"role": "assistant", "content": RIGHT}]
    rows = [
        {"prompt": "a", "completions": message},
        {"prompt": "a", "completions": [message, message]},
        {"prompt": "a", "completion": []},
    ]
    scores = score(str(write_jsonl(rows)), ["think_format_reward"])
    assert [(s.label, s.rewards["think_format_reward"]) for s in scores.shown] == [
        ("1", 1.0),
        ("2.1", 1.0),
        ("2.2", 1.0),
        ("3", 0.0),
    ]


def test_what_is_written_before_a_reward_raises_stays(their_module, write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr(score_module, "CHUNK", 1)
    path = str(write_jsonl(ROWS))
    (tmp_path / "out.jsonl").write_text("from before")
    with pytest.raises(InputError, match=r"fussy, row 4: ZeroDivisionError.*; out.jsonl.part holds the rows"):
        score(path, ["their_rewards.fussy"], "out.jsonl", overwrite=True)
    assert len((tmp_path / "out.jsonl.part").read_text().splitlines()) == 4
    assert (tmp_path / "out.jsonl").read_text() == "from before"
    score(path, ["their_rewards.length"], "out.jsonl", overwrite=True)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5
    assert not (tmp_path / "out.jsonl.part").exists()


def test_a_bad_row_in_the_middle_and_an_interrupt_name_the_partial_file(write_jsonl, monkeypatch, tmp_path):
    monkeypatch.setattr(score_module, "CHUNK", 1)
    write_jsonl([{"prompt": "a", "completion": "a"}, {"prompt": "b", "completion": "b"}, "{", ""])
    with pytest.raises(InputError, match=r"Line 3 of rows.jsonl is not JSON.*; out.jsonl.part holds the rows before"):
        score("rows.jsonl", ["think_format_reward"], "out.jsonl")
    (tmp_path / "stops.py").write_text(
        "def stop(completions, **kwargs):\n    if '#### 9' in completions: raise KeyboardInterrupt\n"
        "    return [1.0] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt, match=r"^Stopped; out.jsonl.part holds the rows before"):
        score(str(write_jsonl(ROWS)), ["stops.stop"], "out.jsonl", overwrite=True)


def test_rows_are_in_the_file_before_the_next_are_judged(their_module, write_jsonl, monkeypatch, tmp_path):
    monkeypatch.setattr(score_module, "CHUNK", 1)
    (tmp_path / "out.jsonl.part").write_text("")
    path = write_jsonl([{"prompt": prompt, "completion": "a"} for prompt in "abc"])
    scores = score(str(path), ["their_rewards.written"], "out.jsonl", overwrite=True)
    assert [sample.rewards["written"] for sample in scores.shown] == [0, 1, 2]


def test_an_output_behind_a_link_is_written_where_it_points(write_jsonl, tmp_path):
    (tmp_path / "there").write_text("")
    (tmp_path / "out.jsonl").symlink_to("there")
    score(str(write_jsonl(ROWS)), ["think_format_reward"], "out.jsonl", overwrite=True)
    assert (tmp_path / "out.jsonl").is_symlink() and len((tmp_path / "there").read_text().splitlines()) == 5


def test_a_column_that_only_early_rows_have_is_still_one(their_module, write_jsonl, monkeypatch):
    monkeypatch.setattr(score_module, "CHUNK", 1)
    path = write_jsonl([{"prompt": "a", "completion": "a", "level": 1}, {"prompt": "b", "completion": "b"}])
    assert score(str(path), ["their_rewards.level"]).samples == 2


def test_a_prompt_that_comes_back_after_its_chunk_is_refused(write_jsonl, monkeypatch):
    monkeypatch.setattr(score_module, "CHUNK", 2)
    path = str(write_jsonl([{"prompt": prompt, "completion": "a", "answer": 1} for prompt in "abcabc"]))
    with pytest.raises(InputError, match=r"Row 4 has the prompt of rows that stand far before it: sort the file"):
        score(path, ["length_reward"])


def test_the_order_of_a_message_s_keys_makes_no_other_prompt(write_jsonl):
    prompts = [[{"role": "user", "content": "?"}], [{"content": "?", "role": "user"}]]
    path = write_jsonl([{"prompt": prompt, "completion": "a"} for prompt in prompts])
    assert len(score(str(path), ["think_format_reward"]).groups) == 1


def test_rewards_of_one_name_keep_their_modules(their_module, write_jsonl, tmp_path):
    (tmp_path / "others.py").write_text("from their_rewards import length")
    scores = score(str(write_jsonl(ROWS)), ["their_rewards.length", "others.length", "others.length"])
    assert list(scores.tallies) == ["their_rewards.length", "others.length"]


def test_rows_without_prompts_are_groups_of_their_own(write_jsonl):
    rows = [{"completion": RIGHT}, {"completion": RIGHT}]
    lines = table(score(str(write_jsonl(rows)), ["think_format_reward"]))
    assert lines[-1] == "Every prompt has one completion: there are no groups to compare."


# Names and text


@pytest.mark.parametrize("name", ready_made() + factories())
def test_every_docstring_gives_the_range_and_begins_with_what_is_judged(name):
    bounds, line = described(name)
    assert bounds != "?", f"the docstring of {name} needs a line `Range: ...`"
    assert line.endswith(".") and len(line) > 20


def test_a_factory_is_no_reward():
    for name in factories():
        with pytest.raises(InputError, match=r"makes rewards and is none|There is no reward"):
            load_reward(name)


def test_every_ready_made_reward_is_found_by_name_and_by_path():
    for name in ready_made():
        assert load_reward(name) is load_reward(f"rewards.{name}") is getattr(rewards, name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\0", "a\\nb\\x00"),
        ("\ud800\u202e", "\\ud800\\u202e"),
        (None, "None"),
    ],
)
def test_what_cannot_be_shown_is_escaped(text, shown):
    assert printable(text, 20) == shown
    assert width_of(printable(text, 20)) <= 20


@pytest.mark.parametrize("text", ["a" * 10_000_000, "\0" * 100_000, "答" * 1000, "e\u0301" * 1000])
def test_a_long_text_is_cut_in_the_middle(text):
    shown = printable(text, 30)
    assert width_of(shown) <= 30 and "…" in shown


def test_an_exception_is_one_line():
    assert describe(ValueError("a\nb")) == "a b"
    assert describe(KeyError("a")) == "KeyError: 'a'"
    assert describe(RuntimeError()) == "RuntimeError"
