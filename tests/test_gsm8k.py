"""GSM8K's rows from a folder or a file, through `datasets`."""

from recipes.tasks import load_task
from recipes.tasks.loading import load_question_answer

TASK = load_task("gsm8k")


def test_a_folder_keeps_its_own_test_rows_apart(write_jsonl, problems):
    write_jsonl(problems(6), "gsm8k/train.jsonl")
    folder = write_jsonl([{"question": "held out?", "answer": "#### 1"}], "gsm8k/test.jsonl").parent
    (folder / "README.md").write_text("# GSM8K")
    train, held_out = TASK.load(str(folder), None, 0)
    assert len(train) == 6 and held_out["question"] == ["held out?"]


def test_a_single_file_is_split_without_overlap_and_alike_for_every_seed(write_jsonl, problems):
    path = str(write_jsonl(problems(50)))
    train, held_out = load_question_answer(path, None)
    assert (len(train), len(held_out)) == (45, 5)
    assert not set(train["question"]) & set(held_out["question"])
    assert all(TASK.load(path, None, seed)[1]["question"] == held_out["question"] for seed in range(3))


def test_the_gold_is_what_follows_the_marker(problems):
    row = problems(3)[2]
    completion = [{"role": "assistant", "content": TASK.written("3")}]
    for reward in TASK.reward_funcs:
        assert reward(prompts=[""], completions=[completion], answer=[row["answer"]]) == [1.0]


def test_the_prompt_asks_for_a_thought_then_an_answer():
    system, user = TASK.prompt("1 + 1?")
    assert system["role"] == "system" and system["content"].index("<think>") < system["content"].index("<answer>")
    assert user == {"role": "user", "content": "1 + 1?"}


def test_a_data_set_with_only_a_test_split_is_split_like_any_other(write_jsonl, problems):
    train, held_out = load_question_answer(str(write_jsonl(problems(50), "data/test.jsonl").parent), None)
    assert not set(train["question"]) & set(held_out["question"])


def test_columns_that_the_trainer_would_misread_are_left_out(write_jsonl, problems):
    rows = [{**row, "prompt": "mine", "image": "x.png"} for row in problems(20)]
    train, held_out = load_question_answer(str(write_jsonl(rows)), None)
    assert train.column_names == held_out.column_names == ["question", "answer"]


def test_of_several_configurations_main_is_taken(tmp_path, write_jsonl, problems):
    """As in a snapshot of the hub's repository."""
    for name, rows in (("main", problems(4)), ("socratic", problems(9))):
        write_jsonl(rows, f"gsm8k/{name}/train.jsonl")
        write_jsonl(rows[:2], f"gsm8k/{name}/test.jsonl")
    files = [f"- config_name: {name}\n  data_dir: {name}" for name in ("main", "socratic")]
    (tmp_path / "gsm8k" / "README.md").write_text("---\nconfigs:\n" + "\n".join(files) + "\n---\n")
    assert len(load_question_answer(str(tmp_path / "gsm8k"), None)[0]) == 4
    assert len(load_question_answer(str(tmp_path / "gsm8k"), "socratic")[0]) == 9
