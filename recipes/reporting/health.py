"""Is a run well? Each check reads a few logged metrics and says what it saw, why it matters and what to change."""

import math
from dataclasses import dataclass

import numpy as np

from recipes.reporting.files import number
from recipes.reporting.series import (
    AT_CEILING,
    FEWEST_ROWS,
    SURE,
    Logged,
    Series,
    kl_of_a_completion,
    said,
    step_of,
)

# What is much, near or far.
FAR_FROM_CEILING = 0.8  # share of right answers: there is more to gain than the noise of a step
NO_ENTROPY = 0.05  # nats a token: the likeliest token is taken 99 times in 100
RANDOM = 1.0  # nats a token: as between three equals at every token
LONGER, MUCH_LONGER, MUCH_SHORTER = 1.5, 2.0, 0.5  # times the first length
NEAR_THE_LIMIT = 0.9  # of --max_completion_length, by the mean: many completions are at it
DOMINATES = 0.8  # share of the weighted spreads: four times what all the others have
VARIES = 0.1  # standard deviation of correctness: one answer in a hundred differs
NO_SIGNAL = 0.5  # share of groups: half of the compute is spent for nothing
KL_HIGH = 10.0  # nats a completion: 20,000 times as likely as by the reference
KL_FAR, KL_VERY_FAR = 0.1, 0.5  # nats a token: a long text has a high KL without being strange
KL_RUNS_AWAY = 3.0  # times the middle's; steady growth doubles it
FORMAT_ROSE, CORRECTNESS_ROSE = 0.2, 0.1  # the one is learned at once; half of it would be a gain of the other
TRUNCATED, MOSTLY_TRUNCATED = 0.1, 0.5  # share of completions: what is cut off cannot be right
OFTEN = 0.05  # of the steps; with fp16 a single gradient is infinite now and then, and left out
SPIKE, SPIKES = 10.0, 0.02  # times its neighbours and --max_grad_norm; share of the steps
SPREAD = 0.3  # standard deviation of the total: below, what is left to foresee is mostly chance
CRITIC_HARMS = -0.05  # explained variance: a constant has 0
FELL, FELL_STEEPLY = 0.25, 1.0  # of the log-probability that the chosen had at first
NATS, NATS_A_TOKEN = 3.0, 0.3  # by which it must have fallen as well: twenty times less likely; as a mean over tokens
BETA, BETAS = 0.1, {"sigmoid_norm": 5.0}  # recipes/preference.py's, where config.yaml has none
WITH_THE_REJECTED = 0.5  # of the rejected's fall: what is learned is hardly more than to write something else
MARGIN_GREW = 1.5  # times the middle's
ALL_IN_ORDER, NO_LOSS = 0.995, 0.05  # of a reward model's pairs; nats
COIN = 0.55  # share of pairs in the right order

