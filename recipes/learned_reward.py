"""A reward model as a reward function: `--reward_model runs/rm-gsm8k` trains on its scores (RLHF).

A learned reward is a proxy: it says what it has learned to say of texts like those that it was trained on, and RL looks
for texts that are unlike them. Measure the truth beside it: `--measure_only`, and `make overoptimize-word_problems`.
"""

import contextlib
import functools
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer

from recipes import hub
from recipes.errors import InputError, near_path, one_line, refused_settings
from recipes.models import find_model, load_model, loading_of
from recipes.qlora import QLoRA
from recipes.run import is_run
from recipes.texts import end_of_turn, prompts_to_train_on
from rewards.completions import Completion, completion_text

TOKENS_AT_ONCE = 16_384  # in a pass: half a gigabyte of activations in a model of 1.5B
OF_LOADING = ("dtype", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant", "model_revision")


@dataclass
class Loading:
    """What of a trainer's config decides how a reward model is loaded."""

    seed: int = 0
    trust_remote_code: bool = False
    model_init_kwargs: None = None
    chat_template_kwargs: dict | None = None


class LearnedReward:
    """The score that a reward model (Bradley-Terry; Stiennon et al., 2020, 2009.01325) gives a completion.

    Args:
        name (`str`): the folder of a run of recipes/reward_model.py, or any model of transformers' class for sequence
            classification with one label: a hub id or a folder.

    Called as TRL calls a reward. Range: any real number. A run's scores are given less their mean over its held-out
    pairs, in units of their standard deviation, so that a weight of the KL means about the same for every reward model;
    another model's scores are given as they are.
    Never `None`. The model is loaded at the first call, onto the machine's GPU where there is one in use.

    Raises `InputError` where `name` is no reward model, as far as its folder tells.
    """

    __name__ = "reward_model"

    def __init__(self, name: str):
        self.name = name
        self.mean, self.std = scale_of(name)

    def __call__(self, prompts, completions: list[Completion], **columns) -> list[float]:
        texts = self.as_text(prompts, [completion_text(completion) for completion in completions])
        return [(score - self.mean) / self.std for score in scores_of(*self.model, texts)]

    @functools.cached_property
    def model(self) -> tuple:
        """The model and its tokenizer, loaded as the run that made it had them."""
        settings = {"dtype": "auto", "load_in_4bit": False} | loading_of(self.name, OF_LOADING)
        model_args = QLoRA(model_name_or_path=self.name, **settings)
        try:
            with unchanged_randomness():  # it is loaded in the midst of a run
                model = load_model(self.name, Loading(), model_args, scores=True)
            with refused_settings("The tokenizer"):
                return model, AutoTokenizer.from_pretrained(find_model(self.name).base)
        except InputError as error:
            raise InputError(f"--reward_model {self.name} cannot be loaded: {error}") from error

    def as_text(self, prompts: list, completions: list[str]) -> list[str]:
        tokenizer, config = self.model[1], Loading()
        asked = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
        end = end_of_turn(tokenizer, config)
        asked = prompts_to_train_on(tokenizer, asked, config)
        return [ended(prompt + text + end, tokenizer) for prompt, text in zip(asked, completions, strict=True)]


def ended(text: str, tokenizer) -> str:
    """`text` to its end, as TRL's RewardTrainer reads what it trains on."""
    return text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token


@contextlib.contextmanager
def unchanged_randomness():
    """What is drawn inside, or seeded, changes nothing of what is drawn afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@torch.inference_mode()
def scores_of(model, tokenizer, texts: list[str]) -> list[float]:
    """The model's raw score of each text, in the order of `texts`; the longest are judged first."""
    was_training = model.training
    model.eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id  # behind which the last token is looked for
    half = model.dtype in (torch.bfloat16, torch.float16)  # a head that was trained is in float32
    precision = torch.autocast(model.device.type, model.dtype) if half else contextlib.nullcontext()
    encoded = [tokenizer(text)["input_ids"] for text in texts]
    order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
    scores = [0.0] * len(texts)
    while order:
        rows = order[: max(1, TOKENS_AT_ONCE // max(1, len(encoded[order[0]])))]
        order = order[len(rows) :]
        batch = tokenizer.pad({"input_ids": [encoded[i] for i in rows]}, padding_side="right", return_tensors="pt").to(
            model.device
        )
        with precision:
            logits = model(**batch, use_cache=False).logits
        for i, score in zip(rows, logits[:, 0].float().tolist(), strict=True):
            scores[i] = score
    model.train(was_training)
    return scores


def scale_of(name: str) -> tuple[float, float]:
    """The mean and the standard deviation that a run found of its scores; 0 and 1 for another reward model.

    Raises `InputError` where the folder called `name` shows that it is no reward model, or none yet.
    """
    folder = Path(name).expanduser()
    make = "`make rm-<task>` trains one."
    if is_run(folder):
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"--reward_model {name} is unfinished: run its command again to the end.") from None
        except ValueError as error:
            raise InputError(f"--reward_model {name} cannot be read: result.json is broken.") from error
        if "score_std" not in result:
            raise InputError(f"--reward_model {name} is a run of another kind: {make}")
        return result["score_mean"], result["score_std"]
    if hub.is_local_path(name) and not folder.is_dir():
        raise InputError(f"--reward_model {name} does not exist: give a run, a folder or a hub id.{near_path(name)}")
    if "SEQ_CLS" not in (kinds := kinds_of(name)) and "SequenceClassification" not in kinds:
        raise InputError(f"--reward_model {name} writes texts and scores none: {make}")
    return 0.0, 1.0


def kinds_of(name: str) -> str:
    """What the configuration of a model or of an adapter says that it is for."""
    source = find_model(name)
    if not Path(source.base).is_dir():
        hub.go_offline_if_unreachable()
    try:
        if source.adapter:
            return str(
                json.loads((source.adapter / "adapter_config.json").read_text(encoding="utf-8")).get("task_type")
            )
        return str(AutoConfig.from_pretrained(source.base).architectures)
    except Exception as error:  # transformers raises many kinds
        raise InputError(f"--reward_model {name} cannot be read: {one_line(error)}") from error
