"""Whatever ends a run, the same command goes on, loses nothing, and ends as if nothing had happened.

`make test-faults` meets GRPO, PPO and DPO at 20 moments each; FAULTS says how many, and without it there are a few.
"""

import functools
import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import doomed
import pytest
import yaml
from safetensors import safe_open

from recipes.record import read_metrics
from recipes.run import broken_file
from recipes.stages import made_and_locked

pytestmark = pytest.mark.faults

STEPS = 6
MOMENTS = int(os.environ.get("FAULTS", 3))
RUN = Path("runs/it")
ROOT = Path(__file__).parents[1]
RECIPES = ["grpo", "ppo", "dpo"]
# What of a result and of a logged step depends on the clock.
OF_THE_CLOCK = {"minutes", "peak_memory_gb", "step_time", "runtime", "samples_per_second", "steps_per_second"}


@pytest.fixture(scope="session")
def flags(tmp_path_factory):
    """Of a run of a few seconds: six steps of two passes each, and more than one epoch."""
    data = tmp_path_factory.mktemp("data") / "rows.jsonl"
    numbers = [(n, m) for n in range(2, 6) for m in range(2, 7)]
    rows = [{"question": f"Tom has {n}. Tom gets {m}. How many?", "answer": str(n + m)} for n, m in numbers]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ["--task", "gsm8k", "--dataset_name", data, "--output_dir", "runs/it", "--report_to", "none"]
    steps = ["--max_steps", STEPS, "--save_steps", 2, "--seed", 7, "--eval_samples", 4, "--calibration_samples", 0]
    small = ["--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 2]
    small += ["--num_generations", 2, "--max_completion_length", 24]
    sampled = {"dpo": ["--num_generations", 8]}
    return lambda recipe: [str(word) for word in (*task, *steps, *small, *sampled.get(recipe, []))]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, flags):
    """The folder in which a recipe was run, to its end."""

    @functools.cache
    def run(recipe: str) -> Path:
        place = tmp_path_factory.mktemp("whole")
        code, log, _ = doomed.run(recipe, flags(recipe), place)
        assert code == 0, log
        return place

    return run


def without_the_clock(figures: dict) -> dict:
    return {name: value for name, value in figures.items() if not any(word in name for word in OF_THE_CLOCK)}


def result_of(folder: Path) -> dict:
    return without_the_clock(json.loads((folder / "result.json").read_text()))


