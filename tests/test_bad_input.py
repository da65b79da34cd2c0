"""Each mistake of a user is one clear sentence and exit code 2, before anything slow."""

import errno
import subprocess
import sys

import pytest
import torch

from recipes import grpo
from recipes.errors import exit_kindly, is_disk_full
from recipes.hardware import STARTER_FOLDER


@pytest.fixture
def refused(capsys):
    """Runs the recipe, which must end with exit code 2 and one sentence; returns the sentence."""

    def run(*argv):
        with pytest.raises(SystemExit) as stop:
            grpo.main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        assert stop.value.code == 2, captured.out
        assert "Traceback" not in captured.err
        *progress, sentence = captured.err.replace("\r", "\n").strip().split("\n")
        assert sentence.startswith("error: ") and not any("error" in line for line in progress), captured.err
        return sentence

    return run


def test_who_has_read_enough_of_the_output_sees_no_traceback():
    code = "from recipes.errors import exit_kindly; exit_kindly(lambda: print('x' * 10_000_000))()"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **streams)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141


def test_a_script_run_by_a_user_ends_the_same_way():
    done = subprocess.run(
        [sys.executable, "-m", "recipes.grpo", "--max_step", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: Unknown flag --max_step. Did you mean --max_steps? See --help.\n"


def test_unknown_flag(refused):
    assert "Unknown flag --learning_rat. Did you mean --learning_rate?" in refused("--learning_rat", "1e-3")
    assert "Unknown flag --num_generation. Did you mean --num_generations?" in refused("--num_generation=4")


def test_value_of_the_wrong_kind(refused):
    assert "argument --max_steps" in refused("--max_steps", "many")


def test_unknown_yaml_key(refused, tmp_path):
    (tmp_path / "my.yaml").write_text("num_generatons: 4\n")
    assert "Unknown key 'num_generatons' in the config file. Did you mean num_generations?" in refused(
        "--config", "my.yaml"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "cannot be read: No such file"), ("a: [", "is not YAML"), ("just text", "must hold `name: value` lines")],
)
def test_config_file_that_is_none(refused, tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "my.yaml").write_text(content)
    assert sentence in refused("--config", "my.yaml")


def test_config_without_a_path(refused):
    assert "--config needs the path" in refused("--config")


def test_unknown_task(refused):
    assert "Unknown task 'gsm8'. Did you mean gsm8k? Tasks: code, gsm8k, word_problems." in refused("--task", "gsm8")
    assert "Unknown task '../x'" in refused("--task", "../x")


def test_model_folder_missing(refused):
    sentence = refused("--model_name_or_path", "./my-model")
    assert "The model folder ./my-model does not exist" in sentence


