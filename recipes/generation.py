"""Completions from a model: how they are sampled, by transformers or by vLLM, and in which order."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from recipes.arguments import flag
from recipes.errors import InputError
from recipes.models import Source


@dataclass
class Generation:
    """How one completion is written; GRPOConfig has the same names."""

    top_p: float = flag(1.0, "Sample among the likeliest tokens that have this probability together.")
    top_k: int = flag(0, "Sample among this many tokens; 0 means all.")
    min_p: float | None = flag(None, "Sample among tokens at least this likely, as a share of the likeliest.")
    repetition_penalty: float = flag(1.0, "Above 1, tokens that occurred before become less likely.")
    max_completion_length: int = flag(256, "Longest completion in tokens.")
    generation_kwargs: dict | str | None = flag(None, "More of transformers' generation settings, as JSON.")
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


def with_transformers(model, tokenizer, config, temperature: float, ends: list[int]) -> Generate:
    """Sample with transformers' `generate`, left padded.

    Args:
        config (`Generation` or `trl.GRPOConfig`): its template options, length, `top_p`, `repetition_penalty` and the
            like hold, and not the model's own, so that the policy that is trained is judged.
        temperature (`float`): in place of the config's; 0 decodes greedily.
        ends (`list[int]`): the tokens that end a completion.
    """
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

    return generate


def with_vllm(source: Source, tokenizer, config) -> Generate:
    """Sample with vLLM; the same settings as `with_transformers`, far faster on a GPU."""
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise InputError("--use_vllm needs vLLM: pip install vllm, or drop the flag.") from error
    engine = LLM(
        source.base,
        seed=config.seed,
        enable_lora=source.adapter is not None,
        max_lora_rank=64,
        trust_remote_code=config.trust_remote_code,
        **(config.model_init_kwargs or {}),
    )
    how = SamplingParams(
        max_tokens=config.max_completion_length,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p or 0.0,
        repetition_penalty=config.repetition_penalty,
        **(config.generation_kwargs or {}),
    )
    lora = LoRARequest("adapter", 1, str(source.adapter)) if source.adapter else None

    def generate(prompts: list[list[dict]]) -> list[Completion]:
        texts = as_text(tokenizer, prompts, config)
        inputs = [{"prompt_token_ids": tokenizer.encode(text, add_special_tokens=False)} for text in texts]
        outputs = [output.outputs[0] for output in engine.generate(inputs, how, lora_request=lora, use_tqdm=False)]
        texts = [tokenizer.decode(output.token_ids, skip_special_tokens=True) for output in outputs]
        return [
            Completion(text, len(output.token_ids), truncated=output.finish_reason == "length")
            for text, output in zip(texts, outputs, strict=True)
        ]

    return generate


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


def as_text(tokenizer, prompts: list[list[dict]], config) -> list[str]:
    """Prompts as the model reads them."""
    template = {"add_generation_prompt": True, "tokenize": False, **(config.chat_template_kwargs or {})}
    return [tokenizer.apply_chat_template(prompt, **template) for prompt in prompts]


def end_of_turn(tokenizer, config) -> str:
    """What the chat template writes behind a completion.

    To train on a completion it is put behind the completion as it stands: a template that is asked to write the
    completion itself may drop its thoughts (DeepSeek-R1-Distill) or put an empty one in front (Qwen3).
    """
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@@"}]
    turn = tokenizer.apply_chat_template(turn, tokenize=False, **(config.chat_template_kwargs or {}))
    return turn.rpartition("@@")[2].strip()


def _completion(tokens: list[int], tokenizer, ends: list[int]) -> Completion:
    length = next((i for i, token in enumerate(tokens, start=1) if token in ends), None)
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
    return Completion(text, length or len(tokens), truncated=length is None)
