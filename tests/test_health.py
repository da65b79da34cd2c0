"""Every check sees the run that it is for, and not the noise of healthy ones; every flag that it names exists."""

import math
import random
import re
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.reporting.health import check_health

RIGHT, FORM, GOLD = "correctness_reward", "think_format_reward", "gold_reward"
WEIGHTS = {RIGHT: 1.0, FORM: 0.2}
SETTINGS = {"task": "word_problems", "num_generations": 8, "max_completion_length": 48, "max_grad_norm": 1.0}
LEARNED = [0.53, 0.6, 0.62, 0.66, 0.72, 0.84, 0.9, 0.92, 0.93, 0.93]  # the curve of a real run on the miniature


def at(curve, progress: float) -> float:
    """The value of a curve: a number, or points that are equally far apart."""
    points = [curve] if isinstance(curve, int | float) else curve
    return float(np.interp(progress, np.linspace(0, 1, len(points)), points))


def logged(n: int, seed: int, noise: float = 0.05, **curves) -> list[dict]:
    """n rows of metrics around their curves; the names have `__` for `/`."""
    rng = np.random.default_rng(seed)
    return [
        {"step": i + 1, "epoch": 0.01 * i}
        | {k.replace("__", "/"): at(c, i / (n - 1)) * float(1 + noise * rng.normal()) for k, c in curves.items()}
        for i in range(n)
    ]


def grpo(n: int = 60, seed: int = 0, right=LEARNED, form=(0.3, 0.5, 0.9, 1), total=None, groups: int = 8, **curves):
    """Rows of a GRPO run: eight answers to each of eight problems, which are not equally hard."""
    rng = np.random.default_rng(seed)
    usual = {"loss": 0.1, "grad_norm": 0.3, "entropy": (0.2, 0.1), "completions__mean_length": (10, 14, 22, 22)}
    rows = logged(n, seed, **usual | {"completions__clipped_ratio": 0.01} | curves)
    for i, row in enumerate(rows):
        p, f = at(right, i / (n - 1)), at(form, i / (n - 1))
        chance = rng.beta(2 * p + 1e-6, 2 * (1 - p) + 1e-6, (groups, 1))
        scores = {RIGHT: rng.random((groups, 8)) < chance, FORM: rng.random((groups, 8)) < f}
        for name, values in scores.items():
            row |= {f"rewards/{name}/mean": float(values.mean()), f"rewards/{name}/std": float(values.std(ddof=1))}
        sums = scores[RIGHT] + 0.2 * scores[FORM]
        row |= {"reward": float(sums.mean()) if total is None else at(total, i / (n - 1))}
        row |= {"reward_std": float(sums.std(ddof=1))}
        row.setdefault("frac_reward_zero_std", float((sums.std(axis=1) < 1e-9).mean()))
    return rows


def ppo(n: int = 30, seed: int = 0, **curves):
    usual = {"objective__kl": (0, 0.1, 0.45), "value__loss": 0.1, "value__explained_variance": (0.0, 0.5, 0.5)}
    rows = grpo(n, seed, groups=64, **usual | curves)
    return [{key: value for key, value in row.items() if key != "frac_reward_zero_std"} for row in rows]


def dpo(n: int = 54, seed: int = 0, chosen=(-1.3, -3.2), rejected=(-3.3, -34), beta: float = 0.1, **curves):
    usual = {"loss": (0.69, 0.1), "grad_norm": 0.5, "rewards__accuracies": (0.5, 0.9, 0.95, 0.98)}
    rows = logged(n, seed, **usual | {"logps__chosen": chosen, "logps__rejected": rejected} | curves)
    for row in rows:
        a = beta * (row["logps/chosen"] - at(chosen, 0)), beta * (row["logps/rejected"] - at(rejected, 0))
        row |= {"rewards/chosen": a[0], "rewards/rejected": a[1]}
        row |= {"rewards/margins": a[0] - a[1]} if "rewards__margins" not in curves else {}
    return rows


