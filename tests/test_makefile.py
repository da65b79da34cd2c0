"""`make` alone explains itself, and every target it lists exists."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def make(*args):
    return subprocess.run(
        ["make", "--no-print-directory", *args], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_every_target_with_one_line():
    listed = dict(re.findall(r"^  (\S+) +(\S.*)$", make().stdout, re.MULTILINE))
    written = set(re.findall(r"^([a-z0-9%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert written == listed.keys() and {"grpo-%", "test", "starter"} <= written


def test_trainer_and_task_make_the_command_and_args_pass_through():
    command = make("-n", "grpo-word_problems", "ARGS=--max_steps 3").stdout
    assert "-m recipes.grpo --task word_problems --max_steps 3" in command


def test_LAUNCH_starts_several_processes():
    command = make("-n", "ppo-gsm8k", "LAUNCH=--num_processes 2", "ARGS=--seed 1").stdout
    assert "-m recipes.launch --num_processes 2 -m recipes.ppo --task gsm8k --seed 1" in command


def test_ci_runs_what_the_readme_says():
    assert "make test" in (ROOT / ".ci" / "run").read_text() and "make test" in (ROOT / "README.md").read_text()


def test_every_package_is_pinned():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
