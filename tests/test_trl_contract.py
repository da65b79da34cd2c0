"""What recipes/ppo_trainer.py and recipes/critic.py lean on in TRL, transformers, PEFT and accelerate.

A new version of one of them should fail here first, with a sentence that says what moved and what of ours leans on it.
"""

import inspect
from collections import deque
from dataclasses import MISSING, fields

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from recipes.hardware import STARTER_FOLDER
from recipes.ppo_trainer import CLIPPED_LOSSES, PPOConfig, PPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

# What it is, its first parameters, and which of our methods leans on them.
SIGNATURES = [
    (GRPOTrainer.__init__, "self model reward_funcs args", "PPOTrainer.__init__ passes these three on by position"),
    (GRPOTrainer._generate_and_score_completions, "self inputs", "PPOTrainer overrides it"),
    (
        GRPOTrainer._calculate_rewards,
        "self inputs prompts completions completion_ids_list",
        "PPOTrainer overrides it to keep the rewards of each function",
    ),
    (
        GRPOTrainer._get_per_token_logps_and_entropies,
        "self model input_ids attention_mask logits_to_keep batch_size",
        "PPOTrainer overrides it, to read the values of the same pass, and _read and _keep_pass call it",
    ),
    (GRPOTrainer._compute_loss, "self model inputs", "PPOTrainer._compute_loss adds the value loss to it"),
    (
        GRPOTrainer._prepare_inputs,
        "self generation_batch",
        "PPOTrainer restores what it has buffered",
    ),
    (GRPOTrainer._get_train_sampler, "self dataset", "PPOTrainer overrides it, to go on with the right epoch"),
    (GRPOTrainer.training_step, "self model inputs num_items_in_batch", "PPOTrainer overrides it"),
    (GRPOTrainer._save_checkpoint, "self model trial", "PPOTrainer overrides it"),
    (Trainer._save, "self output_dir state_dict", "PPOTrainer overrides it"),
    (Trainer._load_from_checkpoint, "self resume_from_checkpoint model", "PPOTrainer overrides it"),
    (Trainer._clip_grad_norm, "self model", "PPOTrainer overrides it"),
    (Trainer.create_optimizer, "self model", "PPOTrainer overrides it"),
    (Trainer.save_model, "self output_dir", "PPOTrainer._save hears from it"),
    (disable_gradient_checkpointing, "model gradient_checkpointing_kwargs", "_read and _keep_pass call it"),
    (PeftModel.add_adapter, "self adapter_name peft_config", "Critic._add_adapter calls it"),
    (PeftModel.set_adapter, "self adapter_name", "Critic.active calls it"),
    (
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model,
        "module params_and_buffers_to_ignore",
        "Critic._add_adapter keeps the critic's adapter from DistributedDataParallel with it",
    ),
    (Accelerator.reduce, "self tensor reduction", "PPOTrainer._mean and Critic.average_gradients call it"),
    (Accelerator.gather, "self tensor", "PPOTrainer counts the tokens of all processes with it"),
    (Accelerator.backward, "self loss", "PPOTrainer._compute_loss calls it on the value loss"),
    (Accelerator.clip_grad_norm_, "self parameters max_norm", "PPOTrainer._clip_grad_norm calls it"),
    (Accelerator.autocast, "self", "PPOTrainer runs the critic's passes in it"),
]


@pytest.mark.parametrize(("function", "parameters", "leans"), SIGNATURES, ids=lambda x: getattr(x, "__name__", ""))
def test_a_signature(function, parameters, leans):
    found = list(inspect.signature(function).parameters)
    wanted = parameters.split()
    assert found[: len(wanted)] == wanted, f"{function.__qualname__} takes {found} now, not {wanted} first: {leans}."


@pytest.mark.parametrize(
    "name", [name for name in vars(PPOTrainer) if callable(getattr(PPOTrainer, name)) and hasattr(GRPOTrainer, name)]
)
def test_every_method_that_ppo_overrides_was_looked_at_here(name):
    """And none of its own has, by chance, the name of one that TRL has added since."""
    known = {function.__name__ for function, *_ in SIGNATURES}
    assert name in known, f"GRPOTrainer.{name} exists now and PPOTrainer.{name} hides it: rename ours."


# Settings

OWN_SETTINGS = set(
    """
    critic critic_learning_rate kl_coef kl_estimator target_kl kl_horizon gamma lam cliprange_value vf_coef
    missing_eos_penalty bootstrap_truncated
    """.split()
)


