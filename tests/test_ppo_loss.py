"""PPO's whole update on a batch built by hand, against the same in float64: row by row, no padding, loops of floats."""

import copy
import math
from dataclasses import dataclass
from statistics import fmean, pvariance

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer

from recipes.critic import ADAPTER
from recipes.hardware import STARTER_FOLDER
from recipes.ppo_trainer import PPOConfig, PPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
WEIGHTS = [1.0, 0.2]


@dataclass(frozen=True)
class Row:
    prompt: str
    completion: str
    rewards: tuple[float | None, float | None]
    by_tool: frozenset[int] = frozenset()  # positions of the completion that the policy did not write

    @property
    def prompt_ids(self) -> list[int]:
        return tokenizer(f"<|user|>{self.prompt}<|assistant|>")["input_ids"]

    @property
    def completion_ids(self) -> list[int]:
        return tokenizer(self.completion)["input_ids"]

    @property
    def counted(self) -> list[int]:
        """The positions that count: none of a completion that no reward could judge."""
        judged = self.rewards != (None, None)
        return [t for t in range(len(self.completion_ids)) if judged and t not in self.by_tool]

    @property
    def score(self) -> float:
        return sum(w * r for w, r in zip(WEIGHTS, self.rewards, strict=True) if r is not None)

    @property
    def is_truncated(self) -> bool:
        return not self.completion.endswith("<|end|>")


UNJUDGED = Row("Zoe has 11 cards. How many cards does Zoe have?", "<answer>12</answer><|end|>", (None, None))
ROWS = [
    Row(
        "Tom has 7 shells. Raj has 3 times as many and 6 more. How many shells does Raj have?",
        "<think>7*3=21. 21+6=27</think><answer>27</answer><|end|>",
        (1.0, 1.0),
    ),
    Row("Anna has 9 coins and loses 2. How many coins does Anna have now?", "16<|end|>", (0.0, None)),
    Row(
        "Ben has 22 books and loses 7. Then Ben finds 11 more.",
        "<think>22-7=15. 15+",  # cut off
        (0.5, 0.0),
        by_tool=frozenset({11, 12}),  # its end
    ),
    UNJUDGED,
    Row(
        "Mia has 8 red, 3 blue and 6 green pens. How many pens does Mia have?",
        "<think>8+3=11. 11+6=17</think><answer>17</answer><|end|>",
        (1.0, 0.0),
        by_tool=frozenset({5, 6, 7, 11}),
    ),
    Row("Sam has 1 card.", "9", (None, -0.5)),  # cut off
]


def rollout(prompts: list[str], trainer) -> dict:
    rows = [row for prompt in prompts for row in trainer.rows if row.prompt == prompt]
    return {
        "prompt_ids": [row.prompt_ids for row in rows],
        "completion_ids": [row.completion_ids for row in rows],
        "logprobs": None,
        "env_mask": [[int(t not in row.by_tool) for t in range(len(row.completion_ids))] for row in rows],
    }


def first_reward(first, **kwargs):
    return first


def second_reward(second, **kwargs):
    return second


class Exact:
    """A trainer's models as they are now, in float64."""

    def __init__(self, trainer: PPOTrainer):
        self.form, self.temperature = trainer.critic.form, trainer.temperature
        self.model = copy.deepcopy(trainer.model).double()
        del self.model.get_base_model().forward  # TRL's, which ends in the model that this one was copied from
        self.head = copy.deepcopy(trainer.critic.head).double()
        self.model.zero_grad()
        self.head.zero_grad()

    def log_probs(self, row: Row) -> torch.Tensor:
        ids = row.prompt_ids + row.completion_ids
        logits = self.model(input_ids=torch.tensor([ids])).logits[0, len(row.prompt_ids) - 1 : -1]
        log_probs = (logits / self.temperature).log_softmax(-1)
        return log_probs[range(len(row.completion_ids)), row.completion_ids]

    def reference_log_probs(self, row: Row) -> torch.Tensor:
        with self.model.disable_adapter():
            return self.log_probs(row)

    def values(self, row: Row) -> torch.Tensor:
        """Before each token of the completion, and after the last."""
        if self.form == "adapter":
            self.model.set_adapter(ADAPTER)
        input_ids = torch.tensor([row.prompt_ids + row.completion_ids])
        hidden = self.model.get_base_model().model(input_ids=input_ids).last_hidden_state[0]
        return self.head(hidden[len(row.prompt_ids) - 1 :])[:, 0]

    def policy(self) -> None:
        self.model.set_adapter("default")

    def gradients(self) -> dict[str, torch.Tensor]:
        named = [*self.model.named_parameters(), *self.head.named_parameters(prefix="head")]
        return {name: p.grad for name, p in named if p.grad is not None}


