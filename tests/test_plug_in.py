"""The rewards in somebody else's TRL job: the real command line and the real trainers, on the starter model."""

import itertools
import json
import multiprocessing
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pandas
import pytest
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from recipes.hardware import STARTER_FOLDER
from recipes.tasks.word_problems import generate
from rewards import (
    code_compiles_reward,
    code_format_reward,
    correctness_reward,
    exact_match_reward,
    get_code_format_reward,
    get_correctness_reward,
    get_cosine_length_reward,
    get_language_consistency_reward,
    get_majority_vote_reward,
    get_overlong_penalty_reward,
    get_repetition_penalty_reward,
    get_think_format_reward,
    language_consistency_reward,
    length_reward,
    multiple_choice_reward,
    reasoning_steps_reward,
    repetition_penalty_reward,
    tag_count_reward,
    think_format_reward,
)

LONGEST = 32
RANGES = {
    correctness_reward: (0, 1),
    exact_match_reward: (0, 1),
    multiple_choice_reward: (0, 1),
    think_format_reward: (0, 1),
    code_format_reward: (0, 1),
    code_compiles_reward: (0, 1),
    tag_count_reward: (0, 1),
    reasoning_steps_reward: (0, 1),
    get_language_consistency_reward(target="en"): (0, 1),
    length_reward: (-0.5, 0.5),
    get_cosine_length_reward(LONGEST): (-1, 1),
    get_overlong_penalty_reward(LONGEST, 24): (-1, 0),
    repetition_penalty_reward: (-1, 0),
}


def rows(n: int, conversational: bool = True) -> list[dict]:
    problems = list(itertools.islice(generate(0), n))
    for problem in problems:
        question, number = problem["question"], int(problem["answer"].split()[-1])
        template = f"<|user|>{question}<|assistant|>"
        problem["prompt"] = [{"role": "user", "content": question}] if conversational else template
        problem["options"] = [str(number + step) for step in (1, 0, -1, 10)]
    return problems


def train(reward_funcs, rows, trainer=GRPOTrainer, config=GRPOConfig):
    """Two steps of 16 completions; returns the last step's means by reward, and its table of completions."""
    args = config(
        output_dir="out",
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        log_completions=True,
        num_completions_to_print=0,
        max_steps=2,
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=LONGEST,
        seed=1,
    )
    dataset = Dataset.from_list(rows)
    trainer = trainer(model=str(STARTER_FOLDER), reward_funcs=reward_funcs, args=args, train_dataset=dataset)
    trainer.train()
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    logged = trainer.state.log_history[1]
    assert logged["step"] == 2
    means = {key.split("/")[1]: logged[key] for key in logged if re.fullmatch("rewards/.*/mean", key)}
    # RLOOTrainer writes its table to trackers only.
    logs = trainer._logs
    table = pandas.DataFrame({"completion": logs["completion"], **logs["rewards"], **logs["extra"]})
    assert len(table) == 16
    return means, table.assign(advantage=logs["advantages"])


