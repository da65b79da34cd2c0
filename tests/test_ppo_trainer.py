"""PPO on the miniature: real TRL, real 4-bit weights, real LoRA adapters, real processes."""

import asyncio
import inspect
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import ppo_two_processes
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from ppo_two_processes import (
    FORMS,
    ROWS,
    KeepGradients,
    config,
    copies,
    in_the_midst_of_a_rollout,
    judge,
    lora,
    make,
    one_step,
    perturb,
    rollout,
    rows,
    steps,
    trained,
)
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)
from trl import GRPOConfig, GRPOTrainer

from recipes.hardware import STARTER_FOLDER
from recipes.ppo_trainer import PPOConfig, PPOTrainer
from recipes.qlora import correct_qlora

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

NEW_METRICS = {
    *("value/explained_variance", "value/mean", "value/loss", "value/clip_ratio", "returns/mean", "advantages/std"),
    *("objective/kl", "objective/kl_coef", "objective/non_score_reward", "objective/rlhf_reward"),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads take longer than one on matrices this small, and split sums elsewhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same(one: dict, other: dict, **tolerance) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


# Gradients


def gradients(**settings) -> dict:
    """Of one training step, of policy, critic and head, nothing of which is at its trivial start."""
    trainer = make({"rollout_func": rollout}, max_grad_norm=0.0, learning_rate=0.0, **settings)
    perturb(trainer)
    kept = KeepGradients(trainer)
    trainer.train()
    assert all(gradient.abs().max() > 0 for gradient in kept.steps[0].values())
    return kept.steps[0]


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_gradient_checkpointing_does_not_change_the_gradients(critic):
    expected = gradients(critic=critic)
    for reentrant in (False, True):
        kwargs = {"use_reentrant": reentrant}
        found = gradients(critic=critic, gradient_checkpointing=True, gradient_checkpointing_kwargs=kwargs)
        assert_same(found, expected, rtol=1e-5, atol=1e-8)


def joint_gradients(gradient_checkpointing: bool) -> dict:
    """What the trainer avoids: one backward pass through a forward pass of either adapter."""
    trainer = make({"rollout_func": rollout})
    perturb(trainer)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([dict(row) for row in ROWS])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    length = batch["completion_ids"].size(1)
    if gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    with trainer.critic.active():
        values = trainer.critic.values(ids, mask, length + 1)
    log_probs, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, length)
    (values.mean() + log_probs.mean()).backward()
    return {name: parameter.grad for name, parameter in trained(trainer).items()}


def test_one_backward_pass_over_both_adapters_would_be_wrong_under_gradient_checkpointing():
    expected, found = joint_gradients(False), joint_gradients(True)
    for name, gradient in found.items():
        far = (gradient - expected[name]).norm() > 0.05 * expected[name].norm()
        assert far == (".critic." in name), name


def test_the_critics_loss_does_not_reach_the_policys_adapter():
    without, large = (gradients_of_the_policy("adapter", vf_coef) for vf_coef in (0.0, 1.0))
    assert_same(large, without, rtol=0, atol=0)


def test_a_shared_critics_loss_reaches_the_policys_adapter():
    without, large = (gradients_of_the_policy("shared", vf_coef) for vf_coef in (0.0, 1.0))
    assert any((large[name] - without[name]).abs().max() > 1e-4 for name in without)


def gradients_of_the_policy(critic: str, vf_coef: float) -> dict:
    trainer = make({"rollout_func": rollout}, max_grad_norm=0.0, learning_rate=0.0, critic=critic, vf_coef=vf_coef)
    perturb(trainer)
    kept = KeepGradients(trainer)
    trainer.train()
    return {name: gradient for name, gradient in kept.steps[0].items() if ".default." in name}


