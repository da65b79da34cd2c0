"""What GRPO, PPO and DPO in 4-bit LoRA take on cards of 8 to 24 GB, memory and tokens per second: `make bench-gpu`.

    python -m benchmarks.gpu                                 # everything; on a GPU some hours
    python -m benchmarks.gpu --only cards                    # a part: cards, claims, savings, baseline
    python -m benchmarks.gpu --only grpo-8gb 7b-12gb         # single rows
    python -m benchmarks.gpu --missing                       # go on after a call that was ended
    python -m benchmarks.gpu --table                         # only print the tables of what was measured

Nothing is downloaded: the models have the shapes of Qwen2.5 and random weights, and a tokenizer of bytes. Each row runs
a recipe's own `main` in a process of its own, with the settings that recipes/hardware.py chooses for the card. Three
things are added from outside: a callback that measures; a task whose reward is made of token numbers, since random
tokens are no text (benchmarks/tasks); and the shortest completion, which is also the longest. DPO takes pairs of that
length, made beforehand, and samples nothing.

A card is a hard cap on torch's allocator, set before anything is loaded: the card's size, in GiB as cards are sold,
less what a CUDA context takes. "Out of memory" is a result and stays in the table. What lies outside the allocator,
such as the paged state of bitsandbytes' optimizers, is seen as free memory of the device that is gone; a run that this
takes over the card is measured once more, with a cap that leaves room for it, and if that does not help, the table says
so. Other programs on the same GPU would be counted as well: let there be none.

Tokens per second are completion tokens, generated and trained on, over whole steps without the first. They are those of
the GPU that it ran on: a cap makes a card smaller, not slower.

    cards     each card with its model: GRPO, PPO with its critic on an adapter, PPO with a shared critic, DPO
    claims    GRPO with 8 generations x 512 tokens: 1.5B under 5 GB, 7B under 12 GB
    savings   GRPO on 1.5B without a cap, with one saving taken away at a time
    baseline  a bare GRPOTrainer script with TRL's defaults, in turns with the recipe: bfloat16 weights and a LoRA of
              the recipe's rank on the same layers; completions, their length and number are the recipe's

Without a GPU a model of a few layers and completions of a few tokens go the same way. This shows that everything runs:
memory is then resident memory, most of it libraries, and there is no cap.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig
from tokenizers.pre_tokenizers import ByteLevel
from tqdm import tqdm
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import recipes.tasks
from recipes import hardware, preflight
from recipes.errors import InputError, did_you_mean, exit_kindly, is_out_of_memory, one_line, refuse
from recipes.job import PACKAGES
from recipes.memory import GB, estimate_gb
from recipes.qlora import QLoRA
from recipes.run import write_atomically
from recipes.tasks import load_task

ROOT = Path(__file__).resolve().parents[1]
TASK = "random_weights"
GIB = 2**30
TINY_TOKENS = 8  # a completion without a GPU
TAIL = 12  # lines of a failed run that are shown
free_memory = torch.cuda.mem_get_info  # of the device, whatever `limit_memory` makes of it

# Hidden size, layers, heads, key-value heads, size of the MLP, vocabulary, whether head and embedding are one.
SHAPES = {
    "0.5B": (896, 24, 14, 2, 4864, 151_936, True),
    "1.5B": (1536, 28, 12, 2, 8960, 151_936, True),
    "3B": (2048, 36, 16, 2, 11_008, 151_936, True),
    "7B": (3584, 28, 28, 4, 18_944, 152_064, False),
    "tiny": (64, 2, 4, 2, 128, 2048, True),  # without a GPU
}
TRAINERS = {
    "grpo": ("GRPO", "grpo", {}),
    "ppo-adapter": ("PPO, critic on an adapter", "ppo", {"critic": "adapter"}),
    "ppo-shared": ("PPO, shared critic", "ppo", {"critic": "shared"}),
    "dpo": ("DPO", "dpo", {}),
}
ONE_PASS = {"per_device_train_batch_size": hardware.COMPLETIONS_PER_STEP, "gradient_accumulation_steps": 1}
SMALLEST_PASSES = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": hardware.COMPLETIONS_PER_STEP}
# What the recipe saves memory by, as the flags that take it away.
SAVINGS = {
    "4-bit weights": {"load_in_4bit": False},
    "double quantization": {"use_bnb_nested_quant": False},
    "gradient checkpointing": {"gradient_checkpointing": False},
    "paged 8-bit optimizer": {"optim": "adamw_torch"},
    "small passes": ONE_PASS,
}
# What it could save by, and does not. (The head is computed in chunks whatever is set: TRL's trainer sees to it.)
MORE_SAVINGS = {
    "generating 32 at a time": {"generation_batch_size": 32},
    "Liger kernels": {"use_liger_kernel": True},
}
OVER = "over the card"
NO_LIGER = "liger_kernel is not installed"

ON_GPU = (
    "GB are 10^9 bytes; a card is as many GiB, the limit of a claim is in GB. allocated, reserved: torch's peak, "
    "loading included; in all: reserved, the CUDA context and what lies outside torch's allocator; needed: allocated "
    "and outside. error: the preflight's estimate against in all. Tokens per second are this GPU's, not the card's."
)
ON_CPU = (
    "Without a GPU this shows only that everything runs: a tiny model, short completions, no cap on memory. GB are "
    "resident memory at its peak, most of it libraries."
)

# What a row says of the settings that were in force.
OF_CONFIG = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "generation_batch_size", "num_generations"),
    *("max_completion_length", "gradient_checkpointing", "optim", "bf16", "critic", "use_liger_kernel"),
)
OF_MODEL = ("load_in_4bit", "use_bnb_nested_quant", "use_peft", "lora_r", "dtype", "attn_implementation")


@dataclass(frozen=True)
class Row:
    """One run to measure."""

    name: str  # what --only calls it
    part: str
    what: str  # what the table calls it
    recipe: str  # grpo, ppo, dpo, or bare: a script without the recipes
    shape: str
    profile_gb: int  # the card whose settings it takes, in GiB
    cap_gb: int | None  # the card that it has to fit, in `unit`; None: the whole GPU
    flags: dict = field(default_factory=dict)
    unit: float = GIB  # as cards are sold; a claim is in GB


def rows(rounds: int, on_gpu: bool) -> list[Row]:
    """Everything that can be measured, in order."""
    found = []
    for card in (8, 12, 16, 24):
        for name, (what, recipe, flags) in TRAINERS.items():
            found.append(Row(f"{name}-{card}gb", "cards", what, recipe, shape_for(card), card, card, flags))
    for shape, cap in (("1.5B", 5), ("7B", 12)):
        name = f"{shape.lower()}-{cap}gb"
        flags = SMALLEST_PASSES | {"num_generations": 8, "max_completion_length": 512}
        found.append(Row(name, "claims", "GRPO, 8 x 512 tokens", "grpo", shape, 12, cap, flags, unit=GB))

    everything = functools.reduce(dict.__or__, SAVINGS.values())
    but_passes = {name: value for name, value in everything.items() if name not in ONE_PASS}
    taken_away = {
        "the recipe": {},
        **{f"without {name}": flags for name, flags in SAVINGS.items()},
        "without all but small passes": but_passes,
        "without all of them": everything,
        **{f"with {name}": flags for name, flags in MORE_SAVINGS.items()},
    }
    for what, flags in taken_away.items():
        name = "savings-" + what.lower().replace(" ", "-")
        found.append(Row(name, "savings", what, "grpo", "1.5B", 12, None, flags))
    for number in range(1, rounds + 1):
        both = [("recipe", "grpo"), ("bare", "bare")]
        for what, recipe in both if number % 2 else both[::-1]:  # each goes first in turn
            found.append(Row(f"baseline-{number}-{what}", "baseline", what, recipe, "1.5B", 12, None))
    return found if on_gpu else [Row(**asdict(row) | {"shape": "tiny"}) for row in found]


def shape_for(card: int) -> str:
    """The shape of the model that suits a card of `card` GiB."""
    model = next(model for needed, model, *_ in hardware.PROFILES if card * GIB / GB >= needed)
    return re.search(r"Qwen2\.5-(.+?)-", model)[1]


def shape_config(shape: str) -> Qwen2Config:
    hidden, layers, heads, key_value_heads, inner, vocabulary, tied = SHAPES[shape]
    tokenizer = make_tokenizer()
    return Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_tokenizer() -> Qwen2Tokenizer:
    """Every byte a token, with the starter's chat template; what a model writes beyond them decodes to nothing.

    The starter's own would be read wrongly beside a Qwen2 model: AutoTokenizer makes a Qwen2Tokenizer of it.
    """
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    vocabulary = {token: number for number, token in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    pad, end, *asked = special
    tokenizer = Qwen2Tokenizer(
        vocabulary, [], pad_token=pad, eos_token=end, unk_token=pad, extra_special_tokens=asked, padding_side="left"
    )
    tokenizer.chat_template = (hardware.STARTER_FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def make_model(shape: str, folder: Path) -> None:
    """Random weights in bfloat16, made on the GPU where there is one, and a tokenizer."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = Qwen2ForCausalLM(shape_config(shape))
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def find_task() -> recipes.tasks.Task:
    """The task of this benchmark, laid beside the recipes' own."""
    folder = str(ROOT / "benchmarks" / "tasks")
    if folder not in recipes.tasks.__path__:
        recipes.tasks.__path__.append(folder)
    return load_task(TASK)


