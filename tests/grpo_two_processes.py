"""One optimizer step of GRPO on given completions, in as many processes as it is started in; a group spans two."""

import sys
import zlib
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from recipes import processes
from recipes.models import STARTER_FOLDER

GROUP, PROMPTS = 8, 2
ROWS = [
    {"prompt": [{"role": "user", "content": f"Tom has {i} apples and finds {i % 3}. How many?"}]}
    for i in range(PROMPTS)
]


def rollout(prompts, trainer) -> dict:
    """The completion at each place of a prompt's group is the same, however many processes there are."""
    tokenizer, completion_ids = trainer.processing_class, []
    first = processes.place() * len(prompts)
    for place, prompt in enumerate(prompts, start=first):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{prompt} {place % GROUP}".encode()))
        length = 3 + place % 5
        completion_ids.append([*torch.randint(1, 170, (length,), generator=generator).tolist(), tokenizer.eos_token_id])
    prompt_ids = tokenizer.apply_chat_template(prompts, add_generation_prompt=True)["input_ids"]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def judge(completion_ids, **columns) -> list[float]:
    return [len(ids) / 8 + ids[0] % 5 for ids in completion_ids]


def one_step() -> dict:
    """Each completion's advantage by its tokens, the loss, and the adapter after a step."""
    trainer = GRPOTrainer(
        model=str(STARTER_FOLDER),
        reward_funcs=judge,
        args=GRPOConfig(
            output_dir="out",
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            logging_steps=1,
            max_steps=1,
            learning_rate=0.1,
            optim="sgd",
            lr_scheduler_type="constant",
            gradient_checkpointing=False,
            num_generations=GROUP,
            max_completion_length=12,
            per_device_train_batch_size=GROUP * PROMPTS // processes.count(),
        ),
        train_dataset=Dataset.from_list(ROWS),
        peft_config=LoraConfig(r=4, target_modules="all-linear"),
        rollout_func=rollout,
    )
    generator = torch.Generator().manual_seed(0)
    named = dict(trainer.model.named_parameters())
    for name in sorted(name for name in named if "lora_B" in name):  # zero at first, and half of all gradients with it
        named[name].data.copy_(torch.randn(named[name].shape, generator=generator) * 0.05)
    trainer.train()
    [logged] = [row for row in trainer.state.log_history if "loss" in row]
    texts, advantages = (list(trainer._logs[name]) for name in ("completion", "advantages"))
    adapter = {name: p.detach().clone() for name, p in named.items() if p.requires_grad}
    return {"advantages": dict(zip(map(str, texts), advantages, strict=True)), "logged": logged, "adapter": adapter}


if __name__ == "__main__":
    result = one_step()
    torch.save(result, Path(sys.argv[1]) / f"{processes.place()}.pt")
