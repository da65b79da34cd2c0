"""DPO end to end on the miniature: sampled, judged, paired, trained; from any point of which it goes on."""

import json
import shutil
from pathlib import Path

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from scored_samples import sampled, use_few_problems
from trl import DPOTrainer

from recipes import dpo, sample, stages
from recipes.models import find_model
from recipes.tasks.word_problems import generate

RUN = Path("runs/dpo-word_problems")
SMALL = [
    *("--per_device_train_batch_size", "2", "--per_device_eval_batch_size", "16", "--save_steps", "1"),
    *("--sample_prompts", "12", "--num_generations", "4", "--eval_samples", "4", "--report_to", "none"),
]


@pytest.fixture(scope="module", autouse=True)
def few_problems():
    with pytest.MonkeyPatch.context() as patch:
        use_few_problems(patch)
        yield


def metrics(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in lines]


def result_of(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of the recipe from end to end, and what it printed."""
    folder = tmp_path_factory.mktemp("dpo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        dpo.main([*SMALL, "--output_dir", str(folder)])
    return folder, "\n".join(lines)


def says(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        dpo.main([*SMALL, *argv])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "Loading weights" not in captured.err
    [sentence] = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    return sentence


def test_a_run_samples_pairs_and_trains_and_leaves_everything_in_its_folder(whole):
    run, printed = whole
    rows, result = rows_of(run), result_of(run)
    assert len({row["question"] for row in rows}) == len(rows) == 12
    assert all(len(row["completions"]) == 4 for row in rows)
    counts, right = result["pairs"], [sum(row["rewards"]["correctness_reward"]) for row in rows]
    assert counts["prompts"] == 12 and counts["pairs"] > 3
    assert counts["all_right"] == right.count(4) and counts["all_wrong"] == right.count(0)
    assert sum(counts[name] for name in ("pairs", "all_right", "all_wrong", "truncated", "ties", "small_margin")) == 12
    assert f"pairs: prompts 12, pairs {counts['pairs']}" in printed
    assert result["trainer"] == "dpo" and result["steps"] == -(-counts["pairs"] // 2)
    logged = metrics(run)
    assert [row["step"] for row in logged] == list(range(1, result["steps"] + 1))
    for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen"):  # the panels of the curve
        assert all(isinstance(row[name], float) for row in logged)
    assert logged[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and logged[-1]["rewards/margins"] > 0
    assert (run / "curve.png").stat().st_size > 10_000
    assert not list((run / "samples").glob("step_*"))
    assert {path.name for path in (run / "adapter").iterdir() if path.is_dir()} == set()
    weights = load_file(run / "adapter" / "adapter_model.safetensors")
    assert weights and all(".lora_" in name for name in weights)


def test_only_the_adapter_is_trained(monkeypatch, write_jsonl):
    made = []
    monkeypatch.setattr(dpo, "train", lambda job, trainer, **figures: made.append(trainer))
    dpo.main([*SMALL, "--samples", str(write_jsonl(sampled([2, 1])))])
    [trainer] = made
    assert isinstance(trainer, DPOTrainer) and isinstance(trainer.model, PeftModel)
    assert all(".lora_" in name for name, p in trainer.model.named_parameters() if p.requires_grad)


@pytest.mark.faults
def test_a_crash_while_sampling_and_another_while_training_change_nothing(whole, monkeypatch, capsys):
    run, _ = whole
    write, step = sample.write, DPOTrainer.training_step
    calls = {"write": 0, "step": 0}

    def crashing(name: str, at: int, function):
        def called(*args, **kwargs):
            calls[name] += 1
            if calls[name] == at:
                raise RuntimeError("crash")
            return function(*args, **kwargs)

        return called

    monkeypatch.setattr(sample, "write", crashing("write", 2, write))
    monkeypatch.setattr(DPOTrainer, "training_step", crashing("step", 2, step))
    with pytest.raises(RuntimeError, match="crash"):
        dpo.main(SMALL)
    assert len(rows_of(RUN)) == 4  # one batch of 16
    with pytest.raises(RuntimeError, match="crash"):
        dpo.main(SMALL)
    assert (RUN / "samples.jsonl").read_bytes() == (run / "samples.jsonl").read_bytes()
    assert [row["step"] for row in metrics(RUN)] == [1] and calls["write"] == 4
    dpo.main(SMALL)
    assert calls["write"] == 4  # nothing was sampled anew
    assert (RUN / "samples.jsonl").read_bytes() == (run / "samples.jsonl").read_bytes()
    assert [row["loss"] for row in metrics(RUN)] == [row["loss"] for row in metrics(run)]
    assert result_of(RUN)["pairs"] == result_of(run)["pairs"] and result_of(RUN)["after"] == result_of(run)["after"]
    dpo.main(SMALL)
    assert "is finished, nothing was trained" in capsys.readouterr().out


def test_pairs_of_samples_that_exist_without_those_that_are_held_out(write_jsonl, capsys):
    file = write_jsonl(sampled([3, 2, 0, 1]) + sampled([2, 2], held_out=True))
    dpo.main([*SMALL, "--samples", str(file), "--max_steps", "1", "--loss_type", "ipo"])
    output = capsys.readouterr().out
    assert "2 of 6 samples are of held-out problems: they are left out." in output
    assert "step    1/1  loss " in output and "margin " in output and "pairs right " in output
    result = result_of(RUN)
    assert (result["pairs"]["prompts"], result["pairs"]["pairs"], result["pairs"]["all_wrong"]) == (4, 3, 1)
    assert not (RUN / "samples.jsonl").exists()


def test_a_preference_set_is_trained_on(write_jsonl, capsys):
    rows = [
        {
            "prompt": row["prompt"],
            "chosen": [{"role": "assistant", "content": row["completions"][0]}],
            "rejected": [{"role": "assistant", "content": row["completions"][1]}],
        }
        for row in sampled([1, 1, 1])
    ]
    held_out = next(generate(0, held_out=True))["question"]
    rows.append({**rows[0], "prompt": [{"role": "user", "content": held_out}]})
    flags = [*SMALL, "--preferences", str(write_jsonl(rows)), "--max_steps", "1"]
    dpo.main(flags)
    assert result_of(RUN)["pairs"] == {"pairs": 3, "held_out": 1} and result_of(RUN)["steps"] == 1
    assert "1 of 4 pairs are of held-out problems: they are left out." in capsys.readouterr().out
    (RUN / "result.json").unlink()  # it is unfinished again, and its pairs are others
    write_jsonl([row | {"chosen": row["rejected"]} for row in rows])
    with pytest.raises(SystemExit):
        dpo.main(flags)
    assert f"{RUN} holds a run with other rows than {flags[-3]} has now" in capsys.readouterr().err


def test_what_cannot_be_paired_is_one_sentence_before_a_model_is_loaded(write_jsonl, capsys):
    unpaired = write_jsonl([{"prompt": "a", "rejected": "b"}], "unpaired.jsonl")
    assert "has no column `chosen` (it has prompt, rejected)" in says(capsys, "--preferences", str(unpaired))
    broken = write_jsonl(["[1]"], "broken.jsonl")
    expected = "line 1 is not a JSON object with `prompt`, `chosen` and `rejected`"
    assert expected in says(capsys, "--preferences", str(broken))
    assert "does not exist: give --preferences a folder" in says(capsys, "--preferences", "./none.jsonl")
    useless = str(write_jsonl(sampled([4, 0]), "useless.jsonl"))
    assert "No preference pair is left of 2 prompts: 1 have only right" in says(capsys, "--samples", useless)
    both = says(capsys, "--samples", useless, "--preferences", str(unpaired))
    assert "two sources of pairs: give one" in both
    held_out = write_jsonl(sampled([2, 2], held_out=True), "held_out.jsonl")
    assert "are held-out problems: sample the train rows" in says(capsys, "--samples", str(held_out))
    assert "Did you mean sigmoid?" in says(capsys, "--loss_type", "sigmoyd")
    assert "--rounds 0: give a number above 0" in says(capsys, "--rounds", "0")


ROUNDS = [*SMALL, "--rounds", "2", "--max_steps", "2", "--save_steps", "1"]


@pytest.fixture(scope="module")
def in_this_process():
    """A round is a process of its own, which begins by importing for seconds; those are tested in test_r1.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "run_to_its_end", lambda command: dpo.main(command[3:]) or 0)
        yield


