"""Trackers ask nothing and upload nothing, unless a logged-in user asks for it; one that is missing is said early."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainingArguments

from recipes.errors import InputError
from recipes.tracking import check_trackers, set_up_tracking

KEY = "0123456789" * 4


def set_up(asked_for, report_to=("wandb",)):
    config = TrainingArguments(report_to=list(report_to), use_cpu=True)
    set_up_tracking(config, Path("runs/mine"), asked_for)
    return config, os.environ.get("WANDB_MODE")


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_nobody_logged_in_means_offline_even_when_asked():
    assert set_up(asked_for=False)[1] == "offline"
    assert set_up(asked_for=True)[1] == "offline"
    assert os.environ["WANDB_DIR"] == str(Path("runs/mine").resolve())


def test_a_logged_in_user_who_does_not_ask_stays_offline(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert set_up(asked_for=False)[1] == "offline"


def test_a_logged_in_user_who_asks_is_online():
    """In a process of its own: wandb remembers the login it saw first. Silent, or it asks its server who that is."""
    code = (
        "from pathlib import Path; from types import SimpleNamespace; from recipes.tracking import set_up_tracking;"
        "set_up_tracking(SimpleNamespace(report_to=['wandb'], run_name=None), Path('runs/mine'), asked_for=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WANDB_API_KEY": KEY, "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "wandb: uploads to your account" in done.stdout


def test_the_users_own_mode_is_kept(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert set_up(asked_for=True)[1] == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert set_up(asked_for=True)[1] == "offline"


def test_without_wandb_nothing_is_set_but_the_name():
    config, mode = set_up(asked_for=True, report_to=())
    assert mode is None and config.run_name == "mine"


def test_tensorboards_files_go_into_the_runs_folder(monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    set_up(asked_for=True, report_to=("tensorboard",))
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(Path("runs/mine/tensorboard").resolve())


def test_trackio_makes_no_space_unless_it_is_named():
    config, _ = set_up(asked_for=True, report_to=("trackio",))
    assert (config.trackio_space_id, config.trackio_static_space_id) == (None, False)
    assert (config.project, config.run_name) == ("trl-recipes", "mine")


@pytest.mark.parametrize("name", ["trackio", "tensorboard", "comet_ml"])
def test_a_tracker_that_is_not_installed_is_said_with_the_command_that_installs_it(name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(
        InputError, match=rf"^--report_to {name} needs a package: {sys.executable} -m pip install {name}$"
    ):
        check_trackers(["wandb", name])


def test_an_unknown_tracker_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"Unknown --report_to 'tensorbord'. Did you mean tensorboard\?"):
        check_trackers(["tensorbord"])


def test_the_trackers_of_all_and_none_are_there():
    check_trackers(TrainingArguments(report_to="all", use_cpu=True).report_to)
    check_trackers(TrainingArguments(report_to="none", use_cpu=True).report_to)
