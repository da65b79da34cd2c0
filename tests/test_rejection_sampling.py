"""Rejection sampling keeps what is right, well formed and whole, a few of each prompt."""

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import InputError
from recipes.rejection_sampling import kept_completions
from recipes.tasks import load_task

TASK = load_task("word_problems")
FATES = ("kept", "unjudged", "not_right", "badly_formed", "truncated", "duplicates", "surplus")


def row(*completions, question="1+1?") -> dict:
    """Completions as (text, right, formed, tokens, truncated); a text alone is right, formed and whole."""
    completions = [c if isinstance(c, tuple) else (c, 1.0, 1.0, len(c), False) for c in completions]
    texts, right, formed, tokens, truncated = map(list, zip(*completions, strict=True))
    return {
        "question": question,
        "answer": "2",
        "completions": texts,
        "completion_tokens": tokens,
        "truncated": truncated,
        "rewards": {"correctness_reward": right, "think_format_reward": formed},
    }


def texts(rows: list[dict], **options) -> list[str]:
    return [kept["completion"][0]["content"] for kept in kept_completions(rows, TASK, **options)[0]]


def test_only_what_is_right_and_well_formed_and_whole_is_kept():
    mixed = row(
        ("wrong", 0.0, 1.0, 1, False),
        ("half right", 0.5, 1.0, 1, False),
        ("unformed", 1.0, 0.0, 1, False),
        ("form unknown", 1.0, None, 1, False),
        ("cut", 1.0, 1.0, 1, True),
        ("unjudged", None, 1.0, 1, False),
        "good",
        "good",
        "also good",
    )
    kept, counts = kept_completions([mixed, row(("3", 0.0, 0.0, 1, False), question="2?")], TASK)
    assert kept == [{"prompt": TASK.prompt("1+1?"), "completion": [{"role": "assistant", "content": "good"}]}]
    assert Dataset.from_list(kept)[0] == kept[0]
    assert counts == {
        "prompts": 2,
        "prompts_without": 1,
        "completions": 10,
        "kept": 1,
        "unjudged": 1,
        "not_right": 3,
        "badly_formed": 2,
        "truncated": 1,
        "duplicates": 1,
        "surplus": 1,
    }


def test_a_completion_of_unknown_end_is_taken_as_whole():
    assert texts([row(("2", 1.0, 1.0, None, None))]) == ["2"]


def test_the_shortest_are_kept():
    lengths = {"a": 9, "bbb": 2, "cc": 5}
    many = row(*[(text, 1.0, 1.0, tokens, False) for text, tokens in lengths.items()])
    assert texts([many]) == ["bbb"]
    assert texts([many], keep_per_prompt=2) == ["bbb", "cc"]
    assert texts([many], keep_per_prompt=9) == ["bbb", "cc", "a"]
    many["completion_tokens"][0] = None
    assert texts([many], keep_per_prompt=2) == ["a", "cc"]


def test_a_random_choice_depends_on_seed_and_question_only():
    rows = [row(*"abcdefgh", question=f"{q}?") for q in range(6)]
    chosen = texts(rows, keep="random", keep_per_prompt=2, seed=3)
    assert len(chosen) == 12
    backwards = texts(rows[::-1], keep="random", keep_per_prompt=2, seed=3)
    assert [backwards[i : i + 2] for i in range(10, -1, -2)] == [chosen[i : i + 2] for i in range(0, 12, 2)]
    assert texts(rows[2:3], keep="random", keep_per_prompt=2, seed=3) == chosen[4:6]
    assert texts(rows, keep="random", keep_per_prompt=2, seed=4) != chosen
    assert len({tuple(chosen[i : i + 2]) for i in range(0, 12, 2)}) > 1


def test_rows_of_the_same_prompt_share_what_a_prompt_may_keep():
    assert texts([row("long", "2"), row("2", "1")], keep_per_prompt=2) == ["2", "1"]


def test_nothing_left_says_why_and_what_helps():
    rows = [row(("a", 0.0, 1.0, 1, False), ("b", 1.0, 0.0, 1, False), ("c", 1.0, 1.0, 1, True))]
    with pytest.raises(InputError) as caught:
        kept_completions(rows, TASK)
    for part in ("of 3 completions of 1 prompts", "1 are not right", "1 right but badly formed", "sample more"):
        assert part in str(caught.value)
    with pytest.raises(InputError, match="of 0 completions"):
        kept_completions([], TASK)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="--keep_per_prompt 0"):
        kept_completions([row("a")], TASK, keep_per_prompt=0)
    with pytest.raises(InputError, match=r"--keep shortes is unknown\. Did you mean shortest"):
        kept_completions([row("a")], TASK, keep="shortes")


completion = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from([0.0, 1.0, None]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([None, 1, 5]),
    st.booleans(),
)


@given(
    st.lists(st.lists(completion, min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 3),
    st.sampled_from(["shortest", "random"]),
)
def test_every_completion_is_accounted_for(groups, keep_per_prompt, keep):
    rows = [row(*group, question=f"{number}?") for number, group in enumerate(groups)]
    good = [{c[0] for c in group if c[1:3] == (1.0, 1.0) and not c[4]} for group in groups]
    try:
        kept, counts = kept_completions(rows, TASK, keep_per_prompt=keep_per_prompt, keep=keep)
    except InputError:
        assert not any(good)
        return
    assert sum(counts[name] for name in FATES) == counts["completions"] == sum(map(len, groups))
    assert counts["kept"] == len(kept) == sum(min(len(texts), keep_per_prompt) for texts in good)
    assert counts["prompts_without"] == sum(not texts for texts in good)
    for example in kept:
        assert example["completion"][0]["content"] in good[int(example["prompt"][-1]["content"][:-1])]
