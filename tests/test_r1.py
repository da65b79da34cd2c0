"""The pipelines: what each stage is told, and a whole one, done, left alone and partly done anew."""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import doomed
import psutil
import pytest
import yaml

import recipes
from recipes import grpo, r1, sft, stages
from recipes.errors import InputError
from recipes.models import find_model
from recipes.r1 import parse, passes, settings_of
from recipes.run import FIRST_LINE, Run
from recipes.stages import run_to_its_end, was_given

GSM8K = ["--task", "gsm8k", "--model_name_or_path", "Qwen/Qwen2.5-0.5B-Instruct"]


def begin_pipeline(folder: Path, **changes) -> None:
    pipeline = {"pipeline": "r1", "task": "word_problems", "model_name_or_path": "starter", "left_out": []}
    stages.write_pipeline(folder, pipeline | changes)


def end(folder: Path) -> None:
    run = Run(str(folder), {}, {})
    run.begin()
    run.finish()


def told(*argv: str) -> dict[str, dict]:
    """The settings of every stage where all stages before it were run."""
    args, stages, flags = parse(list(argv))
    results = {"samples": {"completions": 4000}, "student": {"examples": 1000, "epochs": 2}}
    settings = {}
    for stage in stages:
        settings[stage.name] = settings_of(stage, args, results) | flags.get(stage.name, {})
        results.setdefault(stage.name, {})
    return settings


def test_each_stage_reads_what_the_ones_before_have_made():
    folder, base = "runs/r1-gsm8k", GSM8K[-1]
    stages = {
        name: (settings["model_name_or_path"], settings.get("samples")) for name, settings in told(*GSM8K).items()
    }
    assert list(stages) == ["cold_start", "rl", "samples", "sft", "final"]
    assert stages["cold_start"] == (base, None)
    assert stages["rl"] == (f"{folder}/cold_start", None)
    assert stages["samples"] in [(f"{folder}/rl", None), (f"{folder}/rl", f"{folder}/samples")]
    assert stages["sft"] == (base, f"{folder}/samples")  # the base anew
    assert stages["final"] == (f"{folder}/sft", None)


def test_every_stage_is_told_the_task_the_seed_and_where_to_write():
    for name, settings in told(*GSM8K, "--seed", "7", "--dataset_name", "mine.jsonl", "--output_dir", "out").items():
        assert (settings["task"], settings["seed"], settings["dataset_name"]) == ("gsm8k", 7, "mine.jsonl")
        assert settings["output_dir"] == f"out/{name}"
        assert ("extra_rewards" in settings) == ("report_to" in settings) == (name != "samples")


def test_the_miniature_has_settings_of_its_own():
    small, large = told(), told(*GSM8K)
    assert small["rl"]["task"] == "word_problems" and small["rl"]["output_dir"] == "runs/r1-word_problems/rl"
    assert small["cold_start"]["num_train_rows"] < large["cold_start"]["num_train_rows"]
    assert "max_steps" in small["rl"] and "max_steps" not in large["rl"]