def sft(n: int = 64, seed: int = 0, **curves):
    return logged(n, seed, **{"loss": (0.05, 0.002), "grad_norm": 0.05, "mean_token_accuracy": 0.99} | curves)


def rm(n: int = 60, seed: int = 0, epochs: float = 1, **curves):
    usual = {"loss": (0.69, 0.4, 0.3), "grad_norm": 1.0, "accuracy": (0.5, 0.8, 0.85), "margin": (0, 1, 2)}
    rows = logged(n, seed, **usual | curves)
    return [row | {"epoch": epochs * i / n} for i, row in enumerate(rows)]


def with_gold(rows: list[dict], gold) -> list[dict]:
    """The rows of a run with one more reward."""
    rng = np.random.default_rng(7)
    n = len(rows)
    return [
        row | {f"rewards/{GOLD}/mean": at(gold, i / (n - 1)) + float(rng.normal(0, 0.05)), f"rewards/{GOLD}/std": 0.4}
        for i, row in enumerate(rows)
    ]


def put(rows: list[dict], places: slice | list[int], key: str, value) -> list[dict]:
    chosen = set(range(len(rows))[places] if isinstance(places, slice) else places)
    return [row | {key: value} if i in chosen else row for i, row in enumerate(rows)]


def health(rows, settings=SETTINGS, weights=WEIGHTS) -> dict:
    """The findings by name."""
    return {finding.name: finding for finding in check_health(rows, settings, weights, RIGHT, FORM)}


MEASURED = WEIGHTS | {GOLD: 0.0}
TRAINED = WEIGHTS | {GOLD: 1.0}
NO_GAIN = {"right": 0.5, "form": 0.6, "completions__mean_length": 20}


@dataclass
class Case:
    recipe: str
    name: str
    level: str
    rows: list[dict]
    settings: dict = field(default_factory=dict)
    weights: dict = field(default_factory=WEIGHTS.copy)

    def finding(self, **more):
        return health(self.rows, self.settings | more, self.weights)[self.name]


def ill(recipe, name, level, rows, settings=None, weights=WEIGHTS) -> Case:
    return Case(recipe, name, level, rows, settings or {}, weights)


def well(name, rows, settings=None, weights=WEIGHTS) -> Case:
    return Case("", name, "ok", rows, settings or {}, weights)


ALWAYS = slice(None)
AT_ONCE = {"accuracy": (0.6, 1, 1, 1, 1), "loss": (0.7, 0, 0, 0, 0), "noise": 0}
SAME = put(grpo(), ALWAYS, f"rewards/{GOLD}/mean", 0.4)
NEVER = put(grpo(), ALWAYS, f"rewards/{GOLD}/mean", 0.0)
LOUD = {RIGHT: 0.05, FORM: 1.0}

