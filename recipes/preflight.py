"""Everything that can be known to go wrong, checked in seconds, before any weight is loaded.

The gold self-test is the heart of it: a row is worth training on only if its own gold answer, written in the
expected form, earns full marks by the task's rewards, and a wrong answer earns no correctness.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from jinja2 import TemplateError
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from recipes import hardware, hub
from recipes.difficulty import by_difficulty
from recipes.errors import InputError, near_path, one_line
from recipes.guard import GuardedReward
from recipes.learned_reward import LearnedReward
from recipes.memory import estimate_gb
from recipes.models import check_adapter, find_model, only_scores
from recipes.run import is_run
from recipes.samples import read_samples
from recipes.tasks import Task
from recipes.vllm import check_server, check_share, in_this_process, reserved_gb

ROWS_NAMED = 5
ROWS_TRIED = 8
AT_ONCE = 64  # rows of the gold self-test, between two moves of its progress bar


@dataclass
class Checked:
    """What the preflight found fit for use."""

    tokenizer: PreTrainedTokenizerBase
    train: Dataset  # with the column `prompt`
    held_out: Dataset
    rewards: list[Callable]
    samples: list[dict] | None  # scored, of --samples, within the asked pass rates


def preflight(
    args, config, model_args, task: Task, machine: hardware.Machine, samples_are_data: bool = False
) -> Checked:
    """Check settings, model, template, data and memory; raises `InputError` for what cannot work.

    Args:
        samples_are_data (`bool`): `--samples` is what is trained on; else it only tells how hard the problems are.
    """
    started = time.monotonic()
    model_config, tokenizer = _read_model(model_args, config)
    if not isinstance(config.chat_template_kwargs or {}, dict):
        raise InputError("--chat_template_kwargs must be JSON in braces, such as '{\"enable_thinking\": false}'.")
    template = {**(config.chat_template_kwargs or {}), "add_generation_prompt": True, "tokenize": False}
    prompt_of, prefill = _check_template(tokenizer, task, template)
    train, held_out = task.load(args.dataset_name, args.dataset_config, config.seed)
    rewards = guarded(task, prefill, args.reward_timeout)
    samples = None
    if args.samples:
        samples = read_samples(args.samples, args.task, needs=[task.correctness.__name__, task.format.__name__])
        if samples_are_data:
            samples = _training_samples(samples, held_out, args, task)
        elif _chooses(args):
            train, sentence = _by_difficulty(train, samples, args, task)
            print(sentence)
        else:
            raise InputError(
                "--samples says how hard the problems are: add --curriculum, --min_pass_rate or --max_pass_rate, or "
                "drop it."
            )
    train = usable_rows(train, task, "train")
    check_named_rewards(train, task, [*(args.extra_rewards or []), *(args.measure_only or [])])
    eval_samples = getattr(args, "eval_samples", len(held_out))
    held_out = usable_rows(held_out.select(range(min(eval_samples, len(held_out)))), task, "held-out")
    prompts = getattr(config, "generation_batch_size", 1) // getattr(config, "num_generations", 1)
    if len(train) < prompts:
        raise InputError(
            f"{len(train)} usable train rows are fewer than the {prompts} prompts of one generation batch: "
            f"give more rows, or lower --per_device_train_batch_size."
        )
    train, held_out = (rows.add_column("prompt", [*map(prompt_of, rows["question"])]) for rows in (train, held_out))

    longest = sorted(train["question"], key=len)[-20:]
    rendered = [tokenizer.apply_chat_template(prompt_of(question), **template) for question in longest]
    prompt_length = max(len(tokenizer.encode(text, add_special_tokens=False)) for text in rendered)
    if getattr(config, "use_vllm", False) and hasattr(config, "vllm_mode"):  # a sampler has no modes
        _check_vllm(train, model_config, model_args, config, tokenizer, template, machine)
    needed = estimate_gb(model_config, model_args, config, prompt_length)
    if needed:
        needed += sum(reward.weights_gb for reward in task.reward_funcs if isinstance(reward, LearnedReward))
    memory = f"about {needed:.1f}" if needed else "(not estimated for this architecture)"
    reserved = reserved_gb(config, machine)
    if needed and reserved:
        memory = f"about {needed:.1f} and {reserved:.1f} for vLLM (--vllm_gpu_memory_utilization)"
        needed += reserved
    generated = ""
    if hasattr(config, "generation_batch_size"):
        sizes = f"{config.generation_batch_size} completions = {prompts} prompts x {config.num_generations}"
        generated = f"a generation batch is {sizes}; "
    print(
        f"preflight: {len(train):,} train and {len(held_out):,} held-out rows pass the gold self-test; {generated}"
        f"memory {memory} of {machine.free_gb:.1f} GB free; {time.monotonic() - started:.1f} s."
    )
    if prefill:
        print(f"The chat template begins every completion with {prefill.strip()}: the rewards judge it as written.")
    if needed and needed > machine.free_gb:
        print(
            f"warning: this run may need {needed - machine.free_gb:.1f} GB more than is free. Lower "
            f"{'--vllm_gpu_memory_utilization or ' if reserved else ''}--per_device_train_batch_size first, then "
            "--max_completion_length, or take a smaller model."
        )
    return Checked(tokenizer, train, held_out, rewards, samples)


def _check_vllm(rows: Dataset, model_config, model_args, config, tokenizer, template: dict, machine) -> None:
    """What vLLM has to hold: its copy of the weights, and a longest prompt with a whole completion."""
    texts = [tokenizer.apply_chat_template(prompt, **template) for prompt in rows["prompt"]]
    tokens = max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) + config.max_completion_length
    if in_this_process(config):
        check_share(model_config, model_args, config, machine)
        # The model's own limit is far longer, and memory for all of it is often more than vLLM's share.
        config.vllm_max_model_length = config.vllm_max_model_length or tokens
    name = model_args.model_name_or_path
    check_server(config, find_model(name).base, name, tokens)


def guarded(task: Task, prefill: str = "", seconds: float = 0) -> list[Callable]:
    """The rewards of `task`; a rule that raises does not end a run, a reward model does: no row is to blame."""
    return [
        reward.behind(prefill) if isinstance(reward, LearnedReward) else GuardedReward(reward, prefill, seconds)
        for reward in task.reward_funcs
    ]


def _chooses(args) -> bool:
    """Whether problems are chosen or ordered by how hard they are."""
    return args.min_pass_rate > 0 or args.max_pass_rate < 1 or args.curriculum


def _by_difficulty(rows: Dataset, samples: list[dict], args, task: Task) -> tuple[Dataset, str]:
    how = {name: getattr(args, name) for name in ("min_pass_rate", "max_pass_rate", "curriculum")}
    return by_difficulty(rows, samples, task, **how)


def held_out_texts(task: Task, held_out: Dataset) -> set[str]:
    """The held-out questions, as they stand, bare, and as they are asked where a template takes no system message."""
    asked = [task.prompt_without_system(question)[-1]["content"] for question in held_out["question"]]
    return {text.strip() for text in (*held_out["question"], *asked, *map(task.bare, held_out["question"]))}


def _training_samples(samples: list[dict], held_out: Dataset, args, task: Task) -> list[dict]:
    """The samples that may be trained on, chosen and ordered by pass rate where that is asked for."""
    kept_out = held_out_texts(task, held_out)
    usable = [row for row in samples if row["question"].strip() not in kept_out]
    if not usable:
        raise InputError(f"All of {args.samples} are held-out problems: sample the train rows (--split train).")
    if len(usable) < len(samples):
        print(f"{len(samples) - len(usable)} of {len(samples)} samples are of held-out problems: they are left out.")
    if _chooses(args):
        rows = [{"question": row["question"], "answer": row["answer"], "i": i} for i, row in enumerate(usable)]
        chosen, sentence = _by_difficulty(Dataset.from_list(rows), usable, args, task)
        print(sentence)
        usable = [usable[i] for i in chosen["i"]]
    return usable


def usable_rows(rows: Dataset, task: Task, name: str) -> Dataset:
    """`rows` without those that fail the gold self-test, which are counted and named; over half: `InputError`."""
    columns = {name: list(rows[name]) for name in rows.column_names}
    questions, golds = columns["question"], [task.gold(answer) for answer in columns["answer"]]
    perfect = _judge(task, [task.written(gold) for gold in golds], columns)
    wrong = _judge(task, [task.written(task.wrong(gold)) for gold in golds], columns)
    failures = {}
    for row, question in enumerate(questions):
        scores = [values[row] for values in perfect]
        if not isinstance(question, str) or not question.strip():
            failures[row] = "it has no question"
        elif None in scores:
            gold = f"its gold answer {golds[row]!r:.60} is unusable"
            failures[row] = f"its {' or '.join(task.columns)} cannot be used" if task.columns else gold
        elif min(scores) < 1:
            failures[row] = f"its own gold answer {golds[row]!r:.60} scores {scores}"
        elif wrong[0][row] != 0:
            failures[row] = f"a wrong answer is paid {wrong[0][row]}"
    if not failures:
        return rows
    named = "; ".join(f"{questions[row]!r:.60}: {why}" for row, why in [*failures.items()][:ROWS_NAMED])
    more = f"; and {len(failures) - ROWS_NAMED} more" if len(failures) > ROWS_NAMED else ""
    verdict = f"{len(failures)} of {len(rows)} {name} rows fail the gold self-test ({named}{more})"
    if 2 * len(failures) > len(rows):
        raise InputError(f"{verdict}: a row needs {task.needed}.")
    print(f"warning: {verdict}; they are left out.")
    return rows.select([row for row in range(len(rows)) if row not in failures])


def check_named_rewards(rows: Dataset, task: Task, names: list[str]) -> None:
    """Raise `InputError` where a reward that the user has named cannot judge the task's own gold answers."""
    twice = [i for i in range(min(len(rows), ROWS_TRIED)) for _ in range(2)]  # some compare those of one prompt
    columns = rows[twice]
    completions = [task.written(task.gold(answer)) for answer in columns["answer"]]
    for reward in task.reward_funcs:
        if reward.__name__ not in names or isinstance(reward, LearnedReward):
            continue
        logging.getLogger("rewards").setLevel(logging.ERROR)
        try:
            judged = reward(prompts=columns["question"], completions=completions, **columns)
        except (ValueError, TypeError) as error:  # a reward says in its own words what it needs
            raise InputError(f"{reward.__name__} cannot be used on this task: {one_line(error)}") from error
        finally:
            logging.getLogger("rewards").setLevel(logging.NOTSET)
        if all(value is None for value in judged):
            raise InputError(f"{reward.__name__} cannot judge any row of this task, gold answers neither: drop it.")