def test_policy_and_critic_are_clipped_apart():
    trainer = make({"rollout_func": rollout}, max_grad_norm=1e-3)
    perturb(trainer)
    kept = KeepGradients(trainer)
    trainer.train()
    [found] = kept.steps
    for of_critic in (True, False):
        part = [g for name, g in found.items() if (".critic." in name or name.startswith("head.")) == of_critic]
        assert torch.cat([gradient.flatten() for gradient in part]).norm() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_accumulated_gradients_are_those_of_the_whole_batch(critic):
    def run(batch: int) -> list[dict]:
        trainer = make(
            {"rollout_func": rollout},
            critic=critic,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            max_steps=2,
            optim="sgd",
            learning_rate=0.01,
        )
        perturb(trainer)
        kept = KeepGradients(trainer)
        trainer.train()
        return kept.steps

    for whole, parts in zip(run(8), run(4), strict=True):  # the second step too
        assert_same(parts, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_nothing_is_left_of_the_gradients_of_the_step_before(critic):
    trainer = make({"rollout_func": rollout}, critic=critic, learning_rate=0.0, max_steps=2, max_grad_norm=0.0)
    perturb(trainer)
    kept = KeepGradients(trainer)
    trainer.train()
    assert_same(*kept.steps, rtol=1e-4, atol=1e-6)


# Four bits


def four_bit(**settings) -> PPOTrainer:
    return make({"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")}, **settings)


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_on_four_bit_weights_only_adapters_and_head_are_trained(critic):
    trainer = four_bit(critic=critic, learning_rate=1e-3, critic_learning_rate=7e-3)
    correct_qlora(trainer.model)
    layers = [module for module in trainer.model.modules() if isinstance(module, LoraLayer)]
    assert len(layers) == 7 * 4  # q, k, v, o, gate, up, down
    for layer in layers:
        assert isinstance(layer.base_layer, Linear4bit) and layer.base_layer.weight.dtype == torch.uint8
        assert layer.base_layer.weight.quant_state.quant_type == "nf4"
        assert set(layer.lora_A) == ({"default", "critic"} if critic == "adapter" else {"default"})
    bases = {n: p for n, p in trainer.model.named_parameters() if "lora_" not in n}
    assert not any(parameter.requires_grad for parameter in bases.values())
    before, first = copies(bases), copies(trained(trainer))
    perturb(trainer)
    trainer.train()

    names = {id(parameter): name for name, parameter in trained(trainer).items()}
    assert len(names) == len(layers) * 2 * (2 if critic == "adapter" else 1) + 2
    assert all("lora_" in name or name in ("head.weight", "head.bias") for name in names.values())
    held = [(id(p), group["initial_lr"]) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert sorted(identity for identity, _ in held) == sorted(names)
    for identity, rate in held:
        of_critic = ".critic." in names[identity] or names[identity].startswith("head.")
        assert rate == (7e-3 if of_critic else 1e-3), names[identity]

    assert all(torch.equal(before[name], parameter) for name, parameter in bases.items())
    for name, parameter in trained(trainer).items():
        assert parameter.dtype == torch.float32 and not torch.equal(first[name], parameter), name


def test_the_critic_learns_at_five_times_the_policys_rate_by_default():
    assert [group["lr"] for group in make(learning_rate=1e-3).create_optimizer().param_groups] == [
        1e-3,
        1e-3,
        5e-3,
        5e-3,
    ]


# Resuming and saving


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_a_resumed_run_ends_as_if_nothing_had_happened(critic):
    def run(resume_from):
        given = {"train_dataset": Dataset.from_list(rows(32))}
        trainer = make(given, critic=critic, target_kl=0.1, max_steps=3, save_strategy="steps", save_steps=2)
        trainer.train(resume_from_checkpoint=resume_from)
        return trainer

    whole, resumed = run(None), run("out/checkpoint-2")
    assert steps(resumed) == steps(whole)
    assert not list(Path("out/checkpoint-2").glob("rollout_*"))  # the next step writes its own
    assert [row["step"] for row in steps(whole)] == [1, 2, 3]
    assert steps(whole)[2]["objective/kl"] != 0 and resumed.kl_coef == whole.kl_coef != 0.05
    assert_same(copies(trained(resumed)), copies(trained(whole)), rtol=0, atol=0)


def test_a_checkpoint_in_the_midst_of_a_rollout_goes_on_with_that_rollout():
    whole, resumed = (in_the_midst_of_a_rollout(folder, 5) for folder in (None, "out/checkpoint-3"))
    assert resumed == whole
    # A rollout lasts four steps, of which the first logs it.
    assert [row["step"] for row in resumed if "reward" in row] == [1, 5]
    assert list(Path("out/checkpoint-3").glob("rollout_*"))


def policy_log_probs(model) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(10, 40).unsqueeze(0)).logits.log_softmax(-1)


