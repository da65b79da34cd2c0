r"""Find the final answer in a text: what its last explicit marker says."""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from rewards.completions import after_thinking
from rewards.latex import balanced
from rewards.numerals import clean, read_number

# A marker is looked for by its fixed part, which is fast, and then read by its pattern. The last one wins.
_FIXED = {
    "\\boxed": "box",
    "\\fbox": "box",
    "####": "hashes",
    "nswer": "phrase",
    "NSWER": "phrase",
    "答案": "chinese",
    "故选": "chinese",
}
_SPECIAL = re.compile(r"(?:\s*(?:<\|[^|<>\s]{1,30}\|>|</s>))+\s*$")  # end-of-text tokens that were not taken out
_BRACE = re.compile(r"\\?[{}]")
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_BOX_OF_ONE = re.compile(r"\\boxed\s+([^\s${}\\]+)")  # \boxed 42
_HEADING = re.compile(
    r"[ \t]*(?:\#{1,6}|\*\*)[ \t]*(?:[Ff]inal\s+)?(?:[Aa]nswer|最终答案|答案)[ \t]*\**[:：]?\**[ \t]*\n\s*"
)
_PHRASE = re.compile(
    r"(?<!\w)(?:[Aa]nswers?|ANSWER)(?:\s+to\s[^\n:]{1,80}?)?"
    r"(?:\**[ \t]*[:：=]\**\s*|[ \t]+(?:is|IS|are|(?:would|should|must|will) be)\b[ \t]*"
    r"(?:(?:therefore|thus|then|simply|clearly|just)\b[ \t]*)?(?:[:：]\s*)?)(?:```\w*\n)?(?:(?<=\n)[-*•][ \t]+)?"
)
_CHECKED = re.compile(r"\b(?:our|my|your|this|that|an|each|check) [Aa]?$")  # "let us check our answer: ..."
_CHINESE = re.compile(r"答案(?:应该?|就)?(?:[是为]|等于)[:：]?\s*|答案\**[:：]\**\s*|故选[:：]?\s*")
# What denies the answer behind it: "it is not \boxed{42}", "the wrong answer is 42", "suppose the answer is 42".
_DENIALS = (
    "not",
    "n't",
    "n’t",
    "never",
    "wrong",
    "incorrect",
    "suppose",
    "if",
    "twice",
    "half",
    "错误的",
    "错误",
    "不是",
)
_DENIAL = re.compile(rf"(?:(?<![a-z])|(?=n['’]t))(?:{'|'.join(_DENIALS)})$")
_FILLERS = ("correct", "final", "the", "that", "think", "believe")
_LAST_LETTERS = {word[-1] for word in (*_DENIALS, *_FILLERS)}
# What "the answer is ..." says ends with its line, its sentence, or where a reason begins.
_SENTENCE = re.compile(
    r"[^\n]*?(?=</|\n|[.!](?:[\s*]|$)|[。！；]|, (?:as|because|since|so|which|where|not|rather|instead)\b"
    r"|，(?:因为|所以|由于|故)|$)"
)
# A formula on lines of its own is one answer.
_DISPLAY = re.compile(r"\s*(?:\\\[[^\\]*(?:\\(?!\])[^\\]*){0,200}\\\]|\$\$[^$]{1,2000}\$\$)")
_HASHES = re.compile("####(?!#)")
_MATHEMATICAL = re.compile(r"\d|\\[A-Za-z]")
_LINE = re.compile(r"[^\n]*?(?=</|\n|$)")
# "The answer is: the largest n is 34" says 34.
_CLAUSE = re.compile(r"^[^\d]*?\b(?:is|are|equals?)\s+(?:equal\s+to\s+)?(?=\S)")
_BETWEEN = re.compile(
    r"[\s$]*(?:\\[)\]])?[\s$]*(?:[,;/|]|(?:\\q?quad)?\s*(?:\\text\{)?\s*(?:,\s*)?"
    r"(?P<word>and|or)?(?:\s+(?:maybe|perhaps|possibly))?\s*\}?\s*(?:\\q?quad)?)[\s$]*(?:\\[(\[])?[\s$]*"
)
_HEDGED = re.compile(r"\b(?:or|not|no|nobody|never|if)\b", re.IGNORECASE)
# What belongs to a box though it stands outside: -\boxed{42}, >\boxed{42}, 41 or \boxed{42}, \boxed{42}\pi.
_GLUED_BEFORE = re.compile(
    r"(?:(?<![^\s=$({,])-|\\(?:pm|mp|geq?|leq?|neq?)\s*|(?:(?<=[\s$])|(?<=[\s$(][A-Za-z]))[<>]\s*|\d"
    r"|\d[\d.,]*\$?\s*(?:\bor\b|;|\|)\s*(?:maybe|perhaps)?[\s$]*)$"
)
_GLUED_BEHIND = re.compile(r"\s?(?:\^\S+|\\(?:pi|sqrt|cdot|times)(?![A-Za-z])[^$\n]{0,40})|[.,]\d+|/\d+|\d+")
# What takes an answer back behind it: "No, 41", "wait, that is wrong", "cannot be right".
_BEHIND = r"(?:</[\w-]+>|[\s.,;:!*$})\]\\-])*"
_REPLACED = r"(?:(?:no|wait|or|actually)\b[\s,.!]*)+(?:maybe |perhaps )?(?:it['’]?s |it is )?[-$(]?\d"
_SUBJECT = r"(?:(?:no|oh|wait|but|hmm|actually|sorry)\b[\s.,!]*)*(?:(?:this|that|it|which|(?:the|that) answer)\s*)?"
_RIGHT = r"(?:correct|right|true|the (?:right |correct |final )?answer)\b"
_WRONG = (
    rf"(?:is|was|['’]s)\s+(?:(?:not|never)\s+{_RIGHT}|(?:clearly |obviously )?(?:wrong|incorrect|false|mistaken)\b)"
)
_TAKEN_BACK = re.compile(
    rf"{_BEHIND}(?:{_REPLACED}|{_SUBJECT}(?:{_WRONG}|(?:isn['’]t|wasn['’]t|can(?:not|['’]t) be)\s+{_RIGHT}))",
    re.IGNORECASE,
)
# "The answer is correct", "Answer: see above": words that begin no answer.
_NO_ANSWER_WORDS = re.compile(
    r"(?:not|no longer|in|to|that|the|a|an|as|what|given|shown|below|above|correct|right|wrong|incorrect|false|clear"
    r"|clearly|obvious|obviously|simple|helpful|found|unknown|unclear|it|we|you|i|therefore|here|boxed|then|this"
    r"|there|also|see)\b",
    re.IGNORECASE,
)
_FUNCTIONS = re.compile(r"\\[A-Za-z]+|arc|sin|cos|tan|log|ln|exp|sqrt|min|max|and|or")
_MATH = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|\$(?P<b>(?:[^$\n\\]|\\.)+)\$|\\\((?P<c>.+?)\\\)|\\\[(?P<d>.+?)\\\]"
    r"|(?P<e>-?\d*\\[dtc]?frac\{[^{}]*\}\{[^{}]*\})",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,{^])[-+−]?[$£€¥]?(?:[1-9]\d{0,2}(?:[,\u202f\u2009]\d{3})+(?!\d)|\d+)(?:[.,]\d+)?(?:/\d+)?"
    r"(?:[eE][+-]?\d{1,3}(?!\d))?(?:\s?\\?%)?"
)
# Bounds, so that no text takes long: characters from the end, markers tried, characters looked at first.
_TAIL, _LENIENT_TAIL, _MARKERS, _WINDOW, _LONGEST_BARE = 20_000, 2_000, 16, 400, 200


