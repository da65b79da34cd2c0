"""SFT end to end on the miniature: what is trained on, with which loss, and from where it goes on."""

import json
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scored_samples import sampled, use_few_problems
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes import hardware, sft
from recipes.tasks import load_task

SMALL = ["--per_device_train_batch_size", "4", "--eval_samples", "4", "--report_to", "none"]
RUN = Path("runs/sft-word_problems")


@pytest.fixture(scope="module", autouse=True)
def few_problems():
    with pytest.MonkeyPatch.context() as patch:
        use_few_problems(patch)
        yield


def metrics(run: Path = RUN) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in lines]


@pytest.fixture
def trainer_of(monkeypatch):
    """The trainer that a command makes, before it trains."""

    def make(*argv: str):
        made = []
        monkeypatch.setattr(sft, "train", lambda job, trainer, **figures: made.append((trainer, figures)))
        sft.main([*SMALL, *argv])
        [(trainer, figures)] = made
        trainer.figures = figures
        return trainer

    return make


@pytest.fixture(scope="module")
def on_samples(tmp_path_factory):
    """A run on the best samples, its folder and its samples."""
    folder = tmp_path_factory.mktemp("sft")
    file = folder / "samples.jsonl"
    rows = sampled([3, 2, 1, 0, 4, 1, 2, 2])
    rows[1]["rewards"]["think_format_reward"][0] = 0.0
    rows[2]["truncated"][0] = True
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--samples", str(file), "--keep_per_prompt", "2", "--output_dir", str(folder / "run")]
    sft.main([*SMALL, *flags, "--num_train_epochs", "1"])
    return folder / "run", rows


def says(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        sft.main([*SMALL, *argv])
    assert stop.value.code == 2
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return sentence


def test_a_worked_solution_is_a_perfect_completion_without_the_notes():
    gsm8k = load_task("gsm8k")
    answer = "He sold 48/2 = <<48/2=24>>24 clips.\nSo 48+24 = <<48+24=72>>72.\n#### 72"
    worked = gsm8k.worked(answer)
    assert worked == "<think>He sold 48/2 = 24 clips.\nSo 48+24 = 72.</think><answer>72</answer>"
    for reward in gsm8k.reward_funcs:
        assert reward(prompts=["?"], completions=[worked], answer=[answer]) == [1.0]
    assert gsm8k.worked("72") is None and gsm8k.worked("#### 72") is None


def test_the_loss_is_on_the_completion_and_its_end_alone(trainer_of):
    trainer = trainer_of("--num_train_rows", "4")
    tokenizer = trainer.processing_class
    batch = next(iter(trainer.get_train_dataloader()))
    rows = sampled([1, 1, 1, 1])
    known = {f"{row['completions'][0]}<|end|>": f"<|user|>{row['question']}<|assistant|>" for row in rows}
    seen = {}
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        trained = labels != -100
        assert torch.equal(ids[trained], labels[trained])
        first, last = trained.nonzero()[0], trained.nonzero()[-1]
        assert trained[first : last + 1].all() and labels[last] == tokenizer.eos_token_id
        prompt = ids[:first][ids[:first] != tokenizer.pad_token_id]
        seen[tokenizer.decode(labels[trained])] = tokenizer.decode(prompt)
    expected = {tokenizer.decode(tokenizer.encode(c)): tokenizer.decode(tokenizer.encode(p)) for c, p in known.items()}
    assert seen == expected


def test_what_the_template_drops_or_writes_itself_is_trained_on_once(trainer_of, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(hardware.STARTER_FOLDER)
    template = tokenizer.chat_template.replace(
        "'<|assistant|>' }}{% endif", "'<|assistant|><think>' }}{% endif"
    ).replace("message.content + '<|end|>'", "message.content.split('</think>')[-1] + '<|end|>'")
    assert template.count("<think>") == 1 and template.count("split") == 1
    tokenizer.chat_template = "{{ bos_token }}" + template
    tokenizer.bos_token = first = "<|unknown|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)]
    )
    AutoModelForCausalLM.from_pretrained(hardware.STARTER_FOLDER).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    trainer = trainer_of(
        *("--model_name_or_path", str(tmp_path / "model"), "--task", "word_problems", "--num_train_rows", "1")
    )
    [row] = trainer.train_dataset
    [problem] = sampled([1])
    asked, worked = f"<|user|>{problem['question']}<|assistant|><think>", problem["completions"][0] + "<|end|>"
    trained = tokenizer.encode(worked.removeprefix("<think>"), add_special_tokens=False)
    assert row["input_ids"] == tokenizer.encode(asked) + trained
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1
    assert [label for label in row["labels"] if label != -100] == trained


def test_samples_are_kept_counted_and_learned(on_samples, capsys):
    run, _ = on_samples
    result = json.loads((run / "result.json").read_text())
    kept = result["samples"]
    assert kept["prompts"] == 8 and kept["completions"] == 32 and kept["prompts_without"] == 2
    assert (kept["kept"], kept["badly_formed"], kept["truncated"], kept["surplus"]) == (10, 1, 1, 3)
    assert result["examples"] == 10 and result["epochs"] == 1 and result["steps"] == 3
    assert result["trainer"] == "sft" and {"before", "after"} < result.keys()
    logged = metrics(run)
    assert [row["step"] for row in logged] == [1, 2, 3]
    assert logged[-1]["loss"] < logged[0]["loss"]
    shown = {"loss", "mean_token_accuracy", "entropy", "grad_norm"}
    assert all(isinstance(row[name], float) for row in logged for name in shown)
    assert (run / "curve.png").stat().st_size > 10_000
    sft.main([*SMALL, "--samples", str(run.parent / "samples.jsonl"), "--output_dir", "runs/x", "--max_steps", "1"])
    assert json.loads(Path("runs/x/result.json").read_text())["epochs"] == 0.67  # 4 of 6
    output = capsys.readouterr().out
    assert "kept 6" in output and "step    1/1  loss " in output and "tokens right 0." in output
    assert "held-out problems" in output


def test_the_kept_are_the_shortest_or_random_ones_and_as_many_as_asked(on_samples, trainer_of):
    file = str(on_samples[0].parent / "samples.jsonl")

    def trained(*flags):
        trainer = trainer_of("--samples", file, *flags)
        found = {tuple(row["input_ids"]) for row in trainer.train_dataset}
        assert len(found) == len(trainer.train_dataset) == trainer.figures["examples"]
        return found

    shortest = trained()
    drawn = trained("--keep", "random")
    assert len(shortest) == len(drawn) == 6 and shortest != drawn
    some = trained("--num_train_rows", "3")
    assert len(some) == 3 and some < shortest


def test_nothing_to_imitate_is_one_sentence(capsys, write_jsonl, problems):
    all_wrong = write_jsonl(sampled([0, 0]))
    assert "Nothing is left to train on of 8 completions" in says(capsys, "--samples", str(all_wrong))
    other = write_jsonl([{**row, "task": "gsm8k"} for row in sampled([1])], "other.jsonl")
    assert "is of the task gsm8k, not word_problems" in says(capsys, "--samples", str(other))
    short = write_jsonl([{**row, "answer": row["answer"].split()[-1]} for row in problems(40)], "short.jsonl")
    assert "not worked out" in says(capsys, "--task", "gsm8k", "--dataset_name", str(short))


def test_training_goes_on_from_an_adapter_exactly_as_it_was(on_samples, capsys):
    run, _ = on_samples
    flags = ["--model_name_or_path", str(run), "--num_train_rows", "4", "--max_steps", "1", "--learning_rate", "0"]
    sft.main([*SMALL, *flags, "--lora_r", "8", "--lora_alpha", "32"])
    assert f"warning: --lora_r 8 has no effect: {run}/adapter goes on" in capsys.readouterr().out
    old, new = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (run, RUN))
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, RUN)]
    assert results[1]["before"] == results[0]["after"]


