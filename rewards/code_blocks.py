r"""Code in a completion: the fenced blocks of Markdown, the last of a language, and whether there is exactly one."""

import re
from typing import NamedTuple

from rewards.completions import Completion, after_thinking, completion_text
from rewards.format import get_think_format_reward

# The known languages: what a block may be labelled with, and which language that is.
ALIASES = {
    **dict.fromkeys(("python", "python3", "py"), "python"),
    "c": "c",
    **dict.fromkeys(("cpp", "c++", "cxx", "cc"), "cpp"),
    **dict.fromkeys(("javascript", "js", "mjs", "node"), "javascript"),
}


class Block(NamedTuple):
    """A fenced block: its label in lower case, "" where there is none, and its code without the last line break."""

    language: str
    code: str


# A tag may touch a fence: <answer>```python, and ```</answer>, which can only close. Inline code is no fence.
_OPENING = re.compile(r"(?:</?[\w-]++>[ \t]*+)*+(`{3,}+(?=[^`]*+\Z)|~{3,}+)[ \t]*+(?!</)(.*)")
_NOTHING_MORE = re.compile(r"[ \t]*+(?:\Z|</[\w-]++>)")
_LIST_MARKER = re.compile(r"([-*+]|[0-9]{1,9}[.)])([ \t]++|\Z)")
# python, python title="x", python{1,3}, {python}, {.python .numberLines}, {#name .python}; title="x" is no language.
_LABEL = re.compile(r"\{(?:[^}]*?\s)??\.([\w+#-]++)|\{?\s*+([\w+#.-]++)(?!=)")
_TAB = 4


def fenced_blocks(text: str) -> list[Block]:
    r"""The fenced blocks of code in a Markdown text, in order, as CommonMark has them.

    A block begins with a line of three or more backticks or tildes and ends with a line of as many or more of the same.
    One that is never closed is none. Fences are indented by three spaces at most, or by those within a list item; so
    much is taken off the lines between them. Beyond CommonMark a tag may stand before the opening fence or behind the
    closing one, on the same line. Block quotes and HTML are not looked at. Linear time.

    Args:
        text (`str`): any text.

    Returns:
        `list[Block]`: `language` is the first word behind the opening fence in lower case ("" without one), `code`
        what stands between the fences.

    Example:
    >>> from rewards.code_blocks import fenced_blocks
    >>> fenced_blocks("<answer>```Python\nprint(1)\n```</answer>\n~~~\nprints 1\n~~~\n```python\ncut off")
    [Block(language='python', code='print(1)'), Block(language='', code='prints 1')]
    """
    return _read(text)[0]