class Taken(TrainerCallback):
    """When each step ended, the tokens of a completion, and the memory outside torch's allocator so far."""

    def __init__(self):
        self.ends, self.mean_length, self.outside, self.loaded = [], None, 0, None
        self.on_gpu = torch.cuda.is_available()
        if self.on_gpu:  # a context is there, and nothing else
            self.free_at_start = start_context() + free_memory()[0]

    def on_train_begin(self, args, state, control, **kwargs):
        self.loaded = torch.cuda.max_memory_allocated() / GB if self.on_gpu else peak_resident()

    def on_step_end(self, args, state, control, **kwargs):
        if self.on_gpu:
            torch.cuda.synchronize()
            gone = self.free_at_start - free_memory()[0]
            self.outside = max(self.outside, gone - torch.cuda.memory_reserved())
        self.ends.append(time.perf_counter())

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.mean_length = (logs or {}).get("completions/mean_length", self.mean_length)


def peak_resident() -> float:
    """The most memory that this process has held, in GB."""
    return hardware.peak_memory_gb(hardware.cpu())


def machine_for(row: Row, context_gb: float) -> hardware.Machine:
    """The machine that the recipe is to believe it is on: a card with nothing on it but a context."""
    if torch.cuda.is_available():
        free = row.profile_gb * GIB / GB - context_gb
        return replace(hardware.detect(), name=f"a card of {row.profile_gb} GB", free_gb=free)
    return hardware.Machine("cpu", "CPU", float(row.profile_gb), bf16=False)


