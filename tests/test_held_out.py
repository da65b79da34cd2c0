"""Held-out accuracy by the training rewards, with an honest interval; sampling that does not depend on its batches."""

import itertools

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from recipes.generation import sample, with_transformers
from recipes.hardware import STARTER_FOLDER
from recipes.held_out import summary
from recipes.intervals import wilson_interval
from recipes.report import printable
from recipes.tasks import load_task
from recipes.tasks.word_problems import generate

TASK = load_task("word_problems")


def test_accuracy_strict_accuracy_and_format_are_counted_apart():
    rows = [(1.0, 1.0, 20), (1.0, 0.0, 4), (0.0, 1.0, 20), (0.0, 0.0, 4), (None, 1.0, 999)]
    samples = [{"correctness_reward": c, "think_format_reward": f, "length": n} for c, f, n in rows]
    figures = summary(samples, TASK)
    assert (figures["accuracy"], figures["strict_accuracy"], figures["format"]) == (0.5, 0.25, 0.5)
    assert (figures["mean_length"], figures["n"]) == (12, 4)  # a row that cannot be judged is not counted


@pytest.fixture(scope="module")
def starter():
    return AutoModelForCausalLM.from_pretrained(STARTER_FOLDER), AutoTokenizer.from_pretrained(STARTER_FOLDER)


def solve(starter, prompts, **options):
    temperature = options.pop("temperature", 0.0)
    options_ends = options.pop("ends", [starter[1].eos_token_id])
    config = GRPOConfig(**{"output_dir": "x", "max_completion_length": 48, "use_cpu": True, "bf16": False, **options})
    generate = with_transformers(*starter, config, temperature, options_ends)
    return sample(generate, prompts, config.per_device_eval_batch_size)


def test_greedy_completions_come_in_order_whatever_the_batch(starter):
    prompts = [TASK.prompt(row["question"]) for row in itertools.islice(generate(5, held_out=True), 10)]
    together, single = (
        solve(starter, prompts, per_device_eval_batch_size=10),
        solve(starter, prompts, per_device_eval_batch_size=1),
    )
    assert [c.text for c in together] == [c.text for c in single]
    assert all(
        c.text.startswith("<answer>") and c.length == len(c.text.split(">")[1].split("<")[0]) + 3 for c in single
    )


def test_the_policy_that_is_trained_is_judged_not_the_models_own_sampling_defaults(starter):
    model, _ = starter
    prompts = [TASK.prompt(row["question"]) for row in itertools.islice(generate(5, held_out=True), 10)]
    expected = [c.text for c in solve(starter, prompts)]
    model.generation_config.repetition_penalty = 5.0  # many instruct models ship one
    try:
        assert [c.text for c in solve(starter, prompts)] == expected
        assert [c.text for c in solve(starter, prompts, repetition_penalty=5.0)] != expected
    finally:
        model.generation_config.repetition_penalty = None


def test_the_templates_options_hold_in_evaluation_too(starter):
    _, tokenizer = starter
    template = tokenizer.chat_template
    tokenizer.chat_template = template + "{% if prefill is defined %}{{ prefill }}{% endif %}"
    prompts = [TASK.prompt(next(generate(5))["question"])]
    try:
        [thought] = solve(starter, prompts, chat_template_kwargs={"prefill": "<think>"})
        [direct] = solve(starter, prompts)
    finally:
        tokenizer.chat_template = template
    assert "</think>" in thought.text and "</think>" not in direct.text


def test_a_completion_ends_where_the_trainer_says_whatever_the_model_says(starter):
    model, tokenizer = starter
    prompts = [TASK.prompt(next(generate(5))["question"])]
    [expected] = solve(starter, prompts)
    ends, model.generation_config.eos_token_id = model.generation_config.eos_token_id, tokenizer.pad_token_id
    try:
        assert solve(starter, prompts) == [expected]
    finally:
        model.generation_config.eos_token_id = ends


def test_a_completion_without_an_end_is_truncated(starter):
    [completion] = solve(starter, [TASK.prompt("Tom has 3 apples.")], max_completion_length=2)
    assert completion.truncated and completion.length == 2


def test_sampling_follows_the_seed_and_thinks_now_and_then(starter):
    prompts = [TASK.prompt(row["question"]) for row in itertools.islice(generate(5, held_out=True), 32)]
    texts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        texts.append([c.text for c in solve(starter, prompts, temperature=1.0, per_device_eval_batch_size=32)])
    assert texts[0] == texts[1] != texts[2]
    assert 0 < sum("<think>" in text for text in texts[0]) < 32


def test_the_model_is_left_in_the_mode_it_was_in(starter):
    model, _ = starter
    model.train()
    solve(starter, [TASK.prompt("Tom has 3 apples.")])
    assert model.training
    model.eval()


def test_what_a_model_wrote_cannot_command_the_terminal():
    assert printable("a\x1b[2J\x1b]52;c;eA==\x07\tb\nc\u202e") == "a[2J]52;c;eA==b\nc"


def test_the_interval_of_all_right_ends_at_one():
    assert wilson_interval(400, 400)[1] == 1.0 and wilson_interval(0, 400)[0] == 0.0
