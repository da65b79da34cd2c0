"""What the tests of PPO train on, and one optimizer step of it in each process of a torchrun."""

import sys
import traceback
import zlib
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback

from recipes.hardware import STARTER_FOLDER
from recipes.ppo_trainer import PPOConfig, PPOTrainer


def rows(n: int) -> list[dict]:
    return [
        {"prompt": [{"role": "user", "content": f"Tom has {i} apples and finds {i % 3}. How many?"}], "answer": str(i)}
        for i in range(n)
    ]


ROWS = rows(8)
FORMS = [("adapter", False), ("adapter", True), ("shared", False)]  # critic, gradient checkpointing


def config(**settings) -> PPOConfig:
    small = {
        "output_dir": "out",
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "max_completion_length": 12,
        "max_steps": 1,
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-2,
        "gradient_checkpointing": False,
    }
    return PPOConfig(**small | settings)


def lora() -> LoraConfig:
    return LoraConfig(r=4, target_modules="all-linear")


def judge(completion_ids, answer, **kwargs) -> list[float]:
    return [len(ids) / 8 + ids[0] % 5 + int(gold) / 8 for ids, gold in zip(completion_ids, answer, strict=True)]


def rollout(prompts, trainer) -> dict:
    """The same completion of a prompt in every process and every run; every other one is cut off."""
    tokenizer, completion_ids = trainer.processing_class, []
    for prompt in prompts:
        seed = zlib.crc32(str(prompt).encode())
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(1, 170, (3 + seed % 6,), generator=generator).tolist()
        completion_ids.append(ids + [tokenizer.eos_token_id] * (seed % 2))
    prompt_ids = tokenizer.apply_chat_template(prompts, add_generation_prompt=True)["input_ids"]
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def make(given: dict | None = None, **settings) -> PPOTrainer:
    """A trainer of LoRA on the starter; `given` are arguments of PPOTrainer, the others those of PPOConfig."""
    arguments = {
        "model": str(STARTER_FOLDER),
        "reward_funcs": judge,
        "args": config(**settings),
        "train_dataset": Dataset.from_list(ROWS),
        "peft_config": lora(),
    }
    return PPOTrainer(**arguments | (given or {}))


def perturb(trainer: PPOTrainer) -> None:
    """lora_B and the head start at zero, and half of all gradients with them."""
    generator = torch.Generator().manual_seed(0)
    named = dict(trainer.model.named_parameters())
    changed = [named[name] for name in sorted(named) if "lora_B" in name]
    for parameter in [*changed, trainer.critic.head.weight]:
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)


def trained(trainer: PPOTrainer) -> dict[str, torch.Tensor]:
    """Every parameter that is trained, by name."""
    named = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    return named | {f"head.{name}": p for name, p in trainer.critic.head.named_parameters()}


def copies(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in parameters.items()}


def steps(trainer: PPOTrainer) -> list[dict]:
    """The metrics of each step, without those that are times."""
    logged = [row for row in trainer.state.log_history if "loss" in row]
    return [{name: value for name, value in row.items() if name != "step_time"} for row in logged]


class KeepGradients(TrainerCallback):
    """`steps`: the gradients of each optimizer step, by name."""

    def __init__(self, trainer: PPOTrainer):
        self.trainer, self.steps = trainer, []
        trainer.add_callback(self)

    def on_pre_optimizer_step(self, *args, **kwargs):
        self.steps.append({name: p.grad.clone() for name, p in trained(self.trainer).items()})


def rows_of(batch: dict) -> dict[tuple, dict[str, list[float]]]:
    """What PPO made of each completion, by its prompt and its text."""
    found = {}
    for i, mask in enumerate(batch["completion_mask"].bool()):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()]
        key = (*prompt.tolist(), *batch["completion_ids"][i][mask].tolist())
        found[key] = {name: batch[name][i][mask].tolist() for name in ("advantages", "returns", "old_values")}
    return found


def one_step(critic: str, gradient_checkpointing: bool, processes: int) -> dict:
    """The rollout, the gradients and the parameters of one step on `ROWS`."""
    trainer = make(
        {"rollout_func": rollout},
        critic=critic,
        gradient_checkpointing=gradient_checkpointing,
        per_device_train_batch_size=len(ROWS) // processes,
        optim="sgd",
        learning_rate=0.1,
    )
    perturb(trainer)
    kept = KeepGradients(trainer)
    trainer.train()
    [batch] = trainer._buffered_inputs
    return {"rows": rows_of(batch), "gradients": kept.steps[0], "parameters": copies(trained(trainer))}


def in_the_midst_of_a_rollout(resume_from: str | None, max_steps: int) -> list[dict]:
    """The metrics of each step, four to a rollout; the third leaves a checkpoint."""
    trainer = make(
        {"train_dataset": Dataset.from_list(rows(32))},
        per_device_train_batch_size=4,
        steps_per_generation=2,
        num_iterations=2,
        target_kl=0.1,
        max_steps=max_steps,
        save_strategy="steps",
        save_steps=3,
    )
    trainer.train(resume_from_checkpoint=resume_from)
    return steps(trainer)


def main(folder: Path) -> None:
    results = {form: one_step(*form, processes=2) for form in FORMS}
    results["whole"] = in_the_midst_of_a_rollout(None, 4)
    try:
        results["resumed"] = in_the_midst_of_a_rollout("out/checkpoint-3", 4)
    except Exception:
        results["resumed"] = traceback.format_exc()
    torch.save(results, folder / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
