"""What this machine can hold: model, batch, completion length and precision, by free memory."""

import os
import resource
import sys
from dataclasses import dataclass

import psutil
import torch

from recipes import processes
from recipes.models import STARTER, STARTER_FOLDER, find_model  # noqa: F401
from recipes.samples import is_samples, task_of
from recipes.tasks import Task


@dataclass(frozen=True)
class Machine:
    device: str  # "cpu" or "cuda"
    name: str
    free_gb: float  # GPU memory; main memory without a GPU
    bf16: bool  # bfloat16 in hardware
    card_gb: float = 0.0  # all memory of the GPU, free or not

    def __str__(self) -> str:
        return f"{self.name}, {self.free_gb:.1f} GB free"


# Free GB needed, model, completions in one forward pass, longest completion in tokens. For cards of 24, 16, 12, 8 GB.
PROFILES = [
    (21.0, "Qwen/Qwen2.5-3B-Instruct", 8, 1024),
    (14.0, "Qwen/Qwen2.5-1.5B-Instruct", 16, 768),
    (10.0, "Qwen/Qwen2.5-1.5B-Instruct", 8, 512),
    (0.0, "Qwen/Qwen2.5-0.5B-Instruct", 8, 512),
]
COMPLETIONS_PER_STEP = 64
EXAMPLES_PER_STEP = 32  # pairs of DPO and of a reward model, examples of SFT
PROMPT_LENGTH = 512  # tokens that a prompt may take of `max_length`

# Measured on the miniature: a rate of 3e-4 barely moves in 200 steps.
STARTER_TRAINING = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "max_steps": 60,
    "save_steps": 10,
    "per_device_train_batch_size": COMPLETIONS_PER_STEP,
    "gradient_accumulation_steps": 1,
    "per_device_eval_batch_size": 128,
    "max_completion_length": 48,
    "max_length": None,
    "gradient_checkpointing": False,
}
# What other trainers take in their place, measured as well.
STARTER_TRAINING_BY = {
    # At 1e-3 the policy runs ahead of its critic; beyond 30 steps little is left to explain.
    "ppo": STARTER_TRAINING | {"learning_rate": 5e-4, "max_steps": 30},
    # At 1e-3 the likelihood of the chosen falls with that of the rejected; 32 pairs a step make too few steps.
    "dpo": STARTER_TRAINING | {"learning_rate": 5e-4, "max_steps": -1, "per_device_train_batch_size": 16},
    "sft": STARTER_TRAINING | {"max_steps": -1, "per_device_train_batch_size": EXAMPLES_PER_STEP},
    "rm": STARTER_TRAINING | {"max_steps": -1, "per_device_train_batch_size": 16},
}

# In the order in which they are printed; a resumed run takes them from its config.yaml.
CHOSEN_BY_MACHINE = (
    *("model_name_or_path", "dataset_name", "num_generations", "dtype", "bf16", "fp16", "use_cpu", "optim"),
    *STARTER_TRAINING,
)


def detect() -> Machine:
    """The machine that training would run on: the current CUDA device, else the CPU."""
    if torch.cuda.is_available():
        free, card = torch.cuda.mem_get_info()
        bf16 = torch.cuda.get_device_capability()[0] >= 8
        return Machine("cuda", torch.cuda.get_device_name(), free / 1e9, bf16, card / 1e9)
    return cpu()


def cpu() -> Machine:
    free = psutil.virtual_memory().available
    return Machine("cpu", f"CPU, {psutil.cpu_count()} cores", free / 1e9, bf16=False)


def task_for(machine: Machine, task_name: str, given: dict) -> str:
    """The starter knows word problems and nothing else; whatever the user named is never replaced."""
    is_starter = find_model(given.get("model_name_or_path", STARTER)).is_starter
    files = [name for name in given.get("models") or () if is_samples(name)]
    if files and len(files) == len(given["models"]):
        is_starter = task_of(files[0]) == "word_problems"
    own_choice = {"dataset_name", "completions"} & given.keys() or not is_starter
    return "word_problems" if machine.device == "cpu" and task_name == "gsm8k" and not own_choice else task_name


