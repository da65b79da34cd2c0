"""What the flags alone show to be wrong, before anything is read."""

import difflib
import os

from recipes.errors import InputError

AT_LEAST_ONE = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("max_completion_length", "logging_steps", "save_steps", "lora_r"),
)
LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")


def check_settings(settings: dict) -> None:
    """Raises `InputError` for a value, or for values together, that cannot work."""
    for name in AT_LEAST_ONE:
        if name in settings and settings[name] <= 0:
            raise InputError(f"--{name} {settings[name]}: give a number above 0.")
    if settings["learning_rate"] < 0 or settings["eval_samples"] < 0:
        raise InputError("--learning_rate and --eval_samples cannot be negative.")
    if settings["max_steps"] <= 0 and settings["max_steps"] != -1:
        raise InputError(f"--max_steps {settings['max_steps']}: give a number above 0, or -1 to count epochs instead.")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("The recipes run as one process so far: start them without a launcher.")
    if settings["load_in_4bit"] and settings.get("use_vllm"):
        raise InputError(
            "4-bit weights and vLLM do not go together in TRL: add --load_in_4bit False, or drop --use_vllm."
        )
    if settings["load_in_4bit"] and not settings["use_peft"]:
        raise InputError("4-bit weights cannot be trained themselves: keep --use_peft, or add --load_in_4bit False.")
    if settings["use_cpu"] and settings["fp16"]:
        raise InputError("--fp16 needs a GPU: drop it.")
    if settings["resume_from_checkpoint"]:
        raise InputError("A run goes on by itself from its --output_dir: drop --resume_from_checkpoint.")
    if settings["eval_strategy"] != "no":
        raise InputError("The recipe evaluates before and after training (--eval_samples): drop --eval_strategy.")
    if settings.get("temperature", 1.0) <= 0:
        raise InputError(f"--temperature {settings['temperature']}: GRPO needs completions that differ, so above 0.")
    if settings.get("loss_type", "dapo") not in LOSSES:
        near = difflib.get_close_matches(settings["loss_type"], LOSSES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"Unknown --loss_type {settings['loss_type']!r}.{hint} One of {', '.join(LOSSES)}.")
    if "num_generations" in settings:
        _check_groups(settings)


def _check_groups(settings: dict) -> None:
    """Completions are generated in whole groups of `num_generations`."""
    group, batch = settings["num_generations"], settings["per_device_train_batch_size"]
    steps = settings["steps_per_generation"] or settings["gradient_accumulation_steps"]
    total = settings["generation_batch_size"] or batch * steps
    if group < 2:
        raise InputError(
            f"--num_generations {group}: GRPO compares the completions of one prompt, so it needs at least 2."
        )
    if total % group:
        fits = [str(n) for n in range(2, total + 1) if total % n == 0]
        raise InputError(
            f"--num_generations {group} does not divide the {total} completions of a generation batch "
            f"(--per_device_train_batch_size {batch} x {steps}): take {', '.join(fits[:8])}, or another batch size."
        )