def test_flags_of_one_stage_are_its_own_alone():
    flags = ["--rl.max_steps", "1", "--samples.num_prompts=8", "--final.use_vllm", "--sft.extra_rewards", "a", "b"]
    flags += ["--rl.min_p", "-1", "--rl.temperature=0.5"]
    _, _, found = parse(flags)
    assert found == {
        "rl": {"max_steps": "1", "min_p": "-1", "temperature": "0.5"},
        "samples": {"num_prompts": "8"},
        "final": {"use_vllm": True},
        "sft": {"extra_rewards": ["a", "b"]},
    }
    settings = told(*flags)
    assert settings["rl"]["max_steps"] == "1" and settings["final"]["max_steps"] != "1"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--rl.max_step", "1"], r"Unknown flag --rl.max_step\. Did you mean --rl.max_steps\?"),
        (["--final.keep", "random"], r"Unknown flag --final.keep\."),
        (
            ["--sead", "1"],
            r"Unknown flag --sead\. Did you mean --seed\? Flags of a stage are written --cold_start.flag",
        ),
        (["--model", "starter"], r"Unknown flag --model\."),
        (["--warmup.max_steps", "1"], r"Unknown flag --warmup.max_steps\..* --rl.flag"),
        (["--from_stage", "finale"], r"Unknown stage 'finale'\. Did you mean final\?"),
        (["--rl.output_dir", "x"], "--rl.output_dir: a stage's output_dir is set by the pipeline"),
        (["--teacher", "starter"], "--teacher is for --pipeline distill"),
        (["starter"], "Unexpected word 'starter'"),
        (["--seed", "x"], "Argument --seed: invalid int value: 'x'. See --help."),
        (["--task", "gsm9k"], r"Unknown task 'gsm9k'\. Did you mean gsm8k\?"),
    ],
)
def test_a_mistake_in_the_command_is_one_sentence(argv, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        parse(argv)
    assert "\n" not in str(error.value)


def test_the_last_stage_of_r1_may_be_dpo():
    _, stages, flags = parse(["--final", "dpo", "--final.sample_prompts", "10"])
    assert [stage.recipe for stage in stages] == ["sft", "grpo", "sample", "sft", "dpo"]
    assert flags == {"final": {"sample_prompts": "10"}}


def test_r1_zero_is_rl_alone():
    assert told("--pipeline", "r1_zero") == {
        "rl": {
            "task": "word_problems",
            "seed": 42,
            "report_to": "none",
            "model_name_or_path": "starter",
            "output_dir": "runs/r1_zero-word_problems/rl",
            "extra_rewards": ["language_consistency_reward"],
        }
    }


def test_both_arms_of_a_distillation_cost_the_same():
    results = {"samples": {"completions": 4000}, "student": {"examples": 1000, "epochs": 2}}
    assert passes(results, 64) == {"student": 8000}  # 4000 written, 2000 trained on at two passes each
    steps = told("--pipeline", "distill")["rl"]["max_steps"]
    assert steps == 42  # of 64 completions at three passes each: 8064
    assert passes(results | {"rl": {"steps": steps}}, 64) == {"student": 8000, "rl": 8064}
    few = {"samples": {"completions": 8}, "student": {"examples": 2, "epochs": 1}}
    args, stages, _ = parse(["--pipeline", "distill"])
    assert settings_of(stages[-1], args, few)["max_steps"] == 1
    assert settings_of(stages[-1], args, results, per_step=16)["max_steps"] == 167
    assert passes(results | {"rl": {"steps": 167}}, 16)["rl"] == 8016


def test_a_teacher_that_exists_is_not_trained_and_is_not_the_students_base():
    settings = told("--pipeline", "distill", "--teacher", "runs/big")
    assert list(settings) == ["samples", "student", "rl"]
    models = [stage["model_name_or_path"] for stage in settings.values()]
    assert models == ["runs/big", "starter", "starter"]


def test_all_stages_have_one_base_model_whatever_fits_when_they_begin():
    folder = Path("runs/r1-word_problems")
    (folder / "cold_start").mkdir(parents=True)
    begin_pipeline(folder, model_name_or_path="the/first")
    assert told()["sft"]["model_name_or_path"] == "starter"  # nothing was done with the other one
    (folder / "cold_start" / "metrics.jsonl").write_text("{}\n")
    assert {told()[name]["model_name_or_path"] for name in ("cold_start", "sft")} == {"the/first"}


def test_a_stage_that_lacks_what_it_reads_is_one_sentence_and_deletes_nothing(capsys):
    kept = Path("runs/distill-word_problems/rl/result.json")
    end(kept.parent)
    begin_pipeline(Path("runs/distill-word_problems"), pipeline="distill")
    for pipeline, stage, needed in (("r1", "sft", "samples"), ("distill", "rl", "samples")):
        with pytest.raises(SystemExit) as stop:
            r1.main(["--pipeline", pipeline, "--from_stage", stage])
        assert stop.value.code == 2
        sentence = f"error: The stage {stage} needs what {needed} makes: begin with FROM={needed}.\n"
        assert capsys.readouterr().err == sentence
    assert kept.exists()


@pytest.mark.parametrize("name", ["mine", "grpo"])
def test_a_folder_of_something_else_is_left_alone(name, capsys):
    if name == "grpo":
        end(Path(name))
    (Path(name) / "adapter").mkdir(parents=True)
    (Path(name) / "adapter" / "weights").write_text("dear")
    before = sorted(Path(name).rglob("*"))
    with pytest.raises(SystemExit) as stop:
        r1.main(["--output_dir", name])
    assert stop.value.code == 2 and sorted(Path(name).rglob("*")) == before
    sentence = f"error: {name} holds files that are no pipeline of ours: choose another --output_dir.\n"
    assert capsys.readouterr().err == sentence


def test_a_folder_of_another_pipeline_is_left_alone():
    Path("out").mkdir()
    begin_pipeline(Path("out"), pipeline="distill", task="gsm8k")
    with pytest.raises(InputError, match="out holds the pipeline distill of gsm8k: choose another"):
        parse(["--output_dir", "out"])


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--rl.learning_rate=abc", "Stage rl: argument --learning_rate/--learning-rate: invalid float value: 'abc'"),
        ("--final.num_generations=7", "Stage final: --num_generations 7 does not divide"),
        ("--sft.keep=most", "Stage sft: argument --keep: invalid choice: 'most'"),
    ],
)
def test_a_value_that_a_stage_refuses_deletes_and_runs_nothing(flag, sentence, capsys):
    folder = Path("runs/r1-word_problems")
    end(folder / "cold_start")
    end(folder / "rl")
    begin_pipeline(folder)
    with pytest.raises(SystemExit) as stop:
        r1.main(["--from_stage", "rl", flag])
    assert stop.value.code == 2 and (folder / "rl" / "result.json").exists()
    output = capsys.readouterr()
    assert output.err.startswith(f"error: {sentence}") and not output.out