def extract_answer(
    text: str, *, lenient: bool = False, tags: tuple[str | None, str | None] = ("think", "answer")
) -> str | None:
    r"""The answer that a text commits to: what the last explicit marker says.

    Markers are `<answer>...</answer>`, `\boxed{...}`, `#### ...`, "the (final) answer is ...", "Answer: ...", a heading
    "Final Answer", and 答案是, 答案为, 答案：, 最终答案. Only what follows the last `</think>` counts, and an unclosed
    thought has no answer; nor has an answer that the next words take back ("\boxed{41} is wrong"). Boxes that stand
    together are one list. A text that is nothing but one answer is an answer too. Only the last 20,000 characters are
    searched.

    Args:
        text (`str`): a completion or a worked solution; any string, it is never evaluated.
        lenient (`bool`): without a marker, take the last number or the last expression in math delimiters, of the
            last 2,000 characters. For evaluation: in training it pays for any number.
        tags (`tuple`): the names of the tags around the thought and around the answer; `None` for no such tag.

    Returns:
        `str` or `None`: the answer as written, without the marker; `None` where there is none.

    Example:
    >>> from rewards import extract_answer
    >>> extract_answer("<think>12 + 7 = 19</think><answer>19</answer>")
    '19'
    >>> extract_answer("She sold 48 + 24 clips.\n#### 72"), extract_answer("所以答案是42。")
    ('72', '42')
    >>> extract_answer("<think>the answer is 19</think> I do not know.") is None
    True
    >>> extract_answer("So she has 19 left."), extract_answer("So she has 19 left.", lenient=True)
    (None, '19')
    """
    if not isinstance(text, str):
        return None
    think, answer = tags
    visible = after_thinking(text, think)
    if visible is None:
        return None
    if visible[-200:].rstrip().endswith(("|>", "</s>")):
        visible = visible[:-200] + _SPECIAL.sub("", visible[-200:])
    # Most answers stand at the very end: look there first.
    found = _last_marked(visible[-_WINDOW:], answer, words_too=len(visible) <= _WINDOW)
    if found is None and len(visible) > _WINDOW:
        found = _last_marked(visible[-_TAIL:], answer, words_too=True)
    if found is not None:
        return found or None
    if len(visible) <= _LONGEST_BARE and _is_bare_answer(visible):
        return visible.strip()
    return _last_expression(visible[-_LENIENT_TAIL:]) if lenient else None


