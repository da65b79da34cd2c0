r"""Did the completion keep the form `<think>...</think><answer>...</answer>`, and does it reason in steps?"""

import itertools
import logging
import re
import unicodedata

from rewards.completions import Completion, check_column, completion_text
from rewards.repetition import UNSPACED

logger = logging.getLogger(__name__)


class _ThinkFormatReward:
    """1.0 for one non-empty `<think>` block, then one non-empty `<answer>` block, and nothing else but white space.

    r = 1[ white space, `<think>` t `</think>`, white space, `<answer>` a `</answer>`, white space ], each of the four
    tags exactly once, t and a not empty. The format reward of DeepSeek-R1 (Guo et al., 2025, section 2.2.2). A block
    without a letter, a digit or a symbol is empty. `get_think_format_reward` makes one for other tags.

    A template that ends in `<think>` makes the opening tag part of the prompt, and it is missing in the completion.
    Where the prompt that TRL passes ends with it, the completion is judged with the tag put back in front, unless it
    begins with the tag already. But TRL passes a conversation as the data set has it, *without* what the template
    adds, so such a template cannot be seen there: a missing tag is then a missing tag, and if a whole batch looks
    that way, one warning says so. Use `get_think_format_reward(prefilled=True)` for these templates.

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
    >>> from rewards import think_format_reward
    >>> think_format_reward(completions=["<think>12+7=19</think><answer>19</answer>", "<think></think>19"])
    [1.0, 0.0]
    >>> think_format_reward(completions=["12+7=19</think><answer>19</answer>"], prompts=["What is 12+7? <think>"])
    [1.0]
    """

    __name__ = "think_format_reward"

    def __init__(self, think: str, answer: str | None, prefilled: bool | str):
        self.think, self.answer, self.prefilled = think, answer, prefilled
        self.has_warned = False

    def __call__(
        self, completions: list[Completion], prompts: list[str] | list[list[dict]] | None = None, **kwargs
    ) -> list[float]:
        texts = [completion_text(completion, self.think) for completion in completions]
        judged = texts
        if prompts is not None:
            check_column("prompts", prompts, completions)
        if self.prefilled is True:
            judged = [
                text if _is_set_aside(completion) else f"<{self.think}>{text}"
                for completion, text in zip(completions, texts, strict=True)
            ]
        elif self.prefilled == "auto" and prompts is not None:
            judged = [_with_opening_tag(text, p, self.think) for text, p in zip(texts, prompts, strict=True)]
        rewards = [float(_is_well_formed(text, self.think, self.answer)) for text in judged]
        if texts and not self.has_warned and not any(rewards):
            self._warn_of_the_template(texts, judged, prompts)
        return rewards

    def _warn_of_the_template(self, texts: list[str], judged: list[str], prompts: list | None) -> None:
        """A whole batch without a reward may be the template's doing: say so, once."""
        opening, closing = f"<{self.think}>", f"</{self.think}>"
        if self.prefilled is True and all(text.lstrip().startswith(opening) for text in texts):
            advice = "every completion begins with %s itself: leave out prefilled=True."
        elif (
            self.prefilled == "auto"
            and prompts
            and isinstance(prompts[0], list)
            and not any(opening in text for text in judged)
            and 2 * sum(closing in text for text in texts) > len(texts)
        ):
            advice = "no completion has %s but most close it, so the chat template seems to open it: use "
            advice += f"rewards.get_{self.__name__}(prefilled=True)."
        else:
            return
        self.has_warned = True
        logger.warning("%s is 0 for the whole batch; " + advice, self.__name__, opening)


def get_think_format_reward(
    *, think: str = "think", answer: str | None = "answer", prefilled: bool | str = "auto"
) -> _ThinkFormatReward:
    """A `think_format_reward` for other tags, or for a chat template that opens the thought itself.

    r = 1[ `<think>` t `</think>` `<answer>` a `</answer>` ], t and a not empty (DeepSeek-R1, Guo et al., 2025, 2.2.2)

    Range: 0 or 1, never None

    Args:
        think (`str`): the name of the tags around the thought.
        answer (`str` or `None`): the name of the tags around the answer; `None`: no such tags, any non-empty text
            after the thought is the answer.
        prefilled (`bool` or `"auto"`): `True`: the template has already opened the thought, so the completion begins
            inside it, and an opening tag in the completion is one too many. `False`: the completion must open it.
            `"auto"`: it is open where the prompt that is passed ends with the opening tag.

    Returns:
        a picklable reward function, see `help(rewards.think_format_reward)`.

    Raises:
        `ValueError`: a tag's name is empty or has other characters than letters, digits, `_` and `-`; both names are
            the same; `prefilled` is something else.

    Example:
    >>> from rewards import get_think_format_reward
    >>> reward = get_think_format_reward(think="reasoning", answer=None, prefilled=True)
    >>> reward(completions=["12+7=19</reasoning>It is 19.", "It is 19."])
    [1.0, 0.0]
    """
    for option, name in (("think", think), ("answer", answer)):
        if name is None and option == "answer":
            continue
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"`{option}` must be a tag's name of letters, digits, _ and -, without < and >: {name!r}.")
    if think == answer:
        raise ValueError(f"`think` and `answer` must be two names, both are {think!r}.")
    if not (isinstance(prefilled, bool) or prefilled == "auto"):
        raise ValueError(f"`prefilled` must be True, False or 'auto', not {prefilled!r}.")
    return _ThinkFormatReward(think, answer, prefilled)


