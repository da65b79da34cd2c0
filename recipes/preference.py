"""Losses on pairs of a better and a worse completion: `--loss_type` chooses among TRL's trainers.

sigmoid (DPO, Rafailov et al., 2023), ipo (Azar et al., 2023), sigmoid_norm (Lambert et al., 2024) and robust (Chowdhury
et al., 2024) measure the policy against a reference: the model as it was before. simpo (Meng et al., 2024) and orpo
(Hong et al., 2024) have none.
"""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields

from datasets import Dataset
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, set_seed
from trl import DPOConfig, DPOTrainer
from trl.data_utils import is_conversational, maybe_extract_prompt

from recipes.arguments import flag
from recipes.errors import InputError, did_you_mean
from recipes.qlora import adapter_weights, correct_qlora
from recipes.texts import end_of_turn, prompts_to_train_on, that_fit
from rewards.completions import completion_text

BETAS = {
    "sigmoid": 0.1,  # the paper's
    "ipo": 0.1,  # TRL's; it pulls the means of the log ratios 1 / (2 beta) nats a token apart
    "sigmoid_norm": 5.0,  # Tülu 3's: the log ratios are means over tokens, so small
    "robust": 0.1,  # DPO's, since it is DPO but for the wrong pairs
    "simpo": 2.0,  # the paper's, for log probabilities that are means over tokens
    "orpo": 0.1,  # the paper's lambda: the odds ratio's weight beside the likelihood of what is chosen
}
LOSSES = tuple(BETAS)


@dataclass
class PreferenceConfig(DPOConfig):
    """DPO's config for one loss of `LOSSES`; once made, `beta` and `label_smoothing` are numbers."""

    loss_type: str = flag("sigmoid", f"The loss: {', '.join(LOSSES)}.")
    beta: float | None = flag(
        None,
        "How far the reference holds the policy; simpo: scale of the reward; orpo: weight of the odds ratio. Default: "
        f"{', '.join(f'{loss} {beta}' for loss, beta in BETAS.items())}.",
    )
    label_smoothing: float | None = flag(
        None, "robust, simpo: share of pairs that are the wrong way round. Default: 0.1 for robust, else 0."
    )
    simpo_gamma: float = flag(1.0, "simpo: the margin that it aims at; the paper's is about half of beta.")
    max_length: int | None = flag(None, "Tokens of prompt and completion; the rest is cut off. Default: no limit.")
    chat_template_kwargs: dict | str | None = flag(None, "Settings of the chat template, as JSON.")

    _VALID_DICT_FIELDS = [*DPOConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]

    def __post_init__(self):
        loss, share = self.loss_type, self.label_smoothing
        if loss not in LOSSES:
            hint = did_you_mean(str(loss), LOSSES)
            raise InputError(f"Unknown --loss_type {loss!r}.{hint} One of {', '.join(LOSSES)}.")
        if share is None:
            self.label_smoothing = share = 0.1 if loss == "robust" else 0.0
        if not 0 <= share < 0.5 or (loss == "robust" and not share):
            raise InputError(f"--label_smoothing {share}: give a share of pairs above 0 and below 0.5.")
        if share and loss not in ("robust", "simpo"):
            raise InputError(f"--label_smoothing {share} has no effect on {loss}: drop it, or take --loss_type robust.")
        if self.beta is None:
            self.beta = BETAS[loss]
        if not self.beta > 0:
            raise InputError(f"--beta {self.beta}: give a number above 0.")
        super().__post_init__()
        self.loss_type = loss  # DPOConfig has made a list of it


def preference_trainer(
    config: PreferenceConfig,
    model: PreTrainedModel | PeftModel,
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    peft_config: PeftConfig | None = None,
) -> Trainer:
    """TRL's trainer for `config.loss_type`: DPOTrainer, CPOTrainer for simpo, ORPOTrainer for orpo.

    The last two begin every prompt with the tokenizer's BOS token where it has one.

    Args:
        model: from `load_model`; without an adapter, which `peft_config` then describes, or with one that is trainable.
            It is trained on, and as it is now it is the reference.
        rows: `prompt`, `chosen` and `rejected`, chat messages or text; see `check_preferences`.
    """
    kind, config_kind, own = DPOTrainer, DPOConfig, {}
    if config.loss_type in ("simpo", "orpo"):
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from trl.experimental.cpo import CPOConfig, CPOTrainer
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        # They want all columns kept, take None for 512 tokens, and cast what is not quantized to float32 where they
        # make the adapter. cpo_alpha is the weight of CPO's likelihood term.
        own = {"remove_unused_columns": False, "max_length": config.max_length or sys.maxsize}
        kind, config_kind = (ORPOTrainer, ORPOConfig) if config.loss_type == "orpo" else (CPOTrainer, CPOConfig)
        if config.loss_type == "simpo":
            own["cpo_alpha"] = 0.0
        if peft_config is not None:
            set_seed(config.seed)
            model, peft_config = get_peft_model(model, peft_config), None
    start = adapter_weights(model)
    shared = {f.name: getattr(config, f.name) for f in fields(config_kind) if f.init and hasattr(config, f.name)}
    trainer = kind(
        model=model,
        args=config_kind(**{**shared, "model_init_kwargs": None, **own}),  # the model is loaded
        train_dataset=pairs_as_text(rows, tokenizer, config),
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    correct_qlora(trainer.model, start)  # DPOTrainer rounds the policy to bfloat16, but not the reference
    if config.loss_type == "orpo":
        trainer.concatenated_forward = functools.partial(_likelihood_of_answers, trainer.concatenated_forward)
    return trainer


def _likelihood_of_answers(forward: Callable, model: PreTrainedModel | PeftModel, batch: dict) -> tuple:
    """ORPO's forward pass, with the likelihood of the answers alone as in the paper; TRL's has the prompts in it."""
    chosen, rejected, chosen_logits, rejected_logits, _, *aux = forward(model, batch)
    tokens = (batch["chosen_labels"] != -100).sum(-1)  # `chosen` is a mean over them
    return chosen, rejected, chosen_logits, rejected_logits, -(chosen * tokens).sum() / tokens.sum(), *aux


def pairs_as_text(rows: Dataset, tokenizer: PreTrainedTokenizerBase, config) -> Dataset:
    """Pairs as the model reads and writes them, each to the end of its turn.

    After what most templates write behind that, CPOTrainer and ORPOTrainer would add another end.
    """
    end = end_of_turn(tokenizer, config)
    pairs = []
    for row in map(maybe_extract_prompt, rows):
        pair = {name: row[name] for name in ("prompt", "chosen", "rejected")}
        if is_conversational(pair):
            if len(pair["chosen"]) != 1 or len(pair["rejected"]) != 1:
                raise InputError(f"Pair {len(pairs)} has several messages after its prompt: give it one answer a side.")
            pair = {name: completion_text(pair[name]) + end for name in ("chosen", "rejected")}
            [pair["prompt"]] = prompts_to_train_on(tokenizer, [row["prompt"]], config)
        pairs.append(pair)
    # simpo and orpo would be nan where nothing is left of a completion.
    return Dataset.from_list(that_fit(tokenizer, pairs, ("chosen", "rejected"), config.max_length, "pair"))