def test_the_settings_that_ppo_reads_exist_with_the_defaults_that_it_allows():
    known = {field.name: None if field.default is MISSING else field.default for field in fields(GRPOConfig)}
    used = """
        beta loss_type importance_sampling_level multi_objective_aggregation scale_rewards num_generations
        num_generations_eval generation_batch_size steps_per_generation num_iterations gradient_accumulation_steps
        per_device_train_batch_size per_device_eval_batch_size gradient_checkpointing_kwargs learning_rate weight_decay
        max_grad_norm seed output_dir
    """.split()
    missing = set(used) - known.keys()
    assert not missing, f"GRPOConfig has no {missing} now: PPOConfig.__post_init__ or PPOTrainer reads it."
    taken = OWN_SETTINGS & known.keys()
    assert not taken, f"GRPOConfig has its own {taken} now: PPOConfig gives it another meaning."
    unknown = {field.name for field in fields(PPOConfig)} - known.keys() - OWN_SETTINGS
    assert not unknown, f"PPOConfig has {unknown} beside GRPOConfig: add it to OWN_SETTINGS."
    assert known["beta"] == 0.0, "GRPOConfig.beta is not 0 by default: PPOConfig refuses it beside its own kl_coef."
    assert known["loss_type"] in CLIPPED_LOSSES, "GRPOConfig's default loss is not a clipped one: PPOConfig refuses it."
    assert known["importance_sampling_level"] == "token", "The default ratio is not a token's: PPOConfig refuses it."
    message = "Rewards are not summed first by default: PPOConfig.__post_init__ refuses it."
    assert known["multi_objective_aggregation"] == "sum_then_normalize", message


def small(folder, **settings) -> dict:
    defaults = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "max_completion_length": 8,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "num_generations": 2,
    }
    return defaults | settings


# Rollout and update


class Witness(GRPOTrainer):
    """Overrides what PPOTrainer overrides, and writes down the order and the arguments."""

    def __init__(self, *args, **named):
        self.calls, self.batches = [], []
        super().__init__(*args, **named)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def _note(self, name, *args):
        self.calls.append((name, args))

    def _generate_and_score_completions(self, inputs):
        self._note("generate", inputs)
        batch = super()._generate_and_score_completions(inputs)
        self.batches.append(dict(batch))
        return batch | {"old_values": batch["completion_ids"].float()}

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._note("rewards", rewards, prompts)
        return rewards

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *others, **named):
        hidden = []
        peft = isinstance(self.model, PeftModel)
        backbone = (self.model.get_base_model() if peft else self.model).base_model
        handle = backbone.register_forward_hook(lambda module, args, output: hidden.append(output.last_hidden_state))
        layers = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        with_adapter = not any(layer.disable_adapters for layer in layers)
        result = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *others, **named
        )
        handle.remove()
        self._note("pass", input_ids, logits_to_keep, hidden, with_adapter, result)
        return result

    def _compute_loss(self, model, inputs):
        self._note("loss", inputs, self._step)
        return super()._compute_loss(model, inputs)


ROWS = [{"prompt": f"Tom has {i} apples."} for i in range(8)]


def judge(completions, **kwargs):
    return [float(len(text)) for text in completions]


def undecided(completions, **kwargs):
    return [None if i == 0 else 1.0 for i, _ in enumerate(completions)]


def rollout(prompts, trainer):
    tokenizer = trainer.processing_class
    texts = ["<answer>1</answer><|end|>", "12<|end|>", "345<|end|>", "<answer>4</"]
    completion_ids = [tokenizer(texts[i % 4])["input_ids"] for i in range(len(prompts))]
    return {
        "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
        "completion_ids": completion_ids,
        "logprobs": None,
        "env_mask": [[1] * (len(ids) - 1) + [0] for ids in completion_ids],
    }


def lora() -> LoraConfig:
    return LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def make(folder, named=None, **settings) -> Witness:
    arguments = {"reward_funcs": [judge, undecided], "train_dataset": Dataset.from_list(ROWS), "peft_config": lora()}
    args = GRPOConfig(**small(folder, **settings))
    return Witness(str(STARTER_FOLDER), args=args, **arguments | (named or {}))


@pytest.fixture(scope="module")
def reused(tmp_path_factory):
    """A rollout is trained on four times: two minibatches, two epochs; the fifth update is on another rollout."""
    settings = {"per_device_train_batch_size": 2, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 5}
    folder = tmp_path_factory.mktemp("reused")
    trainer = make(folder, {"rollout_func": rollout}, beta=0.1, learning_rate=1e-2, **settings)
    trainer.train()
    return trainer


