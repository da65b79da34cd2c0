"""The reward model end to end on the miniature, and its score as a reward of another run."""

import json
import math
import random
import shutil
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import pytest
import torch
import yaml
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from safetensors.torch import load_file
from scored_samples import sampled, use_few_problems
from trl import RewardTrainer

from recipes import grpo, merge, ppo, reward_model
from recipes.errors import InputError
from recipes.learned_reward import LearnedReward, ended, scores_of
from recipes.models import STARTER_FOLDER
from recipes.pairs import preference_pairs
from recipes.preflight import guarded
from recipes.reward_model import split_by_prompt
from recipes.tasks import load_task
from recipes.tasks.word_problems import generate

SMALL = [
    *("--sample_prompts", "16", "--num_generations", "4", "--eval_samples", "12", "--num_train_epochs", "4"),
    *("--per_device_train_batch_size", "4", "--save_steps", "2", "--report_to", "none"),
]
TASK = load_task("word_problems")


@pytest.fixture(scope="module", autouse=True)
def few_problems():
    with pytest.MonkeyPatch.context() as patch:
        use_few_problems(patch)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rm") / "run"
    reward_model.main([*SMALL, "--output_dir", str(folder)])
    return folder


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_pairs_are_sampled_the_head_is_trained_and_held_out_pairs_judge_it(whole):
    result, logged = result_of(whole), rows_of(whole / "metrics.jsonl")
    assert result["trainer"] == "rm" and result["before"] is None and result["after"] is None
    assert result["pairs"]["prompts"] == 16 and result["held_out_pairs"] <= 12
    assert logged[0]["loss"] == pytest.approx(math.log(2), abs=0.2) and logged[-1]["loss"] < 0.5
    low, high = result["pair_ci95"]
    assert 0.6 < result["pair_accuracy"] <= 1 and low <= result["pair_accuracy"] <= high
    trained, held_out = (
        {row["question"] for row in rows_of(whole / name)} for name in ("samples.jsonl", "samples/held_out.jsonl")
    )
    assert len(trained) == 16 and len(held_out) == 12 and not trained & held_out
    weights = load_file(whole / "adapter" / "adapter_model.safetensors")
    assert {name for name in weights if ".lora_" not in name} == {"base_model.model.score.weight"}
    about = json.loads((whole / "about.json").read_text())
    assert about["recipe"] == "rm" and about["versions"]["trl"]


def test_its_reward_is_the_score_in_units_of_the_held_out_pairs(whole):
    reward, result = LearnedReward(str(whole)), result_of(whole)
    model, tokenizer = reward.model, reward.tokenizer
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    rows = rows_of(whole / "samples" / "held_out.jsonl")[:3]
    prompts = [row["prompt"] for row in rows for _ in range(4)]
    texts = [text for row in rows for text in row["completions"]]
    found = reward(prompts=prompts, completions=texts)
    raw = scores_of(model, tokenizer, reward.as_text(prompts, texts))
    assert found == pytest.approx([(score - result["score_mean"]) / result["score_std"] for score in raw])
    said = [[{"role": "assistant", "content": text}] for text in texts]
    alone = [reward(prompts=[p], completions=[c])[0] for p, c in zip(prompts, said, strict=True)]
    assert found == pytest.approx(alone, abs=1e-4)  # neither padding nor the order matters
    assert len(set(found)) > 3


def test_it_orders_the_held_out_pairs_as_the_trained_model_did(whole):
    reward, result = LearnedReward(str(whole)), result_of(whole)
    pairs, _ = preference_pairs(rows_of(whole / "samples" / "held_out.jsonl"), TASK, seed=42)
    prompts = [pair["prompt"] for pair in pairs]
    chosen, rejected = (
        reward(prompts=prompts, completions=[p[side] for p in pairs]) for side in ("chosen", "rejected")
    )
    assert result["held_out_pairs"] == len(pairs)
    assert result["pair_accuracy"] == sum(a > b for a, b in zip(chosen, rejected, strict=True)) / len(pairs)
    assert (fmean(chosen + rejected), pstdev(chosen + rejected)) == pytest.approx((0, 1), abs=1e-3)