def _judge(task: Task, completions: list[str], columns: dict[str, list]) -> list[list[float | None]]:
    logging.getLogger("rewards").setLevel(logging.ERROR)  # the rows are named here, in one sentence
    try:
        judged = [[], []]
        starts = range(0, len(completions), AT_ONCE)
        for start in tqdm(starts, desc="gold self-test", delay=2, leave=False, disable=None):
            some = slice(start, start + AT_ONCE)
            batch = {"completions": completions[some], **{name: values[some] for name, values in columns.items()}}
            # The text around the answer is ours: no matter for other rewards.
            for values, reward in zip(judged, (task.correctness, task.format), strict=True):
                values += reward(prompts=batch["question"], **batch)
        return judged
    finally:
        logging.getLogger("rewards").setLevel(logging.NOTSET)


def _read_model(model_args, config):
    """The model's configuration and tokenizer, which are small."""
    name = model_args.model_name_or_path
    source = find_model(name)
    path = Path(source.base)
    if path.is_dir():
        _check_model_folder(name, path)
    elif source.adapter and hub.is_local_path(source.base):
        raise InputError(
            f"The adapter {source.adapter} belongs to {source.base}, which does not exist: put the base model's "
            "place into its adapter_config.json, as base_model_name_or_path."
        )
    elif hub.is_local_path(name):
        raise InputError(
            f"The model folder {name} does not exist: give --model_name_or_path a folder or a hub id.{near_path(name)}"
        )
    else:
        hub.go_offline_if_unreachable()
    revision = source.revision or model_args.model_revision
    options = {"revision": revision, "trust_remote_code": config.trust_remote_code}
    try:
        model_config = AutoConfig.from_pretrained(str(path), **options)
        tokenizer = AutoTokenizer.from_pretrained(str(path), padding_side="left", truncation_side="left", **options)
    except Exception as error:  # transformers raises many kinds
        raise InputError(
            f"The model {name} cannot be loaded ({one_line(error).rstrip('.')}). Check the name and the connection, "
            "or give a local folder: --model_name_or_path PATH. The bundled miniature is called starter."
        ) from error
    if only_scores(source, model_config):
        raise InputError(f"{name} is a reward model and writes no text: give it as --reward_model, or name another.")
    if source.adapter:
        check_adapter(source, model_config)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model_config, tokenizer


