"""A model by its name: a hub id, a folder, the bundled starter, or the folder of a LoRA adapter or of its run."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    set_seed,
)
from trl import get_quantization_config
from trl.trainer.reward_trainer import suppress_seqcls_warning
from trl.trainer.utils import create_model_from_path

from recipes.errors import InputError, one_line, path_of, refused_settings
from recipes.qlora import correct_qlora, loading
from recipes.run import is_run, read_yaml

STARTER = "starter"  # the bundled miniature; as a model name it stands for this folder
STARTER_FOLDER = Path(__file__).parent / "starter" / "model"
SCORE_HEAD = "score"  # what transformers calls the head of a reward model
OF_LOADING = (
    *("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant", "model_revision"),
    *("trust_remote_code", "chat_template_kwargs"),
)


@dataclass(frozen=True)
class Source:
    """Where the weights of a model lie."""

    base: str  # what `from_pretrained` takes: a folder or a hub id
    adapter: Path | None = None
    revision: str | None = None  # of the base, where the adapter names one

    @property
    def is_starter(self) -> bool:
        """Whether it is the miniature, merged or trained further or not."""
        return Path(self.base) == STARTER_FOLDER or _shape(Path(self.base)) == _shape(STARTER_FOLDER)


def loading_of(name: str, flags: tuple[str, ...] = OF_LOADING) -> dict:
    """How the model called `name` was loaded and asked in its run, by the names of the flags; empty for others.

    An adapter belongs to what it was trained over: four-bit weights or not.
    """
    folder = path_of(name)
    folder = folder.parent if folder.name == "adapter" else folder
    if not is_run(folder) or not (folder / "config.yaml").exists():
        return {}
    settings = read_yaml(folder / "config.yaml")
    return {flag: settings[flag] for flag in flags if settings.get(flag) is not None}


def find_model(name: str) -> Source:
    """The source of the model called `name`; of a run's folder, the adapter that it trained.

    Raises `InputError` where an adapter does not say which base model it belongs to.
    """
    if name == STARTER:
        return Source(str(STARTER_FOLDER))
    folder = path_of(name)
    if (folder / "adapter").is_dir():
        folder /= "adapter"
    if not (folder / "adapter_config.json").is_file():
        return Source(str(folder) if folder.is_dir() else name)
    try:
        written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = written["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not base or not isinstance(base, str):
        raise InputError(f"{folder}/adapter_config.json names no base_model_name_or_path: add the model it belongs to.")
    # The starter lies where the package lies, which may have moved since.
    if Path(base).parts[-3:] == STARTER_FOLDER.parts[-3:]:
        base = str(STARTER_FOLDER)
    return Source(base, folder, written.get("revision"))


def only_scores(source: Source, model_config: PretrainedConfig) -> bool:
    """Whether it is a reward model, or another classifier, that writes no text."""
    if source.adapter:
        written = json.loads((source.adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return written.get("task_type") == "SEQ_CLS"
    return any("SequenceClassification" in str(kind) for kind in model_config.architectures or [])


def load_model(
    name: str, config, model_args, *, trainable: bool = False, scores: bool = False
) -> PreTrainedModel | PeftModel:
    """The model called `name`, ready to sample and, where it is an adapter and `trainable`, to train on.

    Args:
        config: the trainer's config; its `seed`, `model_init_kwargs` and `trust_remote_code` hold.
        model_args (`trl.ModelConfig`): precision and quantization.
        scores (`bool`): with a head that gives one score a text, in place of the one that writes: a reward model.
    """
    source = find_model(name)
    options = loading(config, model_args)
    if source.revision:
        options["revision"] = source.revision
    quantization = get_quantization_config(model_args)
    if scores:
        options |= {"architecture": AutoModelForSequenceClassification, "num_labels": 1}
        if quantization:  # the head is trained as a whole
            quantization.llm_int8_skip_modules = [SCORE_HEAD]
    with refused_settings(), suppress_seqcls_warning() if scores else contextlib.nullcontext():
        set_seed(config.seed)
        try:
            model = create_model_from_path(
                source.base,
                quantization_config=quantization,
                trust_remote_code=config.trust_remote_code,
                **options,
            )
        except RuntimeError as error:
            if torch.cuda.is_available() and torch.cuda.memory_stats().get("num_ooms"):  # transformers hides it
                raise torch.OutOfMemoryError(f"CUDA out of memory while loading: {error}") from error
            raise
        if source.adapter:
            model = PeftModel.from_pretrained(model, source.adapter, is_trainable=trainable)
    correct_qlora(model)
    return model


def end_tokens(model, tokenizer) -> list[int]:
    """The tokens that end a completion: the tokenizer's and every one that the model declares, as TRL's trainers do."""
    declared = model.generation_config.eos_token_id
    declared = [] if declared is None else [declared] if isinstance(declared, int) else declared
    return sorted({tokenizer.eos_token_id, *declared})


def check_adapter(source: Source, model_config: PretrainedConfig) -> None:
    """Raises `InputError` where the adapter was trained on a model of another shape than `source.base`."""
    weights = source.adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise InputError(f"{source.adapter} holds no adapter_model.safetensors: give the folder that a run saved.")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    modules = {f"base_model.model.{name}": module for name, module in model.named_modules()}
    try:
        with safe_open(weights, "pt") as tensors:
            for key in tensors.keys():
                module, is_lora, _ = key.partition(".lora_A.")
                if is_lora and _width(modules.get(module)) != tensors.get_slice(key).get_shape()[1]:
                    raise InputError(
                        f"The adapter {source.adapter} does not fit {source.base} ({module.split('.', 2)[2]} differs): "
                        "put the model it was trained on into its adapter_config.json, as base_model_name_or_path."
                    )
    except (OSError, SafetensorError) as error:
        raise InputError(f"The adapter {weights} cannot be read: {one_line(error)}.") from error


def _width(module: torch.nn.Module | None) -> int | None:
    """How many values a linear layer takes; GPT-2's Conv1D calls them by another name."""
    return getattr(module, "in_features", getattr(module, "nx", None))


def _shape(folder: Path) -> tuple | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return tuple(config.get(name) for name in ("model_type", "vocab_size", "hidden_size", "num_hidden_layers"))
    except (OSError, ValueError, AttributeError):
        return None
