"""Sample a model on prompts: batched, sorted by length, with a progress bar."""

from dataclasses import dataclass

import torch
from tqdm.auto import tqdm


@dataclass
class Completion:
    text: str
    length: int  # tokens, the end token included
    truncated: bool  # no end token within the limit


def sample(
    model, tokenizer, prompts: list[list[dict]], config, temperature: float, ends: list[int]
) -> list[Completion]:
    """One completion for each of `prompts` (chat messages), in their order.

    Args:
        config (`trl.GRPOConfig`): how the trainer samples; its template options, length, `top_p`, `repetition_penalty`
            and the like hold here too, in place of the model's own, so that the policy that is trained is judged.
        temperature (`float`): in place of the config's; 0 decodes greedily.
        ends (`list[int]`): the tokens that end a completion, `trainer.eos_token_ids`.
    """
    template = {"add_generation_prompt": True, "tokenize": False, **(config.chat_template_kwargs or {})}
    texts = [tokenizer.apply_chat_template(prompt, **template) for prompt in prompts]
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
    ends, batch_size = torch.tensor(ends), config.per_device_eval_batch_size
    # The longest first: if a batch does not fit into memory, it is the first one.
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    completions: list[Completion | None] = [None] * len(texts)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), tqdm(total=len(texts), desc="solving", disable=None, leave=False) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = tokenizer(
                [texts[i] for i in batch],
                return_tensors="pt",
                padding=True,
                padding_side="left",
                add_special_tokens=False,
                return_token_type_ids=False,
            ).to(model.device)
            outputs = model.generate(**inputs, **how)
            for i, tokens in zip(batch, outputs[:, inputs["input_ids"].shape[1] :].cpu(), strict=True):
                ended = torch.isin(tokens, ends).nonzero()
                length = int(ended[0]) + 1 if len(ended) else len(tokens)
                text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
                completions[i] = Completion(text, length, truncated=not len(ended))
            bar.update(len(batch))
    model.train(was_training)
    return completions
