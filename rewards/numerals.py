r"""Read a text as one number, in exact arithmetic: `$1,234.50`, `3\frac12`, `1.5 \times 10^3`, `2 dozen`, `50\%`."""

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple


class Number(NamedTuple):
    """One number as it was written."""

    value: Fraction
    percent: bool = False  # a percentage equals only a percentage
    unit: str | None = None  # the unit of measure, in one spelling, where it is one that we know
    digits: int = 0  # significant digits, of a decimal that is written with a point
    decimals: int = 0  # digits behind the point


# A longer number is not read: exact arithmetic on it could take long.
_LONGEST = 200
_BREAKS = frozenset("\n\r\t\v\f")  # 1 and 1/2 on the next line are no mixed number
_FULL_WIDTH = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)}
_VULGAR = {
    ord(sign): "\\frac{%s}{%s}" % tuple(unicodedata.normalize("NFKC", sign).split("⁄"))  # noqa: UP031
    for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIGNS = {
    ord(sign): latex
    for sign, latex in {
        "−": "-", "–": "-", "×": "\\times ", "÷": "/", "·": "\\cdot ", "∙": "\\cdot ", "⋅": "\\cdot ", "⁄": "/",
        "π": "\\pi ", "∞": "\\infty ", "≤": "\\leq ", "≥": "\\geq ", "≠": "\\neq ", "≈": "\\approx ", "∪": "\\cup ",
        "∩": "\\cap ", "∈": "\\in ", "±": "\\pm ", "√": "\\sqrt ", "°": "^\\circ ", "∅": "\\emptyset ", "、": ",",
        "℃": "^\\circ C", "℉": "^\\circ F", "\u00a0": " ", "\u202f": "\u2009", "\u2007": "\u2009", "’": "'",
    }.items()
}  # fmt: skip
# Not among them: the overrides of direction, which show 42 as 24.
INVISIBLE = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad\u061c]")
_TABLE = _FULL_WIDTH | _VULGAR | _SIGNS

