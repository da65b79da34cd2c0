"""A completion as text, and a data set's column beside it: what TRL hands a reward function."""

Completion = str | list[dict]


def completion_text(completion: Completion, think: str = "think") -> str:
    """The text that is judged: the string itself, or the last assistant message.

    Args:
        completion (`str` or `list[dict]`): what the model wrote. A message's `content` may be `None`, a string
            or a list of typed blocks (`[{"type": "text", "text": ...}]`). Where the chat template's parser has put
            the thought aside (`reasoning_content`, `thinking` or `reasoning`), it is put back in front.
        think (`str`): the name of the tags that such a thought is put back in.

    Returns:
        `str`: never `None`; a completion with no assistant text, or malformed, is the empty string.
    """
    if isinstance(completion, str):
        return completion
    for message in reversed(completion if isinstance(completion, list) else []):
        if isinstance(message, dict) and message.get("role", "assistant") == "assistant":
            content = _content_text(message.get("content"))
            thoughts = (message.get(key) for key in ("reasoning_content", "thinking", "reasoning"))
            thought = next((thought for thought in thoughts if isinstance(thought, str) and thought), None)
            return content if thought is None else f"<{think}>{thought}</{think}>{content}"
    return ""


def _content_text(content: str | list | None) -> str:
    if isinstance(content, list):
        blocks = [block for block in content if isinstance(block, dict) and block.get("type") == "text"]
        return "".join(text for block in blocks if isinstance(text := block.get("text"), str))
    return content if isinstance(content, str) else ""


def after_thinking(text: str, tag: str | None = "think") -> str | None:
    """What stands after the last closing tag, all of `text` where there is no tag, `None` for an unclosed thought."""
    if tag is None:
        return text
    _thought, closing, rest = text.rpartition(f"</{tag}>")
    if f"<{tag}>" in rest:
        return None
    return rest if closing else text


def check_column(name: str, column: list, completions: list[Completion]) -> None:
    """Raise a `ValueError` that names the column unless it has one value for each completion."""
    if isinstance(column, str):
        raise ValueError(f"The column `{name}` is one string: give a list, one value for each completion.")
    if len(column) != len(completions):
        raise ValueError(f"The column `{name}` has {len(column)} values for {len(completions)} completions.")