def _read(text: str) -> tuple[list[Block], bool]:
    """The blocks, and whether one is left open at the end."""
    blocks: list[Block] = []
    if "```" not in text and "~~~" not in text:
        return blocks, False
    lists: list[int] = []  # the columns at which the text of the list items begins that are open
    lines = iter(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    for line in lines:
        start, column = _indentation(line)
        if start == len(line):
            continue
        while lists and column < lists[-1]:
            lists.pop()
        marker = _LIST_MARKER.match(line, start) if column - (lists[-1] if lists else 0) < _TAB else None
        if marker:
            start, behind = marker.end(), column + len(marker[1])
            column = behind + len(marker[2])
            # Five spaces and more are one, and code that is indented.
            lists.append(column if behind < column <= behind + _TAB else behind + 1)
        inner = lists[-1] if lists else 0
        opening = _OPENING.match(line, start) if column - inner < _TAB else None
        if opening is None:
            continue
        indent, code = " " * column if marker else line[:start], []
        for coded in lines:
            if _closes(coded, opening[1], inner):
                blocks.append(Block(_language(opening[2]), "\n".join(code)))
                break
            code.append(_unindented(coded, indent))
        else:
            return blocks, True
    return blocks, False


def _indentation(line: str) -> tuple[int, int]:
    """How many spaces and tabs a line begins with, and how many columns they are."""
    start = len(line) - len(line.lstrip(" \t"))
    return start, len(line[:start].expandtabs(_TAB))


def _closes(line: str, fence: str, inner: int) -> bool:
    """Whether the line closes a block that `fence` has opened, in a list item whose text begins at column `inner`."""
    bare = line.lstrip(" \t")
    if not bare.startswith(fence) or not _NOTHING_MORE.match(bare.lstrip(fence[0])):
        return False
    return _indentation(line)[1] - inner < _TAB


def _unindented(line: str, indent: str) -> str:
    """The line without the indentation of its fence, or without what it has of it."""
    if line.startswith(indent):
        return line[len(indent) :]
    start, column = _indentation(line)
    return " " * (column - len(indent.expandtabs(_TAB))) + line[start:]


def _language(info: str) -> str:
    label = _LABEL.match(info)
    return (label[1] or label[2]).lower() if label else ""


def last_block(text: str, language: str) -> str | None:
    r"""The code of the last block of a language; where no block has it as its label, of the last one without a label.

    Args:
        text (`str`): a Markdown text, without the thought.
        language (`str`): the language, in any case and by any name in `ALIASES`.

    Returns:
        `str` or `None`: the code, `None` where there is no such block. Blocks of other languages do not count.

    Example:
    >>> from rewards.code_blocks import last_block
    >>> last_block("```py\nprint(1)\n```\nRun it:\n```sh\npython a.py\n```", "python")
    'print(1)'
    """
    wanted, unlabelled = _known(language), None
    for block in reversed(fenced_blocks(text)):
        if _known(block.language) == wanted:
            return block.code
        if not block.language and unlabelled is None:
            unlabelled = block.code
    return unlabelled


def _known(language: str) -> str:
    return ALIASES.get(language.lower(), language.lower())


def completion_code(completion: Completion, language: str) -> str | None:
    r"""The code that a completion gives as its answer: its last block of the language behind the thought.

    Args:
        completion (`str` or `list[dict]`): what the model wrote, as a string or chat messages.
        language (`str`): the language, in any case and by any name in `ALIASES`.

    Returns:
        `str` or `None`: the code; `None` where the answer has no such block (see `last_block`), where it is blank,
        and where the thought does not end.

    Example:
    >>> from rewards.code_blocks import completion_code
    >>> completion_code("<think>\n```python\nprint(1)\n```\nNo.</think>\n```python\nprint(2)\n```", "python")
    'print(2)'
    """
    answer = after_thinking(completion_text(completion))
    code = last_block(answer, language) if answer else None
    return code if code and not code.isspace() else None


class _CodeFormatReward:
    r"""1.0 for one non-empty `<think>` block, and then an answer with exactly one block of code, with its label.

    r = 1[ white space, `<think>` t `</think>`, a ], t not empty, a with exactly one fenced block of Markdown, which is
    labelled `python` (or `py`, `python3`) and not blank. The format reward of DeepSeek-R1 (Guo et al., 2025, arXiv
    2501.12948, section 2.2.2) for code. A block is one as CommonMark has it; one that is cut off counts against the
    completion. Around the block the answer may have other words, and `<answer>` tags. Blocks within the thought are
    its own affair. `get_code_format_reward` makes one for other languages and tags.

    A template that ends in `<think>` is dealt with as by `think_format_reward`: see there.

    Range: 0 or 1, never None

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages. A thought that
            TRL's parser has set aside (`reasoning_content`) counts as the `<think>` block.
        prompts (`list[str]` or `list[list[dict]]`, *optional*): B prompts, as TRL passes them.

    Returns:
        `list[float]`: B values in {0.0, 1.0}, never `None`.

    Raises:
        `ValueError`: `prompts` is not as long as `completions`.

    Example:
    >>> from rewards import code_format_reward
    >>> right = "<think>Print it.</think>\nHere it is:\n```python\nprint(19)\n```"
    >>> code_format_reward(completions=[right, right + "\nOr:\n```python\nprint(12 + 7)\n```", right[:-4]])
    [1.0, 0.0, 0.0]
    """

    __name__ = "code_format_reward"

    def __init__(self, language: str, think: str, prefilled: bool | str):
        self.language = language
        self.think_format = get_think_format_reward(think=think, answer=None, prefilled=prefilled)
        self.think_format.__name__ = self.__name__  # which its warning names

    def __call__(
        self, completions: list[Completion], prompts: list[str] | list[list[dict]] | None = None, **kwargs
    ) -> list[float]:
        formed = self.think_format(completions, prompts)
        return [
            float(well and self._has_one_block(completion))
            for well, completion in zip(formed, completions, strict=True)
        ]

    def _has_one_block(self, completion: Completion) -> bool:
        think = self.think_format.think
        blocks, is_cut_off = _read(after_thinking(completion_text(completion, think), think) or "")
        if len(blocks) != 1 or is_cut_off:
            return False
        return ALIASES.get(blocks[0].language) == self.language and blocks[0].code.strip() != ""


def get_code_format_reward(
    *, language: str = "python", think: str = "think", prefilled: bool | str = "auto"
) -> _CodeFormatReward:
    r"""A `code_format_reward` for another language, other tags, or a chat template that opens the thought itself.

    r = 1[ `<think>` t `</think>`, then exactly one block of code, labelled ] (DeepSeek-R1, arXiv 2501.12948, 2.2.2)

    Range: 0 or 1, never None

    Args:
        language (`str`): `python`, `c`, `cpp` or `javascript`, or another name of one of them: see `ALIASES`.
        think (`str`): the name of the tags around the thought.
        prefilled (`bool` or `"auto"`): `True`: the template has already opened the thought, so the completion begins
            inside it. `False`: the completion must open it. `"auto"`: it is open where the prompt that is passed ends
            with the opening tag.

    Returns:
        a picklable reward function, see `help(rewards.code_format_reward)`.

    Raises:
        `ValueError`: another language; the tag's name is empty or has other characters than letters, digits, `_` and
            `-`; `prefilled` is something else.

    Example:
    >>> from rewards import get_code_format_reward
    >>> reward = get_code_format_reward(language="c++", prefilled=True)
    >>> reward(completions=["Nothing to do.</think>\n```cpp\nint main() {}\n```", "```cpp\nint main() {}\n```"])
    [1.0, 0.0]
    """
    known = ALIASES.get(language.lower()) if isinstance(language, str) else None
    if known is None:
        languages = ", ".join(dict.fromkeys(ALIASES.values()))
        raise ValueError(f"`language` must be one of {languages}, or another name of one of them, not {language!r}.")
    return _CodeFormatReward(known, think, prefilled)


code_format_reward = get_code_format_reward()
