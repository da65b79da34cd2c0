"""The folder of a run: nothing is lost, nothing is mixed."""

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from recipes.errors import InputError
from recipes.progress import Lines
from recipes.record import Recorder, read_metrics
from recipes.report import write_report
from recipes.run import LOCK, Run, delete_run, write_atomically


def begun(folder, **settings):
    run = Run(str(folder), settings, settings)
    run.begin()
    return run


def logged(run, step=1):
    (run.folder / "metrics.jsonl").write_text(json.dumps({"step": step, "minutes": 0.1}) + "\n")
    return run


def test_the_same_settings_go_on_and_others_are_refused(tmp_path):
    logged(begun(tmp_path / "r", seed=1, lr=0.1))
    assert Run(str(tmp_path / "r"), {"seed": 1, "lr": 0.1}).result is None
    with pytest.raises(InputError, match=r"other settings \(seed 1 -> 2\)"):
        Run(str(tmp_path / "r"), {"seed": 2, "lr": 0.1})
    Run(str(tmp_path / "r"), {"seed": 1, "lr": 0.1, "report_to": "none"})


def test_an_old_run_is_deleted_only_when_its_successor_begins(tmp_path):
    begun(tmp_path / "r", seed=1).finish(steps=3)
    successor = Run(str(tmp_path / "r"), {"seed": 2}, overwrite=True)
    assert successor.result is None
    assert Run(str(tmp_path / "r"), {"seed": 1}).result == {"steps": 3}
    successor.begin()
    assert not (tmp_path / "r" / "result.json").exists()


@pytest.mark.parametrize("rest", ["", '{"global_step": 4'])
def test_a_checkpoint_that_a_crash_cut_off_is_passed_over(tmp_path, rest):
    run = begun(tmp_path / "r")
    assert run.last_checkpoint() is None
    for step, state in ((2, '{"global_step": 2}'), (10, rest)):
        (run.folder / f"checkpoint-{step}").mkdir()
        if state:
            (run.folder / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert run.last_checkpoint() == run.folder / "checkpoint-2"
    assert not (run.folder / "checkpoint-10").exists()


def cut_off(file):
    content = file.read_bytes()
    file.write_bytes(content[: max(len(content) - 100, 1)])


def overwritten(file):
    half = len(content := file.read_bytes()) // 2
    file.write_bytes(b"?" * half + content[half:])


def emptied(file):
    file.write_bytes(b"")


def lost(file):
    file.unlink()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(["adapter_model.safetensors", "optimizer.pt"], [cut_off, overwritten, emptied, lost]),
        *itertools.product(["rng_state.pth"], [cut_off, overwritten, emptied]),
        *itertools.product(["adapter_config.json", "trainer_state.json"], [cut_off, emptied]),
        ("scheduler.pt", lost),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, name, damage):
    run = begun(tmp_path / "r")
    for step in (2, 4):
        (checkpoint := run.folder / f"checkpoint-{step}").mkdir()
        weights = {"weight": torch.arange(1000.0)}
        save_file(weights, checkpoint / "adapter_model.safetensors")
        for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save(weights, checkpoint / file)
        for file in ("trainer_state.json", "adapter_config.json"):
            (checkpoint / file).write_text("{}")
    assert run.last_checkpoint().name == "checkpoint-4"
    damage(run.folder / "checkpoint-4" / name)
    assert run.last_checkpoint().name == "checkpoint-2"
    said = f"checkpoint-4 is not whole ({name}): it is deleted.\n"
    assert capsys.readouterr().out.endswith(said)


