"""The command line: later wins, help is short, and the user's values are known apart."""

import subprocess
import sys

import pytest
from trl import GRPOConfig

from recipes import grpo, hardware
from recipes.arguments import RecipeParser
from recipes.qlora import QLoRA
from recipes.run import FIRST_LINE

CPU = hardware.Machine("cpu", "CPU", 16.0, bf16=False)


def parse(*argv, machine=CPU):
    parser = RecipeParser("grpo", grpo.GRPODefaults, QLoRA, grpo.__doc__)
    return parser, *parser.parse(list(argv), machine)


def test_the_machine_wins_over_the_class_the_yaml_over_the_machine_and_a_flag_over_all(tmp_path):
    assert GRPOConfig(output_dir="x", use_cpu=True, bf16=False).learning_rate == 1e-6
    _, _, _, config, _ = parse()
    assert config.learning_rate == 1e-3
    (tmp_path / "my.yaml").write_text("learning_rate: 1e-4\nmax_steps: 7\nlora_r: 4\n")
    _, _, _, config, model_args = parse("--config", "my.yaml")
    assert (config.learning_rate, config.max_steps, model_args.lora_r) == (1e-4, 7, 4)
    parser, _, _, config, _ = parse("--config=my.yaml", "--learning_rate", "5e-4")
    assert (config.learning_rate, config.max_steps) == (5e-4, 7)
    assert parser.given.keys() == {"learning_rate", "max_steps", "lora_r"}


def test_by_default_the_model_is_four_bit_nf4_with_lora_16_on_all_linear_layers():
    _, _, _, _, model_args = parse()
    assert model_args.load_in_4bit and model_args.bnb_4bit_quant_type == "nf4"
    assert model_args.use_peft and model_args.lora_r == 16 and model_args.lora_target_modules == "all-linear"


def test_the_task_sets_the_reward_weights_and_the_flag_wins():
    assert parse()[3].reward_weights == [1.0, 0.2]
    assert parse("--reward_weights", "1", "0.5")[3].reward_weights == [1.0, 0.5]


def test_the_run_is_named_after_the_task_that_is_trained():
    assert parse("--task", "gsm8k")[3].output_dir == "runs/grpo-word_problems"
    assert parse("--task", "gsm8k", "--dataset_name", "x")[3].output_dir == "runs/grpo-gsm8k"
    assert parse("--output_dir", "elsewhere")[3].output_dir == "elsewhere"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--loss_type", "dr_grpo", "--scale_rewards", "none"], {"loss_type": "dr_grpo", "scale_rewards": "none"}),
        (["--loss_type", "dapo", "--epsilon_high", "0.28"], {"loss_type": "dapo", "epsilon_high": 0.28}),
        (["--importance_sampling_level", "sequence"], {"importance_sampling_level": "sequence"}),
        (["--loss_type", "cispo", "--epsilon_high", "5.0"], {"loss_type": "cispo", "epsilon_high": 5.0}),
    ],
)
def test_every_variant_of_grpo_is_a_flag_away(flags, expected):
    config = parse(*flags)[3]
    assert {name: getattr(config, name) for name in expected} == expected


def test_an_unfinished_run_goes_on_with_the_settings_of_its_machine(tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    stored = "per_device_train_batch_size: 32\nlearning_rate: 0.002\nseed: 9\nmax_steps: 500\n"
    (folder / "config.yaml").write_text(stored)
    (folder / "given.yaml").write_text(FIRST_LINE + "max_steps: 500\n")
    config = parse("--output_dir", str(folder), "--max_steps", "500")[3]
    assert (config.per_device_train_batch_size, config.learning_rate) == (32, 0.002)
    assert (config.seed, config.max_steps) == (42, 500)  # the seed is not the machine's choice
    # Another command is another run: it takes nothing from the old one.
    for other in ([], ["--max_steps", "500", "--num_generations", "4"], ["--num_train_epochs", "2"]):
        config = parse("--output_dir", str(folder), *other)[3]
        assert (config.per_device_train_batch_size, config.learning_rate) == (64, 1e-3)
    # The same command means the same, with --overwrite too, until the run has ended.
    again = ["--output_dir", str(folder), "--max_steps", "500", "--overwrite"]
    assert parse(*again)[3].learning_rate == 0.002
    (folder / "result.json").write_text("{}")
    assert parse(*again)[3].learning_rate == 1e-3


def test_help_begins_with_an_example_and_the_recipes_own_arguments():
    short = subprocess.run([sys.executable, "-m", "recipes.grpo", "--help"], capture_output=True, text=True, check=True)
    assert "make grpo-gsm8k" in short.stdout[:300] and "--dataset_name" in short.stdout
    assert "--vllm_mode" not in short.stdout and short.stdout.count("\n") < 70
    assert "--help-all" in short.stdout


def test_help_all_lists_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--help-all")
    output = capsys.readouterr().out
    assert stop.value.code == 0
    assert output.index("--eval_samples") < output.index("--vllm_mode") < output.index("--lora_r")