@pytest.fixture
def pretended(monkeypatch):
    """Stages that make their folder and a result, or stop half-way as often as `stops` names them."""
    ran, stops = [], []

    def run(command: list[str]) -> int:
        settings = yaml.safe_load(Path(command[-1]).read_text())
        run = Run(settings["output_dir"], settings, settings)
        run.begin()
        ran.append(run.folder.name + (" again" if (run.folder / "metrics.jsonl").exists() else ""))
        (run.folder / "metrics.jsonl").write_text("{}\n")
        if run.folder.name in stops:
            stops.remove(run.folder.name)
            return 130
        (run.folder / "adapter").mkdir(exist_ok=True)
        shutil.copy(Path(sft.__file__).parent / "starter" / "model" / "config.json", run.folder / "adapter")
        run.finish(before=None, after=None)
        return 0

    monkeypatch.setattr(stages, "run_to_its_end", run)

    def pipeline(*argv: str, stop_in: str | None = None) -> list[str]:
        ran.clear()
        stops[:] = [stop_in] if stop_in else []
        try:
            r1.main(list(argv))
        except SystemExit as end:
            assert end.code == 130 and stop_in
        return list(ran)

    return pipeline


def test_a_pipeline_that_was_begun_in_the_middle_goes_on_without_FROM(pretended, capsys):
    assert pretended("--from_stage", "rl", stop_in="samples") == ["rl", "samples"]
    assert capsys.readouterr().err == "Go on without FROM: with it, what has ended is done anew.\n"
    assert pretended() == ["samples again", "sft", "final"]
    assert "Stage cold_start: left out. FROM=cold_start begins with it.\n" in capsys.readouterr().out
    assert pretended() == []
    assert pretended("--from_stage", "cold_start") == list(STAGES)
    assert pretended() == []


