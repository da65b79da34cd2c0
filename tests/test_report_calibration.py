"""Calibration in the report: how often samples agree, against how often what most of them say is right."""

import numpy as np
import pytest
from report_runs import sampled_row

from recipes.reporting.calibration import calibrate, change, draw_reliability, moved

CORRECTNESS = "correctness_reward"


def test_confidence_is_the_share_of_the_samples_that_agree_with_the_majority():
    found = calibrate([sampled_row(3, ["3", "3", "3", "5"]), sampled_row(4, ["9", "9", "4", None])], CORRECTNESS)
    assert found.stated == [0.75, 0.5] and found.right == [True, False] and found.samples == 4
    assert found.confidence == 0.625 and found.accuracy == 0.5


def test_the_gap_is_of_each_answer_and_the_other_samples():
    found = calibrate([sampled_row(3, ["3", "3", "3", "5"]), sampled_row(4, ["9", "9", "4", None])], CORRECTNESS)
    assert found.gaps == pytest.approx([(3 * (2 / 3 - 1) + 0) / 4, (2 * (1 / 3) + (0 - 1)) / 4])
    assert found.gap == pytest.approx(sum(found.gaps) / 2)


@pytest.mark.parametrize("believes", [0.3, 1.0, 5.0, "90 %", "98 %", "99.5 %"])
def test_a_model_that_is_right_as_often_as_it_says_is_called_calibrated(believes):
    random, calls = np.random.default_rng(0), []
    for _ in range(60):
        rows = []
        for _ in range(50):
            sure = float(believes[:-2]) / 100 if isinstance(believes, str) else None
            chances = [sure, *[(1 - sure) / 5] * 5] if sure else random.dirichlet([believes] * 6)
            gold, *answers = random.choice(6, size=9, p=chances)  # the truth is drawn from what the model believes
            rows.append(sampled_row(int(gold), [str(answer) for answer in answers]))
        calls.append(calibrate(rows, CORRECTNESS))
    assert abs(np.mean([found.gap for found in calls])) < 0.02
    assert sum("neither" in found.in_words() for found in calls) >= 55  # the interval is of 95 %, of 60


def test_of_a_few_problems_nothing_is_said():
    few = calibrate([sampled_row(1, ["2"] * 4)] * 3, CORRECTNESS)
    assert few.in_words() == "neither over- nor underconfident, as far as 3 problems can tell"
    assert moved([False], [True]) == moved([False] * 3, [True] * 3) == "about as"
    assert moved([False] * 20, [True] * 20) == "more" and moved([1.0] * 20, [0.5] * 20) == "less"
    assert moved([0.9] * 20, [0.88] * 20) == moved([1.0] * 20, [1.0] * 20) == "about as"


def test_a_row_with_a_single_sample_tells_nothing():
    assert calibrate([sampled_row(1, ["1"])], CORRECTNESS) is None


def test_answers_of_the_same_value_are_one_and_of_a_tie_the_first_is_taken():
    row = sampled_row(3, ["6/2", "3", "7", "7"])
    row["rewards"][CORRECTNESS] = [1.0, 1.0, 0.0, 0.0]
    found = calibrate([row], CORRECTNESS)
    assert found.stated == [0.5] and found.right == [True]


def test_problems_without_an_answer_or_a_verdict_are_left_out_and_counted():
    unjudged = sampled_row(1, ["1", "1"])
    unjudged["rewards"][CORRECTNESS] = [None, None]
    broken = [{}, {"completions": ["1"], "rewards": {}}, {"completions": 3, "rewards": {CORRECTNESS: []}}]
    found = calibrate([sampled_row(0, [None] * 4), unjudged, *broken, sampled_row(2, ["2"] * 4)], CORRECTNESS)
    assert (len(found.stated), found.unanswered, found.unjudged) == (1, 1, 4)
    assert calibrate([sampled_row(0, [None] * 4)], CORRECTNESS) is None and calibrate([], CORRECTNESS) is None


def test_a_group_has_the_share_right_of_its_problems():
    rows = [sampled_row(1, ["1"] * 4)] * 6 + [sampled_row(1, ["2"] * 4)] * 2  # stated 1, right 0.75
    rows += [sampled_row(1, ["1", "1", "2", "3"])] * 2  # stated 0.5, right 1
    found = calibrate(rows, CORRECTNESS)
    assert found.groups == [(0.5, 1.0, 2), (1.0, 0.75, 8)]


def test_over_and_underconfidence_are_told_only_where_the_interval_says_so():
    sure = [sampled_row(1, ["2"] * 4)] * 30
    shy = [sampled_row(1, ["1", "1", "2", "3"])] * 30
    even = [sampled_row(1, ["1", "1", "1", "2"])] * 15 + [sampled_row(1, ["2", "2", "2", "3"])] * 15
    told = [calibrate(rows, CORRECTNESS) for rows in (sure, shy, even)]
    assert [found.in_words() for found in told] == [
        "overconfident by 100 points",
        "underconfident by 33 points",
        "neither over- nor underconfident, as far as 30 problems can tell",
    ]
    assert change(told[0], told[1]).endswith(
        "it was overconfident by 100 points, and is now underconfident by 33 points."
    )
    same = change(told[2], told[2])
    assert same.endswith(f"before and after it is {told[2].in_words()}.")
    assert same.startswith("Its samples agree about as often (75") and "is right about as often (50" in same
    assert change(told[0], told[1]).startswith("Its samples agree less often (100")
    assert "is right more often (0" in change(told[0], told[1])


def test_the_diagram_is_described_in_words():
    svg = str(draw_reliability(calibrate([sampled_row(1, ["1", "1", "2", "3"])], CORRECTNESS), "c"))
    assert "of 1 problems stated 50%, right 100%" in svg and "share of samples that agree" in svg