def test_model_folder_without_a_model(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in refused("--model_name_or_path", "./empty")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text("{}")
    assert "holds no weights" in refused("--model_name_or_path", "./config")
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    assert "names no base_model_name_or_path" in refused("--model_name_or_path", "./empty")


def test_hub_unreachable(refused, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sentence = refused("--model_name_or_path", "nobody/no-such-model")
    assert "The model nobody/no-such-model cannot be loaded" in sentence
    assert "--model_name_or_path PATH" in sentence


def test_data_set_unreachable(refused, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    sentence = refused("--dataset_name", "openai/gsm8k-of-nobody")
    assert "The data set openai/gsm8k-of-nobody cannot be loaded from the hub" in sentence
    assert "--dataset_name PATH" in sentence


def test_data_set_missing(refused):
    assert "The data set ./rows.jsonl does not exist" in refused("--dataset_name", "./rows.jsonl")
    assert "The data set data/gsm8k/train.jsonl does not exist" in refused("--dataset_name", "data/gsm8k/train.jsonl")


def test_a_configuration_of_a_single_file(refused, write_jsonl, problems):
    sentence = refused("--dataset_name", write_jsonl(problems(20)), "--dataset_config", "main")
    assert "has no configurations: drop --dataset_config main" in sentence


def test_data_set_empty(refused, write_jsonl, tmp_path):
    assert "rows.jsonl is empty" in refused("--dataset_name", write_jsonl([]))
    (tmp_path / "folder").mkdir()
    assert "The data set ./folder cannot be read" in refused("--dataset_name", "./folder")


def test_data_set_without_its_columns(refused, write_jsonl):
    path = write_jsonl([{"problem": "1 + 1?", "answer": "2"}] * 4)
    assert "has no column question (it has problem, answer)" in refused("--dataset_name", path)


def test_a_line_that_is_not_json(refused, write_jsonl, problems):
    path = write_jsonl([*problems(3), '{"question": "cut o'])
    assert f"{path}, line 4 is not JSON" in refused("--dataset_name", path)
    path = write_jsonl([*problems(3), "[1, 2]"])
    assert f"{path}, line 4 is not a JSON object" in refused("--dataset_name", path)


def test_a_file_of_another_kind(refused, tmp_path):
    (tmp_path / "rows.csv").write_text("question,answer\n")
    assert "rows.csv is no JSONL file" in refused("--dataset_name", "rows.csv")


def test_too_many_unusable_golds(refused, write_jsonl, problems):
    rows = problems(4) + [{"question": f"Why {i}?", "answer": "unknown"} for i in range(8)]
    write_jsonl(problems(2), "data/test.jsonl")
    sentence = refused("--dataset_name", write_jsonl(rows, "data/train.jsonl").parent)
    assert "8 of 12 train rows fail the gold self-test" in sentence
    assert "'Why 0?': its gold answer 'unknown' is unusable" in sentence and "and 3 more" in sentence


def test_a_few_unusable_golds_are_counted_listed_and_skipped(capsys, write_jsonl, problems):
    rows = [*problems(10), {"question": "Why?", "answer": "unknown"}, {"question": "", "answer": "1"}]
    write_jsonl(rows, "data/train.jsonl")
    folder = write_jsonl(problems(5), "data/test.jsonl").parent
    grpo.main(["--dataset_name", str(folder), "--dry_run"])
    output = capsys.readouterr().out
    assert "warning: 2 of 12 train rows fail" in output
    assert "'Why?': its gold answer 'unknown' is unusable; '': it has no question" in output
    assert "10 train and 5 held-out rows pass" in output


def test_num_generations_that_does_not_divide_the_batch(refused):
    sentence = refused("--num_generations", 6)
    assert "--num_generations 6 does not divide the 64 completions of a generation batch" in sentence
    assert "take 2, 4, 8, 16, 32, 64" in sentence
    assert "needs at least 2" in refused("--num_generations", 1)


def test_fewer_rows_than_a_batch_needs(refused, write_jsonl, problems):
    sentence = refused("--dataset_name", write_jsonl(problems(6)))
    assert "5 usable train rows are fewer than the 8 prompts of one generation batch" in sentence


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--lora_r 0", "--lora_r 0: give a number above 0"),
        ("--per_device_train_batch_size 0", "--per_device_train_batch_size 0: give a number above 0"),
        ("--max_steps -3", "--max_steps -3: give a number above 0, or -1"),
        ("--eval_samples -5", "cannot be negative"),
        ("--learning_rate -1", "cannot be negative"),
        ("--temperature 0", "--temperature 0.0: give a number above 0"),
        ("--num_iterations 0", "--num_iterations 0: give a number above 0"),
        ("--steps_per_generation 0", "--steps_per_generation 0: give a number above 0"),
        ("--num_train_epochs 0", "--num_train_epochs 0.0: give a number above 0"),
        ("--seed -1", "--seed -1 cannot be negative"),
        ("--eval_temperature nan", "--eval_temperature nan cannot be negative"),
        ("--scale_rewards False", "Unknown --scale_rewards 'False'"),
        ("--chat_template_kwargs thinking", "--chat_template_kwargs must be JSON in braces"),
        ("--output_dir=", "--output_dir is empty"),
        ("--output_dir /proc/none", "cannot be written"),
        ("--report_to tensorbored", "Did you mean tensorboard?"),
        ('--model_init_kwargs {"foo":1} --output_dir runs/y', "The trainer refuses these settings"),
        ("--loss_type dapoo", "Unknown --loss_type 'dapoo'. Did you mean dapo?"),
        ("--use_peft False", "4-bit weights cannot be trained themselves"),
        ("--fp16", "--fp16 needs a GPU"),
        ("--eval_strategy steps", "drop --eval_strategy"),
        ("--resume_from_checkpoint x", "drop --resume_from_checkpoint"),
        ("3", "Unexpected word '3'"),
        ("--config a.yaml --config b.yaml", "the path of one YAML file"),
    ],
)
def test_a_value_that_cannot_work_is_refused_at_once(refused, flags, sentence):
    assert sentence in refused(*flags.split())


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("num_generations: eight", "argument --num_generations"),
        ("learning_rate: fast", "argument --learning_rate"),
        ("seed: [1, 2]", "Unexpected word '2'"),
        ("output_dir: 5\nscale_rewards: false", "Unknown --scale_rewards 'False'"),
    ],
)
def test_a_yaml_value_of_the_wrong_kind(refused, tmp_path, line, sentence):
    (tmp_path / "my.yaml").write_text(line + "\n")
    assert sentence in refused("--config", "my.yaml")