def test_the_score_is_read_at_the_last_token(whole):
    """As the trainer reads it: a text that is longer has another score, one with padding behind it has not."""
    reward = LearnedReward(str(whole))
    model, tokenizer = reward.model, reward.tokenizer
    text = reward.as_text(["What is 1 + 2?"], ["<answer>3</answer>"])[0]
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    padded = torch.nn.functional.pad(ids, (0, 5), value=tokenizer.pad_token_id)
    with torch.no_grad():
        plain = model(input_ids=ids).logits.item()
        behind = model(input_ids=padded, attention_mask=(padded != tokenizer.pad_token_id).long()).logits.item()
    assert plain == pytest.approx(behind, abs=1e-4) == pytest.approx(scores_of(model, tokenizer, [text])[0], abs=1e-4)


def test_grpo_and_ppo_train_on_it_while_the_rules_are_measured(whole, capsys):
    rest = ["--reward_model", str(whole), "--measure_only", *TASK.reward_names]
    rest += ["--per_device_train_batch_size", "16", "--max_steps", "2", "--eval_samples", "4", "--report_to", "none"]
    for recipe, kl in ((grpo, ["--beta", "0.01"]), (ppo, [])):
        recipe.main([*rest, *kl, "--output_dir", recipe.__name__])
        about = json.loads(Path(recipe.__name__, "about.json").read_text())
        assert about["rewards"] == {"correctness_reward": 0.0, "think_format_reward": 0.0, "reward_model": 1.0}
        for row in rows_of(Path(recipe.__name__, "metrics.jsonl")):
            assert row["reward"] == pytest.approx(row["rewards/reward_model/mean"], abs=1e-4)
            assert row["rewards/correctness_reward/std"] > 0
        result = result_of(Path(recipe.__name__))
        assert {"accuracy", "reward_model"} <= result["after"].keys()


def test_a_crash_while_training_changes_nothing(whole, monkeypatch):
    step, calls = RewardTrainer.training_step, []

    def crashing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("crash")
        return step(*args, **kwargs)

    monkeypatch.setattr(RewardTrainer, "training_step", crashing)
    with pytest.raises(RuntimeError, match="crash"):
        reward_model.main(SMALL)
    reward_model.main(SMALL)
    folder = Path("runs/rm-word_problems")
    losses = [[row["loss"] for row in rows_of(run / "metrics.jsonl")] for run in (folder, whole)]
    assert losses[0] == losses[1]
    assert {**result_of(folder), "minutes": 0, "peak_memory_gb": 0} == {
        **result_of(whole),
        "minutes": 0,
        "peak_memory_gb": 0,
    }


def test_a_preference_set_is_split_and_judged(write_jsonl):
    rows = [
        {
            "prompt": row["prompt"],
            "chosen": [{"role": "assistant", "content": row["completions"][0]}],
            "rejected": [{"role": "assistant", "content": row["completions"][1]}],
        }
        for row in sampled([1] * 20)
    ]
    reward_model.main([*SMALL, "--preferences", str(write_jsonl(rows)), "--max_steps", "1"])
    result = result_of(Path("runs/rm-word_problems"))
    assert result["held_out_pairs"] == 2 and result["pairs"]["pairs"] == 20
    assert not Path("runs/rm-word_problems/samples.jsonl").exists()


def test_a_finished_run_says_again_what_it_found(whole, capsys):
    reward_model.main([*SMALL, "--output_dir", str(whole)])
    said, result = capsys.readouterr().out, result_of(whole)
    assert f"{result['pair_accuracy']:.3f} of {result['held_out_pairs']} held-out pairs are in the right order" in said
    assert "is finished, nothing was trained" in said


def test_samples_that_exist_are_paired(write_jsonl):
    file = write_jsonl(sampled([3, 2, 0, 1]))
    reward_model.main([*SMALL, "--samples", str(file), "--max_steps", "1"])
    assert result_of(Path("runs/rm-word_problems"))["pairs"]["pairs"] == 3


def test_without_held_out_problems_the_train_pairs_set_the_scale(write_jsonl, monkeypatch):
    file = write_jsonl(sampled([3, 2, 0, 1]))
    monkeypatch.setattr(reward_model, "load_model", None)  # nothing is sampled: no policy is needed
    reward_model.main([*SMALL, "--samples", str(file), "--max_steps", "1", "--eval_samples", "0"])
    result = result_of(Path("runs/rm-word_problems"))
    assert "pair_accuracy" not in result and result["score_std"] > 0


