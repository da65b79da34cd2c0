"""Every loss on pairs, on the miniature in 4 bits: real trainers, and formulas from the papers worked out by hand."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import logsigmoid
from transformers import AutoTokenizer
from trl import TrlParser

from recipes.errors import InputError
from recipes.generation import Sampling
from recipes.models import STARTER, STARTER_FOLDER, load_model
from recipes.preference import BETAS, LOSSES, PreferenceConfig, preference_trainer
from recipes.qlora import QLoRA

WITH_REFERENCE = LOSSES[:4]
PAIRS = [
    ("Tom has 12 apples.", "<think>12+7=19</think><answer>19</answer>", "<answer>14</answer>"),
    ("Sam has 5 pens and buys 3.", "<answer>8</answer>", "<think>5+3=9</think><answer>9</answer>"),
]
ROWS = Dataset.from_list(
    [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in PAIRS
    ]
)
LORA = LoraConfig(r=4, target_modules="all-linear")
tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)


def config(**given) -> PreferenceConfig:
    here = {"use_cpu": True, "bf16": False, "report_to": "none", "logging_steps": 1, "save_strategy": "no"}
    here["model_init_kwargs"] = {"dtype": "float32"}  # as the recipe has it, though the model is loaded
    steps = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}
    return PreferenceConfig("out", train_sampling_strategy="sequential", **{**here, **steps, **given})


def four_bit():
    return load_model(STARTER, config(), QLoRA(dtype="float32"))


@pytest.fixture
def started():
    """A model with an adapter that does something, and whose weights bfloat16 cannot hold."""
    torch.manual_seed(0)
    model = get_peft_model(four_bit(), LORA)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def lora(model, adapter: str = "default") -> dict:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n and f".{adapter}." in n}


def log_probs(model) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The log probability of each token of the chosen completions, and of the rejected ones."""
    chosen, rejected = [], []
    for prompt, better, worse in PAIRS:
        for completion, found in ((better, chosen), (worse, rejected)):
            asked = tokenizer.encode(f"<|user|>{prompt}<|assistant|>")
            ids = torch.tensor([asked + tokenizer.encode(f"{completion}<|end|>")])
            with torch.no_grad():
                logits = model(input_ids=ids).logits.double()
            tokens = logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            found.append(tokens[len(asked) - 1 :])
    return chosen, rejected


def by_hand(loss: str, policy: tuple, reference: tuple) -> float:
    """The losses as the papers write them, with `BETAS`, gamma 1 and a share of wrong pairs of 0.1."""
    beta, losses = BETAS[loss], []
    for w, v, ref_w, ref_v in zip(*policy, *reference, strict=True):
        h = (w.sum() - ref_w.sum()) - (v.sum() - ref_v.sum())
        means = (w.mean() - ref_w.mean()) - (v.mean() - ref_v.mean())
        if loss == "sigmoid":  # arXiv 2305.18290, eq. 7
            losses.append(-logsigmoid(beta * h))
        elif loss == "ipo":  # arXiv 2310.12036, eq. 17, with means over tokens as TRL has agreed with its authors
            losses.append((means - 1 / (2 * beta)) ** 2)
        elif loss == "sigmoid_norm":  # arXiv 2411.15124, section 5
            losses.append(-logsigmoid(beta * means))
        elif loss == "robust":  # arXiv 2403.00409, section 3
            losses.append((-(1 - 0.1) * logsigmoid(beta * h) + 0.1 * logsigmoid(-beta * h)) / (1 - 2 * 0.1))
        elif loss == "simpo":  # arXiv 2405.14734, eq. 6
            losses.append(-logsigmoid(beta * w.mean() - beta * v.mean() - 1.0))
        else:  # arXiv 2403.07691, eq. 4 to 7; the likelihood is below
            odds_w, odds_v = (p / (1 - p) for p in (w.mean().exp(), v.mean().exp()))
            losses.append(-beta * torch.log(torch.sigmoid(torch.log(odds_w / odds_v))))
    likelihood = -torch.cat(policy[0]).mean() if loss == "orpo" else 0.0
    return float(torch.stack(losses).mean() + likelihood)