def defaults(machine: Machine, task: Task, given: dict, trainer: str = "grpo") -> dict:
    """The settings that suit `machine`, as defaults for the parser: the user's YAML file and flags win over them."""
    model, batch, length = next(profile[1:] for profile in PROFILES if machine.free_gb >= profile[0])
    if machine.device == "cpu":
        model = STARTER
    length = min(length, task.max_completion_length)
    settings = {
        "model_name_or_path": model,
        **_precision(machine, given),
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 10,
        "max_steps": 200,
        "save_steps": 20,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": COMPLETIONS_PER_STEP // batch,
        "per_device_eval_batch_size": COMPLETIONS_PER_STEP,
        "max_completion_length": length,
        "gradient_checkpointing": True,
    }
    if trainer in ("dpo", "sft", "rm"):  # data that lie there: epochs are counted, not steps
        settings["max_steps"] = -1
        settings["max_length"] = given.get("max_completion_length", length) + PROMPT_LENGTH
        settings["gradient_accumulation_steps"] = EXAMPLES_PER_STEP // batch
    if trainer in ("dpo", "rm"):  # a pair is two completions
        settings["per_device_train_batch_size"] = batch // 2
        settings["gradient_accumulation_steps"] = EXAMPLES_PER_STEP // (batch // 2)
    if trainer == "sft":
        settings["learning_rate"] = 2e-4  # QLoRA (Dettmers et al., 2023), table 9
    if find_model(given.get("model_name_or_path", model)).is_starter:
        settings |= STARTER_TRAINING_BY.get(trainer, STARTER_TRAINING)
        if task.for_the_starter:
            settings["dataset_name"] = task.for_the_starter
            settings["num_generations"] = 8  # so few problems make a batch of PPO only if each is asked several times
    if "num_train_epochs" in given:
        settings["max_steps"] = -1
    return settings | shared_batch(settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"])


def shared_batch(batch: int, accumulated: int) -> dict:
    """The same completions of a step, shared by all processes: in smaller passes only where there are fewer passes."""
    own = batch * accumulated // processes.count()
    batch = next(size for size in range(min(batch, max(own, 1)), 0, -1) if own % size == 0)
    return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": max(own // batch, 1)}


def _precision(machine: Machine, given: dict) -> dict:
    if machine.device == "cpu":
        return {"use_cpu": True, "bf16": False, "fp16": False, "dtype": "float32", "optim": "adamw_torch"}
    bf16 = given.get("bf16", machine.bf16 and not given.get("fp16"))
    dtype = "bfloat16" if bf16 else "float16"
    return {"bf16": bf16, "fp16": given.get("fp16", not bf16), "dtype": dtype, "optim": "paged_adamw_8bit"}


def peak_memory_gb(machine: Machine) -> float:
    """The most this process has held so far, in GB: GPU memory reserved, or resident memory without a GPU."""
    if machine.device == "cuda":
        return torch.cuda.max_memory_reserved() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def limit_threads(model: str) -> None:
    """One thread for the starter: its matrices are so small that threads mostly wait, above all on a busy machine."""
    if find_model(model).is_starter and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def model_path(name: str) -> str:
    return find_model(name).base


def first_line(machine: Machine, task_name: str, asked_task: str, model: str, doing: str = "Training") -> str:
    """What is about to happen, in one sentence; without a GPU also what the same command does on one."""
    line = f"{doing} {model} on {task_name} on {machine}."
    if machine.device == "cpu" and model == STARTER:
        asked = {"gsm8k": "GSM8K", "code": "MBPP"}.get(asked_task, asked_task)
        verb = {"Training": "trains", "Sampling": "samples", "Evaluating": "evaluates"}[doing]
        line = (
            f"No CUDA GPU in use ({machine}): {doing.lower()} the bundled starter on {task_name} on the CPU, in "
            f"float32. On a GPU (12 GB) the same command {verb} {PROFILES[2][1]} on {asked}."
        )
    if find_model(model).is_starter and task_name != "word_problems":
        cannot = "cannot write code" if task_name == "code" else "learns nothing here"
        line += (
            f"\nwarning: the starter reads word problems only and {cannot}: this shows that everything works, and no "
            "more; name a real model by --model_name_or_path."
        )
    return line


def chosen(settings: dict) -> str:
    """The settings that depend on the machine, as the flags that would override them."""
    return "Settings for this machine: " + " ".join(
        f"--{key} {settings[key]}" for key in CHOSEN_BY_MACHINE if settings.get(key) is not None
    )
