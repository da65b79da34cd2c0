"""What is checked before any weight is loaded."""

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPTNeoXConfig, MambaConfig, Qwen2Config

from recipes import grpo, hardware
from recipes.arguments import RecipeParser
from recipes.memory import estimate_gb
from recipes.preflight import _check_template, preflight, usable_rows
from recipes.qlora import QLoRA
from recipes.tasks import Task, load_task
from rewards import think_format_reward

WORD_PROBLEMS = load_task("word_problems")
TEMPLATE = {"add_generation_prompt": True, "tokenize": False}
CPU = hardware.Machine("cpu", "CPU", 16.0, bf16=False)


def parse(*argv, machine=CPU):
    return RecipeParser("grpo", grpo.GRPODefaults, QLoRA, "").parse(list(argv), machine)


def test_no_weight_is_loaded(tmp_path):
    for file in hardware.STARTER_FOLDER.iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        content = b"no weights" if file.suffix == ".safetensors" else file.read_bytes()
        (tmp_path / "model" / file.name).write_bytes(content)
    with pytest.raises(Exception, match=r"(?i)header"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    task, args, config, model_args = parse("--model_name_or_path", "./model", "--task", "word_problems")
    checked = preflight(args, config, model_args, task, CPU)
    assert len(checked.held_out) == 400 and checked.train[0]["prompt"][-1]["role"] == "user"


def test_a_template_that_prefills_the_thought_is_seen_and_judged_as_written(capsys, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(hardware.STARTER_FOLDER)
    assert _check_template(tokenizer, WORD_PROBLEMS, TEMPLATE)[1] == ""
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "'<|assistant|>' }}{% endif", "'<|assistant|><think>\\n' }}{% endif"
    )
    assert _check_template(tokenizer, WORD_PROBLEMS, TEMPLATE)[1] == "<think>\n"
    AutoModelForCausalLM.from_pretrained(hardware.STARTER_FOLDER).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    task, args, config, model_args = parse("--model_name_or_path", "./model", "--task", "word_problems")
    _, format_reward = preflight(args, config, model_args, task, CPU).rewards
    assert "begins every completion with <think>" in capsys.readouterr().out
    assert format_reward(prompts=["p"], completions=["1+1=2</think><answer>2</answer>"]) == [1.0]


def test_a_row_whose_own_gold_is_not_paid_is_named_and_left_out(capsys):
    def pays_small_numbers(completions, **kwargs):
        return [None if "8" in c else float("3" not in c) for c in completions]

    task = Task(load=None, correctness=pays_small_numbers, format=think_format_reward)
    rows = Dataset.from_list([{"question": f"{n}?", "answer": str(n)} for n in (2, 3, 4, 5, 8, 9, 6)])
    with pytest.raises(Exception, match=r"7 of 7 t rows fail .*'2\?': a wrong answer is paid 1.0; '3\?': its own gold"):
        usable_rows(rows, task, "t")
    rows = Dataset.from_list([{"question": "a", "answer": n} for n in ("1", "2", "unknown")])
    assert usable_rows(rows, WORD_PROBLEMS, "t")["answer"] == ["1", "2"]
    assert "1 of 3 t rows fail" in capsys.readouterr().out


def test_too_little_memory_is_said_with_the_flag_to_lower(capsys):
    task, args, config, model_args = parse()
    preflight(args, config, model_args, task, hardware.Machine("cpu", "CPU", 0.5, bf16=False))
    output = capsys.readouterr().out
    assert "GB more than is free" in output and "--per_device_train_batch_size first" in output


def qwen(hidden, layers, heads, kv, inner):
    return Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        intermediate_size=inner,
        vocab_size=151_936,
        tie_word_embeddings=True,
    )


@pytest.mark.parametrize("model", [GPT2Config(), GPTNeoXConfig(), MambaConfig()])
def test_an_estimate_never_ends_a_run(model):
    _, _, config, model_args = parse()
    estimate = estimate_gb(model, model_args, config, 200)
    assert estimate is None or estimate > 1


@pytest.mark.parametrize(("card", "shape"), zip((24, 16, 12, 8), (3, 1.5, 1.5, 0.5), strict=True))
def test_every_profile_is_estimated_to_fit_its_card(card, shape):
    model = {0.5: qwen(896, 24, 14, 2, 4864), 1.5: qwen(1536, 28, 12, 2, 8960), 3: qwen(2048, 36, 16, 2, 11008)}[shape]
    machine = hardware.Machine("cuda", "GPU", 0.93 * card, bf16=True)
    settings = hardware.defaults(machine, load_task("gsm8k"), {})
    assert f"{shape:g}B" in settings["model_name_or_path"]
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length")
    flags = [f"--{name}={settings[name]}" for name in names]
    _, _, config, model_args = parse(*flags, "--dtype=float16", "--gradient_checkpointing", "--optim=paged_adamw_8bit")
    assert estimate_gb(model, model_args, config, 300) < machine.free_gb


def test_a_template_that_refuses_a_system_message_gets_it_in_the_question():
    tokenizer = AutoTokenizer.from_pretrained(hardware.STARTER_FOLDER)
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refuses + tokenizer.chat_template
    prompt_of, _ = _check_template(tokenizer, WORD_PROBLEMS, TEMPLATE)
    [message] = prompt_of("1 + 1?")
    assert message["role"] == "user" and message["content"].endswith("1 + 1?") and "<think>" in message["content"]


def test_the_estimate_grows_with_what_takes_memory():
    model = qwen(896, 24, 14, 2, 4864)

    def estimate(*flags):
        _, _, config, model_args = parse(*flags)
        return estimate_gb(model, model_args, config, 200)

    base = estimate("--max_completion_length", "512")
    assert estimate("--max_completion_length", "1024") > base
    assert estimate("--max_completion_length", "512", "--per_device_train_batch_size", "128") > base
    assert estimate("--max_completion_length", "512", "--load_in_4bit", "False") > base
    assert estimate("--max_completion_length", "512", "--gradient_checkpointing") < base
