"""A completion as text: TRL hands a reward either a string or a list of chat messages."""

Completion = str | list[dict]


def completion_text(completion: Completion) -> str:
    """The text that is judged: the string itself, or the last assistant message's content.

    Args:
        completion (`str` or `list[dict]`): what the model wrote. A message's `content` may be `None`, a string
            or a list of typed blocks (`[{"type": "text", "text": ...}]`).

    Returns:
        `str`: never `None`; a completion with no assistant text, or malformed, is the empty string.
    """
    if isinstance(completion, str):
        return completion
    for message in reversed(completion if isinstance(completion, list) else []):
        if isinstance(message, dict) and message.get("role", "assistant") == "assistant":
            content = message.get("content")
            if isinstance(content, list):
                blocks = [block for block in content if isinstance(block, dict) and block.get("type") == "text"]
                return "".join(text for block in blocks if isinstance(text := block.get("text"), str))
            return content if isinstance(content, str) else ""
    return ""


def after_thinking(text: str, tag: str = "think") -> str | None:
    """What stands after the last closing tag, all of `text` where there is no tag, `None` for an unclosed thought."""
    _thought, closing, rest = text.rpartition(f"</{tag}>")
    if f"<{tag}>" in rest:
        return None
    return rest if closing else text