def limit_memory(cap_gb: int | None, elsewhere_gb: float, unit: float = GIB) -> float | None:
    """Let torch hold what a card of `cap_gb` times `unit` bytes has beside `elsewhere_gb` GB.

    Returns the limit in GB, None for none.

    Libraries that ask how much is free, to place a model or to make room for it, hear what the card would have.
    """
    if cap_gb is None or not torch.cuda.is_available():
        return None
    limit, total = cap_gb * unit - elsewhere_gb * GB, torch.cuda.get_device_properties(0).total_memory
    if limit > total:
        raise InputError(f"This GPU holds {total / GB:.1f} GB, less than a card of {cap_gb} GB")
    torch.cuda.set_per_process_memory_fraction(limit / total)
    torch.cuda.mem_get_info = lambda device=None: (int(limit) - torch.cuda.memory_reserved(), int(cap_gb * unit))
    return limit / GB


def measure(row: Row, folder: str, model: str, steps: int, context_gb: float, outside_gb: float) -> dict:
    """Train in this process; what it took. Out of memory is a finding, too.

    Args:
        context_gb (`float`): what a CUDA context takes, in GB.
        outside_gb (`float`): what else the cap leaves room for outside torch's allocator, in GB.
    """
    found = {"context_gb": context_gb, "limit_gb": limit_memory(row.cap_gb, context_gb + outside_gb, row.unit)}
    machine, task, taken = machine_for(row, context_gb), find_task(), Taken()
    flags = row.flags | ({} if machine.device == "cuda" else {"max_completion_length": TINY_TOKENS})
    given = {"model_name_or_path": model, **flags}
    length = hardware.defaults(machine, task, given, row.recipe)["max_completion_length"]
    length = flags.get("max_completion_length", length)
    shared = {"max_steps": steps, "output_dir": f"{folder}/run", "report_to": "none", "save_strategy": "no"}
    if row.recipe != "dpo":
        shared["generation_kwargs"] = {"min_new_tokens": length}
    try:
        if row.recipe == "bare":
            bare(model, length, shared, task, taken, found)
        else:
            run_recipe(row.recipe, machine, given | shared, pairs_file(folder, length, steps), taken, found)
        found["outcome"] = "ran"
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        found |= {"outcome": "out of memory", "while": f"step {len(taken.ends) + 1}" if taken.loaded else "loading"}

    found["loaded_gb"] = taken.loaded
    if machine.device == "cuda":
        found["allocated_gb"] = torch.cuda.max_memory_allocated() / GB
        found["reserved_gb"] = torch.cuda.max_memory_reserved() / GB
        found["outside_gb"] = taken.outside / GB
        found["needed_gb"] = found["allocated_gb"] + found["outside_gb"]
        found["peak_gb"] = context_gb + found["reserved_gb"] + found["outside_gb"]
    else:
        found["needed_gb"] = found["peak_gb"] = peak_resident()
    if found["outcome"] != "ran":
        return found
    if found["limit_gb"] and found["peak_gb"] > row.cap_gb * row.unit / GB:
        found["outcome"] = OVER
    if found.get("estimate_gb"):
        found["estimate_error"] = found["estimate_gb"] / found["peak_gb"] - 1
    completions = 2 * hardware.EXAMPLES_PER_STEP if row.recipe == "dpo" else hardware.COMPLETIONS_PER_STEP
    found["tokens_per_step"] = round(completions * (taken.mean_length or length))
    found["seconds"] = [after - before for before, after in zip(taken.ends, taken.ends[1:], strict=False)]
    found["tokens_per_second"] = found["tokens_per_step"] / statistics.mean(found["seconds"])
    return found


