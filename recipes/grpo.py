"""GRPO (Shao et al., 2024) with rule-based rewards, on a LoRA adapter over a frozen 4-bit model.

    make grpo-gsm8k
    make grpo-gsm8k ARGS="--model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --max_steps 100"
    python -m recipes.grpo --task word_problems --seed 1 --output_dir runs/seed1
    python -m recipes.grpo --config my.yaml --learning_rate 2e-5

For each prompt the model writes `num_generations` completions; rules judge them; the better ones of each group
become more likely. The folder of the run, runs/grpo-<task>, holds everything: see recipes/run.py.
"""

import sys
from dataclasses import dataclass

import yaml
from trl import GRPOConfig, GRPOTrainer, get_peft_config, get_quantization_config

from recipes import hardware
from recipes.arguments import RecipeParser
from recipes.errors import exit_kindly, refused_settings
from recipes.evaluate import evaluate_once
from recipes.interrupt import save_on_interrupt
from recipes.preflight import preflight
from recipes.qlora import QLoRA, correct_qlora, loading
from recipes.record import record
from recipes.report import plot_curve, print_result
from recipes.resume import train_from
from recipes.run import Run
from recipes.tracking import set_up_wandb


@dataclass
class GRPODefaults(GRPOConfig):
    """What the recipe sets for GRPO; batch, length and precision come from recipes/hardware.py."""

    num_generations: int = 8
    temperature: float = 1.0
    beta: float = 0.0  # no KL term and no reference model, as in DAPO and Dr. GRPO
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    parser = RecipeParser("grpo", GRPODefaults, QLoRA, __doc__)
    task, args, config, model_args = parser.parse(argv, hardware.detect())
    print(hardware.first_line(parser.machine, args.task, parser.asked_task, model_args.model_name_or_path))
    run = Run(config.output_dir, parser.settings, parser.given, args.overwrite)
    if run.result and not args.dry_run:
        print_result(run)
        print(f"{run.folder} is finished, nothing was trained. --overwrite trains anew, --output_dir elsewhere.")
        return
    print(hardware.chosen(parser.settings), flush=True)
    hardware.limit_threads(model_args.model_name_or_path)

    checked = preflight(args, config, model_args, task, parser.machine)
    if args.dry_run:
        print(yaml.safe_dump(run.settings), "Dry run: nothing was trained.", sep="\n")
        return
    run.begin()
    set_up_wandb(config, run.folder, asked_for="report_to" in parser.given)

    with refused_settings():
        config.model_init_kwargs = loading(config, model_args)
        trainer = GRPOTrainer(
            model=hardware.model_path(model_args.model_name_or_path),
            reward_funcs=checked.rewards,
            args=config,
            train_dataset=checked.train,
            processing_class=checked.tokenizer,
            quantization_config=get_quantization_config(model_args),
            peft_config=get_peft_config(model_args),
        )
    correct_qlora(trainer.model)
    recorder, interrupt = record(run, trainer), save_on_interrupt(trainer)

    before = evaluate_once(run, "before", trainer, checked, task, args.eval_temperature)
    train_from(trainer, run.last_checkpoint())
    step, of = trainer.state.global_step, trainer.state.max_steps
    if interrupt.stopped and step < of:
        print(f"Saved step {step} of {of}: the same command goes on from there.")
        sys.exit(130)
    after = evaluate_once(run, "after", trainer, checked, task, args.eval_temperature)

    trainer.save_model(str(run.folder / "adapter"))
    run.finish(
        task=args.task,
        trainer="grpo",
        model=model_args.model_name_or_path,
        seed=config.seed,
        steps=step,
        minutes=round(recorder.minutes, 2),
        peak_memory_gb=round(hardware.peak_memory_gb(parser.machine), 2),
        before=before,
        after=after,
    )
    plot_curve(run, task)
    print_result(run)
    print(f"{run.result['minutes']} minutes, peak {run.result['peak_memory_gb']} GB; everything is in {run.folder}/")
    trainer.end()


if __name__ == "__main__":
    main()