def test_the_command_line_of_trl_trains_with_the_rewards_from_any_folder(write_jsonl):
    write_jsonl([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows(16)], "data/train.jsonl")
    names = ["correctness_reward", "think_format_reward"]
    command = [
        *(Path(sys.executable).with_name("trl"), "grpo", "--model_name_or_path", STARTER_FOLDER),
        *("--dataset_name", "data", "--reward_funcs", *(f"rewards.{name}" for name in names)),
        *("--output_dir", "out", "--max_steps", "2", "--save_steps", "2", "--logging_steps", "1"),
        *("--per_device_train_batch_size", "16", "--num_generations", "4", "--max_completion_length", "32"),
        *("--use_cpu", "--bf16", "False", "--report_to", "none"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    history = json.loads(Path("out/checkpoint-2/trainer_state.json").read_text())["log_history"]
    assert [step["step"] for step in history[:2]] == [1, 2]
    for step in history[:2]:
        assert {f"rewards/{name}/mean" for name in names} <= step.keys()
        assert 0.0 < step["rewards/correctness_reward/mean"] < 1.0  # the starter is right about every second time
        assert 0.0 <= step["rewards/think_format_reward/mean"] < 1.0


@pytest.mark.parametrize("conversational", [True, False], ids=["messages", "strings"])
@pytest.mark.parametrize(("trainer", "config"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
def test_all_rewards_train_together(trainer, config, conversational):
    means, table = train(list(RANGES), rows(16, conversational), trainer, config)
    assert list(means) == [reward.__name__ for reward in RANGES]
    for (name, mean), (low, high) in zip(means.items(), RANGES.values(), strict=True):
        assert table[name].between(low, high).all(), name
        assert table[name].mean() == pytest.approx(mean, abs=1e-6)
    assert table["correctness_reward"].nunique() == 2
    # What a reward logs stands in the row of its completion.
    right = table["extracted_answer"] == table["gold_answer"]
    for name in ("correctness_reward", "exact_match_reward", "multiple_choice_reward"):
        assert (table[name] == right).all(), name
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in table["completion"]]
    assert all(answer in text for answer, text in zip(table["extracted_answer"], texts, strict=True))


def test_a_reward_is_called_within_an_async_reward():
    async def my_reward(completions, answer, **kwargs):
        return correctness_reward(completions=completions, answer=answer)

    # Roots, so that the workers of the algebra are asked from the event loop's thread.
    problems = [row | {"answer": f"\\sqrt{{{int(row['answer'].split()[-1]) ** 2}}}"} for row in rows(8)]
    means, table = train([my_reward, correctness_reward], problems)
    assert (table["my_reward"] == table["correctness_reward"]).all()
    assert means["my_reward"] == means["correctness_reward"] > 0.0


def test_golds_that_are_unusable_do_not_stop_the_training(caplog):
    # Two rows of one question: its completions are one group to a reward, half of them without a gold.
    first, second = rows(2)
    problems = [first, first | {"answer": None}, second, second | {"answer": "unknown"}]
    judged = [correctness_reward, exact_match_reward, length_reward, get_cosine_length_reward(LONGEST)]
    _, table = train([*judged, think_format_reward], problems)
    unusable = table["gold_answer"].isin(["", "unknown"])
    assert unusable.sum() == 8
    assert (table["correctness_reward"].isna() == unusable).all()
    assert (table["cosine_length_reward"].isna() == unusable).all()
    assert (table["exact_match_reward"].isna() == (table["gold_answer"] == "")).all()
    assert table["length_reward"].isna().all()
    assert table["think_format_reward"].notna().all() and table["advantage"].notna().all()
    assert "is no usable gold answer" in caplog.text


def test_a_data_set_without_any_usable_gold_does_not_stop_the_training():
    means, table = train([correctness_reward], [row | {"answer": "unknown"} for row in rows(8)])
    assert means == {"correctness_reward": None}
    assert table["correctness_reward"].isna().all()


REWARDS = [
    *(*RANGES, language_consistency_reward, get_correctness_reward(gold_column="solution", lenient=True)),
    *(get_think_format_reward(answer=None), get_repetition_penalty_reward(2, -0.5)),
    *(get_majority_vote_reward(0.0), get_code_format_reward(language="c", think="reasoning")),
]
BATCH = {
    "prompts": ["What is the sum of twelve and seven apples?"] * 4,
    "completions": [
        "<think>Twelve and seven make nineteen.</think><answer>19</answer>",
        "1. 12+7=20.\n2. So the sum is 20.\n\\boxed{20}",
        [{"role": "assistant", "content": "<answer>\\sqrt{361}</answer>"}],
        "19 19 19 19 \ud800",
    ],
    "completion_ids": [[1, 2, 3], list(range(30)), [4] * 20, [5] * 40],
    "answer": ["#### 19", "19", 19, None],
    "solution": ["x^2-1", "20", r"19\sin(\frac{\pi}{2})", "19"],
    "options": [["19", "20"]] * 4,
    "trainer_state": None,
}


def test_rewards_are_sent_to_a_spawned_process_and_judge_there_as_here():
    """TRL's async GRPO pickles them into a process of its own."""
    expected = [reward(**BATCH) for reward in REWARDS]
    assert expected[0] == [1.0, 0.0, 1.0, None]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        for reward, here in zip(REWARDS, expected, strict=True):
            assert process.submit(reward, **BATCH).result(timeout=60) == here, reward.__name__


def test_rewards_judge_the_same_in_many_threads_at_once():
    expected = [reward(**BATCH) for reward in REWARDS]
    with ThreadPoolExecutor(8) as threads:
        runs = [[threads.submit(reward, **BATCH) for reward in REWARDS] for _ in range(20)]
        assert all([future.result(timeout=60) for future in run] == expected for run in runs)


def test_nothing_but_floats_and_none_comes_out():
    for reward in REWARDS:
        values = reward(**BATCH)
        assert isinstance(values, list) and len(values) == 4
        assert all(value is None or type(value) is float for value in values), reward.__name__
