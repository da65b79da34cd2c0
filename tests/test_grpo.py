"""The recipe end to end on the miniature: real trainer, real 4-bit weights, real LoRA, real wandb offline."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from trl import GRPOTrainer, get_peft_config, get_quantization_config

from recipes import grpo, hardware
from recipes.arguments import RecipeParser
from recipes.qlora import QLoRA, correct_qlora
from recipes.run import Run
from recipes.tasks import Task, load_task
from rewards.completions import completion_text

README = Path(__file__).parent.parent / "README.md"
SMALL = ["--per_device_train_batch_size", "16", "--eval_samples", "8", "--save_steps", "2"]
STEPS = ["--max_steps", "10"]
# wandb remembers the first folder and mode that a process saw: it is tested in processes of their own.
WITHOUT_WANDB = [*SMALL, "--report_to", "none"]


@pytest.fixture
def trainer(tmp_path):
    """The recipe's trainer, as its `main` makes it."""
    parser = RecipeParser("grpo", grpo.GRPODefaults, QLoRA, "")
    _, _, config, model_args = parser.parse(WITHOUT_WANDB, hardware.detect())
    config.model_init_kwargs = {"dtype": model_args.dtype}
    trainer = GRPOTrainer(
        model=hardware.model_path(model_args.model_name_or_path),
        reward_funcs=load_task("word_problems").reward_funcs,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "Tom has 3"}], "answer": "3"}]),
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    correct_qlora(trainer.model)
    return trainer


def test_the_weights_are_four_bit_and_only_lora_is_trained(trainer):
    layers = trainer.model.base_model.model.model.layers
    bases = [m.base_layer for m in layers.modules() if hasattr(m, "base_layer") and hasattr(m, "lora_A")]
    assert len(bases) == 7 * len(layers)  # q, k, v, o, gate, up, down
    for base in bases:
        assert isinstance(base, Linear4bit) and base.weight.quant_state.quant_type == "nf4"
        assert base.weight.dtype == torch.uint8
        assert base.weight.numel() * 2 == base.in_features * base.out_features  # two weights a byte
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(bases)
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())


def test_evaluating_first_does_not_change_the_gradients(trainer):
    """bitsandbytes packs weights in eval mode on some CPUs, and packed weights pass no gradient back."""

    def gradients():
        trainer.model.zero_grad()
        trainer.model.train()
        ids = torch.arange(10, 30).unsqueeze(0)
        trainer.model(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}

    torch.manual_seed(0)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    expected = gradients()
    trainer.model.eval()
    with torch.inference_mode():
        trainer.model(input_ids=torch.arange(10, 30).unsqueeze(0))
    for name, gradient in gradients().items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(gradient, expected[name])


