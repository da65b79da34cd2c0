"""Rewards that are logged and not trained on."""

import json
from pathlib import Path

import pytest

from recipes import dpo, grpo, reward_model, sft
from recipes.errors import InputError
from recipes.pair_sources import weigh
from recipes.tasks import load_task

TASK = load_task("word_problems")
SMALL = ["--per_device_train_batch_size", "16", "--max_steps", "3", "--eval_samples", "0", "--report_to", "none"]


def weights(task) -> dict[str, float]:
    return dict(zip(task.reward_names, task.reward_weights, strict=True))


def test_a_reward_of_the_task_or_of_the_library_is_measured_at_weight_zero():
    task = TASK.with_rewards(["tag_count_reward"], measured=["think_format_reward", "repetition_penalty_reward"])
    assert weights(task) == {
        "correctness_reward": 1.0,
        "think_format_reward": 0.0,
        "tag_count_reward": 0.1,
        "repetition_penalty_reward": 0.0,
    }
    assert weights(TASK) == {"correctness_reward": 1.0, "think_format_reward": 0.2}


def test_a_learned_reward_weighs_one_and_can_be_measured_too():
    def reward_model(prompts, completions, **columns):
        return [0.0] * len(completions)

    assert weights(TASK.with_rewards([], reward_model))["reward_model"] == 1.0
    assert weights(TASK.with_rewards([], reward_model, ["reward_model"]))["reward_model"] == 0.0


@pytest.mark.parametrize(
    ("extra", "measured", "sentence"),
    [
        (
            [],
            ["corectness_reward"],
            "Unknown reward 'corectness_reward' in --measure_only. Did you mean correctness_rew",
        ),
        ([], ["tag_count_reward", "tag_count_reward"], "--measure_only tag_count_reward: it is named twice"),
        (["correctness_reward"], [], "--extra_rewards correctness_reward: this task has that reward already"),
        (["no_reward"], [], "Unknown reward 'no_reward' in --extra_rewards."),
    ],
)
def test_a_wrong_name_is_one_sentence(extra, measured, sentence):
    with pytest.raises(InputError, match=sentence):
        TASK.with_rewards(extra, measured=measured)


def test_weights_that_contradict_it_or_leave_nothing_are_refused(refused_by):
    measured = ["--measure_only", "correctness_reward"]
    said = refused_by(grpo.main, *SMALL, *measured, "--reward_weights", "1", "0.2")
    assert said == "error: --measure_only correctness_reward weighs 1.0: set that to 0 in --reward_weights.\n"
    said = refused_by(grpo.main, *SMALL, *measured, "think_format_reward")
    assert said == "error: All rewards are only measured: give one of them a weight, by --reward_weights.\n"


@pytest.mark.parametrize(
    ("recipe", "flags", "sentence"),
    [
        (dpo, [], "Pairs are right against wrong by correctness_reward, so it is trained on"),
        (reward_model, ["--reward_weights", "0", "1"], "Pairs are right against wrong by correctness_reward"),
        (sft, ["--samples", "s.jsonl"], "Samples are kept by correctness_reward, so it is trained on"),
    ],
)
def test_what_chooses_pairs_and_samples_cannot_be_measured_only(refused_by, recipe, flags, sentence):
    measured = [] if "--reward_weights" in flags else ["--measure_only", "correctness_reward"]
    assert sentence in refused_by(recipe.main, "--task", "word_problems", *measured, *flags)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("code_reward", "code_reward cannot be used on this task: code_reward needs the tests of each row"),
        ("multiple_choice_reward", "multiple_choice_reward cannot judge any row of this task"),
        ("async_code_reward", "Unknown reward 'async_code_reward' in --measure_only. Did you mean code_reward?"),
    ],
)
def test_a_reward_that_can_judge_nothing_here_is_refused_before_a_weight_is_loaded(refused_by, name, sentence):
    assert sentence in refused_by(grpo.main, *SMALL, "--measure_only", name)
    assert not Path("runs").exists()