class _Marker(NamedTuple):
    """Where a marker stands, and where what it points at starts and ends; `end` is -1 for an unclosed one."""

    at: int
    start: int
    end: int


def _last_marked(text: str, answer_tag: str | None, words_too: bool) -> str | None:
    """The answer of the last marker that has one, "" for one that was taken back, `None` for none."""
    words = None
    for at, kind in itertools.islice(_places(text, answer_tag), _MARKERS):
        marker = _read(text, at, kind)
        if marker is None or marker.end < 0:
            continue
        if _is_denied(text[max(marker.at - 60, 0) : marker.at]):
            continue
        answer, behind = text[marker.start : marker.end].strip(), marker.end
        if kind == "box":
            answer, behind = _boxed(text, marker, answer, answer_tag)
        elif kind != "tag":
            answer = _said(answer)
        is_taken_back = _TAKEN_BACK.match(text, behind, behind + 120)
        if kind not in ("box", "tag") and not _MATHEMATICAL.search(answer):
            # Words alone ("the answer is Paris") count only where nothing else does ("The answer is obvious").
            if words_too and words is None and not is_taken_back and _is_short(answer):
                words = answer
        elif answer:
            return "" if is_taken_back else answer
    return words


def _is_denied(before: str) -> bool:
    words = before.rstrip(" \t\n$([\\").lower()
    if words[-1:] not in _LAST_LETTERS:
        return False  # nearly always
    for filler in _FILLERS:
        words = words.removesuffix(filler).rstrip()
    return words.endswith(_DENIALS) and bool(_DENIAL.search(words))


def _places(text: str, answer_tag: str | None) -> Iterator[tuple[int, str]]:
    """Where a marker may stand, the last first."""
    last = [(at, literal, kind) for literal, kind in _FIXED.items() if (at := text.rfind(literal)) >= 0]
    if answer_tag and "<" in text:
        for opening in {f"<{spelling}>" for spelling in (answer_tag, answer_tag.capitalize(), answer_tag.upper())}:
            last.append((text.rfind(opening), opening, "tag"))
    while last:
        place = max(last)
        last.remove(place)
        at, literal, kind = place
        if at >= 0:
            yield at, kind
            last.append((text.rfind(literal, 0, at), literal, kind))


def _read(text: str, at: int, kind: str) -> _Marker | None:
    """The marker of that kind at that place, `None` where there is none after all."""
    if kind == "box":
        match = _BOX.match(text, at)
        if match is None:
            match = _BOX_OF_ONE.match(text, at)
            return match and _Marker(at, match.start(1), match.end(1))
        return _Marker(at, match.end(), _closing_brace(text, match.end()))
    if kind == "tag":
        start = text.index(">", at) + 1
        return _Marker(at, start, text.find(f"</{text[at + 1 : start]}", start))
    line = text.rfind("\n", 0, at) + 1
    heading = _HEADING.match(text, line)
    match = heading if heading and kind != "hashes" and heading.end() > at else None
    if match is None and kind == "hashes":
        match = None if heading and heading.end() > at else _HASHES.match(text, at)
    elif match is None:
        match = _PHRASE.match(text, max(at - 1, 0)) if kind == "phrase" else _CHINESE.match(text, at)
        if match and _CHECKED.search(text, max(at - 20, 0), at) and "is" not in match[0].lower():
            match = None
    if match is None:
        return None
    start = match.end()
    until = _DISPLAY.match(text, start) or (_LINE if heading or kind == "hashes" else _SENTENCE).match(text, start)
    return _Marker(match.start(), start, until.end())


