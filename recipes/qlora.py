"""Load 4-bit weights, and two corrections without which LoRA on them trains worse than it looks."""

import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel


def loading(config, model_args) -> dict:
    """How the weights are loaded: the keyword arguments of `from_pretrained`; `--model_init_kwargs` wins."""
    chosen = {name: getattr(model_args, name) for name in ("dtype", "attn_implementation")}
    return {"revision": model_args.model_revision, **chosen, **(config.model_init_kwargs or {})}


def correct_qlora(model: torch.nn.Module) -> None:
    """Make gradients of a QLoRA model right on every machine; call it once, before the first forward pass.

    The adapter goes back to float32: TRL casts it to bfloat16, whose 8 bits of mantissa round small updates away,
    and fp16 training (cards before Ampere) fails on bfloat16 gradients.

    The 4-bit weights stay unpacked: on CPUs with AVX512-BF16 bitsandbytes packs a layer's weights the first time it
    runs in eval mode, and a packed layer passes no gradient back, not even when training goes on afterwards.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and isinstance(model, PeftModel):
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