def test_checkpoints_are_ordered_by_number(tmp_path):
    run = begun(tmp_path / "r")
    for step in (9, 10):
        (run.folder / f"checkpoint-{step}").mkdir()
        (run.folder / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert run.last_checkpoint().name == "checkpoint-10"


def test_a_half_written_last_line_of_metrics_is_dropped(tmp_path):
    run = begun(tmp_path / "r")
    (run.folder / "metrics.jsonl").write_text('{"step": 1, "minutes": 0.1}\n{"step": 2, "min')
    assert read_metrics(run.folder) == [{"step": 1, "minutes": 0.1}]


def test_resuming_drops_what_was_logged_after_the_checkpoint(tmp_path):
    from transformers import TrainerControl, TrainerState, TrainingArguments

    run = begun(tmp_path / "r")
    rows = [{"step": step, "minutes": step / 10} for step in range(1, 6)]
    write_atomically(run.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for step in range(1, 6):
        run.save_samples(f"step_{step:06d}", [])
    for name in ("before", "before_sampled", "during_000002", "during_000004"):
        run.save_samples(name, [])
    run.save("after.json", {})
    recorder = Recorder(run, None, Lines({}))
    state = TrainerState(global_step=3, max_steps=9, is_world_process_zero=True)
    recorder.on_train_begin(TrainingArguments(use_cpu=True), state, TrainerControl())
    recorder.on_train_end(None, state, None)
    assert [row["step"] for row in read_metrics(run.folder)] == [1, 2, 3]
    kept = {"before", "before_sampled", "during_000002", *(f"step_{step:06d}" for step in (1, 2, 3))}
    assert {file.stem for file in (run.folder / "samples").iterdir()} == kept
    assert recorder.minutes >= 0.3
    assert run.load("after.json") is None


def test_an_atomic_write_leaves_no_draft(tmp_path):
    write_atomically(tmp_path / "a.json", "1")
    write_atomically(tmp_path / "a.json", "2")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "2")]


def test_a_run_that_never_logged_a_step_is_replaced_without_asking(tmp_path):
    begun(tmp_path / "r", loss_type="typo")
    run = begun(tmp_path / "r", loss_type="grpo")
    assert "loss_type: grpo" in (run.folder / "config.yaml").read_text()


def test_overwrite_goes_on_with_an_unfinished_run_of_the_same_settings(tmp_path):
    logged(begun(tmp_path / "r", seed=1))
    again = Run(str(tmp_path / "r"), {"seed": 1}, overwrite=True)
    again.begin()
    assert read_metrics(again.folder)


def test_overwrite_deletes_what_a_run_writes_and_nothing_else(tmp_path):
    real = tmp_path / "real"
    run = logged(begun(real, seed=1))
    run.save_samples("before", [])
    for name in ("checkpoint-5", "checkpoint-5-backup", "checkpoint-best"):
        (real / name).mkdir()
    (real / "my.part").write_text("mine")
    (real / "thesis.tex").write_text("dear")
    (real / "report.html").write_text("<p>of somebody else</p>")
    (tmp_path / "link").symlink_to(real)
    successor = Run(str(tmp_path / "link"), {"seed": 2}, overwrite=True)
    successor.begin()
    kept = {"thesis.tex", "my.part", "checkpoint-5-backup", "checkpoint-best", "report.html"}
    assert {path.name for path in real.iterdir()} == {*kept, "config.yaml", "given.yaml", "samples", "_lock"}
    assert not list((real / "samples").iterdir())


def test_overwrite_deletes_a_report_of_ours(tmp_path):
    run = logged(begun(tmp_path / "r", seed=1))
    write_report(run.folder)
    Run(str(tmp_path / "r"), {"seed": 2}, overwrite=True).begin()
    assert not (run.folder / "report.html").exists()


def test_a_folder_with_a_config_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("model: x\n")
    with pytest.raises(InputError, match="no run of ours"):
        Run(str(tmp_path), {"seed": 1}, overwrite=True)


def test_the_same_batch_in_smaller_passes_goes_on(tmp_path):
    logged(begun(tmp_path / "r", per_device_train_batch_size=16, gradient_accumulation_steps=4))
    Run(str(tmp_path / "r"), {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 8})
    with pytest.raises(InputError):
        Run(str(tmp_path / "r"), {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4})


def test_what_uploads_deletes_or_logs_in_is_not_stored(tmp_path):
    run = begun(tmp_path / "r", seed=1, overwrite=True, report_to="wandb", hub_token="secret", push_to_hub=True)
    for name in ("config.yaml", "given.yaml"):
        assert "seed: 1" in (text := (run.folder / name).read_text())
        assert not any(word in text for word in ("overwrite:", "report_to", "secret", "push_to_hub"))