def test_a_stage_that_the_user_stopped_is_no_error(capfd):
    code = "import os, signal; os.kill(os.getppid(), signal.SIGINT); signal.raise_signal(signal.SIGKILL)"
    assert run_to_its_end([sys.executable, "-c", code]) == 137
    assert "error" not in capfd.readouterr().err


def test_a_stage_runs_the_code_that_it_is_a_stage_of(monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    code = "import recipes, sys; print(recipes.__file__, sys.path[1:3])"
    assert run_to_its_end([sys.executable, "-c", code]) == 0
    root = Path(recipes.__file__).parent.parent
    assert capfd.readouterr().out.startswith(f"{root}/recipes/__init__.py ['{root}', ")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (1e-3, "0.001", True),
        (True, "true", True),
        (True, "False", False),
        (["a"], "a", True),
        ([0.9, 0.95], ["0.9", "0.95"], True),
        ({"enable_thinking": False}, '{"enable_thinking": false}', True),
        ("cosine", "linear", False),
        ("my data #1.jsonl", "my data #2.jsonl", False),
        ("no", 0, False),
        ("nan", "nan", True),
    ],
)
def test_settings_are_compared_as_the_command_line_reads_them(tmp_path, old, new, same):
    (tmp_path / "given.yaml").write_text(FIRST_LINE + yaml.safe_dump({"flag": old}))
    assert was_given(tmp_path, {"flag": new}) == same


def test_FROM_goes_on_with_an_unfinished_stage_and_does_anew_what_has_ended_and_all_that_follows(pretended):
    pretended(stop_in="samples")
    assert pretended("--from_stage", "samples", stop_in="sft") == ["samples again", "sft"]
    assert pretended("--from_stage", "sft", stop_in="final") == ["sft again", "final"]
    assert pretended("--from_stage", "sft") == ["sft", "final"]
    pretended("--from_stage", "rl", stop_in="rl")
    assert pretended("--from_stage", "rl", "--rl.max_steps", "3") == ["rl", "samples", "sft", "final"]


def test_what_is_kept_must_be_of_the_same_settings_before_anything_is_deleted(pretended):
    pretended()
    with pytest.raises(SystemExit) as stop:
        r1.main(["--from_stage", "final", "--cold_start.num_train_rows", "7"])
    assert stop.value.code == 2
    assert (Path("runs/r1-word_problems") / "final" / "result.json").exists()