LEVELS = ("bad", "watch", "ok")


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        level (`str`): "bad": the run is lost, or its reward misleads; "watch": look at it; "ok".
        name (`str`): what was checked, in a few words.
        sentence (`str`): what was seen and, unless it is ok, why it matters and which flag to change. Plain text; a
            reward's name stands in it as it was given.
    """

    level: str
    name: str
    sentence: str


def check_health(
    metrics: list[dict], settings: dict, rewards: dict[str, float], correctness: str, format: str
) -> list[Finding]:
    """The findings of every check that the run has the data for, worst first; never raises.

    Args:
        metrics (`list[dict]`): the rows of metrics.jsonl, oldest first. A value that is missing, None, NaN, infinite or
            no number is left out.
        settings (`dict`): config.yaml; may be empty.
        rewards (`dict[str, float]`): name and weight; 0.0 is measured and not trained on.
        correctness, format (`str`): the rewards that mean right (1.0) and well formed (1.0).

    Returns:
        `list[Finding]`: at least one; of fewer than six rows only that they are too few.
    """
    run = Logged(metrics, settings, rewards, correctness, format)
    checks = (
        *(finite, right_answers, over_optimization, form_alone, stuck, domination, groups),
        *(entropy, kl, length, truncation, critic, likelihood, margins, reward_model, gradients),
    )
    with np.errstate(all="ignore"):  # a beta of 1e-300 makes infinities of numbers
        found = [check(run) for check in checks] if len(metrics) >= FEWEST_ROWS else []
    found = [finding for finding in found if finding] or [too_short(run)]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def too_short(run: Logged) -> Finding:
    seen = f"Too short to judge: {len(run.metrics)} rows, and a verdict takes {FEWEST_ROWS} that have the metric"
    return Finding("watch", "length of the run", f"{seen}; raise --max_steps or lower --logging_steps.")


def finite(run: Logged) -> Finding | None:
    """Losses and gradients that are NaN or infinite."""
    name, keys = "finite numbers", ("loss", "grad_norm")
    rows = [(step_of(row, i), row) for i, row in enumerate(run.metrics, 1) if any(key in row for key in keys)]
    broken = [step for step, row in rows if any(key in row and number(row[key]) is None for key in keys)]
    if not broken:
        return Finding("ok", name, "Every loss and every gradient is a finite number.") if rows else None
    seen = f"{len(broken)} of {len(rows)} rows have a loss or gradient that is no finite number"
    if len(broken) > OFTEN * len(rows) or broken[-1] == rows[-1][0]:
        advice = "lower --learning_rate and --max_grad_norm, and prefer --bf16 to --fp16."
        return Finding("bad", name, f"{seen}, first step {broken[0]:.0f}: the weights may be spoilt; {advice}")
    advice = "if it happens again, lower --learning_rate."
    return Finding("watch", name, f"{seen}, first step {broken[0]:.0f}, and training went on; {advice}")


def right_answers(run: Logged) -> Finding | None:
    """The share of right answers among the completions that are trained on."""
    name, right = "right answers", run.right
    if right is None:
        return None
    if run.unlearns or right.peak() is not None:
        before = right.values[:1] if run.lost_at_once else right.means
        why = "the model unlearns; lower --learning_rate"
        if run.weights.get(run.correctness) == 0:
            why = f"what is trained on does not pay for them; raise {run.hold}"
        best = int(before.argmax())
        return Finding(
            "bad" if right.moved() <= 0 or right.last < before[best] / 2 else "watch",
            name,
            f"The share of right answers fell from {said(float(before[best]))} at step {right.steps[best]:.0f} to "
            f"{said(right.last)}: {why}, or stop earlier (--max_steps).",
        )
    if run.learns or run.at_ceiling:
        return Finding("ok", name, f"The share of right answers went from {right}.")
    seen = f"The share of right answers among the samples of training went from {right}"
    return Finding(
        "watch", name, f"{seen}, which may be chance: no gain there yet; raise --max_steps or --learning_rate."
    )


def over_optimization(run: Logged) -> Finding | None:
    """What is trained on rises while what it stands for falls from its peak (Gao et al., 2023, arXiv 2210.10760)."""
    name, total = "over-optimization", run.series("reward")
    if total is None or run.settings.get("curriculum"):
        return None
    measured = [reward for reward, weight in run.weights.items() if not weight and reward != run.correctness]
    known = {reward: mean for reward in (run.correctness, *measured) if (mean := run.mean(reward)) is not None}
    for reward, mean in known.items():
        peak = mean.peak()
        since = None if peak is None else total.from_row(int(np.searchsorted(total.steps, mean.steps[peak])))
        if since is None or since.moved(0) <= 0:
            continue
        fell = f"{reward} fell ({said(float(mean.means[peak]))} to {said(mean.last)})"
        return Finding(
            "watch" if reward != run.correctness and run.learns else "bad",
            name,
            f"From step {mean.steps[peak]:.0f} on the total reward rose ({since}) and {fell}: what is trained on is no "
            f"longer what is meant; raise {run.hold}, take fewer --max_steps or other --reward_weights.",
        )
    return Finding("ok", name, "Nothing that is measured falls while the total reward rises.") if known else None


def form_alone(run: Logged) -> Finding | None:
    """The format is learned and the answers are not: the cheap part of the reward was enough."""
    name, form, right = "format and correctness", run.mean(run.format), run.right
    if form is None or right is None or run.format == run.correctness or run.weights.get(run.format) == 0:
        return None
    change, seen = right.last - right.first, f"{run.format} {form}, {run.correctness} {right}"
    if form.moved(FORMAT_ROSE) <= 0 or run.at_ceiling or change + right.error > CORRECTNESS_ROSE:
        return Finding("ok", name, f"No gain in format alone: {seen}.")
    return Finding(
        "bad" if change + 2 * right.error < CORRECTNESS_ROSE else "watch",
        name,
        f"The format is learned and the answers are no better ({seen}): the cheap part of the reward is earned alone; "
        "give the format less weight (--reward_weights), or train on (--max_steps) if this is only the beginning.",
    )


def stuck(run: Logged) -> Finding | None:
    """Rewards that never changed; a penalty that is always 0 and a reward that is always 1 are at their best."""
    name, means = "varied rewards", {reward: run.mean(reward) for reward, weight in run.weights.items() if weight}
    means = {reward: mean for reward, mean in means.items() if mean is not None}
    if not means:
        return None
    still = {reward: float(mean.values[0]) for reward, mean in means.items() if is_still(run, reward, mean)}
    best = [reward for reward, value in still.items() if value == (0 if "penalty" in reward else 1)]
    others = sorted(still.keys() - set(best), key=lambda reward: (still[reward] != 0, reward))
    if not others:
        more = f", but for {' and '.join(best)}, always at its best" if best else ""
        return Finding("ok", name, f"The rewards that are trained on vary{more}.")
    reward, value = others[0], still[others[0]]  # one that is 0, if there is any
    seen = f"{reward} was {said(value)} in all {len(means[reward].values)} rows: it teaches nothing"
    if reward not in (run.correctness, run.format) or value:
        advice = "look at the samples for why, or give it a weight of 0 (--reward_weights)."
    else:
        easier = " or easier problems (--samples with --min_pass_rate)" if reward == run.correctness else ""
        advice = f"take a model that earns it now and then ({run.cold_start}){easier}."
    return Finding("watch" if value else "bad", name, f"{seen}; {advice}")


def is_still(run: Logged, reward: str, mean: Series) -> bool:
    """Not where only the mean stays: that of a reward which compares the completions of a prompt may be fixed."""
    spread = run.series(f"rewards/{reward}/std")
    return float(np.ptp(mean.values)) < 1e-9 and (spread is None or float(spread.values.max()) < 1e-9)


def domination(run: Logged) -> Finding | None:
    """One reward has nearly all of what completions differ by, and it is not the correctness."""
    name = "balance of the rewards"
    if run.settings.get("multi_objective_aggregation") == "normalize_then_sum":  # there the weights alone decide
        return None
    spreads = {
        reward: abs(weight) * spread.last
        for reward, weight in run.weights.items()
        if weight and (spread := run.series(f"rewards/{reward}/std")) is not None
    }
    total = sum(spreads.values())
    if len(spreads) < 2 or run.correctness not in spreads or not total > 0:
        return None
    loudest = max(spreads, key=spreads.get)
    share, varies = spreads[loudest] / total, spreads[run.correctness] / abs(run.weights[run.correctness])
    if loudest == run.correctness or share < DOMINATES or varies < VARIES:
        return Finding("ok", name, f"{loudest} has most of the weighted spread at the end, {share:.0%}.")
    advice = "change --reward_weights"
    if not run.is_ppo:
        advice += ", or weigh them alike by --multi_objective_aggregation normalize_then_sum"
    return Finding(
        "watch" if run.learns or run.right is None else "bad",
        name,
        f"{loudest} has {share:.0%} of the weighted spread of the rewards at the end{run.meanwhile}: training follows "
        f"it and hardly hears correctness; {advice}.",
    )


def groups(run: Logged) -> Finding | None:
    """Groups of completions with the same reward have no advantage (DAPO, arXiv 2503.14476, section 3.2)."""
    name, logged = "groups without signal", run.series("frac_reward_zero_std")
    over_the_batch = run.settings.get("scale_rewards") == "batch"
    if logged is None or over_the_batch or run.settings.get("multi_objective_aggregation") == "normalize_then_sum":
        return None
    trained, size = (
        [reward for reward, weight in run.weights.items() if weight],
        run.setting("num_generations", math.inf),
    )
    binary = trained if all(is_binary(run, reward) for reward in trained) else []
    shares = run.series_of(lambda row: without_signal(row, binary, size))
    at_least = "At least " if (shares.values > logged.values + 1e-6).any() else ""
    seen = f"{at_least}{shares.last:.0%} of the groups have no signal at the end"
    if shares.last <= NO_SIGNAL:
        return Finding("ok", name, f"{seen}.")
    harder = "take harder problems (--samples with --max_pass_rate 0.9)"
    easier = f"take easier problems (--samples with --min_pass_rate 0.1) or a cold start ({run.cold_start})"
    right = run.mean(run.correctness) if run.weights.get(run.correctness) else None
    if right is not None and right.last > 1 - shares.last / 2:  # more than half of these groups can only be right
        return Finding("watch", name, f"{seen}, mostly because all is right, and teach nothing: {harder}.")
    if right is not None and right.last < shares.last / 2:
        easier = "lower --learning_rate" if run.unlearns else easier
        return Finding("bad", name, f"{seen}, mostly because all is wrong, and teach nothing: {easier}.")
    both = f"where all is right, {harder}; where all is wrong, {easier}."
    return Finding("watch", name, f"{seen} and teach nothing: {both}")


def without_signal(row: dict, binary: list[str], size: float) -> float | None:
    """The share of a step's groups without signal: the logged one, or at least what the means say.

    TRL takes the rounding error of a sum such as 1 + 0.2 for a signal. But a group with one has a completion that is
    unlike the others; where all rewards are `binary`, there are no more such groups than ones, and than zeros.
    """
    share, spread = number(row.get("frac_reward_zero_std")), number(row.get("reward_std"))
    if share is None or spread is None:
        return share
    if abs(spread) < 1e-6:
        return 1.0
    means = [number(row.get(f"rewards/{reward}/mean")) for reward in binary]
    if not means or None in means:
        return share
    odd = sum(min(mean, 1 - mean) for mean in means)
    return max(share, 1 - size * odd) if odd else 1.0


def is_binary(run: Logged, reward: str) -> bool:
    """Whether a reward is 0 or 1, by its spread in every row: that of values between them is smaller."""
    both = [
        (number(row.get(f"rewards/{reward}/mean")), number(row.get(f"rewards/{reward}/std"))) for row in run.metrics
    ]
    known = [(mean, std) for mean, std in both if mean is not None and std is not None]
    if not known or any(not 0 <= mean <= 1 for mean, _ in known):
        return False
    spreads = [(math.sqrt(mean * (1 - mean)), std) for mean, std in known]
    return all(0.999 * spread <= std <= 1.07 * spread + 1e-6 for spread, std in spreads)  # n / (n - 1) of 8 or more


def entropy(run: Logged) -> Finding | None:
    """Entropy collapse (Cui et al., 2025, arXiv 2505.22617): what is never tried cannot be found to be better."""
    name, seen = "entropy", run.series("entropy")
    if seen is None or run.series("completions/mean_length") is None:  # the entropy of texts that others wrote
        return None
    if seen.moved(abs(seen.first)) > 0 and seen.last > RANDOM and not run.learns:
        also = ", --entropy_coef" if run.setting("entropy_coef", 0) > 0 else ""
        advice = f"lower --learning_rate{also} or --temperature."
        return Finding("bad", name, f"The entropy rose from {seen} nats a token: what it writes turns random; {advice}")
    if seen.last >= NO_ENTROPY:
        return Finding("ok", name, f"The policy still explores: entropy {seen} nats a token.")
    above = np.flatnonzero(seen.values >= NO_ENTROPY)
    since = seen.steps[min(above[-1] + 1, len(seen.steps) - 1)] if len(above) else seen.steps[0]
    seen_so = f"entropy {seen} nats a token, below {NO_ENTROPY} from step {since:.0f} on"
    right = run.mean(run.correctness)
    if right is None or right.last >= FAR_FROM_CEILING:
        so = "" if right is None else f", and {said(right.last)} of the answers right"
        advice = "take harder problems (--samples with --max_pass_rate) or fewer --max_steps."
        return Finding("watch", name, f"Sure of itself: nothing left to explore ({seen_so}{so}); {advice}")
    fell = seen.last < seen.first / 2
    advice = "raise --entropy_coef or lower --learning_rate." if fell else "raise --temperature, or take another model."
    return Finding(
        "bad" if fell else "watch",
        name,
        f"Hardly anything is tried any more ({seen_so}) with {said(right.last)} of the answers right: where the "
        f"completions of a prompt are all alike, none is better than the others; {advice}",
    )


def kl(run: Logged) -> Finding | None:
    """The KL to the reference in nats a completion; GRPO logs the mean over tokens."""
    name, lengths = "KL", run.series("completions/mean_length")
    seen = run.series("objective/kl") if run.is_ppo else run.series_of(kl_of_a_completion)
    if seen is None:
        return None
    half, last = seen.second_half, seen.median_at_end
    middle = float(np.median(half.values[: half.window]))
    a_token = math.inf if lengths is None else last / max(lengths.last, 1.0)
    if last <= KL_HIGH:
        return Finding("ok", name, f"The KL to the reference ends at {said(last)} nats a completion.")
    seen_so = f"The KL to the reference went from {said(middle)} at half time to {said(last)} nats a completion"
    advice = f"raise {run.hold}{' or set --target_kl' if run.is_ppo else ''}, or lower --learning_rate."
    gains = run.right is not None and run.right.second_half.moved() > 0
    if last > KL_RUNS_AWAY * max(middle, 0.0):
        so = f"{seen_so}{run.meanwhile}: it runs away, as where a reward is being hacked"
        return Finding("watch" if gains else "bad", name, f"{so}; {advice}")
    if a_token > KL_FAR:
        level = "watch" if a_token < KL_VERY_FAR or gains or run.learns or run.at_ceiling else "bad"
        return Finding(level, name, f"{seen_so}{run.meanwhile}: little of the first model is left; {advice}")
    return Finding("ok", name, f"{seen_so}, {said(a_token)} a token.")


def length(run: Logged) -> Finding | None:
    """Completions that grow or shrink without a gain in right answers."""
    name, seen, limit = "length", run.series("completions/mean_length"), run.setting("max_completion_length", math.inf)
    if seen is None:
        return None
    rose, ratio = seen.moved(0.1 * abs(seen.first)), seen.last / max(seen.first, 1e-9)
    seen_so = f"The mean length went from {seen} tokens{run.meanwhile}"
    if rose > 0 and run.learns and seen.last > NEAR_THE_LIMIT * limit:
        advice = f"raise --max_completion_length (now {limit:.0f})."
        return Finding("watch", name, f"{seen_so}: thoughts that pay are about to be cut off; {advice}")
    if rose > 0 and not run.learns and (ratio >= LONGER or seen.last > NEAR_THE_LIMIT * limit):
        much = ratio >= MUCH_LONGER or seen.last > NEAR_THE_LIMIT * limit
        level = "bad" if much and run.right is not None and not run.at_ceiling else "watch"
        pay = "--reward_weights" if "length_reward" in run.rewards else "--extra_rewards length_reward"
        advice = f"pay for short answers ({pay}), raise {run.hold} or lower --learning_rate."
        return Finding(level, name, f"{seen_so}: it writes more for nothing; {advice}")
    if rose < 0 and ratio <= MUCH_SHORTER and not run.learns and not run.at_ceiling:
        advice = f"look at what pays for a short text (--reward_weights), raise {run.hold} or lower --learning_rate."
        return Finding("bad" if run.unlearns else "watch", name, f"{seen_so}: thinking is given up; {advice}")
    return Finding("ok", name, f"The mean length went from {seen} tokens.")


def truncation(run: Logged) -> Finding | None:
    """Completions that are cut off at --max_completion_length."""
    name, seen = "truncation", run.series("completions/clipped_ratio")
    if seen is None:
        return None
    if seen.last <= TRUNCATED:
        return Finding("ok", name, f"{seen.last:.0%} of the completions are cut off at the end.")
    advice = ["it has unlearned to stop, so lower --learning_rate" if run.unlearns else "raise --max_completion_length"]
    if not run.settings.get("mask_truncated_completions"):
        advice.append("leave them out of the loss (--mask_truncated_completions)")
    if run.is_ppo and not run.setting("missing_eos_penalty", 0):
        advice.append("set a --missing_eos_penalty")
    return Finding(
        "bad" if seen.last > MOSTLY_TRUNCATED else "watch",
        name,
        f"The share of completions that are cut off went from {seen}: they have no answer yet and count as wrong, "
        f"however good; {', or '.join(advice)}.",
    )


def critic(run: Logged) -> Finding | None:
    """PPO: what the critic foresees of the returns."""
    name, seen, spread = "critic", run.series("value/explained_variance"), run.series("reward_std")
    if seen is None:
        return None
    explained = seen.median_at_end
    if explained > 0:
        return Finding("ok", name, f"The critic explains {said(explained)} of the variance of the returns at the end.")
    if spread is not None and spread.last < SPREAD:
        return Finding("ok", name, "The rewards hardly vary at the end: little is left for the critic to foresee.")
    harms = explained < CRITIC_HARMS
    advice = "raise --critic_learning_rate"
    if run.settings.get("critic") == "shared":
        advice += ", or give it an adapter of its own (--critic adapter)"
    return Finding(
        "bad" if harms else "watch",
        name,
        f"The critic {'adds noise to the advantages' if harms else 'is no better than a constant'} while the rewards "
        f"still vary (explained variance {said(explained)} at the end); {advice}.",
    )


def likelihood(run: Logged) -> Finding | None:
    """DPO: likelihood displacement (Razin et al., 2024, arXiv 2410.08847): what is chosen becomes unlikely as well."""
    name, logged = "likelihood of the chosen", run.series("logps/chosen")
    chosen, rejected = fall(run, "chosen"), fall(run, "rejected")
    if chosen is None or logged is None:
        return None
    least, unit = (NATS_A_TOKEN, "nats a token") if has_no_reference(run) else (NATS, "nats")
    fell, error = float(chosen.values.mean()), chosen.noise / math.sqrt(len(chosen.values))
    before = float(logged.second_half.values.mean()) + fell
    seen = f"In the second half the log-probability of the chosen is {said(before - fell)} {unit}"
    seen += f", where it was {said(before)}"
    if fell <= max(FELL * abs(before), least, SURE * error):
        return Finding("ok", name, f"{seen}.")
    of_both = fell / max(float(rejected.values.mean()), 1e-9) if rejected is not None else 1.0
    steep = fell > FELL_STEEPLY * abs(before) and not 0 < of_both < WITH_THE_REJECTED
    also = f" (that of the rejected fell by {said(float(rejected.values.mean()))})" if rejected is not None else ""
    advice = "lower --learning_rate or raise --beta"
    if not has_no_reference(run):
        advice += ", or take --loss_type orpo (it holds the chosen up) or ipo (it stops at a margin)"
    what = "both are made unlikely, and what takes their place was never judged"
    return Finding("bad" if steep else "watch", name, f"{seen}{also}: {what}; {advice}.")


def fall(run: Logged, side: str) -> Series | None:
    """By how much the log-probability has fallen, in the second half of the run: measured against the reference, so
    that it matters little which pairs a batch has; without one, against the first rows."""
    loss = run.settings.get("loss_type")
    beta = run.setting("beta", BETAS.get(loss if isinstance(loss, str) else "", BETA))
    rewards, logged = run.series(f"rewards/{side}"), run.series(f"logps/{side}")
    if rewards is not None and beta > 0 and not has_no_reference(run):
        return Series(rewards.steps, -rewards.values / beta).second_half
    return None if logged is None else Series(logged.steps, logged.first - logged.values).second_half


def has_no_reference(run: Logged) -> bool:
    """simpo and orpo: log-probabilities are means over tokens, and rewards are those times beta."""
    return run.settings.get("loss_type") in ("simpo", "orpo", ["simpo"], ["orpo"])


def margins(run: Logged) -> Finding | None:
    """DPO: margins that grow in the second half of the run without one more pair in the right order."""
    name, margin, pairs = "margin", run.series("rewards/margins"), run.series("rewards/accuracies")
    if margin is None or pairs is None:
        return None
    margin, pairs = margin.second_half, pairs.second_half
    seen = f"In the second half the margin went from {margin}, the share of pairs in the right order from {pairs}"
    grew = margin.moved((MARGIN_GREW - 1) * abs(margin.first)) > 0
    if not grew or pairs.moved() > 0 or pairs.last >= AT_CEILING:
        return Finding("ok", name, f"{seen}.")
    advice = "raise --beta, or take --loss_type ipo, or robust with --label_smoothing where pairs may be wrong."
    return Finding("watch", name, f"{seen}: it grows surer of what it has, right or wrong; {advice}")


def reward_model(run: Logged) -> Finding | None:
    """A reward model that has its pairs by heart, or learns nothing of them."""
    name, pairs, loss = "reward model", run.series("accuracy"), run.series("loss")
    if pairs is None or loss is None or run.series("margin") is None:
        return None
    seen = f"The share of training pairs in the right order went from {pairs}, the loss from {loss}"
    if pairs.last < COIN and pairs.moved() <= 0:
        return Finding("bad", name, f"{seen}: no better than a coin; raise --learning_rate or --num_train_epochs.")
    rows = min(len(pairs.means), len(loss.means))
    known = np.flatnonzero((pairs.means[:rows] >= ALL_IN_ORDER) & (loss.means[:rows] < NO_LOSS))
    if not len(known):
        return Finding("ok", name, f"{seen}.")
    step, epochs = pairs.steps[known[0]], run.series("epoch")
    seen_before = epochs is not None and np.interp(step, epochs.steps, epochs.values) > 1
    return Finding(
        "bad" if seen_before and known[0] < rows / 2 else "watch",
        name,
        f"{seen}, with all in order from step {step:.0f} on: pairs that are few and known by heart, or that something "
        "cheap tells apart, such as length; trust held-out pairs, raise --sample_prompts or lower --num_train_epochs.",
    )


def gradients(run: Logged) -> Finding | None:
    """Gradients far larger than those of the steps around them, and than what they are clipped to."""
    name, seen = "gradient norm", run.series("grad_norm")
    if seen is None:
        return None
    limit = run.setting("max_grad_norm", 1.0) or 1.0  # 0: not clipped
    padded = np.pad(seen.values, 5, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 11), axis=1)
    spikes = np.flatnonzero(seen.values > SPIKE * np.maximum(around, limit))
    if len(spikes) < max(2, SPIKES * len(seen.values)):
        return Finding("ok", name, f"The gradient norm is steady, {said(float(np.median(seen.values)))} in the median.")
    largest = spikes[seen.values[spikes].argmax()]
    return Finding(
        "watch",
        name,
        f"The gradient norm was ten times its neighbours in {len(spikes)} of {len(seen.values)} rows, up to "
        f"{said(float(seen.values[largest]))} at step {seen.steps[largest]:.0f}: such steps teach noise; lower "
        "--learning_rate or --max_grad_norm.",
    )
