"""Scored samples are read as the sampler writes them, and whatever is wrong with a file is said in one sentence."""

import json

import pytest

from recipes.errors import InputError
from recipes.run import FIRST_LINE
from recipes.samples import by_prompt, lengths, pass_rate, read_samples, totals
from recipes.tasks import load_task

TASK = load_task("word_problems")
NEEDS = ["correctness_reward", "think_format_reward"]


def row(**changes) -> dict:
    """A row of two completions; `None` leaves a column out."""
    columns = {
        "task": "word_problems",
        "question": "1+1?",
        "prompt": TASK.prompt("1+1?"),
        "answer": "1+1=2\n#### 2",
        "completions": ["2", "3"],
        "completion_tokens": [2, 2],
        "truncated": [False, None],
        "rewards": {"correctness_reward": [1.0, None], "think_format_reward": [0.0, 0.0]},
        "total": [1.0, 0.0],
    }
    return {name: value for name, value in {**columns, **changes}.items() if value is not None}


def test_rows_are_read_as_they_were_written(write_jsonl):
    rows = [row(), row(question="2+2?")]
    path = write_jsonl(rows, "run/samples.jsonl")
    assert read_samples(path, "word_problems", NEEDS) == rows
    assert read_samples(str(path.parent), "word_problems") == rows


def test_what_may_be_missing(write_jsonl):
    path = write_jsonl([row(task=None, question=None, completion_tokens=None, truncated=None, total=None)])
    (read,) = read_samples(path, "word_problems", NEEDS)
    assert read["question"] == "1+1?"
    assert read["completion_tokens"] == read["truncated"] == [None, None]
    assert "total" not in read
    nulls = dict.fromkeys(("task", "prompt", "completion_tokens", "truncated", "total"))
    (read,) = read_samples(write_jsonl([{**row(), **nulls}]), "word_problems", NEEDS)
    assert read["truncated"] == [None, None] and "total" not in read
    (read,) = read_samples(write_jsonl([row(prompt=None)]), "word_problems")
    assert read["question"] == "1+1?"


def test_the_question_is_the_last_thing_the_user_said(write_jsonl):
    turns = [("system", "s"), ("user", "first"), ("assistant", "a"), ("user", "second")]
    prompt = [{"role": role, "content": content} for role, content in turns]
    (read,) = read_samples(write_jsonl([row(question=None, prompt=prompt)]), "word_problems")
    assert read["question"] == "second"


@pytest.mark.parametrize("cut", [3, 40, -2])
def test_a_last_line_that_a_crash_cut_off_is_left_out_and_said(tmp_path, capsys, cut):
    path = tmp_path / "samples.jsonl"
    whole = json.dumps(row(question="Wie süß?"), ensure_ascii=False).encode()
    path.write_bytes(whole + b"\n" + whole[:cut])
    assert len(read_samples(path, "word_problems")) == 1
    assert capsys.readouterr().out == f"The last line of {path} was cut off by a crash and is left out.\n"


