r"""One spelling for what LaTeX can write in many: `\dfrac43`, `\frac 4 3` and `\tfrac{4}{3}` are `\frac{4}{3}`."""

import re

TEXT = re.compile(r"\\(?:text|mbox|textnormal|textrm|textbf|textit|mathrm|mathbf|operatorname|rm|bf)\s?\{([^{}]*)\}")
_CONNECTOR = re.compile(
    r"\s*(?:,\s*)?(?:\\q?quad\s*)?(?:(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\lor(?![A-Za-z])|[或和与])(?:\s*\\q?quad)?\s*"
)
_SIZE = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])\.?")
_SPACE = re.compile(r"(?<!\\)\\(?:[,;:!\s]|q?quad(?![A-Za-z]))|~|\{\}")
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_FRAC = re.compile(r"\\[dtc]?frac(?![A-Za-z])\s*(" + _GROUP + r"|\d|[a-z]|\\[a-z]+)\s*(" + _GROUP + r"|\d|[a-z]|\\pi)")
_SQRT = re.compile(r"\\sqrt\s*(\d|[a-z](?![a-z])|\\pi)")
_SYNONYMS = {
    r"\\(?:leq|leqslant|le)(?![A-Za-z])|<=|=<": r"\\leq ",
    r"\\(?:geq|geqslant|ge)(?![A-Za-z])|>=": r"\\geq ",
    r"\\(?:neq|ne)(?![A-Za-z])|!=": r"\\neq ",
    r"\\lt(?![A-Za-z])": "<",
    r"\\gt(?![A-Za-z])": ">",
    r"\\(?:approxeq|simeq|approx|thickapprox)(?![A-Za-z])": r"\\approx ",
    r"\*\*": "^",
    r"\\times(?![A-Za-z])|\*": r"\\cdot ",
    r"\\div(?![A-Za-z])": "/",
    r"\{\s*([^{}]*?)\\choose\s*([^{}]*)\}": r"\\binom{\1}{\2}",
    r"\^\s?\{?\s?\\(?:circ|degree)\s?\}?|\\degree(?![A-Za-z])": "",
    r"\\(?:infinity|inf)(?![A-Za-z])": r"\\infty ",
    r"\\(?:varnothing|empty)(?![A-Za-z])": r"\\emptyset ",
    r"\\lbrace(?![A-Za-z])": r"\\{",
    r"\\rbrace(?![A-Za-z])": r"\\}",
    r"\\[lr]?[vV]ert(?![A-Za-z])|\\mid(?![A-Za-z])": "|",
    r"\\equiv(?![A-Za-z])(?!.*mod)": "=",
    r"\\pmod\s*(\w)": r"\\pmod{\1}",
    r"\\(?:mathbb|Bbb)\s*\{?R\}?|\\(?:R|reals)(?![A-Za-z])": r"(-\\infty ,\\infty )",
    r"(?<![\w.}])(\d+)/(\d+)(?=[A-Za-z\\(])": r"\\frac{\1}{\2}",
    r"\\?\$": " ",
}
_SYNONYMS = [(re.compile(pattern), spelling) for pattern, spelling in _SYNONYMS.items()]
_BARE_FUNCTION = re.compile(
    r"(?<![A-Za-z\\])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt|pi)(?![A-Za-z])"
)
_UNBRACED = re.compile(r"([\^_])\s*(-?\d+|[A-Za-z])")
_THOUSANDS_GIVEN = re.compile(r"(?<==)(-?\d{1,3}(?:,\d{3})+)(?=\.\d+$|$)")


def normal_form(text: str) -> str:
    r"""`text` (as `numerals.clean` returns it) in one spelling: no spaces, sizes or styles; "and", "or" are a comma.

    Example:
    >>> from rewards.latex import normal_form
    >>> normal_form(r"\left( \dfrac43 , \sqrt 2 \right)"), normal_form(r"x = 1 \text{ or } x = 2")
    ('(\\frac{4}{3},\\sqrt{2})', 'x=1,x=2')
    """
    if text.isalnum():
        return text
    text = _BARE_FUNCTION.sub(r"\\\1 ", text)
    if "\\" in text:
        text = _SIZE.sub("", text)
        text = _SPACE.sub(" ", TEXT.sub(r" \1 ", text))
        for _ in range(4):  # fractions within fractions
            text, count = _FRAC.subn(lambda match: f"\\frac{_braced(match[1])}{_braced(match[2])}", text)
            if "\\frac" not in text or not count:
                break
        text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
        text = _SQRT.sub(r"\\sqrt{\1}", text)
    text = _CONNECTOR.sub(",", text)
    for pattern, spelling in _SYNONYMS:
        text = pattern.sub(spelling, text)
    text = _UNBRACED.sub(r"\1{\2}", text)
    # A space stays only where it ends a command or keeps two numbers apart.
    text = re.sub(r"(\\[A-Za-z]+)\s+(?=[A-Za-z])|\s+", _needed_space, text)
    text = _THOUSANDS_GIVEN.sub(lambda match: match[0].replace(",", ""), text)  # n=1,234
    while len(text) > 2 and text[0] in "({" and closing(text, 0) == len(text) - 1:
        inner = text[1:-1]
        if len(split(inner, ",")) > 1 and text[0] == "(":
            break
        text = inner
    return text


def _needed_space(space: re.Match) -> str:
    if space[1]:
        return f"{space[1]} "
    before, after = space.string[space.start() - 1 : space.start()], space.string[space.end() : space.end() + 1]
    if space[0].strip(" ") and before.isdigit() and (after.isdigit() or after == "\\"):
        return "\n"
    return " " if before.isdigit() and after.isdigit() else ""


def _braced(part: str) -> str:
    return part if part.startswith("{") else f"{{{part}}}"


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes, whatever the kind (`[0,1)`); -1 for nowhere."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if depth == 0:
                return position
    return -1


def split(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


_RELATION = re.compile(r"\\(?:leq|geq|neq|approx|in|equiv)(?![A-Za-z]) ?|[<>=]")


def relations(text: str) -> tuple[list[str], list[str]]:
    """The sides of a relation in normal form, and the signs between them; one side where there is none."""
    sides, signs, start = [], [], 0
    for match in _RELATION.finditer(text):
        before = text[: match.start()]
        if sum(before.count(bracket) for bracket in "([{") == sum(before.count(bracket) for bracket in ")]}"):
            sides.append(text[start : match.start()])
            signs.append(match[0].strip())
            start = match.end()
    sides.append(text[start:])
    if signs and set(signs) <= {"\\geq", ">"}:  # 7 > x is x < 7
        return sides[::-1], [{"\\geq": "\\leq", ">": "<"}[sign] for sign in signs[::-1]]
    return sides, signs


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def depth(text: str) -> int:
    """How deep the brackets of `text` are nested."""
    now = deepest = 0
    for character in text:
        now += (character in "([{") - (character in ")]}")
        deepest = max(deepest, now)
    return deepest