def test_the_policy_of_a_checkpoint_loads_by_peft_alone():
    trainer = make(max_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    base = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    untrained = policy_log_probs(base)
    loaded = PeftModel.from_pretrained(base, "out/checkpoint-2")
    assert list(loaded.peft_config) == ["default"]
    torch.testing.assert_close(policy_log_probs(loaded), policy_log_probs(trainer.model))
    assert not torch.allclose(policy_log_probs(loaded), untrained, atol=1e-3)
    found = {path.name for path in Path("out/checkpoint-2/critic").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "value_head.safetensors"} <= found


def test_save_model_leaves_the_policy_and_no_critic():
    trainer = make(max_steps=1)
    trainer.train()
    trainer.save_model("saved")
    saved = list(Path("saved").iterdir())
    assert "adapter_model.safetensors" in {path.name for path in saved} and all(path.is_file() for path in saved)
    assert not any(word in path.name for word in ("critic", "value", "ppo", "rollout") for path in saved)
    names = load_file("saved/adapter_model.safetensors").keys()
    assert names and not any("critic" in name.split(".") for name in names)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(STARTER_FOLDER), "saved")
    torch.testing.assert_close(policy_log_probs(loaded), policy_log_probs(trainer.model))


def test_save_model_deletes_nothing_that_it_did_not_write():
    notes = Path("saved/critic/notes.txt")
    notes.parent.mkdir(parents=True)
    notes.write_text("what the critic said")
    make().save_model("saved")
    assert notes.exists()


def test_a_fully_fine_tuned_policy_is_a_plain_model():
    trainer = make({"peft_config": None}, max_steps=2, save_strategy="steps", save_steps=2, learning_rate=1e-3)
    assert trainer.critic.form == "shared"
    trainer.train()
    assert steps(trainer)[0]["objective/kl"] == pytest.approx(0, abs=1e-5)
    trainer.save_model("saved")
    for folder in ("saved", "out/checkpoint-2"):
        loaded, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not report["unexpected_keys"] and not report["missing_keys"] and not report["mismatched_keys"]
        torch.testing.assert_close(policy_log_probs(loaded), policy_log_probs(trainer.model))
    assert (Path("out/checkpoint-2/critic/value_head.safetensors")).exists() and not Path("saved/critic").exists()


