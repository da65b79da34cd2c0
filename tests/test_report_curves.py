"""Which curves a report draws, and how: gaps, moving means, held-out dots, figures that fit the page."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import metrics_row, solved_row, write_rows, write_run

from recipes.reporting.curves import MOST_POINTS, curves_of, line_of, moving_mean, thinned
from recipes.reporting.drawing import STAND_INS, draw_panel, short
from recipes.reporting.files import LARGEST
from recipes.reporting.run_folder import RunFolder
from recipes.reporting.run_page import run_page
from recipes.reporting.series import Logged


@pytest.fixture
def panels(tmp_path):
    """The panels of a run with these metrics, by title."""

    def make(rows: list[dict], **run) -> dict:
        run = RunFolder(write_run(tmp_path / "run", metrics=rows, **run))
        return {panel.title: panel for panel in curves_of(run)[0]}

    return make


def test_where_a_curve_began_and_ended_is_what_its_health_is_told_by():
    values = np.array([*range(10), np.nan, *range(10, 20)], dtype=float)
    rows = [{"step": step, "x": None if np.isnan(value) else value} for step, value in enumerate(values)]
    series = Logged(rows, {}, {}, "", "").series("x")
    assert line_of("", np.arange(len(values)), values).ends == (series.first, series.last) == (3.5, 15.5)
    assert line_of("", np.arange(1), np.array([2.0])).ends == (2.0, 2.0)


def test_a_moving_mean_keeps_gaps_and_does_not_reach_over_the_ends():
    values = np.array([1.0, 2.0, np.nan, 4.0, 9.0])
    np.testing.assert_allclose(moving_mean(values, 3), [1.5, 1.5, np.nan, 6.5, 6.5])
    np.testing.assert_allclose(moving_mean(values, 1), values)


def test_long_curves_are_thinned_by_means():
    values = np.arange(10_000, dtype=float)
    values[:40] = np.nan
    values[50] = np.nan
    found = thinned(values)
    assert len(found) == MOST_POINTS and np.isnan(found[0]) and found[-1] == pytest.approx(9982.5)
    assert found[1] == pytest.approx(np.nanmean(values[33:66]))


def test_the_kl_of_grpo_is_that_of_a_completion(panels):
    found = panels([{"step": i, "reward": 1, "kl": 0.01 * i, "completions/mean_length": 50} for i in (1, 2, 3)])
    kl = found["KL to the reference"]
    np.testing.assert_allclose(kl.lines[0].raw, [0.5, 1.0, 1.5])
    assert kl.unit == "nats a completion"


def test_the_kl_of_ppo_is_taken_as_it_is(panels):
    rows = [{"step": i, "value/loss": i, "objective/kl": i, "completions/mean_length": 50} for i in (1, 2)]
    np.testing.assert_allclose(panels(rows)["KL to the reference"].lines[0].raw, [1, 2])


def test_only_what_was_logged_has_a_panel_and_what_never_changed_is_told(tmp_path):
    run = RunFolder(write_run(tmp_path / "run"))
    titles, constant = curves_of(run)
    titles = [panel.title for panel in titles]
    assert titles[:3] == ["Correctness", "Think format", "Total reward"] and not {"Value loss", "Loss"} & set(titles)
    assert dict(constant) == {"Cut off": 0.0, "Learning rate": 0.001}


def test_dpo_has_the_curves_of_pairs(panels):
    rows = [
        {"step": i, "loss": 1 / i, "rewards/margins": i, "rewards/accuracies": 1 - 1 / i, "logps/chosen": -i}
        | {"rewards/chosen": -i, "rewards/rejected": -2 * i, "logps/rejected": -2 * i}
        for i in range(1, 10)
    ]
    found = panels(rows, recipe="dpo")
    assert [line.label for line in found["Rewards of the pairs"].lines] == ["chosen", "rejected"]
    assert {"Held-out accuracy", "Margin of chosen over rejected", "Loss", "Log-probability of the pairs"} <= set(found)


def test_held_out_dots_stand_before_in_between_and_after(tmp_path):
    run = write_run(tmp_path / "run", steps=12, before=4, after=9)
    write_rows(run / "samples" / "during_000006.jsonl", [solved_row(i, i < 2) for i in range(8)])
    [correctness, *_], _ = curves_of(RunFolder(run))
    dots = correctness.lines[0].dots
    assert [(dot.step, dot.value, dot.few) for dot in dots] == [(0, 0.4, False), (6, 0.25, True), (12, 0.9, False)]
    assert dots[0].low < 0.4 < dots[0].high and dots[1].low is None


def test_the_spread_stays_within_the_range_of_the_reward(panels):
    line = panels([metrics_row(step, 12) for step in range(1, 13)])["Think format"].lines[0]
    assert line.low.min() == 0 and line.high.max() == 1


def test_a_step_that_was_logged_twice_counts_once(panels):
    rows = [metrics_row(step, 4, entropy=0.1) for step in (1, 2, 3)] + [metrics_row(step, 4) for step in (2, 3, 4)]
    line = panels(rows)["Entropy"].lines[0]
    assert line.steps.tolist() == [1, 2, 3, 4] and line.raw[0] == 0.1 and line.raw[1] != 0.1


def test_a_figure_is_svg_with_text_and_the_colours_of_the_page(panels):
    panel = panels([metrics_row(step, 12) for step in range(1, 13)])["Correctness"]
    svg = str(draw_panel(panel, "c7"))
    root = ET.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
    assert root.get("aria-label").startswith("Correctness: from ") and root.get("role") == "img"
    assert any(text.text == "step" for text in root.iter("text"))
    assert "var(--series-1)" in svg and not any(stand_in in svg for stand_in in STAND_INS.values())
    assert not re.search("#[0-9a-f]{6}", svg) and "<style" not in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert all(name.startswith("c7-") for name in ids) and set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)
    assert str(draw_panel(panel, "c7")) == svg


def test_a_value_between_two_gaps_is_drawn_as_a_point(panels):
    rows = [metrics_row(step, 12, entropy=0.2 if step in (3, 9) else None) for step in range(1, 13)]
    rows[8]["entropy"] = 0.3
    assert str(draw_panel(panels(rows)["Entropy"], "c")).count("<use ") == 2


def test_numbers_are_short():
    told = {0: "0", 0.06784: "0.068", 0.00002: "2e-5", 12.34: "12.3", 1234.5: "1,234", -0.5: "\u22120.5", 1.0: "1"}
    assert {value: short(value) for value in told} == told


# Fewer examples than hypothesis' default: each draws a whole page.
values = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.floats(), st.integers(-(10**400), 10**400))
keys = st.sampled_from(
    ["step", "reward", "entropy", "kl", "completions/mean_length", "rewards/a/mean", "rewards/a/std"]
)


@settings(max_examples=15)
@given(rows=st.lists(st.dictionaries(keys, values, max_size=6), max_size=8))
def test_no_metrics_break_a_page(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("runs")
    page = run_page(RunFolder(write_run(folder / "run", metrics=rows)))
    assert "</html>" in page


def test_the_largest_values_are_drawn(panels):
    rows = [metrics_row(step, 12, entropy=LARGEST * (-1) ** step) for step in range(1, 13)]
    assert "nan" not in str(draw_panel(panels(rows)["Entropy"], "c"))