STUB = """
import signal, sys, time
def stop(number, frame):
    print("saved", flush=True)
    sys.exit({code})
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
open("ready", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize(("number", "to_the_stage", "ends"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 0)])
@pytest.mark.parametrize("code", [130, 0])
def test_a_stage_that_is_stopped_ends_the_pipeline_after_it_has_saved(number, to_the_stage, ends, code, capfd):
    def stop():
        while not Path("ready").exists():
            time.sleep(0.01)
        if to_the_stage:  # as a terminal does with Ctrl-C
            [child] = [child for child in psutil.Process().children() if STUB.format(code=code) in child.cmdline()]
            child.send_signal(number)
        os.kill(os.getpid(), number)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(SystemExit) if not ends and not code else contextlib.nullcontext() as stop:
        assert run_to_its_end([sys.executable, "-c", STUB.format(code=code)]) == (code or ends)
    assert not stop or stop.value.code == 0
    thread.join()
    assert capfd.readouterr().out == "saved\n"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_stage_that_fails_ends_the_pipeline_with_its_code_and_sentence(capfd):
    told = "import sys; sys.exit('error: no')"
    assert run_to_its_end([sys.executable, "-c", told]) == 1
    assert capfd.readouterr().err == "error: no\n"
    killed = "import os; os.kill(os.getpid(), 9)"
    assert run_to_its_end([sys.executable, "-c", killed]) == 137
    assert "error: a stage was ended by signal 9: the same command goes on with it." in capfd.readouterr().err
    assert run_to_its_end([sys.executable, "-c", ""]) == 0


TINY = [
    *("--seed", "3", "--cold_start.num_train_rows", "8", "--rl.max_steps", "1"),
    *("--rl.per_device_train_batch_size", "16", "--samples.num_prompts", "24", "--samples.max_completion_length", "32"),
    *("--sft.max_steps", "1", "--final.max_steps", "1", "--final.per_device_train_batch_size", "16"),
    *(f"--{stage}.eval_samples=8" for stage in ("cold_start", "rl", "sft", "final")),
]
STAGES = ("cold_start", "rl", "samples", "sft", "final")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """The folder of a small R1, each stage a process of its own."""
    folder = tmp_path_factory.mktemp("r1") / "run"
    argv = [*TINY, "--output_dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "run_to_its_end", doomed.run_to_its_end)
        r1.main(argv)
    return folder, argv


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def changes(folder: Path) -> dict[str, int]:
    return {name: (folder / name / "result.json").stat().st_mtime_ns for name in STAGES}


def test_a_pipeline_runs_every_stage_on_what_the_one_before_has_made(pipeline):
    folder, _ = pipeline
    config = {name: yaml.safe_load((folder / name / "config.yaml").read_text()) for name in STAGES}
    models = {name: settings["model_name_or_path"] for name, settings in config.items()}
    assert models == {
        "cold_start": "starter",
        "rl": f"{folder}/cold_start",
        "samples": f"{folder}/rl",
        "sft": "starter",
        "final": f"{folder}/sft",
    }
    assert {settings["seed"] for settings in config.values()} == {3}
    results = {name: result_of(folder / name) for name in STAGES}
    assert results["rl"]["steps"] == 1 and results["samples"]["prompts"] == 24
    assert results["rl"]["before"] == results["cold_start"]["after"]  # the very same model
    assert results["sft"]["samples"]["prompts"] == 24
    summary = result_of(folder)
    trained = [name for name in STAGES if name != "samples"]
    assert list(summary["stages"]) == ["base", *trained] and list(summary["minutes"]) == trained
    assert summary["stages"]["base"] == results["cold_start"]["before"]
    assert all(summary["stages"][name] == results[name]["after"] for name in trained)
    assert all("language_consistency_reward" in figures for figures in summary["stages"].values())
    assert find_model(str(folder)).adapter == folder / "adapter"
    last = (folder / "final" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == last


def test_the_same_command_does_nothing_and_FROM_does_only_what_it_names(pipeline, monkeypatch, capfd):
    folder, argv = pipeline
    before = changes(folder)
    r1.main(argv)
    output = capfd.readouterr().out
    assert changes(folder) == before
    assert "95 % interval" in output and all(re.search(rf"^ +{name} ", output, re.M) for name in ("base", *STAGES[:2]))
    assert f"the model of final is in {folder}/adapter." in output

    def in_this_process(command: list[str]) -> int:
        {"recipes.sft": sft, "recipes.grpo": grpo}[command[2]].main(command[3:])
        return 0

    monkeypatch.setattr(stages, "run_to_its_end", in_this_process)
    with pytest.raises(SystemExit) as stop:
        r1.main([*argv, "--final.learning_rate=-1"])
    assert stop.value.code == 2 and changes(folder) == before
    assert "error: Stage final: --learning_rate -1.0 cannot be negative." in capfd.readouterr().err
    with pytest.raises(SystemExit) as stop:
        r1.main([*argv, "--final.learning_rate=1e-4"])  # of a stage that has ended with another
    assert stop.value.code == 2 and changes(folder) == before
    assert capfd.readouterr().err.endswith("and the later ones anew; a pipeline takes no --overwrite.\n")

    r1.main([*argv, "--from_stage", "final"])
    after = changes(folder)
    assert {name for name in STAGES if after[name] != before[name]} == {"final"}
    capfd.readouterr()
    shutil.rmtree(folder / "samples")
    r1.main([*argv, "--from_stage", "final"])
    assert "Stage samples: left out." in capfd.readouterr().out
    assert list(result_of(folder)["stages"]) == ["base", "cold_start", "rl", "sft", "final"]