think_format_reward = get_think_format_reward()


def _is_set_aside(completion: Completion) -> bool:
    """Whether TRL's parser has set the thought aside, so that its tags are ours: then their name shows."""
    return not isinstance(completion, str) and completion_text(completion, "a") != completion_text(completion, "b")


def _with_opening_tag(text: str, prompt: str | list[dict], think: str) -> str:
    """`text` with the opening tag that the end of `prompt` took from it; as it is where somebody has put it back."""
    opening = f"<{think}>"
    written = prompt if isinstance(prompt, str) else completion_text(prompt[-1:] if isinstance(prompt, list) else "")
    if not written.rstrip().endswith(opening) or text.lstrip().startswith(opening):
        return text
    return opening + text


def _is_well_formed(text: str, think: str, answer: str | None) -> bool:
    opening, closing = f"<{think}>", f"</{think}>"
    text = text.strip()
    if not text.startswith(opening) or text.count(opening) != 1 or text.count(closing) != 1:
        return False
    thought, _, rest = text[len(opening) :].partition(closing)
    if answer is not None:
        opening, closing = f"<{answer}>", f"</{answer}>"
        if text.count(opening) != 1 or text.count(closing) != 1:
            return False
        rest = rest.lstrip()
        if not rest.startswith(opening) or not rest.endswith(closing):
            return False
        rest = rest[len(opening) : -len(closing)]
    return _says_something(thought) and _says_something(rest)


# Braille blank and the Hangul fillers are symbols and letters to Unicode, and blank to the eye.
_BLANK = set("\u2800\u3164\u115f\u1160\uffa0")


def _says_something(text: str) -> bool:
    """Whether there is a letter, a digit or a symbol; white space, marks and bare punctuation say nothing."""
    # The first characters nearly always decide; a long run of blanks has few different ones.
    return any(map(_is_visible, text[:20])) or any(map(_is_visible, set(text[20:])))


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNS" and character not in _BLANK


def tag_count_reward(
    completions: list[Completion], prompts: list[str] | list[list[dict]] | None = None, **kwargs
) -> list[float]:
    """A quarter for each of `<think>`, `</think>`, `<answer>`, `</answer>` that stands exactly once and in order.

    r = 0.25 * (number of tags that count). Taken in this order, a tag counts if it stands exactly once, and after
    every tag that has counted before it. So a repeated tag earns nothing, and only the right order earns 1.0. A
    stepping stone to `think_format_reward`, which alone asks for content: empty blocks earn their tags here too, as
    much as an honest form and never more. After `tag_count_reward` of open-r1 (Hugging Face, 2025), without its
    prescribed line breaks, and Will Brown's `xmlcount_reward_func` (2025).

    Range: 0, 0.25, 0.5, 0.75 or 1, never None

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        prompts (`list[str]` or `list[list[dict]]`, *optional*): B prompts; a `<think>` that ends the prompt is
            counted as the completion's.

    Returns:
        `list[float]`: B values in {0.0, 0.25, 0.5, 0.75, 1.0}, never `None`.

    Raises:
        `ValueError`: `prompts` is not as long as `completions`.

    Example:
    >>> from rewards import tag_count_reward
    >>> tag_count_reward(completions=["<think>1+1</think><answer>2</answer>", "<answer>2</answer>", "<think><think>"])
    [1.0, 0.5, 0.0]
    """
    texts = [completion_text(completion) for completion in completions]
    if prompts is not None:
        check_column("prompts", prompts, completions)
        texts = [_with_opening_tag(text, prompt, "think") for text, prompt in zip(texts, prompts, strict=True)]
    return [_tags_in_order(text) / 4 for text in texts]


def _tags_in_order(text: str) -> int:
    counted, last = 0, -1
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        place = text.find(tag)
        if place > last and text.count(tag) == 1:
            counted, last = counted + 1, place
    return counted


