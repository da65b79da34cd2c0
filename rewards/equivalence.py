r"""Are two answers the same? Exact numbers first, then one spelling, then lists and chains, then a computer algebra."""

import numbers
import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rewards import symbolic
from rewards.answers import extract_answer
from rewards.latex import TEXT, balanced, closing, depth, normal_form, relations, split
from rewards.numerals import clean, plain_unit, read_number, same_number
from rewards.polynomial import same_polynomial

# Longer answers are refused, before anything slow looks at them.
_LONGEST, _MOST_ITEMS, _DEEPEST = 1000, 30, 6
_LONGEST_SYMBOLIC, _DEEPEST_BRACKETS, _MOST_DIGITS = 400, 12, 40
# What data sets write where there is no gold answer.
_MISSING = {"", "nan", "none", "null", "n/a", "unknown", "inf", "-inf"}
# The same in words and in signs.
_IN_SIGNS = {
    "all real numbers": "(-\\infty,\\infty)",
    "all reals": "(-\\infty,\\infty)",
    "no solution": "\\emptyset",
    "no solutions": "\\emptyset",
    "no real solution": "\\emptyset",
    "no real solutions": "\\emptyset",
    "empty set": "\\emptyset",
    "infinity": "\\infty",
    "does not exist": "DNE",
}
_MOST_WORDS = 12
# What is given a value in "x = 5": one quantity, and no number, constant or function of a number.
_NAME = re.compile(
    r"(?![ei](?:$|\())(?:[A-Za-z]{1,12}|\\(?:alpha|beta|gamma|delta|Delta|theta|lambda|mu|rho|sigma|tau|phi|varphi|omega|ell)"
    r"|\\angle ?[A-Z]{1,3}|\\(?:bar|vec|hat|overline|overrightarrow)\{?[A-Za-z]{1,3}\}?|\|[A-Za-z]{1,2}\|)"
    r"'*(?:_(?:\w|\{\w+\}))?(?:\^\{-1\})?(?:\([A-Za-z0-9,]*\))?"
    r"|\([A-Za-z](?:,[A-Za-z])+\)|\[[A-Z]{3,}\]"
)
_TRAILING_UNIT = re.compile(r"\\(?:text|mbox|textnormal|textrm|mathrm|textbf|rm)\s?\{([^{}]*)\}\s*(\^\s?\{?[23]\}?)?$")
_TRAILING_WORDS = re.compile(r"(?<=[\d)}])\s+([A-Za-z]{3}[A-Za-z /]{0,40})()$")
_FUNCTION = re.compile(r"arc(?:sin|cos|tan)|sinh|cosh|tanh|sqrt|frac|infty|cdot")
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{4,}|[^\W\d_a-zA-Zα-ωΑ-Ω]{2,}")
# What Math-Verify reads wrongly or not at all: bases, derivatives, transposes, congruences, points by their letters.
_NO_EXPRESSION = re.compile(
    r"\d_\{?\d|\d[ '_\n]\d|\.\.\.|\\[lcd]?dots|[:?@#]|[-+]{3}|!!|[-+*/^]$|\\(?:cdot|text)\s?$"
    r"|'|\\prime|\\frac\{d|\\partial|\^\{T\}|\\p?mod(?![A-Za-z])|(?<![A-Za-z\\])[A-Z]{2,}|\([^()]*="
)
# Numbers that would fill the memory: 9^{9^{9^{9}}}, 2^{99999}, 99999!
_TOWER = re.compile(r"\^\{?\d+\}?\^\{?\d+\}?\^|\^\{?-?\d{5,}|\d{5,}!|\\binom\{\d{5,}")

_WORDED_NAME = re.compile(r"^(?:\\text\{[A-Za-z ]+\}|[A-Za-z]{4,20}(?: [A-Za-z]{1,20}){0,3}) ?= ?")  # Area = 42
_MEMBER = re.compile(rf"^(?:{_NAME.pattern})\\in(?![A-Za-z]) ?")  # x \in [1,2] is [1,2]

Compare = Callable[[str, str, bool], bool]


class _NeedsAlgebra(Exception):
    """Not decided by spelling; the computer algebra, in a process of its own, must look."""