def test_a_reward_that_compares_completions_of_a_prompt_can_be_named():
    grpo.main([*SMALL, "--extra_rewards", "majority_vote_reward", "length_reward", "--dry_run"])


@pytest.mark.parametrize("weight", ["nan", "inf"])
def test_weights_are_finite(refused_by, weight):
    said = refused_by(grpo.main, *SMALL, "--reward_weights", weight, "0.2")
    assert said == f"error: --reward_weights {weight} 0.2: give finite numbers.\n"


def test_samples_that_exist_are_weighed_by_the_flags_that_are_given():
    def row() -> dict:
        rewards = {"correctness_reward": [1.0, 0.0], "think_format_reward": [0.0, 1.0], "tag_count_reward": [0.5, None]}
        return {"completions": ["a", "b"], "rewards": rewards, "total": [9.0, 9.0]}

    rows = [row()]
    weigh(rows, {"correctness_reward": 1.0, "think_format_reward": 0.0, "tag_count_reward": 0.1}, "s.jsonl")
    assert rows[0]["total"] == [pytest.approx(1.05), 0.0]
    weigh(rows, {"correctness_reward": 1.0, "unknown_reward": 0.0}, "s.jsonl")  # only measured: nothing is missing
    assert rows[0]["total"] == [1.0, 0.0]
    with pytest.raises(InputError, match="has no rewards of reward_model, which is to be trained on: `python"):
        weigh(rows, {"correctness_reward": 1.0, "reward_model": 1.0}, "s.jsonl")


def test_pairs_of_samples_that_exist_are_made_by_the_weights_of_the_flags(monkeypatch):
    made = []
    monkeypatch.setattr("recipes.pair_sources.preference_pairs", lambda rows, *a, **k: made.extend(rows) or exit(7))
    rewards = {"correctness_reward": [1.0, 0.0], "think_format_reward": [0.0, 1.0]}
    row = {"question": "What is 1 + 1?", "answer": "2", "completions": ["2", "3"], "rewards": rewards}
    Path("s.jsonl").write_text(json.dumps(row | {"total": [1.0, 0.2]}) + "\n")
    with pytest.raises(SystemExit):
        dpo.main(["--task", "word_problems", "--samples", "s.jsonl", "--measure_only", "think_format_reward"])
    assert made[0]["total"] == [1.0, 0.0]


def metrics(folder: str) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def test_what_is_only_measured_changes_nothing_of_training():
    grpo.main([*SMALL, "--output_dir", "alone"])
    grpo.main([*SMALL, "--output_dir", "measured", "--measure_only", "tag_count_reward"])
    alone, measured = metrics("alone"), metrics("measured")
    assert all(row["rewards/tag_count_reward/std"] > 0 for row in measured)
    assert json.loads(Path("measured/about.json").read_text())["rewards"]["tag_count_reward"] == 0.0
    for name in ("loss", "reward", "reward_std", "frac_reward_zero_std", "grad_norm", "entropy"):
        assert [row[name] for row in alone] == [row[name] for row in measured]


def test_a_row_of_several_steps_has_the_mean_of_their_groups_without_signal():
    grpo.main([*SMALL, "--max_steps", "4", "--output_dir", "each"])
    grpo.main([*SMALL, "--max_steps", "4", "--output_dir", "pairs", "--logging_steps", "2"])
    each, pairs = ([row["frac_reward_zero_std"] for row in metrics(run)] for run in ("each", "pairs"))
    assert len(set(each)) > 1 and pairs == pytest.approx([sum(each[:2]) / 2, sum(each[2:]) / 2])


def test_a_trainer_without_rewards_measures_them_on_the_held_out_problems():
    sft.main(
        ["--num_train_rows", "32", "--eval_samples", "4", "--report_to", "none", "--measure_only", "tag_count_reward"]
    )
    result = json.loads(Path("runs/sft-word_problems/result.json").read_text())
    assert 0 < result["after"]["tag_count_reward"] <= 1
