"""Everything that can be known to go wrong, checked in seconds, before any weight is loaded.

The gold self-test is the heart of it: a row is worth training on only if its own gold answer, written in the
expected form, earns full marks by the task's rewards, and a wrong answer earns no correctness.
"""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from recipes import hardware, hub
from recipes.errors import InputError
from recipes.guard import GuardedReward
from recipes.memory import estimate_gb
from recipes.tasks import Task
from rewards.answers import gold_answer

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
MOST_ROWS_TESTED = 10_000
ROWS_NAMED = 5


@dataclass
class Checked:
    """What the preflight found fit for use."""

    tokenizer: PreTrainedTokenizerBase
    train: Dataset  # with the column `prompt`
    held_out: Dataset
    rewards: list[GuardedReward]


def preflight(args, config, model_args, task: Task, machine: hardware.Machine) -> Checked:
    """Check settings, model, template, data and memory; raises `InputError` for what cannot work."""
    started = time.monotonic()
    if model_args.load_in_4bit and config.use_vllm:
        raise InputError(
            "4-bit weights and vLLM do not go together in TRL: add --load_in_4bit False, or drop --use_vllm."
        )
    weights, names = config.reward_weights, [reward.__name__ for reward in task.reward_funcs]
    if weights is not None and len(weights) != len(names):
        raise InputError(f"--reward_weights has {len(weights)} values; give {len(names)}, for {', '.join(names)}.")
    model_config, tokenizer = _read_model(model_args, config)
    prefill = _check_template(tokenizer, task)
    train, held_out = task.load(args.dataset_name, args.dataset_config, config.seed)
    rewards = [GuardedReward(reward, prefill) for reward in task.reward_funcs]
    train = usable_rows(train, task, "train")
    held_out = usable_rows(held_out.select(range(min(args.eval_samples, len(held_out)))), task, "held-out")
    train, held_out = (rows.add_column("prompt", [*map(task.prompt, rows["question"])]) for rows in (train, held_out))

    prompts = sorted(train["prompt"], key=lambda messages: -len(messages[-1]["content"]))[:20]
    prompt_length = max(len(tokenizer.apply_chat_template(p, add_generation_prompt=True)["input_ids"]) for p in prompts)
    needed = estimate_gb(model_config, model_args, config, prompt_length)
    print(
        f"preflight: {len(train):,} train and {len(held_out):,} held-out rows pass the gold self-test; "
        f"{config.generation_batch_size} completions a step = {config.generation_batch_size // config.num_generations} "
        f"prompts x {config.num_generations} generations; memory about {needed:.1f} of {machine.free_gb:.1f} GB free; "
        f"{time.monotonic() - started:.1f} s."
    )
    if prefill:
        print(f"The chat template begins every completion with {prefill.strip()}: the rewards judge it as written.")
    if needed > machine.free_gb:
        print(
            f"warning: this run may need {needed - machine.free_gb:.1f} GB more than is free. Lower "
            "--per_device_train_batch_size first, then --max_completion_length, or take a smaller model."
        )
    return Checked(tokenizer, train, held_out, rewards)


def check_batch(settings: dict) -> None:
    """A step's completions must be whole groups of `num_generations`; raises `InputError`."""
    group, batch = int(settings["num_generations"]), int(settings["per_device_train_batch_size"])
    processes = int(os.environ.get("WORLD_SIZE", 1))
    steps = settings.get("steps_per_generation") or settings["gradient_accumulation_steps"]
    total = int(settings.get("generation_batch_size") or batch * int(steps) * processes)
    if group < 2:
        raise InputError(
            f"--num_generations {group}: GRPO compares the completions of one prompt, so it needs at least 2."
        )
    if total % group:
        fits = [str(n) for n in range(2, total + 1) if total % n == 0]
        raise InputError(
            f"--num_generations {group} does not divide the {total} completions of a step "
            f"(--per_device_train_batch_size {batch} x {steps} x {processes} processes): "
            f"take {', '.join(fits[:8])}, or another batch size."
        )


