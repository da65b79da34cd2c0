"""Preference pairs: right against wrong, the best against the worst, and every prompt is accounted for."""

import json
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import InputError
from recipes.pairs import check_preferences, preference_pairs
from recipes.tasks import load_task

TASK = load_task("word_problems")
DROPPED = ("all_right", "all_wrong", "ties", "small_margin", "truncated", "unjudged")


def row(*completions, question="1+1?", total=None) -> dict:
    """Completions as (text, right, formed[, tokens[, truncated]])."""
    texts, right, formed, tokens, truncated = zip(*(c + (None, False)[len(c) - 3 :] for c in completions), strict=True)
    return {
        "question": question,
        "prompt": TASK.prompt(question),
        "answer": "2",
        "completions": list(texts),
        "completion_tokens": list(tokens),
        "truncated": list(truncated),
        "rewards": {"correctness_reward": list(right), "think_format_reward": list(formed)},
    } | ({} if total is None else {"total": total})


def texts(rows: list[dict], **options) -> list[tuple[str, str]]:
    pairs, counts = preference_pairs(rows, TASK, **options)
    assert counts["pairs"] == len(pairs)
    return [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs]


def why_none(*rows, **options) -> dict:
    """The counts of dropped prompts, beside a prompt that gives a pair."""
    good = row(("R", 1.0, 1.0), ("W", 0.0, 0.0), question="good?")
    pairs, counts = preference_pairs([good, *rows], TASK, **options)
    assert len(pairs) == 1
    return {name: counts[name] for name in DROPPED if counts[name]}


def test_the_best_is_paired_with_the_worst():
    mixed = row(("bare", 1.0, 0.0), ("best", 1.0, 1.0), ("wrong in form", 0.0, 1.0), ("worst", 0.0, 0.0))
    assert {t for seed in range(9) for t in texts([mixed], seed=seed)} == {("best", "worst")}
    assert texts([mixed], pairs_per_prompt=2) == [("best", "worst"), ("bare", "wrong in form")]
    assert texts([mixed], pairs_per_prompt=9) == [("best", "worst"), ("bare", "wrong in form")]


def test_rows_are_trls_and_go_into_a_data_set():
    rows, counts = preference_pairs([row(("2", 1.0, 0.0, 3), ("3", 0.0, 0.0, 5))], TASK)
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in "23")
    assert rows == [{"prompt": TASK.prompt("1+1?"), "chosen": chosen, "rejected": rejected}]
    assert Dataset.from_list(rows)[0] == rows[0]
    assert counts == {
        **dict.fromkeys(DROPPED, 0),
        "prompts": 1,
        "pairs": 1,
        "chosen_length": 3.0,
        "rejected_length": 5.0,
    }


def test_the_mean_lengths_are_of_what_is_known():
    rows = [row(("2", 1.0, 0.0, n), ("3", 0.0, 0.0, m), question=f"{n} {m}") for n, m in ((1, 2), (4, 9), (7, None))]
    _, counts = preference_pairs(rows, TASK)
    assert (counts["chosen_length"], counts["rejected_length"]) == (2.5, 5.5)
    _, counts = preference_pairs(rows[2:], TASK)
    assert counts["chosen_length"] is counts["rejected_length"] is None


def test_prompts_without_a_pair_are_counted_by_reason():
    assert why_none(row(("a", 1.0, 1.0), ("b", 1.0, 0.0))) == {"all_right": 1}
    assert why_none(row(("a", 0.0, 1.0), ("b", 0.0, 0.0))) == {"all_wrong": 1}
    assert why_none(row(("a", None, 1.0), ("b", None, 0.0))) == {"unjudged": 1}
    assert why_none(row(("a", 1.0, 1.0), ("b", None, 0.0))) == {"all_right": 1}
    assert why_none(row(("a", 1.0, 1.0, 9, True), ("b", 0.0, 0.0))) == {"truncated": 1}
    two = (("a", 1.0, 0.0), ("b", 0.0, 1.0))
    assert why_none(row(*two, total=[0.7, 0.7])) == {"ties": 1}
    assert why_none(row(*two, total=[0.1 + 0.2, 0.3]), min_margin=0) == {"ties": 1}
    assert why_none(row(*two, total=[0.7, 0.3])) == {"small_margin": 1}
    assert why_none(row(*two, total=[0.3, 0.9])) == {"small_margin": 1}
    assert why_none(row(*two, total=[0.3, None])) == {"all_right": 1}


