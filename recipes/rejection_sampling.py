"""Rejection sampling: fine-tune on what the model itself got right, and nothing else.

STaR (Zelikman et al., 2022, arXiv 2203.14465), RAFT (Dong et al., 2023, arXiv 2304.06767), DeepSeek-R1 (2501.12948),
section 2.3.3.
"""

import random
from typing import Literal

from recipes.errors import InputError, did_you_mean
from recipes.samples import Scored, by_prompt, lengths
from recipes.tasks import Task

KEEP = ("shortest", "random")


def kept_completions(
    rows: list[dict],
    task: Task,
    *,
    keep_per_prompt: int = 1,
    keep: Literal["shortest", "random"] = "shortest",
    seed: int = 0,
) -> tuple[list[dict], dict]:
    """Keep the completions that are right, well formed and not truncated, a few of each prompt.

    Args:
        rows (`list[dict]`): see recipes/samples.py; rows of the same prompt are put together.
        keep_per_prompt (`int`): at most so many a prompt, so that easy prompts do not outweigh the others.
        keep (`str`): which: the `shortest`, in tokens, or in characters where the tokens of one completion are not
            known; or a `random` choice by `seed` and the question, whatever the order of the rows.

    Returns:
        `list[dict]`: TRL's conversational rows, `prompt` and `completion`.
        `dict`: how many `prompts`, and `prompts_without` any kept completion; how many `completions`, and what became
            of them, each counted once: `kept`, `unjudged`, `not_right`, `badly_formed`, `truncated`, `duplicates`
            (the same text again), `surplus` (good, but beyond `keep_per_prompt`).

    Raises `InputError` where nothing is left.
    """
    if keep_per_prompt < 1:
        raise InputError(f"--keep_per_prompt {keep_per_prompt} keeps nothing: give at least 1.")
    if keep not in KEEP:
        raise InputError(f"--keep {keep} is unknown.{did_you_mean(keep, KEEP)} Give shortest or random.")
    fates = ("unjudged", "not_right", "badly_formed", "truncated", "duplicates", "surplus")
    counts = dict.fromkeys(("prompts", "completions", "kept", *fates, "prompts_without"), 0)
    examples = []
    for prompt in by_prompt(rows, task):
        good: dict[str, Scored] = {}
        for completion in prompt.completions:
            fault = _fault(completion) or ("duplicates" if completion.text in good else None)
            if fault:
                counts[fault] += 1
            else:
                good[completion.text] = completion
        chosen = _choose(list(good.values()), keep_per_prompt, keep, f"{seed} {prompt.question!r}")
        counts["prompts"] += 1
        counts["completions"] += len(prompt.completions)
        counts["kept"] += len(chosen)
        counts["surplus"] += len(good) - len(chosen)
        counts["prompts_without"] += not chosen
        for completion in chosen:
            said = [{"role": "assistant", "content": completion.text}]
            examples.append({"prompt": prompt.messages, "completion": said})
    if not examples:
        raise InputError(
            f"Nothing is left to train on of {counts['completions']} completions of {counts['prompts']} prompts: "
            f"{counts['not_right']} are not right, {counts['badly_formed']} right but badly formed, "
            f"{counts['truncated']} right and well formed but truncated, {counts['unjudged']} could not be judged; "
            "sample more completions a prompt, easier prompts or a stronger model."
        )
    return examples, counts


def _fault(completion: Scored) -> str | None:
    if completion.correctness is None:
        return "unjudged"
    if completion.correctness != 1.0:
        return "not_right"
    if completion.format != 1.0:
        return "badly_formed"
    return "truncated" if completion.truncated else None


def _choose(good: list[Scored], most: int, keep: str, seed: str) -> list[Scored]:
    if keep == "random":
        return random.Random(seed).sample(good, min(most, len(good)))
    by_length = sorted(zip(lengths(good), good, strict=True), key=lambda pair: pair[0])
    return [completion for _, completion in by_length[:most]]
