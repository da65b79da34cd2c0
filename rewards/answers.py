r"""Find the final answer in a text, and compare it with the gold answer. Numbers only, in exact arithmetic."""

import re
import unicodedata
from fractions import Fraction

from rewards.completions import after_thinking

# The last of these wins.
_MARKER = re.compile(r"<answer>|\\boxed\s?\{|####|\banswer(?:\**[ \t]*:\s*|[ \t]+is\b[ \t]*(?::\s*)?)", re.IGNORECASE)
# What "the answer is ..." says ends with its line, its sentence, or where a reason begins.
_SENTENCE = re.compile(r"[^\n]*?(?=</|\n|[.!](?:\s|$)|, (?:as|because|since|so|which)\b|$)")
_LINE = re.compile(r"[^\n]*?(?=</|\n|$)")

_NUMBER = re.compile(r"([-+]?)((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:e([-+]?\d{1,3}))?", re.IGNORECASE)
_FRACTION = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\[dt]?frac\{(\d+)\}\{(\d+)\})")
# A unit is a few words ("18 cm", "18 square feet", "18 pounds of beef", "18 dollars per day") or a rate ("18/hour").
_UNIT = re.compile(r"°|/ ?[a-z]+|[a-z]+(?: [a-z]+){0,3}(?: ?/ ?[a-z]+)?", re.IGNORECASE)
# No unit holds a word that changes the value, hedges or denies, or a single letter but those of the metric system.
_NOT_A_UNIT = re.compile(
    r"\b(?:(?![mgshld]\b)[a-z]|mil|bn|tens?|hundreds?|thousands?|lakhs?|crores?|millions?|billions?|trillions?|zillions?"
    r"|dozens?|gross|score|half|halves|quarter|thirds?|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths"
    r"|thousandths|percent\w*|per ?cent|pct|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|pi"
    r"|plus|minus|divided|multiplied|squared|cubed|root|mod|modulo|point|factorial|negative|positive|or|and|to|than|not"
    r"|but|no|nor|maybe|perhaps|possibly|probably|about|approximately|approx|roughly|around|nearly|almost|least|most"
    r"|otherwise|else|if|unless|either|neither|except|instead|rather|unknown|wrong|false|incorrect|is|are|was|were|be"
    r"|isn|because|since|so|would|could|might|may|should)\b",
    re.IGNORECASE,
)
_FULL_WIDTH = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)}
_SPACES = re.compile(r"\\[,;! ]|(?<=\w)~|[\u00a0\u2009\u202f]")
# Bounds, so that no text takes long: characters of a number, characters from the end, markers tried.
_LONGEST_NUMBER, _TAIL, _MARKERS = 200, 20_000, 16


def extract_answer(text: str) -> str | None:
    r"""The answer that a text commits to: what the last explicit marker says.

    Markers are `<answer>...</answer>`, `\boxed{...}`, `#### ...`, "the answer is ..." and "Answer: ...". Only what
    follows the last `</think>` counts, and an unclosed thought has no answer. A text that is nothing but one number
    is an answer too.

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
    """What `marker` points at, `None` for nothing: an unclosed tag or brace, a phrase without a digit."""
    kind, start = marker.group().lower(), marker.end()
    if kind == "<answer>":
        end = text.find("</answer>", start)
    elif kind.startswith("\\boxed"):
        end = _closing_brace(text, start)
    else:
        end = (_LINE if kind == "####" else _SENTENCE).match(text, start).end()
        if not any(character.isdigit() for character in text[start:end]):
            return None
    return text[start:end].strip().lstrip("* ") or None if end >= 0 else None


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
    try:
        text = str(gold)
    except ValueError:  # an int beyond Python's limit of 4,300 digits
        return ""
    return extract_answer(text) or text


def _to_number(text: str) -> tuple[Fraction, bool] | None:
    """The one number in `text` and whether it is a percentage, or `None`."""
    text = text.strip()
    if not text or len(text) > _LONGEST_NUMBER:
        return None
    text = text.translate(_FULL_WIDTH).replace("−", "-").replace("{,}", ",")
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text)
    # Thin spaces are read past where they set thousands apart, and only there.
    text = _SPACES.sub(" ", re.sub(r"(?<=\d)(?:,\\!|\\[,;!]|[\u2009\u202f])(?=\d{3}\b)", "", text))
    text = _unwrapped(text.strip())
    sign, text = ("-", text[1:].strip()) if text.startswith("-") else ("", text)
    text = sign + re.sub(r"^\\?[$£€¥]\s?", "", text)
    fraction = _FRACTION.match(text)
    match = fraction or _NUMBER.match(text)
    if not match:
        return None
    rest = text[match.end() :]
    if rest.lower() in ("m", "b", "k"):  # "18m" is as well 18 million
        return None
    rest = rest.strip().removeprefix("\\")
    percent = rest.startswith("%")
    rest = rest[percent:].strip().rstrip("$£€¥")
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


def _unwrapped(text: str) -> str:
    """`text` without the emphasis, math and full stop around the whole of it."""
    for _ in range(4):  # "**$42$.**" needs three
        text = text.strip("*_` ").rstrip(".!").strip()
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)].strip()
    return text