# Two processes


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes found, by gloo."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, *("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port)]
    done = subprocess.run(
        [*command, ppo_two_processes.__file__, str(folder)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_do_what_one_does(form, two_processes):
    first, second = (found[form] for found in two_processes)
    one = one_step(*form, processes=1)
    assert not first["rows"].keys() & second["rows"].keys() and len(first["rows"]) == len(ROWS) // 2
    both = first["rows"] | second["rows"]
    assert both.keys() == one["rows"].keys()
    for key, row in one["rows"].items():
        for name, expected in row.items():
            assert both[key][name] == pytest.approx(expected, abs=1e-5), name
    assert_same(first["parameters"], second["parameters"], rtol=0, atol=0)
    for name in ("gradients", "parameters"):
        assert_same(first[name], one[name], rtol=0, atol=1e-5)


def test_two_processes_go_on_in_the_midst_of_a_rollout(two_processes):
    for found in two_processes:
        assert not isinstance(found["resumed"], str), found["resumed"]
        assert [row["step"] for row in found["resumed"] if "reward" in row] == [1]
        for whole, resumed in zip(found["whole"], found["resumed"], strict=True):
            assert resumed == pytest.approx(whole, rel=1e-5, abs=1e-6)


# Rewards, prompts, evaluation


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory) -> Path:
    """A tiny classifier that was never trained: its logits are all over the place, which is enough."""
    folder = tmp_path_factory.mktemp("reward_model")
    tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_labels": 1}
    torch.manual_seed(0)
    settings = Qwen3Config(vocab_size=173, pad_token_id=tokenizer.pad_token_id, initializer_range=1.0, **shape, **heads)
    Qwen3ForSequenceClassification(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("as_module", [False, True])
def test_a_reward_model_judges_prompt_and_completion(as_module, reward_model):
    model = AutoModelForSequenceClassification.from_pretrained(reward_model, num_labels=1)
    seen = []

    def watch(prompts, completions, **kwargs):
        seen.extend(prompt + completion for prompt, completion in zip(prompts, completions, strict=True))
        return [None] * len(prompts)

    trainer = make({"reward_funcs": [model if as_module else str(reward_model), watch], "rollout_func": rollout})
    trainer.train()
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    texts = tokenizer.apply_chat_template(seen, tokenize=False)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    with torch.no_grad():
        expected = model(**inputs).logits[:, 0]
    [row] = steps(trainer)
    assert expected.std() > 0.1
    assert row["reward"] == pytest.approx(expected.mean().item(), abs=1e-4)
    assert row["objective/rlhf_reward"] == pytest.approx(expected.mean().item(), abs=1e-4)


def test_async_and_plain_rewards_add_up_by_their_weights():
    async def slow(completion_ids, **kwargs):
        await asyncio.sleep(0.01)
        return [float(len(ids)) for ids in completion_ids]

    def fast(completion_ids, **kwargs):
        return [float(ids[0]) for ids in completion_ids]

    trainer = make({"reward_funcs": [slow, fast], "rollout_func": rollout}, reward_weights=[2.0, -0.5])
    trainer.train()
    [row] = steps(trainer)
    expected = 2.0 * row["rewards/slow/mean"] - 0.5 * row["rewards/fast/mean"]
    assert row["reward"] == pytest.approx(expected) == row["objective/rlhf_reward"]
    trainer.end()


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_what_no_reward_can_judge_leaves_no_trace(critic):
    """Half of the rows without a verdict train as the other half does alone."""

    def even_only(completion_ids, answer, **kwargs):
        rewards = judge(completion_ids, answer)
        return [reward if int(gold) % 2 == 0 else None for reward, gold in zip(rewards, answer, strict=True)]

    found = []
    for part in (ROWS, ROWS[::2]):
        dataset = Dataset.from_list(part)
        given = {"reward_funcs": even_only, "rollout_func": rollout, "train_dataset": dataset}
        trainer = make(given, critic=critic, per_device_train_batch_size=len(part), max_grad_norm=0.0)
        perturb(trainer)
        kept = KeepGradients(trainer)
        trainer.train()
        found.append((kept.steps[0], steps(trainer)[0]))
    (some, some_metrics), (alone, alone_metrics) = found
    assert_same(some, alone, rtol=1e-4, atol=1e-6)
    for name in (NEW_METRICS - {"objective/kl_coef"}) | {"reward", "loss", "entropy"}:
        assert some_metrics[name] == pytest.approx(alone_metrics[name], rel=1e-4, abs=1e-6), name


def test_a_rollout_that_no_reward_can_judge_changes_nothing():
    trainer = make({"reward_funcs": lambda completions, **kwargs: [None] * len(completions)}, max_steps=2)
    before = copies(trained(trainer))
    trainer.train()
    assert_same(copies(trained(trainer)), before, rtol=0, atol=0)
    assert all(row["loss"] == 0 and row["reward"] is None for row in steps(trainer))


def test_a_rollout_that_no_reward_can_judge_does_not_move_kl_coef():
    trainer = make({"reward_funcs": lambda completions, **kwargs: [None] * len(completions)}, target_kl=0.1)
    trainer.train()
    assert trainer.kl_coef == 0.05


def test_the_critic_begins_at_the_first_return_that_there_is():
    verdicts = iter([None, 5.0])

    def late(completions, **kwargs):
        return [next(verdicts)] * len(completions)

    trainer = make({"reward_funcs": late}, max_steps=2)
    trainer.train()
    assert steps(trainer)[1]["value/mean"] == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("num_generations", [1, 4])
@pytest.mark.parametrize("conversational", [False, True])
def test_columns_reach_the_rewards_of_both_kinds_of_prompts(conversational, num_generations):
    data = [row if conversational else {**row, "prompt": row["prompt"][0]["content"]} for row in ROWS]
    calls = []

    def watch(prompts, completions, completion_ids, answer, **kwargs):
        calls.append((prompts, completions, answer))
        return judge(completion_ids, answer)

    given = {"reward_funcs": watch, "train_dataset": Dataset.from_list(data)}
    trainer = make(given, num_generations=num_generations)
    trainer.train()
    for prompts, completions, answer in calls:
        golds = {str(row["prompt"]): row["answer"] for row in data}
        assert answer == [golds[str(prompt)] for prompt in prompts] and len(prompts) == 8
        assert len(set(answer)) == 8 // num_generations
        texts = [c[0]["content"] if conversational else c for c in completions]
        assert all(isinstance(text, str) for text in texts)
    assert len(calls) == 1
    assert all(math.isfinite(value) for row in steps(trainer) for value in row.values())


def test_completions_are_logged_with_their_advantages(capsys):
    trainer = make({"rollout_func": rollout}, log_completions=True)
    trainer.train()
    table = pd.read_parquet("out/completions/completions_00001.parquet")
    assert len(table) == 8 and {"prompt", "completion", "judge", "advantage"} <= set(table.columns)
    [batch] = trainer._buffered_inputs
    means = (batch["advantages"].sum(1) / batch["completion_mask"].sum(1)).tolist()
    assert sorted(table["advantage"]) == pytest.approx(sorted(means), abs=1e-6)
    assert "Tom has" in capsys.readouterr().out


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_evaluation_logs_its_own_metrics_and_changes_nothing(critic):
    def run(**settings):
        given = {"rollout_func": rollout, "eval_dataset": Dataset.from_list(ROWS)}
        fixed = {"max_steps": 2, "num_iterations": 2, "optim": "sgd", "learning_rate": 0.1}
        trainer = make(given, critic=critic, target_kl=0.1, **fixed, **settings)
        trainer.train()
        return trainer

    plain = run()
    evaluated = run(eval_strategy="steps", eval_steps=1)
    evaluations = [row for row in evaluated.state.log_history if "eval_loss" in row]
    assert len(evaluations) == 2
    wanted = {f"eval_{name}" for name in (NEW_METRICS - {"objective/kl_coef"}) | {"reward", "loss"}}
    for row in evaluations:
        assert wanted <= row.keys() and all(math.isfinite(row[name]) for name in wanted)
    assert_same(copies(trained(evaluated)), copies(trained(plain)), rtol=0, atol=1e-5)
    assert evaluated.kl_coef == pytest.approx(plain.kl_coef) != 0.05


# The reference


def adapted() -> PeftModel:
    """The starter under an adapter that is no longer at its start."""
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(STARTER_FOLDER), lora())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_a_fresh_adapter_starts_at_no_kl():
    trainer = make(max_steps=2)
    trainer.train()
    first, second = (row["objective/kl"] for row in steps(trainer))
    assert first == 0 and abs(second) > 1e-3


def test_training_on_from_an_adapter_stays_near_that_adapter():
    adapted().save_pretrained("adapter")
    base = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    before = policy_log_probs(base)
    model = PeftModel.from_pretrained(base, "adapter", is_trainable=True)
    start = policy_log_probs(model)
    assert (start - before).abs().max() > 0.1
    trainer = make({"model": model, "peft_config": None}, max_steps=2, save_strategy="steps", save_steps=2)
    assert trainer.critic.form == "adapter"
    assert not any(".ref." in name for name in trained(trainer))
    reference = copies({name: p for name, p in model.named_parameters() if ".ref." in name})
    trainer.train()
    first, second = (row["objective/kl"] for row in steps(trainer))
    assert first == 0 and abs(second) > 1e-3
    assert reference and all(torch.equal(model.get_parameter(name), old) for name, old in reference.items())
    assert (policy_log_probs(model) - start).abs().max() > 1e-2
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trained(trainer).values()}


