"""A model by its name: each kind of name finds its weights, and an adapter on a wrong base is refused in seconds."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from recipes import hardware, sample
from recipes.arguments import RecipeParser
from recipes.errors import InputError
from recipes.models import STARTER_FOLDER, Source, check_adapter, find_model, load_model, loading_of
from recipes.qlora import QLoRA
from recipes.run import FIRST_LINE
from recipes.samples import is_samples
from recipes.tasks import load_task
from rewards import length_reward


def make_adapter(folder: Path, spread: float, **shape) -> Path:
    """A LoRA adapter with random weights, on the starter, or on a model of another shape that says it is."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(STARTER_FOLDER, **shape)
    model = AutoModelForCausalLM.from_config(config)
    model.name_or_path = str(STARTER_FOLDER)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("run") / "adapter", spread=0.05)


@pytest.fixture
def another(adapter, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(adapter, tmp_path / "copy"))


@pytest.fixture
def refused(refused_by):
    return functools.partial(refused_by, sample.main)


def set_base(folder: Path, base, **more) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base, **more}))


def test_each_kind_of_name_finds_its_weights(adapter, tmp_path):
    starter = str(STARTER_FOLDER)
    assert find_model("starter") == Source(starter)
    assert find_model("Qwen/Qwen2.5-0.5B-Instruct") == Source("Qwen/Qwen2.5-0.5B-Instruct")
    assert find_model(str(tmp_path)) == Source(str(tmp_path))
    assert find_model(str(adapter)) == Source(starter, adapter)
    assert find_model(str(adapter.parent)) == Source(starter, adapter)  # the run that trained it


def test_an_adapter_names_its_base_and_the_revision_of_it(another):
    set_base(another, "Qwen/Qwen2.5-0.5B-Instruct", revision="abc")
    assert find_model(str(another)) == Source("Qwen/Qwen2.5-0.5B-Instruct", another, "abc")


def test_the_starter_is_found_where_the_package_lies_now(another):
    set_base(another, "/home/someone/.venv/lib/python3.12/site-packages/recipes/starter/model")
    assert find_model(str(another)) == Source(str(STARTER_FOLDER), another)
    assert find_model(str(another)).is_starter


def test_a_model_of_the_starters_shape_is_the_starter(tmp_path):
    config = AutoConfig.from_pretrained(STARTER_FOLDER)
    config.save_pretrained(tmp_path / "merged")
    assert find_model(str(tmp_path / "merged")).is_starter
    config.hidden_size = 64
    config.save_pretrained(tmp_path / "other")
    assert not find_model(str(tmp_path / "other")).is_starter
    assert not find_model("Qwen/Qwen2.5-0.5B-Instruct").is_starter
    (tmp_path / "other" / "config.json").write_text("[]")
    assert not find_model(str(tmp_path / "other")).is_starter


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"base_model_name_or_path": 5}', '{"base_model_name_or_path": null}']
)
def test_an_adapter_that_names_no_base_is_refused(another, refused, content):
    (another / "adapter_config.json").write_text(content)
    assert "copy/adapter_config.json names no base_model_name_or_path" in refused("--model_name_or_path", another)


def test_an_adapter_whose_base_does_not_exist_is_refused(another, refused):
    set_base(another, "/models/of/another/machine")
    sentence = refused("--model_name_or_path", another)
    assert f"The adapter {another} belongs to /models/of/another/machine, which does not exist" in sentence


@pytest.mark.parametrize(
    ("shape", "module"),
    [
        ({"hidden_size": 64}, "_proj differs"),
        ({"intermediate_size": 96}, "down_proj"),
        ({"num_hidden_layers": 5, "layer_types": 5 * ["full_attention"]}, "layers.4"),
    ],
)
def test_an_adapter_of_a_model_of_another_shape_is_refused(tmp_path, refused, shape, module):
    folder = make_adapter(tmp_path / "adapter", 0.1, **shape)
    sentence = refused("--model_name_or_path", folder)
    assert f"The adapter {folder} does not fit {STARTER_FOLDER}" in sentence
    assert module in sentence and sentence.endswith("as base_model_name_or_path.\n")