@pytest.fixture(scope="module")
def rounds(tmp_path_factory, in_this_process):
    folder = tmp_path_factory.mktemp("rounds") / "run"
    file = folder.parent / "first.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sampled([1, 2, 3, 2])))
    # The pass rates are those of the first model: they choose nothing in the second round.
    argv = [*ROUNDS, "--samples", str(file), "--curriculum", "--output_dir", str(folder)]
    dpo.main(argv)
    return folder, argv


def test_each_round_goes_on_from_the_model_of_the_one_before(rounds):
    folder, _ = rounds
    first, second, both = (result_of(run) for run in (folder / "round_1", folder / "round_2", folder))
    assert both["rounds"] == [first, second]
    assert (both["model"], both["before"], both["after"]) == ("starter", first["before"], second["after"])
    assert both["steps"] == 4 and second["model"] == str(folder / "round_1")
    assert second["before"] == first["after"]
    assert not (folder / "round_1" / "samples.jsonl").exists() and len(rows_of(folder / "round_2")) == 12
    assert find_model(str(folder)).adapter == folder / "adapter"
    last = (folder / "round_2" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == last
    assert (folder / "samples" / "before.jsonl").read_bytes() == (
        folder / "round_1" / "samples" / "before.jsonl"
    ).read_bytes()
    logged = metrics(folder / "round_2")  # against the model of round 1, and not the base
    assert logged[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and logged[0]["rewards/margins"] == pytest.approx(0)


def test_after_a_kill_in_the_second_round_the_same_command_goes_on_there(rounds, capfd):
    folder, argv = rounds
    before = result_of(folder)
    samples = (folder / "round_2" / "samples.jsonl").stat().st_mtime_ns
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    logged = [row["loss"] for row in metrics(folder / "round_2")]
    for name in ("result.json", "round_2/result.json", "round_2/after.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "round_2" / "checkpoint-2")
    dpo.main(argv)
    output = capfd.readouterr().out
    assert f"{folder}/round_1 is finished." in output and "before training" not in output
    assert result_of(folder) | {"minutes": 0, "rounds": 0} == before | {"minutes": 0, "rounds": 0}
    assert [row["loss"] for row in metrics(folder / "round_2")] == logged  # the reference is the same again
    assert (folder / "round_2" / "samples.jsonl").stat().st_mtime_ns == samples
    assert (folder / "adapter" / "adapter_model.safetensors").read_bytes() == adapter
    dpo.main(argv)
    assert "is finished, nothing was trained" in capfd.readouterr().out


def test_overwrite_deletes_every_round(rounds, monkeypatch, tmp_path, capfd):
    folder, argv = rounds
    with pytest.raises(SystemExit) as stop:
        dpo.main([*argv, "--beta", "0.2"])
    assert stop.value.code == 2 and "holds a run with other settings (beta" in capfd.readouterr().err
    monkeypatch.setattr(stages, "run_to_its_end", lambda command: 3)
    for ended in (False, True):
        copy = tmp_path / f"copy_{ended}"
        shutil.copytree(folder, copy)
        if not ended:
            (copy / "result.json").unlink()
        with pytest.raises(SystemExit) as stop:
            dpo.main([*argv, "--beta", "0.2", "--overwrite", "--output_dir", str(copy)])
        left = [file for file in copy.glob("round_*/*") if file.name != "_lock"]
        assert stop.value.code == 3 and not left and not (copy / "result.json").exists()