def test_training_on_from_an_adapter_resumes():
    logs = []
    for resume_from in (None, "out/checkpoint-1"):
        given = {"model": adapted(), "peft_config": None, "train_dataset": Dataset.from_list(rows(32))}
        trainer = make(given, max_steps=2, save_strategy="steps", save_steps=1, target_kl=0.1)
        trainer.train(resume_from_checkpoint=resume_from)
        logs.append(steps(trainer))
    assert logs[0] == logs[1]


# Settings


BAD_SETTINGS = [
    ({"lam": 1.1}, r"lam 1.1 is outside \[0, 1\]"),
    ({"lam": -0.1}, r"lam -0.1 is outside"),
    ({"gamma": 2.0}, r"gamma 2.0 is outside"),
    ({"gamma": float("nan")}, r"gamma nan is outside"),
    ({"kl_coef": -0.1}, "kl_coef -0.1: give a number that is 0 or more"),
    ({"vf_coef": -1.0}, "vf_coef -1.0: give a number that is 0 or more"),
    ({"cliprange_value": -0.2}, "cliprange_value -0.2: give a number above 0"),
    ({"missing_eos_penalty": -1.0}, "missing_eos_penalty -1.0: give a number that is 0 or more"),
    ({"critic_learning_rate": -1e-5}, "critic_learning_rate -1e-05: give a number that is 0 or more"),
    ({"beta": 0.04}, "beta 0.04 and kl_coef 0.05 are two KL penalties"),
    ({"critic": "separate"}, "Unknown critic 'separate': one of auto, adapter, shared"),
    ({"kl_estimator": "k2"}, "Unknown kl_estimator 'k2': one of k1, k3"),
    ({"target_kl": 0.1, "kl_coef": 0.0}, "target_kl adapts kl_coef, which is 0"),
    ({"target_kl": 0.0}, "target_kl 0.0: give a number above 0"),
    ({"kl_horizon": 0}, "kl_horizon 0: give a number above 0"),
    *(({"loss_type": loss}, f"loss_type '{loss}' is not PPO's clipped loss") for loss in ("cispo", "luspo", "vespo")),
    ({"importance_sampling_level": "sequence"}, "importance_sampling_level must be 'token'"),
    ({"scale_rewards": "group"}, "scale_rewards is GRPO's"),
    ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation must be sum_then_normalize"),
    ({"per_device_train_batch_size": 1}, "A generation batch of one completion has nothing to whiten"),
    ({"num_generations": 3}, "must be divisible by num_generations"),
]


