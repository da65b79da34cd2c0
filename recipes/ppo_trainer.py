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
import shutil
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import PeftModel
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from recipes.critic import ADAPTER, Critic, can_have_adapter
from recipes.gae import compute_gae

CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")  # they differ in how tokens are averaged
NEEDS_LORA = "critic='adapter' needs a LoRA policy: give peft_config=LoraConfig(...), or critic='shared'."
STATE = "ppo_state.json"
ROLLOUT = "rollout_{process}.pt"


@dataclass
class PPOConfig(GRPOConfig):
    """GRPOConfig with PPO's own settings. Raises `ValueError` for those that have no meaning.

    TRL's settings mean what they mean for GRPO: `epsilon` clips the policy's ratio, `num_iterations` is the epochs over
    a rollout, `steps_per_generation` its minibatches, `entropy_coef` the entropy bonus. `scale_rewards` has no use.
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
    kl_horizon: int = field(default=10_000, metadata={"help": "With target_kl: completions until kl_coef has adapted."})
    gamma: float = field(default=1.0, metadata={"help": "Discount of later rewards."})
    lam: float = field(default=0.95, metadata={"help": "GAE: 0 trusts the critic, 1 the rewards."})
    cliprange_value: float = field(
        default=0.2, metadata={"help": "How far a value may move from the rollout's before its loss is clipped."}
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
        for name in ("kl_coef", "vf_coef", "cliprange_value", "missing_eos_penalty", "critic_learning_rate"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} {value} cannot be negative: give 0 or more.")
        for name in ("target_kl", "kl_horizon"):
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
        if self.num_generations != 1:
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
        start = getattr(given.get("peft_config"), "init_lora_weights", True)
        if (args.kl_coef or args.beta) and str(start).lower().startswith(("pissa", "olora", "corda", "loftq")):
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
            raise ValueError("PPOTrainer reads text only: give it a model and a processing_class for text.")
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError("PPOTrainer runs in one process or with plain data parallelism, not on DeepSpeed or FSDP.")
        form = args.critic
        if form == "auto":
            form = "adapter" if can_have_adapter(self.model) else "shared"
        if form == "adapter" and not can_have_adapter(self.model):
            raise ValueError(NEEDS_LORA)
        self.critic = Critic(self.model, form, args.seed)
        self._passes = []  # the values of each forward pass of the policy, with critic="shared"
        self._rewards_per_func = None
        self._window_begins = True
        self._in_checkpoint = False

    # Rollout: TRL generates and scores; its advantages are replaced by those of PPO.

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        first = self.accelerator.process_index * len(prompts)
        self._rewards_per_func = rewards[first : first + len(prompts)]
        return rewards

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *others, **named):
        if self.critic.form == "adapter":
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *others, **named
            )
        with self.critic.watch(logits_to_keep + 1) as values:
            result = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *others, **named
            )
        self._passes.append(torch.cat(values) if values else None)  # none of a reference model of its own
        return result

    def _generate_and_score_completions(self, inputs):
        self.beta = self.args.beta or self.kl_coef  # so that TRL computes the reference's log-probabilities
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self.beta = self.args.beta
        log_probs, values = self._log_probs_and_values(batch)

        # A completion that no reward could judge leaves no trace: none of its tokens counts.
        judged = ~torch.isnan(self._rewards_per_func).all(dim=1)
        batch["completion_mask"] = batch["completion_mask"] * judged.unsqueeze(1)
        mask = _token_mask(batch)
        batch["num_items_in_batch"] = self.accelerator.gather(mask.sum()).sum()
        if batch.get("old_per_token_logps") is not None:
            batch["old_per_token_logps"] = batch["old_per_token_logps"] * mask  # TRL's new ones are 0 there too

        kl = torch.zeros_like(values[:, 1:])
        if self.kl_coef:
            kl = self._kl(log_probs, batch["ref_per_token_logps"]) * mask
        if self.args.beta == 0:
            batch.pop("ref_per_token_logps", None)
        scores, truncated = self._scores(batch)
        last = mask.size(1) - 1 - mask.flip(1).argmax(dim=1, keepdim=True)  # of each row's tokens that count
        rewards = (-self.kl_coef * kl).scatter_add(1, last, scores)
        if self.model.training and self.critic.is_new and batch["num_items_in_batch"]:
            values = values + self.critic.begin_at(self._mean(rewards.sum(1), mask.any(1)))
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
    def _log_probs_and_values(self, batch: dict) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Of the policy and the critic as they are now: `(B, T)`, or `None` where nobody asks for it; and `(B, T + 1)`.

        The value at t is of the state before token t; one more of the state after the last.
        """
        size = self.args.per_device_train_batch_size if self.model.training else self.args.per_device_eval_batch_size
        input_ids, attention_mask, length = _whole_sequences(batch)
        log_probs, passes = batch.get("old_per_token_logps"), self._passes
        self._passes = []
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.critic.form == "shared" and log_probs is not None:
                return log_probs, passes[0]  # TRL's first pass was the policy's, the reference's came after it
            if log_probs is None and (self.critic.form == "shared" or self.kl_coef):
                log_probs, _, _ = self._get_per_token_logps_and_entropies(
                    self.model, input_ids, attention_mask, length, batch_size=size
                )
            if self.critic.form == "shared":
                return log_probs, self._passes.pop()
            with self.critic.active(), self.accelerator.autocast():
                chunks = zip(input_ids.split(size), attention_mask.split(size), strict=True)
                return log_probs, torch.cat([self.critic.values(*chunk, length + 1) for chunk in chunks])

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
        if self.critic.form == "shared":
            policy_loss = super()._compute_loss(model, inputs)
            return policy_loss + self._value_loss(self._passes.pop(), inputs)
        input_ids, attention_mask, length = _whole_sequences(inputs)
        # The critic's backward pass comes at once, before the policy's forward pass: only one graph is in memory, and
        # gradient checkpointing computes each forward pass again with the adapter that it belongs to.
        with self.critic.active():
            with self.accelerator.autocast():
                values = self.critic.values(input_ids, attention_mask, length + 1)
            value_loss = self._value_loss(values, inputs)
            if value_loss.requires_grad:
                self.accelerator.backward(value_loss)
        return super()._compute_loss(model, inputs) + value_loss.detach()

    def _value_loss(self, values: torch.Tensor, inputs: dict) -> torch.Tensor:
        """vf_coef / 2 * the mean over tokens of max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2)."""
        values, mask = values[:, :-1], _token_mask(inputs)
        old, returns, reach = inputs["old_values"], inputs["returns"], self.args.cliprange_value
        loss = (values - returns) ** 2
        clipped = (old + (values - old).clamp(-reach, reach) - returns) ** 2
        # As TRL averages its token losses: over the tokens of all processes and of the whole accumulation window.
        tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        worst = 0.5 * torch.maximum(loss, clipped)
        self._metrics[mode]["value/loss"].append(self._mean(worst.detach(), mask))
        self._metrics[mode]["value/clip_ratio"].append(self._mean((clipped > loss).float(), mask))
        return self.args.vf_coef * (worst * mask).sum() / tokens

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
        for parameter in self.critic.adapter_parameters:
            parameter.requires_grad_(False)  # so that they are not the policy's
        super().create_optimizer(model)
        for parameter in self.critic.adapter_parameters:
            parameter.requires_grad_(True)
        rate = self.args.critic_learning_rate
        rate = 5 * self.args.learning_rate if rate is None else rate
        group = {"params": self.critic.parameters(), "lr": rate, "weight_decay": self.args.weight_decay}
        self.optimizer.add_param_group(group)
        return self.optimizer

    # Save: a checkpoint holds what training goes on from, any other folder the policy alone.

    def _save_checkpoint(self, model, trial):
        self._in_checkpoint = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._in_checkpoint = False

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if not self._in_checkpoint:
            for adapter in {ADAPTER, "ref"} & set(getattr(self.model, "peft_config", ())):  # PEFT saves every adapter
                if self.args.should_save:
                    shutil.rmtree(folder / adapter, ignore_errors=True)
            return
        if self._step % (self.args.steps_per_generation * self.num_iterations):  # in the midst of a rollout
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self._buffered_inputs, folder / ROLLOUT.format(process=self.accelerator.process_index))
        if self.args.should_save:
            self.critic.save(folder / ADAPTER)
            (folder / STATE).write_text(json.dumps({"kl_coef": self.kl_coef, "step": self._step}))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        self.critic.load(folder / ADAPTER)
        state = json.loads((folder / STATE).read_text())
        self.kl_coef, self._step = state["kl_coef"], state["step"]
        rollout = folder / ROLLOUT.format(process=self.accelerator.process_index)
        if rollout.exists():
            self._buffered_inputs = torch.load(rollout, map_location=self.accelerator.device, weights_only=True)


def _token_mask(batch: dict) -> torch.Tensor:
    """1 for the tokens that the policy wrote, of shape `(B, T)`."""
    return batch["completion_mask"] * batch.get("tool_mask", 1)


def _whole_sequences(batch: dict) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Prompts with completions, their attention mask, and the length of the completions."""
    input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return input_ids, attention_mask, batch["completion_ids"].size(1)
