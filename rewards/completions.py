"""A completion as text: TRL hands a reward either a string or a list of chat messages."""

Completion = str | list[dict]


def completion_text(completion: Completion) -> str:
    """The text that is judged: the string itself, or the last assistant message's content.

    Args:
        completion (`str` or `list[dict]`): what the model wrote. A message's `content` may be `None`, a string
            or a list of typed blocks (`[{"type": "text", "text": ...}]`).

    Returns:
        `str`: never `None`; a completion with no assistant text is the empty string.
    """
    if isinstance(completion, str):
        return completion
    for message in reversed(completion or []):
        if message.get("role", "assistant") == "assistant":
            content = message.get("content")
            if isinstance(content, list):
                return "".join(block.get("text") or "" for block in content if block.get("type") == "text")
            return content or ""
    return ""


def after_thinking(text: str, tag: str = "think") -> str | None:
    """What stands after the last closing tag, all of `text` where there is no tag, `None` for an unclosed thought."""
    _thought, closing, rest = text.rpartition(f"</{tag}>")
    if f"<{tag}>" in rest:
        return None
    return rest if closing else text
