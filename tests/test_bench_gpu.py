"""benchmarks/gpu.py: models of the real shape, one row end to end without a GPU, and tables with runs out of memory."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2ForCausalLM

import recipes.tasks
from benchmarks import gpu
from recipes import hardware


@pytest.mark.parametrize(
    "shape, parameters",
    [("0.5B", 494_032_768), ("1.5B", 1_543_714_304), ("3B", 3_085_938_688), ("7B", 7_615_616_512)],
)
def test_the_shapes_are_those_of_Qwen(shape, parameters):
    with torch.device("meta"):
        model = Qwen2ForCausalLM(gpu.shape_config(shape))
    assert model.num_parameters() == parameters


def test_a_card_takes_the_model_of_its_profile():
    assert [gpu.shape_for(card) for card in (8, 12, 16, 24)] == ["0.5B", "1.5B", "1.5B", "3B"]


def test_prompts_have_about_200_tokens_and_random_tokens_decode_to_nothing(monkeypatch):
    monkeypatch.setattr(recipes.tasks, "__path__", [*recipes.tasks.__path__])  # where its task is added
    task, tokenizer = gpu.find_task(), gpu.make_tokenizer()
    rows, _ = task.load(None, None, 42)
    asked = [tokenizer.apply_chat_template(task.prompt(q), add_generation_prompt=True) for q in rows["question"]]
    lengths = [len(prompt["input_ids"]) for prompt in asked]
    assert 140 < min(lengths) and max(lengths) < 210
    assert tokenizer.batch_decode([[151_000, 2_000], [300]], skip_special_tokens=True) == ["", ""]
    assert len(tokenizer("777")["input_ids"]) == 3


def test_a_row_runs_end_to_end(tmp_path, monkeypatch, capsys):
    in_a_process = gpu.in_a_process

    def make_here(command, folder):
        if command[0] != "--make_model":
            return in_a_process(command, folder)
        gpu.make_model(*command[1:])
        return {}, ""

    monkeypatch.setattr(gpu, "in_a_process", make_here)
    output = tmp_path / "gpu.json"
    arguments = ["--only", "grpo-8gb", "--steps", "2", "--output", str(output)]
    gpu.main(arguments)
    results = json.loads(output.read_text())
    row = results["rows"]["grpo-8gb"]
    assert row["outcome"] == "ran" and row["shape"] == "tiny" and "no cap on memory" in results["what"]
    assert row["tokens_per_step"] == 64 * gpu.TINY_TOKENS and len(row["seconds"]) == 1
    assert row["tokens_per_second"] == pytest.approx(row["tokens_per_step"] / row["seconds"][0], rel=0.01)
    assert row["estimate_error"] == pytest.approx(row["estimate_gb"] / row["peak_gb"] - 1, abs=0.01)
    assert row["settings"]["load_in_4bit"] and row["settings"]["gradient_accumulation_steps"] == 8
    assert "| 8 GB | tiny  | GRPO    | ran " in capsys.readouterr().out
    assert not [*tmp_path.glob("**/*.part")]

    monkeypatch.setattr(gpu, "run_row", lambda *args: pytest.fail("it is there already"))
    gpu.main([*arguments, "--missing"])


def test_a_cap_is_the_card_less_what_lies_elsewhere_and_libraries_hear_of_it(monkeypatch):
    fractions = []
    for name, fake in {
        "is_available": lambda: True,
        "get_device_properties": lambda device: SimpleNamespace(total_memory=100 * gpu.GIB),
        "set_per_process_memory_fraction": fractions.append,
        "memory_reserved": lambda: 2 * gpu.GIB,
        "mem_get_info": torch.cuda.mem_get_info,  # put back afterwards
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    assert gpu.limit_memory(12, gpu.GIB / gpu.GB) == pytest.approx(11 * gpu.GIB / gpu.GB)
    assert fractions == [pytest.approx(0.11)]
    assert torch.cuda.mem_get_info() == (9 * gpu.GIB, 12 * gpu.GIB)
    assert gpu.limit_memory(None, 0.5) is None
    assert gpu.limit_memory(5, 0.5, gpu.GB) == pytest.approx(4.5)
    with pytest.raises(gpu.InputError, match="less than a card of 200 GB"):
        gpu.limit_memory(200, 0.5)


def test_a_run_over_its_card_is_measured_once_more_with_room_for_what_lies_outside(tmp_path, monkeypatch):
    asked = []

    def answer(command, folder):
        asked.append(json.loads(command[1]))
        return {"outcome": gpu.OVER if len(asked) == 1 else "ran", "outside_gb": 0.3}, ""

    monkeypatch.setattr(gpu, "in_a_process", answer)
    (tmp_path / "0.5B").mkdir()
    row = gpu.rows(1, on_gpu=True)[0]
    assert gpu.run_row(row, str(tmp_path), 2, 0.5)["outcome"] == "ran"
    assert [one["outside_gb"] for one in asked] == [0.0, 0.3]


def row_of(name: str, **found) -> dict:
    row = next(row for row in gpu.rows(1, on_gpu=True) if row.name == name)
    return gpu.asdict(row) | {"call": "once", "outcome": "ran"} | found


def printed(tmp_path, capsys, *found: dict) -> str:
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({"what": "", "machine": "a GPU", "rows": {row["name"]: row for row in found}}))
    gpu.main(["--table", "--output", str(file)])
    return capsys.readouterr().out


def test_out_of_memory_stays_in_the_table(tmp_path, capsys):
    text = printed(
        tmp_path,
        capsys,
        row_of("grpo-8gb", allocated_gb=3.0, reserved_gb=3.5, peak_gb=4.0, estimate_gb=3.0, estimate_error=-0.25),
        row_of("7b-12gb", outcome="out of memory", allocated_gb=11.0, peak_gb=12.5, **{"while": "step 1"}),
    )
    assert "| 8 GB | 0.5B  | GRPO    | ran     | 3.00      | 3.50     | 4.00   | 3.00      | -25%  | -        |" in text
    assert "| 12 GB | 7B    | GRPO, 8 x 512 tokens | out of memory (step 1) | 11.00" in text


def test_each_saving_has_its_share_and_a_run_out_of_memory_gives_bounds(tmp_path, capsys):
    base = row_of("savings-the-recipe", needed_gb=4.0)
    one = row_of("savings-without-4-bit-weights", needed_gb=6.0)
    passes = row_of("savings-without-small-passes", needed_gb=20.0, outcome="out of memory")
    whole = row_of("savings-without-all-of-them", needed_gb=24.0)
    text = printed(tmp_path, capsys, base, one, passes, whole)
    assert "| without 4-bit weights, 1.5B | ran           | 6.00   | +2.00    | 10%   |" in text
    assert "| without small passes, 1.5B  | out of memory | 20.00  | > +16.00 | -     |" in text
    assert "| without all of them, 1.5B   | ran           | 24.00  | +20.00   | 100%  |" in text
    text = printed(tmp_path, capsys, base, one, whole | {"outcome": "out of memory"})
    assert "| 6.00   | +2.00    | < 10% |" in text and "| 24.00  | > +20.00 | 100%" in text


def test_recipe_and_bare_script_are_compared_within_one_call(tmp_path, capsys):
    recipe = row_of("baseline-1-recipe", tokens_per_second=300.0, peak_gb=4.0)
    bare = row_of("baseline-1-bare", tokens_per_second=200.0, peak_gb=9.0)
    text = printed(tmp_path, capsys, recipe, bare)
    assert "| 1      | 1.5B  | 4.00       | 9.00     | 300              | 200            | 1.50  |" in text
    assert "| median |" in text
    assert "| median |" not in printed(tmp_path, capsys, recipe, bare | {"call": "another"})


def test_mistakes_are_one_sentence(tmp_path, refused_by):
    assert "Did you mean grpo-8gb?" in refused_by(gpu.main, "--only", "grpo-8g")
    assert "give 2 or more" in refused_by(gpu.main, "--steps", 1, "--output", tmp_path / "new.json")
    assert "There is no" in refused_by(gpu.main, "--table", "--output", tmp_path / "new.json")
    other = tmp_path / "other.json"
    other.write_text("[]")
    assert "no result of this benchmark" in refused_by(gpu.main, "--output", other)
    other.write_text(json.dumps({"what": "", "machine": "a GPU", "rows": {}}))
    assert f"this is {hardware.cpu().name}: give another --output" in refused_by(gpu.main, "--output", other)