ILL = {
    "a NaN now and then": ill("grpo", "finite numbers", "watch", put(grpo(), [20], "grad_norm", math.nan)),
    "NaN to the end": ill("sft", "finite numbers", "bad", put(sft(), slice(62, 64), "loss", None)),
    "infinite gradients": ill("dpo", "finite numbers", "bad", put(dpo(), slice(0, 50, 9), "grad_norm", math.inf)),
    "answers lost": ill("grpo", "right answers", "bad", grpo(right=(0.6, 0.6, 0.2))),
    "answers lost in a step": ill("grpo", "right answers", "bad", grpo(right=[0.5] + [0] * 59)),
    "answers lost after a peak": ill("ppo", "right answers", "watch", ppo(60, right=(0.3, 0.9, 0.6))),
    "no gain": ill("grpo", "right answers", "watch", grpo(**NO_GAIN)),
    "gold falls": ill(
        *("grpo", "over-optimization", "bad"),
        *(with_gold(grpo(200, right=0.5, total=(0.5, 1.2)), (0.6, 0.7, 0.3)), {}, MEASURED),
    ),
    "gold falls as answers rise": ill(
        *("ppo", "over-optimization", "watch"),
        *(with_gold(ppo(100, total=(0.5, 1.2)), (0.6, 0.7, 0.3)), {}, MEASURED),
    ),
    "answers fall as the total rises": ill(
        "ppo", "over-optimization", "bad", ppo(100, right=(0.6, 0.7, 0.4), total=(0.5, 1.2))
    ),
    "a learned reward is fooled": ill(
        *("grpo", "over-optimization", "bad"),
        *(with_gold(grpo(100, right=(0.5, 0.7, 0.3), total=(0, 4)), (0, 4)), {}, {RIGHT: 0.0, FORM: 0.0, GOLD: 1.0}),
    ),
    "format alone": ill("ppo", "format and correctness", "bad", ppo(60, right=0.5, form=(0.2, 1))),
    "format, and answers perhaps": ill("grpo", "format and correctness", "watch", grpo(right=0.5, form=(0.2, 1))),
    "never right": ill("grpo", "varied rewards", "bad", grpo(right=0)),
    "never well formed": ill("ppo", "varied rewards", "bad", ppo(form=0)),
    "a reward that never pays": ill("grpo", "varied rewards", "bad", NEVER, {}, TRAINED),
    "a reward that is always the same": ill("grpo", "varied rewards", "watch", SAME, {}, TRAINED),
    "format is loudest": ill("grpo", "balance of the rewards", "bad", grpo(right=0.5, form=0.5), {}, LOUD),
    "format is loudest, and answers rise": ill("ppo", "balance of the rewards", "watch", ppo(form=0.5), {}, LOUD),
    "all right": ill(
        "grpo", "groups without signal", "watch", grpo(right=0.97, form=1, frac_reward_zero_std=0.8), SETTINGS
    ),
    "all wrong": ill("grpo", "groups without signal", "bad", grpo(right=0.04, frac_reward_zero_std=0.7)),
    "half of the groups right": ill(
        "grpo", "groups without signal", "watch", grpo(right=0.5, frac_reward_zero_std=0.7)
    ),
    "entropy gone early": ill("grpo", "entropy", "bad", grpo(right=0.4, entropy=(0.3, 0.02, 0.01, 0.01))),
    "entropy gone early, PPO": ill("ppo", "entropy", "bad", ppo(right=0.4, entropy=(0.3, 0.02, 0.01))),
    "little entropy from the start": ill("grpo", "entropy", "watch", grpo(right=0.4, entropy=0.03)),
    "sure of itself": ill("grpo", "entropy", "watch", grpo(entropy=(0.2, 0.1, 0.03, 0.015))),
    "random": ill("grpo", "entropy", "bad", grpo(right=(0.5, 0), entropy=(0.3, 2.4)), {"entropy_coef": 0.1}),
    "KL runs away": ill("ppo", "KL", "bad", ppo(60, right=0.5, objective__kl=(0, 1, 2, 30, 80))),
    "KL runs away, a token": ill("grpo", "KL", "bad", grpo(kl=(0, 0, 0.1, 3), **NO_GAIN), {"beta": 0.01}),
    "KL is far": ill("ppo", "KL", "watch", ppo(60, objective__kl=(0, 12, 14), completions__mean_length=22)),
    "KL is very far": ill("ppo", "KL", "bad", ppo(60, **NO_GAIN, objective__kl=(0, 40, 45))),
    "longer for nothing": ill("grpo", "length", "bad", grpo(right=0.5, completions__mean_length=(10, 30))),
    "somewhat longer": ill("ppo", "length", "watch", ppo(right=0.5, completions__mean_length=(10, 10, 18, 18))),
    "at the limit": ill("grpo", "length", "watch", grpo(completions__mean_length=(20, 46, 47)), SETTINGS),
    "at the limit for nothing": ill(
        "grpo", "length", "bad", grpo(right=0.5, completions__mean_length=(38, 47)), SETTINGS
    ),
    "thinking given up": ill("grpo", "length", "bad", grpo(right=(0.8, 0.3), completions__mean_length=(22, 4))),
    "much shorter": ill("ppo", "length", "watch", ppo(right=0.5, completions__mean_length=(22, 4))),
    "some cut off": ill("grpo", "truncation", "watch", grpo(completions__clipped_ratio=(0.1, 0.3)), SETTINGS),
    "most cut off": ill("ppo", "truncation", "bad", ppo(completions__clipped_ratio=0.8), SETTINGS),
    "cut off and lost": ill("grpo", "truncation", "bad", grpo(right=(0.5, 0, 0), completions__clipped_ratio=(0, 0.9))),
    "a critic that does harm": ill("ppo", "critic", "bad", ppo(right=0.6, value__explained_variance=-0.4)),
    "a critic that foresees nothing": ill(
        "ppo", "critic", "watch", ppo(right=0.6, value__explained_variance=0), {"critic": "shared"}
    ),
    "likelihood falls": ill("dpo", "likelihood of the chosen", "watch", dpo(chosen=(-50, -90), rejected=(-50, -200))),
    "likelihood falls steeply": ill(
        "dpo", "likelihood of the chosen", "bad", dpo(chosen=(-20, -90), rejected=(-20, -110)), {"beta": 0.1}
    ),
    "likelihood falls, simpo": ill(
        "dpo", "likelihood of the chosen", "bad", dpo(chosen=(-0.2, -2), rejected=(-0.5, -3)), {"loss_type": "simpo"}
    ),
    "margins alone": ill("dpo", "margin", "watch", dpo(rewards__margins=(0, 0.5, 2), rewards__accuracies=0.65)),
    "pairs by heart": ill("rm", "reward model", "bad", rm(epochs=5, **AT_ONCE)),
    "pairs that are too easy": ill("rm", "reward model", "watch", rm(epochs=1, **AT_ONCE)),
    "a coin": ill("rm", "reward model", "bad", rm(accuracy=0.5, loss=0.69)),
    "gradients jump": ill("sft", "gradient norm", "watch", put(sft(), [20, 33], "grad_norm", 80.0)),
}

