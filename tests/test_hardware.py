"""What is chosen for which machine, and that the user's choice is never replaced."""

import re
from pathlib import Path

import pytest

from recipes.hardware import STARTER, Machine, defaults, first_line, task_for
from recipes.tasks import load_task

README = Path(__file__).parent.parent / "README.md"
CPU = Machine("cpu", "CPU", 16.0, bf16=False)
GSM8K = load_task("gsm8k")


def gpu(free_gb, bf16=True):
    return Machine("cuda", "GPU", free_gb, bf16)


@pytest.mark.parametrize(
    ("free_gb", "model"),
    [(7.4, "0.5B"), (11.3, "1.5B"), (15.2, "1.5B"), (23.0, "3B"), (79.0, "3B"), (5.0, "0.5B")],
)
def test_the_model_is_chosen_by_free_memory(free_gb, model):
    settings = defaults(gpu(free_gb), GSM8K, {})
    assert settings["model_name_or_path"] == f"Qwen/Qwen2.5-{model}-Instruct"
    assert settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"] == 64
    assert settings["optim"] == "paged_adamw_8bit" and settings["gradient_checkpointing"]


def test_bfloat16_where_the_card_has_it_and_float16_where_not():
    new, old = defaults(gpu(12), GSM8K, {}), defaults(gpu(12, bf16=False), GSM8K, {})
    assert (new["bf16"], new["fp16"], new["dtype"]) == (True, False, "bfloat16")
    assert (old["bf16"], old["fp16"], old["dtype"]) == (False, True, "float16")
    asked = defaults(gpu(12), GSM8K, {"fp16": True})
    assert (asked["bf16"], asked["fp16"], asked["dtype"]) == (False, True, "float16")


def test_without_a_gpu_the_starter_trains_on_word_problems_in_float32():
    assert task_for(CPU, "gsm8k", {}) == "word_problems"
    settings = defaults(CPU, GSM8K, {})
    assert settings["model_name_or_path"] == STARTER
    assert settings["use_cpu"] and settings["dtype"] == "float32" and not settings["bf16"]
    line = first_line(CPU, "word_problems", "gsm8k", STARTER)
    assert (
        "No CUDA GPU" in line
        and "word_problems" in line
        and "On a GPU (12 GB) the same command trains Qwen/Qwen2.5-1.5B-Instruct on GSM8K" in line
    )


def test_what_the_user_named_is_never_replaced():
    assert task_for(CPU, "gsm8k", {"dataset_name": "x"}) == "gsm8k"
    assert task_for(CPU, "gsm8k", {"model_name_or_path": "x"}) == "gsm8k"
    assert task_for(gpu(12), "gsm8k", {}) == "gsm8k"
    # A real model on a CPU does not get the miniature's learning rate.
    assert defaults(CPU, GSM8K, {"model_name_or_path": "x"})["learning_rate"] < 1e-4


def test_epochs_given_by_the_user_count():
    assert defaults(CPU, GSM8K, {"num_train_epochs": 2})["max_steps"] == -1


def test_the_starter_on_another_task_is_told_to_learn_nothing():
    assert "learns nothing here" in first_line(CPU, "gsm8k", "gsm8k", STARTER)


def test_the_readme_states_the_profiles():
    rows = re.findall(r"^\| (\d+) GB[^|]*\| (Qwen\S+) +\| (\d+) +\| (\d+) tokens", README.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for card, model, batch, length in rows:
        settings = defaults(gpu(0.93 * int(card)), GSM8K, {})
        assert settings["model_name_or_path"] == f"Qwen/{model}"
        assert settings["per_device_train_batch_size"] == int(batch)
        assert settings["max_completion_length"] == int(length)