@pytest.mark.parametrize(("settings", "sentence"), BAD_SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_without_a_meaning_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        config(**settings)
    assert "\n" not in str(refusal.value)


def test_no_generation_at_all_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="num_generations"):
        config(num_generations=0)


def test_an_adapter_critic_needs_a_lora_policy():
    with pytest.raises(ValueError, match="critic='adapter' needs a LoRA policy: give "):
        make({"peft_config": None}, critic="adapter")


def test_the_arguments_of_grpo_are_refused():
    with pytest.raises(TypeError, match="args must be a PPOConfig, not a GRPOConfig"):
        make({"args": GRPOConfig("out", use_cpu=True, bf16=False, report_to="none")})


def test_a_ready_made_optimizer_is_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match="A ready-made optimizer cannot know the critic"):
        make({"optimizers": (optimizer, None)})


def test_a_ready_made_optimizer_is_refused_by_position_too():
    model = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    optimizer = torch.optim.SGD(model.parameters())
    dataset = Dataset.from_list(ROWS)
    with pytest.raises(ValueError, match="A ready-made optimizer cannot know the critic"):
        PPOTrainer(model, judge, config(), dataset, None, None, None, None, (optimizer, None))


def test_the_interface_is_that_of_grpo():
    assert inspect.signature(PPOTrainer.__init__) == inspect.signature(GRPOTrainer.__init__)
    for name, parameter in inspect.signature(GRPOConfig.__init__).parameters.items():
        assert name in inspect.signature(PPOConfig.__init__).parameters, parameter