def test_an_adapter_without_weights_or_with_half_of_them_is_refused(another, refused):
    weights = another / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert f"The adapter {weights} cannot be read" in refused("--model_name_or_path", another)
    weights.unlink()
    assert f"{another} holds no adapter_model.safetensors" in refused("--model_name_or_path", another)


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_an_adapter_is_never_unpickled(another, refused):
    (another / "adapter_model.safetensors").unlink()
    torch.save({"weight": Hostile()}, another / "adapter_model.bin")
    assert "holds no adapter_model.safetensors" in refused("--model_name_or_path", another)
    (another / "adapter_model.bin").rename(another / "adapter_model.safetensors")
    assert "cannot be read" in refused("--model_name_or_path", another)
    assert not Path("ran").exists()


def test_code_that_comes_with_a_model_runs_only_where_that_is_asked_for(tmp_path, refused, capsys):
    folder = shutil.copytree(STARTER_FOLDER, tmp_path / "hostile")
    (folder / "theirs.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\n"
        "from transformers import Qwen3Config as Config, PreTrainedTokenizerFast as Tokenizer\n"
    )
    theirs = {
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": [None, "theirs.Tokenizer"]}},
        "config.json": {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}},
    }
    for name, more in theirs.items():
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | more))
        if name == "tokenizer_config.json":  # there is another that serves
            sample.main(["--task", "word_problems", "--model_name_or_path", str(folder), "--dry_run"])
    capsys.readouterr()
    assert "trust_remote_code" in refused("--model_name_or_path", folder)
    assert not Path("ran").exists()


def test_a_run_that_has_saved_no_model_yet_is_refused(tmp_path, refused):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "given.yaml").write_text(FIRST_LINE + "{}")
    assert "The run run has saved no model yet: finish it first" in refused("--model_name_or_path", "run")


def test_an_adapter_that_fits_is_accepted(adapter):
    check_adapter(find_model(str(adapter)), AutoConfig.from_pretrained(STARTER_FOLDER))
    other = AutoConfig.from_pretrained(STARTER_FOLDER, hidden_size=64)
    with pytest.raises(InputError, match="does not fit"):
        check_adapter(find_model(str(adapter)), other)


def test_an_adapter_is_loaded_over_its_base_in_four_bit_and_trained_only_where_asked(adapter):
    _, _, config, model_args = RecipeParser("sample", sample.SampleConfig, QLoRA, "").parse([], hardware.detect())
    question = AutoTokenizer.from_pretrained(STARTER_FOLDER)("Tom has 3 apples.", return_tensors="pt")
    frozen = load_model(str(adapter.parent), config, model_args)
    assert isinstance(frozen, PeftModel) and not any(p.requires_grad for p in frozen.parameters())
    layers = [module for module in frozen.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 28
    with torch.inference_mode():
        with_adapter = frozen(**question).logits
        with frozen.disable_adapter():
            without = frozen(**question).logits
        base = load_model("starter", config, model_args)
        torch.testing.assert_close(base(**question).logits, without)
        assert (with_adapter - without).abs().max() > 0.1
        over_it = PeftModel.from_pretrained(base, adapter)
        torch.testing.assert_close(over_it(**question).logits, with_adapter)

    model = load_model(str(adapter), config, model_args, trainable=True)
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 28 and all("lora_" in name for name in trained)
    assert set(trained.values()) == {torch.float32}


def test_a_run_is_loaded_as_it_was_trained(tmp_path):
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "given.yaml").write_text(FIRST_LINE + "{}")
    (tmp_path / "run" / "config.yaml").write_text("load_in_4bit: false\nmodel_revision: null\nlearning_rate: 1\n")
    for name in ("run", "run/adapter"):
        assert loading_of(str(tmp_path / name)) == {"load_in_4bit": False}
    assert loading_of("starter") == loading_of("Qwen/Qwen2.5-0.5B-Instruct") == {}


def test_the_folder_of_a_run_that_trains_is_no_file_of_samples(tmp_path):
    (tmp_path / "samples.jsonl").write_text("{}\n")
    (tmp_path / "given.yaml").write_text(FIRST_LINE + "{}")
    (tmp_path / "config.yaml").write_text("rounds: 1\n")
    assert not is_samples(str(tmp_path))
    (tmp_path / "config.yaml").write_text("num_prompts: null\n")
    assert is_samples(str(tmp_path)) and is_samples(str(tmp_path / "samples.jsonl"))


def test_a_task_whose_rewards_have_no_weight_is_refused():
    with pytest.raises(InputError, match=r"2 reward_weights for 3 rewards .*: give each of them one"):
        replace(load_task("gsm8k"), extra=(length_reward,)).with_rewards([])
