"""Sampling end to end on the miniature: real model, real 4-bit weights; a file that is the same whatever happens."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from recipes import grpo, sample
from recipes.errors import InputError, exit_kindly
from recipes.generation import Generation, lora_rank, tried
from recipes.models import STARTER_FOLDER
from recipes.samples import read_samples
from recipes.tasks import load_task
from recipes.texts import as_text, end_of_turn

TASK = load_task("word_problems")
# 30 completions in batches of 8: three a prompt do not divide a batch.
SOME = ["--task", "word_problems", "--num_prompts", "10", "--num_generations", "3", "--per_device_eval_batch_size", "8"]
GREEDY = ["--temperature", "0", "--num_generations", "1"]


def rows_of(folder: Path | str) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    sample.main([*SOME, "--output_dir", str(folder)])
    return folder


@pytest.fixture
def refused(refused_by):
    return functools.partial(refused_by, sample.main)


def test_a_row_is_a_prompt_with_its_completions_and_every_reward(finished):
    rows = rows_of(finished)
    assert len(rows) == 10
    train, _ = TASK.load(None, None, 42)
    assert {row["question"] for row in rows} == set(train["question"][:10])
    lengths = [len(row["question"]) for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    for row in rows:
        assert list(row) == [
            *("task", "question", "prompt", "answer", "completions", "completion_tokens", "truncated", "rewards"),
            "total",
        ]
        assert row["prompt"] == TASK.prompt(row["question"]) and row["task"] == "word_problems"
        assert list(row["rewards"]) == ["correctness_reward", "think_format_reward"]
        columns = [row[name] for name in ("completions", "completion_tokens", "truncated", "total")]
        assert {len(column) for column in [*columns, *row["rewards"].values()]} == {3}
        assert all(0 < n <= 48 for n in row["completion_tokens"])
        messages = [[{"role": "assistant", "content": text}] for text in row["completions"]]
        right = TASK.correctness(completions=messages, answer=[row["answer"]] * 3)
        formed = TASK.format(completions=messages)
        assert row["rewards"] == {"correctness_reward": right, "think_format_reward": formed}
        assert row["total"] == pytest.approx([a + 0.2 * b for a, b in zip(right, formed, strict=True)])
    assert read_samples(finished, "word_problems", ["correctness_reward"]) == rows
    assert any(len(set(row["completions"])) > 1 for row in rows)  # drawn, not repeated


def test_it_has_a_report(finished):
    assert "of the samples are right" in (finished / "report.html").read_text()


def test_its_figures_are_those_of_the_rows(finished):
    result = json.loads((finished / "result.json").read_text())
    values = [value for row in rows_of(finished) for value in row["rewards"]["correctness_reward"]]
    assert (result["prompts"], result["completions"]) == (10, 30)
    assert 0 < result["accuracy"] == pytest.approx(sum(values) / 30)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(["--num_prompts", "32", *GREEDY], id="greedy", marks=pytest.mark.whole),
        pytest.param(["--num_prompts", "10", "--num_generations", "5"], id="five drawn in batches of four"),
    ],
)
@pytest.mark.faults
def test_after_kill_9_the_same_command_ends_with_the_file_of_an_uninterrupted_run(how):
    command = ["--task", "word_problems", "--per_device_eval_batch_size", "4", *how]
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.sample", *command, "--output_dir", "killed"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(sample.__file__).parent.parent)},
    )
    file, deadline = Path("killed/samples.jsonl"), time.monotonic() + 120
    while not (file.exists() and file.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = file.read_bytes()
    assert not Path("killed/result.json").exists()

    sample.main([*command, "--output_dir", "killed"])
    assert len(before) < file.stat().st_size and file.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    sample.main([*command, "--output_dir", "straight"])
    assert file.read_bytes() == Path("straight/samples.jsonl").read_bytes()
    n = int(how[-1])
    assert all(len(row["completions"]) == n for row in rows_of("killed"))
    assert Path("killed/result.json").read_text() == Path("straight/result.json").read_text()


def test_a_line_that_a_crash_cut_off_is_dropped_and_made_anew(finished, tmp_path, capsys):
    folder = Path(shutil.copytree(finished, tmp_path / "cut"))
    file = folder / "samples.jsonl"
    whole = file.read_bytes()
    (folder / "result.json").unlink()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:5]) + lines[5][:-1])
    sample.main([*SOME, "--output_dir", "cut"])
    assert "The last line of cut/samples.jsonl was cut off: it is dropped and made anew." in capsys.readouterr().out
    assert file.read_bytes() == whole


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(finished, refused, capsys):
    command, file = [*SOME, "--output_dir", str(finished)], finished / "samples.jsonl"
    before = file.stat().st_mtime_ns
    sample.main(command)
    output = capsys.readouterr().out
    assert (
        "10 prompts, 30 completions. On average over the prompts: " in output
        and "is finished, nothing was sampled." in output
    )
    assert "holds a run with other settings (seed 42 -> 1)" in refused(*command, "--seed", "1")
    assert file.stat().st_mtime_ns == before


def test_overwrite_replaces_the_samples_and_unfinished_ones_of_other_settings_are_kept_without_it(
    finished, tmp_path, refused
):
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    (folder / "result.json").unlink()  # as if it had not ended
    assert "holds a run with other settings" in refused(*SOME, "--seed", "1", "--output_dir", "copy")
    sample.main([*SOME, "--num_prompts", "2", "--seed", "1", "--output_dir", "copy", "--overwrite"])
    assert len(rows_of(folder)) == 2
    assert {row["question"] for row in rows_of(folder)} <= set(TASK.load(None, None, 1)[0]["question"][:2])


def test_a_runs_adapter_is_sampled_as_its_own_evaluation_solved_the_problems(tmp_path):
    run = ["--max_steps", "2", "--per_device_train_batch_size", "16", "--learning_rate", "5e-3", "--eval_samples", "24"]
    grpo.main([*run, "--report_to", "none", "--output_dir", "trained"])
    result = json.loads(Path("trained/result.json").read_text())
    solved = {
        when: {row["question"]: row["completion"] for row in map(json.loads, Path(file).read_text().splitlines())}
        for when in ("before", "after")
        for file in [f"trained/samples/{when}.jsonl"]
    }
    assert solved["before"] != solved["after"]
    assert solved["after"].keys() == set(TASK.load(None, None, 42)[1]["question"][:24])
    held_out = ["--task", "word_problems", "--split", "test", "--num_prompts", "24", *GREEDY]
    for name in ("trained", "trained/adapter"):
        sample.main([*held_out, "--model_name_or_path", name, "--output_dir", f"{name}-samples"])
        assert {row["question"]: row["completions"][0] for row in rows_of(f"{name}-samples")} == solved["after"]
        figures = json.loads(Path(f"{name}-samples/result.json").read_text())
        same = ("accuracy", "strict_accuracy", "format", "mean_length")
        assert {key: figures[key] for key in same} == pytest.approx({key: result["after"][key] for key in same})


THEIRS = [
    {"question": "1 + 1?", "answer": "2", "completions": ["<think>1+1=2</think><answer>2</answer>", "3", "#### 2"]},
    {
        "question": "1 + 2?",
        "answer": "so\n#### 3",
        "completions": [[{"role": "assistant", "content": "<answer>3</answer>"}]],
    },
    {
        "prompt": "2 + 2?",
        "answer": 4,
        "completions": ["4", "5"],
        "completion_tokens": [1, None],
        "truncated": [True, False],
    },
    {"question": "Why?", "answer": "unknown", "completions": ["<think>a</think><answer>b</answer>", "\ud800"]},
]


def test_completions_made_elsewhere_are_scored_without_a_model(write_jsonl, capsys):
    theirs = write_jsonl(THEIRS)
    weights = ["--extra_rewards", "tag_count_reward", "--reward_weights", "2", "0.5", "0.1"]
    sample.main(["--task", "word_problems", "--completions", str(theirs), *weights])
    captured = capsys.readouterr()
    assert "Loading weights" not in captured.err and "preflight" not in captured.out
    rows = read_samples("runs/sample-word_problems", "word_problems")
    assert [row["question"] for row in rows] == ["1 + 1?", "1 + 2?", "2 + 2?", "Why?"]  # in their order
    assert [row["rewards"]["correctness_reward"] for row in rows] == [[1, 0, 1], [1], [1, 0], [None, None]]
    assert [row["rewards"]["think_format_reward"] for row in rows] == [[1, 0, 0], [0], [0, 0], [1, 0]]
    assert rows[0]["prompt"] == TASK.prompt("1 + 1?")
    assert rows[2]["prompt"] == [{"role": "user", "content": "2 + 2?"}]
    assert rows[1]["completions"] == ["<answer>3</answer>"]
    assert rows[2]["completion_tokens"] == [1, None] and rows[2]["truncated"] == [True, False]
    assert rows[0]["completion_tokens"] == rows[0]["truncated"] == [None] * 3
    assert rows[3]["completions"] == [THEIRS[3]["completions"][0], "?"]  # half a character is no text
    for row in rows:  # a reward of None adds nothing to the total
        by_name = zip(*row["rewards"].values(), strict=True)
        expected = [sum(w * (v or 0) for w, v in zip((2, 0.5, 0.1), values, strict=True)) for values in by_name]
        assert row["total"] == pytest.approx(expected)
    assert any(value not in (0, None) for value in rows[0]["rewards"]["tag_count_reward"])
    result = json.loads(Path("runs/sample-word_problems/result.json").read_text())
    assert (result["prompts"], result["unjudged"]) == (3, 1)


def test_scoring_goes_on_after_a_crash(write_jsonl, problems):
    theirs = write_jsonl([{**row, "completions": ["3", "4"]} for row in problems(150)])
    command = ["--task", "word_problems", "--completions", str(theirs)]
    sample.main(command)
    file = Path("runs/sample-word_problems/samples.jsonl")
    whole = file.read_bytes()
    file.with_name("result.json").unlink()
    file.write_bytes(whole[: len(whole) // 2])
    sample.main(command)
    assert file.read_bytes() == whole and whole.count(b"\n") == 150


def test_what_is_scored_is_text_that_every_file_can_hold(write_jsonl):
    half = "\ud800 1 + 1?"
    messages = [{"role": "user", "content": half}]
    theirs = write_jsonl(
        [{**GOOD, "question": half}, {"prompt": messages, "answer": half, "completions": [half]}, GOOD]
    )
    sample.main(["--task", "word_problems", "--completions", str(theirs)])
    one, other, _ = rows_of("runs/sample-word_problems")
    assert one["question"] == other["question"] == other["answer"] == "? 1 + 1?"
    assert one["prompt"] == TASK.prompt("? 1 + 1?") and other["prompt"] == [{"role": "user", "content": "? 1 + 1?"}]
    assert other["completions"] == ["? 1 + 1?"]


def test_a_file_that_changed_since_a_crash_is_not_mixed_with_what_it_was(write_jsonl, problems, refused):
    old, new = ([{**row, "completions": [text]} for row in problems(3)] for text in ("3", "4"))
    command = ["--task", "word_problems", "--completions", str(write_jsonl(old))]
    sample.main(command)
    folder = Path("runs/sample-word_problems")
    (folder / "result.json").unlink()
    lines = (folder / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "samples.jsonl").write_bytes(b"".join(lines[:2]))
    write_jsonl(new)  # of the same length
    assert "rows.jsonl has changed since runs/sample-word_problems/samples.jsonl was begun: add --overw" in refused(
        *command
    )
    assert len(rows_of(folder)) == 2
    sample.main([*command, "--overwrite"])
    assert [row["completions"] for row in rows_of(folder)] == [["4"]] * 3


def test_completions_of_which_none_can_be_judged(write_jsonl, refused):
    theirs = write_jsonl([THEIRS[3]])
    assert "could judge none of the samples" in refused("--task", "word_problems", "--completions", theirs)


GOOD = {"question": "1 + 1?", "answer": "2", "completions": ["2", "3"]}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('{"question": "1 +', "is not JSON"),
        ("[1]", "is not a JSON object"),
        ({"completions": ["2"], "answer": "2"}, "has no `question`"),
        ({**GOOD, "question": ""}, "has no `question`"),
        ({**GOOD, "question": 5}, "`question` and `answer` must be texts"),
        ({**GOOD, "answer": None}, "has no `answer`"),
        ({**GOOD, "answer": ["2"]}, "`question` and `answer` must be texts"),
        ({"question": "1 + 1?", "answer": "2"}, "has no `completions`"),
        ({**GOOD, "completions": "2"}, "`completions` must be a list"),
        ({**GOOD, "completions": []}, "`completions` must be a list"),
        ({**GOOD, "completions": ["2", 3]}, "`completions` must be a list"),
        ({**GOOD, "completion_tokens": [1]}, "`completion_tokens` must be a list of whole numbers"),
        ({**GOOD, "completion_tokens": 1}, "`completion_tokens` must be a list of whole numbers"),
        ({**GOOD, "completion_tokens": [1, "2"]}, "`completion_tokens` must be a list of whole numbers"),
        ({**GOOD, "truncated": [1, 0]}, "`truncated` must be a list of true or false"),
        ({**GOOD, "prompt": 5}, "`prompt` must be a text or a list of chat messages"),
        ({**GOOD, "prompt": ["1 + 1?"]}, "`prompt` must be a text or a list of chat messages"),
        ({**GOOD, "prompt": [{"role": "user", "content": None}]}, "`prompt` must be a text or a list of chat messages"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named_before_any_is(write_jsonl, refused, row, sentence):
    theirs = write_jsonl([GOOD, row])
    refusal = refused("--task", "word_problems", "--completions", theirs)
    assert f"Line 2 of {theirs}" in refusal and sentence in refusal
    assert not Path("runs/sample-word_problems/samples.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--completions none.jsonl", "There is no file none.jsonl"),
        ("--completions empty.jsonl", "empty.jsonl is empty"),
        ("--temperature 0", "--temperature 0 writes the same completion 8 times: add --num_generations 1"),
        ("--temperature -1", "--temperature -1.0: give a number above 0"),
        ("--num_generations 0", "--num_generations 0: give 1 or more"),
        ("--num_prompts 0", "--num_prompts 0: give a number above 0"),
        ("--min_pass_rate 0.5", "--min_pass_rate and --max_pass_rate need the pass rates: add --samples FILE"),
        ("--max_pass_rate 0.5", "--min_pass_rate and --max_pass_rate need the pass rates: add --samples FILE"),
        ("--curriculum", "--curriculum needs the pass rates: add --samples FILE"),
        ("--min_pass_rate 1.5 --samples x", "--min_pass_rate 1.5: give a share between 0 and 1"),
        ("--max_pass_rate -1 --samples x", "--max_pass_rate -1.0: give a share between 0 and 1"),
        ("--min_pass_rate 0.8 --max_pass_rate 0.2 --samples x", "--min_pass_rate 0.8 is above --max_pass_rate"),
        ("--top_p 0", "--top_p 0.0: give a number above 0"),
        ("--top_p 1.5", "--top_p 1.5: give a share between 0 and 1"),
        ("--min_p 2", "--min_p 2.0: give a share between 0 and 1"),
        ("--split tset", "argument --split: invalid choice"),
        ("--reward_weights 1", "--reward_weights has 1 values; give 2, for correctness_reward, think_format_reward"),
        ("--generation_kwargs x", "--generation_kwargs must be JSON in braces"),
        ("--generation_kwargs {x", "--generation_kwargs must be JSON in braces"),
        ("--model_init_kwargs [1]", "--model_init_kwargs must be JSON in braces"),
        ("--use_vllm --load_in_4bit True", "4-bit weights and vLLM do not go together"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_slow(refused, flags, sentence):
    Path("empty.jsonl").write_text("")
    assert sentence in refused("--task", "word_problems", *flags.split())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            '--generation_kwargs {"foo":1}',
            "The sampler refuses these settings: ValueError: The following `model_kwargs`",
        ),
        (
            "--cache_implementation foo",
            "The sampler refuses these settings: ValueError: Invalid `cache_implementation`",
        ),
    ],
)
def test_what_generate_refuses_is_one_sentence(flags, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        sample.main([*SOME, *flags.split()])
    errors = capsys.readouterr().err
    assert not Path("runs/sample-word_problems/samples.jsonl").exists()  # so that the mended command may begin
    assert stop.value.code == 2 and f"error: {sentence}" in errors and "Traceback" not in errors


def test_only_the_first_batch_is_a_trial_of_the_settings():
    sizes = []

    def generate(prompts):
        sizes.append(len(prompts))
        if len(prompts) == 2:
            raise ValueError("two")
        return prompts

    with pytest.raises(InputError, match="The sampler refuses these settings: ValueError: two"):
        tried(generate)([1, 2])
    trying = tried(generate)
    assert trying([1]) == [1]
    with pytest.raises(ValueError, match="two"):
        trying([1, 2])
    assert sizes == [2, 1, 2]


def test_a_template_setting_cannot_turn_prompts_into_something_else():
    tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    prompts = [TASK.prompt("1 + 1?")]
    for name, value in (("tokenize", True), ("add_generation_prompt", True), ("add_generation_prompt", False)):
        other = Generation(chat_template_kwargs={name: value})
        assert as_text(tokenizer, prompts, other) == as_text(tokenizer, prompts, Generation())
        assert end_of_turn(tokenizer, other) == end_of_turn(tokenizer, Generation())


@given(st.integers(1, 512), st.integers(1, 512))
def test_vllm_makes_room_for_an_adapters_largest_rank(tmp_path_factory, r, of_a_layer):
    folder = tmp_path_factory.getbasetemp()
    (folder / "adapter_config.json").write_text(json.dumps({"r": r, "rank_pattern": {"q_proj": of_a_layer}}))
    needed, rank = max(r, of_a_layer), lora_rank(folder)
    assert rank in (8, 16, 32, 64, 128, 256, 320, 512) and needed <= rank < max(9, 2 * needed)


def test_an_adapter_beyond_vllms_ranks_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 513}')
    with pytest.raises(InputError, match="has rank 513, vLLM takes up to 512: `make merge` it first"):
        lora_rank(tmp_path)


def test_a_message_cannot_command_the_terminal_or_flood_it(capsys):
    for text, shown in (("a \x1b[31mEVIL\nb\u202e", "a [31mEVIL b"), ("x" * 5000, "x" * 2000 + " ...")):

        @exit_kindly
        def main(text=text):
            raise InputError(text)

        with pytest.raises(SystemExit):
            main()
        assert capsys.readouterr().err == f"error: {shown}\n"


def test_vllm_that_is_not_installed_is_one_sentence(capsys):
    with pytest.raises(SystemExit):
        sample.main(["--task", "word_problems", "--num_prompts", "2", "--use_vllm", "--load_in_4bit", "False"])
    assert "error: --use_vllm needs vLLM: pip install vllm, or drop the flag.\n" in capsys.readouterr().err