def is_equivalent(candidate: str | None, gold: str | int | float, *, timeout: float = 1.0) -> bool | None:
    r"""Whether two answers are the same: as numbers, as text, or by algebra (`(x+1)^2` is `x^2+2x+1`).

    Numbers are compared exactly (`0.5` is `1/2`, `0.333` is not `1/3`); thousands separators, currency, emphasis and
    a plain unit are read past, a magnitude word changes the value (`2 dozen` is `24`), a percentage equals only a
    percentage. Lists and sets are compared without order, tuples and intervals in order. A hedge ("41 or 42") or a
    list equals no single answer. A chain (`6 \cdot 7 = 42`) is judged by its final value, if it is true. What
    spelling does not decide, Math-Verify does, in a worker process that dies at the deadline. Nothing is evaluated
    as code. Symmetric for bare answers, but for `None`.

    Args:
        candidate (`str` or `None`): the answer to judge, as `extract_answer` returns it; any string.
        gold (`str`, `int` or `float`): the right answer: bare, LaTeX with or without dollar signs, or a worked
            solution that ends in `#### 72` or `\boxed{72}`.
        timeout (`float`): seconds that the algebra may take; then the answer is not the gold. The start of the worker
            processes, about a second and once, is not counted.

    Returns:
        `bool` or `None`: `None` where `gold` is unusable (empty, `nan`, broken LaTeX, a paragraph of prose).

    Raises:
        `ValueError`: `timeout` is not above 0.

    Example:
    >>> from rewards import is_equivalent
    >>> is_equivalent("$1,000.00", "1000"), is_equivalent("41", 42), is_equivalent("42", "unknown")
    (True, False, None)
    >>> is_equivalent(r"\frac43", r"1\frac{1}{3}"), is_equivalent("41 = 42", "42"), is_equivalent("2, 1", r"\{1, 2\}")
    (True, False, True)
    >>> is_equivalent("x^2 + 2x + 1", "(x+1)^2")
    True
    """
    return are_equivalent([candidate], [gold], timeout=timeout)[0]


def are_equivalent(candidates: list[str | None], golds: list, *, timeout: float = 1.0) -> list[bool | None]:
    """`is_equivalent` for each pair; what needs the algebra is checked in parallel, and each pair once."""
    check_timeout(timeout)
    candidates = [found if found is None or isinstance(found, str) else gold_answer(found) for found in candidates]
    texts = [gold_answer(gold) for gold in golds]
    verdicts = [_by_spelling(candidate, gold) for candidate, gold in zip(candidates, texts, strict=True)]
    undecided = [row for row, verdict in enumerate(verdicts) if verdict == "undecided"]
    if undecided:
        pairs = list(dict.fromkeys((candidates[row], texts[row]) for row in undecided))
        found = dict(zip(pairs, symbolic.check(pairs, timeout), strict=True))
        for row in undecided:
            verdicts[row] = found[candidates[row], texts[row]]
    return verdicts


def check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600:
        raise ValueError(f"timeout must be a number of seconds above 0 and at most 3600, not {timeout!r}.")


def gold_answer(gold) -> str:
    """The bare gold answer: the marked part of a worked solution, else the whole as text; empty for what is none."""
    if not isinstance(gold, str):
        if getattr(gold, "ndim", None) == 0 and hasattr(gold, "item"):
            gold = gold.item()  # a tensor or an array of one number
        if not isinstance(gold, numbers.Number):
            return ""
        try:
            gold = str(gold)
        except ValueError:  # an int beyond Python's limit of 4,300 digits
            return ""
    if gold.isdigit():
        return gold
    return _marked_gold(gold) if len(gold) <= 10_000 else extract_answer(gold) or ""


@lru_cache(maxsize=2048)
def _marked_gold(text: str) -> str:
    # A marker without an answer ("<answer></answer>") is no gold.
    return extract_answer(text) or ("" if re.search(r"</?(?:think|answer)>|\\boxed", text) else text.strip())


def _by_spelling(candidate: str | None, gold: str) -> bool | str | None:
    if candidate == gold and gold.isdigit():
        return True  # the most frequent of all
    if candidate is not None and len(candidate) > _LONGEST:
        candidate = None
    return _cached_by_spelling(candidate, gold) if len(gold) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _cached_by_spelling(candidate: str | None, gold: str) -> bool | str | None:
    try:
        return judge(candidate, gold, _needs_algebra)
    except _NeedsAlgebra:
        return "undecided"


def _needs_algebra(candidate: str, gold: str, approximately: bool) -> bool:
    raise _NeedsAlgebra