def test_a_copied_config_makes_no_folder_a_run(tmp_path):
    run = begun(tmp_path / "r", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text((run.folder / "config.yaml").read_text())
    with pytest.raises(InputError, match="no run of ours"):
        Run(str(tmp_path / "mine"), {"seed": 2})


def test_a_run_without_a_step_is_replaced_file_by_file(tmp_path):
    run = begun(tmp_path / "r", seed=1)
    run.save("before.json", {})
    (run.folder / "adapter").mkdir()
    begun(tmp_path / "r", seed=2)
    assert (run.folder / "adapter").exists() and not (run.folder / "before.json").exists()


def test_a_backup_of_a_checkpoint_is_neither_resumed_nor_deleted(tmp_path):
    run = begun(tmp_path / "r")
    (run.folder / "checkpoint-20-backup").mkdir()
    assert run.last_checkpoint() is None
    assert (run.folder / "checkpoint-20-backup").exists()


class Killed(BaseException):
    """What no handler expects."""


@pytest.mark.parametrize("moment", range(1, 9))
@pytest.mark.faults
def test_a_kill_at_any_moment_of_overwriting_leaves_no_mixed_run(tmp_path, monkeypatch, moment):
    """Whatever is left, it is not resumed from the old checkpoint nor taken for finished."""
    old = logged(begun(tmp_path / "r", seed=1))
    (old.folder / "checkpoint-2").mkdir()
    (old.folder / "checkpoint-2" / "trainer_state.json").write_text("{}")
    old.save("before.json", {})
    old.finish(steps=2)
    deletions = itertools.count(1)

    def dies(path, *args, real, **kwargs):
        if next(deletions) == moment:
            raise Killed
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "unlink", functools.partialmethod(dies, real=Path.unlink))
        patch.setattr(shutil, "rmtree", functools.partial(dies, real=shutil.rmtree))
        Run(str(old.folder), {"seed": 2}, {"seed": 2}, overwrite=True).begin()
    again = Run(str(old.folder), {"seed": 2}, {"seed": 2}, overwrite=True)
    again.begin()
    assert again.load("result.json") is None and again.load("before.json") is None
    assert again.last_checkpoint() is None


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        begun(tmp_path / "file" / "r")


@pytest.mark.parametrize("content", ["a: [", "- a list"])
def test_a_damaged_config_is_one_sentence(tmp_path, content):
    run = logged(begun(tmp_path / "r", seed=1))
    (run.folder / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml"):
        Run(str(tmp_path / "r"), {"seed": 1})


AT_WORK = """
import os, sys, time
sys.path.insert(0, {source!r})
from recipes.run import Run
run = Run("r", {{"seed": 1}}, {{"seed": 1}})
run.begin()
child = os.fork()  # as a data loader's worker
if child:
    open("child", "w").write(str(child))
    os.replace("child", "ready")
time.sleep(60)
"""


@pytest.mark.faults
def test_a_run_is_begun_by_one_process_at_a_time_and_goes_on_as_soon_as_that_is_killed():
    source = str(Path(__file__).parents[1])
    other = subprocess.Popen([sys.executable, "-c", AT_WORK.format(source=source)])
    try:
        while not Path("ready").exists() and other.poll() is None:
            time.sleep(0.01)
        child = int(Path("ready").read_text())
        sentence = "Another process is at work in r: wait for it, or end it."
        for seed, overwrite in ((1, False), (2, True)):
            with pytest.raises(InputError, match=sentence):
                Run("r", {"seed": seed}, overwrite=overwrite).begin()
        shutil.copytree("r", "copy")
        Run("copy", {"seed": 1}).begin()
    finally:
        other.kill()
        other.wait()
    os.kill(child, 0)  # still there, and holds nothing
    Run("r", {"seed": 1}).begin()
    os.kill(child, signal.SIGKILL)


def test_a_folder_in_which_nothing_but_the_lock_was_made_is_free(tmp_path):
    (tmp_path / LOCK).touch()
    begun(tmp_path, seed=1)
    assert (tmp_path / "given.yaml").exists()


def test_a_deleted_run_takes_its_rounds_and_their_settings_with_it(tmp_path):
    begun(tmp_path / "r", seed=1)
    begun(tmp_path / "r" / "round_1", seed=1)
    for name in ("round_1.yaml", "round_notes.yaml"):
        (tmp_path / "r" / name).write_text("seed: 1\n")
    delete_run(tmp_path / "r")
    left = {str(path.relative_to(tmp_path / "r")) for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert left == {"round_notes.yaml", LOCK, f"round_1/{LOCK}"}
