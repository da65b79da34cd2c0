"""The pipeline from few pairs to a picture of proxy and gold, each stage a real run on the miniature."""

import json
import math
from pathlib import Path

import pytest

from recipes import overoptimize
from recipes.errors import InputError
from recipes.overoptimize import WINDOW, best_of_n_curve, curve, figures_of, stages_of, steps_of
from recipes.run import GENERATOR, Run
from recipes.stages import write_pipeline

TINY = [
    *("--task", "word_problems", "--kl_coefs", "0.01", "0.5", "--trainers", "ppo", "--max_steps", "2"),
    *("--sample_prompts", "16", "--num_train_epochs", "1", "--num_generations", "4", "--num_prompts", "8"),
    *("--eval_samples", "8", "--output_dir", "over"),
]
FOLDER = Path("over")


def test_every_run_is_trained_on_the_proxy_alone_with_its_own_kl_weight():
    stages = stages_of(*overoptimize.parse(TINY))
    assert list(stages) == ["rm", "samples", "ppo-0.01", "ppo-0.5"]
    assert [stages[name][1]["kl_coef"] for name in ("ppo-0.01", "ppo-0.5")] == [0.01, 0.5]
    for name in ("samples", "ppo-0.01"):
        settings = stages[name][1]
        assert settings["reward_model"] == "over/rm"
        assert settings["measure_only"] == ["correctness_reward", "think_format_reward"]
    both = overoptimize.parse(["--task", "word_problems", "--kl_coefs", "0.1", "0.01"])
    assert list(stages_of(*both))[2:] == ["grpo-0.01", "grpo-0.1", "ppo-0.01", "ppo-0.1"]
    assert stages_of(*both)["grpo-0.1"][1]["beta"] == 0.1
    assert stages_of(*both)["grpo-0.1"][1]["max_steps"] == 45


def test_a_stage_takes_flags_of_its_recipe():
    stages = stages_of(*overoptimize.parse([*TINY, "--ppo.learning_rate", "5e-4", "--rm.min_margin=0.5"]))
    assert stages["ppo-0.01"][1]["learning_rate"] == stages["ppo-0.5"][1]["learning_rate"] == "5e-4"
    assert stages["rm"][1]["min_margin"] == "0.5" and "min_margin" not in stages["samples"][1]


def test_the_pipeline_ends_with_a_picture_and_its_numbers_and_goes_on_where_it_stopped(capfd):
    overoptimize.main(TINY)
    result = json.loads((FOLDER / "result.json").read_text())
    assert (FOLDER / "overoptimization.png").stat().st_size > 10_000
    assert [point["n"] for point in result["best_of_n"]] == [1, 2, 4] and result["best_of_n"][0]["kl"] == 0
    assert list(result["runs"]) == ["ppo-0.01", "ppo-0.5"]
    for points in result["runs"].values():
        assert [set(point) for point in points] == [{"step", "kl", "proxy", "gold"}]
        assert 0 <= points[0]["gold"] <= 1
    proxies = [point["proxy"] for point in result["best_of_n"]]
    assert proxies == sorted(proxies)
    done = {path: path.stat().st_mtime_ns for path in FOLDER.glob("*/result.json")}
    assert len(done) == 4
    capfd.readouterr()
    overoptimize.main(TINY)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    output = capfd.readouterr().out
    assert output.count("is finished.") == 4 and "gold lost" in output