WELL = {
    "finite": well("finite numbers", grpo()),
    "answers at their ceiling": well("right answers", grpo(20, right=0.97)),
    "the total and gold rise": well("over-optimization", with_gold(grpo(100), (0.3, 0.6)), {}, MEASURED),
    "gold falls with the total": well(
        "over-optimization", with_gold(grpo(100, total=(1, 0.5)), (0.6, 0.3)), {}, MEASURED
    ),
    "gold is noisy": well("over-optimization", with_gold(grpo(100), 0.5), {}, MEASURED),
    "format and answers": well("format and correctness", grpo()),
    "format where all is right": well("format and correctness", grpo(right=0.95, form=(0.2, 1))),
    "a penalty that is never due": well(
        *("varied rewards", put(grpo(), ALWAYS, "rewards/overlong_penalty/mean", 0.0)),
        *({}, WEIGHTS | {"overlong_penalty": 1.0}),
    ),
    "always the right language": well("varied rewards", put(NEVER, ALWAYS, f"rewards/{GOLD}/mean", 1.0), {}, TRAINED),
    "a fixed mean of values that vary": well(
        "varied rewards", put(with_gold(grpo(), 0), ALWAYS, f"rewards/{GOLD}/mean", 0.0), {}, TRAINED
    ),
    "never paid, but only measured": well("varied rewards", NEVER, {}, MEASURED),
    "correctness is loudest": well("balance of the rewards", grpo()),
    "nothing but format left": well("balance of the rewards", grpo(right=1, form=0.5)),
    "most groups have a signal": well("groups without signal", grpo(right=0.6, frac_reward_zero_std=0.4)),
    "still exploring": well("entropy", grpo()),
    "more random, but better": well("entropy", grpo(entropy=(0.4, 1.3))),
    "a low KL": well("KL", ppo()),
    "a low KL a token": well("KL", grpo(kl=(0, 0.04))),
    "one step of a huge KL": well("KL", put(grpo(kl=(0, 0.04)), [57], "kl", 1e6)),
    "a long text": well("KL", grpo(right=0.5, kl=(0, 0.02, 0.03, 0.04), completions__mean_length=500)),
    "longer and better": well("length", grpo(completions__mean_length=(10, 30)), SETTINGS),
    "shorter where all is right": well("length", grpo(right=0.95, completions__mean_length=(30, 10))),
    "hardly any cut off": well("truncation", grpo(completions__clipped_ratio=(0.5, 0.05))),
    "a critic that foresees": well("critic", ppo()),
    "nothing left to foresee": well(
        "critic", ppo(60, right=(0.5, 0.99, 0.99), form=(0.5, 1, 1), value__explained_variance=-0.1)
    ),
    "only the rejected fall": well("likelihood of the chosen", dpo()),
    "the chosen rise": well("likelihood of the chosen", dpo(chosen=(-50, -20))),
    "margins with accuracy": well("margin", dpo()),
    "a reward model that learns": well("reward model", rm()),
    "steady gradients": well("gradient norm", sft()),
    "gradients that fall": well("gradient norm", sft(grad_norm=(80, 1, 0.1, 0.1))),
    "a single spike": well("gradient norm", put(sft(), [20], "grad_norm", 80.0)),
}


