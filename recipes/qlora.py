"""LoRA on 4-bit weights: its settings, loading, and two corrections without which it trains worse than it looks."""

import functools
from dataclasses import dataclass, field

import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from trl import ModelConfig


@dataclass
class QLoRA(ModelConfig):
    """4-bit NF4 weights under LoRA on every linear layer (Dettmers et al., 2023)."""

    load_in_4bit: bool = True
    use_bnb_nested_quant: bool = True
    use_peft: bool = True
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0  # the sampled and the trained policy must be the same
    lora_target_modules: list[str] | None = field(default_factory=lambda: ["all-linear"])


def loading(config, model_args) -> dict:
    """How the weights are loaded: the keyword arguments of `from_pretrained`; `--model_init_kwargs` wins."""
    chosen = {name: getattr(model_args, name) for name in ("dtype", "attn_implementation")}
    return {"revision": model_args.model_revision, **chosen, **(config.model_init_kwargs or {})}


def adapter_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What `correct_qlora` puts back: a copy of the weights of an adapter that training goes on from."""
    if not isinstance(model, PeftModel):
        return {}
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def correct_qlora(model: torch.nn.Module, start: dict[str, torch.Tensor] | None = None) -> None:
    """Make a QLoRA model train right on every machine; call it once, before the first forward pass.

    The adapter goes back to float32: TRL casts it to bfloat16, whose 8 bits of mantissa round small updates away,
    and fp16 training (cards before Ampere) fails on bfloat16 gradients. `start` is what it was before that.

    Of the adapters only the policy is saved: PEFT would save TRL's copy of it for the reference, too.

    The 4-bit weights stay unpacked: on CPUs with AVX512-BF16 bitsandbytes packs a layer's weights the first time it
    runs in eval mode, and a packed layer passes no gradient back, not even when training goes on afterwards.
    """
    for name, value in (start or {}).items():
        model.get_parameter(name).data = value
    if "ref" in getattr(model, "peft_config", {}):
        model.save_pretrained = functools.partial(model.save_pretrained, selected_adapters=["default"])
    for parameter in model.parameters():
        if parameter.requires_grad and isinstance(model, PeftModel):
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