def test_a_rollout_is_made_once_for_all_its_minibatches_and_epochs(reused):
    order = [name for name in reused.names() if name in ("generate", "loss")]
    assert order == ["generate", "loss", "loss", "loss", "loss", "generate", "loss"], (
        "A rollout is not made every steps_per_generation * num_iterations minibatches: by that PPOTrainer._save knows "
        "whether one is still in use."
    )
    steps = [args[1] for name, args in reused.calls if name == "loss"]
    assert steps == [0, 1, 2, 3, 4] and reused._step == 5, (
        f"_step was {steps} in the updates: PPOTrainer saves and restores it as the count of training steps."
    )
    assert isinstance(reused._buffered_inputs, list) and len(reused._buffered_inputs) == 2, (
        "_buffered_inputs is no list of minibatches now: PPOTrainer saves it in the midst of a rollout."
    )


def test_in_a_rollout_the_policy_reads_first_then_the_reference_then_the_rewards_are_made(reused):
    assert reused.names()[:4] == ["generate", "pass", "pass", "rewards"], (
        f"A rollout does {reused.names()[:4]} now: PPOTrainer takes the first pass for the policy's."
    )
    [policy, reference] = [args for name, args in reused.calls if name == "pass"][:2]
    assert policy[3] and not reference[3], (
        "The policy's pass is not the one with its adapter, or the reference's is: PPOTrainer._kl leans on both."
    )


def test_a_pass_goes_through_the_backbone_once_per_chunk_and_ends_in_hidden_states(reused):
    whole, in_loss = ([args for name, args in reused.calls if name == "pass"][i] for i in (0, 2))
    for (input_ids, kept, hidden, _, result), chunks in ((whole, 2), (in_loss, 1)):
        assert len(hidden) == chunks, (
            f"The backbone ran {len(hidden)} times in a pass of {chunks} chunks: Critic.watch reads the values there."
        )
        assert torch.cat(hidden).shape[:2] == input_ids.shape, (
            "last_hidden_state is not of every position: Critic.watch counts them from the end."
        )
        assert len(result) == 3 and result[0].shape == (len(input_ids), kept), (
            "A pass does not return three things, log-probs of the completion first: PPOTrainer unpacks them so."
        )


