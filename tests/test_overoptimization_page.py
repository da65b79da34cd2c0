"""The page of proxy and gold: what it says follows from the points, and nothing in it is markup."""

import json
import re

import numpy as np
import pytest

from recipes.errors import InputError
from recipes.overoptimize import curve, noise_of
from recipes.report import write_report
from recipes.reporting.overoptimization_page import WINDOW, is_fooled, lost, verdict


def points(*values: tuple[float, float, float]) -> list[dict]:
    return [{"step": i, "kl": kl, "proxy": proxy, "gold": gold} for i, (kl, proxy, gold) in enumerate(values, start=10)]


def long(start: tuple, peak: tuple, end: tuple) -> list[dict]:
    """A run whose first and last point are of different steps."""
    return points(start, *[peak] * WINDOW, end)


FOOLED = long((0.2, -0.3, 0.5), (2.0, 0.8, 0.7), (25.0, 1.0, 0.1))
HELD = long((0.2, -0.3, 0.5), (1.0, 0.9, 0.9), (1.5, 1.0, 0.88))
UNLEARNED = long((0.2, -0.3, 0.5), (1.0, 0.9, 0.9), (1.5, 0.2, 0.1))  # the proxy fell as well
BEST_OF_N = [
    {"n": 1, "kl": 0.0, "proxy": 0.0, "gold": 0.5, "gold_ci95": [0.4, 0.6]},
    {"n": 2, "kl": 0.2, "proxy": 0.5, "gold": 0.8, "gold_ci95": [0.7, 0.9]},
    {"n": 4, "kl": 0.6, "proxy": 0.9, "gold": 0.7, "gold_ci95": [0.6, 0.8]}
    | {"against_peak": {"n": 64, "difference": -0.1, "ci95": [-0.15, -0.05], "p": 0.004, "peak": 2}},
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(
        "# A pipeline of trl-recipes.\npipeline: overoptimize\ntask: word_problems\n"
    )
    return tmp_path


def result(folder, **runs) -> str:
    given = {"task": "word_problems", "kl_coefs": [0.001, 0.3], "grpo.learning_rate": "5e-4", "output_dir": "runs/o"}
    told = {"task": "word_problems", "model": "starter", "seed": 7, "given": given}
    told |= {"best_of_n": BEST_OF_N, "runs": runs}
    (folder / "result.json").write_text(json.dumps(told))
    return write_report(folder).read_text()


def test_gold_that_falls_while_the_proxy_rises_is_said_with_its_flag_and_numbers():
    assert (is_fooled(FOOLED), is_fooled(HELD), is_fooled(UNLEARNED)) == (True, False, False)
    assert lost(FOOLED) == pytest.approx(0.6)
    headline, sentence = verdict({"grpo-0.001": FOOLED, "ppo-0.3": HELD}, {})
    assert headline == "The proxy rose, the truth fell"
    assert sentence.replace("\N{NO-BREAK SPACE}", " ") == (
        "With GRPO, --beta 0.001 the proxy rose (0.8 to 1) while the share of right answers fell from 70.0 % to "
        "10.0 %. The best end has PPO, --kl_coef 0.3: 88.0 % of its samples right."
    )
    assert verdict({"grpo-0.3": HELD}, {})[0] == "No over-optimization seen"
    flat = long((0.2, -0.3, 0.5), (2.0, 1.0, 0.8), (5.0, 0.98, 0.6))
    assert verdict({"grpo-0.001": flat}, {})[0] == "The proxy stayed high, the truth fell"


def test_the_page_has_two_figures_for_each_trainer_and_a_row_for_each_run(folder):
    page = result(folder, **{"grpo-0.001": FOOLED, "grpo-0.3": HELD, "ppo-0.3": HELD})
    assert page.count('<svg class="plot"') == 4 and "<script" not in page
    assert "0.50 → 0.70 → 0.10" in page and "best of 1 to 4" in page
    page = page.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    assert (
        "The best of 4 is right in 70.0 % (60.0 to 80.0), -10.0 points against the best of 2 (paired test on 64 "
        "problems, p = 0.004)." in page
    )


def test_the_page_has_the_setting_and_the_command_that_makes_it_again(folder):
    page = result(folder, **{"grpo-0.001": FOOLED, "grpo-0.3": HELD})
    text = re.sub(r"</?span>", "", page)
    command = "python -m recipes.overoptimize --task word_problems --kl_coefs 0.001 0.3 --grpo.learning_rate 5e-4"
    assert command in text and "make overoptimize-word_problems ARGS=" in text
    assert "<dt>Seed</dt><dd>7</dd>" in page


def test_a_gold_that_only_varies_has_not_fallen():
    """Six runs in which nothing changes, of 45 steps whose gold varies as that of 8 groups of 8 does."""
    random, called = np.random.default_rng(0), 0
    for _ in range(100):
        runs, noise = {}, {}
        for run in range(6):
            gold = random.normal(0.6, 0.093, size=45)
            rows = [
                {"step": i, "objective/kl": 1.0, "rewards/reward_model/mean": 1.0, "rewards/gold/mean": value}
                for i, value in enumerate(gold.tolist())
            ]
            runs[f"grpo-{run}"], noise[f"grpo-{run}"] = curve(rows, "gold"), noise_of(rows, "gold")
        called += "fell" in verdict(runs, noise)[0]
    assert called <= 3
    assert is_fooled(FOOLED, noise=0.093)


def test_a_run_that_is_too_short_is_not_judged(folder):
    short = points((0.2, -0.3, 0.5), (2.0, 0.8, 0.7), (25.0, 1.0, 0.1))
    assert verdict({"grpo-0.001": short}, {})[0] == "Too short to judge"
    assert verdict({"grpo-0.001": short, "grpo-0.3": HELD}, {})[0] == "No over-optimization seen"
    assert "by more than 10 points" in verdict({"grpo-0.3": HELD}, {})[1]
    assert "too short" in result(folder, **{"grpo-0.001": short})


def test_names_with_markup_are_text(folder):
    page = result(folder, **{"grpo-<script>alert(1)</script>": FOOLED})
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", '{"runs": {"grpo-1": []}, "best_of_n": []}', json.dumps({"runs": {}, "best_of_n": HELD})],
)
def test_what_is_unfinished_or_broken_is_one_sentence(folder, content):
    (folder / "result.json").write_text(content)
    with pytest.raises(InputError, match="is unfinished: its command, again, goes on to the end"):
        write_report(folder)
