"""The reward contract: strings and messages, gold of any kind, None only where nothing can be judged."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import correctness_reward, think_format_reward
from rewards.completions import completion_text

RIGHT = "<think>12+7=19</think><answer>19</answer>"


def message(content, role="assistant"):
    return [{"role": role, "content": content}]


def test_strings_and_messages_are_judged_alike():
    for reward in (correctness_reward, think_format_reward):
        assert reward(completions=[RIGHT, message(RIGHT)], answer=["19", "19"]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("a", "a"),
        (message("a"), "a"),
        (message(None), ""),
        ([], ""),
        (message("a") + message("b"), "b"),
        (message("a") + message("tool says", role="tool"), "a"),
        (message(5), ""),
        (message(["x", None]), ""),
        ([None], ""),
        (None, ""),
        (message([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]), "ab"),
    ],
)
def test_the_last_assistant_text_is_judged(completion, text):
    assert completion_text(completion) == text


def test_correctness_takes_gold_from_answer_or_solution_in_any_type():
    assert correctness_reward(completions=["#### 7"] * 3, answer=[7, 7.0, "6+1=7\n#### 7"]) == [1.0, 1.0, 1.0]
    assert correctness_reward(completions=["#### 7"], solution=["8"]) == [0.0]


def test_an_unusable_gold_is_none_and_named_once(caplog):
    assert correctness_reward(completions=["#### 7"] * 3, answer=["7", "unknown", None]) == [1.0, None, None]
    [record] = caplog.records
    assert "2 of 3 rows" in record.getMessage() and "row 1, 'unknown'" in record.getMessage()


def test_a_gold_column_that_is_missing_or_short_is_named():
    with pytest.raises(ValueError, match="`answer` or `solution`"):
        correctness_reward(completions=["7"])
    with pytest.raises(ValueError, match="column `answer` is one string"):
        correctness_reward(completions=["7"], answer="7")
    with pytest.raises(ValueError, match="column `answer` has 1 values for 2 completions"):
        correctness_reward(completions=["7", "8"], answer=["7"])


def test_correctness_logs_what_it_compared():
    logged = {}
    correctness_reward(completions=[RIGHT, "?"], answer=["#### 19", 3], log_extra=logged.__setitem__)
    assert logged == {"extracted_answer": ["19", ""], "gold_answer": ["19", "3"]}


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        f"  {RIGHT}\n",
        "<think>\nline\nline\n</think>\n\n<answer>\n19\n</answer>",
        "<think>∅</think><answer>∞</answer>",
    ],
)
def test_a_thought_then_an_answer_is_well_formed(text):
    assert think_format_reward(completions=[text]) == [1.0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing"),
        ("19", "bare"),
        ("<answer>19</answer>", "no thought"),
        ("<think>12+7=19</think>19", "no answer block"),
        ("<think></think><answer>19</answer>", "an empty thought"),
        ("<think> \n\u200b</think><answer>19</answer>", "a thought of nothing visible"),
        ("<think>12+7</think><answer> </answer>", "an empty answer"),
        ("<think>...</think><answer>19</answer>", "a thought of dots"),
        (
            "<think>\u2800\u3164</think><answer>19</answer>",
            "a thought of blanks that Unicode calls symbols and letters",
        ),
        ("<think>a</think><answer>\ufe0f\u034f</answer>", "an answer of marks"),
        (RIGHT + RIGHT, "two whole blocks"),
        ("<think>a</think></think></think><answer>19</answer>", "three closing tags"),
        (RIGHT + " bye", "text after the answer"),
        ("hi " + RIGHT, "text before the thought"),
        ("<think>a</think> so <answer>19</answer>", "text between the blocks"),
        ("<answer>19</answer><think>a</think>", "the wrong order"),
        ("<think>a<answer>19</answer></think>", "an answer inside the thought"),
        ("</think>a<think><answer>19</answer>", "tags the wrong way round"),
        ("<THINK>a</THINK><ANSWER>19</ANSWER>", "other tags"),
        ("<think>a</think><answer>19", "cut off"),
    ],
)
def test_any_other_form_earns_nothing(text, why):
    assert think_format_reward(completions=[text]) == [0.0], why


@given(st.text(max_size=50), st.text(max_size=20))
def test_no_text_raises_or_is_paid_for_anything_but_its_form(thought, answer):
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    assert think_format_reward(completions=[text])[0] in (0.0, 1.0)
    assert correctness_reward(completions=[text], answer=["1"])[0] in (0.0, 1.0)


@pytest.mark.parametrize("reward", [correctness_reward, think_format_reward])
def test_a_reward_is_picklable_named_and_the_same_in_threads_and_event_loops(reward):
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.__name__ == reward.__name__
    assert reward.__name__ in ("correctness_reward", "think_format_reward")
    columns = {"completions": [RIGHT, "no"], "answer": ["19", "19"]}
    expected = reward(**columns)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: reward(**columns), range(20))) == [expected] * 20

    async def in_a_loop():
        return reward(**columns)

    assert asyncio.run(in_a_loop()) == expected
