"""Answers, case by case: tests/cases/*.tsv, one case a line with a word of why; and what holds for every text.

A line of equivalent.tsv is verdict, candidate, gold, why; the verdict is yes, no or none (an unusable gold). A line of
extracted.tsv is mode, text, answer, why: `strict` or `lenient`, the answer letter by letter, `-` for none; behind a `~`
the answer is compared by `is_equivalent`, where the exact text is a matter of taste. `⏎` stands for a newline.
"""

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewards import extract_answer, is_equivalent


def read_cases(name: str) -> list[tuple[str, ...]]:
    """The table's rows, the section's heading first."""
    rows, section = [], ""
    # Not splitlines(): it would also cut at the odd separators that stand within a text.
    for line in (Path(__file__).parent / "cases" / name).read_text(encoding="utf-8").split("\n"):
        if line.startswith("# "):
            section = line[2:]
        elif line:
            rows.append((section, *line.replace("⏎", "\n").split("\t")))
    return rows


EQUIVALENT = read_cases("equivalent.tsv")
EXTRACTED = read_cases("extracted.tsv")
HOSTILE = "Hostile answers"
WORKED = "Worked solutions as gold"  # the only golds that are no answers themselves


def cases(rows: list[tuple[str, ...]]) -> list:
    return [pytest.param(*row[1:], id=f"{row[0]}: {row[1]}, {row[-1]}") for row in rows]


def test_the_tables_hold_at_least_500_cases_each_with_a_why_and_none_twice():
    assert len(EQUIVALENT) >= 450
    assert len(EXTRACTED) >= 150
    assert [row for row in EQUIVALENT + EXTRACTED if len(row) != 5 or not all((row[0], row[1], row[4].strip()))] == []
    assert {row[1] for row in EQUIVALENT} == {"yes", "no", "none"}
    assert {row[1] for row in EXTRACTED} == {"strict", "strict~", "lenient", "lenient~"}
    pairs = Counter(frozenset(row[2:4]) for row in EQUIVALENT)
    texts = Counter((row[1].startswith("lenient"), row[2]) for row in EXTRACTED)
    assert [case for case, count in (pairs | texts).items() if count > 1] == []


@pytest.mark.parametrize(("mode", "text", "answer", "why"), cases(EXTRACTED))
def test_the_answer_is_found(mode, text, answer, why):
    found = extract_answer(text, lenient=mode.startswith("lenient"))
    if answer == "-":
        assert found is None, why
    elif mode.endswith("~"):
        assert is_equivalent(found, answer) is True, f"{why}: {found!r}"
    else:
        assert found == answer, why


@pytest.mark.parametrize(
    ("verdict", "candidate", "gold", "why"), cases([row for row in EQUIVALENT if row[0] != HOSTILE])
)
def test_the_verdict(verdict, candidate, gold, why):
    assert is_equivalent(candidate, gold) is {"yes": True, "no": False, "none": None}[verdict], why


@pytest.mark.parametrize(
    ("verdict", "candidate", "gold", "why"),
    cases([row for row in EQUIVALENT if row[0] not in (HOSTILE, WORKED) and row[1] != "none"]),
)
def test_the_verdict_the_other_way_round(verdict, candidate, gold, why):
    turned = is_equivalent(gold, candidate)
    # What is wrong as an answer may be no usable gold at all: a hedge, nothing, a false chain.
    assert turned is True if verdict == "yes" else turned is not True, why


@pytest.fixture(scope="module")
def warm():
    """The first symbolic check starts a worker: not what is timed here."""
    is_equivalent("(x+1)^2", "x^2+2x+1")


@pytest.mark.parametrize(
    ("verdict", "candidate", "gold", "why"), cases([row for row in EQUIVALENT if row[0] == HOSTILE])
)
def test_a_hostile_answer_is_wrong_and_bounded(verdict, candidate, gold, why, warm):
    start = perf_counter()
    assert is_equivalent(candidate, gold, timeout=0.5) is False, why
    assert perf_counter() - start < 1.5, why  # the deadline, half a second, and as much for a busy machine


def test_every_usable_gold_equals_itself():
    golds = dict.fromkeys(row[3] for row in EQUIVALENT if row[1] != "none" and row[0] not in (HOSTILE, WORKED))
    unlike = [gold for gold in golds if is_equivalent(gold, gold) is not True]
    assert not unlike, "\n".join(unlike)