def judge(candidate: str | None, gold: str, compare: Compare) -> bool | None:
    """The verdict, where `compare(candidate, gold, approximately)` decides on two expressions of algebra."""
    gold = clean(gold)
    if gold.casefold() in _MISSING or not balanced(gold) or not any(character.isalnum() for character in gold):
        return None
    is_words = _is_words(gold)
    if is_words and len(gold.split()) > _MOST_WORDS:
        return None
    verdict = False
    if candidate is not None:
        candidate = clean(candidate)
        verdict = bool(candidate and balanced(candidate)) and _same(candidate, gold, compare, _DEEPEST)
    # Whether a gold can be judged does not depend on the candidate.
    return None if not verdict and not is_words and read_number(gold) is None and _is_absurd(gold) else verdict


def _same(candidate: str, gold: str, compare: Compare, levels: int) -> bool:
    if levels == 0:
        return False
    values = read_number(candidate), read_number(gold)
    if all(values):
        return same_number(*values)
    folded = _folded(candidate), _folded(gold)
    if folded[0] == folded[1] != "":
        return True
    candidate, gold = _IN_SIGNS.get(folded[0], candidate), _IN_SIGNS.get(folded[1], gold)
    candidate, gold = _WORDED_NAME.sub("", candidate), _WORDED_NAME.sub("", gold)
    if _is_words(gold) or _is_words(candidate):
        return False
    candidate, gold = _without_unit(candidate), _without_unit(gold)
    one, other = normal_form(candidate), normal_form(gold)
    if one == other or (":" in one and _time(one) == _time(other)):
        return one != ""
    if "," not in one + other:  # without its space "32, 349" would be one number
        values = values[0] or read_number(one), values[1] or read_number(other)
        if all(values):
            return same_number(*values)
    if _is_decimal_comma(one, other) or _is_decimal_comma(other, one):
        return one.replace(",", ".") == other.replace(",", ".")
    one, other = _MEMBER.sub("", one), _MEMBER.sub("", other)
    items, golds = _listed(one), _listed(other)
    # A tuple or an interval against one relation: x \in [1,2], (x,y)=(1,2).
    against_relation = any(
        a.brackets and len(b.items) == 1 and relations(b.items[0])[1] for a, b in ((items, golds), (golds, items))
    )
    if against_relation or len(items.items) == len(golds.items) == 1:
        one, other = (text if listed.brackets else listed.items[0] for text, listed in ((one, items), (other, golds)))
        return _same_relation(one, other, compare, levels)
    return _same_list(items, golds, compare, levels)


def _folded(text: str) -> str:
    """Text in words, without style, spaces and end punctuation, and without case; empty for what is no words."""
    is_words = _is_words(text)
    text = TEXT.sub(r"\1", text).strip(" .()\"'").replace("$", "")
    letters = re.sub(r"[\s.'-]", "", text)
    if not is_words and not (letters.isalpha() and len(letters) > 1 and not (letters.isascii() and letters.isupper())):
        return ""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _time(text: str) -> str:
    return text.casefold().replace("a.m", "am").replace("p.m", "pm").rstrip(".")


def _is_words(text: str) -> bool:
    """Whether `text` speaks instead of calculating: it has a word of four letters, or of another script."""
    text = re.sub(r"\\(?:begin|end)\{[a-z]+\*?\}|\\[A-Za-z]+", " ", TEXT.sub(r" \1 ", _without_unit(text)))
    return bool(_WORD.search(_FUNCTION.sub(" ", text)))


def _without_unit(text: str) -> str:
    match = _TRAILING_UNIT.search(text) or _TRAILING_WORDS.search(text)
    if match and match.start() and plain_unit(match[1].strip()) and text[: match.start()].strip()[-1:] not in "=<>+-":
        return text[: match.start()].strip()
    return text


def _is_decimal_comma(comma: str, point: str) -> bool:
    return bool(re.fullmatch(r"-?\d+,\d+", comma) and re.fullmatch(r"-?\d+\.\d+", point))


class _List(NamedTuple):
    brackets: str  # "{}", "()", "[)", ...; "" for none
    items: list[str]


def _listed(text: str) -> _List:
    r"""The items of a list in normal form, with `\pm` written out; one item for what is no list."""
    if text.startswith("\\{") and text.endswith("\\}") and closing(text, 1) == len(text) - 1:
        return _List("{}", _signed(split(text[2:-2], ",")))
    items = split(text, ",")
    if len(items) == 1 and text[:1] in ("(", "[") and text[-1:] in (")", "]") and closing(text, 0) == len(text) - 1:
        inner = split(text[1:-1], ",")
        if len(inner) > 1:
            return _List(text[0] + text[-1], inner)
    return _List("", _signed(items))


