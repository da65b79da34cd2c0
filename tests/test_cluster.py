"""Several machines: two launchers of this one as two nodes, and the files of recipes/cluster by what reads them."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

from recipes import hardware, launch, run
from recipes.arguments import RecipeParser
from recipes.errors import InputError
from recipes.grpo import GRPODefaults
from recipes.ppo import PPODefaults
from recipes.qlora import QLoRA

ROOT = Path(__file__).parent.parent
SLURM, SKYPILOT = (ROOT / "recipes" / "cluster" / name for name in ("slurm.sh", "skypilot.yaml"))
TINY = [
    "--task",
    "gsm8k",
    "--dataset_name",
    "./rows.jsonl",
    "--model_name_or_path",
    "starter",
    "--output_dir",
    "runs/x",
]
TINY += ["--max_steps", "2", "--eval_samples", "0", "--report_to", "none", "--per_device_train_batch_size", "8"]
SLURM_SETS = {"SLURM_JOB_NUM_NODES": "2", "SLURM_NODEID": "1", "HEAD": "node1", "PORT": "12345", "PROCESSES": "16"}
SKYPILOT_SETS = {
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_RANK": "1",
    "SKYPILOT_NUM_GPUS_PER_NODE": "8",
}


def node(rank: int, port: int, folder: Path) -> subprocess.Popen:
    words = ["--num_machines", 2, "--machine_rank", rank, "--main_process_ip", "127.0.0.1"]
    words += ["--main_process_port", port, "--num_processes", 2, "-m", "recipes.grpo", *TINY]
    command = [sys.executable, "-m", "recipes.launch", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=env, **streams)


def test_two_machines_make_one_run(tmp_path, write_jsonl, problems):
    write_jsonl(problems(40))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [node(rank, port, tmp_path) for rank in (0, 1)]
    first, second = (node.communicate(timeout=200)[0] for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0], first + second
    folder = tmp_path / "runs" / "x"
    assert json.loads((folder / "about.json").read_text())["processes"] == 2
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    samples = [json.loads(line) for line in (folder / "samples" / "step_000001.jsonl").read_text().splitlines()]
    asked = [sample["prompt"][-1]["content"] for sample in samples]
    assert sorted(map(asked.count, set(asked))) == [8, 8]
    assert "The report is " in first and "preflight" not in second and "The report is " not in second


def test_flags_that_make_no_run_of_several_machines_are_refused(refused_by):
    def refused(*words):
        return refused_by(launch.main, *words, "-m", "recipes.grpo")

    said = refused("--num_machines", 2, "--num_processes", 2)
    assert "--num_machines 2 needs --machine_rank and --main_process_ip: start the same command on every" in said
    two = ["--num_machines", 2, "--main_process_ip", "127.0.0.1"]
    assert "--machine_rank 2 of 2 machines: give 0 to 1" in refused(*two, "--machine_rank", 2, "--num_processes", 2)
    said = refused(*two, "--machine_rank", 0, "--num_processes", 3)
    assert "--num_processes 3 is that of all machines together: give a multiple of 2" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(*two, "--machine_rank", 0, "--num_processes", 2, "--main_process_port", port)
    assert f"port `{port}`, but another process is utilizing it" in said


@pytest.mark.parametrize("on_gpu", [True, False])
def test_every_machine_joins_whether_it_has_one_gpu_or_none(monkeypatch, on_gpu):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)
    monkeypatch.setattr(launch.torch.cuda, "is_available", lambda: on_gpu)
    monkeypatch.setattr(launch, "launch_command", seen := [].append)
    words = ["--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "node1", "--num_processes", "2"]
    launch.main([*words, "-m", "recipes.grpo"])
    [args] = seen.__self__
    assert args.multi_gpu and args.num_machines == 2 and args.training_script == "recipes.grpo"
    assert os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == launch.TO_SAVE


def test_one_process_is_started_without_a_launcher(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")
    monkeypatch.setattr(launch, "launch_command", lambda args: None)
    monkeypatch.setattr(launch.os, "execv", lambda *command: started.append(command))
    started = []
    launch.main(["--num_machines", "1", "--num_processes", "1", "-m", "recipes.grpo", "--seed", "1"])
    assert started == [(sys.executable, [sys.executable, "-m", "recipes.grpo", "--seed", "1"])]


def test_a_folder_that_the_machines_do_not_share_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "SHARED_WITHIN", 0)
    other = run.Run(str(tmp_path / "mine"), {})
    with pytest.raises(InputError, match="mine is not the same folder on all machines: give --output_dir"):
        other.check_shared()


def words_of(command: str, sets: dict[str, str], *given: str) -> list[str]:
    """The words that a shell makes of the launcher's command, behind `-m recipes.launch`."""
    show = 'show() { printf "%s\\n" "$@"; }; '
    made = subprocess.run(["bash", "-euc", show + command, "job", *given], env=sets, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    words = made.stdout.splitlines()
    assert words[:2] == ["-m", "recipes.launch"]
    return words[2:]


def check_words(words: list[str], defaults=GRPODefaults) -> dict:
    """The launcher's flags and the recipe's, by their own parsers."""
    args = launch_command_parser().parse_args(words)
    launch.check_machines(args)
    recipe = args.training_script.removeprefix("recipes.")
    parser = RecipeParser(recipe, defaults, QLoRA, "")
    parser.parse(args.training_script_args, hardware.cpu())
    told = {name: getattr(args, name) for name in ("num_machines", "machine_rank", "main_process_ip", "num_processes")}
    assert args.module and told == {
        "num_machines": 2,
        "machine_rank": 1,
        "main_process_ip": told["main_process_ip"],
        "num_processes": 16,
    }
    return told | parser.given


def test_the_commands_of_the_slurm_script_are_parsed():
    text = SLURM.read_text()
    subprocess.run(["bash", "-n", SLURM], check=True)
    [inner] = re.findall(r"bash -c 'exec \S+python (-m recipes\.launch.+?)' launch", text, re.DOTALL)
    usages = re.findall(r"^#     sbatch .*slurm\.sh (.+)$", text, re.MULTILINE)
    assert len(usages) == 2
    for usage, defaults in zip(usages, (GRPODefaults, PPODefaults), strict=True):
        given = check_words(words_of(f"show {inner}", SLURM_SETS, *shlex.split(usage)), defaults)
        assert given["main_process_ip"] == "node1" and given["task"] == "gsm8k"


def test_the_commands_of_the_skypilot_file_are_parsed():
    text = SKYPILOT.read_text()
    task = yaml.safe_load(text)
    for step in ("setup", "run"):
        subprocess.run(["bash", "-n", "-c", task[step]], check=True)
    command = task["run"].replace(".venv/bin/python", "show")
    [usage] = re.findall(r'^#     sky launch \.\.\. --env RUN="(.+)"$', text, re.MULTILINE)
    for words, defaults in ((task["envs"]["RUN"], GRPODefaults), (usage, PPODefaults)):
        given = check_words(words_of(command, {**SKYPILOT_SETS, "RUN": words, "PATH": os.environ["PATH"]}), defaults)
        assert given["main_process_ip"] == "10.0.0.1" and Path(given["output_dir"]).parts[1] == "runs"
    assert list(task["file_mounts"]) == ["/runs"]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed: apt install shellcheck")
def test_shellcheck_finds_nothing_in_the_slurm_script(tmp_path):
    task = yaml.safe_load(SKYPILOT.read_text())
    scripts = [tmp_path / "setup.sh", tmp_path / "run.sh"]
    for script in scripts:
        script.write_text("#!/bin/bash\n" + task[script.stem])
    # SC2086: the words of RUN are to be split.
    done = subprocess.run(["shellcheck", "-e", "SC2086", SLURM, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("sky"), reason="SkyPilot is not on the PATH: pip install skypilot in another venv")
def test_skypilots_own_loader_takes_the_task_file():
    python = Path(shutil.which("sky")).parent / "python"
    command = [python, Path(__file__).parent / "load_in_skypilot.py", SKYPILOT, "BUCKET=my-own-name"]
    loaded = subprocess.run(command, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    told = json.loads(loaded.stdout.splitlines()[-1])
    assert told["nodes"] == 2 and told["spot"] and told["mounts"] == {"/runs": ["my-own-name", "MOUNT_CACHED"]}


def slurm_answers() -> bool:
    asked = shutil.which("scontrol") and subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    return bool(asked) and "is UP" in asked.stdout


@pytest.mark.skipif(not slurm_answers(), reason="no Slurm controller answers here: see README, Several machines")
def test_slurms_own_controller_takes_the_script():
    command = ["sbatch", "--test-only", "--gpus-per-node=0", "--nodes=1-2", "--time=5", SLURM, "-m", "recipes.grpo"]
    tried = subprocess.run(command, capture_output=True, text=True)
    assert tried.returncode == 0 and "to start at" in tried.stderr, tried.stderr