_SEPARATOR = re.compile(r"(?<=\d)(?:\{,\}|,\\! ?|\\[,;:! ]|~)(?=\d{3}(?!\d))")
_TEXT = re.compile(r"\\(?:text|mbox|textnormal|textrm|textbf|textit|mathrm|mathbf|rm|bf)\s?\{([^{}]*)\}")
_DIGITS = (
    r"(?:[1-9]\d{0,2}(?P<sep>[,' _\u2009])\d{3}(?:(?P=sep)\d{3})*(?!\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"
    r"|\d{1,3}(?:\.\d{3}){2,}(?![\d.])|\d+)"
)
_DECIMAL = re.compile(
    rf"(?P<whole>{_DIGITS})?(?P<point>\.\d*)?"
    r"(?:[eE](?P<e>[+-]?\d{1,3})(?!\d)|\s?(?:\\times|\\cdot|\*|x)\s?10\s?\^\s?(?:\{\s?(?P<p>[+-]?\d{1,3})\s?\}|(?P<q>-?\d{1,3})(?!\d)))?"
)
_REPEATING = re.compile(r"(\d{1,20})?\.(\d{0,20})\\overline\s?\{(\d{1,20})\}")
_POWER_OF_TEN = re.compile(r"10\s?\^\s?(?:\{\s?([+-]?\d{1,3})\s?\}|(\d))(?!\d)")
_PART = r"\{\s?([+-]?\d+(?:\.\d+)?)\s?\}"
_FRACTION = re.compile(
    rf"(?:(\d+)\s?)?\\[dtc]?frac(?:{_PART}{_PART}|\s?(\d)(\d)|{_PART}\s?(\d)|\s?(\d){_PART})"  # \frac{4}{3}, \frac43
    r"|(?:(\d+) )?(\d+)\s?/\s?(\d+)"  # 4/3, 1 1/3
)
_CURRENCY = "$£€¥₹₩₽"
_OF_CURRENCY = {"$": "dollar", "€": "euro"}
_PERCENT = re.compile(r"\\?%|per ?cents?\b|percentage(?: points)?\b|pct\b", re.IGNORECASE)
_MAGNITUDES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "lakh": 10**5, "crore": 10**7, "万": 10**4, "亿": 10**8,
}  # fmt: skip
_MAGNITUDE = re.compile(r"(hundred|thousand|million|billion|trillion|dozen|lakh|crore)s?\b|[万亿]", re.IGNORECASE)
_MATH_FIRST = re.compile(r"(?:\$([^$]+)\$|\\\(([^$]+?)\\\))\s*([^$\d]+)")
_DEGREES = re.compile(r"\^\s?\{?\s?\\(?:circ|degree)\b\s?\}?|\\degree\b")
# Words that stand for one unit of measure: two different ones make two different answers.
_SPELLINGS = {
    spelling: words.split()[0]
    for words in (
        "cm centimeter centimeters centimetre centimetres", "mm millimeter millimeters millimetre millimetres",
        "km kilometer kilometers kilometre kilometres", "m meter meters metre metres", "in inch inches",
        "ft foot feet", "yd yard yards", "mi mile miles", "g gram grams", "kg kilogram kilograms", "mg milligram",
        "lb lbs pound pounds", "oz ounce ounces", "l liter liters litre litres", "ml milliliter milliliters",
        "s sec secs second seconds", "min mins minute minutes", "h hr hrs hour hours", "day days d", "week weeks",
        "month months", "year years", "cent cents", "dollar dollars", "km/h kmh kph", "mph", "m/s",
        "euro euros", "degrees degree deg", "radians radian rad",
    )
    for spelling in words.split()
}  # fmt: skip
# Symbols whose case makes the difference.
_SYMBOLS = frozenset("N kN J kJ A mA V W kW MW K Pa kPa MPa Hz kHz MHz GHz mol mmol eV dB Nm C F L mL".split())
# Units and measure words of Chinese, which stand behind the number without a space; none of these changes the value.
_CHINESE_UNIT = re.compile(r"[\u4e00-\u9fff]{1,6}")
_NOT_A_CHINESE_UNIT = re.compile("[百千万亿兆十几多约或和与不错没负分成半倍折]")
# A unit is a few words ("18 cm", "18 square feet", "18 pounds of beef", "18 dollars per day") or a rate ("18/hour").
_UNIT = re.compile(r"/ ?[a-z]+|[a-z]+(?: [a-z]+){0,3}(?: ?/ ?[a-z]+)?", re.IGNORECASE)
_UNIT_POWER = re.compile(r"(?<=[a-z])\s?\^\s?(?:\{[23]\}|[23])$", re.IGNORECASE)
_SPREAD = re.compile(r"(?:square|sq\.?|cubic|cu\.?) ")
# No unit holds a word that changes the value, hedges or denies, or a short one that is not a unit of measure.
_NOT_A_UNIT = re.compile(
    r"\b(?:[a-z]{1,2}|\w*illions?|\w*illionths?|\w*illiards?|grand|googol|pairs?|couples?|double|triple|twice|thrice"
    r"|(?:doubl|halv|tripl|quadrupl)ed|bps|ppm|ppb|basis points?|per mille|hex|octal|binary|recurring|repeating"
    r"|(?:less|more|fewer)$|deficit|debt|guess|unlikely|nope|hopefully|versus|vs|south|west|mil|tens?|hundreds?|thousands?|lakhs?|crores?|millions?|billions?|trillions?|zillions?"
    r"|dozens?|gross|score|half|halves|quarter|thirds?|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths"
    r"|thousandths|percent\w*|per ?cent|pct|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|pi"
    r"|plus|minus|divided|multiplied|squared|cubed|root|mod|modulo|point|factorial|negative|positive|and|than|not"
    r"|but|nor|maybe|perhaps|possibly|probably|about|approximately|approx|roughly|around|nearly|almost|least|most"
    r"|otherwise|else|unless|either|neither|except|instead|rather|unknown|wrong|false|incorrect|are|was|were"
    r"|isn|because|since|would|could|might|may|should)\b",
    re.IGNORECASE,
)
_SHORT_WORDS = {"of", "in", "at", "an", "a", "on", "by", "us", "tv"}


