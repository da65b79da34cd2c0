"""About how much memory a run will take: an estimate from the model's configuration, before any weight is loaded."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from recipes.processes import count

GB = 1e9
OVERHEAD_GB = {"cuda": 0.8, "cpu": 1.2}  # libraries, the CUDA context, fragments


def without_weights(model_config: PretrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel | None:
    """The model's shape; `None` for an architecture that cannot be made of its configuration."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(model_config, trust_remote_code=trust_remote_code)
    except Exception:  # an estimate must not end a run that could work
        return None


def linear_layers(model: PreTrainedModel) -> list[torch.nn.Linear]:
    """Those that are quantized and adapted: all but the head."""
    head = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]


def width_of(model_args) -> int:
    """Bytes a weight that is not quantized."""
    return 4 if model_args.dtype == "float32" else 2


def weights_gb(model: PreTrainedModel, model_args) -> float:
    """What the weights take, in GB."""
    inner = sum(layer.weight.numel() for layer in linear_layers(model))
    outer = sum(parameter.numel() for parameter in model.parameters()) - inner
    # A block of 64 weights shares one 4-byte scale; nested quantization stores that in about one byte.
    quantized = 0.5 + (1 if model_args.use_bnb_nested_quant else 4) / 64
    per_weight = quantized if model_args.load_in_4bit else 1 if model_args.load_in_8bit else width_of(model_args)
    return (outer * width_of(model_args) + inner * per_weight) / GB


def estimate_gb(model_config: PretrainedConfig, model_args, config, prompt_length: int) -> float | None:
    """The peak of a run in GB: weights, adapters and optimizer, and the larger of generation and one training pass.

    Args:
        model_config: the model's configuration.
        model_args (`trl.ModelConfig`), config (a trainer's config, or `Sampling`): the run's settings.
        prompt_length (`int`): the longest prompt in tokens.

    Returns:
        `float` or `None`: `None` for an architecture whose configuration does not tell.
    """
    text = model_config.get_text_config()
    hidden, layers = text.hidden_size, text.num_hidden_layers
    inner_size = getattr(text, "intermediate_size", None) or 4 * hidden
    heads = getattr(text, "num_attention_heads", None)
    key_value_heads = getattr(text, "num_key_value_heads", None) or heads
    if not isinstance(inner_size, int) or not isinstance(key_value_heads, int):
        return None
    head_size = getattr(text, "head_dim", None) or hidden // heads
    model = without_weights(model_config, config.trust_remote_code)
    if model is None:
        return None
    linear = linear_layers(model)
    inner, width = sum(layer.weight.numel() for layer in linear), width_of(model_args)
    weights = weights_gb(model, model_args) * GB

    # Bytes a trained weight: itself and its gradient in float32, two moments in 8 bits or in float32.
    batch = getattr(config, "per_device_train_batch_size", 0)  # 0: nothing is trained
    per_trained = 4 + 4 + (2 if "8bit" in str(getattr(config, "optim", "")) else 8)
    trained = sum(model_args.lora_r * sum(layer.weight.shape) for layer in linear) if model_args.use_peft else inner
    own_critic = model_args.use_peft and getattr(config, "critic", "shared") != "shared"  # PPO's
    adapter = (1 + own_critic) * trained * per_trained if batch else 0
    if getattr(config, "kl_coef", 0) and not model_args.use_peft:
        weights *= 2  # a reference of its own

    tokens = prompt_length + config.max_completion_length
    generated = getattr(config, "generation_batch_size", 0) / count()
    if not generated or getattr(config, "use_vllm", False):  # then the model itself writes evaluations only
        generated = config.per_device_eval_batch_size
    generation = generated * tokens * 2 * layers * key_value_heads * head_size * width
    layer = width * (12 * hidden + 5 * inner_size)  # what one layer's backward pass keeps, a token
    kept = hidden * width if getattr(config, "gradient_checkpointing", False) else layer
    of_pairs = hasattr(config, "simpo_gamma") or hasattr(config, "center_rewards_coefficient")  # two completions
    sequences = batch * (2 if of_pairs else 1)
    training = sequences * tokens * (layers * kept + layer)
    overhead = OVERHEAD_GB["cpu" if config.use_cpu else "cuda"]
    return (weights + adapter + max(generation, training)) / GB + overhead
