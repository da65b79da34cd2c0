"""A reward model as a reward function: `--reward_model runs/rm-gsm8k` trains on its scores (RLHF).

A learned reward is a proxy: it says what it has learned to say of texts like those that it was trained on, and RL looks
for texts that are unlike them. Measure the truth beside it: `--measure_only`, and `make overoptimize-word_problems`.
"""

import contextlib
import copy
import json
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer

from recipes import hub
from recipes.errors import InputError, near_path, one_line, path_of
from recipes.memory import weights_gb, without_weights
from recipes.models import find_model, load_model, loading_of
from recipes.qlora import QLoRA
from recipes.run import is_run
from recipes.texts import as_text, end_of_turn, prompts_to_train_on
from rewards.completions import Completion, completion_text

ASKED = [{"role": "user", "content": "1 + 1?"}]
PREFILL = re.compile(r"<think>\s*\Z")  # what a template may have written of the completion
TOKENS_AT_ONCE = 16_384  # in a pass: half a gigabyte of activations in a model of 1.5B
OF_LOADING = ("dtype", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant", "model_revision")


@dataclass
class Loading:
    """What of a trainer's config decides how a reward model is loaded, and how it is asked."""

    seed: int = 0
    trust_remote_code: bool = False
    model_init_kwargs: None = None
    chat_template_kwargs: dict | str | None = None

    def __post_init__(self):
        if isinstance(self.chat_template_kwargs, str):  # as a run's config.yaml has what the command line gave
            self.chat_template_kwargs = json.loads(self.chat_template_kwargs)


class LearnedReward:
    """The score that a reward model (Bradley-Terry; Stiennon et al., 2020, 2009.01325) gives a completion.

    Args:
        name (`str`): the folder of a run of recipes/reward_model.py, or any model of transformers' class for sequence
            classification with one label: a hub id or a folder.

    Called as TRL calls a reward. Range: any real number. A run's scores are given less their mean over its held-out
    pairs (its train pairs, where it had no others), in units of their standard deviation, so that a weight of the KL
    means about the same for every reward model; another model's scores are given as they are. A completion that was cut
    off is scored as if it had ended there.
    Never `None`. The model is loaded at the first call, onto the machine's GPU where there is one in use.

    Attributes:
        prefill (`str`): what the policy's chat template has written of every completion, such as "<think>".

    Raises `InputError` where `name` is no reward model, as far as its folder tells, or cannot read a conversation.
    """

    __name__ = "reward_model"

    def __init__(self, name: str):
        self.name, self.prefill, self._loaded = name, "", []
        if not path_of(find_model(name).base).is_dir():
            hub.go_offline_if_unreachable()
        settings = loading_of(name, ("trust_remote_code", "chat_template_kwargs", "model_revision"))
        self.revision = find_model(name).revision or settings.pop("model_revision", None)
        self.config = Loading(**{key: value for key, value in settings.items() if key != "model_revision"})
        self.mean, self.std = scale_of(name, self.config.trust_remote_code, self.revision)
        self.tokenizer = self._tokenizer()
        self.takes_system = self._renders([{"role": "system", "content": "Be brief."}, *ASKED])
        if not self.takes_system and not self._renders(ASKED):
            raise InputError(f"--reward_model {name}: its chat template cannot render a question.")

    def __call__(self, prompts, completions: list[Completion], **columns) -> list[float]:
        texts = self.as_text(prompts, [completion_text(completion) for completion in completions])
        return [(score - self.mean) / self.std for score in scores_of(self.model, self.tokenizer, texts)]

    def behind(self, prefill: str) -> "LearnedReward":
        """The same reward, and the same model, for a policy whose chat template writes `prefill`."""
        other = copy.copy(self)
        other.prefill = prefill
        return other

    @property
    def model(self):
        """The model, loaded once as the run that made it had it."""
        if not self._loaded:
            try:
                with unchanged_randomness():  # it is loaded in the midst of a run
                    self._loaded.append(load_model(self.name, self.config, self.model_args, scores=True))
            except InputError as error:
                raise InputError(f"--reward_model {self.name} cannot be loaded: {error}") from error
        return self._loaded[0]

    @property
    def model_args(self) -> QLoRA:
        settings = {"dtype": "auto", "load_in_4bit": False} | loading_of(self.name, OF_LOADING)
        return QLoRA(model_name_or_path=self.name, **settings)

    @property
    def weights_gb(self) -> float:
        """What its weights will take, in GB; 0 where that cannot be told."""
        options = {"revision": self.revision, "trust_remote_code": self.config.trust_remote_code}
        model = without_weights(AutoConfig.from_pretrained(find_model(self.name).base, **options))
        return weights_gb(model, self.model_args) if model else 0.0

    def as_text(self, prompts: list, completions: list[str]) -> list[str]:
        asked = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
        if not self.takes_system:
            asked = [without_system(messages) for messages in asked]
        end = end_of_turn(self.tokenizer, self.config)
        # What the policy's template has begun stands in place of what this one would begin.
        asked = [PREFILL.sub("", text) for text in prompts_to_train_on(self.tokenizer, asked, self.config)]
        begun = [prompt + self.prefill for prompt in asked]
        return [ended(prompt + text + end, self.tokenizer) for prompt, text in zip(begun, completions, strict=True)]

    def _tokenizer(self):
        options = {"revision": self.revision, "trust_remote_code": self.config.trust_remote_code}
        try:
            tokenizer = AutoTokenizer.from_pretrained(find_model(self.name).base, **options)
        except Exception as error:  # transformers raises many kinds
            raise InputError(f"--reward_model {self.name}: its tokenizer cannot be read: {one_line(error)}") from error
        if tokenizer.chat_template is None:
            raise InputError(
                f"--reward_model {self.name} has no chat template, so it cannot be asked: add the one of "
                "its base model to its tokenizer."
            )
        if tokenizer.pad_token is None and tokenizer.eos_token is None:
            raise InputError(f"--reward_model {self.name}: its tokenizer has neither a pad nor an eos token: add one.")
        return tokenizer

    def _renders(self, messages: list[dict]) -> bool:
        try:
            return bool(as_text(self.tokenizer, [messages], self.config))
        except (TemplateError, ValueError, TypeError):
            return False


def without_system(messages: list[dict]) -> list[dict]:
    """The system message in front of the first question, as `Task.prompt_without_system` has it."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    asked = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{**messages[1], "content": asked}, *messages[2:]]


def ended(text: str, tokenizer) -> str:
    """`text` to its end, as TRL's RewardTrainer reads what it trains on."""
    end = tokenizer.eos_token or ""
    return text if text.endswith(end) else text + end


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


def scale_of(name: str, trust_remote_code: bool = False, revision: str | None = None) -> tuple[float, float]:
    """The mean and the standard deviation that a run found of its scores; 0 and 1 for another reward model.

    Raises `InputError` where the folder called `name` shows that it is no reward model, or none yet.
    """
    folder = path_of(name)
    make = "`make rm-<task>` trains one."
    if is_run(folder):
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"--reward_model {name} is unfinished: run its command again to the end.") from None
        except ValueError as error:
            raise InputError(f"--reward_model {name} cannot be read: result.json is broken.") from error
        if not isinstance(result, dict) or "score_std" not in result:
            raise InputError(f"--reward_model {name} is a run of another kind: {make}")
        mean, std = result.get("score_mean"), result["score_std"]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in (mean, std)) or std <= 0:
            raise InputError(f"--reward_model {name} gives no usable scores (result.json): train it anew.")
        return mean, std
    if hub.is_local_path(name) and not folder.is_dir():
        raise InputError(f"--reward_model {name} does not exist: give a run, a folder or a hub id.{near_path(name)}")
    if (
        "SEQ_CLS" not in (kinds := kinds_of(name, trust_remote_code, revision))
        and "SequenceClassification" not in kinds
    ):
        raise InputError(f"--reward_model {name} writes texts and scores none: {make}")
    return 0.0, 1.0


def kinds_of(name: str, trust_remote_code: bool, revision: str | None) -> str:
    """What the configuration of a model or of an adapter says that it is for."""
    source = find_model(name)
    if not Path(source.base).is_dir():
        hub.go_offline_if_unreachable()
    try:
        if source.adapter:
            return str(
                json.loads((source.adapter / "adapter_config.json").read_text(encoding="utf-8")).get("task_type")
            )
        options = {"trust_remote_code": trust_remote_code, "revision": revision}
        return str(AutoConfig.from_pretrained(source.base, **options).architectures)
    except Exception as error:  # transformers raises many kinds
        raise InputError(f"--reward_model {name} cannot be read: {one_line(error)}") from error