def test_every_metric_is_there_and_finite():
    trainer = make(target_kl=0.1, max_steps=2)
    trainer.train()
    for row in steps(trainer):
        assert NEW_METRICS | {"loss", "reward", "entropy", "clip_ratio/region_mean"} <= row.keys()
        assert all(math.isfinite(value) for value in row.values()), row
        assert row["objective/rlhf_reward"] == pytest.approx(row["reward"] + row["objective/non_score_reward"])
        assert "frac_reward_zero_std" not in row


def test_the_entropy_bonus_alone_raises_the_entropy():
    """A constant reward leaves no advantage: without a bonus nothing moves."""

    def constant(completions, **kwargs):
        return [1.0] * len(completions)

    def run(entropy_coef: float):
        given = {"reward_funcs": constant, "rollout_func": rollout}
        trainer = make(given, entropy_coef=entropy_coef, kl_coef=0.0, max_steps=2, learning_rate=1e-3)
        trainer.train()
        return [row["entropy"] for row in steps(trainer)], steps(trainer)[-1]

    still, _ = run(0.0)
    rising, last = run(1.0)
    assert still == pytest.approx(still[:1] * 2, abs=1e-6)
    assert rising[1] > rising[0] + 0.01
    assert last["entropy_coef"] == 1.0 and math.isfinite(last["policy_loss"])


@pytest.mark.parametrize(("ratio", "error"), [(1e6, 0.2), (1.1, 0.1), (0.9, -0.1), (1e-6, -0.2)])
def test_kl_coef_follows_the_kl_within_the_published_bounds(ratio, error, kl_of_perturbed):
    """Ziegler et al., 2019: kl_coef *= 1 + clip(KL / target - 1, -0.2, 0.2) * batch / horizon."""
    trainer = drifted(target_kl=kl_of_perturbed / ratio, kl_horizon=100)
    trainer.train()
    [row] = steps(trainer)
    assert row["objective/kl"] == pytest.approx(kl_of_perturbed, rel=1e-5)
    assert row["objective/kl_coef"] == pytest.approx(0.05 * (1 + error * 8 / 100), rel=1e-5) == trainer.kl_coef


def drifted(**settings) -> PPOTrainer:
    """A policy that is not its reference."""
    trainer = make({"rollout_func": rollout}, kl_estimator="k3", learning_rate=0.0, **settings)
    perturb(trainer)
    return trainer


@pytest.fixture(scope="module")
def kl_of_perturbed(tmp_path_factory) -> float:
    trainer = drifted(output_dir=str(tmp_path_factory.mktemp("drifted")))
    return trainer.evaluate(Dataset.from_list(ROWS))["eval_objective/kl"]


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_a_kl_in_the_loss_in_place_of_the_reward(critic):
    trainer = make(beta=0.04, kl_coef=0.0, critic=critic, max_steps=2)
    trainer.train()
    first, second = steps(trainer)
    assert first["kl"] == pytest.approx(0, abs=1e-6) and second["kl"] > 1e-3
    assert first["objective/non_score_reward"] == second["objective/non_score_reward"] == 0


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_in_bfloat16_head_and_values_stay_float32(critic):
    trainer = make(
        {"rollout_func": rollout}, critic=critic, bf16=True, model_init_kwargs={"dtype": "bfloat16"}, max_steps=2
    )
    perturb(trainer)
    trainer.train()
    assert trainer.model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in trainer.critic.head.parameters()} == {torch.float32}
    [batch] = trainer._buffered_inputs
    for name in ("old_values", "returns", "advantages"):
        assert batch[name].dtype == torch.float32, name
        fine = batch[name][batch["completion_mask"].bool()]
        assert not torch.equal(fine, fine.bfloat16().float()), name  # not rounded on the way either
    assert all(math.isfinite(value) for row in steps(trainer) for value in row.values())