def _signed(items: list[str]) -> list[str]:
    signed = []
    for item in items:
        if re.search(r"\\[pm][mp](?![A-Za-z])", item):
            for plus, minus in (("+", "-"), ("-", "+")):
                both = re.sub(r"\\pm(?![A-Za-z]) ?", plus, item)
                signed.append(re.sub(r"\\mp(?![A-Za-z]) ?", minus, both).removeprefix("+"))
        else:
            signed.append(item)
    return signed


def _same_list(candidate: _List, gold: _List, compare: Compare, levels: int) -> bool:
    (kind, items), (gold_kind, golds) = candidate, gold
    if len(items) != len(golds) or len(items) > _MOST_ITEMS or "" in items:
        return False
    ordered = "(" in kind + gold_kind or "[" in kind + gold_kind
    if ordered and kind != gold_kind and {kind, gold_kind} != {"()", ""}:
        return False
    if ordered:
        return all(_same(item, gold, compare, levels - 1) for item, gold in zip(items, golds, strict=True))
    left = list(items)
    for gold in golds:
        found = next((item for item in left if _same(item, gold, compare, levels - 1)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_relation(candidate: str, gold: str, compare: Compare, levels: int) -> bool:
    """One value, chain, equation or inequality against another, both in normal form."""
    sides, signs = relations(candidate)
    gold_sides, gold_signs = relations(gold)
    if "" in sides + gold_sides:
        return False
    if not signs and not gold_signs:
        return _expression(candidate, gold, compare)
    if set(gold_signs) - {"=", "\\approx"} or set(signs) - {"=", "\\approx"}:
        candidate, gold = _joined(sides, signs), _joined(gold_sides, gold_signs)  # 7 > x is x < 7
        return candidate == gold or _expression(candidate, gold, compare)
    name, chain, chain_signs = _assignment(sides, signs)
    gold_name, gold_chain, gold_chain_signs = _assignment(gold_sides, gold_signs)
    if signs == gold_signs == ["="] and (not name or name.lower() != gold_name.lower()):
        return _expression(candidate, gold, compare)  # two equations
    if name and gold_name and name != gold_name:
        return False
    for these, those in ((chain, chain_signs), (gold_chain, gold_chain_signs)):
        for left, sign, right in zip(these, those, these[1:], strict=False):
            step = _is_rounding(left, right, compare) if sign == "\\approx" else _same(left, right, compare, levels - 1)
            if not step:
                return False
    return _same(chain[-1], gold_chain[-1], compare, levels - 1)


def _joined(sides: list[str], signs: list[str]) -> str:
    return "".join(f"{side}{sign} " for side, sign in zip(sides, [*signs, ""], strict=True)).strip()


def _assignment(sides: list[str], signs: list[str]) -> tuple[str, list[str], list[str]]:
    """The name that is given a value ("" for none), the chain of its values and the signs between these."""
    if len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
        sides = sides[::-1]  # 5 = x
    if len(sides) > 1 and _NAME.fullmatch(sides[0]):
        return sides[0], sides[1:], signs[1:]
    return "", sides, signs


def _is_rounding(exact: str, rounded: str, compare: Compare) -> bool:
    number, decimal = read_number(exact), read_number(rounded)
    if decimal is None:
        return False
    if number is not None:
        off = abs(number.value - decimal.value)
        return number.percent == decimal.percent and off <= Fraction(1, 2 * 10**decimal.decimals)
    return _expression(exact, rounded, compare, approximately=True)


def _expression(candidate: str, gold: str, compare: Compare, approximately: bool = False) -> bool:
    """Two expressions of algebra, once the cheap guards have refused what is none, or absurd."""
    if _is_absurd(candidate) or _is_absurd(gold) or _NO_EXPRESSION.search(candidate) or _NO_EXPRESSION.search(gold):
        return False
    verdict = None if approximately else same_polynomial(candidate, gold)
    return compare(candidate, gold, approximately) if verdict is None else verdict


def _is_absurd(text: str) -> bool:
    return (
        len(text) > _LONGEST_SYMBOLIC
        or depth(text) > _DEEPEST_BRACKETS
        or bool(re.search(rf"\d{{{_MOST_DIGITS}}}", text))
        or bool(_TOWER.search(text))
    )
