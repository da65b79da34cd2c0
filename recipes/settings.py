"""What the flags alone show to be wrong, before anything is read."""

from recipes import processes
from recipes.errors import InputError, did_you_mean
from recipes.vllm import check_vllm_settings

ABOVE_ZERO = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("max_completion_length", "logging_steps", "save_steps", "lora_r", "num_iterations", "steps_per_generation"),
    *("generation_batch_size", "repetition_penalty", "num_prompts", "max_length", "keep_per_prompt", "rounds"),
    *("pairs_per_prompt", "sample_prompts", "num_train_rows", "top_p"),
)
NOT_NEGATIVE = (
    "learning_rate",
    "eval_samples",
    "calibration_samples",
    "eval_temperature",
    "reward_timeout",
    "seed",
    "top_k",
    "min_p",
    "beta",
    "epsilon",
    "warmup_steps",
)
SCALES = ("group", "batch", "none")
LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")


def check_settings(settings: dict) -> None:
    """Raises `InputError` for a value, or for values together, that cannot work."""
    for name in ABOVE_ZERO:
        if settings.get(name) is not None and not settings[name] > 0:
            raise InputError(f"--{name} {settings[name]}: give a number above 0.")
    for name in NOT_NEGATIVE:
        if settings.get(name) is not None and not settings[name] >= 0:
            raise InputError(f"--{name} {settings[name]} cannot be negative.")
    sampled_only = "max_steps" not in settings  # nothing is trained
    if "temperature" in settings and not settings["temperature"] > 0:
        if not (sampled_only and settings["temperature"] == 0):
            raise InputError(f"--temperature {settings['temperature']}: give a number above 0.")
        if settings["num_generations"] > 1:
            raise InputError(
                f"--temperature 0 writes the same completion {settings['num_generations']} times: "
                "add --num_generations 1, or give a number above 0."
            )
    for name in ("min_pass_rate", "max_pass_rate", "top_p", "min_p"):
        if settings.get(name) is not None and not 0 <= settings[name] <= 1:
            raise InputError(f"--{name} {settings[name]}: give a share between 0 and 1.")
    if settings["min_pass_rate"] > settings["max_pass_rate"]:
        raise InputError(f"--min_pass_rate {settings['min_pass_rate']} is above --max_pass_rate.")
    if not settings["samples"] and (settings["min_pass_rate"] > 0 or settings["max_pass_rate"] < 1):
        raise InputError("--min_pass_rate and --max_pass_rate need the pass rates: add --samples FILE.")
    if settings.get("k") and min(settings["k"]) < 1:
        raise InputError(f"--k {min(settings['k'])}: give a number above 0.")
    if not settings["samples"] and settings["curriculum"]:
        raise InputError("--curriculum needs the pass rates: add --samples FILE.")
    steps = settings.get("max_steps", 1)
    if steps <= 0 and steps != -1:
        raise InputError(f"--max_steps {steps}: give a number above 0, or -1 to count epochs instead.")
    if steps == -1 and not settings["num_train_epochs"] > 0:
        raise InputError(f"--num_train_epochs {settings['num_train_epochs']}: give a number above 0.")
    if not settings["output_dir"]:
        raise InputError("--output_dir is empty: name a folder.")
    if processes.count() > 1 and (sampled_only or settings.get("rounds", 1) > 1):
        raise InputError("Samplers, evaluations and --rounds run as one process: start them without a launcher.")
    if settings["use_cpu"] and processes.by_deepspeed():
        raise InputError("DeepSpeed's ZeRO needs GPUs, and none is in use here: drop --config_file.")
    if settings["load_in_4bit"] and processes.shard():
        raise InputError("FSDP and ZeRO-3 take 16-bit weights only: add --load_in_4bit False, or drop --config_file.")
    if "vllm_mode" in settings:
        check_vllm_settings(settings)
    elif settings["load_in_4bit"] and settings.get("use_vllm"):  # a sampler's
        raise InputError(
            "4-bit weights and vLLM do not go together in TRL: add --load_in_4bit False, or drop --use_vllm."
        )
    if settings.get("critic") == "adapter" and not settings["use_peft"]:
        raise InputError("--critic adapter needs LoRA: keep --use_peft, or add --critic shared.")
    if not sampled_only and settings["load_in_4bit"] and not settings["use_peft"]:
        raise InputError("4-bit weights cannot be trained themselves: keep --use_peft, or add --load_in_4bit False.")
    if settings["use_cpu"] and settings.get("fp16"):
        raise InputError("--fp16 needs a GPU: drop it.")
    if settings.get("resume_from_checkpoint"):
        raise InputError("A run goes on by itself from its --output_dir: drop --resume_from_checkpoint.")
    if settings.get("eval_strategy", "no") != "no":
        raise InputError("The recipe evaluates before and after training (--eval_samples): drop --eval_strategy.")
    for name, known in (("loss_type", LOSSES), ("scale_rewards", SCALES)):
        if "generation_batch_size" in settings and settings[name] not in known:
            hint = did_you_mean(settings[name], known)
            raise InputError(f"Unknown --{name} {settings[name]!r}.{hint} One of {', '.join(known)}.")
    if "generation_batch_size" in settings:
        _check_groups(settings)
    elif settings.get("num_generations", 1) < 1:
        raise InputError(f"--num_generations {settings['num_generations']}: give 1 or more.")


def _check_groups(settings: dict) -> None:
    """Completions are generated in whole groups of `num_generations`."""
    group, batch = settings["num_generations"], settings["per_device_train_batch_size"]
    steps = settings["steps_per_generation"] or settings["gradient_accumulation_steps"]
    total = settings["generation_batch_size"] or batch * steps * processes.count()
    least = 1 if "critic" in settings else 2
    if group < least:
        why = (
            ": GRPO compares the completions of one prompt, so it needs at least 2."
            if least == 2
            else ": give 1 or more."
        )
        raise InputError(f"--num_generations {group}{why}")
    if total % group:
        fits = [str(n) for n in range(least, total + 1) if total % n == 0]
        raise InputError(
            f"--num_generations {group} does not divide the {total} completions of a generation batch "
            f"(--per_device_train_batch_size {batch} x {steps}{in_processes()}): take {', '.join(fits[:8])}, or "
            "another batch size."
        )


def in_processes() -> str:
    return f" x {processes.count()} processes" if processes.count() > 1 else ""