def test_a_run_that_goes_on_in_a_later_epoch_sees_that_epochs_order():
    def answers(resume_from=None):
        seen = []

        def judge(completions, answer, **kwargs):
            seen.append(answer)
            return [float(len(text[0]["content"])) for text in completions]

        given = {"train_dataset": Dataset.from_list(rows(24)), "reward_funcs": judge}
        make(given, max_steps=6, save_strategy="steps", save_steps=1, save_total_limit=9).train(resume_from)
        return seen

    whole = answers()
    for step in (2, 3, 5):
        assert answers(f"out/checkpoint-{step}") == whole[step:]


def test_positions_are_the_same_in_every_pass_of_a_model_that_learned_them():
    torch.manual_seed(0)
    vocabulary = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": len(vocabulary), "n_positions": 128}
    model = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    prompts = [{"prompt": "Tom has" + " apples" * i, "answer": "1"} for i in range(20)]
    given = {
        "model": model,
        "processing_class": vocabulary,
        "reward_funcs": lambda completions, **kwargs: [float(len(text)) for text in completions],
        "train_dataset": Dataset.from_list(prompts),
        "peft_config": LoraConfig(target_modules=["c_attn"]),
    }
    trainer = make(given, per_device_train_batch_size=20)
    trainer.train()
    assert trainer.state.log_history[0]["objective/kl"] == pytest.approx(0, abs=1e-4)


def test_a_checkpoint_that_does_not_fit_is_refused_in_a_sentence():
    rollouts = {"per_device_train_batch_size": 4, "steps_per_generation": 2, "save_strategy": "steps"}
    make(max_steps=1, save_steps=1, **rollouts).train()
    with pytest.raises(ValueError, match="in the midst of a rollout"):
        make(max_steps=2, num_iterations=2, **rollouts).train("out/checkpoint-1")
    with pytest.raises(ValueError, match="a critic of the form 'adapter'"):
        make(max_steps=2, critic="shared", **rollouts).train("out/checkpoint-1")
    Path("out/checkpoint-1/ppo_state.json").unlink()
    with pytest.raises(ValueError, match="no checkpoint of a PPOTrainer"):
        make(max_steps=2, **rollouts).train("out/checkpoint-1")


@pytest.mark.parametrize(
    ("given", "settings", "sentence"),
    [
        ({"train_dataset": Dataset.from_list(ROWS[:4])}, {}, "4 rows are fewer than the 8 prompts"),
        ({"train_dataset": Dataset.from_list([row | {"image": 1} for row in ROWS])}, {}, "reads text only"),
        ({}, {"mask_truncated_completions": True, "missing_eos_penalty": 1.0}, "set one or the other"),
        ({}, {"num_generations": None}, "num_generations None"),
        ({}, {"vf_coef": float("nan")}, "vf_coef nan: give a number that is 0 or more"),
        ({"peft_config": LoraConfig(target_modules="all-linear", init_lora_weights="pissa")}, {}, "is the reference"),
    ],
)
def test_what_would_train_wrong_in_silence_is_refused(given, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(given, **settings)


def test_value_clipping_can_be_switched_off():
    trainer = make(cliprange_value=float("inf"))
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["value/loss"])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_an_update_by_the_rollouts_own_pass_has_the_same_gradients(critic, checkpointing):
    def gradients(kept: bool):
        given = {"train_dataset": Dataset.from_list(rows(64)), "rollout_func": rollout}
        trainer = make(given, critic=critic, per_device_train_batch_size=64, gradient_checkpointing=checkpointing)
        perturb(trainer)
        if not kept:
            trainer._updates_once = lambda: False
        keep = KeepGradients(trainer)
        trainer.train()
        assert trainer._kept_pass is None and trainer._pass_to_use is None
        return keep.steps[0]

    assert_same(gradients(kept=True), gradients(kept=False), rtol=1e-4, atol=1e-6)