def test_settings_that_only_the_trainer_refuses_leave_the_folder_free(refused):
    assert "The trainer refuses these settings" in refused("--attn_implementation", "bogus", "--report_to", "none")
    grpo.main(["--max_steps", "1", "--eval_samples", "0", "--report_to", "none", "--per_device_train_batch_size", "8"])


def test_settings_that_trl_refuses(refused):
    assert "These settings do not go together: " in refused("--generation_batch_size", 64, "--steps_per_generation", 2)


def test_reward_weights_that_are_not_one_for_each_reward(refused):
    sentence = refused("--reward_weights", "1.0")
    assert "--reward_weights has 1 values; give 2, for correctness_reward, think_format_reward" in sentence


def test_output_folder_of_another_configuration(refused, capsys):
    run = ["--max_steps", "1", "--eval_samples", "0", "--output_dir", "runs/x", "--report_to", "none"]
    grpo.main(run)
    capsys.readouterr()
    sentence = refused(*run, "--learning_rate", "0.5")
    assert "runs/x holds a run with other settings (learning_rate 0.001 -> 0.5)" in sentence
    assert "--output_dir" in sentence and "--overwrite" in sentence


def test_output_folder_with_somebody_elses_files(refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    for extra in ([], ["--overwrite"]):
        assert "holds files that are no run of ours" in refused("--output_dir", "mine", *extra)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "dear"
    assert "is a file" in refused("--output_dir", "mine/thesis.tex")


def test_think_tags_that_decoding_drops(refused, tmp_path):
    from transformers import AutoTokenizer

    for file in STARTER_FOLDER.iterdir():
        (tmp_path / "special").mkdir(exist_ok=True)
        (tmp_path / "special" / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokenizer.save_pretrained(tmp_path / "special")
    sentence = refused("--model_name_or_path", "./special", "--task", "word_problems")
    assert "<think> </think> do not survive this tokenizer's decoding" in sentence


def test_a_model_without_a_chat_template(refused, tmp_path):
    for file in STARTER_FOLDER.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / "base").mkdir(exist_ok=True)
            (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    assert "no chat template" in refused("--model_name_or_path", "./base", "--task", "word_problems")


def test_out_of_memory_names_three_flags_in_order(capsys):
    @exit_kindly
    def train():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SystemExit) as stop:
        train()
    advice = capsys.readouterr().err
    flags = ["--per_device_train_batch_size", "--max_completion_length", "--generation_batch_size"]
    assert stop.value.code == 1
    assert sorted(flags, key=advice.index) == flags


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 255360 vs 255248"), True),
        (RuntimeError("[enforce fail at inline_container.cc:659] . open file failed: Is a directory"), False),
    ],
)
def test_a_full_disk_is_told_from_other_faults_of_writing(error, full):
    assert is_disk_full(error) == full


def test_ctrl_c_leaves_no_traceback(capsys):
    @exit_kindly
    def wait():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        wait()
    assert stop.value.code == 130
    assert "run the same command to go on" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback():
    @exit_kindly
    def buggy():
        raise RuntimeError("our own")

    with pytest.raises(RuntimeError, match="our own"):
        buggy()