_OPENER = (
    r"(?:(?:first|second|third|fourth|fifth)(?:ly)?|next|then|after that|afterwards?|finally|lastly)\b"
    r"|首先|其次|再次|接着|接下来|然后|最后|第[一二三四五六七八九十\d]{1,3}步?"
)
# A step begins with a number, "Step 1" or "Step one" or a bullet on a new line, or an opener there or after a sentence.
_COUNT = r"(?:one|two|three|four|five|six|seven|eight|nine|ten)"
_LABEL = (
    rf"step[ \t]{{1,4}}(?:\d{{1,3}}|{_COUNT})\b|步骤 ?[一二三四五六七八九十\d]{{1,3}}"
    r"|\d{1,3}(?:[.):](?=\s)|[、．])|[-*+•](?=\s)"
)
_STEP = re.compile(
    rf"^[ \t>#*_(]{{0,16}}(?:{_LABEL}|{_OPENER})|(?<=[.!?;])[ \t]{{1,4}}(?:{_OPENER})|(?<=[。！？；])(?:{_OPENER})",
    re.IGNORECASE | re.MULTILINE,
)
_KEYWORD = re.compile(rf"\b(?:{_OPENER}|steps?(?:[ \t]{{1,4}}{_COUNT})?\b)|步骤", re.IGNORECASE)
_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_]{{2,}}")
_NUMBER = re.compile(r"\d*\.?\d+(?:[.,]\d+)*")
_OPERATOR = re.compile(r"\\times|\\cdot|\\div|[-+*/÷−–×·^]|\}\{|\b(?:x|times|plus|minus)\b")
_EQUALS = re.compile(r"=|\bequals\b")
_LETTER = re.compile(r"[^\W\d_]")
_AROUND_OPERATOR = re.compile(r" ?([-+*/^=]) ?")
# Bounds, so that no text takes long: characters of the reasoning and of a step that are read.
_LONGEST_REASONING, _LONGEST_STEP = 100_000, 1_000


def reasoning_steps_reward(completions: list[Completion], **kwargs) -> list[float]:
    r"""A third for each step of the reasoning, up to three.

    r = min(1, steps / 3). A step begins with a number, "Step 1" or a bullet on a line of its own, or with a word
    like First, Second, Next, Then, Finally (首先, 然后, 最后) at the start of a line or a sentence. It counts if it has
    a calculation that no counted step has had (12+7=19), or an equation with letters that differs by more than its
    numbers (x=2 says nothing new after x=1), or else if it has three different words, or a word and a number, and
    shares less than half of its words with any one counted step. So bare keywords, empty numbers, the same step again
    and the same words with another number earn nothing. The steps are not checked for sense: give this reward a small
    weight beside a reward for the right answer.

    The reasoning is what stands before the last `</think>`, else the whole text; its first 100,000 characters are
    read. After `reasoning_steps_reward` of open-r1 (Hugging Face, 2025), which counts the keywords alone;
    DeepSeek-R1 (Guo et al., 2025) has no such reward.

    Range: 0, 1/3, 2/3 or 1, never None

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.

    Returns:
        `list[float]`: B values in {0, 1/3, 2/3, 1}, never `None`.

    Example:
    >>> from rewards import reasoning_steps_reward
    >>> steps = "1. Add the apples: 12+7=19.\n2. Take away what she ate: 19-5=14.\nFinally, double it: 14*2=28."
    >>> reasoning_steps_reward(completions=[steps, "First, Second, Third, Finally", "1.\n2.\n3.\n"])
    [1.0, 0.0, 0.0]
    """
    return [_count_steps(completion_text(completion), most=3) / 3 for completion in completions]


def _count_steps(text: str, most: int) -> int:
    reasoning, closing, _ = text.rpartition("</think>")
    reasoning = (reasoning if closing else text).lstrip().removeprefix("<think>")[:_LONGEST_REASONING]
    counted, equations, starts = [], set(), list(_STEP.finditer(reasoning))
    ends = [following.start() for following in starts[1:]] + [len(reasoning)]
    for start, end in zip(starts, ends, strict=False):  # without a step there is one end too many
        step = _KEYWORD.sub(" ", reasoning[start.end() : min(end, start.end() + _LONGEST_STEP)]).casefold()
        words, found = set(_WORD.findall(step)), _equations(step)
        says_something = len(words) >= 3 or (words and _NUMBER.search(step))
        # Against each step by itself: honest steps share their small words with one another, but not most words.
        is_new = says_something and all(2 * len(words - earlier) > len(words) for earlier in counted)
        if is_new or not found <= equations:
            counted.append(words)
            equations |= found
        if len(counted) == most:
            break
    return len(counted)


def _equations(step: str) -> set[str]:
    """What a step calculates, as 12+7; and its equations with letters, these without their numbers: x=0 for x=5."""
    found = set()
    for left, right in itertools.pairwise(_NUMBER.finditer(step)):
        between, after = step[left.end() : right.start()][:60], step[right.end() : right.end() + 40]
        operators = _OPERATOR.findall(between)
        # 12+7 is one as it stands, 12 apples + 7 pears where a result follows.
        is_bare = not _LETTER.search(_OPERATOR.sub("", between))
        if operators and not _EQUALS.search(between) and (is_bare or _EQUALS.search(after)):
            found.add(left.group() + "".join(operators) + right.group())
    for run in _AROUND_OPERATOR.sub(r"\1", step).split() if "=" in step else ():
        if "=" in run and _LETTER.search(run) and _NUMBER.search(run):
            found.add(_NUMBER.sub("0", run.strip(".,;:!?")))
    return found
