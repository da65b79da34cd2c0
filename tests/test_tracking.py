"""wandb asks nothing and uploads nothing, unless a logged-in user asks for it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipes.tracking import set_up_wandb

KEY = "0123456789" * 4


def set_up(asked_for, report_to=("wandb",)):
    config = SimpleNamespace(report_to=list(report_to), run_name=None)
    set_up_wandb(config, Path("runs/mine"), asked_for)
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
        "from pathlib import Path; from types import SimpleNamespace; from recipes.tracking import set_up_wandb;"
        "set_up_wandb(SimpleNamespace(report_to=['wandb'], run_name=None), Path('runs/mine'), asked_for=True)"
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
