"""The rewards for length: within a prompt's group, along a cosine, and near the limit."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.length import get_cosine_length_reward, get_overlong_penalty_reward, length_reward

RIGHT, WRONG = "<answer>5</answer>", "<answer>6</answer>"


def ids(*lengths):
    return [[7] * length for length in lengths]


def test_short_beats_long_and_a_wrong_answer_gains_nothing():
    rewards = length_reward(
        prompts=["p"] * 6,
        completions=[RIGHT, RIGHT, RIGHT, WRONG, WRONG, WRONG],
        completion_ids=ids(10, 20, 30, 10, 20, 30),
        answer=["5"] * 6,
    )
    assert rewards == [0.5, 0.0, -0.5, 0.0, 0.0, -0.5]


def test_lengths_are_compared_within_the_prompts_own_group():
    """Compared across the batch, the group of the hard prompt would lose by its prompt alone."""
    rewards = length_reward(
        prompts=["easy", "hard", "easy", "hard"],
        completions=[RIGHT] * 4,
        completion_ids=ids(10, 1000, 20, 2000),
        answer=["5"] * 4,
    )
    assert rewards == [0.5, 0.5, -0.5, -0.5]


def test_prompts_of_messages_make_groups_by_their_content():
    def asked(text):
        return [{"role": "system", "content": None}, {"role": "user", "content": [{"type": "text", "text": text}]}]

    rewards = length_reward(
        prompts=[asked("easy\ud800"), asked("hard"), asked("easy\ud800"), asked("hard")],
        completions=[[{"role": "assistant", "content": RIGHT}]] * 4,
        completion_ids=ids(10, 1000, 20, 2000),
        answer=["5"] * 4,
    )
    assert rewards == [0.5, 0.5, -0.5, -0.5]


def test_an_image_in_a_prompt_is_known_by_its_content():
    class Image:
        def __init__(self, content):
            self.content = content

        def tobytes(self):
            return self.content

    def asked(content):
        return [{"role": "user", "content": [{"type": "image", "image": Image(content)}]}]

    rewards = length_reward(
        prompts=[asked(b"cat"), asked(b"dog"), asked(b"cat"), asked(b"dog")],
        completions=[RIGHT] * 4,
        completion_ids=ids(10, 1000, 20, 2000),
        answer=["5"] * 4,
    )
    assert rewards == [0.5, 0.5, -0.5, -0.5]


@pytest.mark.parametrize("lengths", [(20, 20, 20), (0, 0, 0)])
def test_a_group_of_one_length_gets_nothing(lengths):
    batch = {"prompts": ["p"] * 3, "completions": [RIGHT, RIGHT, WRONG], "answer": ["5"] * 3}
    assert length_reward(**batch, completion_ids=ids(*lengths)) == [0.0, 0.0, 0.0]


def test_a_single_completion_is_a_group_of_one_length():
    assert length_reward(prompts=["p"], completions=[RIGHT], completion_ids=ids(9), answer=["5"]) == [0.0]


def test_a_group_with_an_unusable_gold_is_not_judged_and_the_others_are():
    rewards = length_reward(
        prompts=["a", "b", "a", "b"],
        completions=[RIGHT] * 4,
        completion_ids=ids(1, 1, 2, 2),
        answer=["5", "5", None, "5"],
    )
    assert rewards == [None, 0.5, None, -0.5]


def test_without_tokens_characters_count_so_that_chinese_has_a_length():
    short, long = f"三加二。{RIGHT}", f"小明有三个苹果，又买了两个，一共五个。{RIGHT}"
    assert length_reward(prompts=["p"] * 2, completions=[long, short], answer=["5"] * 2) == [-0.5, 0.5]


def test_gold_comes_from_answer_or_solution_in_any_type():
    batch = {"prompts": ["p"] * 2, "completions": [RIGHT] * 2, "completion_ids": ids(1, 2)}
    assert length_reward(**batch, solution=["2+3=5\n#### 5", 5]) == [0.5, -0.5]
    cosine = get_cosine_length_reward(2)
    assert cosine(**batch, solution=["2+3=5\n#### 5", 5]) == cosine(**batch, answer=[5.0, "5"]) == [0.75, 0.5]


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="give `prompts`"):
        length_reward(completions=[RIGHT], answer=["5"])
    with pytest.raises(ValueError, match="`answer` or `solution`"):
        length_reward(completions=[RIGHT], prompts=["p"])
    with pytest.raises(ValueError, match="cosine_length_reward counts tokens: give `completion_ids`"):
        get_cosine_length_reward(10)(completions=[RIGHT], answer=["5"])
    with pytest.raises(ValueError, match="overlong_penalty_reward counts tokens: give `completion_ids`"):
        get_overlong_penalty_reward(10, 2)(completions=[RIGHT])
    for column in ("prompts", "completion_ids", "answer"):
        batch = {"prompts": ["p"] * 2, "completion_ids": ids(1, 2), "answer": ["5"] * 2}
        batch[column] = batch[column][:1]
        with pytest.raises(ValueError, match=f"column `{column}` has 1 values for 2 completions"):
            length_reward(completions=[RIGHT] * 2, **batch)
    for reward in (get_cosine_length_reward(10), get_overlong_penalty_reward(10, 2)):
        with pytest.raises(ValueError, match="column `completion_ids` has 1 values for 2 completions"):
            reward(completions=[RIGHT] * 2, completion_ids=ids(1), answer=["5"] * 2)


@pytest.mark.parametrize(
    ("completion", "length", "expected", "why"),
    [
        (RIGHT, 0, 1.0, "right and short"),
        (RIGHT, 50, 0.75, "half way"),
        (RIGHT, 100, 0.5, "at the limit"),
        (RIGHT, 200, 0.5, "beyond it: the bare cosine would be back at 1.0"),
        (RIGHT, 10_000, 0.5, "far beyond it"),
        (WRONG, 0, -1.0, "wrong and short"),
        (WRONG, 50, -0.75, "half way"),
        (WRONG, 100, -0.5, "at the limit"),
        (WRONG, 200, -0.5, "beyond it"),
        ([{"role": "assistant", "content": RIGHT}], 50, 0.75, "a message"),
    ],
)
def test_the_cosine_goes_down_to_the_limit_and_stays(completion, length, expected, why):
    rewards = get_cosine_length_reward(100)(completions=[completion], completion_ids=ids(length), answer=["5"])
    assert rewards == [pytest.approx(expected)], why


def test_the_cosine_does_not_judge_an_unusable_gold():
    reward = get_cosine_length_reward(100)
    assert reward(completions=[RIGHT, RIGHT], completion_ids=ids(0, 0), answer=[None, "5"]) == [None, 1.0]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 150)), min_size=1, max_size=8), st.integers(1, 100))
def test_the_cosine_is_trls(rows, max_len):
    from trl.rewards import get_cosine_scaled_reward

    values = {"min_value_wrong": -2.0, "max_value_wrong": -0.1, "min_value_correct": 0.2, "max_value_correct": 3}
    texts = [r"\boxed{5}" if is_right else r"\boxed{6}" for is_right, _ in rows]
    columns = {"completion_ids": ids(*(length for _, length in rows)), "solution": ["5"] * len(rows)}
    theirs = get_cosine_scaled_reward(max_len, **values)(completions=[[{"content": t}] for t in texts], **columns)
    assert get_cosine_length_reward(max_len, **values)(completions=texts, **columns) == pytest.approx(theirs)


@given(st.integers(1, 200), st.integers(0, 200), st.lists(st.integers(0, 300), max_size=8))
def test_the_overlong_penalty_is_trls(max_len, buffer, lengths):
    from trl.rewards import get_soft_overlong_punishment

    buffer = min(buffer, max_len)
    ours = get_overlong_penalty_reward(max_len, buffer)(completions=["a"] * len(lengths), completion_ids=ids(*lengths))
    assert ours == pytest.approx(get_soft_overlong_punishment(max_len, buffer)(ids(*lengths)))
    assert all(-1.0 <= value <= 0.0 for value in ours)


@pytest.mark.parametrize(
    ("length", "expected"), [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (100, -1.0), (101, -1.0), (9999, -1.0)]
)
def test_the_overlong_penalty_grows_over_the_buffer(length, expected):
    reward = get_overlong_penalty_reward(max_len=100, buffer=20)
    assert reward(completions=["a"], completion_ids=ids(length)) == [pytest.approx(expected)]


def test_without_a_buffer_the_penalty_begins_beyond_the_limit():
    reward = get_overlong_penalty_reward(100, 0)
    assert reward(completions=["a", "b"], completion_ids=ids(100, 101)) == [0.0, -1.0]


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "100", None, float("nan")])
def test_an_impossible_limit_is_refused(value):
    with pytest.raises(ValueError, match="`max_len` must be a whole number of at least 1"):
        get_cosine_length_reward(value)
    with pytest.raises(ValueError, match="`max_len` must be a whole number of at least 1"):
        get_overlong_penalty_reward(value, 0)


@pytest.mark.parametrize("value", [-1, False, 1.0, "1", None, 101])
def test_an_impossible_buffer_is_refused(value):
    with pytest.raises(ValueError, match="`buffer` must"):
        get_overlong_penalty_reward(100, value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_value_wrong": float("nan")},
        {"max_value_correct": float("inf")},
        {"min_value_wrong": "-1"},
        {"min_value_correct": True},
        {"min_value_wrong": -0.4},
        {"max_value_correct": 0.4},
        {"max_value_wrong": 0.6},
    ],
)
def test_impossible_values_of_the_cosine_are_refused(options):
    with pytest.raises(ValueError, match="`min_value_wrong`, `max_value_wrong`, `min_value_correct`"):
        get_cosine_length_reward(100, **options)


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="max_length"):
        get_cosine_length_reward(max_length=100)
    with pytest.raises(TypeError):
        get_cosine_length_reward(100, -1.0)
    with pytest.raises(TypeError, match="cache"):
        get_overlong_penalty_reward(100, cache=20)


def test_they_survive_pickling_and_keep_their_names():
    batch = {"completions": [RIGHT, WRONG], "completion_ids": ids(5, 9), "answer": ["5", "5"], "prompts": ["p"] * 2}
    for reward, name in (
        (get_cosine_length_reward(10, max_value_correct=2), "cosine_length_reward"),
        (get_overlong_penalty_reward(10, 5), "overlong_penalty_reward"),
        (length_reward, "length_reward"),
    ):
        copy = pickle.loads(pickle.dumps(reward))
        assert copy.__name__ == name
        assert copy(**batch) == reward(**batch)


@pytest.mark.parametrize("text", ["\ud800", "\0" * 1000, "<think>" * 150_000, "a" * 1_000_000, "\u202e1", ""])
def test_a_hostile_text_is_judged_at_once(text):
    length_reward(completions=["\\sqrt{2}"], prompts=["p"], answer=["\\sin x"])  # the first algebra starts its workers
    started = time.process_time()
    batch = {"completions": [text, RIGHT], "prompts": ["p"] * 2, "answer": ["5"] * 2}
    assert all(-0.5 <= value <= 0.5 for value in length_reward(**batch))
    assert get_cosine_length_reward(10)(**batch, completion_ids=ids(5, 0)) == [-0.75, 1.0]
    assert time.process_time() - started < 1.0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=20) | st.just(RIGHT)), max_size=8))
def test_any_batch_has_values_in_range_whatever_its_order(rows):
    def judge(rows):
        prompts, texts = [prompt for prompt, _ in rows], [text for _, text in rows]
        return length_reward(prompts=prompts, completions=texts, answer=["5"] * len(rows))

    rewards = judge(rows)
    assert all(-0.5 <= value <= 0.5 for value in rewards)
    assert judge(rows[::-1]) == rewards[::-1]
    wrong = [value for (_, text), value in zip(rows, rewards, strict=True) if "5" not in text]
    assert all(value <= 0.0 for value in wrong)
