"""A completion as text, and a data set's column beside it: what TRL hands a reward function."""

import re
from functools import lru_cache

Completion = str | list[dict]


def completion_text(completion: Completion, think: str | None = "think") -> str:
    """The text that is judged: the string itself, or the last assistant message that says something.

    Args:
        completion (`str` or `list[dict]`): what the model wrote. A message's `content` may be `None`, a string
            or a list of typed blocks (`[{"type": "text", "text": ...}]`). Where the chat template's parser has put
            the thought aside (`reasoning_content`, `thinking`, `reasoning`, a block of that type), it is put back in
            front.
        think (`str` or `None`): the name of the tags that such a thought is put back in; `None` leaves it out.

    Returns:
        `str`: never `None`; a completion with no assistant text, or malformed, is the empty string.
    """
    if isinstance(completion, str):
        return completion
    for message in reversed(completion if isinstance(completion, list) else []):
        if isinstance(message, dict) and message.get("role", "assistant") == "assistant":
            content = message.get("content")
            if content and isinstance(content, str) and _THOUGHTS.isdisjoint(message):
                return content  # nearly always
            blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
            text = _said(blocks, {"text"})
            aside = [{"type": kind, kind: said} for kind, said in message.items() if kind in _THOUGHTS]
            thought = _said(aside, _THOUGHTS) or _said(blocks, _THOUGHTS)
            if thought and think is not None:
                return f"<{think}>{thought}</{think}>{text}"
            if text or thought:
                return text
    return ""


_THOUGHTS = frozenset({"reasoning_content", "thinking", "reasoning"})


def _said(blocks: list, kinds: set[str]) -> str:
    """What the typed blocks of these kinds say: `{"type": "text", "text": ...}`."""
    typed = [block for block in blocks if isinstance(block, dict) and isinstance(block.get("type"), str)]
    found = (block.get(block["type"]) for block in typed if block["type"] in kinds)
    return "".join(text for text in found if isinstance(text, str))


def after_thinking(text: str, tag: str | None = "think") -> str | None:
    """What stands after the last closing tag, all of `text` where there is no tag, `None` for an unclosed thought."""
    if tag is None:
        return text
    _thought, closing, rest = text.rpartition(f"</{tag}>")
    rest = rest if closing else text
    if tag in rest or tag in rest.lower():  # a tag in another spelling hides no answer: <Think>, </ think >
        last = max(_any_tag(tag).finditer(rest), key=re.Match.end, default=None)
        if last is not None:
            return rest[last.end() :] if last[1] else None
    return rest


@lru_cache(maxsize=64)
def _any_tag(tag: str) -> re.Pattern:
    name = "think(?:ing)?" if tag == "think" else re.escape(tag)
    return re.compile(rf"<\s{{0,3}}(/?)\s{{0,3}}{name}\s{{0,3}}>", re.IGNORECASE)


def check_column(name: str, column: list, completions: list[Completion]) -> None:
    """Raise a `ValueError` that names the column unless it has one value for each completion."""
    if isinstance(completions, str):
        raise ValueError("`completions` is one string: give a list of completions.")
    if isinstance(column, str) or not hasattr(column, "__len__"):
        kind = "string" if isinstance(column, str) else type(column).__name__
        raise ValueError(f"The column `{name}` is one {kind}: give a list, one value for each completion.")
    if len(column) != len(completions):
        raise ValueError(f"The column `{name}` has {len(column)} values for {len(completions)} completions.")