def usable_rows(rows: Dataset, task: Task, name: str) -> Dataset:
    """`rows` without those that fail the gold self-test, which are counted and named; over half: `InputError`."""
    tested = rows.select(range(min(len(rows), MOST_ROWS_TESTED)))
    golds = [gold_answer(gold) for gold in tested["answer"]]
    perfect = _judge(task, [task.written(gold) for gold in golds], tested)
    # "1" in front makes another number of any number.
    wrong = _judge(task, [task.written("1" + gold) for gold in golds], tested)
    failures = {}
    for row, question in enumerate(tested["question"]):
        scores = [values[row] for values in perfect]
        if not isinstance(question, str) or not question.strip():
            failures[row] = "it has no question"
        elif None in scores:
            failures[row] = f"its gold answer {golds[row]!r:.60} is unusable"
        elif min(scores) < 1:
            failures[row] = f"its own gold answer {golds[row]!r:.60} scores {scores}"
        elif wrong[0][row] != 0:
            failures[row] = f"a wrong answer is paid {wrong[0][row]}"
    if not failures:
        return rows
    named = "; ".join(f"{tested[row]['question']!r:.60}: {why}" for row, why in [*failures.items()][:ROWS_NAMED])
    more = f"; and {len(failures) - ROWS_NAMED} more" if len(failures) > ROWS_NAMED else ""
    verdict = f"{len(failures)} of {len(tested)} {name} rows fail the gold self-test ({named}{more})"
    if 2 * len(failures) > len(tested):
        raise InputError(f"{verdict}: the column `answer` must hold a number, or a solution ending in `#### number`.")
    print(f"warning: {verdict}; they are left out.")
    return rows.select([row for row in range(len(rows)) if row not in failures])


def _judge(task: Task, completions: list[str], rows: Dataset) -> list[list[float | None]]:
    columns = {name: rows[name] for name in rows.column_names}
    logging.getLogger("rewards").setLevel(logging.ERROR)  # the rows are named here, in one sentence
    try:
        return [reward(prompts=rows["question"], completions=completions, **columns) for reward in task.reward_funcs]
    finally:
        logging.getLogger("rewards").setLevel(logging.NOTSET)


def _read_model(model_args, config):
    """The model's configuration and tokenizer, which are small."""
    name = model_args.model_name_or_path
    path = hardware.model_path(name)
    if not Path(path).is_dir():
        if hub.is_local_path(name):
            raise InputError(f"The model folder {name} does not exist: give --model_name_or_path a folder or a hub id.")
        hub.go_offline_if_unreachable()
    elif (Path(path) / "adapter_config.json").exists() and not (Path(path) / "config.json").exists():
        raise InputError(f"{name} holds a LoRA adapter, not a model: merge it into its base model first.")
    elif not (Path(path) / "config.json").exists():
        raise InputError(f"The model folder {name} holds no config.json: give the folder that `save_pretrained` wrote.")
    options = {"revision": model_args.model_revision, "trust_remote_code": config.trust_remote_code}
    try:
        model_config = AutoConfig.from_pretrained(path, **options)
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", truncation_side="left", **options)
    except Exception as error:  # transformers raises many kinds
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(
            f"The model {name} cannot be loaded ({reason}). Check the name and the connection, or give a local "
            "folder: --model_name_or_path PATH. The bundled miniature is --model_name_or_path starter."
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model_config, tokenizer


def _check_template(tokenizer: PreTrainedTokenizerBase, task: Task) -> str:
    """What the template has written of the completion when the model begins (`<think>` or nothing)."""
    if tokenizer.chat_template is None:
        raise InputError("The tokenizer has no chat template: take an instruct model, or add a template to it.")
    seen = tokenizer.decode(tokenizer.encode(" ".join(TAGS), add_special_tokens=False), skip_special_tokens=True)
    hidden = [tag for tag in TAGS if tag not in seen]
    if hidden:
        raise InputError(
            f"{' '.join(hidden)} do not survive this tokenizer's decoding, so the rewards would never see them: "
            "add them as ordinary tokens, not special ones (tokenizer.add_tokens, special_tokens=False)."
        )
    prompt = task.prompt("1 + 1?")
    rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    _, tag, rest = rendered.rpartition("<think>")
    return tag + rest if tag and not rest.strip() else ""