def test_a_batch_has_what_ppo_reads(reused):
    always = {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"}
    in_use = reused.batches[0]
    for name in always:
        assert name in in_use, f"A batch has no {name!r} now: PPOTrainer reads or replaces it."
    assert "tool_mask" in in_use, "What a tool wrote is not in tool_mask now: _token_mask leaves it out by that."
    assert in_use["old_per_token_logps"].shape == in_use["completion_ids"].shape, (
        "old_per_token_logps of a reused rollout is missing or not (B, T): PPOTrainer takes it for the policy's."
    )
    assert in_use["ref_per_token_logps"].shape == in_use["completion_ids"].shape, (
        "ref_per_token_logps is missing or not (B, T) with a beta: PPOTrainer makes the KL reward of it."
    )
    assert in_use["num_items_in_batch"].dim() == 0, "num_items_in_batch is no scalar: PPOTrainer replaces it by one."
    counted = (in_use["completion_mask"] * in_use["tool_mask"]).sum()
    assert in_use["num_items_in_batch"] == counted, (
        "num_items_in_batch is not the count of the tokens that count: PPOTrainer counts it anew without the unjudged."
    )


def test_a_batch_is_padded_on_the_outside(reused):
    prompt, completion = (reused.batches[0][name] for name in ("prompt_mask", "completion_mask"))
    assert (prompt.diff(dim=1) >= 0).all() and prompt[:, -1].all(), (
        "Prompts are not padded on the left now: Critic.values counts its positions from the end of the prompt."
    )
    assert (completion.diff(dim=1) <= 0).all() and completion[:, 0].all(), (
        "Completions are not padded on the right now: PPOTrainer finds their last token by their length."
    )


def test_rewards_are_a_column_for_each_function_and_nan_for_none(reused):
    rewards, prompts = next(args for name, args in reused.calls if name == "rewards")
    assert rewards.shape == (len(prompts), 2), (
        f"_calculate_rewards returns {tuple(rewards.shape)} for 4 prompts and 2 functions in one process: "
        "PPOTrainer cuts its own rows out of those of all processes."
    )
    assert rewards[0].isnan().tolist() == [False, True], (
        "A reward of None is not NaN now: PPOTrainer leaves out a completion whose rewards are all NaN."
    )


def loss_of(trainer: Witness, **changed) -> torch.Tensor:
    inputs = trainer._buffered_inputs[0]
    with torch.no_grad():
        return GRPOTrainer._compute_loss(trainer, trainer.model, inputs | changed)


@pytest.mark.parametrize("loss_type", CLIPPED_LOSSES)
def test_advantages_may_be_of_tokens(reused, loss_type, monkeypatch):
    monkeypatch.setattr(reused, "loss_type", loss_type)
    completions = torch.tensor([1.5, -0.5])
    tokens = completions.unsqueeze(1).expand(reused._buffered_inputs[0]["completion_ids"].shape)
    torch.testing.assert_close(
        loss_of(reused, advantages=tokens),
        loss_of(reused, advantages=completions),
        msg=lambda text: f"_compute_loss takes no advantages of shape (B, T) now, PPOTrainer passes such: {text}",
    )
    first = torch.zeros_like(tokens).index_fill(1, torch.tensor([0]), 1.0)
    assert loss_of(reused, advantages=first) != loss_of(reused, advantages=torch.ones(2)), (
        "_compute_loss reads only one advantage of a completion: PPOTrainer has one for each token."
    )


def test_the_reference_and_the_kl_loss_follow_the_attribute_beta(reused, monkeypatch):
    with_kl = loss_of(reused)
    monkeypatch.setattr(reused, "beta", 0.0)
    assert loss_of(reused, ref_per_token_logps=None) != with_kl, (
        "_compute_loss does not read self.beta now: PPOTrainer sets it to args.beta in updates."
    )
    batch = GRPOTrainer._generate_and_score_completions(reused, [dict(row) for row in ROWS[:4]])
    assert batch.get("ref_per_token_logps") is None, (
        "A rollout does not read self.beta now: PPOTrainer sets it there so that TRL computes the reference."
    )


def test_metrics_and_logs_are_kept_where_ppo_changes_them(reused):
    reused._metrics["train"].clear()
    for _ in range(2):
        batch = GRPOTrainer._generate_and_score_completions(reused, [dict(row) for row in ROWS[:4]])
    metrics = reused._metrics
    assert set(metrics) == {"train", "eval"}, "_metrics is not kept by train and eval: _log_rollout adds to it."
    assert metrics["train"]["a new one"] == [], "_metrics makes no list for a new name: _log_rollout appends."
    assert "frac_reward_zero_std" in metrics["train"], (
        "TRL logs no frac_reward_zero_std now: PPOTrainer takes it out, for groups of one it says nothing."
    )
    logged = reused._logs["advantages"]
    assert isinstance(logged, deque) and logged.maxlen == reused.args.generation_batch_size, (
        "_logs['advantages'] is no deque of a generation batch now: PPOTrainer replaces its end."
    )
    assert list(logged)[-4:] == pytest.approx(batch["advantages"].tolist()), (
        "_logs['advantages'] does not end in the advantages of this rollout: PPOTrainer replaces just those."
    )
    assert len(reused._logs["prompt"]) == len(reused._logs["completion"]) == len(logged), (
        "_logs has not as many advantages as completions: the recipes write both to samples/."
    )


def test_what_ppo_reads_of_the_trainer_exists(reused):
    assert reused.eos_token_ids == [reused._tokenizer.eos_token_id] and reused._tokenizer.pad_token_id == 0, (
        "eos_token_ids or _tokenizer is not what it was: PPOTrainer._scores tells by them what was cut off."
    )
    assert reused.reward_weights.tolist() == [1.0, 1.0], (
        "reward_weights is no tensor of a weight for each function: PPOTrainer._scores sums with it."
    )
    assert reused._is_vlm is False, "_is_vlm does not say that a model reads text: PPOTrainer refuses images by it."
    refused = (reused.is_deepspeed_enabled, reused.is_fsdp_enabled)
    assert refused == (False, False), "is_deepspeed_enabled or is_fsdp_enabled: PPOTrainer refuses both."
    assert reused.num_generations == 2 and reused.num_iterations == 2, (
        "num_generations or num_iterations is no attribute of the trainer now: PPOTrainer reads both."
    )
    card = (GRPOTrainer._tag_names, GRPOTrainer._name, sorted(GRPOTrainer._paper))
    assert card == (["trl", "grpo"], "GRPO", ["citation", "id", "title"]), (
        "The model card is not made of _tag_names, _name and _paper now: PPOTrainer has its own."
    )


def test_no_attribute_of_ppo_is_one_of_trl(reused):
    own = {"critic", "kl_coef", "_kept_pass", "_pass_to_use", "_rewards_per_func", "_window_begins", "_in_checkpoint"}
    taken = {name for name in own if hasattr(reused, name)}
    assert not taken, f"GRPOTrainer has an attribute {taken} of its own now: PPOTrainer sets it to something else."


def test_a_whole_model_gets_a_reference_for_a_beta_and_an_adapter_gets_a_copy(tmp_path):
    for beta in (0.0, 0.1):
        trainer = make(tmp_path, {"peft_config": None}, beta=beta)
        assert (trainer.ref_model is not None) == bool(beta), (
            "TRL does not keep a reference model exactly for a beta: PPOTrainer.__init__ passes kl_coef on as one."
        )
    hidden = []
    handle = trainer.model.base_model.register_forward_hook(lambda *args: hidden.append(1))
    trainer._get_per_token_logps_and_entropies(trainer.ref_model, torch.ones(1, 4).long(), torch.ones(1, 4).long(), 2)
    handle.remove()
    assert not hidden, "The reference runs in the policy's backbone: PPOTrainer takes no values from its pass."

    trained = get_peft_model(AutoModelForCausalLM.from_pretrained(STARTER_FOLDER), lora())
    args = GRPOConfig(**small(tmp_path, beta=0.1))
    trainer = GRPOTrainer(trained, judge, args, Dataset.from_list(ROWS))
    assert list(trainer.model.peft_config) == ["default", "ref"] and trainer.model.active_adapter == "default", (
        "The reference of a ready adapter is not its copy 'ref' now: PPOTrainer's KL would be to the base model."
    )


# PEFT: the critic's adapter beside the policy's


def two_adapters() -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    model = get_peft_model(base, lora())
    model.add_adapter("critic", lora())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.01 if ".critic." in name else 0.02)
    return model