def run_recipe(name: str, machine: hardware.Machine, flags: dict, pairs: Path, taken: Taken, found: dict) -> None:
    """A recipe's `main` as a user calls it, on `machine`, with `taken` among its callbacks."""
    recipe = importlib.import_module(f"recipes.{name}")
    train = recipe.train

    def train_and_measure(job, trainer, **kwargs):
        trainer.add_callback(taken)
        train(job, trainer, **kwargs)

    def estimate(model_config, model_args, config, prompt_length):
        found["prompt_length"] = prompt_length
        settings = {key: getattr(config, key, None) for key in OF_CONFIG}
        found["settings"] = settings | {key: getattr(model_args, key) for key in OF_MODEL}
        found["estimate_gb"] = estimate_gb(model_config, model_args, config, prompt_length)
        return found["estimate_gb"]

    recipe.train, hardware.detect, preflight.estimate_gb = train_and_measure, lambda: machine, estimate
    flags |= {"task": TASK, "eval_samples": 0, "watch": False}
    if name == "dpo":
        flags["preferences"] = pairs
    values = {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in flags.items()}
    recipe.main.__wrapped__([f"--{key}={value}" for key, value in values.items()])  # without its words on memory


def bare(model: str, length: int, settings: dict, task: recipes.tasks.Task, taken: Taken, found: dict) -> None:
    """A script as TRL's documentation has it: what is not said here is TRL's default."""
    on_cpu = not torch.cuda.is_available()
    dtype = "float32" if on_cpu else "bfloat16"
    train, _ = task.load(None, None, 42)
    own = QLoRA()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=task.reward_funcs,
        args=GRPOConfig(
            gradient_accumulation_steps=hardware.COMPLETIONS_PER_STEP // GRPOConfig.per_device_train_batch_size,
            num_generations=8,
            max_completion_length=length,
            model_init_kwargs={"dtype": dtype},
            use_cpu=on_cpu,
            bf16=False if on_cpu else None,
            logging_steps=1,
            **settings,
        ),
        train_dataset=train.add_column("prompt", [*map(task.prompt, train["question"])]),
        callbacks=[taken],
        peft_config=LoraConfig(r=own.lora_r, lora_alpha=own.lora_alpha, target_modules="all-linear"),
    )
    found["settings"] = {key: getattr(trainer.args, key, None) for key in OF_CONFIG}
    found["settings"] |= {"load_in_4bit": False, "use_peft": True, "lora_r": own.lora_r, "dtype": dtype}
    trainer.train()


