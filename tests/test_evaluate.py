"""Models side by side on the same problems; a mistake is found before the first of them is sampled."""

import json
from pathlib import Path
from statistics import fmean

import pytest
from test_models import make_adapter

from recipes import evaluate
from recipes.intervals import paired_bootstrap
from recipes.tasks import load_task

HELD_OUT = load_task("word_problems").load(None, None, 42)[1].select(range(12))
TWO = ["--task", "word_problems", "--eval_samples", "12", "--num_generations", "2"]


def write_samples(file: Path, right: list[float], task: str = "word_problems") -> str:
    """Scored samples of the held-out problems, `right` of each."""
    rows = [
        {
            "task": task,
            **row,
            "completions": [str(value) for value in right],
            "rewards": {"correctness_reward": right, "think_format_reward": right},
        }
        for row in HELD_OUT
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> list[str]:
    """The command that compared the starter with an adapter that talks nonsense, and with perfect samples."""
    folder = tmp_path_factory.mktemp("models")
    make_adapter(folder / "nonsense", spread=0.5)
    write_samples(folder / "perfect.jsonl", [1.0, 1.0, 1.0])
    models = ["starter", str(folder / "nonsense"), str(folder / "perfect.jsonl")]
    command = [*TWO, "--models", *models, "--output_dir", str(folder / "eval")]
    evaluate.main(command)
    return command


@pytest.fixture
def refused(capsys):
    """Runs the evaluation, which must end with one sentence before a model is loaded; returns the sentence."""

    def run(*argv):
        with pytest.raises(SystemExit) as stop:
            evaluate.main(["--task", "word_problems", *argv])
        captured = capsys.readouterr()
        assert stop.value.code == 2 and "Loading weights" not in captured.err
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
        return captured.err

    return run


def test_models_and_files_are_compared_on_the_same_problems(compared):
    starter, nonsense, perfect = compared[-5:-2]
    folder = Path(compared[-1])
    result = json.loads((folder / "result.json").read_text())
    assert list(result["models"]) == [starter, nonsense, perfect]
    rates = {}
    for number, name in ((1, starter), (2, nonsense)):
        rows = [json.loads(line) for line in (folder / "samples" / f"{number}.jsonl").read_text().splitlines()]
        assert {row["question"] for row in rows} == set(HELD_OUT["question"])
        rates[name] = [fmean(row["rewards"]["correctness_reward"]) for row in rows]
        figures = result["models"][name]
        assert figures["accuracy"] == figures["pass@1"] == pytest.approx(fmean(rates[name]))
        assert figures["pass@2"] == fmean(rate > 0 for rate in rates[name])
        assert 0 < figures["mean_length"] <= 48 and 0 <= figures["truncated"] <= 1
    assert result["models"][perfect]["pass@1"] == 1.0 and result["models"][perfect]["mean_length"] is None

    worse, better = result["differences"][nonsense], result["differences"][perfect]
    assert list(result["differences"]) == [nonsense, perfect]
    assert worse == paired_bootstrap(rates[starter], rates[nonsense])
    assert worse["difference"] < 0 < better["difference"] == pytest.approx(1 - fmean(rates[starter]))
    assert worse["ci95"][1] < 0 < better["ci95"][0] and max(worse["p"], better["p"]) < 0.05
    page = (folder / "report.html").read_text()
    assert "3 models evaluated" in page and f"{perfect} solves 100.0" in page


def test_a_finished_evaluation_shows_its_table_again(compared, capsys):
    evaluate.main(compared)
    output = capsys.readouterr().out
    assert "is finished, nothing was evaluated." in output
    assert "word_problems, 12 problems, with 95 % intervals; 2 completions a problem" in " ".join(output.split())
    assert "pass@1" in output and "pass@2" in output and "maj@2" in output
    assert output.count(" - starter: pass@1 ") == 2 and "p = " in output


def test_an_evaluation_that_never_ended_lends_its_samples_to_no_other(compared, tmp_path):
    (tmp_path / "eval").mkdir()
    for name in ("config.yaml", "given.yaml"):
        (tmp_path / "eval" / name).write_text((Path(compared[-1]) / name).read_text())
    (tmp_path / "eval" / "samples").mkdir()
    old = tmp_path / "eval" / "samples" / "1.jsonl"
    old.write_text(Path(write_samples(tmp_path / "old.jsonl", [0.0, 0.0])).read_text())
    other = [*TWO, "--eval_samples", "2", "--models", "starter", "--seed", "1", "--output_dir", "eval"]
    with pytest.raises(SystemExit):
        evaluate.main(other)
    evaluate.main([*other, "--overwrite"])
    rows = [json.loads(line) for line in old.read_text().splitlines()]
    assert len(rows) == 2 and all("completion_tokens" in row for row in rows)


def test_a_mistake_with_overwrite_costs_no_finished_evaluation(compared, refused):
    folder = Path(compared[-1])
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = refused("--models", "starter", "runs/none", "--output_dir", str(folder), "--overwrite")
    assert "There is no runs/none: give --models runs, folders, files or hub ids." in said
    said = refused("--models", "starter", "starter", "--output_dir", str(folder), "--overwrite")
    assert "names a model twice" in said
    Path("broken").mkdir()
    assert "holds no config.json" in refused(
        "--models", "starter", "broken", "--output_dir", str(folder), "--overwrite"
    )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept


def test_files_alone_need_no_model_and_the_k_that_they_have(tmp_path, capsys):
    files = [write_samples(tmp_path / "a.jsonl", [0.0, 1.0, 0.0]), write_samples(tmp_path / "b.jsonl", [1.0, 1.0, 0.0])]
    evaluate.main(["--task", "word_problems", "--models", *files])
    captured = capsys.readouterr()
    assert "Loading weights" not in captured.err and "preflight" not in captured.out
    result = json.loads(Path("runs/eval-word_problems/result.json").read_text())
    assert result["models"][files[0]]["pass@3"] == 1.0 and result["models"][files[0]]["pass@1"] == pytest.approx(1 / 3)
    assert result["differences"][files[1]]["difference"] == pytest.approx(1 / 3)


def test_a_k_that_is_impossible(refused, tmp_path):
    assert "--k 3 needs as many completions of every problem, not 2" in refused("--k", "3", "--num_generations", "2")
    assert "--k 0: give a number above 0" in refused("--k", "1", "0")
    few = write_samples(tmp_path / "few.jsonl", [1.0, 0.0])
    assert "--k 8 needs as many completions of every problem, not 2" in refused("--models", few, "--k", "8")


def test_models_that_cannot_be_compared(refused, tmp_path):
    assert "There is no ./none: give --models runs, folders, files or hub ids." in refused(
        "--models", "starter", "./none"
    )
    good = write_samples(tmp_path / "good.jsonl", [1.0, 0.0])
    assert "--models names a model twice" in refused("--models", good, good)
    other = write_samples(tmp_path / "other.jsonl", [1.0, 0.0], task="gsm8k")
    assert "is of the task gsm8k, not word_problems" in refused("--models", good, other)
    unscored = tmp_path / "unscored.jsonl"
    unscored.write_text(json.dumps({**HELD_OUT[0], "completions": ["1"], "rewards": {"correctness_reward": [1.0]}}))
    assert "has no reward `think_format_reward`" in refused("--models", good, str(unscored))


def test_only_problems_in_common_are_compared(tmp_path, capsys):
    right, wrong = (tmp_path / name for name in ("right.jsonl", "wrong.jsonl"))
    write_samples(right, [1.0, 1.0])
    write_samples(wrong, [0.0, 0.0])
    wrong.write_text("".join(line + "\n" for line in wrong.read_text().splitlines()[:5]))
    evaluate.main(["--task", "word_problems", "--models", str(right), str(wrong)])
    assert "right.jsonl: 5 of its 12 problems are in the others, too" in capsys.readouterr().out
    result = json.loads(Path("runs/eval-word_problems/result.json").read_text())
    assert [figures["prompts"] for figures in result["models"].values()] == [5, 5]
    assert result["differences"][str(wrong)]["n"] == 5


def test_samples_of_other_problems_than_the_held_out_ones_are_refused(tmp_path, capsys):
    train = tmp_path / "train.jsonl"
    write_samples(train, [1.0, 1.0])
    train.write_text(train.read_text().replace("How many", "Say how many"))
    with pytest.raises(SystemExit):
        evaluate.main([*TWO, "--models", str(train), "starter"])
    assert "have no problem in common: sample the files with --split test" in capsys.readouterr().err
    assert not Path("runs/eval-word_problems/samples/2.jsonl").exists()
