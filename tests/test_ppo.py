"""The PPO recipe end to end on the miniature: the same as GRPO's, with a critic."""

import difflib
import json
from pathlib import Path

import pytest
import yaml
from peft import PeftModel
from scored_samples import use_few_problems
from transformers import AutoModelForCausalLM

from recipes import grpo, hardware, ppo

RUN = Path("runs/ppo-word_problems")
SMALL = ["--per_device_train_batch_size", "16", "--eval_samples", "8", "--save_steps", "2", "--report_to", "none"]


@pytest.fixture(autouse=True)
def few_problems(request, monkeypatch):
    if "learns" not in request.node.name:
        use_few_problems(monkeypatch)


def metrics(run: Path = RUN) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_miniature_learns_to_reason_and_the_critic_to_foresee_it():
    ppo.main(["--eval_samples", "200", "--calibration_samples", "0", "--report_to", "none"])
    result = json.loads((RUN / "result.json").read_text())
    before, after = result["before"], result["after"]
    assert before["accuracy"] <= 0.55 and after["accuracy"] >= 0.8 and after["strict_accuracy"] >= 0.8
    assert result["value/explained_variance"] >= 0.3
    assert result["objective/kl"] > 0 and result["entropy"] < metrics()[0]["entropy"]


def test_a_run_leaves_the_same_folder_as_grpo_with_the_figures_of_the_critic(capsys):
    ppo.main([*SMALL, "--max_steps", "3"])
    result = json.loads((RUN / "result.json").read_text())
    assert (result["task"], result["trainer"], result["model"], result["steps"]) == (
        "word_problems",
        "ppo",
        "starter",
        3,
    )
    shown = {"objective/kl", "entropy", "value/explained_variance"}
    assert shown < result.keys()
    assert [row["step"] for row in metrics()] == [1, 2, 3]
    assert {"reward", "objective/rlhf_reward", "value/loss", "returns/mean", "advantages/std"} | shown <= metrics()[
        2
    ].keys()
    samples = [json.loads(line) for line in (RUN / "samples" / "step_000002.jsonl").read_text().splitlines()]
    assert len(samples) == 16 and len({sample["advantage"] for sample in samples}) > 8
    assert len({str(sample["prompt"]) for sample in samples}) == 16  # one completion of a prompt
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["num_generations"] == 1 and config["kl_coef"] == 0.05 and config["load_in_4bit"]
    assert (RUN / "curve.png").stat().st_size > 10_000

    adapter = RUN / "adapter"
    assert (adapter / "adapter_model.safetensors").exists() and not (adapter / "critic").exists()
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(hardware.STARTER_FOLDER), adapter)

    ppo.main([*SMALL, "--max_steps", "3"])
    assert "is finished, nothing was trained" in capsys.readouterr().out


@pytest.mark.faults
@pytest.mark.whole
def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened():
    flags = [*SMALL, "--eval_samples", "0", "--num_iterations", "2", "--save_steps", "3"]
    ppo.main([*flags, "--max_steps", "6", "--output_dir", "runs/whole"])
    ppo.main([*flags, "--max_steps", "6"])
    # As after a crash in step 5, in the midst of the epochs over a rollout.
    for name in ("result.json", "checkpoint-6/trainer_state.json"):
        (RUN / name).unlink()
    ppo.main([*flags, "--max_steps", "6"])
    apart = {"minutes", "step_time"}
    rows = [[{k: v for k, v in row.items() if k not in apart} for row in metrics(r)] for r in (RUN, Path("runs/whole"))]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "flags", ["--critic shared", "--load_in_4bit False --use_peft False", "--num_generations 4 --kl_coef 0 --beta 0.04"]
)
def test_other_forms_train(flags):
    ppo.main([*SMALL, "--eval_samples", "0", "--max_steps", "2", *flags.split()])
    assert [row["step"] for row in metrics()] == [1, 2]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--critic adapter --use_peft False --load_in_4bit False", "--critic adapter needs LoRA"),
        ("--critic shard", "invalid choice: 'shard'"),
        ("--lam 1.5", "lam 1.5 is outside [0, 1]"),
        ("--gamma -1", "gamma -1.0 is outside [0, 1]"),
        ("--vf_coef -0.1", "vf_coef -0.1: give a number that is 0 or more"),
        ("--beta 0.04", "two KL penalties"),
        ("--target_kl 1 --kl_coef 0", "target_kl adapts kl_coef"),
        ("--loss_type cispo", "not PPO's clipped loss"),
        ("--kl_coeff 0.1", "Did you mean --kl_coef?"),
        ("--per_device_train_batch_size 1", "one completion"),
        ("--num_generations 0", "--num_generations 0: give 1 or more"),
        ("--num_generations 3", "take 1, 2, 4, 8"),
    ],
)
def test_a_mistake_is_one_sentence(flags, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        ppo.main(flags.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and sentence in error and "Traceback" not in error


def test_help_lists_the_flags_of_ppo(capsys):
    with pytest.raises(SystemExit):
        ppo.main(["--help"])
    assert {"--critic", "--kl_coef", "--lam", "--target_kl"} <= set(capsys.readouterr().out.replace(",", " ").split())


def test_the_recipe_reads_like_grpos():
    recipes = [Path(recipe.__file__).read_text().split("@exit_kindly")[1].splitlines() for recipe in (grpo, ppo)]
    changed = [line for line in difflib.ndiff(*recipes) if line.startswith(("-", "+"))]
    assert len(changed) <= 8, "\n".join(changed)
