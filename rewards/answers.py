r"""Find the final answer in a text, and compare it with the gold answer. Numbers only, in exact arithmetic."""

import re
import unicodedata
from fractions import Fraction

from rewards.completions import after_thinking

# The last of these wins.
_MARKER = re.compile(r"<answer>|\\boxed\{|####|\banswer is\b[ \t]?:?", re.IGNORECASE)

_NUMBER = re.compile(r"([-+]?)((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:e([-+]?\d{1,3}))?", re.IGNORECASE)
_FRACTION = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\d?frac\{(\d+)\}\{(\d+)\})")
_UNIT = re.compile(r"(?:[ -]?[a-z]+(?:[ /][a-z]+){0,4}|°)", re.IGNORECASE)
# Words that change the value, and words that make it a hedge, are no units.
_NOT_A_UNIT = re.compile(
    r"\b(?:k|m|bn|hundreds?|thousands?|millions?|billions?|trillions?|dozens?|percent|pi|x|y|z|or|and|to|not|but|no)\b",
    re.IGNORECASE,
)
# Bounds, so that no text takes long: characters of a number, characters from the end, markers tried.
_LONGEST_NUMBER, _TAIL, _MARKERS = 200, 20_000, 16


def extract_answer(text: str) -> str | None:
    r"""The answer that a text commits to: what the last explicit marker says.

    Markers are `<answer>...</answer>`, `\boxed{...}`, `#### ...` and "the answer is ...". Only what follows the
    last `</think>` counts, and an unclosed thought has no answer. A text that is nothing but one number is an
    answer too.

    Args:
        text (`str`): a completion or a worked solution; any string, it is never evaluated.

    Returns:
        `str` or `None`: the answer as written, without the marker; `None` where there is none.

    Example:
    >>> from rewards import extract_answer
    >>> extract_answer("<think>12 + 7 = 19</think><answer>19</answer>")
    '19'
    >>> extract_answer("She sold 48 + 24 clips.\n#### 72")
    '72'
    >>> extract_answer("<think>the answer is 19</think> I do not know.") is None
    True
    """
    visible = after_thinking(text)
    if visible is None:
        return None
    tail = visible[-_TAIL:]
    for marker in list(_MARKER.finditer(tail))[: -_MARKERS - 1 : -1]:
        answer = _marked(tail, marker)
        if answer is not None:
            return answer
    return visible.strip() if _to_number(visible) is not None else None


def _marked(text: str, marker: re.Match) -> str | None:
    """What `marker` points at, `None` where it points at nothing (an unclosed tag or brace)."""
    kind, start = marker.group().lower(), marker.end()
    if kind == "<answer>":
        end = text.find("</answer>", start)
    elif kind == "\\boxed{":
        end = _closing_brace(text, start)
    else:
        end = min(i for i in (text.find("\n", start), text.find("<", start), len(text)) if i >= 0)
    return text[start:end].strip() or None if end >= 0 else None


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return start + brace.start()
    return -1


def is_equivalent(candidate: str | None, gold: str | int | float) -> bool | None:
    r"""Whether two answers are the same number, in exact arithmetic (`0.5` is `1/2`; `42.0` is `42`).

    Thousands separators, currency signs, bold, full-width digits and a trailing unit are read past. A percent
    sign must stand on both sides or on neither. Two numbers ("41 or 42") are no number.

    Args:
        candidate (`str` or `None`): the answer to judge, as `extract_answer` returns it.
        gold (`str`, `int` or `float`): the right answer, bare or as a worked solution ending in `#### 72`.

    Returns:
        `bool` or `None`: `None` where `gold` is not a number, so that nothing can be judged.

    Example:
    >>> from rewards import is_equivalent
    >>> is_equivalent("$1,000.00", "1000"), is_equivalent("41", 42), is_equivalent("42", "unknown")
    (True, False, None)
    """
    gold_number = _to_number(gold_answer(gold))
    if gold_number is None:
        return None
    return candidate is not None and _to_number(candidate) == gold_number


def gold_answer(gold: str | int | float) -> str:
    """The bare gold answer: the marked part of a worked solution, else the whole as text."""
    text = str(gold)
    return extract_answer(text) or text


def _to_number(text: str) -> tuple[Fraction, bool] | None:
    """The one number in `text` and whether it is a percentage, or `None`."""
    text = text.strip()
    if not text or len(text) > _LONGEST_NUMBER:
        return None
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("{,}", ",")
    text = re.sub(r"\\text\{([^{}]*)\}|\\[,;!]|\\[()\[\]]|\*\*|\\?[$£€¥]", lambda match: match.group(1) or "", text)
    text = text.strip().rstrip(".!").strip().replace("\\%", "%")
    if text.startswith("- "):
        text = "-" + text[2:]
    fraction = _FRACTION.match(text)
    match = fraction or _NUMBER.match(text)
    if not match:
        return None
    rest = text[match.end() :].strip()
    percent = rest.startswith("%")
    rest = rest[1:].strip() if percent else rest
    if rest and (percent or not _UNIT.fullmatch(rest) or _NOT_A_UNIT.search(rest)):
        return None
    if fraction:
        over, under = (int(part) for part in match.groups()[1:] if part is not None)
        value = Fraction(over, under) if under else None
    else:
        value = Fraction(match[2].replace(",", "")) * Fraction(10) ** int(match[3] or 0)
    if value is None:
        return None
    return (-value if match[1] == "-" else value), percent
