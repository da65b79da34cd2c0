"""The penalty for saying the same thing again and again."""

import pickle
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.repetition import get_repetition_penalty_reward, repetition_penalty_reward

HONEST = "She bakes 12 cakes and sells 7 of them, so 5 are left. Each costs 3 dollars, which makes 15 dollars."


def penalty(text, **options):
    [value] = get_repetition_penalty_reward(**options)(completions=[text])
    return value


@pytest.mark.parametrize(
    ("ids", "expected", "why"),
    [
        ([1, 2, 3, 4, 5], 0.0, "nothing twice"),
        ([5, 5, 5, 5, 5], -2 / 3, "three trigrams, one distinct"),
        ([1, 2, 3, 1, 2, 3], -1 / 4, "four trigrams, three distinct"),
        ([], 0.0, "empty"),
        ([7, 7], 0.0, "shorter than a trigram"),
        ([7, 7, 7], 0.0, "one trigram"),
    ],
)
def test_the_penalty_is_the_share_of_repeated_trigrams(ids, expected, why):
    assert repetition_penalty_reward(completions=["a"], completion_ids=[ids]) == [pytest.approx(expected)], why


def test_tokens_are_taken_where_they_are_given():
    repeated = "no " * 50
    assert repetition_penalty_reward(completions=[repeated], completion_ids=[[1, 2, 3, 4]]) == [0.0]
    assert repetition_penalty_reward(completions=[repeated], completion_ids=None)[0] < -0.9


@pytest.mark.parametrize(
    ("text", "low", "high", "why"),
    [
        (HONEST, 0.0, 0.0, "an honest text"),
        ("", 0.0, 0.0, "nothing"),
        ("no no", 0.0, 0.0, "two words"),
        ("yes " * 100, -1.0, -0.95, "one word"),
        ("yes Yes YES yEs yeS", -0.67, -0.66, "in any case"),
        ((HONEST + " ") * 10, -0.95, -0.85, "one sentence ten times"),
        ("! " * 100, -1.0, -0.95, "nothing but punctuation"),
        ("!" * 100, -1.0, -0.95, "without spaces"),
        ("la" * 3_000, -1.0, -0.9, "one endless word"),
        ("abc" * 3_000, -1.0, -0.9, "one endless word with another period"),
        ("😀" * 3_000, -1.0, -0.9, "one endless row of pictures"),
        ("😀" * 50, -1.0, -0.95, "a short one: each picture is a word"),
        ("👍🏽" * 50, -1.0, -0.9, "pictures of two signs"),
        ("→" * 50, -1.0, -0.95, "arrows"),
        ("≤" * 50, -1.0, -0.95, "signs of mathematics"),
        ("×" * 50, -1.0, -0.95, "the sign of Latin-1"),
        ("✅" * 20 + "█" * 20 + "𝄞" * 20, -1.0, -0.85, "other symbols"),
        ("😀😁😂🤣😃😄", 0.0, 0.0, "different pictures"),
        ("3 × 4 = 12 → 12 ÷ 6 = 2 ≤ 5", 0.0, 0.0, "honest symbols"),
        ("小明有十二个苹果，吃了七个，还剩五个。", 0.0, 0.0, "an honest Chinese text"),
        ("小明有苹果" * 20, -1.0, -0.9, "a repeated Chinese text"),
        ("りんごをたべる" * 20, -1.0, -0.9, "Japanese"),
        ("ฉันกินแอปเปิล" * 20, -1.0, -0.9, "Thai"),
        ("मैं सेब खाता हूँ", 0.0, 0.0, "Hindi words stay whole"),
        ("12+7=19. 19-5=14. 14*2=28", 0.0, 0.0, "honest arithmetic"),
    ],
)
def test_without_tokens_words_count_and_characters_where_there_are_no_spaces(text, low, high, why):
    assert low <= penalty(text) <= high, why
    message = [{"role": "assistant", "content": text}]
    assert repetition_penalty_reward(completions=[message]) == [penalty(text)]


def test_both_options_are_positional_or_named():
    text = "yes no yes no yes"
    expected = 0.5 * penalty(text, ngram=2)
    assert get_repetition_penalty_reward(2, -0.5)(completions=[text]) == [expected] == [-0.25]
    assert penalty(text, ngram=2, max_penalty=-0.5) == expected
    assert penalty(text, max_penalty=0) == 0.0


@given(st.lists(st.lists(st.integers(0, 3), max_size=30), max_size=5), st.integers(1, 5))
def test_on_tokens_it_is_trls_formula(ids, ngram):
    from trl.rewards import get_repetition_penalty_reward as trls

    ours = get_repetition_penalty_reward(ngram)(completions=["a"] * len(ids), completion_ids=ids)
    assert ours == pytest.approx(trls(ngram)(ids))


@pytest.mark.parametrize("ngram", [0, -1, 101, True, 2.0, "3", None, float("nan")])
def test_an_impossible_ngram_is_refused(ngram):
    with pytest.raises(ValueError, match="`ngram` must be a whole number from 1 to 100"):
        get_repetition_penalty_reward(ngram)


@pytest.mark.parametrize("max_penalty", [0.1, 1, True, False, float("nan"), -float("inf"), "-1", None])
def test_an_impossible_penalty_is_refused(max_penalty):
    with pytest.raises(ValueError, match="`max_penalty` must be a finite number, 0 or below"):
        get_repetition_penalty_reward(max_penalty=max_penalty)


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="ngram_size"):
        get_repetition_penalty_reward(ngram_size=3)


def test_token_ids_of_another_number_are_named():
    with pytest.raises(ValueError, match="column `completion_ids` has 1 values for 2 completions"):
        repetition_penalty_reward(completions=["a", "b"], completion_ids=[[1]])


def test_it_survives_pickling_and_keeps_its_name():
    copy = pickle.loads(pickle.dumps(get_repetition_penalty_reward(1, -2.0)))
    assert copy.__name__ == repetition_penalty_reward.__name__ == "repetition_penalty_reward"
    assert copy(completions=["so so so so"]) == [-1.5]


@pytest.mark.parametrize(
    "text",
    [
        "\ud800\udfff" * 100,
        "\0" * 1_000_000,
        "<think>" * 150_000,
        "a" * 1_000_000,
        " " * 1_000_000,
        "\u202eabc " * 200_000,
        "".join(map(chr, random.Random(0).choices(range(32, 50_000), k=1_000_000))),
    ],
    ids=["surrogates", "NUL", "tags", "no spaces", "spaces", "right-to-left", "anything"],
)
def test_a_hostile_text_is_judged_at_once(text):
    started = time.process_time()
    assert -1.0 <= penalty(text, ngram=100) <= 0.0
    assert time.process_time() - started < 1.5


def test_a_million_tokens_are_judged_at_once():
    started = time.process_time()
    assert get_repetition_penalty_reward(100)(completions=["a"], completion_ids=[list(range(1_000_000))]) == [0.0]
    assert time.process_time() - started < 1.5


@given(st.text(), st.integers(1, 100), st.floats(-10, 0))
def test_any_text_has_a_value_in_range(text, ngram, max_penalty):
    assert max_penalty <= penalty(text, ngram=ngram, max_penalty=max_penalty) <= 0.0


@given(st.text(alphabet="ab 小!", max_size=30))
def test_repeating_a_text_never_pays(text):
    assert penalty((text + " ") * 3) <= penalty((text + " ") * 2) + 1e-9 <= 1e-9