def test_what_is_no_reward_model_is_one_sentence_before_a_model_is_loaded(whole, refused_by, tmp_path):
    def says(name) -> str:
        return refused_by(grpo.main, "--reward_model", str(name), "--report_to", "none")

    assert "writes texts and scores none: `make rm-<task>` trains one." in says(STARTER_FOLDER)
    assert "writes texts and scores none" in says("starter")
    shutil.copytree(whole, unfinished := tmp_path / "unfinished")
    (unfinished / "result.json").unlink()
    assert "is unfinished: run its command again to the end." in says(unfinished)
    (unfinished / "result.json").write_text(json.dumps({"after": None}))
    assert "is a run of another kind" in says(unfinished)
    (unfinished / "result.json").write_text("{")
    assert "cannot be read" in says(unfinished)
    for broken in ({"score_mean": 0.0, "score_std": 0.0}, {"score_std": 1.0}, {"score_mean": 0, "score_std": None}):
        (unfinished / "result.json").write_text(json.dumps(broken))
        assert "gives no usable scores (result.json): train it anew." in says(unfinished)
    assert "cannot be a path" in says("~nobody-of-this-name/rm") and "cannot be a path" in says("x" * 300)
    assert "does not exist" in says(tmp_path / "nowhere")
    assert "merge" in refused_by(reward_model.main, *SMALL, "--model_name_or_path", str(unfinished))


def test_a_reward_model_that_transformers_saved_is_taken_as_it_is(whole, tmp_path):
    merged = LearnedReward(str(whole))
    raw = merged.model.merge_and_unload()
    raw.dequantize().save_pretrained(tmp_path / "full")
    merged.tokenizer.save_pretrained(tmp_path / "full")
    other = LearnedReward(str(tmp_path / "full"))
    assert (other.mean, other.std) == (0.0, 1.0)
    question = next(generate(3))["question"]
    [score] = other(prompts=[TASK.prompt(question)], completions=["<answer>3</answer>"])
    assert math.isfinite(score)


def test_a_reward_model_that_cannot_be_loaded_ends_the_run_with_a_sentence(whole, tmp_path, capsys):
    shutil.copytree(whole, broken := tmp_path / "broken")
    (broken / "adapter" / "adapter_model.safetensors").write_bytes(b"none")
    rest = ["--per_device_train_batch_size", "16", "--max_steps", "1", "--eval_samples", "4", "--report_to", "none"]
    with pytest.raises(SystemExit) as stop:
        grpo.main([*rest, "--reward_model", str(broken)])
    said = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and f"error: --reward_model {broken} cannot be loaded: " in said
        and "Traceback" not in said
    )


def test_loading_it_in_the_midst_of_a_run_changes_nothing_of_what_is_drawn(whole):
    reward = LearnedReward(str(whole))
    states = [(torch.get_rng_state(), random.getstate(), str(np.random.get_state()))]
    reward(["What is 1 + 2?"], ["<answer>3</answer>"])
    states.append((torch.get_rng_state(), random.getstate(), str(np.random.get_state())))
    assert torch.equal(states[0][0], states[1][0]) and states[0][1:] == states[1][1:]


def test_text_is_judged_to_the_end_that_it_was_trained_on(whole):
    tokenizer = LearnedReward(str(whole)).tokenizer
    assert ended("1+1? 2", tokenizer) == "1+1? 2<|end|>" == ended("1+1? 2<|end|>", tokenizer)


@pytest.fixture
def saved(whole, tmp_path, capsys):
    """A reward model as transformers saves one, with its tokenizer changed."""

    def save(**of_tokenizer) -> str:
        reward, folder = LearnedReward(str(whole)), tmp_path / str(len(list(tmp_path.iterdir())))
        reward.model.merge_and_unload().dequantize().save_pretrained(folder)
        for name, value in of_tokenizer.items():
            setattr(reward.tokenizer, name, value)
        reward.tokenizer.save_pretrained(folder)
        capsys.readouterr()  # the bars of loading
        return str(folder)

    return save


TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def test_a_template_that_refuses_a_system_message_is_asked_without_one(saved):
    reward = LearnedReward(saved(chat_template=NO_SYSTEM + TEMPLATE + "[assistant] {% endif %}"))
    [text] = reward.as_text([TASK.prompt("1 + 1?")], ["2"])
    assert text == f"[user] {TASK.prompt_without_system('1 + 1?')[0]['content']}\n[assistant] 2<|end|>"
    assert math.isfinite(reward([TASK.prompt("1 + 1?")], ["2"])[0])


def test_the_thought_that_the_policys_template_began_is_in_place_of_its_own(saved):
    reward = LearnedReward(saved(chat_template=TEMPLATE + "[assistant] <think>\n{% endif %}"))
    assert reward.as_text(["1 + 1?"], ["<think>\n2"]) == ["[user] 1 + 1?\n[assistant] <think>\n2<|end|>"]
    reward.prefill = "<think>\n"
    assert reward.as_text(["1 + 1?"], ["2"]) == ["[user] 1 + 1?\n[assistant] <think>\n2<|end|>"]