@torch.no_grad()
def exact_rollout(exact: Exact, rows: list[Row], args: PPOConfig, is_new: bool) -> dict[str, dict[str, list[float]]]:
    """For each prompt: log_probs, values, advantages and returns of the tokens that count."""
    found = {}
    for row in (row for row in rows if row.counted):
        exact.policy()
        log_probs, reference = exact.log_probs(row).tolist(), exact.reference_log_probs(row).tolist()
        values = exact.values(row).tolist()
        rewards = []
        for t in row.counted:
            ratio = log_probs[t] - reference[t]
            kl = {"k1": ratio, "k3": math.exp(-ratio) - 1 + ratio}[args.kl_estimator]
            rewards.append(-args.kl_coef * kl)
        rewards[-1] += row.score
        if row.is_truncated:
            rewards[-1] -= args.missing_eos_penalty or 0
            rewards[-1] += args.gamma * values[-1] if args.bootstrap_truncated else 0
        found[row.prompt] = {
            "log_probs": [log_probs[t] for t in row.counted],
            "values": [values[t] for t in row.counted],
            "rewards": rewards,
        }
    exact.policy()
    begin = fmean(sum(one["rewards"]) for one in found.values()) if is_new else 0
    for one in found.values():
        values = one["values"] = [value + begin for value in one["values"]]
        advantages, advantage = [], 0.0
        for reward, value, following in reversed(list(zip(one["rewards"], values, [*values[1:], 0], strict=True))):
            advantage = reward + args.gamma * following - value + args.gamma * args.lam * advantage
            advantages.insert(0, advantage)
        one["returns"] = [a + v for a, v in zip(advantages, values, strict=True)]
        one["advantages"] = advantages
    everything = [a for one in found.values() for a in one["advantages"]]
    mean, std = fmean(everything), math.sqrt(pvariance(everything) + 1e-8)
    for one in found.values():
        one["advantages"] = [(a - mean) / std for a in one["advantages"]]
    return found


@dataclass
class Losses:
    policy: torch.Tensor
    value: torch.Tensor
    clipped_ratios: int
    clipped_values: int


def exact_losses(exact: Exact, rows: list[Row], rollout: dict, args: PPOConfig) -> Losses:
    """Of one minibatch; they are backpropagated into `exact`.

    A sum over tokens, divided by the tokens of an accumulation window as if all minibatches had as many.
    """
    tokens = sum(len(one["advantages"]) for one in rollout.values())
    tokens *= args.gradient_accumulation_steps / args.steps_per_generation
    zero = torch.zeros((), dtype=torch.float64)
    losses = Losses(zero, zero, 0, 0)
    for row in rows:
        for i, value in enumerate(exact.values(row)[row.counted]):
            old, target = rollout[row.prompt]["values"][i], rollout[row.prompt]["returns"][i]
            near = old + (value - old).clamp(-args.cliprange_value, args.cliprange_value)
            losses.clipped_values += bool((near - target) ** 2 > (value - target) ** 2)
            worst = torch.maximum((value - target) ** 2, (near - target) ** 2)
            losses.value = losses.value + args.vf_coef * 0.5 * worst / tokens
    if exact.form == "adapter" and losses.value.requires_grad:
        losses.value.backward()  # while its adapter is active
    exact.policy()
    for row in rows:
        for i, log_prob in enumerate(exact.log_probs(row)[row.counted]):
            advantage = rollout[row.prompt]["advantages"][i]
            ratio = (log_prob - rollout[row.prompt]["log_probs"][i]).exp()
            clipped = ratio.clamp(1 - args.epsilon, 1 + args.epsilon)
            losses.clipped_ratios += bool(clipped * advantage < ratio * advantage)
            losses.policy = losses.policy - torch.minimum(ratio * advantage, clipped * advantage) / tokens
    rest = losses.policy if exact.form == "adapter" else losses.policy + losses.value
    if rest.requires_grad:
        rest.backward()
    return losses


