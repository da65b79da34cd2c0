"""The README says what the code does."""

import json
import re
from pathlib import Path

import rewards
from recipes.reporting.overoptimization_page import FLAG, lost, told

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_rewards_has_every_reward_and_no_other():
    section = README[README.index("## Use the rewards") : README.index("### Look at a reward")]
    named = set(re.findall(r"\b(?:get_)?[a-z_]+_reward\b", section))
    made = {name for name in rewards.__all__ if name.endswith("_reward")}
    assert named - {"my_reward"} == made


def test_the_figures_of_speed_are_those_of_the_committed_run():
    results = json.loads((ROOT / "benchmarks" / "results" / "rewards.json").read_text())
    section = README[README.index("### Speed\n") :]
    rows = re.findall(r"^\| (.+? / .+?) +\| ([\d.]+) +\| ([\d.]+) +\| ([\d.]+) +\|$", section, re.MULTILINE)
    ratios = {name: found for name, found in results.items() if isinstance(found, dict)}
    assert {name for name, *_ in rows} == ratios.keys()
    for name, *figures in rows:
        assert [float(figure) for figure in figures] == [ratios[name][key] for key in ("ratio", "lowest", "highest")]


def test_the_costs_of_ppo_are_those_of_the_committed_run():
    ratios = json.loads((ROOT / "benchmarks" / "results" / "ppo.json").read_text())["ratios"]
    rows = re.findall(
        r"^\| ((?:PPO|TRL)[^|]+? / [^|]+?) +\| (.+?) +\| (.+?) +\| (.+?) +\| (.+?) +\|$", README, re.MULTILINE
    )
    assert {name for name, *_ in rows} == ratios.keys()
    for name, *cells in rows:
        measured = [
            ratios[name][key] for key in ("seconds_per_step", "seconds_per_1000_tokens", "peak_mb", "needed_mb")
        ]
        written = ["{median} ({lowest}-{highest})".format(**figures) for figures in measured[:3]]
        assert cells == [*written, str(measured[3]["median"])]


def test_the_models_side_by_side_are_those_of_the_committed_evaluation():
    result = json.loads((ROOT / "benchmarks" / "results" / "eval-word_problems.json").read_text())
    row = r"^\| `(\S+)` +\| ([\d.]+) \(([\d.]+-[\d.]+)\) +\| ([\d.]+) +\| ([\d.]+) +\|(?: ([-+][^|]+?))? +\|"
    rows = re.findall(row, README, re.MULTILINE)
    assert {name for name, *_ in rows} == result["models"].keys()
    for name, *cells in rows:
        found, difference = result["models"][name], result["differences"].get(name)
        written = [f"{found['pass@1']:.3f}", "{:.3f}-{:.3f}".format(*found["intervals"]["pass@1"])]
        written += [f"{found[key]:.3f}" for key in ("pass@8", "maj@8")]
        assert cells == [*written, f"{difference['difference']:+.3f}, p = {difference['p']:.4f}" if difference else ""]


def test_the_rates_of_the_sampler_are_those_of_the_committed_run():
    result = json.loads((ROOT / "benchmarks" / "results" / "sample.json").read_text())
    rows = re.findall(r"^\| (sampler / [a-z ]+?) +\| ([\d.]+) +\| ([\d.]+) +\| ([\d.]+) +\|$", README, re.MULTILINE)
    assert {name for name, *_ in rows} == result["ratios"].keys()
    for name, *cells in rows:
        assert [float(cell) for cell in cells] == [result["ratios"][name][key] for key in ("median", "low", "high")]
    assert f"{100 * result['scoring_share']['median']:.1f} % of the sampler's time" in README


def test_the_costs_of_the_sandbox_are_those_of_the_committed_run():
    results = json.loads((ROOT / "benchmarks" / "results" / "code_reward.json").read_text())
    section = README[README.index("### Code\n") : README.index("### Look at a reward")]
    rows = re.findall(r"^\| ([a-z]+, [a-z ]+ / .+?) +\| ([\d.]+) +\| ([\d.]+) +\| ([\d.]+) +\|$", section, re.MULTILINE)
    ratios = {name: found for name, found in results.items() if " / " in name}
    assert {name for name, *_ in rows} == ratios.keys()
    for name, *figures in rows:
        assert [float(figure) for figure in figures] == [ratios[name][key] for key in ("ratio", "lowest", "highest")]


def test_the_costs_of_the_report_and_of_the_live_panel_are_those_of_the_committed_runs():
    report, live = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text()) for name in ("report", "live_panel")
    )
    text = " ".join(README.split())
    assert f"{report['file_mb']} MB, in {report['ratio_to_the_imports_of_training']} times the time" in text
    assert f"the live panel takes {100 * live['ratio']:.1f} % of the time of a training step" in text
    assert f"{100 * live['ratio_with_waiting']:.1f} % by the clock" in text


def test_the_table_of_proxy_and_gold_is_that_of_the_committed_run():
    result = json.loads((ROOT / "benchmarks" / "results" / "overoptimization-word_problems.json").read_text())
    rows = dict(re.findall(r"^\| `(--(?:beta|kl_coef) [\d.]+)` +\|(.+)\|$", README, re.MULTILINE))
    assert len(rows) == len(result["runs"]) == 6
    for name, points in result["runs"].items():
        trainer, _, coef = name.partition("-")
        cells = [cell.strip() for cell in rows[f"--{FLAG[trainer]} {coef}"].split("|")]
        assert cells == [trainer.upper(), *told(points), f"{lost(points):.2f}"]
    last, text = result["best_of_n"][-1], " ".join(README.split())
    fall = last["against_peak"]
    assert f"is worse at {last['n']} than at {fall['peak']} (by {-100 * fall['difference']:.1f} points" in text
    assert f"on {fall['n']} problems; paired test, p = {fall['p']:.4f})" in text
    assert f"| best of 1 to {last['n']} | | {' | '.join(told(result['best_of_n']))} |" in text
