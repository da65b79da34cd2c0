"""PPO (Schulman et al., 2017) with rule-based rewards, on two LoRA adapters over one frozen 4-bit model.

    make ppo-gsm8k
    make ppo-gsm8k ARGS="--model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --max_steps 100"
    python -m recipes.ppo --task word_problems --seed 1 --output_dir runs/seed1
    python -m recipes.ppo --config my.yaml --learning_rate 2e-5

For each prompt the model writes a completion; rules judge it; a critic says for each token how much better things went
than it had expected, and the token becomes that much more likely. One base model serves as actor, critic and reference:
recipes/ppo_trainer.py. The folder of the run, runs/ppo-<task>, holds everything: see recipes/run.py.
"""

import sys
from dataclasses import dataclass

import yaml
from trl import get_peft_config, get_quantization_config

from recipes import hardware
from recipes.arguments import RecipeParser
from recipes.errors import exit_kindly, refused_settings
from recipes.evaluate import evaluate_once
from recipes.interrupt import save_on_interrupt
from recipes.ppo_trainer import PPOConfig, PPOTrainer
from recipes.preflight import preflight
from recipes.qlora import QLoRA, correct_qlora, loading
from recipes.record import mean_at_the_end, record
from recipes.report import plot_curve, print_result
from recipes.resume import train_from
from recipes.run import Run
from recipes.tracking import set_up_wandb


@dataclass
class PPODefaults(PPOConfig):
    """What the recipe sets for PPO; batch, length and precision come from recipes/hardware.py."""

    temperature: float = 1.0
    logging_steps: float = 1
    save_total_limit: int = 2
    report_to: str = "wandb"


@exit_kindly
def main(argv: list[str] | None = None) -> None:
    parser = RecipeParser("ppo", PPODefaults, QLoRA, __doc__)
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
        trainer = PPOTrainer(
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
        trainer="ppo",
        model=model_args.model_name_or_path,
        seed=config.seed,
        steps=step,
        minutes=round(recorder.minutes, 2),
        peak_memory_gb=round(hardware.peak_memory_gb(parser.machine), 2),
        before=before,
        after=after,
        **{key: mean_at_the_end(run, key) for key in ("objective/kl", "entropy", "value/explained_variance")},
    )
    plot_curve(run, task)
    print_result(run)
    print(f"{run.result['minutes']} minutes, peak {run.result['peak_memory_gb']} GB; everything is in {run.folder}/")
    trainer.end()


if __name__ == "__main__":
    main()
