"""PPO (Schulman et al., 2017) for language models on GRPOTrainer's interface, one base model for all four roles.

    trainer = PPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=correctness_reward,
        args=PPOConfig("runs/ppo"),
        train_dataset=rows,
        peft_config=LoraConfig(target_modules="all-linear"),
    )

Actor: the LoRA adapter on the base model. Reference: the base model without it. Critic: a value head, on a LoRA adapter
of its own or on the actor's hidden states (recipes/critic.py). Rewards: functions or reward models, as for GRPOTrainer.
TRL generates, scores and clips the policy loss; here is what makes it PPO: a KL reward for every token, GAE, whitened
advantages, the clipped value loss. The details are those of Huang et al., 2024 (2403.17031) and Ouyang et al., 2022.
"""

import functools
import inspect
import json
import math
import os
import textwrap
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from peft import PeftModel
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from recipes.critic import ADAPTER, Critic, can_have_adapter
from recipes.gae import compute_gae

CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")  # they differ in how tokens are averaged
TEXT_ONLY = "PPOTrainer reads text only: give it a model, a processing_class and a data set for text."
NEEDS_LORA = "critic='adapter' needs a LoRA policy: give peft_config=LoraConfig(...), or critic='shared'."
CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initializations of LoRA
ROWS = 16  # in a pass: more would differ in length, and be padded
STATE = "ppo_state.json"
ROLLOUT = "rollout_{process}.pt"