def test_whole_weights_are_trained_and_gone_on_from(on_samples, capsys):
    adapter = str(on_samples[0])
    flags = ["--num_train_rows", "4", "--max_steps", "1"]
    whole = ["--use_peft", "False", "--load_in_4bit", "False"]
    assert "is an adapter: keep --use_peft" in says(capsys, *whole, "--model_name_or_path", adapter)
    sft.main([*SMALL, *flags, *whole])
    AutoModelForCausalLM.from_pretrained(RUN / "adapter")
    sft.main([*SMALL, *flags, "--model_name_or_path", str(RUN), "--output_dir", "runs/on"])
    assert json.loads(Path("runs/on/adapter/adapter_config.json").read_text())["base_model_name_or_path"] == (
        str(RUN / "adapter")
    )
    first, second = (json.loads((run / "result.json").read_text()) for run in (RUN, Path("runs/on")))
    assert second["before"]["n"] == first["after"]["n"] == 4


def test_after_ctrl_c_the_same_command_goes_on_and_ends_as_if_nothing_had_happened(monkeypatch, capsys):
    flags = ["--num_train_rows", "12", "--max_steps", "6", "--save_steps", "100"]
    sft.main([*SMALL, *flags, "--output_dir", "runs/whole"])
    step, calls = sft.SFTTrainer.training_step, []

    def interrupted(trainer, *args, **kwargs):
        calls.append(trainer)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(sft.SFTTrainer, "training_step", interrupted)
    with pytest.raises(SystemExit) as stop:
        sft.main([*SMALL, *flags])
    assert stop.value.code == 130 and "Saved step 3 of 6" in capsys.readouterr().out
    assert [row["step"] for row in metrics()] == [1, 2, 3]
    sft.main([*SMALL, *flags])
    assert len(calls) == 6
    assert [row["loss"] for row in metrics()] == [row["loss"] for row in metrics(Path("runs/whole"))]


@pytest.mark.faults
def test_sigterm_after_ctrl_c_saves_a_whole_step_and_ends_with_0(monkeypatch, capsys):
    flags = ["--num_train_rows", "12", "--max_steps", "6", "--save_steps", "100"]
    sft.main([*SMALL, *flags, "--output_dir", "runs/whole"])
    step, update, calls = sft.SFTTrainer.training_step, torch.optim.AdamW.step, []

    def interrupted(trainer, *args, **kwargs):
        calls.append(trainer)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return step(trainer, *args, **kwargs)

    def half_done(optimizer, *args, **kwargs):
        done = update(optimizer, *args, **kwargs)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return done

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(sft.SFTTrainer, "training_step", interrupted)
    monkeypatch.setattr(torch.optim.AdamW, "step", half_done)
    with pytest.raises(SystemExit) as stop:
        sft.main([*SMALL, *flags])
    assert stop.value.code == 0 and "Saved step 3 of 6" in capsys.readouterr().out
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    sft.main([*SMALL, *flags])
    assert len(calls) == 6
    assert [row["loss"] for row in metrics()] == [row["loss"] for row in metrics(Path("runs/whole"))]


def test_a_recipe_runs_in_a_thread_where_no_signal_arrives():
    thread = threading.Thread(target=sft.main, args=([*SMALL, "--num_train_rows", "8", "--max_steps", "1"],))
    thread.start()
    thread.join()
    assert [row["step"] for row in metrics()] == [1]
