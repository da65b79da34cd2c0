"""The critic of PPO: a value for every position of a sequence, on the policy's own base model."""

import copy
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, PeftType
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ADAPTER = "critic"
HEAD = "value_head.safetensors"


class Critic:
    """A value head in float32 on the final hidden states of `model`.

    Args:
        model (`PreTrainedModel` or `PeftModel`): the policy. It is not changed but for the adapter.
        form (`str`): "adapter": the hidden states are those under a LoRA adapter of the critic's own, beside the
            policy's on the same frozen base, in a forward pass of their own. "shared": they are the policy's, of the
            policy's own forward pass.
        seed (`int`): of the adapter's initialization, the same in every process.

    The head is no part of `model`: what saves the policy, or sends it to vLLM, never sees it. Its weights begin at 0,
    its bias at the first rollout's mean return (`begin_at`): else the critic would spend dozens of updates on that, at
    another pace for every kind of token.
    """

    def __init__(self, model: nn.Module, form: str, seed: int):
        self.model, self.form = model, form
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self.backbone = base.base_model
        self.head = nn.Linear(base.config.get_text_config().hidden_size, 1, dtype=torch.float32, device=base.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.is_new = True
        self.adapter_parameters = []
        if form == "adapter":
            self._add_adapter(seed)

    def _add_adapter(self, seed: int) -> None:
        self.policy_adapter = self.model.active_adapter
        config = copy.deepcopy(self.model.peft_config[self.policy_adapter])
        config.init_lora_weights = True  # PiSSA and its like would change the base model under the policy
        config.modules_to_save, config.bias = None, "none"  # whole layers and biases are the policy's
        config.lora_dropout = 0.0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model.add_adapter(ADAPTER, config)
        named = {name: p for name, p in self.model.named_parameters() if ADAPTER in name.split(".")}
        self.adapter_parameters = list(named.values())
        self.set_trainable(True)
        # It takes part in no forward pass that DistributedDataParallel sees: `average_gradients` stands in.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, list(named))

    def parameters(self) -> list[nn.Parameter]:
        """What is trained: the head and the adapter."""
        return [*self.head.parameters(), *self.adapter_parameters]

    def set_trainable(self, trainable: bool) -> None:
        """Of the adapter: PEFT freezes whichever is not active."""
        for parameter in self.adapter_parameters:
            parameter.requires_grad_(trainable)

    @contextmanager
    def watch(self, last: int):
        """Yields a list; each forward pass of the model inside adds its values, of the last `last` positions.

        A value is of shape `(B, last)`, in float32: what is still to come after the token at that position.
        """
        seen = []

        def keep(module, args, output):
            hidden = output.last_hidden_state[:, -last:]
            with torch.autocast(hidden.device.type, enabled=False):
                seen.append(self.head(hidden.to(self.head.weight)).squeeze(-1))

        handle = self.backbone.register_forward_hook(keep)
        try:
            yield seen
        finally:
            handle.remove()

    def values(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, last: int) -> torch.Tensor:
        """The values of the last `last` positions, of shape `(B, last)`, by a forward pass with the active adapter."""
        with self.watch(last) as seen:
            self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return seen[0]

    @contextmanager
    def active(self):
        """The critic's adapter in place of the policy's.

        A backward pass belongs inside too: gradient checkpointing computes the forward pass again in it, with
        whatever adapter is active then, and PEFT freezes the adapters that are not.
        """
        self.model.set_adapter(ADAPTER)
        try:
            yield
        finally:
            self.model.set_adapter(self.policy_adapter)
            self.set_trainable(True)

    @torch.no_grad()
    def begin_at(self, value: float) -> float:
        """Expect `value` of every state, from which training then goes on. Returns `value`."""
        self.head.bias.fill_(value)
        self.is_new = False
        return value

    def average_gradients(self, accelerator) -> None:
        """The mean over all processes, which DistributedDataParallel makes of the policy's."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        means = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="mean")
        for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().cpu().contiguous() for name, p in self.head.state_dict().items()}, folder / HEAD)

    def load(self, folder: Path) -> None:
        self.head.load_state_dict(load_file(folder / HEAD))
        self.is_new = False


def can_have_adapter(model: nn.Module) -> bool:
    return isinstance(model, PeftModel) and model.active_peft_config.peft_type == PeftType.LORA