def check_whole(place: Path, like: Path | None = None) -> None:
    """No file is cut off, no step is missing or there twice; and all figures are those of the run in `like`."""
    folder = place / RUN
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert file.suffix != ".part", file
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".jsonl":
            text = file.read_text()
            assert not text or text.endswith("\n")
            list(map(json.loads, text.splitlines()))
        elif file.suffix == ".yaml":
            yaml.safe_load(file.read_text())
        elif file.suffix == ".safetensors":
            safe_open(file, "np").keys()
    assert not any(map(broken_file, folder.glob("checkpoint-*")))
    assert (folder / "curve.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert (folder / "report.html").read_text().rstrip().endswith("</html>")
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert result_of(folder)["steps"] == STEPS
    if like:
        like /= RUN
        assert list(map(without_the_clock, rows)) == list(map(without_the_clock, read_metrics(like)))
        assert result_of(folder) == result_of(like)
        assert (folder / "adapter/adapter_model.safetensors").read_bytes() == (
            like / "adapter/adapter_model.safetensors"
        ).read_bytes()
        assert {path.name for path in (folder / "samples").iterdir()} == {
            path.name for path in (like / "samples").iterdir()
        }


def moments(count: int, seed: str, parts: list[str], whole: Path) -> list[tuple]:
    """Random moments, as many of each part of the run as of the others."""
    chance, found = random.Random(seed), []
    for number in range(count):
        part = parts[(number + RECIPES.index(seed.split()[0]) * count) % len(parts)]  # few of each recipe are all parts
        seconds = doomed.seconds_of(part, whole)
        nth = chance.randrange(len(seconds))
        found.append((part, nth, chance.uniform(0, seconds[nth])))
    return found


@pytest.mark.parametrize("recipe", ["grpo", *(pytest.param(recipe, marks=pytest.mark.whole) for recipe in RECIPES[1:])])
def test_the_same_seed_gives_the_same_run(recipe, flags, whole, tmp_path):
    code, log, _ = doomed.run(recipe, flags(recipe), tmp_path)
    assert code == 0, log
    check_whole(tmp_path, like=whole(recipe))


@pytest.mark.parametrize("recipe", RECIPES)
def test_after_kill_9_at_any_moment_the_same_command_ends_as_if_nothing_had_happened(recipe, flags, whole, tmp_path):
    parts = ["saving", "generation", "report", "update", "evaluation"]
    for number, moment in enumerate(moments(MOMENTS, recipe, parts, whole(recipe))):
        (place := tmp_path / str(number)).mkdir()
        code, log, _ = doomed.run(recipe, flags(recipe), place, moment)
        assert code == -signal.SIGKILL, (moment, log)
        code, log, _ = doomed.run(recipe, flags(recipe), place)
        assert code == 0, (moment, log)
        check_whole(place, like=whole(recipe))


@pytest.mark.parametrize("recipe", RECIPES)
def test_sigterm_saves_the_last_step_at_once_and_ends_with_0(recipe, flags, whole, tmp_path):
    parts = ["step", "saving", "setup", "evaluation", "generation"]
    for number, moment in enumerate(moments(MOMENTS - MOMENTS // 3, f"{recipe} again", parts, whole(recipe))):
        (place := tmp_path / str(number)).mkdir()
        code, log, seconds = doomed.run(recipe, flags(recipe), place, moment, sent=signal.SIGTERM)
        assert code == 0 and seconds < 10, (moment, log)
        assert "the same command goes on from there." in log or "run the same command to go on." in log, (moment, log)
        assert "Traceback" not in log and not (place / RUN / "result.json").exists(), (moment, log)
        logged = [row["step"] for row in read_metrics(place / RUN)]
        if moment[0] in ("generation", "step") and logged:
            assert not broken_file(place / RUN / f"checkpoint-{logged[-1]}"), (moment, log)
        if logged and number == 0:  # and once more, while it goes on
            code, log, _ = doomed.run(recipe, flags(recipe), place, ("loading", 0, 0), sent=signal.SIGTERM)
            assert code == 0 and not (place / RUN / "result.json").exists(), (moment, log)
        code, log, _ = doomed.run(recipe, flags(recipe), place)
        assert code == 0, (moment, log)
        check_whole(place, like=whole(recipe))


def test_the_checkpoint_before_a_damaged_one_is_used(flags, whole, tmp_path):
    last_evaluation = len(doomed.seconds_of("evaluation", whole("grpo"))) - 1
    code, log, _ = doomed.run("grpo", flags("grpo"), tmp_path, ("evaluation", last_evaluation, 0))
    assert code == -signal.SIGKILL, log
    last = tmp_path / RUN / f"checkpoint-{STEPS}" / "optimizer.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    code, log, _ = doomed.run("grpo", flags("grpo"), tmp_path)
    assert f"checkpoint-{STEPS} is not whole (optimizer.pt): it is deleted.\n" in log
    assert f"Going on from step {STEPS - 2} of {STEPS}." in log
    check_whole(tmp_path, like=whole("grpo"))


@pytest.mark.needs_sandbox
def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_it_is_intact(flags, tmp_path):
    (runs := tmp_path / RUN.parent).mkdir()
    small_disk = ["bwrap", "--dev-bind", "/", "/", "--size", str(3 * 2**20), "--tmpfs", runs]
    recipe = shlex.join([sys.executable, "-m", "recipes.grpo", *flags("grpo")])
    done = subprocess.run(
        [*small_disk, "bash", "-c", f"{recipe}; code=$?; cp -r {runs} {tmp_path}/seen; exit $code"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.endswith(
        "error: No space is left on the disk: free some, and run the same command to go on. What was saved is kept.\n"
    )
    assert "checkpoint-4 is not whole (trainer_state.json): it is deleted." in done.stdout
    runs.rmdir()
    (tmp_path / "seen").rename(runs)
    assert not broken_file(tmp_path / RUN / "checkpoint-2") and not (tmp_path / RUN / "checkpoint-4").exists()
    code, log, _ = doomed.run("grpo", flags("grpo"), tmp_path)
    assert code == 0 and f"Going on from step 2 of {STEPS}." in log, log
    check_whole(tmp_path)


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("hangs", "hangs raised TimeoutError('no answer within 0.3 s (--reward_timeout)') on a whole batch"),
        ("raises", "raises raised ZeroDivisionError('in a reward') on row 0, judged None"),
        ("is_no_number", "is_no_number gave nan on row 0, judged None"),
        ("is_too_short", "is_too_short raised ValueError('0 rewards for 1 completions') on row 0, judged None"),
        ("is_none", "before training: solving 2 held-out problems"),
    ],
)
def test_a_reward_of_any_fault_ends_no_run(reward, said, flags, tmp_path):
    code, log, _ = doomed.run("grpo", [*flags("grpo"), "--reward_timeout", "0.3"], tmp_path, reward=reward)
    assert code == 0 and said in log, log
    check_whole(tmp_path)
    for row in read_metrics(tmp_path / RUN):
        assert math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) and math.isfinite(row["reward"])


def test_of_two_runs_in_one_folder_the_second_is_refused(flags, tmp_path):
    with made_and_locked(tmp_path / RUN):  # as a run does
        code, log, _ = doomed.run("grpo", flags("grpo"), tmp_path)
    assert code == 2 and "error: Another process is at work in runs/it: wait for it, or end it.\n" in log, log
    code, log, _ = doomed.run("grpo", flags("grpo"), tmp_path)
    assert code == 0, log
