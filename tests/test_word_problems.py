"""The generator: right, deterministic, unlimited, and its held-out problems never seen in training."""

import itertools
import re

import pytest

from recipes.errors import InputError
from recipes.tasks.word_problems import LARGEST, OPERATIONS, TEMPLATES, generate, load


def take(n, *args, **kwargs):
    return list(itertools.islice(generate(*args, **kwargs), n))


def calculation(row):
    return row["answer"].split("\n")[0]


def test_there_are_at_least_eight_templates_of_two_steps():
    assert len({words for _, _, words in TEMPLATES}) >= 8
    assert all(len(steps) == 2 for steps, _, _ in TEMPLATES)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_worked_step_is_true_and_leads_to_the_answer(held_out):
    for row in take(2_000, 3, held_out=held_out):
        steps, answer = row["answer"].split("\n#### ")
        for step in steps.split(". "):
            x, operation, y, result = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)", step).groups()
            assert OPERATIONS[operation](int(x), int(y)) == int(result) <= LARGEST
        assert answer == result
        # Every number of the question is used, and nothing else is.
        assert set(re.findall(r"\d+", row["question"])) <= set(re.findall(r"\d+", steps))


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    assert take(50, 1) == take(50, 1)
    assert take(50, 1) != take(50, 2)


def test_no_held_out_calculation_is_ever_a_training_calculation():
    train = {calculation(row) for seed in range(5) for row in take(4_000, seed)}
    held_out = {calculation(row) for seed in range(5) for row in take(1_000, seed, held_out=True)}
    assert len(train) > 5_000 and len(held_out) > 1_000
    assert not train & held_out


def test_the_held_out_rows_do_not_depend_on_the_seed():
    (train_1, held_out_1), (train_2, held_out_2) = load(None, None, 1), load(None, None, 2)
    assert held_out_1["question"] == held_out_2["question"]
    assert train_1["question"] != train_2["question"]


def test_a_data_set_name_is_refused():
    with pytest.raises(InputError, match="drop --dataset_name x"):
        load("x", None, 0)
