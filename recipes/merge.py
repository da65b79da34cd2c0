"""Merge a LoRA adapter into full weights, for vLLM, GGUF converters or the hub, and say how well both agree.

    make merge RUN=runs/grpo-gsm8k
    python -m recipes.merge --model_name_or_path runs/grpo-gsm8k --output_dir merged --eval_samples 100

An adapter that was trained over 4-bit weights belongs to what these weights say, not to what they were rounded from:
the base is read in 4-bit, dequantized, and the adapter is added to that. Then both models solve the held-out problems.
"""

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from recipes import hardware, hub
from recipes.arguments import RecipeParser, TaskArguments, flag
from recipes.errors import InputError, exit_kindly, near_path
from recipes.generation import Completion, sample, with_transformers
from recipes.guard import GuardedReward
from recipes.models import OF_LOADING, find_model, load_model
from recipes.preflight import preflight
from recipes.qlora import QLoRA
from recipes.run import is_run
from recipes.sample import SampleConfig

# What a run says of how its model is loaded, asked and sampled.
OF_THE_RUN = (
    *("task", "dataset_name", "dataset_config", "seed", "dtype", "max_completion_length"),
    *OF_LOADING,
)
MADE = "merge.json"  # by which a folder is known as ours, which --overwrite may replace


@dataclass
class MergeArguments(TaskArguments):
    eval_samples: int = flag(400, "Held-out problems that both models solve; 0 skips it.")


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    parser = RecipeParser("merge", SampleConfig, QLoRA, __doc__, MergeArguments)
    task, args, config, model_args = parser.parse(argv, hardware.detect(), like_run=OF_THE_RUN)
    name = model_args.model_name_or_path
    source = find_model(name)
    if "model_name_or_path" not in parser.given:
        raise InputError("Name the run whose adapter is to be merged: make merge RUN=runs/...")
    if source.adapter is None and is_run(Path(name)):
        raise InputError(f"The run {name} has saved no adapter: finish it first, or name another.")
    if source.adapter is None and hub.is_local_path(name) and not Path(name).exists():
        raise InputError(f"There is no folder {name}: give RUN=runs/... of a finished run.{near_path(name)}")
    if source.adapter is None:
        raise InputError(
            f"{name} is no LoRA adapter, so there is nothing to merge: give RUN=runs/... of a finished run."
        )
    folder = Path(parser.given.get("output_dir", source.adapter.parent / "merged"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / MADE).exists():
            raise InputError(f"{folder} holds something else than a merged model: choose another --output_dir.")
        if not args.overwrite:
            raise InputError(f"{folder} exists already: add --overwrite, or choose another --output_dir.")
    hardware.limit_threads(name)
    checked = preflight(args, config, model_args, task, parser.machine)
    if args.dry_run:
        print("Dry run: nothing was merged.")
        return

    def greedy(model) -> list[Completion]:
        generate = with_transformers(model, checked.tokenizer, config, 0.0)
        return sample(generate, list(checked.held_out["prompt"]), config.per_device_eval_batch_size)

    apart = greedy(load_model(name, config, model_args))
    merged = merge(source.adapter, load_model(source.base, config, model_args))
    together = greedy(merged)

    draft = folder.with_name(folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    merged.save_pretrained(draft)
    checked.tokenizer.save_pretrained(draft)
    found = agreement(apart, together, checked.held_out, checked.rewards[0])
    (draft / MADE).write_text(json.dumps({"base": source.base, "adapter": str(source.adapter), **found}, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    if n := found["n"]:
        print(
            f"Greedily, on {n} held-out problems: {found['same_text']} completions are word for word those of base + "
            f"adapter, {found['same_verdict']} are right or wrong alike ({found['right_apart']} right before, "
            f"{found['right_merged']} after)."
        )
    print(f"The merged model is in {folder}/.")


def merge(adapter: Path, base: nn.Module) -> nn.Module:
    """`base` with `adapter` added to its weights: summed up in float32, then rounded once to what `base` computes in.

    4-bit weights are first what they are in training: dequantized in the precision that `base` computes in.
    """
    if getattr(base, "is_quantized", False):
        base = base.dequantize()
    model = PeftModel.from_pretrained(base, adapter)
    for layer in [module for module in model.modules() if isinstance(module, BaseTunerLayer)]:
        dtypes = [(parameter, parameter.dtype) for parameter in layer.get_base_layer().parameters(recurse=False)]
        for parameter, _ in dtypes:
            parameter.data = parameter.data.float()  # of one layer at a time: a whole model may not fit in float32
        layer.merge(safe_merge=True)
        for parameter, dtype in dtypes:
            parameter.data = parameter.data.to(dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All adapters are already merged")
        return model.merge_and_unload(progressbar=False)


def agreement(apart: list[Completion], together: list[Completion], rows, correctness: GuardedReward) -> dict:
    """How often two models wrote the same, and were judged the same."""
    columns = {name: list(rows[name]) for name in rows.column_names if name != "prompt"}
    right = []
    for completions in (apart, together):
        messages = [[{"role": "assistant", "content": completion.text}] for completion in completions]
        right.append(
            [value == 1.0 for value in correctness(prompts=list(rows["prompt"]), completions=messages, **columns)]
        )
    return {
        "n": len(apart),
        "same_text": sum(a.text == b.text for a, b in zip(apart, together, strict=True)),
        "same_verdict": sum(a == b for a, b in zip(*right, strict=True)),
        "right_apart": sum(right[0]),
        "right_merged": sum(right[1]),
    }


if __name__ == "__main__":
    main()
