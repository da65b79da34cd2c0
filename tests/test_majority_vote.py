"""The majority vote: who is elected, who is not, and what a group may cost."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import correctness_reward, get_majority_vote_reward, is_equivalent, majority_vote, majority_vote_reward
from rewards.battery import ANSWER_POLICIES, FORM_POLICIES, built_in_rows
from rewards.majority_vote import answer_classes

HALVES = ["1/2", "0.5", r"\frac12", r"\frac{1}{2}", "2/4"]


def vote(answers, min_share=0.5, **columns):
    completions = ["I do not know." if answer is None else f"<answer>{answer}</answer>" for answer in answers]
    columns = {"prompts": ["p"] * len(answers), **columns}
    return get_majority_vote_reward(min_share)(completions=completions, **columns)


@pytest.mark.parametrize(
    ("answers", "min_share", "expected", "why"),
    [
        (["3", "3", "4"], 0.5, [1.0, 1.0, 0.0], "two of three"),
        (["3", "3", "4", None], 0.5, None, "half is not more than half, and no answer is a completion too"),
        (["3", "3", "3", None], 0.5, [1.0, 1.0, 1.0, 0.0], "no answer is not the label"),
        (["3", "3", "4", "5", None], 0.0, [1.0, 1.0, 0.0, 0.0, 0.0], "a plurality"),
        (["3", "3", "4", "4", "5"], 0.0, None, "a tie for the first place"),
        (["3", "4", "4", "5", "5", "5"], 0.0, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], "a tie of others is none"),
        (["3", None, None, None], 0.0, [1.0, 0.0, 0.0, 0.0], "the plurality of one: silence is no rival"),
        (["3", "3", "3", "4", "5"], 0.6, None, "not more than 0.6"),
        (["3", "3", "3", "4"], 0.6, [1.0, 1.0, 1.0, 0.0], "more than 0.6"),
        ([None, None, None], 0.0, None, "nobody votes"),
        (["unknown", "unknown", "unknown", "3"], 0.0, [0.0, 0.0, 0.0, 1.0], "what could be no gold is no answer"),
        (["3"], 0.0, None, "one completion has no vote"),
        ([], 0.5, [], "an empty batch"),
        ([*HALVES, "0.51", "0.51", "0.51"], 0.5, [1.0] * 5 + [0.0] * 3, "spellings are one vote"),
        ([r"\sqrt{8}", "3", r"2\sqrt{2}", "x", r"\frac{4}{\sqrt{2}}"], 0.5, [1.0, 0.0, 1.0, 0.0, 1.0], "by algebra"),
    ],
)
def test_the_label_is_what_more_than_the_share_of_all_completions_answer(answers, min_share, expected, why):
    assert vote(answers, min_share) == ([None] * len(answers) if expected is None else expected), why


def test_each_prompt_votes_by_itself_and_prompts_of_messages_by_their_content():
    first, second = ([{"role": "user", "content": text}] for text in "ab")
    prompts = [first, second, first, second, first, second]
    assert vote(["3", "3", "3", "4", "4", "4"], prompts=prompts) == [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    assert vote(["3", "3", "3", "4", "4", "5"], prompts=prompts) == [1.0, None, 1.0, None, 0.0, None]


def test_no_gold_answer_is_read():
    assert vote(["3", "3", "4"], answer=["4"] * 3, solution=[None]) == [1.0, 1.0, 0.0]


def test_the_label_is_logged():
    logged = {}
    prompts = ["a", "b", "a", "b", "a", "b"]
    vote(["5", "0.5", "7", "3", "7", "1/2"], prompts=prompts, log_extra=logged.__setitem__)
    assert logged == {"majority_answer": ["7", "0.5", "7", "0.5", "7", "0.5"]}
    vote(["5", "6"], log_extra=logged.__setitem__)
    assert logged == {"majority_answer": ["", ""]}


def test_what_is_missing_or_impossible_is_named():
    with pytest.raises(ValueError, match="majority_vote_reward compares the completions of one prompt: give `prompts`"):
        majority_vote_reward(completions=["3"])
    with pytest.raises(ValueError, match="column `prompts` has 1 values for 2 completions"):
        majority_vote_reward(completions=["3", "3"], prompts=["p"])
    for share in (1, -0.1, 1.5, float("nan"), True, "0.5", None):
        with pytest.raises(ValueError, match="`min_share` must be a number of at least 0 and below 1"):
            get_majority_vote_reward(share)


def test_it_pickles_and_is_the_same_in_threads():
    reward = pickle.loads(pickle.dumps(get_majority_vote_reward(0.0)))
    assert reward.__name__ == "majority_vote_reward" and reward.min_share == 0.0
    batch = {"completions": [f"#### {answer}" for answer in (r"\sqrt{12}", r"2\sqrt{3}", "3", "4")]}
    with ThreadPoolExecutor(4) as threads:
        votes = threads.map(lambda _: reward(**batch, prompts=["p"] * 4), range(12))
        assert list(votes) == [[1.0, 1.0, 0.0, 0.0]] * 12


ANSWERS = st.lists(st.sampled_from([*HALVES, "3", "3.0", "4", "50%", "x+1", "1+x", "nan", "Paris", None]), max_size=9)


@settings(max_examples=30)
@given(ANSWERS, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.25, 0.5]))
def test_any_group_is_judged_alike_in_any_order(answers, random, min_share):
    rewards = vote(answers, min_share)
    assert set(rewards) in (set(), {None}, {1.0}, {0.0, 1.0})
    order = random.sample(range(len(answers)), len(answers))
    assert vote([answers[i] for i in order], min_share) == [rewards[i] for i in order]


@settings(max_examples=30)
@given(ANSWERS)
def test_two_answers_share_a_class_where_they_are_equivalent(answers):
    classes = answer_classes(answers)
    for one, number in zip(answers, classes, strict=True):
        assert (number is None) == (one in (None, "nan"))
        for other, its_number in zip(answers, classes, strict=True):
            if None not in (number, its_number):
                assert (number == its_number) == is_equivalent(one, other)
    appearing = [number for number in dict.fromkeys(classes) if number is not None]
    assert appearing == list(range(len(appearing)))


@pytest.mark.parametrize(
    ("answers", "pairs", "classes"),
    [
        ([rf"\sqrt{{{i}}}+x" for i in range(2, 82)], 80, 80),  # 3,160 pairs in all
        ([f"{i}/7" for i in range(64)] + ["2/14"], 0, 64),  # numbers need no comparison of texts
        ([rf"\sqrt{{{2 * i * i}}}-{i - 1}\sqrt{{2}}" for i in range(1, 12)], 55, 1),
    ],
)
def test_a_group_has_no_more_comparisons_than_completions_or_64(monkeypatch, answers, pairs, classes):
    asked = []

    def counted(candidates, golds):
        asked.append(len(golds))
        return compare(candidates, golds)

    compare = majority_vote.are_equivalent
    monkeypatch.setattr(majority_vote, "are_equivalent", counted)
    assert len(set(answer_classes(answers))) == classes
    assert asked == [len(answers), pairs]  # each with itself, then the pairs


def test_the_most_frequent_answer_is_found_among_many_others():
    others = [rf"\sqrt{{{i}}}+x" for i in range(2, 40)]
    answers = [*others, *["\\sqrt{8}"] * 30, *["2\\sqrt{2}"] * 20]
    assert vote(answers) == [0.0] * len(others) + [1.0] * 50


def test_hostile_answers_do_not_hold_up_an_honest_majority():
    majority_vote_reward(completions=["#### \\sqrt{2}", "#### \\sin x"], prompts=["p"] * 2)  # starts the workers
    hostile = ["9^{9^{9^9}}", "{" * 400 + "1" + "}" * 400, "7" * 100_000, "\ud800", "\0", "=" * 900]
    started = time.process_time()
    assert vote([*[r"\sqrt{8}", r"2\sqrt{2}"] * 4, *hostile]) == [1.0] * 8 + [0.0] * len(hostile)
    assert time.process_time() - started < 3.0


def among_voters(prompts, completions, answer, **kwargs):
    """The vote with as many honest voters as completions and one more, so that the right answer wins."""
    voters = [(prompt, gold) for prompt, gold in zip(prompts, answer, strict=True) if gold is not None]
    voters += dict(voters).items()
    texts = [*completions, *(f"<answer>{gold}</answer>" for _, gold in voters)]
    return majority_vote_reward(completions=texts, prompts=[*prompts, *(p for p, _ in voters)])[: len(completions)]


def test_among_honest_voters_it_is_the_correctness_reward_whatever_the_others_try():
    tried = [
        (row, text)
        for rows in built_in_rows()[:2]
        for row in rows[:3]
        for text in (row.honest, *(policy.answer(row) for policy in FORM_POLICIES + ANSWER_POLICIES))
        if text is not None
    ]
    columns = {"completions": [text for _, text in tried], "answer": [row.gold for row, _ in tried]}
    rewards = among_voters(prompts=[row.prompt for row, _ in tried], **columns)
    assert rewards == correctness_reward(**columns)
    assert 6 <= sum(rewards) < len(rewards) / 2
