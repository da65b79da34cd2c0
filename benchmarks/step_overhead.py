"""What the recipe costs per step, against a bare GRPOTrainer script with the same settings: `make bench-overhead`.

Both train the bundled starter in turn, pair by pair, in one process: the same model, data, seed, batch and rewards,
at a learning rate of zero so that both write completions of the same length. The bare script has TRL's own callbacks;
the recipe guards the rewards and records metrics and samples. A pair's figure is the ratio of the median step times.
"""

import argparse
import contextlib
import io
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, ModelConfig, get_peft_config, get_quantization_config

from recipes import grpo, hardware
from recipes.qlora import correct_qlora
from recipes.tasks import load_task

TASK = load_task("word_problems")
# The first steps of a process are slower; they are trained and not counted.
WARM_UP = 3


class StepTimes(TrainerCallback):
    """The moment at which each step has ended and been logged."""

    def __init__(self):
        self.ends = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.ends.append(time.perf_counter())


def bare(steps: int, folder: str) -> list[float]:
    model_args = ModelConfig(
        load_in_4bit=True,
        use_bnb_nested_quant=True,
        use_peft=True,
        lora_dropout=0.0,
        lora_target_modules=["all-linear"],
    )
    times = StepTimes()
    train, _ = TASK.load(None, None, 42)
    train = train.add_column("prompt", [TASK.prompt(question) for question in train["question"]])
    trainer = GRPOTrainer(
        model=hardware.model_path(hardware.STARTER),
        reward_funcs=TASK.reward_funcs,
        args=GRPOConfig(
            output_dir=folder,
            learning_rate=0.0,
            lr_scheduler_type="constant",
            max_steps=steps,
            per_device_train_batch_size=64,
            max_completion_length=48,
            reward_weights=list(TASK.reward_weights),
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            optim="adamw_torch",
            logging_steps=1,
            save_steps=10,
            save_total_limit=2,
            model_init_kwargs={"dtype": "float32"},
        ),
        train_dataset=train,
        callbacks=[times],
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    correct_qlora(trainer.model)  # the same precision for both
    trainer.train()
    return differences(times.ends)


def recipe(steps: int, folder: str) -> list[float]:
    flags = f"--learning_rate 0 --max_steps {steps} --eval_samples 0 --report_to none --output_dir {folder}"
    grpo.main(["--task", "word_problems", *flags.split()])
    rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return differences([60 * row["minutes"] for row in rows])


def differences(ends: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(ends)][WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "step_overhead.json")
    args = parser.parse_args()
    ratios = []
    hardware.limit_threads(hardware.STARTER)  # as the recipe does, for both
    for pair in range(args.pairs):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            # Each goes first in every other pair.
            order = (recipe, bare) if pair % 2 else (bare, recipe)
            medians = {run: statistics.median(run(args.steps, f"{folder}/{run.__name__}")) for run in order}
        ratios.append(medians[recipe] / medians[bare])
        print(f"pair {pair + 1}: recipe / bare = {ratios[-1]:.3f}", flush=True)
    result = {
        "what": "median step time of the recipe / of a bare GRPOTrainer, one ratio a pair",
        "median": round(statistics.median(ratios), 3),
        "pairs": [round(ratio, 3) for ratio in ratios],
        "steps": args.steps,
        "threads": torch.get_num_threads(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