@pytest.mark.parametrize("case", [*ILL, *WELL])
def test_what_is_wrong_is_seen_and_what_is_well_is_left_alone(case):
    case = (ILL | WELL)[case]
    assert case.finding().level == case.level, case.finding().sentence


def test_every_check_is_tested_both_ways():
    names = {case.name for case in ILL.values()}
    assert names == {case.name for case in WELL.values()} and len(names) == 16


@pytest.mark.parametrize("make", [grpo, ppo, dpo, sft, rm])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_wrong_with_a_healthy_run(make, seed):
    found = health(make(seed=seed)).values()
    assert {f.name for f in found if f.level != "ok"} <= {"groups without signal"}  # where nearly all is right
    assert not any(f.level == "bad" for f in found)


@pytest.mark.parametrize("n", [6, 20, 100])
def test_the_noise_of_64_completions_is_no_finding(n):
    """Nothing moves; that nothing is learned is all that may be said."""
    alarms = [
        finding.sentence
        for seed in range(40)
        for finding in health(with_gold(grpo(n, seed, **NO_GAIN), 0.5), SETTINGS, MEASURED).values()
        if finding.level == "bad" or (finding.level == "watch" and finding.name != "right answers")
    ]
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("case", ILL)
def test_gaps_in_the_rows_change_no_verdict(case):
    case, holes, rng = ILL[case], [], random.Random(0)
    for row in case.rows:
        row = dict(row)
        for key in [key for key in row if key not in ("loss", "grad_norm") and rng.random() < 0.1]:
            row[key] = rng.choice([None, math.nan, math.inf, -math.inf, "NaN", 10**400])
            if rng.random() < 0.3:
                del row[key]
        holes.append(row)
    assert health(holes, case.settings, case.weights)[case.name].level == case.level


def test_the_worst_comes_first_and_each_sentence_is_one():
    rows = grpo(right=(0.6, 0.1), completions__clipped_ratio=0.3, entropy=(0.3, 0.01))
    found = check_health(rows, SETTINGS, WEIGHTS, RIGHT, FORM)
    order = ["bad", "watch", "ok"]
    assert [f.level for f in found] == sorted((f.level for f in found), key=order.index)
    assert {f.level for f in found} == set(order)
    for finding in found:
        assert finding.sentence.endswith(".") and "\n" not in finding.sentence
        assert ("--" in finding.sentence) == (finding.level != "ok")