def test_a_tokenizer_without_an_end_or_a_template_is_seen_before_a_model_is_loaded(saved, refused_by):
    reward = LearnedReward(saved(eos_token=None, pad_token="<|pad|>"))
    assert math.isfinite(reward(["1 + 1?"], ["2"])[0])
    name = saved(eos_token=None, pad_token=None)
    said = refused_by(grpo.main, "--reward_model", name, "--report_to", "none")
    assert "its tokenizer has neither a pad nor an eos token: add one." in said
    name = saved(chat_template=None)
    said = refused_by(grpo.main, "--reward_model", name, "--report_to", "none")
    assert "has no chat template, so it cannot be asked" in said
    name = saved(chat_template="{{ raise_exception('never') }}")
    assert "its chat template cannot render a question" in refused_by(grpo.main, "--reward_model", name)
    assert not Path("runs").exists()


def test_every_policy_has_its_own_prefill_and_all_share_the_model(whole):
    task = TASK.with_rewards([], LearnedReward(str(whole)))
    behind, plain = (guarded(task, prefill)[-1] for prefill in ("<think>\n", ""))
    assert (behind.prefill, plain.prefill) == ("<think>\n", "") and behind.model is plain.model
    assert "<think>\n2" in behind.as_text(["1 + 1?"], ["2"])[0]


def test_scores_that_are_no_numbers_end_in_a_sentence(monkeypatch, write_jsonl, capsys):
    monkeypatch.setattr(reward_model, "scores_of", lambda model, tokenizer, texts: [math.nan] * len(texts))
    file = write_jsonl(sampled([3, 2, 0, 1]))
    with pytest.raises(SystemExit) as stop:
        reward_model.main([*SMALL, "--samples", str(file), "--max_steps", "1", "--eval_samples", "0"])
    assert stop.value.code == 2 and "The reward model has diverged" in capsys.readouterr().err


def test_its_weights_are_in_the_estimate_of_memory(whole, saved, capsys, monkeypatch):
    monkeypatch.setattr(LearnedReward, "weights_gb", 1000.0)
    grpo.main(["--reward_model", str(whole), "--report_to", "none", "--dry_run"])
    assert "this run may need" in capsys.readouterr().out
    monkeypatch.undo()
    in_four_bits, as_saved = LearnedReward(str(whole)).weights_gb, LearnedReward(saved()).weights_gb
    assert 0 < in_four_bits < as_saved < 0.01  # the miniature has 0.86M parameters


def test_it_is_asked_as_its_run_was(whole, tmp_path):
    shutil.copytree(whole, run := tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["chat_template_kwargs"] = '{"enable_thinking": false}'
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert LearnedReward(str(run)).config.chat_template_kwargs == {"enable_thinking": False}


def test_a_prompt_of_a_preference_set_is_held_out_with_all_its_pairs():
    rows = Dataset.from_list([{"prompt": f"{i % 10}", "chosen": "a", "rejected": "b"} for i in range(40)])
    train, held_out = split_by_prompt(rows, "set")
    assert len(held_out) == 4 and not set(train["prompt"]) & set(held_out["prompt"])
    with pytest.raises(InputError, match="pairs of one prompt only"):
        split_by_prompt(rows.select([0, 10]), "set")


def test_a_reward_model_is_no_model_that_writes(whole, saved, refused_by):
    for name in (whole, saved()):
        said = refused_by(grpo.main, "--model_name_or_path", str(name), "--task", "word_problems")
        assert f"{name} is a reward model and writes no text: give it as --reward_model, or name another." in said
    assert "is a reward model" in refused_by(merge.main, "--model_name_or_path", str(whole))
    assert not (whole / "merged").exists()


def test_a_missing_folder_of_a_run_is_told_at_once():
    with pytest.raises(InputError, match="does not exist"):
        LearnedReward("runs/none")


def test_it_is_trained_and_read_in_bfloat16_as_on_a_gpu(write_jsonl):
    file = write_jsonl(sampled([3, 2, 0, 1]))
    reward_model.main([*SMALL, "--samples", str(file), "--max_steps", "1", "--dtype", "bfloat16", "--bf16", "True"])
    reward = LearnedReward("runs/rm-word_problems")
    assert reward.model.dtype == torch.bfloat16
    assert math.isfinite(reward(["What is 1 + 2?"], ["<answer>3</answer>"])[0])
