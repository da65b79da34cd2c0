"""Problems chosen and ordered by how often a model solves them, in every recipe: what its real dataloader gives."""

import pytest
from scored_samples import sampled, use_few_problems

from recipes import dpo, grpo, ppo, sft

RECIPES = {"grpo": grpo, "ppo": ppo, "sft": sft, "dpo": dpo}
RIGHT = [0, 2, 1, 4, 3, 1, 3, 2]  # of 4 completions


@pytest.fixture(scope="module", autouse=True)
def few_problems():
    with pytest.MonkeyPatch.context() as patch:
        use_few_problems(patch)
        yield


@pytest.fixture
def trainer_of(monkeypatch, write_jsonl):
    """The trainer that a command with samples makes, before it trains; and the samples."""

    def make(name: str, *argv: str):
        made, rows = [], sampled(RIGHT)
        monkeypatch.setattr(RECIPES[name], "train", lambda job, trainer, **figures: made.append(trainer))
        batch = ["--per_device_train_batch_size", {"grpo": "24", "ppo": "3", "sft": "3", "dpo": "3"}[name]]
        flags = ["--samples", str(write_jsonl(rows)), "--report_to", "none", *batch]
        RECIPES[name].main([*flags, *argv])
        [trainer] = made
        return trainer, [row["question"] for row in rows]

    return make


def first_questions(trainer, batches: int) -> list[str]:
    """The prompts of the first steps, in their order, each once."""
    found = []
    for batch, _ in zip(trainer.get_train_dataloader(), range(batches), strict=False):
        if isinstance(batch, list):  # GRPO's and PPO's generation batch
            asked = [row["prompt"][-1]["content"] for row in batch]
        else:
            ids = batch["input_ids"] if "input_ids" in batch else batch["prompt_input_ids"]
            decoded = trainer.processing_class.batch_decode(ids)
            asked = [text.partition("<|user|>")[2].partition("<|assistant|>")[0] for text in decoded]
        found += [question for question in dict.fromkeys(asked) if question not in found]
    return [question.replace(" ", "") for question in found]


def without_spaces(questions: list[str]) -> list[str]:
    return [question.replace(" ", "") for question in questions]


@pytest.mark.parametrize("name", RECIPES)
def test_only_problems_within_the_pass_rates_are_trained_on_the_easiest_first(name, trainer_of, capsys):
    trainer, questions = trainer_of(name, "--min_pass_rate", "0.25", "--max_pass_rate", "0.75", "--curriculum")
    assert "with a pass rate of 0.25 to 0.75, from easy to hard (" in capsys.readouterr().out
    easy_to_hard = [4, 6, 1, 7, 2, 5]  # three, two and one of four right, equals in their order
    assert len(trainer.train_dataset) == 6
    assert first_questions(trainer, 2) == without_spaces([questions[i] for i in easy_to_hard])


def test_samples_that_choose_nothing_are_refused_where_they_are_not_trained_on(trainer_of, capsys):
    with pytest.raises(SystemExit) as stop:
        trainer_of("grpo")
    assert stop.value.code == 2 and "--samples says how hard the problems are" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_without_a_curriculum_they_are_shuffled(name, trainer_of):
    trainer, questions = trainer_of(name, "--min_pass_rate", "0.25", "--max_pass_rate", "0.75")
    found = first_questions(trainer, 2)
    assert sorted(found) == sorted(without_spaces([questions[i] for i in (1, 2, 4, 5, 6, 7)]))
    for order in ((4, 6, 1, 7, 2, 5), (1, 2, 4, 5, 6, 7)):
        assert found != without_spaces([questions[i] for i in order])


@pytest.mark.parametrize("loss", ["simpo", "orpo"])
def test_the_order_is_kept_by_the_trainers_without_a_reference(loss, trainer_of):
    trainer, questions = trainer_of("dpo", "--curriculum", "--loss_type", loss)
    easy_to_hard = [4, 6, 1, 7, 2, 5]  # all right and all wrong make no pairs
    assert first_questions(trainer, 2) == without_spaces([questions[i] for i in easy_to_hard])