@pytest.mark.parametrize("n", range(6))
def test_a_few_rows_get_no_verdict(n):
    [finding] = check_health(grpo(60)[:n], {}, WEIGHTS, RIGHT, FORM)
    assert finding.level == "watch" and "Too short to judge" in finding.sentence


def test_six_rows_get_one():
    assert health(grpo(right=(1, 0))[::10])["right answers"].level == "bad"


def test_rows_without_any_known_metric_are_too_few():
    [finding] = check_health([{"step": i} for i in range(50)], {}, WEIGHTS, RIGHT, FORM)
    assert "Too short to judge" in finding.sentence


def test_what_the_numbers_were_is_said():
    lost = health(grpo(100, right=(0.7, 0.7, 0.1)))["right answers"].sentence
    assert re.search(r"fell from 0\.[678]\d\d at step \d+ to 0\.[12]\d\d", lost)
    entropy = ILL["entropy gone early"].finding().sentence
    assert re.search(r"entropy 0\.\d\d\d to 0\.010 nats a token, below 0\.05 from step \d\d on", entropy)
    assert "nothing left to explore" in ILL["sure of itself"].finding().sentence


@pytest.mark.parametrize(
    ("case", "said", "not_said"),
    [
        ("all right", "--max_pass_rate", "--min_pass_rate"),
        ("all wrong", "make sft-word_problems", "--max_pass_rate"),
        ("KL runs away", "--kl_coef", "--beta"),
        ("KL runs away, a token", "--beta", "--kl_coef"),
        ("most cut off", "--missing_eos_penalty", "--learning_rate"),
        ("some cut off", "--max_completion_length", "--missing_eos_penalty"),
        ("cut off and lost", "--learning_rate", "--max_completion_length"),
        ("likelihood falls, simpo", "nats a token", "--loss_type"),
        ("a critic that foresees nothing", "--critic adapter", "--beta"),
    ],
)
def test_the_advice_is_for_this_run(case, said, not_said):
    sentence = ILL[case].finding(task="word_problems").sentence
    assert said in sentence and not_said not in sentence


def test_advice_that_is_followed_already_is_not_given():
    sentence = ILL["most cut off"].finding(mask_truncated_completions=True, missing_eos_penalty=0.5).sentence
    assert not {"--mask_truncated_completions", "--missing_eos_penalty"} & set(re.findall(r"--\w+", sentence))


def test_problems_that_get_harder_say_nothing_of_the_answers():
    names = health(grpo(right=(0.9, 0.2), form=(0.2, 1), total=(0.5, 1.2)), {"curriculum": True})
    assert not {"right answers", "over-optimization", "format and correctness"} & names.keys()


def test_rewards_that_are_normalized_one_by_one_are_not_weighed_by_their_spread():
    names = health(grpo(), {"multi_objective_aggregation": "normalize_then_sum"})
    assert not {"balance of the rewards", "groups without signal"} & names.keys()


def test_a_format_that_is_only_measured_is_not_what_was_learned():
    assert "format and correctness" not in health(grpo(right=0.5, form=(0.2, 1)), {}, {RIGHT: 1.0, FORM: 0.0})


def test_groups_that_trl_counts_as_signal_for_a_rounding_error_are_found_by_the_means():
    rows = grpo(right=0.99, form=1, frac_reward_zero_std=0)
    finding = health(rows)["groups without signal"]
    assert finding.level == "watch" and re.search(r"At least [789]\d% of the groups", finding.sentence)
    for learned in ({"mean": 0.9, "std": 0.01}, {"mean": 0.9, "std": 0.5}):  # any group may have a signal
        others = rows
        for figure, value in learned.items():
            others = put(others, ALWAYS, f"rewards/{FORM}/{figure}", value)
        assert health(others)["groups without signal"].level == "ok"


