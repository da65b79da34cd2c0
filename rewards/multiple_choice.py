"""Is the chosen option the right one? A letter, or the option's own text."""

import re

from rewards.answers import extract_answer
from rewards.completions import Completion, after_thinking, check_column, completion_text
from rewards.correctness import gold_values, warn_of_unusable
from rewards.exact_match import fold, gold_text, plain
from rewards.latex import normal_form
from rewards.numerals import clean

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PLAIN_LETTERS = 5  # without a column of options, A to E are the options
_LONGEST = 2000  # characters of an answer; a longer one names no option
_LONGEST_FORMULA = 300

_IN_WORD = r"[^\W_\u3040-\u9fff]"  # Chinese and Japanese put no spaces around an option
_ADJECTIVE = r"(?:only |most )?(?:correct|right|true|best)"
_NOUN = r"(?:answer|option|choice|one)"
_DRESS = re.compile(r"\*\*|`|\$(\(?[A-Za-z]\)?)\$")
# What says no more than that an option follows, or that it is right.
_LEAD_IN = re.compile(
    r"\A(?:(?:so|thus|hence|therefore)\b,? |(?:故|因此|所以),?|i (?:think|believe|choose|pick|select) |it is |it's "
    rf"|(?:the |my )?(?:final )?(?:{_ADJECTIVE} )?{_NOUN}(?: is\b:?|:| ) ?"
    r"|(?:正确|最终)?(?:答案|选项)[是为:]? ?){,4}",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(
    rf" is (?:the )?{_ADJECTIVE}(?: {_NOUN})?\b| is the {_NOUN}\b|是正确(?:的|答案|选项)*", re.IGNORECASE
)
# A reason may name the options it rules out. One that hedges is none.
_REASON = re.compile(
    r"\b(?:because|since)\b(?![^.;!?]*\b(?:or|maybe|perhaps|possibly|else|may|might|could)\b)"
    r".*?(?=[.;!?。](?:\s|$)|$)|因为[^。；]*",
    re.IGNORECASE,
)
# What may stand between the options of an answer that is nothing but options.
_BETWEEN = re.compile(r"[\s.,:;/&|(){}<>\[\]*–—-]|(?:and|or|(?:option|choice)s?)\b|选(?:项|择)?|[和或、]")
# A letter in front of the rest. "A cat", "A.I.", "A-level" and "C(5,2)" begin with none.
_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice) |选(?:项|择)?)?[(\[]?([A-Za-z])"
    r"(?:[)\]:]|\.(?![A-Za-z0-9])|(?= ?(?:$|[,;–—])| [(\[\0]| - |选?项))"
)
# Any letter by itself in the rest: a small one where the answer begins with a small one, or where its place says so.
_ARTICLE = (
    r"(?!(?<=[AaI]) (?!(?:is|was|and|or|but|as|also|too|fits|works|seems|can|could|may|might|would|if|else|instead"
    r"|then|not|maybe|perhaps|possibly)\b)[A-Za-z][a-z])"
)
_ALONE = rf"(?<!{_IN_WORD})(?<!\w['’])([A-Z])(?!{_IN_WORD}){_ARTICLE}"
_CAPITAL, _ANY_CASE = re.compile(_ALONE), re.compile(_ALONE, re.IGNORECASE)
_SMALL = re.compile(
    rf"(?:(?<!{_IN_WORD})\((?=[a-z]\))|[,/&] ?"
    r"|\b(?i:options?|choices?|and|or|also|else|rather|maybe|perhaps|possibly) )"
    rf"([a-z])(?!{_IN_WORD}|['’]){_ARTICLE}"
)
_DENIED = re.compile(
    r"[\s.,:;)–—-]*(?:is|was|isn|can|could|may|might|maybe|perhaps|possibly|seems|not?|no|ruled out|excluded)\b"
    r"|.*(?:\b(?:wrong|incorrect|false|mistaken)\b|(?:\bnot|n['’]t) (?:the )?(?:correct|right|true|answer|it)\b"
    r"|错|不(?:对|是|正确))",
    re.IGNORECASE,
)


def multiple_choice_reward(
    completions: list[Completion], answer=None, solution=None, options=None, **kwargs
) -> list[float | None]:
    """1.0 where the final answer names the right option and no other, 0.0 where it does not.

    r = 1[ options named by the answer = {gold} ]. An answer begins with an option's letter ("B", "(b)", "B. Paris",
    "Option B is correct"), or is, with a column `options`, an option's text; without that column the options are A to
    E. Any other option named behind it, by letter or text, is a hedge and gets 0, but for a reason ("B, because Rome
    is in Italy"); so does a denial ("B is wrong"). Where the texts hold letters that stand alone ("vitamin C"), give
    the column. The measure of MMLU (Hendrycks et al., 2021, arXiv 2009.03300), read from a free answer.

    Range: 0 or 1, None for an unusable gold

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        answer, solution (`list`): the gold column, B values: a letter or an option's text. A place, as in MMLU's
            `answer` (0 to 3), is neither: map it to a letter first,
            `dataset.map(lambda row: {"answer": "ABCD"[row["answer"]]})`.
        options (`list`, *optional*): B lists of the options' texts in order, or dicts from letter to text, or ARC's
            `{"label": [...], "text": [...]}`.

    Returns:
        `list[float | None]`: B values in {0.0, 1.0}; `None` where the gold is no option, or is one option's letter
            and another's text.

    Raises:
        `ValueError`: there is no gold column, or a column is not as long as `completions`.

    Example:
    >>> from rewards import multiple_choice_reward
    >>> multiple_choice_reward(completions=["<answer>(B)</answer>", "The answer is A or B."], answer=["B", "B"])
    [1.0, 0.0]
    >>> multiple_choice_reward(completions=["<answer>Paris</answer>"], answer=["B"], options=[["Rome", "Paris"]])
    [1.0]
    """
    columns = {"answer": answer, "solution": solution}
    column, golds = gold_values("multiple_choice_reward", completions, columns)
    if options is None:
        options = [None] * len(completions)
    check_column("options", options, completions)
    rewards = []
    for completion, gold, texts in zip(completions, golds, options, strict=True):
        by_letter = _by_letter(texts)
        wanted = _named(gold_text(gold), by_letter)
        text = completion_text(completion)
        found = _named(extract_answer(text) or _one_line(after_thinking(text) or ""), by_letter)
        rewards.append(float(found == wanted) if len(wanted) == 1 else None)
    warn_of_unusable("multiple_choice_reward", column, golds, rewards)
    return rewards


def _by_letter(texts: list | dict | None) -> dict[str, str]:
    """The text of each option by its label; empty texts where there is no column of options."""
    if isinstance(texts, dict) and isinstance(texts.get("label"), list) and isinstance(texts.get("text"), list):
        texts = dict(zip(texts["label"], texts["text"], strict=False))  # as in ARC
    if isinstance(texts, list | tuple):
        texts = dict(zip(_LETTERS, texts, strict=False))
    if not isinstance(texts, dict):
        return dict.fromkeys(_LETTERS[:_PLAIN_LETTERS], "")
    by_letter = {str(label).strip().upper(): str(text)[:_LONGEST].strip() for label, text in texts.items()}
    titles = [re.match(rf"\(?{re.escape(label)}[.):]\s*(?=\S)", text) for label, text in by_letter.items()]
    if all(titles):  # "A. Rome", "B. Paris"
        return {label: text[title.end() :] for (label, text), title in zip(by_letter.items(), titles, strict=True)}
    return by_letter


def _one_line(text: str) -> str:
    """`text` where it is one line, which may be nothing but a choice; several lines need a marker."""
    text = text.strip()
    return text if len(text) <= _LONGEST and "\n" not in text else ""


def _named(answer: str, by_letter: dict[str, str]) -> set[str]:
    """The labels of the options that `answer` names, by label or by text; none where it denies what it names."""
    if len(answer) > _LONGEST:
        return set()
    texts = {label: fold(text) for label, text in by_letter.items()}
    said = _DRESS.sub(r"\1", plain(answer)).strip("*_ ")
    bare = _LEAD_IN.sub("", said)
    short = _AFFIRMED.sub("", _REASON.sub("", bare))
    for form in (said, bare, short):  # an option's text may hold a reason itself
        if options := _only_options(fold(form), texts):
            return options
    said = short
    first = _LETTER.match(said)
    if formula := _same_formula(said[first.end() :] if first else said, by_letter):
        return formula | ({first[1].upper()} if first else set())
    said, named = _without_texts(said, texts)
    first = _LETTER.match(said)
    rest = said[first.end() :] if first else ""
    if not first or _DENIED.match(rest):
        return set()
    letters = [first[1], *(_ANY_CASE if first[1].islower() else _CAPITAL).findall(rest), *_SMALL.findall(rest)]
    return named | ({letter.upper() for letter in letters} & by_letter.keys())


def _only_options(answer: str, texts: dict[str, str]) -> set[str]:
    """The labels of the options in an answer of nothing but options; none where it says anything else."""
    names = [(name, label) for label, text in texts.items() for name in {label.casefold(), text} - {""}]
    named, place = set(), 0
    while place < len(answer):
        here = [(len(name), label) for name, label in names if _stands(name, answer, place)]
        if here:
            longest = max(here)[0]
            named |= {label for length, label in here if length == longest}  # two where a label is another's text
            place += longest
        elif between := _BETWEEN.match(answer, place):
            place = between.end()
        else:
            return set()
    return named


def _stands(name: str, answer: str, place: int) -> bool:
    """Whether `name` stands at `place`, and is not a part of a longer word."""
    around = (answer[place - 1 : place] + name[0], name[-1] + answer[place + len(name) :][:1])
    return answer.startswith(name, place) and not any(re.fullmatch(_IN_WORD + "{2}", pair) for pair in around)


def _same_formula(answer: str, by_letter: dict[str, str]) -> set[str]:
    r"""The labels of the options that are the formula `answer`: `\dfrac12` is `$\frac{1}{2}$`."""
    if not 0 < len(answer) <= _LONGEST_FORMULA:
        return set()
    formula = normal_form(clean(answer))
    short = {label: text for label, text in by_letter.items() if 0 < len(text) <= _LONGEST_FORMULA}
    return {label for label, text in short.items() if formula and normal_form(clean(text)) == formula}


def _without_texts(answer: str, texts: dict[str, str]) -> tuple[str, set[str]]:
    """`answer` with a NUL for each option's text in it, and the labels of these options."""
    longest_first = sorted({text for text in texts.values() if text}, key=len, reverse=True)
    if not longest_first:
        return answer, set()
    pattern = rf"(?<!{_IN_WORD})(?:{'|'.join(map(re.escape, longest_first))})(?!{_IN_WORD})"
    found = re.compile(pattern, re.IGNORECASE)
    named = {fold(text) for text in found.findall(answer)}
    return found.sub("\0", answer), {label for label, text in texts.items() if text in named}