def test_the_margin_is_of_the_totals_and_its_bound_belongs_to_it():
    right_without_form = row(("right", 1.0, 0.0), ("wrong in form", 0.0, 1.0))
    assert texts([right_without_form]) == texts([right_without_form], min_margin=0.8) == [("right", "wrong in form")]
    with pytest.raises(InputError, match="1 have too small a margin"):
        texts([right_without_form], min_margin=0.81)
    mixed = row(("best", 1.0, 1.0), ("bare", 1.0, 0.0), ("worst", 0.0, 0.0), ("formed", 0.0, 1.0))
    assert texts([mixed], pairs_per_prompt=2, min_margin=0.9) == [("best", "worst")]
    near = row(("a", 1.0, 1.0), ("b", 0.0, 1.0), total=[1.2, 1.0])
    assert texts([near], min_margin=0.2) == [("a", "b")]


def test_a_truncated_completion_is_never_chosen_but_may_be_rejected():
    cut = row(("cut", 1.0, 1.0, 9, True), ("whole", 1.0, 0.0), ("wrong", 0.0, 0.0, 9, True))
    assert texts([cut], pairs_per_prompt=2) == [("whole", "wrong")]
    same_text = row(("2", 1.0, 0.0, 2, False), ("2", 1.0, 0.0, 9, True), ("3", 0.0, 0.0))
    assert {t for seed in range(5) for t in texts([same_text], seed=seed)} == {("2", "3")}


@pytest.mark.parametrize("balance_length", [False, True])
def test_a_text_that_was_sampled_often_is_used_once(balance_length):
    often = row(*[("2", 1.0, 0.0)] * 3, *[("3", 0.0, 0.0)] * 3, ("4", 0.0, 0.0))
    assert len(texts([often], pairs_per_prompt=3, balance_length=balance_length)) == 1
    judged_both_ways = row(("2", 1.0, 0.0), ("2", 0.0, 0.0))
    with pytest.raises(InputError):
        texts([judged_both_ways], balance_length=balance_length)


def test_equals_are_ordered_by_the_seed_alone():
    many = [
        row(*[(f"r{i}", 1.0, 1.0) for i in range(6)], *[(f"w{i}", 0.0, 0.0) for i in range(6)], question=f"{q}?")
        for q in range(4)
    ]
    assert texts(many, seed=1) == texts(many, seed=1)
    assert texts(many, seed=1) == texts(many[::-1], seed=1)[::-1]
    assert len({json.dumps(texts(many, seed=seed)) for seed in range(4)}) == 4
    assert len(set(texts(many))) > 1


def test_balanced_pairs_are_the_closest_in_length():
    mixed = row(
        ("long", 1.0, 1.0, 30),
        ("short", 1.0, 0.0, 6),
        ("wrong and long", 0.0, 1.0, 27),
        ("wrong and short", 0.0, 0.0, 5),
    )
    assert texts([mixed]) == [("long", "wrong and short")]
    assert texts([mixed], balance_length=True) == [("short", "wrong and short")]
    both = texts([mixed], balance_length=True, pairs_per_prompt=2)
    assert both == [("short", "wrong and short"), ("long", "wrong and long")]
    assert texts([mixed], balance_length=True, min_margin=1.1) == [("long", "wrong and short")]


