"""What a model wrote, as the report shows it: inert, visible, folded and cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from recipes.reporting.text import LONGEST, around_thought, marked, shown, visible


@pytest.mark.parametrize(
    ("text", "lead", "thought", "answer"),
    [
        ("42", "", "", "42"),
        ("<think>a</think>42", "", "<think>a</think>", "42"),
        ("Hm. <think>a</think> <think>b</think>42", "Hm. ", "<think>a</think> <think>b</think>", "42"),
        ("<think>never closed", "", "<think>never closed", ""),
        ("opened by the prompt</think>42", "", "opened by the prompt</think>", "42"),
        ("a</think>b<think>c", "", "a</think>", "b<think>c"),
        ("", "", "", ""),
    ],
)
def test_the_thought_is_told_from_the_answer(text, lead, thought, answer):
    assert around_thought(text) == (lead, thought, answer)


@given(st.lists(st.sampled_from(["<think>", "</think>", "x"]), max_size=6).map("".join))
def test_nothing_is_lost_around_a_thought(text):
    assert "".join(around_thought(text)) == text


def test_what_cannot_be_seen_is_shown_as_escapes():
    assert visible("a\u202eb\x00\u200b\ud800\n\tc\U000e0001") == "a\\u202eb\\x00\\u200b\\ud800\n\tc\\U000e0001"
    assert marked("<b>\x1b\x07</b>") == '&lt;b&gt;<span class="escape">\\x1b\\x07</span>&lt;/b&gt;'
    assert marked("\u00e9 \u7b54") == "\u00e9 \u7b54"


@given(st.text())
def test_marked_text_is_markup_without_markup_of_its_own(text):
    html = marked(text)
    assert isinstance(html, Markup)
    bare = html.replace('<span class="escape">', "").replace("</span>", "")
    assert "<" not in bare and ">" not in bare and bare.unescape() == visible(text)


def test_long_answers_are_folded_behind_their_beginning():
    short, long = shown("<think>a</think>b", "f"), shown(f"<think>{'a' * 500}</think>{'b' * 1000}", "f")
    assert short.answer == "b" and not short.folded and not short.cut
    assert long.folded and long.opening.startswith("bbb") and len(long.opening) < 300
    assert long.thought_length == 515 and long.answer == "b" * 1000


def test_the_middle_of_a_very_long_text_is_left_out_and_counted():
    found = shown("a" * LONGEST + "b" * LONGEST, "samples/after.jsonl")
    assert found.answer.startswith("aaa") and found.answer.endswith("bbb") and len(found.answer) < LONGEST + 20
    assert found.cut == "10,000 characters in the middle are left out: samples/after.jsonl has all of it."
    assert shown("a" * LONGEST, "f").cut == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([{"role": "assistant", "content": "42"}], "42"),
        ([{"role": "user", "content": "why?"}], "why?"),
        ([{"role": "assistant", "content": None}], "null"),
        ({"a": 1}, '{"a": 1}'),
        (7, "7"),
        (None, ""),
        ([], "[]"),
    ],
)
def test_messages_and_whatever_else_are_shown(value, text):
    assert shown(value, "f").answer.unescape() == text
