"""Rows are kept, left out and ordered by how often the model solves them."""

import pytest
from datasets import Dataset

from recipes.difficulty import by_difficulty
from recipes.errors import InputError
from recipes.tasks import load_task

TASK = load_task("word_problems")


def sampled(question: str, *right, answer: str | None = None) -> dict:
    answer = f"1+1=2\n#### {question}" if answer is None else answer
    return {"question": question, "answer": answer, "rewards": {"correctness_reward": list(right)}}


ROWS = Dataset.from_list([{"question": q, "answer": f"1+1=2\n#### {q}"} for q in "123456"])
SAMPLES = [
    sampled("2", 1.0, 1.0, 1.0, 1.0),
    sampled("1", 0.0, 0.0, 0.0, 0.0),
    sampled("3", 1.0, 0.0, 0.0, None),
    sampled("5", 1.0, 1.0, 1.0, 0.0),
    sampled("4", None, None),
]


def test_rows_within_the_bounds_are_kept_in_their_order():
    kept, sentence = by_difficulty(ROWS, SAMPLES, TASK, min_pass_rate=0.1, max_pass_rate=0.9)
    assert kept["question"][:] == ["3", "5"]
    assert sentence == (
        "Kept 2 of 6 rows, with a pass rate of 0.1 to 0.9 (1 too easy, 1 too hard, 1 not judged, 1 not sampled)."
    )


def test_the_bounds_belong_to_what_is_kept():
    kept, _ = by_difficulty(ROWS, SAMPLES, TASK, min_pass_rate=1 / 3, max_pass_rate=0.75)
    assert kept["question"][:] == ["3", "5"]
    kept, sentence = by_difficulty(ROWS, SAMPLES, TASK)
    assert kept["question"][:] == ["1", "2", "3", "5"]
    assert "(1 not judged, 1 not sampled)" in sentence
    kept, sentence = by_difficulty(ROWS.select([1]), SAMPLES, TASK)
    assert sentence == "Kept 1 of 1 rows, with a pass rate of 0 to 1 (none left out)."


def test_a_curriculum_goes_from_easy_to_hard_and_leaves_equals_as_they_were():
    samples = [*SAMPLES, sampled("6", 0.0), sampled("4", 1.0)]
    kept, sentence = by_difficulty(ROWS, samples, TASK, curriculum=True)
    assert kept["question"][:] == ["2", "4", "5", "3", "1", "6"]
    assert "from easy to hard" in sentence


def test_several_samples_of_a_question_are_put_together():
    samples = [sampled("1", 1.0, 0.0), sampled("2", 1.0), sampled("1", 0.0, 0.0, answer="1")]
    kept, _ = by_difficulty(ROWS, samples, TASK, min_pass_rate=0.25, max_pass_rate=0.25)
    assert kept["question"][:] == ["1"]


def test_a_question_with_another_answer_is_another_question():
    rows = Dataset.from_list([{"question": "How many?", "answer": answer} for answer in ("7", "8", "8")])
    samples = [sampled("How many?", 1.0, answer="8"), sampled("How many?", 0.0, answer="9")]
    kept, sentence = by_difficulty(rows, samples, TASK)
    assert kept["answer"][:] == ["8", "8"] and "1 not sampled" in sentence


def test_no_text_is_copied():
    kept, _ = by_difficulty(ROWS, SAMPLES, TASK, curriculum=True)
    assert len(kept) == 4 and kept.data.num_rows == len(ROWS)  # the same table, seen through indices


def test_samples_of_other_rows_are_refused():
    with pytest.raises(InputError, match=r"No question of the 1 in the samples is among the 6 rows .* another task"):
        by_difficulty(ROWS, [sampled("9", 1.0)], TASK)
    with pytest.raises(InputError, match="another task"):
        by_difficulty(ROWS, [sampled("1", 1.0, answer="2")], TASK)


def test_nothing_left_says_why_and_what_helps():
    with pytest.raises(InputError, match=r"of 0\.8 to 0\.9 \(1 too easy, 3 too hard.*widen --min_pass_rate"):
        by_difficulty(ROWS, SAMPLES, TASK, min_pass_rate=0.8, max_pass_rate=0.9)


@pytest.mark.parametrize("bounds", [(0.9, 0.1), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_bounds_that_make_no_sense_are_refused(bounds):
    with pytest.raises(InputError, match="--min_pass_rate"):
        by_difficulty(ROWS, SAMPLES, TASK, min_pass_rate=bounds[0], max_pass_rate=bounds[1])