def loss_of(trainer) -> float:
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, batch).item()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_papers_before_training_and_later(loss, started):
    reference = log_probs(started)
    trainer = preference_trainer(config(loss_type=loss), started, ROWS, tokenizer)
    assert loss_of(trainer) == pytest.approx(by_hand(loss, reference, reference), rel=1e-4)
    torch.manual_seed(1)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.02
    policy = log_probs(trainer.model)
    later = by_hand(loss, policy, reference)
    assert abs(later - by_hand(loss, reference, reference)) > 1e-3
    assert loss_of(trainer) == pytest.approx(later, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_in_four_bits_and_moves_lora_alone(loss):
    trainer = preference_trainer(config(loss_type=loss), four_bit(), ROWS, tokenizer, LORA)
    frozen = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    first = lora(trainer.model)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)
    assert {n for n, p in trainer.model.named_parameters() if p.requires_grad} == set(first)
    assert sum(p.dtype == torch.uint8 for p in frozen.values()) == 28  # 4-bit
    trainer.train()
    figures = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(figures) == 2 and torch.tensor(figures).isfinite().all() and figures[1] < figures[0]
    assert any((value != first[name]).any() for name, value in lora(trainer.model).items())
    for name, parameter in trainer.model.named_parameters():
        assert name in first or torch.equal(parameter, frozen[name]), name


@pytest.mark.parametrize("loss", ["simpo", "orpo"])
def test_what_is_not_quantized_stays_in_bfloat16_and_the_adapter_in_float32(loss):
    args, models = config(loss_type=loss, model_init_kwargs={"dtype": "bfloat16"}), []
    for _ in range(2):
        model = load_model(STARTER, args, QLoRA())
        torch.manual_seed(len(models))  # as after sampling
        models.append(preference_trainer(args, model, ROWS, tokenizer, LORA).model)
    dtypes = {p.dtype for n, p in models[0].named_parameters() if "lora_" not in n}
    assert dtypes == {torch.uint8, torch.bfloat16}
    assert {p.dtype for p in lora(models[0]).values()} == {torch.float32}
    for name, value in lora(models[0]).items():
        assert torch.equal(value, models[1].get_parameter(name))  # the same seed, the same adapter


@pytest.mark.parametrize("precomputed", [False, True])
def test_the_starting_adapter_is_the_reference(precomputed, started):
    start = lora(started)
    assert any((value.bfloat16().float() != value).any() for value in start.values())
    trainer = preference_trainer(config(precompute_ref_log_probs=precomputed), started, ROWS, tokenizer)
    policy = log_probs(trainer.model)
    assert all(torch.equal(value, start[name]) for name, value in lora(trainer.model).items())
    assert loss_of(trainer) == pytest.approx(0.693147, abs=1e-5)
    batch = next(iter(trainer.get_train_dataloader()))
    for ours, theirs in zip(policy, trainer.compute_ref_log_probs(trainer.model, batch), strict=True):
        torch.testing.assert_close(theirs, torch.stack([t.sum() for t in ours]).float(), rtol=1e-4, atol=1e-4)
    assert trainer.model.active_adapter == "default"
    trainer.train()
    assert all(torch.equal(value, start[n.replace(".ref.", ".default.")]) for n, value in lora(started, "ref").items())
    assert all((value != start[name]).any() for name, value in lora(trainer.model).items())


def test_checkpointing_gives_the_same_gradients_with_two_adapters_in_the_model(started):
    gradients = []
    for checkpointing in (False, True):
        trainer = preference_trainer(config(gradient_checkpointing=checkpointing), started, ROWS, tokenizer)
        if checkpointing:
            trainer.model.gradient_checkpointing_enable()
        trainer.model.train()
        trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))).backward()
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.requires_grad})
        trainer.model.zero_grad()
        trainer.model.delete_adapter("ref")
    assert len(gradients[0]) == 56
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("loss", ["sigmoid", "simpo"])
def test_the_saved_folder_holds_one_adapter_the_trained_policy(loss, started):
    trainer = preference_trainer(config(loss_type=loss), started, ROWS, tokenizer)
    trainer.train()
    trainer.save_model("saved")
    assert [path.parent.name for path in Path("saved").rglob("adapter_model*")] == ["saved"]
    loaded = PeftModel.from_pretrained(four_bit(), "saved")
    assert list(loaded.peft_config) == ["default"]
    for name, value in lora(loaded).items():
        assert torch.equal(value, trainer.model.get_parameter(name)), name
    for ours, theirs in zip(log_probs(trainer.model)[0], log_probs(loaded)[0], strict=True):
        torch.testing.assert_close(theirs, ours)