IDS = torch.arange(10, 20).unsqueeze(0)


def hidden(model) -> torch.Tensor:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return base.base_model(input_ids=IDS, use_cache=False).last_hidden_state.detach()


def trainable(model, adapter: str) -> set[bool]:
    return {p.requires_grad for name, p in model.named_parameters() if f".{adapter}." in name}


def test_set_adapter_swaps_and_freezes_the_others():
    model = two_adapters()
    outputs = {}
    for active, other in (("critic", "default"), ("default", "critic")):
        model.set_adapter(active)
        outputs[active] = hidden(model)
        assert trainable(model, active) == {True}, f"set_adapter leaves {active} frozen: Critic.active trains it."
        assert trainable(model, other) == {False}, (
            f"set_adapter no longer freezes {other}: the value loss would reach the policy's adapter in Critic.active."
        )
    assert not torch.equal(outputs["critic"], outputs["default"]), "set_adapter does not swap: Critic.active is that."


def test_an_adapter_is_saved_in_a_folder_of_its_name_and_the_policy_outside(tmp_path):
    two_adapters().save_pretrained(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.safetensors")}
    assert found == {"adapter_model.safetensors", "critic/adapter_model.safetensors"}, (
        f"save_pretrained writes {found} now: PPOTrainer._save takes critic/ away, and Critic.save adds its head there."
    )


def test_loading_a_checkpoint_fills_both_adapters_in_place(tmp_path):
    trainer = make(tmp_path)
    model = trainer.model
    model.add_adapter("critic", lora())
    saved = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}
    model.save_pretrained(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "critic" / "value_head.safetensors").touch()  # as Critic.save
    parameters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    for parameter in parameters.values():
        parameter.data.fill_(7.0)
    trainer._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter is parameters[name], (
                f"Loading replaces the parameter {name}: Critic.adapter_parameters holds the one that was."
            )
            assert torch.equal(parameter, saved[name]), f"{name} is not loaded: PPO goes on from both adapters."
    assert model.active_adapter == "default" and trainable(model, "default") == {True}, (
        "The policy's adapter is not active and trained after loading: PPOTrainer leaves that to transformers."
    )


# torch, transformers and accelerate


def test_the_backbone_of_a_causal_model_is_its_base_model():
    model = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    assert isinstance(model.base_model, PreTrainedModel) and model.base_model is not model, (
        "base_model is not the backbone now: Critic runs it, and watches it in TRL's pass."
    )
    assert hidden(model).shape[-1] == model.config.get_text_config().hidden_size, (
        "The last hidden states are not hidden_size wide: Critic's head is."
    )
    torch.testing.assert_close(
        model.lm_head(hidden(model)),
        model(input_ids=IDS).logits,
        msg=lambda text: f"last_hidden_state is not what the LM head reads: Critic's head reads it. {text}",
    )