def pairs_file(folder: str, length: int, steps: int) -> Path:
    """Pairs for DPO: prompts as the other trainers have them, completions of `length` tokens with the one that ends."""
    task = find_task()
    train, _ = task.load(None, None, 42)
    path = Path(folder) / "pairs.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for question in train["question"][: hardware.EXAMPLES_PER_STEP * steps]:
            row = {"prompt": task.prompt(question)}
            for name, digit in (("chosen", "7"), ("rejected", "8")):  # a digit is a token
                row[name] = [{"role": "assistant", "content": digit * (length - 1)}]
            file.write(json.dumps(row) + "\n")
    return path


def start_context() -> int:
    """Have a CUDA context and what a product of matrices loads into it; bytes that torch itself holds."""
    square = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    (square @ square).sum().item()
    return torch.cuda.memory_reserved()


def measure_context() -> float:
    """What one process takes of a GPU by being there, in GB: free memory before and after another one starts."""
    start_context()
    before, _ = torch.cuda.mem_get_info()
    code = "from benchmarks.gpu import start_context; print(f'@{start_context()}', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        held = next(int(line[1:]) for line in other.stdout if line.startswith("@"))
        return (before - torch.cuda.mem_get_info()[0] - held) / GB
    finally:
        other.kill()
        other.wait()


def in_a_process(command: list, folder: str) -> tuple[dict, str]:
    """What this programme says when it is called by `command`, as JSON after an @, and all of its output."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # of several GPUs one
    environment = {"CUDA_VISIBLE_DEVICES": first, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{folder}/datasets"}
    if not torch.cuda.is_available():
        environment["OMP_NUM_THREADS"] = "1"  # the tiny model's matrices are small
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *map(str, command)],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    found = [line[1:] for line in ran.stdout.splitlines() if line.startswith("@")]
    if ran.returncode or not found:
        why = one_line(ran.stdout.strip().rpartition("\n")[2]) if ran.stdout.strip() else f"exit code {ran.returncode}"
        return {"outcome": f"failed: {why.removeprefix('error: ')}"}, ran.stdout
    return json.loads(found[-1]), ran.stdout


def run_rows(chosen: list[Row], steps: int, output: Path, results: dict) -> None:
    """Measure each of `chosen` and write it to `output` at once, so that a call that is ended loses one row only."""
    call, versions = time.strftime("%Y-%m-%d %H:%M:%S"), {name: version(name) for name in PACKAGES}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        context = {"context_gb": 0.0}
        if torch.cuda.is_available():
            context, _ = in_a_process(["--measure_context"], folder)
            if "context_gb" not in context:
                raise InputError(f"This GPU cannot be measured, {context['outcome']}.")
        for number, row in enumerate(tqdm(chosen, desc="rows", disable=None), start=1):
            found = {"outcome": NO_LIGER}
            if "use_liger_kernel" not in row.flags or importlib.util.find_spec("liger_kernel"):
                found = run_row(row, folder, steps, context["context_gb"])
            results["rows"][row.name] = rounded(
                asdict(row) | {"call": call, "versions": versions, "steps": steps} | found
            )
            output.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(output, json.dumps(results, indent=2) + "\n")
            tqdm.write(told(results["rows"][row.name]), file=sys.stdout)
            if row.shape not in {later.shape for later in chosen[number:]}:
                shutil.rmtree(f"{folder}/{row.shape}", ignore_errors=True)  # 15 GB of 7B


def run_row(row: Row, folder: str, steps: int, context_gb: float) -> dict:
    """What `row` took, in a process of its own; its model is made first, where that has not been done."""
    model = Path(folder, row.shape)
    found, said = {}, ""
    if not model.exists():
        found, said = in_a_process(["--make_model", row.shape, model], folder)
    if "outcome" not in found:
        asked = {"row": asdict(row), "model": str(model), "steps": steps, "context_gb": context_gb, "outside_gb": 0.0}
        for _ in range(2):
            with tempfile.TemporaryDirectory(dir=folder) as own:
                found, said = in_a_process(["--measure", json.dumps(asked | {"folder": own})], own)
            if found["outcome"] != OVER:
                break
            asked["outside_gb"] = found["outside_gb"]  # once more, with room for that
    if found["outcome"].startswith("failed"):
        tqdm.write("\n".join(said.splitlines()[-TAIL:]), file=sys.stderr)
    return found


def rounded(value):
    """Every number to a thousandth."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def told(found: dict) -> str:
    """A finished row in one line."""
    speed = f", {found['tokens_per_second']:,.0f} tokens a second" if "tokens_per_second" in found else ""
    memory = f", {found['peak_gb']:.2f} GB" if "peak_gb" in found else ""
    return f"{found['name']} ({found['shape']}): {outcome(found)}{memory}{speed}"