def test_a_resumed_run_ends_as_a_whole_one_and_keeps_its_reference(started):
    started.save_pretrained("start")

    def run(resume=None):
        model = PeftModel.from_pretrained(four_bit(), "start", is_trainable=True)
        trainer = preference_trainer(config(save_strategy="steps", save_steps=1), model, ROWS, tokenizer)
        trainer.train(resume_from_checkpoint=resume)
        return trainer.model

    whole, again = run(), run("out/checkpoint-1")
    for adapter in ("default", "ref"):
        for name, value in lora(again, adapter).items():
            torch.testing.assert_close(value, whole.get_parameter(name))


TEMPLATES = {  # with the tokens that end an answer, the tokenizer's own the last of them
    "qwen2_5": ["<|im_end|>"],
    "qwen3": ["<|im_end|>"],
    "deepseek_r1_distill": ["<｜end▁of▁sentence｜>"],
    "llama3": ["<|eot_id|>"],
    "gemma": ["<end_of_turn>", "<eos>"],
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_leaves_the_completion_as_it_was_written_and_ends_it_once(template):
    tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    tokenizer.chat_template = (Path(trl.__file__).parent / f"chat_templates/{template}.jinja").read_text()
    tokenizer.add_tokens(TEMPLATES[template])
    tokenizer.eos_token, end = TEMPLATES[template][-1], "".join(TEMPLATES[template])
    if "bos_token" in tokenizer.chat_template:
        tokenizer.add_special_tokens({"bos_token": "<s>"})
    dpo = preference_trainer(config(), four_bit(), ROWS, tokenizer, LORA).train_dataset
    cpo = preference_trainer(config(loss_type="simpo"), four_bit(), ROWS, tokenizer, LORA).train_dataset
    rendered = tokenizer.apply_chat_template(ROWS[0]["prompt"], add_generation_prompt=True, tokenize=False)
    for i, (_, chosen, rejected) in enumerate(PAIRS):
        assert dpo[i]["chosen_ids"] == tokenizer.encode(chosen + end)
        assert dpo[i]["rejected_ids"] == tokenizer.encode(rejected + end)
        for side in ("chosen", "rejected"):
            assert cpo[i][f"{side}_input_ids"] == dpo[i]["prompt_ids"] + dpo[i][f"{side}_ids"]
            assert cpo[i][f"{side}_labels"] == [-100] * len(dpo[i]["prompt_ids"]) + dpo[i][f"{side}_ids"]
    assert dpo[0]["prompt_ids"] == tokenizer.encode(rendered)


def test_a_tokenizer_that_begins_every_text_begins_it_once():
    tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    from tokenizers.processors import TemplateProcessing

    begin = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[begin])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    for loss, prompt in (("sigmoid", "prompt_ids"), ("orpo", "prompt_input_ids")):
        rows = preference_trainer(config(loss_type=loss), four_bit(), ROWS, tokenizer, LORA).train_dataset
        assert rows[0][prompt].index(tokenizer.bos_token_id) == 0
        assert rows[0][prompt].count(tokenizer.bos_token_id) == 1


def test_rows_may_be_whole_conversations_or_text():
    expected = preference_trainer(config(), four_bit(), ROWS, tokenizer, LORA).train_dataset
    whole = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in ROWS]
    text = [{"prompt": f"<|user|>{p}<|assistant|>", "chosen": c, "rejected": r} for p, c, r in PAIRS]
    for rows in (whole, text):
        found = preference_trainer(config(), four_bit(), Dataset.from_list(rows), tokenizer, LORA).train_dataset
        for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
            assert found[name] == expected[name]
    two = [{**ROWS[0], "chosen": ROWS[0]["chosen"] + ROWS[0]["prompt"] + ROWS[0]["chosen"]}]
    with pytest.raises(InputError, match="Pair 0 has several messages"):
        preference_trainer(config(), four_bit(), Dataset.from_list(two), tokenizer, LORA)


