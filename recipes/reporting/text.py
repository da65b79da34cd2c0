"""Text that a model or a stranger wrote, for a reader: inert, every character visible, long ones folded and cut."""

import json
import unicodedata
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

from rewards.completions import completion_text

LONGEST = 10_000  # characters of a completion that a page holds
FOLDED = 700  # characters of an answer from which on it is folded
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control, format, surrogate, private, unassigned, separators


@dataclass(frozen=True)
class Shown:
    """One completion as the page shows it: what stands before, in and behind the thought."""

    lead: Markup
    thought: Markup  # with its tags; empty where there is none
    thought_length: int  # characters
    answer: Markup
    folded: bool  # the answer is long
    opening: Markup  # of a long answer: its first characters
    cut: str  # a sentence where the middle is left out, else ""


def shown(value, file: str) -> Shown:
    """A completion (text, chat messages or whatever a broken file holds) that lies in `file`."""
    text = as_text(value)
    cut = ""
    if len(text) > LONGEST:
        left_out = len(text) - LONGEST
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
        cut = f"{left_out:,} characters in the middle are left out: {file} has all of it."
    lead, thought, answer = around_thought(text)
    return Shown(
        lead=marked(lead),
        thought=marked(thought),
        thought_length=len(thought),
        answer=marked(answer),
        folded=len(answer) > FOLDED,
        opening=marked(answer[: FOLDED // 3].strip() + " ...") if len(answer) > FOLDED else Markup(),
        cut=cut,
    )


def as_text(value) -> str:
    """A completion or a prompt as one text; what is neither text nor messages, as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        return completion_text(value) or last_content(value)
    return "" if value is None else as_json(value)


def last_content(messages: list[dict]) -> str:
    content = messages[-1].get("content")
    return content if isinstance(content, str) else as_json(content)


def as_json(value) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"


def around_thought(text: str) -> tuple[str, str, str]:
    """What stands before the first <think>, from there to the last </think>, and behind it.

    A thought that is never closed goes on to the end; one that the prompt has opened begins at the start.
    """
    start, end = text.find("<think>"), text.rfind("</think>")
    if start < 0 and end < 0:
        return "", "", text
    start = start if 0 <= start and (end < 0 or start < end) else 0
    end = end + len("</think>") if end >= 0 else len(text)
    return text[:start], text[start:end], text[end:]


def visible(text: str) -> str:
    """`text` with its control characters, marks of direction and lone surrogates as escapes."""
    return text if _is_plain(text) else "".join(_escape(c) if _is_hidden(c) else c for c in text)


def marked(text: str) -> Markup:
    """HTML of `text`, the same escapes in it marked as such."""
    if _is_plain(text):
        return escape(text)
    pieces = []
    for hidden, characters in groupby(text, key=_is_hidden):
        if hidden:
            pieces.append(Markup('<span class="escape">{}</span>').format("".join(map(_escape, characters))))
        else:
            pieces.append(escape("".join(characters)))
    return Markup("").join(pieces)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _is_hidden(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in HIDDEN


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
