"""Several processes are one run: the same result as one process, one folder, one voice, and none is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpo_two_processes
import psutil
import pytest
import torch
from safetensors.torch import load_file
from scored_samples import sampled

from recipes import dpo, grpo, hardware, launch, processes, sample, sft

TESTS = Path(__file__).parent
TWO = [sys.executable, "-m", "recipes.launch", "--num_processes", "2", "-m"]
SMALL = ["--task", "word_problems", "--max_steps", "2", "--eval_samples", "6", "--report_to", "none"]


def start(*command, **more) -> subprocess.Popen:
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    env = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*TWO, *map(str, command)], env=env, **streams, **more)


def run(*command) -> tuple[int, str]:
    process = start(*command)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_two_processes_make_one_run():
    code, output = run("recipes.ppo", *SMALL, "--per_device_train_batch_size", "8")
    assert code == 0, output
    folder = Path("runs/ppo-word_problems")
    result, about = (json.loads((folder / f"{name}.json").read_text()) for name in ("result", "about"))
    assert result["before"]["n"] == result["after"]["n"] == 6 and about["processes"] == 2
    assert output.count("preflight: ") == output.count("The report is ") == 1 and (folder / "report.html").exists()
    assert [row["step"] for row in rows_of(folder / "metrics.jsonl")] == [1, 2]
    solved = rows_of(folder / "samples" / "before.jsonl")
    assert len({row["question"] for row in solved}) == 6
    assert len(rows_of(folder / "samples" / "before_sampled.jsonl")) == 6
    for step in (1, 2):
        samples = rows_of(folder / "samples" / f"step_00000{step}.jsonl")
        assert len(samples) == 16
        assert len({sample["prompt"][-1]["content"] for sample in samples}) == 16


def test_grpo_takes_the_same_step_where_a_group_spans_two_processes(tmp_path):
    (tmp_path / "two").mkdir()
    assert run("grpo_two_processes", tmp_path / "two")[0] == 0
    one, (first, second) = grpo_two_processes.one_step(), (torch.load(tmp_path / "two" / f"{i}.pt") for i in (0, 1))
    assert len(one["advantages"]) == 16
    for two in (first, second):
        assert two["advantages"] == pytest.approx(one["advantages"], abs=1e-5)
        for name in ("loss", "grad_norm", "reward", "reward_std", "completions/mean_length"):
            assert two["logged"][name] == pytest.approx(one["logged"][name], abs=1e-5)
        for name, weight in one["adapter"].items():
            torch.testing.assert_close(two["adapter"][name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("recipe", "what"), [(dpo, "pairs"), (sft, "examples")])
def test_dpo_and_sft_learn_the_same_of_the_same_data(recipe, what, write_jsonl):
    file = write_jsonl(sampled([2] * 24))
    name = recipe.__name__.rpartition(".")[2]
    flags = ["--task", "word_problems", "--samples", str(file), "--report_to", "none", "--eval_samples", "0"]
    flags += ["--num_train_epochs", "1", "--keep_per_prompt", "1"] if recipe is sft else ["--num_train_epochs", "1"]
    recipe.main([*flags, "--per_device_train_batch_size", "8", "--output_dir", "one"])
    code, output = run(f"recipes.{name}", *flags, "--per_device_train_batch_size", "4", "--output_dir", "two")
    assert code == 0, output
    one, two = (rows_of(Path(folder) / "metrics.jsonl") for folder in ("one", "two"))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3) and a["grad_norm"] == pytest.approx(
            b["grad_norm"], rel=1e-2
        )
    weights = [load_file(Path(folder) / "adapter" / "adapter_model.safetensors") for folder in ("one", "two")]
    for key, weight in weights[0].items():
        torch.testing.assert_close(weights[1][key], weight, rtol=1e-2, atol=2e-4)


def test_the_prompts_of_pairs_are_sampled_by_all_of_them():
    flags = ["--sample_prompts", "13", "--num_generations", "4", "--per_device_train_batch_size", "2"]
    code, output = run("recipes.reward_model", *SMALL, *flags)
    assert code == 0, output
    folder = Path("runs/rm-word_problems")
    for name, count in (("samples.jsonl", 13), ("samples/held_out.jsonl", 6)):
        rows = rows_of(folder / name)
        assert len(rows) == len({row["question"] for row in rows}) == count
        assert all(len(row["completions"]) == 4 for row in rows)
    assert not list(folder.glob("**/*_of_2.jsonl"))
    result = json.loads((folder / "result.json").read_text())
    assert result["pairs"]["prompts"] == 13 and result["score_std"] > 0


def test_what_several_processes_cannot_do_is_refused(refused_by, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "FSDP and ZeRO-3 take 16-bit weights only: add --load_in_4bit False" in refused_by(sft.main, *SMALL)
    with pytest.raises(SystemExit):
        dpo.main([*SMALL, "--load_in_4bit", "False"])
    assert "and sampling needs them whole: write samples without a launcher" in capsys.readouterr().err
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert "DeepSpeed's ZeRO needs GPUs, and none is in use" in refused_by(sft.main, *SMALL)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "meet", lambda on_cpu: None)
    monkeypatch.setattr(processes, "of_first", lambda value: value)
    assert "run as one process" in refused_by(sample.main, "--task", "word_problems")
    assert "run as one process" in refused_by(dpo.main, *SMALL, "--rounds", "2")
    said = refused_by(grpo.main, *SMALL, "--per_device_train_batch_size", "3")
    assert "--num_generations 8 does not divide the 6 completions of a generation batch" in said
    assert "(--per_device_train_batch_size 3 x 1 x 2 processes)" in said


def test_a_mistake_is_one_sentence_said_once():
    code, output = run("recipes.grpo", "--task", "word_problem")
    assert code == 2
    assert re.sub(r"Loading weights.*", "", output).strip() == (
        "error: Unknown task 'word_problem'. Did you mean word_problems? Tasks: code, gsm8k, word_problems."
    )


def wait_for(file: Path, lines: int, process) -> None:
    end = time.monotonic() + 120
    while not file.exists() or file.read_text().count("\n") < lines:
        assert time.monotonic() < end and process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


LONG = [*SMALL, "--max_steps", "200", "--save_steps", "2", "--eval_samples", "0", "--per_device_train_batch_size", "8"]
METRICS = Path("runs/grpo-word_problems/metrics.jsonl")


@pytest.mark.faults
def test_where_one_process_dies_the_others_end_too_and_the_run_goes_on():
    process = start("recipes.grpo", *LONG)
    wait_for(METRICS, 3, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    recipes = [worker for worker in workers if "recipes.grpo" in worker.cmdline()]
    assert len(recipes) == 2
    recipes[-1].kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, 2), output
    assert not [worker for worker in recipes if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 0), pytest.param(signal.SIGINT, 130, marks=pytest.mark.whole)]
)
def test_a_signal_stops_all_of_them_after_the_same_step_and_saves_it(sent, code):
    process = start("recipes.grpo", *LONG, start_new_session=True)
    wait_for(METRICS, 2, process)
    os.killpg(process.pid, sent)  # as a terminal does, or Slurm
    output, _ = process.communicate(timeout=90)
    assert process.returncode == code, output
    assert output.count("the same command goes on from there.") == 1 and "Traceback" not in output
    last = rows_of(METRICS)[-1]["step"]
    assert (METRICS.parent / f"checkpoint-{last}" / "trainer_state.json").exists()


def test_the_batch_of_a_step_is_shared(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert hardware.shared_batch(8, 8) == {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    assert hardware.shared_batch(64, 1) == {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1}
    monkeypatch.setattr(processes, "count", lambda: 16)
    assert hardware.shared_batch(8, 8) == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}


def test_what_processes_make_of_their_parts_is_put_in_order_again(monkeypatch):
    parts = [list(range(7))[place::3] for place in range(3)]
    monkeypatch.setattr(processes, "count", lambda: 3)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda part: parts)
    assert processes.together(parts[1]) == list(range(7))


def test_a_configuration_that_trl_ships_is_found_by_its_name(refused_by, tmp_path):
    [_, path] = launch.with_shipped_config(["--config_file", "zero3"])
    assert "zero_stage: 3" in Path(path).read_text()
    (own := tmp_path / "mine.yaml").write_text("{}")
    assert launch.with_shipped_config(["--config_file", str(own)]) == ["--config_file", str(own)]
    said = refused_by(launch.main, "--config_file", "zer3", "-m", "recipes.grpo")
    assert said.startswith("error: --config_file zer3 is no file. Did you mean zero3? TRL ships fsdp1, fsdp2")
    assert refused_by(launch.main, "--config_file=zer3", "-m", "recipes.grpo") == said
    own.write_text("a: [")
    assert "while parsing a flow" in refused_by(launch.main, "--config_file", own, "-m", "recipes.grpo")
    assert "'2' is no flag of the launcher: write --num_processes 2" in refused_by(
        launch.main, "2", "-m", "recipes.grpo"
    )
    said = "error: There is no module recipes.grop. Did you mean recipes.grpo?\n"
    assert refused_by(launch.main, "--num_processes", "2", "-m", "recipes.grop") == said
    assert "Name a recipe behind -m" in refused_by(launch.main, "--num_processes", "2")
    assert "Unrecognized arguments: --num_proceses" in refused_by(launch.main, "--num_proceses", "2", "-m", "x")
