"""Did the completion keep the form `<think>...</think><answer>...</answer>`?"""

import unicodedata

from rewards.completions import Completion, completion_text


def think_format_reward(completions: list[Completion], **kwargs) -> list[float]:
    """1.0 for one non-empty `<think>` block, then one non-empty `<answer>` block, and nothing else but white space.

    The format reward of DeepSeek-R1 (Guo et al., 2025, section 2.2.2). Each of the four tags must stand exactly
    once and in order; a block without a letter, a digit or a symbol is empty.

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.

    Returns:
        `list[float]`: B values in {0.0, 1.0}, never `None`.

    Example:
    >>> from rewards import think_format_reward
    >>> think_format_reward(completions=["<think>12+7=19</think><answer>19</answer>", "<think></think>19"])
    [1.0, 0.0]
    """
    return [float(_is_well_formed(completion_text(completion))) for completion in completions]


def _is_well_formed(text: str) -> bool:
    if any(text.count(tag) != 1 for tag in ("<think>", "</think>", "<answer>", "</answer>")):
        return False
    before, _, rest = text.partition("<think>")
    thought, _, rest = rest.partition("</think>")
    between, _, rest = rest.partition("<answer>")
    answer, _, after = rest.partition("</answer>")
    tags_in_order = "<" not in before + between + after
    return (
        tags_in_order
        and _says_something(thought)
        and _says_something(answer)
        and not (before + between + after).strip()
    )


# Braille blank and the Hangul fillers are symbols and letters to Unicode, and blank to the eye.
_BLANK = set("\u2800\u3164\u115f\u1160\uffa0")


def _says_something(text: str) -> bool:
    """Whether there is a letter, a digit or a symbol; white space, marks and bare punctuation say nothing."""
    return any(unicodedata.category(character)[0] in "LNS" and character not in _BLANK for character in text)