def _check_model_folder(name: str, path: Path) -> None:
    if not (path / "config.json").exists():
        if is_run(path):
            raise InputError(f"The run {name} has saved no model yet: finish it first, or name another model.")
        raise InputError(f"The model folder {name} holds no config.json: give the folder that `save_pretrained` wrote.")
    if not [*path.glob("*.safetensors"), *path.glob("*.bin")]:
        raise InputError(f"The model folder {name} holds no weights (*.safetensors): give the whole model.")


def _check_template(tokenizer: PreTrainedTokenizerBase, task: Task, template: dict) -> tuple[Callable, str]:
    """How to ask a question, and what the template has written of the completion when the model begins."""
    if tokenizer.chat_template is None:
        raise InputError("The tokenizer has no chat template: take an instruct model, or add a template to it.")
    tags = re.findall(r"</?\w+>", task.written(""))
    seen = tokenizer.decode(tokenizer.encode(" ".join(tags), add_special_tokens=False), skip_special_tokens=True)
    hidden = [tag for tag in tags if tag not in seen]
    if hidden:
        raise InputError(
            f"{' '.join(hidden)} do not survive this tokenizer's decoding, so the rewards would never see them: "
            "add them as ordinary tokens, not special ones (tokenizer.add_tokens, special_tokens=False)."
        )
    for prompt_of in (task.prompt, task.prompt_without_system):  # some templates refuse a system message
        try:
            rendered = tokenizer.apply_chat_template(prompt_of("1 + 1?"), **template)
            break
        except (TemplateError, ValueError, TypeError) as error:  # the user's settings of the template, too
            refusal = one_line(error)
    else:
        raise InputError(f"The chat template cannot render a question: {refusal}.")
    _, tag, rest = rendered.rpartition("<think>")
    return prompt_of, tag + rest if tag and not rest.strip() else ""
