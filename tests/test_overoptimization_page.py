"""The page of proxy and gold: what it says follows from the points, and nothing in it is markup."""

import json

import pytest

from recipes.errors import InputError
from recipes.report import write_report
from recipes.reporting.overoptimization_page import is_fooled, lost, verdict


def points(*values: tuple[float, float, float]) -> list[dict]:
    return [{"step": i, "kl": kl, "proxy": proxy, "gold": gold} for i, (kl, proxy, gold) in enumerate(values, start=10)]


FOOLED = points((0.2, -0.3, 0.5), (2.0, 0.8, 0.7), (25.0, 1.0, 0.1))
HELD = points((0.2, -0.3, 0.5), (1.0, 0.9, 0.9), (1.5, 1.0, 0.88))
UNLEARNED = points((0.2, -0.3, 0.5), (1.0, 0.9, 0.9), (1.5, 0.2, 0.1))  # the proxy fell as well


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(
        "# A pipeline of trl-recipes.\npipeline: overoptimize\ntask: word_problems\n"
    )
    return tmp_path


def result(folder, **runs) -> str:
    told = {"task": "word_problems", "model": "starter", "best_of_n": HELD, "runs": runs}
    (folder / "result.json").write_text(json.dumps(told))
    return write_report(folder).read_text()


def test_gold_that_falls_while_the_proxy_rises_is_said_with_its_flag_and_numbers():
    assert (is_fooled(FOOLED), is_fooled(HELD), is_fooled(UNLEARNED)) == (True, False, False)
    assert lost(FOOLED) == pytest.approx(0.6)
    headline, sentence = verdict({"grpo-0.001": FOOLED, "ppo-0.3": HELD})
    assert headline == "The proxy rose, the truth fell"
    assert sentence.replace("\N{NO-BREAK SPACE}", " ") == (
        "With GRPO, --beta 0.001 the proxy rose (0.8 to 1) while the share of right answers fell from 70.0 % to "
        "10.0 %. PPO, --kl_coef 0.3 ended with 88.0 % right answers."
    )
    assert verdict({"grpo-0.3": HELD})[0] == "No over-optimization seen"
    flat = points((0.2, -0.3, 0.5), (2.0, 1.0, 0.8), (5.0, 0.98, 0.6))
    assert verdict({"grpo-0.001": flat})[0] == "The proxy stayed high, the truth fell"


def test_the_page_has_two_figures_for_each_trainer_and_a_row_for_each_run(folder):
    page = result(folder, **{"grpo-0.001": FOOLED, "grpo-0.3": HELD, "ppo-0.3": HELD})
    assert page.count('<svg class="plot"') == 4 and "<script" not in page
    assert "0.50 → 0.70 → 0.10" in page and "best of n" in page


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