def test_balanced_pairs_equally_close_go_by_the_larger_margin():
    mixed = row(("bare", 1.0, 0.0, 6), ("formed", 1.0, 1.0, 8), ("wrong", 0.0, 0.0, 7))
    assert {t for seed in range(5) for t in texts([mixed], balance_length=True, seed=seed)} == {("formed", "wrong")}
    two = (("a", 1.0, 1.0, 10), ("b", 1.0, 0.0, 20), ("near a", 0.0, 1.0, 11), ("near b", 0.0, 0.0, 21))
    assert texts([row(*two, total=[1.2, 1.0, 0.5, 0.0])], balance_length=True) == [("b", "near b")]


def test_balanced_pairs_are_measured_in_characters_where_a_token_count_is_missing():
    mixed = row(("ab", 1.0, 1.0, 50), ("abcdefgh", 1.0, 1.0, 3), ("abc", 0.0, 0.0, None))
    assert texts([mixed], balance_length=True) == [("ab", "abc")]


def test_no_pair_left_says_why_and_what_helps():
    rows = [row(("2", 1.0, 1.0), question="a?"), row(("3", 0.0, 1.0), question="b?"), row(("3", 0.0, 1.0))]
    with pytest.raises(InputError) as caught:
        preference_pairs(rows, TASK)
    for part in ("of 3 prompts", "1 have only right", "2 only wrong", "0 are tied", "more completions", "temperature"):
        assert part in str(caught.value)
    with pytest.raises(InputError, match="of 0 prompts"):
        preference_pairs([], TASK)


def test_settings_that_make_no_sense_are_refused():
    rows = [row(("2", 1.0, 1.0), ("3", 0.0, 0.0))]
    with pytest.raises(InputError, match="--pairs_per_prompt 0"):
        preference_pairs(rows, TASK, pairs_per_prompt=0)
    for margin in (-0.1, float("nan")):
        with pytest.raises(InputError, match="--min_margin"):
            preference_pairs(rows, TASK, min_margin=margin)


def test_a_question_that_is_no_text_any_terminal_can_show():
    rows = [row(("2", 1.0, 1.0), ("3", 0.0, 0.0), question="\ud800")]
    assert texts(rows) == [("2", "3")]


completion = st.tuples(
    st.sampled_from("abcdef"),
    st.sampled_from([0.0, 1.0, None]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([None, 1, 5, 9]),
    st.booleans(),
)


@given(
    st.lists(st.lists(completion, min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0, 0.5, 0.9]),
)
def test_whatever_was_sampled(groups, pairs_per_prompt, balance_length, min_margin):
    rows = [row(*group, question=f"{number}?") for number, group in enumerate(groups)]
    options = {"pairs_per_prompt": pairs_per_prompt, "balance_length": balance_length, "min_margin": min_margin}
    try:
        pairs, counts = preference_pairs(rows, TASK, **options)
    except InputError:
        return
    used = Counter(pair["prompt"][-1]["content"] for pair in pairs)
    assert max(used.values()) <= pairs_per_prompt
    assert counts["prompts"] == len(rows) == len(used) + sum(counts[name] for name in DROPPED)
    for number, group in enumerate(groups):
        mine = [pair for pair in pairs if pair["prompt"][-1]["content"] == f"{number}?"]
        chosen, rejected = ([pair[side][0]["content"] for pair in mine] for side in ("chosen", "rejected"))
        assert len({*chosen, *rejected}) == 2 * len(mine)
        assert all(any(c[0] == text and c[1] == 1.0 and not c[4] for c in group) for text in chosen)
        assert all(any(c[0] == text and c[1] == 0.0 for c in group) for text in rejected)


def test_a_preference_set_needs_two_columns_and_may_have_the_prompt():
    check_preferences(["prompt", "chosen", "rejected", "score"], "x")
    check_preferences(["rejected", "chosen"], "x")
    with pytest.raises(InputError, match=r"The preference set x has no column `chosen` \(it has a, rejected\); rename"):
        check_preferences(["a", "rejected"], "x")
    with pytest.raises(InputError, match="no column `rejected`"):
        check_preferences(["prompt", "chosen"], "x")