def test_a_character_cut_in_two_is_left_out(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(json.dumps(row()).encode() + b'\n{"question": "s\xc3')
    assert len(read_samples(path, "word_problems")) == 1


def test_a_whole_last_line_needs_no_line_break(tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(row()) + "\n" + json.dumps(row()))
    assert len(read_samples(path, "word_problems")) == 2
    assert not capsys.readouterr().out


BROKEN_FILES = {
    "a broken line": (["{}}", row()], r"Line 1 of .*rows\.jsonl is not JSON.*; `python -m recipes\.sample` writes"),
    "broken, not cut": ([row(), "{"], r"Line 2 of .*rows\.jsonl is not JSON"),
    "NaN": ([json.dumps(row(total=[1.0, float("nan")]))], "Line 1 .*NaN is no finite number"),
    "too deep": (["[" * 100_000], "Line 1 .*not JSON"),
    "no object": (["[1]"], "Line 1 .*not a JSON object"),
    "empty": ([], r"rows\.jsonl is empty.*; `python -m recipes\.sample` writes such files\.$"),
}


@pytest.mark.parametrize(("rows", "says"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_file_is_named_with_its_line(write_jsonl, rows, says):
    with pytest.raises(InputError, match=says):
        read_samples(write_jsonl(rows), "word_problems")


@pytest.mark.parametrize("last", ['{"total": [NaN]}', "[" * 100_000], ids=["NaN", "too deep"])
def test_a_last_line_without_a_line_break_is_refused_where_no_crash_explains_it(tmp_path, last):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(row()) + "\n" + last)
    with pytest.raises(InputError, match="Line 2 "):
        read_samples(path, "word_problems")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"There is no file or folder nowhere\.jsonl: give"):
        read_samples("nowhere.jsonl", "word_problems")
    with pytest.raises(InputError, match=r"The folder .* holds no samples\.jsonl: give"):
        read_samples(tmp_path, "word_problems")


BAD_ROWS = {
    "another task": (row(task="gsm8k"), "Line 2 .* is of the task gsm8k, not word_problems: give that --task"),
    "nothing asked": (row(question=None, prompt=None), "Line 2 .*neither `question` nor `prompt`"),
    "no user": (row(question=None, prompt=[{"role": "system", "content": "s"}]), "no user message"),
    "prompt is text": (row(prompt="1+1?"), "no list of chat messages"),
    "no answer": (row(answer=None), "no column `answer`"),
    "no completions": (row(completions=None), "no column `completions`"),
    "completions of messages": (row(completions=[[], []]), "no list of strings"),
    "no rewards": (row(rewards=None), r"no column `rewards`: `python -m recipes\.sample --completions .*` scores"),
    "rewards of no name": (row(rewards=[1.0, 0.0]), "no lists by name"),
    "a reward is missing": (
        row(rewards={"correctness_reward": [1.0, 0.0]}),
        r"no reward `think_format_reward` \(it has correctness_reward\): .*--completions",
    ),
    "a short reward": (row(rewards={name: [1.0] for name in NEEDS}), "1 values in `correctness_reward` for 2"),
    "a long total": (row(total=[1.0, 1.0, 1.0]), "3 values in `total` for 2"),
    "short tokens": (row(completion_tokens=[1]), "1 values in `completion_tokens`"),
    "short truncated": (row(truncated=[True]), "1 values in `truncated`"),
    "total is a number": (row(total=1.0), "no list in `total`"),
    "total is text": (row(total=["1", "0"]), "a value in `total`"),
    "beyond a float": (row(total=[10**400, 0.0]), "a value in `total`"),
    "tokens are negative": (row(completion_tokens=[-1, 2]), "a value in `completion_tokens`"),
    "truncated is a word": (row(truncated=["no", "no"]), "a value in `truncated`"),
}


@pytest.mark.parametrize(("bad", "says"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_one_sentence_with_file_and_line(write_jsonl, bad, says):
    with pytest.raises(InputError, match=says) as caught:
        read_samples(write_jsonl([row(), bad]), "word_problems", NEEDS)
    assert "rows.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_the_pass_rate_is_of_what_was_judged():
    def rate(*values):
        return pass_rate({"rewards": {"correctness_reward": list(values)}}, "correctness_reward")

    assert rate(1.0, 0.0, 0.0, 1.0) == 0.5
    assert rate(1.0, None, 0.0, None) == 0.5
    assert rate(0.0, 0.5) == 0.0
    assert rate(None, None) is None
    assert rate() is None


def test_rows_of_one_prompt_are_put_together():
    bare_gold = row(prompt=None, answer="2", completions=["two", "2"])
    other_gold = row(answer="3")
    first, second = by_prompt([row(), bare_gold, other_gold], TASK)
    assert [c.text for c in first.completions] == ["2", "3", "two", "2"]
    assert first.messages == TASK.prompt("1+1?") and first.question == "1+1?"
    assert len(second.completions) == 2
    own = [{"role": "user", "content": "Please: 1+1?"}]
    first, second = by_prompt([row(), row(prompt=own)], TASK)
    assert second.messages == own and len(second.completions) == 2


def test_a_missing_total_is_summed_up_as_trl_does():
    rewards = {"correctness_reward": [1.0, None, None], "think_format_reward": [1.0, 1.0, None]}
    changes = {"completions": ["a", "b", "c"], "completion_tokens": None, "truncated": None, "total": None}
    assert totals([*rewards.values()], [1.0, 0.5]) == [1.5, 0.5, None]
    (prompt,) = by_prompt([row(rewards=rewards, **changes)], TASK)
    assert [c.total for c in prompt.completions] == [1.2, 0.2, None]


def test_length_is_in_characters_where_tokens_are_not_known():
    (prompt,) = by_prompt([row(completions=["long", "s"], completion_tokens=[3, 7])], TASK)
    assert lengths(prompt.completions) == [3, 7]
    (prompt,) = by_prompt([row(completions=["long", "s"], completion_tokens=[3, None])], TASK)
    assert lengths(prompt.completions) == [4, 1]


def test_an_unfinished_run_and_a_near_name_are_told(tmp_path, capsys):
    folder = tmp_path / "sample-word_problems"
    folder.mkdir()
    row = {"question": "q", "answer": "1", "completions": ["1"], "rewards": {}}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "given.yaml").write_text(FIRST_LINE + "{}")
    assert len(read_samples(folder, "word_problems")) == 1
    assert "is unfinished: what it has sampled so far is taken" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"Did you mean .*sample-word_problems\?"):
        read_samples(tmp_path / "sample-gsm8k", "word_problems")