@dataclass
class PPOConfig(GRPOConfig):
    """GRPOConfig with PPO's own settings. Raises `ValueError` for those that have no meaning.

    TRL's settings mean what they mean for GRPO: `epsilon` clips the policy's ratio, `num_iterations` is the epochs over
    a rollout, `steps_per_generation` over `gradient_accumulation_steps` its minibatches, `entropy_coef` the entropy
    bonus. `scale_rewards` has no use.
    """

    num_generations: int | None = field(
        default=1, metadata={"help": "Completions of one prompt in a rollout; PPO needs no group."}
    )
    scale_rewards: str = field(
        default="none", metadata={"help": "GRPO's; PPO whitens the advantages over the generation batch."}
    )
    critic: str = field(
        default="auto",
        metadata={
            "help": "adapter: a LoRA adapter of its own on the same base model; shared: a head on the policy's hidden "
            "states, in the same forward pass; auto: adapter if the policy is a LoRA adapter, else shared.",
            "choices": ["auto", "adapter", "shared"],
        },
    )
    critic_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of the critic; 5 times --learning_rate by default, to lead the policy."},
    )
    kl_coef: float = field(
        default=0.05, metadata={"help": "Weight of the KL to the reference, which each token's reward is reduced by."}
    )
    kl_estimator: str = field(
        default="k1",
        metadata={"help": "k1: the log-ratio, unbiased; k3: never negative, less noise.", "choices": ["k1", "k3"]},
    )
    target_kl: float | None = field(
        default=None, metadata={"help": "Adapt kl_coef so that a completion's KL stays near this, in nats."}
    )
    kl_horizon: int = field(
        default=200, metadata={"help": "With target_kl: in so many completions kl_coef moves by a fifth at most."}
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount of later rewards."})
    lam: float = field(default=0.95, metadata={"help": "GAE: 0 trusts the critic, 1 the rewards."})
    cliprange_value: float = field(
        default=0.2,
        metadata={"help": "How far a value may move from the rollout's before it is clipped; inf: never."},
    )
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    missing_eos_penalty: float | None = field(
        default=None, metadata={"help": "Taken from the reward of a completion that was cut off."}
    )
    bootstrap_truncated: bool = field(
        default=False, metadata={"help": "A completion that was cut off is worth what the critic expects of its rest."}
    )

    def __post_init__(self):
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is outside [0, 1].")
        for name in ("kl_coef", "vf_coef", "missing_eos_penalty", "critic_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} {value}: give a number that is 0 or more.")
        for name in ("target_kl", "kl_horizon", "cliprange_value"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: give a number above 0.")
        for name, known in (("critic", ("auto", "adapter", "shared")), ("kl_estimator", ("k1", "k3"))):
            if getattr(self, name) not in known:
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}: one of {', '.join(known)}.")
        if self.beta != 0 and self.kl_coef != 0:
            raise ValueError(
                f"beta {self.beta} and kl_coef {self.kl_coef} are two KL penalties, in the loss and in the reward: "
                "set one of them to 0."
            )
        if self.target_kl is not None and self.kl_coef == 0:
            raise ValueError("target_kl adapts kl_coef, which is 0: give kl_coef a first value above 0.")
        if self.loss_type not in CLIPPED_LOSSES:
            raise ValueError(f"loss_type {self.loss_type!r} is not PPO's clipped loss: {', '.join(CLIPPED_LOSSES)}.")
        if self.importance_sampling_level != "token":
            raise ValueError("PPO has an advantage for every token: importance_sampling_level must be 'token'.")
        if self.scale_rewards not in ("none", False):
            raise ValueError("scale_rewards is GRPO's; PPO whitens its advantages: leave it at 'none'.")
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError("PPO adds weighted rewards up: multi_objective_aggregation must be sum_then_normalize.")
        if self.mask_truncated_completions and (self.missing_eos_penalty or self.bootstrap_truncated):
            raise ValueError(
                "mask_truncated_completions leaves out what missing_eos_penalty and bootstrap_truncated judge: "
                "set one or the other."
            )
        if not self.num_generations or self.num_generations < 1:
            raise ValueError(f"num_generations {self.num_generations}: give 1 or more.")
        if self.num_generations > 1:
            super().__post_init__()
            return
        # GRPOConfig insists on groups: the whole generation batch passes its checks as one.
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        batch = self.per_device_train_batch_size * steps * int(os.environ.get("WORLD_SIZE", 1))
        self.num_generations = self.generation_batch_size or batch
        if self.num_generations < 2:
            raise ValueError("A generation batch of one completion has nothing to whiten: take 2 or more.")
        self.num_generations_eval = self.num_generations_eval or 1
        super().__post_init__()
        self.num_generations = 1


class PPOTrainer(GRPOTrainer):
    """GRPOTrainer with a critic: the same arguments, `args` a `PPOConfig`; text prompts.

    Raises `ValueError` or `TypeError` at construction for what it cannot train.

    Attributes:
        critic (`Critic`): the value head and, with `critic="adapter"`, the adapter called "critic".
        kl_coef (`float`): the weight of the KL reward now; it moves with `target_kl`.
    """

    _epochs_done = 0  # by the run that this one goes on from
    _tag_names = ["trl", "ppo"]
    _name = "PPO"
    _paper = {
        "title": "Proximal Policy Optimization Algorithms",
        "id": "1707.06347",
        "citation": textwrap.dedent("""\
            @article{schulman2017proximal,
                title        = {{Proximal Policy Optimization Algorithms}},
                author       = {John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov},
                year         = 2017,
                eprint       = {arXiv:1707.06347},
            }"""),
    }

    @functools.wraps(GRPOTrainer.__init__)
    def __init__(self, model, reward_funcs=None, args=None, *others, **named):
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = PPOConfig(f"{Path(name).name}-PPO")
        if not isinstance(args, PPOConfig):
            raise TypeError(f"args must be a PPOConfig, not a {type(args).__name__}.")
        given = inspect.signature(GRPOTrainer).bind(model, reward_funcs, args, *others, **named).arguments
        if given.get("optimizers", (None,))[0] is not None:
            raise ValueError("A ready-made optimizer cannot know the critic, which is made here: use args.optim.")
        if args.critic == "adapter" and not given.get("peft_config") and not isinstance(model, PeftModel):
            raise ValueError(NEEDS_LORA)
        if isinstance(model, PeftModel) and model.active_adapter != "default":
            raise ValueError(f"The policy's adapter is called {model.active_adapter!r}: TRL wants it called 'default'.")
        data = given.get("train_dataset")
        if {"image", "images"} & set(getattr(data, "column_names", None) or ()):
            raise ValueError(TEXT_ONLY)
        prompts = args.generation_batch_size // args.num_generations
        if isinstance(data, Dataset) and len(data) < prompts:
            raise ValueError(f"{len(data)} rows are fewer than the {prompts} prompts of a generation batch.")
        start = getattr(given.get("peft_config"), "init_lora_weights", True)
        if (args.kl_coef or args.beta) and str(start).lower().startswith(CHANGE_THE_BASE):
            raise ValueError(
                f"init_lora_weights={start!r} changes the base model, which is the reference: set it to True."
            )
        beta, args.beta = args.beta, args.beta or args.kl_coef  # TRL keeps a reference only for a beta
        try:
            super().__init__(model, reward_funcs, args, *others, **named)
        finally:
            args.beta = beta
        self.beta, self.kl_coef = beta, args.kl_coef
        if self._is_vlm:
            raise ValueError(TEXT_ONLY)
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError("PPOTrainer runs in one process or with plain data parallelism, not on DeepSpeed or FSDP.")
        form = args.critic
        if form == "auto":
            form = "adapter" if can_have_adapter(self.model) else "shared"
        if form == "adapter" and not can_have_adapter(self.model):
            raise ValueError(NEEDS_LORA)
        self.critic = Critic(self.model, form, args.seed)
        self._kept_pass = self._pass_to_use = None  # a rollout's log-probabilities, entropies and values, with graph
        self._rewards_per_func = None
        self._window_begins = True
        self._in_checkpoint = False

    def _get_train_sampler(self, dataset=None):
        return after_epochs(self._epochs_done, super()._get_train_sampler(dataset))

    # Rollout: TRL generates and scores; its advantages are replaced by those of PPO.

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        first = self.accelerator.process_index * len(prompts)
        self._rewards_per_func = rewards[first : first + len(prompts)]
        return rewards

    def _get_per_token_logps_and_entropies(self, *inputs, **named):
        if self._pass_to_use is not None:
            return *self._pass_to_use[:2], None
        return super()._get_per_token_logps_and_entropies(*inputs, **named)

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        log_probs, reference, values = self._read(batch)

        # A completion that no reward could judge leaves no trace: none of its tokens counts.
        judged = ~torch.isnan(self._rewards_per_func).all(dim=1)
        batch["completion_mask"] = batch["completion_mask"] * judged.unsqueeze(1)
        mask = _token_mask(batch)
        batch["num_items_in_batch"] = self.accelerator.gather(mask.sum()).sum()
        if batch.get("old_per_token_logps") is not None:
            batch["old_per_token_logps"] = batch["old_per_token_logps"] * mask  # TRL's new ones are 0 there too

        kl = self._kl(log_probs, reference) * mask
        scores, truncated = self._scores(batch)
        last = mask.size(1) - 1 - mask.flip(1).argmax(dim=1, keepdim=True)  # of each row's tokens that count
        rewards = (-self.kl_coef * kl).scatter_add(1, last, scores)
        if self.model.training and self.critic.is_new and batch["num_items_in_batch"]:
            begin = self.critic.begin_at(self._mean(rewards.sum(1), mask.any(1)))
            values = values + begin
            if self._kept_pass is not None:
                self._kept_pass[2] = self._kept_pass[2] + begin
        if self.args.bootstrap_truncated:  # what the critic expects of a rest that was never written
            length = batch["completion_mask"].sum(dim=1, keepdim=True)
            rewards = rewards.scatter_add(1, last, self.args.gamma * values.gather(1, length) * truncated)
        values = values[:, :-1] * mask

        advantages = compute_gae(rewards, values, mask, self.args.gamma, self.args.lam)
        batch["old_values"], batch["returns"] = values, advantages + values
        mean, std = self._mean_and_std(advantages, mask)
        batch["advantages"] = (advantages - mean) * mask / (std**2 + 1e-8).sqrt()
        self._log_rollout(batch, kl, scores.squeeze(1), std)
        return batch

    def _scores(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """What each completion earns at its end, and whether it was cut off: `(B, 1)` each."""
        length = batch["completion_mask"].sum(dim=1, keepdim=True).clamp(min=1)
        ends = torch.tensor([*self.eos_token_ids, self._tokenizer.pad_token_id], device=length.device)
        truncated = ~torch.isin(batch["completion_ids"].gather(1, length - 1), ends)
        scores = (self._rewards_per_func * self.reward_weights.to(length.device)).nansum(dim=1, keepdim=True)
        return scores - (self.args.missing_eos_penalty or 0) * truncated, truncated

    def _log_rollout(self, batch: dict, kl: torch.Tensor, scores: torch.Tensor, std: torch.Tensor) -> None:
        """The metrics that README.md explains; and kl_coef moves."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        mask, values, returns = _token_mask(batch), batch["old_values"], batch["returns"]
        rows = mask.any(dim=1)
        if not batch["num_items_in_batch"]:  # nothing could be judged
            return
        _, return_std = self._mean_and_std(returns, mask)
        _, error_std = self._mean_and_std(returns - values, mask)
        if return_std > 1e-4:  # else there is nothing to explain
            metrics["value/explained_variance"].append(1 - (error_std / return_std).item() ** 2)
        metrics["value/mean"].append(self._mean(values, mask))
        metrics["returns/mean"].append(self._mean(returns, mask))
        metrics["advantages/std"].append(std.item())
        kl = self._mean(kl.sum(1), rows)
        metrics["objective/non_score_reward"].append(-self.kl_coef * kl)
        metrics["objective/rlhf_reward"].append(self._mean(scores, rows) - self.kl_coef * kl)
        if self.kl_coef:
            metrics["objective/kl"].append(kl)
        if self.args.target_kl is not None and self.model.training:
            self._adapt_kl_coef(kl)
            metrics["objective/kl_coef"].append(self.kl_coef)
        if self.num_generations == 1:
            metrics.pop("frac_reward_zero_std", None)  # every group of one
        # In place of GRPO's advantages, logged with the completions: the mean over a completion's tokens.
        advantages = batch["advantages"].sum(1) / mask.sum(1).clamp(min=1)
        advantages, logged = self.accelerator.gather(advantages).tolist(), self._logs["advantages"]
        for _ in range(min(len(advantages), len(logged))):
            logged.pop()
        logged.extend(advantages)

    @torch.no_grad()
    def _read(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The rollout's log-probabilities by the policy and by the reference, `(B, T)`, and its values, `(B, T + 1)`.

        The value at t is of the state before token t, the last of that after all tokens. Without a KL reward both
        log-probabilities are 0.
        """
        shared = self.critic.form == "shared"
        values = torch.nn.functional.pad(torch.zeros_like(batch["completion_ids"], dtype=torch.float32), (0, 1))
        log_probs, reference = torch.zeros_like(values[:, 1:]), torch.zeros_like(values[:, 1:])
        by_policy = bool(self.kl_coef) or shared
        if batch.get("old_per_token_logps") is not None and not shared:
            log_probs, by_policy = batch["old_per_token_logps"].float(), False
        if by_policy and self._updates_once():
            log_probs, values = self._keep_pass(batch)
            by_policy = False
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            for rows, *sequences, length in self._chunks(batch):
                if by_policy:
                    with self._watch(length + 1) as seen:
                        found, _, _ = self._get_per_token_logps_and_entropies(self.model, *sequences, length)
                    log_probs[rows, :length] = found.float()
                if shared and by_policy:
                    values[rows, : length + 1] = seen[0]
                elif not shared:
                    with self.critic.active(), self.accelerator.autocast():
                        values[rows, : length + 1] = self.critic.values(*sequences, length + 1)
                if self.kl_coef:
                    with self._reference() as model:
                        found, _, _ = self._get_per_token_logps_and_entropies(model, *sequences, length)
                    reference[rows, :length] = found.float()
        return (log_probs, reference, values) if self.kl_coef else (reference, reference, values)

    def _updates_once(self) -> bool:
        """The rollout is one minibatch, trained on once: the update can use the rollout's pass of the policy."""
        once = self.args.steps_per_generation * self.num_iterations == 1 and self.accelerator.num_processes == 1
        # The critic's own graph is of `ROWS` rows: beside a policy's of many it is small.
        small = self.critic.form == "shared" or self.args.per_device_train_batch_size >= 4 * ROWS
        return once and small and self.model.training and not self.aux_loss_enabled

    def _keep_pass(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """A pass of the policy that can be walked back in the update, which saves one."""
        input_ids, attention_mask, length = _whole_sequences(batch)
        with torch.enable_grad(), self._watch(length + 1) as seen:
            log_probs, entropies, _ = self._get_per_token_logps_and_entropies(
                self.model, input_ids, attention_mask, length, compute_entropy=True
            )
        values = seen[0] if seen else torch.zeros_like(torch.nn.functional.pad(log_probs, (0, 1)))
        self._kept_pass = [log_probs, entropies, values]
        batch["rows"] = torch.arange(len(input_ids), device=input_ids.device)  # TRL shuffles a rollout
        return log_probs.detach().float(), values.detach().clone()

    def _watch(self, last: int):
        """Values of the policy's passes inside, where the critic is made of them."""
        return self.critic.watch(last) if self.critic.form == "shared" else nullcontext([])

    @contextmanager
    def _reference(self):
        """The model whose policy is the reference: TRL's copy, or without LoRA's adapter, or with its first state."""
        if self.ref_model is not None:
            yield self.ref_model
        else:
            model = self.accelerator.unwrap_model(self.model)
            with use_adapter(model, "ref" if "ref" in model.peft_config else None):
                yield self.model

    def _chunks(self, batch: dict):
        """Sequences of similar length, a few at a time and without the padding that they share: less is in vain.

        Padding on the left stays unless positions are rotary: other models would count theirs anew. Yields their rows
        in the batch, prompts with completions, the attention mask, and the length of the completions.
        """
        size = self.args.per_device_train_batch_size if self.model.training else self.args.per_device_eval_batch_size
        rotary = getattr(self.model.config.get_text_config(), "rope_parameters", None) is not None
        before, after = batch["prompt_mask"].sum(dim=1), batch["completion_mask"].sum(dim=1)
        for rows in (before + after).argsort(descending=True, stable=True).split(min(size, ROWS)):
            start = batch["prompt_mask"].size(1) - int(before[rows].max()) if rotary else 0
            length = max(int(after[rows].max()), 1)
            parts = [("prompt_ids", "completion_ids"), ("prompt_mask", "completion_mask")]
            yield rows, *(torch.cat([batch[a][rows, start:], batch[b][rows, :length]], dim=1) for a, b in parts), length

    def _kl(self, log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The KL to the reference at each sampled token (Schulman, "Approximating KL Divergence", 2020)."""
        log_ratio = log_probs - reference
        return log_ratio if self.args.kl_estimator == "k1" else torch.exp(-log_ratio) - 1 + log_ratio

    def _adapt_kl_coef(self, kl: float) -> None:
        """Ziegler et al., 2019 (1909.08593), 2.2: a proportional controller of log kl_coef."""
        error = min(max(kl / self.args.target_kl - 1, -0.2), 0.2)
        self.kl_coef *= 1 + error * min(self.args.generation_batch_size / self.args.kl_horizon, 1)

    def _mean(self, x: torch.Tensor, mask: torch.Tensor) -> float:
        """The mean of `x` where `mask` is 1, over all processes."""
        total, count = self.accelerator.reduce(torch.stack([(x * mask).sum(), mask.sum()]), reduction="sum")
        return (total / count.clamp(min=1)).item()

    def _mean_and_std(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[float, torch.Tensor]:
        mean = self._mean(x, mask)
        return mean, torch.tensor(self._mean((x - mean) ** 2, mask)).sqrt()

    # Update: TRL's clipped policy loss on advantages of shape (B, T), and the critic's.

    def _compute_loss(self, model, inputs):
        # The critic's backward pass comes before the policy's forward pass, unless that was kept: one graph at a time
        # is in memory, and gradient checkpointing computes each pass again with the adapter that it belongs to.
        value_loss = self._train_critic(inputs) if self.critic.form == "adapter" else None
        if self._kept_pass is not None:
            self._pass_to_use, self._kept_pass = [x[inputs["rows"]] for x in self._kept_pass], None
        try:
            with self._watch(inputs["completion_ids"].size(1) + 1) as seen:
                policy_loss = super()._compute_loss(model, inputs)
            if value_loss is None:
                values = (self._pass_to_use or seen)[-1][:, :-1]
                self._log_value_loss(values.detach(), inputs)
                value_loss = self._value_loss(values, inputs)
        finally:
            self._pass_to_use = None
        return policy_loss + value_loss

    def _train_critic(self, inputs: dict) -> torch.Tensor:
        """Forward and, in training, backward with the critic's adapter; returns its part of the loss, detached."""
        value_loss, all_values = torch.zeros((), device=inputs["returns"].device), torch.zeros_like(inputs["returns"])
        with self.critic.active():
            for rows, input_ids, attention_mask, length in self._chunks(inputs):
                with self.accelerator.autocast():
                    values = self.critic.values(input_ids, attention_mask, length + 1)[:, :-1]
                loss = self._value_loss(values, inputs, rows)
                if loss.requires_grad:
                    self.accelerator.backward(loss)
                value_loss += loss.detach()
                all_values[rows, :length] = values.detach()
        self._log_value_loss(all_values, inputs)
        return value_loss

    def _value_loss(self, values: torch.Tensor, inputs: dict, rows: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """vf_coef times the part of `rows` in the mean over the tokens of `clipped_value_loss`."""
        length = values.size(1)
        old, returns, mask = (x[rows, :length] for x in (inputs["old_values"], inputs["returns"], _token_mask(inputs)))
        loss, _ = clipped_value_loss(values, old, returns, self.args.cliprange_value)
        # As TRL averages its token losses: over the tokens of all processes and of the whole accumulation window.
        tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        if self.model.training:
            tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        return self.args.vf_coef * (loss * mask).sum() / tokens

    def _log_value_loss(self, values: torch.Tensor, inputs: dict) -> None:
        metrics, mask = self._metrics["train" if self.model.training else "eval"], _token_mask(inputs)
        loss, clipped = clipped_value_loss(values, inputs["old_values"], inputs["returns"], self.args.cliprange_value)
        metrics["value/loss"].append(self._mean(loss, mask))
        metrics["value/clip_ratio"].append(self._mean(clipped, mask))

    def training_step(self, model, inputs, num_items_in_batch=None):
        if self._window_begins:
            self.critic.head.zero_grad()  # the Trainer does so for the model, of which the head is no part
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._window_begins = self.accelerator.sync_gradients
        if self.accelerator.sync_gradients and self.accelerator.num_processes > 1:
            self.critic.average_gradients(self.accelerator)
        return loss

    def _clip_grad_norm(self, model):
        """The policy's gradient and the critic's by themselves: a bad critic must not shorten the policy's step."""
        critic = self.critic.parameters()
        known = {id(parameter) for parameter in critic}
        policy = [parameter for parameter in model.parameters() if id(parameter) not in known]
        norm = self.accelerator.clip_grad_norm_(policy, self.args.max_grad_norm)
        torch.nn.utils.clip_grad_norm_(critic, self.args.max_grad_norm)
        return norm

    def create_optimizer(self, model=None):
        if self.optimizer is not None:
            return self.optimizer
        self.critic.set_trainable(False)  # so that its adapter is not taken for the policy's
        super().create_optimizer(model)
        self.critic.set_trainable(True)
        rate = self.args.critic_learning_rate
        rate = 5 * self.args.learning_rate if rate is None else rate
        *weights, bias = *self.critic.adapter_parameters, self.critic.head.weight, self.critic.head.bias
        self.optimizer.add_param_group({"params": weights, "lr": rate, "weight_decay": self.args.weight_decay})
        self.optimizer.add_param_group({"params": [bias], "lr": rate, "weight_decay": 0.0})
        return self.optimizer

    # Save: a checkpoint holds what training goes on from, any other folder the policy alone.

    def _save_checkpoint(self, model, trial):
        self._in_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._in_checkpoint = False

    def _save(self, output_dir=None, state_dict=None):
        policy_alone = isinstance(self.model, PeftModel) and not self._in_checkpoint
        if policy_alone:  # else PEFT saves every adapter
            self.model.save_pretrained = functools.partial(
                self.model.save_pretrained, selected_adapters=[self.model.active_adapter]
            )
        try:
            super()._save(output_dir, state_dict)
        finally:
            if policy_alone:
                del self.model.save_pretrained
        if not self._in_checkpoint:
            return
        folder = Path(output_dir or self.args.output_dir)
        in_rollout = self._step % (self.args.steps_per_generation * self.num_iterations) != 0
        if in_rollout:
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self._buffered_inputs, folder / ROLLOUT.format(process=self.accelerator.process_index))
        if self.args.should_save:
            self.critic.save(folder / ADAPTER)
            rollout = self._rollout_shape() if in_rollout else None
            state = {"critic": self.critic.form, "kl_coef": self.kl_coef, "step": self._step, "rollout": rollout}
            (folder / STATE).write_text(json.dumps(state))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        folder = Path(resume_from_checkpoint)
        if not (folder / STATE).exists():
            raise ValueError(f"{folder} is no checkpoint of a PPOTrainer: it holds no {STATE}.")
        state = json.loads((folder / STATE).read_text())
        if state["critic"] != self.critic.form:
            raise ValueError(f"{folder} holds a critic of the form {state['critic']!r}: set critic to that.")
        if state["rollout"] is not None and state["rollout"] != self._rollout_shape():
            raise ValueError(
                f"{folder} is in the midst of a rollout: go on with as many processes and the same "
                "per_device_train_batch_size, steps_per_generation and num_iterations."
            )
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.critic.load(folder / ADAPTER)
        self.kl_coef, self._step = state["kl_coef"], state["step"]
        self._epochs_done = int(json.loads((folder / "trainer_state.json").read_text())["epoch"] + 1e-6)
        if state["rollout"] is not None:
            kept = folder / ROLLOUT.format(process=self.accelerator.process_index)
            self._buffered_inputs = send_to_device(
                torch.load(kept, map_location="cpu", weights_only=True), self.accelerator.device
            )

    def _rollout_shape(self) -> list[int]:
        args = self.args
        sizes = [args.per_device_train_batch_size, args.steps_per_generation, args.num_iterations]
        return [self.accelerator.num_processes, *sizes]


def after_epochs(epochs: int, sampler):
    """TRL's sampler with the order of the epoch that comes after so many: a new one begins with the first one's."""
    for _ in range(epochs if sampler.shuffle else 0):
        torch.randperm(sampler.num_samples, generator=sampler.generator)
    return sampler


def clipped_value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, reach: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """max((V - R)^2, (clip(V, V_old - reach, V_old + reach) - R)^2) / 2 for each token, and where the clipped one won.

    Source: The N+ Implementation Details of RLHF with PPO (2403.17031).
    """
    loss = (values - returns) ** 2
    clipped = (old + (values - old).clamp(-reach, reach) - returns) ** 2
    return torch.maximum(loss, clipped) / 2, clipped > loss


def _token_mask(batch: dict) -> torch.Tensor:
    """1 for the tokens that the policy wrote, of shape `(B, T)`."""
    return batch["completion_mask"] * batch.get("tool_mask", 1)


def _whole_sequences(batch: dict) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Prompts with completions, their attention mask, and the length of the completions."""
    input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return input_ids, attention_mask, batch["completion_ids"].size(1)