SECTIONS = {}
for row in EQUIVALENT:
    if row[0] not in (HOSTILE, WORKED) and row[1] != "none":
        SECTIONS.setdefault(row[0], []).extend(row[2:4])


# Two texts of one section are alike enough for a verdict to go astray.
@settings(max_examples=100)
@given(st.sampled_from(list(SECTIONS.values())).flatmap(lambda texts: st.tuples(*[st.sampled_from(texts)] * 2)))
def test_the_verdict_is_the_same_both_ways(pair):
    one, other = is_equivalent(*pair), is_equivalent(*reversed(pair))
    if one is not None and other is not None:
        assert one == other


FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
SPELLINGS = {
    "plain": str,
    "commas": "{:,}".format,
    "braced commas": lambda number: f"{number:,}".replace(",", "{,}"),
    "negative spaces": lambda number: f"{number:,}".replace(",", ",\\!"),
    "thin spaces": lambda number: f"{number:,}".replace(",", "\\,"),
    "plain spaces": lambda number: f"{number:,}".replace(",", " "),
    "no-break spaces": lambda number: f"{number:,}".replace(",", "\u00a0"),
    "apostrophes": lambda number: f"{number:,}".replace(",", "'"),
    "trailing zero": "{}.0".format,
    "trailing zeros": "{:,}.00".format,
    "full-width": lambda number: str(number).translate(FULL_WIDTH),
    "typographic minus": lambda number: str(number).replace("-", "−"),
}
DRESSES = [
    "%s",
    "$%s$",
    "$$%s$$",
    "\\(%s\\)",
    "\\[%s\\]",
    "\\boxed{%s}",
    "$\\boxed{%s}$",
    "\\text{%s}",
    "**%s**",
    "**$%s$**",
    "%s.",
    "%s apples",
    "%s\\text{ cm}",
    "%s \\text{ cm}^2",
    "$%s$ dollars",
    "x = %s",
    "$x = %s$",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=25)
@given(
    number=st.integers(-(10**12), 10**12),
    dress=st.sampled_from(DRESSES),
    before=st.sampled_from(["", " ", "\n"]),
    after=st.sampled_from(["", " ", " \n"]),
)
def test_a_number_stays_itself_in_any_spelling_and_dress(spelling, number, dress, before, after):
    written = before + dress % SPELLINGS[spelling](number) + after
    assert is_equivalent(written, str(number)) is True
    assert is_equivalent(str(number), written) is True
    assert is_equivalent(written, str(number + 1)) is False
    assert is_equivalent(written, str(number * 1000 + 500)) is False


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 10**4), st.booleans())
@example(4, 3, False)
@example(1, 2, True)
@example(0, 7, False)
def test_a_fraction_stays_itself_in_any_spelling(above, below, negative):
    sign = "-" if negative else ""
    gold = str(Fraction(-above if negative else above, below))
    other = str(Fraction(-above if negative else above, below) + 1)
    spellings = [f"{sign}{above}/{below}", f"{sign}{above} / {below}", f"$\\frac{{{sign}{above}}}{{{below}}}$"]
    spellings += [f"{sign}\\{command}{{{above}}}{{{below}}}" for command in ("frac", "dfrac", "tfrac", "cfrac")]
    spellings += [f"\\frac{{{above}}}{{{sign}{below}}}", f"\\left({sign}\\frac{{{above}}}{{{below}}}\\right)"]
    if above < 10 and below < 10:
        digits = (f"\\frac{above}{below}", f"\\frac {above} {below}", f"\\dfrac{above}{below}")
        spellings += [sign + text for text in (*digits, f"\\frac{above}{{{below}}}", f"\\frac{{{above}}}{below}")]
    for spelling in spellings:
        assert is_equivalent(spelling, gold) is True, spelling
        assert is_equivalent(spelling, other) is False, spelling


@settings(max_examples=40)
@given(st.integers(1, 500), st.integers(1, 98), st.integers(1, 98), st.booleans())
def test_a_mixed_number_is_a_sum_in_any_spelling(whole, above, more, negative):
    below = above + more
    value = (whole + Fraction(above, below)) * (-1 if negative else 1)
    sign = "-" if negative else ""
    for fraction in (f" {above}/{below}", f"\\frac{{{above}}}{{{below}}}", f" \\tfrac{{{above}}}{{{below}}}"):
        assert is_equivalent(f"{sign}{whole}{fraction}", str(value)) is True, fraction
        assert is_equivalent(f"{sign}{whole}{fraction}", str(value + 1)) is False, fraction