def clean(text: str) -> str:
    """`text` with one spelling for each sign, without invisible characters and LaTeX's thousands separators."""
    if not text.isascii():
        text = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
        text = text.translate(_TABLE)
        if not text.isascii():
            text = INVISIBLE.sub("", text)
    if "\\\\" in text and "\\begin" not in text:
        text = text.replace("\\\\", "\\")  # escaped twice, as in JSON
    if "\\" in text or "{" in text or "~" in text:
        text = _SEPARATOR.sub("", text)
        text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)
        text = re.sub(r"(?<=\S)~", " ", text)  # a tie; in front of a number it says "about"
    text = unwrapped(text)
    math_first = _MATH_FIRST.fullmatch(text) if text[:1] in ("$", "\\") else None  # "$125$ miles"
    return f"{(math_first[1] or math_first[2]).strip()} {math_first[3]}" if math_first else text


def unwrapped(text: str) -> str:
    """`text` without the emphasis, the math delimiters and the full stop around the whole of it."""
    for _ in range(4):  # "**$42$.**" needs three
        text = text.strip().strip("*_`").strip()
        if text.endswith((".", "!", ";", ",")) and not text.endswith(("...", "\\!", "\\,", "\\;")):
            text = _without_stop(text)
        before = text
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
                inner = text[len(left) : -len(right)]
                if left not in inner and right not in inner and not inner.endswith("\\"):
                    text = inner.strip()
        if text.startswith("\\boxed{") and text.endswith("}") and "{" not in text[7:].replace("\\{", "")[1:]:
            text = text[7:-1].strip()
        if text == before:
            return text
    return text


def _without_stop(text: str) -> str:
    stop = text[-1]
    is_factorial = stop == "!" and (text[-2:-1].isalnum() or text[-2:-1] in ")]}|!")
    return text if is_factorial else text[:-1].rstrip()


def read_number(text: str) -> Number | None:
    """The one number that `text` is, or `None`: "41 or 42" is none, "18 apples" is 18.

    Args:
        text (`str`): any string, as `clean` returns it.

    Returns:
        `Number` or `None`.
    """
    if not text or len(text) > _LONGEST or not _BREAKS.isdisjoint(text):
        return None
    if text.isascii() and text.isdigit():
        return Number(Fraction(int(text)))
    if "\\" in text:
        text = _TEXT.sub(r" \1 ", text).strip()
        text = re.sub(r"(?<!\\)\\[,;:! ]|\\(?=\$)", " ", text).strip()
    sign = 1
    if text[:1] in ("-", "+"):
        sign, text = (-1 if text[0] == "-" else 1), text[1:].lstrip()
    currency = text[:1] if text[:1] in _CURRENCY else ""
    if currency:
        text = text[1:].lstrip()
        if sign == 1 and text[:1] == "-":
            sign, text = -1, text[1:].lstrip()
    number, rest = _magnitude(text)
    if number is None:
        return None
    number = _with_rest(number._replace(value=sign * number.value), rest)
    return number._replace(unit=_OF_CURRENCY[currency]) if number and currency in _OF_CURRENCY else number


def _magnitude(text: str) -> tuple[Number | None, str]:
    """The unsigned number that `text` begins with, and what follows it."""
    match = _POWER_OF_TEN.match(text)
    if match:
        return Number(Fraction(10) ** int(match[1] or match[2])), text[match.end() :]
    match = _REPEATING.match(text)
    if match:
        whole, once, period = match[1] or "0", match[2], match[3]
        repeated = Fraction(int(period), 10 ** len(period) - 1) / 10 ** len(once)
        return Number(Fraction(f"{whole}.{once or 0}") + repeated), text[match.end() :]
    match = _FRACTION.match(text)
    if match:
        whole, over, under = _fraction_parts(match.groups())
        if not Fraction(under) or (whole and not 0 < Fraction(over) < Fraction(under)):
            return None, text  # 3\frac{1}{2} is a mixed number, 3\frac{5}{2} is not
        return Number(int(whole or 0) + Fraction(over) / Fraction(under)), text[match.end() :]
    match = _DECIMAL.match(text)
    whole, point = match["whole"], match["point"] or ""
    if whole is None and len(point) < 2:
        return None, text
    if whole and whole.count(".") > 1:
        whole = whole.replace(".", "")
    whole = re.sub("[,' _\u2009]", "", whole or "0")
    exponent = int(match["e"] or match["p"] or match["q"] or 0)
    digits = len((whole + point[1:]).lstrip("0")) if len(point) > 1 and not exponent else 0
    value = Fraction(f"{whole}{point if len(point) > 1 else ''}") * Fraction(10) ** exponent
    return Number(value, digits=digits, decimals=len(point) - 1 if digits else 0), text[match.end() :]


