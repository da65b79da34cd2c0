"""Preference pairs for DPO (Rafailov et al., 2023) out of scored samples: what is right against what is wrong."""

import random
from statistics import fmean

from recipes.errors import InputError
from recipes.samples import Prompt, Scored, by_prompt, lengths
from recipes.tasks import Task

# Half the weight of correctness. Right but badly formed (1.0) against wrong but well formed (0.2) passes; a pair of
# which the other rewards say that the wrong one was nearly as good does not.
MIN_MARGIN = 0.5
EQUAL = 1e-6  # totals are sums of floats: 1.2 - 1.0 is a little below 0.2


def preference_pairs(
    rows: list[dict],
    task: Task,
    *,
    pairs_per_prompt: int = 1,
    min_margin: float = MIN_MARGIN,
    balance_length: bool = False,
    seed: int = 0,
) -> tuple[list[dict], dict]:
    """Pair a right completion of each prompt with a wrong one, as in iterative reasoning DPO (arXiv 2404.19733).

    The chosen one is always right (`task.correctness` is 1.0) and never truncated, the rejected one always wrong. The
    best by `total` is paired with the worst, the second best with the second worst, and so on; equals are ordered by
    `seed`. A text is used once a prompt, however often it was sampled.

    Args:
        rows (`list[dict]`): see recipes/samples.py; rows of the same prompt are put together.
        pairs_per_prompt (`int`): at most so many pairs a prompt.
        min_margin (`float`): the least difference of the totals, at least 0; a difference of 0 is never enough.
        balance_length (`bool`): DPO learns length where chosen and rejected differ in it (arXiv 2403.19159). Of all
            right completions with all wrong ones of the prompt, as far as `min_margin` allows, the pair closest in
            length is taken, whatever the totals, then the closest of those left. Equals go by the larger margin, then
            by `seed`. Length is in tokens, or in characters where the tokens of one completion are not known. The
            price: where the well formed are long and the wrong short, more of the chosen are badly formed.

    Returns:
        `list[dict]`: TRL's conversational preference rows, `prompt`, `chosen` and `rejected`.
        `dict`: how many `prompts` and `pairs`; how many prompts gave no pair, each counted once: `unjudged`,
            `all_right`, `all_wrong`, `truncated` (all that is right is cut off), `ties`, `small_margin`; and the means
            of `chosen_length` and `rejected_length` in tokens, `None` where they are not known.

    Raises `InputError` where no pair is left.
    """
    if pairs_per_prompt < 1:
        raise InputError(f"--pairs_per_prompt {pairs_per_prompt} makes no pairs: give at least 1.")
    if not min_margin >= 0:
        raise InputError(f"--min_margin {min_margin} would prefer the worse completion: give 0 or more.")
    counts = dict.fromkeys(
        ("prompts", "pairs", "all_right", "all_wrong", "ties", "small_margin", "truncated", "unjudged"), 0
    )
    preferences, pairs = [], []
    for prompt in by_prompt(rows, task):
        counts["prompts"] += 1
        found, why_none = _pairs(prompt, min_margin, balance_length, seed)
        if not found:
            counts[why_none] += 1
        for chosen, rejected in found[:pairs_per_prompt]:
            pairs.append((chosen, rejected))
            preferences.append({"prompt": prompt.messages, "chosen": _said(chosen), "rejected": _said(rejected)})
    counts["pairs"] = len(pairs)
    if not pairs:
        raise InputError(
            f"No preference pair is left of {counts['prompts']} prompts: {counts['all_right']} have only right "
            f"completions, {counts['all_wrong']} only wrong ones, {counts['truncated']} only truncated right ones, "
            f"{counts['ties']} are tied, {counts['small_margin']} have too small a margin, {counts['unjudged']} could "
            "not be judged; sample more completions a prompt, at a higher temperature, or other prompts, or lower "
            "--min_margin."
        )
    known = [pair for pair in pairs if None not in (pair[0].tokens, pair[1].tokens)]
    for side, name in enumerate(("chosen_length", "rejected_length")):
        counts[name] = fmean(pair[side].tokens for pair in known) if known else None
    return preferences, counts


def check_preferences(column_names: list[str], name: str) -> None:
    """Raise `InputError` unless the preference set `name` has the columns `chosen` and `rejected`.

    `prompt` may be missing: TRL then takes what the two conversations have in common for it.
    """
    for column in ("chosen", "rejected"):
        if column not in column_names:
            raise InputError(
                f"The preference set {name} has no column `{column}` (it has {', '.join(column_names) or 'none'}); "
                "rename its columns to `prompt`, `chosen` and `rejected`, or to the last two where they hold whole "
                "conversations."
            )


def _pairs(prompt: Prompt, min_margin: float, balance_length: bool, seed: int) -> tuple[list, str]:
    """All pairs of one prompt, no completion twice, the preferred ones first; and why there are none."""
    judged = [c for c in prompt.completions if c.correctness is not None and c.total is not None]
    random.Random(f"{seed} {prompt.question!r}").shuffle(judged)  # the sorts below are stable
    judged.sort(key=lambda c: not c.truncated)  # of one text sampled twice the last is kept: one that is whole
    judged = list({c.text: c for c in judged}.values())
    right = [c for c in judged if c.correctness == 1.0]
    wrong = [c for c in judged if c.correctness != 1.0]
    if not right or not wrong:
        return [], "all_right" if right else "all_wrong" if wrong else "unjudged"
    right = [c for c in right if not c.truncated]
    if not right:
        return [], "truncated"
    right.sort(key=lambda c: -c.total)
    wrong.sort(key=lambda c: c.total)
    largest = right[0].total - wrong[0].total
    enough = max(min_margin - EQUAL, EQUAL)
    if largest < enough:
        return [], "ties" if abs(largest) < EQUAL else "small_margin"
    candidates = _closest_first(right, wrong, enough) if balance_length else zip(right, wrong, strict=False)
    return [(a, b) for a, b in candidates if a.total - b.total >= enough], ""


def _closest_first(right: list[Scored], wrong: list[Scored], enough: float) -> list[tuple[Scored, Scored]]:
    length = dict(zip([*right, *wrong], lengths([*right, *wrong]), strict=True))
    candidates = [(a, b) for a in right for b in wrong if a.total - b.total >= enough]
    candidates.sort(key=lambda pair: (abs(length[pair[0]] - length[pair[1]]), pair[1].total - pair[0].total))
    pairs, used = [], set()
    for pair in candidates:
        if used.isdisjoint(pair):
            pairs.append(pair)
            used.update(pair)
    return pairs


def _said(completion: Scored) -> list[dict]:
    return [{"role": "assistant", "content": completion.text}]
