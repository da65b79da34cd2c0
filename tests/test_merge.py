"""A merged model is a model like any other, and says what base and adapter said."""

import functools
import json
from pathlib import Path

import pytest
import torch
import yaml
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from test_models import make_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes import hardware, merge
from recipes.arguments import RecipeParser
from recipes.generation import with_transformers
from recipes.models import end_tokens, find_model, load_model
from recipes.qlora import QLoRA
from recipes.run import FIRST_LINE
from recipes.sample import SampleConfig
from recipes.tasks import load_task

TASK = load_task("word_problems")
SETTINGS = {"task": "word_problems", "max_completion_length": 20, "chat_template_kwargs": {"tone": "calm"}, "seed": 7}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that trained an adapter, with settings of its own."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    make_adapter(folder / "adapter", spread=0.05)
    (folder / "given.yaml").write_text(FIRST_LINE + yaml.safe_dump(SETTINGS))
    (folder / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "load_in_4bit": True, "dtype": "float32"}))
    return folder


@pytest.fixture(scope="module")
def merged(run) -> Path:
    merge.main(["--model_name_or_path", str(run), "--eval_samples", "12"])
    return run / "merged"


@pytest.fixture
def refused(refused_by):
    return functools.partial(refused_by, merge.main)


def parsed(*argv):
    parser = RecipeParser("merge", SampleConfig, QLoRA, "", merge.MergeArguments)
    return parser.parse([str(arg) for arg in argv], hardware.detect(), like_run=merge.OF_THE_RUN)


def test_the_merged_model_says_what_base_and_adapter_say(run, merged):
    _, _, config, model_args = parsed("--model_name_or_path", run)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    prompts = [TASK.prompt(question) for question in TASK.load(None, None, 42)[1]["question"][:12]]

    def greedy(model):
        return with_transformers(model, tokenizer, config, 0.0, end_tokens(model, tokenizer))(prompts)

    together = AutoModelForCausalLM.from_pretrained(merged)  # nothing of ours, and no PEFT
    assert not any(isinstance(module, Linear4bit) for module in together.modules())
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())
    assert not (merged / "adapter_config.json").exists()
    written = greedy(together)
    assert written == greedy(load_model(str(run), config, model_args))
    assert written != greedy(load_model("starter", config, model_args))

    found = json.loads((merged / "merge.json").read_text())
    right = TASK.correctness(
        completions=[completion.text for completion in written],
        answer=TASK.load(None, None, 42)[1]["answer"][:12],
    )
    assert (found["n"], found["same_text"], found["same_verdict"]) == (12, 12, 12)
    assert found["right_apart"] == found["right_merged"] == sum(right)
    assert find_model(str(merged)).is_starter


def test_the_adapter_is_added_to_what_the_four_bit_weights_say(run, merged):
    _, _, config, model_args = parsed("--model_name_or_path", run)
    key = "model.layers.0.self_attn.q_proj"
    weights = AutoModelForCausalLM.from_pretrained(merged).get_submodule(key).weight
    layer = load_model(str(run), config, model_args).get_submodule(f"base_model.model.{key}")
    x = torch.randn(8, weights.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x @ weights.T, layer(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("four_bit", [False, True])
def test_in_half_precision_the_sum_is_rounded_once(tmp_path, four_bit):
    key = "model.layers.0.self_attn.q_proj"
    flags = ["--task", "word_problems", "--dtype", "bfloat16", "--load_in_4bit", four_bit]
    _, _, config, model_args = parsed(*flags, "--model_name_or_path", make_adapter(tmp_path / "adapter", spread=0.05))
    base = load_model("starter", config, model_args)
    whole = base.dequantize() if four_bit else base
    weights = whole.get_submodule(key).weight.detach().float()
    apart = PeftModel.from_pretrained(whole, tmp_path / "adapter").get_submodule(f"base_model.model.{key}")
    exact = weights + apart.get_delta_weight("default").detach()
    made = merge.merge(tmp_path / "adapter", load_model("starter", config, model_args))
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    assert torch.equal(made.get_submodule(key).weight, exact.bfloat16())


def test_the_runs_own_settings_hold_and_flags_win(run):
    for name in (run, run / "adapter"):
        _, args, config, _ = parsed("--model_name_or_path", name)
        assert (args.task, config.max_completion_length, config.seed) == ("word_problems", 20, 7)
        assert config.chat_template_kwargs == {"tone": "calm"}
    _, _, config, model_args = parsed(
        "--model_name_or_path", run, "--max_completion_length", "9", "--load_in_4bit", "False"
    )
    assert (config.max_completion_length, config.seed, model_args.load_in_4bit) == (9, 7, False)


def test_a_folder_that_exists_is_replaced_only_where_asked_and_only_if_it_is_a_merged_model(
    run, merged, refused, capsys
):
    assert "merged exists already: add --overwrite" in refused("--model_name_or_path", run)
    before = (merged / "model.safetensors").stat().st_mtime_ns
    merge.main(["--model_name_or_path", str(run), "--eval_samples", "0", "--overwrite", "--dry_run"])
    assert "Dry run: nothing was merged." in capsys.readouterr().out
    assert (merged / "model.safetensors").stat().st_mtime_ns == before
    merge.main(["--model_name_or_path", str(run), "--eval_samples", "0", "--overwrite"])
    assert (merged / "model.safetensors").stat().st_mtime_ns > before
    assert "word for word" not in capsys.readouterr().out
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("three years")
    sentence = refused("--model_name_or_path", run, "--output_dir", "mine", "--overwrite")
    assert "mine holds something else than a merged model: choose another --output_dir" in sentence
    assert Path("mine/thesis.txt").exists()


def test_what_is_no_adapter_cannot_be_merged(refused):
    assert "Name the run whose adapter is to be merged: make merge RUN=runs/..." in refused()
    assert "starter is no LoRA adapter, so there is nothing to merge" in refused("--model_name_or_path", "starter")
    Path("runs/here/samples").mkdir(parents=True)
    assert "There is no folder runs/her: " in (told := refused("--model_name_or_path", "runs/her"))
    assert "Did you mean runs/here?" in told
    Path("runs/here/given.yaml").write_text(FIRST_LINE + "{}")
    assert "The run runs/here has saved no adapter: finish it first" in refused("--model_name_or_path", "runs/here")