def _fraction_parts(groups: tuple) -> tuple[str | None, str, str]:
    latex_whole, *latex, plain_whole, plain_over, plain_under = groups
    if plain_under is not None:
        return plain_whole, plain_over, plain_under
    over, under = (part for part in latex if part is not None)
    return latex_whole, over, under


def _with_rest(number: Number, rest: str) -> Number | None:
    """`number` with the magnitude, the percent sign and the unit behind it; `None` for anything else there."""
    attached = rest[:1] not in (" ", "\u2009", "")
    if attached and rest[:1] in "kK" and len(rest.strip()) == 1:
        return number._replace(value=number.value * 1000, digits=0)
    rest = rest.strip()
    if not rest or (attached and rest in ("st", "nd", "rd", "th")):
        return number
    magnitude = _MAGNITUDE.match(rest)
    if magnitude:
        factor = _MAGNITUDES[(magnitude[1] or magnitude[0]).lower()]
        number, rest = number._replace(value=number.value * factor, digits=0), rest[magnitude.end() :].strip()
        attached = False
    percent = _PERCENT.match(rest)
    if percent:
        return number._replace(percent=True) if not rest[percent.end() :].strip(" .") else None
    degrees = _DEGREES.match(rest)
    if degrees:
        scale = rest[degrees.end() :].strip(" {}")
        return number._replace(unit=f"degrees {scale}".strip()) if scale in ("", "C", "F", "K") else None
    rest = rest.rstrip(_CURRENCY + "\\ ").lstrip("\\ " if rest.startswith("\\ ") else " ")
    if not rest:
        return number
    unit = plain_unit(rest)
    known = unit is not None and (unit in _SYMBOLS or unit.rstrip("23") in _SPELLINGS.values())
    may_touch = rest.startswith("/") or (known and len(rest) > 1) or not rest.isascii()
    if unit is None or (attached and not may_touch):
        return None  # 5x is no number; 5m is as well a variable, and 18m is as well 18 million
    return number._replace(unit=unit if known else None)


def plain_unit(text: str) -> str | None:
    """The unit that `text` is, in one spelling, or `None`: no magnitude, no hedge, no variable."""
    if _CHINESE_UNIT.fullmatch(text):
        return None if _NOT_A_CHINESE_UNIT.search(text) else text
    power = _UNIT_POWER.search(text)
    words = text[: power.start()] if power else text
    words = words.strip().rstrip(".").strip()
    if words in _SYMBOLS:
        return words
    if not _UNIT.fullmatch(words) or (len(words) == 1 and words.isupper()):
        return None
    spread = _SPREAD.match(words.lower())
    known = _SPELLINGS.get(words.lower()[spread.end() :] if spread else words.lower())
    if spread and known:
        return known + {"s": "2", "c": "3"}[spread[0][0]]
    if known is None:
        short = {word for word in re.findall("[a-z]+", words.lower()) if len(word) <= 2}
        if not short <= _SHORT_WORDS | _SPELLINGS.keys():
            return None
        longer = re.sub(r"\b[a-z]{1,2}\b", "", words, flags=re.IGNORECASE)
        if _NOT_A_UNIT.search(longer) or not (longer.strip() or short <= _SPELLINGS.keys()):
            return None
    return (known or words.lower()) + (re.sub(r"\D", "", power[0]) if power else "")


def same_number(one: Number, other: Number) -> bool:
    """Exact equality; a percentage equals only a percentage, and two known units must be the same.

    A decimal of 12 or more significant digits that agrees with the other number to its last digit is that number
    printed as a float: 0.0833333333333333 is 1/12, 0.333 is not 1/3.
    """
    if one.percent != other.percent or (one.unit and other.unit and one.unit != other.unit):
        return False
    if one.value == other.value:
        return True
    decimal, exact = (one, other) if one.digits else (other, one)
    if decimal.digits < 12 or exact.digits:
        return False
    return exact.value.denominator > 1 and abs(one.value - other.value) * 10**decimal.decimals < 1
