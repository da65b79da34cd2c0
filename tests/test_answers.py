"""Find the final answer, and compare it in exact arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import correctness_reward, extract_answer, is_equivalent


@pytest.mark.parametrize(
    ("text", "answer", "why"),
    [
        ("<think>12+7=19</think><answer>19</answer>", "19", "the plain form"),
        ("<answer>18</answer>", "18", "no thought is needed"),
        ("So she has 72.\n#### 72", "72", "GSM8K's marker"),
        ("Thus \\boxed{42}.", "42", "LaTeX"),
        ("\\boxed{\\frac{3}{4}}", "\\frac{3}{4}", "nested braces"),
        ("**Answer:** 18", "18", "the heading that chat models like"),
        ("The final answer is: 18 dollars", "18 dollars", "in words"),
        ("The answer is 18.\nBye", "18", "to the end of the line"),
        ("The answer is 18 apples. Done", "18 apples", "to the end of the sentence"),
        ("The answer is 18.5 apples", "18.5 apples", "a decimal point ends no sentence"),
        ("The answer is 18 dollars, since 6*3=18", "18 dollars", "up to its reason"),
        ("The answer is 41, or 42", "41, or 42", "a hedge stays whole"),
        ("<answer>5</answer> The answer is correct.", "5", "a phrase without a digit says nothing"),
        ("#### 5 < 6", "5 < 6", "a comparison stays whole"),
        ("The answer is 72.\n\n#### Check", "72", "a heading is no answer"),
        ("\\boxed {18}", "18", "a space before the brace"),
        ("The answer is:\n\n$$18$$", "$$18$$", "on a line of its own"),
        ("Answer:\n18", "18", "on the next line"),
        ("\\boxed{41} no wait, \\boxed{42}", "42", "the last marker wins"),
        ("#### 41\n<answer>42</answer>", "42", "whatever its kind"),
        ("<answer>The answer is 42</answer>", "42", "a marker within a marker"),
        ("<answer>$\\boxed{42}$</answer>", "42", "a box within the tags"),
        ("14", "14", "nothing but one number"),
        ("<think>so</think>\n14\n", "14", "nothing but one number after the thought"),
        ("<think>the answer is 19</think> I do not know.", None, "only inside the thinking"),
        ("<think>the answer is 19. #### 19", None, "an unclosed thought"),
        ("<think>a</think><answer>1</answer><think>no", None, "a second thought, unclosed"),
        ("I bought 3 apples for 4 dollars", None, "no marker"),
        ("<answer>12", None, "cut off inside the answer"),
        ("\\boxed{12", None, "cut off inside the box"),
        ("<answer></answer>", None, "empty"),
        ("", None, "nothing"),
    ],
)
def test_the_last_explicit_marker_after_the_thinking_is_the_answer(text, answer, why):
    assert extract_answer(text) == answer, why


@pytest.mark.parametrize(
    ("candidate", "gold", "why"),
    [
        ("72", "#### 72", "a worked solution as gold"),
        ("72", 72, "an int"),
        ("0.5", 0.5, "a float"),
        ("72.00", "72", "trailing zeros"),
        ("1,234", "1234", "thousands"),
        ("10{,}000", "10000", "LaTeX thousands"),
        ("$18", "18", "dollars"),
        ("\\$18", "18", "escaped dollars"),
        ("**18**", "18", "bold"),
        ("18 dollars per day", "18", "a unit of several words"),
        ("18 cm", "18", "a unit"),
        ("90°", "90", "degrees"),
        ("1/2", "0.5", "a fraction"),
        ("\\frac{1}{2}", "0.5", "a LaTeX fraction"),
        ("−5", "-5", "a typographic minus"),
        ("- 5", "-5", "a minus set apart"),
        ("-$5", "-5", "a minus before the currency"),
        ("4.2e1", "42", "scientific"),
        ("１８", "18", "full-width digits"),
        ("42%", "42%", "percent on both sides"),
        ("42\\%", "42%", "escaped percent"),
        ("\\text{42}", "42", "LaTeX text"),
        ("5\\text{ cm}", "5", "a LaTeX unit"),
        ("$42$", "42", "math"),
        ("**$42$.**", "42", "math in bold"),
        ("\\(42\\)", "42", "inline math"),
        ("10\\,000", "10000", "thousands by a thin space"),
        ("10,\\!000", "10000", "thousands by a comma and a negative space"),
        ("18 square feet", "18", "a unit of two words"),
        ("12 quarters", "12", "coins"),
        ("5 times", "5", "a count"),
        ("18 more apples", "18", "a difference"),
        ("20 party hats", "20", "a word that ends like a number word"),
        ("5 pounds of beef", "5", "a unit of something"),
        ("18 apples in total", "18", "a unit and a remark"),
        ("$18/hour", "18", "a rate"),
        ("18 km/h", "18", "a rate"),
        ("5 m", "5", "a unit of one letter"),
        ("18 €", "18", "the currency behind"),
        ("٤٢", "42", "digits of another script"),
    ],
)
def test_the_same_number_in_another_dress_is_right(candidate, gold, why):
    assert is_equivalent(candidate, gold) is True, why


@pytest.mark.parametrize(
    ("candidate", "gold", "why"),
    [
        ("41", "42", "another number"),
        ("41 or 42", "42", "a hedge"),
        ("41, 42", "42", "a list"),
        ("42 or so", "42", "a hedge in words"),
        ("not 42", "42", "a negation"),
        ("4200%", "42", "percent on one side"),
        ("42%", "42", "percent on one side"),
        ("42 thousand", "42", "a magnitude changes the value"),
        ("2 dozen", "2", "a magnitude changes the value"),
        ("42k", "42", "a magnitude changes the value"),
        ("41=42", "42", "a false chain"),
        ("42 \\approx 41", "42", "an approximation"),
        ("42x", "42", "an expression"),
        ("5-", "5", "no number"),
        ("1,23", "123", "no thousands separator"),
        ("1/0", "0", "undefined"),
        ("", "42", "nothing"),
        (None, "42", "no answer"),
        ("4" * 100_000, "4", "beyond Python's own limit for ints"),
        ("4²", "42", "a power"),
        ("10²", "102", "a power"),
        ("4**2", "42", "a power"),
        ("4$2", "42", "two numbers"),
        ("4\\(2", "42", "two numbers"),
        ("4\\text{2}", "42", "two numbers"),
        ("4\\,2", "42", "two numbers"),
        ("42 point five", "42", "another number"),
        ("42 squared", "42", "a power"),
        ("42 per cent", "42", "percent on one side"),
        ("42 maybe forty", "42", "a hedge"),
        ("42 mil", "42", "a magnitude"),
        ("2 lakh", "2", "a magnitude"),
        ("42 i", "42", "a complex number"),
        ("42-seven", "42", "a range"),
        ("42 negative", "42", "a sign in words"),
        ("5 plus three", "5", "a sum"),
        ("5 minus two", "5", "a difference"),
        ("5 less than six", "5", "a comparison"),
        ("5 otherwise six", "5", "a hedge"),
        ("5 factorial", "5", "another number"),
        ("5 < 6", "5", "a comparison"),
        ("3 eighths", "3", "a fraction"),
        ("3 hundredths", "3", "a fraction"),
        ("18 zillion", "18", "a magnitude"),
        ("18 gross", "18", "a magnitude"),
        ("18m", "18", "a magnitude, perhaps"),
        ("18 pct", "18", "percent on one side"),
        ("18 is false", "18", "a denial"),
        ("~18", "18", "an approximation"),
        ("5 more than six", "5", "a comparison"),
        ("5 times six", "5", "a product"),
        ("1 half", "1", "a fraction"),
        ("1 over two", "1", "a fraction"),
        ("42 is what I would say if pressed", "42", "a sentence"),
        ("1e999999999", "1", "an exponent that would fill the memory"),
    ],
)
def test_anything_else_is_wrong(candidate, gold, why):
    assert is_equivalent(candidate, gold) is False, why


@pytest.mark.parametrize(
    "gold",
    ["unknown", "", "####", "\\frac{1}{", float("nan"), float("inf"), None, pytest.param(10**5000, id="5,001 digits")],
)
def test_a_gold_that_is_no_number_judges_nothing(gold):
    assert is_equivalent("42", gold) is None


@given(st.integers(-(10**12), 10**12))
def test_a_number_equals_itself_however_it_is_written(number):
    for written in (f"{number}", f"{number:,}", f"${number:,}.00", f" {number} apples.", f"**{number}**"):
        assert is_equivalent(written, number) is True
        assert is_equivalent(str(number + 1), written) is False


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_fractions_are_compared_exactly_and_both_ways(a, b):
    def text(x: Fraction):
        return f"{x.numerator}/{x.denominator}"

    assert is_equivalent(text(a), text(b)) == is_equivalent(text(b), text(a)) == (a == b)


@given(st.text(max_size=300), st.text(max_size=30))
def test_no_text_raises(text, gold):
    extract_answer(text)
    is_equivalent(extract_answer(text), gold)


@given(st.text(alphabet="0123456789<>/answerthinkboxed{}#\\. \n", max_size=120))
def test_text_made_of_marker_pieces_never_raises_and_never_answers_blank(text):
    answer = extract_answer(text)
    assert answer is None or answer.strip()


@pytest.mark.parametrize(
    "piece", ["\\boxed{", "<answer>", "</think>", "<think>", "answer is ", "#### ", "{", "1", "\0", "\ud800"]
)
def test_megabytes_of_a_marker_do_not_raise(piece):
    extract_answer(piece * 500_000)


@pytest.mark.parametrize(
    "text",
    [
        "-\\boxed{42}",
        "$\\boxed{42}\\pi$",
        "$\\boxed{42}\\sqrt{2}$",
        "\\boxed{42},000",
        "\\boxed{42}.5",
        "$\\boxed{42}\\times10^3$",
        "$x\\neq\\boxed{42}$",
        "$x>\\boxed{42}$",
        "$\\pm\\boxed{42}$",
        "$4\\boxed{42}$",
        "<answer>41, \\boxed{42}</answer>",
        "<answer>41 or \\boxed{42}</answer>",
        "<answer>\\boxed{42}, 41</answer>",
        "<answer>41 \\boxed{42}</answer>",
        "\\boxed{41}; \\boxed{42}",
        "\\boxed{41} / \\boxed{42}",
        "\\boxed{41} | \\boxed{42}",
        "either \\boxed{41} or maybe \\boxed{42}",
        "\\boxed{41 \\boxed{42}}",
        "The answer is either 41 or \\boxed{42}",
        "The answer is not \\boxed{42}.",
        "It is not \\boxed{42}.",
        "\\boxed{42}. No, 41.",
        "\\boxed{42} cannot be right.",
        "The answer is 42. Or 41.",
        "I don't think the answer is 42.",
        "The wrong answer is 42.",
        "Wrong answer: 42",
        "错误的答案是42",
        "Suppose the answer is 42.",
        "Twice the answer is 42.",
        "Answer: not what is 42",
        "The answer is: no idea, it is 42",
        "<Think>\\boxed{42}",
        "<THINK>\\boxed{42}</THINK>",
        "<think >\\boxed{42}</think >",
        "<thinking>\\boxed{42}</thinking> no",
        "<answer>42</answer> is wrong",
    ],
)
def test_a_hedge_across_markers_a_denial_or_a_part_of_an_expression_is_not_paid(text):
    assert correctness_reward(completions=[text], answer=["42"]) == [0.0]


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 42<|endoftext|>",
        "#### 42<|eot_id|>",
        "The answer is 42.<|im_end|>",
        "The answer is **42** apples.",
        "The answer is:\n- $x = 42$",
        "The answer is:\n```\n42\n```",
        "The answer is therefore 42.",
        "The answer would be 42.",
        "The answer should be 42.",
        "\\boxed 42",
        "The answer to 3.5 x 12 is 42.",
        "答案等于42",
        "\\boxed{42}!",
        "$x = \\boxed{42}$",
        "<answer>$\\boxed{42}$</answer>",
        "The answer is \\boxed{42}.",
        "It is not 41, so the answer is 42.",
        "\\boxed{42}\n\\boxed{}",
        "- \\boxed{42}",
        "<think>a</think>\n\n**Final Answer:** \\(\\boxed{42}\\)",
        "so $6\\cdot7=\\boxed{42}$.",
        "**Answer: 42**",
        "\\[ \\boxed{42} \\]",
        "$\\boxed{42 \\text{ hours}}$",
        "\\boxed{42}\\%",
        "Thus there are $\\boxed{42}$ ways.",
        "<think>x</think><answer>42</answer>",
        "I think hard.\n#### 42",
        "$5 - \\boxed{42}$",
        "(\\boxed{42})",
        "\\boxed{42}, as wanted.",
        "\\boxed{42}. Or, in words, forty-two.",
        "The answer is 42, not 41.",
    ],
)
def test_the_ordinary_endings_of_models_are_paid(text):
    assert correctness_reward(completions=[text], answer=["42"]) == [1.0]