def test_other_settings_are_refused_before_anything_is_touched_and_overwrite_replaces_all(refused_by, monkeypatch):
    stages = stages_of(*overoptimize.parse(TINY))
    for name, (_, settings) in stages.items():
        a_run_that_ended(FOLDER / name, settings)
    a_run_that_ended(FOLDER / "grpo-0.7", {"beta": 0.7})  # of an earlier command, on the reward model that goes
    write_pipeline(FOLDER, {"pipeline": "overoptimize", "task": "word_problems", "model_name_or_path": "starter"})
    results = [FOLDER / name for name in overoptimize.RESULTS]
    for path in (*results, FOLDER / "rm.yaml", FOLDER / "grpo-0.7.yaml"):
        path.write_text("of the first command")
    (FOLDER / "report.html").write_text(f'<meta name="generator" content="{GENERATOR}">')
    kept = contents()

    said = refused_by(overoptimize.main, *TINY, "--sample_prompts", "17")
    assert "over holds runs of other settings (over/rm: sample_prompts 16 -> 17)" in said and "--overwrite" in said
    assert "over/ppo-0.01: max_steps 2 -> 3" in refused_by(overoptimize.main, *TINY, "--max_steps", "3")
    assert contents() == kept

    def stop(recipe, settings):
        raise SystemExit(7)

    monkeypatch.setattr(overoptimize, "run_stage", stop)
    with pytest.raises(SystemExit):
        overoptimize.main([*TINY, "--sample_prompts", "17", "--overwrite"])
    assert list(contents()) == [FOLDER / "pipeline.yaml"]


def test_overwrite_goes_on_with_what_is_unfinished_and_of_the_same_settings():
    stages = {name: settings for name, (_, settings) in stages_of(*overoptimize.parse(TINY)).items()}
    a_run_that_ended(FOLDER / "rm", stages["rm"])
    overoptimize.make_room(FOLDER, stages, overwrite=True)
    assert (FOLDER / "rm" / "result.json").exists()


def test_what_is_not_of_the_pipeline_is_left_alone_by_overwrite():
    stages = {name: settings for name, (_, settings) in stages_of(*overoptimize.parse(TINY)).items()}
    for name, settings in stages.items():
        a_run_that_ended(FOLDER / name, settings)
    a_run_that_ended(FOLDER / "mine", {"seed": 1})
    for name in ("result.json", "mine.yaml", "rm.yaml"):
        (FOLDER / name).write_text("{}")
    (FOLDER / "report.html").write_text("<p>mine</p>")
    overoptimize.make_room(FOLDER, stages, overwrite=True)
    left = {str(path.relative_to(FOLDER)) for path in contents()}
    assert {"report.html", "mine.yaml", "mine/result.json"} <= left
    assert not {"result.json", "rm.yaml", "rm/result.json"} & left


def test_runs_of_an_earlier_command_stay_in_the_result():
    def has(*coefs: str):
        args, flags = overoptimize.parse([*TINY, "--kl_coefs", *coefs])
        return overoptimize.runs_besides(FOLDER, args, flags)

    for name, (_, settings) in stages_of(*overoptimize.parse(TINY)).items():
        a_run_that_ended(FOLDER / name, settings)
    (FOLDER / "grpo-x").mkdir()
    write_pipeline(FOLDER, {"pipeline": "overoptimize", "task": "word_problems", "model_name_or_path": "starter"})
    assert list(has("0.01", "0.5")) == [] and sorted(has("0.3")) == ["ppo-0.01", "ppo-0.5"]
    assert has("0.3")["ppo-0.5"][1]["kl_coef"] == 0.5
    assert overoptimize.by_name(["rm", "ppo-0.5", "samples", "ppo-0.01", "grpo-3"]) == ["grpo-3", "ppo-0.01", "ppo-0.5"]


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file() and path.name != "_lock"}


def a_run_that_ended(folder: Path, settings: dict) -> None:
    run = Run(str(folder), settings, settings)
    run.begin()
    run.lock.close()
    run.finish(trainer="rm")


def test_points_are_means_over_ten_steps_and_kl_is_of_a_completion(tmp_path):
    def row(step: int) -> dict:
        kl = {"kl": 0.1 * step, "completions/mean_length": 20}
        return {"step": step, "rewards/reward_model/mean": float(step), "rewards/gold/mean": 1 - step / 100, **kl}

    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row(step)) + "\n" for step in range(1, 13)))
    points = curve(steps_of(tmp_path, "gold"), "gold")
    assert [point["step"] for point in points] == [10, 11, 12] and WINDOW == 10
    assert points[0]["kl"] == pytest.approx(11) and points[0]["proxy"] == pytest.approx(5.5)
    assert points[-1]["gold"] == pytest.approx(1 - 7.5 / 100)
    assert figures_of({"objective/kl": 3.0}, "gold") == (3.0, None, None)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row(13) | {"kl": None}) + "\n")  # NaN
    assert curve(steps_of(tmp_path, "gold"), "gold") == points


