"""The reward for the right option and no other."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import multiple_choice_reward

CITIES = ["Rome", "Paris", "Berlin", "Oslo"]


def judge(completion, gold, options=None):
    columns = {} if options is None else {"options": [options]}
    return multiple_choice_reward(completions=[completion], answer=[gold], **columns)[0]


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        ("B", "the letter"),
        ("b", "in lower case"),
        (" B\n", "with space"),
        ("B.", "with a stop"),
        ("B)", "with half a bracket"),
        ("(B)", "in brackets"),
        ("(b)", "in brackets, in lower case"),
        ("[B]", "in other brackets"),
        ("**B**", "in bold"),
        ("Ｂ", "full-width"),
        ("Option B", "by its title"),
        ("choice (b)", "by another"),
        ("B) because the seats are numbered", "with a reason"),
        ("<think>A or C?</think><answer>B</answer>", "the tags"),
        ("<think>A or C?</think>\n\nB", "nothing else after the thinking"),
        ("\\boxed{B}", "the box"),
        ("\\boxed{\\textbf{(B)}}", "the box, as in AMC"),
        ("The answer is B.", "in words"),
        ("The answer is (B), since A is too large.", "in words, with a reason"),
        ("The correct option is B", "in other words"),
        ("<answer>It is B</answer>", "a sentence"),
        ("<answer>B, a mammal</answer>", "an article is no option"),
        ("答案是B。", "in Chinese"),
        ("#### B", "GSM8K's marker"),
        ("选B", "in Chinese, by a verb"),
        ("答案是选项B", "in Chinese, by its title"),
        ("<answer>正确答案是B</answer>", "in Chinese, within the tags"),
        ("B选项正确", "in Chinese, affirmed"),
        ("The answer is B because Paris is the capital of France.", "in words, with a long reason"),
        ("The correct answer is B because A is too small.", "a reason that rules another out"),
        ("B is correct", "affirmed"),
        ("(B) is the correct answer.", "affirmed in other words"),
        ("Therefore, option B is correct.", "concluded and affirmed"),
        ("I think B", "an opinion"),
        ("**B** – Paris", "in bold, before a dash"),
        ("$\\textbf{(B)}$ Paris", "in LaTeX, before its text"),
        ("B (Paris)", "its text in brackets"),
        ("B - Paris", "its text behind a hyphen"),
        ("B：巴黎", "its text behind a full-width colon"),
        ("B. A cat", "a capital article is no option"),
        ("\u200eB\u200f", "marks of direction around it"),
        ("<answer>\ufeffB\u200b</answer>", "invisible characters around it"),
        ("B\u2060\u00ad\u061c. Paris", "invisible characters behind it"),
        ("<answer>A</answer> No: <answer>B</answer>", "the last marker wins"),
        ("B, B", "the same twice"),
        ([{"role": "assistant", "content": "B"}], "a message"),
        ([{"role": "assistant", "content": "B", "reasoning_content": "A?"}], "the thought set aside"),
    ],
)
@pytest.mark.parametrize("options", [None, CITIES])
def test_an_option_is_named_by_its_letter(completion, why, options):
    assert judge(completion, "B", options) == 1.0, why


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        ("A", "another option"),
        ("F", "no option"),
        ("", "nothing"),
        ([], "no message"),
        ("A or B", "a hedge"),
        ("B or A", "the right one first"),
        ("B and A", "both"),
        ("B, A", "a list"),
        ("A/B", "a list"),
        ("B|A", "a list"),
        ("AB", "a list, or a word"),
        ("B A", "a list"),
        ("(B)(A)", "a list"),
        ("<answer>B. A.</answer>", "a list"),
        ("<answer>B) A) C) D)</answer>", "every option"),
        ("<answer>A, B, C, D, E</answer>", "every option"),
        ("<answer>B\nA</answer>", "on two lines"),
        ("<answer>(B), or perhaps (a)</answer>", "a hedge in brackets"),
        ("<answer>B is likely, or A</answer>", "a hedge in a sentence"),
        (f"<answer>B{' ' * 3000}A</answer>", "a list with a long gap"),
        ("The answer is A or B.", "a hedge in words"),
        ("B, maybe A", "a hedge behind a comma"),
        ("<answer>B, maybe A</answer>", "a hedge within the tags"),
        ("B, possibly A, possibly C, possibly D", "a hedge on every option"),
        ("B, else A, else C, else D", "every option in turn"),
        ("B: or rather A", "a change of mind"),
        ("B. It could also be C.", "a hedge in a second sentence"),
        ("B. Alternatively C", "an alternative"),
        ("B. Also a", "a small letter at the end"),
        ("b. it could also be c", "small letters throughout"),
        ("B, but A fits too", "A before a verb is no article"),
        ("B: ruled out. A", "ruled out"),
        ("B. Correct is A", "the second is said to be right"),
        ("B is correct. A is correct.", "both affirmed"),
        ("B because it could be A", "a reason that hedges"),
        ("B because it rains. Or A", "a hedge behind a reason"),
        ("B - A", "the other behind a hyphen"),
        ("B (A)", "the other in brackets"),
        ("B，也可能是A", "a hedge in Chinese"),
        ("选B或A", "a list in Chinese"),
        ("B\u200bA", "a list with nothing to see between"),
        ("\u202eB", "an override of direction"),
        ("B is wrong", "a denial"),
        ("B is not correct", "a denial"),
        ("B. That isn't right.", "a denial in a second sentence"),
        ("B: ruled out", "a denial"),
        ("B是错的", "a denial in Chinese"),
        ("<answer>B) is not it</answer>", "a denial"),
        ("not B", "a denial"),
        ("I like B", "a sentence without a marker"),
        ("Bravo", "a word"),
        ("<think>B</think>", "only thought"),
        ("<think>B", "an unclosed thought"),
        ("<answer>B</answer> is wrong", "taken back"),
        ("В", "Cyrillic"),
    ],
)
def test_another_option_or_several_earn_nothing(completion, why):
    assert judge(completion, "B") == 0.0, why


@pytest.mark.parametrize(
    "options",
    [
        CITIES,
        tuple(CITIES),
        dict(zip("ABCD", CITIES, strict=True)),
        dict(zip("abcd", CITIES, strict=True)),
        {"label": list("ABCD"), "text": CITIES},  # ARC
    ],
)
def test_an_option_is_named_by_its_text(options):
    for completion in ("Paris", "paris.", "**Paris**", "<answer>Paris</answer>", "\\boxed{\\text{Paris}}"):
        assert judge(completion, "B", options) == judge(completion, "Paris", options) == 1.0
        assert judge(completion, "A", options) == judge(completion, "rome", options) == 0.0
    assert judge("B", " PARIS", options) == judge("B", "(b)", options) == judge("B", "B. Paris", options) == 1.0


@pytest.mark.parametrize(
    ("completion", "expected", "why"),
    [
        ("B. Paris", 1.0, "letter and text"),
        ("(B) Paris", 1.0, "letter and text"),
        ("Option B: Paris", 1.0, "letter and text"),
        ("B Paris", 1.0, "letter and text"),
        ("Paris (B)", 1.0, "text and letter"),
        ("The answer is (B) Paris.", 1.0, "in words"),
        ("<answer>B. Paris, because Rome is in Italy</answer>", 1.0, "a reason that names another"),
        ("B. Rome", 0.0, "the letter beside another's text"),
        ("A. Paris", 0.0, "the text beside another's letter"),
        ("Paris (A)", 0.0, "the text beside another's letter"),
        ("Paris is correct.", 1.0, "the text affirmed"),
        ("<answer>Paris, because Rome is in Italy</answer>", 1.0, "the text with a reason"),
        ("Paris or Rome", 0.0, "a hedge"),
        ("B. Paris, but Oslo fits too", 0.0, "a hedge by another's text"),
        ("B. or rather Oslo", 0.0, "a change of mind, by text"),
        ("B. Berliners", 1.0, "a part of a word names nothing"),
        ("B是 OSLO", 0.0, "no option begins it, and another is named"),
        ("B. PARIS, then OSLO", 0.0, "case does not hide another"),
        ("<answer>B. Paris, or Rome</answer>", 0.0, "a hedge behind a letter"),
        ("<answer>B) Paris Rome Berlin Oslo</answer>", 0.0, "every option behind a letter"),
        ("Rome, Paris, Berlin, Oslo", 0.0, "every option"),
        ("<answer>the capital is Paris</answer>", 0.0, "a sentence names none"),
        ("<answer>B) not Paris</answer>", 0.0, "a denial"),
        ("Paris, Texas", 0.0, "more than the text"),
        ("Parisian", 0.0, "a longer word"),
        ("Madrid", 0.0, "no option"),
        ("E", 0.0, "no option"),
    ],
)
def test_letter_and_text_must_agree(completion, expected, why):
    assert judge(completion, "B", CITIES) == expected, why


@pytest.mark.parametrize(
    ("completion", "gold", "options", "expected", "why"),
    [
        ("A cat", "A", ["A cat", "A dog"], 1.0, "a text that begins like a letter"),
        ("A dog", "A", ["A cat", "A dog"], 0.0, "which is no letter"),
        ("B. A dog", "B", ["A cat", "A dog"], 1.0, "beside its letter"),
        ("B. A cat", "B", ["A cat", "A dog"], 0.0, "beside another's"),
        ("B. Vitamin C", "B", ["Vitamin A", "Vitamin C", "Zinc"], 1.0, "a text that ends like a letter"),
        ("C. Both A and B", "C", ["one", "two", "both A and B"], 1.0, "a text that names the others"),
        ("Both A and B", "C", ["one", "two", "both A and B"], 1.0, "by itself"),
        ("A and B", "C", ["one", "two", "both A and B"], 0.0, "in other words"),
        ("New York City", "B", ["New York", "New York City"], 1.0, "the longer text wins"),
        ("B. -5", "B", ["5", "-5"], 1.0, "a sign"),
        ("5", "B", ["5", "-5"], 0.0, "a sign"),
        ("\\boxed{4}", "B", ["3", "4"], 1.0, "a number as text"),
        ("\\boxed{\\frac{1}{2}}", "B", ["$1$", "$\\frac{1}{2}$"], 1.0, "LaTeX on one side in dollars"),
        ("\\boxed{\\dfrac{1}{2}}", "B", ["$1$", "$\\frac{1}{2}$"], 1.0, "a fraction in another spelling"),
        ("(B) $\\dfrac12$", "B", ["$1$", "$\\frac{1}{2}$"], 1.0, "such a fraction beside its letter"),
        ("A. \\dfrac12", "A", ["$1$", "$\\frac{1}{2}$"], 0.0, "such a fraction beside another's letter"),
        ("\\boxed{\\dfrac{1}{3}}", "B", ["$1$", "$\\frac{1}{2}$"], 0.0, "another fraction"),
        ("Paris", "B", ["A. Rome", "B. Paris"], 1.0, "texts that carry their letters"),
        ("B. Paris", "Paris", ["(A) Rome", "(B) Paris"], 1.0, "and the gold does not"),
        ("A. Paris", "B", ["A. Rome", "B. Paris"], 0.0, "another's letter"),
        ("A. Smith", "A", ["A. Smith", "J. Doe"], 1.0, "a text that only looks as if"),
        ("B. It is hot because it is May", "B", ["no", "It is hot because it is May"], 1.0, "a text with a reason"),
        (
            "It is hot because it is May",
            "A",
            ["It is hot because it is May", "It is hot"],
            1.0,
            "and the reason counts",
        ),
        ("B. That is wrong, indeed", "B", ["I see", "That is wrong"], 1.0, "a text that denies"),
        ("巴黎，不是伦敦", "A", ["巴黎", "伦敦"], 0.0, "Chinese texts have no spaces around them"),
        ("A. 巴黎但伦敦也可以", "A", ["巴黎", "伦敦"], 0.0, "nor behind a letter"),
        ("4", 4, ["3", "4"], 1.0, "an int as gold"),
        ("4", 4.0, [3, 4], 1.0, "a float as gold, and ints as options"),
        ("2", "2", {"label": ["1", "2"], "text": ["Rome", "Paris"]}, 1.0, "ARC's rows with digits for letters"),
        ("(2) Paris", "2", {"label": ["1", "2"], "text": ["Rome", "Paris"]}, 1.0, "letter and text, with digits"),
        ("1", "2", {"label": ["1", "2"], "text": ["Rome", "Paris"]}, 0.0, "another"),
        ("F", "F", list("uvwxyz"), 1.0, "a sixth option"),
        ("A", "A", ["same", "same"], 1.0, "two options of one text, by letter"),
        ("same", "A", ["same", "same"], 0.0, "two options of one text: it names both"),
        ("B", "B", ["Paris", None], 1.0, "an option without a text"),
    ],
)
def test_texts_that_look_like_letters_and_letters_that_look_like_texts(completion, gold, options, expected, why):
    assert judge(completion, gold, options) == expected, why


@pytest.mark.parametrize(
    ("gold", "options", "why"),
    [
        (None, CITIES, "none"),
        ("", CITIES, "empty"),
        (float("nan"), CITIES, "missing in a table"),
        ("Madrid", CITIES, "no option's text"),
        ("E", CITIES, "no option's letter"),
        ("F", None, "beyond A to E"),
        ("A or B", CITIES, "two options"),
        (1, CITIES, "a place: from 0 or from 1?"),
        ("same", ["same", "same"], "two options of one text"),
        ("A", ["B", "A"], "one's letter, another's text"),
        ("B", [], "no options"),
    ],
)
def test_a_gold_that_is_no_option_is_none(gold, options, why, caplog):
    for completion in ("A", "B", "Madrid", ""):
        assert judge(completion, gold, options) is None, why
    assert "multiple_choice_reward cannot judge 1 of 1 rows: `answer` of row 0" in caplog.records[0].getMessage()


def test_each_row_has_its_own_options():
    rewards = multiple_choice_reward(
        completions=["Paris", "Paris", "B"], solution=["B", "A", "C"], options=[CITIES, ["Paris", "Rome"], None]
    )
    assert rewards == [1.0, 1.0, 0.0]


def test_the_column_is_named_where_it_does_not_fit():
    with pytest.raises(ValueError, match="multiple_choice_reward needs the gold answers"):
        multiple_choice_reward(completions=["B"])
    with pytest.raises(ValueError, match="column `answer` has 1 values for 2 completions"):
        multiple_choice_reward(completions=["B", "B"], answer=["B"])
    with pytest.raises(ValueError, match="column `options` has 1 values for 2 completions"):
        multiple_choice_reward(completions=["B", "B"], answer=["B", "B"], options=[CITIES])


def test_it_pickles_by_its_name():
    assert pickle.loads(pickle.dumps(multiple_choice_reward)) is multiple_choice_reward
    assert multiple_choice_reward.__name__ == "multiple_choice_reward"


@given(
    st.text(max_size=60),
    st.text(max_size=10) | st.sampled_from("ABCDE") | st.integers() | st.none(),
    st.none() | st.lists(st.text(max_size=8) | st.none(), max_size=8) | st.dictionaries(st.text(), st.text()),
)
def test_no_text_raises_and_only_the_row_decides_on_none(completion, gold, options):
    reward = judge(completion, gold, options)
    assert reward in (0.0, 1.0, None)
    assert (reward is None) == (judge("another completion", gold, options) is None)


@given(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=6), st.sampled_from(["", " ", ", ", "/", " or ", ") ("]))
def test_a_list_of_letters_is_right_only_if_it_names_the_gold_alone(letters, between):
    answer = f"<answer>({between.join(letters)})</answer>"
    expected = float(set(letters) == {"B"} and (between != "" or len(letters) == 1))
    assert judge(answer, "B") == expected


@pytest.mark.parametrize(
    "piece", ["A ", "(", "B) ", "Paris ", "option ", "answer is ", "\ud800", "\0", "<think>", ",", "B because "]
)
def test_megabytes_are_judged_at_once(piece):
    started = time.process_time()
    for text in (piece * (10_000_000 // len(piece)), f"<answer>{piece * 1000}</answer>"):
        assert judge(text, "C", CITIES) == 0.0
    assert time.process_time() - started < 2.0
