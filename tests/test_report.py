"""The report of a run, of a pipeline and of several runs: what it says, and what it makes of broken folders."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import metrics_row, sampled_row, solved_row, write_json, write_rows, write_run

from recipes import report
from recipes.reporting import pipeline_folder
from recipes.reporting.reproduce import command_of, make_of

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The text of a page without its tags, its elements, and a check that every element is closed in turn."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags, self.open, self.ids = "", [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += f"{data} "


def page_of(path: Path) -> Page:
    page = Page(path.read_text())
    page.text = " ".join(page.text.split())
    assert "script" not in page.tags and "img" not in page.tags and "iframe" not in page.tags
    assert len(set(page.ids)) == len(page.ids)
    return page


def read(folder: Path) -> str:
    return page_of(report.write_report(folder)).text


def test_a_gain_is_told_with_its_intervals_and_test(tmp_path):
    text = read(write_run(tmp_path / "run", problems=100, before=40, after=90))
    assert "Accuracy rose from 40.0 % to 90.0 %" in text and "a gain of 50.0 points" in text
    assert "more than chance (paired test on the same 100 problems, p < 0.001)" in text
    assert "50 turned right" in text and "40 right both times" in text and "10 wrong both times" in text


def test_a_small_difference_is_called_chance(tmp_path):
    text = read(write_run(tmp_path / "run", problems=100, before=40, after=42))
    assert "No change that chance would not explain" in text and "which chance brings as well" in text


def test_no_difference_at_all_is_said_plainly(tmp_path):
    text = read(write_run(tmp_path / "run", problems=100, before=40, after=40))
    assert (
        "Accuracy did not change" in text and "stayed at 40.0 %" in text and "0 turned right and as many wrong" in text
    )


def test_a_loss_is_called_one(tmp_path):
    text = read(write_run(tmp_path / "run", problems=100, before=90, after=40))
    assert "Accuracy fell from" in text and "a loss of 50.0 points" in text


def test_without_the_solved_problems_no_test_is_claimed(tmp_path):
    told = {"accuracy": 0.4, "ci95": [0.3, 0.5], "strict_accuracy": 0.1, "format": 0.2, "mean_length": 5.0, "n": 100}
    run = write_run(
        tmp_path / "run", before=None, after=None, result={"before": told, "after": told | {"accuracy": 0.9}}
    )
    text = read(run)
    assert "Accuracy on 100 held-out problems went" in text and "the solved problems are missing" in text


def test_an_unfinished_run_says_how_far_it_came(tmp_path):
    rows = [metrics_row(step, 60) for step in range(1, 24)]
    run = write_run(tmp_path / "run", steps=60, metrics=rows, after=None, finished=False)
    text = read(run)
    assert "Not finished: 23 of 60 steps" in text and "The same command goes on" in text
    assert "Accuracy before training was 40.0" in text


def test_a_run_that_was_not_evaluated_says_so(tmp_path):
    text = read(write_run(tmp_path / "run", before=None, after=None, result={"before": None, "after": None}))
    assert "Trained, not evaluated" in text and "--eval_samples 0" in text
    assert "The share of right samples went from" in text


def test_a_reward_model_is_judged_by_pairs(tmp_path):
    rows = [{"step": i, "loss": 0.7 - i / 30, "accuracy": 0.5 + i / 30, "margin": i / 10} for i in range(1, 13)]
    result = {"pair_accuracy": 0.9, "pair_ci95": [0.85, 0.94], "before": None, "after": None}
    text = read(write_run(tmp_path / "run", recipe="rm", metrics=rows, before=None, after=None, result=result))
    assert "90.0" in text and "more than the half that guessing gets" in text
    assert "Pairs in the right order" in text and "Margin" in text and "Calibration" not in text


def test_a_sampler_says_what_it_sampled(tmp_path):
    result = {"prompts": 10, "completions": 80, "accuracy": 0.5, "ci95": [0.4, 0.6], "n": None}
    run = write_run(tmp_path / "run", recipe="sample", metrics=[], before=None, after=None, result=result)
    text = read(run)
    assert "Of 80 completions of 10 prompts 50.0" in text and "Health" not in text and "Curves" not in text


def test_an_evaluation_has_a_row_for_each_model(tmp_path):
    def model(share: float) -> dict:
        figures = {"pass@1": share, "maj@1": share, "pass@8": 1.0, "mean_length": 20.5}
        return figures | {"intervals": {"pass@1": [share - 0.05, share + 0.05]}}

    difference = {"n": 400, "difference": 0.3, "ci95": [0.25, 0.35], "p": 0.0001}
    result = {"models": {"starter": model(0.5), "<b>best</b>": model(0.8), "broken": 3}}
    result |= {"differences": {"<b>best</b>": difference, "broken": None}}
    run = write_run(tmp_path / "run", recipe="eval", metrics=[], before=None, after=None, result=result)
    text = read(run)
    assert "<b>best</b> solves 80.0 % (75.0 to 85.0) at the first try (pass@1), +30.0 points" in text
    assert "against starter, more than chance." in text and "+25.0 to +35.0, p < 0.001" in text
    assert "pass@8" in text and "maj@1" not in text and "20.5" in text
    many = {f"model {i}": model(0.5) for i in range(8)} | result["models"]  # the best of ten is better by chance
    result["differences"]["<b>best</b>"]["p"] = 0.02
    (run / "result.json").write_text(json.dumps({"models": many, "differences": result["differences"]}))
    assert "against model 0, which chance brings as well." in read(run)
    result["models"].pop("<b>best</b>")
    (run / "result.json").write_text(json.dumps(result | {"differences": 5}))
    assert "starter solves 50.0 % (45.0 to 55.0) at the first try (pass@1)." in read(run)


def test_what_has_ended_has_ended_whatever_its_page_says(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run")
    (run / "report.html").write_text("<p>mine</p>")
    assert report.report_line(run).startswith(f"warning: there is no report of {run}: {run}/report.html exists and is")
    (run / "report.html").unlink()
    monkeypatch.setattr(report, "run_page", lambda run: 1 / 0)
    said = report.report_line(run)
    assert "ZeroDivisionError: division by zero" in said and f"`python -m recipes.report {run}`" in said


def test_the_run_is_described_and_can_be_repeated(tmp_path):
    text = read(write_run(tmp_path / "run", given={"task": "gsm8k", "seed": 7, "output_dir": "a b"}))
    for fact in ("starter", "word_problems", "CPU, 2 cores", "1.25 GB", "trl 1.16.0", "1.5 minutes"):
        assert fact in text
    assert "python -m recipes.grpo --task gsm8k --seed 7 --output_dir 'a b'" in text
    assert "make grpo-gsm8k" not in text  # the space would be lost
    assert "make grpo-word_problems ARGS=" in text and f"--config {tmp_path}/run/config.yaml" in text
    assert f"--output_dir {tmp_path}/run-again" in text
    assert "max_steps" in text  # of all settings


def test_commands():
    given = {"max_steps": 5, "task": "gsm8k", "extra_rewards": ["a", "b"], "bf16": False, "none": None}
    assert command_of("rm", given) == (
        "python -m recipes.reward_model --task gsm8k --max_steps 5 --extra_rewards a b --bf16 False"
    )
    assert make_of("rm", given) == 'make rm-gsm8k ARGS="--max_steps 5 --extra_rewards a b --bf16 False"'
    assert make_of("grpo", {}) == "make grpo-gsm8k"
    assert make_of("grpo", {"output_dir": "$HOME"}) == "" and make_of("grpo", {"task": '"; rm -r x'}) == ""
    assert command_of("grpo", {"seed": "1; rm -r x"}).endswith("--seed '1; rm -r x'")


def test_the_same_problems_stand_side_by_side_over_time(tmp_path):
    run = write_run(tmp_path / "run")
    for step in (3, 6, 9):
        rows = [solved_row(i, True, formed=step > 5) for i in range(8)]
        write_rows(run / "samples" / f"during_{step:06d}.jsonl", rows)
    text = read(run)
    order = [text.index(f"{when} ") for when in ("Before", "Step 3", "Step 6", "Step 9", "After")]
    assert order == sorted(order)
    assert "Thought, " in text and "correctness 1" in text and "think format 0" in text
    assert "before, during and after" in text


def test_the_best_the_worst_and_the_odd_samples_of_the_last_steps(tmp_path):
    run = write_run(tmp_path / "run")
    both = {"correctness_reward": 1.0, "think_format_reward": 1.0}
    rows = [both | {"prompt": "a?", "completion": "best of all"}]
    rows += [{k: 0.0 for k in both} | {"prompt": [{"role": "user", "content": "b?"}], "completion": "worst of all"}]
    rows += [{k: 0.5 for k in both} | {"prompt": f"{i}?", "completion": f"middling {i}"} for i in range(8)]
    rows += [both | {"correctness_reward": 0.0, "prompt": "c?", "completion": "formed but wrong"}]
    write_rows(run / "samples" / "step_000012.jsonl", rows)
    write_rows(run / "samples" / "step_000001.jsonl", [both | {"prompt": "d?", "completion": "long ago"}] * 2)
    for step in range(2, 12):
        write_rows(run / "samples" / f"step_{step:06d}.jsonl", [])
    text = read(run)
    best, worst, odd = (text.index(title) for title in ("the highest", "the lowest", "one is high in its range"))
    assert best < text.index("best of all") < worst < text.index("worst of all") < odd < text.rindex("formed but wrong")
    assert "long ago" not in text


def test_older_runs_without_about_are_read(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "about.json").unlink()
    text = read(run)
    assert "GRPO" in text and "think_format_reward" in text and "weight 0.2" in text


def test_measured_only_rewards_are_marked(tmp_path):
    weights = {"correctness_reward": 1.0, "think_format_reward": 0.0}
    assert "measured only" in read(write_run(tmp_path / "run", about={"rewards": weights}))


def test_findings_have_a_word_beside_their_icon(tmp_path):
    rows = [metrics_row(step, 40) | {"loss": None if step > 20 else 0.1} for step in range(1, 41)]
    text = read(write_run(tmp_path / "run", metrics=rows))
    assert re.search(r"(Bad|Watch) [A-Z]", text) and "Fine: " in text


def test_health_says_what_became_of_the_held_out_problems(tmp_path):
    rows = [{"step": i, "loss": 0.7, "rewards/margins": i / 10, "rewards/accuracies": 0.7} for i in range(1, 13)]
    text = read(write_run(tmp_path / "dpo", recipe="dpo", metrics=rows, problems=100, before=60, after=30))
    assert "Bad Held-out problems. 30.0 points fewer are solved than before training, more than chance:" in text
    assert "or train on more pairs" in text and "--sample_prompts" in text
    text = read(write_run(tmp_path / "same", recipe="dpo", metrics=rows, problems=100, before=60, after=58))
    assert "Held-out problems." not in text
    rows = [metrics_row(step, 12, **{"rewards/correctness_reward/mean": 0.5 + step % 2 / 5}) for step in range(1, 13)]
    text = read(write_run(tmp_path / "short", metrics=rows, problems=100, before=40, after=90))
    assert "Fine: right answers. The samples of training are too few to show it" in text and "no gain there" not in text
    text = read(write_run(tmp_path / "none", metrics=rows, problems=100, before=40, after=41))
    assert "no gain there yet" in text


def test_a_problem_that_one_of_two_runs_solves_is_no_change_over_time(tmp_path):
    runs = [write_run(tmp_path / name, problems=40, after=after) for name, after in (("a", 40), ("b", 9))]
    text = page_of(report.write_comparison(runs)).text
    assert "Right by a, wrong by b" in text and "Right at first" not in text and "held-out dots" not in text


def test_calibration_of_the_sampled_problems(tmp_path):
    run = write_run(tmp_path / "run")
    write_rows(run / "samples" / "before_sampled.jsonl", [sampled_row(i, ["99"] * 8) for i in range(20)])
    write_rows(run / "samples" / "after_sampled.jsonl", [sampled_row(i, [str(i)] * 8) for i in range(20)])
    text = read(run)
    assert "it was overconfident by 100 points, and is now neither over- nor underconfident" in text
    assert "20, 8 samples each" in text


def test_without_sampled_problems_calibration_is_said_to_be_unknown(tmp_path):
    assert "Not known: no held-out problems were sampled several times" in read(write_run(tmp_path / "run"))


# Folders that are broken, foreign or hostile


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no folder"),
        (lambda path: path.mkdir(), "is no run: it has neither given.yaml nor"),
        (lambda path: path.write_text("x"), "is a file: give the folder of a run"),
        (lambda path: write_run(path / "grpo"), "It holds the runs grpo: give these."),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(refused_by, tmp_path, make, sentence):
    make(tmp_path / "here")
    assert sentence in refused_by(report.main, tmp_path / "here")


def test_a_name_that_is_nearly_right_is_suggested(refused_by, tmp_path):
    write_run(tmp_path / "runs" / "grpo-gsm8k")
    assert "Did you mean" in refused_by(report.main, tmp_path / "runs" / "grpo-gsm8")
    write_run(tmp_path / "runs" / "ppo-word_problems")
    (tmp_path / "runs" / "ppo-gsm8").mkdir()  # empty
    said = refused_by(report.main, tmp_path / "runs" / "ppo-gsm8k")
    assert said.endswith("runs/ppo-word_problems?\n")


def test_an_unknown_flag_is_refused_in_a_sentence(refused_by, tmp_path):
    assert "nrecognized arguments" in refused_by(report.main, tmp_path, "--outptu", "x")


def test_a_file_that_is_no_report_is_kept(refused_by, tmp_path):
    run = write_run(tmp_path / "run")
    (run / "report.html").write_text("mine")
    assert "is no report of ours" in refused_by(report.main, run)
    assert (run / "report.html").read_text() == "mine"


def test_the_report_of_a_run_is_not_replaced_by_another(refused_by, tmp_path):
    a, b = (write_run(tmp_path / name) for name in "ab")
    report.main([str(a)])
    before = (a / "report.html").read_text()
    for argv in ((a, b, "--output", a / "report.html"), (b, "--output", a / "report.html")):
        assert "is the report of the run in" in refused_by(report.main, *argv)
    assert (a / "report.html").read_text() == before


def test_files_that_cannot_be_read_are_left_out_with_a_note(tmp_path):
    run = write_run(tmp_path / "run")
    for name in ("about.json", "result.json", "before.json"):
        (run / name).write_text("{")
    (run / "config.yaml").write_text("a: [")
    (run / "samples" / "before.jsonl").write_text("not json\n[1]\n" + "[" * 100_000 + "\n")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "los')
    text = read(run)
    assert "about.json cannot be read" in text and "config.yaml cannot be read" in text
    assert "3 lines of before.jsonl cannot be read" in text and "One line of metrics.jsonl cannot be read" in text


def test_values_that_are_no_numbers_are_gaps(tmp_path):
    rows = [metrics_row(step, 12) for step in range(1, 13)]
    rows[3] |= {"entropy": None, "reward": "high", "grad_norm": [1]}
    lines = [json.dumps(row) for row in rows]
    lines[5] = '{"step": 6, "entropy": NaN, "reward": Infinity, "grad_norm": -Infinity, "loss": 1e999}'
    lines[6] = f'{{"step": 7, "entropy": 1{"0" * 400}}}'
    lines += ['{"step": null}', '{"entropy": 0.3}', '{"step": "x", "reward": true}', "{}"]
    run = write_run(tmp_path / "run")
    write_rows(run / "metrics.jsonl", lines)
    page = report.write_report(run).read_text()
    assert "nan" not in page.lower().replace("finance", "") and "Entropy" in page


@pytest.mark.parametrize(
    "result",
    [{"before": [], "after": "x"}, {"steps": "many", "minutes": None, "peak_memory_gb": {}}, {"seed": {}, "model": 3}],
)
def test_a_result_with_other_keys_is_survived(tmp_path, result):
    assert "The run" in read(write_run(tmp_path / "run", result=result))


def test_samples_with_missing_rewards_and_strange_completions_are_shown(tmp_path):
    run = write_run(tmp_path / "run")
    strange = [None, 7, {"a": [1]}, [], [{"role": "assistant", "content": None}], [{"role": "user"}], ["x"]]
    rows = [solved_row(i, True) | {"completion": value, "correctness_reward": None} for i, value in enumerate(strange)]
    rows += [{}, {"question": None}, {"question": 3, "completion": "fine"}]
    write_rows(run / "samples" / "after.jsonl", rows)
    assert "not judged" in read(run)


def test_hostile_names_and_texts_are_inert(tmp_path):
    names = {f"{HOSTILE}_reward": 1.0, "think_format_reward": 0.2}
    rows = [
        metrics_row(step, 12) | {f"rewards/{HOSTILE}_reward/mean": 0.1 * step, "rewards/x'\"/mean": 1}
        for step in range(1, 13)
    ]
    run = write_run(
        tmp_path / "<b onclick=x>&amp;\u202e",
        metrics=rows,
        given={"task": HOSTILE, HOSTILE: HOSTILE},
        about={
            "rewards": names,
            "machine": HOSTILE,
            "versions": {HOSTILE: HOSTILE},
            "correctness": f"{HOSTILE}_reward",
        },
        result={"model": HOSTILE, "seed": HOSTILE, "pairs": {HOSTILE: HOSTILE}},
    )
    row = solved_row(1, True) | {
        "question": HOSTILE,
        "answer": HOSTILE,
        "completion": f"<think>{HOSTILE}</think>{HOSTILE}",
    }
    for name in ("before", "after", "during_000006"):
        write_rows(run / "samples" / f"{name}.jsonl", [row | {f"{HOSTILE}_reward": 1.0}])
    path = report.write_report(run)
    page = page_of(path)
    assert "<script>alert(1)</script>" in page.text and "\\u202e" in page.text and "\\x1b[31m" in page.text
    assert not {"\u202e", "\x1b"} & set(path.read_text())


def test_lone_surrogates_are_shown_as_escapes(tmp_path):
    run = write_run(tmp_path / "run")
    line = json.dumps(solved_row(1, True)).replace("What is", "What \\ud83d is")
    write_rows(run / "samples" / "after.jsonl", [line])
    write_rows(run / "samples" / "before.jsonl", [line])
    assert "What \\ud83d is 1 + 0?" in read(run)


def test_a_completion_of_a_million_characters_is_cut(tmp_path):
    run = write_run(tmp_path / "run")
    rows = [solved_row(i, True) | {"completion": "a" * 600_000 + "b" * 400_000} for i in range(3)]
    write_rows(run / "samples" / "after.jsonl", rows)
    path = report.write_report(run)
    assert "990,000 characters in the middle are left out: samples/after.jsonl has all of it." in page_of(path).text
    assert path.stat().st_size < 500_000


# Pipelines and comparisons


@pytest.fixture
def pipeline(tmp_path):
    folder = tmp_path / "r1"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text("# A pipeline of trl-recipes.\npipeline: r1\ntask: word_problems\n")
    right = {"cold_start": (40, 45), "rl": (45, 80), "sft": (40, 85), "final": (85, 95)}
    for name, (before, after) in right.items():
        recipe = "grpo" if name in ("rl", "final") else "sft"
        write_run(folder / name, recipe=recipe, problems=100, before=before, after=after)
    result = {"prompts": 10, "completions": 80, "accuracy": 0.5, "ci95": [0.4, 0.6]}
    write_run(folder / "samples", recipe="sample", metrics=[], before=None, after=None, result=result)
    write_json(folder / "result.json", {"stages": {}, "minutes": {"rl": 1.0, "final": 2.0}})
    return folder


def test_a_pipeline_goes_from_its_base_to_its_last_stage(pipeline):
    report.write_report(pipeline / "rl")
    path = report.write_report(pipeline)
    text = page_of(path).text
    assert "rose from 40.0" in text and "to 95.0" in text and "a gain of 55.0 points" in text
    stages = [text.index(f"After {name} ") for name in ("cold_start", "rl", "sft", "final")]
    assert stages == sorted(stages)
    assert 'href="rl/report.html"' in path.read_text() and 'href="final/report.html"' not in path.read_text()
    assert "make r1-word_problems" in text and "3.0 minutes" in text


def test_an_unfinished_pipeline_says_so(pipeline):
    for file in ("final/result.json", "result.json"):
        (pipeline / file).unlink()
    text = read(pipeline)
    assert "Not finished, so far: Accuracy rose" in text and "After the stage sft" in text


def test_rounds_of_dpo_are_stages(tmp_path):
    write_run(tmp_path / "dpo", recipe="dpo", before=None, after=None)
    for number in (1, 2, 10):
        write_run(tmp_path / "dpo" / f"round_{number}", recipe="dpo", problems=100, before=40, after=80 + number)
    text = read(tmp_path / "dpo")
    assert "After round_2 " in text and "to 90.0" in text and text.index("round_2") < text.index("round_10")


def test_the_order_of_the_stages_is_that_of_the_pipelines():
    from recipes.r1 import PIPELINES

    assert {name: tuple(stage.name for stage in stages) for name, stages in PIPELINES.items()} == pipeline_folder.ORDER


def test_several_runs_side_by_side(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/a"), problems=100, after=60, settings={"learning_rate": 0.001, "only": 1})
    write_run(Path("runs/b"), problems=100, after=90, settings={"learning_rate": 0.002})
    report.main(["runs/b"])
    report.main(["runs/a", "runs/b"])
    assert capsys.readouterr().out.splitlines()[-1] == "The report is in runs/report.html."
    page = page_of(Path("runs/report.html"))
    assert "b is the best, 90.0" in page.text and "a difference of 30.0 points, more than chance" in page.text
    assert "+30.0 points" in page.text and "learning_rate 0.001 0.002" in page.text
    assert "1 settings that only some of them have" in page.text
    assert 'href="b/report.html"' in Path("runs/report.html").read_text()


def test_runs_on_other_problems_are_not_tested_against_each_other(tmp_path):
    a, b = (write_run(tmp_path / name) for name in "ab")
    write_rows(b / "samples" / "after.jsonl", [solved_row(i, True) for i in range(50, 60)])
    text = page_of(report.write_comparison([a, b])).text
    assert "no problem in common" in text and "they solved different problems" in text


def test_a_pipeline_and_an_unfinished_run_can_be_compared(pipeline, tmp_path):
    other = write_run(tmp_path / "x", after=None, finished=False)
    text = page_of(report.write_comparison([pipeline, other])).text
    assert "Only r1 was evaluated" in text and "R1 pipeline" in text and "not finished" in text


def test_why_two_runs_are_not_compared_is_said(tmp_path):
    first = write_run(tmp_path / "first", after=9)
    unevaluated = write_run(tmp_path / "unevaluated", before=None, after=None)
    text = page_of(report.write_comparison([first, unevaluated])).text
    assert "not evaluated" in text and "no problem in common" not in text
    unfinished = write_run(tmp_path / "unfinished", after=None, finished=False)
    text = page_of(report.write_comparison([unfinished, first])).text
    assert "the first is not finished" in text and "no problem in common" not in text


def test_a_folder_of_several_runs_is_no_run_to_compare(tmp_path, refused_by):
    folder = tmp_path / "over"
    run = write_run(folder / "grpo-0.1")
    (folder / "pipeline.yaml").write_text("# A pipeline of trl-recipes.\npipeline: overoptimize\n")
    said = refused_by(report.main, run, folder)
    assert f"{folder} holds several runs: name those to compare, such as {folder / 'grpo-0.1'}." in said


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    runs = [write_run(tmp_path / place / "grpo") for place in ("one", "two")]
    assert "one/grpo" in page_of(report.write_comparison(runs)).text


def test_the_same_folder_gives_the_same_page(tmp_path):
    run = write_run(tmp_path / "run")
    assert report.write_report(run).read_text() == report.write_report(run).read_text()


def test_the_report_loads_no_torch_and_no_transformers(tmp_path):
    run = write_run(tmp_path / "run")
    code = "import sys; from recipes import report; report.main(sys.argv[1:]); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()
    assert loaded[0] == f"The report is in {run}/report.html."
    assert not any(f"'{name}'" in loaded[1] for name in ("torch", "transformers", "trl", "datasets", "peft"))