class Watched(PPOTrainer):
    """Keeps what comes out of every rollout and every minibatch, with the weights that went in."""

    def __init__(self, rows: list[Row], **named):
        self.rows, self.rollouts, self.minibatches, self.gradients = rows, [], [], []
        super().__init__(**named)

    def _generate_and_score_completions(self, inputs):
        exact, is_new = Exact(self), self.critic.is_new
        batch = super()._generate_and_score_completions(inputs)
        self.rollouts.append((exact, is_new, dict(batch)))
        return batch

    def _compute_loss(self, model, inputs):
        exact, self.value_loss = Exact(self), 0.0
        loss = super()._compute_loss(model, inputs)
        self.minibatches.append((exact, inputs, loss.item(), self.value_loss))
        return loss

    def _value_loss(self, values, inputs, *rows):
        loss = super()._value_loss(values, inputs, *rows)
        self.value_loss += loss.item()  # of one chunk
        return loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        named = [*self.model.named_parameters(), *self.critic.head.named_parameters(prefix="head")]
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        return loss


def trained(rows: list[Row] = ROWS, begin_at: float | None = 0.3, kind=Watched, **settings) -> Watched:
    """A trainer that has trained; what starts at zero was moved away from there first."""
    small = {
        "output_dir": "out",
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "shuffle_dataset": False,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": len(rows),
        "max_completion_length": 32,
        "max_steps": 1,
        "temperature": 1.3,
        "reward_weights": WEIGHTS,
    }
    columns = [dict(zip(("prompt", "first", "second"), (row.prompt, *row.rewards), strict=True)) for row in rows]
    trainer = kind(
        rows,
        model=str(STARTER_FOLDER),
        reward_funcs=[first_reward, second_reward],
        args=PPOConfig(**small | settings),
        train_dataset=Dataset.from_list(columns),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        rollout_func=rollout,
    )
    generator = torch.Generator().manual_seed(0)
    for name, parameter in [*trainer.model.named_parameters(), ("head", trainer.critic.head.weight)]:
        if "lora_B" in name or name == "head":
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.03)
    if begin_at is not None:
        trainer.critic.begin_at(begin_at)
    trainer.train()
    return trainer


def rows_of(inputs: dict, rows: list[Row]) -> list[Row]:
    """The rows of a minibatch, found by their prompts."""
    by_ids = {tuple(row.prompt_ids): row for row in rows}
    pairs = zip(inputs["prompt_ids"], inputs["prompt_mask"].bool(), strict=True)
    return [by_ids[tuple(ids[mask].tolist())] for ids, mask in pairs]


SEVERAL_UPDATES = {
    "per_device_train_batch_size": 3,
    "steps_per_generation": 2,
    "num_iterations": 2,
    "max_steps": 4,
    "learning_rate": 5e-3,
    "critic_learning_rate": 2e-2,
    "cliprange_value": 0.05,
}
ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
SETTINGS = [
    {"kl_coef": 0.3, "missing_eos_penalty": 0.7, **SEVERAL_UPDATES},
    {"kl_coef": 0.1, "kl_estimator": "k3", "bootstrap_truncated": True, "gamma": 0.9, "lam": 0.8, **SEVERAL_UPDATES},
    {"kl_coef": 0.3, "missing_eos_penalty": 0.7, "gamma": 0.9, "begin_at": None, **ACCUMULATED},
    {"kl_coef": 0.0, "vf_coef": 0.5, "lam": 1.0, **ACCUMULATED},
]