def outcome(found: dict) -> str:
    return found["outcome"] + (f" ({found['while']})" if "while" in found else "")


def cell(found: dict, name: str, form: str = ".2f") -> str:
    return format(found[name], form) if found.get(name) is not None else "-"


def table(head: list[str], lines: list[list[str]]) -> str:
    """A markdown table whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    lines = [head, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def memory_table(found: list[dict]) -> str:
    """Cards or claims: what was taken, what the preflight expects of the same settings, and how fast it was."""
    head = ["card", "model", "trainer", "outcome", "allocated", "reserved", "in all", "preflight", "error", "tokens/s"]
    return table(
        head,
        [
            [f"{row['cap_gb']} GB", row["shape"], row["what"], outcome(row)]
            + [cell(row, name) for name in ("allocated_gb", "reserved_gb", "peak_gb", "estimate_gb")]
            + [cell(row, "estimate_error", "+.0%"), cell(row, "tokens_per_second", ",.0f")]
            for row in found
        ],
    )


def savings_table(found: list[dict]) -> str:
    """What each saving saves; a run out of memory needs more than it held, so its figures are bounds."""
    by_name = {row["what"]: row for row in found}
    base, whole = by_name.get("the recipe", {}), by_name.get("without all of them", {})
    lines = []
    for row in found:
        more, share = "-", "-"
        if {"needed_gb"} <= row.keys() & base.keys() and row is not base:
            difference, ended_early = row["needed_gb"] - base["needed_gb"], row["outcome"] == "out of memory"
            more = f"{'> ' if ended_early else ''}{difference:+.2f}"
            saves = row["what"].startswith("without")
            if saves and "needed_gb" in whole and whole["needed_gb"] > base["needed_gb"]:
                bound = "< " if whole["outcome"] == "out of memory" and row is not whole else ""
                share = f"{bound}{difference / (whole['needed_gb'] - base['needed_gb']):.0%}"
                share = "-" if ended_early and row is not whole else share
        figures = [cell(row, "needed_gb"), more, share, cell(row, "peak_gb"), cell(row, "tokens_per_second", ",.0f")]
        lines.append([f"{row['what']}, {row['shape']}", outcome(row), *figures])
    return table(["GRPO", "outcome", "needed", "more", "share", "in all", "tokens/s"], lines)


def baseline_table(found: list[dict]) -> str:
    """Tokens per second of recipe and bare script, measured one after the other in one call, and their ratio."""
    by_name = {row["name"]: row for row in found}
    lines, ratios = [], []
    for name, recipe in by_name.items():
        other = by_name.get(name.replace("recipe", "bare"), {})
        if recipe["what"] != "recipe" or other.get("call") != recipe["call"]:
            continue
        ratio = "-"
        if "tokens_per_second" in recipe and "tokens_per_second" in other:
            ratios.append(recipe["tokens_per_second"] / other["tokens_per_second"])
            ratio = f"{ratios[-1]:.2f}"
        cells = [cell(row, key, form) for key, form in FIGURES for row in (recipe, other)]
        lines.append([name.split("-")[1], recipe["shape"], *cells, ratio])
    if ratios:
        lines.append(["median", *[""] * 5, f"{statistics.median(ratios):.2f}"])
    return table(["round", "model", "recipe, GB", "bare, GB", "recipe, tokens/s", "bare, tokens/s", "ratio"], lines)


FIGURES = (("peak_gb", ".2f"), ("tokens_per_second", ",.0f"))
TABLES = {"cards": memory_table, "claims": memory_table, "savings": savings_table, "baseline": baseline_table}


def print_tables(results: dict, order: list[str]) -> None:
    """The tables of all parts that have been measured, in the order of `order`."""
    print(f"\nMeasured on {results['machine']}. {results['what']}")
    for part, make in TABLES.items():
        found = [results["rows"][name] for name in order if name in results["rows"]]
        found = [row for row in found if row["part"] == part]
        if found:
            print(f"\n{part}\n\n{make(found)}")


def choose(every: list[Row], only: list[str]) -> list[Row]:
    """The rows that are named, by their part or their own name; all where none is."""
    known = [*TABLES, *(row.name for row in every)]
    for name in only:
        if name not in known:
            raise InputError(
                f"Unknown --only {name}.{did_you_mean(name, known)} A part ({', '.join(TABLES)}) or a row of it."
            )
    return [row for row in every if not only or {row.part, row.name} & set(only)]


def read_results(output: Path, machine: str, on_gpu: bool) -> dict:
    """What was measured before on this machine, or nothing yet."""
    if not output.exists():
        return {"what": ON_GPU if on_gpu else ON_CPU, "machine": machine, "rows": {}}
    try:
        results = json.loads(output.read_text(encoding="utf-8"))
        results["machine"], results["what"], results["rows"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{output} is no result of this benchmark ({one_line(error)}): give another --output."
        ) from error
    return results


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.error = refuse
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"{', '.join(TABLES)}, or names of rows")
    parser.add_argument("--missing", action="store_true", help="leave out what the output file has, but for failures")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the tables of the output file")
    parser.add_argument("--list", action="store_true", help="measure nothing, print the names of the rows")
    parser.add_argument("--steps", type=int, default=3, help="of each run; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3, help="of the baseline")
    parser.add_argument("--output", type=Path, help="benchmarks/results/gpu.json; without a GPU runs/bench-gpu.json")
    for inner, count in (("--measure", 1), ("--make_model", 2)):
        parser.add_argument(inner, nargs=count, help=argparse.SUPPRESS)
    parser.add_argument("--measure_context", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        asked = json.loads(args.measure[0])
        print("\n@" + json.dumps(measure(Row(**asked.pop("row")), **asked)))
        return
    if args.make_model:
        make_model(args.make_model[0], Path(args.make_model[1]))
        print("\n@{}")
        return
    if args.measure_context:
        print("\n@" + json.dumps({"context_gb": measure_context()}))
        return

    on_gpu = torch.cuda.is_available()
    every = rows(args.rounds, on_gpu)
    order = [row.name for row in every]
    machine = torch.cuda.get_device_name() if on_gpu else str(hardware.cpu().name)
    output = args.output or ROOT / ("benchmarks/results/gpu.json" if on_gpu else "runs/bench-gpu.json")
    if args.table and not output.exists():
        raise InputError(f"There is no {output}: measure something first, or name another file by --output.")
    chosen, results = choose(every, args.only), read_results(output, machine, on_gpu)
    if args.table:
        return print_tables(results, order)
    if args.list:
        return print("\n".join(row.name for row in chosen))
    if args.steps < 2:
        raise InputError(f"--steps {args.steps}: the first is not counted, give 2 or more.")
    if results["machine"] != machine:
        raise InputError(f"{output} was measured on {results['machine']}, this is {machine}: give another --output.")
    if args.missing:
        done = {name for name, row in results["rows"].items() if not row["outcome"].startswith("failed")}
        chosen = [row for row in chosen if row.name not in done]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, and the models are deleted
    run_rows(chosen, args.steps, output, results)
    print_tables(results, order)
    print(f"\nEverything is in {output}.")


if __name__ == "__main__":
    main()