def _closing_brace(text: str, start: int) -> int:
    end = text.find("}", start)
    if text.find("{", start, end) < 0 and text[end - 1] != "\\":
        return end  # most boxes hold no other brace
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return -1


def _boxed(text: str, marker: _Marker, answer: str, answer_tag: str | None) -> tuple[str, int]:
    r"""The answer of a box with what belongs to it, and where that ends.

    `\boxed{1} \text{ and } \boxed{2}` is "1, 2"; `-\boxed{42}` is "-42"; `<answer>41, \boxed{42}</answer>` is "41, 42".
    """
    opening = text.rfind(f"<{answer_tag}>", 0, marker.at) if answer_tag else -1
    closing = text.find(f"</{answer_tag}>", marker.end) if opening >= 0 else -1
    if closing >= 0 and text.find(f"</{answer_tag}>", opening, marker.at) < 0:
        before, behind = text[opening + len(answer_tag) + 2 : marker.at], text[marker.end + 1 : closing]
        if re.search(r"\d", before + behind):
            return f"{before}{answer}{behind}".strip(), closing
    answers, joiner, last, first = [answer], ", ", marker, marker
    while answer and len(answers) < _MARKERS:
        at = text.rfind("\\boxed", 0, first.at)
        before = _read(text, at, "box") if at >= 0 else None
        if before is None or before.end < 0:
            break
        if before.end > first.at:  # a box within a box
            around = text[before.start : first.at] + text[last.end + 1 : before.end]
            if re.search(r"\d", around):
                return (
                    f"{text[before.start : first.at]} {answer} {text[last.end + 1 : before.end]}".strip(),
                    before.end + 1,
                )
            break
        between = _BETWEEN.fullmatch(text, before.end + 1, first.at)
        if between is None:
            break
        joiner = " or " if between["word"] == "or" or "|" in between[0] else joiner
        answers.insert(0, text[before.start : before.end].strip())
        first = before
    touching, near = text[first.at - 1 : first.at], text[max(first.at - 40, 0) : first.at].rstrip(" $\n")
    may_be_glued = (
        touching.isdigit()
        or near[-1:] in ("-", "<", ">", ";", "|")
        or near.endswith(("or", "maybe", "perhaps"))
        or "\\" in near[-5:]
    )
    glued = _GLUED_BEFORE.search(text, max(first.at - 40, 0), first.at) if may_be_glued else None
    behind = _GLUED_BEHIND.match(text, last.end + 1)
    answer = (glued[0] if glued else "") + joiner.join(answers) + (behind[0] if behind else "")
    return answer, behind.end() if behind else last.end + 1


def _said(answer: str) -> str:
    """What a phrase says without its emphasis and, where it is a sentence of its own, without its subject."""
    answer = answer.replace("**", "").strip("*_` ")
    clause = _CLAUSE.match(answer)
    if clause and not _HEDGED.search(clause[0]) and re.search(r"[\d\\]", answer[clause.end() :]):
        answer = answer[clause.end() :].strip("*_` ")
    return answer


def _is_short(answer: str) -> bool:
    words = answer.split()
    if not 0 < len(words) <= 4 or len(answer) > 60:
        return False
    return bool(re.match(r"\(?[A-Z]\b", answer)) or not _NO_ANSWER_WORDS.match(answer)  # option A, no article


def _is_bare_answer(text: str) -> bool:
    """Whether the whole of `text` is one answer: a number, an expression, the letter of an option."""
    text = clean(text)
    if read_number(text) is not None:
        return True
    if "\n\n" in text or not text or re.fullmatch(r"\(?[A-Za-z]\)?", text):
        return bool(text) and "\n" not in text
    if not balanced(text) or "\\boxed" in text:
        return False  # cut off
    text = re.sub(r"\\(?:begin|end)\{[a-z]+\}", " ", text)
    letters = _FUNCTIONS.sub(" ", re.sub(r"\\(?:text|mbox|mathrm)\{([^{}]*)\}", r" \1 ", text))
    return bool(re.search(r"[\d\\]|[A-Za-z]\s*=", text)) and not re.search(r"[^\W\d_]{2,}|[?#@<>`:]|\.\.", letters)


def _last_expression(text: str) -> str | None:
    """The last number, or the last expression in math delimiters, whichever ends later."""
    number = max(_NUMBER.finditer(text), key=re.Match.end, default=None)
    expression = max(_MATH.finditer(text), key=re.Match.end, default=None)
    if expression and (number is None or number.start() < expression.end()):
        found = next(group for group in expression.groups() if group is not None).strip()
        return (found if found.endswith("...") else found.rstrip(".,")) or None
    return number[0].strip() if number else None
