"""Is the chosen option the right one? A letter, or the option's own text."""

import re
import unicodedata

from rewards.answers import extract_answer
from rewards.completions import Completion, after_thinking, check_column, completion_text
from rewards.correctness import gold_values, warn_of_unusable
from rewards.exact_match import fold, gold_text
from rewards.latex import TEXT

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PLAIN_LETTERS = 5  # without a column of options, A to E are the options
# A letter at the start names an option in brackets, before a stop or colon, or by itself: "A cat" names none.
_LETTER = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice)\s+)?\(?([A-Z])(?:\)|[.:](?!\w)|(?=\s*(?:$|[,/&]|(?:and|or)\b)))")
# And these name one anywhere.
_NAMED = re.compile(
    r"(?i:\b(?:option|choice)s?\s+\(?([A-Z])\b|\(([A-Z])\))|(?:\b(?:and|or)\b|[,/&])\s*\(?([A-Z])\b(?!['\w])"
)
# What may stand between the options of an answer that is nothing but options.
_BETWEEN = re.compile(r"[\s.,:;/&|(){}<>\[\]-]|(?:and|or|(?:option|choice)s?)\b")
_LEAD_IN = re.compile(
    r"\A(?:(?:so|thus|hence|therefore),? )?(?:i (?:choose|pick|select) |it is |it's "
    r"|(?:the |my )?(?:final |correct |right |best )?(?:answer|option|choice)(?: is\b:?|:) ?)"
)
_DENIED = re.compile(r"(?:is|was|can|could|may|might|seems|isn't|not|no|wrong|false|incorrect)\b")
_LONGEST = 2000  # characters of an answer; a longer one names no option


def multiple_choice_reward(
    completions: list[Completion], answer=None, solution=None, options=None, **kwargs
) -> list[float | None]:
    """1.0 where the final answer names the right option and no other, 0.0 where it does not.

    r = 1[ options named by the answer = {gold} ]. An option is named by its letter ("B", "(b)", "Option B", "B. Paris")
    or, with a column `options`, by its text; without that column the options are A to E. Two options named, or a
    letter beside the text of another option, is a hedge and gets 0. The measure of MMLU (Hendrycks et al., 2021,
    arXiv 2009.03300), read from a free answer.

    Range: 0 or 1, None for an unusable gold

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        answer, solution (`list`): the gold column, B values: a letter or an option's text.
        options (`list`, *optional*): B lists of the options' texts in order, or dicts from letter to text, or ARC's
            `{"label": [...], "text": [...]}`.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` where the gold is no option, or is one option's letter
            and another's text.

    Raises:
        `ValueError`: there is no gold column, or a column is not as long as `completions`.

    Example:
    >>> from rewards import multiple_choice_reward
    >>> multiple_choice_reward(completions=["<answer>(B)</answer>", "The answer is A or B."], answer=["B", "B"])
    [1.0, 0.0]
    >>> multiple_choice_reward(completions=["<answer>Paris</answer>"], answer=["B"], options=[["Rome", "Paris"]])
    [1.0]
    """
    columns = {"answer": answer, "solution": solution}
    column, golds = gold_values("multiple_choice_reward", completions, columns)
    if options is None:
        options = [None] * len(completions)
    check_column("options", options, completions)
    rewards = []
    for completion, gold, texts in zip(completions, golds, options, strict=True):
        by_letter = _by_letter(texts)
        wanted = _named(gold_text(gold), by_letter)
        text = completion_text(completion)
        found = _named(extract_answer(text) or _bare(after_thinking(text) or "", by_letter), by_letter)
        rewards.append(float(found == wanted) if len(wanted) == 1 else None)
    warn_of_unusable("multiple_choice_reward", column, golds, rewards)
    return rewards


def _by_letter(texts: list | dict | None) -> dict[str, str]:
    """The folded text of each option by its label; empty texts where there is no column of options."""
    if isinstance(texts, dict) and isinstance(texts.get("label"), list) and isinstance(texts.get("text"), list):
        texts = dict(zip(texts["label"], texts["text"], strict=False))  # as in ARC
    if isinstance(texts, dict):
        return {str(label).strip().upper(): fold(str(text)[:_LONGEST]) for label, text in texts.items()}
    if isinstance(texts, list | tuple):
        return {letter: fold(str(text)[:_LONGEST]) for letter, text in zip(_LETTERS, texts, strict=False)}
    return dict.fromkeys(_LETTERS[:_PLAIN_LETTERS], "")


def _bare(text: str, by_letter: dict[str, str]) -> str:
    """`text` where it is nothing but a choice, like "B) Paris"; empty for a sentence without a marker."""
    text = text.strip()
    is_choice = len(text) <= _LONGEST and "\n" not in text and (_LETTER.match(text) or _only_options(text, by_letter))
    return text if is_choice else ""


def _named(answer: str, by_letter: dict[str, str]) -> set[str]:
    """The labels of the options that `answer` names, by label or by text."""
    if len(answer) > _LONGEST:
        return set()
    options = _only_options(answer, by_letter)
    if options is not None:
        return options
    answer = TEXT.sub(r"\1", unicodedata.normalize("NFKC", answer)).replace("$", "").strip("*_` \n")
    first = _LETTER.match(answer)
    letters = {first[1]} if first else set()
    letters |= {next(filter(None, groups)).upper() for groups in _NAMED.findall(answer)}
    if first and _DENIED.match(fold(answer[first.end() :].lstrip(" .:)-"))):
        return set()
    return letters & by_letter.keys()


def _only_options(answer: str, by_letter: dict[str, str]) -> set[str] | None:
    """The labels of the options in an answer of nothing but options; `None` where it says anything else."""
    answer = fold(answer)
    answer = answer[found.end() :] if (found := _LEAD_IN.match(answer)) else answer
    names = [(name, label) for label, text in by_letter.items() for name in {label.casefold(), text} - {""}]
    named, place = set(), 0
    while place < len(answer):
        here = [(len(name), label) for name, label in names if _stands(name, answer, place)]
        if here:
            longest = max(here)[0]
            named |= {label for length, label in here if length == longest}  # two where a label is another's text
            place += longest
        elif between := _BETWEEN.match(answer, place):
            place = between.end()
        else:
            return None
    return named or None


def _stands(name: str, answer: str, place: int) -> bool:
    """Whether `name` stands at `place`, and is not a part of a longer word."""
    around = (answer[place - 1 : place] + name[0], name[-1] + answer[place + len(name) :][:1])
    return answer.startswith(name, place) and not any(len(pair) == 2 and pair.isalnum() for pair in around)
