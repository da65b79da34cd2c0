"""What is said of scored samples equals what one counts by hand."""

import itertools
import json
from pathlib import Path
from statistics import fmean

import pytest

from recipes import evaluate, sample
from recipes.errors import InputError
from recipes.measures import measure
from recipes.tasks import load_task
from rewards import language_consistency_reward

TASK = load_task("word_problems")


def row(question: str, right: list, formed: list | None = None, texts: list[str] | None = None, **columns) -> dict:
    return {
        "question": question,
        "answer": "1",
        "completions": texts or ["1" if value else "2" for value in right],
        "rewards": {"correctness_reward": right, "think_format_reward": formed or [0.0] * len(right)},
        **columns,
    }


ROWS = [
    row(
        "a", [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0], completion_tokens=[2, 4, 6, 8], truncated=[True, *[False] * 3]
    ),
    row("b", [0.0] * 4, completion_tokens=[10, None, None, 20], truncated=[None] * 4),
    row("c", [1.0] * 4),
    row("d", [0.0, 1.0, 0.0, 0.0]),
]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_over_a_file_is_the_share_of_subsets_with_a_right_one(k):
    found = measure(ROWS, TASK, [k])
    by_hand = [fmean(max(some) for some in itertools.combinations(r["rewards"]["correctness_reward"], k)) for r in ROWS]
    assert found.values[f"pass@{k}"] == pytest.approx(by_hand)
    assert found.figures()[f"pass@{k}"] == pytest.approx(fmean(by_hand))


def test_pass_at_1_is_the_accuracy():
    found = measure(ROWS, TASK, [1]).figures()
    assert found["accuracy"] == found["pass@1"] == pytest.approx((0.5 + 0 + 1 + 0.25) / 4)


def test_the_other_figures_are_means_over_problems_of_what_is_known():
    found = measure(ROWS, TASK).figures()
    assert (found["prompts"], found["completions"], found["always"], found["never"]) == (4, 16, 1, 1)
    assert found["strict_accuracy"] == pytest.approx(0.25 / 4)  # right and well formed: one completion of a
    assert found["format"] == pytest.approx(0.5 / 4)
    assert found["mean_length"] == (5 + 15) / 2
    assert found["truncated"] == 0.25  # only a says so
    assert found["ci95"][0] < found["accuracy"] < found["ci95"][1]
    assert measure(ROWS[2:], TASK).figures()["mean_length"] is None


def test_a_prompt_without_a_usable_gold_answer_is_not_counted():
    unusable = row("e", [None] * 4, [1.0] * 4)
    found = measure([*ROWS, unusable], TASK, [2]).figures()
    assert found.pop("unjudged") == 1
    expected = measure(ROWS, TASK, [2]).figures()
    assert expected.pop("unjudged") == 0
    assert found == expected


def test_samples_of_which_none_can_be_judged_are_refused():
    with pytest.raises(InputError, match=r"^correctness_reward could judge none of the samples"):
        measure([row("a", [None, None])], TASK)


def test_a_further_reward_is_a_mean_over_what_it_judged():
    task = TASK.with_rewards([language_consistency_reward.__name__])
    rows = [row("a", [1.0] * 3), row("b", [1.0] * 3)]
    for values, one in zip([[0.5, None, 1.0], [None] * 3], rows, strict=True):
        one["rewards"]["language_consistency_reward"] = values
    assert measure(rows, task).figures()["rewards/language_consistency_reward"] == 0.75


def test_a_half_and_0_5_are_one_vote_from_the_completions_to_the_table(write_jsonl, capsys):
    answers = ["<answer>3</answer>", "<answer>1/2</answer>", "So it is \\boxed{0.5}."]
    theirs = write_jsonl([{"question": "Half of one?", "answer": "1/2", "completions": answers}])
    sample.main(["--task", "word_problems", "--completions", str(theirs), "--output_dir", "scored"])
    evaluate.main(["--task", "word_problems", "--models", "scored", "--k", "1", "3"])
    (figures,) = json.loads(Path("runs/eval-word_problems/result.json").read_text())["models"].values()
    assert figures["maj@3"] == 1.0 and figures["pass@1"] == pytest.approx(2 / 3)
    assert figures["maj@1"] == pytest.approx(2 / 3)
    assert "maj@3" in capsys.readouterr().out