def test_best_of_n_is_tested_against_its_peak(tmp_path):
    """The proxy's favourite of all four is wrong, and the others are right."""
    rewards = {"gold": [1.0, 1.0, 1.0, 0.0], "reward_model": [0.1, 0.2, 0.3, 0.9]}
    rows = "".join(json.dumps({"question": str(i), "rewards": rewards}) + "\n" for i in range(20))
    (tmp_path / "samples.jsonl").write_text(rows)
    points = best_of_n_curve(tmp_path / "samples.jsonl", "gold")
    assert [(point["n"], point["gold"]) for point in points] == [(1, 0.75), (2, 0.5), (4, 0.0)]
    fall = points[-1]["against_peak"]
    assert (fall["peak"], fall["n"], fall["difference"]) == (1, 20, pytest.approx(-0.75)) and fall["p"] < 0.001
    assert points[-1]["gold_ci95"][0] == 0.0


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_proxy_without_numbers_is_one_sentence(tmp_path, score):
    row = {"rewards": {"gold": [1.0, 0.0], "reward_model": [0.5, score]}}
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"The reward model's scores in .* are no numbers: lower --rm\.learning_rate"):
        best_of_n_curve(tmp_path / "samples.jsonl", "gold")


def test_a_line_separator_in_a_question_is_no_end_of_a_row(tmp_path):
    row = {"question": "a\u2028b", "rewards": {"gold": [1.0, 0.0], "reward_model": [0.5, 0.1]}}
    (tmp_path / "samples.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    assert [point["gold"] for point in best_of_n_curve(tmp_path / "samples.jsonl", "gold")] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--kl_coefs", "0"], "--kl_coefs must be above 0"),
        (["--kl_coefs", "inf"], "--kl_coefs must be above 0"),
        (["--max_steps", "0"], "--max_steps 0"),
        (["--sample_prompts", "0"], "--sample_prompts 0"),
        (["--trainers", "dpo"], "invalid choice: 'dpo'"),
        (["--task", "word_problem"], "Unknown task 'word_problem'. Did you mean word_problems?"),
        (["--num_prompt", "3"], "Unknown flag --num_prompt. Did you mean --num_prompts?"),
        (["--ppo.lerning_rate", "1"], "Unknown flag --ppo.lerning_rate. Did you mean --ppo.learning_rate?"),
        (["--ppo.kl_coef", "1"], "--ppo.kl_coef: it is set by --kl_coefs."),
        (["--ppo.reward_weights", "1"], "--ppo.reward_weights: it is set by this pipeline"),
        (["--ppo.extra_rewards", "tag_count_reward"], "--ppo.extra_rewards: it is set by this pipeline"),
        (["--rm.seed", "1"], "--rm.seed: it is set by --seed, for all."),
        (["--ppo.learning_rate", "-1"], "Stage ppo-0.01: --learning_rate"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_run(refused_by, argv, sentence):
    assert sentence in refused_by(overoptimize.main, *TINY, *argv)
    assert not FOLDER.exists()


def test_the_folder_of_another_pipeline_is_left_alone(refused_by):
    FOLDER.mkdir()
    write_pipeline(FOLDER, {"pipeline": "r1", "task": "gsm8k"})
    before = (FOLDER / "pipeline.yaml").read_text()
    said = refused_by(overoptimize.main, *TINY, "--overwrite")
    assert "over holds the pipeline r1 of gsm8k: choose another --output_dir." in said
    assert (FOLDER / "pipeline.yaml").read_text() == before


def test_a_folder_of_something_else_is_left_alone(refused_by):
    FOLDER.mkdir()
    (FOLDER / "thesis.tex").write_text("dear")
    assert "holds files that are no pipeline of ours" in refused_by(overoptimize.main, *TINY)