@pytest.mark.parametrize("critic", ["adapter", "shared"])
@pytest.mark.parametrize("settings", SETTINGS, ids=["k1", "k3-bootstrap-gamma", "accumulated-new", "accumulated-no-kl"])
def test_the_whole_update_equals_one_in_float64(critic, settings):
    trainer = trained(critic=critic, **settings)
    args, [(exact, is_new, batch)] = trainer.args, trainer.rollouts
    expected = exact_rollout(exact, ROWS, args, is_new)

    names = {"advantages": "advantages", "returns": "returns", "old_values": "values"}
    for name, of_loop in names.items():
        padded = torch.zeros_like(batch[name])
        for i, row in enumerate(ROWS):
            if row.counted:
                padded[i, row.counted] = torch.tensor(expected[row.prompt][of_loop])
        torch.testing.assert_close(batch[name], padded, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")

    accumulated, clipped_ratios, clipped_values = {}, 0, 0
    assert len(trainer.minibatches) == args.max_steps * args.gradient_accumulation_steps
    for i, (exact, inputs, loss, value_loss) in enumerate(trainer.minibatches):
        losses = exact_losses(exact, rows_of(inputs, ROWS), expected, args)
        assert value_loss == pytest.approx(losses.value.item(), abs=1e-5)
        assert loss - value_loss == pytest.approx(losses.policy.item(), abs=1e-5)
        assert loss == pytest.approx((losses.policy + losses.value).item(), abs=1e-5)
        clipped_ratios, clipped_values = clipped_ratios + losses.clipped_ratios, clipped_values + losses.clipped_values

        if i % args.gradient_accumulation_steps == 0:
            accumulated = {}
        for name, gradient in exact.gradients().items():
            accumulated[name] = accumulated.get(name, 0) + gradient
        for name, gradient in trainer.gradients[i].items():
            wanted = accumulated[name].float()
            torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    if args.num_iterations > 1:  # else there is nothing to clip
        assert clipped_ratios > 3 and clipped_values > 3


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_only_the_critic_learns_from_the_value_loss_of_an_adapter_of_its_own(critic):
    policy = [
        {name: g for name, g in trained(critic=critic, vf_coef=vf_coef).gradients[0].items() if ".default." in name}
        for vf_coef in (0.0, 10.0)
    ]
    same = [torch.equal(policy[0][name], policy[1][name]) for name in policy[0]]
    assert all(same) if critic == "adapter" else not any(same)


def with_unjudged(row: Row) -> list[Row]:
    return [row if old is UNJUDGED else old for old in ROWS]


OTHER_TEXTS = [
    Row(UNJUDGED.prompt, "<think>11+1=12</think>12<|end|>", (None, None)),
    Row(UNJUDGED.prompt, "<think>11+1=12</think>", (None, None)),  # cut off
]


@pytest.mark.parametrize("critic", ["adapter", "shared"])
@pytest.mark.parametrize("other", OTHER_TEXTS, ids=["ended", "cut off"])
def test_what_a_completion_that_nobody_could_judge_says_changes_no_gradient(critic, other):
    settings = {"critic": critic, "kl_coef": 0.3, "missing_eos_penalty": 0.7}
    one, same, judged = (
        trained(rows, **settings).gradients[0]
        for rows in (ROWS, with_unjudged(other), with_unjudged(Row(other.prompt, other.completion, (1.0, None))))
    )
    assert one.keys() == same.keys() == judged.keys()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], judged[name]) for name in one)


class Spoiled(Watched):
    """The critic expected something else of the completion that nobody could judge."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        for name in ("old_values", "returns"):
            batch[name][ROWS.index(UNJUDGED)] = 1e3
        return batch


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_what_was_expected_of_a_completion_that_nobody_could_judge_changes_no_gradient(critic):
    one, other = (trained(kind=kind, critic=critic).gradients[0] for kind in (Watched, Spoiled))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("critic", ["adapter", "shared"])
def test_where_nobody_could_judge_anything_nothing_is_learned(critic):
    rows = [Row(row.prompt, row.completion, (None, None)) for row in ROWS]
    trainer = trained(rows, critic=critic)
    [(_, _, loss, value_loss)] = trainer.minibatches
    assert loss == value_loss == 0
    assert not any(gradient.any() for gradient in trainer.gradients[0].values())


@pytest.fixture(params=["adapter", "shared"])
def improbable(request):
    """Forced tokens that nobody could judge, say by a rollout_func: 1 / their probability is infinite in float32."""
    row = Row(UNJUDGED.prompt, "Tom Tom Tom<|end|>", (None, None))
    return trained(with_unjudged(row), critic=request.param, temperature=0.05, num_iterations=2)


def test_an_improbable_completion_that_nobody_could_judge_leaves_the_gradients_finite(improbable):
    assert all(gradient.isfinite().all() for gradient in improbable.gradients[0].values())


def test_an_improbable_completion_that_nobody_could_judge_leaves_the_loss_finite(improbable):
    assert math.isfinite(improbable.minibatches[0][2])
