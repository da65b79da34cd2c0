"""Completions from a model: how they are sampled, by transformers or by vLLM, and in which order."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from recipes.arguments import flag
from recipes.errors import InputError, refused_settings
from recipes.models import Source, end_tokens
from recipes.qlora import loading
from recipes.texts import as_text


@dataclass
class Generation:
    """How one completion is written; GRPOConfig has the same names."""

    top_p: float = flag(1.0, "Sample among the likeliest tokens that have this probability together.")
    top_k: int = flag(0, "Sample among this many tokens; 0 means all.")
    min_p: float | None = flag(None, "Sample among tokens at least this likely, as a share of the likeliest.")
    repetition_penalty: float = flag(1.0, "Above 1, tokens that occurred before become less likely.")
    max_completion_length: int = flag(
        256, "Longest completion in tokens; what fits the task and the machine is the default."
    )
    generation_kwargs: dict | str | None = flag(None, "More generation settings, of transformers or vLLM, as JSON.")
    chat_template_kwargs: dict | str | None = flag(None, "Settings of the chat template, as JSON.")
    cache_implementation: str | None = flag(None, "Kind of key-value cache, such as static.")

    def __post_init__(self):
        for name in ("generation_kwargs", "chat_template_kwargs", "model_init_kwargs"):
            value = getattr(self, name, None)
            if isinstance(value, str):
                with contextlib.suppress(ValueError):
                    value = json.loads(value)
                setattr(self, name, value)
            if not isinstance(value, dict | None):
                raise InputError(f"--{name} must be JSON in braces, such as '{{\"name\": 1}}'.")
        if hasattr(super(), "__post_init__"):
            super().__post_init__()


@dataclass
class Sampling(Generation):
    """How the completions of a prompt are sampled and weighed."""

    temperature: float = flag(1.0, "Temperature of sampling; 0 decodes greedily.")
    num_generations: int = flag(8, "Completions a prompt.")
    reward_weights: list[float] | None = flag(None, "Weights of the rewards in their total; default: the task's.")


@dataclass
class Completion:
    text: str
    length: int  # tokens, the end token included
    truncated: bool  # no end token within the limit


# Prompts (chat messages) to one completion each, in one batch.
Generate = Callable[[list[list[dict]]], list[Completion]]

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the values that vLLM takes for max_lora_rank


def with_transformers(model, tokenizer, config, temperature: float, ends: list[int] | None = None) -> Generate:
    """Sample with transformers' `generate`, left padded.

    Args:
        config (`Generation` or `trl.GRPOConfig`): its template options, length, `top_p`, `repetition_penalty` and the
            like hold, and not the model's own, so that the policy that is trained is judged.
        temperature (`float`): in place of the config's; 0 decodes greedily.
        ends (`list[int]`, *optional*): the tokens that end a completion; by default `end_tokens`.
    """
    ends = ends or end_tokens(model, tokenizer)
    if temperature:
        how = {"do_sample": True, "temperature": temperature, "top_p": config.top_p, "top_k": config.top_k}
        how["min_p"] = config.min_p
    else:
        how = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}  # the last three silence a warning
    how = {
        "max_new_tokens": config.max_completion_length,
        "repetition_penalty": config.repetition_penalty,
        "cache_implementation": config.cache_implementation,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": ends,
        **how,
        **(config.generation_kwargs or {}),
    }

    def generate(prompts: list[list[dict]]) -> list[Completion]:
        inputs = tokenizer(
            as_text(tokenizer, prompts, config),
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_token_type_ids=False,
        ).to(model.device)
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            outputs = model.generate(**inputs, **how)
        model.train(was_training)
        return [_completion(tokens, tokenizer, ends) for tokens in outputs[:, inputs["input_ids"].shape[1] :].tolist()]

    return tried(generate)


def with_vllm(source: Source, tokenizer, config, model_args) -> Generate:
    """Sample with vLLM; the same settings as `with_transformers`, far faster on a GPU.

    Each completion has a seed of its own, drawn from torch's generator: seed that, and the seeds are the same. vLLM
    still promises the same completions only with VLLM_ENABLE_V1_MULTIPROCESSING=0 in the environment, on the same GPU.

    Args:
        config (`recipes.sample.SampleConfig`): `model_init_kwargs`, which are transformers', must be None.
        model_args (`trl.ModelConfig`): precision and revision.
    """
    if config.model_init_kwargs:
        raise InputError("--model_init_kwargs are transformers' and vLLM takes none of them: drop them or --use_vllm.")
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise InputError("--use_vllm needs vLLM: pip install vllm, or drop the flag.") from error
    options = loading(config, model_args)
    revision = source.revision or options["revision"]
    lora = LoRARequest("adapter", 1, str(source.adapter)) if source.adapter else None
    with refused_settings("vLLM"):
        engine = LLM(
            source.base,
            dtype=options["dtype"] or "auto",
            revision=revision,
            tokenizer_revision=revision,
            seed=config.seed,
            trust_remote_code=config.trust_remote_code,
            **({"enable_lora": True, "max_lora_rank": lora_rank(source.adapter)} if lora else {}),
        )
    how = {
        "max_tokens": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "min_p": config.min_p or 0.0,
        "repetition_penalty": config.repetition_penalty,
        **(config.generation_kwargs or {}),
    }

    def generate(prompts: list[list[dict]]) -> list[Completion]:
        texts = as_text(tokenizer, prompts, config)
        inputs = [{"prompt_token_ids": tokenizer.encode(text, add_special_tokens=False)} for text in texts]
        # One for each: with the same seed, the completions of a prompt would all be the same.
        seeds = torch.randint(2**31, (len(prompts),)).tolist()
        hows = [SamplingParams(**{**how, "seed": seed}) for seed in seeds]
        outputs = [output.outputs[0] for output in engine.generate(inputs, hows, lora_request=lora, use_tqdm=False)]
        texts = [tokenizer.decode(output.token_ids, skip_special_tokens=True) for output in outputs]
        return [
            Completion(text, len(output.token_ids), truncated=output.finish_reason == "length")
            for text, output in zip(texts, outputs, strict=True)
        ]

    return tried(generate)


def lora_rank(adapter: Path) -> int:
    """The least `max_lora_rank` of vLLM's that an adapter fits into; raises `InputError` where none is enough."""
    made = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    needed = max([made.get("r") or 1, *(made.get("rank_pattern") or {}).values()])
    if needed > VLLM_RANKS[-1]:
        raise InputError(f"{adapter} has rank {needed}, vLLM takes up to {VLLM_RANKS[-1]}: `make merge` it first.")
    return next(rank for rank in VLLM_RANKS if rank >= needed)


def sample(generate: Generate, prompts: list[list[dict]], batch_size: int) -> list[Completion]:
    """One completion for each of `prompts`, in their order, with a progress bar."""
    # The longest first: if a batch does not fit into memory, it is the first one.
    order = sorted(range(len(prompts)), key=lambda i: -sum(len(message["content"]) for message in prompts[i]))
    completions: list[Completion | None] = [None] * len(prompts)
    with tqdm(total=len(prompts), desc="solving", disable=None, leave=False) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for i, completion in zip(batch, generate([prompts[i] for i in batch]), strict=True):
                completions[i] = completion
            bar.update(len(batch))
    return completions


def tried(generate: Generate) -> Generate:
    """`generate`, whose first call says in one sentence what the library refuses; what fails later is no setting."""
    tried = False

    def trying(prompts: list[list[dict]]) -> list[Completion]:
        nonlocal tried
        with contextlib.nullcontext() if tried else refused_settings("The sampler"):
            completions = generate(prompts)
        tried = True
        return completions

    return trying


def _completion(tokens: list[int], tokenizer, ends: list[int]) -> Completion:
    length = next((i for i, token in enumerate(tokens, start=1) if token in ends), None)
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
    return Completion(text, length or len(tokens), truncated=length is None)
