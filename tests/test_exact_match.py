"""The reward for an answer that is the gold, letter for letter but for its dress."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import exact_match_reward


def judge(completion, gold):
    return exact_match_reward(completions=[completion], answer=[gold])[0]


@pytest.mark.parametrize(
    ("completion", "gold", "why"),
    [
        ("Paris", "Paris", "the same"),
        ("<think>London?</think><answer>Paris</answer>", "Paris", "the tags"),
        ("\\boxed{Paris}", "Paris", "the box"),
        ("\\boxed{\\text{Paris}}", "Paris", "LaTeX for words"),
        ("$x_1$", "x_1", "LaTeX for symbols"),
        ("The answer is Paris. It is big.", "Paris", "in words"),
        ("The answer is the Eiffel Tower.", "the Eiffel Tower", "an article belongs to the answer"),
        ("<answer>The answer is Paris</answer>", "Paris", "said twice"),
        ("答案是巴黎", "巴黎", "in Chinese"),
        ("<think>London?</think> Paris", "Paris", "all that follows the thinking"),
        ("<think>a</think>the 5th of May", "The 5th of May", "several words without a marker"),
        ("pArIs", "Paris", "case"),
        ("STRASSE", "Straße", "case of other alphabets"),
        ("ΣΑΣ", "σας", "the two small sigmas"),
        ("Ｐａｒｉｓ", "Paris", "full-width letters"),
        ("ﬁsh", "fish", "a ligature"),
        ("caf\u00e9", "cafe\u0301", "composed and decomposed accents"),
        ("<answer>\n New\t\tYork\u00a0City \n</answer>", "New York City", "white space of any kind"),
        ("Paris.", "Paris", "a full stop"),
        ("Paris?!...", "Paris", "more of them"),
        ("巴黎。", "巴黎", "a Chinese full stop"),
        ('"Paris".', "Paris", "quotes and a full stop"),
        ("“Paris.”", "Paris", "a full stop within quotes"),
        ("**Paris**", "Paris", "emphasis"),
        ("`x_1`", "x_1", "code"),
        ("Paris", "  'PARIS.' ", "the gold is folded too"),
        ("\u200eParis\u200f", "Paris", "marks of direction, which turn nothing around"),
        ("<answer>\ufeffPar\u00adis\u200b</answer>", "Paris", "a byte order mark, a soft hyphen, a space of no width"),
        ("The answer is \u2060Paris\u061c.", "Paris", "a word joiner, an Arabic letter mark"),
        ("Paris", "Paris\u200b", "an invisible character in the gold"),
        ("42", 42, "an int"),
        ("42", 42.0, "an int that a table with gaps has made a float"),
        ("3.5", 3.5, "a float"),
        ("True", True, "a bool"),
        ("42", "6*7=42\n#### 42", "a worked solution"),
        ("Paris", "The answer is Paris.", "a gold in words"),
        ("unknown", "Unknown", "a label, where the number reward sees a missing value"),
        ("C++", "C++", "signs that belong to the name"),
        ([{"role": "assistant", "content": "Paris"}], "Paris", "a message"),
        ([{"role": "assistant", "content": "Paris", "reasoning_content": "London?"}], "Paris", "the thought set aside"),
    ],
)
def test_the_same_text_in_another_dress_is_right(completion, gold, why):
    assert judge(completion, gold) == 1.0, why


@pytest.mark.parametrize(
    ("completion", "gold", "why"),
    [
        ("London", "Paris", "another word"),
        ("", "Paris", "nothing"),
        ([], "Paris", "no message"),
        ([{"role": "assistant", "content": None}], "Paris", "no text"),
        ("Paris, France", "Paris", "more than the gold"),
        ("Par", "Paris", "less than the gold"),
        ("Paris or London", "Paris", "a hedge"),
        ("yes, no", "yes", "both"),
        ("not Paris", "Paris", "a denial"),
        ("I think it is Paris", "Paris", "a sentence without a marker"),
        ("<think>Paris</think>", "Paris", "only thought"),
        ("<think>Paris", "Paris", "an unclosed thought"),
        ("<answer>Paris</answer> is wrong", "Paris", "taken back"),
        ("<answer></answer>Paris", "Paris", "beside the answer"),
        ("cafe", "café", "an accent is a letter's own"),
        ("42.0", "42", "a number is a text here"),
        ("1/2", "0.5", "a number is a text here"),
        ("-5", "5", "a sign is no punctuation"),
        ("A*", "A", "a star that is no emphasis"),
        ('5"', "5", "inches, no quotes"),
        ("C#", "C", "another language"),
        ("New-York", "New York", "punctuation within"),
        ("\u202eParis", "Paris", "an override of direction"),
        ("Paris\0", "Paris", "NUL"),
    ],
)
def test_any_other_text_is_wrong(completion, gold, why):
    assert judge(completion, gold) == 0.0, why


@pytest.mark.parametrize("gold", [None, "", "  \n", "\u200b", ".", '""', float("nan"), "nan", "<answer></answer>"])
def test_a_gold_without_a_text_is_none(gold, caplog):
    assert exact_match_reward(completions=["x", "x", ""], solution=["x", gold, gold]) == [1.0, None, None]
    [record] = caplog.records
    assert "exact_match_reward cannot judge 2 of 3 rows: `solution` of row 1" in record.getMessage()


def test_the_column_is_named_where_it_does_not_fit():
    with pytest.raises(ValueError, match=r"exact_match_reward needs the gold answers: .* `answer` or `solution`"):
        exact_match_reward(completions=["x"])
    with pytest.raises(ValueError, match="column `solution` has 1 values for 2 completions"):
        exact_match_reward(completions=["x", "y"], solution=["x"])
    with pytest.raises(ValueError, match="column `answer` is one string"):
        exact_match_reward(completions=["x"], answer="x")


def test_what_trl_passes_besides_is_ignored():
    assert exact_match_reward(prompts=["?"], completions=["x"], completion_ids=[[1]], answer=["x"], level=[3]) == [1.0]


def test_it_pickles_by_its_name():
    assert pickle.loads(pickle.dumps(exact_match_reward)) is exact_match_reward
    assert exact_match_reward.__name__ == "exact_match_reward"


@given(st.text(max_size=60), st.text(max_size=30) | st.integers() | st.floats() | st.none())
def test_no_text_raises_and_only_a_gold_decides_on_none(completion, gold):
    reward = judge(completion, gold)
    assert reward in (0.0, 1.0, None)
    assert (reward is None) == (judge("another completion", gold) is None)


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=20))
def test_a_word_is_right_in_any_dress_and_wrong_with_a_letter_more(word):
    for dress in ("{}", " {}\n", "{}.", "**{}**", '"{}"', "<answer>{}</answer>", "<think>x</think>{}"):
        assert judge(dress.format(word), word) == (None if word.casefold() == "nan" else 1.0), dress
        assert judge(dress.format(word + "x"), word) in (0.0, None)


@pytest.mark.parametrize(
    "piece", ["'", ".", "'\".", "`", "\u0315\u0300", "ﷺ", "\ud800", "\0", "<answer>", "\\text{", "a "]
)
def test_megabytes_are_judged_at_once(piece):
    started = time.process_time()
    for text in (piece * (10_000_000 // len(piece)), f"<answer>{piece * (9_900 // len(piece))}</answer>"):
        assert judge(text, "Paris") == 0.0
    assert time.process_time() - started < 2.0