def test_a_run_leaves_everything_in_its_folder_and_uploads_nothing(capsys):
    output, _ = (process := start("--max_steps", "3", "--seed", "7")).communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.startswith("No CUDA GPU in use")
    assert "wandb: offline in runs/grpo-word_problems/wandb, nothing is uploaded" in output
    run = Path("runs/grpo-word_problems")
    result = json.loads((run / "result.json").read_text())
    assert list(result) == [
        *("task", "trainer", "model", "seed", "steps", "minutes", "peak_memory_gb", "before", "after")
    ]
    assert (result["task"], result["trainer"], result["model"], result["seed"], result["steps"]) == (
        *("word_problems", "grpo", "starter", 7, 3),
    )
    for figures in (result["before"], result["after"]):
        assert list(figures) == ["accuracy", "ci95", "strict_accuracy", "format", "mean_length", "n"]
        assert figures["n"] == 8 and figures["ci95"][0] <= figures["accuracy"] <= figures["ci95"][1]
        assert figures["strict_accuracy"] <= min(figures["accuracy"], figures["format"])

    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert {"reward", "rewards/correctness_reward/mean", "entropy", "completions/mean_length"} <= metrics[0].keys()

    assert {path.name for path in (run / "samples").iterdir()} == {
        *("before.jsonl", "after.jsonl", "step_000001.jsonl", "step_000002.jsonl", "step_000003.jsonl"),
        *("before_sampled.jsonl", "after_sampled.jsonl", "during_000001.jsonl", "during_000002.jsonl"),
    }
    samples = [json.loads(line) for line in (run / "samples" / "step_000002.jsonl").read_text().splitlines()]
    assert len(samples) == 16
    correctness = sum(sample["correctness_reward"] for sample in samples) / 16
    assert correctness == pytest.approx(metrics[1]["rewards/correctness_reward/mean"])
    assert {"think_format_reward", "extracted_answer", "gold_answer", "advantage"} <= samples[0].keys()

    totals = [s["correctness_reward"] + 0.2 * s["think_format_reward"] for s in samples]
    groups = [totals[:8], totals[8:]]  # TRL's own share takes the rounding of 1.0 + 0.2 for a spread
    assert metrics[1]["frac_reward_zero_std"] == sum(max(g) - min(g) < 1e-6 for g in groups) / 2
    during = [json.loads(line) for line in (run / "samples" / "during_000002.jsonl").read_text().splitlines()]
    after = [json.loads(line) for line in (run / "samples" / "after.jsonl").read_text().splitlines()]
    assert [row["question"] for row in during] == [row["question"] for row in after]  # the first 8 of 8
    sampled = [json.loads(line) for line in (run / "samples" / "after_sampled.jsonl").read_text().splitlines()]
    assert len(sampled) == 8 and all(len(row["completions"]) == 8 for row in sampled)
    assert any(len(set(row["completions"])) > 1 for row in sampled)  # at the temperature of training
    report = (run / "report.html").read_text()
    assert "<script" not in report and during[0]["question"] in report

    assert (run / "adapter" / "adapter_model.safetensors").exists()
    assert (run / "curve.png").stat().st_size > 10_000
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed"] == 7 and config["load_in_4bit"] and config["learning_rate"] == 1e-3

    # The same command again trains nothing and changes nothing.
    before = (run / "result.json").stat().st_mtime_ns
    grpo.main([*WITHOUT_WANDB, "--max_steps", "3", "--seed", "7"])
    assert "is finished, nothing was trained" in capsys.readouterr().out
    assert (run / "result.json").stat().st_mtime_ns == before

    # Its config.yaml repeats it: the same settings, so the same figures.
    grpo.main(["--config", str(run / "config.yaml"), "--output_dir", "runs/again", "--report_to", "none"])
    again = [json.loads(line) for line in Path("runs/again/metrics.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in again] == [row["reward"] for row in metrics]

    # And --overwrite starts it anew.
    grpo.main([*WITHOUT_WANDB, "--max_steps", "2", "--seed", "7", "--overwrite"])
    assert json.loads((run / "result.json").read_text())["steps"] == 2
    assert not (run / "samples" / "step_000003.jsonl").exists()


def test_a_dry_run_writes_nothing(capsys):
    grpo.main([*WITHOUT_WANDB, "--dry_run"])
    output = capsys.readouterr().out
    assert "rows pass the gold self-test" in output and "learning_rate: 0.001" in output
    assert not Path("runs").exists()


def test_a_reward_that_raises_in_mid_training_does_not_end_the_run(monkeypatch, caplog):
    def fragile_reward(prompts, completions, **kwargs):
        texts = [completion_text(completion) for completion in completions]
        if any(text.startswith("<answer>") for text in texts):
            raise ZeroDivisionError("in the user's own reward")
        return [1.0] * len(texts)

    monkeypatch.setattr(Task, "reward_funcs", property(lambda task: [task.correctness, fragile_reward]))
    grpo.main([*WITHOUT_WANDB, "--max_steps", "1", "--eval_samples", "0"])
    samples = Path("runs/grpo-word_problems/samples/step_000001.jsonl").read_text().splitlines()
    judged = [(json.loads(line)["fragile_reward"], json.loads(line)["completion"]) for line in samples]
    assert {reward for reward, _ in judged} == {None, 1.0}
    assert all((reward is None) == completion_text(c).startswith("<answer>") for reward, c in judged)
    assert "fragile_reward raised ZeroDivisionError" in caplog.text


def start(*argv):
    return subprocess.Popen(
        [sys.executable, "-m", "recipes.grpo", *SMALL, *STEPS, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def logged_steps(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_step(run: Path, step: int, process) -> None:
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or f'"step": {step},' not in (run / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.faults
def test_ctrl_c_saves_a_checkpoint_first_and_says_how_to_go_on(capsys):
    run = Path("runs/grpo-word_problems")
    first = start("--save_steps", "100")
    wait_for_step(run, 3, first)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 130, output
    assert "Traceback" not in output
    assert "the same command goes on from there" in output
    saved = int(next(run.glob("checkpoint-*")).name.split("-")[1])
    assert logged_steps(run) == list(range(1, saved + 1))
    assert f"Not finished: {saved} of 10 steps" in (run / "report.html").read_text()

    grpo.main([*WITHOUT_WANDB, *STEPS, "--save_steps", "100"])
    assert f"Going on from step {saved} of 10." in capsys.readouterr().out
    assert logged_steps(run) == list(range(1, 11))


@pytest.mark.faults
def test_a_run_goes_on_with_the_rows_that_it_was_begun_with(write_jsonl, monkeypatch, capsys):
    rows = [{"question": f"Tom has {n}. Tom gets 3. How many?", "answer": str(n + 3)} for n in range(2, 66)]
    flags = [*WITHOUT_WANDB, "--max_steps", "4", "--eval_samples", "0", "--dataset_name", str(write_jsonl(rows))]
    run = Path("runs/grpo-gsm8k")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Run, "finish", lambda run, **result: 1 / 0)
        grpo.main(flags)
    write_jsonl(rows[::-1])
    with pytest.raises(SystemExit):
        grpo.main(flags)
    assert f"error: {run} holds a run with other rows than {flags[-1]} has now: put" in capsys.readouterr().err
    assert logged_steps(run) == [1, 2, 3, 4] and not (run / "result.json").exists()
    write_jsonl(rows)
    grpo.main(flags)
    assert (run / "result.json").exists()
    (run / "result.json").unlink()
    about = json.loads((run / "about.json").read_text())["data"]
    write_jsonl(rows[::-1])
    grpo.main([*flags, "--overwrite"])
    assert json.loads((run / "about.json").read_text())["data"] != about


@pytest.mark.parametrize(
    "lost", [pytest.param(["result.json"], marks=pytest.mark.whole), ["result.json", "after.json"]]
)
@pytest.mark.faults
def test_a_crash_after_the_last_step_trains_no_step_more(lost, capsys):
    run = Path("runs/grpo-word_problems")
    grpo.main([*WITHOUT_WANDB, "--max_steps", "2"])
    first = json.loads((run / "result.json").read_text())
    adapter = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    for name in lost:
        (run / name).unlink()
    grpo.main([*WITHOUT_WANDB, "--max_steps", "2"])
    assert logged_steps(run) == [1, 2]
    again = json.loads((run / "result.json").read_text())
    assert (again["steps"], again["before"], again["after"]) == (2, first["before"], first["after"])
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == adapter


def test_the_miniature_learns_to_reason():
    grpo.main(["--max_steps", "30", "--eval_samples", "200", "--calibration_samples", "0", "--report_to", "none"])
    result = json.loads(Path("runs/grpo-word_problems/result.json").read_text())
    before, after = result["before"], result["after"]
    assert before["accuracy"] <= 0.55 and after["accuracy"] >= 0.85
    assert after["strict_accuracy"] >= 0.83 and after["format"] >= 0.95
    assert after["mean_length"] >= 1.4 * before["mean_length"]


VARIANTS = re.findall(r"^\| .*\| +`(--[^`]*(?:loss_type|importance)[^`]*)` +\|$", README.read_text(), re.MULTILINE)


@pytest.mark.parametrize("flags", VARIANTS)
def test_every_variant_of_the_readme_trains(flags):
    grpo.main([*WITHOUT_WANDB, "--max_steps", "2", "--eval_samples", "0", *flags.split()])
    assert logged_steps(Path("runs/grpo-word_problems")) == [1, 2]


def test_the_readme_lists_five_variants():
    assert len(VARIANTS) == 5


@pytest.mark.parametrize("trainer", ["GRPO", "PPO"])
def test_the_snippets_of_the_readme_train(trainer):
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [snippet] = [snippet for snippet in snippets if f"{trainer}Trainer(" in snippet]
    here = "use_cpu=True, bf16=False, max_steps=1, max_completion_length=16, report_to='none'"
    on_this_machine = {
        "Qwen/Qwen2.5-0.5B-Instruct": str(hardware.STARTER_FOLDER),
        **{"GRPO": {"GRPOConfig(": f"GRPOConfig({here}, "}, "PPO": {"kl_coef=0.05": f"kl_coef=0.05, {here}"}}[trainer],
    }
    for written, meant in on_this_machine.items():
        assert written in snippet
        snippet = snippet.replace(written, meant)
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rewards/correctness_reward/mean" in done.stdout