@pytest.mark.parametrize("loss", ["sigmoid", "simpo", "orpo"])
def test_a_pair_that_max_length_would_cut_is_left_out(loss, capsys):
    long = ROWS[0]["chosen"][0]["content"] * 3
    rows = Dataset.from_list([*ROWS, {**ROWS[0], "chosen": [{"role": "assistant", "content": long}]}])
    args = config(loss_type=loss, max_length=30)
    trainer = preference_trainer(args, four_bit(), rows, tokenizer, LORA)
    assert len(trainer.train_dataset) == 2 and "1 of 3 pairs are longer than --max_length" in capsys.readouterr().out
    batch = next(iter(trainer.get_train_dataloader()))
    assert trainer.compute_loss(trainer.model, batch).isfinite()
    with pytest.raises(InputError, match="--max_length 3 is shorter than every pair"):
        preference_trainer(config(loss_type=loss, max_length=3), four_bit(), ROWS, tokenizer, LORA)


def test_every_loss_has_its_own_beta_and_a_given_one_wins():
    betas = {"sigmoid": 0.1, "ipo": 0.1, "sigmoid_norm": 5.0, "robust": 0.1, "simpo": 2.0, "orpo": 0.1}
    assert {loss: config(loss_type=loss).beta for loss in LOSSES} == betas
    assert config(loss_type="simpo", beta=2.5).beta == 2.5
    trainer = preference_trainer(
        config(loss_type="simpo", beta=2.5, simpo_gamma=1.5), four_bit(), ROWS, tokenizer, LORA
    )
    assert (trainer.beta, trainer.simpo_gamma, trainer.cpo_alpha, trainer.args.seed) == (2.5, 1.5, 0.0, 42)
    assert trainer.args.max_length > 10**6 and trainer.args.learning_rate == 1e-2
    with pytest.raises(InputError, match="--beta 0"):
        config(beta=0.0)


def test_robust_takes_a_share_of_wrong_pairs_between_0_and_a_half():
    assert config(loss_type="robust").label_smoothing == 0.1
    assert config(loss_type="robust", label_smoothing=0.3).label_smoothing == 0.3
    assert config(loss_type="simpo", label_smoothing=0.2).label_smoothing == 0.2
    assert config(label_smoothing=0.0).label_smoothing == config().label_smoothing == 0.0
    for share in (0.0, 0.5, -0.1):
        with pytest.raises(InputError, match="a share of pairs above 0 and below"):
            config(loss_type="robust", label_smoothing=share)
    for loss in ("sigmoid", "ipo", "sigmoid_norm", "orpo"):
        with pytest.raises(InputError, match=f"has no effect on {loss}"):
            config(loss_type=loss, label_smoothing=0.1)


def test_an_unknown_loss_is_one_sentence():
    with pytest.raises(InputError, match=r"Unknown --loss_type 'simp'\. Did you mean simpo"):
        config(loss_type="simp")


@dataclass
class Mixed(Sampling, PreferenceConfig):
    """As recipes/dpo.py has it."""


@pytest.mark.parametrize("kind", [PreferenceConfig, Mixed])
def test_the_flags_and_the_yaml_of_a_run_give_the_same_config(kind, tmp_path):
    flags = ["--output_dir", "out", "--loss_type", "robust", "--use_cpu", "--bf16", "False"]
    flags += ["--chat_template_kwargs", '{"enable_thinking": false}', "--label_smoothing", "0.2"]
    [first] = TrlParser([kind]).parse_args_and_config(flags)
    assert (first.loss_type, first.beta, first.label_smoothing, first.max_length) == ("robust", 0.1, 0.2, None)
    assert first.chat_template_kwargs == {"enable_thinking": False}
    names = {f.name for f in dataclasses.fields(PreferenceConfig)} - {f.name for f in dataclasses.fields(trl.DPOConfig)}
    assert names == {"simpo_gamma", "chat_template_kwargs"}
    (tmp_path / "config.yaml").write_text(
        "output_dir: out\nloss_type: robust\nlabel_smoothing: 0.2\nuse_cpu: true\nbf16: false\n"
    )
    [again] = TrlParser([kind]).parse_args_and_config(["--config", str(tmp_path / "config.yaml")])
    assert (again.loss_type, again.beta, again.label_smoothing) == (first.loss_type, first.beta, first.label_smoothing)