@settings(max_examples=40)
@given(st.integers(-(10**6), 10**6), st.integers(1, 4), st.integers(-9, 9))
def test_a_decimal_is_exact_in_scientific_notation(digits, places, exponent):
    mantissa = f"{Decimal(digits).scaleb(-places):f}"
    value = Fraction(digits, 10**places) * Fraction(10) ** exponent
    for sign in ("\\times 10^", "\\cdot 10^", "*10^", " × 10^"):
        assert is_equivalent(f"{mantissa}{sign}{{{exponent}}}", str(value)) is True, sign
    assert is_equivalent(f"{mantissa}e{exponent}", str(value)) is True
    assert is_equivalent(f"{mantissa}E{exponent:+d}", str(value)) is True
    assert is_equivalent(f"{mantissa}e{exponent}", str(value + Fraction(1, 10**20))) is False


@settings(max_examples=30)
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=4, unique=True), st.randoms(use_true_random=False))
def test_a_set_has_no_order_and_a_tuple_has_one(numbers, random):
    shuffled = random.sample(numbers, len(numbers))
    text, other = ", ".join(map(str, numbers)), ", ".join(map(str, shuffled))
    assert is_equivalent(f"\\{{{other}\\}}", f"\\{{{text}\\}}") is True
    assert is_equivalent(other, text) is True
    assert is_equivalent(f"({other})", f"({text})") is (shuffled == numbers)
    assert is_equivalent(f"{other}, 100", text) is False
    assert is_equivalent(str(numbers[0]), text) is False


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)  # lone surrogates and NUL too
FRAGMENTS = r"""
\frac \frac{ \sqrt \sqrt[3]{ \boxed{ \text{ \left( \right) \left \pm \cdot \times \le \approx \cup \infty \pi \binom{
\sum_{ \begin{pmatrix} \end{pmatrix} \\ \{ \} \% \$ \, \! ^\circ ^{ ^ _ { } ( ) [ ] | ! $ $$ , . : ; = < > + -
− * / & % # ~ 1 2 3 12 0.5 1,234 １ ½ ² x y i e e1 cm and or not -1 million <answer> </answer> <think> </think>
#### Answer: 答案是 。
""".split()
PIECES = st.sampled_from([*FRAGMENTS, " ", "\n", "\0", "\ud800", "\u202e", "\u00a0"])
LATEX_TEXT = st.lists(PIECES, max_size=14).map("".join)


@settings(max_examples=60)
@given(ANY_TEXT | LATEX_TEXT, ANY_TEXT | LATEX_TEXT | st.sampled_from(["42", "x+1", "(1,2)", "\\{1,2\\}", "C", "x>5"]))
def test_any_two_texts_have_a_verdict(candidate, gold):
    assert is_equivalent(candidate, gold, timeout=0.3) in (True, False, None)


@settings(max_examples=300)
@given(ANY_TEXT | LATEX_TEXT, st.booleans())
def test_what_is_extracted_is_stripped_and_stands_in_the_text(text, lenient):
    answer = extract_answer(text, lenient=lenient)
    if answer is not None:
        assert answer
        assert answer == answer.strip()
        assert set(answer) - set(" ,or") <= set(text)  # boxes side by side are joined to a list


MARKERS = ["<answer>%d</answer>", "\\boxed{%d}", "\n#### %d", "\nThe answer is %d.", "\nAnswer: %d", "\n答案是%d。"]


@pytest.mark.parametrize("marker", MARKERS)
@settings(max_examples=50)
@given(st.integers(-(10**9), 10**9), st.text("abc xyz,\n", max_size=30), st.text("abc xyz\n", max_size=30))
def test_a_marker_is_found_among_any_words(marker, number, before, after):
    thought, rest = f"{before} \\boxed{{{number + 1}}}", f"{before}{marker % number}\n{after}"
    assert extract_answer(f"<think>{thought}</think>{rest}") == str(number)
    assert extract_answer(f"<think>{thought}</think>{rest}", lenient=True) == str(number)
    assert extract_answer(f"<think>{thought}{rest}") is None
