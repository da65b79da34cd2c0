import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from rewards.sandbox import SandboxError, find_sandbox

collect_ignore = ["load_in_skypilot.py"]  # for SkyPilot's Python, which is another
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests are of the CPU path, on a machine with a GPU too
os.environ.setdefault("OMP_NUM_THREADS", "1")  # faster on models this small, and several tests run at once
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_sandbox: runs code; skipped without bubblewrap, but not where CI is set")
    config.addinivalue_line("markers", "faults: what ends a run, and that nothing is lost: make test-faults")
    config.addinivalue_line("markers", "whole: of make test-faults alone")
    config.addinivalue_line("markers", "needs_browser: opens a page; skipped without chromium, but not where CI is set")


def pytest_collection_modifyitems(config, items):
    """Without FAULTS, as in `make test`, what is much like another test of a fault is left to `make test-faults`."""
    if "FAULTS" not in os.environ:
        left_out = [item for item in items if item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("whole")]


def pytest_runtest_setup(item):
    if item.get_closest_marker("needs_sandbox"):
        try:
            find_sandbox()
        except SandboxError as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    if item.get_closest_marker("needs_browser"):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if not (chromium and importlib.util.find_spec("playwright")):
            missing = "The browser tests need chromium and playwright: apt install chromium, pip install playwright."
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Runs are written to runs/ of the working folder; wandb and the hub client leave the environment as it was."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "WANDB_MODE",
        "WANDB_DIR",
        "WANDB_SILENT",
        "WANDB_PROJECT",
        "WANDB_CONSOLE",
        "HF_HUB_OFFLINE",
        "TENSORBOARD_LOGGING_DIR",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def refused_by(capsys):
    """Runs a script's `main`, which must end with one sentence before a model is loaded; returns the sentence."""

    def run(main, *argv) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        assert stop.value.code == 2 and "Loading weights" not in captured.err and "preflight" not in captured.out
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
        return captured.err

    return run


@pytest.fixture
def write_jsonl(tmp_path):
    """Writes rows (or raw lines) to a JSONL file and returns its path."""

    def write(rows: list, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def problems():
    """GSM8K's shape: n rows of question and worked answer."""

    def make(n: int) -> list[dict]:
        return [{"question": f"What is {i} + 1?", "answer": f"{i}+1={i + 1}\n#### {i + 1}"} for i in range(n)]

    return make
