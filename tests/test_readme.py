"""The README says what the code does."""

import json
import re
from pathlib import Path

import rewards

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_rewards_has_every_reward_and_no_other():
    section = README[README.index("## Use the rewards") : README.index("### Look at a reward")]
    named = set(re.findall(r"\b(?:get_)?[a-z_]+_reward\b", section))
    made = {name for name in rewards.__all__ if name.endswith("_reward")}
    assert named - {"my_reward"} == made


def test_the_figures_of_speed_are_those_of_the_committed_run():
    results = json.loads((ROOT / "benchmarks" / "results" / "rewards.json").read_text())
    rows = re.findall(r"^\| (.+? / .+?) +\| ([\d.]+) +\| ([\d.]+) +\| ([\d.]+) +\|$", README, re.MULTILINE)
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