def test_answers_that_are_only_measured_are_not_unlearned_for_the_learning_rate():
    case = ILL["a learned reward is fooled"]
    sentence = health(case.rows, {}, case.weights)["right answers"].sentence
    assert "does not pay for them; raise --beta" in sentence and "--learning_rate" not in sentence


def test_the_betas_are_those_of_the_recipe():
    from recipes.preference import BETAS
    from recipes.reporting import health as module

    with_reference = {loss: beta for loss, beta in BETAS.items() if loss not in ("simpo", "orpo")}
    assert with_reference == {loss: module.BETAS.get(loss, module.BETA) for loss in with_reference}


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The flags of every recipe."""
    from recipes import dpo, grpo, ppo, reward_model, sft
    from recipes.arguments import RecipeArguments, RecipeParser
    from recipes.qlora import QLoRA

    recipes = {
        "grpo": (grpo.GRPODefaults, RecipeArguments),
        "ppo": (ppo.PPODefaults, RecipeArguments),
        "dpo": (dpo.DPODefaults, dpo.DPOArguments),
        "sft": (sft.SFTDefaults, sft.SFTArguments),
        "rm": (reward_model.RewardModelDefaults, reward_model.RewardModelArguments),
    }
    return {name: set(RecipeParser(name, kind, QLoRA, "", own).known) for name, (kind, own) in recipes.items()}


@pytest.mark.parametrize("case", ILL)
def test_every_flag_exists_in_the_recipe(case, flags):
    case = ILL[case]
    for finding in health(case.rows, case.settings, case.weights).values():
        assert set(re.findall(r"--\w+", finding.sentence)) <= flags[case.recipe], finding.sentence


def test_values_that_the_advice_names_are_allowed():
    from recipes.preference import LOSSES
    from recipes.tasks import load_task

    assert {"orpo", "ipo", "robust"} <= set(LOSSES)
    assert load_task("word_problems").with_rewards(["length_reward"])


KEYS = sorted({key for rows in (grpo(), ppo(), dpo(), sft(), rm(), with_gold(grpo(), 0)) for key in rows[0]} | {"kl"})
NUMBERS = st.floats() | st.integers() | st.sampled_from([0.0, 1.0, -1.0, 1e99, -1e99, 1e300, 1e-300, 10**400])
VALUES = st.one_of(NUMBERS, st.floats(0, 1), st.none(), st.text(), st.booleans(), st.lists(st.integers(), max_size=2))
NAMES = ("num_generations", "max_completion_length", "max_grad_norm", "beta", "loss_type", "task", "curriculum")


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS) | st.text(), VALUES), max_size=12),
    st.dictionaries(st.sampled_from(NAMES) | st.text(), VALUES | st.sampled_from(["simpo", "shared", "ipo"])),
    st.dictionaries(st.sampled_from([RIGHT, FORM, GOLD]) | st.text(), VALUES),
    st.sampled_from([RIGHT, FORM]),
)
def test_it_never_raises(rows, settings, weights, form):
    assert check_health(rows, settings, weights, RIGHT, form)


@given(st.lists(st.lists(NUMBERS, min_size=len(KEYS), max_size=len(KEYS)), min_size=6, max_size=9), NUMBERS)
def test_it_never_raises_where_every_metric_is_there(rows, beta):
    metrics = [dict(zip(KEYS, row, strict=True)) for row in rows]
    for settings in ({"beta": beta}, {"loss_type": "orpo", "max_grad_norm": beta, "max_completion_length": beta}):
        found = check_health(metrics, settings, {RIGHT: 1.0, FORM: beta, GOLD: 0}, RIGHT, FORM)
        assert all(isinstance(finding.sentence, str) for finding in found)


def test_it_is_light():
    heavy = {"torch", "transformers", "trl", "datasets"}
    code = f"import sys, recipes.reporting.health; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
